"""Exponential linear units: sectors against polar grids, at all variances and angles."""

import math

import numpy as np
import pytest
import torch

from sknk.kernels import ELU, NNGP, NTK, SELU
from tests.cases import degenerate_rows
from tests.kernels.probes import activate, one, state_of_variances
from tests.reference.kernels import abrelu, polar

UNITS = {"elu": ELU(), "elu_kinked": ELU(alpha=0.3), "selu": SELU()}


def at_angle(activation, theta, q1, q2):
    half = theta / 2
    pairs = {"sin2": one(math.sin(half) ** 2), "cos2": one(math.cos(half) ** 2), "ntk": one(1.0)}
    return activate(activation, state_of_variances([q1], [q2], **pairs))


def functions(activation):
    scale, alpha = activation.constants
    return (
        lambda x: scale * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0.0))),
        lambda x: scale * np.where(x > 0, 1.0, alpha * np.exp(np.minimum(x, 0.0))),
    )


@pytest.mark.parametrize("activation", UNITS.values(), ids=UNITS)
@pytest.mark.parametrize("theta", [0.0, 1e-3, 0.6, 1.6, 3.0, math.pi])
@pytest.mark.parametrize(("q1", "q2"), [(1e-4, 1e-4), (1.0, 0.3), (10.0, 10.0), (60.0, 2.0)])
def test_duals_equal_polar_grids(activation, theta, q1, q2):
    after = at_angle(activation, theta, q1, q2)
    grid, scale = (q1, None, q2, theta, 120, 240), math.sqrt(q1 * q2)
    value, slope = (polar(f, *grid) for f in functions(activation))
    assert after.nngp.item() == pytest.approx(value, abs=1e-12 * scale)
    assert after.tangents.item() == pytest.approx(slope, abs=1e-12)


@pytest.mark.parametrize("activation", UNITS.values(), ids=UNITS)
def test_variance_after_the_layer_is_the_dual_at_itself(activation):
    for q in (0.0, 1e-8, 1e-3, 0.2, 0.26, 1.0, 30.0, 300.0):
        after = at_angle(activation, 0.0, q, q)
        assert after.x.var.item() == pytest.approx(
            after.nngp.item(), rel=1e-11 + 1e-16 / (q + 1e-9)
        )


def test_short_rows_see_a_leaky_rectifier():
    # phi(x) = x right and alpha x left of zero, up to x^2.
    q1, q, q2 = 1e-8, -0.4e-8, 2e-8
    after = at_angle(ELU(alpha=0.3), math.acos(q / math.sqrt(q1 * q2)), q1, q2)
    value, dot = abrelu(0.3, 1.0, q1, q, q2)
    assert after.nngp.item() == pytest.approx(value, abs=1e-3 * q1)
    assert after.tangents.item() == pytest.approx(dot, abs=1e-3)


def test_selu_keeps_unit_variance_and_mean_zero():
    assert SELU().second_moment(one(1.0)).item() == pytest.approx(1.0, rel=1e-13)
    assert at_angle(SELU(), math.pi / 2, 1.0, 1.0).nngp.item() == pytest.approx(0.0, abs=1e-13)


def test_own_function_is_torchs():
    x = torch.linspace(-4.0, 4.0, 33, dtype=torch.float64)
    np.testing.assert_allclose(SELU()(x), torch.selu(x), rtol=1e-14)
    np.testing.assert_allclose(ELU(0.3)(x), torch.nn.functional.elu(x, 0.3), rtol=1e-14)


@pytest.mark.parametrize("activation", ["elu", "selu"])
def test_copies_stay_copies_below_several_layers(activation):
    X = degenerate_rows()
    K = NTK(depth=4, activation=activation)(X)
    np.testing.assert_allclose(K[11], K[0], rtol=1e-12, atol=1e-12 * np.abs(K).max())


@pytest.mark.parametrize("activation", ["elu", "selu"])
def test_gradients_of_both_modes_agree(activation):
    X, W = degenerate_rows(), np.random.default_rng(0).standard_normal((12, 12))
    kernel = NTK(depth=2, activation=activation, bias_var=0.2, weight_var_bounds=(1e-3, 1e3))
    forward = kernel(X, eval_gradient=True)[1]  # differentiates the sum itself
    theta = kernel.vjp(X, None, W).theta
    np.testing.assert_allclose(theta, np.einsum("ij,ijk->k", W, forward), rtol=1e-10)


def test_scale_is_that_of_the_paper():
    x = torch.tensor([1.0], dtype=torch.float64)
    assert SELU()(x).item() == pytest.approx(1.0507009873554805, rel=1e-15)
    assert NNGP(depth=1, activation=ELU(0.5)) == NNGP(depth=1, activation=ELU(alpha=0.5))
