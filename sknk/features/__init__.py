"""Feature maps of kernels, as transformers."""

from sknk.features._empirical import EmpiricalNTKFeatures

__all__ = ["EmpiricalNTKFeatures"]
