"""Tables and figures of the benchmarks of active learning."""

from pathlib import Path
from typing import Any

import numpy as np
from _common import rounded
from _tables import stored

from sknk.active_learning import LearningCurves, run_active_learning

# Eight of regression, among them all that Holzmueller et al. (2023) used and that are here.
REGRESSION = (
    "protein",
    "keggundirected",
    "fried",
    "diamonds",
    "kin40k",
    "pol",
    "elevators",
    "cal_housing",
)
N_TEST = 2048


def regression_table(name: str, n_rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Return rows drawn by a fixed seed: columns standardized and bounded by 5, targets standard.

    The preparation of Holzmueller et al. (2023): 5 tanh(x / 5); targets over all rows, so that
    errors of tables compare.
    """
    tables, absent = stored([name])
    if absent:
        raise RuntimeError(f"{name}: {absent[name]}")
    X, y = (np.asarray(tables[name][key], dtype=np.float64) for key in ("X", "y"))
    y = y.ravel()
    whole = np.isfinite(X).all(axis=1) & np.isfinite(y)
    X, y = X[whole], y[whole]
    rows = np.random.default_rng(0).permutation(len(X))[:n_rows]
    X, y = X[rows], y[rows]
    spread = X.std(axis=0)
    X = 5.0 * np.tanh((X - X.mean(axis=0)) / np.where(spread > 0, spread, 1.0) / 5.0)
    return X, (y - y.mean()) / y.std()


def log_errors(curves: LearningCurves) -> dict[str, np.ndarray]:
    """Return log RMSE of each learner, (splits, steps + 1), from negative RMSE."""
    return {name: np.log(-line) for name, line in curves.scores.items()}


def played(
    learners: dict[str, Any],
    X: np.ndarray,
    y: np.ndarray,
    *,
    folder: Path | None,
    name: str,
    **settings: Any,
) -> LearningCurves:
    """Return learning curves, kept step by step in a file of the table's."""
    path = None
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{name}.jsonl"
    return run_active_learning(learners, X, y, random_state=0, path=path, verbose=1, **settings)


def averages(tables: dict[str, dict[str, np.ndarray]]) -> dict[str, Any]:
    """Return mean log RMSE after the first batch and later: by table, and over tables.

    Over tables for those that finished on all of them.
    """
    every = [set(found) for found in tables.values()]
    names = [name for name in next(iter(tables.values())) if all(name in e for e in every)]
    by_table = {
        table: {name: rounded(float(line[:, 1:].mean())) for name, line in found.items()}
        for table, found in tables.items()
    }
    mean = {name: rounded(float(np.mean([by_table[t][name] for t in by_table]))) for name in names}
    return {"mean_log_rmse": mean, "by_table": by_table}


def curve_lines(tables: dict[str, dict[str, np.ndarray]]) -> dict[str, dict[str, list[float]]]:
    """Return mean curves over splits, for plots."""
    return {
        table: {
            name: [rounded(float(v)) for v in line.mean(axis=0)] for name, line in found.items()
        }
        for table, found in tables.items()
    }
