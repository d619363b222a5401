"""to_gpytorch: gpytorch's own kernel suite, and agreement with the kernel and scikit-learn."""

import subprocess
import sys
import unittest

import numpy as np
import pytest
import torch
from gpytorch.test.base_kernel_test_case import BaseKernelTestCase
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF

import sknk
from sknk.gaussian_process._gpytorch import gpytorch
from sknk.interop import to_gpytorch
from sknk.kernels import NNGP, NTK
from tests.cases import FREE, KERNELS, rows

X, Y = rows(9), rows(6, seed=1)
W = rows(9, 6, seed=2)
ALL_FREE = KERNELS["ntk_all_free"]


def tensor(x, *, grad=False):
    return torch.tensor(x, dtype=torch.float64, requires_grad=grad)


def double(kernel, **options):
    return to_gpytorch(kernel, dtype=torch.float64, **options)


def dense(K):
    return K.to_dense().detach().numpy()


# --- gpytorch's own suite ----------------------------------------------------------------------


class Suite(BaseKernelTestCase):
    """What follows inherits: kernels of single tables, batches, indices, dtypes, pickles."""

    seed = 0


class TestNTK(Suite, unittest.TestCase):
    def create_kernel_no_ard(self, **kwargs):
        return to_gpytorch(NTK(depth=2, bias_var=0.1), **kwargs)

    def create_kernel_ard(self, num_dims, **kwargs):
        scales = np.linspace(0.5, 1.5, num_dims)
        return to_gpytorch(NTK(depth=1, input_scale=scales, input_scale_bounds=FREE), **kwargs)


class TestNNGP(Suite, unittest.TestCase):
    def create_kernel_no_ard(self, **kwargs):
        return to_gpytorch(NNGP(bias_var=0.1, activation="erf"), **kwargs)


class TestComposite(Suite, unittest.TestCase):
    def create_kernel_no_ard(self, **kwargs):
        return to_gpytorch(2.0 * (NTK(depth=1) * NNGP(bias_var=0.3)) + 0.1, **kwargs)


# --- values ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", KERNELS)
def test_adapter_computes_the_kernel(name):
    kernel, adapter = KERNELS[name], double(KERNELS[name])
    np.testing.assert_allclose(dense(adapter(tensor(X))), kernel(X), rtol=1e-12, atol=1e-13)
    cross = dense(adapter(tensor(X), tensor(Y)))
    np.testing.assert_allclose(cross, kernel(X, Y), rtol=1e-12, atol=1e-13)
    diagonal = adapter(tensor(X), diag=True).detach()
    np.testing.assert_allclose(diagonal, kernel.diag(X), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", ["ntk_all_free", "ntk_ard", "nested", "scale"])
def test_adapter_computes_the_kernel_at_other_hyperparameters(name):
    adapter = double(KERNELS[name])
    for parameter in adapter.parameters():
        parameter.data += 0.3
    moved = adapter.sknk_kernel()
    assert moved != KERNELS[name]
    np.testing.assert_allclose(dense(adapter(tensor(X))), moved(X), rtol=1e-12)
    with torch.no_grad():
        np.testing.assert_allclose(dense(adapter(tensor(X), tensor(Y))), moved(X, Y), rtol=1e-12)
        np.testing.assert_allclose(adapter(tensor(X), diag=True), moved.diag(X), rtol=1e-12)


def test_diagonal_of_different_rows_pairs_them():
    adapter, many, others = double(ALL_FREE), rows(70), rows(70, seed=1)
    found = adapter(tensor(many), tensor(others), diag=True).detach()
    np.testing.assert_allclose(found, ALL_FREE(many, others).diagonal(), rtol=1e-12)


def test_adapter_is_symmetric_to_the_last_bit_when_called_on_equal_rows():
    adapter = double(ALL_FREE)
    for other in (None, tensor(X)):
        K = dense(adapter(tensor(X), other))
        np.testing.assert_array_equal(K, K.T)


def test_float32_rows_get_float32_results_of_a_float64_computation():
    adapter, x = to_gpytorch(ALL_FREE), tensor(X).float()
    K = adapter(x).to_dense()
    assert K.dtype is adapter(x, diag=True).dtype is torch.float32
    # One rounding of the rows and hyperparameters, one of the result.
    np.testing.assert_allclose(K.detach(), ALL_FREE(X), rtol=5e-6)


def test_configured_float32_is_computed_in_float32():
    adapter = double(ALL_FREE)
    with sknk.config_context(dtype="float32"):
        K = dense(adapter(tensor(X)))
        np.testing.assert_allclose(K, ALL_FREE(X), rtol=1e-5)
    assert np.array_equal(K, K.astype(np.float32))


# --- batches -----------------------------------------------------------------------------------


def batched(shape=(2,), **options):
    """A batch of kernels with different hyperparameters."""
    adapter = double(KERNELS["ntk_ard"], batch_shape=shape, **options)
    generator = torch.Generator().manual_seed(0)
    for parameter in adapter.parameters():
        parameter.data += torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return adapter


@pytest.mark.parametrize("diag", [False, True])
def test_batch_of_kernels_and_rows_broadcasts(diag):
    adapter, x = batched((2,)), tensor(np.stack([X, X[::-1].copy(), X**2]))[:, None]
    found = adapter(x, diag=diag)  # (3, 1, 9, 3) with 2 kernels
    found = found if diag else found.to_dense()
    assert found.shape == ((3, 2, 9) if diag else (3, 2, 9, 9))
    for i in range(3):
        for j in range(2):
            alone = adapter[j](x[i, 0], diag=diag)
            wanted = alone if diag else alone.to_dense()
            np.testing.assert_array_equal(found[i, j].detach(), wanted.detach())


def test_gradients_reach_every_member_of_a_batch():
    adapter = batched((2,))
    adapter(tensor(X)).to_dense()[1].sum().backward()
    for parameter in adapter.parameters():
        assert (parameter.grad[0] == 0).all()
        assert (parameter.grad[1] != 0).all()


def test_members_keep_active_dims():
    adapter = double(NTK(bias_var=0.1), batch_shape=(2, 3), active_dims=[0, 2])
    wanted = NTK(bias_var=0.1)(X[:, [0, 2]])
    for member in (adapter[1, 2], adapter[0], adapter[..., 1], adapter.expand_batch(4, 2, 3)):
        K = member(tensor(X)).to_dense().detach()
        assert K.shape == (*member.batch_shape, 9, 9)
        np.testing.assert_allclose(K, np.broadcast_to(wanted, K.shape), rtol=1e-12)


def test_expanded_kernel_needs_a_compatible_shape():
    assert batched().expand_batch(torch.Size([2])).batch_shape == (2,)
    with pytest.raises(RuntimeError, match="expand"):
        batched().expand_batch(3)


def test_last_dimension_can_be_a_batch_of_features():
    kernel, adapter = NTK(bias_var=0.2), double(NTK(bias_var=0.2), batch_shape=(2,))
    with pytest.warns(DeprecationWarning, match="last_dim_is_batch"):
        K = adapter(tensor(X), last_dim_is_batch=True).to_dense()
    with pytest.warns(DeprecationWarning, match="last_dim_is_batch"):
        diagonal = adapter(tensor(X), last_dim_is_batch=True, diag=True)
    assert K.shape == (2, 3, 9, 9)
    for feature in range(3):
        alone = kernel(X[:, [feature]])
        np.testing.assert_allclose(K[1, feature].detach(), alone, rtol=1e-12)
        np.testing.assert_allclose(diagonal[1, feature].detach(), np.diag(alone), rtol=1e-12)


def test_empty_batch_gives_an_empty_result():
    x = torch.empty(0, 5, 3, dtype=torch.float64)
    assert double(ALL_FREE)(x).to_dense().shape == (0, 5, 5)
    assert double(ALL_FREE)(x, diag=True).shape == (0, 5)


# --- gradients ---------------------------------------------------------------------------------


def log_gradient(adapter):
    """d/d log of every hyperparameter, from the raw parameters' gradients, in theta's order."""
    found = []
    for name in adapter._names:
        raw = getattr(adapter, f"raw_{name}")
        (slope,) = torch.autograd.grad(getattr(adapter, name).log().sum(), raw)
        found.append((raw.grad / slope).reshape(-1).numpy())
    return np.concatenate(found)


@pytest.mark.parametrize("name", [n for n, k in KERNELS.items() if k.n_dims])
def test_gradients_are_those_of_vjp(name):
    kernel, adapter = KERNELS[name], double(KERNELS[name])
    x, y = tensor(X, grad=True), tensor(Y, grad=True)
    (adapter(x, y).to_dense() * tensor(W)).sum().backward()
    wanted = kernel.vjp(X, Y, W)
    scale = abs(wanted.theta).max()
    np.testing.assert_allclose(log_gradient(adapter), wanted.theta, rtol=1e-8, atol=1e-10 * scale)
    np.testing.assert_allclose(x.grad, wanted.X, rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(y.grad, wanted.Y, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("diag", [False, True])
def test_gradients_are_those_of_finite_differences(diag):
    adapter = double(KERNELS["ntk_ard"])
    parameters = [adapter.raw_bias_var, adapter.raw_input_scale]

    def function(x, y, *_):
        K = adapter(x, y, diag=diag)
        return K if diag else K.to_dense()

    inputs = tensor(X[:4], grad=True), tensor(Y[:4], grad=True), *parameters
    assert torch.autograd.gradcheck(function, inputs)


def test_diagonal_gradient_is_that_of_the_trace():
    whole, diagonal = (tensor(X, grad=True) for _ in range(2))
    adapter = double(ALL_FREE)
    adapter(whole).to_dense().trace().backward()
    wanted = log_gradient(adapter)
    adapter.zero_grad()
    adapter(diagonal, diag=True).sum().backward()
    np.testing.assert_allclose(log_gradient(adapter), wanted, rtol=1e-10)
    np.testing.assert_allclose(diagonal.grad, whole.grad, rtol=1e-10)


def test_equal_rows_that_move_apart_get_gradients_of_their_own():
    x, y, square = tensor(X, grad=True), tensor(X), rows(9, 9, seed=4)
    y.requires_grad_()
    kernel = NTK(depth=2)
    (double(kernel)(x, y).to_dense() * tensor(square)).sum().backward()
    wanted = kernel.vjp(X, X.copy(), square)
    np.testing.assert_allclose(x.grad, wanted.X, rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(y.grad, wanted.Y, rtol=1e-8, atol=1e-12)


def test_equal_rows_that_move_apart_share_the_diagonals_gradient():
    x, y = tensor(X, grad=True), tensor(X)
    double(ALL_FREE)(x, y, diag=True).sum().backward()
    np.testing.assert_allclose(x.grad, ALL_FREE.vjp(X, None, np.eye(9)).X / 2, rtol=1e-8)


def test_graph_of_a_gram_matrix_holds_rows_and_hyperparameters_only():
    saved = []

    def pack(saved_tensor):
        saved.append(saved_tensor.numel())
        return saved_tensor

    adapter, x = double(ALL_FREE), tensor(rows(300))
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda saved_tensor: saved_tensor):
        K = adapter(x).evaluate_kernel().to_dense()
    assert K.requires_grad
    assert sum(saved) < 300 * 10


def test_second_derivative_is_refused():
    adapter = double(ALL_FREE)
    K = adapter(tensor(X)).to_dense().sum()
    with pytest.raises(NotImplementedError, match=r"no second derivatives.*create_graph"):
        torch.autograd.grad(K, adapter.raw_bias_var, create_graph=True)


def test_configuration_of_the_forward_pass_serves_the_backward_pass():
    adapters = double(ALL_FREE), double(ALL_FREE)
    with sknk.config_context(dtype="float32"):
        adapters[0](tensor(X)).to_dense().sum().backward()
        late = adapters[1](tensor(X)).to_dense().sum()
    late.backward()
    np.testing.assert_array_equal(log_gradient(adapters[0]), log_gradient(adapters[1]))


# --- errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [RBF(), None, "ntk"])
def test_only_sknk_kernels_are_wrapped(wrong):
    with pytest.raises(TypeError, match="expected an sknk kernel"):
        to_gpytorch(wrong)


def test_missing_gpytorch_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "gpytorch", None)
    with pytest.raises(ImportError, match=r"to_gpytorch needs gpytorch; .*sknk\[gpytorch\]"):
        to_gpytorch(NTK())


def test_gpytorch_is_imported_when_used_and_without_warnings():
    code = """
import sys
import sknk.gaussian_process, sknk.interop
assert not {"gpytorch", "linear_operator"} & set(sys.modules)
sknk.interop.to_gpytorch(sknk.kernels.NTK())
assert "gpytorch" in sys.modules
"""
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stderr


# --- models ------------------------------------------------------------------------------------


class Exact(gpytorch.models.ExactGP):
    def __init__(self, x, y, kernel, noise):
        super().__init__(x, y, gpytorch.likelihoods.GaussianLikelihood())
        self.mean_module, self.covar_module = gpytorch.means.ZeroMean(), kernel
        self.double()
        self.likelihood.noise = noise

    def forward(self, x):
        return gpytorch.distributions.MultivariateNormal(self.mean_module(x), self.covar_module(x))


def regression(n=40):
    x = rows(n, seed=5)
    return x, np.sin(2.0 * x[:, 0]) + 0.1 * rows(n, 1, seed=6)[:, 0]


@pytest.mark.parametrize("name", ["ntk_bias", "ntk_ard", "nested"])
def test_exact_gp_predicts_what_scikit_learn_predicts(name):
    x, y = regression()
    model = Exact(tensor(x), tensor(y), double(KERNELS[name]), 0.1).eval()
    with torch.no_grad():
        found = model(tensor(rows(15, seed=7)))
    reference = GaussianProcessRegressor(KERNELS[name], alpha=0.1, optimizer=None).fit(x, y)
    mean, std = reference.predict(rows(15, seed=7), return_std=True)
    np.testing.assert_allclose(found.mean, mean, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(found.variance, std**2, rtol=1e-6, atol=1e-9)


def test_marginal_likelihood_and_its_gradient_are_those_of_scikit_learn():
    x, y = regression()
    model = Exact(tensor(x), tensor(y), double(ALL_FREE), 0.1)
    mll = gpytorch.mlls.ExactMarginalLogLikelihood(model.likelihood, model)
    value = mll(model(tensor(x)), tensor(y)) * len(y)
    value.backward()
    reference = GaussianProcessRegressor(ALL_FREE, alpha=0.1, optimizer=None).fit(x, y)
    wanted = reference.log_marginal_likelihood(ALL_FREE.theta, eval_gradient=True)
    np.testing.assert_allclose(value.item(), wanted[0], rtol=1e-8)
    np.testing.assert_allclose(log_gradient(model.covar_module), wanted[1], rtol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_training_an_exact_gp_lowers_its_loss(dtype):
    x, y = (torch.from_numpy(a).to(dtype) for a in regression())
    scaled = gpytorch.kernels.ScaleKernel(to_gpytorch(KERNELS["ntk_ard"]))
    model = Exact(x, y, scaled, 0.1).to(dtype)
    mll = gpytorch.mlls.ExactMarginalLogLikelihood(model.likelihood, model)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    losses = []
    for _ in range(25):
        optimizer.zero_grad()
        losses.append(-mll(model(x), y))
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < losses[0] - 0.3
    # The target depends on the first feature alone.
    assert scaled.base_kernel.input_scale.argmax() == 0


def test_gpytorch_composes_adapters():
    kernel = double(NTK(bias_var=0.1)) + double(NNGP(bias_var=0.2)) * double(NTK(depth=1))
    wanted = NTK(bias_var=0.1)(X) + NNGP(bias_var=0.2)(X) * NTK(depth=1)(X)
    np.testing.assert_allclose(dense(kernel(tensor(X))), wanted, rtol=1e-12)


@pytest.mark.gpu
def test_adapter_computes_on_the_device_of_its_inputs(cuda):
    adapter = double(KERNELS["ntk_ard"]).to(cuda)
    x, y = tensor(X).to(cuda).requires_grad_(), tensor(Y).to(cuda)
    K = adapter(x, y).to_dense()
    (K * tensor(W).to(cuda)).sum().backward()
    wanted = KERNELS["ntk_ard"].vjp(X, Y, W)
    assert K.device.type == adapter(x, diag=True).device.type == "cuda"
    np.testing.assert_allclose(K.detach().cpu(), KERNELS["ntk_ard"](X, Y), rtol=1e-10)
    np.testing.assert_allclose(x.grad.cpu(), wanted.X, rtol=1e-7, atol=1e-11)
