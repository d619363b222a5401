"""Worker: scikit-activeml's strategies for regression, asking the learner that ours ask.

The learner, its splits and its scores are the same; only ``query`` is the peer's. Not here are
ExpectedModelVarianceReduction, ExpectedModelOutputChange and KLDivergenceMaximization: they fit a
model for every candidate, 24 s a batch where only 256 rows are candidates.
"""

import json
import sys
import time
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # peers have no path of ours

import numpy as np
from _active_learning import played, regression_table
from _peers import serve
from skactiveml import pool
from skactiveml.regressor import SklearnRegressor
from sklearn.base import clone
from sklearn.ensemble import BaggingRegressor
from sklearn.tree import DecisionTreeRegressor

from sknk import NTKRidge, NTKRidgeCV
from sknk.active_learning import BatchActiveLearner

TREE = SklearnRegressor(DecisionTreeRegressor(min_samples_leaf=5, random_state=0))


def ridge(learner: BatchActiveLearner) -> NTKRidge:
    """Return the learner's model, as a plain ridge that fits anew."""
    final = learner.estimator_
    return NTKRidge(final.kernel_, alpha=float(final.alpha_))


def with_ridge(learner: BatchActiveLearner) -> dict[str, Any]:
    """Return the learner's model for strategies that look at predictions."""
    return {"reg": SklearnRegressor(ridge(learner))}


def with_committee(learner: BatchActiveLearner) -> dict[str, Any]:
    """Return ten of them on bootstraps."""
    bagging = BaggingRegressor(ridge(learner), n_estimators=10, random_state=0)
    return {"ensemble": SklearnRegressor(bagging)}


def with_tree(_: BatchActiveLearner) -> dict[str, Any]:
    """Return a tree, the only model of that strategy."""
    return {"reg": clone(TREE)}


def nothing(_: BatchActiveLearner) -> dict[str, Any]:
    """Return what strategies take that look at rows only."""
    return {}


STRATEGIES: dict[str, tuple[Any, Any]] = {  # strategy, and what it is given
    "GSx": (pool.GreedySamplingX(), nothing),
    "GSy": (pool.GreedySamplingTarget(method="GSy"), with_ridge),
    "GSi": (pool.GreedySamplingTarget(method="GSi"), with_ridge),
    "QueryByCommittee": (pool.QueryByCommittee(), with_committee),
    # n_train=1, an int, is the bootstrap that is meant; 0.5 draws n^2 / 2 rows.
    "ExpectedModelChange": (
        pool.ExpectedModelChangeMaximization(n_train=1),
        with_ridge,
    ),
    "RegressionTree random": (pool.RegressionTreeBasedAL(method="random"), with_tree),
    "RegressionTree diversity": (pool.RegressionTreeBasedAL(method="diversity"), with_tree),
    "RegressionTree representativity": (
        pool.RegressionTreeBasedAL(method="representativity"),
        with_tree,
    ),
    "CoreSet": (pool.CoreSet(), nothing),
    "TypiClust": (pool.TypiClust(), nothing),
    "MaxHerding": (pool.MaxHerding(), nothing),
}


class Asking(BatchActiveLearner):
    """The learner, with a strategy of the peer's in place of a selector."""

    def __init__(self, strategy: str, *, batch_size: int, random_state: Any = None) -> None:
        super().__init__(NTKRidgeCV(), "random", batch_size=batch_size, random_state=random_state)
        self.strategy = strategy

    @classmethod
    def _get_param_names(cls) -> list[str]:
        return ["strategy", "batch_size", "random_state"]

    def set_params(self, **params: Any) -> "Asking":
        """Take the seed of a split; what stands for no label is nan."""
        params.pop("missing_label", None)
        return super().set_params(**params)

    def query(self, *_: Any, **__: Any) -> np.ndarray:
        """Return the rows that the strategy chooses."""
        strategy, given = STRATEGIES[self.strategy]
        rng = self._rng()
        asked = clone(strategy).set_params(random_state=int(rng.randint(2**31 - 1)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of their own making
            found = asked.query(
                self.X_fit_,
                self.y_fit_,
                batch_size=self.batch_size,
                **given(self),
            )
        return np.ravel(found)


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Play one table with all strategies."""
    if request["case"] == "versions":
        names = ("scikit-activeml", "scikit-learn", "numpy", "torch")
        return {name: version(name) for name in names} | {"strategies": list(STRATEGIES)}
    settings = json.loads(request["model"])
    name, n_rows, batch, folder = json.loads(request["task"])
    X, y = regression_table(name, n_rows)
    where = None if folder is None else Path(folder)
    start, scores, failed = time.perf_counter(), {}, {}
    for label in STRATEGIES:
        learners = {label: Asking(label, batch_size=batch)}
        try:
            found = played(learners, X, y, folder=where, name=f"{name}-activeml", **settings)
            scores |= found.scores
        except Exception as error:  # a strategy's own: some break on some tables
            failed[label] = f"{type(error).__name__}: {str(error)[:120]}"
    np.savez(request["out"], **scores)
    return {"seconds": time.perf_counter() - start, "failed": failed}


if __name__ == "__main__":
    serve(answer)
