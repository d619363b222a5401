"""Regression on 42 tables: errors beside trees, feature machines and kernels; do intervals cover?

The nine UCI tables, 20 more, the first by name without variants of another table, and what else
papers on Gaussian processes score, up to 20 000 rows. At most 2000 training and 2000 test rows, the
same for all; a fold of ten of tables above 1500 rows, three of those above 300, else all ten (the
UCI tables: five splits of their own). For everyone alike columns of categories become indicators,
missing numbers the median, targets are standardized, all on the training rows. Ours has no argument
but `feature_learning`; peers choose their settings inside the training rows, see `_regression.py`
and `_worker_tables.py`. ``SKNK_REGRESSION_TABLES`` and ``SKNK_REGRESSION_METHODS`` (names,
comma-separated, of methods with semicolons) restrict the run.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from _common import bar, main, rounded
from _peers import Peer
from _regression import (
    FOLDS,
    LEVELS,
    OURS,
    PLAIN,
    Contestants,
    Result,
    contestants,
    split,
    splits,
)
from _store import Store
from _tables import UCI9, stored
from scipy.stats import rankdata, wilcoxon

MORE = (
    "airfoil",
    "auto93",
    "autohorse",  # autos has some of its rows
    "autompg",
    "bank8fm",
    "beijing_pm25",
    "bike",
    "breastcancer",
    "cal_housing",
    "car_prices",
    "challenger",
    "cholesterol",
    "cloud",
    "concreteslump",
    "cpu_act",  # cpu_small has some of its columns
    "delta_ailerons",
    "delta_elevators",
    "diamonds",
    "echomonths",
    "elevators",
)
OF_GAUSSIAN_PROCESSES = (
    "fertility",
    "forest",
    "gas",
    "istanbul_stock",
    "machine",
    "parkinsons",
    "pendulum",
    "pol",
    "pumadyn32nm",
    "servo",
    "skillcraft",
    "sml",
    "solar",
)
VARIABLE, WORKER = "SKNK_PEER_TABLES", "_worker_tables.py"
QUICK = {
    "uci9_splits": 1,
    "folds": 1,
    "folds_of_few_rows": 1,
    "folds_of_many_rows": 1,
    "most": 120,
    "trees": 20,
}
FULL = {
    "uci9_splits": 5,
    "folds": 3,
    "folds_of_few_rows": FOLDS,
    "folds_of_many_rows": 1,
    "most": 2000,
    "trees": 500,
}
TIE = 0.01
MARGIN, HARM, NEAR = 0.05, 1.02, 1.1
HARD = "pumadyn32nm"  # 32 columns, of which few count


def measure(quick: bool, folder: Path | None) -> dict[str, Any]:
    """Score every table with everyone, peers first; judge all of them."""
    names = ("yacht", "auto93", "challenger") if quick else UCI9 + MORE + OF_GAUSSIAN_PROCESSES
    return scores_of(names, QUICK if quick else FULL, Store(folder, __file__))


def scores_of(names: Sequence[str], sizes: dict[str, int], store: Store) -> dict[str, Any]:
    """Score these tables; return figures and bars."""
    asked = os.environ.get("SKNK_REGRESSION_TABLES")
    wanted = [name for name in names if not asked or name in asked.split(",")]
    found, absent = stored(wanted)
    peer = Peer.open(VARIABLE, WORKER)
    fits = fit_all(found, asked_for(contestants(sizes, peer)), sizes, store)
    if isinstance(peer, Peer):
        peer.close()
    tables = {name: one_table(found[name], by_who, sizes) for name, by_who in fits.items()}
    compared = comparison(tables) if tables else {}
    for who, line in compared.items():
        print(f"{who:<24}", "  ".join(f"{k} {v}" for k, v in line.items()))
    covered = mean_intervals(tables)
    return {
        "bars": bars(tables, compared, covered),
        **sizes,
        "units": "standard deviations of the training targets",
        "peers": peer if isinstance(peer, str) else peer.versions,
        "fits": store.counts(),
        "tie": f"errors that differ by less than {TIE:.0%}",
        "compared": compared,
        "intervals": covered,
        "absent_tables": absent,
        "not_asked_for": sorted(set(names) - set(wanted)),
        "tables": tables,
    }


def asked_for(everyone: Contestants) -> Contestants:
    """Return the contestants that the run is restricted to."""
    asked = os.environ.get("SKNK_REGRESSION_METHODS")
    return {who: fit for who, fit in everyone.items() if not asked or who in asked.split(";")}


def fit_all(
    tables: dict[str, dict[str, np.ndarray]], everyone: Contestants, sizes: Any, store: Store
) -> dict[str, dict[str, list[Result]]]:
    """Return every contestant's result on every split, small tables first, ours last of all."""
    by_size = sorted(tables, key=lambda name: tables[name]["X"].size)
    fits: dict[str, dict[str, list[Result]]] = {name: {} for name in by_size}
    mine = [who for who in everyone if who in (PLAIN, OURS)]
    for group in ([who for who in everyone if who not in mine], mine):
        for name in by_size:
            for who in group:
                settings, fit = everyone[who]
                fits[name][who] = [
                    store.get(
                        [name, k, who],
                        settings,
                        lambda fit=fit, name=name, k=k: fit(split(tables[name], k, sizes["most"])),
                    )
                    for k in range(splits(tables[name], sizes))
                ]
                line = over_splits(fits[name][who])
                print(f"{name:<16}{who:<24}rmse {line['rmse']}  {line['seconds']} s", flush=True)
    return fits


# --- summaries ------------------------------------------------------------------------------------


def one_table(
    table: dict[str, np.ndarray], fits: dict[str, list[Result]], sizes: Any
) -> dict[str, Any]:
    """Return a table's sizes and everyone's means over its splits."""
    X, _, _, y_test = split(table, 0, sizes["most"])
    return {
        "rows": len(table["y"]),
        "train_rows": len(X),
        "test_rows": len(y_test),
        "d": X.shape[1],
        "contestants": {who: over_splits(runs) for who, runs in fits.items()},
    }


def over_splits(runs: list[Result]) -> dict[str, Any]:
    """Return means over splits, None where one has failed, and every split's error."""
    failed = {str(k): run["failed"] for k, run in enumerate(runs) if "failed" in run}
    line: dict[str, Any] = {"rmse": None, "seconds": None}
    if not failed:
        line["rmse"] = mean([run["rmse"] for run in runs])
        line["seconds"] = mean([run["fit_seconds"] for run in runs])
        line |= {key: mean([run[key] for run in runs]) for key in runs[0] if is_interval(key)}
    line["rmse_by_split"] = [run.get("rmse") for run in runs]
    if any("chosen" in run for run in runs):
        line["chosen"] = [run.get("chosen") for run in runs]
    return line | ({"failed": failed} if failed else {})


def is_interval(key: str) -> bool:
    """Tell coverages and widths from other scores."""
    return key.startswith(("coverage", "width"))


def mean(values: list[float | None]) -> float | None:
    """Return the mean, None if a value is missing."""
    present = [value for value in values if value is not None]
    return rounded(float(np.mean(present))) if present and len(present) == len(values) else None


def comparison(tables: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Compare everyone over the tables on which nobody has failed.

    `margin` is the mean logarithm of errors over ours; wins, ties and losses are ours against the
    peer; p is Wilcoxon's signed-rank test of the errors, two-sided.
    """
    lines = [table["contestants"] for table in tables.values()]
    everyone = list(lines[0])
    complete = [[line[who]["rmse"] for who in everyone] for line in lines]
    errors = np.array([row for row in complete if None not in row])  # (tables, contestants)
    if not len(errors):
        return {}
    ranks = rankdata(errors, axis=1).mean(axis=0)
    found = {}
    for column, who in enumerate(everyone):
        theirs = errors[:, column]
        found[who] = {
            "tables": len(errors),
            "mean_log_rmse": rounded(float(np.log(theirs).mean())),
            "rmse": rounded(float(theirs.mean())),
            "median": rounded(float(np.median(theirs))),
            "rank": rounded(float(ranks[column]), 3),
        }
        if OURS in everyone and who != OURS:
            found[who] |= duel(errors[:, everyone.index(OURS)], theirs)
    return found


def duel(mine: np.ndarray, theirs: np.ndarray) -> dict[str, Any]:
    """Compare our errors with one peer's, table by table."""
    ratio = theirs / mine
    wins, losses = int((ratio > 1.0 + TIE).sum()), int((ratio < 1.0 / (1.0 + TIE)).sum())
    return {
        "margin": rounded(float(np.log(ratio).mean())),
        "wins_ties_losses": [wins, len(ratio) - wins - losses, losses],
        "p": rounded(float(wilcoxon(mine, theirs).pvalue), 2) if (mine != theirs).any() else 1.0,
    }


def mean_intervals(tables: dict[str, Any]) -> dict[str, float | None]:
    """Average coverages and widths of our intervals over tables."""
    lines = [table["contestants"].get(OURS, {}) for table in tables.values()]
    keys = [f"{what}_{level:.0%}" for level in LEVELS for what in ("coverage", "width")]
    return {key: mean([line.get(key) for line in lines]) for key in keys}


def bars(
    tables: dict[str, Any], compared: dict[str, dict[str, Any]], covered: dict[str, Any]
) -> list[dict[str, Any]]:
    """Judge the margin over every peer, harm beside our own plain model, coverages."""
    margins = {who: line["margin"] for who, line in compared.items() if "margin" in line}
    found = [
        bar(f"mean log error of {who} minus ours", margin, MARGIN, at_least=True)
        for who, margin in margins.items()
        if who != PLAIN
    ]
    harm, near = worst_harm(tables), beside_best(tables.get(HARD))
    found.append(bar("worst error over that without features", harm, HARM, at_least=False))
    found.append(bar(f"error on {HARD} over the best peer's", near, NEAR, at_least=False))
    for level in LEVELS:
        value = covered[f"coverage_{level:.0%}"]
        off = None if value is None else abs(value - level)
        found.append(bar(f"mean coverage, distance to {level}", off, 0.02, at_least=False))
    return found


def worst_harm(tables: dict[str, Any]) -> float | None:
    """Return the largest ratio of our errors with and without learned features."""
    lines = [table["contestants"] for table in tables.values()]
    pairs = [
        (line[OURS]["rmse"], line[PLAIN]["rmse"]) for line in lines if {OURS, PLAIN} <= {*line}
    ]
    known = [mine / plain for mine, plain in pairs if None not in (mine, plain)]
    return rounded(max(known)) if known else None


def beside_best(table: dict[str, Any] | None) -> float | None:
    """Return our error over the least of the peers'."""
    if table is None or OURS not in table["contestants"]:
        return None
    errors = {who: line["rmse"] for who, line in table["contestants"].items() if line["rmse"]}
    mine = errors.pop(OURS, None)
    errors.pop(PLAIN, None)
    return None if mine is None or not errors else rounded(mine / min(errors.values()))


if __name__ == "__main__":
    main(measure, __file__, resumes=True)
