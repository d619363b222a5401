"""From a regressor's parameters and data to a trained model."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.utils import check_random_state

from sknk._array import to_numpy
from sknk._training import TrainingSet
from sknk.gaussian_process._bounds import SparseEvidence, ascend
from sknk.gaussian_process._evidence import ExactEvidence, Observations
from sknk.gaussian_process._hyperparameters import Hyperparameters, Scalar
from sknk.gaussian_process._model import ExactModel, SparseModel
from sknk.gaussian_process._search import search
from sknk.kernels._base import Kernel
from sknk.solvers import Cholesky, KernelGram, Solver, pivoted_cholesky

__all__ = ["Targets", "check_conflicts", "exact_model", "sparse_model", "start_of"]

# Share of the targets' mean square that is taken for noise where a search starts.
_NOISE_SHARE = 0.1


@dataclass(frozen=True)
class Targets:
    """Targets in the units of the model.

    Attributes
    ----------
    mean, scale : ndarray of shape (t,)
        y = mean + scale times the model's targets.
    square : float
        Mean square of the model's targets, 1 where all are zero.
    """

    mean: np.ndarray
    scale: np.ndarray
    square: float

    @classmethod
    def of(cls, Y: np.ndarray, weights: np.ndarray | None, *, normalize: bool) -> "Targets":
        """Measure targets (n, t); weights count as copies."""
        mean, scale = np.zeros(Y.shape[1]), np.ones(Y.shape[1])
        if normalize:
            mean = np.average(Y, axis=0, weights=weights)
            scale = np.sqrt(np.average((Y - mean) ** 2, axis=0, weights=weights))
            scale = np.where(scale > 0, scale, 1.0)
        square = float(np.average(((Y - mean) / scale) ** 2, axis=0, weights=weights).mean())
        return cls(mean, scale, square or 1.0)

    def inward(self, Y: np.ndarray) -> np.ndarray:
        """Return targets in the model's units."""
        return (Y - self.mean) / self.scale


def _check_bounds(name: str, pair: Any) -> None:
    found = np.asarray(pair, dtype=np.float64)
    if found.shape != (2,) or not 0 < found[0] <= found[1]:
        raise ValueError(
            f"`{name}` is {pair!r}; expected a pair of positive numbers, lower and upper."
        )


def check_conflicts(model: Any) -> None:
    """Refuse combinations of parameters that have no meaning.

    Raises
    ------
    ValueError
        Naming both parameters and what to change.
    """
    flowing = model.training_time is not None
    student, ensemble = model.prior == "student", model.posterior == "ensemble"
    stochastic, sparse = model.evidence == "stochastic", model.rank is not None
    conflicts = {
        "prior='student' and posterior='ensemble'": (
            student and ensemble,
            "an ensemble of trained networks has no prior scale; use posterior='ntkgp' or 'nngp'",
        ),
        "prior='student' and `training_time`": (
            student and flowing,
            "networks that stop early are not conditioned on their data; use training_time=None",
        ),
        "prior='student' and `rank`": (
            student and sparse,
            "the bound by inducing rows is Gaussian; use prior='gaussian' or rank=None",
        ),
        "prior='student' and evidence='stochastic'": (
            student and stochastic,
            "the minibatch bound is Gaussian; use evidence='exact'",
        ),
        "posterior='ensemble' and `rank`": (
            ensemble and sparse,
            "trained networks depend on all rows; use rank=None",
        ),
        "`training_time` and solver='cholesky'": (
            flowing and (model.solver == "cholesky" or isinstance(model.solver, Cholesky)),
            "gradient flow needs eigenvectors; use solver='eigh'",
        ),
        "`training_time` and `rank`": (
            flowing and sparse,
            "gradient flow needs the spectrum of the whole Gram matrix; use rank=None",
        ),
    }
    for what, (wrong, why) in conflicts.items():
        if wrong:
            raise ValueError(f"{what} exclude each other: {why}.")
    for name in ("amplitude", "noise_variance", *(["prior_df"] if student else [])):
        _check_bounds(f"{name}_bounds", getattr(model, f"{name}_bounds"))
        if model.optimizer is None and isinstance(getattr(model, name), str):
            raise ValueError(
                f"`{name}` is 'estimate' but `optimizer` is None; expected a number. Pass, say, "
                f"{name}=1.0, or optimizer='fmin_l_bfgs_b'."
            )


def start_of(model: Any, kernel: Kernel, data: Observations, targets: Targets) -> Hyperparameters:
    """Return the hyperparameters from which a search starts.

    Returns
    -------
    Hyperparameters

    Raises
    ------
    ValueError
        If a number in units of y squared cannot be the same for outputs of different scales.
    """
    diagonal = float(kernel.diag(data.X).mean())
    square = targets.square
    scalars = {
        "amplitude": _scalar(model, "amplitude", targets, square / (diagonal or 1.0)),
        "noise_variance": _scalar(model, "noise_variance", targets, _NOISE_SHARE * square),
    }
    if model.prior == "student":
        given = model.prior_df
        known = Scalar(given) if not isinstance(given, str) else Scalar(10.0, model.prior_df_bounds)
        scalars["prior_df"] = known
    return Hyperparameters(kernel, scalars)


def _scalar(model: Any, name: str, targets: Targets, start: float) -> Scalar:
    """Return a number in the model's units: what was given, or a start with its bounds."""
    given = getattr(model, name)
    if isinstance(given, str):
        low, high = getattr(model, f"{name}_bounds")
        scale = targets.square
        return Scalar(float(np.clip(start, low * scale, high * scale)), (low * scale, high * scale))
    units = targets.scale**2
    if np.ptp(units) > 1e-12 * units.max():
        raise ValueError(
            f"`{name}` is {given!r} for {len(units)} outputs whose scales differ, which "
            f"`normalize_y` divides by; pass {name}='estimate' or normalize_y=False."
        )
    if np.ndim(given):
        return Scalar(1.0)  # the variances themselves are in the observations
    return Scalar(float(given) / float(units[0]))


def exact_model(
    model: Any,
    start: Hyperparameters,
    training: TrainingSet,
    Y: np.ndarray,
    own: Any,
    solver: Solver,
) -> tuple[ExactModel, float]:
    """Choose hyperparameters by the evidence and condition on all rows.

    Returns
    -------
    model : ExactModel
    evidence : float
        Of the model's targets.
    """
    data = Observations.of(training, Y, own)
    # The evidence does not flow: no eigendecomposition for each of its evaluations.
    climber = solver if model.training_time is None else Cholesky()
    best = start
    if model.optimizer is not None and len(start.theta):
        if model.evidence == "stochastic":
            best, _ = ascend(
                data,
                start,
                climber,
                batch_size=model.batch_size,
                max_epochs=model.max_epochs,
                learning_rate=model.learning_rate,
                generator=generator_of(model.random_state),
                verbose=model.verbose,
            )
        else:
            best, _ = _search(model, lambda some: ExactEvidence(some, climber), data, start)
    ensemble = model.posterior == "ensemble"
    found = ExactModel(best, training, Y, own, solver, ensemble, model.training_time)
    return found, found.evidence()


def sparse_model(
    model: Any, start: Hyperparameters, training: TrainingSet, Y: np.ndarray, own: Any
) -> tuple[SparseModel, float]:
    """Choose hyperparameters by a bound of the evidence and condition through inducing rows.

    Returns
    -------
    model : SparseModel
    bound : float
        Of the evidence of the model's targets.
    """
    data = Observations.of(training, Y, own)
    rank = min(model.rank, len(data.X))
    pivots, _ = pivoted_cholesky(
        KernelGram(start.kernel, data.X), rank, generator=generator_of(model.random_state)
    )
    Z = data.X[pivots.to(data.X.device)]
    if model.evidence == "stochastic":
        return _variational_model(model, start, training, Y, own, to_numpy(Z))
    best = start
    if model.optimizer is not None and len(start.theta):
        best, value = _search(model, lambda some: SparseEvidence(some, Z), data, start)
    else:
        value = SparseEvidence(data, Z)(best, gradient=False).value
    return SparseModel.fit(best, training, Y, own, to_numpy(Z)), value


def _variational_model(
    model: Any,
    start: Hyperparameters,
    training: TrainingSet,
    Y: np.ndarray,
    own: Any,
    Z: np.ndarray,
) -> tuple[SparseModel, float]:
    from sknk.gaussian_process._optional import require_gpytorch

    require_gpytorch("`rank` with evidence='stochastic'")
    from sknk.gaussian_process._variational import fit_regression

    if own is not None:
        raise ValueError(
            "`noise_variance` is an array, which the variational model of `rank` with "
            "evidence='stochastic' does not take; use evidence='exact'."
        )
    scalars = start.scalars
    learn = {name for name, s in scalars.items() if s.bounds and model.optimizer is not None}
    bounds: dict[str, Any] = {
        f"{name.split('_')[0]}_bounds": s.bounds for name, s in scalars.items() if s.bounds
    }
    with torch.enable_grad():
        fit = fit_regression(
            start.kernel,
            training.rows[training.first],
            Y,
            training.weights,
            Z=Z,
            amplitude=start["amplitude"],
            noise_variance=start["noise_variance"],
            learn_amplitude="amplitude" in learn,
            learn_noise="noise_variance" in learn,
            learn_kernel=model.optimizer is not None,
            learn_inducing=model.optimizer is not None,
            **bounds,
            batch_size=model.batch_size,
            max_epochs=model.max_epochs,
            learning_rate=model.learning_rate,
            random_state=model.random_state,
            verbose=model.verbose,
        )
    noise = start["noise_variance"] if fit.noise_variance is None else fit.noise_variance
    best = Hyperparameters(
        fit.kernel,
        {
            "amplitude": scalars["amplitude"]._replace(value=fit.amplitude),
            "noise_variance": scalars["noise_variance"]._replace(value=noise),
        },
    )
    return SparseModel.variational(best, training, Y, fit), fit.history[-1]


def _search(
    model: Any, objective: Any, data: Observations, start: Hyperparameters
) -> tuple[Hyperparameters, float]:
    kind: Any = objective
    return search(
        kind,
        data,
        start,
        optimizer=model.optimizer,
        max_evaluations=model.max_evaluations,
        n_restarts=model.n_restarts_optimizer,
        random_state=model.random_state,
        verbose=model.verbose,
        cheap=Hyperparameters.with_fixed_kernel,
    )


def generator_of(random_state: Any) -> torch.Generator:
    """Return a private generator on the CPU, seeded as scikit-learn would."""
    generator = torch.Generator()
    if random_state is None:
        generator.seed()  # the operating system's, not the global generator's
        return generator
    return generator.manual_seed(int(check_random_state(random_state).randint(2**31 - 1)))
