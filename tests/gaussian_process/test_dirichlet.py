"""Classification by regression of log Dirichlet parameters, against refits and differences."""

import numpy as np
import pytest
import torch

from sknk import NotPSDError, NTKGaussianProcessClassifier
from sknk.gaussian_process import _dirichlet, _softmax
from sknk.gaussian_process._gpytorch import gpytorch
from sknk.gaussian_process._hyperparameters import Hyperparameters, Scalar
from sknk.kernels import NNGP, NTK
from sknk.solvers import Cholesky
from tests.cases import FREE, rows
from tests.reference import classification as oracle

N, C, EPS, AMPLITUDE = 15, 3, 0.04, 3.0
KERNEL = NTK(depth=2, bias_var=0.2, input_scale=0.8, input_scale_bounds=FREE)
X, NEW = rows(N, seed=1), rows(6, seed=2)
LABELS = (X[:, 0] > 0).astype(int) + (X[:, 1] + 0.5 * rows(N, seed=3)[:, 0] > 0.3)
WEIGHTS = {"ones": np.ones(N), "weights": np.random.default_rng(4).uniform(0.2, 4.0, N)}
K = AMPLITUDE * KERNEL(X)
# Two routes to one answer: float64 rounding times condition numbers below 1e4.
RTOL = 1e-9


@pytest.fixture(params=WEIGHTS)
def w(request):
    return WEIGHTS[request.param]


def tensor(x):
    return torch.tensor(x, dtype=torch.float64)


def labelled(w, X=X, labels=LABELS):
    return _dirichlet.Labelled(tensor(X), torch.from_numpy(labels), tensor(w), C)


def at(theta=None, kernel=KERNEL):
    scalars = {"amplitude": Scalar(AMPLITUDE, FREE), "alpha_eps": Scalar(EPS, (1e-4, 0.5))}
    start = Hyperparameters(kernel, scalars)
    return start if theta is None else start.at(theta)


def score(kind, w, theta=None, **data):
    hyper, data = at(theta), labelled(w, **data)
    function = {"loo": _dirichlet.leave_one_out_score, "evidence": _dirichlet.evidence_score}[kind]
    return function(data, hyper, hyper.kernel(data.X)), hyper


def known(w=None, **options):
    numbers = {"optimizer": None, "amplitude": AMPLITUDE, "alpha_eps": EPS}
    return NTKGaussianProcessClassifier(KERNEL, **{**numbers, **options}).fit(X, LABELS, w)


# --- targets -----------------------------------------------------------------------------------


def test_targets_equal_naive_transform(w):
    found = _dirichlet.DirichletRows.of(labelled(w), EPS)
    Y, noise = oracle.targets(LABELS, C, w, EPS)
    np.testing.assert_allclose(found.Y, Y, rtol=1e-13)
    np.testing.assert_allclose(found.noise, noise, rtol=1e-13)
    np.testing.assert_allclose(found.Y.numpy() + found.shift, oracle.dirichlet(LABELS, C, EPS)[0])


def test_targets_equal_those_of_gpytorch():
    likelihood = gpytorch.likelihoods.DirichletClassificationLikelihood(
        torch.from_numpy(LABELS), alpha_epsilon=EPS, dtype=torch.float64
    )
    found = _dirichlet.DirichletRows.of(labelled(np.ones(N)), EPS)
    np.testing.assert_allclose(found.Y.T + found.shift, likelihood.transformed_targets, rtol=1e-12)
    np.testing.assert_allclose(found.noise.T, likelihood.noise, rtol=1e-12)


def test_targets_are_centred_by_weights(w):
    found = _dirichlet.DirichletRows.of(labelled(w), EPS)
    assert abs(w @ found.Y.numpy()).sum() > 1.0  # classes on their own are not
    assert abs((w @ found.Y.numpy()).sum()) < 1e-11


def test_targets_slopes_match_finite_differences(w):
    def of(log_eps, name):
        return getattr(_dirichlet.DirichletRows.of(labelled(w), np.exp(log_eps)), name).numpy()

    found, h = _dirichlet.DirichletRows.of(labelled(w), EPS), 1e-5
    for name in ("Y", "noise"):
        low, high = (of(np.log(EPS) + s, name) for s in (-h, h))
        # Truncation h^2 and rounding 1e-16 / h.
        np.testing.assert_allclose(getattr(found, f"by_eps_{name}"), (high - low) / (2 * h), 1e-7)


def test_targets_of_a_class_without_rows_are_those_of_others():
    found = _dirichlet.DirichletRows.of(labelled(np.ones(N), labels=LABELS % 2), EPS)
    assert len(np.unique(found.Y[:, 2])) == len(np.unique(found.noise[:, 2])) == 1


def test_labelled_rows_can_be_taken(w):
    data = labelled(w)
    some = data.take(np.array([3, 0]))
    np.testing.assert_array_equal(some.X, X[[3, 0]])
    np.testing.assert_array_equal(some.one_hot.argmax(1), LABELS[[3, 0]])
    np.testing.assert_array_equal(some.weights, w[[3, 0]])
    assert some.n_classes == C


# --- leave one out -----------------------------------------------------------------------------


def test_leave_one_out_equals_refits(w):
    Y, noise = oracle.targets(LABELS, C, w, EPS)
    mean, variance = oracle.leave_one_out(K, Y, noise)
    for c in range(C):
        factor = Cholesky().factorize(tensor(K), tensor(noise[:, c]))
        found = _dirichlet.leave_one_out(factor, tensor(Y[:, c]), tensor(noise[:, c]))
        np.testing.assert_allclose(found[0], mean[:, c], rtol=RTOL, atol=RTOL)
        np.testing.assert_allclose(found[1], variance[:, c], rtol=RTOL, atol=RTOL)


def test_leave_one_out_score_equals_refits(w, monkeypatch):
    Y, noise = oracle.targets(LABELS, C, w, EPS)
    z = np.random.default_rng(5).standard_normal((50, C))
    monkeypatch.setattr(_softmax, "_draws", lambda *_: tensor(z))
    wanted = oracle.log_score(*oracle.leave_one_out(K, Y, noise), LABELS, w, z)
    np.testing.assert_allclose(score("loo", w)[0].value, wanted, rtol=RTOL)


def test_leave_one_out_score_refuses_indefinite_gram():
    with pytest.raises(NotPSDError, match=r"not positive definite"):
        _dirichlet.leave_one_out_score(labelled(np.ones(N)), at(), tensor(-10.0 * K))


# --- evidence ----------------------------------------------------------------------------------


def test_evidence_score_is_the_density_of_the_targets():
    Y, noise = oracle.targets(LABELS, C, np.ones(N), EPS)
    found = score("evidence", np.ones(N))[0].value
    np.testing.assert_allclose(found, oracle.log_density(K, Y, noise), rtol=RTOL)


def test_evidence_score_of_integer_weights_is_the_density_of_repeated_targets():
    r = np.arange(N) % 3 + 1
    many = np.repeat(np.arange(N), r)
    Y, noise = oracle.targets(LABELS[many], C, np.ones(len(many)), EPS)
    wanted = oracle.log_density(K[np.ix_(many, many)], Y, noise)
    np.testing.assert_allclose(score("evidence", r.astype(float))[0].value, wanted, rtol=RTOL)


# --- gradients ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["loo", "evidence"])
def test_score_gradient_matches_finite_differences(kind, w):
    found, hyper = score(kind, w)
    wanted = oracle.differences(lambda theta: score(kind, w, theta)[0].value, hyper.theta, h=1e-3)
    assert hyper.names == ["kernel__bias_var", "kernel__input_scale", "amplitude", "alpha_eps"]
    # Truncation h^4 of scores with fifth derivatives of their own size.
    np.testing.assert_allclose(hyper.flatten(found), wanted, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("kind", ["loo", "evidence"])
def test_score_gradient_matches_finite_differences_when_rows_coincide(kind, w):
    copies = {"X": X[np.arange(N) // 2], "labels": LABELS}  # of x, not of y
    found, hyper = score(kind, w, **copies)
    wanted = oracle.differences(
        lambda theta: score(kind, w, theta, **copies)[0].value, hyper.theta, h=1e-3
    )
    np.testing.assert_allclose(hyper.flatten(found), wanted, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("kind", ["loo", "evidence"])
def test_score_does_not_depend_on_the_order_of_rows(kind, w):
    order = np.random.default_rng(5).permutation(N)
    found, hyper = score(kind, w[order], X=X[order], labels=LABELS[order])
    wanted, _ = score(kind, w)
    np.testing.assert_allclose(found.value, wanted.value, rtol=1e-12)
    np.testing.assert_allclose(hyper.flatten(found), hyper.flatten(wanted), rtol=1e-9)


def test_score_of_a_kernel_without_free_parameters_has_only_scalars():
    hyper = at(kernel=NNGP(bias_var=0.0))
    data = labelled(np.ones(N))
    found = _dirichlet.leave_one_out_score(data, hyper, hyper.kernel(data.X))
    assert found.kernel.shape == (0,)
    assert hyper.flatten(found).shape == (2,)


# --- the estimator -----------------------------------------------------------------------------


def test_latent_equals_naive_posterior(w):
    Y, noise = oracle.targets(LABELS, C, w, EPS)
    cross = AMPLITUDE * KERNEL(X, NEW)
    mean, variance = oracle.posterior(K, Y, noise, cross, AMPLITUDE * KERNEL.diag(NEW))
    found = known(w).predict_latent(NEW, return_std=True)
    np.testing.assert_allclose(found[0], mean, rtol=RTOL, atol=RTOL)
    np.testing.assert_allclose(found[1], np.sqrt(variance), rtol=RTOL, atol=RTOL)


def test_dual_coef_gives_the_latent_means(w):
    model = known(w)
    cross = model.amplitude_ * model.kernel_(NEW, model.X_fit_)
    np.testing.assert_allclose(cross @ model.dual_coef_, model.predict_latent(NEW), rtol=RTOL)


def test_proba_is_the_expected_softmax_of_the_naive_posterior(w):
    Y, noise = oracle.targets(LABELS, C, w, EPS)
    cross = AMPLITUDE * KERNEL(X, NEW)
    law = oracle.posterior(K, Y, noise, cross, AMPLITUDE * KERNEL.diag(NEW))
    wanted = [oracle.expected_softmax(m, np.sqrt(v)) for m, v in zip(*law, strict=True)]
    # 512 points, see test_softmax.
    np.testing.assert_allclose(known(w).predict_proba(NEW), wanted, atol=2e-3)


def test_loo_score_is_that_of_refits(w):
    Y, noise = oracle.targets(LABELS, C, w, EPS)
    mean, variance = oracle.leave_one_out(K, Y, noise)
    p = [oracle.expected_softmax(m, s) for m, s in zip(mean, np.sqrt(variance), strict=True)]
    # Relative errors of the quadrature, 2e-3 over probabilities of 0.2.
    wanted = w @ np.log(np.array(p)[np.arange(N), LABELS])
    np.testing.assert_allclose(known(w).loo_score_, wanted, rtol=0.01)


def test_loo_score_leaves_out_all_copies_of_a_row():
    many = np.repeat(np.arange(N), 2)
    model = NTKGaussianProcessClassifier(
        KERNEL, optimizer=None, amplitude=AMPLITUDE, alpha_eps=EPS
    ).fit(X[many], LABELS[many])
    np.testing.assert_allclose(model.loo_score_, known(np.full(N, 2.0)).loo_score_, rtol=1e-12)


def test_log_marginal_likelihood_is_the_density_of_the_targets(w):
    model = known(w)
    wanted = score("evidence", w)[0].value
    np.testing.assert_allclose(model.log_marginal_likelihood_value_, wanted, rtol=1e-12)
    np.testing.assert_allclose(model.log_marginal_likelihood(), wanted, rtol=1e-12)


def test_log_marginal_likelihood_gradient_matches_finite_differences(w):
    model = NTKGaussianProcessClassifier(KERNEL, max_evaluations=1).fit(X, LABELS, w)
    theta = model.theta_ + 0.1
    value, found = model.log_marginal_likelihood(theta, eval_gradient=True)
    wanted = oracle.differences(model.log_marginal_likelihood, theta, h=1e-3)
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)
    assert value == model.log_marginal_likelihood(theta)


# --- Student -----------------------------------------------------------------------------------


@pytest.mark.parametrize("df", [2.5, 30.0])
def test_student_scales_variances_by_what_the_data_say(w, df):
    Y, noise = oracle.targets(LABELS, C, w, EPS)
    quad = [y @ np.linalg.solve(K + np.diag(s), y) for y, s in zip(Y.T, noise.T, strict=True)]
    gain = (df + np.array(quad)) / (df + w.sum())
    mean, std = known(w).predict_latent(NEW, return_std=True)
    found = known(w, prior="student", prior_df=df).predict_latent(NEW, return_std=True)
    np.testing.assert_allclose(found[0], mean, rtol=1e-12)
    np.testing.assert_allclose(found[1], std * np.sqrt(gain), rtol=RTOL)


def test_student_of_many_degrees_of_freedom_is_gaussian():
    found = known(prior="student", prior_df=1e7).predict_proba(NEW)
    np.testing.assert_allclose(found, known().predict_proba(NEW), atol=2e-3)


def test_student_proba_matches_monte_carlo():
    model = known(prior="student", prior_df=3.0)
    mean, std = model.predict_latent(NEW, return_std=True)
    rng = np.random.default_rng(6)
    df = 3.0 + N
    z = rng.standard_normal((100_000, C)) / np.sqrt(rng.chisquare(df, (100_000, 1)) / df)
    # 512 points, and five standard errors of 1e5 draws.
    wanted = oracle.average_softmax(mean, std, z)
    np.testing.assert_allclose(model.predict_proba(NEW), wanted, atol=2e-3 + 5 / np.sqrt(4e5))
