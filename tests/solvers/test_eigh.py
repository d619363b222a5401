import numpy as np
import pytest
import torch

from sknk import _config
from sknk.exceptions import MemoryBudgetError, NotPSDError
from sknk.solvers import Eigh
from tests.reference import linalg


@pytest.fixture
def K():
    return torch.from_numpy(linalg.random_gram(12))


def test_reshift_shares_memory(K):
    factor = Eigh().factorize(K, 1.0)
    assert factor.reshift(2.0)._V.data_ptr() == factor._V.data_ptr()


def test_reshift_takes_constant_vector_for_a_number(K):
    factor = Eigh().factorize(K, 1.0).reshift(np.full(12, 0.5))
    np.testing.assert_allclose(factor.inv_diag(), np.diag(linalg.inverse(K.numpy(), 0.5)))


@pytest.mark.parametrize("shift", [np.linspace(1, 2, 12), 1.0])
def test_reshift_refuses_another_vector(K, shift):
    other = np.linspace(1, 3, 12)
    with pytest.raises(ValueError, match=r"not a multiple .* Use `Cholesky`"):
        Eigh().factorize(K, shift).reshift(other)


def test_factorize_refuses_vector_that_is_not_positive(K):
    shift = np.linspace(0, 1, 12)
    with pytest.raises(ValueError, match=r"`shift` is 0 at row 0; .* Use `Cholesky`"):
        Eigh().factorize(K, shift)


def test_apply_refuses_vector_shift(K):
    factor = Eigh().factorize(K, np.linspace(1, 2, 12))
    with pytest.raises(ValueError, match="one number as `shift`"):
        factor.apply(torch.sqrt)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_error_names_smallest_eigenvalue_and_advice(dtype):
    advice = r"`alpha` or pass `dtype='float64'`\.$" if dtype is torch.float32 else r"`alpha`\.$"
    with pytest.raises(NotPSDError, match=r"smallest eigenvalue -5\.0e-01.*" + advice):
        Eigh().factorize(torch.eye(3, dtype=dtype), -1.5)


def test_reshift_raises_when_not_positive_definite(K):
    with pytest.raises(NotPSDError, match="smallest eigenvalue"):
        Eigh().factorize(K, 1.0).reshift(-2.0)


def test_overwrite_puts_eigenvectors_in_the_given_memory(K):
    assert Eigh().factorize(K, 1.0, overwrite=True)._V.data_ptr() == K.data_ptr()


def test_eigh_checks_memory_for_workspace(K):
    with (
        _config.config_context(memory_budget=1500),
        pytest.raises(MemoryBudgetError, match=r"workspace .* Use `Cholesky`"),
    ):
        Eigh().factorize(K, 1.0)
