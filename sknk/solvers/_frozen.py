"""Objects of tensors that never change: how they are pickled and copied."""

from typing import Any, Self

import numpy as np
from torch import Tensor

from sknk._array import to_numpy
from sknk.solvers._base import writable

__all__ = ["Frozen"]


class Frozen:
    """Pickles hold NumPy arrays and load on the CPU; a copy is the object itself."""

    def __getstate__(self) -> dict[str, Any]:
        """Hold NumPy arrays."""
        return {
            name: to_numpy(value) if isinstance(value, Tensor) else value
            for name, value in vars(self).items()
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            known = writable(value) if isinstance(value, np.ndarray) else value
            object.__setattr__(self, name, known)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return the same: it never changes."""
        return self
