"""Gaussian process regression with tangent kernels."""

from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.base import RegressorMixin
from sklearn.gaussian_process.kernels import Kernel as SklearnKernel

from sknk._array import compute_dtype
from sknk._estimator import PLACE_CONSTRAINTS, unchanged_on_error
from sknk._validation import Interval, StrOptions, check_weights, fit_context, warn_unscaled
from sknk.gaussian_process._evidence import Observations
from sknk.gaussian_process._fitted import FittedRegressor
from sknk.gaussian_process._predictions import PredictionMixin
from sknk.gaussian_process._regression import (
    Targets,
    check_conflicts,
    exact_model,
    sparse_model,
    start_of,
)
from sknk.kernels._base import Kernel
from sknk.solvers import Eigh, Solver, resolve_solver

__all__ = ["NTKGaussianProcessRegressor"]

_POSITIVE = Interval(Real, 0, None, closed="neither")


class NTKGaussianProcessRegressor(PredictionMixin, RegressorMixin, FittedRegressor):
    r"""Gaussian process regression with tangent kernels, and infinite ensembles of networks.

    With C = a K + s/w (amplitude a, noise variance s, weights w) and k = a K(X, x),

    .. math::
        \text{mean} = k^\top C^{-1} y, \qquad
        \text{var} = a K(x, x) - k^\top C^{-1} k

    (Rasmussen and Williams 2006, algorithm 2.1). Hyperparameters maximise the evidence; its
    gradient meets the kernel's tile by tile, so O(n^3) time and two n x n buffers serve any number
    of them.

    Parameters
    ----------
    kernel : None or kernel, default=None
        An sknk kernel or one of ``sklearn.gaussian_process.kernels``; None is
        ``NTK(bias_var=0.1)``. Its free hyperparameters are estimated.
    noise_variance : "estimate", float or array-like of shape (n,), default="estimate"
        Variance of the targets around the latent function, units of y squared; one per row for
        known, different ones.
    amplitude : "estimate" or float, default="estimate"
        Factor of the kernel, units of y squared: normalized kernels have none of their own.
    posterior : {"ntkgp", "nngp", "ensemble"}, default="ntkgp"
        "ntkgp" is the Gaussian process of the kernel; "nngp" that of the network's NNGP kernel
        (Lee et al. 2018: only the last layer is trained); "ensemble" the law of infinitely many
        wide networks trained by gradient descent from random starts (Lee et al. 2019, eq. 16),
        for kernels with ``joint``. All have the hyperparameters of the Gaussian process of their
        training kernel.
    training_time : float or None, default=None
        Stop gradient flow on half the summed squared error at this time, in inverse units of the
        kernel times `amplitude`; None is convergence. The noise variance acts as a ridge.
    prior : {"gaussian", "student"}, default="gaussian"
        "student" mixes over the scale of kernel and noise, by an inverse gamma law: the same mean,
        variances that adapt to how surprising the targets are.
    prior_df : "estimate" or float, default="estimate"
        Degrees of freedom of a Student prior; large ones are Gaussian.
    evidence : {"exact", "stochastic"}, default="exact"
        What is maximised: the evidence by L-BFGS-B, or its lower bound in minibatches (Immer et al.
        2023) by Adam, from one start.
    rank : int or None, default=None
        Inducing rows of a sparse approximation: with exact evidence the collapsed bound (Titsias
        2009), O(n rank^2); with a stochastic one a variational posterior in minibatches (Hensman
        et al. 2013), which needs gpytorch.
    ard : bool, default=False
        Free one ``input_scale`` of the kernel for every feature.
    optimizer : "fmin_l_bfgs_b", callable or None, default="fmin_l_bfgs_b"
        As in scikit-learn; None keeps all hyperparameters, and then nothing may be "estimate".
    n_restarts_optimizer : int, default=0
        Climbs from random points besides the first.
    normalize_y : bool, default=False
        Centre and scale the targets; the prior mean is then their mean, else zero.
    noise_variance_bounds, amplitude_bounds : pair of float
        Bounds relative to the mean square of the (normalized) targets, dimensionless.
    prior_df_bounds : pair of float, default=(2.1, 1000.0)
        Bounds of the degrees of freedom.
    max_evaluations : int, default=100
        Evaluations of the evidence in one climb.
    batch_size : int, default=256
        Rows of a minibatch of the stochastic evidence.
    max_epochs : int, default=50
        Passes of the stochastic evidence over the rows.
    learning_rate : float, default=0.05
        Step of the logarithms in the stochastic evidence.
    solver : {"auto", "cholesky", "eigh"} or Solver, default="auto"
        See :func:`sknk.solvers.resolve_solver`; a `training_time` takes an eigendecomposition.
    random_state : int, RandomState or None, default=None
        Seed of restarts, minibatches and inducing rows.
    verbose : int, default=0
        1 shows the evaluations on stderr.
    device : str or None, default=None
        "auto", a torch device, or None for what is configured (the CPU).
    dtype : {"float32", "float64"} or None, default=None
        None computes in float64 whatever the input.

    Attributes
    ----------
    kernel_ : kernel
        With its estimated hyperparameters; without the amplitude.
    amplitude_, noise_variance_ : float or ndarray
        Units of y squared: a number, (t,) for several outputs, (n,) where `noise_variance` was.
    prior_df_ : float
        Degrees of freedom of a Student prior; infinite for a Gaussian one.
    theta_ : ndarray of shape (p,)
        Logarithms of all free hyperparameters, named in ``hyperparameter_names_``.
    hyperparameter_names_ : list of str
        Names of the entries of ``theta_``.
    log_marginal_likelihood_value_ : float
        Evidence of the targets, in nats of y; a lower bound where `rank` is given.
    dual_coef_ : ndarray of shape (n,) or (n, t)
        Exact models: prediction = ``kernel_(X, X_fit_) @ dual_coef_`` + prior mean.
    inducing_rows_ : ndarray of shape (rank, d)
        Models with `rank`.
    X_fit_, y_fit_ : ndarray
        Training rows and targets.
    solver_ : Solver or str
        What was used: a solver, "sgpr" or "svgp".
    n_features_in_ : int
        Features seen in ``fit``.
    feature_names_in_ : ndarray of str
        Their names, where the rows had names.

    See Also
    --------
    NTKRidge : The mean alone, with intervals free of the model's assumptions.

    Notes
    -----
    Sample weights count copies, also in the evidence. Rows equal in x and y (and in noise variance,
    where each has its own) are merged, so ``WhiteKernel`` draws one noise for all copies.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sknk import NTKGaussianProcessRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = make_pipeline(StandardScaler(), NTKGaussianProcessRegressor(normalize_y=True))
    >>> mean, std = model.fit(X[:300], y[:300]).predict(X[300:], return_std=True)
    >>> mean.shape, bool((std > 0).all())
    ((142,), True)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "kernel": [None, SklearnKernel],
        "noise_variance": [StrOptions({"estimate"}), _POSITIVE, "array-like"],
        "amplitude": [StrOptions({"estimate"}), _POSITIVE],
        "posterior": [StrOptions({"ntkgp", "nngp", "ensemble"})],
        "training_time": [None, _POSITIVE],
        "prior": [StrOptions({"gaussian", "student"})],
        "prior_df": [StrOptions({"estimate"}), _POSITIVE],
        "evidence": [StrOptions({"exact", "stochastic"})],
        "rank": [None, Interval(Integral, 1, None, closed="left")],
        "ard": ["boolean"],
        "optimizer": [StrOptions({"fmin_l_bfgs_b"}), callable, None],
        "n_restarts_optimizer": [Interval(Integral, 0, None, closed="left")],
        "normalize_y": ["boolean"],
        "noise_variance_bounds": [tuple, list, np.ndarray],
        "amplitude_bounds": [tuple, list, np.ndarray],
        "prior_df_bounds": [tuple, list, np.ndarray],
        "max_evaluations": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [_POSITIVE],
        "solver": [StrOptions({"auto", "cholesky", "eigh"}), Solver],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
        **PLACE_CONSTRAINTS,
    }

    def __init__(
        self,
        kernel: Any = None,
        *,
        noise_variance: Any = "estimate",
        amplitude: Any = "estimate",
        posterior: str = "ntkgp",
        training_time: float | None = None,
        prior: str = "gaussian",
        prior_df: Any = "estimate",
        evidence: str = "exact",
        rank: int | None = None,
        ard: bool = False,
        optimizer: str | Callable[..., Any] | None = "fmin_l_bfgs_b",
        n_restarts_optimizer: int = 0,
        normalize_y: bool = False,
        noise_variance_bounds: Any = (1e-6, 1e1),
        amplitude_bounds: Any = (1e-4, 1e4),
        prior_df_bounds: Any = (2.1, 1e3),
        max_evaluations: int = 100,
        batch_size: int = 256,
        max_epochs: int = 50,
        learning_rate: float = 0.05,
        solver: str | Solver = "auto",
        random_state: Any = None,
        verbose: int = 0,
        device: str | None = None,
        dtype: str | None = None,
    ) -> None:
        self.kernel = kernel
        self.noise_variance = noise_variance
        self.amplitude = amplitude
        self.posterior = posterior
        self.training_time = training_time
        self.prior = prior
        self.prior_df = prior_df
        self.evidence = evidence
        self.rank = rank
        self.ard = ard
        self.optimizer = optimizer
        self.n_restarts_optimizer = n_restarts_optimizer
        self.normalize_y = normalize_y
        self.noise_variance_bounds = noise_variance_bounds
        self.amplitude_bounds = amplitude_bounds
        self.prior_df_bounds = prior_df_bounds
        self.max_evaluations = max_evaluations
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.learning_rate = learning_rate
        self.solver = solver
        self.random_state = random_state
        self.verbose = verbose
        self.device = device
        self.dtype = dtype

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Estimate the hyperparameters and condition on the rows.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Rows.
        y : array-like of shape (n,) or (n, t)
            Targets; outputs share kernel and hyperparameters.
        sample_weight : float or array-like of shape (n,), default=None
            Copies of each row, dimensionless, not necessarily whole.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For rows, targets, weights or noise variances that are not valid, for parameters that
            exclude each other, or an evidence that is not finite.
        TypeError
            If the kernel has not what `posterior` needs.
        NotPSDError
            If a K + noise is not positive definite.
        MemoryBudgetError
            If the Gram matrix does not fit.
        """
        with unchanged_on_error(self), self._context(X), torch.no_grad():
            check_conflicts(self)
            X, y = self._checked_rows(X, y)
            kernel = self._training_kernel(X)
            self._fit(kernel, X, y.astype(np.float64), sample_weight)
        return self

    def _fit(self, kernel: Kernel, X: np.ndarray, y: np.ndarray, sample_weight: Any) -> None:
        Y = y[:, None] if y.ndim == 1 else y
        weights = check_weights(sample_weight, X)
        warn_unscaled(X)
        targets = Targets.of(Y, weights, normalize=self.normalize_y)
        self._y_mean, self._y_scale = targets.mean, targets.scale
        self._given = self._own_variances(len(X))
        training, scaled, own = self._merged(X, Y, weights, self._given)
        data = Observations.of(training, scaled, own)
        start = start_of(self, kernel, data, targets)
        if self.rank is None:
            self.solver_ = self._chosen_solver(scaled)
            found: Any = exact_model(self, start, training, scaled, own, self.solver_)
        else:
            self.solver_ = "svgp" if self.evidence == "stochastic" else "sgpr"
            found = sparse_model(self, start, training, scaled, own)
        self.log_marginal_likelihood_value_ = found[1] - self._unit_nats(data.n)
        self._store(found[0], X, y)

    def _chosen_solver(self, Y: np.ndarray) -> Solver:
        """Return what `solver` stands for; gradient flow needs eigenvectors."""
        if self.training_time is not None and self.solver == "auto":
            return Eigh()
        return resolve_solver(self.solver, len(Y), Y.shape[1], compute_dtype())

    def partial_fit(
        self, X: Any, y: Any, sample_weight: Any = None, noise_variance: Any = None
    ) -> Self:
        """Append rows to a fitted model; hyperparameters stay as they are.

        O(n^2 m) for m new rows of an exact model, O(m rank^2) of a sparse one. The first call is
        :meth:`fit`.

        Parameters
        ----------
        X : array-like of shape (m, d)
            New rows.
        y : array-like of shape (m,) or (m, t)
            Their targets.
        sample_weight : float or array-like of shape (m,), default=None
            Copies of each row.
        noise_variance : array-like of shape (m,), default=None
            Of the new rows, where the model was fitted with one per row.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For rows or targets that do not fit the model's.
        """
        if not hasattr(self, "_model"):
            if noise_variance is not None:
                raise ValueError(
                    "`noise_variance` of rows is given to the first `partial_fit`, which is `fit`; "
                    "expected None. Pass it to the constructor."
                )
            return self.fit(X, y, sample_weight)
        with unchanged_on_error(self), self._context(X), torch.no_grad():
            X, y = self._checked_rows(X, y, reset=False)
            y = y.astype(np.float64)
            if y.shape[1:] != self.y_fit_.shape[1:]:
                raise ValueError(
                    f"`y` has shape {y.shape}; expected ({len(X)}, *{self.y_fit_.shape[1:]}), the "
                    "outputs seen in `fit`."
                )
            Y = y[:, None] if y.ndim == 1 else y
            given = self._new_variances(noise_variance, len(X))
            merged = self._merged(X, Y, check_weights(sample_weight, X), given)
            self._model = self._model.append(*merged)
            X, y = np.vstack([self.X_fit_, X]), np.concatenate([self.y_fit_, y])
            if given is not None and self._given is not None:
                self._given = np.append(self._given, given)
            self._store(self._model, X, y)
            self.log_marginal_likelihood_value_ = self._model.evidence() - self._unit_nats(self._n)
        return self
