"""Where a search for hyperparameters starts, and in which order it spends its evaluations."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from sklearn.base import clone
from sklearn.utils import check_random_state
from torch import Tensor

from sknk.gaussian_process._hyperparameters import Hyperparameters, Score, maximize
from sknk.kernels import NTK
from sknk.kernels._base import Kernel

__all__ = ["search", "subset_of", "training_kernel", "with_feature_scales"]

# The climb begins on some of the rows, at a fraction of the cost, where there are this many.
_FEW_ROWS = 300
# Nats a row whose gain ends a climb: nobody can tell models so close apart.
_ENOUGH = 1e-4
# Of the second climb: what the curvature of the first says, within reason.
_UNITS = (0.02, 1.0)
_SCALE_BOUNDS = (1e-3, 1e2)

Objective = Callable[[Hyperparameters], Score]


def training_kernel(model: Any, n_features: int) -> Kernel:
    """Return the kernel whose hyperparameters a model estimates; None is NTK with biases."""
    kernel = NTK(bias_var=0.1) if model.kernel is None else model._checked_kernel()
    return with_feature_scales(kernel, n_features) if model.ard else kernel


def with_feature_scales(kernel: Kernel, n_features: int) -> Kernel:
    """Return a copy whose input scales are free, one for each feature (ARD).

    Parameters
    ----------
    kernel : Kernel
        With a parameter ``input_scale`` somewhere.
    n_features : int
        Scales of one number are repeated that often.

    Returns
    -------
    Kernel

    Raises
    ------
    ValueError
        If the kernel has no ``input_scale``.
    """
    params = kernel.get_params(deep=True)
    names = [name for name in params if name.split("__")[-1] == "input_scale"]
    if not names:
        raise ValueError(
            f"`ard` is True, but {kernel!r} has no `input_scale` to free. Use NTK or NNGP, or free "
            "per-feature parameters of the kernel itself."
        )
    changes: dict[str, Any] = {}
    for name in names:
        bounds = params[f"{name}_bounds"]
        changes[name] = np.broadcast_to(np.asarray(params[name], dtype=float), n_features).copy()
        changes[f"{name}_bounds"] = _SCALE_BOUNDS if isinstance(bounds, str) else bounds
    return clone(kernel).set_params(**changes)


def subset_of(n: int) -> np.ndarray | None:
    """Return evenly spaced rows for the first part of a climb, None where all are few."""
    size = max(_FEW_ROWS, n // 5)
    return None if 2 * size > n else np.linspace(0, n - 1, size).astype(int)


class Rows(Protocol):
    """Training rows, some of which can be taken."""

    @property
    def X(self) -> Tensor:
        """Rows (n, d)."""

    def take(self, rows: np.ndarray) -> Any:
        """Return some of the rows, as if they were all."""


def search(
    objective: Callable[[Any], Objective],
    observations: Rows,
    start: Hyperparameters,
    *,
    optimizer: str | Callable[..., Any],
    max_evaluations: int,
    n_restarts: int,
    random_state: Any,
    verbose: int,
    cheap: Callable[[Hyperparameters], Hyperparameters] | None = None,
) -> tuple[Hyperparameters, float]:
    """Climb from the start and from random points on some rows, then from the best on all rows.

    Parameters
    ----------
    objective : callable
        Rows -> score of hyperparameters.
    observations : Rows
    start : Hyperparameters
    optimizer : "fmin_l_bfgs_b" or callable
    max_evaluations : int
        Of each climb.
    n_restarts : int
        Random starts, log-uniform within the bounds.
    random_state : int, RandomState or None
    verbose : int
    cheap : callable, optional
        Hyperparameters -> the same with those hidden that make a score on all rows expensive;
        the others are climbed first.

    Returns
    -------
    best : Hyperparameters
    value : float
        Score on all rows.

    Raises
    ------
    ValueError
        If a bound is infinite where random starts are wanted, or a score is not finite.
    """
    options: Mapping[str, Any] = {
        "optimizer": optimizer,
        "max_evaluations": max_evaluations,
        "verbose": verbose,
    }
    n = len(observations.X)
    rows = subset_of(n)
    score = objective(observations)
    first = score if rows is None else objective(observations.take(rows))
    begins = [start, *_random_starts(start, n_restarts, random_state)]
    few = n if rows is None else len(rows)
    climbs = [maximize(first, begin, enough=_ENOUGH * few, **options) for begin in begins]
    best = max(climbs, key=lambda climb: climb.value)
    if rows is not None:
        units, here = np.clip(best.spread, *_UNITS), best.best
        options = {**options, "enough": _ENOUGH * n}
        if cheap is not None and here.kernel.n_dims:
            scalars = maximize(objective(observations), cheap(here), **options).best.scalars
            here = replace(here, scalars=scalars)
        best = maximize(score, here, units=units, **options)
    return best.best, best.value


def _random_starts(start: Hyperparameters, count: int, random_state: Any) -> list[Hyperparameters]:
    bounds = start.bounds
    if not count or not len(bounds):
        return []
    if not np.isfinite(bounds).all():
        bad = [n for n, b in zip(start.names, bounds, strict=True) if not np.isfinite(b).all()]
        raise ValueError(
            f"`n_restarts_optimizer` is {count}, but the bounds of {bad} are not finite; expected "
            "finite bounds to draw starts from."
        )
    rng = np.random.default_rng() if random_state is None else check_random_state(random_state)
    return [start.at(rng.uniform(bounds[:, 0], bounds[:, 1])) for _ in range(count)]
