import datetime as dt
import pickle
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pytest

from sknk.preprocessing._columns import ColumnsOf, check_categorical_features
from tests.preprocessing.tables import CATEGORIES, COLUMNS, FRAMES, array, pandas_frame

KINDS = ["number", "one_hot", "ordinal"]


def chosen(X, features="from_dtype", max_one_hot=10):
    return [ColumnsOf(kind, check_categorical_features(features), max_one_hot)(X) for kind in KINDS]


@pytest.mark.parametrize("make", FRAMES.values(), ids=FRAMES)
def test_columns_follow_dtypes(make):
    assert chosen(make()) == [[0, 1], [2, 3], [4]]


@pytest.mark.parametrize(
    "features", [[2, 3, 4], np.array([4, 2, 3]), [False, False, True, True, True], range(2, 5)]
)
@pytest.mark.parametrize("make", [pandas_frame, array])
def test_columns_follow_indices_and_masks(make, features):
    assert chosen(make(), features) == [[0, 1], [2, 3], [4]]


@pytest.mark.parametrize("names", [CATEGORIES, np.array(CATEGORIES), pd.Index(CATEGORIES)])
@pytest.mark.parametrize("make", FRAMES.values(), ids=FRAMES)
def test_columns_follow_names(make, names):
    assert chosen(make(), names) == [[0, 1], [2, 3], [4]]


@pytest.mark.parametrize("features", ["from_dtype", None, []])
def test_columns_of_number_arrays_are_numbers(features):
    assert chosen(np.ones((3, 2)), features) == [[0, 1], [], []]


def test_booleans_may_be_numbers_when_columns_are_listed():
    X = pd.DataFrame({"flag": [True, False], "n": [1, 2]})
    assert chosen(X) == [[1], [0], []]
    assert chosen(X, ["n"]) == [[0], [1], []]


@pytest.mark.parametrize(
    ("max_one_hot", "expected"), [(0, []), (1, [0]), (2, [0, 1]), (3, [0, 1, 2])]
)
def test_levels_decide_between_one_hot_and_ordinal(max_one_hot, expected):
    X = pd.DataFrame({"one": ["a"] * 4, "two": ["a", "b", None, "b"], "three": list("abcc")})
    _, few, many = chosen(X, max_one_hot=max_one_hot)
    assert few == expected
    assert sorted(few + many) == [0, 1, 2]


def test_unused_levels_of_a_dtype_do_not_count():
    X = pd.DataFrame({"x": pd.Categorical(["a", "b"], categories=list("abcdefgh"))})
    assert chosen(X, max_one_hot=2) == [[], [0], []]


@pytest.mark.parametrize(
    "column",
    [
        pd.array([1, None], dtype="Int64"),
        pd.array([1.0, None], dtype="Float32"),
        pd.arrays.SparseArray([0.0, 1.0]),
        pl.Series([1, None], dtype=pl.UInt8),
        pl.Series([None, None], dtype=pl.Null),
        pl.Series([Decimal("1.5"), None]),
    ],
    ids=lambda c: str(c.dtype),
)
def test_numbers_of_every_dtype(column):
    library = pl if isinstance(column, pl.Series) else pd
    assert chosen(library.DataFrame({"x": column})) == [[0], [], []]


def test_objects_that_are_numbers_are_numbers_in_arrays():
    X = np.array([[1, 2.5], [None, np.float32(1)], [np.nan, Decimal(3)]], dtype=object)
    assert chosen(X) == [[0, 1], [], []]


def test_choice_pickles_and_shows_itself():
    one = ColumnsOf("one_hot", (2, 3), 10)
    assert pickle.loads(pickle.dumps(one)) == one
    assert eval(repr(one)) == one


# --- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ("color", r"`categorical_features` is 'color'; .* Pass \['color'\] for one column"),
        (3, r"`categorical_features` is 3; expected 'from_dtype', None, or a list"),
        ([0, "a"], r"`categorical_features` is \[0, 'a'\]; expected column names, non-negative"),
        ([0, True], "in a flat list of one kind"),
        ([0.5], r"`categorical_features` is \[0.5\]"),
        ([-1], r"`categorical_features` is \[-1\]; .* non-negative indices"),
        ([[0, 1]], r"`categorical_features` is \[\[0, 1\]\]"),
    ],
)
def test_bad_categorical_features_raise(features, message):
    with pytest.raises(ValueError, match=message):
        check_categorical_features(features)


@pytest.mark.parametrize(
    ("features", "make", "message"),
    [
        (["colour"], pandas_frame, rf"names \['colour'\]; expected columns of X, .*{COLUMNS[0]}"),
        (
            None,
            lambda: np.ones(3),
            r"X has shape \(3,\); expected rows and columns. Pass X.reshape",
        ),
        (["color"], array, r"names columns, \('color',\), but X is a ndarray"),
        ([5], array, "has the index 5; expected indices below the number of columns, 5"),
        ([True, False], array, "has 2 booleans for 5 columns; expected one a column"),
    ],
)
def test_categorical_features_that_do_not_fit_the_table_raise(features, make, message):
    with pytest.raises(ValueError, match=message):
        chosen(make(), features)


@pytest.mark.parametrize(
    ("frame", "features", "message"),
    [
        (
            pd.DataFrame({"day": [dt.datetime(2020, 1, 1)]}),
            "from_dtype",
            "Column 'day' has dtype datetime64",
        ),
        (
            pl.DataFrame({"day": [dt.date(2020, 1, 1)]}),
            "from_dtype",
            "Column 'day' has dtype date;",
        ),
        (pl.DataFrame({"x": [[1, 2]]}), "from_dtype", r"Column 'x' has dtype list\(int64\)"),
        (pd.DataFrame({"a": ["u"], "b": ["v"]}), ["a"], "Column 'b' has dtype str; .* Name it in"),
        (pd.DataFrame({"a": ["u"]}, dtype=object), None, "Column 'a' holds 'u'; expected numbers"),
        (np.array([["u", "1"]]), [0], "Column 1 has dtype <u1; expected numbers or categories"),
        (array(), [2, 3], "Column 4 holds 't.*'; expected numbers, for it is not among"),
        (
            pd.DataFrame({"a": [[1], [2]]}),
            "from_dtype",
            "column 'a' holds a value that cannot be hashed",
        ),
    ],
)
def test_columns_that_are_neither_numbers_nor_categories_raise(frame, features, message):
    with pytest.raises(TypeError, match=message):
        chosen(frame, features)
