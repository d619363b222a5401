import numpy as np
import pytest
from sklearn.utils import compute_sample_weight

from sknk import NTKRidgeClassifier, NTKRidgeClassifierCV
from sknk.ridge._classes import LabelCoder
from tests.cases import SEARCH

BOTH = [NTKRidgeClassifier(alpha=0.2), NTKRidgeClassifierCV(**SEARCH)]
# Two routes to one answer: float64 rounding times condition numbers below 1e4.
RTOL = 1e-9


def assert_same_scores(one, other, X):
    for name in ("decision_function", "predict_proba"):
        np.testing.assert_allclose(getattr(one, name)(X), getattr(other, name)(X), rtol=RTOL)


def test_coder_codes_two_classes_in_one_column():
    coder = LabelCoder(np.array(["b", "a", "b"]))
    np.testing.assert_array_equal(coder.Y, [[1.0], [-1.0], [1.0]])
    np.testing.assert_array_equal(coder.classes, ["a", "b"])
    np.testing.assert_array_equal(coder.numbers(coder.Y), [1, 0, 1])


def test_coder_codes_every_class_in_its_column():
    coder = LabelCoder(np.array([7, 3, 5]))
    np.testing.assert_array_equal(coder.Y, [[-1, -1, 1], [1, -1, -1], [-1, 1, -1]])
    np.testing.assert_array_equal(coder.numbers(coder.Y), [2, 0, 1])


def test_coder_codes_labels_in_their_columns():
    coder = LabelCoder(np.array([[0, 1], [1, 1]]))
    assert coder.multilabel
    np.testing.assert_array_equal(coder.Y, [[-1, 1], [1, 1]])


@pytest.mark.parametrize(
    "y", [[2, 0, 1, 2], ["a", "b", "a", "b"], [[1, 0], [0, 1], [1, 1], [0, 0]]]
)
def test_coder_labels_invert_codes(y):
    y = np.array(y)
    coder = LabelCoder(y)
    scores = coder.Y[:, 0] if coder.Y.shape[1] == 1 else coder.Y
    np.testing.assert_array_equal(coder.labels(scores), y)


@pytest.mark.parametrize("model", BOTH, ids=repr)
@pytest.mark.parametrize(
    "names", [["x", "y", "z"], [True, False, True], [-1, 5, 9], [0.0, 1.0, 2.0]], ids=str
)
def test_classifier_takes_any_names_of_classes(table, model, names):
    numbers = np.unique(table.classes, return_inverse=True)[1]
    names = np.array(names)
    y = names[numbers]
    found = model.fit(table.X, y).predict(table.new)
    np.testing.assert_array_equal(model.classes_, np.unique(names))
    assert found.dtype == y.dtype
    assert set(found.tolist()) <= set(names.tolist())
    assert model.score(table.X, y) > 0.6  # of training rows; chance is 0.4


@pytest.mark.parametrize("model", BOTH, ids=repr)
def test_classifier_names_of_classes_change_no_score(table, model):
    other = {"a": "A", "b": "B", "c": "C"}
    one = model.fit(table.X, table.classes).predict_proba(table.new)
    two = model.fit(table.X, [other[c] for c in table.classes]).predict_proba(table.new)
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("model", BOTH, ids=repr)
def test_classifier_labels_equal_one_by_one_at_one_choice(table, model):
    if "alphas" in model.get_params():  # one choice for all labels: leave nothing to choose
        model = NTKRidgeClassifierCV(param_grid={"depth": [2]}, alphas=[0.3])
    both = model.fit(table.X, table.labels)
    scores, proba = both.decision_function(table.new), both.predict_proba(table.new)
    assert scores.shape == proba.shape == both.predict(table.new).shape == (7, 2)
    for k in range(2):
        one = model.fit(table.X, table.labels[:, k])
        np.testing.assert_allclose(scores[:, k], one.decision_function(table.new), rtol=RTOL)
        np.testing.assert_allclose(proba[:, k], one.predict_proba(table.new)[:, 1], rtol=RTOL)


@pytest.mark.parametrize("model", BOTH, ids=repr)
def test_classifier_takes_labels_that_all_or_no_rows_have(table, model):
    y = np.column_stack([table.labels, np.ones(20, int), np.zeros(20, int)])
    found = model.fit(table.X, y)
    np.testing.assert_array_equal(found.predict(table.new)[:, 2:], np.tile([1, 0], (7, 1)))
    assert (found.predict_proba(table.new)[:, 2] > 0.5).all()


@pytest.mark.parametrize("model", BOTH, ids=repr)
@pytest.mark.parametrize("class_weight", [{"a": 2.0, "b": 0.5, "c": 3.0}, "balanced"], ids=str)
def test_classifier_class_weight_equals_sample_weight(table, model, class_weight):
    w = compute_sample_weight(class_weight, table.classes)
    by_class = type(model)(**{**model.get_params(), "class_weight": class_weight})
    by_class.fit(table.X, table.classes)
    assert_same_scores(by_class, model.fit(table.X, table.classes, w), table.new)


@pytest.mark.parametrize("model", BOTH, ids=repr)
def test_classifier_class_weight_multiplies_sample_weight(table, model):
    class_weight = {"a": 2.0, "b": 0.5, "c": 3.0}
    w = compute_sample_weight(class_weight, table.classes) * table.weights
    by_class = type(model)(**{**model.get_params(), "class_weight": class_weight})
    by_class.fit(table.X, table.classes, table.weights)
    assert_same_scores(by_class, model.fit(table.X, table.classes, w), table.new)


@pytest.mark.parametrize("model", BOTH, ids=repr)
@pytest.mark.parametrize("target", ["two", "classes", "labels"])
def test_classifier_balanced_weights_equal_repetitions(table, model, target):
    # "balanced" counts what the weights say, as scikit-learn's LogisticRegression does.
    r, y = table.repeats, getattr(table, target)
    model = type(model)(**{**model.get_params(), "class_weight": "balanced"})
    weighted = model.fit(table.X, y, r).decision_function(table.new)
    repeated = model.fit(table.X.repeat(r, axis=0), y.repeat(r, axis=0)).decision_function(
        table.new
    )
    np.testing.assert_allclose(weighted, repeated, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("model", BOTH, ids=repr)
@pytest.mark.parametrize("target", ["two", "classes", "labels"])
def test_classifier_proba_agrees_with_prediction(table, model, target):
    y = getattr(table, target)
    proba = model.fit(table.X, y).predict_proba(table.new)
    assert ((proba > 0) & (proba < 1)).all()
    if target == "labels":
        np.testing.assert_array_equal((proba > 0.5).astype(int), model.predict(table.new))
        return
    np.testing.assert_allclose(proba.sum(axis=1), 1.0, rtol=1e-12)
    np.testing.assert_array_equal(model.classes_[proba.argmax(axis=1)], model.predict(table.new))


@pytest.mark.parametrize("model", BOTH, ids=repr)
def test_classifier_one_class_left_by_zero_weights_raises_as_if_removed(table, model):
    w = (table.two == "yes").astype(float)
    with pytest.raises(ValueError, match="class"):
        model.fit(table.X[w > 0], table.two[w > 0])
    with pytest.raises(ValueError, match="class"):
        model.fit(table.X, table.two, w)
