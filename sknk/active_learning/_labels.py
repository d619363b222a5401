"""Rows and labels of which some are missing."""

from typing import Any

import numpy as np
from torch import Tensor

from sknk._array import to_numpy
from sknk._validation import check_positions

__all__ = ["as_rows", "both_dtype", "is_missing", "lesson"]


def as_rows(X: Any) -> Any:
    """Return a table as one that rows can be taken from: a DataFrame stays one."""
    if isinstance(X, Tensor):
        return to_numpy(X)
    return X if hasattr(X, "iloc") else np.asarray(X)


def both_dtype(y: np.ndarray, labels: np.ndarray) -> np.dtype[Any]:
    """Return a dtype that holds old and new labels as they are: numbers never become text."""
    numbers = {y.dtype.kind in "biuf", labels.dtype.kind in "biuf"}
    return np.dtype(object) if len(numbers) == 2 else np.result_type(y, labels)


def is_missing(y: np.ndarray, missing_label: Any) -> np.ndarray:
    """Return where there is no label, (n,).

    Parameters
    ----------
    y : ndarray of shape (n,)
    missing_label : float, str, int or None
        nan, and None in a table of objects, equal themselves here.

    Returns
    -------
    ndarray of bool of shape (n,)
    """
    if missing_label is None:
        return np.array([label is None for label in y], dtype=bool)
    if _is_nan(missing_label):
        return np.array([_is_nan(label) for label in y], dtype=bool)
    return np.array([label == missing_label for label in y], dtype=bool)


def _is_nan(label: Any) -> bool:
    return isinstance(label, float | np.floating) and bool(np.isnan(label))


def lesson(
    indices: Any, y: Any, is_labelled: np.ndarray, missing_label: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Return rows that have no label yet, and the labels they get.

    Parameters
    ----------
    indices : array-like of int of shape (m,)
    y : array-like of shape (m,)
    is_labelled : ndarray of bool of shape (n,)
        Which rows have one.
    missing_label : float, str, int or None
        What is no label.

    Returns
    -------
    rows : ndarray of shape (m,)
    labels : ndarray of shape (m,)

    Raises
    ------
    ValueError
        For other rows, or labels that are missing.
    """
    rows, labels = np.atleast_1d(indices), np.atleast_1d(as_rows(y))
    if (
        rows.dtype.kind not in "iu"
        or labels.shape != rows.shape
        or len(np.unique(rows)) < len(rows)
    ):
        raise ValueError(
            f"`indices` has shape {rows.shape} and dtype {rows.dtype}, `y` shape {labels.shape}; "
            "expected distinct numbers of rows, and a label for each."
        )
    check_positions(rows, "indices", len(is_labelled))
    missing = is_missing(labels, missing_label)
    if missing.any():
        raise ValueError(
            f"`y` has no label for row {rows[missing.argmax()]}; expected one for each. Teach only "
            "rows whose label came."
        )
    if labels.dtype.kind == "f" and not np.isfinite(labels).all():
        raise ValueError(
            f"`y` is {labels[~np.isfinite(labels)][0]} for a row; expected finite numbers."
        )
    known = rows[is_labelled[rows]]
    if len(known):
        raise ValueError(
            f"`indices` has row {known[0]}, which has a label; expected rows without one. Call "
            "`fit` to change labels."
        )
    return rows, labels
