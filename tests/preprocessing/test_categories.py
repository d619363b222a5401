import datetime as dt
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder

from sknk.preprocessing._categories import LevelEncoder
from sknk.preprocessing._columns import is_missing

ONE_HOT = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
CODES = OrdinalEncoder(
    handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-1
)


def objects(*values):
    out = np.empty((len(values), 1), dtype=object)
    out[:, 0] = values
    return out


@pytest.mark.parametrize(
    "value", [None, np.nan, float("nan"), pd.NA, pd.NaT, np.datetime64("NaT"), Decimal("nan")]
)
def test_missing_values_are_recognised(value):
    assert is_missing(value)


@pytest.mark.parametrize(
    "value", ["", "nan", 0, 0.0, False, np.float64(1), np.bool_(True), np.str_("a"), dt.date.min]
)
def test_other_values_are_not_missing(value):
    assert not is_missing(value)


@pytest.mark.parametrize("encoder", [ONE_HOT, CODES])
def test_encoder_agrees_with_scikit_learn_on_clean_levels(encoder):
    X = np.array([["b", "x"], ["a", "y"], ["c", "x"]], dtype=object)
    expected = encoder.fit_transform(X)
    np.testing.assert_array_equal(LevelEncoder(encoder).fit_transform(X), expected)


def test_encoder_has_one_missing_level():
    found = LevelEncoder(ONE_HOT).fit_transform(objects(None, "a", np.nan, pd.NA, "b"))
    np.testing.assert_array_equal(found[:, 2], [1, 0, 1, 1, 0])
    assert found.shape == (5, 3)


@pytest.mark.parametrize(
    ("values", "codes"),
    [
        (("10", "9", "a"), [0, 1, 2]),
        ((10, 9, 2.5), [2, 1, 0]),
        ((True, False, True), [1, 0, 1]),
        (("10", 9, None), [0, 1, -1]),
        ((dt.date(2020, 1, 2), dt.date(2019, 1, 1), None), [1, 0, -1]),
    ],
)
def test_codes_follow_sorted_order(values, codes):
    found = LevelEncoder(CODES).fit_transform(objects(*values))
    np.testing.assert_array_equal(found.ravel(), codes)


def test_numbers_are_one_level_whatever_their_type():
    model = LevelEncoder(CODES).fit(objects(1, 2, 3))
    new = pd.DataFrame({"x": [3.0, np.nan, 1.0, 4.0]}).to_numpy()
    np.testing.assert_array_equal(model.transform(new).ravel(), [2, -1, 0, -1])


def test_text_in_a_column_of_numbers_is_unseen():
    model = LevelEncoder(ONE_HOT).fit(objects(1, 2))
    np.testing.assert_array_equal(model.transform(objects("1", 2)), [[0, 0], [0, 1]])


@pytest.mark.parametrize("library", [pd, pl])
def test_names_come_from_frames(library):
    frame = library.DataFrame({"color": ["r", "b", None], "n": [1, 2, 1]})
    model = LevelEncoder(ONE_HOT).fit(frame)
    expected = ["color_b", "color_r", "color_nan", "n_1", "n_2"]
    assert model.get_feature_names_out().tolist() == expected
    with pytest.raises(ValueError, match=r"`input_features` is \['a', 'b'\]: .*\['color', 'n'\]"):
        model.get_feature_names_out(["a", "b"])


def test_names_of_arrays_can_be_given():
    model = LevelEncoder(ONE_HOT).fit(objects("r", "b"))
    assert model.get_feature_names_out().tolist() == ["x0_b", "x0_r"]
    assert model.get_feature_names_out(["color"]).tolist() == ["color_b", "color_r"]


def test_other_columns_than_in_fit_raise():
    model = LevelEncoder(ONE_HOT).fit(pd.DataFrame({"a": ["x"], "b": ["y"]}))
    with pytest.raises(ValueError, match="feature names should match"):
        model.transform(pd.DataFrame({"b": ["y"], "a": ["x"]}))


def test_bad_encoder_raises():
    with pytest.raises(ValueError, match="'encoder' parameter of LevelEncoder must be an instance"):
        LevelEncoder("one-hot").fit(objects("a"))
