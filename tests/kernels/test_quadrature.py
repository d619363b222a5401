"""Hermite series of functions without closed forms: accuracy as documented, and any callable."""

import pickle

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from sknk import _config
from sknk.kernels import NNGP, NTK, Erf, Quadrature, Sigmoid, SiLU, Softplus, Tanh
from sknk.kernels._quadrature import _hermite_table, _significant
from tests.cases import degenerate_rows, rows
from tests.kernels.test_dual import duals

HARD = degenerate_rows()


def trapezoid(phi, q1, q, q2, step=0.03, end=9.0):
    """E[phi(u) phi(v)] on a plain grid: exact to exp(-2 pi y/step), y the distance of poles."""
    z = np.arange(-end, end + step / 2, step)
    weights = np.exp(-z * z / 2.0)
    weights /= weights.sum()
    u = np.sqrt(q1) * z[:, None]
    v = q / np.sqrt(q1) * z[:, None] + np.sqrt(max(q2 - q * q / q1, 0.0)) * z
    return weights @ (phi(u) * phi(v)) @ weights


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


NAMED = {  # activation, phi, phi', error of both at variance 10
    "tanh": (Tanh(), np.tanh, lambda x: 1.0 / np.cosh(x) ** 2, 1e-10, 4e-9),
    "sigmoid": (Sigmoid(), sigmoid, lambda x: sigmoid(x) * sigmoid(-x), 1e-11, 3e-11),
    "softplus": (Softplus(), lambda x: np.logaddexp(0.0, x), sigmoid, 1e-11, 1e-11),
    "silu": (
        SiLU(),
        lambda x: x * sigmoid(x),
        lambda x: sigmoid(x) * (1.0 + x * sigmoid(-x)),
        1e-10,
        2e-10,
    ),
}


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("c", [1.0, 0.999, 0.5, -0.7, -1.0])
@pytest.mark.parametrize(("q1", "q2"), [(0.01, 0.01), (1.0, 1.0), (2.0, 0.3), (10.0, 10.0)])
def test_named_activations_are_as_exact_as_documented(name, c, q1, q2):
    activation, phi, slope, error, slope_error = NAMED[name]
    if max(q1, q2) < 10.0:
        error = slope_error = 1e-13
    q = c * np.sqrt(q1 * q2)
    value, dot, _ = duals(activation, q1, q, q2)
    assert value == pytest.approx(trapezoid(phi, q1, q, q2), abs=error * max(np.sqrt(q1 * q2), 1.0))
    assert dot == pytest.approx(trapezoid(slope, q1, q, q2), abs=slope_error)


@pytest.mark.parametrize("kernel", [NTK(depth=2, bias_var=0.1), NNGP(depth=3)], ids=repr)
def test_quadrature_of_erf_equals_its_closed_form(kernel):
    X = 0.25 * HARD  # variances up to 2
    found = kernel.clone_with_params({"activation": Quadrature(torch.erf, degree=256)})
    wanted = kernel.clone_with_params({"activation": Erf()})
    np.testing.assert_allclose(found(X), wanted(X), rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("degree", [8, 32, 128])
def test_polynomials_are_exact_at_every_degree_above_theirs(degree):
    value, dot, _ = duals(Quadrature(lambda x: x**3 - x, degree), 0.7, 0.2, 1.3)
    q1, q, q2 = 0.7, 0.2, 1.3
    wanted = 6 * q**3 + 9 * q1 * q2 * q - 3 * q * (q1 + q2) + q  # Wick
    assert value == pytest.approx(wanted, rel=1e-12)
    assert dot == pytest.approx(9 * (2 * q * q + q1 * q2) - 3 * (q1 + q2) + 1, rel=1e-12)


def test_nodes_and_hermite_functions_are_orthonormal():
    for degree in (2, 25, 256, 768):
        _, table = _hermite_table(degree)
        roots = table[:, :1] ** 0.5  # w_i h_j(x_i) = sqrt(w_i) times an orthogonal matrix
        basis = table / roots
        few = basis[:, : min(degree, 20)]  # none of which reaches the nodes that are left out
        np.testing.assert_allclose(few.T @ few, np.eye(few.shape[1]), atol=1e-11)


def test_series_at_angle_zero_is_the_quadrature_of_the_square():
    # Also for a jump, where the series itself converges like degree^(-1/2).
    activation = Quadrature(lambda x: (x > 0.3).to(x), 64, derivative=torch.zeros_like)
    nodes, weights = np.polynomial.hermite_e.hermegauss(64)
    wanted = weights[nodes > 0.3].sum() / weights.sum()
    assert duals(activation, 1.0, 1.0, 1.0)[0] == pytest.approx(wanted, rel=1e-12)


def test_rows_of_small_variance_take_few_terms():
    few, all_of_them = (
        len(_significant(*2 * [torch.tensor(a)[:, None, None]]))
        for a in (0.5 ** np.arange(100.0), np.ones(100))
    )
    assert few < 35
    assert all_of_them == 100


@pytest.mark.parametrize(
    "function", [torch.tanh, F.mish, F.softsign, torch.nn.Softplus(), torch.atan]
)
def test_any_function_gives_a_kernel_with_gradients(function):
    kernel = NTK(
        depth=2, activation=Quadrature(function, 32), bias_var=0.1, weight_var_bounds=(1e-3, 1e3)
    )
    K, gradient = kernel(HARD, eval_gradient=True)
    vjp = kernel.vjp(HARD, None, np.ones((12, 12)))
    assert np.linalg.eigvalsh(K)[0] >= -1e-14 * np.trace(
        K
    )  # at any degree: a sum of Hadamard powers
    np.testing.assert_allclose(vjp.theta, gradient.sum((0, 1)), rtol=1e-11)
    assert np.isfinite(vjp.X).all()
    step = np.array([1e-5, 0.0])
    up, down = (kernel.clone_with_theta(kernel.theta + s * step)(HARD) for s in (1, -1))
    np.testing.assert_allclose(gradient[:, :, 0], (up - down) / 2e-5, atol=1e-8)


def test_derivative_may_be_given():
    def cosh_slope(x):
        return 1.0 / torch.cosh(x) ** 2

    found = duals(Quadrature(torch.tanh, 128, derivative=cosh_slope), 1.0, 0.4, 0.8)
    assert found == pytest.approx(duals(Quadrature(torch.tanh), 1.0, 0.4, 0.8), rel=1e-13)


def test_kinks_cost_accuracy_that_degrees_buy_back():
    exact = (np.sqrt(3.0) / 2.0 + np.pi / 3.0) / (2.0 * np.pi)  # Cho & Saul at 60 degrees
    errors = [
        abs(duals(Quadrature(torch.relu, degree), 1.0, 0.5, 1.0)[0] - exact) for degree in (8, 128)
    ]
    assert errors[1] < errors[0] / 10


def test_large_variances_stay_finite():
    for q in (1e4, 1e8):
        assert np.isfinite(duals(Tanh(), q, 0.3 * q, q)).all()
        assert duals(Tanh(), q, 0.3 * q, q)[0] <= 1.0


def test_float32_is_computed_from_float64_rows():
    kernel = NTK(depth=2, activation="tanh", bias_var=0.1)
    with _config.config_context(dtype="float32"):
        found = kernel(HARD)
    np.testing.assert_allclose(found, kernel(HARD), rtol=1e-6, atol=1e-7)


def test_tile_size_does_not_matter():
    X, kernel = rows(11), NTK(depth=2, activation="silu")
    with _config.config_context(tile_size=3):
        found = kernel(X)
    np.testing.assert_allclose(found, kernel(X), rtol=1e-13)


def test_quadratures_equal_by_their_functions():
    assert Quadrature(torch.tanh) == pickle.loads(pickle.dumps(Quadrature(torch.tanh)))
    assert Quadrature(torch.tanh) != Quadrature(torch.tanh, degree=64) != Quadrature(torch.erf)
    assert hash(Quadrature(torch.tanh)) == hash(Quadrature(torch.tanh))
    assert repr(Quadrature(torch.tanh)) == f"Quadrature(function={torch.tanh!r})"
    kernel = NTK(activation=Quadrature(torch.tanh))
    assert kernel == NTK(activation=Quadrature(torch.tanh))


def test_quadrature_without_a_function_raises():
    with pytest.raises(TypeError, match="`function` of Quadrature is 'tanh'; expected a callable"):
        Quadrature("tanh")
    with pytest.raises(TypeError, match="`derivative` of Quadrature is 2; expected a callable"):
        Quadrature(torch.tanh, derivative=2)


@pytest.mark.parametrize("degree", [1, 2000, 32.0, True])
def test_impossible_degrees_raise(degree):
    with pytest.raises(ValueError, match=r"`degree` of Tanh is .*; expected an integer from 2"):
        Tanh(degree)
