"""Our kernels against neural-tangents 0.6.5 in float64.

``reference/infinite_width.npz`` holds the rows ``X1`` (6, 4) and ``X2`` (3, 4) and Gram matrices
under ``ACTIVATION|L<hidden layers>|w<weight std>|b<bias std>|<kernel><pair>``: kernel "nngp" or
"ntk"; pair "12" for (X1, X2), "11" for X1 with itself. The source's standard deviations are the
square roots of our variances; its kernels have no normalizing constant. ``relu_standard`` is in the
standard parametrization with hidden width 7.
"""

from pathlib import Path

import numpy as np
import pytest

from sknk.kernels import NNGP, NTK, LeakyReLU, Rbf, Sin

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
    if kind.startswith("nngp"):
        return NNGP(**params)
    standard = {"parametrization": "standard", "width": 7} if "standard" in activation else {}
    return NTK(**params, **standard)


@pytest.mark.parametrize("key", KEYS)
def test_gram_equals_golden_value(key):
    pair = (GOLDEN["X1"], GOLDEN["X2"] if key.endswith("12") else None)
    found, wanted = kernel_of(key)(*pair), GOLDEN[key]
    if key.endswith("ntk11") and key.startswith(KINKED):
        # There the source differentiates arccos at 1 and is itself off by up to 2.6e-8.
        slack = {"atol": 1.6e-6} if key.startswith("abs|L3") else {"rtol": 5e-8}
        np.testing.assert_allclose(np.diag(found), np.diag(wanted), **slack)
        found, wanted = (K[~np.eye(6, dtype=bool)] for K in (found, wanted))
    np.testing.assert_allclose(found, wanted, rtol=1e-11)  # a few hundred roundings on both sides


@pytest.mark.parametrize("key", [key for key in KEYS if key.endswith("11")])
def test_diag_equals_golden_diagonal(key):
    slack = {"rtol": 1e-11}
    if key.endswith("ntk11") and key.startswith(KINKED):
        slack = {"atol": 1.6e-6} if key.startswith("abs|L3") else {"rtol": 5e-8}
    found = kernel_of(key).diag(GOLDEN["X1"])
    np.testing.assert_allclose(found, np.diag(GOLDEN[key]), **slack)


def test_fixture_covers_every_activation_and_depth():
    assert len(KEYS) == 7 * 3 * 2 * 4 + 2  # activations, depths, variances, arrays; standard
    assert {key.split("|")[0] for key in KEYS} == set(ACTIVATIONS)
