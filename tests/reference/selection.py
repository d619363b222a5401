"""Naive choice of rows: every candidate by dense matrices, one row at a time.

K are Gram matrices of all n rows, `given` the rows that are there from the start. Of equal
candidates the first is taken; what is given or chosen is not chosen again.
"""

import numpy as np


def posterior(K, rows, noise):
    """Return the covariance (n, n) given rows with one noise variance, or one for each."""
    G = np.asarray(rows, dtype=int)
    noisy = K[np.ix_(G, G)] + np.diag(np.broadcast_to(noise, len(G)))
    return K - K[:, G] @ np.linalg.solve(noisy, K[G])


def log_det(K, rows, noise):
    """Return log det(K_SS + noise I)."""
    return np.linalg.slogdet(K[np.ix_(rows, rows)] + noise * np.eye(len(rows)))[1]


def squared_distances(K):
    """Return |phi_i - phi_j|^2, (n, n)."""
    d = np.diag(K)
    return d[:, None] + d - 2.0 * K


def greedy(n, size, given, score):
    """Return rows, each the largest of score(i, rows so far) among those that are open."""
    chosen = []
    for _ in range(size):
        G = [*given, *chosen]
        chosen.append(max((i for i in range(n) if i not in G), key=lambda i: score(i, G)))
    return chosen


def max_det(K, size, given=(), noise=0.0, bonus=None):
    """Return rows of the largest predictive variances; a bonus is noise of the rows chosen."""
    more = np.zeros(len(K)) if bonus is None else bonus

    def variance(i, G):
        noises = [noise + (0.0 if j in given else more[j]) for j in G]
        return posterior(K, G, noises)[i, i] + noise + more[i]

    return greedy(len(K), size, given, variance)


def max_dist(K, size, given=()):
    """Return rows farthest from the nearest centre; the longest first where there is none."""
    D = squared_distances(K)
    return greedy(len(K), size, given, lambda i, G: min(D[i, c] for c in G) if G else K[i, i])


def largest_cells(K, size, given=()):
    """Return the farthest row of the cell with the largest sum of squared distances."""
    D = squared_distances(K)

    def distance(i, G):
        if not G:
            return K[i, i]
        cell, squared = D[:, G].argmin(1), D[:, G].min(1)
        sizes = [squared[cell == c].sum() for c in range(len(G))]
        return squared[i] if cell[i] == np.argmax(sizes) else -1.0

    return greedy(len(K), size, given, distance)


def summed_variance(K, rows, noise, judged=None):
    """Return the sum of posterior variances of the rows judged, all if None."""
    variances = np.diag(posterior(K, rows, noise))
    return variances.sum() if judged is None else variances[judged].sum()


def least_variance(K, size, given=(), noise=0.0, judged=None, forward=None):
    """Return rows that leave the smallest sum of variances; those chosen too many are dropped."""

    def left(rows):
        return summed_variance(K, rows, noise, judged)

    chosen = greedy(len(K), forward or size, given, lambda i, G: -left([*G, i]))
    while len(chosen) > size:
        chosen.remove(min(chosen, key=lambda i: left([*given, *(j for j in chosen if j != i)])))
    return chosen


def frank_wolfe(Phi, size):
    """Return the rows of Frank and Wolfe's steps towards the sum of all features."""
    lengths, u = np.linalg.norm(Phi, axis=1), Phi.sum(0)

    def embedding(chosen):
        w = np.zeros_like(u)
        for i in chosen:
            delta = lengths.sum() * Phi[i] / lengths[i] - w
            w = w + (delta @ (u - w)) / (delta @ delta) * delta
        return w

    def score(i, chosen):
        return Phi[i] @ (u - embedding(chosen)) / lengths[i]

    return greedy(len(Phi), size, (), score)
