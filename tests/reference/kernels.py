"""Naive NumPy kernels of infinite networks: whole matrices, textbook formulas, plain rounding.

Every dual is derived by another route than the one in sknk/kernels, so that agreement means
something. Duals take (q1, q, q2), broadcast, and return (E[phi phi], E[phi' phi']).
"""

from functools import partial

import numpy as np
from scipy import special

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


def polar(phi, q1, q, q2, theta=None, n_angles=80, n_radii=160):
    """E[phi(u) phi(v)] for numbers, in polar coordinates: jumps and kinks at zero lie on rays.

    With u = s1 rho cos(psi - eta), v = s2 rho cos(psi + eta), eta half the angle, the lines u = 0
    and v = 0 split the plane into four sectors; Gauss-Legendre in each, and in rho up to 14. The
    angle that q has is only right to 1e-8 near coincidence; `theta` is exact.
    """
    s1, s2 = np.sqrt(q1), np.sqrt(q2)
    theta = np.arccos(np.clip(q / max(s1 * s2, TINY), -1.0, 1.0)) if theta is None else theta
    eta = theta / 2.0
    nodes, weights = np.polynomial.legendre.leggauss(n_radii)
    rho = 7.0 * (1.0 + nodes[:, None])
    radial = 7.0 * weights[:, None] * rho * np.exp(-rho * rho / 2.0)
    nodes, weights = np.polynomial.legendre.leggauss(n_angles)
    rays = np.array([-0.5 * np.pi - eta, eta - 0.5 * np.pi, 0.5 * np.pi - eta, 0.5 * np.pi + eta])
    total = 0.0
    for start, end in zip(rays, [*rays[1:], 1.5 * np.pi - eta], strict=True):
        psi, half = (start + end) / 2.0 + (end - start) / 2.0 * nodes, (end - start) / 2.0
        values = phi(s1 * rho * np.cos(psi - eta)) * phi(s2 * rho * np.cos(psi + eta))
        total += np.sum(radial * values * (half * weights)) / (2.0 * np.pi)
    return total


def integrated(phi, slope):
    """Both duals of any phi that is smooth on either side of zero."""

    def duals(q1, q, q2):
        value, dot = (np.vectorize(partial(polar, f), otypes=[float]) for f in (phi, slope))
        return value(q1, q, q2), dot(q1, q, q2)

    return duals


def power(degree, rectified=False):
    """x^n, or max(x, 0)^n."""
    domain = (lambda x: np.maximum(x, 0.0)) if rectified else (lambda x: x)
    return integrated(
        lambda x: domain(x) ** degree,
        lambda x: degree * domain(x) ** (degree - 1) * ((x > 0) if rectified else 1.0),
    )


def exp_normalized(gamma, q1, q, q2):
    """Normalized Gaussian kernel (Shankar et al. 2020)."""
    r = np.sqrt(q1 * q2)
    value = np.exp(gamma * (q / np.maximum(r, TINY) - 1.0))
    return r * value, gamma * value


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def elu(scale, alpha):
    return integrated(
        lambda x: scale * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0.0))),
        lambda x: scale * np.where(x > 0, 1.0, alpha * np.exp(np.minimum(x, 0.0))),
    )


DUALS = {
    "relu": relu,
    "leaky_relu": partial(abrelu, 0.01, 1.0),
    "abrelu": partial(abrelu, 0.0, 1.0),
    "abs": partial(abrelu, -1.0, 1.0),
    "erf": erf,
    "gelu": gelu,
    "sin": partial(sin, 1.0, 1.0, 0.0),
    "rbf": partial(rbf, 1.0),
    "cos": partial(sin, 1.0, 1.0, np.pi / 2.0),
}
# Integrals, too slow for whole networks.
INTEGRALS = {
    "sigmoid_like": integrated(
        lambda x: special.erf(x / 2.4020563531719796) / 2.0 + 0.5,
        lambda x: np.exp(-((x / 2.4020563531719796) ** 2)) / np.sqrt(np.pi) / 2.4020563531719796,
    ),
    "exp": integrated(np.exp, np.exp),
    "gaussian": integrated(lambda x: np.exp(-x * x), lambda x: -2.0 * x * np.exp(-x * x)),
    "gabor": integrated(
        lambda x: np.exp(-x * x) * np.sin(x),
        lambda x: np.exp(-x * x) * (np.cos(x) - 2.0 * x * np.sin(x)),
    ),
    "sign": integrated(np.sign, np.zeros_like),
    "step": integrated(lambda x: (x > 0) * 1.0, np.zeros_like),
    "rectified_monomial": power(2, rectified=True),
    "exp_normalized": partial(exp_normalized, 1.0),
    "monomial": power(2),
    "hermite": integrated(lambda x: (x * x - 1.0) / np.sqrt(2.0), lambda x: np.sqrt(2.0) * x),
    "optimal_polynomial": integrated(
        lambda x: (x**3 - 3.0 * x) / np.sqrt(12.0) + x / np.sqrt(2.0),
        lambda x: (3.0 * x * x - 3.0) / np.sqrt(12.0) + 1.0 / np.sqrt(2.0),
    ),
    "tanh": integrated(np.tanh, lambda x: 1.0 / np.cosh(x) ** 2),
    "sigmoid": integrated(sigmoid, lambda x: sigmoid(x) * sigmoid(-x)),
    "softplus": integrated(lambda x: np.logaddexp(0.0, x), sigmoid),
    "silu": integrated(lambda x: x * sigmoid(x), lambda x: sigmoid(x) * (1.0 + x * sigmoid(-x))),
    "elu": elu(1.0, 1.0),
    "selu": elu(1.0507009873554805, 1.6732632423543772),
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
