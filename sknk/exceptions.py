"""Errors and warnings of sknk; each subclasses the standard library's or scikit-learn's."""

from typing import Self

import numpy as np

__all__ = [
    "DeviceWarning",
    "MemoryBudgetError",
    "NonFiniteGradientError",
    "NotPSDError",
    "NumericalWarning",
]


class NotPSDError(np.linalg.LinAlgError, ValueError):
    """A Gram matrix plus its shift is not positive definite."""


class MemoryBudgetError(MemoryError):
    """An array would exceed the memory budget, so it was never allocated."""


class NonFiniteGradientError(ValueError):
    """A network has an infinite or undefined gradient at a row, so no tangent kernel there.

    Attributes
    ----------
    row : int
        Of the rows that were passed.
    parameter : str
        The first one whose gradient is not finite.
    """

    def __init__(self, row: int, parameter: str) -> None:
        self.row, self.parameter = row, parameter
        super().__init__(row, parameter)

    def __str__(self) -> str:
        """Say where and what to do."""
        return (
            f"The gradient of row {self.row} with respect to {self.parameter!r} is not finite; "
            "expected a network that is differentiable there. Guard its kinks (sqrt(|x| + eps), "
            "log(x + eps)), or leave the row or the parameter out."
        )

    def after(self, n_rows: int) -> Self:
        """Return the error of the same row, counted with `n_rows` rows before the block."""
        return type(self)(self.row + n_rows, self.parameter)


class NumericalWarning(UserWarning):
    """The answer stands, but its precision or the input's scaling deserves a look."""


class DeviceWarning(UserWarning):
    """A requested device feature is unavailable and a slower, equal path was taken."""
