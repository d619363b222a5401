"""Kernel ridge regression and classification with one kernel and one ridge."""

from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.base import RegressorMixin
from sklearn.gaussian_process.kernels import Kernel as SklearnKernel
from torch import Tensor

from sknk._estimator import unchanged_on_error
from sknk._training import TrainingSet
from sknk._validation import (
    Interval,
    StrOptions,
    check_class_weights,
    fit_context,
    repetition_weights,
)
from sknk.ridge._base import COMMON_CONSTRAINTS, BaseRidge, IntervalMixin
from sknk.ridge._classes import LabelCoder, RidgeClassifierMixin
from sknk.ridge._solved import Solved, solve_ridge
from sknk.solvers import Solver

__all__ = ["NTKRidge", "NTKRidgeClassifier"]


class _SingleRidge(BaseRidge):
    """One factorization of K + alpha/w."""

    alpha: float
    solver: str | Solver

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "kernel": [None, SklearnKernel, StrOptions({"precomputed"})],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "solver": [StrOptions({"auto", "cholesky", "eigh"}), Solver],
        **COMMON_CONSTRAINTS,
    }

    def _ridge(self) -> float:
        return self.alpha

    def _solve(self, training: TrainingSet, K: Tensor) -> Solved:
        """Solve the problem, keep which solver did it."""
        solved = solve_ridge(
            K, training, self.alpha, fit_intercept=self.fit_intercept, solver=self.solver
        )
        self.solver_ = solved.solver
        return solved


class NTKRidge(IntervalMixin, RegressorMixin, _SingleRidge):
    r"""Kernel ridge regression with a neural tangent kernel.

    Minimises ``sum_i w_i (y_i - b - f(x_i))^2 + alpha ||f||^2`` with b the weighted mean target:

    .. math:: f(x) = b + k(x)^\top (K + \alpha W^{-1})^{-1} (y - b)

    the function an infinitely wide network trained by gradient descent approaches (Jacot et al.
    2018; Lee et al. 2019, with ridge Hu et al. 2020). O(n^3) time, 8 n^2 bytes.

    Parameters
    ----------
    kernel : None, kernel or "precomputed", default=None
        An sknk kernel, any kernel of ``sklearn.gaussian_process.kernels``, or "precomputed" for
        Gram matrices in place of rows. None is ``NTK()``; write ``NTKRidge(NTK())`` to search over
        ``kernel__depth``.
    alpha : float, default=1.0
        Ridge, in units of the kernel; 1 is the mean diagonal for standardized features and a
        normalized kernel.
    solver : {"auto", "cholesky", "eigh"} or Solver, default="auto"
        See :func:`sknk.solvers.resolve_solver`.
    fit_intercept : bool, default=True
        Centre the targets at their weighted mean.
    device : str or None, default=None
        "auto", a torch device, or None for what is configured (the CPU).
    dtype : {"float32", "float64"} or None, default=None
        None computes in float64 whatever the input.

    Attributes
    ----------
    dual_coef_ : ndarray of shape (n,) or (n, t)
        Coefficients of the training rows, units of y over units of the kernel; zero at zero weight.
    intercept_ : float or ndarray of shape (t,)
        Weighted mean target, units of y.
    kernel_ : kernel or "precomputed"
        A copy of what was used.
    X_fit_ : ndarray of shape (n, d) or None
        Training rows; None for a precomputed kernel.
    solver_ : Solver
        What `solver` stood for.
    n_features_in_ : int
        Features seen in ``fit``.
    feature_names_in_ : ndarray of str
        Their names, where the rows had names.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sknk import NTKRidge
    >>> from sknk.kernels import NTK
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = make_pipeline(StandardScaler(), NTKRidge(NTK(depth=1), alpha=1.0)).fit(X, y)
    >>> bool(model.score(X, y) > 0.5)
    True
    """

    def __init__(
        self,
        kernel: Any = None,
        *,
        alpha: float = 1.0,
        solver: str | Solver = "auto",
        fit_intercept: bool = True,
        device: str | None = None,
        dtype: str | None = None,
    ) -> None:
        self.kernel = kernel
        self.alpha = alpha
        self.solver = solver
        self.fit_intercept = fit_intercept
        self.device = device
        self.dtype = dtype

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Solve the ridge problem.

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
            For rows, targets, weights or Gram matrices that are not valid.
        NotPSDError
            If K + alpha/w is not positive definite.
        MemoryBudgetError
            If the Gram matrix does not fit.
        """
        with unchanged_on_error(self), self._context(X), torch.no_grad():
            X, y = self._checked_rows(X, y)
            kernel = self._checked_kernel()
            Y = y[:, None] if y.ndim == 1 else y
            training = self._training_set(X, Y.astype(np.float64), sample_weight)
            solved = self._solve(training, training.gram(kernel))
            self._store(training, kernel, solved.coef, solved.intercept, squeeze=y.ndim == 1)
        return self


class NTKRidgeClassifier(RidgeClassifierMixin, _SingleRidge):
    """Kernel ridge classification with a neural tangent kernel and calibrated probabilities.

    Ridge regression of classes coded -1 and 1 (Arora et al. 2020), as scikit-learn's
    ``RidgeClassifier``. Probabilities are a softmax of the decision values over one temperature,
    fitted to closed-form leave-one-out decision values: no extra fits. O(n^3) time, 16 n^2 bytes.

    Parameters
    ----------
    kernel : None, kernel or "precomputed", default=None
        As in :class:`NTKRidge`; None is ``NTK()``.
    alpha : float, default=1.0
        Ridge, in units of the kernel.
    class_weight : None, "balanced" or dict, default=None
        Weights of classes, as in scikit-learn; they multiply `sample_weight`.
    solver : {"auto", "cholesky", "eigh"} or Solver, default="auto"
        See :func:`sknk.solvers.resolve_solver`.
    fit_intercept : bool, default=True
        Centre the coded classes at their weighted mean.
    device : str or None, default=None
        "auto", a torch device, or None for what is configured (the CPU).
    dtype : {"float32", "float64"} or None, default=None
        None computes in float64 whatever the input.

    Attributes
    ----------
    classes_ : ndarray of shape (c,)
        Labels, sorted.
    dual_coef_ : ndarray of shape (n,) or (n, c)
        Coefficients of the training rows; one column for two classes is flat.
    intercept_ : float or ndarray of shape (c,)
        Weighted means of the coded classes.
    loo_predictions_ : ndarray of shape (n,) or (n, c)
        Leave-one-out decision values, what the probabilities are calibrated on.
    kernel_, X_fit_, solver_, n_features_in_, feature_names_in_ : object
        As in :class:`NTKRidge`.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sknk import NTKRidgeClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> model = NTKRidgeClassifier(alpha=0.1).fit(X, y)
    >>> model.predict_proba(X[:2]).shape
    (2, 3)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **_SingleRidge._parameter_constraints,
        "class_weight": [None, dict, StrOptions({"balanced"})],
    }

    def __init__(
        self,
        kernel: Any = None,
        *,
        alpha: float = 1.0,
        class_weight: Any = None,
        solver: str | Solver = "auto",
        fit_intercept: bool = True,
        device: str | None = None,
        dtype: str | None = None,
    ) -> None:
        self.kernel = kernel
        self.alpha = alpha
        self.class_weight = class_weight
        self.solver = solver
        self.fit_intercept = fit_intercept
        self.device = device
        self.dtype = dtype

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Solve the ridge problem of the coded classes and calibrate its probabilities.

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
            For one class, or rows, weights or Gram matrices that are not valid.
        NotPSDError
            If K + alpha/w is not positive definite.
        MemoryBudgetError
            If the Gram matrix does not fit.
        """
        with unchanged_on_error(self), self._context(X), torch.no_grad():
            X, y = self._checked_rows(X, y)
            kernel = self._checked_kernel()
            coder = LabelCoder(y)
            weights = check_class_weights(self.class_weight, y, sample_weight, X)
            training = self._training_set(
                X, coder.Y, weights, repetition_weights(weights, sample_weight, X)
            )
            solved = self._solve(training, training.gram(kernel))
            squeeze = coder.Y.shape[1] == 1
            self._store(training, kernel, solved.coef, solved.intercept, squeeze=squeeze)
            self._calibrate(coder, solved.leave_one_out(training.left_out()))
        return self
