"""Scales of columns that neither outliers nor ties spoil."""

from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
from scipy.special import ndtri

from sknk._validation import Interval, fit_context
from sknk.preprocessing._columnwise import ColumnwiseTransformer

__all__ = ["NormalScores", "SpreadScaler"]

# The interquartile range of a standard normal variable.
_NORMAL_IQR = 1.3489795003921634


class SpreadScaler(ColumnwiseTransformer):
    """Centre columns and divide them by their spread, where these have a meaning.

    A robust spread is the interquartile range over 1.349, which is the standard deviation of a
    normal column, around the median. Where quartiles coincide ``RobustScaler`` leaves a column as
    it is, so that a thousand among zeros stays a thousand; here the standard deviation takes over.
    A column of two values, an indicator or a level, becomes 0 and 1: divided by its standard
    deviation a rare one would outweigh the others. Constant columns become zero, in new rows too,
    for nothing was learned about other values. O(n log n) time a column.

    Parameters
    ----------
    robust : bool, default=True
        Median and interquartile range, else mean and standard deviation.

    Attributes
    ----------
    center_ : ndarray of shape (d,)
        What is subtracted, units of the columns.
    scale_ : ndarray of shape (d,)
        What is divided by, units of the columns; infinite for constant columns.
    n_features_in_, feature_names_in_ : object
        As in scikit-learn.

    Examples
    --------
    >>> import numpy as np
    >>> from sknk.preprocessing._scale import SpreadScaler
    >>> X = np.array([[0.0, 7.0, 3.0]] * 97 + [[1000.0, 7.0, 8.0]] * 2 + [[500.0, 7.0, 3.0]])
    >>> SpreadScaler().fit_transform(X)[-2:].round(2)
    array([[6.76, 0.  , 1.  ],
           [3.38, 0.  , 0.  ]])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {"robust": ["boolean"]}

    def __init__(self, *, robust: bool = True) -> None:
        self.robust = robust

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None) -> Self:
        """Compute centres and spreads.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Training rows.
        y : None
            Ignored.

        Returns
        -------
        self
        """
        X = self._fit_rows(X)
        center, scale = _center_and_spread(X.astype(np.float64), self.robust)
        self.center_, self.scale_ = center.astype(X.dtype), scale.astype(X.dtype)
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Return (X - center) / scale.

        Parameters
        ----------
        X : array-like of shape (m, d)
            Rows.

        Returns
        -------
        ndarray of shape (m, d)
        """
        return (self._new_rows(X) - self.center_) / self.scale_

    def inverse_transform(self, X: Any) -> np.ndarray:
        """Return X * scale + center; a constant column gets its constant back.

        Parameters
        ----------
        X : array-like of shape (m, d)
            Transformed rows.

        Returns
        -------
        ndarray of shape (m, d)
        """
        scale = np.where(np.isfinite(self.scale_), self.scale_, 0)
        return self._transformed_rows(X) * scale + self.center_


def _center_and_spread(X: np.ndarray, robust: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return centres and spreads, infinite for constant columns, (d,) each."""
    low, lower, median, upper, high = np.percentile(X, [0, 25, 50, 75, 100], axis=0)
    length = high - low
    # In units of the range, so that squares do not overflow.
    unit = np.where(length > 0, length, 1.0)
    shares = (X - low) / unit
    center = median if robust else low + unit * shares.mean(axis=0)
    spread = unit * shares.std(axis=0)
    if robust:
        iqr = upper - lower
        spread = np.where(iqr > 0, iqr / _NORMAL_IQR, spread)
    two_values = ((low == X) | (high == X)).all(axis=0)
    center, spread = np.where(two_values, low, center), np.where(two_values, unit, spread)
    return center, np.where(length > 0, spread, np.inf)


class NormalScores(ColumnwiseTransformer):
    r"""Give every column a normal distribution by its ranks.

    .. math:: x \mapsto \Phi^{-1}\left( (\#\{x_i < x\} + \tfrac12 \#\{x_i = x\}) / n \right)

    at training values, standardized; linear between them and constant beyond them.
    A column of two values becomes 0 and 1.
    ``QuantileTransformer`` sends ties at either end of a column to -5.2 or 5.2, so that it makes
    -5.2 of a constant column and a distance of 10.4 of two levels. Ties get the middle of their
    ranks here, and constant columns become zero. O(n log n) time a column.

    Parameters
    ----------
    n_quantiles : int, default=1000
        Training values kept for every column, at most; 1000 keep scores exact to 0.02.

    Attributes
    ----------
    quantiles_, scores_ : list of d ndarray
        Values kept, ascending, and what they become (dimensionless).
    n_features_in_, feature_names_in_ : object
        As in scikit-learn.

    Examples
    --------
    >>> import numpy as np
    >>> from sknk.preprocessing._scale import NormalScores
    >>> NormalScores().fit_transform(np.array([[1.0], [2.0], [2.0], [1e6]])).round(2).ravel()
    array([-1.41,  0.  ,  0.  ,  1.41])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_quantiles": [Interval(Integral, 4, None, closed="left")]
    }

    def __init__(self, *, n_quantiles: int = 1000) -> None:
        self.n_quantiles = n_quantiles

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None) -> Self:
        """Compute the ranks.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Training rows.
        y : None
            Ignored.

        Returns
        -------
        self
        """
        X = self._fit_rows(X)
        pairs = [self._ranked(column) for column in X.T]
        self.quantiles_ = [quantiles for quantiles, _ in pairs]
        self.scores_ = [scores for _, scores in pairs]
        return self

    def _ranked(self, column: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return distinct values and their scores, thinned to `n_quantiles`."""
        values, counts = np.unique(column, return_counts=True)
        scores = np.arange(len(values), dtype=np.float64)
        if len(values) > 2:
            scores = ndtri((np.cumsum(counts) - 0.5 * counts) / len(column))
            scores = scores - np.average(scores, weights=counts)
            scores = scores / np.sqrt(np.average(scores**2, weights=counts))
        if len(values) > self.n_quantiles:
            # Both neighbours of evenly spaced scores: the rest is off by one spacing at most.
            grid = np.linspace(scores[0], scores[-1], self.n_quantiles // 2)
            above = np.searchsorted(scores, grid)
            kept = np.union1d(above, np.maximum(above - 1, 0))
            values, scores = values[kept], scores[kept]
        return values, scores

    def transform(self, X: Any) -> np.ndarray:
        """Return normal scores.

        Parameters
        ----------
        X : array-like of shape (m, d)
            Rows.

        Returns
        -------
        ndarray of shape (m, d)
            Dimensionless.
        """
        X = self._new_rows(X)
        columns = zip(X.T, self.quantiles_, self.scores_, strict=True)
        return np.column_stack([np.interp(*one) for one in columns]).astype(X.dtype)

    def inverse_transform(self, X: Any) -> np.ndarray:
        """Return values of the training range with these scores.

        Parameters
        ----------
        X : array-like of shape (m, d)
            Scores, any finite numbers.

        Returns
        -------
        ndarray of shape (m, d)
            Units of the columns.
        """
        X = self._transformed_rows(X)
        columns = zip(X.T, self.scores_, self.quantiles_, strict=True)
        return np.column_stack([np.interp(*one) for one in columns]).astype(X.dtype)
