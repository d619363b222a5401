import numpy as np
import pytest
from sklearn.compose import TransformedTargetRegressor
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.linear_model import BayesianRidge, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from sknk import NTKRidge
from sknk.inspection._estimators import (
    check_std,
    gaussian_prediction,
    interval_prediction,
    last_step,
    one_target,
)
from sknk.kernels import NTK

LEVELS = np.array([0.5, 0.9])


def searched(model):
    """Wrap a model in a search and a pipeline in turn."""
    return GridSearchCV(make_pipeline(StandardScaler(), model), {}, cv=2)


@pytest.mark.parametrize("model", [GaussianProcessRegressor(NTK()), BayesianRidge()], ids=repr)
def test_gaussian_is_what_the_estimator_predicts(table, model):
    wrapped = searched(model).fit(table.X, table.y)
    mean, std = gaussian_prediction(wrapped, table.X)
    expected = wrapped.best_estimator_.predict(table.X, return_std=True)
    np.testing.assert_array_equal(mean, expected[0])
    np.testing.assert_array_equal(std, expected[1])


def test_gaussian_chooses_a_target(line):
    Y = np.column_stack([line.y, 2 * line.y + 1])
    model = GaussianProcessRegressor(NTK(), alpha=0.1, optimizer=None).fit(line.X, Y)
    mean, std = gaussian_prediction(model, line.X, target=1)
    expected = model.predict(line.X, return_std=True)
    np.testing.assert_array_equal(mean, expected[0][:, 1])
    np.testing.assert_array_equal(std, expected[1][:, 1])


class Certain(Ridge):
    """Accepts `return_std` and forgets it."""

    def predict(self, X, return_std=False):
        return super().predict(X)


class Broken(Ridge):
    """Fails for a reason of its own."""

    def predict(self, X, return_std=False):
        raise TypeError("bad operand")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Ridge(), r"Ridge.predict takes no `return_std`; expected a regressor whose"),
        (searched(Ridge()), r"Ridge.predict takes no `return_std`"),
        (Certain(), r"Certain.predict returned a ndarray; expected .* Pass a Gaussian process"),
        (Broken(), "bad operand"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_gaussian_raises_when_there_is_no_std(table, model, message):
    model.fit(table.X, table.y)
    with pytest.raises(TypeError, match=message):
        gaussian_prediction(model, table.X)


def test_negative_std_raises():
    with pytest.raises(ValueError, match=r"`std` is -0\.5 at row 1; expected standard deviations"):
        check_std([0.0, -0.5], 2)


@pytest.mark.parametrize("target", [None, 2, -3, "a"])
def test_one_target_raises_when_none_is_chosen(target):
    with pytest.raises(ValueError, match=r"`target` is .* but `y` has 2 columns; .* 0 to 1"):
        one_target(np.ones((4, 2)), "y", target)


def test_last_step_is_found_under_searches_and_pipelines(table):
    model = Pipeline([("outer", searched(NTKRidge()))]).fit(table.X, table.y)
    assert isinstance(last_step(model), NTKRidge)
    assert last_step(3) == 3


@pytest.mark.parametrize("search", [False, True], ids=["model", "search"])
@pytest.mark.parametrize("scaled", [False, True], ids=["alone", "scaled"])
def test_intervals_are_those_of_the_last_step(table, scaled, search):
    model = make_pipeline(*[StandardScaler()] * scaled, NTKRidge(alpha=0.1))
    model = GridSearchCV(model, {}, cv=2) if search else model
    X = table.X.to_numpy() / [1.0, 10.0, 0.1]
    found = interval_prediction(model.fit(X, table.y), X[:4], LEVELS)
    seen = (X - X.mean(0)) / X.std(0) if scaled else X
    expected = [last_step(model).predict_interval(seen[:4], alpha=miss) for miss in (0.5, 0.1)]
    assert found.shape == (2, 4, 2)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_intervals_are_asked_for_round_miscoverages(line):
    asked = []

    class Spy:
        def predict_interval(self, X, alpha):
            asked.append(alpha)
            return np.zeros((len(X), 2))

    interval_prediction(Spy(), line.X, np.array([0.9, 0.7, 0.05]))
    assert asked == [0.1, 0.3, 0.95]


@pytest.mark.parametrize("model", [Ridge(), TransformedTargetRegressor(NTKRidge())], ids=repr)
def test_intervals_are_none_when_there_is_no_method(line, model):
    assert interval_prediction(model.fit(line.X, line.y), line.X, LEVELS) is None
