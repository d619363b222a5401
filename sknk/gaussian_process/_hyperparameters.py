"""The hyperparameters of a model as one vector of logarithms, and the ascent on a score."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self

import numpy as np
from scipy.optimize import minimize
from sklearn.base import clone
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from sknk.exceptions import NotPSDError
from sknk.kernels._adapt import Foreign, as_kernel, copy_of
from sknk.kernels._base import Kernel

__all__ = ["Climb", "Hyperparameters", "Scalar", "Score", "maximize"]

# A step to where no factorization exists is answered by a value this far below all others.
_WALL = 1e6
# Gradient at the end of a climb, relative to that at its start.
_GTOL = 1e-4


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


class Climb(NamedTuple):
    """Where a climb ended.

    Attributes
    ----------
    best : Hyperparameters
    value : float
        Their score.
    spread : ndarray of shape (p,)
        Width of the summit in each entry of theta, from the optimizer's curvature.
    """

    best: "Hyperparameters"
    value: float
    spread: np.ndarray


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
        kernel = copy_of(self.kernel)
        if p:
            kernel.theta = theta[:p]
        return replace(self, kernel=kernel, scalars=scalars)

    def with_fixed_kernel(self) -> Self:
        """Return these hyperparameters with nothing of the kernel free."""
        kernel = self.kernel.kernel if isinstance(self.kernel, Foreign) else self.kernel
        names = [name for name in kernel.get_params(deep=True) if name.endswith("_bounds")]
        fixed = clone(kernel).set_params(**dict.fromkeys(names, "fixed"))
        return replace(self, kernel=as_kernel(fixed))

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


def maximize(
    score: Callable[[Hyperparameters], Score],
    start: Hyperparameters,
    *,
    optimizer: str | Callable[..., Any] = "fmin_l_bfgs_b",
    max_evaluations: int = 100,
    units: np.ndarray | None = None,
    enough: float = 0.01,
    verbose: int = 0,
) -> Climb:
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
    units : ndarray of shape (p,), optional
        How far each entry of theta is likely to move; None means 1.
    enough : float
        A gain of the score that ends a climb by L-BFGS-B.
    verbose : int
        Whether to show progress.

    Returns
    -------
    Climb

    Raises
    ------
    ValueError
        If the score is not finite; the message names the hyperparameters.
    NotPSDError
        If there is no factorization at the start.
    """
    if not len(start.theta):
        return Climb(start, score(start).value, np.empty(0))
    lowest, summit = np.inf, start.theta
    with _ticker(verbose) as tick:

        def negative(theta: np.ndarray, eval_gradient: bool = True) -> Any:
            nonlocal lowest, summit
            here = start.at(theta)
            try:
                found = score(here)
            except NotPSDError:
                if not np.isfinite(lowest):
                    raise  # the start itself
                wall = lowest + _WALL * (1.0 + abs(lowest))
                return (wall, np.zeros_like(theta)) if eval_gradient else wall
            except ValueError as error:
                raise ValueError(f"{error} The hyperparameters are {here}.") from error
            gradient = here.flatten(found)
            check_finite(found.value, gradient, here)
            if -found.value < lowest:
                lowest, summit = -found.value, theta.copy()
            tick(found.value)
            return (-found.value, -gradient) if eval_gradient else -found.value

        bounds = start.bounds
        begin = np.clip(start.theta, bounds[:, 0], bounds[:, 1])
        if callable(optimizer):
            theta, value = optimizer(negative, begin, bounds=bounds)
            return Climb(start.at(theta), -float(value), np.ones_like(begin))
        units = np.ones_like(begin) if units is None else units
        spread = _lbfgs(negative, begin, bounds, units, enough, max_evaluations)[2]
    # Not what L-BFGS-B returns: a failed line search leaves the value of its last trial there.
    return Climb(start.at(summit), -lowest, spread)


def _lbfgs(
    function: Callable[..., Any],
    begin: np.ndarray,
    bounds: np.ndarray,
    units: np.ndarray,
    enough: float,
    max_evaluations: int,
) -> tuple[np.ndarray, float, np.ndarray]:
    """Minimise by L-BFGS-B in given units; return also the spread of the minimum."""
    first = function(begin)
    # Where every variable has bounds L-BFGS-B takes the whole first gradient for its first step,
    # and lands in a corner. So the first gradient is made one of length 1.
    scale = 1.0 / max(float(np.linalg.norm(first[1] * units)), 1e-8)

    def scaled(u: np.ndarray) -> tuple[float, np.ndarray]:
        theta = np.clip(begin + units * u, bounds[:, 0], bounds[:, 1])
        value, gradient = function(theta) if u.any() else first
        return scale * value, scale * gradient * units

    tol = enough / max(abs(first[0]), 1.0 / scale)
    # SciPy's BLAS threads wait busily after every step, and take the cores from torch's.
    with threadpool_limits(1, user_api="blas"):
        found = minimize(
            scaled,
            np.zeros_like(begin),
            jac=True,
            bounds=(bounds - begin[:, None]) / units[:, None],
            method="L-BFGS-B",
            options={"maxfun": max_evaluations, "ftol": tol, "gtol": _GTOL},
        )
    theta = np.clip(begin + units * found.x, bounds[:, 0], bounds[:, 1])
    curvature = np.diag(found.hess_inv.todense()) * scale
    return theta, float(found.fun / scale), units * np.sqrt(np.clip(curvature, 0.0, None))


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
