r"""The law of an infinite ensemble, against networks that are in fact trained.

200 networks of one hidden layer start at random and descend, in the NTK parametrization,

.. math:: \tfrac12 \|f(X) - y\|^2 + \tfrac{s}{2} \|\theta - \theta_0\|^2 .

In the limit of infinite width, small steps make this gradient flow for ``training_time`` = learning
rate times steps, and s is ``noise_variance``. The learning rate is 1/(lambda_max + s), half of what
is stable; (1 - lr lambda)^k, k steps, and exp(-lambda t), the flow, then differ by at most 0.27/k,
1.4 % for the 20 steps below.

Tolerances: the mean of N networks has the standard error std/sqrt(N), 7 % of std; their standard
deviation that of a Gaussian sample, std/sqrt(2(N - 1)), 5 %. Finite width moves both by O(1/width)
(Dyer and Gur-Ari 2020), some 1e-3 of the targets' size beside errors of a mean of 7e-3 and more.
erf keeps the constant small. Kinks lie elsewhere in every network: with ReLU and s = 0.1, width
1024 moves means by up to eight standard errors, width 4096 by some four.
"""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.func import grad, vmap

from sknk import NTKGaussianProcessRegressor
from sknk.kernels import NTK

NETWORKS, WIDTH, N, D, NEW = 200, 1024, 20, 2, 10
WEIGHT_VAR, BIAS_VAR = 2.0, 0.1
KERNEL = NTK(1, "erf", weight_var=WEIGHT_VAR, bias_var=BIAS_VAR, normalize=False)
EARLY, LATE = 20, 200  # steps


def problem():
    rng = np.random.default_rng(0)
    X, new = rng.standard_normal((N, D)), rng.standard_normal((NEW, D))
    return X, np.sin(2.0 * X[:, 0]) + 0.5 * X[:, 1], new


def draw(generator):
    """Parameters of all networks at the start, standard normal."""
    shapes = {"W": (WIDTH, D), "b": (WIDTH,), "v": (WIDTH,), "c": ()}
    return {k: torch.randn(NETWORKS, *shape, generator=generator) for k, shape in shapes.items()}


def network(p, X):
    """One network in the NTK parametrization, f(X) of shape (n,)."""
    h = torch.erf((WEIGHT_VAR / D) ** 0.5 * X @ p["W"].T + BIAS_VAR**0.5 * p["b"])
    return (WEIGHT_VAR / WIDTH) ** 0.5 * h @ p["v"] + BIAS_VAR**0.5 * p["c"]


def train(ridge):
    """Outputs of all networks at the new rows after EARLY and LATE steps."""
    X, y, new = (torch.from_numpy(v).float() for v in problem())

    def loss(p, start):
        moved = sum((p[k] - start[k]).square().sum() for k in p)
        return 0.5 * (network(p, X) - y).square().sum() + 0.5 * ridge * moved

    rate = 1.0 / (np.linalg.eigvalsh(KERNEL(problem()[0]))[-1] + ridge)
    descend, outputs = vmap(grad(loss)), vmap(network, in_dims=(0, None))
    start = draw(torch.Generator().manual_seed(0))
    p, found = dict(start), {}
    for step in range(1, LATE + 1):
        slope = descend(p, start)
        p = {k: p[k] - rate * slope[k] for k in p}
        if step in (EARLY, LATE):
            found[step] = outputs(p, new).double().numpy()
    return SimpleNamespace(rate=rate, outputs=found)


@pytest.fixture(scope="module")
def free():
    """Networks that descend the squared error alone."""
    return train(0.0)


@pytest.fixture(scope="module")
def ridged():
    """Networks that are held to their start; late, they have converged up to exp(-4) = 2 %."""
    return train(0.5)


def z_scores(outputs, posterior="ensemble", noise_variance=1e-8, training_time=None):
    """Deviations of mean and standard deviation in standard errors, (NEW,) each."""
    X, y, new = problem()
    model = NTKGaussianProcessRegressor(
        KERNEL,
        posterior=posterior,
        training_time=training_time,
        amplitude=1.0,
        noise_variance=noise_variance,
        optimizer=None,
    )
    mean, std = model.fit(X, y).predict(new, return_std=True)
    of_mean = (outputs.mean(axis=0) - mean) / (std / np.sqrt(NETWORKS))
    of_std = (outputs.std(axis=0, ddof=1) - std) / (std / np.sqrt(2.0 * (NETWORKS - 1)))
    return of_mean, of_std


def assert_same_law(z):
    # Each is standard normal; the rows are correlated, so their squares average to 1 with a
    # standard deviation of up to sqrt(2).
    for each in z:
        assert np.abs(each).max() < 4.0
        assert np.square(each).mean() < 4.0


@pytest.mark.slow
@pytest.mark.parametrize("steps", [EARLY, LATE])
def test_ensemble_is_the_law_of_networks_when_training_stops(free, steps):
    assert_same_law(z_scores(free.outputs[steps], training_time=free.rate * steps))


@pytest.mark.slow
@pytest.mark.parametrize("steps", [EARLY, LATE])
def test_noise_variance_is_a_ridge_on_what_the_weights_move(ridged, steps):
    time = ridged.rate * steps
    assert_same_law(z_scores(ridged.outputs[steps], noise_variance=0.5, training_time=time))


@pytest.mark.slow
def test_ensemble_is_the_law_of_networks_at_convergence(ridged):
    assert_same_law(z_scores(ridged.outputs[LATE], noise_variance=0.5))


@pytest.mark.slow
@pytest.mark.parametrize("posterior", ["ntkgp", "nngp"])
def test_other_posteriors_are_not_the_law_of_networks(ridged, posterior):
    _, of_std = z_scores(ridged.outputs[LATE], posterior, noise_variance=0.5)
    assert np.abs(of_std).max() > 6.0


@pytest.mark.slow
def test_early_networks_have_not_the_law_at_convergence(ridged):
    of_mean, of_std = z_scores(ridged.outputs[EARLY], noise_variance=0.5)
    assert min(np.abs(of_mean).max(), np.abs(of_std).max()) > 6.0
