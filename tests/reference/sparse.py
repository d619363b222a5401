"""Naive NumPy inducing-point regression: n x n matrices and explicit inverses."""

import numpy as np


def log_normal(Y, C):
    """Return the sum over columns of log N(y; 0, C)."""
    n, T = Y.shape
    quadratic = np.sum(Y * np.linalg.solve(C, Y))
    return -0.5 * (quadratic + T * (np.linalg.slogdet(C)[1] + n * np.log(2 * np.pi)))


def nystrom(K_zz, K_zx):
    return K_zx.T @ np.linalg.solve(K_zz, K_zx)


def bound(K_zz, K_zx, diag, Y, noise):
    """Return log N(Y; 0, Q + N) less T / 2 tr(N^-1 (K - Q)) (Titsias 2009, eq. 9)."""
    Q = nystrom(K_zz, K_zx)
    trace = np.sum((diag - np.diag(Q)) / noise)
    return log_normal(Y, Q + np.diag(noise)) - 0.5 * Y.shape[1] * trace


def posterior(K_zz, K_zx, Y, noise):
    """Return mean (k, T) and covariance (k, k) of the inducing values (Titsias 2009, eq. 10)."""
    S = np.linalg.inv(K_zz + K_zx @ np.diag(1 / noise) @ K_zx.T)
    return K_zz @ S @ K_zx @ (Y / noise[:, None]), K_zz @ S @ K_zz


def predict(K_zz, K_zx, Y, noise, K_cross, K_new):
    """Return mean (m, T) and covariance (m, m) of new rows."""
    mean, cov = posterior(K_zz, K_zx, Y, noise)
    P = np.linalg.solve(K_zz, K_cross)
    return P.T @ mean, K_new - P.T @ (K_zz - cov) @ P


def exact_predict(K, Y, noise, K_cross, K_new):
    """Return mean and covariance of exact Gaussian process regression."""
    G = np.linalg.inv(K + np.diag(noise))
    return K_cross.T @ G @ Y, K_new - K_cross.T @ G @ K_cross
