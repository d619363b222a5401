import numpy as np
import pytest
import torch

from sknk import _config
from sknk.exceptions import MemoryBudgetError
from sknk.solvers import DenseGram, GramOperator, KernelGram, MappedGram, _gram, as_operator
from tests.reference import linalg

N = 11


class Linear:
    """The least a kernel has to offer."""

    def __call__(self, X, Y=None):
        return X @ (X if Y is None else Y).mT

    def diag(self, X):
        return X.square().sum(dim=1)


class LinearMatmul(Linear):
    def matmul(self, X, Y, V):
        return X @ (Y.mT @ V)


@pytest.fixture
def K():
    return linalg.random_gram(N)


@pytest.fixture(params=["dense", "kernel", "kernel-matmul", "mapped"])
def op(request, K, tmp_path):
    if request.param == "dense":
        return as_operator(torch.from_numpy(K))
    if request.param == "mapped":
        mapped = np.memmap(tmp_path / "K", dtype=np.float64, mode="w+", shape=(N, N))
        mapped[:] = K
        return as_operator(np.memmap(tmp_path / "K", dtype=np.float64, mode="r", shape=(N, N)))
    kernel = Linear() if request.param == "kernel" else LinearMatmul()
    return as_operator((kernel, np.linalg.cholesky(K)))


def test_gram_states_shape_dtype_device(op):
    assert (op.shape, op.dtype, op.device.type) == ((N, N), torch.float64, "cpu")


@pytest.mark.parametrize(
    "idx", [slice(2, 7), [4, 1, 1], np.array([0, 10]), torch.tensor([3, 2])], ids=str
)
def test_gram_rows_and_block_match_dense(op, K, idx):
    i = idx.numpy() if isinstance(idx, torch.Tensor) else idx
    np.testing.assert_allclose(op.rows(idx), K[i], rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(op.block(idx, idx), K[i][:, i], rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(op.restrict(idx).dense(), K[i][:, i], rtol=1e-12, atol=1e-14)


def test_gram_diag_and_dense_match(op, K):
    np.testing.assert_allclose(op.diag(), np.diag(K), rtol=1e-12)
    np.testing.assert_allclose(op.dense(), K, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("shape", [(N,), (N, 3)])
@pytest.mark.parametrize("block_bytes", [1, 3 * 8 * N, 2**26])
def test_gram_matmul_does_not_depend_on_blocks(monkeypatch, op, K, shape, block_bytes):
    monkeypatch.setattr(_gram, "_BLOCK_BYTES", block_bytes)
    V = np.random.default_rng(0).standard_normal(shape)
    np.testing.assert_allclose(op.matmul(torch.from_numpy(V)), K @ V, rtol=1e-12, atol=1e-13)


def test_gram_writable_leaves_operator_alone(op, K):
    op.writable().zero_()
    np.testing.assert_allclose(op.dense(), K, rtol=1e-12, atol=1e-14)


def test_dense_writable_hands_out_memory_when_overwrite(K):
    k = torch.from_numpy(K)
    assert DenseGram(k).writable(overwrite=True).data_ptr() == k.data_ptr()
    assert DenseGram(k.mT).writable(overwrite=True).data_ptr() == k.data_ptr()


def test_mapped_matmul_reads_blocks_of_rows(monkeypatch, K):
    monkeypatch.setattr(_gram, "_BLOCK_BYTES", 4 * 8 * N)
    seen = []
    op = MappedGram(K)
    monkeypatch.setattr(op, "_read", lambda x: seen.append(len(x)) or torch.tensor(x))
    op.matmul(torch.ones(N, dtype=torch.float64))
    assert seen == [4, 4, 3]


def test_kernel_gram_computes_nothing_when_restricted(K):
    assert isinstance(KernelGram(Linear(), torch.from_numpy(K)).restrict([0, 2]), KernelGram)


def test_kernel_gram_takes_dtype_from_kernel(K):
    class Low(Linear):
        def diag(self, X):
            return super().diag(X).float()

    op = KernelGram(Low(), torch.from_numpy(K))
    assert op.dtype == op.dense().dtype == op.rows([0]).dtype == torch.float32


def test_as_operator_keeps_float32_and_operators(K):
    op = as_operator(K.astype(np.float32))
    assert op.dtype == torch.float32
    assert as_operator(op) is op
    assert isinstance(op, GramOperator)
    assert as_operator(np.eye(3, dtype=int)).dtype == torch.float64


@pytest.mark.parametrize("shape", [(3, 4), (3,), (0, 0)])
@pytest.mark.parametrize("make", [np.zeros, torch.zeros], ids=["numpy", "torch"])
def test_as_operator_refuses_wrong_shapes(make, shape):
    with pytest.raises(ValueError, match=r"Gram matrix of shape \(.*; expected a square"):
        as_operator(make(shape))


def test_as_operator_refuses_other_types():
    with pytest.raises(TypeError, match="Gram matrix is a list"):
        as_operator([[1.0]])


def test_gram_refuses_integers():
    with pytest.raises(ValueError, match=r"dtype torch\.int64; expected float32 or float64"):
        DenseGram(torch.eye(3, dtype=torch.int64))
    with pytest.raises(ValueError, match="dtype int64; expected float32 or float64"):
        MappedGram(np.eye(3, dtype=np.int64))


def test_gram_checks_memory_before_it_copies(K):
    with _config.config_context(memory_budget=100):
        for op in (DenseGram(torch.from_numpy(K)), MappedGram(K)):
            with pytest.raises(MemoryBudgetError, match="11 x 11 Gram matrix"):
                op.writable()
