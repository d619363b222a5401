"""Gradients by theta alone: of Gram matrices, of diagonals, and of scikit-learn's kernels."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.gaussian_process import kernels as sk

from sknk import MemoryBudgetError, config_context
from sknk.kernels import NTK
from sknk.kernels._adapt import Foreign, as_kernel
from tests.cases import KERNELS, degenerate_rows, rows

X, Y, HARD = rows(9), rows(5, seed=1), degenerate_rows()
SKLEARN = [
    sk.RBF([0.5, 1.0, 2.0]),
    2.0 * sk.Matern(0.7) + sk.WhiteKernel(0.3),
    sk.RationalQuadratic(),
    NTK(depth=1, bias_var=0.1) + sk.RBF(),
]
every = pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
every_sklearn = pytest.mark.parametrize("kernel", SKLEARN, ids=repr)


def weights(*shape, seed=7):
    return np.random.default_rng(seed).standard_normal(shape)


def assert_close(actual, desired, rtol=1e-12):
    """Compare entries on the scale of the largest: equal sums in another order."""
    scale = np.abs(desired).max(initial=1.0)
    np.testing.assert_allclose(actual, desired, rtol=rtol, atol=rtol * scale)


# --- our kernels ---------------------------------------------------------------------------------


@every
@pytest.mark.parametrize("other", [None, Y], ids=["auto", "cross"])
@pytest.mark.parametrize("tile_size", [None, 4])
def test_theta_vjp_equals_that_of_vjp(kernel, other, tile_size):
    W = weights(9, 9 if other is None else 5)
    with config_context(tile_size=tile_size):
        found = kernel.theta_vjp(X, other, W)
        assert found.shape == kernel.theta.shape
        assert_close(found, kernel.vjp(X, other, W).theta)


@every
def test_theta_vjp_contracts_eval_gradient(kernel):
    W, gradient = weights(9, 9), kernel(X, eval_gradient=True)[1]
    assert_close(kernel.theta_vjp(X, X, W), np.einsum("ij,ijk->k", W, gradient), rtol=1e-11)


@every
def test_theta_vjp_is_finite_at_degenerate_rows(kernel):
    for other in (None, HARD.copy()):
        assert np.isfinite(kernel.theta_vjp(HARD, other, weights(12, 12))).all()
    assert np.isfinite(kernel.theta_vjp_diag(HARD, weights(12))).all()


@every
def test_theta_vjp_diag_contracts_the_diagonals_of_the_gradient(kernel):
    w, gradient = weights(9), kernel(X, eval_gradient=True)[1]
    expected = np.einsum("i,iik->k", w, gradient)
    assert_close(kernel.theta_vjp_diag(X, w), expected, rtol=1e-11)


@every
def test_theta_vjp_diag_equals_finite_differences(kernel):
    w, step, theta = weights(9), 1e-5, kernel.theta
    found = kernel.theta_vjp_diag(X, w)
    assert found.shape == theta.shape
    for k, slope in enumerate(found):
        ends = [kernel.clone_with_theta(theta + s * step * np.eye(len(theta))[k]) for s in (1, -1)]
        up, down = (w @ end.diag(X) for end in ends)
        # Central differences: their step squared, and eps over the step.
        assert slope == pytest.approx((up - down) / (2 * step), rel=1e-8, abs=1e-8)


def test_theta_gradients_take_tensors():
    kernel, W, w = KERNELS["ntk_all_free"], weights(9, 5), weights(9)
    x, y = torch.from_numpy(X), torch.from_numpy(Y)
    found = kernel.theta_vjp(x, y, torch.from_numpy(W))
    assert isinstance(found, np.ndarray)
    np.testing.assert_array_equal(found, kernel.theta_vjp(X, Y, W))
    np.testing.assert_array_equal(
        kernel.theta_vjp_diag(x, torch.from_numpy(w)), kernel.theta_vjp_diag(X, w)
    )


def test_theta_gradients_work_without_recording():
    kernel, W = KERNELS["ntk_ard"], weights(9, 9)
    with torch.no_grad():
        found = kernel.theta_vjp(X, None, W), kernel.theta_vjp_diag(X, W[0])
    np.testing.assert_array_equal(found[0], kernel.theta_vjp(X, None, W))
    np.testing.assert_array_equal(found[1], kernel.theta_vjp_diag(X, W[0]))


def test_theta_gradients_follow_float32():
    kernel, W = KERNELS["ntk_all_free"], weights(9, 9)
    with config_context(dtype="float32"):
        found = kernel.theta_vjp(X, None, W), kernel.theta_vjp_diag(X, W[0])
    # 6e-8 for every rounding of float32, through two layers.
    assert_close(found[0], kernel.theta_vjp(X, None, W), rtol=1e-5)
    assert_close(found[1], kernel.theta_vjp_diag(X, W[0]), rtol=1e-5)


@pytest.mark.parametrize("shape", [(9,), (9, 5), (5, 9)])
def test_theta_vjp_raises_for_weights_of_another_shape(shape):
    with pytest.raises(ValueError, match=r"`W` has shape .*; expected \(9, 9\), that of K"):
        NTK(bias_var=0.1).theta_vjp(X, None, np.ones(shape))


@pytest.mark.parametrize("kernel", [NTK(), NTK(bias_var=0.1, bias_var_bounds="fixed")], ids=repr)
def test_theta_gradients_of_fixed_kernels_are_empty(kernel):
    assert kernel.theta_vjp(X, Y, weights(9, 5)).shape == (0,)
    assert kernel.theta_vjp_diag(X, weights(9)).shape == (0,)


# --- scikit-learn's kernels ----------------------------------------------------------------------


@every_sklearn
def test_sklearn_kernel_keeps_its_theta(kernel):
    ours = as_kernel(clone(kernel))
    np.testing.assert_array_equal(ours.theta, kernel.theta)
    np.testing.assert_array_equal(ours.bounds, kernel.bounds)
    assert ours.hyperparameters == kernel.hyperparameters
    assert ours.n_dims == kernel.n_dims
    ours.theta = kernel.theta + 0.3
    np.testing.assert_allclose(ours.kernel.theta, kernel.theta + 0.3)
    np.testing.assert_allclose(ours(X), kernel.clone_with_theta(kernel.theta + 0.3)(X), rtol=1e-12)


@every_sklearn
def test_sklearn_kernel_contracts_its_own_gradient(kernel):
    W, gradient = weights(9, 9), kernel(X, eval_gradient=True)[1]
    expected = np.einsum("ij,ijk->k", W, gradient)
    for other in (None, X):
        np.testing.assert_allclose(as_kernel(kernel).theta_vjp(X, other, W), expected, rtol=1e-12)


@every_sklearn
def test_sklearn_kernel_contracts_the_diagonals_of_its_gradient(kernel):
    w, gradient = weights(9), kernel(X, eval_gradient=True)[1]
    expected = np.einsum("i,iik->k", w, gradient)
    np.testing.assert_allclose(
        as_kernel(kernel).theta_vjp_diag(X, w), expected, rtol=1e-12, atol=1e-12
    )


@every_sklearn
def test_sklearn_kernel_has_no_gradient_of_cross_gram(kernel):
    with pytest.raises(NotImplementedError, match=r"without gradients of cross Gram matrices"):
        as_kernel(kernel).theta_vjp(X, Y, weights(9, 5))


def test_fixed_sklearn_kernel_has_an_empty_gradient_everywhere():
    kernel = as_kernel(sk.RBF(1.0, "fixed"))
    assert kernel.theta_vjp(X, None, weights(9, 9)).shape == (0,)
    assert kernel.theta_vjp(X, Y, weights(9, 5)).shape == (0,)
    assert kernel.theta_vjp_diag(X, weights(9)).shape == (0,)


def test_sklearn_gradient_beyond_memory_raises():
    # Gram matrix and gradient in three length scales: 8 * 81 * 4 bytes.
    with (
        config_context(memory_budget=2000),
        pytest.raises(MemoryBudgetError, match=r"gradient of RBF.* n=9 rows needs 2.59e\+03 bytes"),
    ):
        as_kernel(sk.RBF([0.5, 1.0, 2.0])).theta_vjp(X, None, weights(9, 9))


def test_sklearn_kernel_is_shown_as_itself():
    assert isinstance(as_kernel(sk.RBF()), Foreign)
    for call in (lambda k: k.nngp(), lambda k: k.joint(X), lambda k: k.joint_diag(X)):
        with pytest.raises(TypeError, match=r"^RBF\(length_scale=1\) is no tangent kernel"):
            call(as_kernel(sk.RBF()))
