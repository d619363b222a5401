"""The optimal-depth kernel: its network, its constant diagonal, its limit, any depth."""

import math

import mpmath
import numpy as np
import pytest
import torch

from sknk.kernels import NTK, NetworkKernel, Normalized, OptimalDepthNTK, OptimalPolynomial
from tests.cases import degenerate_rows, rows

DIMENSIONS = [2, 3, 4.5, 10]


def units(n, d=4, seed=0):
    """Unit rows in the positive orthant."""
    x = np.abs(rows(n, d, seed))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def circle(*angles):
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


@pytest.mark.parametrize("d", DIMENSIONS)
def test_polynomial_has_its_dual_at_unit_variance(d):
    one, c = torch.ones(9).double(), torch.linspace(-1, 1, 9).double()
    odd = 2.0 ** (-d / 2)
    phi = OptimalPolynomial(d)
    wanted = odd * (c + c**3) + (1 - 2 * odd) * c**2
    np.testing.assert_allclose(phi.dual(one, c, one), wanted, atol=1e-14)
    slope = odd * (1 + 3 * c**2) + 2 * (1 - 2 * odd) * c
    np.testing.assert_allclose(phi.dual_dot(one, c, one), slope, atol=1e-14)


@pytest.mark.parametrize("d", DIMENSIONS)
def test_polynomial_is_singular_of_order_d(d):
    one, zero = torch.ones(1).double(), torch.zeros(1).double()
    phi = OptimalPolynomial(d)
    assert phi.dual(one, zero, one).item() == pytest.approx(0.0, abs=1e-15)  # centred
    slopes = [phi.dual_dot(one, c, one).item() for c in (zero, one)]
    assert -2 * math.log(slopes[0]) / math.log(slopes[1]) == pytest.approx(d, rel=1e-13)


@pytest.mark.parametrize("d", DIMENSIONS)
@pytest.mark.parametrize("depth", [0, 1, 2, 7])
def test_kernel_is_the_normalized_ntk_of_the_polynomial(d, depth):
    X = units(6)
    network = NTK(depth, activation=OptimalPolynomial(d), weight_var=1.0)
    wanted = Normalized(network)(2.0 * X)  # squared norm 4 = d: unit variances at the input
    np.testing.assert_allclose(OptimalDepthNTK(d, depth)(X), wanted, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("depth", [3, 50, 300])
@pytest.mark.parametrize("angle", [1e-12, 1e-6, 0.01, 0.8, 1.5])
def test_kernel_is_exact_at_any_depth(depth, angle):
    x = circle(0.0, angle)
    with mpmath.workdps(60):
        # Of the rows as rounded.
        a, b = (mpmath.matrix([mpmath.mpf(float(v)) for v in row]) for row in x)
        c = (a.T * b)[0] / (mpmath.norm(a) * mpmath.norm(b))
        odd, K, diagonal = mpmath.mpf(2) ** (-mpmath.mpf(3) / 2), c, mpmath.mpf(1)
        for _ in range(depth):
            slope = odd * (1 + 3 * c * c) + 2 * (1 - 2 * odd) * c
            c = odd * (c + c**3) + (1 - 2 * odd) * c * c
            K, diagonal = c + slope * K, 1 + 2 * diagonal
        wanted = float(K / diagonal)
    found = OptimalDepthNTK(3, depth)(x)[0, 1]
    # K goes like distances to the power -5, which unit rows resolve to 1e-16.
    assert found == pytest.approx(wanted, rel=1e-12 + 1e-15 / angle, abs=1e-300)


def test_diagonal_is_one_and_zero_for_zero_rows():
    X = degenerate_rows()
    K = OptimalDepthNTK(3, 20)
    wanted = X.any(axis=1).astype(float)
    np.testing.assert_array_equal(K.diag(X), wanted)
    np.testing.assert_allclose(np.diag(K(X)), wanted, rtol=1e-13)
    np.testing.assert_allclose(np.diag(K(X, X.copy())), wanted, rtol=1e-13)


def test_kernel_sees_directions_only():
    X, kernel = units(6), OptimalDepthNTK(4, 12)
    scales = np.linspace(0.1, 5.0, 6)[:, None]
    np.testing.assert_allclose(kernel(scales * X), kernel(X), rtol=1e-9)


@pytest.mark.parametrize("d", [2, 4])
def test_deep_kernel_is_singular_of_order_d(d):
    # 2^((1 + d/2) L) K_L = A(x, x') L + B(x, x'), A the limit of the theory: of order d.
    angles, factor = np.array([0.001, 0.002, 0.004]), 2.0 ** (1 + d / 2)
    table = circle(*angles)
    deep, deeper = (
        factor**depth * OptimalDepthNTK(d, depth)(circle(0.0), table)[0] for depth in (60, 61)
    )
    orders = -np.diff(np.log(deeper - deep)) / np.log(2.0)
    np.testing.assert_allclose(orders, d, atol=0.05)
    # B, which outweighs A at distances below depth^(-1/2), is of order d + 2.
    np.testing.assert_allclose(-np.diff(np.log(deep)) / np.log(2.0), d + 2, atol=0.05)


def test_deep_classifier_weighs_by_singular_distances():
    # One label next door against thirty at twice the distance: the nearest neighbour is outvoted,
    # thirty at thirty times the distance lose, which a majority vote would not see.
    kernel, x, near = OptimalDepthNTK(2, 400), circle(0.0), circle(0.2)
    for angle, outvoted in ((0.4, True), (1.5, False)):
        others = circle(*np.full(30, angle))
        assert (kernel(x, others).sum() > kernel(x, near).sum()) == outvoted


def test_polynomial_joins_networks():
    from sknk.kernels import Dense

    dense = Dense(weight_var=1.0)
    network = dense >> OptimalPolynomial(3) >> dense
    found = NetworkKernel(network, normalize=False)(2.0 * units(4))
    wanted = NTK(depth=1, activation=OptimalPolynomial(3), weight_var=1.0, normalize=False)
    np.testing.assert_allclose(found, wanted(2.0 * units(4)), rtol=1e-13)


@pytest.mark.parametrize("d", [1, 1.9, 0, -3, float("nan"), float("inf")])
def test_dimension_below_two_raises(d):
    for use in (lambda: OptimalDepthNTK(intrinsic_dim=d)(units(2)), lambda: OptimalPolynomial(d)):
        with pytest.raises(ValueError, match=r"`intrinsic_dim` of .* is .*; expected 2 or more\."):
            use()


def test_parameters_of_wrong_type_raise():
    with pytest.raises(TypeError, match=r"`intrinsic_dim` of .* is '2'; expected a number"):
        OptimalDepthNTK("2")(units(2))
    with pytest.raises(TypeError, match=r"`depth` of OptimalDepthNTK is 1\.5; expected an integer"):
        OptimalDepthNTK(depth=1.5)(units(2))
    with pytest.raises(ValueError, match="`depth` of OptimalDepthNTK is -1; expected 0 or more"):
        OptimalDepthNTK(depth=-1)(units(2))
