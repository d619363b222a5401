"""Whatever an estimator's `kernel` accepts, as one of our kernels."""

import numpy as np
import pytest
from sklearn.gaussian_process import kernels as sk

from sknk import _config
from sknk.kernels import NTK
from sknk.kernels._adapt import Foreign, as_kernel
from tests.cases import rows

X, Y = rows(9), rows(4, seed=1)
SKLEARN = [
    sk.RBF([0.5, 1.0, 2.0]),
    2.0 * sk.Matern(0.7) + sk.WhiteKernel(0.3),
    sk.RationalQuadratic(),
    sk.DotProduct() ** 2,
    sk.PairwiseKernel(metric="laplacian"),
]


def test_none_is_the_default_ntk():
    assert as_kernel(None) == NTK()


def test_own_kernels_pass_through():
    kernel = NTK(depth=2)
    assert as_kernel(kernel) is kernel


@pytest.mark.parametrize("kernel", SKLEARN, ids=repr)
@pytest.mark.parametrize("tile_size", [None, 4])
def test_sklearn_kernel_gives_its_own_gram(kernel, tile_size):
    ours = as_kernel(kernel)
    with _config.config_context(tile_size=tile_size):
        np.testing.assert_allclose(ours(X), kernel(X), rtol=1e-13)
        np.testing.assert_allclose(ours(X, Y), kernel(X, Y), rtol=1e-13)
        np.testing.assert_allclose(ours.matmul(X, None, X), kernel(X) @ X, rtol=1e-12, atol=1e-13)
    np.testing.assert_array_equal(ours.diag(X), kernel.diag(X))


def test_sklearn_kernel_follows_the_configured_dtype():
    with _config.config_context(dtype="float32"):
        found = as_kernel(sk.RBF())(X)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, sk.RBF()(X), rtol=1e-6)


def test_sklearn_kernel_changes_by_its_own_parameter_names():
    changed = as_kernel(sk.RBF()).clone_with_params({"length_scale": 0.3})
    assert isinstance(changed, Foreign)
    np.testing.assert_array_equal(changed(X), sk.RBF(0.3)(X))
    grams = [K for _, K in as_kernel(sk.RBF()).gram_path(X, length_scale=[0.3, 2.0])]
    np.testing.assert_array_equal(grams, [sk.RBF(0.3)(X), sk.RBF(2.0)(X)])


def test_sklearn_kernel_compares_by_value():
    assert as_kernel(sk.RBF(0.5)) == as_kernel(sk.RBF(0.5))
    assert as_kernel(sk.RBF(0.5)) != as_kernel(sk.RBF(0.6))


def test_sklearn_kernel_has_no_row_gradient():
    with pytest.raises(
        NotImplementedError, match=r"RBF\(length_scale=1\) is a scikit-learn kernel"
    ):
        as_kernel(sk.RBF()).vjp(X, None, np.ones((9, 9)))


def test_mixture_of_ours_and_sklearn_is_a_sklearn_kernel():
    mixed = NTK(depth=1) + sk.RBF()
    np.testing.assert_allclose(as_kernel(mixed)(X), mixed(X), rtol=1e-13)


@pytest.mark.parametrize(
    "kernel", ["rbf", 1.0, sk.RBF, lambda x: x], ids=["str", "float", "class", "callable"]
)
def test_anything_else_raises(kernel):
    with pytest.raises(TypeError, match=r"`kernel` is .*; expected None, an sknk kernel"):
        as_kernel(kernel)
