"""Coverage and width of `NTKRidgeCV.predict_interval` on the nine UCI regression tables.

Three of the tables' own splits, at most 1000 training rows, alpha = 0.1. Beside it split conformal
prediction with the same estimator: half of the training rows fit, the other half calibrate.
"""

import time
from typing import Any

import numpy as np
from _common import bar, main, rounded
from _tables import UCI9, stored
from sklearn.preprocessing import StandardScaler

from sknk import NTKRidgeCV

ALPHA = 0.1
MOST_TEST = 2000


def measure(quick: bool) -> dict[str, Any]:
    """Average coverage and relative width over tables."""
    found, absent = stored(UCI9[:3] if quick else UCI9)
    results = {
        name: one_table(table, 1 if quick else 3, 300 if quick else 1000)
        for name, table in found.items()
    }
    for name, ways in results.items():
        for way, line in ways.items():
            print(f"{name:<10}{way:<18}", "  ".join(f"{k} {v:.4g}" for k, v in line.items()))
    mean = {
        way: {
            key: rounded(float(np.mean([ways[way][key] for ways in results.values()])))
            for key in ("coverage", "width", "seconds")
        }
        for way in (("jackknife+", "split conformal") if results else ())
    }
    coverage = mean["jackknife+"]["coverage"] if results else None
    width = mean["jackknife+"]["width"] / mean["split conformal"]["width"] if results else None
    bars = [
        bar("mean coverage", coverage, 1.0 - 2.0 * ALPHA, at_least=True),
        bar(
            "mean coverage, distance to 0.9",
            None if coverage is None else abs(coverage - 1.0 + ALPHA),
            0.02,
            at_least=False,
        ),
        bar("mean width over split conformal's", width, 1.0, at_least=False),
    ]
    return {
        "bars": bars,
        "alpha": ALPHA,
        "width_unit": "standard deviation of the training targets",
        "mean": mean,
        "absent_tables": absent,
        "tables": results,
    }


def one_table(table: dict[str, np.ndarray], splits: int, most: int) -> dict[str, dict[str, float]]:
    """Average over splits."""
    runs = [one_split(table, k, most) for k in range(splits)]
    return {
        way: {key: rounded(float(np.mean([r[way][key] for r in runs]))) for key in runs[0][way]}
        for way in runs[0]
    }


def one_split(table: dict[str, np.ndarray], k: int, most: int) -> dict[str, dict[str, float]]:
    """Return coverage and width of both kinds of interval on one split."""
    X, y = np.asarray(table["X"], dtype=np.float64), np.asarray(table["y"], dtype=np.float64)
    draw = np.random.RandomState(k)
    test = table[f"split_{k}_test"]
    train = draw.permutation(np.setdiff1d(np.arange(len(X)), test))[:most]
    test = draw.permutation(test)[:MOST_TEST]
    scaler = StandardScaler().fit(X[train])
    Z, Z_test = scaler.transform(X[train]), scaler.transform(X[test])

    def jackknife() -> np.ndarray:
        return NTKRidgeCV().fit(Z, y[train]).predict_interval(Z_test, alpha=ALPHA)

    def conformal() -> np.ndarray:
        half = len(train) // 2
        model = NTKRidgeCV().fit(Z[:half], y[train][:half])
        errors = np.sort(np.abs(y[train][half:] - model.predict(Z[half:])))
        rank = int(np.ceil((1.0 - ALPHA) * (len(errors) + 1)))
        radius = errors[min(rank, len(errors)) - 1]
        middle = model.predict(Z_test)
        return np.column_stack([middle - radius, middle + radius])

    found = {}
    for way, intervals in (("jackknife+", jackknife), ("split conformal", conformal)):
        start = time.perf_counter()
        low, high = intervals().T
        seconds = time.perf_counter() - start
        found[way] = {
            "coverage": float(((low <= y[test]) & (y[test] <= high)).mean()),
            "width": float((high - low).mean() / y[train].std()),
            "seconds": seconds,
            "train_rows": len(train),
            "test_rows": len(test),
        }
    return found


if __name__ == "__main__":
    main(measure, __file__)
