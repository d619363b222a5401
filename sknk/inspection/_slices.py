"""Rows along one column of a table, the other columns held."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils import check_array

from sknk.inspection._checks import as_array, check_count

__all__ = ["Table", "read_table"]

_MOST_SLICES = 12


@dataclass(frozen=True)
class Table:
    """A training table by columns.

    Parameters
    ----------
    columns : list of ndarray or list
        Numeric columns as float64, others as lists of values.
    names : list or None
        Column names of a data frame; None for an array.
    frame : data frame or None
        The frame, for the type and the dtypes of rows made from it.
    """

    columns: list[Any]
    names: list[Any] | None
    frame: Any

    @property
    def n_rows(self) -> int:
        """Return n."""
        return len(self.columns[0])

    def index(self, feature: Any, parameter: str = "feature") -> int:
        """Return the number of a column.

        Parameters
        ----------
        feature : int or str
            Number, negative from the end, or name.
        parameter : str, default="feature"
            Where the user named it, for messages.

        Returns
        -------
        int

        Raises
        ------
        ValueError
            If there is no such column.
        TypeError
            If `feature` is neither a number nor a name.
        """
        count = len(self.columns)
        if isinstance(feature, str):
            if self.names is None:
                raise ValueError(
                    f"`{parameter}` names column {feature!r} but X is an array; expected an index "
                    f"from 0 to {count - 1}. Pass X as a data frame to name columns."
                )
            if feature not in self.names:
                raise ValueError(
                    f"`{parameter}` names column {feature!r}; expected one of {self.names}."
                )
            return self.names.index(feature)
        if isinstance(feature, bool) or not isinstance(feature, int | np.integer):
            raise TypeError(f"`{parameter}` names {feature!r}; expected a column's index or name.")
        if not -count <= feature < count:
            raise ValueError(
                f"`{parameter}` is column {feature} but X has {count}; expected 0 to {count - 1}."
            )
        return int(feature) % count

    def label(self, column: int) -> str:
        """Return what an axis of this column is called."""
        if self.names is not None:
            return str(self.names[column])
        return "x" if len(self.columns) == 1 else f"feature {column}"

    def numbers(self, column: int) -> np.ndarray:
        """Return a numeric column.

        Parameters
        ----------
        column : int
            Its number.

        Returns
        -------
        ndarray of shape (n,)
            Units of that column.

        Raises
        ------
        ValueError
            If it is not numeric.
        """
        found = self.columns[column]
        if isinstance(found, list):
            raise ValueError(
                f"`feature` is {self.label(column)!r}, whose values are {found[0]!r} and the like; "
                "expected a numeric column. Hold it by `at`, and vary another."
            )
        return found

    def chosen(self, feature: Any) -> list[int]:
        """Return the columns that vary, one slice each.

        Parameters
        ----------
        feature : int, str, list of such or None
            None is every column.

        Returns
        -------
        list of int

        Raises
        ------
        ValueError
            If there are none, or `feature` is None and there are more than 12.
        """
        if feature is None:
            if len(self.columns) > _MOST_SLICES:
                raise ValueError(
                    f"`feature` is None but X has {len(self.columns)} columns; expected at most "
                    f"{_MOST_SLICES} to draw them all. Name those to draw."
                )
            return list(range(len(self.columns)))
        if isinstance(feature, str) or np.ndim(feature) == 0:
            return [self.index(feature)]
        if len(feature) == 0:
            raise ValueError("`feature` is empty; expected at least one column, or None for all.")
        return [self.index(one) for one in feature]

    def ranges(self, x_range: Any) -> dict[int, Any]:
        """Return the ends of slices by column, where the user gave them."""
        if x_range is None:
            return {}
        if isinstance(x_range, Mapping):
            return {self.index(feature, "x_range"): ends for feature, ends in x_range.items()}
        return dict.fromkeys(range(len(self.columns)), x_range)

    def grid(self, column: int, points: int, percentiles: Any, ends: Any) -> np.ndarray:
        """Return equally spaced values of a column.

        Parameters
        ----------
        column : int
            The column.
        points : int
            m, their number.
        percentiles : tuple of float
            Fractions of the rows at the ends, in [0, 1].
        ends : tuple of float or None
            The ends themselves, units of the column; override `percentiles`.

        Returns
        -------
        ndarray of shape (m,)

        Raises
        ------
        ValueError
            If the ends are not two numbers in increasing order.
        """
        points = check_count(points, "grid_resolution", 2)
        values = self.numbers(column)
        if ends is not None:
            return np.linspace(*_pair(ends, "x_range", "two finite ends, low < high"), points)
        fractions = _pair(
            percentiles, "percentiles", "two fractions, 0 <= low < high <= 1", 0.0, 1.0
        )
        low, high = np.nanquantile(values, fractions).tolist()
        if not low < high:
            raise ValueError(
                f"Column {self.label(column)!r} runs from {low:.4g} to {high:.4g} between "
                f"`percentiles` {fractions}; expected values that differ. Pass `x_range`."
            )
        return np.linspace(low, high, points)

    def held(self, at: Any) -> list[Any]:
        """Return one value a column: medians, most frequent values where no median is.

        Parameters
        ----------
        at : None, array-like of shape (d,) or mapping
            A whole row, or by column those values that are to differ from medians.

        Returns
        -------
        list
            d values.

        Raises
        ------
        ValueError
            If `at` is not one row of X.
        """
        usual = [
            float(np.nanmedian(c)) if not isinstance(c, list) else Counter(c).most_common(1)[0][0]
            for c in self.columns
        ]
        if at is None:
            return usual
        if hasattr(at, "columns") and len(at) == 1:  # a data frame of one row
            at = {name: as_array(at[name])[0] for name in at.columns}
        if hasattr(at, "keys"):
            for feature in at.keys():  # noqa: SIM118  (a series iterates over its values)
                usual[self.index(feature, "at")] = at[feature]
            return usual
        row = list(at) if isinstance(at, Sequence) else list(as_array(at).ravel())
        if len(row) != len(self.columns) or isinstance(at, str):
            raise ValueError(
                f"`at` holds {len(row)} values; expected a row of X, {len(self.columns)} values. "
                "To hold only some columns pass a mapping from column to value."
            )
        return row

    def rows(self, column: int, grid: np.ndarray, held: list[Any]) -> Any:
        """Return rows along one column, of the type of the table.

        Parameters
        ----------
        column : int
            The column that varies.
        grid : ndarray of shape (m,)
            Its values.
        held : list
            Values of all columns; the varying one's is ignored.

        Returns
        -------
        ndarray or data frame of shape (m, d)
        """
        if self.names is None:
            rows = np.tile(np.asarray(held, dtype=np.float64), (len(grid), 1))
            rows[:, column] = grid
            return rows
        values: dict[Any, Any] = {
            name: [value] * len(grid) for name, value in zip(self.names, held, strict=True)
        }
        values[self.names[column]] = grid
        rows = type(self.frame)(values)
        # Categories of a column may be more than the one value in this slice.
        dtypes = dict(zip(self.names, self.frame.dtypes, strict=True))
        other = {
            name: dtypes[name]
            for name, values in zip(self.names, self.columns, strict=True)
            if isinstance(values, list)
        }
        return rows.astype(other) if hasattr(rows, "astype") else rows.cast(other)


def read_table(X: Any) -> Table:
    """Return the columns of rows.

    Parameters
    ----------
    X : array-like or data frame of shape (n, d)
        Rows; missing numbers are allowed.

    Returns
    -------
    Table
    """
    if hasattr(X, "columns") and hasattr(X, "dtypes"):
        names = list(X.columns)
        return Table([_column(X, j) for j in range(len(names))], names, X)
    rows = as_array(X) if hasattr(X, "detach") else X
    array = check_array(rows, dtype=np.float64, ensure_all_finite="allow-nan", input_name="X")
    return Table(list(array.T), None, None)


def _column(X: Any, number: int) -> Any:
    """Return a column of a frame: float64 if numeric, else a list."""
    if hasattr(X, "iloc"):
        series = X.iloc[:, number]
        if series.dtype.kind in "iuf":
            return series.to_numpy(dtype=np.float64, na_value=np.nan)
        return series.tolist()
    series = X[:, number]
    return series.to_numpy().astype(np.float64) if series.dtype.is_numeric() else series.to_list()


def _pair(
    pair: Any, name: str, what: str, least: float = -np.inf, most: float = np.inf
) -> tuple[float, float]:
    """Return two increasing finite numbers within bounds."""
    message = f"`{name}` is {pair!r}; expected {what}."
    if isinstance(pair, Mapping | str) or np.shape(pair) != (2,):
        raise ValueError(message)
    low, high = (float(end) for end in pair)
    if not (np.isfinite([low, high]).all() and least <= low < high <= most):
        raise ValueError(message)
    return low, high
