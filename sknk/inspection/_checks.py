"""Checks of what displays are given, in one wording."""

from typing import Any

import numpy as np

from sknk._array import to_numpy
from sknk._validation import check_weights

__all__ = [
    "as_array",
    "check_choice",
    "check_count",
    "check_fraction",
    "check_vector",
    "effective_rows",
    "row_weights",
]


def as_array(values: Any) -> np.ndarray:
    """Return a NumPy array of an array, a tensor, a series or a list."""
    return to_numpy(values) if hasattr(values, "detach") else np.asarray(values)


def check_vector(values: Any, name: str, *, rows: int | None = None) -> np.ndarray:
    """Return finite numbers as a float64 vector; one column counts as a vector.

    Parameters
    ----------
    values : array-like of shape (n,) or (n, 1)
        What the user passed.
    name : str
        Parameter name, for messages.
    rows : int or None
        Expected length.

    Returns
    -------
    ndarray of shape (n,)

    Raises
    ------
    ValueError
        If the shape is another one or a value is not finite.
    TypeError
        If the values are no numbers.
    """
    raw = as_array(values)
    try:
        vector = raw.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"`{name}` has dtype {raw.dtype}; expected numbers ({error}).") from error
    if vector.ndim == 2 and vector.shape[1] == 1:
        vector = vector[:, 0]
    if vector.ndim != 1 or not vector.size:
        raise ValueError(
            f"`{name}` has shape {vector.shape}; expected one number a row. Plot one target at a "
            "time."
        )
    if rows is not None and len(vector) != rows:
        raise ValueError(
            f"`{name}` has {len(vector)} rows; expected {rows}, one for each of the other arrays."
        )
    if not np.isfinite(vector).all():
        row = int(np.argmin(np.isfinite(vector)))
        raise ValueError(
            f"`{name}` is {vector[row]} at row {row}; expected finite values. Drop such rows."
        )
    return vector


def check_fraction(value: Any, name: str, what: str) -> float:
    """Return a number strictly between 0 and 1.

    Parameters
    ----------
    value : float
        What the user passed.
    name : str
        Parameter name.
    what : str
        What the fraction is, for the message.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If it lies outside (0, 1).
    """
    if not isinstance(value, int | float | np.number) or not 0 < value < 1:
        raise ValueError(
            f"`{name}` is {value!r}; expected {what} between 0 and 1, such as 0.9 for 90 %."
        )
    return float(value)


def check_count(value: Any, name: str, least: int) -> int:
    """Return an integer of at least `least`.

    Parameters
    ----------
    value : int
        What the user passed.
    name : str
        Parameter name.
    least : int
        The smallest value that makes sense.

    Returns
    -------
    int

    Raises
    ------
    ValueError
        If it is smaller or no integer.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"`{name}` is {value!r}; expected an integer of at least {least}.")
    return int(value)


def check_choice(value: Any, name: str, choices: tuple[str, ...]) -> str:
    """Return one of the choices.

    Parameters
    ----------
    value : str
        What the user passed.
    name : str
        Parameter name.
    choices : tuple of str
        What is known.

    Returns
    -------
    str

    Raises
    ------
    ValueError
        If it is not among them.
    """
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"`{name}` is {value!r}; expected one of {', '.join(map(repr, choices))}.")
    return value


def row_weights(sample_weight: Any, y: np.ndarray) -> np.ndarray:
    """Return weights (n,), ones where there are none."""
    weights = check_weights(sample_weight, y)
    return np.ones(len(y)) if weights is None else weights


def effective_rows(weights: np.ndarray) -> float:
    r"""Return :math:`(\sum_i w_i)^2 / \sum_i w_i^2`, the number of rows for equal weights."""
    return float(weights.sum() ** 2 / np.square(weights).sum())
