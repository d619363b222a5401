"""Problems and runs of the benchmarks of bandits."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from _store import Store
from _tables import bundled, standardized, stored
from sklearn.preprocessing import OrdinalEncoder

from sknk._fingerprint import signature
from sknk.bandits import BanditProblem, classification_problem, simulate

FILES = {  # of the literature's names; several files are one table
    "magic": ("uci121/magic",),
    "mushroom": ("mushroom_raw",),
    "shuttle": ("shuttle",),
    "adult": ("adult_raw",),
    "covertype": ("covertype_20k",),
    "mnist": ("mnist_train5k", "mnist_test_0"),
}


def table(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return rows as numbers, as published protocols take them, and classes.

    Words become ranks; gaps stay nan, which :func:`classification_problem` makes -1.
    """
    if name in ("digits", "wine", "breast_cancer"):
        found = bundled(name)
        X = found["X"] if name == "digits" else standardized(found["X"])  # columns of many units
        return X, found["y"]
    files = FILES.get(name, (name,))
    tables, absent = stored(files)
    if absent:
        raise FileNotFoundError(f"{name}: {absent}")
    parts = [tables[file] for file in files]
    X = np.concatenate([part["X"].reshape(len(part["X"]), -1) for part in parts])
    y = np.concatenate([part["y"] for part in parts])
    if X.dtype.kind in "OUS":
        X = _ranks(X)
    return X.astype(np.float64), y


def _ranks(X: np.ndarray) -> np.ndarray:
    """Return columns of numbers as they are, and of words as ranks."""
    columns = []
    for column in X.T:
        try:
            columns.append(column.astype(np.float64))
        except ValueError:
            known = OrdinalEncoder().fit_transform(column.astype(str)[:, None])[:, 0]
            gaps = np.isin(column.astype(str), ("", "?", "nan", "None"))
            columns.append(np.where(gaps, np.nan, known))
    return np.column_stack(columns)


def problem_of(name: str, n_rounds: int) -> Callable[[int], BanditProblem]:
    """Return what makes a run's rounds of a table, by a seed."""
    X, y = table(name)

    def problem(seed: int) -> BanditProblem:
        return classification_problem(X, y, n_rounds=min(n_rounds, len(X)), random_state=seed)

    return problem


def of_curve(curve: np.ndarray, seconds: float | None) -> dict[str, Any]:
    """Return what is kept of a run: cumulative regret in forty points, and seconds."""
    at = np.linspace(0, len(curve) - 1, 41).astype(int)[1:]
    return {"regret": float(curve[-1]), "curve": curve[at].tolist(), "run_seconds": seconds}


def played(
    store: Store, name: str, policies: Mapping[str, Any], n_rounds: int, seeds: range
) -> dict[str, list[dict[str, Any]]]:
    """Return what is kept of the runs of every policy and seed."""
    problem: Callable[[int], BanditProblem] | None = None
    found: dict[str, list[dict[str, Any]]] = {label: [] for label in policies}
    for seed in seeds:
        for label, policy in policies.items():

            def run(policy: Any = policy, seed: int = seed) -> dict[str, Any]:
                nonlocal problem
                problem = problem or problem_of(name, n_rounds)
                done = simulate(policy, problem(seed), random_state=seed)
                return of_curve(done.regret["policy"][0], float(done.seconds["policy"][0]))

            key = [name, signature(policy), n_rounds, seed]  # a repr leaves defaults out
            found[label].append(store.get(key, [], run))
    return found
