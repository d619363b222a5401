"""Contestants for regression on tables: the same rows for all, everything chosen inside them."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from _common import installed, rounded
from _peers import Peer
from _store import package_sources
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.impute import SimpleImputer
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVR

from sknk import NTKRidgeCV

SOURCES = package_sources()
OURS, PLAIN = "sknk, features learned", "sknk"
FOREST, SVM, GPR = "random forest", "support vectors, RBF", "Gaussian process, RBF-ARD"
ELSEWHERE = {  # by the worker's names
    "LightGBM, default": "lightgbm-default",
    "LightGBM, 30 trials": "lightgbm-random",
    "xRFM, default": "xrfm-default",
    "xRFM": "xrfm",
}
LEVELS = (0.8, 0.9)
FOLDS, FEW_ROWS, MANY_ROWS, MOST_TEST = 10, 300, 1500, 2000
EVIDENCE_ROWS = 500
INNER = KFold(3, shuffle=True, random_state=0)
WIDTHS = (0.1, 0.3, 1.0, 3.0)  # gamma times the number of columns

Rows = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
Result = dict[str, Any]
Contestants = dict[str, tuple[dict[str, Any], Callable[[Rows], Result]]]


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
        (GPR, gaussian_process, {}),
    ):
        settings = {**most, **options, "version": installed("scikit-learn")}
        found[who] = (settings, partial(fit, **options))
    if isinstance(peer, Peer):
        for who, model in ELSEWHERE.items():
            found[who] = ({**most, **peer.versions}, partial(elsewhere, peer, model))
    for who, learning in ((PLAIN, None), (OURS, "auto")):
        found[who] = ({**most, "sources": SOURCES}, partial(ours, feature_learning=learning))
    return found


# --- rows -----------------------------------------------------------------------------------------


def splits(table: dict[str, np.ndarray], sizes: Any) -> int:
    """Return how many splits of a table are used."""
    n = len(table["y"])
    if n > MANY_ROWS:
        return sizes["folds_of_many_rows"]
    if "split_0_test" in table:
        return sizes["uci9_splits"]
    return sizes["folds_of_few_rows" if n <= FEW_ROWS else "folds"]


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


def ours(rows: Rows, feature_learning: str | None) -> Result:
    """Fit ours; count the targets in its intervals."""
    _, _, X_test, y_test = rows
    model = make_pipeline(StandardScaler(), NTKRidgeCV(feature_learning=feature_learning))
    found = scored(model, rows)
    Z_test = model[0].transform(X_test)
    for level in LEVELS:
        low, high = model[-1].predict_interval(Z_test, alpha=1.0 - level).T
        width = float((high - low).mean())
        found[f"coverage_{level:.0%}"] = rounded(float(((low <= y_test) & (y_test <= high)).mean()))
        found[f"width_{level:.0%}"] = rounded(width) if np.isfinite(width) else None
    return {**found, "chosen": {key: str(value) for key, value in model[-1].best_params_.items()}}


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


def gaussian_process(rows: Rows) -> Result:
    """Fit a Gaussian process with a scale for each column, by the evidence of at most 500 rows."""
    X, y, X_test, y_test = rows
    kernel = ConstantKernel() * RBF(np.ones(X.shape[1]), (1e-2, 1e4)) + WhiteKernel(0.1)
    start = time.perf_counter()
    scaler = StandardScaler().fit(X)
    Z = scaler.transform(X)
    searched = GaussianProcessRegressor(kernel).fit(Z[:EVIDENCE_ROWS], y[:EVIDENCE_ROWS])
    model = GaussianProcessRegressor(searched.kernel_, optimizer=None).fit(Z, y)
    predictions = model.predict(scaler.transform(X_test))
    seconds = time.perf_counter() - start
    return {"rmse": rmse(predictions, y_test), "fit_seconds": rounded(seconds)}


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
    found, reply = peer.fit(model, "regression", X=X, y=y, X_test=X_test)
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
