"""Probabilities of the ridge classifier beside `CalibratedClassifierCV` around the same model.

`NTKRidgeClassifierCV` chooses kernel and ridge on the training rows; every contestant then has that
kernel and that ridge. Ours fits one temperature to closed-form leave-one-out scores of one fit;
the others refit on five folds. Five splits a table, at most 1000 training rows; columns are
standardized inside the pipeline. No table here carries the tag `arora90`.
"""

import time
import warnings
from typing import Any

import numpy as np
from _common import bar, main, rounded
from _tables import bundled, stored
from sklearn.calibration import CalibratedClassifierCV
from sklearn.impute import SimpleImputer
from sklearn.metrics import accuracy_score, log_loss
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sknk import NTKRidgeClassifier, NTKRidgeClassifierCV

BUNDLED = ("iris", "wine", "breast_cancer", "digits")
TABLES = (
    "uci121/annealing",
    "uci121/conn-bench-vowel-deterding",
    "uci121/horse-colic",
    "uci121/magic",
    "uci121/page-blocks",
    "uci121/soybean",
    "uci121/spectf",
    "uci121/statlog-landsat",
    "uci121/thyroid",
    "uci121/wall-following",
    "covertype_20k",
    "clean2",
    "ad_data",
    "penguins",
    "wa_churn",
    "stackoverflow",
    "openml/credit_default",
    "openml/click",
)
METHODS = ("sigmoid", "isotonic", "temperature")
NUMBERS = ("log_loss", "ece", "accuracy", "fit_seconds")
RARE = 12  # classes with fewer rows cannot be in five training folds of every split


def measure(quick: bool) -> dict[str, Any]:
    """Score every table; print means over tables."""
    names = TABLES[:3] if quick else TABLES
    found, absent = stored(names)
    tables = {name: bundled(name) for name in (BUNDLED[:2] if quick else BUNDLED)} | found
    results = {}
    for name, table in tables.items():
        results[name] = one_table(table, 2 if quick else 5, 300 if quick else 1000)
        line = {who: found["log_loss"] for who, found in results[name]["contestants"].items()}
        print(f"{name:<36}log loss {line}")
    contestants = list(next(iter(results.values()))["contestants"])
    means = {
        who: {
            number: rounded(
                float(np.mean([r["contestants"][who][number] for r in results.values()]))
            )
            for number in NUMBERS
        }
        for who in contestants
    }
    for who, values in means.items():
        print(f"{who:<24}", "  ".join(f"{k} {v:.4g}" for k, v in values.items()))
    ours, peers = contestants[1], contestants[2:]
    bars = [
        bar(
            f"mean {number} minus the best peer's",
            gap(means, ours, peers, number),
            0.0,
            at_least=False,
        )
        for number in ("log_loss", "ece", "fit_seconds")
    ]
    return {"bars": bars, "means": means, "absent_tables": absent, "tables": results}


def gap(means: dict[str, Any], ours: str, peers: list[str], number: str) -> float:
    """Return our mean minus the least mean of the peers; below zero we are better."""
    return means[ours][number] - min(means[who][number] for who in peers)


def one_table(table: dict[str, np.ndarray], repeats: int, most: int) -> dict[str, Any]:
    """Average over splits."""
    X, y = np.asarray(table["X"], dtype=np.float64), table["y"]
    keep = np.random.RandomState(0).permutation(len(X))[: 3 * most]
    X, y = X[keep], y[keep]
    classes, counts = np.unique(y, return_counts=True)
    kept = np.isin(y, classes[counts >= RARE])
    X, y = X[kept], np.unique(y[kept], return_inverse=True)[1]
    runs = [one_split(X, y, seed, most) for seed in range(repeats)]
    contestants = {
        who: {number: rounded(float(np.mean([r[who][number] for r in runs]))) for number in NUMBERS}
        for who in runs[0]
    }
    shape = {"rows": len(X), "d": X.shape[1], "classes": int(y.max()) + 1}
    return {**shape, "rare_classes_left_out": len(classes) - shape["classes"]} | {
        "contestants": contestants
    }


def one_split(X: np.ndarray, y: np.ndarray, seed: int, most: int) -> dict[str, dict[str, float]]:
    """Fit all contestants on one split, in turn."""
    train = min(most, int(0.7 * len(X)))
    parts = train_test_split(X, y, train_size=train, random_state=seed, stratify=y)
    search = NTKRidgeClassifierCV()
    found = {"sknk, search included": scores(search, *parts)}
    model = NTKRidgeClassifier(search.kernel_, alpha=search.alpha_)
    contestants: dict[str, Any] = {"sknk, same model": model}
    for method in METHODS:
        contestants[f"{method}, ensemble"] = CalibratedClassifierCV(model, method=method, cv=5)
        contestants[f"{method}, one model"] = CalibratedClassifierCV(
            model, method=method, cv=5, ensemble=False
        )
    return found | {name: scores(peer, *parts) for name, peer in contestants.items()}


def scores(
    model: Any, X: np.ndarray, X_test: np.ndarray, y: np.ndarray, y_test: np.ndarray
) -> dict[str, float]:
    """Fit behind a scaler; return what the test rows say."""
    scaling = make_pipeline(SimpleImputer(), StandardScaler())
    Z, Z_test = scaling.fit_transform(X), scaling.transform(X_test)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "overflow", RuntimeWarning)  # sigmoid fits of peers
        start = time.perf_counter()
        model.fit(Z, y)
        seconds = time.perf_counter() - start
    p = model.predict_proba(Z_test)
    return {
        "log_loss": float(log_loss(y_test, p, labels=model.classes_)),
        "ece": expected_calibration_error(p, y_test),
        "accuracy": float(accuracy_score(y_test, p.argmax(axis=1))),
        "fit_seconds": seconds,
    }


def expected_calibration_error(p: np.ndarray, y: np.ndarray, bins: int = 15) -> float:
    """Return the mean gap of confidence and accuracy over equal bins of confidence."""
    confidence, hit = p.max(axis=1), p.argmax(axis=1) == y
    index = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = np.bincount(index, weights=hit - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(y))


if __name__ == "__main__":
    main(measure, __file__)
