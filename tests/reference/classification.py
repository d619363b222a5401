"""Naive NumPy classification: labels transformed one by one, refits, integrals by brute force.

K are Gram matrices times the amplitude.
"""

import numpy as np
from scipy import stats
from scipy.special import logsumexp, softmax

from tests.reference import gaussian_process as gp


def dirichlet(labels, n_classes, alpha_eps):
    """Return log-normal targets and variances (n, C) (Milios et al. 2018, eqs. 3 to 5)."""
    Y, noise = np.empty((2, len(labels), n_classes))
    for i, label in enumerate(labels):
        for c in range(n_classes):
            alpha = alpha_eps + (label == c)
            noise[i, c] = np.log(1 / alpha + 1)
            Y[i, c] = np.log(alpha) - noise[i, c] / 2
    return Y, noise


def targets(labels, n_classes, w, alpha_eps):
    """Return centred targets, and noise variances that weights divide, (n, C)."""
    Y, noise = dirichlet(labels, n_classes, alpha_eps)
    return Y - np.average(Y.mean(axis=1), weights=w), noise / w[:, None]


def posterior(K, Y, noise, K_cross, diag):
    """Return means and variances (m, C) of one Gaussian process for every class."""
    mean, variance = np.empty((2, len(diag), Y.shape[1]))
    for c in range(Y.shape[1]):
        found = gp.posterior(K, noise[:, c], Y[:, [c]], K_cross, np.diag(diag))
        mean[:, c], variance[:, c] = found[0][:, 0], np.diag(found[1])
    return mean, variance


def leave_one_out(K, Y, noise):
    """Return means and variances (n, C) of every row by a process of the others."""
    mean, variance = np.empty((2, *Y.shape))
    for i in range(len(K)):
        rest = np.delete(np.arange(len(K)), i)
        here = K[rest][:, [i]], K[[i], [i]]
        own = posterior(K[np.ix_(rest, rest)], Y[rest], noise[rest], *here)
        mean[i], variance[i] = own[0][0], own[1][0]
    return mean, variance


def log_density(K, Y, noise):
    """Return the log density of the targets of all classes."""
    return sum(gp.log_normal(Y[:, [c]], gp.covariance(K, noise[:, c])) for c in range(Y.shape[1]))


def expected_softmax(mean, std, nodes=400, points=1500):
    """Return E softmax(mean + std z), (C,), to 1e-10: a race of independent clocks.

    softmax(f)_c is the probability that f_c + g_c is the largest, g standard Gumbel. With
    independent f so are the sums: the integral of one density times the other distributions.
    """
    z = np.linspace(-9, 9, nodes)
    weight = stats.norm.pdf(z) / stats.norm.pdf(z).sum()
    t = np.linspace((mean - 9 * std).min() - 6, (mean + 9 * std).max() + 40, points)
    rate = np.exp(np.minimum(mean[:, None, None] + std[:, None, None] * z - t[:, None], 700))
    below = np.exp(-rate) @ weight  # (C, points): P(f_c + g_c < t)
    density = (np.exp(-rate) * rate) @ weight
    others = [np.prod(np.delete(below, c, axis=0), axis=0) for c in range(len(mean))]
    return (density * others).sum(axis=1) * (t[1] - t[0])


def average_softmax(mean, std, z):
    """Return the mean of softmax(mean + std z) over draws z (S, C), for every row, (m, C)."""
    return np.array(
        [softmax(m + s * z, axis=1).mean(axis=0) for m, s in zip(mean, std, strict=True)]
    )


def log_score(mean, variance, labels, w, z):
    """Return sum_i w_i log of the average probability of row i's class."""
    p = average_softmax(mean, np.sqrt(variance), z)
    return w @ np.log(p[np.arange(len(labels)), labels])


def sampled_evidence(K, labels, n_classes, size=200_000):
    """Return log p(labels) as an average over draws from the prior, and its standard error."""
    n = len(K)
    z = np.random.default_rng(0).standard_normal((size, n_classes, n))
    f = z @ np.linalg.cholesky(K).T  # (S, C, n)
    likelihood = np.exp((f[:, labels, np.arange(n)] - logsumexp(f, axis=1)).sum(axis=1))
    mean = likelihood.mean()
    return np.log(mean), likelihood.std() / mean / np.sqrt(size)


def differences(function, x, h=1e-4):
    """Return the gradient of a function of a vector, by central differences of order h^4."""
    gradient = np.empty(len(x))
    for j, e in enumerate(np.eye(len(x))):
        values = [function(x + t * h * e) for t in (-2, -1, 1, 2)]
        gradient[j] = np.dot(values, [1, -8, 8, -1]) / (12 * h)
    return gradient
