"""Rows that may be chosen."""

from typing import Any

import numpy as np

from sknk._validation import check_positions

__all__ = ["check_candidates", "open_rows"]


def check_candidates(candidates: Any, n: int, rng: np.random.RandomState) -> np.ndarray | None:
    """Return which rows may be chosen, (k,), None for all.

    Parameters
    ----------
    candidates : int, array-like of int or None
        A number is drawn; rows are kept in their order.
    n : int
        Rows there are.
    rng : RandomState
        Draws.

    Returns
    -------
    ndarray of shape (k,) or None

    Raises
    ------
    ValueError
        If they are no distinct rows, or none.
    """
    if candidates is None:
        return None
    if np.ndim(candidates) == 0:
        if not float(candidates).is_integer() or candidates < 1:
            raise ValueError(f"`candidates` is {candidates!r}; expected at least one row.")
        return None if candidates >= n else np.sort(rng.choice(n, int(candidates), replace=False))
    rows = np.asarray(candidates)
    if rows.dtype.kind not in "iu" or rows.ndim != 1 or not len(rows):
        raise ValueError(
            f"`candidates` has shape {rows.shape} and dtype {rows.dtype}; expected numbers of rows."
        )
    check_positions(rows, "candidates", n)
    values, counts = np.unique(rows, return_counts=True)
    if (counts > 1).any():
        raise ValueError(
            f"`candidates` has row {values[counts.argmax()]} {counts.max()} times; expected each "
            "row once. Pass np.unique(candidates)."
        )
    return rows


def open_rows(candidates: Any, open_: np.ndarray, n: int, rng: np.random.RandomState) -> np.ndarray:
    """Return which of n rows may be chosen, where only some have no label, (k,).

    Parameters
    ----------
    candidates : int, array-like of int or None
        A number of those without a label is drawn.
    open_ : ndarray of int
        Rows without a label.
    n : int
        Rows there are.
    rng : RandomState
        Draws.

    Returns
    -------
    ndarray of shape (k,)

    Raises
    ------
    ValueError
        If they are no distinct rows, or have labels.
    """
    if candidates is None:
        return open_
    if np.ndim(candidates) == 0:
        drawn = check_candidates(candidates, len(open_), rng)
        return open_ if drawn is None else open_[drawn]
    rows = check_candidates(candidates, n, rng)
    assert rows is not None
    known = np.setdiff1d(rows, open_)
    if len(known):
        raise ValueError(
            f"`candidates` has row {known[0]}, which has a label; expected rows without one."
        )
    return rows
