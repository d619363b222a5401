"""Classifiers by Laplace's approximation and by minibatches, against oracles and each other."""

import sys

import numpy as np
import pytest
from sklearn.datasets import make_blobs
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.metrics import log_loss

from sknk.kernels import NTK
from tests.cases import FREE
from tests.gaussian_process.classifiers import (
    AMPLITUDE,
    EXACT,
    KERNEL,
    NEW,
    TWO,
    WEIGHTS,
    N,
    X,
    Y,
    assert_same,
    known,
    searching,
)
from tests.reference import classification as oracle
from tests.reference import laplace

# --- Laplace -----------------------------------------------------------------------------------

ONE_HOT = np.eye(3)[np.unique(Y, return_inverse=True)[1]]


@pytest.fixture(params=["ones", "weights"])
def w(request):
    return np.ones(N) if request.param == "ones" else WEIGHTS


def test_laplace_evidence_equals_dense(w):
    model = known("laplace").fit(X, Y, w)
    wanted = laplace.log_evidence(AMPLITUDE * KERNEL(X), ONE_HOT, w)
    np.testing.assert_allclose(model.log_marginal_likelihood_value_, wanted, rtol=1e-9)
    np.testing.assert_allclose(model.log_marginal_likelihood(model.theta_), wanted, rtol=1e-9)


def test_laplace_evidence_gradient_matches_finite_differences(w):
    kernel = NTK(depth=2, bias_var=0.2, input_scale=0.8, input_scale_bounds=FREE)
    model = searching("laplace", kernel, max_evaluations=1).fit(X, Y, w)
    theta = model.theta_ + 0.1
    value, found = model.log_marginal_likelihood(theta, eval_gradient=True)
    assert len(found) == 3
    wanted = oracle.differences(model.log_marginal_likelihood, theta, h=1e-2)
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)
    assert value == pytest.approx(model.log_marginal_likelihood(theta), rel=1e-12)


@pytest.mark.parametrize("labels", [[0, 1, 2, 0, 1], [0, 1, 1, 1, 0]], ids=["three", "two"])
def test_laplace_evidence_is_near_the_average_over_the_prior(labels):
    labels = np.array(labels)
    model = known("laplace", amplitude=1.5).fit(X[:5], labels)
    K = 1.5 * KERNEL(X[:5])
    wanted, error = oracle.sampled_evidence(K, labels, labels.max() + 1)
    # The approximation's own bias, and the draws'.
    assert abs(model.log_marginal_likelihood_value_ - wanted) < 0.2 + 4 * error


def test_laplace_latent_equals_dense(w):
    cross, diag = AMPLITUDE * KERNEL(X, NEW), AMPLITUDE * KERNEL.diag(NEW)
    mean, cov = laplace.predict(AMPLITUDE * KERNEL(X), ONE_HOT, w, cross, diag)
    found = known("laplace").fit(X, Y, w).predict_latent(NEW, return_std=True)
    np.testing.assert_allclose(found[0], mean, rtol=1e-7, atol=1e-8)
    variance = np.diagonal(cov, axis1=1, axis2=2)
    np.testing.assert_allclose(found[1], np.sqrt(variance), rtol=1e-7)


def test_laplace_proba_matches_monte_carlo():
    cross, diag = AMPLITUDE * KERNEL(X, NEW), AMPLITUDE * KERNEL.diag(NEW)
    law = laplace.predict(AMPLITUDE * KERNEL(X), ONE_HOT, np.ones(N), cross, diag)
    z = np.random.default_rng(1).standard_normal((50_000, 3))
    roots = np.linalg.cholesky(law[1])
    wanted = [laplace.softmax(m + z @ L.T).mean(axis=0) for m, L in zip(law[0], roots, strict=True)]
    found = known("laplace").fit(X, Y).predict_proba(NEW)
    # 512 points, and five standard errors of 5e4 draws.
    np.testing.assert_allclose(found, wanted, atol=2e-3 + 5 * 0.3 / np.sqrt(5e4))


def test_laplace_of_two_classes_equals_sklearn():
    # f_2 - f_1 has twice the prior variance; scikit-learn's link is a sum of five error functions.
    other = GaussianProcessClassifier(2 * AMPLITUDE * KERNEL, optimizer=None).fit(X, TWO)
    model = known("laplace").fit(X, TWO)
    wanted = other.log_marginal_likelihood_value_
    np.testing.assert_allclose(model.log_marginal_likelihood_value_, wanted, rtol=1e-8)
    np.testing.assert_allclose(model.predict_proba(NEW), other.predict_proba(NEW), atol=2e-3)


def test_laplace_dual_coef_gives_the_latent_means():
    model = known("laplace").fit(X, Y, WEIGHTS)
    cross = model.amplitude_ * model.kernel_(NEW, model.X_fit_)
    np.testing.assert_allclose(cross @ model.dual_coef_, model.predict_latent(NEW), rtol=1e-9)


# --- variational -------------------------------------------------------------------------------


def test_variational_agrees_with_laplace():
    x, y = make_blobs(120, centers=3, n_features=2, cluster_std=2.5, random_state=3)
    x = (x - x.mean(0)) / x.std(0)
    exact = known("laplace").fit(x[:80], y[:80]).predict_proba(x[80:])
    options = {"rank": 40, "max_epochs": 80, "learning_rate": 0.1}
    found = known("variational", **options).fit(x[:80], y[:80]).predict_proba(x[80:])
    assert log_loss(y[80:], found) == pytest.approx(log_loss(y[80:], exact), rel=0.2)
    assert np.abs(found - exact).mean() < 0.05


def test_variational_learns_hyperparameters_and_inducing_rows():
    model = searching("variational").fit(X, Y)
    assert model.amplitude_ != 4.0
    assert model.kernel_.bias_var != 0.1
    assert model._model.Z.shape == (15, 3)
    assert not set(map(tuple, model._model.Z)) & set(map(tuple, X))
    assert np.isfinite(model.log_marginal_likelihood_value_)


def test_variational_takes_no_more_inducing_rows_than_rows():
    assert known("variational", rank=1000).fit(X, Y)._model.Z.shape == (N, 3)


def test_variational_is_repeated_by_random_state():
    one = known("variational", random_state=3, batch_size=7).fit(X, Y)
    assert_same(one, known("variational", random_state=3, batch_size=7).fit(X, Y))
    other = known("variational", random_state=4, batch_size=7).fit(X, Y)
    assert (one.predict_proba(NEW) != other.predict_proba(NEW)).any()


def test_variational_says_how_to_get_gpytorch(monkeypatch):
    monkeypatch.setitem(sys.modules, "gpytorch", None)
    message = r"inference='variational' needs gpytorch; .*`pip install 'sknk\[gpytorch\]'`"
    with pytest.raises(ImportError, match=message):
        known("variational").fit(X, Y)
    for way in EXACT:
        known(way).fit(X, Y)
