"""Regression on 29 tables: errors beside forests, boosting and kernels, coverage of intervals.

The nine UCI tables (five of their own splits) and 20 more, the first by name without variants of
another table: three of ten folds, or all ten of tables up to 300 rows. At most 2000 training and
2000 test rows, the same for all. For everyone alike columns of categories become indicators,
missing numbers the median, targets are standardized, all on the training rows. Ours has no
arguments; peers choose their settings inside the training rows, see `_worker_tables.py` for two.
``SKNK_REGRESSION_TABLES`` (names, comma-separated) restricts the run.
"""

import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from _common import bar, installed, main, rounded
from _peers import Peer
from _store import Store, package_sources
from _tables import UCI9, stored
from scipy.stats import rankdata, wilcoxon
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor
from sklearn.impute import SimpleImputer
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVR

from sknk import NTKRidgeCV

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
SOURCES = package_sources()
VARIABLE, WORKER = "SKNK_PEER_TABLES", "_worker_tables.py"
OURS, FOREST, SVM = "sknk", "random forest", "support vectors, RBF"
LIGHTGBM, XRFM = "LightGBM", "xRFM"
LEVELS = (0.8, 0.9)
FOLDS, FEW_ROWS, MOST_TEST = 10, 300, 2000
QUICK = {"uci9_splits": 1, "folds": 1, "folds_of_few_rows": 1, "most": 120, "trees": 20}
FULL = {"uci9_splits": 5, "folds": 3, "folds_of_few_rows": FOLDS, "most": 2000, "trees": 500}
TIE = 0.01
INNER = KFold(3, shuffle=True, random_state=0)
WIDTHS = (0.1, 0.3, 1.0, 3.0)  # gamma times the number of columns

Rows = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
Result = dict[str, Any]
Contestants = dict[str, tuple[dict[str, Any], Callable[[Rows], Result]]]


def measure(quick: bool, folder: Path | None) -> dict[str, Any]:
    """Score every table with everyone, peers first; judge all of them."""
    sizes = QUICK if quick else FULL
    asked = os.environ.get("SKNK_REGRESSION_TABLES")
    names = ("yacht", "auto93", "challenger") if quick else UCI9 + MORE
    wanted = [name for name in names if not asked or name in asked.split(",")]
    found, absent = stored(wanted)
    store = Store(folder, __file__)
    peer = Peer.open(VARIABLE, WORKER)
    fits = fit_all(found, contestants(sizes, peer), sizes, store)
    if isinstance(peer, Peer):
        peer.close()
    tables = {name: one_table(found[name], by_who, sizes) for name, by_who in fits.items()}
    compared = comparison(tables) if tables else {}
    for who, line in compared.items():
        print(f"{who:<24}", "  ".join(f"{k} {v}" for k, v in line.items()))
    covered = mean_intervals(tables)
    return {
        "bars": bars(compared, covered),
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


def fit_all(
    tables: dict[str, dict[str, np.ndarray]], everyone: Contestants, sizes: Any, store: Store
) -> dict[str, dict[str, list[Result]]]:
    """Return every contestant's result on every split, small tables first, ours last of all."""
    by_size = sorted(tables, key=lambda name: tables[name]["X"].size)
    fits: dict[str, dict[str, list[Result]]] = {name: {} for name in by_size}
    for group in ([who for who in everyone if who != OURS], [OURS]):
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


def contestants(sizes: Any, peer: Peer | str) -> Contestants:
    """Return every contestant's fit, and the settings that its results depend on."""
    most = {"most": sizes["most"], "most_test": MOST_TEST}
    trees = {"trees": sizes["trees"]}
    found: Contestants = {}
    for who, fit, options in (
        ("ridge, linear", linear, {}),
        ("HistGradientBoosting", boosting, {}),
        (FOREST, forest, trees),
        ("kernel ridge, RBF", kernel_ridge, {}),
        (SVM, support_vectors, {}),
    ):
        settings = {**most, **options, "version": installed("scikit-learn")}
        found[who] = (settings, partial(fit, **options))
    if isinstance(peer, Peer):
        for who in (LIGHTGBM, XRFM):
            found[who] = ({**most, **peer.versions}, partial(elsewhere, peer, who.lower()))
    found[OURS] = ({**most, "sources": SOURCES}, ours)
    return found


# --- rows -----------------------------------------------------------------------------------------


def splits(table: dict[str, np.ndarray], sizes: Any) -> int:
    """Return how many splits of a table are used."""
    if "split_0_test" in table:
        return sizes["uci9_splits"]
    return sizes["folds_of_few_rows" if len(table["y"]) <= FEW_ROWS else "folds"]


def split(table: dict[str, np.ndarray], k: int, most: int) -> Rows:
    """Return encoded training rows and standardized targets, test rows and targets."""
    X, y = np.asarray(table["X"], dtype=np.float64), np.asarray(table["y"], dtype=np.float64)
    draw = np.random.RandomState(k)
    test = test_rows(table, k)
    train = draw.permutation(np.setdiff1d(np.arange(len(X)), test))[:most]
    test = draw.permutation(test)[:MOST_TEST]
    categories = np.asarray(table.get("cat", ()), dtype=int)
    encoder = make_column_transformer(
        (SimpleImputer(strategy="median"), np.setdiff1d(np.arange(X.shape[1]), categories)),
        (OneHotEncoder(handle_unknown="ignore", sparse_output=False), categories),
    ).fit(X[train])
    y = (y - y[train].mean()) / y[train].std()
    return encoder.transform(X[train]), y[train], encoder.transform(X[test]), y[test]


def test_rows(table: dict[str, np.ndarray], k: int) -> np.ndarray:
    """Return the test rows of a table's own split, or of ten folds drawn here."""
    if "split_0_test" in table:
        return table[f"split_{k}_test"]
    n = len(table["y"])
    folds = table.get("fold10", np.random.RandomState(0).permutation(n) % FOLDS)
    return np.flatnonzero(folds == k)


# --- contestants ----------------------------------------------------------------------------------


def ours(rows: Rows) -> Result:
    """Fit ours without arguments; count the targets in its intervals."""
    _, _, X_test, y_test = rows
    model = make_pipeline(StandardScaler(), NTKRidgeCV())
    found = scored(model, rows)
    Z_test = model[0].transform(X_test)
    for level in LEVELS:
        low, high = model[-1].predict_interval(Z_test, alpha=1.0 - level).T
        width = float((high - low).mean())
        found[f"coverage_{level:.0%}"] = rounded(float(((low <= y_test) & (y_test <= high)).mean()))
        found[f"width_{level:.0%}"] = rounded(width) if np.isfinite(width) else None
    chosen = {key: float(value) for key, value in model[-1].best_params_.items()}
    return {**found, "chosen": chosen}


def linear(rows: Rows) -> Result:
    """Fit a ridge regression, chosen by leave-one-out."""
    return scored(make_pipeline(StandardScaler(), RidgeCV(np.logspace(-3, 3, 13))), rows)


def forest(rows: Rows, trees: int) -> Result:
    """Fit a random forest."""
    return scored(RandomForestRegressor(trees, random_state=0), rows)


def boosting(rows: Rows) -> Result:
    """Fit scikit-learn's boosted trees as they come."""
    return scored(HistGradientBoostingRegressor(random_state=0), rows)


def kernel_ridge(rows: Rows) -> Result:
    """Fit a kernel ridge regression, chosen by folds."""
    grid = {"gamma": gammas(rows), "alpha": np.logspace(-4, 0, 5)}
    return scored(searched(KernelRidge(kernel="rbf"), grid), rows)


def support_vectors(rows: Rows) -> Result:
    """Fit a support vector regression, chosen by folds."""
    grid = {"gamma": gammas(rows), "C": [1.0, 10.0, 100.0], "epsilon": [0.01, 0.1]}
    return scored(searched(SVR(cache_size=1000), grid), rows)


def gammas(rows: Rows) -> list[float]:
    """Return candidates for the width of an RBF kernel on standardized columns."""
    return [width / rows[0].shape[1] for width in WIDTHS]


def searched(model: Any, grid: dict[str, Any]) -> Any:
    """Return a grid search by squared error on standardized columns."""
    search = GridSearchCV(model, grid, scoring="neg_mean_squared_error", cv=INNER)
    return make_pipeline(StandardScaler(), search)


def elsewhere(peer: Peer, model: str, rows: Rows) -> Result:
    """Fit a model of the worker's.

    Raises
    ------
    RuntimeError
        If the worker has ended, or the fit has failed.
    """
    X, y, X_test, y_test = rows
    with tempfile.TemporaryDirectory() as folder:
        file, out = f"{folder}/in.npz", f"{folder}/out.npz"
        np.savez(file, X=X, y=y, X_test=X_test)
        reply = peer.ask(case="fit", model=model, task="regression", file=file, out=out)
        if "error" in reply:
            raise RuntimeError(reply["error"])
        with np.load(out, allow_pickle=False) as found:
            error = rmse(found["predictions"], y_test)
    return {"rmse": error, "fit_seconds": rounded(reply["seconds"]), "chosen": reply["chosen"]}


def scored(model: Any, rows: Rows) -> Result:
    """Fit and predict; return the error, and the seconds of both."""
    X, y, X_test, y_test = rows
    start = time.perf_counter()
    predictions = model.fit(X, y).predict(X_test)
    seconds = time.perf_counter() - start
    return {"rmse": rmse(predictions, y_test), "fit_seconds": rounded(seconds)}


def rmse(predictions: np.ndarray, y: np.ndarray) -> float:
    """Return the root mean square error, in deviations of the training targets."""
    return rounded(float(np.sqrt(np.mean((predictions - y) ** 2))))


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

    `ratio` is the geometric mean of errors over ours; wins, ties and losses are ours against the
    peer; p is Wilcoxon's signed-rank test of the errors, two-sided.
    """
    lines = [table["contestants"] for table in tables.values()]
    everyone = list(lines[0])
    complete = [[line[who]["rmse"] for who in everyone] for line in lines]
    errors = np.array([row for row in complete if None not in row])  # (tables, contestants)
    if not len(errors):
        return {}
    ranks = rankdata(errors, axis=1).mean(axis=0)
    mine = errors[:, everyone.index(OURS)]
    found = {}
    for column, who in enumerate(everyone):
        theirs = errors[:, column]
        found[who] = {
            "tables": len(errors),
            "rmse": rounded(float(theirs.mean())),
            "median": rounded(float(np.median(theirs))),
            "rank": rounded(float(ranks[column]), 3),
        }
        if who != OURS:
            found[who] |= duel(mine, theirs)
    return found


def duel(mine: np.ndarray, theirs: np.ndarray) -> dict[str, Any]:
    """Compare our errors with one peer's, table by table."""
    ratio = theirs / mine
    wins, losses = int((ratio > 1.0 + TIE).sum()), int((ratio < 1.0 / (1.0 + TIE)).sum())
    return {
        "ratio": rounded(float(np.exp(np.log(ratio).mean()))),
        "wins_ties_losses": [wins, len(ratio) - wins - losses, losses],
        "p": rounded(float(wilcoxon(mine, theirs).pvalue), 2) if (mine != theirs).any() else 1.0,
    }


def mean_intervals(tables: dict[str, Any]) -> dict[str, float | None]:
    """Average coverages and widths of our intervals over tables."""
    lines = [table["contestants"][OURS] for table in tables.values()]
    keys = [f"{what}_{level:.0%}" for level in LEVELS for what in ("coverage", "width")]
    return {key: mean([line.get(key) for line in lines]) for key in keys}


def bars(compared: dict[str, dict[str, Any]], covered: dict[str, Any]) -> list[dict[str, Any]]:
    """Judge errors beside forest, support vectors and the best peer, and coverages."""
    peers = {who: line["rmse"] for who, line in compared.items() if who != OURS}
    best = min(peers, key=peers.__getitem__, default="")
    found = []
    for who in (FOREST, SVM, best):
        value = compared[OURS]["rmse"] / peers[who] if who in peers else None
        name = who if who != best else f"the best peer, {who}"
        found.append(bar(f"mean error over that of {name}", value, 1.0, at_least=False))
    for level in LEVELS:
        value = covered[f"coverage_{level:.0%}"]
        off = None if value is None else abs(value - level)
        found.append(bar(f"mean coverage, distance to {level}", off, 0.02, at_least=False))
    return found


if __name__ == "__main__":
    main(measure, __file__, resumes=True)
