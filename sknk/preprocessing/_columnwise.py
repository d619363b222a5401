"""What transformers of single columns share: checked rows, tags, names."""

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils import check_array
from sklearn.utils.validation import FLOAT_DTYPES, check_is_fitted

from sknk._validation import validate_data

__all__ = ["ColumnwiseTransformer"]


class ColumnwiseTransformer(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """A transformer of dense float columns, each on its own; float32 stays float32."""

    _finite: Any = True  # "allow-nan" where missing values pass through

    def _fit_rows(self, X: Any) -> np.ndarray:
        """Return checked training rows, (n, d), and remember their columns."""
        return validate_data(self, X, dtype=FLOAT_DTYPES, ensure_all_finite=self._finite)

    def _new_rows(self, X: Any) -> np.ndarray:
        """Return checked rows, (m, d), with the columns of training."""
        check_is_fitted(self)
        return validate_data(
            self, X, reset=False, dtype=FLOAT_DTYPES, ensure_all_finite=self._finite
        )

    def _transformed_rows(self, Z: Any) -> np.ndarray:
        """Return checked rows of the transformed table, (m, d)."""
        check_is_fitted(self)
        return check_array(Z, dtype=FLOAT_DTYPES, ensure_all_finite=self._finite)

    def __sklearn_tags__(self) -> Any:
        """Return tags: float32 is preserved, missing values pass where declared.

        Returns
        -------
        Tags
        """
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self._finite == "allow-nan"
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
