"""Polynomials: closed forms, Hermite identities, and sums over powers with their derivative."""

import math
import pickle

import numpy as np
import pytest
import torch

from sknk.kernels import NNGP, NTK, Hermite, Monomial, Polynomial
from sknk.kernels._series import power_sum
from tests.cases import degenerate_rows


def column(*values):
    return torch.tensor(values, dtype=torch.float64).reshape(-1, 1)


Q1, Q, Q2 = column(0.7, 1.0, 2.0, 0.0), column(0.2, -0.8, 1.1, 0.0), column(1.3, 1.0, 0.9, 1.0)
P = Q1 * Q2
CLOSED = {  # of methods, section 4
    2: 2 * Q**2 + P,
    3: 6 * Q**3 + 9 * Q * P,
    4: 24 * Q**4 + 72 * P * Q**2 + 9 * P**2,
    5: 120 * Q**5 + 600 * P * Q**3 + 225 * P**2 * Q,
}


@pytest.mark.parametrize("degree", CLOSED)
def test_monomials_have_their_closed_forms(degree):
    phi = Monomial(degree)
    np.testing.assert_allclose(phi.dual(Q1, Q, Q2), CLOSED[degree], rtol=1e-13, atol=1e-15)
    slope = degree**2 * Monomial(degree - 1).dual(Q1, Q, Q2)
    np.testing.assert_allclose(phi.dual_dot(Q1, Q, Q2), slope, rtol=1e-13, atol=1e-15)
    moment = math.prod(range(1, 2 * degree, 2)) * Q1**degree
    np.testing.assert_allclose(phi.second_moment(Q1), moment, rtol=1e-13)


@pytest.mark.parametrize("degree", [0, 1, 2, 3, 6, 12])
def test_hermite_duals_are_powers_at_unit_variance(degree):
    one, c = column(1.0, 1.0, 1.0, 1.0), column(1.0, 0.6, 0.0, -0.9)
    # Monomial coefficients of either sign cancel a little more with every degree.
    slack = {"rtol": 1e-9 if degree > 6 else 1e-12, "atol": 1e-9 if degree > 6 else 1e-13}
    np.testing.assert_allclose(Hermite(degree).dual(one, c, one), c**degree, **slack)
    slope = degree * c ** max(degree - 1, 0)
    np.testing.assert_allclose(Hermite(degree).dual_dot(one, c, one), slope, **slack)


def test_polynomial_is_its_own_function():
    phi, x = Polynomial((0.3, 1.0, -0.5, 0.2)), column(-1.5, 0.0, 2.0)
    np.testing.assert_allclose(phi(x), 0.3 + x - 0.5 * x**2 + 0.2 * x**3, rtol=1e-14)
    assert Polynomial((0.0, 0.0, 1.0)).dual(Q1, Q, Q2).equal(Monomial(2).dual(Q1, Q, Q2))


def test_degree_one_is_the_linear_network():
    X = degenerate_rows()
    linear = NTK(depth=2, activation=Polynomial((0.0, 1.0)), weight_var=1.0, normalize=False)
    np.testing.assert_allclose(linear(X), 3 * X @ X.T / 3, rtol=1e-12, atol=1e-14)


def test_constants_pass_nothing_on():
    X = degenerate_rows()
    constant = NTK(depth=1, activation=Monomial(0), weight_var=1.0, normalize=False)
    np.testing.assert_array_equal(constant(X), np.ones((12, 12)))


def test_coefficients_of_any_sequence_are_a_tuple():
    phi = Polynomial([1, 0.5])
    assert phi == Polynomial((1, 0.5)) == pickle.loads(pickle.dumps(phi))
    assert hash(phi) == hash(Polynomial((1, 0.5)))
    assert NNGP(activation=phi) == eval(
        repr(NNGP(activation=phi)), {"NNGP": NNGP, "Polynomial": Polynomial}
    )


@pytest.mark.parametrize("coefficients", [(), (0.0, 0.0), (1.0, float("nan"))])
def test_polynomials_of_nothing_raise(coefficients):
    with pytest.raises(ValueError, match=r"`coefficients` of Polynomial are .*; expected finite"):
        Polynomial(coefficients)


@pytest.mark.parametrize("cls", [Monomial, Hermite])
def test_impossible_degrees_raise(cls):
    with pytest.raises(ValueError, match=rf"`degree` of {cls.__name__} is -1; expected a whole"):
        cls(-1)


# --- sums over powers ----------------------------------------------------------------------------


def series(shape_left, shape_right, shape_base, n_terms=6):
    generator = torch.Generator().manual_seed(0)
    return (
        *(
            torch.randn(n_terms, *shape, generator=generator, dtype=torch.float64)
            for shape in (shape_left, shape_right)
        ),
        torch.randn(shape_base, generator=generator, dtype=torch.float64),
    )


SHAPES = [
    ((3, 1), (1, 4), (3, 4)),
    ((3, 1), (3, 1), (3, 1)),
    ((2, 1, 3, 1), (1, 2, 1, 4), (2, 2, 3, 4)),
]


@pytest.mark.parametrize("shapes", SHAPES, ids=str)
@pytest.mark.parametrize("terms", [[0], [3], [1, 3, 5], [0, 1, 2, 3, 4, 5], [0, 4]], ids=str)
def test_power_sum_and_its_derivative_equal_the_plain_sum(shapes, terms):
    arguments = [a.requires_grad_() for a in series(*shapes)]
    left, right, base = arguments
    plain = sum(left[j] * right[j] * base**j for j in terms) + 0.0 * base
    weights = torch.linspace(-1.0, 1.0, plain.numel(), dtype=torch.float64).reshape(plain.shape)
    found = power_sum(left, right, base, terms)
    with torch.no_grad():
        np.testing.assert_allclose(power_sum(left, right, base, terms), plain, rtol=1e-12)
    np.testing.assert_allclose(found.detach(), plain.detach(), rtol=1e-12)
    for a, b in zip(
        torch.autograd.grad((found * weights).sum(), arguments),
        torch.autograd.grad((plain * weights).sum(), arguments),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-13)
