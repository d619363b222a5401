"""What a user gets for bad input: a sentence that says what, where and what to do instead."""

import numpy as np
import pytest
import scipy.sparse
from sklearn.exceptions import NotFittedError
from sklearn.gaussian_process.kernels import RBF
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils._param_validation import InvalidParameterError

from sknk import MemoryBudgetError, NTKGaussianProcessRegressor, NumericalWarning, config_context
from sknk.kernels import NNGP, NTK, Normalized
from tests.gaussian_process.problems import free, known

# --- rows and targets ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "message"), [(np.nan, "Input X contains NaN"), (np.inf, "Input X contains infinity")]
)
def test_bad_row_raises_when_not_finite(table, value, message):
    X = table.X.copy()
    X[3, 1] = value
    with pytest.raises(ValueError, match=message):
        known().fit(X, table.y)
    with pytest.raises(ValueError, match=message):
        known().fit(table.X, table.y).predict(X)


def test_bad_target_raises_when_not_finite(table):
    with pytest.raises(ValueError, match=r"Input y contains NaN"):
        known().fit(table.X, np.where(np.arange(16) == 4, np.nan, table.y))


def test_missing_target_raises(table):
    with pytest.raises(ValueError, match=r"requires y to be passed, but the target y is None"):
        known().fit(table.X, None)


def test_sparse_rows_raise(table):
    with pytest.raises(TypeError, match=r"Sparse data was passed for X, .*\.toarray\(\)"):
        known().fit(scipy.sparse.csr_array(table.X), table.y)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda X: X[:, 0], "Expected 2D array, got 1D array instead"),
        (lambda X: X[:0], "Found array with 0 sample"),
        (lambda X: X[:-1], "inconsistent numbers of samples"),
    ],
)
def test_rows_of_wrong_shape_raise(table, change, message):
    with pytest.raises(ValueError, match=message):
        known().fit(change(table.X), table.y)


@pytest.mark.parametrize(
    "call",
    [
        lambda model, X: model.predict(X),
        lambda model, X: model.predict_quantiles(X),
        lambda model, X: model.predict_log_density(X, np.zeros(5)),
        lambda model, X: model.sample_y(X),
    ],
)
def test_new_rows_of_wrong_width_raise(table, call):
    with pytest.raises(ValueError, match=r"X has 2 features, but NTKGaussian.* is expecting 3"):
        call(known().fit(table.X, table.y), table.new[:, :2])


def test_unscaled_columns_warn(table):
    X = table.X * [1.0, 1.0, 1e6]
    with pytest.warns(NumericalWarning, match=r"Column 2 .* Put a StandardScaler before"):
        known().fit(X, table.y)
    make_pipeline(StandardScaler(), known()).fit(X, table.y)  # silent: warnings are errors


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.where(np.arange(16) == 7, -2.0, 1.0), "`sample_weight` is -2 at row 7"),
        (np.zeros(16), "`sample_weight` is zero for every row"),
        (np.full(16, np.nan), "sample_weight contains NaN"),
        (np.ones(15), r"sample_weight.shape == \(15,\), expected \(16,\)"),
    ],
    ids=["negative", "zeros", "nan", "short"],
)
def test_bad_weights_raise(table, weights, message):
    with pytest.raises(ValueError, match=message):
        known().fit(table.X, table.y, sample_weight=weights)


def test_rows_beyond_memory_raise_before_allocation(table):
    with (
        config_context(memory_budget=2000),
        pytest.raises(MemoryBudgetError, match=r"n=16 by 16 .* needs 2.05e\+03 bytes but 2e\+03"),
    ):
        known().fit(table.X, table.y)


# --- parameters ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("kernel", "precomputed"),
        ("kernel", "rbf"),
        ("kernel", NTK),
        ("noise_variance", 0.0),
        ("noise_variance", -0.1),
        ("noise_variance", np.nan),
        ("noise_variance", np.inf),
        ("noise_variance", "auto"),
        ("amplitude", 0.0),
        ("amplitude", None),
        ("posterior", "gp"),
        ("training_time", 0.0),
        ("training_time", np.inf),
        ("prior", "t"),
        ("prior_df", -1.0),
        ("evidence", "loo"),
        ("rank", 0),
        ("rank", 2.5),
        ("ard", "yes"),
        ("optimizer", "adam"),
        ("n_restarts_optimizer", -1),
        ("max_evaluations", 0),
        ("batch_size", 0),
        ("max_epochs", 0),
        ("learning_rate", 0.0),
        ("solver", "lu"),
        ("random_state", "seed"),
    ],
)
def test_bad_parameter_raises(table, name, value):
    model = NTKGaussianProcessRegressor().set_params(**{name: value})
    with pytest.raises(
        InvalidParameterError, match=rf"The '{name}' parameter of NTKGaussian.* must"
    ):
        model.fit(table.X, table.y)


@pytest.mark.parametrize("name", ["noise_variance", "amplitude", "prior_df"])
@pytest.mark.parametrize("pair", [(1.0,), (0.0, 1.0), (2.0, 1.0), (-1.0, 1.0), "fixed"], ids=str)
def test_bad_bounds_raise(table, name, pair):
    model = NTKGaussianProcessRegressor(prior="student").set_params(**{f"{name}_bounds": pair})
    with pytest.raises(ValueError, match=f"{name}_bounds"):
        model.fit(table.X, table.y)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"prior": "student", "posterior": "ensemble"},
            r"prior='student' and posterior='ensemble' exclude each other: .*posterior='ntkgp'",
        ),
        (
            {"prior": "student", "training_time": 1.0},
            r"prior='student' and `training_time` exclude each other: .*training_time=None",
        ),
        (
            {"prior": "student", "rank": 3},
            r"prior='student' and `rank` exclude each other: .*rank=None",
        ),
        (
            {"prior": "student", "evidence": "stochastic"},
            r"prior='student' and evidence='stochastic' exclude each other: .*evidence='exact'",
        ),
        (
            {"posterior": "ensemble", "rank": 3},
            r"posterior='ensemble' and `rank` exclude each other: .*rank=None",
        ),
        (
            {"training_time": 1.0, "rank": 3},
            r"`training_time` and `rank` exclude each other: .*rank=None",
        ),
    ],
)
def test_parameters_that_exclude_each_other_raise(table, options, message):
    with pytest.raises(ValueError, match=message):
        free(**options).fit(table.X, table.y)


@pytest.mark.parametrize("name", ["amplitude", "noise_variance", "prior_df"])
def test_estimate_without_optimizer_raises(table, name):
    model = known(prior="student", prior_df=3.0).set_params(**{name: "estimate"})
    with pytest.raises(
        ValueError, match=rf"`{name}` is 'estimate' but `optimizer` is None; .*{name}=1"
    ):
        model.fit(table.X, table.y)


def test_degrees_of_a_gaussian_prior_need_no_number(table):
    known(prior_df="estimate").fit(table.X, table.y)


@pytest.mark.parametrize(
    ("noise", "message"),
    [
        (
            np.where(np.arange(16) == 2, 0.0, 1.0),
            "is 0 at row 2; expected finite numbers above zero",
        ),
        (np.where(np.arange(16) == 2, -1.0, 1.0), "is -1 at row 2; expected finite numbers above"),
        (np.where(np.arange(16) == 2, np.nan, 1.0), "is nan at row 2; expected finite numbers"),
        (np.ones(15), r"has shape \(15,\); expected \(16,\)"),
        (np.ones((16, 2)), r"has shape \(16, 2\); expected \(16,\)"),
        ([0.1, 0.2], r"has shape \(2,\); expected \(16,\)"),
    ],
    ids=["zero", "negative", "nan", "short", "2d", "list"],
)
def test_bad_noise_of_rows_raises(table, noise, message):
    with pytest.raises(ValueError, match=f"`noise_variance` {message}"):
        known(noise_variance=noise).fit(table.X, table.y)


@pytest.mark.parametrize("name", ["amplitude", "noise_variance"])
def test_number_for_outputs_of_other_scales_raises(table, name):
    model = NTKGaussianProcessRegressor(normalize_y=True).set_params(**{name: 1.0})
    with pytest.raises(ValueError, match=rf"`{name}` is 1.0 for 2 outputs whose scales differ"):
        model.fit(table.X, table.Y)


@pytest.mark.parametrize("posterior", ["nngp", "ensemble"])
@pytest.mark.parametrize(
    "kernel", [RBF(), Normalized(NTK()), NTK(1) + NTK(2), NTK() * NTK()], ids=repr
)
def test_posterior_of_networks_raises_for_other_kernels(table, kernel, posterior):
    model = free(kernel=kernel, posterior=posterior)
    name = type(kernel).__name__
    with pytest.raises(
        TypeError, match=rf"{name}\(.* is no tangent kernel .*posterior='ntkgp'.*NTK"
    ):
        model.fit(table.X, table.y)


def test_ensemble_of_an_untrained_network_raises(table):
    with pytest.raises(TypeError, match=r"NNGP\(\) is no tangent kernel of a network"):
        free(kernel=NNGP(), posterior="ensemble").fit(table.X, table.y)


def test_ard_raises_for_kernels_without_input_scale(table):
    with pytest.raises(
        ValueError, match=r"`ard` is True, but RBF\(length_scale=1\) has no `input_sc"
    ):
        NTKGaussianProcessRegressor(RBF(), ard=True).fit(table.X, table.y)


def test_flow_raises_for_a_solver_without_eigenvectors(table):
    with pytest.raises((NotImplementedError, ValueError), match=r"(?i)cholesky.*eigh"):
        free(training_time=1.0, solver="cholesky").fit(table.X, table.y)


def test_variational_model_raises_for_noise_of_rows(table):
    model = free(rank=4, evidence="stochastic", noise_variance=table.variances)
    with pytest.raises(ValueError, match=r"`noise_variance` is an array, .*use evidence='exact'"):
        model.fit(table.X, table.y)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"dtype": "float16"}, "`dtype` is 'float16'; expected one of"),
        ({"device": "abacus"}, "`device` is 'abacus'; expected 'auto' or a torch device"),
    ],
)
def test_bad_device_or_dtype_raises(table, params, message):
    with pytest.raises(ValueError, match=message):
        known(**params).fit(table.X, table.y)


# --- methods -------------------------------------------------------------------------------------


def test_std_with_cov_raises(table):
    model = known().fit(table.X, table.y)
    with pytest.raises(
        ValueError, match=r"`return_std` and `return_cov` are both True; expected at"
    ):
        model.predict(table.new, return_std=True, return_cov=True)


@pytest.mark.parametrize(
    "quantiles", [[0.0, 0.5], [0.5, 1.0], [np.nan], [[0.1, 0.2]], [-0.1]], ids=str
)
def test_bad_quantiles_raise(table, quantiles):
    model = known().fit(table.X, table.y)
    with pytest.raises(ValueError, match=r"`quantiles` is .*; expected probabilities in \(0, 1\)"):
        model.predict_quantiles(table.new, quantiles)


@pytest.mark.parametrize("alpha", [0, 1, -0.1, 2.0, np.nan])
def test_interval_raises_when_alpha_is_no_fraction(table, alpha):
    model = known().fit(table.X, table.y)
    with pytest.raises(ValueError, match=r"`alpha` is .*; expected a miscoverage between 0 and 1"):
        model.predict_interval(table.new, alpha=alpha)


@pytest.mark.parametrize("shape", [(4,), (5, 1), (1,), ()])
def test_log_density_raises_when_targets_do_not_fit(table, shape):
    model = known().fit(table.X, table.y)
    with pytest.raises(
        ValueError, match=r"`y` has shape .*; expected \(5,\), one target for every"
    ):
        model.predict_log_density(table.new, np.zeros(shape))


def test_log_density_raises_when_outputs_do_not_fit(table):
    model = known().fit(table.X, table.Y)
    with pytest.raises(ValueError, match=r"`y` has shape \(5,\); expected \(5, 2\)"):
        model.predict_log_density(table.new, np.zeros(5))


@pytest.mark.parametrize(
    "call",
    [
        lambda model, X: model.predict_interval(X),
        lambda model, X: model.predict_quantiles(X),
        lambda model, X: model.predict_log_density(X, np.zeros(5)),
    ],
)
def test_unknown_noise_of_new_rows_raises(table, call):
    model = known(noise_variance=table.variances).fit(table.X, table.y)
    with pytest.raises(ValueError, match=r"one `noise_variance` per row, .*pass `noise_variance`"):
        call(model, table.new)


@pytest.mark.parametrize("noise", [-1.0, np.nan, np.ones(4), np.ones((5, 1))], ids=str)
def test_bad_noise_of_new_rows_raises(table, noise):
    model = known().fit(table.X, table.y)
    with pytest.raises(
        ValueError, match=r"(?s)`noise_variance` is .*; expected a number or shape \(5,\)"
    ):
        model.predict_interval(table.new, noise_variance=noise)


@pytest.mark.parametrize("theta", [[], [0.0, 0.0], np.zeros(4), np.zeros((3, 1)), 0.0], ids=str)
def test_evidence_raises_for_theta_of_another_length(table, theta):
    model = free().fit(table.X, table.y)
    with pytest.raises(ValueError, match=r"`theta` has shape .*; expected \(3,\), .*'amplitude'"):
        model.log_marginal_likelihood(theta)


@pytest.mark.parametrize(
    "call",
    [
        lambda model, X: model.predict(X),
        lambda model, X: model.predict_quantiles(X),
        lambda model, X: model.predict_interval(X),
        lambda model, X: model.predict_log_density(X, np.zeros(5)),
        lambda model, X: model.sample_y(X),
        lambda model, X: model.log_marginal_likelihood(),
        lambda model, X: model.loo_predictive(),
    ],
)
def test_methods_raise_when_not_fitted(table, call):
    with pytest.raises(NotFittedError, match=r"is not fitted yet. Call 'fit'"):
        call(known(), table.new)


def test_refit_forgets_attributes_of_another_kind_of_model(table):
    model = known(rank=4, random_state=0).fit(table.X, table.y)
    model.set_params(rank=None).fit(table.X, table.y)
    assert not hasattr(model, "inducing_rows_")
    model.set_params(rank=4).fit(table.X, table.y)
    assert not hasattr(model, "dual_coef_")
