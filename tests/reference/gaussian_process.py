"""Naive NumPy Gaussian processes: explicit inverses, every leave-one-out answer is a new model.

K are Gram matrices times the amplitude, C = K + diag(noise) with one noise variance for every row.
"""

import numpy as np
from scipy import stats
from scipy.linalg import expm


def covariance(K, noise):
    return K + np.diag(np.broadcast_to(noise, len(K)))


def log_normal(Y, C):
    """Return the sum over columns of log N(y; 0, C)."""
    return sum(stats.multivariate_normal(cov=C).logpdf(y) for y in Y.T)


def log_student(Y, C, df):
    """Return the sum over columns of the log density of a multivariate t of shape C."""
    return sum(stats.multivariate_t(shape=C, df=df).logpdf(y) for y in Y.T)


def posterior(K, noise, Y, K_cross, K_new):
    """Return mean (m, t) and covariance (m, m) of a Gaussian process; K_cross is (n, m)."""
    A = K_cross.T @ np.linalg.inv(covariance(K, noise))
    return A @ Y, K_new - A @ K_cross


def ensemble(ntk, nngp, response, Y, ntk_cross, nngp_cross, nngp_new):
    """Return mean and covariance of trained networks f + A (Y - f), f a draw of the NNGP.

    `response` (n, n) is what training has made of the inverse of ntk + noise.
    """
    A = ntk_cross.T @ response
    cov = nngp_new + A @ nngp @ A.T - A @ nngp_cross - nngp_cross.T @ A.T
    return A @ Y, cov


def flow(K, noise_variance, w, time):
    """Return M of dual coefficients c = M Y at a time of gradient flow, (n, n).

    dc/dt = W (Y - K c) - s c from c = 0: the flow of half the summed squared error with weights w
    and a ridge s on the parameters, as one matrix exponential of the linear system.
    """
    n, W = len(K), np.diag(w)
    system = np.zeros((2 * n, 2 * n))
    system[:n, :n], system[:n, n:] = -(W @ K + noise_variance * np.eye(n)), W
    return expm(time * system)[:n, n:]


def stopped(K, noise, M, Y, K_cross, K_new):
    """Return mean and covariance of flow from a draw of the prior towards noisy targets."""
    spread = M + M.T - M @ covariance(K, noise) @ M.T
    return K_cross.T @ M @ Y, K_new - K_cross.T @ spread @ K_cross


def gain(K, noise, Y, df, n):
    """Return (df + y' C^-1 y) / (df + n) of every output: 1 for a Gaussian, df None."""
    if df is None:
        return np.ones(Y.shape[1])
    quad = (Y * np.linalg.solve(covariance(K, noise), Y)).sum(0)
    return (df + quad) / (df + n)


def leave_one_out(K, own, Y, w, groups, *, df=None, nngp=None):
    """Return mean, std (n, t) and log density (n,) of every row's targets by all other rows.

    `own` are noise variances of single copies; rows of a group are left out together. With `nngp`
    the answer is that of an ensemble, K the tangent kernel.
    """
    n, T = Y.shape
    mean, std, density = np.empty((n, T)), np.empty((n, T)), np.empty(n)
    for i in range(n):
        rest = np.flatnonzero((groups != groups[i]) & (w > 0))
        K_rest, noise, Y_rest = K[np.ix_(rest, rest)], (own / np.where(w > 0, w, 1))[rest], Y[rest]
        cross, here = K[rest][:, [i]], K[i : i + 1, i : i + 1]
        if nngp is None:
            found, cov = posterior(K_rest, noise, Y_rest, cross, here)
        else:
            inverse = np.linalg.inv(covariance(K_rest, noise))
            parts = nngp[np.ix_(rest, rest)], inverse, Y_rest, cross, nngp[rest][:, [i]]
            found, cov = ensemble(K_rest, *parts, nngp[i : i + 1, i : i + 1])
        rows = w[rest].sum()
        scale = np.sqrt((cov[0, 0] + own[i]) * gain(K_rest, noise, Y_rest, df, rows))
        law = stats.norm if df is None else stats.t(df + rows)
        mean[i] = found[0]
        std[i] = scale if df is None else scale * law.std()
        density[i] = (law.logpdf((Y[i] - mean[i]) / scale) - np.log(scale)).sum()
    return mean, std, density
