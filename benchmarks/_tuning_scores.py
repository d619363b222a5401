"""What `tuning.py` keeps of one kernel on one split: numbers of every ridge, on either side.

Leave-one-out is written out here, in two forms, so that the choice between them can be repeated
whichever the package uses.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

FLOOR = 1e-7
BISECTIONS = 28  # of log slope between -7 and 7: to 5e-8

Array = np.ndarray


@dataclass(frozen=True)
class Target:
    """Distinct training rows: coded classes (u, t), class numbers, weights; and test classes."""

    Y: Array
    labels: Array
    weights: Array
    test: Array


@dataclass(frozen=True)
class Scores:
    """Decision values of every ridge, (A, rows, c): left out in two ways, and of test rows."""

    all_out: Array
    one_out: Array
    test: Array


def ridge_scores(K: Array, K_test: Array, target: Target, alphas: Array) -> Scores:
    """Return the ridge path with an intercept on weighted rows.

    With G = (K + alpha/w)^-1, leaving out the part s of row i's weight w changes its shift alone,
    so the residual of y_i under the remaining rows is::

        e_i = alpha ([G y]_i - m_i [G 1]_i) / ((w_i - s_i) + alpha (s_i / w_i) G_ii)

    where m_i is the mean of what remains. s = w leaves out all copies of a row (equal in x and y),
    s = 1 leaves out one, as if the copies were rows of their own.
    """
    Y, w = target.Y, target.weights[:, None]
    root = np.sqrt(w)
    mean = np.average(Y, axis=0, weights=target.weights)
    centred = Y - mean
    spectrum, V = np.linalg.eigh(root * K * root.T)
    inverse = 1.0 / (np.maximum(spectrum, 0.0) + alphas[:, None])  # (A, u)
    rotated = V.T @ (root * np.hstack([centred, np.ones_like(root)]))
    G = root * (V @ (inverse[:, :, None] * rotated))  # G y and G 1: (A, u, t + 1)
    diagonal = target.weights * (inverse @ np.square(V).T)  # (A, u)
    left_out = []
    for s in (w, np.minimum(w, 1.0)):
        means = -s * centred / np.maximum(w.sum() - s, FLOOR)
        residual = alphas[:, None, None] * (G[..., :-1] - means * G[..., -1:])
        residual /= (w - s) + alphas[:, None, None] * (s / w) * diagonal[..., None]
        left_out.append(per_class(Y - residual))
    return Scores(*left_out, per_class(K_test @ G[..., :-1] + mean))


def per_class(scores: Array) -> Array:
    """Return one column a class: a single column s stands for (-s, s) / 2."""
    return np.concatenate([-scores, scores], axis=-1) / 2.0 if scores.shape[-1] == 1 else scores


def numbers(scores: Scores, target: Target) -> dict[str, list[float]]:
    """Return errors, accuracies and log losses of every ridge, temperatures fitted on each."""
    found: dict[str, Array] = {}
    for name, left_out in (("all", scores.all_out), ("one", scores.one_out)):
        w = target.weights / target.weights.sum()
        wanted = per_class(target.Y)
        slopes = temperatures(left_out, target)
        found[f"{name}_square"] = np.square(left_out - wanted).mean(axis=2) @ w
        found[f"{name}_accuracy"] = (left_out.argmax(axis=2) == target.labels) @ w
        found[f"{name}_log_loss"] = own_loss(slopes * left_out, target.labels) @ w
        found[f"{name}_test_log_loss"] = own_loss(slopes * scores.test, target.test).mean(axis=1)
    found["test_accuracy"] = (scores.test.argmax(axis=2) == target.test).mean(axis=1)
    return {name: values.round(6).tolist() for name, values in found.items()}


def own_loss(scores: Array, labels: Array) -> Array:
    """Return -log p of the own class, p at least 1e-7, (..., rows)."""
    own = log_softmax(scores, axis=-1)[..., np.arange(len(labels)), labels]
    return -np.maximum(own, np.log(FLOOR))


def smoothed(target: Target, n_classes: int) -> Array:
    """Return the classes as probabilities, one row of weight spread over all of them."""
    total = target.weights.sum()
    return (total * np.eye(n_classes)[target.labels] + 1.0 / n_classes) / (total + 1.0)


def temperatures(left_out: Array, target: Target) -> Array:
    """Return the slope of least log loss for every ridge, (A, 1, 1), all bisected at once."""
    w, T = target.weights, smoothed(target, left_out.shape[2])
    aim = (T * left_out).sum(axis=2) @ w
    low, high = np.full(len(left_out), -7.0), np.full(len(left_out), 7.0)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2.0
        p = softmax(np.exp(middle)[:, None, None] * left_out, axis=2)
        below = (p * left_out).sum(axis=2) @ w < aim
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return np.exp((low + high) / 2.0)[:, None, None]


# --- ways to turn the scores of one model into probabilities --------------------------------------


def calibrations(left_out: Array, test: Array, target: Target) -> dict[str, list[float]]:
    """Return test accuracy and log loss of one model by every way of calibrating it."""
    n, c = target.weights.sum(), test.shape[1]
    slope = temperatures(left_out[None], target)[0]
    prior = (np.bincount(target.labels, weights=target.weights, minlength=c) + 1.0) / (n + c)
    plain = softmax(slope * test, axis=1)
    with_biases = softmax(biased(left_out, target, test), axis=1)
    ways = {
        "temperature": plain,
        "temperature, one row spread over the classes": (n * plain + 1.0 / c) / (n + 1.0),
        "temperature, one row spread as the classes are": (n * plain + prior) / (n + 1.0),
        "temperature, 1 percent spread over the classes": 0.99 * plain + 0.01 / c,
        "temperature and biases": with_biases,
        "temperature and biases, one row spread": (n * with_biases + 1.0 / c) / (n + 1.0),
    }
    return {name: judged(p, target.test) for name, p in ways.items()}


def judged(p: Array, y: Array) -> list[float]:
    """Return accuracy and log loss."""
    own = np.maximum(p[np.arange(len(y)), y], FLOOR)
    return [float(np.mean(p.argmax(axis=1) == y)), float(-np.log(own).mean())]


def biased(left_out: Array, target: Target, test: Array) -> Array:
    """Return test scores times a slope plus a bias a class, the biases with a unit penalty."""
    w, T = target.weights, smoothed(target, test.shape[1])

    def loss(theta: Array) -> tuple[float, Array]:
        scores = np.exp(theta[0]) * left_out + theta[1:]
        excess = w[:, None] * (softmax(scores, axis=1) - T)
        value = -(w @ (T * log_softmax(scores, axis=1)).sum(axis=1))
        slope = np.exp(theta[0]) * (excess * left_out).sum()
        gradient = np.append(slope, excess.sum(axis=0) + theta[1:])
        return float(value + np.square(theta[1:]).sum() / 2.0), gradient

    start = np.append(np.log(temperatures(left_out[None], target)), np.zeros(test.shape[1]))
    theta = minimize(loss, start, jac=True, method="L-BFGS-B").x
    return np.exp(theta[0]) * test + theta[1:]
