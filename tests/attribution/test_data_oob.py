import numpy as np
import pytest
from sklearn.base import clone
from sklearn.ensemble import (
    BaggingClassifier,
    BaggingRegressor,
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.frozen import FrozenEstimator
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sknk import NTKRidgeClassifier
from sknk.attribution import DataOOB, _data_oob, find_label_errors
from sknk.attribution._data_oob import _Spread
from sknk.exceptions import NumericalWarning
from tests.cases import rows
from tests.reference import attribution_knn as reference

X = rows(40, d=4)
NUMBERS = X[:, 0] + 0.3 * X[:, 1] ** 2
LABELS = np.array(["b", "c", "a"])[np.digitize(NUMBERS, [-0.5, 0.7])]
SEEDED = {"n_estimators": 25, "random_state": 0}
FEW = {"n_estimators": 10, "random_state": 0}
ENSEMBLES = [
    RandomForestClassifier(**SEEDED),
    RandomForestRegressor(**SEEDED),
    ExtraTreesClassifier(bootstrap=True, **SEEDED),
    BaggingClassifier(max_features=0.5, **SEEDED),
    BaggingClassifier(KNeighborsClassifier(3), max_samples=15, bootstrap=False, **FEW),
    BaggingRegressor(max_features=2, bootstrap_features=True, **SEEDED),
]


def targets(ensemble):
    return NUMBERS if "Regressor" in type(ensemble).__name__ else LABELS


@pytest.mark.parametrize("ensemble", ENSEMBLES, ids=lambda e: type(e).__name__)
def test_values_are_means_over_bags_without_the_row(ensemble):
    y = targets(ensemble)
    model = DataOOB(ensemble).fit(X, y)
    seen = reference.data_oob(clone(ensemble).fit(X, y), X, y)
    np.testing.assert_array_equal(model.n_bags_, [len(s) for s in seen])
    np.testing.assert_allclose(model.values_, [np.mean(s) for s in seen], rtol=1e-12)
    errors = [np.std(s, ddof=1) / len(s) ** 0.5 for s in seen]
    np.testing.assert_allclose(model.std_error_, errors, rtol=1e-10, atol=1e-15)


def test_values_are_the_forests_own_out_of_bag_votes():
    forest = RandomForestClassifier(100, oob_score=True, random_state=0).fit(X, LABELS)
    values = DataOOB(FrozenEstimator(forest)).fit(X, LABELS).values_
    # Grown trees give probabilities of 0 and 1, so that means of them are votes.
    own = forest.oob_decision_function_[np.arange(40), np.searchsorted(forest.classes_, LABELS)]
    np.testing.assert_allclose(values, own, rtol=1e-12)


@pytest.mark.parametrize(("y", "kind"), [(LABELS, BaggingClassifier), (NUMBERS, BaggingRegressor)])
def test_none_is_five_hundred_bagged_trees(y, kind):
    model = DataOOB(random_state=3).fit(X, y)
    assert isinstance(model.estimator_, kind)
    assert len(model.estimator_.estimators_) == 500
    assert model.estimator_.random_state == 3


def test_frozen_ensemble_is_not_fitted_again():
    forest = RandomForestClassifier(**SEEDED).fit(X, LABELS)
    model = DataOOB(FrozenEstimator(forest)).fit(X, LABELS)
    assert model.estimator_.estimator is forest
    np.testing.assert_array_equal(
        model.values_, DataOOB(RandomForestClassifier(**SEEDED)).fit(X, LABELS).values_
    )


def test_pipeline_transforms_the_rows():
    bags = BaggingClassifier(KNeighborsClassifier(3), **SEEDED)
    scale = np.array([1.0, 10.0, 100.0, 1000.0])
    model = DataOOB(make_pipeline(StandardScaler(), bags)).fit(scale * X, LABELS)
    Z = StandardScaler().fit_transform(scale * X)
    np.testing.assert_array_equal(model.values_, DataOOB(bags).fit(Z, LABELS).values_)


@pytest.mark.filterwarnings("ignore::sknk.exceptions.NumericalWarning")
def test_rows_in_every_bag_have_the_mean_value_and_spread_of_the_others():
    y = NUMBERS
    model = DataOOB(BaggingRegressor(n_estimators=2, random_state=0)).fit(X, y)
    known = model.n_bags_ > 0
    assert 0 < known.sum() < 40
    np.testing.assert_allclose(model.values_[~known], model.values_[known].mean(), rtol=1e-12)
    seen = reference.data_oob(model.estimator_, X, y)
    pooled = np.mean([np.var(s, ddof=1) for s in seen if len(s) == 2])
    few = model.n_bags_ < 2
    np.testing.assert_allclose(model.std_error_[few], pooled**0.5, rtol=1e-10)


def test_rows_in_every_bag_are_told():
    with pytest.warns(NumericalWarning, match="of 40 rows, the first of them row .*n_estimators"):
        DataOOB(BaggingRegressor(n_estimators=2, random_state=0)).fit(X, NUMBERS)


def test_spread_does_not_cancel():
    spread = _Spread(1)
    for value in (1e8, 1e8 + 1.0, 1e8 + 2.0):
        spread.add(np.array([0]), np.array([value]))
    np.testing.assert_allclose(spread.std_error(), 1.0 / 3.0**0.5, rtol=1e-12)


def test_wrong_label_has_the_lowest_value():
    far = np.vstack([X - 5.0, X + 5.0])
    y = np.repeat([0, 1], 40)
    y[7] = 1
    forest = RandomForestClassifier(**SEEDED)
    assert DataOOB(forest).fit(far, y).bottom(1).tolist() == [7]
    assert find_label_errors(forest, far, y, method="data_oob").ranked_indices_[0] == 7


def test_values_do_not_look_at_validation_rows():
    model = DataOOB(RandomForestClassifier(**SEEDED))
    values = model.fit(X, LABELS).values_
    np.testing.assert_array_equal(model.fit(X, LABELS, X[:3], LABELS[:3]).values_, values)


def test_removal_curve_refits_the_ensemble():
    model = DataOOB(RandomForestClassifier(**SEEDED)).fit(X, LABELS)
    curve = model.removal_curve(X, LABELS, fractions=[0.0, 0.3], n_random=1, random_state=0)
    assert curve.scores[0] == 1.0


# --- bad input -----------------------------------------------------------------------------------


def test_attribute_is_refused():
    model = DataOOB(RandomForestClassifier(**SEEDED)).fit(X, LABELS)
    with pytest.raises(NotImplementedError, match="Use KNNShapleyAttributor"):
        model.attribute(X, LABELS)


@pytest.mark.parametrize(
    "estimator",
    [
        GradientBoostingClassifier(n_estimators=2),
        NTKRidgeClassifier(),
        IsolationForest(n_estimators=2),
    ],
    ids=lambda e: type(e).__name__,
)
def test_other_estimators_are_refused(estimator):
    with pytest.raises(TypeError, match=f"`estimator` is {type(estimator).__name__}.*expected a b"):
        DataOOB(estimator).fit(X, LABELS)


def test_ensemble_without_rows_out_of_its_bags_is_refused():
    with pytest.raises(ValueError, match=r"has all rows \(n_samples=40\).*`bootstrap=True`"):
        DataOOB(ExtraTreesClassifier(3)).fit(X, LABELS)


def test_frozen_ensemble_of_other_rows_is_refused():
    forest = RandomForestClassifier(**SEEDED).fit(X, LABELS)
    with pytest.raises(ValueError, match="fitted to 40 rows and `X` has 30"):
        DataOOB(FrozenEstimator(forest)).fit(X[:30], LABELS[:30])


def test_several_targets_are_refused():
    with pytest.raises(ValueError, match=r"`y` has shape \(40, 2\)"):
        DataOOB(RandomForestRegressor(**SEEDED)).fit(X, X[:, :2])


def test_default_bags_leave_the_global_generator(monkeypatch):
    monkeypatch.setattr(_data_oob, "_BAGS", 15)
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    DataOOB().fit(X, LABELS)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_validation_rows_without_targets_are_refused():
    with pytest.raises(ValueError, match="`y_val` is None"):
        DataOOB(RandomForestClassifier(**SEEDED)).fit(X, LABELS, X)
