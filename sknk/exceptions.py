"""Errors and warnings of sknk; each subclasses the standard library's or scikit-learn's."""

import numpy as np

__all__ = ["DeviceWarning", "MemoryBudgetError", "NotPSDError", "NumericalWarning"]


class NotPSDError(np.linalg.LinAlgError, ValueError):
    """A Gram matrix plus its shift is not positive definite."""


class MemoryBudgetError(MemoryError):
    """An array would exceed the memory budget, so it was never allocated."""


class NumericalWarning(UserWarning):
    """The answer stands, but its precision or the input's scaling deserves a look."""


class DeviceWarning(UserWarning):
    """A requested device feature is unavailable and a slower, equal path was taken."""
