"""Contestants of `uci.py` that see one training part: everything is chosen inside it."""

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from _common import ROOT, installed, rounded
from _peers import Peer
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.gaussian_process.kernels import RBF, ConstantKernel
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from sknk import NTKRidgeClassifierCV

TABLES = [
    "abalone",
    "acute-inflammation",
    "acute-nephritis",
    "arrhythmia",
    "balance-scale",
    "balloons",
    "bank",
    "blood",
    "breast-cancer",
    "breast-cancer-wisc",
    "breast-cancer-wisc-diag",
    "breast-cancer-wisc-prog",
    "breast-tissue",
    "car",
    "cardiotocography-10clases",
    "cardiotocography-3clases",
    "chess-krvkp",
    "congressional-voting",
    "conn-bench-sonar-mines-rocks",
    "contrac",
    "credit-approval",
    "cylinder-bands",
    "dermatology",
    "echocardiogram",
    "ecoli",
    "energy-y1",
    "energy-y2",
    "fertility",
    "flags",
    "glass",
    "haberman-survival",
    "heart-cleveland",
    "heart-hungarian",
    "heart-switzerland",
    "heart-va",
    "hepatitis",
    "ilpd-indian-liver",
    "ionosphere",
    "iris",
    "led-display",
    "lenses",
    "libras",
    "low-res-spect",
    "lung-cancer",
    "lymphography",
    "mammographic",
    "molec-biol-promoter",
    "molec-biol-splice",
    "musk-1",
    "oocytes_merluccius_nucleus_4d",
    "oocytes_merluccius_states_2f",
    "oocytes_trisopterus_nucleus_2f",
    "oocytes_trisopterus_states_5b",
    "ozone",
    "parkinsons",
    "pima",
    "pittsburg-bridges-MATERIAL",
    "pittsburg-bridges-REL-L",
    "pittsburg-bridges-SPAN",
    "pittsburg-bridges-T-OR-D",
    "pittsburg-bridges-TYPE",
    "planning",
    "plant-margin",
    "plant-shape",
    "plant-texture",
    "post-operative",
    "primary-tumor",
    "seeds",
    "semeion",
    "spambase",
    "statlog-australian-credit",
    "statlog-german-credit",
    "statlog-heart",
    "statlog-image",
    "statlog-vehicle",
    "steel-plates",
    "synthetic-control",
    "teaching",
    "tic-tac-toe",
    "titanic",
    "trains",
    "vertebral-column-2clases",
    "vertebral-column-3clases",
    "waveform",
    "waveform-noise",
    "wine",
    "wine-quality-red",
    "wine-quality-white",
    "yeast",
    "zoo",
]
"""The tables of Arora et al. 2020: those of the 121 with at most 5000 rows and no test part."""
MOST_TRAINING_ROWS = 2000
FLOOR = 1e-7
"""Least probability that counts, so that one certain error does not decide a mean."""
FEW_ROWS, FOLDS_FEW, FOLDS_MANY = 500, 5, 3
SVM_GRID = {
    "svc__C": np.logspace(-2, 4, 7).tolist(),
    "svc__gamma": np.logspace(-2, 1, 7).tolist(),  # over d: 1 is scikit-learn's "scale"
}
LOGISTIC_GRID = {"logisticregression__C": np.logspace(-3, 3, 7).tolist()}
OURS, FOREST, SVM, LOGISTIC = "ours", "forest", "svm", "logistic"
LEARNED, GPC = "ours_features", "gaussian_process"
BOOSTING, WORKED = "histogram_boosting", ("lightgbm", "xrfm")
METHODS = (OURS, LEARNED, FOREST, *WORKED, BOOSTING, SVM, LOGISTIC, GPC)
GPC_ROWS = 300
"""Training rows by which the Gaussian process chooses its kernel, and those of a fit, at most."""

Result = dict[str, Any]
Predict = Callable[["Fold"], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Fold:
    """One training and one test part; `n_classes` counts those of the whole table."""

    X: np.ndarray
    y: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray
    n_classes: int


def fold_of(table: dict[str, np.ndarray], k: int) -> Fold:
    """Return fold k as it was published, at most 2000 of its training rows."""
    X, y = np.asarray(table["X"], dtype=np.float64), np.asarray(table["y"], dtype=np.int64)
    train, test = table[f"kfold_{k}_train"], table[f"kfold_{k}_test"]
    train = thinned(train, y[train], MOST_TRAINING_ROWS, k)
    return Fold(X[train], y[train], X[test], y[test], int(y.max()) + 1)


def thinned(rows: np.ndarray, y: np.ndarray, most: int, seed: int) -> np.ndarray:
    """Return at most so many rows, every class in proportion: each step-th row in class order."""
    if len(rows) <= most:
        return rows
    by_class = np.lexsort((np.random.RandomState(seed).rand(len(rows)), y))
    return np.sort(rows[by_class[np.linspace(0, len(rows) - 1, most).round().astype(int)]])


# --- scores ---------------------------------------------------------------------------------------


def scored(predict: Predict, fold: Fold) -> Result:
    """Return accuracy, log loss and seconds of fitting and predicting."""
    start = time.perf_counter()
    labels, proba = predict(fold)
    seconds = time.perf_counter() - start
    return {
        "accuracy": float(np.mean(labels == fold.y_test)),
        "log_loss": log_loss(proba, fold.y_test),
        "fit_predict_seconds": rounded(seconds),
    }


def log_loss(proba: np.ndarray, y: np.ndarray) -> float:
    """Return the mean of -log p(own class), p at least 1e-7."""
    return float(-np.log(np.maximum(proba[np.arange(len(y)), y], FLOOR)).mean())


def frequencies(fold: Fold) -> tuple[np.ndarray, np.ndarray]:
    """Predict the classes' shares of the training rows: what a failed method is counted as."""
    shares = np.bincount(fold.y, minlength=fold.n_classes) / len(fold.y)
    proba = np.tile(shares, (len(fold.y_test), 1))
    return proba.argmax(axis=1), proba


def every_class(model: Any, X: np.ndarray, n_classes: int) -> np.ndarray:
    """Return probabilities (m, n_classes), zero for classes without training rows."""
    proba = np.zeros((len(X), n_classes))
    proba[:, model.classes_] = model.predict_proba(X)
    return proba


# --- models ---------------------------------------------------------------------------------------


def plain(model: Any) -> Predict:
    """Fit one model on standardized columns."""

    def predict(fold: Fold) -> tuple[np.ndarray, np.ndarray]:
        fitted = make_pipeline(StandardScaler(), model).fit(fold.X, fold.y)
        return fitted.predict(fold.X_test), every_class(fitted, fold.X_test, fold.n_classes)

    return predict


def tuned_svm(fold: Fold) -> tuple[np.ndarray, np.ndarray]:
    """Choose C and gamma by accuracy; labels are the machine's, probabilities are sigmoids'."""
    grid = SVM_GRID | {"svc__gamma": [g / fold.X.shape[1] for g in SVM_GRID["svc__gamma"]]}
    folds = inner_folds(fold)
    search = GridSearchCV(make_pipeline(StandardScaler(), SVC()), grid, cv=folds)
    search.fit(fold.X, fold.y)
    best = make_pipeline(StandardScaler(), SVC()).set_params(**search.best_params_)
    calibrated = CalibratedClassifierCV(best, cv=folds).fit(fold.X, fold.y)
    return search.predict(fold.X_test), every_class(calibrated, fold.X_test, fold.n_classes)


def tuned_logistic(fold: Fold) -> tuple[np.ndarray, np.ndarray]:
    """Choose C by log loss."""

    def scorer(model: Any, X: np.ndarray, y: np.ndarray) -> float:
        return -log_loss(every_class(model, X, fold.n_classes), y)

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    search = GridSearchCV(model, LOGISTIC_GRID, cv=inner_folds(fold), scoring=scorer)
    search.fit(fold.X, fold.y)
    return search.predict(fold.X_test), every_class(search, fold.X_test, fold.n_classes)


def gaussian_process(fold: Fold) -> tuple[np.ndarray, np.ndarray]:
    """Choose amplitude and length scale by Laplace's evidence, one class against the rest."""
    rows = thinned(np.arange(len(fold.y)), fold.y, GPC_ROWS, 0)
    kernel = ConstantKernel(1.0) * RBF(np.sqrt(fold.X.shape[1]))
    model = make_pipeline(StandardScaler(), GaussianProcessClassifier(kernel))
    model.fit(fold.X[rows], fold.y[rows])
    return model.predict(fold.X_test), every_class(model, fold.X_test, fold.n_classes)


def inner_folds(fold: Fold) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return stratified folds, five of up to 500 rows, else three; each with two classes at least.

    A class of one row is missing from the training part of one fold. Where that would leave a
    single class, the row is put back.
    """
    most = FOLDS_FEW if len(fold.y) <= FEW_ROWS else FOLDS_MANY
    splitter = StratifiedKFold(min(most, np.bincount(fold.y).max()), shuffle=True, random_state=0)
    found = []
    for train, test in splitter.split(fold.X, fold.y):
        alone = len(np.unique(fold.y[train])) < 2
        other = np.flatnonzero(fold.y != fold.y[train[0]]) if alone else []
        found.append((np.union1d(train, other).astype(int), test))
    return found


class Worker:
    """LightGBM and xRFM in an interpreter of their own, opened by the first who asks."""

    def __init__(self) -> None:
        self._peer: Peer | str | None = None

    @property
    def peer(self) -> Peer | str:
        """The open process, or why there is none."""
        if self._peer is None:
            self._peer = Peer.open("SKNK_PEER_TABLES", "_worker_tables.py")
        return self._peer

    def predict(self, model: str, fold: Fold) -> tuple[np.ndarray, np.ndarray]:
        """Fit in the worker, which times itself.

        Raises
        ------
        RuntimeError
            If the worker or its fit has failed.
        """
        assert isinstance(self.peer, Peer)
        arrays = {"X": fold.X, "y": fold.y, "X_test": fold.X_test}
        found, _ = self.peer.fit(model, "classification", n_classes=fold.n_classes, **arrays)
        return found["predictions"], found["proba"]

    def close(self) -> None:
        """End the process, if there is one."""
        if isinstance(self._peer, Peer):
            self._peer.close()


def contestants(worker: Worker) -> Iterator[tuple[str, dict[str, Any], Predict]]:
    """Yield every method: its name, the settings that its results depend on, and its fit."""
    theirs = {"scikit-learn": installed("scikit-learn")}
    own = {"sources": sources("kernels", "solvers", "ridge"), "rows": MOST_TRAINING_ROWS}
    yield OURS, own, plain(NTKRidgeClassifierCV())
    yield LEARNED, own, plain(NTKRidgeClassifierCV(feature_learning="auto"))
    forest = RandomForestClassifier(500, random_state=0)
    boosting = HistGradientBoostingClassifier(random_state=0)
    for name, model in ((FOREST, forest), (BOOSTING, boosting)):
        yield name, {**theirs, "model": repr(model)}, plain(model)
    folds = [FEW_ROWS, FOLDS_FEW, FOLDS_MANY]
    yield SVM, {**theirs, **SVM_GRID, "cv": folds}, tuned_svm
    yield LOGISTIC, {**theirs, **LOGISTIC_GRID, "cv": folds}, tuned_logistic
    yield GPC, {**theirs, "rows": GPC_ROWS}, gaussian_process
    for name in WORKED:
        settings = {"search": "1"}  # as the worker calls its way to choose
        yield name, settings, lambda fold, name=name: worker.predict(name, fold)


def fingerprint(kernels: Iterable[Any]) -> str:
    """Return a hash of what kernels say of a few fixed rows, to eight digits.

    For results that depend on kernels alone: whoever rewrites a kernel without changing its values
    does not change them.
    """
    X = np.random.RandomState(0).standard_normal((12, 5))
    digest = hashlib.sha256()
    for kernel in kernels:
        digest.update(" ".join(f"{value:.7e}" for value in kernel(X).ravel()).encode())
    return digest.hexdigest()[:16]


def sources(*packages: str) -> str:
    """Return a hash of the packages that a result depends on, and of the modules below them."""
    paths = [*(ROOT / "sknk").glob("_*.py")]
    for package in packages:
        paths += (ROOT / "sknk" / package).rglob("*.py")
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]
