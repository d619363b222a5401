"""Gaussian process classification on 20 UCI tables: log loss, calibration error, accuracy.

The tables were chosen before any result was seen: the first 20 of the 117 `uci121/` tables in
alphabetical order that have 100 to 1500 rows, 2 to 6 classes and at least 10 rows of each class.
Four folds of their own, at most 500 training rows, the same for all; columns are standardized on
the training rows. Beside "dirichlet" and "laplace" scikit-learn's process classifier with an RBF
kernel, and an RBF support vector machine, C and gamma by a grid search on the training rows,
calibrated in five folds. A table's numbers pool the test rows of its folds.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from _common import bar, installed, main, rounded, timed
from _store import Store, package_sources
from _tables import stored
from sklearn.calibration import CalibratedClassifierCV
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.gaussian_process.kernels import RBF
from sklearn.metrics import accuracy_score, log_loss
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from sknk import NTKGaussianProcessClassifier
from sknk.inspection import expected_calibration_error
from sknk.kernels import NTK

RULE = "first 20 uci121 tables by name: 100 <= rows <= 1500, 2 to 6 classes, >= 10 rows in each"
TABLES = (
    "uci121/acute-inflammation",
    "uci121/acute-nephritis",
    "uci121/balance-scale",
    "uci121/blood",
    "uci121/breast-cancer",
    "uci121/breast-cancer-wisc",
    "uci121/breast-cancer-wisc-diag",
    "uci121/breast-cancer-wisc-prog",
    "uci121/breast-tissue",
    "uci121/congressional-voting",
    "uci121/conn-bench-sonar-mines-rocks",
    "uci121/contrac",
    "uci121/credit-approval",
    "uci121/cylinder-bands",
    "uci121/dermatology",
    "uci121/echocardiogram",
    "uci121/energy-y1",
    "uci121/energy-y2",
    "uci121/fertility",
    "uci121/haberman-survival",
)
KERNEL = NTK(depth=1, bias_var=0.1)
FOLDS, MOST = 4, 500
GAMMAS = (0.01, 0.1, 1.0, 10.0)  # over d: 1 is scikit-learn's "scale" on standardized columns
OURS, PEERS = ("dirichlet", "laplace"), ("GPC", "calibrated SVM")
NUMBERS = ("log_loss", "ece", "accuracy", "fit_seconds")
SOURCES = package_sources()

Rows = tuple[np.ndarray, np.ndarray, np.ndarray]
Make = Callable[[np.ndarray, np.ndarray], Any]
Result = dict[str, Any]


def measure(quick: bool, folder: Path | None) -> dict[str, Any]:
    """Score every table, print means over tables."""
    folds, most = (2, 90) if quick else (FOLDS, MOST)
    found, absent = stored(TABLES[::7] if quick else TABLES)
    store = Store(folder, __file__)
    results = {}
    for name, table in found.items():
        results[name] = one_table(name, table, folds, most, store)
        line = {who: r["log_loss"] for who, r in results[name]["contestants"].items()}
        print(f"{name:<36}log loss {line}", flush=True)
    means = {
        who: {number: mean_over(results, who, number) for number in NUMBERS}
        for who in (*OURS, *PEERS)
    }
    for who, values in means.items():
        shown = "  ".join(f"{k} {v:.4g}" for k, v in values.items() if v is not None)
        print(f"{who:<16}{shown}")
    compared = {
        f"{ours}, mean {number} minus that of {peer}": comparison(results, ours, peer, number)
        for number in ("log_loss", "ece")
        for ours in OURS
        for peer in PEERS
    }
    bars = [
        bar(name, line["mean_difference"], 0.0, at_least=False) for name, line in compared.items()
    ]
    return {
        "bars": bars,
        "rule": RULE,
        "folds": folds,
        "most_training_rows": most,
        "kernel": repr(KERNEL),
        "fits": store.counts(),
        "means": means,
        "compared": compared,
        "absent_tables": absent,
        "tables": results,
    }


# --- one table ------------------------------------------------------------------------------------


def one_table(
    name: str, table: dict[str, np.ndarray], folds: int, most: int, store: Store
) -> dict[str, Any]:
    """Fit everyone on every fold; pool the test rows."""
    X, y = np.asarray(table["X"], dtype=np.float64), np.asarray(table["y"], dtype=int)
    runs: dict[str, list[Result]] = {who: [] for who in (*OURS, *PEERS)}
    labels = []
    for k in range(folds):
        train = np.random.RandomState(k).permutation(table[f"kfold_{k}_train"])[:most]
        test = table[f"kfold_{k}_test"]
        scaler = StandardScaler().fit(X[train])
        rows = scaler.transform(X[train]), y[train], scaler.transform(X[test])
        labels.append(y[test])
        for who, (settings, make) in contestants(X.shape[1]).items():
            fit = partial(scored, make, rows)
            runs[who].append(store.get([name, k, who], {"most": most, **settings}, fit))
    n_classes = int(y.max()) + 1
    return {
        "rows": len(X),
        "d": X.shape[1],
        "classes": n_classes,
        "train_rows": len(train),
        "test_rows": sum(map(len, labels)),
        "contestants": {who: pooled(found, labels, n_classes) for who, found in runs.items()},
    }


def contestants(d: int) -> dict[str, tuple[dict[str, Any], Make]]:
    """Return what fits every contestant, and the settings that its results depend on."""
    own = {"sources": SOURCES, "kernel": repr(KERNEL)}
    theirs = {"version": installed("scikit-learn")}
    # From a length of 1 scikit-learn's climb can end where all rows are strangers to each other.
    gpc = GaussianProcessClassifier(1.0 * RBF(d**0.5))
    grid = {"C": [0.1, 1.0, 10.0, 100.0, 1000.0], "gamma": [g / d for g in GAMMAS]}
    found: dict[str, Any] = {
        inference: (own, NTKGaussianProcessClassifier(KERNEL, inference=inference).fit)
        for inference in OURS
    }
    found[PEERS[0]] = ({**theirs, "model": repr(gpc)}, gpc.fit)
    found[PEERS[1]] = ({**theirs, **grid, "cv": [3, 5]}, partial(calibrated_svm, grid))
    return found


def calibrated_svm(grid: dict[str, list[float]], X: np.ndarray, y: np.ndarray) -> Any:
    """Choose C and gamma in three folds, then calibrate by sigmoids in five."""
    search = GridSearchCV(SVC(), grid, cv=3, refit=False).fit(X, y)
    return CalibratedClassifierCV(SVC(**search.best_params_), cv=5).fit(X, y)


def scored(make: Make, rows: Rows) -> Result:
    """Fit one contestant; return its probabilities of the test rows."""
    X, y, X_test = rows
    found: dict[str, Any] = {}
    seconds = timed(lambda: found.update(model=make(X, y)))()
    p = found["model"].predict_proba(X_test)
    classes = found["model"].classes_.tolist()
    return {"p": p.tolist(), "classes": classes, "fit_seconds": rounded(seconds)}


def pooled(runs: list[Result], labels: list[np.ndarray], n_classes: int) -> dict[str, Any]:
    """Score the test rows of all folds together; no numbers where one has failed."""
    kinds = sorted({kind for run in runs for kind in run["warnings"]})
    failed = {str(k): run["failed"] for k, run in enumerate(runs) if "failed" in run}
    if failed:
        return {**dict.fromkeys(NUMBERS), "warnings": kinds, "failed": failed}
    parts = []
    for run in runs:
        p = np.zeros((len(run["p"]), n_classes))  # a class may be absent from the training rows
        p[:, run["classes"]] = run["p"]
        parts.append(p)
    p, y, classes = np.vstack(parts), np.concatenate(labels), np.arange(n_classes)
    return {
        "log_loss": rounded(float(log_loss(y, p, labels=classes))),
        "ece": rounded(expected_calibration_error(y, p, classes=classes)),
        "accuracy": rounded(float(accuracy_score(y, p.argmax(axis=1)))),
        "fit_seconds": rounded(float(np.mean([run["fit_seconds"] for run in runs]))),
        "warnings": kinds,
    }


# --- all tables -----------------------------------------------------------------------------------


def mean_over(results: dict[str, Any], who: str, number: str) -> float | None:
    """Return the mean over tables, those left out where it has failed."""
    values = [result["contestants"][who][number] for result in results.values()]
    values = [value for value in values if value is not None]
    return rounded(float(np.mean(values))) if values else None


def comparison(results: dict[str, Any], ours: str, peer: str, number: str) -> dict[str, Any]:
    """Compare over the tables where the peer has not failed; there is no mean where ours has."""
    pairs = {
        name: tuple(result["contestants"][who][number] for who in (ours, peer))
        for name, result in results.items()
    }
    both = {name: a - b for name, (a, b) in pairs.items() if a is not None and b is not None}
    each = np.array(list(both.values()))
    judged = len(each) > 0 and all(mine is not None for mine, _ in pairs.values())
    spread = float(each.std(ddof=1) / len(each) ** 0.5) if len(each) > 1 else None
    return {
        "mean_difference": rounded(float(each.mean())) if judged else None,
        "standard_error": None if spread is None else rounded(spread),
        "better": [name for name, difference in both.items() if difference < 0],
        "worse": [name for name, difference in both.items() if difference > 0],
        "left_out": [name for name in pairs if name not in both],
    }


if __name__ == "__main__":
    main(measure, __file__, resumes=True)
