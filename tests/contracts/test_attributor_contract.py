"""One contract for all attributors: scikit-learn's checks, then what results have in common."""

import contextlib
import copy
import io
import pickle

import joblib
import numpy as np
import pytest
import torch
from sklearn.base import clone, is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.utils import estimator_checks as checks

from sknk import attribution
from sknk.attribution import AttributionResult, DataOOB, KNNShapleyAttributor, TRAKAttributor
from tests.cases import ATTRIBUTORS, rows
from tests.contracts.test_estimator_contract import tensors_in

BAGGED = [a for a in ATTRIBUTORS if isinstance(a, DataOOB)]  # bags judge, and see no other rows
JUDGED = [a for a in ATTRIBUTORS if a not in BAGGED]
PLACED = [a for a in ATTRIBUTORS if any(name.endswith("__device") for name in a.get_params())]


def name_of(attributor):
    return f"{type(attributor).__name__}-{ATTRIBUTORS.index(attributor)}"


def labels_of(attributor):
    """Return the two labels that an attributor's targets have; None of numbers."""
    if isinstance(attributor, TRAKAttributor):  # outputs of the network
        return None if attributor.task == "regression" else [0, 1]
    if isinstance(attributor, KNNShapleyAttributor):
        return ["no", "yes"]
    inner = attributor.estimator
    return ["no", "yes"] if inner is not None and is_classifier(inner) else None


def problem(attributor, n=24, m=8):
    """Return rows and targets (or classes) to attribute, and to judge on."""
    X = rows(n + m, seed=11)
    y = X[:, 0] + 0.3 * X[:, 1] ** 2
    labels = labels_of(attributor)
    y = y if labels is None else np.array(labels)[(y > 0.2).astype(int)]
    return X[:n], y[:n], X[n:], y[n:]


def refused(attributor):
    """Yield data that `fit` refuses, at once or after it has fitted the estimator, and why."""
    X, y, X_val, y_val = problem(attributor)
    X, y = X[:12], y[:12]
    yield (X, y[:11], X_val, y_val), "inconsistent"
    yield (X, y, X_val), "`y_val` is None and the other is not"
    if attributor in BAGGED:
        yield (X, np.column_stack([y, y])), "`y` has shape"
    else:
        yield (X, y, np.where(X_val == X_val[3], np.nan, X_val), y_val), "NaN"


def fitted(attributor):
    return clone(attributor).fit(*problem(attributor))


def unseeded(attributor):
    """Return a clone that draws other numbers each time, if it draws any."""
    model = clone(attributor)
    if "random_state" in model._parameter_constraints.get("random_state", []):
        model.set_params(random_state=None)
    return model


def answers(attributor, X, y):
    """Return what a fitted attributor tells, by name; what it refuses is left out."""
    names = ("values_", "std_error_", "semivalues_", "utility_full_", "utility_empty_", "n_bags_")
    found = {name: getattr(attributor, name) for name in names if hasattr(attributor, name)}
    found |= {"rank": attributor.rank(), "top": attributor.top(3)}
    with contextlib.suppress(NotImplementedError):
        found["attribute"] = attributor.attribute(X, y)
    return found


def assert_same_answers(one, other, X, y):
    found, expected = answers(one, X, y), answers(other, X, y)
    assert found.keys() == expected.keys()
    for name, value in found.items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)


# --- scikit-learn's checks -----------------------------------------------------------------------


@checks.parametrize_with_checks(ATTRIBUTORS)
def test_attributor_passes_sklearn_check(estimator, check):
    check(estimator)


@pytest.mark.parametrize(
    "check", [checks.check_dataframe_column_names_consistency, checks.check_param_validation]
)
@pytest.mark.parametrize("attributor", ATTRIBUTORS, ids=name_of)
def test_attributor_passes_sklearn_check_for_third_parties(attributor, check):
    check(type(attributor).__name__, attributor)


# --- results -------------------------------------------------------------------------------------


@pytest.mark.parametrize("attributor", ATTRIBUTORS, ids=name_of)
def test_attributor_values_are_one_a_row(attributor):
    model = fitted(attributor)
    assert isinstance(model, AttributionResult)
    assert model.values_.shape == model.std_error_.shape == (24,)
    assert np.isfinite(model.values_).all()
    assert (model.std_error_ >= 0).all()
    assert model.to_frame().shape == (24, 3)


@pytest.mark.parametrize("attributor", JUDGED, ids=name_of)
def test_attributor_tells_values_for_each_test_row(attributor):
    _, _, X_val, y_val = problem(attributor)
    found = fitted(attributor).attribute(X_val[:5], y_val[:5])
    assert found.shape == (5, 24)
    assert np.isfinite(found).all()
    assert np.abs(found).max() > 0
    with pytest.raises(NotFittedError, match="not fitted"):
        clone(attributor).attribute(X_val, y_val)


@pytest.mark.parametrize("attributor", BAGGED, ids=name_of)
def test_attributor_by_bags_has_no_use_for_other_rows(attributor):
    X, y, X_val, y_val = problem(attributor)
    model = fitted(attributor)
    np.testing.assert_array_equal(model.values_, clone(attributor).fit(X, y).values_)
    for each in (model, clone(attributor)):
        with pytest.raises(NotImplementedError, match="has no values for test rows"):
            each.attribute(X_val, y_val)


@pytest.mark.parametrize("attributor", ATTRIBUTORS, ids=name_of)
def test_attributor_draws_curves(attributor):
    _, _, X_val, y_val = problem(attributor)
    model = fitted(attributor)
    removed = model.removal_curve(X_val, y_val, fractions=[0, 0.4], n_random=1, random_state=0)
    added = model.addition_curve(X_val, y_val, fractions=[1.0], n_random=0)
    assert removed.scores[0] == pytest.approx(removed.random_scores[0, 0], abs=1e-9)
    assert removed.scores[0] == pytest.approx(added.scores[0], abs=1e-9)


# --- state ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("attributor", ATTRIBUTORS, ids=name_of)
def test_attributor_state_holds_no_tensor(attributor):
    X, y, X_val, y_val = problem(attributor)
    model = fitted(attributor)
    answers(model, X_val, y_val)
    assert not list(tensors_in(model.__getstate__()))
    data = [a if a.dtype.kind == "U" else torch.from_numpy(a) for a in (X, y, X_val, y_val)]
    model = clone(attributor).fit(*data)
    assert not list(tensors_in(model.__getstate__()))
    np.testing.assert_array_equal(model.values_, fitted(attributor).values_)


@pytest.mark.parametrize("attributor", ATTRIBUTORS, ids=name_of)
def test_attributor_public_attributes_are_numpy(attributor):
    model = fitted(attributor)
    public = {k: v for k, v in vars(model).items() if k.endswith("_") and k[0] != "_"}
    found = {k: v for k, v in public.items() if not k.startswith(("estimator", "kernel"))}
    assert all(isinstance(v, np.ndarray | float | int | str) for v in found.values()), found
    assert {
        v.dtype for v in found.values() if isinstance(v, np.ndarray) and v.dtype.kind == "f"
    } == {np.dtype(float)}


@pytest.mark.parametrize("attributor", ATTRIBUTORS, ids=name_of)
@pytest.mark.parametrize("way", ["pickle", "joblib", "deepcopy"])
def test_attributor_answers_survive_copy(attributor, way):
    model, (_, _, X_val, y_val) = fitted(attributor), problem(attributor)
    answers(model, X_val, y_val)
    if way == "deepcopy":
        other = copy.deepcopy(model)
    elif way == "pickle":
        other = pickle.loads(pickle.dumps(model))
    else:
        buffer = io.BytesIO()
        joblib.dump(model, buffer)
        buffer.seek(0)
        other = joblib.load(buffer)
    assert_same_answers(other, model, X_val, y_val)


@pytest.mark.parametrize("attributor", ATTRIBUTORS, ids=name_of)
def test_attributor_clone_is_unfitted_and_equal(attributor):
    other = clone(fitted(attributor))
    assert repr(other) == repr(attributor)
    with pytest.raises(NotFittedError, match="not fitted"):
        other.rank()


@pytest.mark.parametrize("attributor", ATTRIBUTORS, ids=name_of)
def test_attributor_fit_leaves_parameters_and_data(attributor):
    data = problem(attributor)
    before, copies = repr(attributor), [part.copy() for part in data]
    model = clone(attributor).fit(*data)
    answers(model, *data[2:])
    assert repr(model) == before
    assert not hasattr(getattr(model, "estimator", None), "n_features_in_")
    for part, other in zip(data, copies, strict=True):
        np.testing.assert_array_equal(part, other)


@pytest.mark.parametrize("attributor", ATTRIBUTORS, ids=name_of)
def test_attributor_fit_leaves_global_generators(attributor):
    torch_before, numpy_before = torch.get_rng_state(), np.random.get_state()  # noqa: NPY002
    X, y, X_val, y_val = problem(attributor)
    model = unseeded(attributor).fit(X, y, X_val, y_val)
    answers(model, X_val, y_val)
    model.removal_curve(X_val, y_val, fractions=[0.5], n_random=1)
    assert torch.equal(torch.get_rng_state(), torch_before)
    after = np.random.get_state()  # noqa: NPY002
    assert all(np.array_equal(a, b) for a, b in zip(after, numpy_before, strict=True))


@pytest.mark.parametrize("attributor", ATTRIBUTORS, ids=name_of)
@pytest.mark.parametrize("fit_before", [False, True], ids=["never-fitted", "fitted"])
def test_attributor_failing_fit_changes_nothing(attributor, fit_before):
    model = fitted(attributor) if fit_before else clone(attributor)
    before = dict(vars(model))
    for data, why in refused(attributor):
        with pytest.raises(ValueError, match=why):
            model.fit(*data)
    assert vars(model).keys() == before.keys()
    assert all(vars(model)[name] is value for name, value in before.items())


@pytest.mark.parametrize("attributor", ATTRIBUTORS, ids=name_of)
def test_attributor_forgets_what_it_was_fitted_to(attributor):
    pandas = pytest.importorskip("pandas")
    X, y, X_val, y_val = problem(attributor)
    frame, judged = (pandas.DataFrame(part, columns=["a", "b", "c"]) for part in (X, X_val))
    model = clone(attributor).fit(frame, y, judged, y_val)
    assert model.feature_names_in_.tolist() == ["a", "b", "c"]
    np.testing.assert_allclose(model.values_, fitted(attributor).values_, atol=1e-12)
    model.fit(X[:20], y[:20], X_val, y_val)
    assert not hasattr(model, "feature_names_in_")
    assert model.values_.shape == (20,)


@pytest.mark.parametrize("attributor", ATTRIBUTORS, ids=name_of)
def test_attributor_prints_nothing(attributor, capsys):
    fitted(attributor)
    assert capsys.readouterr() == ("", "")


@pytest.mark.gpu
@pytest.mark.parametrize("attributor", PLACED, ids=name_of)
def test_attributor_on_gpu_agrees_with_cpu(attributor, cuda):
    X, y, X_val, y_val = problem(attributor)
    model = clone(attributor)
    last = (
        "estimator__ntkridge__device" if hasattr(model.estimator, "steps") else "estimator__device"
    )
    model.set_params(**{last: str(cuda)}).fit(X, y, X_val, y_val)
    expected = answers(fitted(attributor), X_val, y_val)
    for name, found in answers(model, X_val, y_val).items():
        np.testing.assert_allclose(found, expected[name], rtol=1e-8, atol=1e-9, err_msg=name)
    assert not list(tensors_in(model.__getstate__()))


def test_contract_covers_every_attributor():
    public = {getattr(attribution, name) for name in attribution.__all__} - {AttributionResult}
    kinds = {
        kind for kind in public if isinstance(kind, type) and issubclass(kind, AttributionResult)
    }
    assert kinds == {type(a) for a in ATTRIBUTORS}
