"""Naive NumPy kernels of infinite networks: whole matrices, textbook formulas, plain rounding.

Every dual is derived by another route than the one in sknk/kernels, so that agreement means
something. Duals take (q1, q, q2), broadcast, and return (E[phi phi], E[phi' phi']).
"""

from functools import partial

import numpy as np

TINY = 1e-300  # a denominator for zero rows


def relu(q1, q, q2):
    """Arc-cosine kernel of order 1 in its cosine form (Cho & Saul 2009, eq. 6)."""
    r = np.sqrt(q1 * q2)
    c = np.clip(q / np.maximum(r, TINY), -1.0, 1.0)
    theta = np.arccos(c)
    value = r * (np.sqrt(1.0 - c * c) + (np.pi - theta) * c) / (2.0 * np.pi)
    return value, (np.pi - theta) / (2.0 * np.pi)


def abrelu(a, b, q1, q, q2):
    """Split phi into its odd part m x and even part h |x|, whose cross moments vanish."""
    m, h = (a + b) / 2.0, (b - a) / 2.0
    r = np.sqrt(q1 * q2)
    c = np.clip(q / np.maximum(r, TINY), -1.0, 1.0)
    moment = (2.0 / np.pi) * (r * np.sqrt(1.0 - c * c) + q * np.arcsin(c))  # E|u||v|
    signs = (2.0 / np.pi) * np.arcsin(c)  # E[sign u sign v], Sheppard's formula
    return m * m * q + h * h * moment, m * m + h * h * signs


def erf(q1, q, q2):
    """Arcsine kernel (Williams 1997, eq. 11)."""
    norm = np.sqrt((1.0 + 2.0 * q1) * (1.0 + 2.0 * q2))
    c = 2.0 * q / norm
    return (2.0 / np.pi) * np.arcsin(c), (4.0 / np.pi) / (norm * np.sqrt(1.0 - c * c))


def gelu(q1, q, q2):
    """x Phi(x) by repeated Stein's lemma, E[u f] = q1 E[f_u] + q E[f_v]; p is E[phi(u) phi(v)]."""
    square = (1.0 + q1) * (1.0 + q2) - q * q
    p = 1.0 / (2.0 * np.pi * np.sqrt(square))
    both = 0.25 + np.arcsin(q / np.sqrt((1.0 + q1) * (1.0 + q2))) / (2.0 * np.pi)
    left, right = q * p / (1.0 + q1), q * p / (1.0 + q2)  # E[u phi(u) Phi(v)] and mirrored
    value = q1 * p * (q2 - q * q / (1.0 + q1)) + q * both + q * right
    return value, both + left + right + p * q / square


def sin(a, b, c, q1, q, q2):
    """Sum a sin(b x + c) as two waves e^{+-i}: four Gaussian characteristic functions."""
    value, slope = 0.0, 0.0
    for s in (1, -1):
        for t in (1, -1):
            mean = np.exp(1j * c * (s + t) - b * b * (q1 + q2 + 2.0 * s * t * q) / 2.0)
            value = value + s * t * mean / (2j * 2j)
            slope = slope + b * b * mean / 4.0
    return a * a * np.real(value), a * a * np.real(slope)


def rbf(gamma, q1, q, q2):
    """Random Fourier layer sqrt(2) sin(sqrt(2 gamma) x + pi/4)."""
    return sin(np.sqrt(2.0), np.sqrt(2.0 * gamma), np.pi / 4.0, q1, q, q2)


DUALS = {
    "relu": relu,
    "leaky_relu": partial(abrelu, 0.01, 1.0),
    "abrelu": partial(abrelu, 0.0, 1.0),
    "abs": partial(abrelu, -1.0, 1.0),
    "erf": erf,
    "gelu": gelu,
    "sin": partial(sin, 1.0, 1.0, 0.0),
    "rbf": partial(rbf, 1.0),
}


def network(X, Y, duals, depth, weight_var=1.0, bias_var=0.0, fixed_depth=0, fan_ins=None):
    """Explicit recursion of methods, section 1: (Sigma, Theta) after `depth` hidden layers.

    `fan_ins` (input width, hidden width) selects the standard parametrization. Diagonals go
    through the same duals with q1 = q = q2.
    """
    d = X.shape[1]
    base = X @ Y.T / d, (X * X).sum(1)[:, None] / d, (Y * Y).sum(1)[None, :] / d
    tangents = 0.0
    for layer in range(depth + 1):
        if layer:
            cov, q1, q2 = base
            value, slope = duals(q1, cov, q2)
            base = value, duals(q1, q1, q1)[0], duals(q2, q2, q2)[0]
            tangents = slope * tangents
        before = base[0]
        base = tuple(weight_var * q + bias_var for q in base)
        own = base[0]
        if fan_ins is not None:
            own = fan_ins[min(layer, 1)] * before + (1.0 if bias_var else 0.0)
        tangents = weight_var * tangents + (own if layer >= fixed_depth else 0.0)
    return base[0], tangents


def leo_yu(X, depth):
    """Arora et al.'s UCI kernels: K[dep][fixed], unnormalized ReLU without biases."""
    S, n = X @ X.T, len(X)
    H = np.zeros((n, n))
    K = np.zeros((depth + 1, depth + 1, n, n))
    tangents = {fixed: H.copy() for fixed in range(depth + 1)}
    for dep in range(depth + 1):
        for fixed in range(dep + 1):
            tangents[fixed] = tangents[fixed] + S
            K[dep][fixed] = tangents[fixed]
        P = np.clip(np.sqrt(np.outer(np.diag(S), np.diag(S))), 1e-9, None)
        c = np.clip(S / P, -1.0, 1.0)
        theta = np.arccos(c)
        S = P * (c * (np.pi - theta) + np.sqrt(1.0 - c * c)) / (2.0 * np.pi)
        tangents = {f: H * (np.pi - theta) / (2.0 * np.pi) for f, H in tangents.items()}
    return K


def scikit_ntk(X, Z, depth, beta):
    """The kernel of the package that imports as `skntk` (Geifman et al. 2020)."""
    S = X @ Z.T
    P = np.sqrt(np.outer((X * X).sum(1), (Z * Z).sum(1)))
    K = S + beta**2
    for _ in range(depth):
        c = np.clip(S / P, -1.0, 1.0)
        theta = np.arccos(c)
        S = P * (c * (np.pi - theta) + np.sqrt(1.0 - c * c)) / np.pi
        K = K * (np.pi - theta) / np.pi + S + beta**2
    return K / ((depth + 1) * (beta**2 + 1.0))
