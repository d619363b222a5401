import numpy as np
import pytest
import torch

from sknk import _config
from sknk.exceptions import MemoryBudgetError
from sknk.kernels import NTK
from sknk.solvers import GramOperator, as_operator, pivoted_cholesky
from sknk.solvers._pivoting import _draw
from tests.reference import linalg

N = 30


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(params=["greedy", "random"])
def draws(request):
    """Return what to pass as `generator`, anew for every call."""
    return (lambda: None) if request.param == "greedy" else generator


@pytest.fixture
def K():
    return linalg.random_gram(N)


def pivots_of(K, rank, draws, **options):
    pivots, G = pivoted_cholesky(torch.from_numpy(K), rank, generator=draws(), **options)
    return pivots.numpy(), G.numpy()


def test_pivoting_is_the_nystrom_approximation_on_its_pivots(K, draws):
    p, G = pivots_of(K, 8, draws)
    expected = K[:, p] @ np.linalg.solve(K[np.ix_(p, p)], K[p])
    np.testing.assert_allclose(G.T @ G, expected, rtol=1e-11, atol=1e-11)


def test_pivoting_factor_is_triangular_on_its_pivots(K, draws):
    p, G = pivots_of(K, 8, draws)
    np.testing.assert_allclose(np.tril(G[:, p], -1), 0, atol=1e-13)
    assert (np.diag(G[:, p]) > 0).all()


def test_pivoting_chooses_distinct_rows(K, draws):
    p, _ = pivots_of(K, N, draws)
    assert sorted(p) == list(range(N))


def test_pivoting_is_exact_at_full_rank(K, draws):
    _, G = pivots_of(K, N, draws)
    np.testing.assert_allclose(G.T @ G, K, rtol=1e-11, atol=1e-11)


def test_pivoting_stops_at_the_rank_of_the_matrix(draws):
    low = linalg.random_gram(N, rank=4)
    p, G = pivots_of(low, 20, draws)
    assert len(p) == len(G) == 4
    np.testing.assert_allclose(G.T @ G, low, rtol=1e-10, atol=1e-10)


def test_pivoting_stops_at_tolerance(K, draws):
    p, G = pivots_of(K, N, draws, tol=0.5)
    residual = [np.trace(K - G[:r].T @ G[:r]) / np.trace(K) for r in range(len(p) + 1)]
    assert residual[-1] <= 0.5
    block = 3 if draws() else 1  # blocks of a tenth of the rank end together
    assert residual[len(p) - block] > 0.5


def test_pivoting_takes_each_duplicate_once(draws):
    rows = np.repeat(np.arange(6), 5)
    K = linalg.random_gram(6)[np.ix_(rows, rows)]
    p, _ = pivots_of(K, 20, draws)
    assert sorted(rows[p]) == list(range(6))


def test_pivoting_chooses_nothing_when_gram_is_zero(draws):
    p, G = pivots_of(np.zeros((5, 5)), 3, draws)
    assert p.shape == (0,)
    assert G.shape == (0, 5)


def test_pivoting_is_reproducible(K):
    first, second = (pivots_of(K, 10, generator) for _ in range(2))
    np.testing.assert_array_equal(first[0], second[0])
    other = pivots_of(K, 10, lambda: generator(1))
    assert (first[0] != other[0]).any()


def test_pivoting_leaves_global_generator_alone(K):
    state = torch.get_rng_state()
    pivots_of(K, 10, generator)
    assert torch.equal(torch.get_rng_state(), state)


def test_greedy_takes_the_largest_residual(K):
    p, _ = pivots_of(K, 6, lambda: None)
    for r in range(6):
        done = p[:r]
        residual = K - K[:, done] @ np.linalg.solve(K[np.ix_(done, done)], K[done])
        assert np.diag(residual).argmax() == p[r]


def test_random_blocks_keep_the_law_of_single_draws():
    # A block of two holds the pair (p, q) as often as p is drawn from the diagonal, then q from
    # it too, and kept with the ratio of its residual to its diagonal.
    K = linalg.random_gram(4, rank=6)
    d, draws, source = np.diag(K), 3000, generator(3)
    residual = d - K**2 / d[:, None]  # row p: the diagonal after pivot p
    expected = draws * np.outer(d, np.ones(4)) * residual / d.sum() ** 2
    op, counts = as_operator(torch.from_numpy(K)), np.zeros((4, 4))
    for _ in range(draws):
        pair, _ = _draw(op, op.diag(), torch.empty(0, 4).double(), 2, source)
        if len(pair) == 2:
            counts[pair[0], pair[1]] += 1
    assert np.diag(counts).sum() == 0
    assert (np.abs(counts - expected) <= 5 * np.sqrt(expected) + 1).all()


def test_random_comes_close_to_the_best_approximation():
    rng = np.random.default_rng(0)
    values = 0.7 ** np.arange(100)
    Q = np.linalg.qr(rng.standard_normal((100, 100)))[0]
    K = Q @ np.diag(values) @ Q.T
    errors = [
        np.trace(K) - (pivots_of(K, 12, lambda s=s: generator(s))[1] ** 2).sum() for s in range(20)
    ]
    assert np.mean(errors) < 5 * values[12:].sum()


class Counted(GramOperator):
    """A Gram matrix that counts the entries it was asked for."""

    def __init__(self, K):
        self.K, self.entries = torch.from_numpy(K), 0
        self.shape, self.dtype, self.device = K.shape, self.K.dtype, self.K.device

    def block(self, i, j):
        out = self.K[i][:, j]
        self.entries += out.numel()
        return out

    def diag(self):
        return self.K.diagonal()

    def dense(self):
        raise AssertionError("the whole matrix was asked for")


def test_pivoting_evaluates_only_rows_of_pivots(draws):
    op = Counted(linalg.random_gram(200))
    pivots, _ = pivoted_cholesky(op, 20, generator=draws())
    assert len(pivots) == 20
    assert op.entries <= 20 * 200 + 2 * 20 * 20  # and blocks of candidates, two by two


def test_pivoting_takes_a_kernel_with_rows(draws):
    X = torch.from_numpy(np.random.default_rng(0).standard_normal((25, 3)))
    kernel = NTK(depth=2)
    p, G = pivoted_cholesky((kernel, X), 10, generator=draws())
    dense, H = pivoted_cholesky(kernel(X), 10, generator=draws())
    assert torch.equal(p, dense)
    np.testing.assert_allclose(G, H, rtol=1e-9, atol=1e-9)


def test_pivoting_float32_stops_at_its_own_rounding(draws):
    low = torch.from_numpy(linalg.random_gram(N, rank=4)).float()
    p, G = pivoted_cholesky(low, 20, generator=draws())
    assert G.dtype is torch.float32
    assert len(p) == 4
    np.testing.assert_allclose(G.mT @ G, low, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rank", [0, N + 1])
def test_pivoting_refuses_rank_out_of_range(K, rank):
    with pytest.raises(ValueError, match=rf"`rank` is {rank}; expected a number from 1 to 30"):
        pivoted_cholesky(K, rank)


def test_pivoting_checks_memory(K):
    with (
        _config.config_context(memory_budget=100),
        pytest.raises(MemoryBudgetError, match="A factor of rank 9 for 30 rows"),
    ):
        pivoted_cholesky(K, 9)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_pivoting_agrees_on_gpu(K, draws):
    p, G = pivoted_cholesky(torch.from_numpy(K).cuda(), 8, generator=draws())
    expected = pivots_of(K, 8, draws)
    assert p.device.type == G.device.type == "cuda"
    np.testing.assert_array_equal(p.cpu(), expected[0])
    np.testing.assert_allclose(G.cpu(), expected[1], rtol=1e-10, atol=1e-12)
