"""Rows and targets, as attributors that are no kernel machine take them."""

from typing import Any

import numpy as np
from sklearn.utils import check_consistent_length
from sklearn.utils.multiclass import type_of_target
from torch import Tensor

from sknk._array import config_of, to_numpy
from sknk._validation import validate_data

__all__ = ["are_numbers", "as_numpy", "check_pair", "judged_rows", "place_of"]


def as_numpy(a: Any) -> Any:
    """Return a tensor's values as an array; others as they are."""
    return to_numpy(a) if isinstance(a, Tensor) else a


def are_numbers(y: Any) -> bool:
    """Return whether targets are numbers and not classes.

    As scikit-learn's ``type_of_target``; floating-point targets that are whole are numbers too
    where there are more than 20 of them, and more than one for five rows.

    Parameters
    ----------
    y : array-like of shape (n,) or (n, t)
        Targets.

    Returns
    -------
    bool
    """
    if type_of_target(y).startswith("continuous"):
        return True
    values = np.asarray(y)
    many = max(20, values.size / 5)
    return values.dtype.kind == "f" and len(np.unique(values)) > many


def check_pair(X_val: Any, y_val: Any) -> None:
    """Refuse validation rows without targets, and targets without rows.

    Parameters
    ----------
    X_val, y_val : array-like or None
        Both or neither.

    Raises
    ------
    ValueError
        If one is None.
    """
    if (X_val is None) is not (y_val is None):
        missing = "`y_val`" if y_val is None else "`X_val`"
        raise ValueError(f"{missing} is None and the other is not; expected both or neither.")


def judged_rows(attributor: Any, X: Any, y: Any) -> tuple[np.ndarray, Any]:
    """Return rows to be judged on, with the features of the training rows, and their targets.

    Parameters
    ----------
    attributor : estimator
        That knows the training rows' features.
    X : array-like of shape (m, d)
        Rows.
    y : array-like of shape (m,)
        Their targets.

    Returns
    -------
    rows : ndarray of shape (m, d)
    targets : array-like of shape (m,)

    Raises
    ------
    ValueError
        For rows that are not valid, or targets of another number.
    """
    rows = validate_data(attributor, as_numpy(X), reset=False, dtype=np.float64)
    y = as_numpy(y)
    check_consistent_length(rows, y)
    return rows, y


def place_of(attributor: Any, X: Any) -> Any:
    """Apply an attributor's `device` and `dtype`; without a device follow a tensor."""
    follow = X.device.type if isinstance(X, Tensor) and X.device.type != "cpu" else None
    return config_of(attributor.device or follow, attributor.dtype)
