"""Posteriors against naive NumPy: weights, noise of rows, early stops, Student's prior, rank."""

import numpy as np
import pytest

from sknk import NTKGaussianProcessRegressor
from sknk.kernels import NTK
from sknk.solvers import Cholesky, Eigh
from tests.gaussian_process.problems import AMPLITUDE, KERNEL, NOISE, free, known, repeated
from tests.reference import gaussian_process as oracle

# Two routes to one answer: float64 rounding times condition numbers below 1e3; variances, which
# are differences, lose a little more.
RTOL = 1e-9
CLOSE = {"rtol": 1e-8, "atol": 1e-10}


def grams(kernel, X, new):
    """a K between (X, X), (X, new) and (new, new)."""
    return AMPLITUDE * kernel(X), AMPLITUDE * kernel(X, new), AMPLITUDE * kernel(new)


def assert_moments(model, new, mean, cov):
    found, std = model.predict(new, return_std=True)
    np.testing.assert_allclose(model.predict(new), mean, **CLOSE)
    np.testing.assert_allclose(found, mean, **CLOSE)
    full = model.predict(new, return_cov=True)[1]
    for k in range(mean.shape[1]):
        np.testing.assert_allclose(full[..., k], cov, **CLOSE)
        np.testing.assert_allclose(std[:, k] ** 2, np.diag(cov), **CLOSE)


# --- the posteriors against naive formulas -------------------------------------------------------


@pytest.mark.parametrize("solver", ["auto", "cholesky", "eigh", Cholesky(), Eigh()], ids=str)
@pytest.mark.parametrize(("posterior", "kernel"), [("ntkgp", KERNEL), ("nngp", KERNEL.nngp())])
def test_gaussian_process_equals_naive_formula(table, solver, posterior, kernel):
    model = known(posterior=posterior, solver=solver).fit(table.X, table.Y)
    K, cross, here = grams(kernel, table.X, table.new)
    assert_moments(model, table.new, *oracle.posterior(K, NOISE, table.Y, cross, here))


@pytest.mark.parametrize("weights", ["none", "weights", "repeats", "variances"])
@pytest.mark.parametrize(
    "kernel", [KERNEL, 0.5 * NTK(1, bias_var=0.3), NTK(fixed_depth=2)], ids=repr
)
def test_ensemble_equals_naive_formula(table, weights, kernel):
    w = np.ones(16) if weights in ("none", "variances") else getattr(table, weights)
    own = table.variances if weights == "variances" else np.full(16, NOISE)
    model = known(
        kernel=kernel, posterior="ensemble", noise_variance=own if weights == "variances" else NOISE
    ).fit(table.X, table.Y, w)
    (nngp, ntk), (nngp_cross, ntk_cross) = kernel.joint(table.X), kernel.joint(table.X, table.new)
    response = np.linalg.inv(oracle.covariance(AMPLITUDE * ntk, own / w))
    a = AMPLITUDE
    expected = oracle.ensemble(
        a * ntk,
        a * nngp,
        response,
        table.Y,
        a * ntk_cross,
        a * nngp_cross,
        a * kernel.joint(table.new)[0],
    )
    assert_moments(model, table.new, *expected)


@pytest.mark.parametrize("posterior", ["ntkgp", "nngp"])
@pytest.mark.parametrize("weights", ["weights", "repeats"])
def test_weighted_posterior_equals_naive_formula(table, posterior, weights):
    w = getattr(table, weights)
    model = known(posterior=posterior).fit(table.X, table.Y, w)
    kernel = KERNEL.nngp() if posterior == "nngp" else KERNEL
    K, cross, here = grams(kernel, table.X, table.new)
    assert_moments(model, table.new, *oracle.posterior(K, NOISE / w, table.Y, cross, here))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"posterior": "ensemble"},
        {"training_time": 0.5},
        {"rank": 16},
        {"prior": "student", "prior_df": 3.0},
    ],
    ids=str,
)
def test_weights_equal_repeated_rows(table, options):
    weighted = known(**options).fit(table.X, table.Y, table.repeats)
    copied = known(**options).fit(*repeated(table.repeats, table.X, table.Y))
    for a, b in zip(
        *(m.predict(table.new, return_std=True) for m in (weighted, copied)), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-7)


def test_heteroscedastic_posterior_equals_naive_formula(table):
    model = known(noise_variance=table.variances).fit(table.X, table.Y)
    K, cross, here = grams(KERNEL, table.X, table.new)
    assert_moments(model, table.new, *oracle.posterior(K, table.variances, table.Y, cross, here))
    np.testing.assert_array_equal(model.noise_variance_, table.variances)


def test_heteroscedastic_noise_of_one_value_equals_a_number(table):
    one = known(noise_variance=np.full(16, NOISE)).fit(table.X, table.Y)
    other = known().fit(table.X, table.Y)
    for a, b in zip(*(m.predict(table.new, return_std=True) for m in (one, other)), strict=True):
        np.testing.assert_allclose(a, b, rtol=RTOL)


def test_heteroscedastic_noise_of_normalized_targets_is_in_units_of_y(table):
    scale, mean = table.y.std(), table.y.mean()
    inside = known(noise_variance=table.variances).fit(table.X, (table.y - mean) / scale)
    model = known(
        normalize_y=True, amplitude=AMPLITUDE * scale**2, noise_variance=table.variances * scale**2
    ).fit(table.X, table.y)
    expected = inside.predict(table.new, return_std=True)
    found = model.predict(table.new, return_std=True)
    np.testing.assert_allclose(found[0], expected[0] * scale + mean, rtol=RTOL)
    np.testing.assert_allclose(found[1], expected[1] * scale, rtol=RTOL)


def test_heteroscedastic_noise_raises_when_outputs_have_other_scales(table):
    # The table's outputs differ sixfold, so one variance of a row is two in normalized units.
    model = free(noise_variance=table.variances, normalize_y=True)
    with pytest.raises(ValueError, match=r"(?s)`noise_variance` .*whose scales differ"):
        model.fit(table.X, table.Y)


# --- networks that stop early --------------------------------------------------------------------


@pytest.mark.parametrize("time", [1e-2, 0.3, 4.0])
@pytest.mark.parametrize("weights", ["none", "weights", "repeats", "twos"])
@pytest.mark.parametrize("posterior", ["ntkgp", "nngp", "ensemble"])
def test_flow_equals_the_differential_equation(table, posterior, weights, time):
    w = {"none": np.ones(16), "twos": np.full(16, 2.0)}.get(weights)
    w = getattr(table, weights) if w is None else w
    model = known(posterior=posterior, training_time=time).fit(table.X, table.Y, w)
    kernel = KERNEL.nngp() if posterior == "nngp" else KERNEL
    K, cross, here = grams(kernel, table.X, table.new)
    M = oracle.flow(K, NOISE, w, time)
    if posterior == "ensemble":
        nngp, nngp_cross = (AMPLITUDE * KERNEL.joint(table.X, x)[0] for x in (None, table.new))
        parts = K, nngp, M, table.Y, cross, nngp_cross, AMPLITUDE * KERNEL.joint(table.new)[0]
        expected = oracle.ensemble(*parts)
    else:
        expected = oracle.stopped(K, NOISE / w, M, table.Y, cross, here)
    assert_moments(model, table.new, *expected)


@pytest.mark.parametrize("posterior", ["ntkgp", "nngp", "ensemble"])
@pytest.mark.parametrize("heteroscedastic", [False, True])
def test_flow_converges_to_the_posterior(table, posterior, heteroscedastic):
    noise = table.variances if heteroscedastic else NOISE
    options = {"posterior": posterior, "noise_variance": noise}
    late = known(training_time=1e4, **options).fit(table.X, table.Y)
    end = known(**options).fit(table.X, table.Y)
    for a, b in zip(*(m.predict(table.new, return_std=True) for m in (late, end)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-8)


@pytest.mark.parametrize("posterior", ["ntkgp", "ensemble"])
def test_flow_with_equal_noise_of_rows_equals_that_with_a_number(table, posterior):
    # Time has the units of 1/K either way.
    options = {"posterior": posterior, "training_time": 0.5}
    rowwise = known(noise_variance=np.full(16, NOISE), **options).fit(table.X, table.Y)
    number = known(**options).fit(table.X, table.Y)
    for a, b in zip(
        *(m.predict(table.new, return_std=True) for m in (rowwise, number)), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=RTOL)


@pytest.mark.parametrize("posterior", ["ntkgp", "nngp", "ensemble"])
def test_flow_starts_at_the_prior(table, posterior):
    model = known(posterior=posterior, training_time=1e-9).fit(table.X, table.Y)
    mean, std = model.predict(table.new, return_std=True)
    prior = {"ntkgp": KERNEL, "nngp": KERNEL.nngp()}.get(posterior)
    diag = KERNEL.joint_diag(table.new)[0] if prior is None else prior.diag(table.new)
    np.testing.assert_allclose(mean, 0.0, atol=1e-6)
    np.testing.assert_allclose(std[:, 0] ** 2, AMPLITUDE * diag, rtol=1e-6)


def test_flow_chooses_hyperparameters_of_the_gaussian_process(table):
    stopped = NTKGaussianProcessRegressor(KERNEL, training_time=1.0).fit(table.X, table.y)
    plain = NTKGaussianProcessRegressor(KERNEL).fit(table.X, table.y)
    np.testing.assert_array_equal(stopped.theta_, plain.theta_)
    assert isinstance(stopped.solver_, Eigh)
    assert isinstance(plain.solver_, Cholesky)


# --- Student's prior -----------------------------------------------------------------------------


@pytest.mark.parametrize("df", [2.5, 30.0])
def test_student_prediction_is_the_conditional_multivariate_t(table, df):
    model = known(prior="student", prior_df=df).fit(table.X, table.y)
    targets = np.linspace(-1.0, 2.0, 5)
    found = model.predict_log_density(table.new, targets)
    base = model.log_marginal_likelihood_value_
    for x, y, density in zip(table.new, targets, found, strict=True):
        C = oracle.covariance(AMPLITUDE * KERNEL(np.vstack([table.X, x])), NOISE)
        joint = oracle.log_student(np.append(table.y, y)[:, None], C, df)
        assert density == pytest.approx(joint - base, rel=1e-8)


def test_student_moments_have_its_scale_and_degrees(table):
    model = known(prior="student", prior_df=5.0).fit(table.X, table.Y)
    mean, std, df = model.predict(table.new, return_std=True, return_df=True)
    K, cross, here = grams(KERNEL, table.X, table.new)
    wanted, cov = oracle.posterior(K, NOISE, table.Y, cross, here)
    gain = oracle.gain(K, NOISE, table.Y, 5.0, 16)
    assert df == model.prior_df_ + 16 == 21.0
    np.testing.assert_allclose(mean, wanted, **CLOSE)
    np.testing.assert_allclose(std**2, np.diag(cov)[:, None] * gain * df / (df - 2), **CLOSE)
    full = model.predict(table.new, return_cov=True)[1]
    np.testing.assert_allclose(full, cov[..., None] * gain * df / (df - 2), **CLOSE)


def test_student_degrees_count_weights(table):
    weighted = known(prior="student", prior_df=5.0).fit(table.X, table.y, table.weights)
    df = weighted.predict(table.new, return_df=True)[1]
    assert df == pytest.approx(5.0 + table.weights.sum())


def test_student_is_wider_when_targets_surprise(table):
    calm, wild = (
        known(prior="student", prior_df=4.0)
        .fit(table.X, scale * table.y)
        .predict(table.new, True)[1]
        for scale in (1.0, 10.0)
    )
    gaussian = known().fit(table.X, table.y).predict(table.new, True)[1]
    assert (wild > 2.0 * calm).all()
    assert known().fit(table.X, 10.0 * table.y).predict(table.new, True)[1] == pytest.approx(
        gaussian
    )


def test_gaussian_prediction_has_infinite_degrees(table):
    model = known().fit(table.X, table.y)
    assert model.predict(table.new, return_df=True)[1] == np.inf
    assert model.prior_df_ == np.inf


# --- inducing rows -------------------------------------------------------------------------------


@pytest.mark.parametrize("rank", [16, 40])
def test_rank_of_all_rows_gives_the_exact_posterior(table, rank):
    sparse = known(rank=rank, random_state=0).fit(table.X, table.Y, table.weights)
    exact = known().fit(table.X, table.Y, table.weights)
    assert sparse.inducing_rows_.shape == (16, 3)
    for options in ({"return_std": True}, {"return_cov": True}):
        found, expected = (m.predict(table.new, **options) for m in (sparse, exact))
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(
        sparse.log_marginal_likelihood_value_, exact.log_marginal_likelihood_value_, rtol=1e-8
    )


def test_rank_equals_naive_inducing_posterior(table):
    model = known(rank=5, random_state=0).fit(table.X, table.Y)
    Z = model.inducing_rows_
    assert all((z == table.X).all(axis=1).any() for z in Z)
    K_zz, K_zx, K_zn = (AMPLITUDE * KERNEL(Z, x) for x in (Z, table.X, table.new))
    # Titsias 2009, eq. 6: q(f*) with the optimal law of the inducing values.
    S = np.linalg.inv(K_zz + K_zx @ K_zx.T / NOISE)
    P = np.linalg.inv(K_zz)
    mean = K_zn.T @ S @ K_zx @ table.Y / NOISE
    cov = AMPLITUDE * KERNEL(table.new) - K_zn.T @ (P - S) @ K_zn
    np.testing.assert_allclose(model.predict(table.new), mean, **CLOSE)
    found = model.predict(table.new, return_cov=True)[1]
    np.testing.assert_allclose(found[..., 0], cov, **CLOSE)
    np.testing.assert_allclose(found[..., 1], cov, **CLOSE)


def test_stochastic_rank_predicts_like_the_exact_posterior(table):
    # A variational posterior at all rows, of a Gaussian likelihood, is exact once it has converged.
    model = known(
        rank=16, evidence="stochastic", max_epochs=100, learning_rate=0.3, random_state=0
    ).fit(table.X, table.y)
    expected, std = known().fit(table.X, table.y).predict(table.new, return_std=True)
    found = model.predict(table.new, return_std=True)
    assert model.solver_ == "svgp"
    np.testing.assert_allclose(found[0], expected, atol=0.02)
    np.testing.assert_allclose(found[1], std, atol=0.005)
    exact = known().fit(table.X, table.y).log_marginal_likelihood_value_
    assert exact - 0.01 <= model.log_marginal_likelihood_value_ <= exact + 1e-6
