import numpy as np
import pytest
import torch

from sknk import _config
from sknk.exceptions import MemoryBudgetError
from sknk.solvers import FeatureGram, GramOperator, largest_cells, max_dist

N, WIDTH = 11, 4


@pytest.fixture
def Phi():
    return torch.from_numpy(np.random.default_rng(0).standard_normal((N, WIDTH)))


@pytest.fixture
def K(Phi):
    return Phi.numpy() @ Phi.numpy().T


def test_feature_gram_states_shape_dtype_device_width(Phi):
    op = FeatureGram(Phi)
    assert isinstance(op, GramOperator)
    assert (op.shape, op.dtype, op.device.type) == ((N, N), torch.float64, "cpu")
    assert op.width == WIDTH


@pytest.mark.parametrize("idx", [slice(2, 7), [4, 1, 1], torch.tensor([3, 2])], ids=str)
def test_feature_gram_blocks_match_the_matrix(Phi, K, idx):
    op = FeatureGram(Phi)
    np.testing.assert_allclose(op.rows(idx), K[idx], rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(op.block(idx, [5, 0]), K[idx][:, [5, 0]], rtol=1e-12, atol=1e-14)
    few = op.restrict(idx)
    assert isinstance(few, FeatureGram)
    np.testing.assert_allclose(few.dense(), K[idx][:, idx], rtol=1e-12, atol=1e-14)


def test_feature_gram_diag_and_dense_match(Phi, K):
    np.testing.assert_allclose(FeatureGram(Phi).diag(), np.diag(K), rtol=1e-12)
    np.testing.assert_allclose(FeatureGram(Phi).dense(), K, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("shape", [(N,), (N, 3)])
def test_feature_gram_multiplies(Phi, K, shape):
    V = np.random.default_rng(1).standard_normal(shape)
    found = FeatureGram(Phi).matmul(torch.from_numpy(V))
    np.testing.assert_allclose(found, K @ V, rtol=1e-12, atol=1e-13)


def test_feature_gram_keeps_float32_and_memory(Phi):
    low = Phi.float().requires_grad_()
    op = FeatureGram(low)
    assert op.dtype == op.dense().dtype == op.diag().dtype == op.block([0], [1]).dtype
    assert op.dtype == torch.float32
    assert op.Phi.data_ptr() == low.data_ptr()
    assert not op.dense().requires_grad


@pytest.mark.parametrize(
    "bad", [torch.ones(3), torch.ones(0, 3), torch.ones(3, 2).long()], ids=["1d", "empty", "int"]
)
def test_feature_gram_refuses_what_is_no_table(bad):
    with pytest.raises(ValueError, match=r"Features of shape \(.*; expected \(n, d\)"):
        FeatureGram(bad)


def test_feature_gram_checks_memory(Phi):
    with (
        _config.config_context(memory_budget=100),
        pytest.raises(MemoryBudgetError, match="11 x 11 Gram matrix"),
    ):
        FeatureGram(Phi).dense()


def test_features_far_from_zero_are_centred_for_distances():
    Phi = torch.randn((60, 8), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert type(FeatureGram(Phi).centred()) is FeatureGram
    centred = FeatureGram(Phi + 50.0).centred()
    expected = FeatureGram(Phi - Phi.mean(0)).dense()
    torch.testing.assert_close(centred.dense(), expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(centred.diag(), expected.diagonal(), rtol=0, atol=1e-10)
    V = torch.ones((60, 2), dtype=torch.float64)
    torch.testing.assert_close(centred.matmul(V), expected @ V, rtol=0, atol=1e-8)
    some = torch.tensor([3, 5, 7])
    part = centred.restrict(some).dense()
    torch.testing.assert_close(part, expected[some][:, some], rtol=0, atol=1e-10)


def test_offsets_of_single_precision_leave_distances_be():
    Phi = torch.randn((400, 16), generator=torch.Generator().manual_seed(0))
    none = torch.zeros(0, dtype=torch.long)
    first = torch.tensor([0])
    for select in (largest_cells, max_dist):
        plain = select(FeatureGram(Phi), 20, given=first)
        assert select(FeatureGram(Phi + 300.0), 20, given=first).tolist() == plain.tolist()
        assert len(select(FeatureGram(Phi), 0, given=none)) == 0
