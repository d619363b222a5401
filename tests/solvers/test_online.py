"""Posteriors of rows that come one after another, against the formulas for all at once."""

import numpy as np
import pytest
import torch

from sknk.kernels import NTK
from sknk.solvers import (
    Cholesky,
    DenseGram,
    FeatureGram,
    KernelGram,
    OnlinePosterior,
    PoolPosterior,
)

S2 = 0.1


def problem(t=30, m=12, seed=0):
    """Return prior covariances of t seen rows and m others, and targets of all."""
    rng = np.random.default_rng(seed)
    X = torch.from_numpy(rng.normal(size=(t + m, 4)))
    return NTK(depth=1, bias_var=0.1)(X), torch.from_numpy(rng.normal(size=t + m))


def exact(K, y, t, noise=S2):
    """Return mean and covariance of the rows after t, and the information gain."""
    noise = torch.as_tensor(noise, dtype=K.dtype).expand(t)
    G = K[:t, :t] + torch.diag(noise)
    cross = K[:t, t:]
    gain = 0.5 * torch.linalg.slogdet(torch.eye(t, dtype=K.dtype) + K[:t, :t] / noise[:, None])[1]
    mean = cross.mT @ torch.linalg.solve(G, y[:t])
    return mean, K[t:, t:] - cross.mT @ torch.linalg.solve(G, cross), float(gain)


def check(posterior, K, y, t, noise=S2):
    mean, covariance, gain = exact(K, y, t, noise)
    V = posterior.half_solve(K[:t, t:])
    torch.testing.assert_close(posterior.mean(V), mean, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(posterior.covariance(V, K[t:, t:]), covariance, rtol=0, atol=1e-10)
    diag = posterior.variance(V, K[t:, t:].diagonal())
    torch.testing.assert_close(diag, covariance.diagonal(), rtol=0, atol=1e-10)
    assert posterior.information_gain == pytest.approx(gain, abs=1e-10)


def started(K, y, t, noise=S2):
    noise = noise[:t] if isinstance(noise, torch.Tensor) else noise
    return OnlinePosterior.of(K[:t, :t], y[:t], noise)


def test_at_once():
    K, y = problem()
    check(started(K, y, 30), K, y, 30)


@pytest.mark.parametrize("block", [1, 4, 29])
def test_appending_is_refactorizing(block):
    K, y = problem()
    posterior = started(K, y, 1)
    while len(posterior) < 30:
        t, stop = len(posterior), min(30, len(posterior) + block)
        posterior = posterior.append(K[:t, t:stop], K[t:stop, t:stop], y[t:stop], S2)
    check(posterior, K, y, 30)


def test_the_solve_that_judged_a_row_appends_it():
    K, y = problem()
    posterior = started(K, y, 20)
    V = posterior.half_solve(K[:20, 20:25])
    with_it = posterior.append(K[:20, 20:25], K[20:25, 20:25], y[20:25], S2, V)
    without = posterior.append(K[:20, 20:25], K[20:25, 20:25], y[20:25], S2)
    torch.testing.assert_close(with_it.z, without.z, rtol=0, atol=0)
    check(with_it, K, y, 25)
    check(posterior, K[:30, :30], y[:30], 20)  # the law before is what it was


def test_removed_rows_were_never_there():
    K, y = problem()
    kept = torch.tensor([i for i in range(42) if i not in (0, 7, 29)])
    check(started(K, y, 30).remove([0, 7, 29]), K[kept][:, kept], y[kept], 27)
    check(started(K, y, 30).remove(0), K[1:, 1:], y[1:], 29)


def test_a_row_stands_for_its_repetitions():
    K, y = problem()
    counts = torch.arange(1, 31) % 3 + 1
    every = torch.arange(30).repeat_interleave(counts)
    index = torch.cat([every, torch.arange(30, 42)])
    rng = np.random.default_rng(1)
    rewards = torch.from_numpy(rng.normal(size=len(every)))
    mean = torch.zeros(30, dtype=torch.float64).index_add_(0, every, rewards) / counts
    merged = OnlinePosterior.of(K[:30, :30], mean, S2 / counts.double())
    repeated = K[index][:, index]
    check(merged_as(merged, every), repeated, torch.cat([rewards, y[30:]]), len(every))


def merged_as(posterior, every):
    """Judge rows by the columns of distinct ones."""

    class Merged:
        information_gain = posterior.information_gain
        mean = staticmethod(posterior.mean)
        covariance = staticmethod(posterior.covariance)
        variance = staticmethod(posterior.variance)

        @staticmethod
        def half_solve(K_cross):
            first = [int((every == i).nonzero()[0]) for i in range(len(posterior))]
            return posterior.half_solve(K_cross[first])

    return Merged


def test_other_targets_of_the_same_rows():
    K, y = problem()
    check(started(K, y, 30).with_targets(y[:30] * 2.0 - 1.0), K, y * 2.0 - 1.0, 30)


def test_a_factor_with_jitter_is_solved_anew():
    K = torch.ones(3, 3, dtype=torch.float64)
    y = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    posterior = OnlinePosterior.of(K[:1, :1], y[:1], 1e-300)
    with pytest.warns(Warning, match="jitter|raised|diagonal"):
        more = posterior.append(K[:1, 1:], K[1:, 1:], y[1:], 1e-300)
    torch.testing.assert_close(more.z, more.factor.half_solve(y))


# --- a pool ---------------------------------------------------------------------------------------

GRAMS = {
    "dense": lambda X: DenseGram(X @ X.mT),
    "features": FeatureGram,
    "kernel": lambda X: KernelGram(NTK(depth=1), X),
}


def pool_law(K, rows, y, s2=S2):
    G = K[rows][:, rows] + s2 * torch.eye(len(rows), dtype=K.dtype)
    mean = K[:, rows] @ torch.linalg.solve(G, torch.as_tensor(y, dtype=K.dtype))
    return mean, K - K[:, rows] @ torch.linalg.solve(G, K[rows])


@pytest.mark.parametrize("form", GRAMS)
def test_pool_follows_every_observation(form):
    X = torch.from_numpy(np.random.default_rng(0).normal(size=(25, 3)))
    gram = GRAMS[form](X)
    K, pool = gram.dense(), PoolPosterior(gram, S2)
    rows, targets = [3, 11, 3, 20, 7], [0.5, -1.0, 0.7, 2.0, 0.1]  # row 3 twice
    for count, (row, y) in enumerate(zip(rows, targets, strict=True), start=1):
        pool.observe(row, y)
        mean, covariance = pool_law(K, rows[:count], targets[:count])
        torch.testing.assert_close(pool.mean, mean, rtol=1e-9, atol=1e-10)
        torch.testing.assert_close(pool.variance, covariance.diagonal(), rtol=1e-8, atol=1e-10)
    few = torch.tensor([1, 20, 5])
    torch.testing.assert_close(pool.covariance(few), covariance[few][:, few], rtol=0, atol=1e-10)
    gain = Cholesky().factorize(DenseGram(K[rows][:, rows]), S2).logdet() - 5 * np.log(S2)
    assert pool.information_gain == pytest.approx(0.5 * gain, rel=1e-10)


def test_hallucinated_observations_are_resolved_when_targets_come():
    X = torch.from_numpy(np.random.default_rng(1).normal(size=(20, 3)))
    gram = GRAMS["kernel"](X)
    K, pool = gram.dense(), PoolPosterior(gram, S2)
    pool.observe(2, 1.0)
    before = pool.mean.clone()
    for row in (5, 9, 14):
        pool.observe(row, None)
    torch.testing.assert_close(pool.mean, before, rtol=0, atol=0)
    _, covariance = pool_law(K, [2, 5, 9, 14], [0.0] * 4)
    torch.testing.assert_close(pool.variance, covariance.diagonal(), rtol=1e-8, atol=1e-10)
    pool.resolve([1, 3], [0.3, -0.4])
    assumed = float(pool_law(K, [2, 5], [1.0, 0.3])[0][9])  # what is expected of the open one
    expected = pool_law(K, [2, 5, 9, 14], [1.0, 0.3, assumed, -0.4])[0]
    torch.testing.assert_close(pool.mean, expected, rtol=1e-9, atol=1e-10)
    pool.resolve([2], [0.9])
    expected = pool_law(K, [2, 5, 9, 14], [1.0, 0.3, 0.9, -0.4])[0]
    torch.testing.assert_close(pool.mean, expected, rtol=1e-9, atol=1e-10)
    with pytest.raises(ValueError, match="Observation 2 has a target already"):
        pool.resolve([2], [0.0])
