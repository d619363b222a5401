"""Dual activations against quadrature, sampling and their definitions."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import erf, ndtr

from sknk.kernels import (
    ELU,
    GELU,
    NTK,
    ABReLU,
    Abs,
    Cos,
    Erf,
    Exp,
    Gabor,
    Gaussian,
    LeakyReLU,
    Rbf,
    RectifiedMonomial,
    ReLU,
    SigmoidLike,
    Sin,
)
from sknk.kernels._activation import as_activation, named_activations
from tests.kernels.probes import activate, state_of_variances
from tests.reference.kernels import DUALS, INTEGRALS, polar


def density(x):
    return np.exp(-x * x / 2.0) / np.sqrt(2.0 * np.pi)


SMOOTH = {  # activation, phi, phi'
    "erf": (Erf(), erf, lambda x: 2.0 / np.sqrt(np.pi) * np.exp(-x * x)),
    "gelu": (GELU(), lambda x: x * ndtr(x), lambda x: ndtr(x) + x * density(x)),
    "erf_scaled": (
        Erf(a=0.8, b=0.6, c=0.3),
        lambda x: 0.8 * erf(0.6 * x) + 0.3,
        lambda x: 0.96 / np.sqrt(np.pi) * np.exp(-0.36 * x * x),
    ),
    "sigmoid_like": (
        SigmoidLike(),
        lambda x: erf(x / 2.4020563531719796) / 2.0 + 0.5,
        lambda x: np.exp(-((x / 2.4020563531719796) ** 2)) / np.sqrt(np.pi) / 2.4020563531719796,
    ),
    "exp": (Exp(a=0.5, b=0.3), lambda x: 0.5 * np.exp(0.3 * x), lambda x: 0.15 * np.exp(0.3 * x)),
    "gaussian": (
        Gaussian(a=0.9, b=-0.7),
        lambda x: 0.9 * np.exp(-0.7 * x * x),
        lambda x: -1.26 * x * np.exp(-0.7 * x * x),
    ),
    "gabor": (
        Gabor(),
        lambda x: np.exp(-x * x) * np.sin(x),
        lambda x: np.exp(-x * x) * (np.cos(x) - 2.0 * x * np.sin(x)),
    ),
    "cos": (
        Cos(a=0.7, b=1.3, c=0.4),
        lambda x: 0.7 * np.cos(1.3 * x + 0.4),
        lambda x: -0.91 * np.sin(1.3 * x + 0.4),
    ),
    "sin": (Sin(), np.sin, np.cos),
    "sin_phase": (
        Sin(a=0.7, b=1.3, c=0.4),
        lambda x: 0.7 * np.sin(1.3 * x + 0.4),
        lambda x: 0.91 * np.cos(1.3 * x + 0.4),
    ),
    "rbf": (
        Rbf(gamma=0.5),
        lambda x: np.sqrt(2.0) * np.sin(x + np.pi / 4.0),
        lambda x: np.sqrt(2.0) * np.cos(x + np.pi / 4.0),
    ),
}
KINKED = {
    "relu": (ReLU(), lambda x: np.maximum(x, 0.0), lambda x: (x > 0) * 1.0),
    "leaky_relu": (
        LeakyReLU(0.3),
        lambda x: np.where(x > 0, x, 0.3 * x),
        lambda x: np.where(x > 0, 1.0, 0.3),
    ),
    "abrelu": (
        ABReLU(-0.5, 2.0),
        lambda x: np.where(x > 0, 2.0 * x, -0.5 * x),
        lambda x: np.where(x > 0, 2.0, -0.5),
    ),
    "abs": (Abs(), np.abs, np.sign),
}
COVARIANCES = [
    (1.0, 0.5, 1.0),
    (1.0, -0.9, 1.2),
    (0.3, 0.0, 0.7),
    (1.5, 1.2, 1.0),
    (0.6, -0.6, 0.6),
]


def duals(activation, q1, q, q2, dtype=torch.float64):
    """(E[phi phi], E[phi' phi'], E[phi^2] at q1) of one activation by the layer's own interface."""
    cov, ntk = torch.full((1, 1), q, dtype=dtype), torch.ones(1, 1, dtype=dtype)
    after = activate(activation, state_of_variances([q1], [q2], cov=cov, ntk=ntk))
    return after.nngp.item(), after.tangents.item(), after.x.var.item()


def quadrature(phi, q1, q, q2, degree=120):
    """E[phi(u) phi(v)] by a tensor grid of Gauss-Hermite nodes."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(degree)
    weights = weights / weights.sum()
    u = np.sqrt(q1) * nodes[:, None]
    v = q / np.sqrt(q1) * nodes[:, None] + np.sqrt(max(q2 - q * q / q1, 0.0)) * nodes[None, :]
    return np.einsum("i,j,ij->", weights, weights, phi(u) * phi(v))


@pytest.mark.parametrize(("activation", "phi", "slope"), SMOOTH.values(), ids=SMOOTH)
@pytest.mark.parametrize("covariance", COVARIANCES, ids=str)
def test_dual_equals_quadrature(activation, phi, slope, covariance):
    value, dot, diagonal = duals(activation, *covariance)
    # 1e-9: what 120 nodes leave of erf, whose poles in the complex plane are nearest.
    assert value == pytest.approx(quadrature(phi, *covariance), abs=1e-9)
    assert dot == pytest.approx(quadrature(slope, *covariance), abs=1e-9)
    assert diagonal == pytest.approx(quadrature(phi, *[covariance[0]] * 3), abs=1e-9)


BOTH = SMOOTH | KINKED


@pytest.mark.parametrize(("activation", "phi", "slope"), BOTH.values(), ids=BOTH)
@pytest.mark.parametrize("covariance", COVARIANCES, ids=str)
def test_dual_equals_the_mean_over_random_gaussians(activation, phi, slope, covariance):
    q1, q, q2 = covariance
    pairs = (
        np.random.default_rng(0).standard_normal((200_000, 2))
        @ np.linalg.cholesky([[q1, q], [q, q2 + 1e-12]]).T
    )
    value, dot, _ = duals(activation, *covariance)
    for found, function in ((value, phi), (dot, slope)):
        sample = function(pairs[:, 0]) * function(pairs[:, 1])
        # Five standard errors of the mean: one false alarm in two million. At q = -q1 the sample is
        # constant, and the angle of a rounded covariance is off by sqrt(eps).
        assert abs(found - sample.mean()) < 5.0 * sample.std() / np.sqrt(len(sample)) + 1e-7


@pytest.mark.parametrize("activation", [row[0] for row in BOTH.values()], ids=BOTH)
@given(q1=st.floats(1e-3, 1e3), q2=st.floats(1e-3, 1e3), c=st.floats(-1.0, 1.0))
def test_dual_is_symmetric_and_bounded(activation, q1, q2, c):
    q = c * np.sqrt(q1 * q2)
    value, dot, left = duals(activation, q1, q, q2)
    again, dot_again, right = duals(activation, q2, q, q1)
    assert (value, dot) == pytest.approx((again, dot_again), rel=1e-12, abs=1e-13)
    assert abs(value) <= np.sqrt(left * right) * (1.0 + 1e-12)  # Cauchy-Schwarz


@pytest.mark.parametrize("activation", [row[0] for row in BOTH.values()], ids=BOTH)
@given(q1=st.floats(0.1, 5.0), q2=st.floats(0.1, 5.0), c=st.floats(-0.95, 0.95))
def test_dual_dot_is_the_derivative_in_the_covariance(activation, q1, q2, c):
    q, step = c * np.sqrt(q1 * q2), 1e-5
    up, down = (duals(activation, q1, q + s * step, q2)[0] for s in (1, -1))
    # Central differences: step^2 times a third derivative of at most 1e3 at |c| < 0.95.
    assert duals(activation, q1, q, q2)[1] == pytest.approx((up - down) / (2 * step), abs=1e-6)


BOUNDED = {name: row[0] for name, row in BOTH.items() if name != "exp"}


@pytest.mark.parametrize("activation", BOUNDED.values(), ids=BOUNDED)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dual_is_finite_at_the_edges(activation, dtype):
    beyond = 1.0 + 4.0 * torch.finfo(dtype).eps  # |q| may exceed sqrt(q1 q2) by rounding
    edges = [
        (0, 0, 0),
        (0, 0, 1),
        (1, beyond, 1),
        (1, -beyond, 1),
        (1e8, 1e8, 1e8),
        (1e8, -1e8, 1e8),
    ]
    for q1, q, q2 in edges:
        found = duals(activation, float(q1), float(q), float(q2), dtype)
        assert np.isfinite(found).all()


@pytest.mark.parametrize("activation", [row[0] for row in SMOOTH.values()], ids=SMOOTH)
def test_variance_after_the_layer_is_the_dual_at_itself(activation):
    for q in (0.0, 0.01, 1.0, 30.0):
        value, _, diagonal = duals(activation, q, q, q)
        assert value == diagonal


@pytest.mark.parametrize("q", [1e-2, 1e-6, 1e-10])
def test_sine_keeps_relative_precision_at_small_variances(q):
    value, dot, _ = duals(Sin(), q, 0.5 * q, q)
    wanted = np.exp(-q) * np.sinh(0.5 * q)  # e^(q/2 - q) - e^(-q/2 - q), halved
    np.testing.assert_allclose(value, wanted, rtol=1e-14)  # the two waves must not cancel
    np.testing.assert_allclose(dot, np.exp(-q) * np.cosh(0.5 * q), rtol=1e-14)


def test_names_stand_for_default_activations():
    assert set(named_activations()) == set(DUALS | INTEGRALS)  # an oracle for every name
    for name, cls in named_activations().items():
        assert as_activation(name) == cls()
        assert as_activation(cls()) == cls()


def test_names_and_instances_give_the_same_kernel():
    X = np.random.default_rng(0).standard_normal((4, 2))
    for name, cls in named_activations().items():
        np.testing.assert_array_equal(NTK(activation=name)(X), NTK(activation=cls())(X))


COVARIANCE = (0.8, 0.3, 1.7)


ORACLES = DUALS | INTEGRALS


@pytest.mark.parametrize("name", ORACLES)
def test_default_activation_equals_its_oracle(name):
    value, dot, diagonal = duals(as_activation(name), *COVARIANCE)
    wanted = tuple(map(float, ORACLES[name](*COVARIANCE)))
    assert (value, dot) == pytest.approx(wanted, rel=1e-11, abs=1e-13)
    assert diagonal == pytest.approx(ORACLES[name](0.8, 0.8, 0.8)[0], rel=1e-11)


def own_functions(activation):
    """The activation's own phi and its derivative, on arrays."""

    def value(x):
        return activation(torch.from_numpy(x)).numpy()

    def slope(x):
        x = torch.from_numpy(x).requires_grad_()
        y = activation(x)
        return torch.autograd.grad(y.sum(), x)[0].numpy() if y.requires_grad else np.zeros(x.shape)

    return value, slope


INSTANCES = [
    *(cls() for name, cls in named_activations().items() if name != "exp_normalized"),
    *(row[0] for row in BOTH.values()),
    ELU(alpha=0.5),
    RectifiedMonomial(3),
]


@pytest.mark.parametrize("activation", INSTANCES, ids=repr)
def test_dual_is_the_mean_product_of_the_layers_own_function(activation):
    # Of phi as the class itself computes it: no oracle that could share a misprint.
    for q1, q, q2 in ((0.7, -0.35, 0.5), (1.2, 1.1, 1.3)):
        found = duals(activation, q1, q, q2)
        for mean, function in zip(found, own_functions(activation), strict=False):
            assert mean == pytest.approx(polar(function, q1, q, q2), rel=1e-10, abs=1e-12)


@pytest.mark.parametrize("q", [1e-2, 1e-6, 1e-10])
def test_cosine_slopes_keep_relative_precision_at_small_variances(q):
    dot = duals(Cos(), q, 0.5 * q, q)[1]
    np.testing.assert_allclose(dot, np.exp(-q) * np.sinh(0.5 * q), rtol=1e-14)


def test_cosine_is_the_sine_of_a_shifted_phase():
    for covariance in COVARIANCES:
        shifted = duals(Sin(c=np.pi / 2), *covariance)
        assert duals(Cos(), *covariance) == pytest.approx(shifted, rel=1e-14)


def test_exponential_slopes_are_a_multiple_of_its_values():
    value, dot, _ = duals(Exp(b=0.4), 1.0, 0.4, 0.8)
    assert value == pytest.approx(np.exp(0.16 * 1.3), rel=1e-15)
    assert dot == pytest.approx(0.16 * value, rel=1e-15)


@pytest.mark.parametrize("b", [0.0, 1.0, float("nan"), -float("inf")])
def test_gaussian_that_grows_raises(b):
    with pytest.raises(ValueError, match=r"`b` of Gaussian is .*; expected a negative number"):
        Gaussian(b=b)


def test_unknown_activation_raises():
    with pytest.raises(
        ValueError, match=r"`activation` is 'swish'; expected one of \['abrelu', 'abs'"
    ):
        as_activation("swish")
    with pytest.raises(TypeError, match=r"`activation` is 3; expected a name or an activation"):
        as_activation(3)


@pytest.mark.parametrize("gamma", [0.0, -1.0, float("nan")])
def test_rbf_without_a_length_raises(gamma):
    with pytest.raises(ValueError, match=r"`gamma` is .*; expected a positive number"):
        Rbf(gamma)
