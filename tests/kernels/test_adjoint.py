"""Hand-written derivatives of the steps on angles: autograd of the plain formulas, differences."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import forward_ad, gradcheck

from sknk.kernels import NTK, ABReLU, Abs, LeakyReLU, ReLU
from sknk.kernels._adjoint import Cosine, Rectified, Tilted, reverse_mode
from tests.cases import degenerate_rows, rows

RECTIFIERS = [ReLU(), LeakyReLU(0.3), ABReLU(-0.5, 2.0), Abs()]
every_rectifier = pytest.mark.parametrize("rectifier", RECTIFIERS, ids=repr)
# Slopes grow like 1/sin(theta), 20 at an angle of 0.1; each route rounds to eps times that.
RTOL = 1e-11


def angles(n=6, m=5, low=0.1, high=np.pi - 0.1):
    """sin^2 of half of angles between two bounds, (n, m), none of them pi/2."""
    theta = np.linspace(low, high, n * m).reshape(n, m)
    return torch.from_numpy(np.sin(theta / 2) ** 2)


def normal(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def leaf(x):
    return x.clone().requires_grad_()


def gradients(outputs, weights, inputs):
    total = sum((w * out).sum() for w, out in zip(weights, outputs, strict=True))
    return torch.autograd.grad(total, inputs)


def plain(rectifier, u, ntk):
    """E[phi phi] and E[phi' phi'] as the papers write them, from u = sin^2(theta/2)."""
    A, F = rectifier.moments
    theta = 2.0 * u.sqrt().asin()
    cosine = theta.cos() + F / A * (theta.sin() - theta * theta.cos())
    return (1.0 - cosine) / 2.0, ntk * (A - F * theta)


# --- rectifiers ----------------------------------------------------------------------------------


@every_rectifier
@pytest.mark.parametrize("with_cos2", [False, True])
@pytest.mark.parametrize("outputs", [[0], [1], [0, 1]], ids=["angles", "tangents", "both"])
def test_rectified_equals_autograd_of_the_plain_formula(rectifier, with_cos2, outputs):
    def found(step):
        u, ntk = leaf(angles()), leaf(normal(6, 5))
        total = sum((normal(6, 5, seed=k) * step(u, ntk)[k]).sum() for k in outputs)
        return torch.autograd.grad(total, (u, ntk), allow_unused=True, materialize_grads=True)

    def by_hand(u, ntk):
        return Rectified.apply(rectifier, u, 1.0 - u if with_cos2 else None, ntk)

    expected = found(lambda u, ntk: plain(rectifier, u, ntk))
    for a, b in zip(found(by_hand), expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=RTOL, atol=RTOL)


@every_rectifier
def test_rectified_equals_finite_differences(rectifier):
    u, ntk = leaf(angles()), leaf(normal(6, 5))
    assert gradcheck(lambda u, ntk: Rectified.apply(rectifier, u, None, ntk), (u, ntk))
    assert gradcheck(lambda u: Rectified.apply(rectifier, u, None, None)[0], (u,))


@every_rectifier
def test_rectified_takes_the_step_and_keeps_its_input(rectifier):
    u, ntk = angles(), normal(6, 5)
    before = u.clone(), ntk.clone()
    found = Rectified.apply(rectifier, leaf(u), None, leaf(ntk))
    for a, b in zip(found, plain(rectifier, u, ntk), strict=True):
        np.testing.assert_allclose(a.detach(), b, rtol=1e-12)
    assert torch.equal(u, before[0])
    assert torch.equal(ntk, before[1])


@every_rectifier
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rectified_is_finite_at_coincident_and_antipodal_rows(rectifier, dtype):
    info = torch.finfo(dtype)
    ends = [0.0, info.tiny, info.eps**2, info.eps, 0.5, 1.0 - info.eps, 1.0]
    u = torch.tensor([ends], dtype=dtype)
    for cos2 in (None, 1.0 - u):
        x, ntk = leaf(u), leaf(torch.ones_like(u))
        found = gradients(Rectified.apply(rectifier, x, cos2, ntk), (1.0, 1.0), (x, ntk))
        assert all(g.isfinite().all() for g in found)


@every_rectifier
def test_rectified_counts_the_cusp_as_zero(rectifier):
    A, F = rectifier.moments
    for u, theta in ((0.0, 0.0), (1.0, np.pi)):
        x, ntk = (leaf(torch.full((1, 1), v, dtype=torch.float64)) for v in (u, 3.0))
        cos2 = torch.full((1, 1), 1.0 - u, dtype=torch.float64)
        slope, own = gradients(Rectified.apply(rectifier, x, cos2, ntk), (1.0, 1.0), (x, ntk))
        assert slope.item() == pytest.approx(1.0 - F / A * theta, abs=1e-12)
        assert own.item() == pytest.approx(A - F * theta, abs=1e-12)


@given(theta=st.floats(1e-6, np.pi - 1e-6))
def test_rectified_slopes_are_the_formulas_of_the_class(theta):
    A, F = LeakyReLU(0.3).moments
    u, cos2 = (torch.full((1, 1), f(theta / 2) ** 2, dtype=torch.float64) for f in (np.sin, np.cos))
    u, ntk = leaf(u), leaf(torch.full((1, 1), 0.7, dtype=torch.float64))
    after, tangents = Rectified.apply(LeakyReLU(0.3), u, cos2, ntk)
    (by_u,) = torch.autograd.grad(after.sum(), u, retain_graph=True)
    bend, by_ntk = torch.autograd.grad(tangents.sum(), (u, ntk))
    assert by_u.item() == pytest.approx(1.0 - F / A * theta, abs=1e-12)
    assert by_ntk.item() == pytest.approx(A - F * theta, abs=1e-12)
    assert bend.item() == pytest.approx(-2.0 * F / np.sin(theta) * 0.7, rel=1e-9)


# --- tilts and covariances -----------------------------------------------------------------------


def tilts(seed=0):
    """pairs (6, 5), then cosine and half-angle parts of rows (6, 1) and columns (1, 5)."""
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(0.1, 1.4, (6, 1)), rng.uniform(0.1, 1.4, (1, 5))
    parts = [
        f(phi) for phi in (x, y) for f in (np.cos, lambda p: np.cos(p / 2), lambda p: np.sin(p / 2))
    ]
    return [angles(), *map(torch.from_numpy, parts)]


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_tilted_equals_autograd_of_the_plain_formula(sign):
    def formula(pairs, cos_x, e_x, f_x, cos_y, e_y, f_y):
        return pairs * cos_x * cos_y + (f_x * e_y + sign * e_x * f_y) ** 2

    hand, other = ([leaf(t) for t in tilts()] for _ in range(2))
    out, wanted, w = Tilted.apply(*hand, sign), formula(*other), normal(6, 5)
    np.testing.assert_allclose(out.detach(), wanted.detach(), rtol=1e-14)
    for a, b in zip(gradients([out], [w], hand), gradients([wanted], [w], other), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_tilted_equals_finite_differences(sign):
    assert gradcheck(lambda *parts: Tilted.apply(*parts, sign), [leaf(t) for t in tilts()])


def test_tilted_needs_no_gradient_of_pairs():
    pairs, *parts = tilts()
    hand = [leaf(t) for t in parts]
    found = gradients([Tilted.apply(pairs, *hand, -1.0)], [1.0], hand)
    both = [leaf(t) for t in tilts()]
    expected = gradients([Tilted.apply(*both, -1.0)], [1.0], both)[1:]
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_cosine_equals_autograd_of_the_plain_formula():
    def inputs():
        return [leaf(angles()), leaf(normal(6, 1).exp()), leaf(normal(1, 5).exp())]

    hand, other, w = inputs(), inputs(), normal(6, 5)
    out, wanted = Cosine.apply(*hand), other[1] * (1.0 - 2.0 * other[0]) * other[2]
    np.testing.assert_allclose(out.detach(), wanted.detach(), rtol=1e-14, atol=1e-15)
    for a, b in zip(gradients([out], [w], hand), gradients([wanted], [w], other), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-13, atol=1e-13)
    assert gradcheck(Cosine.apply, inputs())


def test_steps_are_finite_for_zero_rows():
    zero, one = torch.zeros(1, 1).double(), torch.ones(1, 1).double()
    norms = [leaf(zero), leaf(zero), leaf(one)]
    assert all(g.isfinite().all() for g in gradients([Cosine.apply(*norms)], [1.0], norms))
    parts = [leaf(t) for t in (zero, one, one, zero, one, one, zero)]
    assert all(g.isfinite().all() for g in gradients([Tilted.apply(*parts, -1.0)], [1.0], parts))


# --- when they are used --------------------------------------------------------------------------


def test_reverse_mode_is_recording_without_tangents():
    x = torch.ones(2, requires_grad=True)
    assert reverse_mode(x, None)
    with torch.no_grad():
        assert not reverse_mode(x)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(torch.ones(2), torch.ones(2))
        assert reverse_mode(x)
        assert not reverse_mode(x, dual)


def test_second_derivatives_raise_instead_of_being_wrong():
    u, ntk = leaf(angles()), leaf(normal(6, 5))
    (slope,) = torch.autograd.grad(
        Rectified.apply(ReLU(), u, None, ntk)[0].square().sum(), u, create_graph=True
    )
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()


@pytest.mark.parametrize("activation", RECTIFIERS, ids=repr)
@pytest.mark.parametrize("bias_var", [0.0, 0.2])
def test_kernel_gradients_equal_autograd_without_hand_written_steps(
    activation, bias_var, monkeypatch
):
    kernel = NTK(depth=3, activation=activation, bias_var=bias_var, input_scale_bounds=(0.1, 10.0))
    x, y, W = rows(7), degenerate_rows()[5:], np.random.default_rng(0).standard_normal((7, 7))
    hand = kernel.vjp(x, y, W)
    for module in ("_state", "_affine", "_rectifier"):
        monkeypatch.setattr(f"sknk.kernels.{module}.reverse_mode", lambda *tensors: False)
    other = kernel.vjp(x, y, W)
    for name in ("theta", "X", "Y"):
        # The plain formulas lose half their digits beside the cusps of y's antipodal rows.
        np.testing.assert_allclose(
            getattr(hand, name), getattr(other, name), rtol=1e-7, atol=1e-7, err_msg=name
        )
