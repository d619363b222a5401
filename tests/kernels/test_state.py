"""Kernel states: angles from rows without cancellation, and the two ways to hold pairs."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sknk.kernels._state import Features, coincident_state, half_angle, reusable, safe_sqrt
from tests.cases import degenerate_rows, rows
from tests.kernels.probes import column, one, state_of_rows, state_of_variances


def turned(angle):
    """The unit row at an angle, and the first axis; exact to one rounding at any angle."""
    return np.array([[1.0, 0.0]]), np.array([[math.cos(angle), math.sin(angle)]])


def test_state_of_rows_reproduces_inner_products():
    x, y = rows(7, 4), rows(5, 4, seed=1)
    state = state_of_rows(x, y)
    np.testing.assert_allclose(state.nngp, x @ y.T / 4, rtol=1e-12, atol=1e-14)
    if state.cos2 is not None:
        np.testing.assert_allclose(state.sin2 + state.cos2, 1.0, rtol=1e-15)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("angle", [1.0, 1e-2, 1e-4, 1e-7, 1e-9])
def test_state_of_rows_resolves_small_and_nearly_straight_angles(angle, dtype):
    x, y = turned(angle)
    near, far = (state_of_rows(x, sign * y, dtype) for sign in (1.0, -1.0))
    # The float64 rows themselves are rounded: an absolute 1e-16 at distances down to 1e-9.
    rtol = 1e-6 if dtype is torch.float32 else 3e-7
    np.testing.assert_allclose(near.sin2.item(), math.sin(angle / 2) ** 2, rtol=rtol)
    cos2 = 1.0 - far.sin2 if far.cos2 is None else far.cos2  # carried where angles are obtuse
    np.testing.assert_allclose(cos2.item(), math.sin(angle / 2) ** 2, rtol=rtol)
    np.testing.assert_allclose((2 * half_angle(near.sin2, near.cos2)[2]).item(), angle, rtol=rtol)


def test_state_of_copies_has_angle_zero():
    x = rows(6)
    found = state_of_rows(x, x)
    assert found.sin2.diagonal().max() == 0.0
    # The smallest positive number keeps the square root differentiable.
    assert (2 * half_angle(found.sin2, found.cos2)[2]).diagonal().max() < 1e-150


def test_state_of_zero_rows_has_zero_covariance():
    state = state_of_rows(np.zeros((2, 3)), rows(4))
    assert not state.nngp.any()
    assert not state.x.var.any()


def test_state_of_rows_differentiates_at_degenerate_rows():
    x = torch.from_numpy(degenerate_rows()).requires_grad_()
    state = state_of_rows(x, x)
    (gradient,) = torch.autograd.grad(
        (2 * half_angle(state.sin2, state.cos2)[2]).sum() + state.nngp.sum(), x
    )
    assert gradient.isfinite().all()


def test_coincident_state_is_the_diagonal():
    features = Features.of(column([0.0, 0.5, 4.0]))
    state = coincident_state(features)
    np.testing.assert_allclose(state.nngp, features.var, rtol=1e-15)
    assert state.nngp.shape == (3, 1)
    assert not state.sin2.any()


@given(angle=st.floats(0.01, 3.13), v1=st.floats(1e-3, 1e3), v2=st.floats(1e-3, 1e3))
def test_covariance_and_angles_are_inverse(angle, v1, v2):
    x, y = turned(angle)
    state = state_of_rows(x * math.sqrt(v1), y * math.sqrt(v2))
    again = state.covariance().angular()
    np.testing.assert_allclose(again.sin2.item(), state.sin2.item(), rtol=1e-11)  # 1 - cos > 5e-5
    assert state.angular() is state
    assert state.covariance().sin2 is None


def test_angular_of_zero_variances_is_finite():
    state = state_of_variances([0.0], [0.0], cov=one(0.0)).angular()
    assert (2 * half_angle(state.sin2, state.cos2)[2]).isfinite().all()


def test_angular_clips_correlations_beyond_one():
    for sign, angle in ((1.0, 0.0), (-1.0, math.pi)):
        state = state_of_variances([1.0], [1.0], cov=sign * one(1.0 + 1e-15)).angular()
        assert (2 * half_angle(state.sin2, state.cos2)[2]).item() == pytest.approx(angle, abs=1e-7)


@pytest.mark.parametrize("with_cos2", [True, False])
def test_angle_gradient_is_finite_at_its_ends(with_cos2):
    sin2 = torch.tensor([[0.0, 0.25, 1.0]], dtype=torch.float64, requires_grad=True)
    pairs = {"sin2": sin2, "cos2": 1 - sin2} if with_cos2 else {"sin2": sin2}
    state = state_of_variances([1.0], [1.0, 1.0, 1.0], **pairs)
    (gradient,) = torch.autograd.grad((2 * half_angle(state.sin2, state.cos2)[2]).sum(), sin2)
    assert gradient.isfinite().all()
    # d theta / d sin^2(theta/2) = 2 / sin(theta), and sin(pi/3) = sqrt(3)/2.
    assert gradient[0, 1].item() == pytest.approx(4.0 / math.sqrt(3.0), rel=1e-14)


def test_features_turn_to_columns_and_dtypes():
    features = Features.of(column([1.0, 4.0]), *(column([0.1, 0.2]) for _ in range(3)))
    assert features.norm.tolist() == [[1.0], [2.0]]
    turned_features = features.columns.to(torch.float32)
    for tensor in (turned_features.var, turned_features.norm, *turned_features.tilt):
        assert tensor.shape == (1, 2)
        assert tensor.dtype is torch.float32


def test_safe_sqrt_has_slope_zero_at_zero():
    x = torch.tensor([0.0, 4.0], dtype=torch.float64, requires_grad=True)
    value = safe_sqrt(x)
    (gradient,) = torch.autograd.grad(value.sum(), x)
    assert value.tolist() == [0.0, 2.0]
    assert gradient.tolist() == [0.0, 0.25]


def test_temporaries_are_reused_only_without_autograd():
    x = torch.ones(2)
    assert reusable(x) is None
    with torch.no_grad():
        assert reusable(x) is x
