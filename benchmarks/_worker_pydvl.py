"""Worker: values of training rows by pyDVL.

"permutations" are untruncated; "tmc" has the package's own truncation; both refit scikit-learn's
KernelRidge. With a precomputed kernel rows are numbers of rows, and the kernel lies beside the
model, for scikit-learn would copy it with every clone; a refit is then one indexing, one solve and
one product. Without one it is KernelRidge with its RBF kernel on the rows themselves.
"""

import time
import warnings
from importlib.metadata import version
from typing import Any, Self

import numpy as np
from _peers import serve
from pydvl.valuation import (
    DataOOBValuation,
    Dataset,
    KNNShapleyValuation,
    MaxTime,
    MinUpdates,
    ModelUtility,
    PermutationSampler,
    ShapleyValuation,
    SupervisedScorer,
    TMCShapleyValuation,
)
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import BaggingClassifier
from sklearn.kernel_ridge import KernelRidge
from sklearn.neighbors import KNeighborsClassifier
from sklearn.tree import DecisionTreeClassifier
from threadpoolctl import threadpool_limits

Arrays = dict[str, np.ndarray]
TREES, NEIGHBOURS = 500, 5
TABLE: dict[str, Any] = {}


class RidgeClassifier(ClassifierMixin, BaseEstimator):
    """KernelRidge on codes -1 and 1 of the classes."""

    def __init__(self, precomputed: bool = True) -> None:
        self.precomputed = precomputed

    def fit(self, X: np.ndarray, y: np.ndarray) -> Self:
        """Fit one ridge for all classes."""
        self.classes_ = np.arange(TABLE["n_classes"])
        codes = np.where(y[:, None] == self.classes_, 1.0, -1.0)
        kernel = "precomputed" if self.precomputed else "rbf"
        self.model_ = KernelRidge(alpha=TABLE["ridge"], kernel=kernel)
        if self.precomputed:
            self.rows_ = X[:, 0].astype(int)
            X = TABLE["K"][np.ix_(self.rows_, self.rows_)]
        self.model_.fit(X, codes)
        return self

    def outputs(self, X: np.ndarray) -> np.ndarray:
        """Return values of the classes."""
        if self.precomputed:
            X = TABLE["cross"][np.ix_(X[:, 0].astype(int), self.rows_)]
        return self.model_.predict(X)

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Return labels."""
        return self.outputs(X).argmax(axis=1)


def brier(model: RidgeClassifier, X: np.ndarray, y: np.ndarray) -> float:
    """Return minus the Brier score of probabilities (1 + f) / 2."""
    codes = np.where(y[:, None] == model.classes_, 1.0, -1.0)
    return -0.25 * float(np.square(codes - model.outputs(X)).sum()) / len(X)


def accuracy(model: RidgeClassifier, X: np.ndarray, y: np.ndarray) -> float:
    """Return the share of right labels."""
    return float((model.predict(X) == y).mean())


def refitted(table: Arrays, *, truncated: bool) -> np.ndarray:
    """Return Shapley values over some orders."""
    precomputed = "K" in table
    n, m = len(table["y"]), len(table["y_val"])
    X = np.arange(n)[:, None] if precomputed else table["X"]
    X_val = np.arange(m)[:, None] if precomputed else table["X_val"]
    TABLE.update(table, ridge=float(table["ridge"]), n_classes=int(table["n_classes"]))
    by_brier = str(table["utility"]) == "brier"
    # Of no rows: outputs are zero, or the first class.
    nothing = -0.25 * TABLE["n_classes"] if by_brier else float((table["y_val"] == 0).mean())
    scorer = SupervisedScorer(
        brier if by_brier else accuracy, Dataset(X_val, table["y_val"]), default=nothing
    )
    utility = ModelUtility(RidgeClassifier(precomputed), scorer, catch_errors=False)
    until = MinUpdates(int(table["orders"]))
    if "most_seconds" in table:
        until = until | MaxTime(float(table["most_seconds"]))
    if truncated:
        valuation = TMCShapleyValuation(utility, is_done=until, seed=0)
    else:
        valuation = ShapleyValuation(utility, PermutationSampler(seed=0), is_done=until)
    return valuation.fit(Dataset(X, table["y"])).result.values


def knn(table: Arrays) -> np.ndarray:
    """Return exact values for nearest neighbours."""
    judged = Dataset(table["X_val"], table["y_val"])
    model = KNeighborsClassifier(NEIGHBOURS)
    valuation = KNNShapleyValuation(model, judged, progress=False)
    return valuation.fit(Dataset(table["X"], table["y"])).result.values


def out_of_bag(table: Arrays) -> np.ndarray:
    """Return how often trees that have not seen a row are right about it."""
    bagged = BaggingClassifier(DecisionTreeClassifier(), TREES, random_state=0)
    bagged.fit(table["X"], table["y"])
    return DataOOBValuation(bagged).fit(Dataset(table["X"], table["y"])).result.values


MODELS = {
    "permutations": lambda table: refitted(table, truncated=False),
    "tmc": lambda table: refitted(table, truncated=True),
    "knn": knn,
    "out_of_bag": out_of_bag,
}


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Tell the versions, or value rows and leave the values in a file."""
    if request["case"] == "versions":
        names = ("pyDVL", "scikit-learn", "numpy")
        return {name: version(name) for name in names}
    with np.load(request["file"], allow_pickle=False) as stored:
        table = dict(stored)
    TABLE.clear()
    with threadpool_limits(int(table["threads"])), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        start = time.perf_counter()
        try:
            values = MODELS[request["model"]](table)
        except Exception as error:  # any failure of a peer is its result, not the end of the run
            return {"error": f"{type(error).__name__}: {error}"[:300]}
        seconds = time.perf_counter() - start
    np.savez(request["out"], values=np.asarray(values, dtype=np.float64))
    return {"seconds": seconds}


serve(answer)
