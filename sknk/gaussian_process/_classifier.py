"""Gaussian process classification with tangent kernels."""

from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.base import ClassifierMixin
from sklearn.gaussian_process.kernels import Kernel as SklearnKernel
from sklearn.preprocessing import LabelEncoder
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from sknk._estimator import PLACE_CONSTRAINTS, KernelEstimator, public_kernel, unchanged_on_error
from sknk._training import merge_rows
from sknk._validation import (
    Interval,
    StrOptions,
    check_class_weights,
    fit_context,
    warn_unscaled,
)
from sknk.gaussian_process._class_predictions import ClassPredictionMixin
from sknk.gaussian_process._classification import DirichletModel
from sknk.gaussian_process._classifying import (
    check_conflicts,
    evidence_of,
    start_of,
    train,
)
from sknk.gaussian_process._densities import Gaussian, Student
from sknk.gaussian_process._search import training_kernel

__all__ = ["NTKGaussianProcessClassifier"]

_POSITIVE = Interval(Real, 0, None, closed="neither")


class NTKGaussianProcessClassifier(ClassPredictionMixin, ClassifierMixin, KernelEstimator):
    r"""Gaussian process classification with tangent kernels, for two classes or more at once.

    Every class c has a latent function :math:`f_c \sim GP(0, a K)`, and

    .. math:: p(y = c | x) = E\,\operatorname{softmax}(f(x))_c .

    "dirichlet" regresses the logarithms of Dirichlet parameters, a closed form (Milios et al.
    2018); "laplace" approximates the posterior of all classes jointly around its mode (Rasmussen
    and Williams 2006, section 3.5, with the determinant that algorithm 3.3 leaves out);
    "variational" fits inducing rows in minibatches (Hensman et al. 2015). O(C n^3) time, about C
    n x n buffers; "variational" O(n rank^2).

    Parameters
    ----------
    kernel : None or kernel, default=None
        An sknk kernel or one of ``sklearn.gaussian_process.kernels``, shared by the classes; None
        is ``NTK(bias_var=0.1)``. Its free hyperparameters are estimated.
    inference : {"dirichlet", "laplace", "variational"}, default="dirichlet"
        How the posterior is approximated; "variational" needs gpytorch.
    amplitude : "estimate" or float, default="estimate"
        Prior variance of the latent functions where the kernel is 1, dimensionless.
    alpha_eps : "estimate" or float, default="estimate"
        Dirichlet parameter of the classes a row does not have, dimensionless: how sure a label is.
    prior : {"gaussian", "student"}, default="gaussian"
        "student" mixes over the scale of each class's latent function and noise ("dirichlet" only).
    prior_df : float, default=4.0
        Degrees of freedom of a Student prior.
    ard : bool, default=False
        Free one ``input_scale`` of the kernel for every feature.
    rank : int, default=256
        Inducing rows of "variational".
    optimizer : "fmin_l_bfgs_b", callable or None, default="fmin_l_bfgs_b"
        As in scikit-learn. It climbs Laplace's evidence, or the leave-one-out log probability of
        the true classes for "dirichlet"; "variational" climbs its bound by Adam. None keeps all
        hyperparameters, and then nothing may be "estimate".
    n_restarts_optimizer : int, default=0
        Climbs from random points besides the first.
    amplitude_bounds : pair of float, default=(0.01, 10000.0)
        Bounds of the amplitude.
    alpha_eps_bounds : pair of float, default=(1e-06, 0.5)
        Bounds of `alpha_eps`.
    class_weight : None, "balanced" or dict, default=None
        Weights of classes, as in scikit-learn; they multiply `sample_weight`.
    max_evaluations : int, default=100
        Evaluations of the score in one climb.
    batch_size, max_epochs : int, default=256, 100
        Of "variational".
    learning_rate : float, default=0.05
        Of "variational".
    random_state : int, RandomState or None, default=None
        Seed of restarts, minibatches and inducing rows.
    verbose : int, default=0
        1 shows progress on stderr.
    device : str or None, default=None
        "auto", a torch device, or None for what is configured (the CPU).
    dtype : {"float32", "float64"} or None, default=None
        None computes in float64 whatever the input.

    Attributes
    ----------
    classes_ : ndarray of shape (C,)
        Labels, sorted.
    kernel_ : kernel
        With its estimated hyperparameters; without the amplitude.
    amplitude_, alpha_eps_ : float
        As estimated; `alpha_eps_` for "dirichlet".
    theta_ : ndarray of shape (p,)
        Logarithms of all free hyperparameters, named in ``hyperparameter_names_``.
    hyperparameter_names_ : list of str
        Names of the entries of ``theta_``.
    log_marginal_likelihood_value_ : float
        Nats: Laplace's evidence, the variational bound, or the density of the transformed targets.
    loo_score_ : float
        "dirichlet": leave-one-out log probability of the true classes, nats.
    dual_coef_ : ndarray of shape (n, C)
        Latent mean = ``amplitude_ * kernel_(X, X_fit_) @ dual_coef_``; not for "variational".
    X_fit_, y_fit_ : ndarray
        Training rows and labels.
    n_features_in_ : int
        Features seen in ``fit``.
    feature_names_in_ : ndarray of str
        Their names, where the rows had names.

    See Also
    --------
    NTKRidgeClassifierCV : Faster still; probabilities without a law of the latent function.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sknk import NTKGaussianProcessClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> model = NTKGaussianProcessClassifier().fit(X, y)
    >>> model.predict_proba(X[:2]).shape
    (2, 3)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "kernel": [None, SklearnKernel],
        "inference": [StrOptions({"dirichlet", "laplace", "variational"})],
        "amplitude": [StrOptions({"estimate"}), _POSITIVE],
        "alpha_eps": [StrOptions({"estimate"}), _POSITIVE],
        "prior": [StrOptions({"gaussian", "student"})],
        "prior_df": [_POSITIVE],
        "ard": ["boolean"],
        "rank": [Interval(Integral, 1, None, closed="left")],
        "optimizer": [StrOptions({"fmin_l_bfgs_b"}), callable, None],
        "n_restarts_optimizer": [Interval(Integral, 0, None, closed="left")],
        "amplitude_bounds": [tuple, list, np.ndarray],
        "alpha_eps_bounds": [tuple, list, np.ndarray],
        "class_weight": [None, dict, StrOptions({"balanced"})],
        "max_evaluations": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [_POSITIVE],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
        **PLACE_CONSTRAINTS,
    }

    def __init__(
        self,
        kernel: Any = None,
        *,
        inference: str = "dirichlet",
        amplitude: Any = "estimate",
        alpha_eps: Any = "estimate",
        prior: str = "gaussian",
        prior_df: float = 4.0,
        ard: bool = False,
        rank: int = 256,
        optimizer: str | Callable[..., Any] | None = "fmin_l_bfgs_b",
        n_restarts_optimizer: int = 0,
        amplitude_bounds: Any = (1e-2, 1e4),
        alpha_eps_bounds: Any = (1e-6, 0.5),
        class_weight: Any = None,
        max_evaluations: int = 100,
        batch_size: int = 256,
        max_epochs: int = 100,
        learning_rate: float = 0.05,
        random_state: Any = None,
        verbose: int = 0,
        device: str | None = None,
        dtype: str | None = None,
    ) -> None:
        self.kernel = kernel
        self.inference = inference
        self.amplitude = amplitude
        self.alpha_eps = alpha_eps
        self.prior = prior
        self.prior_df = prior_df
        self.ard = ard
        self.rank = rank
        self.optimizer = optimizer
        self.n_restarts_optimizer = n_restarts_optimizer
        self.amplitude_bounds = amplitude_bounds
        self.alpha_eps_bounds = alpha_eps_bounds
        self.class_weight = class_weight
        self.max_evaluations = max_evaluations
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.learning_rate = learning_rate
        self.random_state = random_state
        self.verbose = verbose
        self.device = device
        self.dtype = dtype

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Estimate the hyperparameters and approximate the posterior.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Rows.
        y : array-like of shape (n,)
            Labels.
        sample_weight : float or array-like of shape (n,), default=None
            Copies of each row, dimensionless, not necessarily whole.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For one class, rows or weights that are not valid, parameters that exclude each other,
            or a score that is not finite.
        ImportError
            If "variational" finds no gpytorch.
        NotPSDError
            If a factorization fails.
        MemoryBudgetError
            If the Gram matrix does not fit.
        """
        with unchanged_on_error(self), self._context(X), torch.no_grad():
            check_conflicts(self)
            X, y = self._checked_rows(X, y)
            check_classification_targets(y)
            y = column_or_1d(y, warn=True)
            encoder = LabelEncoder().fit(y)
            if len(encoder.classes_) < 2:
                raise ValueError(
                    f"`y` has one class ({encoder.classes_.tolist()[0]!r}); a classifier needs at "
                    "least two classes."
                )
            weights = check_class_weights(self.class_weight, y, sample_weight, X)
            warn_unscaled(X)
            numbers = encoder.transform(y).astype(np.float64)[:, None]
            training = merge_rows(X, numbers, weights, precomputed=False)
            self.classes_ = encoder.classes_
            start = start_of(self, training_kernel(self, X.shape[1]), len(self.classes_))
            model, value = train(self, start, training, len(self.classes_))
            self._store(model, value, X, y)
        return self

    def _store(self, model: Any, value: float, X: np.ndarray, y: np.ndarray) -> None:
        """Set the fitted attributes, all NumPy."""
        hyper = model.hyper
        self._model, self.X_fit_, self.y_fit_ = model, X, y
        self.kernel_ = public_kernel(hyper.kernel)
        self.amplitude_ = hyper["amplitude"]
        self.theta_, self.hyperparameter_names_ = hyper.theta, hyper.names
        self.log_marginal_likelihood_value_ = value
        n = float(model.training.copies.sum())
        law = Student(self.prior_df) if self.prior == "student" else Gaussian()
        self._df, self._gain = law.df(n), np.ones(len(self.classes_))
        if hasattr(model, "dual"):
            self.dual_coef_ = model.training.spread(model.dual())
        if isinstance(model, DirichletModel):
            self.alpha_eps_ = hyper["alpha_eps"]
            self.loo_score_ = model.loo_score()
            self._gain = law.factor(model.quad(), n)

    def log_marginal_likelihood(
        self, theta: Any = None, eval_gradient: bool = False, clone_kernel: bool = True
    ) -> Any:
        """Return the evidence of the training labels, at the fitted or at other hyperparameters.

        "laplace": Laplace's approximation. "dirichlet": the density of the transformed targets,
        which compares kernels and amplitudes, but no values of `alpha_eps`.

        Parameters
        ----------
        theta : array-like of shape (p,), default=None
            Logarithms of the hyperparameters, in the order of ``hyperparameter_names_``; None is
            ``theta_``.
        eval_gradient : bool, default=False
            Also return the gradient with respect to theta.
        clone_kernel : bool, default=True
            For compatibility with scikit-learn; the kernel is never changed.

        Returns
        -------
        log_likelihood : float
            Nats.
        gradient : ndarray of shape (p,)
            If `eval_gradient`.

        Raises
        ------
        NotImplementedError
            For "variational", whose bound belongs to its trained posterior.
        """
        check_is_fitted(self)
        if theta is None and not eval_gradient:
            return self.log_marginal_likelihood_value_
        hyper = self._model.hyper if theta is None else self._model.hyper.at(theta)
        with self._context(None), torch.no_grad():
            score = evidence_of(self._model, hyper, "evidence", gradient=eval_gradient)
        return (score.value, hyper.flatten(score)) if eval_gradient else score.value

    def _numeric(self) -> bool:
        return False
