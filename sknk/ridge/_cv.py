"""Ridge estimators that choose kernel and ridge by exact leave-one-out, or by folds."""

from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.base import RegressorMixin
from sklearn.metrics import get_scorer

from sknk._estimator import unchanged_on_error
from sknk._validation import (
    StrOptions,
    check_class_weights,
    check_weights,
    fit_context,
    repetition_weights,
)
from sknk.ridge._base import IntervalMixin
from sknk.ridge._classes import LabelCoder, RidgeClassifierMixin
from sknk.ridge._search import RidgeSearch
from sknk.ridge._selection import Criterion

__all__ = ["NTKRidgeCV", "NTKRidgeClassifierCV"]


class NTKRidgeCV(IntervalMixin, RegressorMixin, RidgeSearch):
    r"""Kernel ridge regression that chooses its kernel and ridge by exact leave-one-out.

    One Gram recursion serves all depths, one eigendecomposition all ridges of a kernel: the search
    refits no model. With G = (K + alpha/w)^-1 and y centred without row i,

    .. math:: y_i - f_{-i}(x_i) = ([G y]_i - \bar y_{-i} [G 1]_i) / G_{ii}

    O(C n^3) time for C kernels; copies of a row are left out together.

    Parameters
    ----------
    kernel : None, kernel or "precomputed", default=None
        As in :class:`NTKRidge`; the grid changes its parameters.
    param_grid : dict, list of dict or None, default=None
        Values of the kernel's parameters, as in ``ParameterGrid``. None is, for an NTK, depths 1
        and 2, ``bias_var`` 0, 1 and 10, all layers trained or only the last; for other kernels, the
        kernel as it is.
    alphas : array-like of shape (A,) or None, default=None
        Ridges, in units of the kernel; None is 21 from 1e-8 to 100.
    cv : None, int or splitter, default=None
        None is exact leave-one-out; else folds of the rows.
    scoring : None, str or callable, default=None
        A scikit-learn scorer of predictions; None is the negative mean squared error.
    fit_intercept : bool, default=True
        Centre the targets at their weighted mean, anew in every leave-one-out fit.
    feature_learning : None, "auto", "agop", "agop_diag" or "ard", default=None
        Learn a linear map of the columns from the fitted function, refit on mapped rows: by its
        average gradient outer product (whole or diagonal), or by scales that minimise the
        leave-one-out loss. "auto" tries all three. A map is kept only where it is better by 1.5
        standard errors on rows that it has not seen, whatever `scoring`; tables below 30 distinct
        rows keep none. Two to four times the time at 2000 rows, ten at a few hundred.
    max_rounds : int, default=2
        Most rounds of gradient outer products.
    search_rows : int or None, default=2000
        Rows of the search: above it kernels and maps are chosen on a part of that size, of the same
        spread of targets, which `cv_results_` and `feature_path_` tell of; the choice is fitted to
        all rows, with the best of three neighbouring ridges. None, or `cv`, searches with all.
    device : str or None, default=None
        "auto", a torch device, or None for what is configured (the CPU).
    dtype : {"float32", "float64"} or None, default=None
        None computes in float64 whatever the input.
    verbose : int, default=0
        1 shows progress on stderr.

    Attributes
    ----------
    best_params_ : dict
        Chosen kernel parameters and ``alpha``, a line of `cv_results_`.
    alpha_ : float
        Ridge of the fit: that of `best_params_`, or above `search_rows` rows a neighbour.
    kernel_ : kernel or "precomputed"
        Chosen kernel.
    best_score_, best_index_ : float, int
        Score and position of the choice in `cv_results_`.
    cv_results_ : dict
        One line for every kernel and ridge, as of ``GridSearchCV``.
    loo_predictions_ : ndarray of shape (n,) or (n, t)
        Leave-one-out predictions of the chosen model, units of y; a learned map has seen all rows.
    feature_map_ : ndarray of shape (d, d) or (d,)
        Learned map or scales, ones where none was better; part of `kernel_`.
    feature_importances_ : ndarray of shape (d,)
        Mean squared derivative of f by each column, as parts of their sum; for columns of one
        scale.
    feature_matrix_ : ndarray of shape (d, d)
        Average gradient outer product of the function, as fitted to the rows of the search.
    feature_learning_, rounds_ : str, int
        What was chosen, or "none", and its rounds.
    feature_path_ : dict of str to ndarray
        One line for every map that was compared: loss on rows not seen, gain over no map and its
        standard error, and the leave-one-out score of those fitted to all rows.
    dual_coef_, intercept_, X_fit_, n_features_in_, feature_names_in_ : object
        As in :class:`NTKRidge`.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.preprocessing import scale
    >>> from sknk import NTKRidgeCV
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = NTKRidgeCV(param_grid={"depth": [1, 2]}).fit(scale(X), y)
    >>> sorted(model.best_params_)
    ['alpha', 'depth']
    """

    def __init__(
        self,
        kernel: Any = None,
        *,
        param_grid: Any = None,
        alphas: Any = None,
        cv: Any = None,
        scoring: Any = None,
        fit_intercept: bool = True,
        feature_learning: str | None = None,
        max_rounds: int = 2,
        search_rows: int | None = 2000,
        device: str | None = None,
        dtype: str | None = None,
        verbose: int = 0,
    ) -> None:
        self.kernel = kernel
        self.param_grid = param_grid
        self.alphas = alphas
        self.cv = cv
        self.scoring = scoring
        self.fit_intercept = fit_intercept
        self.feature_learning = feature_learning
        self.max_rounds = max_rounds
        self.search_rows = search_rows
        self.device = device
        self.dtype = dtype
        self.verbose = verbose

    def _is_classifier(self) -> bool:
        return False

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Score every kernel and ridge, keep the best.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Rows; for a precomputed kernel the Gram matrix (n, n).
        y : array-like of shape (n,) or (n, t)
            Targets.
        sample_weight : float or array-like of shape (n,), default=None
            Weights, dimensionless; repeating a row is the same as weighing it.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For rows, targets, weights, grids or ridges that are not valid.
        NotPSDError
            If K plus the smallest ridge is not positive definite.
        MemoryBudgetError
            If a Gram matrix does not fit.
        """
        with unchanged_on_error(self), self._context(X), torch.no_grad():
            X, y = self._checked_rows(X, y)
            kernel = self._checked_kernel()
            Y = (y[:, None] if y.ndim == 1 else y).astype(np.float64)
            training = self._training_set(X, Y, sample_weight)
            weights = check_weights(sample_weight, X)
            scorer = None if self.scoring is None else get_scorer(self.scoring)
            loo = self._search(X, kernel, training, Criterion(scorer, y, Y, weights, None))
            self._keep_leave_one_out(loo)
        return self

    def _keep_leave_one_out(self, loo: np.ndarray) -> None:
        training = self._training
        every = training.every_row(
            loo, lambda left: self._combine(training.rows[left]).reshape(-1, loo.shape[1])
        )
        self.loo_predictions_ = every[:, 0] if self.dual_coef_.ndim == 1 else every


class NTKRidgeClassifierCV(RidgeClassifierMixin, RidgeSearch):
    """Kernel ridge classification that chooses its kernel and ridge by exact leave-one-out.

    The strong baseline for tables without tuning: standardize the columns, call ``fit``. By default
    the choice minimises the log loss of leave-one-out values under a temperature of their own,
    which picks better models than leave-one-out accuracy; probabilities are calibrated on the same
    values. Of rows that share columns and label one is left out.

    Parameters
    ----------
    kernel : None, kernel or "precomputed", default=None
        As in :class:`NTKRidge`; the grid changes its parameters.
    param_grid : dict, list of dict or None, default=None
        As in :class:`NTKRidgeCV`, but None is, for an NTK, depths 1, 3 and 8 times ``bias_var``
        0.1, 1 and 10.
    alphas : array-like of shape (A,) or None, default=None
        Ridges, in units of the kernel; None is 13 from 1e-4 to 100.
    cv : None, int or splitter, default=None
        None is exact leave-one-out; an integer makes stratified folds.
    scoring : None, str or callable, default=None
        A scikit-learn scorer of labels, decision values or probabilities; None is the negative
        log loss of probabilities calibrated on the same leave-one-out values.
    class_weight : None, "balanced" or dict, default=None
        Weights of classes; they multiply `sample_weight`.
    fit_intercept : bool, default=True
        Centre the coded classes at their weighted mean.
    feature_learning, max_rounds, search_rows : object
        As in :class:`NTKRidgeCV`; maps are judged by log loss.
    device : str or None, default=None
        "auto", a torch device, or None for what is configured (the CPU).
    dtype : {"float32", "float64"} or None, default=None
        None computes in float64 whatever the input.
    verbose : int, default=0
        1 shows progress on stderr.

    Attributes
    ----------
    classes_ : ndarray of shape (c,)
        Labels, sorted.
    loo_predictions_ : ndarray of shape (n,) or (n, c)
        Leave-one-out decision values of the chosen model.
    best_params_, alpha_, kernel_, best_score_, best_index_, cv_results_ : object
        As in :class:`NTKRidgeCV`.
    feature_map_, feature_importances_, feature_matrix_ : ndarray
        As in :class:`NTKRidgeCV`, summed over classes.
    feature_learning_, rounds_, feature_path_ : object
        As in :class:`NTKRidgeCV`.
    dual_coef_, intercept_, X_fit_, n_features_in_, feature_names_in_ : object
        As in :class:`NTKRidge`.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sknk import NTKRidgeClassifierCV
    >>> X, y = load_wine(return_X_y=True)
    >>> model = make_pipeline(StandardScaler(), NTKRidgeClassifierCV()).fit(X, y)
    >>> model.predict_proba(X[:1]).argmax().item()
    0
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **RidgeSearch._parameter_constraints,
        "class_weight": [None, dict, StrOptions({"balanced"})],
    }

    def __init__(
        self,
        kernel: Any = None,
        *,
        param_grid: Any = None,
        alphas: Any = None,
        cv: Any = None,
        scoring: Any = None,
        class_weight: Any = None,
        fit_intercept: bool = True,
        feature_learning: str | None = None,
        max_rounds: int = 2,
        search_rows: int | None = 2000,
        device: str | None = None,
        dtype: str | None = None,
        verbose: int = 0,
    ) -> None:
        self.kernel = kernel
        self.param_grid = param_grid
        self.alphas = alphas
        self.cv = cv
        self.scoring = scoring
        self.class_weight = class_weight
        self.fit_intercept = fit_intercept
        self.feature_learning = feature_learning
        self.max_rounds = max_rounds
        self.search_rows = search_rows
        self.device = device
        self.dtype = dtype
        self.verbose = verbose

    def _is_classifier(self) -> bool:
        return True

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Score every kernel and ridge, keep the best, calibrate its probabilities.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Rows; for a precomputed kernel the Gram matrix (n, n).
        y : array-like of shape (n,) or (n, l)
            Labels, or a multi-label indicator.
        sample_weight : float or array-like of shape (n,), default=None
            Weights, dimensionless.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For one class, or rows, weights, grids or ridges that are not valid.
        NotPSDError
            If K plus the smallest ridge is not positive definite.
        MemoryBudgetError
            If a Gram matrix does not fit.
        """
        with unchanged_on_error(self), self._context(X), torch.no_grad():
            X, y = self._checked_rows(X, y)
            kernel = self._checked_kernel()
            coder = LabelCoder(y)
            weights = check_class_weights(self.class_weight, y, sample_weight, X)
            training = self._training_set(
                X, coder.Y, weights, repetition_weights(weights, sample_weight, X)
            )
            scorer = None if self.scoring is None else get_scorer(self.scoring)
            criterion = Criterion(scorer, y, coder.Y, weights, coder)
            loo = self._search(X, kernel, training, criterion)
            self._calibrate(coder, loo)
        return self
