"""The evidence and its gradient: scikit-learn, scipy, naive NumPy, finite differences."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, RationalQuadratic, WhiteKernel

from sknk import NTKGaussianProcessRegressor, config_context
from sknk.kernels import NTK
from tests.cases import FREE, rows
from tests.gaussian_process.problems import AMPLITUDE, KERNEL, NOISE, free, known, repeated
from tests.reference import gaussian_process as oracle

# Two routes to one answer: float64 rounding times condition numbers below 1e3.
RTOL = 1e-9
# Central differences at a step of 1e-5: its square, and eps times 100 nats over the step.
DIFFERENCES = {"rtol": 1e-6, "atol": 1e-7}


def gradient_by_differences(model, theta, step=1e-5):
    shifts = step * np.eye(len(theta))
    ends = [[model.log_marginal_likelihood(theta + s * e) for s in (1, -1)] for e in shifts]
    return np.array([(up - down) / (2 * step) for up, down in ends])


def away(model):
    """A point that no search has chosen."""
    return model.theta_ + np.linspace(-0.4, 0.5, len(model.theta_))


# --- against scikit-learn ------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["y", "Y"])
@pytest.mark.parametrize("normalize_y", [False, True])
def test_evidence_and_gradient_equal_sklearn(table, target, normalize_y):
    targets = getattr(table, target)
    kernel = ConstantKernel(1.0) * KERNEL + WhiteKernel(1.0)
    other = GaussianProcessRegressor(kernel, alpha=0.0, optimizer=None, normalize_y=normalize_y)
    other.fit(table.X, targets)
    model = free(normalize_y=normalize_y).fit(table.X, targets)
    assert model.hyperparameter_names_ == ["kernel__bias_var", "amplitude", "noise_variance"]
    bias, amplitude, noise = theta = np.log([0.2, 1.5, 0.4])
    value, gradient = model.log_marginal_likelihood(theta, eval_gradient=True)
    expected, slope = other.log_marginal_likelihood([amplitude, bias, noise], eval_gradient=True)
    # scikit-learn's is a density of the normalized targets, ours of y.
    volume = 16 * np.log(np.std(targets, axis=0)).sum() if normalize_y else 0.0
    np.testing.assert_allclose(value, expected - volume, rtol=RTOL)
    np.testing.assert_allclose(gradient, slope[[1, 0, 2]], rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    "kernel",
    [RBF([0.5, 1.0, 2.0]), RationalQuadratic() + WhiteKernel(0.2), NTK(1) + RBF()],
    ids=str,
)
def test_evidence_of_sklearn_kernels_equals_sklearn(table, kernel):
    other = GaussianProcessRegressor(kernel, alpha=NOISE, optimizer=None).fit(table.X, table.y)
    model = free(kernel=kernel, amplitude=1.0, noise_variance=NOISE).fit(table.X, table.y)
    theta = kernel.theta + 0.3
    value, gradient = model.log_marginal_likelihood(theta, eval_gradient=True)
    expected, slope = other.log_marginal_likelihood(theta, eval_gradient=True)
    np.testing.assert_allclose(value, expected, rtol=RTOL)
    np.testing.assert_allclose(gradient, slope, rtol=1e-6, atol=1e-8)


# --- against scipy -------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["y", "Y"])
def test_evidence_equals_normal_density(table, target):
    Y = getattr(table, target).reshape(16, -1)
    model = known().fit(table.X, getattr(table, target))
    C = oracle.covariance(AMPLITUDE * KERNEL(table.X), NOISE)
    expected = oracle.log_normal(Y, C)
    np.testing.assert_allclose(model.log_marginal_likelihood_value_, expected, rtol=RTOL)


@pytest.mark.parametrize("target", ["y", "Y"])
@pytest.mark.parametrize("df", [0.7, 4.0, 300.0])
def test_student_evidence_equals_multivariate_t(table, target, df):
    Y = getattr(table, target).reshape(16, -1)
    model = known(prior="student", prior_df=df).fit(table.X, getattr(table, target))
    C = oracle.covariance(AMPLITUDE * KERNEL(table.X), NOISE)
    expected = oracle.log_student(Y, C, df)
    np.testing.assert_allclose(model.log_marginal_likelihood_value_, expected, rtol=RTOL)


def test_student_evidence_tends_to_the_gaussian(table):
    student = known(prior="student", prior_df=1e9).fit(table.X, table.y)
    gaussian = known().fit(table.X, table.y)
    # A relative error of quad^2 / df; differences of log-gamma near 1e9 keep 1e-6 nats.
    np.testing.assert_allclose(
        student.log_marginal_likelihood(), gaussian.log_marginal_likelihood(), atol=1e-5
    )


def test_heteroscedastic_evidence_equals_normal_density(table):
    model = known(noise_variance=table.variances).fit(table.X, table.Y)
    C = oracle.covariance(AMPLITUDE * KERNEL(table.X), table.variances)
    expected = oracle.log_normal(table.Y, C)
    np.testing.assert_allclose(model.log_marginal_likelihood_value_, expected, rtol=RTOL)


# --- weights -------------------------------------------------------------------------------------

COUNTED = {
    "gaussian": {},
    "student": {"prior": "student"},
    "ard": {"ard": True},
    "nngp": {"posterior": "nngp"},
    "normalize_y": {"normalize_y": True},
    "fixed-noise": {"noise_variance": NOISE},
    "rank": {"rank": 16},  # all distinct rows: which are chosen depends on their order
}


@pytest.mark.parametrize("options", COUNTED.values(), ids=COUNTED)
def test_evidence_of_weights_equals_that_of_repeated_rows(table, options):
    weighted = free(**options).fit(table.X, table.Y, table.repeats)
    copied = free(**options).fit(*repeated(table.repeats, table.X, table.Y))
    np.testing.assert_allclose(weighted.theta_, copied.theta_, rtol=1e-7, atol=1e-9)
    theta = away(weighted)
    found, expected = (
        m.log_marginal_likelihood(theta, eval_gradient=True) for m in (weighted, copied)
    )
    np.testing.assert_allclose(found[0], expected[0], rtol=RTOL)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("prior", ["gaussian", "student"])
def test_evidence_of_weights_equals_naive_density_of_repeated_rows(table, prior):
    X, Y, noise = repeated(table.repeats, table.X, table.Y, table.variances)
    model = known(prior=prior, prior_df=5.0, noise_variance=table.variances)
    model.fit(table.X, table.Y, table.repeats)
    C = oracle.covariance(AMPLITUDE * KERNEL(X), noise)
    expected = oracle.log_normal(Y, C) if prior == "gaussian" else oracle.log_student(Y, C, 5.0)
    np.testing.assert_allclose(model.log_marginal_likelihood_value_, expected, rtol=RTOL)


def test_evidence_leaves_out_rows_of_weight_zero(table):
    kept = np.arange(16) % 3 != 0
    weighted = free().fit(table.X, table.y, kept.astype(float))
    removed = free().fit(table.X[kept], table.y[kept])
    np.testing.assert_allclose(
        weighted.log_marginal_likelihood_value_, removed.log_marginal_likelihood_value_, rtol=RTOL
    )


# --- gradients -----------------------------------------------------------------------------------

ALL_FREE = NTK(
    depth=1,
    bias_var=0.2,
    weight_var_bounds=FREE,
    input_scale=[0.5, 1.0, 2.0],
    input_scale_bounds=FREE,
)
DIFFERENTIATED = {
    **COUNTED,
    "all-free": {"kernel": ALL_FREE},
    "all-free-unnormalized": {"kernel": clone(ALL_FREE).set_params(normalize=False)},
    "ensemble": {"posterior": "ensemble"},
    "composite": {"kernel": 0.5 * NTK(1, bias_var=0.1) + 0.2},
    "student-ard": {"prior": "student", "ard": True},
    "student-fixed-kernel": {"prior": "student", "kernel": NTK()},
    "fixed-kernel": {"kernel": NTK()},
    "sparse": {"rank": 5},
    "sparse-ard": {"rank": 5, "ard": True},
    "sklearn": {"kernel": RBF(0.7)},
}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("options", DIFFERENTIATED.values(), ids=DIFFERENTIATED)
def test_evidence_gradient_equals_finite_differences(table, options, weighted):
    model = free(**options).fit(table.X, table.Y, table.weights if weighted else None)
    theta = away(model)
    value, gradient = model.log_marginal_likelihood(theta, eval_gradient=True)
    assert value == model.log_marginal_likelihood(theta)
    assert gradient.shape == theta.shape == (len(model.hyperparameter_names_),)
    np.testing.assert_allclose(gradient, gradient_by_differences(model, theta), **DIFFERENCES)


@pytest.mark.parametrize("rank", [None, 5])
def test_evidence_gradient_equals_finite_differences_when_heteroscedastic(table, rank):
    model = free(noise_variance=table.variances, rank=rank).fit(table.X, table.Y, table.weights)
    assert model.hyperparameter_names_ == ["kernel__bias_var", "amplitude"]
    theta = away(model)
    gradient = model.log_marginal_likelihood(theta, eval_gradient=True)[1]
    np.testing.assert_allclose(gradient, gradient_by_differences(model, theta), **DIFFERENCES)


@pytest.mark.parametrize("solver", ["cholesky", "eigh"])
def test_evidence_gradient_is_that_of_full_matrices_when_tiles_are_many(solver):
    X = rows(530)  # inverses come in tiles of 512
    Y = np.column_stack([X[:, 0], X[:, 1] ** 2])
    model = known(solver=solver, amplitude="estimate", noise_variance=NOISE)
    model.set_params(optimizer="fmin_l_bfgs_b", max_evaluations=1).fit(X, Y)
    theta = np.log([0.2, AMPLITUDE])
    with config_context(tile_size=300):
        gradient = model.log_marginal_likelihood(theta, eval_gradient=True)[1]
    K, dK = KERNEL.clone_with_params({"bias_var": 0.2})(X, eval_gradient=True)
    G = np.linalg.inv(oracle.covariance(AMPLITUDE * K, NOISE))
    W = G @ Y @ Y.T @ G - 2 * G
    expected = 0.5 * AMPLITUDE * np.array([(W * dK[..., 0]).sum(), (W * K).sum()])
    np.testing.assert_allclose(gradient, expected, rtol=1e-8)


# --- what is reported ----------------------------------------------------------------------------


@pytest.mark.parametrize("options", DIFFERENTIATED.values(), ids=DIFFERENTIATED)
def test_reported_evidence_is_that_of_the_fitted_hyperparameters(table, options):
    model = free(**options).fit(table.X, table.Y)
    assert model.log_marginal_likelihood() == model.log_marginal_likelihood_value_
    at_theta = model.log_marginal_likelihood(model.theta_)
    np.testing.assert_allclose(at_theta, model.log_marginal_likelihood_value_, rtol=RTOL)


def test_evidence_elsewhere_leaves_the_model_as_it_was(table):
    model = free().fit(table.X, table.y)
    before = model.predict(table.new), repr(model.kernel_), model.theta_.copy()
    model.log_marginal_likelihood(model.theta_ + 1.0, eval_gradient=True, clone_kernel=False)
    np.testing.assert_array_equal(model.predict(table.new), before[0])
    assert repr(model.kernel_) == before[1]
    np.testing.assert_array_equal(model.theta_, before[2])


def test_evidence_of_stochastic_search_is_exact(table):
    model = free(evidence="stochastic", batch_size=5, max_epochs=3, random_state=0)
    model.fit(table.X, table.y)
    C = oracle.covariance(model.amplitude_ * model.kernel_(table.X), model.noise_variance_)
    expected = oracle.log_normal(table.y[:, None], C)
    np.testing.assert_allclose(model.log_marginal_likelihood_value_, expected, rtol=RTOL)


def test_evidence_changes_by_the_volume_when_units_do(table):
    one = NTKGaussianProcessRegressor(normalize_y=True).fit(table.X, table.y)
    two = NTKGaussianProcessRegressor(normalize_y=True).fit(table.X, 1e3 * table.y - 5.0)
    volume = 16 * np.log(1e3)
    np.testing.assert_allclose(
        one.log_marginal_likelihood_value_, two.log_marginal_likelihood_value_ + volume, rtol=1e-7
    )
    np.testing.assert_allclose(two.noise_variance_, 1e6 * one.noise_variance_, rtol=1e-4)
