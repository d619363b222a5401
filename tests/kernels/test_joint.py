"""Two kernels of one network: NNGP and NTK together, their diagonals, and the NNGP alone."""

import numpy as np
import pytest
import torch

from sknk import config_context
from sknk.kernels import NNGP, NTK, Normalized
from tests.cases import FREE, KERNELS, degenerate_rows, rows

X, HARD = rows(9), degenerate_rows()
NETWORKS = {name: k for name, k in KERNELS.items() if isinstance(k, NTK)}
SCALED = {f"scaled_{name}": 2.5 * NETWORKS[name] for name in ("ntk_bias", "ntk_ard", "ntk_erf")}
OTHERS = {
    "normalized": Normalized(NTK()),
    "sum": NTK(1) + NTK(2),
    "product": NTK(1) * NTK(2),
    "constant": KERNELS["constant"],
    "scaled sum": 2.0 * (NTK(1) + NTK(2)),
}
every = pytest.mark.parametrize(
    "kernel", [*NETWORKS.values(), *SCALED.values()], ids=[*NETWORKS, *SCALED]
)


def assert_close(actual, desired, rtol=1e-12):
    """Compare entries on the scale of the largest: equal sums in another order."""
    np.testing.assert_allclose(actual, desired, rtol=rtol, atol=rtol * np.abs(desired).max())


@every
def test_joint_diag_equals_the_diagonals_of_joint(kernel):
    for table in (X, HARD):
        for found, K in zip(kernel.joint_diag(table), kernel.joint(table), strict=True):
            assert isinstance(found, np.ndarray)
            assert_close(found, np.diag(K))


@every
def test_joint_diag_has_the_diagonal_of_the_tangent_kernel(kernel):
    assert_close(kernel.joint_diag(X)[1], kernel.diag(X))
    assert_close(kernel.joint(X)[1], kernel(X))


@every
def test_joint_is_the_nngp_up_to_one_constant(kernel):
    ratio = kernel.joint(X)[0] / kernel.nngp()(X)
    assert_close(ratio, np.full((9, 9), ratio[0, 0]), rtol=1e-10)


@every
def test_nngp_keeps_hyperparameters(kernel):
    nngp = kernel.nngp()
    assert nngp.hyperparameters == kernel.hyperparameters
    np.testing.assert_array_equal(nngp.theta, kernel.theta)
    np.testing.assert_array_equal(nngp.bounds, kernel.bounds)


@pytest.mark.parametrize("kernel", NETWORKS.values(), ids=NETWORKS)
def test_nngp_is_an_nngp_of_the_same_network(kernel):
    nngp = kernel.nngp()
    assert isinstance(nngp, NNGP)
    shared = {k: v for k, v in kernel.get_params().items() if k in nngp.get_params()}
    assert nngp == NNGP(**shared)
    if kernel.normalize:
        np.testing.assert_allclose(nngp.diag(np.ones((1, 3))), 1.0, rtol=1e-12)
    else:
        assert_close(kernel.joint(X)[0], nngp(X))


def test_scaled_network_scales_both():
    kernel = NTK(depth=2, bias_var=0.1)
    for name in ("joint", "joint_diag"):
        for scaled, one in zip(
            getattr(3.0 * kernel, name)(X), getattr(kernel, name)(X), strict=True
        ):
            np.testing.assert_allclose(scaled, 3.0 * one, rtol=1e-14)
    assert (3.0 * kernel).nngp() == 3.0 * kernel.nngp()


def test_nngp_of_an_nngp_is_a_copy():
    kernel = NNGP(depth=2, weight_var_bounds=FREE)
    assert kernel.nngp() == kernel
    assert kernel.nngp() is not kernel


@pytest.mark.parametrize("kernel", OTHERS.values(), ids=OTHERS)
def test_other_kernels_have_none_of_them(kernel):
    for call in (lambda: kernel.joint(X), lambda: kernel.joint_diag(X), lambda: kernel.nngp()):
        with pytest.raises(
            TypeError, match=r"is no tangent kernel of a network, .*posterior='ntkgp'"
        ):
            call()


def test_joint_diag_takes_tensors_and_float32():
    kernel = NTK(depth=2, bias_var=0.1)
    for found, wanted in zip(
        kernel.joint_diag(torch.from_numpy(X)), kernel.joint_diag(X), strict=True
    ):
        assert isinstance(found, torch.Tensor)
        np.testing.assert_array_equal(found, wanted)
    with config_context(dtype="float32"):
        low = kernel.joint_diag(X)
    assert all(d.dtype == np.float32 for d in low)
    assert_close(low[1], kernel.joint_diag(X)[1], rtol=1e-6)


def test_joint_diag_forms_no_gram_matrix():
    with config_context(memory_budget=1000):  # 20 000 rows have diagonals of 160 kB each
        nngp, ntk = NTK().joint_diag(rows(20_000))
    assert nngp.shape == ntk.shape == (20_000,)
