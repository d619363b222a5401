"""Naive NumPy kernel ridge: every leave-one-out answer is a refit, every weight a repetition."""

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax


def copies(X, Y):
    """Return the number of the distinct (x, y) that every row is a copy of, (n,)."""
    rows = np.column_stack([X, Y])
    return (rows[:, None] == rows[None]).all(axis=2).argmax(axis=1)


def fit(K, Y, w, alpha, fit_intercept=True):
    """Return (dual coefficients, intercept): (W K + alpha I) c = W (y - b)."""
    mean = np.average(Y, axis=0, weights=w) if fit_intercept else np.zeros(Y.shape[1])
    return np.linalg.solve(w[:, None] * K + alpha * np.eye(len(K)), w[:, None] * (Y - mean)), mean


def without(w, groups, i, *, counts=False):
    """Return the weights without row i and its copies, or without one of whole numbers of them."""
    totals = np.bincount(groups, weights=w)
    total = totals[groups[i]]
    one = counts and total > 0 and np.allclose(totals, totals.round())
    return np.where(groups == groups[i], (total - 1.0) / total * w if one else 0.0, w)


def refits(K, K_new, Y, w, groups, alpha, fit_intercept=True, *, counts=False):
    """Return predictions at new rows of the fits that leave out each row, (n, m, t)."""
    out = np.empty((len(K), len(K_new), Y.shape[1]))
    for i in range(len(K)):
        left = without(w, groups, i, counts=counts)
        rest = np.flatnonzero(left > 1e-12)
        C, mean = fit(K[np.ix_(rest, rest)], Y[rest], left[rest], alpha, fit_intercept)
        out[i] = K_new[:, rest] @ C + mean
    return out


def leave_one_out(K, Y, w, groups, alpha, fit_intercept=True, *, counts=False):
    """Return every row's prediction by the fit that leaves it out, (n, t)."""
    every = refits(K, K, Y, w, groups, alpha, fit_intercept, counts=counts)
    return every[np.arange(len(K)), np.arange(len(K))]


def jackknife_plus(K, K_new, Y, groups, alpha, miss, fit_intercept=True):
    """Return the intervals of Barber et al. 2021, eq. 1.3, of unweighted rows, (m, 2, t)."""
    n, ones = len(K), np.ones(len(K))
    residuals = np.abs(Y - leave_one_out(K, Y, ones, groups, alpha, fit_intercept))[:, None]
    found = refits(K, K_new, Y, ones, groups, alpha, fit_intercept)
    low, high = np.sort(found - residuals, axis=0), np.sort(found + residuals, axis=0)
    # Ranks as integers of exact fractions: floor(miss (n + 1)) and ceil((1 - miss)(n + 1)).
    rank = int(np.floor(round(miss * (n + 1), 9)))
    lower = low[rank - 1] if rank >= 1 else np.full_like(low[0], -np.inf)
    upper = high[n - rank] if rank >= 1 else np.full_like(high[0], np.inf)
    return np.stack([lower, upper], axis=1)


def smoothed(labels, n_classes, w):
    """Return targets (n, c): own classes, and one row of weight 1 spread over all classes."""
    one_hot = np.eye(n_classes)[labels]
    return (w.sum() * one_hot + 1.0 / n_classes) / (w.sum() + 1.0)


def temperature(scores, labels, w):
    """Return the slope of least smoothed log loss by direct search over its logarithm."""
    T = smoothed(labels, scores.shape[1], w)

    def loss(log_slope):
        return -(w[:, None] * T * log_softmax(np.exp(log_slope) * scores, axis=1)).sum()

    bounds = np.log(1e-6), np.log(1e6)
    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-10})
    return np.exp(found.x)


def calibration_error(proba, labels, n_bins=10):
    """Return the expected calibration error of the most probable class, equal-width bins."""
    confidence, right = proba.max(axis=1), proba.argmax(axis=1) == labels
    bins = np.minimum((confidence * n_bins).astype(int), n_bins - 1)
    gaps = [abs(confidence[bins == b].sum() - right[bins == b].sum()) for b in range(n_bins)]
    return sum(gaps) / len(labels)
