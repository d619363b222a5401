"""One small problem for every family of models that can lose rows, each with a naive twin."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sknk import (
    NTKGaussianProcessClassifier,
    NTKGaussianProcessRegressor,
    NTKRidge,
    NTKRidgeClassifier,
)
from sknk.kernels import NTK
from tests.cases import rows
from tests.reference import attribution as oracle

KERNEL = NTK(depth=1, bias_var=0.1)
KNOWN = {"optimizer": None, "amplitude": 2.0, "noise_variance": 0.3}


@dataclass
class Family:
    """An estimator, its data, and what naive NumPy says of every coalition of rows.

    `game` has the rows of positive weight, `active`; `prior` is added to its outputs.
    """

    estimator: Any
    X: np.ndarray
    y: np.ndarray
    X_val: np.ndarray
    y_val: np.ndarray
    game: oracle.Game
    prior: np.ndarray
    utilities: dict[str, Callable[..., float]]  # of targets, outputs, coalition, game
    own: oracle.Game | None = None  # with targets in units of the prior, for evidence
    active: np.ndarray = field(default=None)  # type: ignore[assignment]

    def __post_init__(self):
        self.active = np.arange(len(self.X)) if self.active is None else self.active

    @property
    def data(self):
        return self.X, self.y, self.X_val, self.y_val

    def outputs(self, coalition):
        return self.prior + oracle.outputs(self.game, coalition)

    def utility(self, name):
        """Return the utility of coalitions of active rows."""
        if name == "evidence":
            return lambda S: oracle.evidence(self.own, list(S))
        judge = self.utilities[name]
        return lambda S: judge(self.y_val, self.outputs(list(S)), list(S), self.game)

    def every(self, values):
        """Return values of active rows for all rows."""
        out = np.zeros((*np.shape(values)[:-1], len(self.X)))
        out[..., self.active] = values
        return out


def table(n, m=6):
    """Return rows, targets (n, 2) and the same to be judged on."""
    X = rows(n + m, seed=5)
    noise = np.random.default_rng(6).standard_normal((n + m, 2))
    Y = np.column_stack([X[:, 0] + X[:, 1] ** 2, X[:, 2] - 3.0]) + 0.3 * noise
    return X[:n], Y[:n], X[n:], Y[n:]


def ridge_game(X, X_val, T, w, alpha, fit_intercept=True):
    """Return the naive game and prior of a ridge."""
    prior = np.average(T, axis=0, weights=w) if fit_intercept else np.zeros(T.shape[1])
    centring = w if fit_intercept else None
    return oracle.Game(KERNEL(X), KERNEL(X, X_val), alpha / w, T - prior, centring), prior


def ridge_evidence(game):
    """Return the game without mean, targets scaled to their best prior."""
    C = game.K + np.diag(game.shift)
    scale = np.sqrt(np.mean(game.Y * np.linalg.solve(C, game.Y), axis=0))
    return oracle.Game(game.K, game.cross, game.shift, game.Y / scale, None)


def columns(y):
    return np.asarray(y, dtype=float).reshape(len(y), -1)


REGRESSION = {
    "mse": lambda y, f, S, game: oracle.mse(columns(y), f),
    "r2": lambda y, f, S, game: oracle.r2(columns(y), f),
}


def regression(n, *, outputs=1, w=None, fit_intercept=True, zero=()):
    X, Y, X_val, Y_val = table(n)
    Y, Y_val = (Y, Y_val) if outputs == 2 else (Y[:, 0], Y_val[:, 0])
    model = NTKRidge(KERNEL, alpha=0.4, fit_intercept=fit_intercept)
    estimator = model if w is None else FrozenEstimator(model.fit(X, Y, w))
    weights = np.ones(n) if w is None else w
    a = np.flatnonzero(weights)
    T = columns(Y)[a]
    game, prior = ridge_game(X[a], X_val, T, weights[a], 0.4, fit_intercept)
    own = ridge_evidence(game)
    return Family(estimator, X, Y, X_val, Y_val, game, prior, REGRESSION, own, a)


def class_utilities(classes, calibration, T_of):
    """Return utilities of decision values of single labels."""
    slope, count = calibration.slopes[0], calibration.rows

    def hot(y):
        return oracle.one_hot(y, classes)

    def labels(f):
        return (f[:, 0] > 0).astype(int) if f.shape[1] == 1 else f.argmax(axis=1)

    return {
        "brier": lambda y, f, S, game: oracle.brier(hot(y), oracle.ridge_proba(f)),
        "accuracy": lambda y, f, S, game: np.mean(np.asarray(classes)[labels(f)] == y),
        "log_prob": lambda y, f, S, game: np.mean(
            np.log(np.sum(hot(y) * oracle.tempered(f, slope, count), axis=1))
        ),
    }


def classification(n, *, n_classes=3, class_weight=None, pipeline=False, precomputed=False):
    X, Y, X_val, Y_val = table(n)
    classes = np.array(["a", "b", "c"][:n_classes])
    edges = np.quantile(Y[:, 0], np.arange(1, n_classes) / n_classes)
    y, y_val = (classes[np.digitize(one[:, 0], edges)] for one in (Y, Y_val))
    model = NTKRidgeClassifier(KERNEL, alpha=0.4, class_weight=class_weight)
    if precomputed:
        model.set_params(kernel="precomputed")
    estimator = make_pipeline(StandardScaler(), model) if pipeline else model
    scale = StandardScaler().fit(X).transform if pipeline else lambda rows: rows
    grams = (KERNEL(X), KERNEL(X_val, X)) if precomputed else (X, X_val)
    fitted = estimator.fit(grams[0], y)
    final = fitted[-1] if pipeline else fitted
    w = np.ones(n)
    if class_weight == "balanced":
        w = np.array([n / (n_classes * np.sum(y == one)) for one in y])
    T = 2.0 * oracle.one_hot(y, classes) - 1.0
    T = T[:, 1:] if n_classes == 2 else T
    game, prior = ridge_game(scale(X), scale(X_val), T, w, 0.4)
    utilities = class_utilities(classes, final._calibration, T)
    estimator = FrozenEstimator(fitted) if class_weight else estimator
    return Family(estimator, grams[0], y, grams[1], y_val, game, prior, utilities,
                  ridge_evidence(game))  # fmt: skip


def multilabel(n):
    X, Y, X_val, Y_val = table(n)
    labels, labels_val = ((one > np.median(Y, axis=0)).astype(int) for one in (Y, Y_val))
    estimator = NTKRidgeClassifier(KERNEL, alpha=0.4)
    slopes, count = estimator.fit(X, labels)._calibration
    game, prior = ridge_game(X, X_val, 2.0 * labels - 1.0, np.ones(n), 0.4)

    def log_prob(y, f, S, game):
        p = np.column_stack(
            [
                oracle.tempered(one[:, None], s, count)[:, 1]
                for one, s in zip(f.T, slopes, strict=True)
            ]
        )
        return np.mean(np.log(np.where(y == 1, p, 1.0 - p)))

    utilities = {
        "brier": lambda y, f, S, game: -np.mean(((1.0 + f) / 2.0 - y) ** 2),
        "accuracy": lambda y, f, S, game: np.mean((f > 0) == y),
        "log_prob": log_prob,
    }
    return Family(estimator, X, labels, X_val, labels_val, game, prior, utilities,
                  ridge_evidence(game))  # fmt: skip


def gaussian_process(n, *, outputs=1, given=False, w=None, **params):
    X, Y, X_val, Y_val = table(n)
    Y, Y_val = (Y, Y_val) if outputs == 2 else (Y[:, 0], Y_val[:, 0])
    noise = np.random.default_rng(8).uniform(0.1, 0.6, n) if given else 0.3
    model = NTKGaussianProcessRegressor(KERNEL, **{**KNOWN, "noise_variance": noise, **params})
    estimator = model if w is None else FrozenEstimator(model.fit(X, Y, w))
    weights = np.ones(n) if w is None else w
    a = np.flatnonzero(weights)
    T = columns(Y)
    mean, scale = np.zeros(T.shape[1]), np.ones(T.shape[1])
    if params.get("normalize_y"):
        mean, scale = T.mean(axis=0), T.std(axis=0)
    kernel = KERNEL.nngp() if params.get("posterior") == "nngp" else KERNEL
    # Amplitude and noise are given in the units of y squared.
    amplitude, noise = 2.0 / scale[0] ** 2, noise / scale[0] ** 2
    shift = (noise[a] if given else noise) / weights[a]
    K, cross, own = (amplitude * k for k in (kernel(X[a]), kernel(X[a], X_val), kernel.diag(X_val)))
    game = oracle.Game(K, cross, shift, (T - mean)[a], None, own)

    def log_prob(y, f, S, game):
        return oracle.gaussian_log_prob(columns(y), f, oracle.variances(game, S), noise, scale)

    known = not given and params.get("posterior") != "ensemble"
    utilities = {**REGRESSION, "log_prob": log_prob} if known else REGRESSION
    evidence = oracle.Game(K, cross, shift, game.Y / scale, None)
    return Family(estimator, X, Y, X_val, Y_val, game, mean, utilities, evidence, a)


def dirichlet(n, alpha_eps=0.1):
    X, Y, X_val, Y_val = table(n)
    classes = np.array(["a", "b", "c"])
    edges = np.quantile(Y[:, 0], [1 / 3, 2 / 3])
    y, y_val = (classes[np.digitize(one[:, 0], edges)] for one in (Y, Y_val))
    estimator = NTKGaussianProcessClassifier(
        KERNEL, amplitude=2.0, alpha_eps=alpha_eps, optimizer=None
    )
    alpha = oracle.one_hot(y, classes) + alpha_eps
    noise = np.log(1.0 / alpha + 1.0)
    T = np.log(alpha) - noise / 2.0
    game = oracle.Game(2.0 * KERNEL(X), 2.0 * KERNEL(X, X_val), noise, T - T.mean(), None)

    def hot(y):
        return oracle.one_hot(y, classes)

    utilities = {
        "brier": lambda y, f, S, game: oracle.brier(hot(y), oracle.softmax(f, axis=1)),
        "accuracy": lambda y, f, S, game: np.mean(classes[f.argmax(axis=1)] == y),
        "log_prob": lambda y, f, S, game: oracle.softmax_log_prob(hot(y), f),
    }
    return Family(estimator, X, y, X_val, y_val, game, np.zeros(3), utilities, game)


def uneven(n):
    """Return weights of rows, two of them zero."""
    w = np.random.default_rng(9).uniform(0.2, 3.0, n)
    w[[1, n - 2]] = 0.0
    return w


_FAMILIES: dict[str, Callable[[int], Family]] = {
    "ridge": regression,
    "ridge_plain": lambda n: regression(n, fit_intercept=False),
    "ridge_outputs": lambda n: regression(n, outputs=2),
    "ridge_weights": lambda n: regression(n + 2, w=uneven(n + 2)),
    "two_classes": lambda n: classification(n, n_classes=2),
    "three_classes": classification,
    "balanced": lambda n: classification(n, class_weight="balanced"),
    "pipeline": lambda n: classification(n, pipeline=True),
    "precomputed": lambda n: classification(n, precomputed=True),
    "multilabel": multilabel,
    "gp": gaussian_process,
    "gp_outputs": lambda n: gaussian_process(n, outputs=2),
    "gp_normalized": lambda n: gaussian_process(n, normalize_y=True),
    "gp_nngp": lambda n: gaussian_process(n, posterior="nngp"),
    "gp_ensemble": lambda n: gaussian_process(n, posterior="ensemble"),
    "gp_noise": lambda n: gaussian_process(n, given=True, normalize_y=True),
    "gp_weights": lambda n: gaussian_process(n + 2, w=uneven(n + 2)),
    "dirichlet": dirichlet,
}

# By name, of so many rows of positive weight; each is made once.
FAMILIES = {name: cache(family) for name, family in _FAMILIES.items()}

# Every utility of every family.
_NUMBERS, _CLASSES = ("mse", "r2", "evidence"), ("brier", "accuracy", "log_prob", "evidence")
_DENSITIES = {"gp", "gp_outputs", "gp_normalized", "gp_nngp", "gp_weights"}
GAMES = [
    (name, utility)
    for name in FAMILIES
    for utility in (_NUMBERS if name.startswith(("ridge", "gp")) else _CLASSES)
] + [(name, "log_prob") for name in sorted(_DENSITIES)]
