"""Groups with a factor each and one offset, against one dense covariance of all rows."""

import copy
import pickle

import numpy as np
import pytest
import torch

from sknk.solvers import GroupedPosterior, OnlinePosterior, symmetric_roots

S2 = 0.1
GROUPS = 3


def problem(t=20, m=4, seed=0, shared=True):
    """Return g and n of t rows and m others, groups of the rows, and two targets each."""
    rng = np.random.default_rng(seed)
    X = torch.from_numpy(rng.normal(size=(t + m, 3)))
    G = torch.exp(-0.5 * torch.cdist(X, X).square())
    n = torch.from_numpy(rng.normal(size=t + m)) * shared
    return G, n, torch.from_numpy(rng.integers(GROUPS, size=t)), torch.randn(t, 2).double()


def exact(G, n, group, Y, noise=S2):
    """Return mean (m, A, r), covariance (m, A, A) and information gain by one dense matrix."""
    t, m = len(group), len(G) - len(group)
    K = G[:t, :t] * (group[:, None] == group) + n[:t, None] * n[:t]
    noise = torch.as_tensor(noise, dtype=K.dtype).expand(t)
    C = K + torch.diag(noise)
    mean, covariance = torch.empty(m, GROUPS, 2).double(), torch.empty(m, GROUPS, GROUPS).double()
    for i in range(t, t + m):
        of = torch.arange(GROUPS)[:, None] == group
        cross = G[i, :t] * of + n[i] * n[:t]
        prior = G[i, i] * torch.eye(GROUPS).double() + n[i] ** 2
        mean[i - t] = cross @ torch.linalg.solve(C, Y)
        covariance[i - t] = prior - cross @ torch.linalg.solve(C, cross.mT)
    gain = 0.5 * torch.linalg.slogdet(C)[1] - 0.5 * noise.log().sum()
    return mean, covariance, float(gain)


def learned(G, n, group, Y, block=1, noise=S2):
    """Append rows block by block."""
    law = GroupedPosterior.empty(GROUPS, Y[:0])
    noise = torch.as_tensor(noise, dtype=G.dtype).expand(len(group))
    for start in range(0, len(group), block):
        rows = torch.arange(start, min(start + block, len(group)))
        for a in group[rows].unique().tolist():
            new = rows[group[rows] == a]
            old = (group[:start] == a).nonzero()[:, 0]
            parts = G[old][:, new], G[new][:, new], Y[new], n[new], noise[new]
            law = law.append(a, *parts)
    return law


def check(law, G, n, group, Y, noise=S2):
    t = len(group)
    V = law.half_solve([G[:t][group == a][:, t:] for a in range(GROUPS)])
    mean, covariance, gain = exact(G, n, group, Y, noise)
    close = {"rtol": 1e-10, "atol": 1e-10}
    torch.testing.assert_close(law.mean(V, n[t:]), mean, **close)
    diag = G.diagonal()[t:]
    torch.testing.assert_close(law.covariance(V, n[t:], diag), covariance, **close)
    variance = covariance.diagonal(dim1=1, dim2=2)
    torch.testing.assert_close(law.variance(V, n[t:], diag), variance, **close)
    assert law.information_gain == pytest.approx(gain, abs=1e-10)
    assert len(law) == t


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("block", [1, 7, 20])
def test_groups_are_one_dense_matrix(block, shared):
    G, n, group, Y = problem(shared=shared)
    check(learned(G, n, group, Y, block), G, n, group, Y)


def test_noise_of_its_own_for_each_row():
    G, n, group, Y = problem()
    noise = torch.linspace(0.05, 1.0, len(group)).double()
    check(learned(G, n, group, Y, 5, noise), G, n, group, Y, noise)


def test_a_group_without_rows_has_the_offset_only():
    G, n, group, Y = problem()
    group = group.clamp(max=1)
    check(learned(G, n, group, Y), G, n, group, Y)


def test_rows_of_a_group_can_be_removed():
    G, n, group, Y = problem()
    law, of = learned(G, n, group, Y), (group == 1).nonzero()[:, 0]
    kept = torch.tensor([i for i in range(len(G)) if i not in of[:2].tolist()])
    left = kept[kept < len(group)]
    check(law.remove(1, [0, 1]), G[kept][:, kept], n[kept], group[left], Y[left])
    nothing = law.remove(1, range(len(of)))
    assert len(nothing) == len(law) - len(of)


def test_a_group_more_is_a_group_without_rows():
    G, n, group, Y = problem()
    law = learned(G, n, group, Y).with_group()
    V = law.half_solve([G[:20][group == a][:, 20:] for a in range(GROUPS + 1)])
    diag = G.diagonal()[20:]
    first = law.variance(V, n[20:], diag)[:, :GROUPS]
    torch.testing.assert_close(first, exact(G, n, group, Y)[1].diagonal(dim1=1, dim2=2))
    assert law.variance(V, n[20:], diag).shape == (4, GROUPS + 1)


def test_half_solved_columns_save_the_solve_and_change_nothing():
    G, n, group, Y = problem()
    law, a = learned(G, n, group, Y), 2
    old, new = (group == a).nonzero()[:, 0], torch.tensor([20])
    parts = G[old][:, new], G[new][:, new], torch.ones(1, 2).double(), n[new], S2
    V = law.groups[a].half_solve(parts[0])
    one, other = law.append(a, *parts), law.append(a, *parts, V)
    torch.testing.assert_close(one.groups[a].z, other.groups[a].z, rtol=0, atol=0)


def test_pickles_hold_numpy_and_go_on_bit_for_bit():
    G, n, group, Y = problem()
    law = learned(G, n, group, Y)
    again = pickle.loads(pickle.dumps(law))
    assert not any(isinstance(v, torch.Tensor) for v in law.groups[0].__getstate__().values())
    cross = G[:20][group == 0][:, 20:21]
    more = [
        each.append(0, cross, G[20:21, 20:21], torch.ones(1, 2).double(), n[20:21], S2)
        for each in (law, again, copy.deepcopy(law))
    ]
    for other in more[1:]:
        assert torch.equal(more[0].groups[0].z, other.groups[0].z)


def test_targets_of_several_columns_are_solved_together():
    G, _, _, Y = problem()
    law = OnlinePosterior.of(G[:20, :20], Y, S2)
    for column in range(2):
        alone = OnlinePosterior.of(G[:20, :20], Y[:, column], S2)
        V = law.half_solve(G[:20, 20:])
        torch.testing.assert_close(law.mean(V)[:, column], alone.mean(V), rtol=1e-12, atol=1e-12)


def test_roots_of_singular_covariances():
    A = torch.from_numpy(np.random.default_rng(0).normal(size=(5, 4, 2)))
    C = A @ A.mT
    S = symmetric_roots(C)
    torch.testing.assert_close(S @ S, C, rtol=0, atol=1e-12)
    torch.testing.assert_close(S, S.mT, rtol=0, atol=1e-12)
