"""Bandits by the formula: one dense matrix of all rounds, solved anew every time."""

from functools import partial

import numpy as np

from sknk.bandits import NTKUCB, NTKThompsonSampling
from sknk.kernels import NTK, Normalized

KERNEL = Normalized(NTK(depth=2, bias_var=0.0))
S2 = 0.1
PLAIN = {"noise_variance": S2, "normalize_reward": False}  # what the formulas are of
ucb, sampling = partial(NTKUCB, **PLAIN), partial(NTKThompsonSampling, **PLAIN)


def log(n=40, d=4, arms=3, seed=0, unit=True):
    """Contexts, arms that were played at random, rewards."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d))
    if unit:
        X /= np.linalg.norm(X, axis=1, keepdims=True)
    arm = rng.integers(arms, size=n)
    reward = np.sin(3 * X[:, 0] * (arm + 1)) + 0.1 * rng.normal(size=n)
    return X, arm, reward


def blocks(X, arm, n_arms):
    """Contexts in the block of their arm, (n, K d), at the variance of a row of d features."""
    wide = np.zeros((len(X), n_arms, X.shape[1]))
    wide[np.arange(len(X)), arm] = X
    return wide.reshape(len(X), -1) * np.sqrt(n_arms)


def joint(kernel, X, arm, Y, other, n_arms):
    """The kernel of explicit blocks."""
    return kernel(blocks(X, arm, n_arms), blocks(Y, other, n_arms))


def disjoint(kernel, X, arm, Y, other, n_arms):
    """The kernel of contexts where arms are the same."""
    return kernel(X, Y.copy()) * (arm[:, None] == other)


def posterior(of, X, arm, reward, Q, n_arms, kernel=KERNEL, noise=S2):
    """Return means and covariances (m, K), (m, K, K) at contexts Q, and the information gain."""
    noise = np.broadcast_to(noise, len(X))
    K = of(kernel, X, arm, X, arm, n_arms)
    C = K + np.diag(noise)
    mean, covariance = np.empty((len(Q), n_arms)), np.empty((len(Q), n_arms, n_arms))
    for i, q in enumerate(Q):
        every, codes = np.tile(q, (n_arms, 1)), np.arange(n_arms)
        cross = of(kernel, every, codes, X, arm, n_arms)
        mean[i] = cross @ np.linalg.solve(C, reward)
        prior = of(kernel, every, codes, every, codes, n_arms)
        covariance[i] = prior - cross @ np.linalg.solve(C, cross.T)
    gain = 0.5 * np.linalg.slogdet(np.eye(len(X)) + K / noise[:, None])[1]
    return mean, covariance, gain
