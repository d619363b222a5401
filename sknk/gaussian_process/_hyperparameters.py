"""The hyperparameters of a model as one vector of logarithms, and the ascent on a score."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self

import numpy as np
from scipy.optimize import minimize
from sklearn.base import clone
from tqdm import tqdm

from sknk.exceptions import NotPSDError
from sknk.kernels._adapt import Foreign
from sknk.kernels._base import Kernel

__all__ = ["Hyperparameters", "Scalar", "Score", "maximize"]

# A step to where no factorization exists is answered by a value this far below all others.
_WALL = 1e6
# A relative change of the score that ends a climb: 1e-3 nats at 100 nats.
_FTOL = 1e-5


class Scalar(NamedTuple):
    """A positive number and its bounds; None where it is fixed."""

    value: float
    bounds: tuple[float, float] | None = None


class Score(NamedTuple):
    """A score and its gradient with respect to logarithms.

    Attributes
    ----------
    value : float
        Larger is better.
    kernel : ndarray of shape (n_theta,) or None
        Gradient with respect to the kernel's ``theta``.
    scalars : dict of str to float
        Gradient with respect to the logarithm of each free scalar.
    """

    value: float
    kernel: np.ndarray | None = None
    scalars: Mapping[str, float] | None = None


@dataclass(frozen=True)
class Hyperparameters:
    """A kernel with its free ``theta``, and named positive numbers beside it.

    Attributes
    ----------
    kernel : Kernel
        Never changed in place.
    scalars : dict of str to Scalar
        Amplitude, noise variance and so on.
    """

    kernel: Kernel
    scalars: Mapping[str, Scalar]

    def __getitem__(self, name: str) -> float:
        return self.scalars[name].value

    @property
    def free(self) -> list[str]:
        """Names of the free scalars."""
        return [name for name, scalar in self.scalars.items() if scalar.bounds is not None]

    @property
    def names(self) -> list[str]:
        """Names of the entries of ``theta``."""
        kernel = [
            f"kernel__{h.name}" + (f"[{i}]" if h.n_elements > 1 else "")
            for h in self.kernel.hyperparameters
            if not h.fixed
            for i in range(h.n_elements)
        ]
        return kernel + self.free

    @property
    def theta(self) -> np.ndarray:
        """Logarithms of all that is free: the kernel's, then the scalars'."""
        return np.append(self.kernel.theta, [np.log(self[name]) for name in self.free])

    @property
    def bounds(self) -> np.ndarray:
        """Bounds of ``theta``, (p, 2)."""
        own = [np.log(s.bounds) for s in self.scalars.values() if s.bounds is not None]
        return np.vstack([np.reshape(self.kernel.bounds, (-1, 2)), *own])

    def at(self, theta: Any) -> Self:
        """Return these hyperparameters at another ``theta``.

        Returns
        -------
        Hyperparameters

        Raises
        ------
        ValueError
            If `theta` has another length.
        """
        theta, p = np.asarray(theta, dtype=np.float64), self.kernel.n_dims
        if theta.shape != (p + len(self.free),):
            raise ValueError(
                f"`theta` has shape {theta.shape}; expected ({p + len(self.free)},), the "
                f"logarithms of {self.names}."
            )
        values = dict(zip(self.free, np.exp(theta[p:]).tolist(), strict=True))
        scalars = {k: s._replace(value=values.get(k, s.value)) for k, s in self.scalars.items()}
        return replace(self, kernel=_with_theta(self.kernel, theta[:p]), scalars=scalars)

    def flatten(self, score: Score) -> np.ndarray:
        """Return a score's gradient in the order of ``theta``."""
        kernel = np.empty(0) if score.kernel is None else score.kernel
        scalars = score.scalars or {}
        return np.append(kernel, [scalars[name] for name in self.free])

    def __str__(self) -> str:
        return ", ".join(
            f"{name}={value:.3g}"
            for name, value in zip(self.names, np.exp(self.theta), strict=True)
        )


def _with_theta(kernel: Kernel, theta: np.ndarray) -> Kernel:
    """Copy a kernel, scikit-learn's behind its wrapper included."""
    copy = Foreign(clone(kernel.kernel)) if isinstance(kernel, Foreign) else clone(kernel)
    if len(theta):
        copy.theta = theta
    return copy


def maximize(
    score: Callable[[Hyperparameters], Score],
    start: Hyperparameters,
    *,
    optimizer: str | Callable[..., Any] = "fmin_l_bfgs_b",
    max_evaluations: int = 100,
    verbose: int = 0,
) -> tuple[Hyperparameters, float]:
    """Climb a score from one start.

    Parameters
    ----------
    score : callable
        Hyperparameters -> :class:`Score` with gradients.
    start : Hyperparameters
        Inside its bounds, or moved to them.
    optimizer : "fmin_l_bfgs_b" or callable
        As in scikit-learn: ``optimizer(obj_func, initial_theta, bounds)`` returns the best theta
        and the value of ``obj_func``, minus the score.
    max_evaluations : int
        Of the score, by L-BFGS-B.
    verbose : int
        Whether to show progress.

    Returns
    -------
    best : Hyperparameters
    value : float

    Raises
    ------
    ValueError
        If the score is not finite; the message names the hyperparameters.
    NotPSDError
        If there is no factorization at the start.
    """
    if not len(start.theta):
        return start, score(start).value
    lowest = np.inf
    with _ticker(verbose) as tick:

        def negative(theta: np.ndarray, eval_gradient: bool = True) -> Any:
            nonlocal lowest
            here = start.at(theta)
            try:
                found = score(here)
            except NotPSDError:
                if not np.isfinite(lowest):
                    raise  # the start itself
                wall = lowest + _WALL * (1.0 + abs(lowest))
                return (wall, np.zeros_like(theta)) if eval_gradient else wall
            gradient = here.flatten(found)
            check_finite(found.value, gradient, here)
            lowest = min(lowest, -found.value)
            tick(found.value)
            return (-found.value, -gradient) if eval_gradient else -found.value

        bounds = start.bounds
        begin = np.clip(start.theta, bounds[:, 0], bounds[:, 1])
        theta, value = _minimize(negative, begin, bounds, optimizer, max_evaluations)
    return start.at(theta), -float(value)


def _minimize(
    function: Callable[..., Any],
    begin: np.ndarray,
    bounds: np.ndarray,
    optimizer: str | Callable[..., Any],
    max_evaluations: int,
) -> tuple[np.ndarray, float]:
    if callable(optimizer):
        return optimizer(function, begin, bounds=bounds)
    options = {"maxfun": max_evaluations, "ftol": _FTOL, "gtol": 1e-4}
    found = minimize(function, begin, jac=True, bounds=bounds, method="L-BFGS-B", options=options)
    return found.x, found.fun


def check_finite(value: float, gradient: np.ndarray, here: Hyperparameters) -> None:
    """Refuse a score that is not finite.

    Raises
    ------
    ValueError
        Naming the hyperparameters at fault.
    """
    if np.isfinite(value) and np.isfinite(gradient).all():
        return
    bad = [n for n, g in zip(here.names, gradient, strict=True) if not np.isfinite(g)]
    what = f"The gradient in {bad}" if np.isfinite(value) else f"The evidence ({value})"
    raise ValueError(
        f"{what} is not finite at {here}. Narrow the bounds of these hyperparameters, "
        "standardize the columns, or fix some of them."
    )


@contextmanager
def _ticker(verbose: int) -> Iterator[Callable[[float], None]]:
    with tqdm(disable=not verbose, leave=False, unit="evaluation") as bar:

        def tick(value: float) -> None:
            bar.update()
            bar.set_postfix(score=f"{value:.6g}")

        yield tick
