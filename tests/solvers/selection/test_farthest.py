import numpy as np
import pytest
import torch

from sknk.solvers import DenseGram, FeatureGram, farthest_point_clusters
from tests.solvers.selection.forms import N, rows
from tests.solvers.test_pivoting import Counted


def naive_clusters(K, n_clusters):
    """Heads, and the cluster of every row, by lists of members that are moved one by one."""
    first = max(range(len(K)), key=lambda i: K[i, i])
    heads, members = [first], [list(range(len(K)))]
    while len(heads) < n_clusters:
        open_ = [(K[i, h], i) for h, own in zip(heads, members, strict=True) for i in own if i != h]
        _, new = min(open_)  # of equal ones the first row
        moved = [new]
        for h, own in zip(heads, members, strict=True):
            gone = [i for i in own if i not in (h, new) and K[i, new] > K[i, h]]
            moved += gone
            own[:] = [i for i in own if i not in (new, *gone)]
        heads.append(new)
        members.append(moved)
    labels = {i: m for m, own in enumerate(members) for i in own}
    return heads, [labels[i] for i in range(len(K))]


def contradictory(n=30, seed=0):
    """A symmetric matrix of similarities of both signs."""
    K = np.random.default_rng(seed).standard_normal((n, n))
    return K + K.T


@pytest.mark.parametrize("n_clusters", [1, 2, 9, N - 1, N])
def test_clusters_equal_naive_ones(problem, n_clusters):
    heads, labels = farthest_point_clusters(problem.gram, n_clusters)
    assert (heads.tolist(), labels.tolist()) == naive_clusters(problem.K, n_clusters)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("n_clusters", [2, 11, 30])
def test_clusters_of_negative_similarities_equal_naive_ones(seed, n_clusters):
    K = contradictory(seed=seed)
    heads, labels = farthest_point_clusters(torch.from_numpy(K), n_clusters)
    assert (heads.tolist(), labels.tolist()) == naive_clusters(K, n_clusters)


def test_heads_are_of_their_own_clusters():
    # Also where another head is more similar to them than they are to themselves.
    heads, labels = farthest_point_clusters(torch.from_numpy(contradictory()), 12)
    assert labels[heads].tolist() == list(range(12))
    assert len(set(heads.tolist())) == 12
    assert heads.dtype == labels.dtype == torch.long


def test_contradictory_row_is_the_second_head():
    X = torch.tensor([[3.0, 0.0], [2.0, 0.1], [0.0, 1.0], [-1.0, 0.0]])
    heads, labels = farthest_point_clusters(X @ X.T, 2)
    assert heads.tolist() == [0, 3]
    assert labels.tolist() == [0, 0, 0, 1]


def test_clusters_of_equal_rows_start_at_the_first():
    heads, labels = farthest_point_clusters(torch.ones(5, 5), 3)
    assert heads.tolist() == [0, 1, 2]
    assert labels.tolist() == [0, 1, 2, 0, 0]


def test_copies_of_heads_are_heads_last_when_rows_are_of_unit_length():
    Phi = torch.nn.functional.normalize(rows(10))[torch.arange(20) % 10]
    heads, labels = farthest_point_clusters(FeatureGram(Phi), 10)
    assert sorted((heads % 10).tolist()) == list(range(10))
    assert torch.equal(labels[:10], labels[10:])


def test_clusters_ask_for_rows_of_heads_only():
    op = Counted(contradictory(200))
    farthest_point_clusters(op, 20)
    assert op.entries == 20 * 200


def test_clusters_are_the_same_in_float32():
    Phi = rows(N)
    high = farthest_point_clusters(FeatureGram(Phi), 9)
    low = farthest_point_clusters(FeatureGram(Phi.float()), 9)
    assert all(torch.equal(a, b) for a, b in zip(low, high, strict=True))


def test_clusters_leave_similarities_alone():
    K = torch.from_numpy(contradictory())
    farthest_point_clusters(K, 30)
    np.testing.assert_array_equal(K, contradictory())


@pytest.mark.parametrize("n_clusters", [-1, 0, 6])
def test_other_numbers_of_clusters_are_refused(n_clusters):
    with pytest.raises(ValueError, match=f"`n_clusters` is {n_clusters}; expected 1 to 5"):
        farthest_point_clusters(torch.eye(5), n_clusters)


@pytest.mark.gpu
def test_clusters_agree_on_gpu(cuda):
    Phi = rows(400)
    expected = farthest_point_clusters(DenseGram(Phi @ Phi.T), 300)
    found = farthest_point_clusters(DenseGram((Phi @ Phi.T).to(cuda)), 300)
    for a, b in zip(found, expected, strict=True):
        assert a.device.type == "cuda"
        assert torch.equal(a.cpu(), b)
