"""Tables with wrong labels, and everyone who values their rows; parts of `attribution.py`."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np
import torch
from _peers import Peer
from sklearn.ensemble import BaggingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier
from threadpoolctl import threadpool_limits

from sknk import NTKRidgeClassifierCV
from sknk.attribution import (
    DataOOB,
    InfluenceAttributor,
    KNNShapleyAttributor,
    LeaveOneOutAttributor,
    RepresenterAttributor,
    ShapleyAttributor,
    find_label_errors,
)
from sknk.kernels import NTK
from sknk.preprocessing import SmoothClip

FEW = 20  # rows of a class; smaller ones are left out
TEST = 2000
TREES, NEIGHBOURS = 500, 5
ESTIMATES = {"brier": 24, "accuracy": 12, "evidence": 24}
FINDER = "find_label_errors"

Scores = dict[str, np.ndarray]


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let torch and BLAS use so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        with threadpool_limits(count):
            yield
    finally:
        torch.set_num_threads(before)


def seeds(most: int, quick: bool) -> range:
    """Return the seeds that are asked for."""
    return range(1 if quick else min(most, int(os.environ.get("SKNK_ATTRIBUTION_SEEDS", most))))


def pipeline() -> Pipeline:
    """Return what a user would write: columns of one scale, a tuned ridge on a two-layer kernel."""
    model = NTKRidgeClassifierCV(NTK(depth=2), param_grid={})
    return make_pipeline(StandardScaler(), SmoothClip(5.0), model)


class Case:
    """Training rows, a tenth of them mislabelled, clean validation rows, and the other rows.

    Parameters
    ----------
    table : dict
        With X and y.
    seed : int
    n, m : int
        Training and validation rows; n is at most half of what m leaves.
    """

    def __init__(self, table: Mapping[str, np.ndarray], seed: int, n: int, m: int) -> None:
        X, y = np.asarray(table["X"], dtype=np.float64), np.asarray(table["y"], dtype=np.int64)
        kept = np.bincount(y)[y] >= FEW
        X, y = X[kept], np.unique(y[kept], return_inverse=True)[1]
        rng = np.random.default_rng(seed)
        n = min(n, (len(X) - m) // 2)
        order = rng.permutation(len(X))
        train, val, test = np.split(order, [n, n + m])
        self.classes = int(y.max()) + 1
        self.X, self.X_val, self.X_test = X[train], X[val], X[test[:TEST]]
        self.clean, self.y_val, self.y_test = y[train], y[val], y[test[:TEST]]
        self.y, self.wrong = mislabelled(self.clean, self.classes, rng)

    @cached_property
    def model(self) -> FrozenEstimator:
        """Return the pipeline, fitted to the wrong labels too."""
        return FrozenEstimator(pipeline().fit(self.X, self.y))

    @property
    def judged(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return training and validation rows."""
        return self.X, self.y, self.X_val, self.y_val

    @cached_property
    def scaled(self) -> tuple[np.ndarray, np.ndarray]:
        """Return training and validation rows as the kernel sees them."""
        before = self.model.estimator[:-1]
        return before.transform(self.X), before.transform(self.X_val)

    def for_peers(self, *, kernels: bool, **scalars: Any) -> Scores:
        """Return what a worker needs: rows, or kernels and the ridge."""
        X, X_val = self.scaled
        scalars |= {"n_classes": self.classes, "threads": 1}
        arrays = {"y": self.y, "y_val": self.y_val}
        if kernels:
            final = self.model.estimator[-1]
            scalars["ridge"] = final.alpha_
            arrays |= {"K": final.kernel_(X), "cross": final.kernel_(X_val, X)}
        else:
            arrays |= {"X": X, "X_val": X_val}
        return arrays | {key: np.array(value) for key, value in scalars.items()}


def mislabelled(
    y: np.ndarray, classes: int, rng: np.random.Generator, part: float = 0.1
) -> tuple[np.ndarray, np.ndarray]:
    """Return labels of which some are of another class, and which (n,)."""
    wrong = np.zeros(len(y), dtype=bool)
    wrong[rng.choice(len(y), round(part * len(y)), replace=False)] = True
    shift = np.where(wrong, rng.integers(1, classes, len(y)), 0)
    return (y + shift) % classes, wrong


# --- everyone -------------------------------------------------------------------------------------


def ours() -> dict[str, Callable[[Case], Scores]]:
    """Return our attributors: from a case to values, higher for better rows; some give several."""
    return {
        FINDER: lambda c: {FINDER: -find_label_errors(pipeline(), c.X, c.y).suspicion_},
        "leave-one-out, no validation": one("leave-one-out, no validation", residual),
        "leave-one-out": one("leave-one-out", lambda c: LeaveOneOutAttributor(c.model)),
        "influence": one("influence", lambda c: InfluenceAttributor(c.model)),
        "representer": one("representer", lambda c: RepresenterAttributor(c.model)),
        "KNN-Shapley": one("KNN-Shapley", lambda c: KNNShapleyAttributor(NEIGHBOURS), scaled=True),
        "soft KNN-Shapley": one(
            "soft KNN-Shapley",
            lambda c: KNNShapleyAttributor(NEIGHBOURS, variant="soft"),
            scaled=True,
        ),
        "KNN-Shapley, kernel": one(
            "KNN-Shapley, kernel",
            lambda c: KNNShapleyAttributor(NEIGHBOURS, kernel=NTK(depth=2)),
            scaled=True,
        ),
        "Data-OOB": lambda c: {"Data-OOB": out_of_bag(c).values_},
        "Shapley, evidence": lambda c: shapley(c, "evidence"),
        "Shapley, Brier": lambda c: shapley(c, "brier"),
        "Shapley, accuracy": lambda c: shapley(c, "accuracy"),
    }


def one(
    name: str, make: Callable[[Case], Any], *, scaled: bool = False
) -> Callable[[Case], Scores]:
    """Return a function that fits one attributor; without a model it gets scaled rows."""

    def values(case: Case) -> Scores:
        attributor = make(case)
        if make is residual:
            return {name: attributor.fit(case.X, case.y).values_}
        X, y, X_val, y_val = case.judged
        if scaled:
            X, X_val = case.scaled
        return {name: attributor.fit(X, y, X_val, y_val).values_}

    return values


def residual(case: Case) -> LeaveOneOutAttributor:
    """Return the attributor whose rows judge each other."""
    return LeaveOneOutAttributor(case.model)


def out_of_bag(case: Case, n_jobs: int | None = None) -> DataOOB:
    """Return values of bagged trees."""
    bagged = BaggingClassifier(DecisionTreeClassifier(), TREES, random_state=0, n_jobs=n_jobs)
    return DataOOB(bagged).fit(case.scaled[0], case.y)


def shapley(case: Case, utility: str, n_iter: int | None = None) -> Scores:
    """Return Shapley values, and Banzhaf values of the same coalitions."""
    attributor = ShapleyAttributor(
        case.model,
        utility=utility,
        semivalues=("shapley", "banzhaf"),
        n_iter=n_iter or ESTIMATES[utility],
        random_state=0,
    )
    name = {"brier": "Brier"}.get(utility, utility)
    if utility == "evidence":
        attributor.fit(case.X, case.y)
    else:
        attributor.fit(*case.judged)
    names = (f"Shapley, {name}", f"Banzhaf, {name}")
    return dict(zip(names, attributor.semivalues_, strict=True))


def by_peers(pydvl: Peer | str, influence: Peer | str) -> dict[str, Callable[[Case], Scores]]:
    """Return the attributors of the peers that are there."""
    found: dict[str, Callable[[Case], Scores]] = {}

    def add(peer: Peer, name: str, model: str, arrays: Callable[[Case], Scores]) -> None:
        found[name] = lambda c: {name: peer.fit(model, "", **arrays(c))[0]["values"]}

    def rows(case: Case) -> Scores:
        return case.for_peers(kernels=False)

    def kernels(case: Case) -> Scores:
        return case.for_peers(kernels=True)

    if isinstance(pydvl, Peer):
        add(pydvl, "pyDVL, KNN-Shapley", "knn", rows)
        add(pydvl, "pyDVL, Data-OOB", "out_of_bag", rows)
    if isinstance(influence, Peer):
        add(influence, "pyinfluence", "influence", kernels)
        if influence.versions["cleanlab"]:
            add(influence, "cleanlab, forest", "quality_by_forest", rows)
            add(influence, "cleanlab, our probabilities", "quality", probabilities)
    return found


def probabilities(case: Case) -> Scores:
    """Return our probabilities of five folds."""
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    method = "predict_proba"
    proba = cross_val_predict(pipeline(), case.X, case.y, cv=folds, method=method)
    return case.for_peers(kernels=False) | {"proba": proba}
