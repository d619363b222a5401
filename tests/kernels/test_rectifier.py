"""Rectifiers: angles to their last digits, and the layer on states."""

import math
from decimal import Decimal, localcontext

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sknk.kernels import ABReLU, Abs, LeakyReLU, ReLU
from sknk.kernels._activation import as_activation
from sknk.kernels._recursion import Recursion, diagonals
from tests.kernels.probes import activate, one, state_of_variances
from tests.reference.kernels import abrelu


def exact_deficit(theta):
    """sin t - t cos t = sum (-1)^k (2k + 2)/(2k + 3)! t^(2k + 3), to 50 digits."""
    with localcontext(prec=50):
        t = Decimal(float(theta))
        terms = (
            (-1) ** k * (2 * k + 2) * t ** (2 * k + 3) / math.factorial(2 * k + 3)
            for k in range(30)
        )
        return sum(terms, Decimal(0))


def angles(dtype):
    grid = np.concatenate([np.linspace(0.0, np.pi, 500), np.logspace(-8, 0.49, 300)])
    return np.minimum(grid.astype(dtype), np.nextafter(dtype(np.pi), dtype(0)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_layer_keeps_angles_to_rounding_at_every_angle(dtype):
    # The deficit itself cancels near zero; what must not is the angle that it leaves.
    theta = angles(dtype)
    sin2, cos2 = np.sin(theta / 2) ** 2, np.cos(theta / 2) ** 2
    pairs = {"sin2": torch.from_numpy(sin2)[:, None], "cos2": torch.from_numpy(cos2)[:, None]}
    found = activate(ReLU(), state_of_variances(np.ones(len(theta)), [1.0], **pairs)).sin2
    deficits = np.array([float(exact_deficit(t)) for t in theta.astype(np.float64)])
    wanted = np.sin(theta.astype(np.float64) / 2) ** 2 - deficits / (2 * np.pi)
    half_angles = np.arcsin(np.sqrt(found[:, 0].numpy().astype(np.float64)))
    limit = 4 * np.finfo(dtype).eps  # a handful of roundings of numbers up to one
    np.testing.assert_allclose(half_angles, np.arcsin(np.sqrt(wanted)), rtol=0, atol=limit)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_layer_keeps_coincident_rows_coincident(dtype):
    pairs = {"sin2": torch.zeros(1, 1, dtype=dtype)}
    assert activate(ReLU(), state_of_variances([1.0], [1.0], **pairs)).sin2.item() == 0.0


@given(theta=st.floats(0.0, math.pi), a=st.floats(-2.0, 2.0), b=st.floats(0.1, 2.0))
def test_layer_equals_the_split_into_odd_and_even_parts(theta, a, b):
    half = one(theta / 2)
    pairs = {"sin2": half.sin() ** 2, "cos2": half.cos() ** 2, "ntk": one(1.0)}
    after = activate(ABReLU(a, b), state_of_variances([0.7], [1.9], **pairs))
    value, dot = abrelu(a, b, 0.7, np.sqrt(0.7 * 1.9) * np.cos(theta), 1.9)
    # The oracle's arcsin loses half the digits at its ends, times slopes of at most two.
    assert after.nngp.item() == pytest.approx(value, abs=1e-7)
    assert after.tangents.item() == pytest.approx(dot, abs=1e-7)


@pytest.mark.parametrize("activation", [ReLU(), LeakyReLU(0.3), ABReLU(-0.5, 2.0), Abs()], ids=repr)
def test_variance_after_the_layer_is_the_mean_square_slope(activation):
    a, b = activation.slopes
    variances = np.array([0.0, 0.3, 7.0])
    ones = torch.ones(3, 3, dtype=torch.float64)
    after = activate(activation, state_of_variances(variances, variances, sin2=0 * ones, cos2=ones))
    np.testing.assert_allclose(after.x.var[:, 0], (a * a + b * b) / 2 * variances, rtol=1e-15)
    np.testing.assert_allclose(after.y.var[0], after.x.var[:, 0])


def test_abs_maps_antipodal_rows_to_coincident_ones():
    antipodal = state_of_variances([1.0], [1.0], sin2=one(1.0), cos2=one(0.0))
    coincident = state_of_variances([1.0], [1.0], sin2=one(0.0), cos2=one(1.0))
    assert activate(Abs(), antipodal).nngp.item() == 1.0
    assert activate(Abs(), coincident).nngp.item() == 1.0


@pytest.mark.parametrize("slope", [1.0, 2.5])
def test_linear_rectifier_is_the_identity_up_to_scale(slope):
    state = state_of_variances([1.0], [1.0], sin2=one(0.3), cos2=one(0.7))
    after = activate(ABReLU(slope, slope), state)
    np.testing.assert_allclose(after.nngp.item(), slope**2 * 0.4, rtol=1e-15)


@pytest.mark.parametrize(("a", "b"), [(0.0, 0.0), (float("nan"), 1.0), (1.0, float("inf"))])
def test_impossible_slopes_raise(a, b):
    with pytest.raises(ValueError, match=r"ABReLU\(.*has slopes .*; expected finite slopes"):
        ABReLU(a, b)


@pytest.mark.parametrize("activation", ["relu", LeakyReLU(0.3), ABReLU(-0.5, 1.5), Abs()])
@pytest.mark.parametrize("fan_ins", [None, (3, 512)])
def test_diagonals_that_are_written_down_are_those_of_the_layers(activation, fan_ins):
    outputs = ((3, "nngp"), (1, "ntk"), (3, "ntk"))
    recursion = Recursion(as_activation(activation), False, 1, fan_ins, outputs)
    var = torch.tensor([[0.0], [1e-6], [0.7], [1e6]], dtype=torch.float64)
    values = {"weight_var": torch.tensor(1.7).double(), "bias_var": torch.tensor(0.0).double()}
    assert recursion.homogeneous
    measured = diagonals(recursion, var, values)  # autograd goes through the layers
    with torch.no_grad():
        written = diagonals(recursion, var, values)
    torch.testing.assert_close(written, measured, rtol=1e-14, atol=0.0)


def test_biases_and_other_activations_are_not_homogeneous():
    for activation, biased in (("relu", True), ("erf", False)):
        assert not Recursion(as_activation(activation), biased, 0, None, ((1, "ntk"),)).homogeneous
