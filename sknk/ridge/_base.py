"""What the ridge estimators share: validation, prediction, intervals, pickling."""

import copy
from abc import abstractmethod
from typing import Any, Self

import numpy as np
import torch
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from sknk._array import as_tensor, compute_device, compute_dtype, to_numpy
from sknk._estimator import PLACE_CONSTRAINTS, KernelEstimator, public_kernel
from sknk._training import TrainingSet, merge_rows
from sknk._validation import check_weights, warn_unscaled
from sknk.kernels._adapt import as_kernel
from sknk.kernels._base import Kernel
from sknk.ridge._intervals import JackknifePlus
from sknk.ridge._solved import solved_by
from sknk.solvers import Cholesky, Factorization

__all__ = ["COMMON_CONSTRAINTS", "BaseRidge", "IntervalMixin"]

COMMON_CONSTRAINTS: dict[str, list[Any]] = {
    "fit_intercept": ["boolean"],
    **PLACE_CONSTRAINTS,
}


class BaseRidge(KernelEstimator):
    """Kernel ridge on merged rows; subclasses choose kernel and ridge and name the targets."""

    fit_intercept: bool

    kernel_: Any
    X_fit_: np.ndarray | None
    dual_coef_: np.ndarray
    intercept_: Any
    _training: TrainingSet
    _factor: tuple[tuple[torch.device, torch.dtype], Factorization] | None

    @property
    def _precomputed(self) -> bool:
        return isinstance(self.kernel, str) and self.kernel == "precomputed"

    @abstractmethod
    def _ridge(self) -> float:
        """Return the ridge the fitted model uses."""

    def _checked_kernel(self) -> Kernel | None:
        """Return a copy of the kernel, None for precomputed Gram matrices."""
        return None if self._precomputed else super()._checked_kernel()

    def _training_set(
        self, X: np.ndarray, Y: np.ndarray, sample_weight: Any, unit: np.ndarray | None = None
    ) -> TrainingSet:
        weights = check_weights(sample_weight, X)
        if not self._precomputed:
            warn_unscaled(X)
        return merge_rows(X, Y, weights, precomputed=self._precomputed, unit=unit)

    def _store(
        self,
        training: TrainingSet,
        kernel: Kernel | None,
        coef: Tensor,
        intercept: Any,
        squeeze: bool,
    ) -> None:
        """Set the public fitted attributes, all NumPy."""
        dual = training.spread(to_numpy(coef).astype(np.float64))
        bias = np.asarray(
            to_numpy(intercept) if isinstance(intercept, Tensor) else intercept, dtype=np.float64
        )
        self.dual_coef_ = dual[:, 0] if squeeze else dual
        self.intercept_ = float(bias[0]) if squeeze else bias
        self.X_fit_ = None if training.precomputed else training.rows
        self.kernel_ = "precomputed" if kernel is None else public_kernel(kernel)
        self._training = training
        self._factor = None

    def _decision(self, X: Any) -> np.ndarray:
        """Return K(X, X_fit) dual + intercept as float64."""
        check_is_fitted(self)
        with self._context(X):
            X = self._checked_rows(X)
            return self._combine(X)

    def _combine(self, X: np.ndarray) -> np.ndarray:
        if self.kernel_ == "precomputed":
            found = X @ self.dual_coef_
        else:
            # A view: the same object twice would mean a symmetric call, with white noise.
            fitted = self._training.rows[:]
            found = as_kernel(self.kernel_).matmul(X, fitted, self.dual_coef_)
        return found.astype(np.float64, copy=False) + self.intercept_

    def _cross(self, X: np.ndarray) -> Tensor:
        """Return the kernel of new rows against the distinct training rows, (m, u)."""
        if self.kernel_ == "precomputed":
            return as_tensor(X[:, self._training.first], compute_device(), compute_dtype())
        rows = as_tensor(X, compute_device(), torch.float64)
        return as_kernel(self.kernel_)(rows, self._training.distinct)

    def _factorization(self) -> Factorization:
        """Return the factor of K + alpha/w, recomputed where a pickle dropped it."""
        place = (compute_device(), compute_dtype())
        if self._factor is not None and self._factor[0] == place:
            return self._factor[1]
        training = self._training
        kernel = None if training.precomputed else as_kernel(self.kernel_)
        weights = 1.0 if training.weights is None else training.weights
        K = training.gram(kernel)
        shift = as_tensor(np.asarray(self._ridge() / weights), K.device, K.dtype)
        factor = Cholesky().factorize(K, shift, overwrite=True)
        self._factor = (place, factor)
        return factor

    def _without(self, rows: np.ndarray) -> Self:
        """Return the model without some of its rows; kernel, ridge and row weights stay.

        A downdate of the factor where copies go whole, else a new factorization.

        Returns
        -------
        estimator
        """
        training, gone = self._training.without(rows)
        with self._context(None), torch.no_grad():
            factor = self._factorization().remove(gone)
            before = np.delete(self._training.copies, gone)
            if not np.array_equal(training.copies, before):
                factor = factor.reshift(self._ridge() / training.copies)
            return self._solved_by(factor, training)

    def _with(self, X: np.ndarray, Y: np.ndarray) -> Self:
        """Return the model with rows (m, d) and coded targets (m, t) more, each of weight one.

        Kernel and ridge stay, and the factor is appended to: O(u^2 m). A new row that repeats an
        old one stays a row of its own.

        Returns
        -------
        estimator
        """
        unit = None if self._training.unit is None else np.ones(len(X))
        added = merge_rows(X, Y, None, precomputed=False, unit=unit)
        training = self._training.followed_by(added)
        with self._context(None), torch.no_grad():
            kernel = as_kernel(self.kernel_)
            shift = as_tensor(self._ridge() / added.copies, compute_device(), compute_dtype())
            K_cross = kernel(self._training.distinct, added.distinct)
            factor = self._factorization().append(K_cross, added.gram(kernel), shift)
            return self._solved_by(factor, training)

    def _solved_by(self, factor: Factorization, training: TrainingSet) -> Self:
        """Return the model of other rows, whose factor is at hand."""
        solved = solved_by(factor, training, self._ridge(), self.fit_intercept)
        model = copy.copy(self)
        kernel = None if training.precomputed else as_kernel(self.kernel_)
        squeeze = self.dual_coef_.ndim == 1
        model._store(training, kernel, solved.coef, solved.intercept, squeeze)
        model._factor = ((factor.device, factor.dtype), factor)
        model._keep_leave_one_out(solved.leave_one_out(training.left_out()))
        if training.precomputed:
            model.n_features_in_ = len(training.rows)  # a column of K(X, X_fit) for each
        return model

    def _keep_leave_one_out(self, loo: np.ndarray) -> None:
        """Set what follows from leave-one-out predictions (u, t) of the distinct rows."""

    def __getstate__(self) -> dict[str, Any]:
        """Drop the factor: it is recomputed when needed, and pickles hold no tensor."""
        state = super().__getstate__()
        return {name: None if name == "_factor" else value for name, value in state.items()}

    def __sklearn_tags__(self) -> Tags:
        """Declare pairwise input for precomputed kernels and multi-output targets."""
        tags = super().__sklearn_tags__()
        tags.input_tags.pairwise = self._precomputed
        tags.target_tags.multi_output = True
        tags.target_tags.single_output = True
        return tags


class IntervalMixin:
    """What ridge regressors add to ridge: predictions and their intervals."""

    def predict(self: Any, X: Any) -> np.ndarray:
        """Return f(x) of new rows; K is never stored whole.

        Parameters
        ----------
        X : array-like of shape (m, d)
            Rows; for a precomputed kernel K(X, X_fit), (m, n).

        Returns
        -------
        ndarray of shape (m,) or (m, t)
            Units of y.
        """
        return self._decision(X)

    def predict_interval(self: Any, X: Any, alpha: float = 0.1) -> np.ndarray:
        """Return jackknife+ intervals that miss a fraction `alpha` of new targets.

        Built from the closed-form leave-one-out fits: one O(u^2) solve for each new row, no refit
        (Barber et al. 2021, eq. 1.3). Coverage is at least 1 - 2 alpha for exchangeable rows, about
        1 - alpha in practice. Sample weights count as repetitions.

        Parameters
        ----------
        X : array-like of shape (m, d)
            New rows.
        alpha : float, default=0.1
            Miscoverage, in (0, 1); dimensionless. Not the ridge.

        Returns
        -------
        ndarray of shape (m, 2) or (m, 2, t)
            Lower and upper bounds, units of y; infinite where `alpha` (n + 1) < 1.

        Raises
        ------
        ValueError
            If `alpha` is outside (0, 1).

        Examples
        --------
        >>> import numpy as np
        >>> from sknk import NTKRidge
        >>> X = np.linspace(-1, 1, 40)[:, None]
        >>> model = NTKRidge(alpha=0.1).fit(X, X[:, 0] ** 2)
        >>> model.predict_interval(X[:3], alpha=0.2).shape
        (3, 2)
        """
        check_is_fitted(self)
        if not 0 < alpha < 1:
            raise ValueError(f"`alpha` is {alpha!r}; expected a miscoverage between 0 and 1.")
        with self._context(X), torch.no_grad():
            K = self._cross(self._checked_rows(X))
            training, factor = self._training, self._factorization()
            like = {"device": K.device, "dtype": K.dtype}
            weights = as_tensor(training.copies, **like)
            intercept = as_tensor(np.atleast_1d(self.intercept_), **like)
            Y = as_tensor(training.Y, **like)
            jackknife = JackknifePlus(factor, Y, intercept, weights, self.fit_intercept)
            found = jackknife.intervals(K, alpha)
        return found[..., 0] if self.dual_coef_.ndim == 1 else found
