"""What a user gets for bad input: a sentence that says what, where and what to do instead."""

import numpy as np
import pytest
import scipy.sparse
from sklearn.base import is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.gaussian_process.kernels import RBF
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils._param_validation import InvalidParameterError

from sknk import (
    MemoryBudgetError,
    NotPSDError,
    NTKRidge,
    NTKRidgeClassifier,
    NTKRidgeClassifierCV,
    NTKRidgeCV,
    NumericalWarning,
    config_context,
)
from sknk.kernels import NTK
from tests.cases import SEARCH

ALL = [NTKRidge(), NTKRidgeClassifier(), NTKRidgeCV(**SEARCH), NTKRidgeClassifierCV(**SEARCH)]
REGRESSORS, CLASSIFIERS, SEARCHES = ALL[::2], ALL[1::2], ALL[2:]
GRAMS = [
    NTKRidge("precomputed"),
    NTKRidgeClassifier("precomputed"),
    NTKRidgeCV("precomputed", alphas=[0.1]),
    NTKRidgeClassifierCV("precomputed", alphas=[0.1]),
]

every = pytest.mark.parametrize("model", ALL, ids=lambda m: type(m).__name__)
every_gram = pytest.mark.parametrize("model", GRAMS, ids=lambda m: type(m).__name__)
every_regressor = pytest.mark.parametrize("model", REGRESSORS, ids=lambda m: type(m).__name__)
every_classifier = pytest.mark.parametrize("model", CLASSIFIERS, ids=lambda m: type(m).__name__)
every_search = pytest.mark.parametrize("model", SEARCHES, ids=lambda m: type(m).__name__)


def targets(model, table):
    return table.two if is_classifier(model) else table.y


# --- rows and targets --------------------------------------------------------------------------


@every
@pytest.mark.parametrize(
    ("value", "message"), [(np.nan, "Input X contains NaN"), (np.inf, "Input X contains infinity")]
)
def test_bad_row_raises_when_not_finite(table, model, value, message):
    X = table.X.copy()
    X[3, 1] = value
    with pytest.raises(ValueError, match=message):
        model.fit(X, targets(model, table))
    with pytest.raises(ValueError, match=message):
        model.fit(table.X, targets(model, table)).predict(X)


@every_regressor
def test_bad_target_raises_when_not_finite(table, model):
    y = np.where(np.arange(20) == 4, np.nan, table.y)
    with pytest.raises(ValueError, match=r"Input y contains NaN"):
        model.fit(table.X, y)


@every
def test_missing_target_raises(table, model):
    with pytest.raises(ValueError, match=r"requires y to be passed, but the target y is None"):
        model.fit(table.X, None)


@every
def test_sparse_rows_raise(table, model):
    sparse = scipy.sparse.csr_array(table.X)
    with pytest.raises(TypeError, match=r"Sparse data was passed for X, .*\.toarray\(\)"):
        model.fit(sparse, targets(model, table))
    with pytest.raises(TypeError, match=r"Sparse data was passed for X"):
        model.fit(table.X, targets(model, table)).predict(sparse)


@every
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda X: X[:, 0], "Expected 2D array, got 1D array instead"),
        (lambda X: X[None], "Found array with dim 3"),
        (lambda X: X[:0], "Found array with 0 sample"),
        (lambda X: X[:, :0], "Found array with 0 feature"),
        (lambda X: X[:-1], "inconsistent numbers of samples"),
    ],
)
def test_rows_of_wrong_shape_raise(table, model, change, message):
    with pytest.raises(ValueError, match=message):
        model.fit(change(table.X), targets(model, table))


@every
def test_new_rows_of_wrong_width_raise(table, model):
    model.fit(table.X, targets(model, table))
    with pytest.raises(ValueError, match=r"X has 2 features, but NTKRidge.* is expecting 3"):
        model.predict(table.new[:, :2])


@every_classifier
def test_one_class_raises(table, model):
    with pytest.raises(ValueError, match=r"`y` has one class \('no'\); .* at least two classes"):
        model.fit(table.X, np.full(20, "no"))


@every_classifier
def test_continuous_classes_raise(table, model):
    with pytest.raises(ValueError, match=r"Unknown label type: continuous"):
        model.fit(table.X, table.y)


@every_search
@pytest.mark.parametrize("copies", [1, 3])
def test_one_distinct_row_raises_in_search(model, copies):
    X = np.ones((copies, 2))
    y = np.array([[0, 1]] * copies) if is_classifier(model) else np.ones(copies)
    with pytest.raises(ValueError, match=r"n_samples=1 distinct row .* at least 2. Use NTKRidge"):
        model.fit(X, y)


@every
def test_constant_columns_work(table, model):
    X = np.hstack([table.X, np.full((20, 1), 3.0), np.zeros((20, 1))])
    assert len(model.fit(X, targets(model, table)).predict(X)) == 20


@every_regressor
@pytest.mark.parametrize("value", [0.0, 2.0])
def test_rows_without_information_predict_the_mean(table, model, value):
    X = np.full((20, 3), value)
    found = model.set_params(fit_intercept=True).fit(X, table.y).predict(X)
    np.testing.assert_allclose(found, table.y.mean(), rtol=1e-9)


@every
def test_unscaled_columns_warn(table, model):
    y = targets(model, table)
    X = table.X * [1.0, 1.0, 1e6]
    with pytest.warns(NumericalWarning, match=r"Column 2 .* Put a StandardScaler before"):
        model.fit(X, y)
    make_pipeline(StandardScaler(), model).fit(X, y)  # silent: warnings are errors


# --- weights -----------------------------------------------------------------------------------


@every
@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.where(np.arange(20) == 7, -2.0, 1.0), "`sample_weight` is -2 at row 7"),
        (np.zeros(20), "`sample_weight` is zero for every row"),
        (0.0, "`sample_weight` is zero for every row"),
        (np.full(20, np.nan), "sample_weight contains NaN"),
        (np.full(20, np.inf), "sample_weight contains infinity"),
        (np.ones(19), r"sample_weight.shape == \(19,\), expected \(20,\)"),
        (np.ones((20, 2)), "Sample weights must be 1D"),
    ],
    ids=["negative", "zeros", "zero", "nan", "inf", "short", "2d"],
)
def test_bad_weights_raise(table, model, weights, message):
    with pytest.raises(ValueError, match=message):
        model.fit(table.X, targets(model, table), sample_weight=weights)


# --- Gram matrices -----------------------------------------------------------------------------


@every_gram
def test_gram_raises_when_not_square(table, model):
    K = table.kernel(table.X)
    with pytest.raises(ValueError, match=r"kernel of shape \(20, 5\); expected a square Gram"):
        model.fit(K[:, :5], targets(model, table))
    with pytest.raises(ValueError, match=r"X has 5 features, but NTKRidge.* is expecting 20"):
        model.fit(K, targets(model, table)).predict(K[:, :5])


@every_gram
def test_gram_raises_when_not_symmetric(table, model):
    K = table.kernel(table.X)
    K[2, 9] += 0.5
    with pytest.raises(ValueError, match=r"not symmetric .* is 0.5 .* Pass \(K \+ K.T\) / 2"):
        model.fit(K, targets(model, table))


@every_gram
def test_gram_raises_when_not_positive_definite(table, model):
    K = table.kernel(table.X) - 2.0 * np.eye(20)
    with pytest.raises(NotPSDError, match=r"not positive definite .* Increase `alpha`"):
        model.fit(K, targets(model, table))


@every_gram
def test_gram_takes_noise_of_rounding(table, model):
    K = table.kernel(table.X)
    K[2, 9] += 1e-12
    model.fit(K, targets(model, table))


@pytest.mark.parametrize("cls", [NTKRidgeCV, NTKRidgeClassifierCV])
def test_gram_with_grid_of_parameters_raises(table, cls):
    model = cls("precomputed", param_grid={"depth": [1]})
    with pytest.raises(ValueError, match=r"`param_grid` is .* kernel has no parameters"):
        model.fit(table.kernel(table.X), targets(model, table))


# --- memory ------------------------------------------------------------------------------------


@every
def test_rows_beyond_memory_raise_before_allocation(table, model):
    with (
        config_context(memory_budget=3000),
        pytest.raises(MemoryBudgetError, match=r"n=20 by 20 .* needs 3.2e\+03 bytes but 3e\+03"),
    ):
        model.fit(table.X, targets(model, table))


@every
def test_rows_beyond_memory_raise_for_sklearn_kernels(table, model):
    model = type(model)(RBF())
    with (
        config_context(memory_budget=3000),
        pytest.raises(MemoryBudgetError, match=r"n=20 by 20 .* allowed on cpu"),
    ):
        model.fit(table.X, targets(model, table))


@every_gram
def test_gram_beyond_memory_raises(table, model):
    K = table.kernel(table.X)
    # Solving takes a copy of the Gram matrix that was passed.
    with (
        config_context(memory_budget=3000),
        pytest.raises(MemoryBudgetError, match=r"needs .* bytes but 3e\+03 are allowed"),
    ):
        model.fit(K, targets(model, table))


@every
def test_prediction_needs_no_gram_matrix(table, model):
    model.fit(table.X, targets(model, table))
    with config_context(memory_budget=100):
        assert len(model.predict(np.tile(table.new, (50, 1)))) == 350


# --- parameters --------------------------------------------------------------------------------


@every
@pytest.mark.parametrize("kernel", [3, "rbf", NTK, [NTK()]], ids=["int", "str", "class", "list"])
def test_bad_kernel_raises(table, model, kernel):
    model = type(model)(kernel)
    with pytest.raises(InvalidParameterError, match=r"The 'kernel' parameter of .* must be None"):
        model.fit(table.X, targets(model, table))


@pytest.mark.parametrize("cls", [NTKRidge, NTKRidgeClassifier])
@pytest.mark.parametrize("alpha", [-1.0, np.nan, np.inf, "a", None])
def test_bad_alpha_raises(table, cls, alpha):
    model = cls(alpha=alpha)
    with pytest.raises(InvalidParameterError, match=r"The 'alpha' parameter of .* must be a float"):
        model.fit(table.X, targets(model, table))


@pytest.mark.parametrize("cls", [NTKRidgeCV, NTKRidgeClassifierCV])
@pytest.mark.parametrize("alphas", [[0.0, 1.0], [-1.0], [np.nan], [np.inf], [], [[1.0]]], ids=str)
def test_bad_alphas_raise(table, cls, alphas):
    model = cls(alphas=alphas)
    with pytest.raises(ValueError, match=r"`alphas` is .*; expected positive, finite ridges"):
        model.fit(table.X, targets(model, table))


@pytest.mark.parametrize("cls", [NTKRidgeCV, NTKRidgeClassifierCV])
@pytest.mark.parametrize(
    ("grid", "error", "message"),
    [
        ({"nope": [1]}, ValueError, "Invalid parameter nope for kernel NTK"),
        ({"kernel__depth": [1]}, ValueError, "Invalid parameter kernel for kernel NTK"),
        ({"depth": 1}, TypeError, "'depth' needs to be a list"),
        ({"depth": []}, ValueError, "'depth' need to be a non-empty sequence"),
        ({"depth": [-1]}, ValueError, "`depth` of NTK is -1"),
        ([], ValueError, r"`param_grid` is \[\]"),
    ],
    ids=str,
)
def test_bad_grid_raises(table, cls, grid, error, message):
    model = cls(param_grid=grid)
    with pytest.raises(error, match=message):
        model.fit(table.X, targets(model, table))


@pytest.mark.parametrize("cls", [NTKRidgeCV, NTKRidgeClassifierCV])
def test_unknown_scoring_raises(table, cls):
    model = cls(scoring="nope", **SEARCH)
    with pytest.raises(ValueError, match=r"'nope' is not a valid scoring value"):
        model.fit(table.X, targets(model, table))


@every
@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"dtype": "float16"}, "`dtype` is 'float16'; expected one of"),
        ({"device": "abacus"}, "`device` is 'abacus'; expected 'auto' or a torch device"),
    ],
)
def test_bad_device_or_dtype_raises(table, model, params, message):
    model = type(model)(**{**model.get_params(), **params})
    with pytest.raises(ValueError, match=message):
        model.fit(table.X, targets(model, table))


# --- methods -----------------------------------------------------------------------------------


@every_regressor
@pytest.mark.parametrize("alpha", [0, 1, -0.1, 2.0, np.nan])
def test_interval_raises_when_alpha_is_no_fraction(table, model, alpha):
    model.fit(table.X, table.y)
    with pytest.raises(ValueError, match=r"`alpha` is .*; expected a miscoverage between 0 and 1"):
        model.predict_interval(table.new, alpha=alpha)


@every
def test_methods_raise_when_not_fitted(table, model):
    model = type(model)()
    names = ["predict", "decision_function", "predict_proba", "predict_interval"]
    for name in filter(lambda name: hasattr(model, name), names):
        with pytest.raises(NotFittedError, match=r"is not fitted yet. Call 'fit'"):
            getattr(model, name)(table.new)
