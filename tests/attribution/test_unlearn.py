import copy
import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.kernel_ridge import KernelRidge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sknk import (
    NTKGaussianProcessClassifier,
    NTKGaussianProcessRegressor,
    NTKRidge,
    NTKRidgeClassifier,
    NTKRidgeClassifierCV,
    NTKRidgeCV,
)
from sknk.attribution import LeaveOneOutAttributor, unlearn
from sknk.solvers import _cholesky
from tests.attribution.families import KERNEL, KNOWN

RTOL = 1e-8
FIXED = {"param_grid": {}, "alphas": [0.4]}  # a search that always finds the same
REGRESSORS = {
    "ridge": NTKRidge(KERNEL, alpha=0.4),
    "ridge_plain": NTKRidge(KERNEL, alpha=0.4, fit_intercept=False, solver="eigh"),
    "ridge_cv": NTKRidgeCV(KERNEL, **FIXED),
    "gp": NTKGaussianProcessRegressor(KERNEL, **KNOWN),
    "gp_nngp": NTKGaussianProcessRegressor(KERNEL, posterior="nngp", **KNOWN),
    "gp_ensemble": NTKGaussianProcessRegressor(KERNEL, posterior="ensemble", **KNOWN),
    "gp_student": NTKGaussianProcessRegressor(KERNEL, prior="student", prior_df=5.0, **KNOWN),
    "gp_eigh": NTKGaussianProcessRegressor(KERNEL, solver="eigh", **KNOWN),
}
CLASSIFIERS = {
    "classifier": NTKRidgeClassifier(KERNEL, alpha=0.4),
    "class_weight": NTKRidgeClassifier(
        KERNEL, alpha=0.4, class_weight={"a": 2.0, "b": 1.0, "c": 0.5}
    ),
    "classifier_cv": NTKRidgeClassifierCV(KERNEL, **FIXED),
}
REMOVED = {"one": [4], "some": [15, 0, 7], "none": [], "negative": [-1, -16, 3, 3]}


def answers(model, X):
    """Return all a fitted model tells, by name."""
    found = {"predict": model.predict(X)}
    for name in ("decision_function", "predict_proba", "predict_interval"):
        if hasattr(model, name):
            found[name] = getattr(model, name)(X)
    final = model[-1] if hasattr(model, "steps") else model
    if isinstance(final, NTKGaussianProcessRegressor):
        found["std"] = model.predict(X, return_std=True)[1]
        found["evidence"] = final.log_marginal_likelihood_value_
    for name in ("dual_coef_", "intercept_", "loo_predictions_", "X_fit_", "noise_variance_"):
        if hasattr(final, name):
            found[name] = getattr(final, name)
    return {name: value for name, value in found.items() if value is not None}


def assert_same(found, expected, X, rtol=RTOL):
    found, expected = answers(found, X), answers(expected, X)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if np.asarray(value).dtype.kind == "f":
            np.testing.assert_allclose(found[name], value, rtol=rtol, atol=rtol, err_msg=name)
        else:
            np.testing.assert_array_equal(found[name], value, err_msg=name)


def rest_of(n, rows):
    return np.delete(np.arange(n), rows)


@pytest.mark.parametrize("removed", REMOVED)
@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("name", REGRESSORS)
def test_unlearned_regressor_equals_refit(data, name, outputs, removed):
    y = data.y if outputs == 1 else data.Y
    rest = rest_of(16, REMOVED[removed])
    model = clone(REGRESSORS[name]).fit(data.X, y)
    expected = clone(REGRESSORS[name]).fit(data.X[rest], y[rest])
    assert_same(unlearn(model, REMOVED[removed]), expected, data.X_val)


@pytest.mark.parametrize("removed", REMOVED)
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_unlearned_classifier_equals_refit(data, name, removed):
    rest = rest_of(16, REMOVED[removed])
    model = clone(CLASSIFIERS[name]).fit(data.X, data.classes)
    expected = clone(CLASSIFIERS[name]).fit(data.X[rest], data.classes[rest])
    assert_same(unlearn(model, REMOVED[removed]), expected, data.X_val)


def test_unlearned_multilabel_equals_refit(data):
    labels, rest = (data.Y.mean(axis=0) < data.Y).astype(int), rest_of(16, [2, 9])
    model = data.classifier.fit(data.X, labels)
    expected = clone(model).fit(data.X[rest], labels[rest])
    assert_same(unlearn(model, [2, 9]), expected, data.X_val)


@pytest.mark.parametrize("name", ["ridge", "ridge_cv", "gp", "gp_student"])
def test_unlearned_weights_equal_refit(data, name):
    w = np.where(np.arange(16) % 5 == 1, 0.0, data.weights)
    rows = [1, 3, 12]  # the first has no weight
    rest = rest_of(16, rows)
    model = clone(REGRESSORS[name]).fit(data.X, data.y, w)
    expected = clone(REGRESSORS[name]).fit(data.X[rest], data.y[rest], w[rest])
    assert_same(unlearn(model, rows), expected, data.X_val)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("rows", [[3], [16], [3, 16], [3, 16, 17], [17, 5, 18]], ids=str)
@pytest.mark.parametrize("name", ["ridge", "gp", "classifier", "class_weight"])
def test_unlearned_copies_equal_refit(data, name, rows, weighted):
    again = np.append(np.arange(16), [3, 3, 5])  # rows 3, 16 and 17 are one, and 5 and 18
    model = {**REGRESSORS, **CLASSIFIERS}[name]
    y = (data.classes if name in CLASSIFIERS else data.y)[again]
    w = np.random.default_rng(1).uniform(0.2, 2.0, 19) if weighted else np.ones(19)
    X, rest = data.X[again], rest_of(19, rows)
    expected = clone(model).fit(X[rest], y[rest], w[rest])
    assert_same(unlearn(clone(model).fit(X, y, w), rows), expected, data.X_val)


@pytest.mark.parametrize("name", ["ridge", "gp", "gp_ensemble", "classifier"])
def test_unlearning_the_first_of_two_copies_equals_refit(data, name):
    # All rows that are left are distinct, and one of them is no longer where it was.
    model = {**REGRESSORS, **CLASSIFIERS}[name]
    again = np.append(np.arange(16), [3])
    X, y = data.X[again], (data.classes if name in CLASSIFIERS else data.y)[again]
    expected = clone(model).fit(X[rest_of(17, [3])], y[rest_of(17, [3])])
    found = pickle.loads(pickle.dumps(unlearn(clone(model).fit(X, y), [3])))
    assert_same(found, expected, data.X_val)


def test_unlearned_noise_by_row_equals_refit(data):
    again = np.append(np.arange(16), [3])
    noise = np.random.default_rng(2).uniform(0.1, 1.0, 17)
    noise[16] = noise[3]
    known = {**KNOWN, "noise_variance": noise}
    for rows in ([3], [16, 3], [0, 8]):
        rest = rest_of(17, rows)
        model = NTKGaussianProcessRegressor(KERNEL, **known).fit(data.X[again], data.y[again])
        other = NTKGaussianProcessRegressor(KERNEL, **{**known, "noise_variance": noise[rest]})
        expected = other.fit(data.X[again][rest], data.y[again][rest])
        found = unlearn(model, rows)
        np.testing.assert_array_equal(found.noise_variance_, noise[rest])
        for one, other in zip(
            found.predict(data.X_val, return_std=True),
            expected.predict(data.X_val, return_std=True),
            strict=True,
        ):
            np.testing.assert_allclose(one, other, rtol=RTOL)


def test_unlearned_precomputed_ridge_takes_the_other_rows(data):
    K, rest = KERNEL(data.X), rest_of(16, [2, 9])
    model = NTKRidge("precomputed", alpha=0.4).fit(K, data.y)
    expected = NTKRidge("precomputed", alpha=0.4).fit(K[np.ix_(rest, rest)], data.y[rest])
    found = unlearn(model, [2, 9])
    assert_same(found, expected, KERNEL(data.X_val, data.X[rest]))
    assert found.n_features_in_ == 14
    assert model.n_features_in_ == 16


@pytest.mark.parametrize("rows", [0, 10**9], ids=["update", "refactorization"])
def test_unlearned_by_either_route_equals_refit(data, monkeypatch, rows):
    monkeypatch.setattr(_cholesky, "_UPDATE_ROWS", rows)
    monkeypatch.setattr(_cholesky, "_UPDATE_RATIO", 0)
    rest = rest_of(16, [2, 9])
    for name in ("ridge", "gp"):
        model = clone(REGRESSORS[name]).fit(data.X, data.y)
        expected = clone(model).fit(data.X[rest], data.y[rest])
        assert_same(unlearn(model, [2, 9]), expected, data.X_val)


def test_normalized_targets_keep_their_units(data):
    model = NTKGaussianProcessRegressor(KERNEL, normalize_y=True, **KNOWN).fit(data.X, data.y)
    rest = rest_of(16, [2, 9])
    mean, scale = data.y.mean(), data.y.std()
    known = {**KNOWN, "amplitude": 2.0 / scale**2, "noise_variance": 0.3 / scale**2}
    other = NTKGaussianProcessRegressor(KERNEL, **known)
    other.fit(data.X[rest], (data.y[rest] - mean) / scale)
    found = unlearn(model, [2, 9]).predict(data.X_val)
    np.testing.assert_allclose(found, mean + scale * other.predict(data.X_val), rtol=RTOL)


def test_unlearning_again_equals_unlearning_at_once(data):
    for name in ("ridge", "gp"):
        model = clone(REGRESSORS[name]).fit(data.X, data.y)
        twice = unlearn(unlearn(model, [2, 9]), [0, -1])
        assert_same(twice, unlearn(model, [2, 9, 0, 15]), data.X_val)


@pytest.mark.parametrize("name", ["ridge", "ridge_cv", "gp", "gp_ensemble"])
def test_unlearning_a_pickle_equals_refit(data, name):
    rest = rest_of(16, [2, 9])
    model = clone(REGRESSORS[name]).fit(data.X, data.y)
    found = unlearn(pickle.loads(pickle.dumps(model)), [2, 9])
    expected = clone(model).fit(data.X[rest], data.y[rest])
    assert_same(pickle.loads(pickle.dumps(found)), expected, data.X_val)


def test_unlearning_appended_rows_equals_refit(data):
    model = clone(REGRESSORS["gp"]).fit(data.X[:10], data.y[:10])
    model.partial_fit(data.X[8:], data.y[8:])  # rows 8 and 9 come twice
    again = np.append(np.arange(10), np.arange(8, 16))
    for rows in ([8], [8, 10], [2, 13]):
        rest = rest_of(18, rows)
        expected = clone(model).fit(data.X[again][rest], data.y[again][rest])
        found = unlearn(model, rows)
        np.testing.assert_allclose(
            found.predict(data.X_val), expected.predict(data.X_val), rtol=RTOL, atol=RTOL
        )


def test_unlearned_model_takes_new_rows(data):
    model = unlearn(clone(REGRESSORS["gp"]).fit(data.X[:12], data.y[:12]), [2, 9])
    rest = rest_of(16, [2, 9])
    model.partial_fit(data.X[12:], data.y[12:])
    assert_same(model, clone(model).fit(data.X[rest], data.y[rest]), data.X_val)


def test_pipeline_keeps_its_transformations(data):
    model = make_pipeline(StandardScaler(), clone(data.ridge)).fit(data.X, data.y)
    Z, rest = model[0].transform(data.X), rest_of(16, [2, 9])
    expected = clone(data.ridge).fit(Z[rest], data.y[rest])
    found = unlearn(model, [2, 9])
    assert found[0] is model[0]
    np.testing.assert_allclose(
        found.predict(data.X_val), expected.predict(model[0].transform(data.X_val)), rtol=RTOL
    )
    nested = unlearn(make_pipeline("passthrough", model).fit(data.X, data.y), [2, 9])
    np.testing.assert_allclose(nested.predict(data.X_val), found.predict(data.X_val), rtol=RTOL)


def test_frozen_estimator_is_unlearned_as_what_it_holds(data):
    model = clone(data.ridge).fit(data.X, data.y)
    assert_same(unlearn(FrozenEstimator(model), 3), unlearn(model, [3]), data.X_val)


@pytest.mark.parametrize("name", [*REGRESSORS, *CLASSIFIERS])
def test_unlearning_leaves_the_estimator_as_it_was(data, name):
    model = clone({**REGRESSORS, **CLASSIFIERS}[name])
    model.fit(data.X, data.classes if name in CLASSIFIERS else data.y)
    before, state = answers(model, data.X_val), copy.deepcopy(model.__getstate__())
    unlearn(model, [0, 5]).predict(data.X_val)
    assert pickle.dumps(model.__getstate__()) == pickle.dumps(state)
    for key, value in answers(model, data.X_val).items():
        np.testing.assert_array_equal(value, before[key])


def test_unlearned_model_can_be_attributed(data):
    model = unlearn(clone(data.ridge).fit(data.X, data.y), [2, 9])
    rest = rest_of(16, [2, 9])
    X, y = data.X[rest], data.y[rest]
    found = LeaveOneOutAttributor(FrozenEstimator(model)).fit(X, y, data.X_val, data.y_val)
    other = LeaveOneOutAttributor(data.ridge).fit(X, y, data.X_val, data.y_val)
    np.testing.assert_allclose(found.values_, other.values_, rtol=RTOL, atol=RTOL)


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize("indices", [[16], [-17], 99], ids=str)
def test_unlearn_refuses_rows_that_are_not_there(data, indices):
    with pytest.raises(IndexError, match=r"`indices` is .*; expected positions of 16 rows"):
        unlearn(clone(data.ridge).fit(data.X, data.y), indices)


@pytest.mark.parametrize(
    "indices",
    [[0.5], [[1, 2]], np.arange(16) == 3, "a", None],
    ids=["float", "2d", "mask", "text", "None"],
)
def test_unlearn_refuses_what_is_no_position(data, indices):
    with pytest.raises(ValueError, match=r"`indices` is (.|\s)*; expected positions of rows"):
        unlearn(clone(data.ridge).fit(data.X, data.y), indices)


def test_unlearn_refuses_to_remove_all_weight(data):
    w = np.where(np.arange(16) < 3, 1.0, 0.0)
    model = clone(data.ridge).fit(data.X, data.y, w)
    with pytest.raises(ValueError, match="removes all 3 rows of positive weight"):
        unlearn(model, [0, 1, 2])


@pytest.mark.parametrize("n_classes", [2, 3])
def test_unlearn_refuses_to_remove_a_class(data, n_classes):
    y = data.classes if n_classes == 3 else np.where(data.classes == "a", "a", "b")
    model = clone(data.classifier).fit(data.X, y)
    with pytest.raises(ValueError, match="removes every row of the class 'a'"):
        unlearn(model, np.flatnonzero(y == "a"))


def test_unlearn_refuses_balanced_classes(data):
    model = clone(data.classifier).set_params(class_weight="balanced").fit(data.X, data.classes)
    with pytest.raises(ValueError, match="`class_weight` is 'balanced'"):
        unlearn(model, [0])


def test_unlearn_refuses_other_estimators(data):
    with pytest.raises(TypeError, match="expected NTKRidge"):
        unlearn(KernelRidge().fit(data.X, data.y), [0])
    model = NTKGaussianProcessClassifier(KERNEL, amplitude=2.0, alpha_eps=0.1, optimizer=None)
    with pytest.raises(TypeError, match="whose rows can be removed exactly"):
        unlearn(model.fit(data.X, data.classes), [0])


def test_unlearn_refuses_what_is_not_fitted(data):
    with pytest.raises(NotFittedError, match="not fitted"):
        unlearn(data.ridge, [0])
