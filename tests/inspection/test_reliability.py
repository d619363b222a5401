from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve

from sknk.inspection import expected_calibration_error
from sknk.inspection._reliability import check_forecast, reliability

both = pytest.mark.parametrize("strategy", ["uniform", "quantile"])
# Sums of at most a few hundred terms in float64.
RTOL = 1e-12


def forecast(n=120, c=3, seed=0):
    """Labels (n,) and probabilities (n, c) that know something of them."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, c, n)
    logits = 2 * rng.standard_normal((n, c)) + 2 * np.eye(c)[y]
    prob = np.exp(logits)
    return y, prob / prob.sum(1, keepdims=True)


def naive_error(hits, chance, weights, edges):
    """The definition, bin by bin."""
    total = 0.0
    for low, high in pairwise(edges):
        inside = (chance > low) & (chance <= high)
        if low == edges[0]:
            inside |= chance == low
        if inside.any():
            gap = np.average(hits[inside] - chance[inside], weights=weights[inside])
            total += weights[inside].sum() * abs(gap)
    return total / weights.sum()


@pytest.mark.parametrize("n_bins", [1, 4, 15, 200])
def test_error_is_its_definition(n_bins):
    y, prob = forecast()
    weights = np.random.default_rng(1).uniform(0.1, 2.0, len(y))
    edges = np.arange(n_bins + 1) / n_bins
    top = naive_error(prob.argmax(1) == y, prob.max(1), weights, edges)
    found = expected_calibration_error(y, prob, n_bins=n_bins, sample_weight=weights)
    assert found == pytest.approx(top, rel=RTOL)
    one = naive_error(y == 2, prob[:, 2], weights, edges)
    found = expected_calibration_error(y, prob, n_bins=n_bins, sample_weight=weights, pos_label=2)
    assert found == pytest.approx(one, rel=RTOL)


@both
@pytest.mark.parametrize("n_bins", [5, 8, 12])
def test_curve_is_that_of_sklearn(strategy, n_bins):
    y, prob = forecast()  # 120 rows: quantile bins hold whole rows
    found = reliability(y == 1, prob[:, 1], np.ones(120), n_bins, strategy)
    expected = calibration_curve(y == 1, prob[:, 1], n_bins=n_bins, strategy=strategy)
    np.testing.assert_allclose((found.prob_true, found.prob_pred), expected, rtol=RTOL)


def test_quantile_bins_hold_as_many_rows():
    y, prob = forecast(100)
    found = reliability(y == 1, prob[:, 1], np.ones(100), 10, "quantile")
    np.testing.assert_allclose(found.rows, 10.0, rtol=RTOL)


def test_quantile_bins_do_not_split_equal_probabilities():
    chance = np.array([0.2] * 6 + [0.7] * 4)
    found = reliability(np.ones(10), chance, np.ones(10), 5, "quantile")
    np.testing.assert_allclose(found.prob_pred, [0.2, 0.7], rtol=RTOL)
    np.testing.assert_allclose(found.rows, [6, 4], rtol=RTOL)


@both
def test_weights_are_repeats(strategy):
    y, prob = forecast(90)
    repeats = np.random.default_rng(2).integers(0, 4, 90)
    for pos_label in (None, 1):
        options = {"strategy": strategy, "n_bins": 7, "pos_label": pos_label}
        weighted = expected_calibration_error(y, prob, sample_weight=repeats, **options)
        Y, P = y.repeat(repeats), prob.repeat(repeats, axis=0)
        assert weighted == pytest.approx(expected_calibration_error(Y, P, **options), rel=RTOL)


@both
def test_order_of_rows_and_columns_does_not_matter(strategy):
    y, prob = forecast()
    rows, columns = (np.random.default_rng(3).permutation(n) for n in prob.shape)
    first = expected_calibration_error(y, prob, strategy=strategy)
    second = expected_calibration_error(
        y[rows], prob[rows][:, columns], classes=columns, strategy=strategy
    )
    assert first == pytest.approx(second, rel=RTOL)


def test_error_is_zero_when_frequencies_are_as_announced():
    y = np.array([1, 0, 0, 0, 0] * 4 + [1, 1, 1, 1, 0] * 4)
    chance = np.array([0.2] * 20 + [0.8] * 20)
    assert expected_calibration_error(y, chance) == pytest.approx(0.0, abs=1e-12)
    assert expected_calibration_error(y, chance, pos_label=1) == pytest.approx(0.0, abs=1e-12)


def test_error_is_one_when_certain_and_wrong():
    assert expected_calibration_error([0, 1], [[0.0, 1.0], [1.0, 0.0]]) == 1.0


def test_calibrated_error_falls_with_rows():
    rng = np.random.default_rng(4)
    chance = rng.uniform(size=40_000)
    y = rng.uniform(size=40_000) < chance
    # The mean of |N(0, p(1-p)/n_b)| over 15 bins of 2667 rows is below 0.008.
    assert expected_calibration_error(y, chance, pos_label=True) < 0.012


@given(
    st.lists(st.tuples(st.booleans(), st.floats(0.0, 1.0)), min_size=2, max_size=40),
    st.integers(1, 30),
    st.sampled_from(["uniform", "quantile"]),
)
def test_error_is_a_fraction_and_grows_with_bins(pairs, n_bins, strategy):
    hits, chance = (np.array(column, dtype=float) for column in zip(*pairs, strict=True))
    ones = np.ones(len(hits))
    found = reliability(hits, chance, ones, n_bins, strategy)
    one = reliability(hits, chance, ones, 1, strategy)
    assert one.error - 1e-12 <= found.error <= 1.0 + 1e-12
    assert found.rows.sum() == pytest.approx(len(hits))
    assert (np.diff(found.prob_pred) >= 0).all()


@pytest.mark.parametrize(
    "wrap", [list, np.array, pd.Series, torch.tensor], ids=lambda w: w.__name__
)
def test_labels_and_probabilities_come_in_any_array(wrap):
    y, prob = forecast(30, 2)
    found = expected_calibration_error(wrap(y), wrap(prob[:, 1]))
    assert found == pytest.approx(expected_calibration_error(y, prob), rel=RTOL)


def test_labels_may_be_a_column():
    y, prob = forecast(30)
    found = expected_calibration_error(y[:, None], prob)
    assert found == expected_calibration_error(y, prob)


def test_labels_may_be_strings():
    y, prob = forecast(30)
    names = np.array(["no", "yes", "maybe"])
    expected = expected_calibration_error(y, prob, pos_label=1)
    found = expected_calibration_error(names[y], prob, classes=names, pos_label="yes")
    assert found == expected


def test_classes_without_rows_are_allowed_when_named():
    y, prob = forecast(30)
    assert check_forecast(np.minimum(y, 1), prob, [0, 1, 2], None).classes == [0, 1, 2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y_prob": [[0.5, 0.5]] * 3}, r"`y_prob` has shape \(3, 2\); expected \(4, n_classes\)"),
        ({"y_prob": np.ones((4, 2, 2))}, r"`y_prob` has shape \(4, 2, 2\)"),
        ({"y_prob": [0.1, 0.2, 0.3]}, r"`y_prob` has shape \(3, 2\)"),
        ({"y_prob": [0.1, 0.2, 0.3, 1.5]}, r"`y_prob` is \[-0\.5, 1\.5\] at row 3; expected proba"),
        ({"y_prob": [0.1, 0.2, 0.3, np.nan]}, "`y_prob` is nan at row 3"),
        ({"y_prob": [[0.5, np.nan]] * 4}, r"`y_prob` is \[0\.5, nan\] at row 0"),
        ({"y_prob": [[0.5, 0.4]] * 4}, r"`y_prob` sums to 0\.9 at row 0; expected 1"),
        ({"y_prob": [[0.2, 0.3, 0.5]] * 4}, r"for 3 classes but `y_true` holds \[0, 1\]; expected"),
        ({"classes": [0, 1, 2]}, r"for 2 classes but `classes` is \[0, 1, 2\]; .* `classes_`"),
        ({"classes": [0, 0]}, r"`classes` is \[0, 0\]; expected a distinct label for each"),
        ({"classes": [1, 2]}, r"`y_true` is 0 at row 0; expected one of the classes \[1, 2\]"),
        ({"y_true": np.ones((4, 2))}, r"`y_true` has shape \(4, 2\); expected one label a row"),
        ({"y_true": []}, r"`y_true` has shape \(0,\)"),
        ({"pos_label": 7}, r"`pos_label` is 7; expected one of \[0, 1\]"),
        ({"n_bins": 0}, "`n_bins` is 0; expected an integer of at least 1"),
        ({"strategy": "kmeans"}, "`strategy` is 'kmeans'; expected one of 'uniform', 'quantile'"),
        ({"sample_weight": [1, 1, 1, -1]}, "`sample_weight` is -1 at row 3"),
        ({"sample_weight": [0, 0, 0, 0]}, "`sample_weight` is zero for every row"),
        ({"sample_weight": [1, 1]}, r"sample_weight.shape == \(2,\)"),
    ],
    ids=str,
)
def test_bad_forecast_raises(change, message):
    given = {"y_true": [0, 1, 1, 0], "y_prob": [0.2, 0.7, 0.9, 0.4], **change}
    with pytest.raises(ValueError, match=message):
        expected_calibration_error(**given)
