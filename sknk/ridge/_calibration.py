"""Probabilities from leave-one-out decision values: one temperature, fitted by convex log loss."""

from typing import NamedTuple

import numpy as np
from scipy.special import expit, log_softmax, softmax

__all__ = ["Calibration", "fit_temperatures", "log_losses", "probabilities", "tempered_loss"]

# A slope of zero would make classes tie; scores of no use get this nearly flat one.
_FLATTEST, _STEEPEST = 1e-6, 1e6
_LOWEST = -1e100  # scores below the best one, where their squares are still finite


class Calibration(NamedTuple):
    """What turns decision values into probabilities.

    Attributes
    ----------
    slopes : ndarray of shape (1,), or (l,) for labels
        Inverse temperatures.
    rows : float
        Total weight of the rows they were fitted to.
    """

    slopes: np.ndarray
    rows: float


def probabilities(scores: np.ndarray, slope: float, rows: float) -> np.ndarray:
    r"""Return class probabilities (n, c): a softmax, mixed with one row spread over the classes.

    .. math:: p_c = \frac{N \operatorname{softmax}(s f)_c + 1/C}{N + 1}

    The order of classes is that of the scores, and no class is impossible after N rows.

    Parameters
    ----------
    scores : ndarray of shape (n, c), or (n,) for two classes
        Decision values; a single column s stands for (-s, s) / 2.
    slope : float
        Inverse temperature.
    rows : float
        N, the weight of the rows behind the slope.

    Returns
    -------
    ndarray of shape (n, c), or (n, 2)
    """
    if scores.ndim == 1:
        positive = expit(slope * scores)
        sharp = np.column_stack([1.0 - positive, positive])
    else:
        sharp = softmax(slope * scores, axis=1)
    return (rows * sharp + 1.0 / sharp.shape[1]) / (rows + 1.0)


def log_losses(proba: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return -log p of the own class of every row, (n,); nats."""
    return -np.log(proba[np.arange(len(labels)), labels])


def tempered_loss(
    scores: np.ndarray, labels: np.ndarray, weights: np.ndarray | None
) -> tuple[float, np.ndarray]:
    r"""Return the log loss at the temperature that minimises it, and its gradient by the scores.

    .. math:: L = -\frac1N \sum_i w_i \sum_c t_{ic} \log \operatorname{softmax}(s f_i)_c, \qquad
        \frac{\partial L}{\partial f_{ic}} = \frac{w_i s}{N} (p_{ic} - t_{ic})

    with the targets t of :func:`fit_temperatures`; at its minimum L does not depend on s.

    Parameters
    ----------
    scores : ndarray of shape (n, c), or (n,) for two classes
        Decision values of rows that their model has not seen.
    labels : ndarray of shape (n,)
        Class numbers.
    weights : ndarray of shape (n,) or None
        Sample weights.

    Returns
    -------
    loss : float
        Nats.
    gradient : ndarray
        Shaped like `scores`.
    """
    slope = fit_temperatures(scores[None], labels, weights)[0]
    f = scores if scores.ndim == 2 else np.column_stack([-scores, scores]) / 2.0
    w = np.ones(len(f)) if weights is None else weights
    total = w.sum()
    targets = (total * np.eye(f.shape[1])[labels] + 1.0 / f.shape[1]) / (total + 1.0)
    logs = log_softmax(slope * f, axis=1)
    gradient = (slope * w / total)[:, None] * (np.exp(logs) - targets)
    loss = -float(w @ (targets * logs).sum(axis=1)) / total
    return loss, gradient if scores.ndim == 2 else gradient[:, 1]


def fit_temperatures(
    scores: np.ndarray, labels: np.ndarray, weights: np.ndarray | None
) -> np.ndarray:
    r"""Return the slopes of least log loss, the roots of monotone derivatives.

    .. math:: \sum_i w_i \sum_c (p_{ic}(s) - t_{ic}) f_{ic} = 0

    Targets t mix the own class with one row of weight 1 spread over all classes, so that
    separable scores keep a finite slope (Platt 1999 smooths each class; over ten small classes that
    makes probabilities far too flat). One slope keeps the order of classes: what is predicted is
    what is most probable. Newton's method on log s, in a bracket, for all candidates at once.

    Parameters
    ----------
    scores : ndarray of shape (A, n, c), or (A, n) for two classes
        Decision values, by A candidates, of rows that they have not seen.
    labels : ndarray of shape (n,)
        Class numbers.
    weights : ndarray of shape (n,) or None
        Sample weights.

    Returns
    -------
    ndarray of shape (A,)
        Positive.
    """
    f = np.stack([-scores, scores]) / 2.0 if scores.ndim == 2 else np.moveaxis(scores, 2, 0)
    f = np.maximum(f - f.max(axis=0), _LOWEST)  # (c, A, n): sums over classes run over rows
    w = np.ones(f.shape[2]) if weights is None else weights
    total, n_classes = float(w.sum()), len(f)
    targets = (total * np.eye(n_classes)[labels] + 1.0 / n_classes) / (total + 1.0)  # (n, c)
    aim = np.einsum("n,nc,can->a", w, targets, f)
    low, high = (np.full(f.shape[1], np.log(end)) for end in (_FLATTEST, _STEEPEST))
    flat = _derivatives(f, w, aim, low)[0] >= 0.0
    steep = _derivatives(f, w, aim, high)[0] <= 0.0
    known = np.where(flat, low, high)
    x = np.clip(-np.log(np.maximum(f.std(axis=(0, 2)), _FLATTEST)), low, high)
    for _ in range(100):
        gap, slope = _derivatives(f, w, aim, x)
        low, high = np.where(gap < 0, x, low), np.where(gap < 0, high, x)
        with np.errstate(over="ignore"):  # a step too far is no step
            step = x - gap / np.where(slope > 0, slope, 1.0)
        inside = (step >= low) & (step <= high) & (slope > 0)
        before, x = x, np.where(inside, step, (low + high) / 2.0)
        if np.abs(x - before).max(initial=0.0, where=~(flat | steep)) < 1e-13:
            break
    return np.exp(np.where(flat | steep, known, x))


def _derivatives(
    f: np.ndarray, w: np.ndarray, aim: np.ndarray, x: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the derivative of the loss in the slope e^x, and that of this in x, (A,) each."""
    s = np.exp(x)
    p = np.exp(s[:, None] * f)
    p /= p.sum(axis=0)
    weighted = p * f
    mean = weighted.sum(axis=0)  # (A, n)
    variance = (weighted * f).sum(axis=0) - mean * mean
    return mean @ w - aim, s * (variance @ w)
