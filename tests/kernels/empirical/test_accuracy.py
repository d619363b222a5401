"""How fast approximations of tangent kernels approach them: pseudo kernels, random features."""

import numpy as np
import pytest
import torch
from torch import nn

from sknk.kernels import EmpiricalNTK
from tests.cases import rows
from tests.modules import mlp, seeded

SKETCHES = ["rademacher", "sparse", "gaussian"]


def distance(found, wanted):
    """Frobenius norm of the difference over that of what is wanted."""
    return np.linalg.norm(found - wanted) / np.linalg.norm(wanted)


def slope(sizes, errors):
    """Exponent of the power law, by least squares of logarithms."""
    return np.polyfit(np.log(sizes), np.log(errors), 1)[0]


# --- pseudo kernels -------------------------------------------------------------------------------


class Times(nn.Module):
    """A fixed factor: with N(0, 1) weights it makes the NTK parametrization."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return self.factor * x


def wide(width, inputs, outputs):
    """Three layers of ReLU whose weights are N(0, 1), scaled after the product."""
    net = nn.Sequential(
        nn.Linear(inputs, width, bias=False), Times(inputs**-0.5), nn.ReLU(),
        nn.Linear(width, width, bias=False), Times((2.0 / width) ** 0.5), nn.ReLU(),
        nn.Linear(width, outputs, bias=False), Times((2.0 / width) ** 0.5),
    )  # fmt: skip
    for p in net.parameters():
        nn.init.normal_(p)
    return net


def test_pseudo_kernel_error_falls_with_the_root_of_the_width():
    widths, X, outputs = [32, 64, 128, 256, 512], rows(5, 8), 6

    def error(width, seed):
        net = seeded(lambda: wide(width, 8, outputs), seed)
        pseudo = EmpiricalNTK(net, kind="pseudo")(X)
        return distance(np.kron(pseudo, np.eye(outputs)), EmpiricalNTK(net).full(X))

    errors = [np.mean([error(width, seed) for seed in range(8)]) for width in widths]
    # Mohamadi, Bae and Sutherland 2023, theorem 3: O(width^-1/2); five widths, eight networks.
    assert -0.65 < slope(widths, errors) < -0.35
    assert errors[0] > 0.2
    assert errors[-1] < 0.25


def test_pseudo_kernel_of_one_output_is_exact():
    net, X = seeded(lambda: mlp(3, 1)), rows(5)
    found = EmpiricalNTK(net, kind="pseudo")(X)
    np.testing.assert_allclose(found, EmpiricalNTK(net).full(X), rtol=1e-13)


# --- random features ------------------------------------------------------------------------------


def features(net, X, width, seed, sketch, **options):
    kernel = EmpiricalNTK(
        net,
        projection=width,
        sketch=sketch,
        random_state=seed,
        implementation="structured",
        **options,
    )
    return kernel.features(X)


@pytest.mark.parametrize("sketch", SKETCHES)
def test_projection_error_falls_with_the_root_of_the_features(sketch):
    net, X, widths = seeded(lambda: mlp(3, 2, width=16)), rows(5), [16, 64, 256, 1024]
    K = EmpiricalNTK(net)(X)

    def error(width, seed):
        Z = features(net, X, width, seed, sketch)
        return distance(Z @ Z.T, K)

    errors = [np.mean([error(width, seed) for seed in range(20)]) for width in widths]
    # Twenty draws of an error that varies by half: the slope's own error is 0.04.
    assert -0.6 < slope(widths, errors) < -0.4
    # A Gaussian sketch has sqrt((1 + (tr K / |K|_F)^2) / k): both are near it.
    wanted = np.sqrt((1.0 + (np.trace(K) / np.linalg.norm(K)) ** 2) / np.array(widths))
    np.testing.assert_allclose(errors, wanted, rtol=0.5)


@pytest.mark.parametrize("kind", ["trace", "pseudo", "sign"])
@pytest.mark.parametrize("sketch", SKETCHES)
def test_projection_is_unbiased(sketch, kind):
    net, X = seeded(lambda: mlp(3, 3)), rows(4)
    K = EmpiricalNTK(net, kind=kind)(X)
    drawn = [features(net, X, 32, seed, sketch, kind=kind) for seed in range(150)]
    grams = np.stack([Z @ Z.T for Z in drawn])
    error = grams.std(axis=0, ddof=1) / np.sqrt(len(grams))
    # Ten entries within 4.5 standard errors of their mean: one failure in ten thousand draws.
    assert (np.abs(grams.mean(axis=0) - K) < 4.5 * error).all()
    assert (error < 0.04 * np.abs(K).max()).all()  # a bias of a fifth would be seen


@pytest.mark.parametrize("sketch", SKETCHES)
def test_projection_of_complex_parameters_and_numbers_is_unbiased(sketch):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.gain = nn.Parameter(torch.tensor(0.7))
            self.R = nn.Parameter(torch.randn(3, 2, dtype=torch.complex128))

        def forward(self, x):
            return self.gain * (x.to(torch.complex128) @ self.R).abs()

    net, X = seeded(Net), rows(4)
    K = EmpiricalNTK(net)(X)
    kernels = [EmpiricalNTK(net, "trace", None, 32, sketch, random_state=s) for s in range(100)]
    grams = np.stack([kernel(X) for kernel in kernels])
    error = grams.std(axis=0, ddof=1) / np.sqrt(len(grams))
    assert (np.abs(grams.mean(axis=0) - K) < 4.5 * error).all()
    assert (error < 0.05 * np.abs(K).max()).all()


@pytest.mark.parametrize("sketch", SKETCHES)
def test_features_follow_the_seed_only(sketch):
    net, X = seeded(lambda: mlp(3, 2)), rows(6)
    Z = features(net, X, 8, 0, sketch)
    np.testing.assert_array_equal(features(net, X, 8, 0, sketch), Z)
    # 1e-13: a row's own products, in blocks of other shapes.
    np.testing.assert_allclose(features(net, X[2:4], 8, 0, sketch), Z[2:4], rtol=1e-13, atol=1e-13)
    assert np.abs(features(net, X, 8, 1, sketch) - Z).max() > 0.1
