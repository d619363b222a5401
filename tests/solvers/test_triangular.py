import numpy as np
import pytest
import torch

from sknk.solvers import _triangular as tri
from tests.reference import linalg

RTOL = 1e-10  # condition numbers below 100, n eps is 1e-13


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Make 50 rows span several blocks, the last one short."""
    monkeypatch.setattr(tri, "BLOCK", 16)


@pytest.fixture
def A():
    """A view with spare room, as appended factors have."""
    n = 50
    buffer = torch.full((n + 9, n + 9), torch.nan, dtype=torch.float64)
    view = buffer[:n, :n]
    view.copy_(torch.from_numpy(linalg.random_gram(n) + np.eye(n)))
    return view


def test_cholesky_matches_torch_and_keeps_upper_triangle(A):
    K = A.clone()
    assert tri.cholesky_(A) is None
    torch.testing.assert_close(A.tril(), torch.linalg.cholesky(K), rtol=RTOL, atol=RTOL)
    assert torch.equal(A.triu(1), K.triu(1))


@pytest.mark.parametrize("start", [0, 10, 32, 49])
def test_cholesky_continues_from_start(A, start):
    expected = torch.linalg.cholesky(A)
    tri.cholesky_(A)
    K = expected @ expected.mT
    A[start:, start:] = K[start:, start:]
    assert tri.cholesky_(A, start=start) is None
    torch.testing.assert_close(A.tril(), expected, rtol=RTOL, atol=RTOL)


@pytest.mark.parametrize("row", [0, 5, 16, 49])
def test_cholesky_reports_first_bad_pivot(A, row):
    L = torch.linalg.cholesky(A)
    A[row, row] -= L[row, row] ** 2 + 0.25
    broken = tri.cholesky_(A)
    assert broken.row == row
    assert broken.pivot == pytest.approx(-0.25, rel=1e-9)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_cholesky_reports_nan_pivot_when_not_finite(A, bad):
    A[20, 20] = bad
    broken = tri.cholesky_(A)
    assert broken.row == 20
    assert np.isnan(broken.pivot)


def test_restore_lower_undoes_factorization(A):
    K = A.clone()
    tri.cholesky_(A)
    tri.restore_lower_(A)
    A.diagonal().copy_(K.diagonal())
    assert torch.equal(A, K)


def test_triangular_solves_match_torch(A):
    tri.cholesky_(A)
    L, B = A.tril(), torch.ones(50, 3, dtype=torch.float64)
    lower = torch.linalg.solve_triangular(L, B, upper=False)
    upper = torch.linalg.solve_triangular(L.mT, B, upper=True)
    torch.testing.assert_close(tri.forward(A, B), lower, rtol=RTOL, atol=RTOL)
    torch.testing.assert_close(tri.backward(A, B), upper, rtol=RTOL, atol=RTOL)


def test_inverse_columns_assemble_inverse(A):
    tri.cholesky_(A)
    found = torch.zeros(50, 50, dtype=torch.float64)
    for columns, values in tri.inverse_columns(A, tile=17):
        found[columns.start :, columns] = values
    torch.testing.assert_close(found, torch.linalg.inv(A.tril()), rtol=RTOL, atol=RTOL)


@pytest.mark.parametrize("start", [0, 13])
@pytest.mark.parametrize("k", [1, 5, 60])
def test_rank_update_equals_refactorization(A, start, k):
    W = torch.randn(50 - start, k, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    K = A.clone()
    K[start:, start:] += W @ W.mT
    upper = A.triu(1)
    tri.cholesky_(A)
    tri.rank_update_(A, W.clone(), start=start)
    torch.testing.assert_close(A.tril(), torch.linalg.cholesky(K), rtol=RTOL, atol=RTOL)
    assert torch.equal(A.triu(1), upper)
