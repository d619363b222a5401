"""Which columns of a table are numbers, and which are categories with few or many levels."""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np

__all__ = ["ColumnsOf", "check_categorical_features", "column_values", "is_frame", "is_missing"]

# How names of dtypes begin in pandas, pyarrow and polars, in lower case.
_CATEGORIES = (
    "category",
    "categorical",
    "enum",
    "str",
    "large_str",
    "dictionary",
    "object",
    "bool",
)
_NUMBERS = ("int", "uint", "float", "double", "halffloat", "decimal", "null", "sparse[", "bool")


def column_values(X: Any, k: int) -> list[Any]:
    """Return the values of column k of an array or a data frame, as Python objects."""
    column = X.iloc[:, k] if hasattr(X, "iloc") else X[:, k]
    return column.to_list() if hasattr(column, "to_list") else np.asarray(column).tolist()


def is_missing(value: Any) -> bool:
    """Return whether a value is None or does not equal itself: NaN, NaT, pandas.NA."""
    if value is None:
        return True
    same = value == value  # noqa: PLR0124
    return not (isinstance(same, bool | np.bool_) and same)


def check_categorical_features(features: Any) -> Any:
    """Check what can be checked of `categorical_features` before a table is seen.

    Parameters
    ----------
    features : None, "from_dtype" or array-like
        As in :func:`tabular_pipeline`.

    Returns
    -------
    None, "from_dtype" or tuple
        A tuple of int, of bool or of str.

    Raises
    ------
    ValueError
        For another string, a single number, negative indices, or items of several kinds.
    """
    if features is None or (isinstance(features, str) and features == "from_dtype"):
        return features
    if isinstance(features, str) or not isinstance(features, Iterable):
        raise ValueError(
            f"`categorical_features` is {features!r}; expected 'from_dtype', None, or a list of "
            f"column names, indices or booleans. Pass [{features!r}] for one column."
        )
    items = tuple(i.item() if isinstance(i, np.generic) else i for i in features)
    kinds = {type(item) for item in items}
    if len(kinds) > 1 or not kinds <= {int, bool, str} or (kinds == {int} and min(items) < 0):
        raise ValueError(
            f"`categorical_features` is {features!r}; expected column names, non-negative "
            "indices, or one boolean a column, in a flat list of one kind."
        )
    return items


def is_frame(X: Any) -> bool:
    """Return whether X is a pandas or polars frame; neither library is imported."""
    return hasattr(X, "columns") and hasattr(X, "dtypes")


def _dtype_names(X: Any) -> list[str]:
    """Return names of the columns' dtypes, (d,); an array has one for all."""
    dtypes = X.dtypes if is_frame(X) else [X.dtype] * X.shape[1]
    return [str(dtype).lower().removeprefix("torch.") for dtype in dtypes]


def _indices_of_names(X: Any, names: tuple[str, ...]) -> list[int]:
    """Return where the named columns stand."""
    if not is_frame(X):
        raise ValueError(
            f"`categorical_features` names columns, {names!r}, but X is a {type(X).__name__} "
            "without names. Pass a data frame, or indices."
        )
    columns = list(X.columns)
    unknown = [name for name in names if name not in columns]
    if unknown:
        raise ValueError(
            f"`categorical_features` names {unknown!r}; expected columns of X, which are "
            f"{columns!r}."
        )
    return [columns.index(name) for name in names]


def _is_categorical(X: Any, features: Any) -> np.ndarray:
    """Return which columns are categories, (d,)."""
    if len(X.shape) != 2:
        raise ValueError(
            f"X has shape {tuple(X.shape)}; expected rows and columns. Pass X.reshape(-1, 1) for "
            "one column."
        )
    found = np.zeros(X.shape[1], dtype=bool)
    if features == "from_dtype":
        return found | [is_frame(X) and name.startswith(_CATEGORIES) for name in _dtype_names(X)]
    if not features:
        return found
    if isinstance(features[0], bool):
        if len(features) != len(found):
            raise ValueError(
                f"`categorical_features` has {len(features)} booleans for {len(found)} columns; "
                "expected one a column."
            )
        return found | features
    indices = _indices_of_names(X, features) if isinstance(features[0], str) else list(features)
    if max(indices) >= len(found):
        raise ValueError(
            f"`categorical_features` has the index {max(indices)}; expected indices below the "
            f"number of columns, {len(found)}."
        )
    found[indices] = True
    return found


def _check_number(X: Any, k: int, dtype: str) -> None:
    """Refuse a column that is neither a category nor a number."""
    if dtype.startswith(_NUMBERS):
        return
    name = repr(X.columns[k]) if is_frame(X) else k
    advice = "Name it in `categorical_features`, turn it into numbers, or leave it out."
    if dtype != "object":
        raise TypeError(
            f"Column {name} has dtype {dtype}; expected numbers or categories. {advice}"
        )
    for value in column_values(X, k):
        if not (is_missing(value) or isinstance(value, Real | Decimal)):
            raise TypeError(
                f"Column {name} holds {value!r}; expected numbers, for it is not among the "
                f"categorical columns. {advice}"
            )


def _n_levels(X: Any, k: int) -> int:
    """Return how many levels column k has, the missing one not counted."""
    try:
        return sum(not is_missing(value) for value in set(column_values(X, k)))
    except TypeError:
        name = repr(X.columns[k]) if is_frame(X) else k
        raise TypeError(
            f"Categorical column {name} holds a value that cannot be hashed, such as a list; "
            "expected text, numbers or booleans. Split it into columns, or leave it out."
        ) from None


@dataclass(frozen=True)
class ColumnsOf:
    """Choose columns of one kind when a ColumnTransformer is fitted.

    A class and not a closure, so that pipelines pickle. O(n) time a categorical column.

    Parameters
    ----------
    kind : {"number", "one_hot", "ordinal"}
        Numbers; categories of few levels; categories of many.
    categorical_features : None, "from_dtype" or tuple
        As returned by `check_categorical_features`.
    max_one_hot : int
        Levels up to which a category has few.
    """

    kind: str
    categorical_features: Any
    max_one_hot: int

    def __call__(self, X: Any) -> list[int]:
        """Return indices of the columns.

        Parameters
        ----------
        X : ndarray or data frame of shape (n, d)
            Training rows.

        Returns
        -------
        list of int

        Raises
        ------
        ValueError
            If `categorical_features` does not fit the table, or X is none.
        TypeError
            If a column is neither numeric nor categorical.
        """
        categorical = _is_categorical(X, self.categorical_features)
        if self.kind == "number":
            numbers = np.flatnonzero(~categorical).tolist()
            dtypes = _dtype_names(X)
            for k in numbers:
                _check_number(X, k, dtypes[k])
            return numbers
        few = self.kind == "one_hot"
        return [
            k
            for k in np.flatnonzero(categorical).tolist()
            if (_n_levels(X, k) <= self.max_one_hot) == few
        ]
