"""Probabilities from leave-one-out decision values: one temperature, fitted by convex log loss."""

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit, softmax

__all__ = ["fit_temperature", "probabilities"]

# A slope of zero would make classes tie; scores of no use get this nearly flat one.
_FLATTEST, _STEEPEST = 1e-6, 1e6


def probabilities(scores: np.ndarray, slope: float) -> np.ndarray:
    """Return class probabilities (n, c): softmax of `slope` times the scores.

    Parameters
    ----------
    scores : ndarray of shape (n, c), or (n,) for two classes
        Decision values; a single column s stands for (-s, s) / 2.
    slope : float
        Inverse temperature.

    Returns
    -------
    ndarray of shape (n, c), or (n, 2)
    """
    if scores.ndim == 1:
        positive = expit(slope * scores)
        return np.column_stack([1.0 - positive, positive])
    return softmax(slope * scores, axis=1)


def fit_temperature(scores: np.ndarray, labels: np.ndarray, weights: np.ndarray | None) -> float:
    r"""Return the slope of least log loss, the root of a monotone derivative.

    .. math:: \sum_i w_i \sum_c (p_{ic}(s) - t_{ic}) f_{ic} = 0

    Targets t mix the own class with one row of weight 1 spread over all classes, so that
    separable scores keep a finite slope (Platt 1999 smooths each class; over ten small classes that
    makes probabilities far too flat). One slope keeps the order of classes: what is predicted is
    what is most probable.

    Parameters
    ----------
    scores : ndarray of shape (n, c), or (n,) for two classes
        Decision values of rows that the model has not seen.
    labels : ndarray of shape (n,)
        Class numbers.
    weights : ndarray of shape (n,) or None
        Sample weights.

    Returns
    -------
    float
        Positive.
    """
    f = np.column_stack([-scores, scores]) / 2.0 if scores.ndim == 1 else scores
    n_classes = f.shape[1]
    w = np.ones(len(f)) if weights is None else weights
    total = float(w.sum())
    targets = (total * np.eye(n_classes)[labels] + 1.0 / n_classes) / (total + 1.0)  # (n, c)
    aim = w @ (targets * f).sum(axis=1)

    def derivative(log_slope: float) -> float:
        return float(w @ (softmax(np.exp(log_slope) * f, axis=1) * f).sum(axis=1) - aim)

    low, high = np.log(_FLATTEST), np.log(_STEEPEST)
    if derivative(low) >= 0:
        return _FLATTEST
    if derivative(high) <= 0:
        return _STEEPEST
    return float(np.exp(brentq(derivative, low, high, xtol=1e-13, rtol=1e-14)))
