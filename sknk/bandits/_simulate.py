"""simulate: policies play problems whose rewards are known, and their regret is counted."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.utils import check_random_state

from sknk._fingerprint import fingerprint, signature
from sknk._lines import append_line, lines_of
from sknk._progress import progress
from sknk._validation import check_pandas_support
from sknk.bandits._arms import positions
from sknk.bandits._problems import BanditProblem
from sknk.bandits._target import bandit_target

__all__ = ["Simulation", "simulate"]

Problem = BanditProblem | Callable[[int], BanditProblem]


@dataclass(frozen=True)
class Simulation:
    """What policies lost, round by round.

    Attributes
    ----------
    regret : dict of str to ndarray of shape (r, T)
        Cumulative regret of each policy in r runs, in units of rewards.
    played : dict of str to ndarray of shape (r, T)
        Positions of the arms that were played.
    seconds : dict of str to ndarray of shape (r,)
        Time of each run.
    """

    regret: dict[str, np.ndarray]
    played: dict[str, np.ndarray]
    seconds: dict[str, np.ndarray]

    def final(self) -> dict[str, float]:
        """Return the mean regret at the end, over runs.

        Returns
        -------
        dict of str to float
        """
        return {name: float(line[:, -1].mean()) for name, line in self.regret.items()}

    def slope(self, last: float = 0.5) -> dict[str, float]:
        """Return the slope of log regret over log t in the last part; below 1 it is sublinear.

        Parameters
        ----------
        last : float, default=0.5
            Part of the rounds.

        Returns
        -------
        dict of str to float
            Of the mean curve; nan if nothing was lost.
        """
        found = {}
        for name, line in self.regret.items():
            mean = line.mean(axis=0)
            t = np.arange(1, len(mean) + 1)
            part = (t > (1 - last) * len(t)) & (mean > 0)
            enough = part.sum() > 1
            found[name] = (
                np.polyfit(np.log(t[part]), np.log(mean[part]), 1)[0] if enough else np.nan
            )
        return {name: float(value) for name, value in found.items()}

    def to_frame(self) -> Any:
        """Return a DataFrame with columns policy, run, round and regret.

        Returns
        -------
        DataFrame
        """
        pandas = check_pandas_support("Simulation.to_frame")
        parts = [
            pandas.DataFrame(
                {"policy": name, "run": run, "round": np.arange(1, len(curve) + 1), "regret": curve}
            )
            for name, line in self.regret.items()
            for run, curve in enumerate(line)
        ]
        return pandas.concat(parts, ignore_index=True)


def simulate(
    policies: Any,
    problem: Problem,
    *,
    n_runs: int = 1,
    batch_size: int = 1,
    random_state: Any = None,
    path: str | Path | None = None,
    verbose: int | bool = 0,
) -> Simulation:
    """Let policies play, from nothing known, and count what they lose.

    Every run clones the policies, tells them the arms and a seed, and starts them by
    ``initialize``. A round is a ``predict``; rewards come after each batch, by ``partial_fit``.

    Parameters
    ----------
    policies : bandit, or dict of str to bandit
        What plays.
    problem : BanditProblem, or callable
        The rounds; a callable takes a seed and returns those of a run.
    n_runs : int, default=1
        Repetitions.
    batch_size : int, default=1
        Rounds between lessons.
    random_state : int, RandomState instance or None, default=None
        Of problems and policies.
    path : str, Path or None, default=None
        A file that keeps every run, one line of JSON each; runs of the same policies and problems
        are not played again.
    verbose : int or bool, default=0
        Show a progress bar of rounds.

    Returns
    -------
    Simulation

    Raises
    ------
    ValueError
        If there is no run, or no round in a batch, or what should play is no bandit.

    Examples
    --------
    >>> from sknk.bandits import NTKUCB, NTKEpsilonGreedy, simulate, synthetic_problem
    >>> rounds = synthetic_problem("h2", n_rounds=60, random_state=0)
    >>> policies = {"ucb": NTKUCB(), "greedy": NTKEpsilonGreedy()}
    >>> simulate(policies, rounds, n_runs=2, random_state=0).regret["ucb"].shape
    (2, 60)
    """
    if n_runs < 1 or batch_size < 1:
        raise ValueError(
            f"`n_runs` is {n_runs} and `batch_size` {batch_size}; expected at least 1 of both."
        )
    named = dict(policies) if isinstance(policies, Mapping) else {"policy": policies}
    _check_contestants(named, problem)
    seeds = check_random_state(random_state).randint(2**31 - 1, size=n_runs).tolist()
    path = None if path is None else Path(path)
    known = {tuple(line["key"]): line for line in lines_of(path)}
    runs: dict[str, list[tuple[np.ndarray, np.ndarray, float]]] = {name: [] for name in named}
    for number, seed in enumerate(seeds):
        rounds = problem if isinstance(problem, BanditProblem) else problem(seed)
        data = fingerprint(rounds.X, rounds.reward, seed) + fingerprint(rounds.expected, None, 0)
        for name, policy in named.items():
            ready = _ready(policy, rounds, seed)
            key = (name, signature(ready), batch_size, data)
            if key not in known:
                label = f"{name}, run {number + 1} of {n_runs}"
                place, seconds = _play(ready, rounds, batch_size, label, verbose)
                known[key] = {"key": key, "played": place.tolist(), "seconds": seconds}
                append_line(path, known[key])
            place, seconds = np.asarray(known[key]["played"]), known[key]["seconds"]
            runs[name].append((np.cumsum(rounds.regret(place)), place, seconds))
    columns = {
        name: [np.asarray(part) for part in zip(*of, strict=True)] for name, of in runs.items()
    }
    return Simulation(*({name: of[i] for name, of in columns.items()} for i in range(3)))


def _check_contestants(policies: dict[str, Any], problem: Any) -> None:
    """Refuse what can neither play nor be played."""
    for name, policy in policies.items():
        if isinstance(policy, type) or not hasattr(policy, "initialize"):
            raise ValueError(
                f"`policies` has {policy!r} as {name!r}; expected a bandit, such as NTKUCB(), or a "
                "dict of them. Transform contexts beforehand: a Pipeline cannot start from nothing."
            )
    if not isinstance(problem, BanditProblem) and not callable(problem):
        raise ValueError(
            f"`problem` is a {type(problem).__name__}; expected a BanditProblem, such as "
            "classification_problem(X, y), or a function from a seed to one."
        )


def _ready(policy: Any, rounds: BanditProblem, seed: int) -> Any:
    """Return a copy of a policy that is told the arms, a seed and how rounds are to be read."""
    asked = {"actions": rounds.arms, "random_state": seed}
    if rounds.encoding is not None:
        asked["encoding"] = rounds.encoding
    known = policy.get_params(deep=False)
    return clone(policy).set_params(**{k: v for k, v in asked.items() if k in known})


def _play(
    policy: Any, rounds: BanditProblem, batch_size: int, label: str, verbose: int | bool
) -> tuple[np.ndarray, float]:
    """Return positions of what a policy played, and how long it took."""
    place = np.empty(len(rounds), dtype=int)
    begun = time.perf_counter()
    policy.initialize(rounds.X.shape[1])
    batches = range(0, len(rounds), batch_size)
    for start in progress(batches, verbose=verbose, desc=label, unit="batch"):
        span = slice(start, min(start + batch_size, len(rounds)))
        action = policy.predict(rounds.X[span])
        place[span] = positions(rounds.arms, action, "which the problem does not have.")
        paid = rounds.reward[np.arange(len(rounds))[span], place[span]]
        policy.partial_fit(rounds.X[span], bandit_target(action, paid))
    return place, time.perf_counter() - begun
