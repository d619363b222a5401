"""Gaussian processes."""

from sknk.gaussian_process._regressor import NTKGaussianProcessRegressor

__all__ = ["NTKGaussianProcessRegressor"]
