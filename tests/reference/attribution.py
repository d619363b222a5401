"""Naive NumPy data attribution: every coalition a refit, every value a sum over coalitions."""

from dataclasses import dataclass, replace
from itertools import combinations
from math import comb

import numpy as np
from scipy.integrate import quad
from scipy.special import log_softmax, softmax
from scipy.stats import beta, multivariate_normal, norm


@dataclass(frozen=True)
class Game:
    """Ridge regression of n rows judged on m; Y relative to the prior, as outputs are."""

    K: np.ndarray  # (n, n)
    cross: np.ndarray  # (n, m)
    shift: np.ndarray  # (n,), or (n, C) of each output its own
    Y: np.ndarray  # (n, C)
    weights: np.ndarray | None  # (n,) of the mean target; None where there is none
    prior_variance: np.ndarray | None = None  # (m,)

    @property
    def n(self):
        return len(self.K)


def random_game(n, m=5, C=2, *, centred=True, weighted=False, seed=0, shift=0.3):
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((n + m, n + m + 5)) / np.sqrt(n + m + 5)
    K = A @ A.T
    w = rng.uniform(0.3, 3.0, n) if weighted else np.ones(n)
    Y = rng.standard_normal((n, C)) + 0.7
    own = K[n:, n:].diagonal()
    return Game(K[:n, :n], K[:n, n:], shift / w, Y, w if centred else None, own)


def mean(game, rows):
    """Return the mean target of a coalition, (C,)."""
    if game.weights is None or len(rows) == 0:
        return np.zeros(game.Y.shape[1])
    return np.average(game.Y[rows], axis=0, weights=game.weights[rows])


def outputs(game, rows):
    """Return what a coalition predicts of the rows judged, (m, C)."""
    rows = np.asarray(rows, dtype=int)
    found = np.empty((game.cross.shape[1], game.Y.shape[1]))
    b = mean(game, rows)
    for c, shift in enumerate(np.broadcast_to(game.shift.T, game.Y.T.shape)):
        C = game.K[np.ix_(rows, rows)] + np.diag(shift[rows])
        found[:, c] = b[c] + game.cross[rows].T @ np.linalg.solve(C, game.Y[rows, c] - b[c])
    return found


def variances(game, rows):
    """Return the predictive variances of a coalition, without noise, (m,)."""
    rows = np.asarray(rows, dtype=int)
    C = game.K[np.ix_(rows, rows)] + np.diag(game.shift[rows])
    K = game.cross[rows]
    return game.prior_variance - np.sum(K * np.linalg.solve(C, K), axis=0)


def evidence(game, rows):
    """Return the log density of a coalition's targets without mean, summed over outputs."""
    rows = np.asarray(rows, dtype=int)
    shifts = np.broadcast_to(game.shift.T, game.Y.T.shape)
    if len(rows) == 0:
        return 0.0
    return sum(
        multivariate_normal.logpdf(y[rows], cov=game.K[np.ix_(rows, rows)] + np.diag(s[rows]))
        for y, s in zip(game.Y.T, shifts, strict=True)
    )


def without(n, rows):
    return np.setdiff1d(np.arange(n), rows)


def judged_on_itself(game):
    """Return the game whose own rows are judged."""
    return replace(game, cross=game.K, prior_variance=np.diag(game.K))


# --- utilities, of outputs with the prior in them ------------------------------------------------


def one_hot(y, classes):
    return (np.asarray(y)[:, None] == np.asarray(classes)).astype(float)


def brier(hot, proba):
    """Return minus the mean squared distance of probabilities (m, C) from the truth."""
    return -np.mean(np.sum((proba - hot) ** 2, axis=1))


def ridge_proba(f):
    """Return (1 + f) / 2 of each class; a single column is that of the second class."""
    p = (1.0 + f) / 2.0
    return np.hstack([1.0 - p, p]) if f.shape[1] == 1 else p


def tempered(f, slope, rows):
    """Return the calibrated softmax of decision values."""
    f = np.hstack([np.zeros_like(f), f]) if f.shape[1] == 1 else f
    return (rows * softmax(slope * f, axis=1) + 1.0 / f.shape[1]) / (rows + 1.0)


def softmax_log_prob(hot, f):
    return np.mean(np.sum(hot * log_softmax(f, axis=1), axis=1))


def mse(y, f):
    return -np.mean((y - f) ** 2)


def r2(y, f):
    return np.mean(1.0 - np.sum((y - f) ** 2, axis=0) / np.sum((y - y.mean(axis=0)) ** 2, axis=0))


def gaussian_log_prob(y, f, variance, noise, scale):
    """Return the mean log density; variances in units of the kernel."""
    return np.mean(norm.logpdf(y, f, scale * np.sqrt(variance + noise)[:, None]))


# --- values --------------------------------------------------------------------------------------


def coalition_weight(semivalue, n, k):
    """Return the weight of one coalition of k among n - 1 others."""
    if semivalue == "shapley":
        return 1.0 / (n * comb(n - 1, k))
    if semivalue == "banzhaf":
        return 0.5 ** (n - 1)
    a, b = semivalue
    law = beta(b, a)  # the share of the others that is in
    return quad(lambda t: t**k * (1 - t) ** (n - 1 - k) * law.pdf(t), 0, 1, epsabs=1e-12)[0]


def semivalues(utility, n, semivalue="shapley"):
    """Return the values of n players of a function of coalitions (sorted tuples)."""
    known = {S: utility(S) for k in range(n + 1) for S in combinations(range(n), k)}
    values = np.zeros(n)
    for i in range(n):
        for k in range(n):
            weight = coalition_weight(semivalue, n, k)
            for S in combinations([j for j in range(n) if j != i], k):
                values[i] += weight * (known[tuple(sorted((*S, i)))] - known[S])
    return values


def leave_one_out(utility, n):
    """Return U(all) - U(all but one)."""
    every = utility(range(n))
    return np.array([every - utility(without(n, [i])) for i in range(n)])
