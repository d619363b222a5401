"""FeatureLearner: learned features as a transformer, for any estimator that follows."""

from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.utils import Tags, get_tags
from sklearn.utils.validation import check_is_fitted

from sknk._estimator import unchanged_on_error
from sknk._validation import HasMethods, check_feature_names_in, fit_context, validate_data
from sknk.kernels._mapped import mapped
from sknk.ridge._cv import NTKRidgeCV

__all__ = ["FeatureLearner"]


class FeatureLearner(TransformerMixin, BaseEstimator):
    r"""Map columns by the features that a ridge estimator learned.

    .. math:: x \mapsto A^\top x

    with A the ``feature_map_`` of a :class:`NTKRidgeCV` or :class:`NTKRidgeClassifierCV`: scales of
    the columns, or a symmetric matrix. Put it before any estimator that sees distances or inner
    products; columns should be standardized. Fitting costs what fitting the estimator costs, a map
    O(n d^2).

    Parameters
    ----------
    estimator : estimator or None, default=None
        One with ``feature_learning``, which is fitted to a copy. None is
        ``NTKRidgeCV(feature_learning="auto")``; pass a classifier for classes.

    Attributes
    ----------
    estimator_ : estimator
        The fitted copy.
    feature_map_ : ndarray of shape (d,) or (d, d)
        Scales or A; ones where no map was better than none.
    feature_importances_ : ndarray of shape (d,)
        Those of the fitted estimator.
    n_features_in_ : int
        Features seen in ``fit``.
    feature_names_in_ : ndarray of str
        Their names, where the rows had names.

    Examples
    --------
    >>> from sklearn.datasets import make_friedman1
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sklearn.svm import SVR
    >>> from sknk import FeatureLearner
    >>> X, y = make_friedman1(200, random_state=0)
    >>> model = make_pipeline(StandardScaler(), FeatureLearner(), SVR(C=100.0)).fit(X, y)
    >>> model[1].feature_map_.shape
    (10,)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "estimator": [None, HasMethods(["fit"])]
    }

    def __init__(self, estimator: Any = None) -> None:
        self.estimator = estimator

    @fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit the estimator and keep its map.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Rows, columns of one scale.
        y : array-like of shape (n,) or (n, t)
            Targets or labels.
        sample_weight : array-like of shape (n,), default=None
            Passed to the estimator's ``fit``.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If the estimator learns no features.
        """
        own = NTKRidgeCV(feature_learning="auto") if self.estimator is None else self.estimator
        if getattr(own, "feature_learning", None) is None:
            raise ValueError(
                f"`estimator` is {own!r}, which learns no features; expected one with "
                "`feature_learning`, such as NTKRidgeClassifierCV(feature_learning='auto')."
            )
        with unchanged_on_error(self):
            validate_data(self, X, skip_check_array=True)
            self.estimator_ = clone(own).fit(X, y, sample_weight=sample_weight)
            self.feature_map_ = self.estimator_.feature_map_
            self.feature_importances_ = self.estimator_.feature_importances_
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Return the mapped rows.

        Parameters
        ----------
        X : array-like of shape (m, d)
            Rows.

        Returns
        -------
        ndarray of shape (m, d)
        """
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=np.float64)
        return mapped(X, self.feature_map_)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the columns' names: their own where they are scaled, else numbered.

        Parameters
        ----------
        input_features : array-like of str or None, default=None
            Names of the columns that came in.

        Returns
        -------
        ndarray of str
        """
        check_is_fitted(self)
        names = check_feature_names_in(self, input_features)
        if self.feature_map_.ndim == 1:
            return names
        return np.array([f"featurelearner{j}" for j in range(len(names))], dtype=object)

    def __sklearn_tags__(self) -> Tags:
        """Declare that targets are needed, of the kind that the estimator takes."""
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        if self.estimator is not None:
            tags.target_tags = get_tags(self.estimator).target_tags
        return tags
