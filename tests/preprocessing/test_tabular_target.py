"""`target_transform` of the pipeline; the transformer alone is in test_target.py."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from sknk import NTKRidge
from sknk.preprocessing import tabular_pipeline


def skewed():
    X = np.random.default_rng(0).standard_normal((80, 2))
    return X, np.exp(2 * X[:, 0] + 5)


@pytest.mark.parametrize("transform", ["auto", "yeo-johnson", "quantile", StandardScaler()])
def test_target_is_transformed_and_predictions_are_not(transform):
    X, y = skewed()
    pipe = tabular_pipeline(NTKRidge(alpha=1e-6), target_transform=transform).fit(X, y)
    assert isinstance(pipe["estimator"], TransformedTargetRegressor)
    assert abs(pipe["estimator"].regressor_.intercept_) < 1.0  # y has a mean of 1000
    np.testing.assert_allclose(pipe.predict(X), y, rtol=0.05, atol=10.0)


def test_auto_target_stays_where_it_is_not_skewed():
    X, _ = skewed()
    y = 2 * X[:, 0] + 5
    expected = tabular_pipeline(NTKRidge()).fit(X, y).predict(X)
    found = tabular_pipeline(NTKRidge(), target_transform="auto").fit(X, y).predict(X)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("transform", ["auto", "yeo-johnson", "quantile"])
def test_predictions_far_away_are_finite_and_in_range(transform):
    X, y = skewed()
    pipe = tabular_pipeline(Ridge(), clip=None, target_transform=transform).fit(X, y)
    found = pipe.predict([[1e6, 0.0], [-1e6, 0.0]])
    np.testing.assert_allclose(found, [y.max(), y.min()], rtol=1e-6)


def test_several_targets_are_transformed_each():
    X, y = skewed()
    Y = np.column_stack([y, X[:, 1]])
    pipe = tabular_pipeline(NTKRidge(alpha=1e-6), target_transform="auto").fit(X, Y)
    powers = pipe["estimator"].transformer_.powers_
    assert [power is None for power in powers] == [False, True]
    np.testing.assert_allclose(pipe.predict(X), Y, rtol=0.05, atol=0.01)


def test_weights_reach_the_regressor_of_transformed_targets():
    X, y = skewed()
    pipe = tabular_pipeline(Ridge(), target_transform="auto")
    w = np.r_[np.ones(40), np.zeros(40)]
    weighted = clone(pipe).fit(X, y, estimator__sample_weight=w)
    assert not np.allclose(weighted.predict(X), pipe.fit(X, y).predict(X))
