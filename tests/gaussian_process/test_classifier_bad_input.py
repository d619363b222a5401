"""What a user gets for bad input: a sentence that says what, where and what to do instead."""

import numpy as np
import pytest
import scipy.sparse
from sklearn.exceptions import DataConversionWarning, NotFittedError
from sklearn.gaussian_process.kernels import RBF, DotProduct
from sklearn.utils._param_validation import InvalidParameterError

from sknk import MemoryBudgetError, NTKGaussianProcessClassifier, NumericalWarning, config_context
from sknk.kernels import NTK
from tests.cases import rows

N = 20
X, NEW = rows(N, seed=5), rows(7, seed=7)
Y = np.array(["a", "b", "c"])[np.digitize(X[:, 0], [-0.4, 0.5])]
TWO = np.where(X[:, 0] > 0, "yes", "no")
KNOWN = {"optimizer": None, "amplitude": 3.0, "alpha_eps": 0.03, "max_epochs": 2}
WAYS = ["dirichlet", "laplace", "variational"]
every = pytest.mark.parametrize("way", WAYS)


def model(way="dirichlet", **options):
    return NTKGaussianProcessClassifier(**{**KNOWN, "inference": way, **options})


# --- rows --------------------------------------------------------------------------------------


@every
@pytest.mark.parametrize(
    ("value", "message"), [(np.nan, "Input X contains NaN"), (np.inf, "Input X contains infinity")]
)
def test_bad_row_raises_when_not_finite(way, value, message):
    x = X.copy()
    x[3, 1] = value
    with pytest.raises(ValueError, match=message):
        model(way).fit(x, TWO)
    fitted = model(way).fit(X, TWO)
    for method in (fitted.predict, fitted.predict_proba, fitted.predict_latent):
        with pytest.raises(ValueError, match=message):
            method(x)


def test_sparse_rows_raise():
    with pytest.raises(TypeError, match=r"Sparse data was passed for X, .*\.toarray\(\)"):
        model().fit(scipy.sparse.csr_array(X), TWO)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x[:, 0], "Expected 2D array, got 1D array instead"),
        (lambda x: x[None], "Found array with dim 3"),
        (lambda x: x[:0], r"Found array with 0 sample"),
        (lambda x: x[:, :0], r"Found array with 0 feature"),
        (lambda x: x[:-1], "inconsistent numbers of samples"),
    ],
)
def test_bad_shape_of_rows_raises(change, message):
    with pytest.raises(ValueError, match=message):
        model().fit(change(X), TWO)


@every
def test_other_number_of_features_raises(way):
    fitted = model(way).fit(X, TWO)
    with pytest.raises(ValueError, match=r"X has 2 features, .* is expecting 3"):
        fitted.predict_proba(NEW[:, :2])


def test_unscaled_rows_warn():
    with pytest.warns(NumericalWarning, match=r"Column 2 .* Put a StandardScaler before"):
        model().fit(X * [1.0, 1.0, 1e5], TWO)


# --- labels ------------------------------------------------------------------------------------


@every
@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.ones(N), r"`y` has one class \(1\.0\); a classifier needs at least two classes"),
        (np.full(N, "only"), r"`y` has one class \('only'\)"),
        (np.zeros(N, bool), r"`y` has one class \(False\)"),
        (X[:, 0], "Unknown label type: continuous"),
        (np.where(X[:, 0] > 0, np.nan, 1.0), "Input y contains NaN"),
        (np.eye(2, dtype=int)[(X[:, 0] > 0).astype(int)], "y should be a 1d array"),
        (np.array([1, "a"] * 10, dtype=object), "Unknown label type"),
        (None, "requires y to be passed, but the target y is None"),
    ],
    ids=["one", "one string", "one bool", "continuous", "nan", "2d", "mixed", "none"],
)
def test_bad_labels_raise(way, y, message):
    with pytest.raises(ValueError, match=message):
        model(way).fit(X, y)


def test_labels_in_a_column_warn():
    with pytest.warns(DataConversionWarning, match="column-vector y was passed"):
        found = model().fit(X, TWO[:, None])
    np.testing.assert_array_equal(found.predict(NEW), model().fit(X, TWO).predict(NEW))


# --- weights -----------------------------------------------------------------------------------


@every
@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.where(np.arange(N) == 7, -2.0, 1.0), "`sample_weight` is -2 at row 7"),
        (np.zeros(N), "`sample_weight` is zero for every row"),
        (np.full(N, np.nan), "sample_weight contains NaN"),
        (np.ones(N - 1), r"sample_weight.shape == \(19,\), expected \(20,\)"),
        (np.ones((N, 2)), "Sample weights must be 1D"),
    ],
    ids=["negative", "zeros", "nan", "short", "2d"],
)
def test_bad_weights_raise(way, weights, message):
    with pytest.raises(ValueError, match=message):
        model(way).fit(X, TWO, sample_weight=weights)


@every
def test_one_class_left_by_sample_weights_raises(way):
    message = r"`y` has one class \('no'\) where `sample_weight` is positive"
    with pytest.raises(ValueError, match=message):
        model(way).fit(X, TWO, (TWO == "no").astype(float))


@every
def test_one_class_left_by_class_weights_raises(way):
    with pytest.raises(ValueError, match=r"`y` has one class \('yes'\)"):
        model(way, class_weight={"no": 0.0, "yes": 1.0}).fit(X, TWO)


@every
def test_all_classes_without_weight_raise(way):
    with pytest.raises(ValueError, match="weight"):
        model(way, class_weight={"no": 0.0, "yes": 0.0}).fit(X, TWO)


@every
@pytest.mark.parametrize("value", [-1.0, np.nan, np.inf])
def test_bad_class_weight_raises(way, value):
    with pytest.raises(ValueError, match=r"`class_weight` .*expected .*not negative"):
        model(way, class_weight={"no": value, "yes": 1.0}).fit(X, TWO)


@every
def test_weight_of_an_unknown_class_raises(way):
    with pytest.raises(ValueError, match="are not in class_weight"):
        model(way, class_weight={"maybe": 2.0}).fit(X, TWO)


# --- parameters --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["alpha_eps", "amplitude", "prior_df", "learning_rate"])
@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf, "many"])
def test_number_that_is_not_positive_raises(name, value):
    with pytest.raises(InvalidParameterError, match=f"The '{name}' parameter of .* must be"):
        model(**{name: value}).fit(X, TWO)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("inference", "exact"),
        ("prior", "cauchy"),
        ("optimizer", "adam"),
        ("rank", 0),
        ("max_epochs", 0),
        ("batch_size", 1.5),
        ("max_evaluations", 0),
        ("n_restarts_optimizer", -1),
        ("ard", "yes"),
        ("class_weight", "fair"),
        ("kernel", "precomputed"),
        ("kernel", NTK),
        ("amplitude_bounds", "fixed"),
    ],
)
def test_bad_parameter_raises(name, value):
    with pytest.raises(InvalidParameterError, match=f"The '{name}' parameter of .* must be"):
        model(**{name: value}).fit(X, TWO)


@pytest.mark.parametrize("way", ["laplace", "variational"])
def test_student_prior_raises_without_a_closed_form(way):
    message = rf"prior='student' and inference='{way}' exclude each other.*inference='dirichlet'"
    with pytest.raises(ValueError, match=message):
        model(way, prior="student").fit(X, TWO)


@pytest.mark.parametrize(
    ("way", "name", "number"),
    [
        ("dirichlet", "amplitude", 4.0),
        ("dirichlet", "alpha_eps", 0.01),
        ("laplace", "amplitude", 4.0),
        ("variational", "amplitude", 4.0),
    ],
)
def test_nothing_is_estimated_without_optimizer(way, name, number):
    message = rf"`{name}` is 'estimate' but `optimizer` is None; .*{name}={number}"
    with pytest.raises(ValueError, match=message):
        model(way, **{name: "estimate"}).fit(X, TWO)


@pytest.mark.parametrize("way", ["laplace", "variational"])
def test_alpha_eps_is_needed_by_dirichlet_only(way):
    assert not hasattr(model(way, alpha_eps="estimate").fit(X, TWO), "alpha_eps_")


@pytest.mark.parametrize("way", ["dirichlet", "laplace"])
@pytest.mark.parametrize("kernel", [RBF(), DotProduct()], ids=["RBF", "DotProduct"])
def test_ard_raises_for_kernels_without_scales(way, kernel):
    message = rf"`ard` is True, but {type(kernel).__name__}\(.* has no `input_scale` to free"
    with pytest.raises(ValueError, match=message):
        model(way, kernel=kernel, ard=True).fit(X, TWO)


def test_variational_raises_for_sklearn_kernels():
    # Inducing rows move along gradients by rows, which scikit-learn's kernels do not have.
    with pytest.raises((TypeError, ValueError), match=r"variational.*RBF.*sknk kernel"):
        model("variational", kernel=RBF(), optimizer="fmin_l_bfgs_b").fit(X, TWO)


@pytest.mark.parametrize("name", ["amplitude", "alpha_eps"])
@pytest.mark.parametrize(
    "bounds", [(5.0, 1.0), (-1.0, 2.0), (0.0, 1.0), (np.nan, 1.0), (1.0,), (1.0, "a")], ids=str
)
def test_bad_bounds_raise(name, bounds):
    estimator = model(optimizer="fmin_l_bfgs_b", **{name: "estimate", f"{name}_bounds": bounds})
    with pytest.raises((TypeError, ValueError), match=f"`{name}_bounds` is"):
        estimator.fit(X, TWO)


def test_restarts_raise_when_bounds_are_infinite():
    estimator = model(
        optimizer="fmin_l_bfgs_b",
        amplitude="estimate",
        amplitude_bounds=(1.0, np.inf),
        n_restarts_optimizer=2,
    )
    message = r"`n_restarts_optimizer` is 2, but the bounds of \['amplitude'\] are not finite"
    with pytest.raises(ValueError, match=message):
        estimator.fit(X, TWO)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"dtype": "float16"}, "`dtype` is 'float16'; expected one of"),
        ({"device": "abacus"}, "`device` is 'abacus'; expected 'auto' or a torch device"),
    ],
)
def test_bad_device_or_dtype_raises(params, message):
    with pytest.raises(ValueError, match=message):
        model(**params).fit(X, TWO)


@pytest.mark.parametrize("way", ["dirichlet", "laplace"])
def test_rows_beyond_memory_raise(way):
    with (
        config_context(memory_budget=3000),
        pytest.raises(MemoryBudgetError, match=r"needs .* bytes but 3e\+03 are allowed on cpu"),
    ):
        model(way).fit(X, TWO)


# --- methods -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method", ["predict", "predict_proba", "predict_latent", "decision_function", "sample_proba"]
)
def test_methods_raise_when_not_fitted(method):
    with pytest.raises(NotFittedError, match=r"is not fitted yet. Call 'fit'"):
        getattr(NTKGaussianProcessClassifier(), method)(NEW)


@pytest.mark.parametrize(
    ("n_samples", "error", "message"),
    [
        (0, ValueError, r"n_samples == 0, must be >= 1"),
        (2.5, TypeError, r"n_samples must be an instance of int, not float"),
    ],
)
def test_sample_proba_raises_for_bad_counts(n_samples, error, message):
    with pytest.raises(error, match=message):
        model().fit(X, TWO).sample_proba(NEW, n_samples)


@pytest.mark.parametrize("way", ["dirichlet", "laplace", "variational"])
def test_sample_proba_raises_when_memory_is_short(way):
    fitted = model(way).fit(X, TWO)
    rows = np.random.default_rng(0).standard_normal((300, X.shape[1]))
    many = r"The joint law .* of 300 distinct rows needs .* are allowed on cpu.*Use fewer rows\."
    with config_context(memory_budget=1_000_000):
        fitted.predict_proba(rows)
        with pytest.raises(MemoryBudgetError, match=many):
            fitted.sample_proba(rows)
        with pytest.raises(MemoryBudgetError, match=r"50000 draws of 7 rows.*`n_samples`"):
            fitted.sample_proba(NEW, 50_000)


def test_log_marginal_likelihood_raises_when_not_fitted():
    with pytest.raises(NotFittedError, match=r"is not fitted yet"):
        NTKGaussianProcessClassifier().log_marginal_likelihood()


@pytest.mark.parametrize("way", ["dirichlet", "laplace"])
@pytest.mark.parametrize("theta", [[], [0.0, 0.0, 0.0], [[0.0]], 0.0], ids=str)
def test_theta_of_another_length_raises(way, theta):
    fitted = model(way, kernel=NTK(bias_var=0.1)).fit(X, TWO)
    message = r"`theta` has shape .*; expected \(1,\), the logarithms of \['kernel__bias_var'\]"
    with pytest.raises(ValueError, match=message):
        fitted.log_marginal_likelihood(theta)


def test_log_marginal_likelihood_elsewhere_raises_for_variational():
    fitted = model("variational").fit(X, TWO)
    assert fitted.log_marginal_likelihood() == fitted.log_marginal_likelihood_value_
    for arguments in ({"theta": fitted.theta_}, {"eval_gradient": True}):
        with pytest.raises(NotImplementedError, match=r"use inference='laplace'"):
            fitted.log_marginal_likelihood(**arguments)
