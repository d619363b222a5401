"""Layers of images: convolutions, pooling, flattening."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from sknk.kernels import (
    NTK,
    Abs,
    AvgPool2d,
    Conv2d,
    Dense,
    Erf,
    Flatten,
    GlobalAvgPool2d,
    Identity,
    NetworkKernel,
    ReLU,
)
from sknk.kernels._windows import padding_of
from tests.cases import rows
from tests.reference.networks import inputs, kernels_of, propagated, same_padding

PIXELS = (2, 5, 4)
IMAGES, OTHERS = rows(3, 40), rows(2, 40, seed=1)
EXACT = {"rtol": 1e-12, "atol": 1e-14}
ENDS = [Flatten(), GlobalAvgPool2d()]


def both(network, *tables, image_shape=PIXELS):
    """Return the NNGP and NTK Gram matrices of a network."""
    kernel = NetworkKernel(network, normalize=False, image_shape=image_shape)
    return kernel.nngp()(*tables), kernel(*tables)


def assert_equals_oracle(network, *tables, image_shape=PIXELS):
    found = both(network, *tables, image_shape=image_shape)
    for K, wanted in zip(found, kernels_of(network, *tables, image_shape=image_shape), strict=True):
        scale = np.abs(wanted).max()
        np.testing.assert_allclose(K, wanted, rtol=1e-11, atol=1e-13 * scale)


def output_size(layer, image_shape=PIXELS):
    """Pixels that leave a layer, seen by the oracle."""
    example = rows(1, int(np.prod(image_shape)))
    return propagated(layer, inputs(example, image_shape)).sigma.shape[2:4]


# --- convolutions ------------------------------------------------------------------------------

CONVOLUTIONS = [
    Conv2d(size=size, stride=stride, padding=padding, bias_var=bias_var)
    for size in (1, 2, 3, 4)
    for stride in (1, 2, 3)
    for padding in ("same", "valid")
    for bias_var in (0.0, 0.3)
]


@pytest.mark.parametrize("end", ENDS, ids=repr)
@pytest.mark.parametrize("layer", CONVOLUTIONS, ids=repr)
def test_convolution_equals_the_oracle(layer, end):
    network = layer >> ReLU() >> Conv2d(size=2, bias_var=0.1) >> Abs() >> end >> Dense()
    assert_equals_oracle(network, IMAGES[:2], OTHERS)


@pytest.mark.parametrize("end", ENDS, ids=repr)
@pytest.mark.parametrize("image_shape", [(1, 1, 1), (1, 1, 7), (3, 6, 1), (4, 2, 3)])
def test_shapes_of_images_equal_the_oracle(image_shape, end):
    network = Conv2d(bias_var=0.1) >> ReLU() >> Conv2d(stride=2) >> Erf() >> end >> Dense()
    images = rows(3, int(np.prod(image_shape)))
    assert_equals_oracle(network, images, image_shape=image_shape)
    assert_equals_oracle(network, images[:2], images[2:], image_shape=image_shape)


@given(length=st.integers(1, 12), size=st.integers(1, 6), stride=st.integers(1, 4))
def test_padding_gives_the_length_over_the_stride(length, size, stride):
    before, after = padding_of(length, size, stride)
    assert (before, after) == same_padding(length, size, stride)
    assert (length + before + after - size) // stride + 1 == -(-length // stride)
    assert after - before in (0, 1)


@pytest.mark.parametrize("layer", CONVOLUTIONS, ids=repr)
def test_convolution_has_the_shape_of_torch(layer):
    x = torch.as_tensor(IMAGES.reshape(-1, *PIXELS))
    found = layer.finite(x, 3, torch.Generator().manual_seed(0))(x).shape[2:]
    assert found == output_size(layer)
    padding = "same" if layer.padding == "same" else 0
    if (layer.stride == 1 and layer.size % 2) or padding == 0:  # torch has no "same" for strides
        filters = x.new_ones(1, 2, layer.size, layer.size)
        wanted = functional.conv2d(x, filters, stride=layer.stride, padding=padding)
        assert found == wanted.shape[2:]


@pytest.mark.parametrize("layer", CONVOLUTIONS, ids=repr)
def test_linear_convolution_is_the_product_of_patches(layer):
    """Without activations Sigma is known from torch's own patches."""
    x = torch.as_tensor(IMAGES.reshape(-1, *PIXELS))
    pads = [0, 0, 0, 0]
    if layer.padding == "same":
        (top, bottom), (left, right) = (padding_of(n, layer.size, layer.stride) for n in PIXELS[1:])
        pads = [left, right, top, bottom]
    patches = functional.unfold(functional.pad(x, pads), layer.size, stride=layer.stride).numpy()
    flat = np.einsum("nap,map->nm", patches, patches) / np.prod(patches.shape[1:])
    pooled = np.einsum("nap,maq->nm", patches, patches) / (patches.shape[1] * patches.shape[2] ** 2)
    for end, mean in ((Flatten(), flat), (GlobalAvgPool2d(), pooled)):
        sigma, theta = both(layer >> end, IMAGES)
        np.testing.assert_allclose(sigma, 2.0 * mean + layer.bias_var, **EXACT)
        np.testing.assert_allclose(theta, sigma, **EXACT)


def test_convolution_of_one_pixel_filters_is_dense_at_every_pixel():
    dense, conv = Dense(1.5, 0.2), Conv2d(size=1, weight_var=1.5, bias_var=0.2)
    for end in ENDS:
        for a, b in zip(
            both(dense >> ReLU() >> dense >> end, IMAGES),
            both(conv >> ReLU() >> conv >> end, IMAGES),
            strict=True,
        ):
            np.testing.assert_allclose(a, b, **EXACT)


def test_convolution_of_images_of_one_pixel_is_dense():
    network = Conv2d(size=1, bias_var=0.1) >> ReLU() >> Flatten() >> Dense(bias_var=0.1)
    found = NetworkKernel(network, image_shape=(3, 1, 1))(rows(5))
    np.testing.assert_allclose(found, NTK(depth=1, bias_var=0.1)(rows(5)), **EXACT)


def test_convolution_sees_one_ninth_of_a_lonely_pixel():
    network = Conv2d(weight_var=9.0) >> Flatten()
    found = NetworkKernel(network, "nngp", normalize=False, image_shape=(1, 1, 1))([[1.0]])
    np.testing.assert_allclose(found, 1.0, rtol=1e-15)


@pytest.mark.parametrize("image_shape", [(2, 5, 4), (3, 4, 4)])
def test_flattened_and_pooled_networks_agree_on_one_output_pixel(image_shape):
    h, w = image_shape[1:]
    images = rows(4, int(np.prod(image_shape)))
    whole = Conv2d(size=min(h, w), padding="valid", stride=max(h, w), bias_var=0.1)
    for a, b in zip(
        *(both(whole >> ReLU() >> end >> Dense(), images, image_shape=image_shape) for end in ENDS),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, **EXACT)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"size": 0}, "`size` of Conv2d is 0; expected a positive integer"),
        ({"size": 2.5}, "`size` of Conv2d is 2.5; expected a positive integer"),
        ({"stride": -1}, "`stride` of Conv2d is -1; expected a positive integer"),
        ({"stride": True}, "`stride` of Conv2d is True; expected a positive integer"),
        ({"padding": "SAME"}, "`padding` of Conv2d is 'SAME'; expected 'same' or 'valid'"),
        ({"padding": 1}, "`padding` of Conv2d is 1; expected 'same' or 'valid'"),
    ],
)
def test_convolutions_that_do_not_exist_are_refused(params, message):
    with pytest.raises(ValueError, match=message):
        Conv2d(**params)


# --- pooling and flattening --------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize("stride", [None, 1, 2])
@pytest.mark.parametrize("end", ENDS, ids=repr)
def test_pooling_equals_the_oracle(size, stride, end):
    pool = AvgPool2d(size, stride)
    network = Conv2d(bias_var=0.1) >> ReLU() >> pool >> Conv2d(size=2) >> ReLU() >> end >> Dense()
    assert_equals_oracle(network, IMAGES)
    assert_equals_oracle(network, IMAGES[:2], OTHERS)


@pytest.mark.parametrize("pool", [AvgPool2d(2), AvgPool2d(3, 1), AvgPool2d(2, 3)], ids=repr)
def test_pooling_has_the_shape_of_torch(pool):
    x = torch.as_tensor(IMAGES.reshape(-1, *PIXELS))
    module = pool.finite(x, 3, torch.Generator())
    assert module(x).shape[2:] == output_size(pool)


def test_pooling_of_everything_is_global_pooling():
    images = rows(4, 32)
    whole, pooled = (
        both(Conv2d() >> ReLU() >> end, images, image_shape=(2, 4, 4))
        for end in (AvgPool2d(4) >> Flatten(), GlobalAvgPool2d())
    )
    for a, b in zip(whole, pooled, strict=True):
        np.testing.assert_allclose(a, b, **EXACT)


def test_pooling_of_single_pixels_changes_nothing():
    for end in ENDS:
        pooled, plain = (
            both(Conv2d() >> ReLU() >> layer >> Conv2d() >> ReLU() >> end, IMAGES)
            for layer in (AvgPool2d(1), Identity())
        )
        for a, b in zip(pooled, plain, strict=True):
            np.testing.assert_allclose(a, b, **EXACT)


def test_pooled_networks_do_not_see_where_things_are():
    """A pattern shifted away from the borders has the same global average."""
    image = np.zeros((2, 1, 9, 9))
    image[0, 0, 2:4, 2:5] = image[1, 0, 4:6, 3:6] = rows(2, 3)
    X = image.reshape(2, -1)
    network = Conv2d() >> ReLU() >> Conv2d() >> ReLU()
    pooled = both(network >> GlobalAvgPool2d() >> Dense(), X, image_shape=(1, 9, 9))
    flat = both(network >> Flatten() >> Dense(), X, image_shape=(1, 9, 9))
    for K in pooled:
        np.testing.assert_allclose(K, K[0, 0], rtol=1e-12)
    for K in flat:
        assert K[0, 1] < 0.9 * K[0, 0]


def test_flattening_rows_of_pixels_is_the_network_on_rows():
    network = Flatten() >> Dense(bias_var=0.1) >> ReLU() >> Dense()
    found = NetworkKernel(network, image_shape=PIXELS)(IMAGES, OTHERS)
    wanted = NetworkKernel(Dense(bias_var=0.1) >> ReLU() >> Dense())(IMAGES, OTHERS)
    np.testing.assert_allclose(found, wanted, **EXACT)


def test_flattened_networks_do_not_mix_pixels():
    """All pairs of pixels, held because another branch pools, give the same flattened kernel."""
    network = Conv2d(bias_var=0.2) >> ReLU() >> Conv2d(stride=2) >> ReLU()
    assert not (network >> Flatten()).mixes_pixels
    few = both(network >> Flatten() >> Dense(), IMAGES)
    assert (network >> AvgPool2d(1) >> Flatten()).mixes_pixels
    many = both(network >> AvgPool2d(1) >> Flatten() >> Dense(), IMAGES)
    for a, b in zip(few, many, strict=True):
        np.testing.assert_allclose(a, b, **EXACT)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"size": 0}, "`size` of AvgPool2d is 0; expected a positive integer"),
        ({"size": "2"}, "`size` of AvgPool2d is '2'; expected a positive integer"),
        ({"stride": 0}, "`stride` of AvgPool2d is 0; expected a positive integer"),
        ({"stride": 1.5}, "`stride` of AvgPool2d is 1.5; expected a positive integer"),
    ],
)
def test_windows_that_do_not_exist_are_refused(params, message):
    with pytest.raises(ValueError, match=message):
        AvgPool2d(**params)


# --- images that do not fit --------------------------------------------------------------------


@pytest.mark.parametrize(
    "network",
    [
        Conv2d(size=5, padding="valid") >> Flatten(),
        Conv2d(size=5, padding="valid") >> GlobalAvgPool2d(),
        AvgPool2d(5) >> Flatten(),
        AvgPool2d(3) >> Conv2d(size=2, padding="valid") >> Flatten(),
        Conv2d(stride=5) >> ReLU() >> AvgPool2d(2) >> GlobalAvgPool2d(),
    ],
    ids=repr,
)
def test_windows_larger_than_the_image_are_refused(network):
    message = r"A window of \d pixels does not fit \d; use smaller windows or fewer layers"
    with pytest.raises(ValueError, match=message):
        both(network, IMAGES)


@pytest.mark.parametrize("layer", [Conv2d(), AvgPool2d(), Flatten(), GlobalAvgPool2d()], ids=repr)
def test_layers_of_images_refuse_rows(layer):
    message = r"needs images, and rows reach it. Pass `image_shape=\(c, h, w\)`"
    for network, shape in ((layer >> Dense(), None), (Flatten() >> layer, PIXELS)):
        with pytest.raises(ValueError, match=message):
            both(network, IMAGES, image_shape=shape)
        with pytest.raises(ValueError, match=message):
            NetworkKernel(network, image_shape=shape).diag(IMAGES)


# --- dark and equal images ---------------------------------------------------------------------

LONG = np.finfo(np.longdouble).eps < 1e-18


def hard_images():
    """Copies, a near copy, its negative, a black one, one with black pixels, (7, 40)."""
    x = rows(3, 40, seed=3)
    black = x[2].copy()
    black[::2] = 0.0
    return np.vstack([x, x[0], x[1] + 1e-9, -x[2], np.zeros(40), black])


@pytest.mark.parametrize("end", ENDS, ids=repr)
@pytest.mark.parametrize("bias_var", [0.0, 0.2])
def test_hard_images_equal_the_oracle(bias_var, end):
    layer = Conv2d(bias_var=bias_var)
    network = layer >> ReLU() >> layer >> ReLU() >> end >> Dense()
    hard = hard_images()
    for K, wanted in zip(
        both(network, hard), kernels_of(network, hard, image_shape=PIXELS), strict=True
    ):
        np.testing.assert_allclose(K, wanted, rtol=1e-7, atol=1e-7)  # the oracle's arccos at 1
        assert np.linalg.eigvalsh(K)[0] > -1e-14 * np.trace(K)


@pytest.mark.parametrize("end", ENDS, ids=repr)
def test_gradients_at_hard_images_are_finite(end):
    network = Conv2d(bias_var=0.2) >> ReLU() >> Conv2d() >> ReLU() >> end >> Dense()
    kernel, hard = NetworkKernel(network, image_shape=PIXELS), hard_images()
    K, gradient = kernel(hard, eval_gradient=True)
    found = kernel.vjp(hard, None, np.ones((8, 8)))
    for a in (K, gradient, found.X, found.theta):
        assert np.isfinite(a).all()


@pytest.mark.skipif(not LONG, reason="long doubles are doubles here")
@pytest.mark.parametrize("end", ENDS, ids=repr)
@pytest.mark.parametrize("distance", [1e-4, 1e-7])
def test_convolution_does_not_lose_digits_at_near_duplicates(distance, end):
    near = IMAGES + distance * rows(3, 40, seed=5)
    layer = Conv2d(bias_var=0.1)
    network = layer >> ReLU() >> layer >> ReLU() >> end >> Dense()
    wanted = kernels_of(
        network, IMAGES.astype(np.longdouble), near.astype(np.longdouble), image_shape=PIXELS
    )
    for found, K in zip(both(network, IMAGES, near), wanted, strict=True):
        # The oracle's cosines lose half of a long double's digits; a double's are off by 1e-9.
        np.testing.assert_allclose(found, K.astype(float), rtol=1e-11)
