"""From a classifier's parameters and data to a trained model."""

from typing import Any

import numpy as np
import torch

from sknk._array import to_numpy
from sknk._training import TrainingSet
from sknk.gaussian_process._classification import (
    DirichletModel,
    LaplaceModel,
    VariationalModel,
    labelled,
)
from sknk.gaussian_process._dirichlet import Labelled, evidence_score, leave_one_out_score
from sknk.gaussian_process._hyperparameters import Hyperparameters, Scalar, Score
from sknk.gaussian_process._laplace import LaplaceScore
from sknk.gaussian_process._optional import require_gpytorch
from sknk.gaussian_process._regression import generator_of
from sknk.gaussian_process._search import search
from sknk.kernels._adapt import Foreign, as_kernel
from sknk.kernels._base import Kernel
from sknk.solvers import KernelGram, pivoted_cholesky

__all__ = ["check_conflicts", "evidence_of", "start_of", "train"]

# Where searches start: latent functions of a few logits, labels a hundred times surer than not.
_AMPLITUDE, _ALPHA_EPS = 4.0, 0.01


def check_conflicts(model: Any) -> None:
    """Refuse combinations of parameters that have no meaning.

    Raises
    ------
    ValueError
        Naming both parameters and what to change.
    """
    if model.prior == "student" and model.inference != "dirichlet":
        raise ValueError(
            f"prior='student' and inference={model.inference!r} exclude each other: only the "
            "closed form of inference='dirichlet' has a mixture over scales; use it, or "
            "prior='gaussian'."
        )
    if model.inference == "variational" and isinstance(as_kernel(model.kernel), Foreign):
        raise ValueError(
            f"inference='variational' moves inducing rows along gradients, which {model.kernel!r}, "
            "a scikit-learn kernel, does not have; use an sknk kernel, or inference='laplace'."
        )
    needed = ["amplitude", *(["alpha_eps"] if model.inference == "dirichlet" else [])]
    for name in needed:
        if model.optimizer is None and isinstance(getattr(model, name), str):
            raise ValueError(
                f"`{name}` is 'estimate' but `optimizer` is None; expected a number. Pass, say, "
                f"{name}={_AMPLITUDE if name == 'amplitude' else _ALPHA_EPS}, or "
                "optimizer='fmin_l_bfgs_b'."
            )


def start_of(model: Any, kernel: Kernel, n_classes: int) -> Hyperparameters:
    """Return the hyperparameters from which a search starts."""
    scalars = {"amplitude": _scalar(model, "amplitude", _AMPLITUDE)}
    if model.inference == "dirichlet":
        # Their targets differ by log(1/alpha_eps), squared.
        scalars["alpha_eps"] = _scalar(model, "alpha_eps", _ALPHA_EPS)
        scalars["amplitude"] = _scalar(model, "amplitude", 2.5 * _AMPLITUDE)
    return Hyperparameters(kernel, scalars)


def _scalar(model: Any, name: str, start: float) -> Scalar:
    given = getattr(model, name)
    if not isinstance(given, str):
        return Scalar(float(given))
    low, high = _bounds(model, name)
    return Scalar(float(np.clip(start, low, high)), (low, high))


def _bounds(model: Any, name: str) -> tuple[float, float]:
    given = getattr(model, f"{name}_bounds")
    try:
        low, high = (float(bound) for bound in given)
        valid = 0.0 < low <= high
    except (TypeError, ValueError):
        valid = False
    if not valid:
        raise ValueError(
            f"`{name}_bounds` is {given!r}; expected two positive numbers, the smaller first."
        )
    return low, high


class _DirichletScore:
    """A score of the transformed labels; without free kernel parameters K is computed once."""

    def __init__(self, data: Labelled, score: Any) -> None:
        self.data, self.score = data, score
        self._fixed: torch.Tensor | None = None

    def __call__(self, hyper: Hyperparameters, *, gradient: bool = True) -> Score:
        if hyper.kernel.n_dims or self._fixed is None:
            self._fixed = hyper.kernel(self.data.X)
        return self.score(self.data, hyper, self._fixed, gradient=gradient)


def evidence_of(model: Any, hyper: Hyperparameters, kind: str, *, gradient: bool) -> Score:
    """Return the score of a trained model's data at some hyperparameters.

    Parameters
    ----------
    model : DirichletModel or LaplaceModel
    hyper : Hyperparameters
    kind : {"evidence", "loo"}
        For "dirichlet": the density of the transformed targets, or the leave-one-out score.
    gradient : bool

    Returns
    -------
    Score

    Raises
    ------
    NotImplementedError
        For a variational model.
    """
    data = labelled(model.training, model.n_classes)
    if isinstance(model, LaplaceModel):
        return LaplaceScore(data)(hyper, gradient=gradient)
    if isinstance(model, DirichletModel):
        score = leave_one_out_score if kind == "loo" else evidence_score
        return _DirichletScore(data, score)(hyper, gradient=gradient)
    raise NotImplementedError(
        "`log_marginal_likelihood` of inference='variational' is known for the trained posterior "
        "only, as `log_marginal_likelihood_value_`; use inference='laplace'."
    )


def train(
    model: Any, start: Hyperparameters, training: TrainingSet, n_classes: int
) -> tuple[Any, float]:
    """Choose hyperparameters and approximate the posterior.

    Returns
    -------
    model : DirichletModel, LaplaceModel or VariationalModel
    value : float
        Evidence, or what stands for it.
    """
    if model.inference == "variational":
        return _variational(model, start, training, n_classes)
    data = labelled(training, n_classes)
    laplace = model.inference == "laplace"

    def objective(some: Labelled) -> Any:
        return LaplaceScore(some) if laplace else _DirichletScore(some, leave_one_out_score)

    best = start
    if model.optimizer is not None and len(start.theta):
        best, _ = search(
            objective,
            data,
            start,
            optimizer=model.optimizer,
            max_evaluations=model.max_evaluations,
            n_restarts=model.n_restarts_optimizer,
            random_state=model.random_state,
            verbose=model.verbose,
        )
    if laplace:
        score = LaplaceScore(data)
        value = score(best, gradient=False).value
        assert score.mode is not None
        dual = to_numpy(score.mode.dual).astype(np.float64)
        return LaplaceModel(best, training, n_classes, dual), value
    value = evidence_score(data, best, best.kernel(data.X), gradient=False).value
    return DirichletModel(best, training, n_classes), value


def _variational(
    model: Any, start: Hyperparameters, training: TrainingSet, n_classes: int
) -> tuple[VariationalModel, float]:
    require_gpytorch("inference='variational'")
    from sknk.gaussian_process._variational import fit_classification

    data = labelled(training, n_classes)
    # Draws belong to positions: in one order of the rows, whatever the order they came in.
    order = np.lexsort([*training.Y.T, *to_numpy(data.X).T])
    weights = None if training.weights is None else training.weights[order]
    data = data.take(order)
    gram = KernelGram(start.kernel, data.X)
    rank = min(model.rank, len(data.X))
    pivots, _ = pivoted_cholesky(gram, rank, generator=generator_of(model.random_state))
    learning = model.optimizer is not None
    free = start.scalars["amplitude"].bounds
    options: dict[str, Any] = {} if free is None else {"amplitude_bounds": free}
    with torch.enable_grad():
        fit = fit_classification(
            start.kernel,
            to_numpy(data.X),
            to_numpy(data.labels),
            n_classes,
            weights,
            Z=to_numpy(data.X[pivots.to(data.X.device)]),
            amplitude=start["amplitude"],
            learn_amplitude=learning and free is not None,
            learn_kernel=learning,
            learn_inducing=learning,
            batch_size=model.batch_size,
            max_epochs=model.max_epochs,
            learning_rate=model.learning_rate,
            random_state=model.random_state,
            verbose=model.verbose,
            **options,
        )
    amplitude = start.scalars["amplitude"]._replace(value=fit.amplitude)
    best = Hyperparameters(fit.kernel, {"amplitude": amplitude})
    found = VariationalModel(best, training, n_classes, fit.Z, fit.mean, fit.root, fit.jitter)
    return found, fit.history[-1]
