"""What a regressor keeps of its training: fitted attributes, and the evidence elsewhere."""

import copy
from typing import Any, Self

import numpy as np
import torch
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from sknk._estimator import KernelEstimator, public_kernel
from sknk._training import TrainingSet, merge_rows
from sknk.gaussian_process._bounds import SparseEvidence
from sknk.gaussian_process._densities import Gaussian, Student
from sknk.gaussian_process._evidence import ExactEvidence, density_of
from sknk.gaussian_process._hyperparameters import Score
from sknk.gaussian_process._model import ExactModel, SparseModel
from sknk.gaussian_process._search import training_kernel
from sknk.kernels._base import Kernel

__all__ = ["FittedRegressor"]


class FittedRegressor(KernelEstimator):
    """Training rows in, fitted attributes out."""

    posterior: str
    ard: bool
    noise_variance: Any

    _model: ExactModel | SparseModel
    _given: np.ndarray | None
    solver_: Any
    _law: Gaussian | Student
    _y_mean: np.ndarray
    _y_scale: np.ndarray

    def _training_kernel(self, X: np.ndarray) -> Kernel:
        """Return the kernel whose Gaussian process has the posterior's mean."""
        kernel = training_kernel(self, X.shape[1])
        if self.posterior == "nngp":
            return kernel.nngp()
        if self.posterior == "ensemble":
            kernel.joint_diag(X[:1])  # a TypeError for kernels without
        return kernel

    def _own_variances(self, n: int) -> np.ndarray | None:
        """Return noise variances given row by row."""
        if isinstance(self.noise_variance, str) or np.ndim(self.noise_variance) == 0:
            return None
        return _checked_variances(self.noise_variance, n)

    def _new_variances(self, noise_variance: Any, m: int) -> np.ndarray | None:
        if (noise_variance is None) != (self._given is None):
            wanted = "none" if self._given is None else f"shape ({m},)"
            raise ValueError(
                f"`noise_variance` of the new rows is {noise_variance!r}; expected {wanted}, as in "
                "`fit`."
            )
        return None if noise_variance is None else _checked_variances(noise_variance, m)

    def _merged(
        self, X: np.ndarray, Y: np.ndarray, weights: np.ndarray | None, own: np.ndarray | None
    ) -> tuple[TrainingSet, np.ndarray, np.ndarray | None]:
        """Merge copies; return them with scaled targets and noise variances."""
        t = Y.shape[1]
        both = Y if own is None else np.column_stack([Y, own])
        training = merge_rows(X, both, weights, precomputed=False)
        scaled = (training.Y[:, :t] - self._y_mean) / self._y_scale
        if own is None:
            return training, scaled, None
        units = float(self._y_scale[0] ** 2)
        return training, scaled, training.Y[:, t] / units

    def _unit_nats(self, n: float) -> float:
        """Return the log volume of the targets' units, which densities of y have less."""
        return n * float(np.log(self._y_scale).sum())

    def _store(self, model: ExactModel | SparseModel, X: np.ndarray, y: np.ndarray) -> None:
        """Set the fitted attributes, all NumPy."""
        hyper = model.hyper
        self._model, self.X_fit_, self.y_fit_ = model, X, y
        self.kernel_ = public_kernel(hyper.kernel)
        units = self._y_scale**2 if y.ndim == 2 else float(self._y_scale[0] ** 2)
        self.amplitude_ = hyper["amplitude"] * units
        self.noise_variance_ = (
            hyper["noise_variance"] * units if self._given is None else self._given
        )
        self.theta_, self.hyperparameter_names_ = hyper.theta, hyper.names
        self._n = float(model.training.copies.sum())
        self._law = density_of(hyper)
        self.prior_df_ = hyper["prior_df"] if isinstance(self._law, Student) else np.inf
        self._quad = np.zeros(model.Y.shape[1])
        for name in ("inducing_rows_", "dual_coef_"):  # of another kind of model, fitted before
            if hasattr(self, name):
                delattr(self, name)
        if isinstance(model, SparseModel):
            self.inducing_rows_ = model.Z
        else:
            self._quad = model.quad()
            dual = model.training.spread(model.dual()) * self._y_scale
            self.dual_coef_ = dual[:, 0] if y.ndim == 1 else dual
        self._gain = self._law.factor(self._quad, self._n)

    def _without(self, rows: np.ndarray) -> Self:
        """Return the model without some of its rows; hyperparameters and units of y stay."""
        assert isinstance(self._model, ExactModel)
        training, gone = self._model.training.without(rows)
        model = copy.copy(self)
        with self._context(None), torch.no_grad():
            if self._given is not None:
                model._given = np.delete(self._given, rows)
            left = self._model.without(training, gone)
            X, y = np.delete(self.X_fit_, rows, axis=0), np.delete(self.y_fit_, rows, axis=0)
            model._store(left, X, y)
            nats = model._unit_nats(model._n)
            model.log_marginal_likelihood_value_ = model._model.evidence() - nats
        return model

    def log_marginal_likelihood(
        self, theta: Any = None, eval_gradient: bool = False, clone_kernel: bool = True
    ) -> Any:
        """Return the evidence of the training targets, at the fitted or at other hyperparameters.

        Parameters
        ----------
        theta : array-like of shape (p,), default=None
            Logarithms of the hyperparameters, in the order of ``hyperparameter_names_``; noise
            variance and amplitude in units of the normalized targets. None is ``theta_``.
        eval_gradient : bool, default=False
            Also return the gradient with respect to theta.
        clone_kernel : bool, default=True
            For compatibility with scikit-learn; the kernel is never changed.

        Returns
        -------
        log_likelihood : float
            Nats, a density of y in its own units; with `rank`, the collapsed lower bound.
        gradient : ndarray of shape (p,)
            If `eval_gradient`.

        Raises
        ------
        ValueError
            If theta has another length.
        """
        check_is_fitted(self)
        if theta is None and not eval_gradient:
            return self.log_marginal_likelihood_value_
        model = self._model
        hyper = model.hyper if theta is None else model.hyper.at(theta)
        with self._context(None), torch.no_grad():
            data = model.observations
            if isinstance(model, SparseModel):
                Z = torch.from_numpy(model.Z).to(data.X)
                score: Score = SparseEvidence(data, Z)(hyper, gradient=eval_gradient)
            else:
                score = ExactEvidence(data, model.solver)(hyper, gradient=eval_gradient)
        value = score.value - self._unit_nats(self._n)
        return (value, hyper.flatten(score)) if eval_gradient else value

    def __sklearn_tags__(self) -> Tags:
        """Declare multi-output targets."""
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        tags.target_tags.single_output = True
        return tags


def _checked_variances(noise_variance: Any, n: int) -> np.ndarray:
    """Check noise variances given row by row.

    Returns
    -------
    ndarray of shape (n,)

    Raises
    ------
    ValueError
        If there is not one positive number for every row.
    """
    given = np.asarray(noise_variance, dtype=np.float64)
    if given.shape != (n,):
        raise ValueError(
            f"`noise_variance` has shape {given.shape}; expected ({n},), as many rows."
        )
    bad = ~(np.isfinite(given) & (given > 0))
    if bad.any():
        row = int(bad.argmax())
        raise ValueError(
            f"`noise_variance` is {given[row]:.3g} at row {row}; expected finite numbers above "
            "zero."
        )
    return given
