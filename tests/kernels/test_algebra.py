"""Sum, Product, Scale, Constant, Normalized: arithmetic, nesting, theta, and sklearn's kernels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.gaussian_process import kernels as sk

from sknk.kernels import NNGP, NTK, Constant, Normalized, Product, Scale, Sum
from tests.cases import rows

X, Y = rows(6), rows(4, seed=1)
A, B = NTK(depth=1, bias_var=0.1), NNGP(depth=2, bias_var=0.3)
SAME = {"rtol": 1e-14, "atol": 1e-15}


def test_sum_adds_and_product_multiplies():
    np.testing.assert_allclose((A + B)(X, Y), A(X, Y) + B(X, Y), **SAME)
    np.testing.assert_allclose((A * B)(X, Y), A(X, Y) * B(X, Y), **SAME)
    np.testing.assert_allclose((A + B).diag(X), A.diag(X) + B.diag(X), **SAME)
    np.testing.assert_allclose((A * B).diag(X), A.diag(X) * B.diag(X), **SAME)


@given(number=st.floats(1e-3, 1e3))
def test_numbers_become_constants_and_scales(number):
    for kernel in (A + number, number + A):
        assert isinstance(kernel, Sum)
        np.testing.assert_allclose(kernel(X), A(X) + number, **SAME)
    for kernel in (A * number, number * A):
        assert kernel == Scale(A, number)
        np.testing.assert_allclose(kernel(X), A(X) * number, rtol=1e-14)


@pytest.mark.parametrize("two", [2, np.float64(2), np.float32(2), np.int64(2)])
def test_every_kind_of_number_is_a_number(two):
    assert two * A == A * two == Scale(A, 2.0)
    assert A + two == Sum(A, Constant(2.0))
    assert two + A == Sum(Constant(2.0), A)


@pytest.mark.parametrize("other", [None, "a", [1.0], 1j], ids=repr)
def test_other_operands_raise(other):
    for operation in (lambda: A + other, lambda: other + A, lambda: A * other, lambda: other * A):
        with pytest.raises(TypeError):
            operation()


def test_sklearn_kernels_make_sklearn_composites():
    rbf = sk.RBF(0.7)
    for mixed, cls in (
        (A + rbf, sk.Sum),
        (rbf + A, sk.Sum),
        (A * rbf, sk.Product),
        (rbf * A, sk.Product),
    ):
        assert type(mixed) is cls
        assert len(mixed.theta) == 2
    np.testing.assert_allclose((A + rbf)(X, Y), A(X, Y) + rbf(X, Y), **SAME)
    np.testing.assert_allclose((rbf * A)(X, Y), rbf(X, Y) * A(X, Y), **SAME)
    np.testing.assert_allclose((A**2)(X), A(X) ** 2, **SAME)


def test_sklearn_composite_differentiates_ours():
    mixed = sk.ConstantKernel(2.0) * A + sk.WhiteKernel(0.1)
    K, gradient = mixed(X, eval_gradient=True)
    assert gradient.shape == (6, 6, 3)
    step = np.array([0.0, 1e-6, 0.0])
    up, down = (mixed.clone_with_theta(mixed.theta + s * step)(X) for s in (1, -1))
    np.testing.assert_allclose(gradient[:, :, 1], (up - down) / 2e-6, atol=1e-8)
    np.testing.assert_allclose(K, 2.0 * A(X) + 0.1 * np.eye(6), **SAME)


def test_nested_parameters_are_read_and_set():
    kernel = 2.0 * (A + Normalized(B))
    params = kernel.get_params()
    assert params["scale"] == 2.0
    assert params["kernel__k1__bias_var"] == 0.1
    assert params["kernel__k2__kernel__depth"] == 2
    kernel = clone(kernel).set_params(kernel__k2__kernel__depth=5, scale=3.0)
    assert kernel == 3.0 * (A + Normalized(NNGP(depth=5, bias_var=0.3)))


def test_whole_parts_are_replaced():
    kernel = clone(A + B).set_params(k2=NTK(depth=4))
    assert kernel == A + NTK(depth=4)
    assert set(kernel.get_params(deep=False)) == {"k1", "k2"}


def test_unknown_parameter_raises():
    for name in ("k3__depth", "k1__deep", "deep"):
        with pytest.raises(ValueError, match="Invalid parameter"):
            clone(A + B).set_params(**{name: 1})


def test_theta_and_bounds_list_own_then_parts_in_order():
    ard = NTK(depth=1, input_scale=[1.0, 2.0, 3.0], input_scale_bounds=(0.1, 10.0))
    kernel = Scale(Sum(A, ard), 5.0, (0.5, 50.0))
    np.testing.assert_allclose(np.exp(kernel.theta), [5.0, 0.1, 1.0, 2.0, 3.0])
    wanted = [[0.5, 50.0], [1e-5, 1e5]] + 3 * [[0.1, 10.0]]
    np.testing.assert_allclose(np.exp(kernel.bounds), wanted)
    names = [h.name for h in kernel.hyperparameters if not h.fixed]
    assert names == ["scale", "kernel__k1__bias_var", "kernel__k2__input_scale"]


def test_theta_reaches_every_part():
    kernel = clone(Scale(A * B, 5.0))
    kernel.theta = np.log([7.0, 0.2, 0.4])
    assert (kernel.scale, kernel.kernel.k1.bias_var, kernel.kernel.k2.bias_var) == pytest.approx(
        (7.0, 0.2, 0.4)
    )


def test_fixed_and_zero_parameters_are_left_out_of_theta():
    assert Scale(NTK(), 2.0, "fixed").n_dims == 0
    assert Scale(NTK(), 0.0).n_dims == 0
    assert NTK(bias_var=0.0).n_dims == 0
    assert NTK(bias_var=0.1, bias_var_bounds="fixed").n_dims == 0
    assert NTK(input_scale=[1.0, 0.0], input_scale_bounds=(0.1, 1.0)).n_dims == 0
    assert (NTK() + NTK()).bounds.shape == (0, 2)


def test_normalized_has_a_unit_diagonal_for_every_norm():
    table = np.vstack([X, 1e6 * X, 1e-6 * X])
    K = Normalized(A)(table)
    np.testing.assert_allclose(np.diag(K), 1.0, rtol=1e-14)
    d = np.sqrt(A.diag(table))
    np.testing.assert_allclose(K, A(table) / np.outer(d, d), rtol=1e-12)


def test_normalized_of_a_zero_row_is_zero():
    table = np.vstack([X, np.zeros(3)])
    K = Normalized(NTK())(table)
    assert not K[-1].any()
    np.testing.assert_array_equal(Normalized(NTK()).diag(table), [1.0] * 6 + [0.0])


def test_normalized_ignores_constants():
    for kernel in (2.0 * A, NTK(depth=1, bias_var=0.1, normalize=False)):
        np.testing.assert_allclose(Normalized(kernel)(X), Normalized(A)(X), rtol=1e-14)


def test_constant_is_an_intercept():
    np.testing.assert_array_equal(Constant(0.7)(X, Y), np.full((6, 4), 0.7))
    np.testing.assert_allclose(Constant(0.7).matmul(X, Y, np.arange(4.0)), 0.7 * 6.0)


def test_composites_refuse_parts_that_are_no_kernels():
    for kernel, name in (
        (Sum(A, 3.0), "k2"),
        (Product(sk.RBF(), A), "k1"),
        (Normalized("ntk"), "kernel"),
    ):
        with pytest.raises(TypeError, match=f"`{name}` of .*; expected an sknk kernel"):
            kernel(X)


@pytest.mark.parametrize("value", [-1.0, np.inf, np.nan, "a", None])
def test_scale_and_constant_refuse_impossible_values(value):
    with pytest.raises((ValueError, TypeError), match=r"`scale` is .*; expected a finite number"):
        Scale(A, value)(X)
    with pytest.raises((ValueError, TypeError), match=r"`value` is .*; expected a finite number"):
        Constant(value)(X)


def test_parameters_of_parts_are_checked():
    with pytest.raises(ValueError, match="`depth` of NNGP is -1"):
        (A * NNGP(depth=-1))(X)
