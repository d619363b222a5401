"""Posteriors against neural-tangents 0.6.5 in float64.

``reference/gaussian_process.npz`` holds rows ``X1`` (6, 4) and ``X2`` (3, 4), targets ``Y`` (6, 2),
and mean and covariance at X2 under ``gp|POSTERIOR|absA``, ridge 1e-2, relative to tr K/n for A = 0,
and ``gd|POSTERIOR|tT``, gradient flow at time T with learning rate 0.1 and that relative ridge. Its
"ntk" is our "ensemble"; both flows have a mean over n times O targets as loss, ours half the sum.
"""

from pathlib import Path

import numpy as np
import pytest

from sknk import NTKGaussianProcessRegressor
from sknk.kernels import NTK

GOLDEN = dict(np.load(Path(__file__).parents[1] / "reference" / "gaussian_process.npz"))
X, Y, NEW = GOLDEN["X1"], GOLDEN["Y"], GOLDEN["X2"]
KERNEL = NTK(depth=2, weight_var=1.5**2, bias_var=0.2**2, normalize=False)
OURS = {"nngp": "nngp", "ntkgp": "ntkgp", "ntk": "ensemble"}
GP = sorted({key.rsplit("|", 1)[0] for key in GOLDEN if key.startswith("gp|")})
GD = sorted({key.rsplit("|", 1)[0] for key in GOLDEN if key.startswith("gd|")})
# Both sides solve a system of condition number 1e3 in float64; the source differentiates arccos.
CLOSE = {"rtol": 1e-8, "atol": 1e-8}


def training_gram(posterior):
    return (KERNEL.nngp() if posterior == "nngp" else KERNEL)(X)


def fitted(posterior, *, relative, time=None):
    scale = np.trace(training_gram(posterior)) / len(X) if relative else 1.0
    return NTKGaussianProcessRegressor(
        KERNEL,
        amplitude=1.0,
        noise_variance=1e-2 * scale,
        optimizer=None,
        posterior=OURS[posterior],
        training_time=time,
    ).fit(X, Y)


def assert_golden(model, key):
    mean, cov = model.predict(NEW, return_cov=True)
    std = model.predict(NEW, return_std=True)[1]
    np.testing.assert_allclose(mean, GOLDEN[f"{key}|mean"], **CLOSE)
    for output in range(2):
        np.testing.assert_allclose(cov[..., output], GOLDEN[f"{key}|cov"], **CLOSE)
        np.testing.assert_allclose(std[:, output] ** 2, np.diag(GOLDEN[f"{key}|cov"]), **CLOSE)


@pytest.mark.parametrize("key", GP)
def test_posterior_equals_golden_value(key):
    _, posterior, ridge = key.split("|")
    assert_golden(fitted(posterior, relative=ridge == "abs0"), key)


@pytest.mark.parametrize("key", GD)
def test_flow_equals_golden_value(key):
    _, posterior, time = key.split("|")
    ours = None if time == "tNone" else 0.1 * float(time[1:]) / Y.size
    assert_golden(fitted(posterior, relative=True, time=ours), key)


def test_largest_learning_rate_is_that_of_the_training_gram():
    largest = np.linalg.eigvalsh(training_gram("ntk"))[-1]
    np.testing.assert_allclose(2 * Y.size / largest, GOLDEN["max_lr"], rtol=1e-7)


def test_fixture_covers_every_posterior():
    assert len(GP) == 6  # three posteriors, two ridges
    assert len(GD) == 6  # nngp and ensemble, three times
