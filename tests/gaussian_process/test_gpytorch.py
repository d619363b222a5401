"""The gpytorch kernel's parameters: constraints, priors, copies, state."""

import copy
import pickle

import numpy as np
import pytest
import torch

from sknk.gaussian_process._gpytorch import GPyTorchKernel, LogInterval, gpytorch
from sknk.kernels import NTK, Constant
from tests.cases import KERNELS, rows

X = rows(9)
ALL_FREE = KERNELS["ntk_all_free"]


def tensor(x):
    return torch.tensor(x, dtype=torch.float64)


def double(kernel, **options):
    return GPyTorchKernel(kernel, dtype=torch.float64, **options)


def dense(K):
    return K.to_dense().detach().numpy()


# --- parameters --------------------------------------------------------------------------------


def test_parameters_are_the_free_hyperparameters():
    adapter = GPyTorchKernel(KERNELS["nested"])
    named = {name for name, _ in adapter.named_parameters()}
    assert named == {f"raw_{h.name}" for h in KERNELS["nested"].hyperparameters if not h.fixed}
    assert "raw_k1__kernel__k2__k2__bias_var" in named
    assert adapter.k1__kernel__k2__k2__bias_var.item() == pytest.approx(0.3, rel=1e-6)


def test_zero_and_fixed_hyperparameters_are_constants():
    adapter = GPyTorchKernel(NTK(bias_var=0.0, weight_var=1.5))
    assert not list(adapter.parameters())
    assert adapter.sknk_kernel() == NTK(bias_var=0.0, weight_var=1.5)
    with pytest.raises(AttributeError, match="weight_var"):
        _ = adapter.weight_var


def test_kernel_without_parameters_follows_the_models_dtype():
    adapter = GPyTorchKernel(NTK())
    assert adapter.dtype is torch.float32
    assert adapter.double().dtype is torch.float64
    assert adapter.device == torch.device("cpu")
    assert not adapter.state_dict()


def test_hyperparameters_can_be_set_and_initialized():
    adapter = double(ALL_FREE)
    adapter.bias_var = 0.7
    adapter.initialize(weight_var=1.1, input_scale=tensor(0.4))
    found = [getattr(adapter, name).item() for name in ("bias_var", "weight_var", "input_scale")]
    np.testing.assert_allclose(found, [0.7, 1.1, 0.4], rtol=1e-12)
    np.testing.assert_allclose(adapter.sknk_kernel().bias_var, 0.7, rtol=1e-12)


@pytest.mark.parametrize("value", [1e-9, 1e9, -1.0, float("nan")])
def test_value_outside_the_bounds_is_refused(value):
    adapter = double(ALL_FREE)
    with pytest.raises(RuntimeError, match="out of bounds"):
        adapter.bias_var = value
    assert adapter.bias_var.item() == pytest.approx(0.2)


def test_priors_are_registered_by_name():
    adapter = double(ALL_FREE)
    adapter.register_prior("bias_prior", gpytorch.priors.GammaPrior(2.0, 4.0), "bias_var")
    ((_, module, prior, closure, _),) = adapter.named_priors()
    assert prior.log_prob(closure(module)).requires_grad
    adapter.sample_from_prior("bias_prior")
    assert adapter.bias_var.item() != pytest.approx(0.2)


def test_optimizer_cannot_leave_the_bounds():
    adapter = double(NTK(depth=1, bias_var=0.1, bias_var_bounds=(0.05, 0.3)))
    optimizer = torch.optim.SGD(adapter.parameters(), lr=1e6)
    for sign in (1.0, -1.0):
        optimizer.zero_grad()
        (sign * adapter(tensor(X)).to_dense().sum()).backward()
        optimizer.step()
        assert 0.05 <= adapter.bias_var.item() <= 0.3


def test_log_interval_is_even_in_the_logarithm():
    interval = LogInterval(1e-4, 1e4).double()
    raw = torch.linspace(-30, 30, 61, dtype=torch.float64)
    value = interval.transform(raw)
    np.testing.assert_allclose(value[30], 1.0)
    # Bounds are made in torch's default dtype, float32.
    np.testing.assert_allclose(value * value.flip(0), np.ones(61), rtol=1e-7)
    assert interval.check(value)
    assert interval.check_raw(raw)
    middle = slice(20, 41)
    np.testing.assert_allclose(interval.inverse_transform(value)[middle], raw[middle], rtol=1e-9)


def test_log_interval_moves_values_off_its_bounds():
    interval = LogInterval(1e-5, 1e5)
    raw = interval.inverse_transform(torch.tensor([1e-5, 1e5]))
    assert torch.isfinite(raw).all()
    np.testing.assert_allclose(interval.transform(raw), [1e-5, 1e5], rtol=1e-4)


def test_log_interval_has_elementwise_bounds_and_intersections():
    wide, narrow = LogInterval([0.1, 1.0], [10.0, 10.0]), LogInterval(0.5, 20.0)
    np.testing.assert_allclose(wide.transform(torch.zeros(2)), [1.0, 10**0.5], rtol=1e-6)
    np.testing.assert_allclose(list(wide.intersect(narrow)), [[0.5, 1.0], [10.0, 10.0]])
    assert LogInterval(0.5, 2.0, initial_value=1.0).initial_value == 0.0


@pytest.mark.parametrize("bounds", [(0.0, 1.0), (-1.0, 1.0), (1.0, np.inf)])
def test_log_interval_needs_positive_finite_bounds(bounds):
    with pytest.raises(ValueError, match="expected positive, finite"):
        LogInterval(*bounds)


# --- copies ------------------------------------------------------------------------------------


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda k: pickle.loads(pickle.dumps(k))])
def test_copies_are_equal_and_independent(duplicate):
    adapter = double(KERNELS["nested"], active_dims=[0, 2])
    copied = duplicate(adapter)
    np.testing.assert_array_equal(dense(copied(tensor(X))), dense(adapter(tensor(X))))
    copied.k1__scale = 5.0
    assert adapter.k1__scale.item() == pytest.approx(0.5)


def test_state_dict_carries_the_hyperparameters():
    trained, fresh = double(KERNELS["nested"]), double(KERNELS["nested"])
    trained.initialize(k1__scale=3.0, k2__value=0.4)
    fresh.load_state_dict(trained.state_dict())
    assert fresh.sknk_kernel() == trained.sknk_kernel() != KERNELS["nested"]


def test_wrapped_kernel_is_a_copy():
    kernel = NTK(bias_var=0.1)
    adapter = double(kernel)
    kernel.bias_var = 9.0
    np.testing.assert_allclose(dense(adapter(tensor(X))), NTK(bias_var=0.1)(X), rtol=1e-12)


# --- errors ------------------------------------------------------------------------------------


def test_hyperparameter_outside_its_bounds_is_named():
    with pytest.raises(ValueError, match=r"`k2__value` is 7\.0, outside its bounds"):
        GPyTorchKernel(NTK() + Constant(7.0, value_bounds=(0.1, 1.0)))


def test_hyperparameter_with_infinite_bounds_is_named():
    with pytest.raises(ValueError, match=r"`value`: Bounds are.*Set `value_bounds`"):
        GPyTorchKernel(Constant(1.0, value_bounds=(0.0, 2.0)))


def test_batch_of_kernels_has_no_single_sknk_kernel():
    kernels = double(ALL_FREE, batch_shape=(2,))
    with pytest.raises(ValueError, match="index it first"):
        kernels.sknk_kernel()
    assert kernels[0].sknk_kernel().depth == 2
