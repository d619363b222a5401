"""Categories of any library and type as clean levels, then as numbers."""

from collections.abc import Iterable
from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.utils.validation import check_is_fitted

from sknk._validation import fit_context, validate_data
from sknk.preprocessing._columns import column_values, is_frame, is_missing

__all__ = ["LevelEncoder"]


def _needs_text(values: Iterable[Any]) -> bool:
    """Return whether levels cannot be sorted as they are: mixed or unusual types."""
    levels = {value for value in set(values) if not is_missing(value)}
    return not any(all(isinstance(v, kind) for v in levels) for kind in (str, Real))


def _clean(values: list[Any], text: bool) -> np.ndarray:
    """Return levels with one kind of missing value, (n,), objects."""
    clean = np.empty(len(values), dtype=object)
    clean[:] = [np.nan if is_missing(value) else str(value) if text else value for value in values]
    return clean


class LevelEncoder(TransformerMixin, BaseEstimator):
    """An encoder of scikit-learn that takes every kind of level and of missing value.

    ``None``, NaN, NaT and ``pandas.NA`` are one and the same missing value, and a column that mixes
    types (or has one without order) is read as text. So NumPy arrays, pandas and polars frames of
    the same values give the same codes. O(n) time a column.

    Parameters
    ----------
    encoder : OneHotEncoder or OrdinalEncoder
        What turns clean levels into numbers; NaN is the missing level.

    Attributes
    ----------
    encoder_ : encoder
        The one that was fitted.
    text_ : list of d bool
        Which columns are read as text.
    n_features_in_, feature_names_in_ : object
        As in scikit-learn.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.preprocessing import OrdinalEncoder
    >>> from sknk.preprocessing._categories import LevelEncoder
    >>> X = np.array([["b"], ["a"], [None], [3]], dtype=object)
    >>> LevelEncoder(OrdinalEncoder()).fit_transform(X).ravel()
    array([ 2.,  1., nan,  0.])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {"encoder": [BaseEstimator]}

    def __init__(self, encoder: Any) -> None:
        self.encoder = encoder

    @fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn the levels.

        Parameters
        ----------
        X : array-like or data frame of shape (n, d)
            Columns of levels.
        y : None
            Ignored.

        Returns
        -------
        self
        """
        columns = self._columns(X, reset=True)
        self.text_ = [_needs_text(values) for values in columns]
        # Arrays, whatever `transform_output` is configured; our own output is named after it.
        encoder = clone(self.encoder).set_output(transform="default")
        self.encoder_ = encoder.fit(self._levels(columns))
        return self

    def _columns(self, X: Any, *, reset: bool) -> list[list[Any]]:
        """Return the values of every column of a checked table."""
        # Frames are read column by column: as one array, dtypes would mix.
        frame = is_frame(X)
        checks = {} if frame else {"dtype": None, "ensure_all_finite": False}
        found = validate_data(self, X, reset=reset, skip_check_array=frame, **checks)
        X = X if frame else found
        return [column_values(X, k) for k in range(X.shape[1])]

    def _levels(self, columns: list[list[Any]]) -> np.ndarray:
        """Return clean levels, (n, d), objects."""
        return np.column_stack([_clean(*pair) for pair in zip(columns, self.text_, strict=True)])

    def transform(self, X: Any) -> np.ndarray:
        """Encode levels.

        Parameters
        ----------
        X : array-like or data frame of shape (m, d)
            Columns of levels.

        Returns
        -------
        ndarray of shape (m, p)
        """
        check_is_fitted(self)
        return self.encoder_.transform(self._levels(self._columns(X, reset=False)))

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return names of the encoded columns.

        Parameters
        ----------
        input_features : None or array-like of str of shape (d,)
            Names of the columns; None is those seen in `fit`, else x0, x1, ...

        Returns
        -------
        ndarray of p str

        Raises
        ------
        ValueError
            If `input_features` are not the names seen in ``fit``.
        """
        check_is_fitted(self)
        seen: Any = getattr(self, "feature_names_in_", None)
        names = seen if input_features is None else input_features
        if seen is not None and list(names) != list(seen):
            raise ValueError(
                f"`input_features` is {list(names)}: input_features is not equal to "
                f"feature_names_in_, {list(seen)}. Pass None for the names seen in `fit`."
            )
        return self.encoder_.get_feature_names_out(names)

    def __sklearn_tags__(self) -> Any:
        """Return tags: text and missing values are welcome.

        Returns
        -------
        Tags
        """
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = tags.input_tags.string = tags.input_tags.categorical = True
        return tags
