"""The protocol of Arora et al. 2020 for `uci.py`: published folds, choices that see test rows.

Hyperparameters are chosen on one split of a table into halves, then four folds of the same table
are scored: three quarters of every test part has been seen by the choice. That is how the published
figures came about, and the reason why they are no measure of a method's worth on new tables.
"""

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from _common import installed, rounded
from _uci import Result, fingerprint
from sklearn.ensemble import RandomForestClassifier
from sklearn.svm import SVC

from sknk.kernels import NTK
from sknk.solvers import RidgePath

NTK_SVM, NTK_RIDGE, RBF_SVM, FOREST = (
    "published_ntk_svm",
    "published_ntk_ridge",
    "published_rbf_svm",
    "published_forest",
)
PUBLISHED = (NTK_SVM, NTK_RIDGE, RBF_SVM, FOREST)
NETWORKS = [(depth, fixed) for depth in range(5) for fixed in range(depth + 1)]
"""Hidden layers, and how many weight layers, the first ones, stay untrained."""
COSTS = np.logspace(-2, 4, 7).tolist()
RIDGES = np.logspace(-4, 2, 7).tolist()
GAMMAS = np.logspace(-2, 1, 7).tolist()  # over d
SHARES = (1 / 3, 2 / 3, "sqrt")

Table = dict[str, np.ndarray]
Part = tuple[np.ndarray, np.ndarray]
Score = Callable[[Any, Part], list[float]]


def published(table: Table) -> Iterator[tuple[str, dict[str, Any], Callable[[], Result]]]:
    """Yield every method: its name, the settings that its results depend on, and its run."""
    X, y = np.asarray(table["X"], dtype=np.float64), np.asarray(table["y"], dtype=np.int64)
    theirs = {"scikit-learn": installed("scikit-learn")}
    own = {"kernels": fingerprint(authors_kernel(5, *key) for key in NETWORKS)}
    grams = partial(ntk_grams, X)
    yield NTK_SVM, {**own, **theirs, "C": COSTS}, partial(run, table, grams, partial(svm, y))
    ridge = partial(ntk_ridge, np.eye(int(y.max()) + 1)[y])
    yield NTK_RIDGE, {**own, "alpha": RIDGES}, partial(run, table, grams, ridge)
    grams = partial(rbf_grams, X)
    settings = {**theirs, "C": COSTS, "gamma": GAMMAS}
    yield RBF_SVM, settings, partial(run, table, grams, partial(svm, y))
    settings = {**theirs, "max_features": SHARES}
    yield FOREST, settings, partial(run, table, lambda wanted: [((), X)], partial(forest, y))


def run(table: Table, kernels: Callable[[Any], Any], score: Score) -> Result:
    """Choose on the halves, score the choice on the folds.

    Parameters
    ----------
    table : dict
        With the rows of the published splits.
    kernels : callable
        What is wanted (None: everything) -> pairs (name, Gram matrix).
    score : callable
        Gram matrix and split -> accuracy for every candidate on it.
    """
    start = time.perf_counter()
    halves = table["valsplit_0_train"], table["valsplit_0_test"]
    scores = {name: score(K, halves) for name, K in kernels(None)}
    # The first of the best, in the order of the authors' loops: by depth, untrained layers, C.
    name = max(sorted(scores), key=lambda key: max(scores[key]))
    best = int(np.argmax(scores[name]))
    (K,) = (K for key, K in kernels(name) if key == name)
    folds = [(table[f"kfold_{k}_train"], table[f"kfold_{k}_test"]) for k in range(4)]
    found = [score(K, fold, best)[0] for fold in folds]
    return {
        "accuracy": float(np.mean(found)),
        "accuracy_on_the_halves": scores[name][best],
        "chosen": [*name, best],
        "total_seconds": rounded(time.perf_counter() - start),
    }


# --- Gram matrices --------------------------------------------------------------------------------


def authors_kernel(d: int, depth: int, fixed: int) -> NTK:
    """Return the kernel in the scale of the authors' code, which does not divide by d."""
    return NTK(depth, weight_var=1.0, fixed_depth=fixed, normalize=False, input_scale=d**0.5)


def ntk_grams(X: np.ndarray, wanted: Any) -> Iterator[tuple[tuple[int, int], np.ndarray]]:
    """Yield (depth, untrained layers) and the Gram matrix; depths share one recursion."""
    for fixed in range(5) if wanted is None else (wanted[1],):
        depths = [d for d, f in NETWORKS if f == fixed] if wanted is None else [wanted[0]]
        kernel = authors_kernel(X.shape[1], fixed, fixed)
        for params, K in kernel.gram_path(X, depth=depths):
            yield (params["depth"], fixed), K


def rbf_grams(X: np.ndarray, wanted: Any) -> Iterator[tuple[tuple[int], np.ndarray]]:
    """Yield the number of a length and its Gaussian Gram matrix."""
    squares = np.square(X).sum(axis=1)
    distances = np.maximum(squares[:, None] + squares - 2.0 * X @ X.T, 0.0)
    for i in range(len(GAMMAS)) if wanted is None else wanted:
        yield (i,), np.exp(-GAMMAS[i] / X.shape[1] * distances)


# --- scores of every candidate on one split, or of a single one -----------------------------------


def svm(y: np.ndarray, K: np.ndarray, part: Part, only: int | None = None) -> list[float]:
    """Return the accuracy of a support vector machine for every C."""
    train, test = part
    K_train, K_test = K[np.ix_(train, train)], K[np.ix_(test, train)]
    costs = COSTS if only is None else [COSTS[only]]
    machines = (SVC(kernel="precomputed", C=C, cache_size=1000) for C in costs)
    return [float(m.fit(K_train, y[train]).score(K_test, y[test])) for m in machines]


def ntk_ridge(Y: np.ndarray, K: np.ndarray, part: Part, only: int | None = None) -> list[float]:
    """Return the accuracy of ridge regression of the classes, coded 1 - 1/c and -1/c."""
    train, test = part
    alphas = RIDGES if only is None else [RIDGES[only]]
    coded = Y[train] - 1.0 / Y.shape[1]
    path = RidgePath(K[np.ix_(train, train)], coded, alphas=alphas, fit_intercept=False)
    scores = K[np.ix_(test, train)] @ path.dual_coef.numpy()  # (A, m, c)
    return (scores.argmax(axis=2) == Y[test].argmax(axis=1)).mean(axis=1).tolist()


def forest(y: np.ndarray, X: np.ndarray, part: Part, only: int | None = None) -> list[float]:
    """Return the accuracy of 500 trees for every share of columns."""
    train, test = part
    shares = SHARES if only is None else [SHARES[only]]
    models = (RandomForestClassifier(500, max_features=s, random_state=0) for s in shares)
    return [float(m.fit(X[train], y[train]).score(X[test], y[test])) for m in models]
