"""What estimators of every family share: rows, kernels, places, fits that fail cleanly."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.gaussian_process.kernels import Kernel as SklearnKernel
from torch import Tensor

from sknk._array import config_of, to_numpy
from sknk._validation import validate_data
from sknk.kernels._adapt import Foreign, as_kernel, copy_of
from sknk.kernels._base import Kernel

__all__ = ["PLACE_CONSTRAINTS", "KernelEstimator", "public_kernel", "unchanged_on_error"]

PLACE_CONSTRAINTS: dict[str, list[Any]] = {"device": [None, str], "dtype": [None, str]}


@contextmanager
def unchanged_on_error(estimator: BaseEstimator) -> Iterator[None]:
    """Restore an estimator's attributes if its fit fails."""
    before = dict(vars(estimator))
    try:
        yield
    except BaseException:
        vars(estimator).clear()
        vars(estimator).update(before)
        raise


def public_kernel(kernel: Kernel) -> SklearnKernel:
    """Return the kernel as the user knows it: scikit-learn's own where it is one."""
    return kernel.kernel if isinstance(kernel, Foreign) else kernel


class KernelEstimator(BaseEstimator):
    """An estimator with a kernel that computes on a device."""

    kernel: Any
    device: str | None
    dtype: str | None

    def _context(self, X: Any) -> Any:
        """Apply `device` and `dtype`; without a device follow a tensor."""
        follow = X.device.type if isinstance(X, Tensor) and X.device.type != "cpu" else None
        return config_of(self.device or follow, self.dtype)

    def _checked_kernel(self) -> Any:
        """Return a copy of the kernel."""
        return copy_of(as_kernel(self.kernel))

    def _checked_rows(self, X: Any, y: Any = "no_validation", *, reset: bool = True) -> Any:
        """Validate rows (and targets, in fit) as float64 NumPy arrays."""
        X = to_numpy(X) if isinstance(X, Tensor) else X
        if isinstance(y, str):
            return validate_data(self, X, reset=False, dtype=np.float64)
        y = to_numpy(y) if isinstance(y, Tensor) else y
        return validate_data(
            self,
            X,
            y,
            reset=reset,
            dtype=np.float64,
            multi_output=True,
            y_numeric=self._numeric(),
        )

    def _numeric(self) -> bool:
        """Return whether targets are numbers."""
        return True
