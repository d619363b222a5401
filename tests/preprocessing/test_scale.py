import numpy as np
import pytest
from scipy.stats import norm
from sklearn.preprocessing import RobustScaler, StandardScaler

from sknk.preprocessing._scale import NormalScores, SpreadScaler


def column(*values):
    return np.array(values, dtype=float)[:, None]


def continuous(n=61, seed=0):
    return np.random.default_rng(seed).standard_t(3, (n, 2)) * [1.0, 1e3] + [0.0, 1e4]


# --- SpreadScaler --------------------------------------------------------------------------------


def test_spread_of_continuous_columns_is_robust_scaler():
    X = continuous()
    expected = RobustScaler(unit_variance=True).fit_transform(X)
    np.testing.assert_allclose(SpreadScaler().fit_transform(X), expected, rtol=1e-12)


def test_spread_of_coinciding_quartiles_is_standard_deviation():
    X = column(*[0.0] * 98, 1000.0, 500.0)
    found = SpreadScaler().fit_transform(X)
    np.testing.assert_allclose(found, X / X.std(), rtol=1e-12)
    assert RobustScaler().fit_transform(X).max() == 1000.0  # the trap


@pytest.mark.parametrize("ones", [1, 30, 50, 99])
@pytest.mark.parametrize(
    "scaler", [SpreadScaler(), SpreadScaler(robust=False), NormalScores()], ids=repr
)
def test_scaler_makes_zero_and_one_of_two_values(scaler, ones):
    X = column(*[3.0] * (100 - ones), *[7.0] * ones)
    np.testing.assert_array_equal(scaler.fit_transform(X), X == 7.0)


def test_spread_is_standard_scaler_when_not_robust():
    X = continuous()
    expected = StandardScaler().fit_transform(X)
    found = SpreadScaler(robust=False).fit_transform(X)
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-13)


def test_spread_of_constant_column_is_zero_in_new_rows_too():
    model = SpreadScaler().fit(column(0.1, 0.1, 0.1))
    np.testing.assert_array_equal(model.transform(column(0.1, 5000.0)), [[0.0], [0.0]])
    np.testing.assert_array_equal(model.inverse_transform(column(0.0, 3.0)), [[0.1], [0.1]])


def test_spread_of_huge_values_does_not_overflow():
    X = column(*[0.0] * 9, 1e200, -1e200)
    expected = SpreadScaler().fit_transform(X / 1e200)
    np.testing.assert_allclose(SpreadScaler().fit_transform(X), expected, rtol=1e-12)


def test_spread_ignores_units_and_outliers():
    X = continuous()
    far = X.copy()
    far[far.argmax(axis=0), [0, 1]] *= 1e6
    one, other = SpreadScaler().fit(X), SpreadScaler().fit(far)
    np.testing.assert_array_equal(one.scale_, other.scale_)
    np.testing.assert_allclose(SpreadScaler().fit(2 * X + 1).scale_, 2 * one.scale_, rtol=1e-12)


@pytest.mark.parametrize("scaler", [SpreadScaler(), NormalScores()])
def test_scaler_inverse_undoes_it(scaler):
    X = continuous()
    np.testing.assert_allclose(
        scaler.inverse_transform(scaler.fit_transform(X)), X, rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("scaler", [SpreadScaler(), NormalScores()])
def test_scaler_keeps_float32(scaler):
    X = continuous().astype(np.float32)
    found = scaler.fit_transform(X)
    assert found.dtype == scaler.inverse_transform(found).dtype == np.float32
    np.testing.assert_allclose(found, scaler.fit_transform(X.astype(float)), atol=1e-5)


# --- NormalScores --------------------------------------------------------------------------------


def test_scores_are_quantiles_of_middle_ranks():
    X = np.random.default_rng(0).permutation(50.0 ** np.linspace(0, 2, 40))[:, None]
    ranks = X.ravel().argsort().argsort() + 0.5
    scores = norm.ppf(ranks / 40)
    found = NormalScores().fit_transform(X).ravel()
    np.testing.assert_allclose(found, scores / scores.std(), atol=1e-12)


def test_scores_do_not_change_under_monotone_maps():
    X = continuous()
    found = NormalScores().fit_transform(X)
    np.testing.assert_array_equal(NormalScores().fit_transform(np.sinh(X / 1e3)), found)


def test_scores_of_constant_column_are_zero():
    model = NormalScores().fit(column(4.0, 4.0))
    np.testing.assert_array_equal(model.transform(column(3.0, 4.0, 9.0)), np.zeros((3, 1)))


def test_scores_stay_in_the_training_range():
    X = continuous()
    model = NormalScores().fit(X)
    far = np.array([[1e9, -1e9]])
    expected = [[model.scores_[0][-1], model.scores_[1][0]]]
    np.testing.assert_array_equal(model.transform(far), expected)
    np.testing.assert_array_equal(model.inverse_transform(far), [[X[:, 0].max(), X[:, 1].min()]])


def test_scores_keep_at_most_n_quantiles():
    X = np.random.default_rng(0).exponential(size=(2000, 1))
    few, many = NormalScores(n_quantiles=100).fit(X), NormalScores(n_quantiles=2000).fit(X)
    assert len(few.quantiles_[0]) <= 100
    assert len(many.quantiles_[0]) == 2000
    assert few.quantiles_[0][[0, -1]].tolist() == [X.min(), X.max()]
    # 50 evenly spaced scores.
    spacing = np.ptp(many.scores_[0]) / 49
    np.testing.assert_allclose(few.transform(X), many.transform(X), atol=spacing)


@pytest.mark.parametrize("n_quantiles", [3, 4.5, None])
def test_scores_refuse_too_few_quantiles(n_quantiles):
    with pytest.raises(ValueError, match="'n_quantiles' parameter of NormalScores must be an int"):
        NormalScores(n_quantiles=n_quantiles).fit(column(1.0, 2.0))
