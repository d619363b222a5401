"""Adapters to other libraries; each is imported when it is used."""

from sknk.interop._gpytorch import to_gpytorch

__all__ = ["to_gpytorch"]
