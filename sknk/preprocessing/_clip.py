"""A smooth bound on every column."""

from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np

from sknk._validation import Interval, fit_context
from sknk.preprocessing._columnwise import ColumnwiseTransformer

__all__ = ["SmoothClip"]


class SmoothClip(ColumnwiseTransformer):
    r"""Bound every value smoothly.

    .. math:: x \mapsto c \tanh(x / c)

    Values well inside the limit c stay as they are (x = 1 becomes 0.987 at c = 5), far ones end at
    the limit, and their order is kept. A kernel of inner products is otherwise decided by the few
    rows that hold outliers. Scale the columns first: c is in units of the columns.

    Parameters
    ----------
    limit : float, default=5.0
        The bound c on absolute values, positive; units of the columns.

    Attributes
    ----------
    n_features_in_ : int
        Number of columns.
    feature_names_in_ : ndarray of shape (d,)
        Their names, where all are strings.

    Examples
    --------
    >>> import numpy as np
    >>> from sknk.preprocessing import SmoothClip
    >>> SmoothClip().fit_transform(np.array([[-1.0], [0.0], [1.0], [1000.0]])).round(2).ravel()
    array([-0.99,  0.  ,  0.99,  5.  ])
    """

    _finite = "allow-nan"
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "limit": [Interval(Real, 0, None, closed="neither")]
    }

    def __init__(self, limit: float = 5.0) -> None:
        self.limit = limit

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None) -> Self:
        """Remember the columns; nothing is learned from their values.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Rows; NaN is allowed.
        y : None
            Ignored.

        Returns
        -------
        self
        """
        self._fit_rows(X)
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Return c tanh(X / c).

        Parameters
        ----------
        X : array-like of shape (m, d)
            Rows; NaN stays NaN.

        Returns
        -------
        ndarray of shape (m, d)
            Values in [-c, c], float32 for float32.
        """
        X = self._new_rows(X)
        with np.errstate(over="ignore"):  # a quotient beyond the largest float has tanh 1
            return self.limit * np.tanh(X / self.limit)

    def inverse_transform(self, X: Any) -> np.ndarray:
        """Return c arctanh(X / c), finite at the limit and beyond it.

        Parameters
        ----------
        X : array-like of shape (m, d)
            Transformed rows.

        Returns
        -------
        ndarray of shape (m, d)
            At most 19 c in absolute value (9 c in float32): tanh is 1 to the last bit from there.
        """
        X = self._transformed_rows(X)
        inside = 1.0 - np.finfo(X.dtype).eps
        return self.limit * np.arctanh(np.clip(X / self.limit, -inside, inside))
