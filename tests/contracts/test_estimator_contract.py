"""One contract for all estimators: scikit-learn's checks, then what DESIGN.md asks beyond them."""

import copy
import dataclasses
import io
import pickle

import joblib
import numpy as np
import pytest
import sklearn
import torch
from sklearn.base import clone, is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_checks as checks

from sknk import NTKRidge, NTKRidgeClassifier
from sknk.kernels import NTK
from tests.cases import ESTIMATORS, ESTIMATORS_FLOAT32, rows

ROWWISE = [e for e in ESTIMATORS if e.kernel != "precomputed"]
SMALL = list({type(e): e for e in reversed(ROWWISE) if e.kernel is None}.values())  # one a class
GRAMS = [e for e in ESTIMATORS if e.kernel == "precomputed"]

# Checks that hand a "precomputed" estimator something that is no Gram matrix. scikit-learn's own
# KernelRidge and SVC fail them too with kernel="precomputed".
NO_GRAM = {
    "check_positive_only_tag_during_fit": "subtracts a constant: eigenvalues far below zero",
    "check_decision_proba_consistency": "passes 80 rows of 2 features",
}
# Checks that compare answers to a relative 1e-7, float32's own rounding, or weigh rows 1e7 : 1.
BEYOND_FLOAT32 = {
    "check_sample_weight_equivalence_on_dense_data": "rtol 1e-7",
    "check_methods_sample_order_invariance": "rtol 1e-7",
    "check_methods_subset_invariance": "rtol 1e-7",
    "check_class_weight_classifiers": "class weights 1000 and 0.0001",
}


def name_of(estimator):
    return f"{type(estimator).__name__}-{ESTIMATORS.index(estimator)}"


def checks_without(estimators, left_out):
    pairs = [pair for e in estimators for pair in checks.estimator_checks_generator(e)]
    return [
        pytest.param(one, check, id=f"{type(one).__name__}-{check.func.__name__}")
        for one, check in pairs
        if check.func.__name__ not in left_out
    ]


def problem(estimator, n=24):
    """Return rows (or their Gram matrix) and targets (or classes) that fit the estimator."""
    X = rows(n, seed=11)
    y = X[:, 0] + 0.3 * X[:, 1] ** 2
    y = np.array(["no", "yes"])[(y > 0.2).astype(int)] if is_classifier(estimator) else y
    return (NTK()(X) if estimator.kernel == "precomputed" else X), y


def fitted(estimator):
    return clone(estimator).fit(*problem(estimator))


def answers(estimator, X):
    names = ["predict", "decision_function", "predict_proba", "predict_interval"]
    return {name: getattr(estimator, name)(X) for name in names if hasattr(estimator, name)}


def assert_same_answers(one, other, X):
    expected = answers(other, X)
    for name, found in answers(one, X).items():
        np.testing.assert_array_equal(found, expected[name], err_msg=name)


def tensors_in(value, path="state", seen=None):
    """Yield the path of every tensor reachable from a pickled state."""
    seen = set() if seen is None else seen
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, torch.nn.Module):  # a user's own, with its weights, but off the GPU
        yield from (path for p in value.parameters() if p.device.type != "cpu")
    elif isinstance(value, torch.Tensor):
        yield path
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from tensors_in(item, f"{path}[{key!r}]", seen)
    elif isinstance(value, list | tuple | set):
        for index, item in enumerate(value):
            yield from tensors_in(item, f"{path}[{index}]", seen)
    elif isinstance(value, np.ndarray) and value.dtype == object:
        yield from tensors_in(value.tolist(), path, seen)
    elif hasattr(value, "__dict__") and not isinstance(value, type):
        state = value.__getstate__() if value is not None else None
        yield from tensors_in(state, f"{path}.{type(value).__name__}", seen)


# --- scikit-learn's checks -----------------------------------------------------------------------


@checks.parametrize_with_checks(ROWWISE)
def test_estimator_passes_sklearn_check(estimator, check):
    check(estimator)


@pytest.mark.parametrize(("estimator", "check"), checks_without(GRAMS, NO_GRAM))
def test_estimator_passes_sklearn_check_when_precomputed(estimator, check):
    check(estimator)


@pytest.mark.parametrize(("estimator", "check"), checks_without(ESTIMATORS_FLOAT32, BEYOND_FLOAT32))
def test_estimator_passes_sklearn_check_in_float32(estimator, check):
    check(estimator)


# What parametrize_with_checks leaves to third parties.
@pytest.mark.parametrize(
    "check",
    [
        checks.check_dataframe_column_names_consistency,
        checks.check_param_validation,
        checks.check_inplace_ensure_writeable,
    ],
)
@pytest.mark.parametrize("estimator", ESTIMATORS, ids=name_of)
def test_estimator_passes_sklearn_check_for_third_parties(estimator, check):
    check(type(estimator).__name__, estimator)


@pytest.mark.parametrize("estimator", SMALL, ids=name_of)
def test_estimator_checks_see_array_api(estimator):
    # Without SCIPY_ARRAY_API=1 before the first import, check_array_api_input would be skipped.
    names = [check.func.__name__ for _, check in checks.estimator_checks_generator(estimator)]
    assert "check_array_api_input" in names
    with sklearn.config_context(array_api_dispatch=True):
        fitted(estimator)


# --- state ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=name_of)
def test_estimator_state_holds_no_tensor(estimator):
    model = fitted(estimator)
    answers(model, problem(estimator)[0])  # predict_interval keeps a factor
    assert not list(tensors_in(model.__getstate__()))
    assert not list(tensors_in(vars(copy.deepcopy(model))))


def test_tensors_in_finds_tensors():
    @dataclasses.dataclass
    class Box:
        inside: object

    assert list(tensors_in({"a": [Box((torch.ones(1),))]}))


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=name_of)
def test_estimator_public_attributes_are_numpy(estimator):
    model = fitted(estimator)
    public = {k: v for k, v in vars(model).items() if k.endswith("_") and k[0] != "_"}
    kinds = (np.ndarray, float, int, str, dict, list, type(None))
    found = {k: v for k, v in public.items() if k not in ("kernel_", "solver_")}
    assert found
    assert all(isinstance(value, kinds) for value in found.values()), found
    results = public.get("cv_results_", {})
    assert all(isinstance(value, np.ndarray | list) for value in results.values())


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=name_of)
@pytest.mark.parametrize("way", ["pickle", "joblib", "deepcopy"])
def test_estimator_answers_survive_copy(estimator, way):
    model, (X, _) = fitted(estimator), problem(estimator)
    answers(model, X)
    if way == "deepcopy":
        other = copy.deepcopy(model)
    elif way == "pickle":
        other = pickle.loads(pickle.dumps(model))
    else:
        buffer = io.BytesIO()
        joblib.dump(model, buffer)
        buffer.seek(0)
        other = joblib.load(buffer)
    assert_same_answers(other, model, X)


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=name_of)
def test_estimator_clone_is_unfitted_and_equal(estimator):
    other = clone(fitted(estimator))
    assert repr(other) == repr(estimator)
    with pytest.raises(NotFittedError, match="not fitted"):
        other.predict(problem(estimator)[0])


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=name_of)
def test_estimator_fit_leaves_parameters_and_data(estimator):
    X, y = problem(estimator)
    before, X_before = repr(estimator), X.copy()
    model = clone(estimator)
    answers(model.fit(X, y), X)
    assert repr(model) == before
    np.testing.assert_array_equal(X, X_before)


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=name_of)
def test_estimator_fit_leaves_global_generators(estimator):
    torch_before, numpy_before = torch.get_rng_state(), np.random.get_state()  # noqa: NPY002
    model = clone(estimator)
    if "random_state" in model.get_params():
        model.set_params(random_state=None)
    answers(model.fit(*problem(estimator)), problem(estimator)[0])
    assert torch.equal(torch.get_rng_state(), torch_before)
    after = np.random.get_state()  # noqa: NPY002
    assert all(np.array_equal(a, b) for a, b in zip(after, numpy_before, strict=True))


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=name_of)
@pytest.mark.parametrize("fit_before", [False, True], ids=["never-fitted", "fitted"])
def test_estimator_failing_fit_changes_nothing(estimator, fit_before, monkeypatch):
    X, y = problem(estimator)
    model = clone(estimator)
    if fit_before:
        answers(model.fit(X, y), X)
    before = dict(vars(model))
    half = X[:12, :12] if estimator.kernel == "precomputed" else X[:12]
    with pytest.raises(ValueError, match="negative"):  # early: after the rows are checked
        model.fit(half, y[:12], sample_weight=-np.ones(12))
    store = type(model)._store

    def store_and_fail(self, *args, **options):
        store(self, *args, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(type(model), "_store", store_and_fail)
    with pytest.raises(KeyboardInterrupt):  # late: every attribute is set
        model.fit(half, y[:12])
    assert vars(model).keys() == before.keys()
    assert all(vars(model)[name] is value for name, value in before.items())


# --- inputs and outputs --------------------------------------------------------------------------


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=name_of)
def test_estimator_tensor_gives_numpy_answers_of_array(estimator):
    X, y = problem(estimator)
    label = y if is_classifier(estimator) else torch.from_numpy(y)
    model = clone(estimator).fit(torch.from_numpy(X), label)
    found = answers(model, torch.from_numpy(X))
    assert all(isinstance(value, np.ndarray) for value in found.values())
    assert_same_answers(model, fitted(estimator), X)
    for name, expected in answers(model, X).items():
        np.testing.assert_array_equal(found[name], expected, err_msg=name)


@pytest.mark.parametrize("library", ["pandas", "polars"])
@pytest.mark.parametrize("estimator", SMALL, ids=name_of)
def test_estimator_takes_data_frames(estimator, library):
    frames = pytest.importorskip(library)
    X, y = problem(estimator)
    frame = frames.DataFrame({f"x{k}": column for k, column in enumerate(X.T)})
    model = clone(estimator).fit(frame, frames.Series(y))
    assert model.feature_names_in_.tolist() == ["x0", "x1", "x2"]
    for name, expected in answers(fitted(estimator), X).items():
        np.testing.assert_array_equal(answers(model, frame)[name], expected, err_msg=name)
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(frame[["x2", "x1", "x0"]])


@pytest.mark.parametrize("estimator", SMALL, ids=name_of)
def test_estimator_dtype_of_answers_is_float64(estimator):
    X, y = problem(estimator)
    found = clone(estimator).fit(X.astype(np.float32), y)
    high = clone(estimator).fit(X.astype(np.float32).astype(np.float64), y)
    assert_same_answers(found, high, X)
    low = clone(estimator).set_params(dtype="float32").fit(X, y)
    public = {**answers(low, X), "dual_coef_": low.dual_coef_, "X_fit_": low.X_fit_}
    assert {v.dtype for k, v in public.items() if v.dtype.kind == "f"} == {np.dtype(float)}


@pytest.mark.parametrize("estimator", SMALL, ids=name_of)
def test_estimator_float32_is_close_to_float64(estimator):
    X, _ = problem(estimator)
    low = fitted(clone(estimator).set_params(dtype="float32"))
    for name, expected in answers(fitted(estimator), X).items():
        found = answers(low, X)[name]
        if expected.dtype.kind != "f":
            np.testing.assert_array_equal(found, expected)
        else:  # float32's 1e-7 times a condition number of 1e3
            np.testing.assert_allclose(found, expected, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("estimator", SMALL, ids=name_of)
def test_estimator_verbose_writes_to_stderr_only(estimator, capsys):
    if "verbose" not in estimator.get_params():
        fitted(estimator)
        assert capsys.readouterr() == ("", "")
        return
    fitted(clone(estimator).set_params(verbose=0))
    assert capsys.readouterr() == ("", "")
    fitted(clone(estimator).set_params(verbose=1))
    out, err = capsys.readouterr()
    assert out == ""
    assert "kernel" in err or "evaluation" in err


# --- inside scikit-learn -------------------------------------------------------------------------


@pytest.mark.parametrize("estimator", SMALL, ids=name_of)
def test_estimator_routes_sample_weight(estimator):
    X, y = problem(estimator)
    w = np.where(np.arange(len(y)) % 3 == 0, 0.0, 1.0)
    folds = [(np.arange(16), np.arange(16, 24)), (np.arange(8, 24), np.arange(8))]
    with sklearn.config_context(enable_metadata_routing=True):
        model = (
            clone(estimator)
            .set_fit_request(sample_weight=True)
            .set_score_request(sample_weight=False)
        )
        found = cross_validate(
            model, X, y, cv=folds, params={"sample_weight": w}, return_estimator=True
        )
        search = GridSearchCV(model, {"dtype": ["float64"]}, cv=folds)
        search.fit(X, y, sample_weight=w)
    for (train, test), one, score in zip(
        folds, found["estimator"], found["test_score"], strict=True
    ):
        expected = clone(estimator).fit(X[train], y[train], w[train])
        np.testing.assert_array_equal(one.dual_coef_, expected.dual_coef_)
        assert score == expected.score(X[test], y[test])
    refitted = clone(estimator).fit(X, y, w)
    np.testing.assert_array_equal(search.best_estimator_.dual_coef_, refitted.dual_coef_)


@pytest.mark.parametrize("cls", [NTKRidge, NTKRidgeClassifier])
def test_estimator_grid_search_reaches_kernel_parameters_in_pipeline(cls):
    X, y = problem(cls(), n=30)
    name = cls.__name__.lower()
    grid = {f"{name}__kernel__depth": [1, 2, 3], f"{name}__alpha": [0.01, 1.0]}
    search = GridSearchCV(make_pipeline(StandardScaler(), cls(NTK())), grid, cv=3).fit(X, y)
    best = search.best_estimator_[-1]
    assert best.kernel_.depth == search.best_params_[f"{name}__kernel__depth"]
    assert best.alpha == search.best_params_[f"{name}__alpha"]
    assert np.unique(search.cv_results_["mean_test_score"].round(12)).size > 1


@pytest.mark.gpu
@pytest.mark.parametrize("estimator", ESTIMATORS, ids=name_of)
def test_estimator_on_gpu_agrees_with_cpu(estimator, cuda):
    X, y = problem(estimator)
    model = clone(estimator).set_params(device=str(cuda)).fit(X, y)
    expected = answers(fitted(estimator), X)
    for name, found in answers(model, X).items():
        if found.dtype.kind == "f":  # float64 rounding times a condition number of 1e3
            np.testing.assert_allclose(found, expected[name], rtol=1e-9, atol=1e-9, err_msg=name)
        else:
            np.testing.assert_array_equal(found, expected[name])
    on_gpu = torch.from_numpy(X).to(cuda)
    followed = clone(estimator).fit(on_gpu, y)
    if hasattr(model, "dual_coef_"):
        np.testing.assert_allclose(followed.dual_coef_, model.dual_coef_, rtol=1e-12)
    assert isinstance(followed.predict(on_gpu), np.ndarray)
    assert not list(tensors_in(followed.__getstate__()))
