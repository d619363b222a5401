import functools

import numpy as np
import pytest
import torch
from scipy import stats

from sknk.solvers import (
    Cholesky,
    Eigh,
    evidence_cotangent,
    leave_one_out_cotangent,
    leave_one_out_gradient,
)
from tests.reference import linalg

N, T = 13, 2
RNG = np.random.default_rng(0)
K = linalg.random_gram(N)
SHIFT = RNG.uniform(0.1, 1.0, N)
Y = RNG.standard_normal((N, T))
BY_ALPHA, BY_DIAGONAL = RNG.standard_normal((2, N))

SOLVERS = pytest.mark.parametrize("solver", [Cholesky(), Eigh()], ids=repr)


def tensor(x):
    return torch.tensor(x, dtype=torch.float64)


def factorize(K, shift=SHIFT, solver=None):
    return (solver or Cholesky()).factorize(tensor(K), tensor(shift))


def evidence_of(K, Y, gain, factor=None):
    factor = factor or factorize(K)
    return evidence_cotangent(factor, factor.solve(tensor(Y)), tensor(gain)).numpy()


def leave_one_out_of(K, y, factor=None):
    factor = factor or factorize(K)
    alpha = factor.solve(tensor(y))
    found = leave_one_out_cotangent(factor, alpha, tensor(BY_ALPHA), tensor(BY_DIAGONAL))
    return [part.numpy() for part in found]


def log_density(K, Y):
    C = K + np.diag(SHIFT)
    return sum(stats.multivariate_normal(cov=C).logpdf(y) for y in Y.T)


def linear_score(K, y):
    """Return a function whose derivatives by C^-1 y and diag(C^-1) are the constants above."""
    G = linalg.inverse(K, SHIFT)
    return BY_ALPHA @ G @ y + BY_DIAGONAL @ np.diag(G)


def symmetric(seed):
    S = np.random.default_rng(seed).standard_normal((N, N))
    return S + S.T


def along(function, S, h=1e-3):
    """Return the derivative of function(t S) at t = 0, to h^4."""
    values = [function(t * h * S) for t in (-2, -1, 1, 2)]
    return np.dot(values, [1, -8, 8, -1]) / (12 * h)


# Tolerances of finite differences: h^4 times fifth derivatives of order 1e3.
RTOL, ATOL = 1e-7, 1e-7


@SOLVERS
@pytest.mark.parametrize("seed", range(3))
def test_evidence_cotangent_matches_finite_differences(solver, seed):
    S = symmetric(seed)
    W = evidence_of(K, Y, np.ones(T), factorize(K, solver=solver))
    expected = along(lambda D: log_density(K + D, Y), S)
    np.testing.assert_allclose(0.5 * np.sum(W * S), expected, rtol=RTOL, atol=ATOL)


def test_evidence_cotangent_of_the_diagonal_matches_finite_differences():
    W = evidence_of(K, Y, np.ones(T))
    for i in range(N):
        expected = along(lambda D: log_density(K + D, Y), np.diag(np.eye(N)[i]))
        np.testing.assert_allclose(0.5 * W[i, i], expected, rtol=RTOL, atol=ATOL)


def test_evidence_cotangent_is_its_formula():
    gain = np.array([0.4, 3.0])
    G = linalg.inverse(K, SHIFT)
    expected = (G @ Y * gain) @ (G @ Y).T - T * G
    np.testing.assert_allclose(evidence_of(K, Y, gain), expected, rtol=1e-10, atol=1e-11)


@SOLVERS
@pytest.mark.parametrize("seed", range(3))
def test_leave_one_out_cotangent_matches_finite_differences(solver, seed):
    S, y = symmetric(seed), Y[:, 0]
    W, _ = leave_one_out_of(K, y, factorize(K, solver=solver))
    expected = along(lambda D: linear_score(K + D, y), S)
    np.testing.assert_allclose(np.sum(W * S), expected, rtol=RTOL, atol=ATOL)


def test_leave_one_out_cotangent_of_the_targets_matches_finite_differences():
    _, v = leave_one_out_of(K, Y[:, 0])
    for i in range(N):
        expected = along(lambda d: linear_score(K, Y[:, 0] + d), np.eye(N)[i])
        np.testing.assert_allclose(v[i], expected, rtol=RTOL, atol=ATOL)


def test_leave_one_out_cotangent_gives_the_gradient_of_a_score():
    # The log density of every row given the others, by autograd through the dense inverse.
    C, y = tensor(K + np.diag(SHIFT)).requires_grad_(), tensor(Y[:, 0]).requires_grad_()
    G = torch.linalg.inv(C)
    alpha, diagonal = G @ y, G.diagonal()
    score = (0.5 * diagonal.log() - 0.5 * alpha.square() / diagonal).sum()
    by_alpha, by_diagonal = torch.autograd.grad(score, (alpha, diagonal), retain_graph=True)
    by_C, by_y = torch.autograd.grad(score, (C, y))
    W, v = leave_one_out_cotangent(factorize(K), alpha.detach(), by_alpha, by_diagonal)
    np.testing.assert_allclose(W, (by_C + by_C.mT) / 2, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(v, by_y, rtol=1e-9, atol=1e-10)


def test_cotangents_are_symmetric():
    for W in (evidence_of(K, Y, np.ones(T)), leave_one_out_of(K, Y[:, 0])[0]):
        np.testing.assert_allclose(W, W.T, rtol=0, atol=1e-14 * np.abs(W).max())


@pytest.mark.parametrize("tile", [1, 4, 13, 50])
def test_cotangents_do_not_depend_on_tiles(tile, monkeypatch):
    factor = factorize(K)
    whole = evidence_of(K, Y, np.ones(T)), leave_one_out_of(K, Y[:, 0])[0]
    monkeypatch.setattr(factor, "inv_tiles", functools.partial(factor.inv_tiles, tile))
    parts = evidence_of(K, Y, np.ones(T), factor), leave_one_out_of(K, Y[:, 0], factor)[0]
    for one, other in zip(parts, whole, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-12)


def test_cotangents_leave_their_arguments():
    factor = factorize(K)
    alpha, gain, y = factor.solve(tensor(Y)), tensor([1.0, 2.0]), tensor(BY_ALPHA)
    before = alpha.clone(), factor.L.clone()
    evidence_cotangent(factor, alpha, gain)
    leave_one_out_cotangent(factor, alpha[:, 0], y, y)
    assert torch.equal(alpha, before[0])
    assert torch.equal(factor.L, before[1])


def test_leave_one_out_cotangent_of_columns_is_the_sum_of_theirs():
    factor = factorize(K)
    alpha = factor.solve(tensor(Y))
    by = tensor(RNG.standard_normal((N, T)))
    W, v = leave_one_out_cotangent(factor, alpha, by, tensor(BY_DIAGONAL))
    first = leave_one_out_cotangent(factor, alpha[:, 0], by[:, 0], tensor(BY_DIAGONAL))
    second = leave_one_out_cotangent(factor, alpha[:, 1], by[:, 1], torch.zeros(N).to(by))
    np.testing.assert_allclose(W, first[0] + second[0], rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(v, torch.stack([first[1], second[1]], dim=1), rtol=1e-11)


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
@SOLVERS
def test_leave_one_out_gradient_matches_finite_differences(solver, weighted, fit_intercept):
    w = RNG.uniform(0.5, 2.0, N) if weighted else np.ones(N)
    alpha, by, S = 0.3, RNG.standard_normal((N, T)), symmetric(4)

    def score(dK):
        return (by * linalg.leave_one_out(K + dK, Y, w, alpha, fit_intercept)).sum()

    factor = factorize(K, alpha / w, solver)
    mean = linalg.weighted_mean(Y, w) if fit_intercept else np.zeros(T)
    solved = factor.solve(tensor(np.column_stack([Y - mean, np.ones(N)])))
    weights = tensor(w) if weighted else None
    W = leave_one_out_gradient(factor, solved, tensor(Y - mean), tensor(by), weights, fit_intercept)
    np.testing.assert_allclose((W.numpy() * S).sum(), along(score, S), rtol=RTOL, atol=ATOL)


@pytest.mark.gpu
def test_cotangents_agree_on_gpu(cuda):
    factor = Cholesky().factorize(tensor(K).to(cuda), tensor(SHIFT).to(cuda))
    y, by = tensor(Y).to(cuda), tensor(BY_ALPHA).to(cuda)
    alpha = factor.solve(y)
    W = evidence_cotangent(factor, alpha, torch.ones(T).to(y))
    np.testing.assert_allclose(W.cpu(), evidence_of(K, Y, np.ones(T)), rtol=1e-9, atol=1e-10)
    diagonal = tensor(BY_DIAGONAL).to(cuda)
    W, v = leave_one_out_cotangent(factor, alpha[:, 0], by, diagonal)
    expected = leave_one_out_of(K, Y[:, 0])
    np.testing.assert_allclose(W.cpu(), expected[0], rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(v.cpu(), expected[1], rtol=1e-9, atol=1e-10)
