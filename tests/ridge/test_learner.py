"""FeatureLearner: the map of the estimator inside."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import make_friedman1
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler, scale
from sklearn.svm import SVR

from sknk import FeatureLearner, NTKRidgeClassifierCV, NTKRidgeCV
from tests.cases import SEARCH, rows

REGRESSOR = NTKRidgeCV(feature_learning="agop", max_rounds=1, **SEARCH)
DIAGONAL = NTKRidgeCV(feature_learning="agop_diag", **SEARCH)
CLASSIFIER = NTKRidgeClassifierCV(feature_learning="agop_diag", max_rounds=1, **SEARCH)


@pytest.fixture(scope="module")
def table():
    """Standardized rows (60, 10), of which five columns matter, and targets."""
    X, y = make_friedman1(60, noise=1.0, random_state=0)
    return scale(X), y


@pytest.fixture(scope="module")
def oblique():
    """Rows (90, 4) and targets that depend on one direction, none of the axes."""
    X = rows(90, 4, seed=1)
    z = X @ [1.0, -1.0, 0.5, 0.0]
    return X, z + z**2


# --- the map -------------------------------------------------------------------------------------


def test_learner_multiplies_by_the_matrix_of_its_estimator(oblique):
    X, y = oblique
    learner, model = FeatureLearner(REGRESSOR).fit(X, y), clone(REGRESSOR).fit(X, y)
    A = learner.feature_map_
    assert A.shape == (4, 4)
    np.testing.assert_array_equal(A, model.feature_map_)
    np.testing.assert_array_equal(learner.feature_importances_, model.feature_importances_)
    new = rows(5, 4, seed=3)
    np.testing.assert_allclose(learner.transform(new), new @ A, rtol=1e-14, atol=1e-14)


def test_learner_scales_columns_by_the_scales_of_its_estimator(table):
    X, y = table
    learner = FeatureLearner(DIAGONAL).fit(X, y)
    scales = learner.feature_map_
    assert scales.shape == (10,)
    assert np.ptp(scales) > 0.1
    np.testing.assert_array_equal(learner.transform(X), X * scales)
    np.testing.assert_array_equal(learner.fit_transform(X, y), X * scales)


def test_learner_changes_nothing_when_no_map_is_better():
    X, y = rows(24), rows(24, 1, seed=1)[:, 0]
    np.testing.assert_array_equal(FeatureLearner(DIAGONAL).fit_transform(X, y), X)


def test_learner_default_is_the_search_of_regressions(table):
    X, y = table
    learner = FeatureLearner().fit(X, y)
    assert learner.estimator is None
    assert repr(learner.estimator_) == "NTKRidgeCV(feature_learning='auto')"
    assert set(np.argsort(learner.feature_importances_)[-4:]) <= set(range(5))


def test_learner_takes_classifiers(table):
    X, y = table
    labels = np.where(y > np.median(y), "high", "low")
    learner = FeatureLearner(CLASSIFIER).fit(X, labels)
    assert learner.estimator_.classes_.tolist() == ["high", "low"]
    np.testing.assert_array_equal(learner.transform(X), X * learner.feature_map_)


def test_learner_passes_weights_on(table):
    X, y = table
    w = (np.arange(60) % 4 > 0).astype(float)
    weighted = FeatureLearner(DIAGONAL).fit(X, y, sample_weight=w)
    removed = FeatureLearner(DIAGONAL).fit(X[w > 0], y[w > 0])
    np.testing.assert_allclose(weighted.feature_map_, removed.feature_map_, rtol=1e-8)
    assert np.abs(weighted.feature_map_ - FeatureLearner(DIAGONAL).fit(X, y).feature_map_).max() > 0


def test_learner_leaves_its_estimator(table):
    inner = clone(DIAGONAL)
    learner = FeatureLearner(inner).fit(*table)
    assert not hasattr(inner, "feature_map_")
    assert learner.estimator_ is not inner


# --- names and frames ----------------------------------------------------------------------------


def test_learner_keeps_names_of_scaled_columns(table):
    pandas = pytest.importorskip("pandas")
    names = [f"x{j}" for j in range(10)]
    frame = pandas.DataFrame(table[0], columns=names)
    learner = FeatureLearner(DIAGONAL).fit(frame, table[1])
    assert learner.feature_names_in_.tolist() == names
    assert learner.get_feature_names_out().tolist() == names


def test_learner_numbers_combined_columns(oblique):
    learner = FeatureLearner(REGRESSOR).fit(*oblique)
    assert learner.get_feature_names_out().tolist() == [f"featurelearner{j}" for j in range(4)]


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_learner_sets_output(table, library):
    frames = pytest.importorskip(library)
    frame = frames.DataFrame({f"x{j}": column for j, column in enumerate(table[0].T)})
    learner = FeatureLearner(DIAGONAL).set_output(transform=library).fit(frame, table[1])
    found = learner.transform(frame)
    assert isinstance(found, frames.DataFrame)
    assert list(found.columns) == list(frame.columns)
    np.testing.assert_array_equal(found.to_numpy(), table[0] * learner.feature_map_)
    with pytest.raises(ValueError, match="feature names should match"):
        learner.transform(frame[[f"x{j}" for j in reversed(range(10))]])


# --- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize("estimator", [NTKRidgeCV(), SVR(), make_pipeline(DIAGONAL)], ids=str)
def test_learner_refuses_estimators_that_learn_no_features(table, estimator):
    with pytest.raises(ValueError, match=r"(?s)`estimator` is .*, which learns no features; exp"):
        FeatureLearner(estimator).fit(*table)


def test_learner_refuses_what_does_not_fit(table):
    with pytest.raises(ValueError, match="The 'estimator' parameter of FeatureLearner must be"):
        FeatureLearner("auto").fit(*table)


def test_learner_failing_fit_changes_nothing(table):
    X, y = table
    learner = FeatureLearner(DIAGONAL).fit(X, y)
    before = dict(vars(learner))
    with pytest.raises(ValueError, match="Input y contains NaN"):
        learner.fit(X[:, :3], np.full(60, np.nan))
    assert vars(learner) == before
    assert learner.transform(X).shape == (60, 10)


def test_learner_refuses_to_transform_before_fit():
    with pytest.raises(NotFittedError, match="not fitted"):
        FeatureLearner().transform(np.ones((2, 2)))


# --- inside scikit-learn -------------------------------------------------------------------------


def test_learner_helps_what_follows_in_a_pipeline():
    X, y = make_friedman1(400, noise=1.0, random_state=0)
    learned = make_pipeline(StandardScaler(), FeatureLearner(), SVR(C=10.0)).fit(X[:100], y[:100])
    plain = make_pipeline(StandardScaler(), SVR(C=10.0)).fit(X[:100], y[:100])
    # Measured 0.73 of R^2's complement; distances are what an SVR sees.
    assert 1.0 - learned.score(X[100:], y[100:]) < 0.9 * (1.0 - plain.score(X[100:], y[100:]))


def test_learner_is_searched_by_its_estimators_parameters(table):
    model = make_pipeline(FeatureLearner(DIAGONAL), Ridge())
    grid = {
        "featurelearner__estimator__feature_learning": ["agop", "agop_diag"],
        "featurelearner__estimator__max_rounds": [1, 2],
    }
    search = GridSearchCV(model, grid, cv=2).fit(*table)
    best = search.best_estimator_[0].estimator_
    for name, value in search.best_params_.items():
        assert getattr(best, name.rsplit("__", 1)[1]) == value
    assert search.predict(table[0]).shape == (60,)
