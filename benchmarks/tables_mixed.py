"""Classification of 20 tables of mixed types through `tabular_pipeline`, beside boosted trees.

The first 20 by name of the family clf_mixed: categories, numbers, missing values. Three stratified
folds, at most 2000 training and 2000 test rows, the same for all. Ours has no argument but
`feature_learning`; LightGBM sees categories declared as such and missing values as they are, with
its defaults and tuned by 30 random trials inside the training rows, see `_worker_tables.py`.
Four of the tables (ad_data, adult_raw, coil2000, connect_4) had a part in the choice of the
classifier's default kernels, some in that of `tabular_pipeline`'s defaults.
``SKNK_MIXED_METHODS`` (names, semicolons between them) restricts the run.
"""

import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from _common import bar, main, rounded
from _peers import Peer
from _store import Store, package_sources
from _tables import stored
from _uci import Result, every_class, log_loss, thinned
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import StratifiedKFold

from sknk import NTKRidgeClassifierCV
from sknk.preprocessing import tabular_pipeline

TABLES = (
    "ad_data",
    "adult_raw",
    "anneal_raw",
    "arrhythmia_raw",
    "audiology_raw",
    "bank_raw",
    "breast_cancer_raw",
    "bridges_version2_raw",
    "car_raw",
    "cmc_raw",
    "coil2000",
    "colic_raw",
    "connect_4",
    "credit_a_raw",
    "credit_g_raw",
    "cylinder_bands_raw",
    "dermatology_raw",
    "flags_raw",
    "heart_c_raw",
    "heart_h_raw",
)
VARIABLE, WORKER = "SKNK_PEER_TABLES", "_worker_tables.py"
OURS, PLAIN, FOREST = "sknk, features learned", "sknk", "random forest"
BOOSTED = {"LightGBM, default": "lightgbm-default", "LightGBM, 30 trials": "lightgbm-random"}
FOLDS, MOST = 3, 2000

Split = dict[str, Any]


def measure(quick: bool, folder: Path | None) -> dict[str, Any]:
    """Score every table with everyone."""
    found, absent = stored(TABLES[:2] if quick else TABLES)
    store, peer = Store(folder, __file__), Peer.open(VARIABLE, WORKER)
    most = 150 if quick else MOST
    tables = {}
    for name in sorted(found, key=lambda name: found[name]["X"].size):
        splits = [split(found[name], k, most) for k in range(FOLDS)]
        tables[name] = one_table(name, splits, contestants(most, peer), store)
        print(name, {who: line["accuracy"] for who, line in tables[name].items()}, flush=True)
    if isinstance(peer, Peer):
        peer.close()
    compared = comparison(tables)
    for who, line in compared.items():
        print(f"{who:<24}", "  ".join(f"{k} {v}" for k, v in line.items()))
    return {
        "bars": bars(compared),
        "folds": FOLDS,
        "most": most,
        "peers": peer if isinstance(peer, str) else peer.versions,
        "fits": store.counts(),
        "compared": compared,
        "absent_tables": absent,
        "tables": tables,
    }


def contestants(most: int, peer: Peer | str) -> list[tuple[str, Any, Any]]:
    """Return names, what results depend on, and fits; those that were asked for."""
    sources = {"sources": package_sources(), "most": most}
    forest = RandomForestClassifier(500, random_state=0)
    found: list[tuple[str, Any, Any]] = [
        (PLAIN, sources, partial(piped, NTKRidgeClassifierCV())),
        (OURS, sources, partial(piped, NTKRidgeClassifierCV(feature_learning="auto"))),
        (FOREST, {**sources, "model": repr(forest)}, partial(piped, forest)),
    ]
    if isinstance(peer, Peer):
        for who, model in BOOSTED.items():
            found.append((who, {"most": most, **peer.versions}, partial(elsewhere, peer, model)))
    asked = os.environ.get("SKNK_MIXED_METHODS")
    return [line for line in found if not asked or line[0] in asked.split(";")]


def split(table: dict[str, np.ndarray], k: int, most: int) -> Split:
    """Return fold k, every class in proportion."""
    X, y = np.asarray(table["X"], dtype=np.float64), np.asarray(table["y"], dtype=np.int64)
    few = np.bincount(y)[y] < FOLDS  # classes too rare to be in every fold
    X, y = X[~few], np.unique(y[~few], return_inverse=True)[1]
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(X, y)
    train, test = list(folds)[k]
    train, test = thinned(train, y[train], most, k), thinned(test, y[test], MOST, k)
    cat = np.asarray(table.get("cat", ()), dtype=np.int64)
    return {"X": X[train], "y": y[train], "X_test": X[test], "y_test": y[test], "cat": cat}


def piped(model: Any, rows: Split) -> Result:
    """Fit through our pipeline, categories as a frame's dtypes tell them."""
    frames = [pd.DataFrame(rows[key]) for key in ("X", "X_test")]
    for frame in frames:
        frame.columns = [f"x{j}" for j in range(frame.shape[1])]
        for j in rows["cat"].tolist():
            frame[f"x{j}"] = frame[f"x{j}"].astype("category")
    pipe = tabular_pipeline(model).fit(frames[0], rows["y"])
    return scores(every_class(pipe, frames[1], rows["y"].max() + 1), rows)


def elsewhere(peer: Peer, model: str, rows: Split) -> Result:
    """Fit a model of the worker's.

    Raises
    ------
    RuntimeError
        If the worker has ended, or the fit has failed.
    """
    arrays = {key: rows[key] for key in ("X", "y", "X_test", "cat")}
    return scores(peer.fit(model, "classification", **arrays)[0]["proba"], rows)


def scores(proba: np.ndarray, rows: Split) -> Result:
    """Return accuracy and log loss."""
    accuracy = float((proba.argmax(axis=1) == rows["y_test"]).mean())
    return {"accuracy": accuracy, "log_loss": log_loss(proba, rows["y_test"])}


def one_table(
    name: str, splits: list[Split], everyone: list[tuple[str, Any, Any]], store: Store
) -> dict[str, Any]:
    """Return everyone's means over the folds, None where one has failed."""
    lines = {}
    for who, settings, fit in everyone:
        runs = [
            store.get([name, k, who], settings, partial(fit, rows)) for k, rows in enumerate(splits)
        ]
        failed = any("failed" in run for run in runs)
        lines[who] = {
            key: None if failed else rounded(float(np.mean([run[key] for run in runs])))
            for key in ("accuracy", "log_loss", "seconds")
        }
    return lines


def comparison(tables: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return means over the tables on which nobody has failed, and ours minus theirs."""
    done = [t for t in tables.values() if None not in [line["accuracy"] for line in t.values()]]
    found: dict[str, dict[str, Any]] = {}
    for who in done[0] if done else ():
        accuracy = np.array([100.0 * table[who]["accuracy"] for table in done])
        losses = np.array([table[who]["log_loss"] for table in done])
        found[who] = {
            "tables": len(done),
            "accuracy": rounded(float(accuracy.mean())),
            "log_loss": rounded(float(losses.mean())),
        }
        if OURS in done[0] and who != OURS:
            mine = np.array([100.0 * table[OURS]["accuracy"] for table in done])
            own = np.array([table[OURS]["log_loss"] for table in done])
            found[who] |= {
                "ours_minus": rounded(float((mine - accuracy).mean())),
                "standard_error": rounded(float((mine - accuracy).std(ddof=1) / len(done) ** 0.5)),
                "wins_ties_losses": [int(f((mine - accuracy).round(6))) for f in COUNTS],
                "log_loss_difference": rounded(float((losses - own).mean())),
            }
    return found


COUNTS = (lambda d: (d > 0).sum(), lambda d: (d == 0).sum(), lambda d: (d < 0).sum())


def bars(compared: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Judge accuracy and log loss beside boosted trees, accuracy beside our plain model."""
    found = []
    for who in (*BOOSTED, PLAIN):
        line = compared.get(who, {})
        name = f"ours minus {who}, points of accuracy"
        found.append(bar(name, line.get("ours_minus"), 0.0, at_least=True))
        name = f"log loss of {who} minus ours, nats"
        found.append(bar(name, line.get("log_loss_difference"), 0.0, at_least=True))
    return found


if __name__ == "__main__":
    main(measure, __file__, resumes=True)
