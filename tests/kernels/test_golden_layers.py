"""Our networks against neural-tangents 0.6.5 in float64.

``reference/layers.npz`` holds rows ``X1`` (7, 5) and ``X2`` (4, 5), images ``I1`` (4, 6, 6, 3) and
``I2`` (2, 6, 6, 3), channels last, and Gram matrices under ``img|NETWORK|<kernel><pair>`` and
``vec|NETWORK|<kernel><pair>``: kernel "nngp" or "ntk"; pair "12" for (X1, X2) or (I1, I2), "11" for
the first with itself. Weight layers have weight standard deviation 1.4 and bias standard deviation
0.3. (``relu_layernorm`` is in test_golden.py.)
"""

from pathlib import Path

import numpy as np
import pytest

from sknk.kernels import (
    GELU,
    AvgPool2d,
    Conv2d,
    Dense,
    Erf,
    Flatten,
    GlobalAvgPool2d,
    Identity,
    LayerNorm,
    LeakyReLU,
    NetworkKernel,
    ParallelProduct,
    ParallelSum,
    ReLU,
    Repeat,
    Sin,
)

GOLDEN = dict(np.load(Path(__file__).parents[1] / "reference" / "layers.npz"))
KEYS = sorted(set(GOLDEN) - {"I1", "I2", "X1", "X2"})
IMAGE_SHAPE = (3, 6, 6)

VARIANCES = {"weight_var": 1.4**2, "bias_var": 0.3**2}
D, C = Dense(**VARIANCES), Conv2d(**VARIANCES)
BRANCH = D >> ReLU() >> D
NETWORKS = {
    "img|conv_relu_flatten_dense": C >> ReLU() >> Flatten() >> D,
    "img|conv2_relu_gap_dense": C >> ReLU() >> C >> ReLU() >> GlobalAvgPool2d() >> D,
    "img|conv_relu_avgpool2_conv_relu_gap_dense": (
        C >> ReLU() >> AvgPool2d(2) >> C >> ReLU() >> GlobalAvgPool2d() >> D
    ),
    "vec|residual_block": (
        D >> ParallelSum((("branch", BRANCH), ("skip", Identity()))) >> ReLU() >> D
    ),
    "vec|layernorm_relu": Repeat(D >> LayerNorm() >> ReLU(), times=2) >> D,
    "vec|mixed_relu_gelu_erf": D >> ReLU() >> D >> GELU() >> D >> Erf() >> D,
    "vec|relu_depth5": Repeat(D >> ReLU(), times=5) >> D,
    "vec|leaky01_depth4": Repeat(D >> LeakyReLU(0.1), times=4) >> D,
    "vec|sin_depth2": Repeat(D >> Sin(0.9, 1.1, 0.2), times=2) >> D,
    "vec|product_branch": ParallelProduct((("branch", BRANCH), ("linear", D))) >> D,
}


def tables_of(key):
    if key.startswith("vec"):
        return GOLDEN["X1"], GOLDEN["X2"]
    return [
        images.transpose(0, 3, 1, 2).reshape(len(images), -1)
        for images in (GOLDEN["I1"], GOLDEN["I2"])
    ]


def kernel_of(key):
    name, kind = key.rsplit("|", 1)
    return NetworkKernel(
        NETWORKS[name],
        output=kind[:-2],
        normalize=False,
        image_shape=IMAGE_SHAPE if key.startswith("img") else None,
    )


def assert_equals_golden(found, wanted, kinked):
    """Compare, but for tangents at coincident rows, where the source is itself off by 2.6e-8."""
    diagonal = np.eye(*wanted.shape, dtype=bool) & kinked
    np.testing.assert_allclose(found[diagonal], wanted[diagonal], rtol=5e-8)
    np.testing.assert_allclose(found[~diagonal], wanted[~diagonal], rtol=1e-11)


@pytest.mark.parametrize("key", KEYS)
def test_gram_equals_golden_value(key):
    first, second = tables_of(key)
    found = kernel_of(key)(first, second if key.endswith("12") else None)
    assert_equals_golden(found, GOLDEN[key], kinked=key.endswith("ntk11"))


@pytest.mark.parametrize("key", [key for key in KEYS if key.endswith("11")])
def test_diag_equals_golden_diagonal(key):
    found = np.diag(kernel_of(key).diag(tables_of(key)[0]))
    wanted = np.diag(np.diag(GOLDEN[key]))
    assert_equals_golden(found, wanted, kinked=key.endswith("ntk11"))


def test_fixture_covers_every_network():
    assert {key.rsplit("|", 1)[0] for key in KEYS} == set(NETWORKS)
    assert len(KEYS) == 4 * len(NETWORKS)
