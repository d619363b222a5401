"""Angles between rows and between pixels of images, before any layer."""

import numpy as np
import pytest
import torch

from sknk.kernels._inputs import Pixels, component_angles, directions_of, half_angles
from sknk.kernels._state import as_columns
from tests.cases import degenerate_rows, rows

SHAPE = (2, 5, 4)
IMAGES = rows(4, 40)


def tensor(x):
    return torch.as_tensor(np.asarray(x, dtype=np.float64))


def paired(X, Y, image_shape, *, all_pairs, dtype=torch.float64):
    x, y = (Pixels.of(tensor(a), image_shape, all_pairs=all_pairs) for a in (X, Y))
    columns = tuple(as_columns(c) for c in y.channels)
    return x.angles(columns, x.features.to(dtype), y.features.columns.to(dtype), dtype)


def products(X, Y, image_shape):
    """Mean products over channels at all pairs of pixels, (h, w, h, w, n, m)."""
    x, y = (a.reshape(len(a), *image_shape) for a in (X, Y))
    return np.einsum("nchw,mckl->hwklnm", x, y) / image_shape[0]


# --- rows --------------------------------------------------------------------------------------


def test_directions_have_norm_one_and_features_the_mean_square():
    X = rows(5, 4)
    directions, features = directions_of(tensor(X))
    np.testing.assert_allclose(directions.unit.norm(dim=1), 1.0, rtol=1e-15)
    np.testing.assert_allclose(features.var[:, 0], (X * X).mean(1), rtol=1e-14)


@torch.no_grad()
def test_directions_of_zero_rows_are_zero():
    directions, features = directions_of(tensor(np.zeros((2, 3))))
    assert not directions.unit.any()
    assert not features.var.any()
    sin2, _ = half_angles(directions, directions_of(tensor(rows(2)))[0], torch.float64)
    np.testing.assert_array_equal(sin2, 0.5)  # orthogonal to all


@torch.no_grad()
def test_half_angles_of_rows_with_themselves_are_exactly_zero():
    directions, _ = directions_of(tensor(degenerate_rows()))
    sin2, cos2 = half_angles(directions, directions, torch.float64)
    assert not sin2.diagonal().any()
    assert cos2 is not None  # antipodal rows are among them
    np.testing.assert_array_equal(cos2.diagonal(), 1.0)


def test_half_angles_carry_cosines_only_for_obtuse_angles():
    X = np.abs(rows(5))
    (x, _), (y, _) = directions_of(tensor(X)), directions_of(tensor(-X))
    assert half_angles(x, x, torch.float64)[1] is None
    assert half_angles(x, y, torch.float64)[1] is not None


# --- pixels ------------------------------------------------------------------------------------


def test_pixels_of_channels_first_rows():
    images = torch.arange(24.0).reshape(1, 2, 3, 4)
    pixels = Pixels.of(images.reshape(1, -1), (2, 3, 4), all_pairs=False)
    for channel, unit in enumerate(pixels.channels):
        assert unit.shape == (3, 4, 1, 1)
        found = unit[..., 0, 0] * (2.0 * pixels.features.var[..., 0, 0]).sqrt()
        np.testing.assert_allclose(found, images[0, channel], rtol=1e-6)


def test_angles_of_equal_pixels_reproduce_their_products():
    state = paired(IMAGES, IMAGES[:3] + 0.5, SHAPE, all_pairs=False)
    wanted = np.einsum("hwhwnm->hwnm", products(IMAGES, IMAGES[:3] + 0.5, SHAPE))
    assert state.sin2.shape == (5, 4, 4, 3)
    np.testing.assert_allclose(state.nngp, wanted, atol=1e-14)


def test_angles_of_all_pixels_reproduce_their_products():
    state = paired(IMAGES, IMAGES[:3] + 0.5, SHAPE, all_pairs=True)
    assert state.sin2.shape == (5, 4, 5, 4, 4, 3)
    np.testing.assert_allclose(state.nngp, products(IMAGES, IMAGES[:3] + 0.5, SHAPE), atol=1e-14)
    np.testing.assert_allclose(state.sin2 + state.cos2, 1.0, rtol=1e-14)


def test_pixels_of_copies_are_at_angle_zero():
    state = paired(IMAGES, IMAGES.copy(), SHAPE, all_pairs=True)
    found = torch.einsum("hwhwnn->hwn", state.sin2)
    assert not found.any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("distance", [1e-3, 1e-6, 1e-9])
def test_pixels_resolve_small_and_nearly_straight_angles(distance, dtype):
    p, turned = np.array([[1.0, 0.0]]), np.array([[np.cos(distance), np.sin(distance)]])
    near = paired(p, turned, (2, 1, 1), all_pairs=True, dtype=dtype).sin2.item()
    far = paired(p, -turned, (2, 1, 1), all_pairs=True, dtype=dtype).cos2.item()
    # Rows are rounded to 1e-16, at distances down to 1e-9.
    for found in (near, far):
        np.testing.assert_allclose(found, np.sin(distance / 2) ** 2, rtol=5e-7)


@torch.no_grad()
def test_dark_pixels_have_no_variance_and_finite_angles():
    images = np.zeros((2, 8))
    images[1, 0] = 1.0
    state = paired(images, images, (2, 2, 2), all_pairs=True)
    assert not state.x.var[:, :, 0, 0, 0].any()
    assert state.sin2.isfinite().all()
    assert not state.nngp[..., 0, :].any()


def test_pixels_differentiate_at_dark_and_equal_pixels():
    images = rows(3, 8)
    images[0], images[2, ::4] = images[1], 0.0  # copies; one dark pixel
    x = tensor(images).requires_grad_()
    pixels = Pixels.of(x, (2, 2, 2), all_pairs=False)
    columns = tuple(as_columns(c) for c in pixels.channels)
    state = pixels.angles(columns, pixels.features, pixels.features.columns, torch.float64)
    (gradient,) = torch.autograd.grad(state.nngp.sum(), x)
    total = images.sum(0)  # of sum_ij x_i x_j over channels, divided by their number
    np.testing.assert_allclose(gradient, np.tile(total, (3, 1)), atol=1e-13)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_component_angles_are_quarters_of_squared_distances(sign):
    x, y = rows(4, 3), rows(5, 3, seed=1)
    components = [tensor(x.T)[k][:, None] for k in range(3)], [tensor(y.T)[k] for k in range(3)]
    wanted = ((x[:, None] - sign * y[None]) ** 2).sum(2) / 4
    np.testing.assert_allclose(component_angles(*components, sign=sign), wanted, rtol=1e-14)
    with torch.no_grad():
        np.testing.assert_allclose(component_angles(*components, sign=sign), wanted, rtol=1e-14)
