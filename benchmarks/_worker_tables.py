"""Worker: LightGBM and xRFM on one table, everything chosen inside its training rows.

Both are fitted alike: every candidate is scored on inner validation rows, five folds of up to 500
training rows or a fifth of more (stratified by class), by squared error or, for classes, log loss
(LightGBM) and Brier score (xRFM's own default); the best one is fitted again on all training rows,
with as many rounds as were best. One thread each.

LightGBM has 12 candidates: leaves, rows in a leaf and learning rate; at most 1000 rounds, stopped
after 50 without gain of the mean over folds, then columns and rows drawn at random.

xRFM's first candidate has the package's defaults, the others are spread over the space its authors
search: bandwidth, ridge, exponent, norm, full or diagonal matrix; at most 5 iterations.
Columns are standardized but those of zeros and ones, targets too, as its README recommends.

"lightgbm-default" and "xrfm-default" have their packages' settings only: 100 trees; the best of 5
iterations on the inner validation rows. "lightgbm-random" chooses among 30 random settings.
"""

import time
from collections.abc import Iterable
from functools import partial
from importlib.metadata import version
from typing import Any

import lightgbm
import numpy as np
import pandas
import torch
from _peers import serve
from scipy.stats import qmc
from sklearn.model_selection import KFold, ParameterGrid, StratifiedKFold
from sklearn.preprocessing import StandardScaler
from xrfm import xRFM

SEARCH = "1"  # of the candidates and their choice; another one makes stored results old
FOLDS, FEW_ROWS = 5, 500
ROUNDS, PATIENCE = 1000, 50
LEAVES = ParameterGrid(
    {"num_leaves": [4, 15, 31], "min_data_in_leaf": [3, 20], "learning_rate": [0.02, 0.1]}
)
QUIET = {"num_threads": 1, "deterministic": True, "seed": 0, "verbosity": -1}
SHARED = QUIET | {
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "feature_fraction": 0.8,
    "feature_pre_filter": False,
}
TRIALS, DEFAULT_TREES = 30, 100
ITERATIONS = 5
CANDIDATES = ((1000, 12), (2000, 8), (np.inf, 5))  # up to how many rows: how many
BATCH_NUMBERS = 2**24  # of a batch of gradients of the kernels that need all differences at once

Folds = list[tuple[np.ndarray, np.ndarray]]
Arrays = dict[str, np.ndarray]


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Tell the versions, or fit one model and leave its predictions in a file."""
    if request["case"] == "versions":
        names = ("lightgbm", "xrfm", "torch", "scikit-learn")
        return {name: version(name) for name in names} | {"search": SEARCH}
    with np.load(request["file"], allow_pickle=False) as stored:
        table = dict(stored)
    start = time.perf_counter()
    try:
        fit = classify if request["task"] == "classification" else regress
        found, chosen = fit(MODELS[request["model"]], table)
    except Exception as error:  # any failure of a peer is its result, not the end of the run
        return {"error": f"{type(error).__name__}: {error}"[:300]}
    seconds = time.perf_counter() - start
    np.savez(request["out"], **found)
    return {"seconds": seconds, "chosen": chosen}


# --- tasks ----------------------------------------------------------------------------------------


def regress(model: Any, table: Arrays) -> tuple[Arrays, Any]:
    """Return predictions of a target, and what was chosen."""
    X, y, X_test = (np.asarray(table[key], dtype=np.float64) for key in ("X", "y", "X_test"))
    center, spread = y.mean(), y.std() or 1.0
    predictions, chosen = model(X, (y - center) / spread, X_test, None)
    return {"predictions": finite(center + spread * predictions)}, chosen


def classify(model: Any, table: Arrays) -> tuple[Arrays, Any]:
    """Return labels and probabilities (m, C), zero for classes without training rows."""
    X, X_test = framed(table) if "cat" in table else (table["X"], table["X_test"])
    present, codes = np.unique(table["y"].astype(np.int64), return_inverse=True)
    proba = np.zeros((len(X_test), int(table.get("n_classes", present.max() + 1))))
    chosen = None
    if len(present) == 1:
        proba[:, present] = 1.0
    else:
        inner, chosen = model(X, codes, X_test, len(present))
        proba[:, present] = finite(inner)
    return {"predictions": proba.argmax(axis=1), "proba": proba}, chosen


def framed(table: Arrays) -> list[Any]:
    """Return rows as frames whose columns of categories say so, which LightGBM understands."""
    both = pandas.DataFrame(np.vstack([table["X"], table["X_test"]]).astype(np.float64))
    for column in table["cat"].tolist():
        both[column] = both[column].astype("category")
    n = len(table["X"])
    return [both.iloc[:n], both.iloc[n:]]


def finite(predictions: np.ndarray) -> np.ndarray:
    """Return predictions that are numbers.

    Raises
    ------
    ArithmeticError
        If one is not.
    """
    if not np.isfinite(predictions).all():
        raise ArithmeticError(f"{np.sum(~np.isfinite(predictions))} predictions are not finite")
    return predictions


def inner_folds(y: np.ndarray, n_classes: int | None) -> Folds:
    """Return the splits of the training rows: all folds of few rows, one of many."""
    most = FOLDS if n_classes is None else min(FOLDS, int(np.bincount(y).max()))
    stratified = n_classes is not None and most > 1
    kind = StratifiedKFold if stratified else KFold
    splitter = kind(most if stratified else min(FOLDS, len(y)), shuffle=True, random_state=0)
    folds = list(splitter.split(y, y))
    return folds if len(y) <= FEW_ROWS else folds[:1]


# --- LightGBM -------------------------------------------------------------------------------------


def light_gbm(
    X: np.ndarray,
    y: np.ndarray,
    X_test: np.ndarray,
    n_classes: int | None,
    candidates: Iterable[dict[str, Any]] = LEAVES,
) -> tuple[np.ndarray, Any]:
    """Choose and fit boosted trees; return targets (m,) or probabilities (m, n_classes)."""
    folds, goal = inner_folds(y, n_classes), objective(n_classes)
    best: tuple[float, Any, int] = (np.inf, None, 0)
    for leaves in candidates:
        stop = lightgbm.early_stopping(PATIENCE, verbose=False)
        data = lightgbm.Dataset(X, y, params=SHARED, free_raw_data=False)
        settings = SHARED | goal | leaves
        curves = lightgbm.cv(settings, data, ROUNDS, folds=folds, callbacks=[stop])
        curve = next(values for name, values in curves.items() if name.endswith("-mean"))
        best = min(best, (curve[-1], leaves, len(curve)), key=lambda found: found[0])
    _, leaves, rounds = best
    data = lightgbm.Dataset(X, y, params=SHARED)
    model = lightgbm.train(SHARED | goal | leaves, data, rounds)
    return boosted(model, X_test, n_classes), leaves | {"rounds": rounds}


def random_trials() -> list[dict[str, Any]]:
    """Return settings drawn from the ranges that people search."""
    draw = np.random.default_rng(0)
    return [
        {
            "num_leaves": int(np.exp(draw.uniform(np.log(4), np.log(64)))),
            "min_data_in_leaf": int(np.exp(draw.uniform(np.log(2), np.log(50)))),
            "learning_rate": float(np.exp(draw.uniform(np.log(0.02), np.log(0.2)))),
            "feature_fraction": float(draw.uniform(0.5, 1.0)),
            "bagging_fraction": float(draw.uniform(0.5, 1.0)),
            "lambda_l2": float(np.exp(draw.uniform(np.log(1e-6), np.log(10.0)))),
        }
        for _ in range(TRIALS)
    ]


def light_gbm_default(
    X: np.ndarray, y: np.ndarray, X_test: np.ndarray, n_classes: int | None
) -> tuple[np.ndarray, Any]:
    """Fit boosted trees as they come."""
    data = lightgbm.Dataset(X, y, params=QUIET)
    model = lightgbm.train(QUIET | objective(n_classes), data, DEFAULT_TREES)
    return boosted(model, X_test, n_classes), {"rounds": DEFAULT_TREES}


def boosted(model: Any, X_test: np.ndarray, n_classes: int | None) -> np.ndarray:
    """Return targets (m,), or probabilities with a column for each of two classes."""
    found = model.predict(X_test)
    return np.column_stack([1.0 - found, found]) if n_classes == 2 else found


def objective(n_classes: int | None) -> dict[str, Any]:
    """Return what LightGBM minimizes."""
    if n_classes is None:
        return {"objective": "regression"}
    if n_classes == 2:
        return {"objective": "binary"}
    return {"objective": "multiclass", "num_class": n_classes}


# --- xRFM -----------------------------------------------------------------------------------------


def recursive_feature_machine(
    X: np.ndarray,
    y: np.ndarray,
    X_test: np.ndarray,
    n_classes: int | None,
    count: int | None = None,
) -> tuple[np.ndarray, Any]:
    """Choose among candidates and fit; return targets (m,) or probabilities (m, n_classes)."""
    Z, Z_test = scaled(X, X_test)
    target = torch.from_numpy(y.astype(np.float32 if n_classes is None else np.int64))
    count = count or next(count for rows, count in CANDIDATES if len(y) <= rows)
    folds = inner_folds(y, n_classes)
    scores = [validated(c, Z, target, folds, n_classes) for c in candidates(count)]
    score, iterations, candidate = min(scores, key=lambda found: found[0])
    if not np.isfinite(score):
        raise ArithmeticError("no candidate has a finite score")
    model = machine(candidate, Z.shape, n_classes, iterations, refit=True)
    model.fit(Z, target, Z[:FOLDS], target[:FOLDS])
    return outcome(model, Z_test, n_classes), candidate | {"iterations": iterations}


def scaled(X: np.ndarray, X_test: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Standardize all columns but indicators."""
    scaler = StandardScaler().fit(X)
    indicator = np.isin(X, (0.0, 1.0)).all(axis=0)
    scaler.mean_[indicator], scaler.scale_[indicator] = 0.0, 1.0
    Z, Z_test = (scaler.transform(part).astype(np.float32) for part in (X, X_test))
    return torch.from_numpy(Z), torch.from_numpy(Z_test)


def candidates(count: int) -> Iterable[dict[str, Any]]:
    """Return the defaults, then points of a sequence that fills the search space evenly."""
    found: list[dict[str, Any]] = [
        {"kernel": "l2", "bandwidth": 10.0, "reg": 1e-3, "exponent": 1.0, "diag": False}
    ]
    for i, u in enumerate(qmc.Halton(4, seed=0).random(count - 1)):
        exponent = float(0.7 + 0.7 * u[2])
        found.append(
            {
                "kernel": ("lpq", "l2")[i % 2],
                "bandwidth": float(0.5 * 400.0 ** u[0]),
                "reg": float(1e-6 * 1e7 ** u[1]),
                "exponent": exponent,
                "norm_p": float(exponent + (2.0 - exponent) * 0.8 * u[3]),
                "diag": i // 2 % 2 == 0,
            }
        )
    return found


def validated(
    candidate: dict[str, Any],
    Z: torch.Tensor,
    target: torch.Tensor,
    folds: Folds,
    n_classes: int | None,
) -> tuple[float, int, dict[str, Any]]:
    """Return a candidate's mean score on validation rows and its median number of iterations."""
    scores, iterations = [], []
    for train, rest in folds:
        held_out = np.repeat(rest, 2 if len(rest) == 1 else 1)  # see `outcome`
        model = machine(candidate, Z.shape, n_classes, ITERATIONS, refit=False)
        try:
            model.fit(Z[train], target[train], Z[held_out], target[held_out])
            found = outcome(model, Z[held_out], n_classes)
        except Exception:  # whatever the numbers of one candidate end in, others may do
            return np.inf, 0, candidate
        truth = target[held_out].numpy()
        wanted = truth if n_classes is None else np.eye(n_classes)[truth]
        scores.append(np.mean((found - wanted) ** 2))
        iterations.append(model.trees[0]["model"].best_iter)
    score = float(np.mean(scores))
    return (score if np.isfinite(score) else np.inf), int(np.median(iterations)), candidate


def machine(
    candidate: dict[str, Any],
    shape: tuple[int, ...],
    n_classes: int | None,
    iterations: int,
    *,
    refit: bool,
) -> Any:
    """Return an unfitted model; a refitted one does not look at its validation rows."""
    batch = max(16, BATCH_NUMBERS // (shape[0] * shape[1]))
    fit = {
        "reg": candidate["reg"],
        "iters": iterations,
        "verbose": False,
        "early_stop_rfm": not refit,
        "return_best_params": not refit,
        "M_batch_size": batch if candidate["kernel"] == "lpq" else None,
    }
    kernel = {key: value for key, value in candidate.items() if key != "reg"}
    return xRFM(
        {"model": kernel | {"bandwidth_mode": "constant"}, "fit": fit},
        device="cpu",
        tuning_metric="mse" if n_classes is None else "brier",
        classification_mode="zero_one" if n_classes is None else "prevalence",
        random_state=0,
        n_threads=1,
        verbose=False,
    )


def outcome(model: Any, Z: torch.Tensor, n_classes: int | None) -> np.ndarray:
    """Return predicted targets (m,), or probabilities (m, n_classes)."""
    if len(Z) == 1:  # xRFM takes the classes of a single row for rows
        return outcome(model, torch.cat([Z, Z]), n_classes)[:1]
    if n_classes is None:
        return np.asarray(model.predict(Z), dtype=np.float64).reshape(-1)
    proba = np.asarray(model.predict_proba(Z), dtype=np.float64)
    return proba / proba.sum(axis=1, keepdims=True)


MODELS = {
    "lightgbm": light_gbm,
    "lightgbm-default": light_gbm_default,
    "lightgbm-random": partial(light_gbm, candidates=random_trials()),
    "xrfm": recursive_feature_machine,
    "xrfm-default": partial(recursive_feature_machine, count=1),
}

if __name__ == "__main__":
    serve(answer)
