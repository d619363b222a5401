"""Sparse variational posteriors: identities of the ELBO, exact limits, results of training."""

import dataclasses

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from sklearn.datasets import load_iris
from sklearn.gaussian_process import GaussianProcessRegressor

import sknk
from sknk.gaussian_process._gpytorch import gpytorch
from sknk.gaussian_process._latent import LatentGP
from sknk.gaussian_process._variational import (
    fit_classification,
    fit_regression,
    softmax_expectation,
)
from sknk.kernels import NTK
from tests.cases import KERNELS, rows

KERNEL = NTK(depth=2, bias_var=0.2)
X, Z, NEW = rows(40), rows(8, seed=1), rows(12, seed=2)
Y = np.stack([np.sin(X[:, 0]) + X[:, 1], X[:, 2] ** 2], 1) + 0.3 * rows(40, 2, seed=3)
LABELS = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0.3)
STILL = {"learn_amplitude": False, "learn_noise": False, "learn_kernel": False}
START = {"amplitude": 2.0, "noise_variance": 0.1, "random_state": 0}
SHORT = {**START, "Z": Z, "max_epochs": 5, "batch_size": 16}
ARRAYS = ("Z", "mean", "root")


def classify(**options):
    options = {key: value for key, value in (SHORT | options).items() if "noise" not in key}
    return fit_classification(KERNEL, X, LABELS, 3, **options)


def phi(fit, x):
    """L^-1 (a K_ZX), (k, n)."""
    K = fit.amplitude * fit.kernel(fit.Z) + fit.jitter * np.eye(len(fit.Z))
    return np.linalg.solve(np.linalg.cholesky(K), fit.amplitude * fit.kernel(fit.Z, x))


def predict(fit, x):
    """Mean and variance of the latent functions by the formulas of the module, (t, n) each."""
    features = phi(fit, x)
    prior = fit.amplitude * fit.kernel.diag(x)
    gain = np.square(fit.root.transpose(0, 2, 1) @ features).sum(1)
    return fit.mean.T @ features, prior - np.square(features).sum(0) + gain


def naive_elbo(fit, x, y, weights):
    mean, variance = predict(fit, x)
    # gpytorch adds the jitter to the prior of the rows too.
    spread = (np.square(y.T - mean) + variance + fit.jitter) / fit.noise_variance
    terms = -0.5 * (np.log(2 * np.pi * fit.noise_variance) + spread)  # (t, n)
    log_det = 2 * np.log(np.abs(np.diagonal(fit.root, axis1=1, axis2=2))).sum()
    size = fit.mean.size
    kl = 0.5 * (np.square(fit.root).sum() + np.square(fit.mean).sum() - size - log_det)
    return (terms @ weights).sum() - kl


def model_of(fit):
    """gpytorch's model with a fit's parameters."""
    model = LatentGP(
        fit.kernel,
        torch.from_numpy(fit.Z),
        fit.mean.shape[1],
        amplitude=fit.amplitude,
        amplitude_bounds=None,
        learn_kernel=False,
        learn_inducing=False,
    )
    q = model.variational_strategy._variational_distribution
    q.variational_mean.data = torch.from_numpy(fit.mean.T.copy())
    q.chol_variational_covar.data = torch.from_numpy(fit.root)
    model.update_jitter()
    return model


def gaussian(fit):
    def expectation(q, y):
        spread = (y.T - q.mean).square() + q.variance
        noise = fit.noise_variance
        return -0.5 * (np.log(2 * np.pi * noise) + spread / noise).sum(0)

    return expectation


def elbo_of(fit, x, y, weights=None, n_total=None):
    weights = None if weights is None else torch.from_numpy(weights)
    x, y = torch.from_numpy(x), torch.from_numpy(y)
    with torch.no_grad():
        model = model_of(fit)
        return model.elbo(gaussian(fit), x, y, weights, n_total or len(x)).item()


@pytest.fixture(scope="module")
def fitted():
    return fit_regression(KERNEL, X, Y, **SHORT)


def assert_same(one, other):
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert one.kernel == other.kernel
    assert (one.amplitude, one.noise_variance) == (other.amplitude, other.noise_variance)
    assert one.history == other.history


# --- the posterior -----------------------------------------------------------------------------


@pytest.mark.parametrize("fit", [fit_regression, classify])
def test_formulas_reproduce_gpytorchs_posterior(fit, fitted):
    found = classify() if fit is classify else fitted
    with torch.no_grad():
        q = model_of(found).eval()(torch.from_numpy(NEW))
    mean, variance = predict(found, NEW)
    np.testing.assert_allclose(q.mean, mean, rtol=1e-6, atol=1e-9)
    # gpytorch adds the jitter to the prior of the rows too: 1e-8 of it.
    np.testing.assert_allclose(q.variance - found.jitter, variance, rtol=1e-6, atol=1e-9)


def test_history_is_the_elbo_of_the_formulas(fitted):
    weights = np.random.default_rng(0).uniform(0.5, 2.0, 40)
    wanted = naive_elbo(fitted, X, Y, weights)
    np.testing.assert_allclose(elbo_of(fitted, X, Y, weights), wanted, rtol=1e-8)
    # The likelihood within training is the same: one epoch at rate zero reports the prior's ELBO.
    still = fit_regression(KERNEL, X, Y, weights, **SHORT | {"max_epochs": 1, "learning_rate": 0.0})
    np.testing.assert_allclose(still.history, naive_elbo(still, X, Y, weights), rtol=1e-7)


def test_weights_are_repeated_rows(fitted):
    weights = np.arange(40) % 3
    repeated = elbo_of(fitted, X.repeat(weights, 0), Y.repeat(weights, 0))
    found = elbo_of(fitted, X, Y, weights.astype(float))
    np.testing.assert_allclose(found, repeated, rtol=1e-12)


def test_minibatches_average_to_the_elbo_of_all_rows(fitted):
    parts = [slice(0, 15), slice(15, 40)]
    found = sum(elbo_of(fitted, X[s], Y[s], n_total=40) * (s.stop - s.start) / 40 for s in parts)
    np.testing.assert_allclose(found, elbo_of(fitted, X, Y), rtol=1e-12)


def test_elbo_bounds_the_marginal_likelihood():
    options = START | STILL | {"Z": X, "batch_size": 40, "max_epochs": 60, "learning_rate": 0.3}
    history = fit_regression(KERNEL, X, Y[:, :1], **options).history
    exact = GaussianProcessRegressor(2.0 * KERNEL, alpha=0.1, optimizer=None).fit(X, Y[:, 0])
    bound = exact.log_marginal_likelihood_value_
    assert max(history) < bound
    assert history[-1] > bound - 1.0


@pytest.mark.slow
def test_inducing_rows_everywhere_approach_the_exact_posterior():
    options = START | STILL | {"Z": X, "batch_size": 40, "max_epochs": 450, "learning_rate": 0.2}
    mean, variance = predict(fit_regression(KERNEL, X, Y, **options), NEW)
    exact = GaussianProcessRegressor(2.0 * KERNEL, alpha=0.1, optimizer=None).fit(X, Y)
    wanted, std = exact.predict(NEW, return_std=True)
    # Adam stops at gradients, not at the optimum: 1e-3 of a posterior std of 0.4 is ample.
    np.testing.assert_allclose(mean.T, wanted, atol=5e-4)
    np.testing.assert_allclose(variance.T, std**2, rtol=1e-3)


@pytest.mark.slow
def test_minibatches_approach_the_exact_posterior():
    options = START | STILL | {"Z": X, "batch_size": 10, "max_epochs": 100, "learning_rate": 0.1}
    mean, variance = predict(fit_regression(KERNEL, X, Y, **options), NEW)
    exact = GaussianProcessRegressor(2.0 * KERNEL, alpha=0.1, optimizer=None).fit(X, Y)
    wanted, std = exact.predict(NEW, return_std=True)
    # Within a twentieth of the posterior's own standard deviation.
    assert (abs(mean.T - wanted) < 0.05 * std).all()
    np.testing.assert_allclose(variance.T, std**2, rtol=0.05)


def test_outputs_are_independent_where_nothing_is_shared():
    options = SHORT | STILL | {"batch_size": 40}
    both = fit_regression(KERNEL, X, Y, **options)
    for t in range(2):
        alone = fit_regression(KERNEL, X, Y[:, [t]], **options)
        np.testing.assert_allclose(both.mean[:, [t]], alone.mean, rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(both.root[[t]], alone.root, rtol=1e-6, atol=1e-9)


# --- what is learned ---------------------------------------------------------------------------


def test_result_is_numpy_and_complete(fitted):
    assert fitted.Z.shape == (8, 3)
    assert fitted.mean.shape == (8, 2)
    assert fitted.root.shape == (2, 8, 8)
    assert (np.triu(fitted.root, 1) == 0).all()
    assert len(fitted.history) == 5
    for field in dataclasses.fields(fitted):
        assert not isinstance(getattr(fitted, field.name), torch.Tensor)
    assert type(fitted.kernel) is NTK


def test_everything_is_learned_within_its_bounds(fitted):
    narrow = {"noise_bounds": (0.09, 0.11), "amplitude_bounds": (1.9, 2.1), "learning_rate": 1.0}
    tight = fit_regression(KERNEL, X, Y, **SHORT | narrow)
    assert 0.09 <= tight.noise_variance <= 0.11
    assert 1.9 <= tight.amplitude <= 2.1
    for value, start in (
        (fitted.kernel.bias_var, 0.2),
        (fitted.amplitude, 2.0),
        (fitted.noise_variance, 0.1),
    ):
        assert abs(np.log(value / start)) > 0.05


def test_what_is_not_learned_stays_to_the_last_bit():
    fit = fit_regression(KERNEL, X, Y, **SHORT | STILL)
    assert fit.kernel == KERNEL
    assert (fit.amplitude, fit.noise_variance) == (2.0, 0.1)
    np.testing.assert_array_equal(fit.Z, Z)


def test_inducing_rows_move_only_on_request(fitted):
    moved = fit_regression(KERNEL, X, Y, **SHORT, learn_inducing=True)
    np.testing.assert_array_equal(fitted.Z, Z)
    assert (moved.Z != Z).all()
    assert moved.history[-1] != fitted.history[-1]


def test_every_parameter_climbs_the_elbo():
    long = SHORT | {"max_epochs": 60, "batch_size": 40, "learning_rate": 0.1}
    still = fit_regression(KERNEL, X, Y, **long | STILL).history[-1]
    assert fit_regression(KERNEL, X, Y, **long).history[-1] > still + 5.0
    moved = fit_regression(KERNEL, X, Y, **long | STILL, learn_inducing=True).history[-1]
    assert moved > still + 1.0


def test_arguments_are_not_modified():
    kernel, x, y, z = NTK(bias_var=0.3), X.copy(), Y.copy(), Z.copy()
    fit = fit_regression(kernel, x, y, **SHORT | {"Z": z}, learn_inducing=True)
    assert kernel == NTK(bias_var=0.3)
    for now, before in ((x, X), (y, Y), (z, Z)):
        np.testing.assert_array_equal(now, before)
    assert not np.shares_memory(fit.Z, z)


def test_composite_kernels_and_per_feature_scales_are_learned():
    for name in ("nested", "ntk_ard"):
        fit = fit_regression(KERNELS[name], X, Y, **SHORT)
        assert type(fit.kernel) is type(KERNELS[name])
        assert (fit.kernel.theta != KERNELS[name].theta).all()


@pytest.mark.parametrize("amplitude", [1e-3, 1.0, 1e3])
def test_jitter_follows_the_amplitude(amplitude):
    fit = fit_regression(KERNEL, X, Y, **SHORT | STILL | {"amplitude": amplitude, "max_epochs": 1})
    np.testing.assert_allclose(fit.jitter, 1e-8 * amplitude * KERNEL.diag(Z).mean())


def test_copies_among_the_inducing_rows_are_survived():
    fit = fit_regression(KERNEL, X, Y, **SHORT | {"Z": np.vstack([Z, Z])})
    assert np.isfinite(predict(fit, NEW)).all()


def test_float32_kernels_are_enough():
    with sknk.config_context(dtype="float32"):
        fit = fit_regression(KERNEL, X, Y, **SHORT)
    reference = fit_regression(KERNEL, X, Y, **SHORT)
    np.testing.assert_allclose(predict(fit, NEW), predict(reference, NEW), atol=1e-2)


# --- classification ----------------------------------------------------------------------------


@pytest.mark.parametrize("n_rows", [3, 5])  # gpytorch's own softmax transposes 3 rows, 3 classes
def test_softmax_expectation_is_a_monte_carlo_average(n_rows):
    rng = np.random.default_rng(0)
    mean, variance = rng.standard_normal((3, n_rows)), rng.uniform(0.1, 2.0, (3, n_rows))
    labels = rng.integers(3, size=n_rows)
    q = gpytorch.distributions.MultivariateNormal(
        torch.from_numpy(mean), torch.diag_embed(torch.from_numpy(variance))
    )
    expectation = softmax_expectation(20_000, torch.Generator().manual_seed(0))
    found = expectation(q, torch.from_numpy(labels))
    f = mean + np.sqrt(variance) * rng.standard_normal((20_000, 3, n_rows))
    terms = mean[labels, np.arange(n_rows)] - logsumexp(f, axis=1)
    # Five standard errors of the naive average.
    np.testing.assert_allclose(found, terms.mean(0), atol=5 * terms.std(0).max() / np.sqrt(20_000))


def test_more_draws_agree_with_few():
    few = classify(max_epochs=30, batch_size=40)
    many = classify(max_epochs=30, batch_size=40, n_samples=200)
    assert abs(few.history[-1] - many.history[-1]) < 0.05 * abs(many.history[-1])


def test_classification_separates_iris():
    x, labels = load_iris(return_X_y=True)
    x = (x - x.mean(0)) / x.std(0)
    fit = fit_classification(
        KERNEL, x, labels, 3, Z=x[::8], amplitude=5.0, max_epochs=40, batch_size=75, random_state=0
    )
    mean, _ = predict(fit, x)
    assert (mean.argmax(0) == labels).mean() > 0.9
    assert fit.noise_variance is None
    assert fit.history[-1] > fit.history[0]


def test_rows_without_weight_do_not_count():
    flipped = np.where(np.arange(40) % 2, LABELS, 2 - LABELS)
    options = {"Z": Z, "amplitude": 2.0, "max_epochs": 10, "random_state": 0}
    weights = (np.arange(40) % 2).astype(float)
    clean = fit_classification(KERNEL, X, LABELS, 3, weights, **options)
    dirty = fit_classification(KERNEL, X, flipped, 3, weights, **options)
    assert_same(clean, dirty)


# --- randomness, progress, errors --------------------------------------------------------------


@pytest.mark.parametrize("random_state", [None, 3])
@pytest.mark.parametrize("fit", [fit_regression, classify])
def test_global_generators_are_left_alone(fit, random_state):
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    options = SHORT | {"random_state": random_state, "max_epochs": 1}
    _ = classify(**options) if fit is classify else fit_regression(KERNEL, X, Y, **options)
    assert torch.equal(before[0], torch.get_rng_state())
    np.testing.assert_array_equal(before[1], np.random.get_state()[1])  # noqa: NPY002


@pytest.mark.parametrize("seed", [5, np.random.RandomState(5)])
def test_random_state_repeats_a_fit(seed):
    one = classify(random_state=5)
    assert_same(one, classify(random_state=seed))
    assert (one.mean != classify(random_state=6).mean).any()


def test_default_dtype_is_left_alone():
    assert torch.get_default_dtype() is torch.float32
    assert fit_regression(KERNEL, X, Y, **SHORT | {"max_epochs": 1}).mean.dtype == np.float64


@pytest.mark.parametrize("verbose", [0, 1])
def test_progress_is_shown_on_request(verbose, capsys):
    fit_regression(KERNEL, X, Y, **SHORT, verbose=verbose)
    shown = capsys.readouterr()
    assert not shown.out
    assert ("ELBO" in shown.err) == bool(verbose)


def test_elbo_that_is_not_finite_is_reported_with_the_hyperparameters():
    y = Y.copy()
    y[3] = np.nan
    message = r"not finite in epoch 0 .*amplitude=2, noise_variance=0.1 and kernel=NTK\(.*bias_var"
    with pytest.raises(ValueError, match=message):
        fit_regression(KERNEL, X, y, **SHORT | {"batch_size": 40})
    x = X.copy()
    x[3] = np.nan
    with pytest.raises(ValueError, match=r"not finite in epoch 0 .*amplitude=2 and kernel=NTK\("):
        fit_classification(KERNEL, x, LABELS, 3, Z=x[:8], amplitude=2.0)


@pytest.mark.parametrize("name", ["amplitude", "noise_variance"])
@pytest.mark.parametrize("value", [0.0, 1e6])
def test_start_outside_the_bounds_is_refused(name, value):
    with pytest.raises(ValueError, match=f"`{name}` is {value}"):
        fit_regression(KERNEL, X, Y, **SHORT | {name: value})


@pytest.mark.gpu
def test_fit_on_a_gpu_is_that_of_the_cpu(cuda):
    wanted = fit_regression(KERNEL, X, Y, **SHORT)
    with sknk.config_context(device=str(cuda)):
        found = fit_regression(KERNEL, X, Y, **SHORT)
    for name in ARRAYS:
        np.testing.assert_allclose(getattr(found, name), getattr(wanted, name), atol=1e-6)


def test_gpytorch_draws_no_number_of_its_own(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a global generator was used")

    monkeypatch.setattr(torch, "randn_like", refuse)
    monkeypatch.setattr(gpytorch.distributions.MultivariateNormal, "rsample", refuse)
    fit_regression(KERNEL, X, Y, **SHORT)
    classify()
