import numpy as np
import pytest
import torch

from sknk import _config
from sknk.exceptions import MemoryBudgetError
from sknk.solvers import FeatureGram, GramOperator, _feature_gram, largest_cells, max_dist
from sknk.solvers._feature_gram import StackedRows

N, WIDTH = 11, 4
CHOSEN = np.array([5, 0, 7])


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


# --- stacked rows ---------------------------------------------------------------------------------


@pytest.fixture
def stacked(Phi):
    """Three rows of a table that is read-only, four of a wider dtype, two of a tensor."""
    table = Phi.numpy().astype(np.float32)
    table.flags.writeable = False
    more = Phi.double()[:4].numpy()
    parts = [(table, CHOSEN), (more, None), (Phi[:2].requires_grad_(), None)]
    return StackedRows(parts, torch.device("cpu"), torch.float32)


@pytest.fixture
def whole(Phi):
    return torch.cat([Phi[CHOSEN], Phi[:4], Phi[:2]]).float()


@pytest.mark.parametrize(
    "idx",
    [
        slice(None),
        slice(0, 0),
        slice(1, 3),
        slice(2, 8),
        slice(4, 100),
        torch.tensor([8, 0, 3, 3, 2]),
        torch.arange(0),
    ],
    ids=str,
)
def test_stacked_rows_are_read_as_of_one_table(stacked, whole, idx):
    assert (stacked.shape, len(stacked)) == ((9, WIDTH), 9)
    found = stacked[idx]
    assert (found.dtype, found.requires_grad) == (torch.float32, False)
    assert torch.equal(found, whole[idx])


@pytest.mark.parametrize("numbers", [1, 2 * WIDTH, 5 * WIDTH, 2**22])
def test_stacked_rows_do_not_depend_on_blocks(monkeypatch, stacked, whole, numbers):
    monkeypatch.setattr(_feature_gram, "_NUMBERS", numbers)
    assert torch.equal(stacked.tensor(), whole)
    assert torch.equal(FeatureGram(stacked).Phi, whole)


def test_stacked_rows_share_the_memory_of_one_table(Phi):
    rows = StackedRows([(Phi.numpy(), None)], Phi.device, Phi.dtype)
    assert rows.tensor().data_ptr() == Phi.data_ptr()
    assert rows[2:4].data_ptr() == Phi[2:].data_ptr()


def test_feature_gram_of_stacked_rows_equals_that_of_one_table(stacked, whole):
    op, expected = FeatureGram(stacked), FeatureGram(whole)
    assert (op.shape, op.width, op.dtype) == (expected.shape, expected.width, expected.dtype)
    assert torch.equal(op.dense(), expected.dense())
    assert torch.equal(op.restrict([4, 2]).diag(), expected.diag()[[4, 2]])
    assert op.Phi.data_ptr() == op.Phi.data_ptr()  # stacked once


@pytest.mark.parametrize("numbers", [1, 3 * WIDTH, 2**22])
@pytest.mark.parametrize("n", [None, 5])
def test_features_are_mapped_by_blocks_and_never_stacked(monkeypatch, stacked, whole, numbers, n):
    monkeypatch.setattr(_feature_gram, "_NUMBERS", numbers)
    monkeypatch.delattr(StackedRows, "tensor")
    sizes = []

    def doubled(phi):
        sizes.append(len(phi))
        return torch.cat([phi, 2.0 * phi], dim=1)

    found = FeatureGram(stacked).mapped(doubled, width=2 * WIDTH, n=n)
    assert torch.equal(found.Phi, torch.cat([whole, 2.0 * whole], dim=1)[:n])
    assert max(sizes) == min(max(1, numbers // (2 * WIDTH)), sum(sizes))


# --- centred --------------------------------------------------------------------------------------


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
