"""Mapped: kernels of linearly mapped rows; gradients of functions at rows."""

import numpy as np
import pytest
import torch
from sklearn.gaussian_process.kernels import RBF

from sknk.kernels import NNGP, NTK, Mapped, NetworkKernel, Normalized
from sknk.kernels._adapt import Foreign
from tests.cases import IMAGE_NETWORKS, KERNELS, MAP, degenerate_rows, rows

X, Y = rows(7), rows(5, seed=1)
INNER = NTK(depth=2, bias_var=0.3)


@pytest.mark.parametrize("A", [MAP, MAP[:, :2], MAP[:, :1]], ids=["square", "plane", "line"])
def test_mapped_equals_the_kernel_of_mapped_rows(A):
    kernel = Mapped(INNER, A)
    np.testing.assert_allclose(kernel(X, Y), INNER(X @ A, Y @ A), rtol=1e-12)
    np.testing.assert_allclose(kernel(X), INNER(X @ A), rtol=1e-12)
    np.testing.assert_allclose(kernel.diag(X), INNER.diag(X @ A), rtol=1e-12)
    np.testing.assert_allclose(kernel.map_rows(X), X @ A, rtol=1e-14)


def test_mapped_scales_equal_a_diagonal_map_and_input_scales():
    scales = [0.5, 0.0, 2.0]
    K = Mapped(INNER, scales)(X, Y)
    np.testing.assert_allclose(K, Mapped(INNER, np.diag(scales))(X, Y), rtol=1e-12)
    own = NTK(depth=2, bias_var=0.3, input_scale=scales, normalize=False)
    plain = NTK(depth=2, bias_var=0.3, normalize=False)
    np.testing.assert_allclose(Mapped(plain, scales)(X, Y), own(X, Y), rtol=1e-12)


def test_mapped_with_a_number_scales_all_columns():
    np.testing.assert_allclose(Mapped(INNER, 2.0)(X, Y), INNER(2.0 * X, 2.0 * Y), rtol=1e-12)
    np.testing.assert_array_equal(Mapped(INNER)(X), INNER(X))


def test_mapped_matmul_and_gram_path_equal_their_definitions():
    kernel, v = Mapped(INNER, MAP), np.arange(5.0)
    np.testing.assert_allclose(kernel.matmul(X, Y, v), kernel(X, Y) @ v, rtol=1e-10)
    found = {p["kernel__depth"]: K for p, K in kernel.gram_path(X, Y, kernel__depth=[1, 3])}
    np.testing.assert_allclose(found[3], NTK(3, bias_var=0.3)(X @ MAP, Y @ MAP), rtol=1e-12)


def test_mapped_networks_before_training_see_mapped_rows():
    kernel = Mapped(INNER, MAP)
    nngp, ntk = kernel.joint(X)
    np.testing.assert_allclose(ntk, kernel(X), rtol=1e-12)
    np.testing.assert_allclose(nngp, INNER.joint(X @ MAP)[0], rtol=1e-12)
    np.testing.assert_allclose(kernel.nngp()(X), INNER.nngp()(X @ MAP), rtol=1e-12)
    np.testing.assert_allclose(kernel.joint_diag(X)[0], np.diag(nngp), rtol=1e-12)


def test_mapped_images_keep_their_shape():
    network = NetworkKernel(IMAGE_NETWORKS["pool"], image_shape=(1, 1, 3))
    np.testing.assert_allclose(Mapped(network, MAP)(X), network(X @ MAP), rtol=1e-10)


@pytest.mark.parametrize(
    ("A", "match"),
    [
        (np.ones(4), r"shape \(4,\); expected a number, \(3,\)"),
        (np.ones((2, 3)), r"shape \(2, 3\)"),
        (np.ones((3, 3, 1)), r"shape \(3, 3, 1\)"),
        ([1.0, np.nan, 1.0], "not finite"),
    ],
)
def test_mapped_refuses_maps_that_do_not_fit(A, match):
    with pytest.raises(ValueError, match=match):
        Mapped(INNER, A)(X)


def test_mapped_checks_what_the_inner_kernel_sees():
    with pytest.raises(ValueError, match="input_scale"):
        Mapped(NTK(input_scale=[1.0, 2.0, 3.0]), MAP[:, :2])(X)


def test_mapped_leaves_the_map_to_no_optimizer():
    kernel = Mapped(NNGP(depth=1, bias_var=0.2), [1.0, 2.0, 3.0])
    assert [h.name for h in kernel.hyperparameters if not h.fixed] == ["kernel__bias_var"]
    kernel.theta = np.log([0.5])
    assert kernel.kernel.bias_var == pytest.approx(0.5)
    assert kernel.feature_map == [1.0, 2.0, 3.0]


# --- gradients at rows ----------------------------------------------------------------------------


def of_rows(kernel, X, Y, v, h=1e-5):
    """Finite differences of K(x, Y) v at every row."""
    out = np.empty_like(X)
    for j in range(X.shape[1]):
        step = np.zeros_like(X)
        step[:, j] = h
        out[:, j] = (kernel(X + step, Y) - kernel(X - step, Y)) @ v / (2.0 * h)
    return out


@pytest.mark.parametrize("name", ["ntk_bias", "nngp_gelu", "mapped", "nested", "network_residual"])
def test_row_gradients_equal_finite_differences(name):
    kernel, v = KERNELS[name], np.array([1.0, -2.0, 0.5, 3.0, -1.0])
    # Central differences err by h^2 times third derivatives.
    np.testing.assert_allclose(
        kernel.row_gradients(X, Y, v), of_rows(kernel, X, Y, v), rtol=1e-6, atol=1e-7
    )


def test_row_gradients_are_those_of_vjp_with_equal_rows():
    kernel, v = Normalized(INNER), np.array([1.0, -2.0, 0.5, 3.0, -1.0])
    expected = kernel.vjp(X, Y, np.tile(v, (len(X), 1))).X
    np.testing.assert_allclose(kernel.row_gradients(X, Y, v), expected, rtol=1e-12)


def test_row_gradients_at_the_rows_themselves_hold_the_columns_fixed():
    v = np.linspace(-1.0, 1.0, len(X))
    copy = kernel_gradient = INNER.row_gradients(X, X, v)
    np.testing.assert_allclose(copy, INNER.row_gradients(X, X.copy(), v), rtol=1e-12)
    both = INNER.vjp(X, None, np.tile(v, (len(X), 1))).X
    assert np.abs(both - kernel_gradient).max() > 1e-3


def test_row_gradients_are_finite_at_degenerate_rows():
    Z = degenerate_rows()
    assert np.isfinite(INNER.row_gradients(Z, Z, np.ones(len(Z)))).all()


def test_row_gradients_of_tensors_are_tensors():
    found = INNER.row_gradients(torch.from_numpy(X), torch.from_numpy(Y), torch.ones(5))
    assert isinstance(found, torch.Tensor)
    assert not found.requires_grad


def test_row_gradients_refuse_coefficients_of_another_length():
    with pytest.raises(ValueError, match=r"`v` has shape \(3,\); expected \(5,\)"):
        INNER.row_gradients(X, Y, np.ones(3))


def test_row_gradients_of_foreign_kernels_do_not_exist():
    with pytest.raises(NotImplementedError, match="without row gradients"):
        Foreign(RBF()).row_gradients(X, Y, np.ones(5))
