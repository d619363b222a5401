import numpy as np
import pytest
import torch

from sknk import _config
from sknk.exceptions import MemoryBudgetError, NotPSDError
from sknk.solvers import (
    Cholesky,
    DenseGram,
    FeatureGram,
    GramOperator,
    _feature_gram,
    conditioned,
    posterior_features,
    posterior_gram,
)
from sknk.solvers._feature_gram import StackedRows
from sknk.solvers._selection import _residual
from tests.reference import selection as oracle
from tests.solvers.selection.forms import NOISE, NONE, N, rows

CLOSE = {"rtol": 1e-9, "atol": 1e-11}


@pytest.fixture
def C(problem, given):
    """What the posterior covariance is."""
    return oracle.posterior(problem.K, given, NOISE)


@pytest.fixture
def gram(problem, given):
    return posterior_gram(problem.gram, given, NOISE)


def test_posterior_is_a_gram_operator(gram, problem):
    assert isinstance(gram, GramOperator)
    assert (gram.shape, gram.dtype) == ((N, N), torch.float64)
    assert gram.device == problem.gram.device


def test_posterior_equals_dense_algebra(gram, C):
    np.testing.assert_allclose(gram.dense(), C, **CLOSE)
    np.testing.assert_allclose(gram.diag(), np.diag(C), **CLOSE)


@pytest.mark.parametrize("idx", [slice(2, 7), [4, 1, 1], torch.tensor([3, 2])], ids=str)
def test_posterior_blocks_are_those_of_the_matrix(gram, C, idx):
    np.testing.assert_allclose(gram.rows(idx), C[idx], **CLOSE)
    np.testing.assert_allclose(gram.block(idx, [5, 0]), C[idx][:, [5, 0]], **CLOSE)


@pytest.mark.parametrize("idx", [slice(2, 7), [4, 1, 1], torch.tensor([3, 2])], ids=str)
def test_posterior_restricts_to_some_rows(gram, C, idx):
    few = gram.restrict(idx)
    assert few.shape == (len(C[idx]), len(C[idx]))
    np.testing.assert_allclose(few.dense(), C[idx][:, idx], **CLOSE)
    np.testing.assert_allclose(few.diag(), np.diag(C)[idx], **CLOSE)


@pytest.mark.parametrize("shape", [(N,), (N, 3)])
def test_posterior_multiplies(gram, C, shape):
    V = np.random.default_rng(0).standard_normal(shape)
    np.testing.assert_allclose(gram.matmul(torch.from_numpy(V)), C @ V, rtol=1e-9, atol=1e-10)


def test_posterior_takes_more_rows_later(gram, problem, given):
    more = torch.tensor([i for i in range(N) if i not in given][:5])
    gram.condition(more, Cholesky().factorize(gram.restrict(more), NOISE).L)
    both = oracle.posterior(problem.K, [*given, *more], NOISE)
    np.testing.assert_allclose(gram.dense(), both, **CLOSE)
    np.testing.assert_allclose(gram.diag(), np.diag(both), **CLOSE)


def test_posterior_variances_are_never_negative(problem):
    variances = posterior_gram(problem.gram, torch.arange(5), 0.0).diag()
    assert (variances >= 0).all()
    np.testing.assert_allclose(variances[:5], 0, atol=1e-12)


def test_posterior_refuses_matrices_that_are_no_covariance():
    K = torch.tensor([[1.0, 2.0], [2.0, 1.0]]).double()
    with pytest.raises(NotPSDError):
        posterior_gram(DenseGram(K), torch.arange(2), 0.0)


@pytest.mark.parametrize("form", [FeatureGram, lambda phi: DenseGram(phi @ phi.T)])
def test_posterior_checks_memory(form):
    gram = posterior_gram(form(rows(N)), NONE, NOISE)
    with (
        _config.config_context(memory_budget=100),
        pytest.raises(MemoryBudgetError, match="40 x 40 Gram matrix"),
    ):
        gram.dense()


def test_posterior_features_have_its_inner_products(given):
    Phi = rows(N)
    mapped = posterior_features(Phi[given], NOISE)(Phi)
    C = oracle.posterior((Phi @ Phi.T).numpy(), given, NOISE)
    np.testing.assert_allclose(mapped @ mapped.T, C, **CLOSE)


def test_posterior_of_features_does_not_depend_on_blocks(monkeypatch, given):
    whole = posterior_gram(FeatureGram(rows(N)), given, NOISE)
    for module in (_feature_gram, _residual):
        monkeypatch.setattr(module, "_NUMBERS", 30)
    found = posterior_gram(FeatureGram(rows(N)), given, NOISE)
    np.testing.assert_allclose(found.dense(), whole.dense(), **CLOSE)
    np.testing.assert_allclose(found.diag(), whole.diag(), **CLOSE)


def test_posterior_of_many_rows_reads_stacked_ones_where_they_are(monkeypatch):
    Phi, given = rows(N), torch.arange(N - 12, N)
    parts = [(Phi[: N - 12].numpy(), None), (Phi[N - 12 :], None)]
    stacked = FeatureGram(StackedRows(parts, Phi.device, Phi.dtype))
    monkeypatch.delattr(StackedRows, "tensor")
    C = oracle.posterior((Phi @ Phi.T).numpy(), given, NOISE)
    for found in (conditioned(stacked, given, NOISE), posterior_gram(stacked, given, NOISE)):
        np.testing.assert_allclose(found.dense(), C, **CLOSE)


def test_posterior_features_leave_rows_alone():
    Phi = rows(N)
    posterior_features(Phi[:9], NOISE)(Phi)
    assert torch.equal(Phi, rows(N))
