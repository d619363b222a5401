"""Naive NumPy linear algebra: one line per definition, no cleverness."""

import numpy as np


def random_gram(n, seed=0, rank=None):
    """Return a symmetric positive semi-definite matrix with mean diagonal near 1."""
    A = np.random.default_rng(seed).standard_normal((n, rank or 2 * n))
    return A @ A.T / A.shape[1]


def inverse(K, shift):
    return np.linalg.inv(K + np.diag(np.broadcast_to(shift, len(K))))


def spectral(K, shift, h):
    """Return V h(lambda) V' of K + shift."""
    values, V = np.linalg.eigh(K + np.diag(np.broadcast_to(shift, len(K))))
    return V @ np.diag(h(values)) @ V.T


def weighted_mean(Y, w):
    return (w[:, None] * Y).sum(axis=0) / w.sum()


def ridge_fit(K, Y, w, alpha, fit_intercept):
    """Return (dual coefficients, intercept) of weighted ridge on rows of positive weight."""
    mean = weighted_mean(Y, w) if fit_intercept else np.zeros(Y.shape[1])
    return inverse(K, alpha / w) @ (Y - mean), mean


def leave_one_out(K, Y, w, alpha, fit_intercept):
    """Return leave-one-out predictions by refitting n times."""
    out = np.empty_like(Y)
    for i in range(len(K)):
        rest = np.delete(np.arange(len(K)), i)
        C, mean = ridge_fit(K[np.ix_(rest, rest)], Y[rest], w[rest], alpha, fit_intercept)
        out[i] = K[i, rest] @ C + mean
    return out


def hat_matrix(K, w, alpha, fit_intercept):
    """Return S with fitted values S Y, column by column of the identity."""
    C, mean = ridge_fit(K, np.eye(len(K)), w, alpha, fit_intercept)
    return K @ C + mean


def gcv(K, Y, w, alpha, fit_intercept):
    """Return n sum_i w_i (y_i - [S y]_i)^2 / tr(I - S)^2 for every target."""
    R = np.eye(len(K)) - hat_matrix(K, w, alpha, fit_intercept)
    return len(K) * (w[:, None] * (R @ Y) ** 2).sum(axis=0) / np.trace(R) ** 2
