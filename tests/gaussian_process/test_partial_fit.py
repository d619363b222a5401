"""Rows added later: the model is that of all rows, hyperparameters as they were."""

import copy
import pickle

import numpy as np
import pytest

from sknk import NTKGaussianProcessRegressor
from tests.gaussian_process.problems import AMPLITUDE, KERNEL, NOISE, free, known
from tests.reference import sparse

# Bordering a factor and factorizing anew: float64 rounding times condition numbers below 1e3.
CLOSE = {"rtol": 1e-8, "atol": 1e-9}

MODELS = {
    "exact": {},
    "eigh": {"solver": "eigh"},
    "nngp": {"posterior": "nngp"},
    "ensemble": {"posterior": "ensemble"},
    "flow": {"training_time": 0.5},
    "flow-ensemble": {"training_time": 0.5, "posterior": "ensemble"},
    "student": {"prior": "student", "prior_df": 4.0},
}
SPARSE = {"rank": {"rank": 6, "random_state": 0}}
every = pytest.mark.parametrize("options", MODELS.values(), ids=MODELS)
every_and_sparse = pytest.mark.parametrize(
    "options", [*MODELS.values(), *SPARSE.values()], ids=[*MODELS, *SPARSE]
)
PARTS = (slice(0, 7), slice(7, 12), slice(12, 13), slice(13, 16))


def in_parts(model, table, y, weights=None, variances=None):
    """Fit the first part of the rows and add the others."""
    model.fit(table.X[:7], y[:7], None if weights is None else weights[:7])
    for part in PARTS[1:]:
        w, noise = (None if a is None else a[part] for a in (weights, variances))
        assert model.partial_fit(table.X[part], y[part], w, noise_variance=noise) is model
    return model


def assert_same_model(found, expected, new):
    for options in ({"return_std": True}, {"return_cov": True}):
        for a, b in zip(*(m.predict(new, **options) for m in (found, expected)), strict=True):
            np.testing.assert_allclose(a, b, **CLOSE)
    for name in ("X_fit_", "y_fit_", "dual_coef_", "noise_variance_", "amplitude_", "prior_df_"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), **CLOSE)


@every
@pytest.mark.parametrize("target", ["y", "Y"])
def test_partial_fit_equals_fit(table, options, target):
    y = getattr(table, target)
    found, expected = in_parts(known(**options), table, y), known(**options).fit(table.X, y)
    assert_same_model(found, expected, table.new)
    assert (
        found.predict(table.new, return_df=True)[1]
        == expected.predict(table.new, return_df=True)[1]
    )


@every
def test_partial_fit_equals_fit_when_weighted(table, options):
    w = np.where(np.arange(16) % 5 == 1, 0.0, table.weights)
    found = in_parts(known(**options), table, table.Y, w)
    assert_same_model(found, known(**options).fit(table.X, table.Y, w), table.new)


@pytest.mark.parametrize("first", [True, False], ids=["weights-first", "weights-later"])
def test_partial_fit_takes_weights_in_some_calls(table, first):
    w = np.where((np.arange(16) < 7) == first, table.weights, 1.0)
    known_weights = (w[:7], None) if first else (None, w[7:])
    found = known().fit(table.X[:7], table.y[:7], known_weights[0])
    found.partial_fit(table.X[7:], table.y[7:], known_weights[1])
    assert_same_model(found, known().fit(table.X, table.y, w), table.new)


@pytest.mark.parametrize("posterior", ["ntkgp", "ensemble"])
def test_partial_fit_equals_fit_when_heteroscedastic(table, posterior):
    own = table.variances
    start = known(noise_variance=own[:7], posterior=posterior)
    found = in_parts(start, table, table.Y, table.weights, own)
    expected = known(noise_variance=own, posterior=posterior).fit(table.X, table.Y, table.weights)
    assert_same_model(found, expected, table.new)


def test_partial_fit_of_inducing_rows_equals_their_naive_posterior(table):
    found = in_parts(known(rank=6, random_state=0), table, table.Y, table.weights)
    Z = found.inducing_rows_
    assert all((z == table.X[:7]).all(axis=1).any() for z in Z)
    K_zz, K_zx, K_zn = (AMPLITUDE * KERNEL(Z, x) for x in (Z, table.X, table.new))
    here = AMPLITUDE * KERNEL(table.new)
    mean, cov = sparse.predict(K_zz, K_zx, table.Y, NOISE / table.weights, K_zn, here)
    found_mean, found_cov = found.predict(table.new, return_cov=True)
    np.testing.assert_allclose(found_mean, mean, **CLOSE)
    np.testing.assert_allclose(found_cov[..., 0], cov, **CLOSE)


@every_and_sparse
def test_partial_fit_keeps_hyperparameters(table, options):
    searched = {k: v for k, v in options.items() if k != "prior_df"}
    model = free(**searched).fit(table.X[:7], table.y[:7])
    before = model.theta_.copy(), repr(model.kernel_), model.amplitude_, model.noise_variance_
    model.partial_fit(table.X[7:], table.y[7:])
    np.testing.assert_array_equal(model.theta_, before[0])
    assert (repr(model.kernel_), model.amplitude_, model.noise_variance_) == before[1:]


def test_partial_fit_keeps_the_scale_of_normalized_targets(table):
    start = free(normalize_y=True).fit(table.X[:7], table.y[:7])
    mean, scale = table.y[:7].mean(), table.y[:7].std()
    numbers = {"kernel": start.kernel_, "amplitude": start.amplitude_ / scale**2}
    inside = known(**numbers, noise_variance=start.noise_variance_ / scale**2)
    inside.fit(table.X, (table.y - mean) / scale)
    found = start.partial_fit(table.X[7:], table.y[7:]).predict(table.new, return_std=True)
    expected = inside.predict(table.new, return_std=True)
    np.testing.assert_allclose(found[0], expected[0] * scale + mean, **CLOSE)
    np.testing.assert_allclose(found[1], expected[1] * scale, **CLOSE)


@every_and_sparse
def test_partial_fit_leaves_the_evidence_of_all_rows(table, options):
    model = in_parts(known(**options), table, table.y)
    assert model.log_marginal_likelihood() == model.log_marginal_likelihood_value_
    at_theta = model.log_marginal_likelihood(model.theta_)
    np.testing.assert_allclose(model.log_marginal_likelihood_value_, at_theta, rtol=1e-9)
    if "rank" not in options:
        expected = known(**options).fit(table.X, table.y).log_marginal_likelihood_value_
        np.testing.assert_allclose(at_theta, expected, rtol=1e-9)


@pytest.mark.parametrize("name", ["exact", "nngp", "ensemble", "student", "eigh"])
def test_partial_fit_leaves_leave_one_out_of_all_rows(table, name):
    found = in_parts(known(**MODELS[name]), table, table.Y, table.weights).loo_predictive()
    expected = known(**MODELS[name]).fit(table.X, table.Y, table.weights).loo_predictive()
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, **CLOSE)


def test_partial_fit_merges_copies_of_earlier_rows(table):
    X, y = np.vstack([table.X, table.X[:4]]), np.r_[table.y, table.y[:4]]
    found = known().fit(table.X, table.y).partial_fit(table.X[:4], table.y[:4])
    expected = known().fit(X, y)
    assert_same_model(found, expected, table.new)
    for a, b in zip(found.loo_predictive(), expected.loo_predictive(), strict=True):
        np.testing.assert_allclose(a, b, **CLOSE)


@pytest.mark.parametrize("options", [{}, {"rank": 6}, {"normalize_y": True}], ids=str)
def test_partial_fit_is_fit_the_first_time(table, options):
    one = free(random_state=0, **options).partial_fit(table.X, table.y, table.weights)
    two = free(random_state=0, **options).fit(table.X, table.y, table.weights)
    np.testing.assert_array_equal(one.predict(table.new), two.predict(table.new))


def test_partial_fit_takes_the_noise_of_new_rows_the_first_time(table):
    model = known(noise_variance=table.variances)
    with pytest.raises(ValueError, match="`noise_variance`"):
        model.partial_fit(table.X, table.y, noise_variance=2.0 * table.variances)


@every_and_sparse
@pytest.mark.parametrize("way", ["pickle", "deepcopy"])
def test_partial_fit_survives_copies_bit_for_bit(table, options, way):
    model = in_parts(known(**options), table, table.Y)
    before = model.predict(table.new, return_std=True)
    other = pickle.loads(pickle.dumps(model)) if way == "pickle" else copy.deepcopy(model)
    for a, b in zip(other.predict(table.new, return_std=True), before, strict=True):
        np.testing.assert_array_equal(a, b)
    for m in (model, other):
        m.partial_fit(table.new, table.Y[:5])
    for a, b in zip(*(m.predict(table.X, return_std=True) for m in (model, other)), strict=True):
        np.testing.assert_allclose(a, b, **CLOSE)


def test_partial_fit_leaves_a_copy_made_before_it_alone(table):
    model = known().fit(table.X[:7], table.y[:7]).partial_fit(table.X[7:9], table.y[7:9])
    other = copy.copy(model)
    expected = other.predict(table.new, return_std=True)
    model.partial_fit(table.X[9:], table.y[9:])
    for a, b in zip(other.predict(table.new, return_std=True), expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_partial_fit_follows_the_dtype(table):
    model = in_parts(known(dtype="float32"), table, table.y)
    expected = known().fit(table.X, table.y).predict(table.new, return_std=True)
    for found in (model, model.set_params(dtype="float64")):
        for a, b in zip(found.predict(table.new, return_std=True), expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-3)  # float32 times a condition number of 1e2


# --- what it refuses -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("X", "y", "options", "message"),
    [
        (np.ones((2, 2)), [1.0, 2.0], {}, "X has 2 features, but NTKGaussian.* expecting 3"),
        (np.ones((2, 3)), [1.0], {}, "inconsistent numbers of samples"),
        (np.full((1, 3), np.nan), [1.0], {}, "Input X contains NaN"),
        (np.ones((1, 3)), [np.nan], {}, "Input y contains NaN"),
        (np.ones((2, 3)), [[1.0, 2.0]] * 2, {}, r"`y` has shape \(2, 2\); expected \(2, \*\(\)\)"),
        (np.ones((1, 3)), [1.0], {"sample_weight": [-1.0]}, "`sample_weight` is -1 at row 0"),
        (
            np.ones((1, 3)),
            [1.0],
            {"noise_variance": [0.1]},
            r"is \[0.1\]; expected none, as in `fit`",
        ),
    ],
    ids=["features", "rows", "nan", "nan-target", "outputs", "weight", "noise"],
)
def test_bad_rows_raise_and_change_nothing(table, X, y, options, message):
    model = known().fit(table.X, table.y)
    before = dict(vars(model))
    with pytest.raises(ValueError, match=message):
        model.partial_fit(X, y, **options)
    assert all(vars(model)[name] is value for name, value in before.items())
    assert vars(model).keys() == before.keys()


@pytest.mark.parametrize(
    ("noise", "message"),
    [
        (None, r"is None; expected shape \(5,\), as in `fit`"),
        (np.ones(3), r"has shape \(3,\); expected \(5,\)"),
        (np.zeros(5), "is 0 at row 0; expected finite numbers above zero"),
    ],
)
def test_bad_noise_of_new_rows_raises(table, noise, message):
    model = known(noise_variance=table.variances).fit(table.X, table.y)
    with pytest.raises(ValueError, match=f"`noise_variance` .*{message}"):
        model.partial_fit(table.new, np.zeros(5), noise_variance=noise)


def test_other_number_of_outputs_raises(table):
    model = known().fit(table.X, table.Y)
    with pytest.raises(ValueError, match=r"`y` has shape \(5,\); expected .* the outputs seen in"):
        model.partial_fit(table.new, np.zeros(5))


def test_variational_model_raises(table):
    model = NTKGaussianProcessRegressor(rank=5, evidence="stochastic", max_epochs=1, random_state=0)
    model.fit(table.X, table.y)
    with pytest.raises((ValueError, NotImplementedError), match=r"variational|evidence='exact'"):
        model.partial_fit(table.new, np.zeros(5))
