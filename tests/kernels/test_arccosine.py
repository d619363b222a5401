"""Arc-cosine kernels of every order: closed forms, identities, and angles to their last digits."""

import math

import mpmath
import numpy as np
import pytest
import torch

from sknk.kernels import NNGP, NTK, RectifiedMonomial, ReLU, Step
from tests.cases import degenerate_rows, rows
from tests.kernels.probes import activate, one, state_of_variances

ORDERS = [0, 1, 2, 3, 5, 8]


def exact_j(order, theta):
    """J_n = (-1)^n (sin t)^(2n + 1) (1/sin t d/dt)^n ((pi - t)/sin t), 60 digits."""
    with mpmath.workdps(60):
        theta = mpmath.mpf(theta)
        rest = mpmath.pi - theta
        before, now = rest, mpmath.sin(theta) + rest * mpmath.cos(theta)
        if order == 0:
            return before
        for n in range(2, order + 1):
            bend = (n - 1) ** 2 * mpmath.sin(theta) ** 2
            before, now = now, (2 * n - 1) * mpmath.cos(theta) * now + bend * before
        return now


def at_angle(activation, theta, q1=1.0, q2=1.0):
    half = theta / 2
    pairs = {"sin2": one(math.sin(half) ** 2), "cos2": one(math.cos(half) ** 2), "ntk": one(1.0)}
    return activate(activation, state_of_variances([q1], [q2], **pairs))


def odd_factorial(n):
    return math.prod(range(1, 2 * n, 2))


@pytest.mark.parametrize("theta", [0.0, 0.4, 1.5, 2.9, math.pi])
def test_orders_to_three_have_the_closed_forms_of_cho_and_saul(theta):
    s, c, rest = math.sin(theta), math.cos(theta), math.pi - theta
    closed = {
        0: rest,
        1: s + rest * c,
        2: 3 * s * c + rest * (1 + 2 * c * c),
        3: 4 * s**3 + 15 * s * c * c + rest * (9 * c + 6 * c**3),
    }
    for order, wanted in closed.items():
        after = at_angle(RectifiedMonomial(order), theta, 0.7, 1.9)
        r = math.sqrt(0.7 * 1.9)
        assert after.nngp.item() == pytest.approx(r**order * wanted / (2 * math.pi), abs=1e-14)
        if order:
            dot = order**2 * r ** (order - 1) * closed[order - 1] / (2 * math.pi)
            assert after.tangents.item() == pytest.approx(dot, abs=3e-14)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("theta", [1e-9, 1e-5, 1e-2, 0.5, 1.7, 3.0, math.pi - 1e-6])
def test_layer_keeps_angles_to_rounding_at_every_angle(order, theta):
    after = at_angle(RectifiedMonomial(order), theta)
    with mpmath.workdps(60):
        sin2 = (1 - exact_j(order, theta) / exact_j(order, 0)) / 2
        wanted = float(mpmath.asin(mpmath.sqrt(sin2)))
    # The angle itself is right to a few roundings, not its square only.
    assert math.asin(math.sqrt(after.sin2.item())) == pytest.approx(wanted, rel=1e-14, abs=2e-15)
    if order:
        dot = order**2 * exact_j(order - 1, theta) / (2 * mpmath.pi)
        scale = order**2 * odd_factorial(order - 1) / 2
        assert after.tangents.item() == pytest.approx(float(dot), abs=1e-14 * scale)


@pytest.mark.parametrize("order", ORDERS)
def test_variance_after_the_layer_is_half_a_gaussian_moment(order):
    variances = torch.tensor([0.0, 0.3, 2.0], dtype=torch.float64)
    found = RectifiedMonomial(order).second_moment(variances)
    wanted = odd_factorial(order) / 2 * variances**order * (variances > 0)
    assert found.dtype is torch.float64
    np.testing.assert_allclose(found, wanted, rtol=1e-15)


def test_order_zero_is_the_step_and_order_one_the_rectifier():
    X = degenerate_rows()
    for kernel in (NTK(depth=2, bias_var=0.1), NNGP(depth=3)):
        for degree, same in ((0, Step()), (1, ReLU())):
            found = kernel.clone_with_params({"activation": RectifiedMonomial(degree)})(X)
            wanted = kernel.clone_with_params({"activation": same})(X)
            # The deficit (sin - theta cos) is written in another order: a rounding of the angle.
            np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-13)


def test_rectified_monomials_split_into_even_and_odd_monomials():
    # max(x, 0)^2 is half x^2 plus half x|x|, and max(x, 0)^2 - max(-x, 0)^2 = x|x| is odd.
    q1, q, q2 = 0.8, 0.3, 1.7
    half = math.acos(q / math.sqrt(q1 * q2)) / 2
    near = at_angle(RectifiedMonomial(2), 2 * half, q1, q2).nngp.item()
    far = at_angle(RectifiedMonomial(2), math.pi - 2 * half, q1, q2).nngp.item()
    assert 2 * (near + far) == pytest.approx(2 * q * q + q1 * q2, rel=1e-13)  # E[u^2 v^2]


def test_step_has_a_kernel_without_tangents():
    X = rows(6)
    params = {"depth": 2, "activation": "step", "bias_var": 0.2}
    np.testing.assert_array_equal(NTK(**params)(X), NNGP(**params)(X))


def test_step_of_a_zero_row_is_zero():
    X = degenerate_rows()
    assert not NNGP(depth=2, activation="step")(X)[~X.any(axis=1)].any()


@pytest.mark.parametrize("degree", [-1, 1.5, True, "2"])
def test_impossible_degrees_raise(degree):
    with pytest.raises(ValueError, match=r"`degree` of RectifiedMonomial is .*; expected a whole"):
        RectifiedMonomial(degree)
