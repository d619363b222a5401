"""Naive NumPy Laplace approximation of a softmax GP: dense (n C) x (n C) matrices, class by class.

Latent values are stacked class by class: entry c n + i belongs to row i and class c.
"""

import numpy as np


def softmax(f):
    e = np.exp(f - f.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def stack(f):
    return f.T.ravel()


def unstack(v, n):
    return v.reshape(-1, n).T


def negative_hessian(f, w):
    """Return W of sum_i w_i log softmax(f_i)[y_i], which does not depend on y."""
    n, C = f.shape
    W = np.zeros((n * C, n * C))
    for i, p in enumerate(softmax(f)):
        W[i::n, i::n] = w[i] * (np.diag(p) - np.outer(p, p))
    return W


def joint_gram(K, C):
    return np.kron(np.eye(C), K)


def log_posterior(K, Y, w, a):
    """Return -1/2 f' K^-1 f + sum_i w_i log softmax(f_i)[y_i] at f = K a."""
    f = K @ a
    return -0.5 * np.sum(a * f) + np.sum(w * np.log(np.sum(Y * softmax(f), axis=1)))


def mode(K, Y, w, steps=60):
    """Return a with f = K a at the mode, by damped Newton steps on a, dense."""
    n, C = Y.shape
    a = np.zeros((n, C))
    for _ in range(steps):
        f = K @ a
        r = w[:, None] * (Y - softmax(f)) - a
        A = np.eye(n * C) + negative_hessian(f, w) @ joint_gram(K, C)
        step, t = unstack(np.linalg.solve(A, stack(r)), n), 1.0
        now = log_posterior(K, Y, w, a)
        while t > 1e-6 and log_posterior(K, Y, w, a + t * step) < now - 1e-12 * abs(now):
            t /= 2
        a = a + t * step
    return a


def half_logdet(K, f, w):
    """Return 1/2 log det(I + K W)."""
    n, C = f.shape
    A = np.eye(n * C) + joint_gram(K, C) @ negative_hessian(f, w)
    return 0.5 * np.linalg.slogdet(A)[1]


def log_evidence(K, Y, w):
    a = mode(K, Y, w)
    return log_posterior(K, Y, w, a) - half_logdet(K, K @ a, w)


def predict(K, Y, w, K_cross, diag):
    """Return mean (m, C) and covariance (m, C, C) of the latent values of new rows."""
    n, C = Y.shape
    a = mode(K, Y, w)
    W = negative_hessian(K @ a, w)
    R = np.linalg.solve(np.eye(n * C) + W @ joint_gram(K, C), W)  # (W^-1 + K)^-1
    cov = []
    for j in range(K_cross.shape[1]):
        k = np.kron(np.eye(C), K_cross[:, j : j + 1])  # (n C, C)
        cov.append(diag[j] * np.eye(C) - k.T @ R @ k)
    return K_cross.T @ a, np.array(cov)


def two_class_evidence(K, Y, nodes=60):
    """Return log p(Y) of two rows and two classes by quadrature over f_1 - f_0 ~ N(0, 2 K)."""
    x, weight = np.polynomial.hermite_e.hermegauss(nodes)
    weight = weight / weight.sum()
    L = np.linalg.cholesky(2 * K)
    z = np.stack(np.meshgrid(x, x, indexing="ij")).reshape(2, -1)  # (2, nodes^2)
    sign = np.where(Y[:, 1] == 1, 1.0, -1.0)
    likelihood = np.prod(1 / (1 + np.exp(-sign[:, None] * (L @ z))), axis=0)
    return np.log(np.sum(np.outer(weight, weight).ravel() * likelihood))
