"""Affine on states held as covariances and as angles."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sknk.kernels._affine import Affine
from tests.cases import degenerate_rows, rows
from tests.kernels.probes import connect, state_of_rows

X, Y = rows(6), rows(4, seed=1)


@given(w=st.floats(0.1, 5.0), b=st.floats(1e-6, 5.0), biased=st.booleans())
def test_affine_is_affine_in_the_covariance(w, b, biased):
    b = b if biased else 0.0
    for state in (state_of_rows(X, Y), state_of_rows(X, Y).covariance()):
        after = connect(Affine(biased), state, w, b)
        np.testing.assert_allclose(after.nngp, w * X @ Y.T / 3 + b, rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(after.x.var[:, 0], w * (X * X).sum(1) / 3 + b, rtol=1e-14)
        np.testing.assert_allclose(after.y.var[0], w * (Y * Y).sum(1) / 3 + b, rtol=1e-14)


@pytest.mark.parametrize("held", ["angles", "covariances"])
@pytest.mark.parametrize("fan_in", [None, 5])
@pytest.mark.parametrize("b", [0.0, 0.3])
def test_affine_adds_its_own_tangents_when_trained(held, fan_in, b):
    cov, before, w = X @ Y.T / 3, rows(6, 4, seed=2), 1.7
    own = w * cov + b if fan_in is None else fan_in * cov + (b > 0)
    for ntk, wanted in ((None, own), (before, own + w * before)):
        state = state_of_rows(X, Y) if held == "angles" else state_of_rows(X, Y).covariance()
        state = replace(state, ntk=None if ntk is None else torch.from_numpy(ntk.copy()))
        after = connect(Affine(b > 0, fan_in=fan_in), state, w, b)
        np.testing.assert_allclose(after.tangents, wanted, rtol=1e-12, atol=1e-13)


def test_affine_passes_tangents_on_when_fixed():
    layer, before = Affine(True, trained=False), torch.from_numpy(rows(6, 4, seed=2))
    assert connect(layer, state_of_rows(X, Y), 1.7, 0.3).ntk is None
    after = connect(layer, replace(state_of_rows(X, Y), ntk=before.clone()), 1.7, 0.3)
    np.testing.assert_allclose(after.ntk, 1.7 * before, rtol=1e-15)


def test_affine_without_bias_leaves_angles():
    before = state_of_rows(X, Y)
    sin2 = before.sin2.clone()
    assert torch.equal(connect(Affine(False), before, 2.0, 0.0).sin2, sin2)


def test_affine_gives_the_same_under_autograd():
    plain = connect(Affine(True), state_of_rows(X, Y), 1.5, 0.2)
    with torch.no_grad():
        reused = connect(Affine(True), state_of_rows(X, Y), 1.5, 0.2)
    np.testing.assert_allclose(reused.nngp, plain.nngp, rtol=1e-14)
    np.testing.assert_allclose(reused.tangents, plain.tangents, rtol=1e-14)


def test_affine_with_bias_keeps_sin2_and_cos2_complementary():
    hard = degenerate_rows()
    after = connect(Affine(True), state_of_rows(hard, hard), 2.0, 0.1)
    np.testing.assert_allclose(after.sin2 + after.cos2, 1.0, rtol=1e-14)
    assert (after.sin2 >= 0).all()


def unit_of_lifted(x, w, b):
    """Rows with the bias as one more coordinate, divided by their norms."""
    lifted = np.hstack([x * np.sqrt(w / x.shape[1]), np.full((len(x), 1), np.sqrt(b))])
    return lifted / np.linalg.norm(lifted)


@pytest.mark.parametrize("distance", [1e-4, 1e-7])
def test_affine_with_bias_does_not_cancel_at_near_duplicates(distance):
    x = rows(1)
    for y in (x * (1 + distance), x + distance * np.cross(x, [[1.0, 2.0, 3.0]])):
        after = connect(Affine(True), state_of_rows(x, y), 2.0, 0.5)
        difference = unit_of_lifted(x, 2.0, 0.5) - unit_of_lifted(y, 2.0, 0.5)
        # |difference|^2 / 4 = sin^2(theta/2); its units are rounded: an absolute 1e-16 of 1e-8.
        np.testing.assert_allclose(after.sin2.item(), (difference**2).sum() / 4, rtol=1e-7)
