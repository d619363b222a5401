"""A law on the span of a dictionary, against dense formulas."""

import pickle

import numpy as np
import pytest
import torch

from sknk.kernels import NTK
from sknk.solvers import DictionarySpan, OnlinePosterior, WeightsPosterior

S2 = 0.1


def problem(t=30, m=8):
    rng = np.random.default_rng(0)
    X = torch.from_numpy(rng.normal(size=(t + m, 4)))
    return NTK(depth=1, bias_var=0.1)(X), torch.from_numpy(rng.normal(size=(t, 2)))


def learned(K, D, t, Y, block, noise=S2):
    span = DictionarySpan.of(K[D][:, D])
    law = WeightsPosterior.prior(span.root.shape[1], Y[:0])
    noise = torch.as_tensor(noise, dtype=K.dtype).expand(t)
    for start in range(0, t, block):
        J = torch.arange(start, min(start + block, t))
        law = law.append(span.features(K[D][:, J]), Y[J], noise[J])
    return span, law


def covariance(span, law, Z, K):
    return K - Z @ Z.mT + law.covariance(Z)


def variance(span, law, Z, diag):
    return span.left_out(Z, diag) + law.variance(Z)


@pytest.mark.parametrize("block", [1, 7, 30])
def test_with_all_rows_it_is_exact(block):
    K, Y = problem()
    noise = torch.linspace(0.05, 0.5, 30).double()
    span, law = learned(K, torch.arange(30), 30, Y, block, noise)
    exact = OnlinePosterior.of(K[:30, :30], Y, noise)
    Z, V = span.features(K[:30, 30:]), exact.half_solve(K[:30, 30:])
    close = {"rtol": 1e-9, "atol": 1e-10}
    torch.testing.assert_close(law.mean(Z), exact.mean(V), **close)
    diag, Q = K.diagonal()[30:], K[30:, 30:]
    torch.testing.assert_close(variance(span, law, Z, diag), exact.variance(V, diag), **close)
    torch.testing.assert_close(covariance(span, law, Z, Q), exact.covariance(V, Q), **close)
    assert law.information_gain == pytest.approx(exact.information_gain, abs=1e-9)


@pytest.mark.parametrize("block", [1, 5, 30])
def test_with_few_rows_it_is_the_projected_process(block):
    K, Y = problem()
    D = torch.arange(0, 30, 3)
    span, law = learned(K, D, 30, Y, block)
    Q = K[:, D] @ torch.linalg.solve(K[D][:, D], K[D])  # what the span keeps of the covariance
    C = Q[:30, :30] + S2 * torch.eye(30).double()
    Z = span.features(K[D][:, 30:])
    close = {"rtol": 1e-9, "atol": 1e-10}
    torch.testing.assert_close(law.mean(Z), Q[30:, :30] @ torch.linalg.solve(C, Y), **close)
    wanted = K[30:, 30:] - Q[30:, :30] @ torch.linalg.solve(C, Q[:30, 30:])
    torch.testing.assert_close(covariance(span, law, Z, K[30:, 30:]), wanted, **close)
    found = variance(span, law, Z, K.diagonal()[30:])
    torch.testing.assert_close(found, wanted.diagonal(), **close)
    gain = 0.5 * torch.linalg.slogdet(C / S2)[1]
    assert law.information_gain == pytest.approx(float(gain), abs=1e-9)


@pytest.mark.parametrize("b", [1, 4])
def test_rows_that_join_are_as_if_they_had_been_there(b):
    K, Y = problem()
    old, new, Q = torch.arange(10), torch.arange(10, 10 + b), K[30:, 30:]
    span, law = learned(K, old, 12, Y, 5)
    Z = span.features(K[old][:, new])
    L = torch.linalg.cholesky(K[new][:, new] - Z @ Z.mT)
    span, law = span.extended(Z, L), law.extended(b)
    both = torch.cat([old, new])
    torch.testing.assert_close(span.features(K[both][:, new]), torch.cat([Z, L], dim=1))
    once = DictionarySpan.of(K[both][:, both])
    R, wanted = span.features(K[both][:, 30:]), once.features(K[both][:, 30:])
    torch.testing.assert_close(R @ R.mT, wanted @ wanted.mT, rtol=1e-9, atol=1e-10)
    # What was told before stays known, and of what was added nothing is.
    known = covariance(*learned(K, old, 12, Y, 5), R[:, :10], Q)
    torch.testing.assert_close(covariance(span, law, R, Q), known, rtol=1e-9, atol=1e-10)


def test_variances_are_not_starved():
    K, Y = problem()
    span, law = learned(K, torch.arange(3), 30, Y, 30)
    exact = OnlinePosterior.of(K[:30, :30], Y, S2)
    diag = K.diagonal()[30:]
    found = variance(span, law, span.features(K[:3, 30:]), diag)
    assert (found > exact.variance(exact.half_solve(K[:30, 30:]), diag)).all()


def test_equal_rows_span_once():
    K, Y = problem()
    D = torch.tensor([0, 1, 1, 2, 0])
    span, law = learned(K, D, 30, Y, 30)
    assert span.root.shape == (5, 3)
    span_once, once = learned(K, torch.arange(3), 30, Y, 30)
    mean = law.mean(span.features(K[D][:, 30:]))
    wanted = once.mean(span_once.features(K[:3, 30:]))
    torch.testing.assert_close(mean, wanted, rtol=1e-9, atol=1e-10)


def test_pickles_hold_numpy():
    K, Y = problem()
    for law in learned(K, torch.arange(5), 30, Y, 1):
        assert not any(isinstance(v, torch.Tensor) for v in law.__getstate__().values())
    assert torch.equal(pickle.loads(pickle.dumps(law)).C, law.C)
