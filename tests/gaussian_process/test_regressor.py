"""The estimator: what scikit-learn answers, fitted attributes, units, shapes."""

import numpy as np
import pytest
from scipy import stats
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, WhiteKernel

from sknk import NTKGaussianProcessRegressor, NTKRidge
from sknk.kernels import NNGP, NTK
from tests.gaussian_process.problems import AMPLITUDE, KERNEL, NOISE, free, known

# Two routes to one answer: float64 rounding times condition numbers below 1e3; variances, which
# are differences, lose a little more.
RTOL = 1e-9
CLOSE = {"rtol": 1e-8, "atol": 1e-10}


# --- against scikit-learn ------------------------------------------------------------------------


def assert_same_predictions(model, other, new):
    np.testing.assert_allclose(model.predict(new), other.predict(new), rtol=1e-6, atol=1e-9)
    for options in ({"return_std": True}, {"return_cov": True}):
        found, expected = model.predict(new, **options), other.predict(new, **options)
        for a, b in zip(found, expected, strict=True):
            assert a.shape == b.shape
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("target", ["y", "Y"])
def test_posterior_equals_sklearn(table, target):
    other = GaussianProcessRegressor(AMPLITUDE * KERNEL, alpha=NOISE, optimizer=None)
    other.fit(table.X, getattr(table, target))
    assert_same_predictions(known().fit(table.X, getattr(table, target)), other, table.new)


@pytest.mark.parametrize("target", ["y", "Y"])
def test_posterior_of_normalized_targets_equals_sklearn(table, target):
    y = getattr(table, target)
    model = free(normalize_y=True).fit(table.X, y)
    # scikit-learn's kernel and alpha act on the normalized targets, as theta_ does.
    bias, amplitude, noise = np.exp(model.theta_)
    kernel = amplitude * KERNEL.clone_with_params({"bias_var": bias})
    other = GaussianProcessRegressor(kernel, alpha=noise, normalize_y=True, optimizer=None)
    assert_same_predictions(model, other.fit(table.X, y), table.new)


def test_posterior_of_normalized_targets_scales_back(table):
    mean, scale = table.y.mean(), table.y.std()
    inside = known().fit(table.X, (table.y - mean) / scale)
    model = known(
        normalize_y=True, amplitude=AMPLITUDE * scale**2, noise_variance=NOISE * scale**2
    ).fit(table.X, table.y)
    for options in ({"return_std": True}, {"return_cov": True}):
        found, expected = model.predict(table.new, **options), inside.predict(table.new, **options)
        np.testing.assert_allclose(found[0], expected[0] * scale + mean, rtol=RTOL)
        units = scale if "return_std" in options else scale**2
        np.testing.assert_allclose(found[1], expected[1] * units, **CLOSE)


def test_posterior_with_white_noise_equals_sklearn(table):
    kernel = 2.0 * RBF(1.3) + WhiteKernel(0.2)
    other = GaussianProcessRegressor(kernel, alpha=0.1, optimizer=None).fit(table.X, table.y)
    model = known(kernel=kernel, amplitude=1.0, noise_variance=0.1).fit(table.X, table.y)
    assert_same_predictions(model, other, table.new)
    assert model.kernel_ == kernel


# --- fitted attributes ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"posterior": "nngp"},
        {"posterior": "ensemble"},
        {"training_time": 0.5},
        {"normalize_y": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("target", ["y", "Y"])
def test_dual_coef_predicts(table, options, target):
    y, w = getattr(table, target), np.where(np.arange(16) == 3, 0.0, table.weights)
    model = free(**options).fit(np.vstack([table.X, table.X[:4]]), np.r_[y, y[:4]], np.r_[w, w[:4]])
    mean = np.average(np.r_[y, y[:4]], axis=0, weights=np.r_[w, w[:4]])
    prior = mean if "normalize_y" in options else 0.0
    assert model.dual_coef_.shape == (20, *y.shape[1:])
    found = model.kernel_(table.new, model.X_fit_) @ model.dual_coef_ + prior
    np.testing.assert_allclose(found, model.predict(table.new), **CLOSE)


def test_mean_is_kernel_ridge(table):
    model = known().fit(table.X, table.Y, table.weights)
    ridge = NTKRidge(KERNEL, alpha=NOISE / AMPLITUDE, fit_intercept=False)
    ridge.fit(table.X, table.Y, table.weights)
    np.testing.assert_allclose(model.predict(table.new), ridge.predict(table.new), rtol=RTOL)


@pytest.mark.parametrize("target", ["y", "Y"])
@pytest.mark.parametrize("normalize_y", [False, True])
def test_numbers_are_in_units_of_y_squared(table, target, normalize_y):
    y = getattr(table, target)
    model = NTKGaussianProcessRegressor(KERNEL, normalize_y=normalize_y).fit(table.X, y)
    units = np.var(y, axis=0) if normalize_y else np.ones(y.shape[1:])
    scaled = np.exp(model.theta_[-2:])
    np.testing.assert_allclose(model.amplitude_, scaled[0] * units, rtol=RTOL)
    np.testing.assert_allclose(model.noise_variance_, scaled[1] * units, rtol=RTOL)
    assert np.ndim(model.noise_variance_) == y.ndim - 1


def test_default_kernel_is_an_ntk_with_biases(table):
    model = NTKGaussianProcessRegressor().fit(table.X, table.y)
    assert isinstance(model.kernel_, NTK)
    assert model.kernel_.bias_var > 0
    nngp = NTKGaussianProcessRegressor(posterior="nngp").fit(table.X, table.y)
    assert isinstance(nngp.kernel_, NNGP)


def test_fit_keeps_the_kernel_it_was_given(table):
    kernel = NTK(depth=1, bias_var=0.1)
    model = NTKGaussianProcessRegressor(kernel, ard=True).fit(table.X, table.y)
    assert kernel == NTK(depth=1, bias_var=0.1)
    assert model.kernel_ != kernel


def test_outputs_share_hyperparameters_and_predict_one_by_one(table):
    both = known().fit(table.X, table.Y)
    for k in range(2):
        one = known().fit(table.X, table.Y[:, k])
        for options in ({"return_std": True}, {"return_cov": True}):
            found, expected = both.predict(table.new, **options), one.predict(table.new, **options)
            assert found[1].shape == (*expected[1].shape, 2)
            np.testing.assert_allclose(found[0][..., k], expected[0], rtol=RTOL)
            np.testing.assert_allclose(found[1][..., k], expected[1], **CLOSE)


def test_column_target_keeps_its_shape(table):
    model = known().fit(table.X, table.y[:, None])
    mean, std = model.predict(table.new, return_std=True)
    assert mean.shape == std.shape == (5, 1)
    assert model.predict(table.new, return_cov=True)[1].shape == (5, 5, 1)
    assert model.predict_interval(table.new).shape == (5, 2, 1)
    assert model.sample_y(table.new, 3).shape == (5, 1, 3)


def test_interpolates_when_noise_is_small(table):
    model = known(noise_variance=1e-8).fit(table.X, table.y)
    mean, std = model.predict(table.X, return_std=True)
    np.testing.assert_allclose(mean, table.y, atol=1e-5)
    assert std.max() < 2e-4  # the root of the noise variance


def test_one_row_and_constant_targets_work(table):
    for X, y in ((table.X[:1], table.y[:1]), (table.X, np.zeros(16)), (table.X, np.full(16, 3.0))):
        for normalize_y in (False, True):
            model = NTKGaussianProcessRegressor(normalize_y=normalize_y).fit(X, y)
            assert np.isfinite(model.predict(table.new, return_std=True)).all()


def test_predictive_law_agrees_with_scipy_frozen_distribution(table):
    model = known().fit(table.X, table.y)
    mean, std = model.predict(table.new, return_std=True)
    law = stats.norm(mean, np.sqrt(std**2 + NOISE))
    expected = np.column_stack([law.ppf(q) for q in (0.05, 0.5, 0.95)])
    np.testing.assert_allclose(model.predict_quantiles(table.new), expected, rtol=RTOL)
