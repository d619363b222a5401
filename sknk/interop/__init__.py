"""Adapters to other libraries; each is imported when it is used."""

from sknk.interop._gpytorch import to_gpytorch
from sknk.interop._skactiveml import to_skactiveml

__all__ = ["to_gpytorch", "to_skactiveml"]
