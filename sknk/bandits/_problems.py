"""Rounds whose rewards are known for every arm: classes, synthetic functions, the wheel."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.preprocessing import normalize
from sklearn.utils import check_array, check_random_state, column_or_1d, shuffle

__all__ = ["BanditProblem", "classification_problem", "synthetic_problem", "wheel_problem"]


@dataclass(frozen=True)
class BanditProblem:
    """Rounds with the rewards of every arm.

    Attributes
    ----------
    X : ndarray of shape (T, d)
        Contexts, in order.
    arms : ndarray of shape (K,)
        Labels.
    reward : ndarray of shape (T, K)
        What each arm would pay.
    expected : ndarray of shape (T, K)
        Without noise: what regret is counted in.
    encoding : str or None
        What policies have to be set to; None leaves them.
    """

    X: np.ndarray
    arms: np.ndarray
    reward: np.ndarray
    expected: np.ndarray
    encoding: str | None = None

    def __post_init__(self) -> None:
        """Refuse arrays that do not fit together."""
        wanted = len(self.X), len(self.arms)
        for name in ("reward", "expected"):
            shape = np.shape(getattr(self, name))
            if shape != wanted:
                raise ValueError(
                    f"`{name}` has shape {shape}; expected {wanted}, one for each round and arm."
                )

    def __len__(self) -> int:
        """Return T."""
        return len(self.X)

    def regret(self, place: np.ndarray) -> np.ndarray:
        """Return by how much the best arm's expected reward is above that of others.

        Parameters
        ----------
        place : ndarray of int of shape (T,)
            Positions in ``arms`` of what was played.

        Returns
        -------
        ndarray of shape (T,)
        """
        return self.expected.max(axis=1) - self.expected[np.arange(len(place)), place]


def classification_problem(
    X: Any, y: Any, *, n_rounds: int | None = None, unit_norm: bool = True, random_state: Any = None
) -> BanditProblem:
    """Return rounds in which the arm of a row's class pays 1 and others 0.

    The protocol of Zhou, Li and Gu (2020): rows in random order, each of norm one, not
    standardized; missing values are -1.

    Parameters
    ----------
    X : array-like of shape (n, d)
        Rows; nan is allowed.
    y : array-like of shape (n,)
        Classes.
    n_rounds : int or None, default=None
        T, at most n; None is all rows.
    unit_norm : bool, default=True
        Divide rows by their norm.
    random_state : int, RandomState instance or None, default=None
        Of the order.

    Returns
    -------
    BanditProblem

    Raises
    ------
    ValueError
        If there are fewer rows than rounds.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from sknk.bandits import classification_problem
    >>> problem = classification_problem(*load_wine(return_X_y=True), random_state=0)
    >>> problem.reward.sum(), len(problem)
    (np.float64(178.0), 178)
    """
    X = check_array(X, dtype=np.float64, ensure_all_finite="allow-nan")
    arms, place = np.unique(column_or_1d(y), return_inverse=True)
    n_rounds = len(X) if n_rounds is None else n_rounds
    if not 1 <= n_rounds <= len(X):
        raise ValueError(f"`n_rounds` is {n_rounds}; expected 1 to {len(X)}, the rows there are.")
    X, place = shuffle(X, place, random_state=random_state, n_samples=n_rounds)
    X = np.nan_to_num(X, nan=-1.0)
    reward = np.eye(len(arms))[place]
    return BanditProblem(normalize(X) if unit_norm else X, arms, reward, reward)


_FUNCTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "h1": lambda u: u,
    "h2": np.square,
    "h3": lambda u: np.cos(np.pi * u),
}


def synthetic_problem(
    function: str = "h1",
    *,
    n_rounds: int = 1000,
    n_arms: int = 4,
    n_features: int = 10,
    noise: float = 0.1,
    random_state: Any = None,
) -> BanditProblem:
    """Return rounds with features of every arm, unit vectors, and a function of one direction.

    "h1" is x'a, "h2" its square and "h3" cos(pi x'a), with a unit vector a that is drawn once
    (Zhou, Li and Gu 2020; Hwang, Chai and Oh 2023). Contexts are the arms' features side by side,
    for ``encoding="columns"``.

    Parameters
    ----------
    function : {"h1", "h2", "h3"}, default="h1"
        Of the inner product.
    n_rounds : int, default=1000
        T.
    n_arms : int, default=4
        K.
    n_features : int, default=10
        Of one arm.
    noise : float, default=0.1
        Standard deviation of rewards around the function.
    random_state : int, RandomState instance or None, default=None
        Of all that is drawn.

    Returns
    -------
    BanditProblem

    Raises
    ------
    ValueError
        For another function.
    """
    if function not in _FUNCTIONS:
        raise ValueError(f"`function` is {function!r}; expected one of {', '.join(_FUNCTIONS)}.")
    rng = check_random_state(random_state)
    X = rng.standard_normal((n_rounds, n_arms, n_features))
    X /= np.linalg.norm(X, axis=2, keepdims=True)
    a = rng.standard_normal(n_features)
    expected = _FUNCTIONS[function](X @ (a / np.linalg.norm(a)))
    reward = expected + noise * rng.standard_normal(expected.shape)
    return BanditProblem(
        X.reshape(n_rounds, -1), np.arange(n_arms), reward, expected, encoding="columns"
    )


def wheel_problem(
    delta: float = 0.95, *, n_rounds: int = 2000, random_state: Any = None
) -> BanditProblem:
    """Return the wheel of Riquelme, Tucker and Snoek (2018): large rewards that are rarely seen.

    Contexts are uniform in the unit disc. The first of five arms pays N(1.2, 0.01^2), the others
    N(1, 0.01^2), but where the context's norm is above `delta` the arm of its quadrant pays
    N(50, 0.01^2).

    Parameters
    ----------
    delta : float, default=0.95
        Radius, in (0, 1).
    n_rounds : int, default=2000
        T.
    random_state : int, RandomState instance or None, default=None
        Of all that is drawn.

    Returns
    -------
    BanditProblem

    Raises
    ------
    ValueError
        For a radius outside (0, 1).
    """
    if not 0 < delta < 1:
        raise ValueError(f"`delta` is {delta}; expected a radius between 0 and 1.")
    rng = check_random_state(random_state)
    angle, radius = 2 * np.pi * rng.random_sample(n_rounds), np.sqrt(rng.random_sample(n_rounds))
    X = radius[:, None] * np.column_stack([np.cos(angle), np.sin(angle)])
    expected = np.ones((n_rounds, 5))
    expected[:, 0] = 1.2
    outer = np.flatnonzero(radius > delta)
    expected[outer, 1 + (2 * (X[outer, 0] < 0) + (X[outer, 1] < 0))] = 50.0
    reward = expected + 0.01 * rng.standard_normal(expected.shape)
    return BanditProblem(X, np.arange(5), reward, expected)
