"""The sign and the normalized Gaussian: angles of every size, cusps, and their networks."""

import math

import numpy as np
import pytest
import torch

from sknk import _config
from sknk.kernels import NNGP, NTK, Erf, ExpNormalized, Normalized, Sign
from tests.cases import degenerate_rows, rows
from tests.kernels.probes import activate, one, state_of_variances


def at_angle(activation, theta, **pairs):
    half = theta / 2
    pairs = {"sin2": one(math.sin(half) ** 2), "cos2": one(math.cos(half) ** 2)} | pairs
    return activate(activation, state_of_variances([0.7], [1.9], **pairs))


@pytest.mark.parametrize("theta", [0.0, 1e-9, 1e-4, 0.3, 1.5, 3.0, math.pi - 1e-9, math.pi])
def test_sign_divides_the_angle_by_pi(theta):
    after = at_angle(Sign(), theta, ntk=one(1.0))
    assert after.sin2.item() == pytest.approx(theta / math.pi, rel=1e-14, abs=1e-300)
    # pi - theta itself is rounded to 4e-16.
    assert after.cos2.item() == pytest.approx(1.0 - theta / math.pi, rel=1e-14, abs=1e-15)
    assert after.tangents.item() == 0.0
    assert after.x.var.item() == after.y.var.item() == 1.0


def test_sign_of_a_zero_row_is_zero():
    X = degenerate_rows()
    K = NNGP(depth=2, activation="sign")(X)
    zero = ~X.any(axis=1)
    assert not K[zero].any()
    np.testing.assert_array_equal(np.diag(K)[~zero], 1.0)


@pytest.mark.parametrize("bias_var", [0.0, 0.2])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_signs_keep_copies_together_at_any_depth(bias_var, dtype):
    # Every layer takes the root of the angle: a rounding error of 1e-16 would become 1e-2.
    X = np.vstack([rows(5), 3.0 * rows(5) if not bias_var else rows(5)])
    with _config.config_context(dtype=dtype):
        K = Normalized(NNGP(depth=6, activation="sign", bias_var=bias_var))(X)
    np.testing.assert_allclose(np.diag(K, 5), 1.0, rtol=1e-6 if dtype == "float32" else 1e-15)


def test_signs_keep_opposite_rows_opposite():
    K = NNGP(depth=6, activation="sign")(rows(5), -rows(5))
    np.testing.assert_allclose(np.diag(K), -1.0, rtol=1e-15)


def test_sign_after_covariances_keeps_copies_together():
    covariance = state_of_variances([1.0], [1.0], cov=one(1.0 - 4e-16))
    assert activate(Sign(), covariance).nngp.item() == 1.0
    erf = activate(Erf(), state_of_variances([0.3], [0.3], cov=one(0.3)))
    assert activate(Sign(), erf).nngp.item() == 1.0


def test_sign_has_a_kernel_without_tangents():
    X = rows(6)
    for depth in (1, 3):
        params = {"depth": depth, "activation": "sign", "bias_var": 0.2}
        np.testing.assert_array_equal(NTK(**params)(X), NNGP(**params)(X))


def test_cusp_at_coincident_rows_has_gradient_zero():
    X = np.vstack([rows(3), rows(3)])
    W = np.zeros((6, 6))
    W[range(3), range(3, 6)] = 1.0
    for activation in (Sign(), "step"):
        gradient = NNGP(depth=2, activation=activation).vjp(X, None, W)
        assert not gradient.X.any()


# --- normalized Gaussian -----------------------------------------------------------------------


@pytest.mark.parametrize("gamma", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("theta", [0.0, 1e-8, 0.3, 1.5, math.pi])
def test_exp_normalized_equals_its_formula(gamma, theta):
    after = at_angle(ExpNormalized(gamma), theta, ntk=one(1.0))
    deficit = -math.expm1(-2.0 * gamma * math.sin(theta / 2) ** 2)
    assert after.sin2.item() == pytest.approx(deficit / 2, rel=1e-14)
    r, value = math.sqrt(0.7 * 1.9), math.exp(gamma * (math.cos(theta) - 1.0))
    assert after.nngp.item() == pytest.approx(r * value, rel=1e-14)
    assert after.tangents.item() == pytest.approx(gamma * value, rel=1e-14)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 6.0])
def test_exp_normalized_is_the_dual_of_its_own_function(gamma):
    nodes, weights = np.polynomial.hermite_e.hermegauss(100)
    weights /= weights.sum()
    for c in (1.0, 0.6, -0.4):
        u = nodes[:, None] + 0.0 * nodes
        v = c * u + math.sqrt(1.0 - c * c) * nodes
        values = [ExpNormalized(gamma)(torch.from_numpy(z)).numpy() for z in (u, v)]
        mean = np.einsum("i,j,ij->", weights, weights, values[0] * values[1])
        assert mean == pytest.approx(math.exp(gamma * (c - 1.0)), rel=1e-9)


def test_exp_normalized_layer_of_finite_width_keeps_norms():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 200_000, generator=generator, dtype=torch.float64) * torch.tensor(
        [[1.0], [0.2], [3.0]], dtype=torch.float64
    )
    y = ExpNormalized().finite(x, 1, generator)(x)
    # The mean of 200 000 squares with a kurtosis of about ten: one per cent.
    np.testing.assert_allclose((y * y).mean(1), (x * x).mean(1), rtol=0.05)


@pytest.mark.parametrize("gamma", [0.0, -1.0, float("nan"), float("inf")])
def test_exp_normalized_without_a_length_raises(gamma):
    with pytest.raises(ValueError, match=r"`gamma` of ExpNormalized is .*; expected a positive"):
        ExpNormalized(gamma)
