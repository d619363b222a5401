import numpy as np
import pytest
import torch
from scipy.stats import norm
from sklearn.base import clone
from sklearn.metrics import log_loss, r2_score

from sknk import NTKGaussianProcessRegressor, NTKRidgeClassifier
from sknk.attribution import LeaveOneOutAttributor
from sknk.attribution._heads import RegressionHead, class_numbers
from sknk.attribution._machine import machine_of
from sknk.attribution._utilities import Accuracy, Coded, Pointwise
from tests.attribution.families import FAMILIES, GAMES, KERNEL, KNOWN
from tests.reference import attribution as oracle

JUDGED = [game for game in GAMES if game[1] != "evidence"]
N = 9


def utility_of(name, utility):
    """Return a family, the utility, its prior, and the outputs and variances of all rows."""
    family = FAMILIES[name](N)
    model = family.estimator
    model = model if hasattr(model, "estimator") else model.fit(family.X, family.y)
    head = machine_of(model).head
    judge = head.utility(utility, family.y_val, torch.empty(0, dtype=torch.float64))
    f = torch.from_numpy(family.outputs(np.arange(N)) - family.prior)
    variance = None
    if judge.needs_variance:
        variance = torch.from_numpy(oracle.variances(family.game, np.arange(N)))
    return family, judge, f, variance


@pytest.mark.parametrize(("name", "utility"), JUDGED)
def test_utility_equals_naive_one(name, utility):
    family, judge, f, variance = utility_of(name, utility)
    expected = family.utility(utility)(range(N))
    assert float(judge.of(f, variance)) == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize(("name", "utility"), JUDGED)
def test_utility_of_a_batch_is_that_of_each(name, utility):
    _, judge, f, variance = utility_of(name, utility)
    scales = torch.tensor([0.0, 0.5, 1.0, -2.0], dtype=torch.float64).reshape(2, 2)
    v = None if variance is None else variance.expand(2, 2, -1)
    found = judge.of(scales[..., None, None] * f, v)
    assert found.shape == (2, 2)
    for at in np.ndindex(2, 2):
        assert float(found[at]) == pytest.approx(float(judge.of(scales[at] * f, variance)))


@pytest.mark.parametrize(("name", "utility"), JUDGED)
def test_utility_is_the_mean_of_its_parts(name, utility):
    family, judge, f, variance = utility_of(name, utility)
    assert isinstance(judge, Pointwise)
    parts = judge.each(f, variance)
    assert parts.shape == (len(family.y_val),)
    assert float(parts.mean()) == pytest.approx(float(judge.of(f, variance)))


# --- what estimators say -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["two", "three", "labels"])
def test_log_prob_of_all_rows_is_that_of_predict_proba(data, kind):
    y, y_val = data.classes, data.classes_val
    if kind == "two":
        y, y_val = y == "a", y_val == "a"
    if kind == "labels":
        y, y_val = ((one > [0.0, -3.0]).astype(int) for one in (data.Y, data.Y_val))
    found = LeaveOneOutAttributor(data.classifier, utility="log_prob")
    found.fit(data.X, y, data.X_val, y_val)
    P = clone(data.classifier).fit(data.X, y).predict_proba(data.X_val)
    if kind == "labels":
        expected = np.mean(np.log(np.where(y_val == 1, P, 1.0 - P)))
    else:
        expected = -log_loss(y_val, P, labels=found.estimator_.classes_)
    assert found.utility_full_ == pytest.approx(expected)


@pytest.mark.parametrize("stored", ["classes last", "classes first"])
def test_of_equal_outputs_the_first_is_the_label(stored):
    """As in ``predict``, for every label and every layout of outputs."""
    f = torch.randint(3, (5, 40, 4), generator=torch.Generator().manual_seed(0)).double()
    labels = torch.arange(40) % 4
    codes = 2.0 * torch.nn.functional.one_hot(labels, 4).double() - 1.0
    if stored == "classes first":
        f = f.movedim(-1, 0).contiguous().movedim(0, -1)
    accuracy = Accuracy(Coded(codes, torch.zeros(4).double(), codes), apart=False)
    right = f.numpy().argmax(-1) == labels.numpy()
    np.testing.assert_array_equal(accuracy.each(f).numpy(), right)
    assert 0 < right.mean() < 1


def test_accuracy_and_r2_of_all_rows_are_scores_of_the_estimator(data):
    found = LeaveOneOutAttributor(data.classifier, utility="accuracy")
    found.fit(data.X, data.classes, data.X_val, data.classes_val)
    assert found.utility_full_ == found.estimator_.score(data.X_val, data.classes_val)
    found = LeaveOneOutAttributor(data.ridge, utility="r2")
    found.fit(data.X, data.Y, data.X_val, data.Y_val)
    expected = r2_score(data.Y_val, found.estimator_.predict(data.X_val))
    assert found.utility_full_ == pytest.approx(expected)


@pytest.mark.parametrize("normalize_y", [False, True])
def test_log_prob_of_numbers_is_the_predictive_density(data, normalize_y):
    model = NTKGaussianProcessRegressor(KERNEL, normalize_y=normalize_y, **KNOWN)
    found = LeaveOneOutAttributor(model, utility="log_prob")
    found.fit(data.X, data.y, data.X_val, data.y_val)
    mean, std = found.estimator_.predict(data.X_val, return_std=True)
    expected = norm.logpdf(data.y_val, mean, np.sqrt(std**2 + found.estimator_.noise_variance_))
    assert found.utility_full_ == pytest.approx(expected.mean())


def test_function_sees_targets_as_passed_and_outputs_as_predicted(data):
    seen = []

    def judge(y, f):
        seen.append((y, f))
        return 0.0

    found = LeaveOneOutAttributor(data.classifier, utility=judge)
    found.fit(data.X, data.classes.tolist(), data.X_val, data.classes_val.tolist())
    assert seen[0][0].tolist() == data.classes_val.tolist()
    expected = found.estimator_.decision_function(data.X_val)
    np.testing.assert_allclose(seen[0][1], expected, rtol=1e-9)
    seen.clear()
    found = LeaveOneOutAttributor(data.ridge, utility=judge)
    found.fit(data.X, data.y, data.X_val, data.y_val)
    np.testing.assert_allclose(seen[0][1], found.estimator_.predict(data.X_val), rtol=1e-9)


# --- targets -------------------------------------------------------------------------------------


def test_labels_are_found_among_the_classes():
    assert class_numbers(["b", "a", "b"], np.array(["a", "b"])).tolist() == [1, 0, 1]
    assert class_numbers(np.array([[3], [1]]), np.array([1, 3])).tolist() == [1, 0]


@pytest.mark.parametrize("y", [["a", "q"], [np.nan, "a"]], ids=str)
def test_unseen_labels_are_named(y):
    with pytest.raises(ValueError, match=r"`y_val` has the labels .*, which are not in training"):
        class_numbers(np.array(y, dtype=object), np.array(["a", "b"]))


def test_labels_of_two_columns_are_refused():
    with pytest.raises(ValueError, match=r"`y_val` has shape \(2, 2\); expected \(m,\)"):
        class_numbers(np.array([["a", "b"], ["a", "b"]]), np.array(["a", "b"]))


def test_multilabel_of_other_width_is_refused(data):
    labels = (data.Y > 0).astype(int)
    labels[:, 1] = 1 - labels[:, 0]
    found = LeaveOneOutAttributor(NTKRidgeClassifier(KERNEL))
    with pytest.raises(ValueError, match=r"`y_val` has shape .*; expected an indicator of 2"):
        found.fit(data.X, labels, data.X_val, data.classes_val)


def test_r2_of_constant_targets_is_refused():
    head = RegressionHead(np.zeros(1), True, np.ones(1), None)
    with pytest.raises(ValueError, match="'r2' and an output of the 4 rows judged is constant"):
        head.utility("r2", np.ones(4), torch.empty(0))


def test_density_without_noise_is_no_utility():
    head = RegressionHead(np.zeros(1), True, np.ones(1), None)
    with pytest.raises(ValueError, match=r"'log_prob' for a regressor; expected one of \['mse'"):
        head.utility("log_prob", np.ones(4), torch.empty(0))
