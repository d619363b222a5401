"""Our kernels against neural-tangents 0.6.5 in float64.

``reference/infinite_width.npz`` holds the rows ``X1`` (6, 4) and ``X2`` (3, 4) and Gram matrices
under ``ACTIVATION|L<hidden layers>|w<weight std>|b<bias std>|<kernel><pair>``: kernel "nngp" or
"ntk"; pair "12" for (X1, X2), "11" for X1 with itself. The source's standard deviations are the
square roots of our variances; its kernels have no normalizing constant. ``relu_standard`` is in the
standard parametrization with hidden width 7; ``relu_layernorm`` has a LayerNorm after each hidden
Dense.
"""

from pathlib import Path

import numpy as np
import pytest

from sknk.kernels import (
    NNGP,
    NTK,
    Dense,
    Exp,
    Gaussian,
    LayerNorm,
    LeakyReLU,
    Monomial,
    NetworkKernel,
    Polynomial,
    Rbf,
    RectifiedMonomial,
    ReLU,
    Sin,
)

GOLDEN = dict(np.load(Path(__file__).parents[1] / "reference" / "infinite_width.npz"))
KEYS = sorted(set(GOLDEN) - {"X1", "X2"})
ACTIVATIONS = {
    "relu": "relu",
    "relu_standard": "relu",
    "leaky03": LeakyReLU(0.3),
    "abs": "abs",
    "erf": "erf",
    "gelu": "gelu",
    "sin": Sin(a=0.7, b=1.3, c=0.4),
    "rbf": Rbf(gamma=0.5),
    "sigmoid_like": "sigmoid_like",
    "cos": "cos",
    "gaussian": Gaussian(b=-0.7),
    "exp": Exp(b=0.3),
    "gabor": "gabor",
    "sign": "sign",
    "poly": Polynomial((0.3, 1.0, -0.5, 0.2)),
    "mono2": Monomial(2),
    "mono3": Monomial(3),
    "relu2": RectifiedMonomial(2),
    "relu_layernorm": "relu",
}
KINKED = ("relu", "leaky03", "abs")


def kernel_of(key):
    activation, depth, weight_std, bias_std, kind = key.split("|")
    params = {
        "depth": int(depth[1:]),
        "activation": ACTIVATIONS[activation],
        "weight_var": float(weight_std[1:]) ** 2,
        "bias_var": float(bias_std[1:]) ** 2,
        "normalize": False,
    }
    if activation == "relu_layernorm":
        return layer_normalized(params["weight_var"], params["bias_var"], kind[:-2])
    if kind.startswith("nngp"):
        return NNGP(**params)
    standard = {"parametrization": "standard", "width": 7} if "standard" in activation else {}
    return NTK(**params, **standard)


def layer_normalized(weight_var, bias_var, output):
    dense = Dense(weight_var=weight_var, bias_var=bias_var)
    hidden = dense >> LayerNorm() >> ReLU()
    return NetworkKernel(hidden >> hidden >> dense, output=output, normalize=False)


def assert_diagonal(found, key):
    """Compare with the source's diagonal, as far as that is right."""
    wanted, slack = np.diag(GOLDEN[key]), {"rtol": 1e-11}
    if key.startswith("sign"):
        # There a row is at an angle to itself: the root of a rounding error, layer after layer.
        kernel = kernel_of(key)
        wanted = np.full(6, kernel.weight_var + kernel.bias_var)
    elif key.endswith("ntk11") and key.startswith(KINKED):
        # There it differentiates arccos at 1 and is off by up to 2.6e-8.
        slack = {"atol": 1.6e-6} if key.startswith("abs|L3") else {"rtol": 5e-8}
    np.testing.assert_allclose(found, wanted, **slack)


@pytest.mark.parametrize("key", KEYS)
def test_gram_equals_golden_value(key):
    found = kernel_of(key)(GOLDEN["X1"], GOLDEN["X2"] if key.endswith("12") else None)
    wanted = GOLDEN[key]
    if key.endswith("11"):
        assert_diagonal(np.diag(found), key)
        found, wanted = (K[~np.eye(6, dtype=bool)] for K in (found, wanted))
    np.testing.assert_allclose(found, wanted, rtol=1e-11)  # a few hundred roundings on both sides


@pytest.mark.parametrize("key", [key for key in KEYS if key.endswith("11")])
def test_diag_equals_golden_diagonal(key):
    assert_diagonal(kernel_of(key).diag(GOLDEN["X1"]), key)


def test_fixture_covers_every_activation_and_depth():
    # Activations, depths, variances and arrays; monomials to depth 2; relu2 of depth 1 and without
    # diagonals, which the source does not have.
    assert len(KEYS) == 14 * 3 * 2 * 4 + 2 * 2 * 2 * 4 + 4 + 2 + 2
    assert {key.split("|")[0] for key in KEYS} == set(ACTIVATIONS)
