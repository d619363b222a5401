"""Closed-form leave-one-out predictions against models fitted without the row."""

import numpy as np
import pytest
from scipy import stats

from sknk.kernels import NTK
from tests.cases import rows
from tests.gaussian_process.problems import AMPLITUDE, KERNEL, NOISE, free, known, repeated
from tests.reference import gaussian_process as oracle
from tests.reference import sparse
from tests.reference.ridge import copies

# Refits and closed form: float64 rounding times condition numbers below 1e3.
CLOSE = {"rtol": 1e-8, "atol": 1e-9}
POSTERIORS = {
    "ntkgp": {},
    "nngp": {"posterior": "nngp"},
    "ensemble": {"posterior": "ensemble"},
    "student": {"prior": "student", "prior_df": 4.0},
}
every = pytest.mark.parametrize("options", POSTERIORS.values(), ids=POSTERIORS)


def expected(options, X, Y, w, own, groups):
    """Leave-one-out predictions by naive refits."""
    kernel = KERNEL.nngp() if options.get("posterior") == "nngp" else KERNEL
    nngp = AMPLITUDE * KERNEL.joint(X)[0] if options.get("posterior") == "ensemble" else None
    found = oracle.leave_one_out(
        AMPLITUDE * kernel(X), own, Y, w, groups, df=options.get("prior_df"), nngp=nngp
    )
    return found


def assert_equal(found, wanted):
    for name, values in zip(("mean", "std", "log_density"), wanted, strict=True):
        np.testing.assert_allclose(getattr(found, name), values, err_msg=name, **CLOSE)


@every
@pytest.mark.parametrize("solver", ["cholesky", "eigh"])
def test_leave_one_out_equals_refits(table, options, solver):
    found = known(solver=solver, **options).fit(table.X, table.Y).loo_predictive()
    wanted = expected(options, table.X, table.Y, np.ones(16), np.full(16, NOISE), np.arange(16))
    assert_equal(found, wanted)


@every
@pytest.mark.parametrize("weights", ["weights", "repeats"])
def test_leave_one_out_equals_refits_when_weighted(table, options, weights):
    w = getattr(table, weights)
    found = known(**options).fit(table.X, table.Y, w).loo_predictive()
    assert_equal(found, expected(options, table.X, table.Y, w, np.full(16, NOISE), np.arange(16)))


@every
def test_leave_one_out_equals_refits_when_heteroscedastic(table, options):
    own = table.variances
    found = known(noise_variance=own, **options).fit(table.X, table.Y, table.weights)
    wanted = expected(options, table.X, table.Y, table.weights, own, np.arange(16))
    assert_equal(found.loo_predictive(), wanted)


@every
def test_leave_one_out_leaves_out_all_copies(table, options):
    X, Y = repeated(table.repeats, table.X, table.Y)
    found = known(**options).fit(X, Y).loo_predictive()
    n = len(X)
    assert_equal(found, expected(options, X, Y, np.ones(n), np.full(n, NOISE), copies(X, Y)))
    weighted = known(**options).fit(table.X, table.Y, table.repeats).loo_predictive()
    for a, b in zip(weighted, found, strict=True):
        np.testing.assert_allclose(a.repeat(table.repeats, axis=0), b, **CLOSE)


@every
@pytest.mark.parametrize("heteroscedastic", [False, True])
def test_leave_one_out_predicts_rows_of_weight_zero_from_all_others(
    table, options, heteroscedastic
):
    w = np.where(np.arange(16) % 4 == 0, 0.0, table.weights)
    own = table.variances if heteroscedastic else np.full(16, NOISE)
    model = known(noise_variance=own if heteroscedastic else NOISE, **options)
    found = model.fit(table.X, table.Y, w).loo_predictive()
    assert_equal(found, expected(options, table.X, table.Y, w, own, np.arange(16)))


@pytest.mark.parametrize("weighted", [False, True])
def test_leave_one_out_of_inducing_rows_equals_refits_with_the_same_ones(table, weighted):
    w = table.weights if weighted else np.ones(16)
    model = known(rank=6, random_state=0).fit(table.X, table.Y, w)
    found = model.loo_predictive()
    Z = model.inducing_rows_
    K_zz, K_zx = AMPLITUDE * KERNEL(Z), AMPLITUDE * KERNEL(Z, table.X)
    for i in range(16):
        rest = np.delete(np.arange(16), i)
        parts = K_zz, K_zx[:, rest], table.Y[rest], NOISE / w[rest], K_zx[:, [i]]
        mean, cov = sparse.predict(*parts, AMPLITUDE * KERNEL(table.X[[i]]))
        law = stats.norm(mean[0], np.sqrt(cov[0, 0] + NOISE))
        np.testing.assert_allclose(found.mean[i], mean[0], **CLOSE)
        np.testing.assert_allclose(found.std[i], law.std(), **CLOSE)
        np.testing.assert_allclose(found.log_density[i], law.logpdf(table.Y[i]).sum(), **CLOSE)


def test_leave_one_out_equals_refits_through_the_estimator(table):
    model = known(posterior="ensemble").fit(table.X, table.y)
    found = model.loo_predictive()
    for i in (0, 7, 15):
        rest = np.delete(np.arange(16), i)
        other = known(posterior="ensemble").fit(table.X[rest], table.y[rest])
        mean, std = other.predict(table.X[[i]], return_std=True)
        np.testing.assert_allclose(found.mean[i], mean[0], **CLOSE)
        np.testing.assert_allclose(found.std[i] ** 2, std[0] ** 2 + NOISE, **CLOSE)
        density = other.predict_log_density(table.X[[i]], table.y[[i]])
        np.testing.assert_allclose(found.log_density[i], density[0], **CLOSE)


def test_leave_one_out_of_normalized_targets_is_in_units_of_y(table):
    scale, mean = table.y.std(), table.y.mean()
    inside = known().fit(table.X, (table.y - mean) / scale).loo_predictive()
    model = known(
        normalize_y=True, amplitude=AMPLITUDE * scale**2, noise_variance=NOISE * scale**2
    ).fit(table.X, table.y)
    found = model.loo_predictive()
    np.testing.assert_allclose(found.mean, inside.mean * scale + mean, **CLOSE)
    np.testing.assert_allclose(found.std, inside.std * scale, **CLOSE)
    np.testing.assert_allclose(found.log_density, inside.log_density - np.log(scale), **CLOSE)


def test_leave_one_out_has_the_shape_of_the_targets(table):
    one, both = (known().fit(table.X, y).loo_predictive() for y in (table.y, table.Y))
    assert (
        one.mean.shape == one.std.shape == one.log_density.shape == both.log_density.shape == (16,)
    )
    assert both.mean.shape == both.std.shape == (16, 2)
    np.testing.assert_allclose(both.mean[:, 0], one.mean, **CLOSE)


def test_leave_one_out_of_one_row_is_the_prior(table):
    found = known().fit(table.X[:1], table.y[:1]).loo_predictive()
    variance = AMPLITUDE * KERNEL.diag(table.X[:1]) + NOISE
    np.testing.assert_allclose(found.mean, 0.0, atol=1e-12)
    np.testing.assert_allclose(found.std**2, variance, **CLOSE)


def test_leave_one_out_of_ensemble_equals_full_matrices_when_tiles_are_many():
    X = rows(530)  # inverses come in tiles of 512
    y = X[:, 0] + X[:, 1] ** 2
    kernel = NTK(depth=1, bias_var=0.1)
    found = known(kernel=kernel, posterior="ensemble").fit(X, y).loo_predictive()
    nngp, ntk = (AMPLITUDE * K for K in kernel.joint(X))
    G = np.linalg.inv(oracle.covariance(ntk, NOISE))
    variance = np.diag(G @ nngp @ G) / np.diag(G) ** 2
    np.testing.assert_allclose(found.mean, y - G @ y / np.diag(G), rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(found.std**2, variance + NOISE, rtol=1e-8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"training_time": 0.5}, r"no closed form for `training_time`=0.5; use"),
        ({"rank": 5, "evidence": "stochastic", "max_epochs": 1}, r"variational posterior; use"),
    ],
)
def test_leave_one_out_raises_without_a_closed_form(table, options, message):
    model = free(**options).fit(table.X, table.y)
    with pytest.raises(NotImplementedError, match=message):
        model.loo_predictive()
