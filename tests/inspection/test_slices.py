import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch

from sknk.inspection._slices import read_table
from tests.cases import rows

ARRAY = rows(9, 3, seed=4)


def frame():
    return pd.DataFrame(
        {
            "size": ARRAY[:, 0],
            "floor": pd.array([1, 2, None, 2, 5, 2, 3, 2, 9], dtype="Int64"),
            "town": pd.Categorical(list("babbabbcb")),
            "new": [True, False, False] * 3,
        }
    )


def polars_frame():
    return pl.DataFrame(
        {
            "size": ARRAY[:, 0],
            "floor": [1, 2, None, 2, 5, 2, 3, 2, 9],
            "town": pl.Series(list("babbabbcb"), dtype=pl.Categorical),
            "new": [True, False, False] * 3,
        }
    )


both = pytest.mark.parametrize("make", [frame, polars_frame], ids=["pandas", "polars"])


@both
def test_frame_keeps_names_and_numbers(make):
    table = read_table(make())
    assert table.names == ["size", "floor", "town", "new"]
    assert table.n_rows == 9
    np.testing.assert_array_equal(table.numbers(0), ARRAY[:, 0])
    np.testing.assert_array_equal(table.numbers(1), [1, 2, np.nan, 2, 5, 2, 3, 2, 9])


@both
def test_held_values_are_medians_and_modes(make):
    size, floor, town, new = read_table(make()).held(None)
    assert (floor, town, new) == (2.0, "b", False)
    assert size == np.median(ARRAY[:, 0])


@both
def test_rows_of_a_frame_have_its_type_and_categories(make):
    table, original = read_table(make()), make()
    found = table.rows(0, np.array([0.0, 1.5]), table.held({"town": "c"}))
    assert type(found) is type(original)
    assert list(found.columns) == list(original.columns)
    assert list(found["size"]) == [0.0, 1.5]
    assert list(found["town"]) == ["c", "c"]
    assert found["town"].dtype == original["town"].dtype
    assert found["new"].dtype == original["new"].dtype


@pytest.mark.parametrize("X", [ARRAY, ARRAY.tolist(), torch.tensor(ARRAY)], ids=["np", "list", "t"])
def test_rows_of_an_array_vary_one_column(X):
    table = read_table(X)
    grid = np.array([-1.0, 0.0, 2.0])
    found = table.rows(1, grid, table.held(None))
    np.testing.assert_array_equal(found[:, 1], grid)
    np.testing.assert_array_equal(found[:, [0, 2]], np.tile(np.median(ARRAY, 0)[[0, 2]], (3, 1)))


@pytest.mark.parametrize(
    "at",
    [
        [1.0, 2.0, 3.0],
        (1.0, 2.0, 3.0),
        np.array([[1.0, 2.0, 3.0]]),
        {0: 1.0, 1: 2.0, -1: 3.0},
        pd.Series([1.0, 2.0, 3.0]),
    ],
    ids=["list", "tuple", "row", "mapping", "series"],
)
def test_held_values_are_a_given_row(at):
    assert [float(v) for v in read_table(ARRAY).held(at)] == [1.0, 2.0, 3.0]


def test_held_values_are_a_row_of_the_frame():
    X = frame()
    table = read_table(X)
    expected = [ARRAY[4, 0], 5, "a", False]
    assert table.held(X.iloc[4]) == expected
    assert table.held(X.iloc[[4]]) == expected
    assert read_table(polars_frame()).held(polars_frame().row(4)) == expected


def test_held_values_of_a_mapping_replace_medians():
    held = read_table(frame()).held({"floor": 7, 3: True})
    assert held == [np.median(ARRAY[:, 0]), 7, "b", True]


def test_grid_runs_between_percentiles():
    table = read_table(ARRAY)
    low, high = np.quantile(ARRAY[:, 2], [0.1, 0.8])
    np.testing.assert_allclose(
        table.grid(2, 5, (0.1, 0.8), None), np.linspace(low, high, 5), rtol=1e-14
    )
    np.testing.assert_array_equal(table.grid(2, 3, (0, 1), (-4, 4)), [-4.0, 0.0, 4.0])


def test_grid_skips_missing_numbers():
    assert read_table(frame()).grid(1, 2, (0, 1), None).tolist() == [1.0, 9.0]


def test_chosen_columns_are_all_by_default():
    table = read_table(frame())
    assert table.chosen(None) == [0, 1, 2, 3]
    assert table.chosen("floor") == [1]
    assert table.chosen(-1) == [3]
    assert table.chosen([0, "new", np.int64(1)]) == [0, 3, 1]


def test_labels_name_columns():
    assert read_table(frame()).label(1) == "floor"
    assert read_table(ARRAY).label(1) == "feature 1"
    assert read_table(ARRAY[:, :1]).label(0) == "x"


@pytest.mark.parametrize(
    ("feature", "error", "message"),
    [
        ("color", ValueError, r"`feature` names column 'color'; expected one of \['size', 'fl"),
        (4, ValueError, "`feature` is column 4 but X has 4; expected 0 to 3"),
        (-5, ValueError, "`feature` is column -5"),
        (1.0, TypeError, r"`feature` names 1\.0; expected a column's index or name"),
        (True, TypeError, "`feature` names True"),
        ([], ValueError, "`feature` is empty"),
        (["size", None], TypeError, "`feature` names None"),
    ],
)
def test_bad_feature_raises(feature, error, message):
    with pytest.raises(error, match=message):
        read_table(frame()).chosen(feature)


def test_name_raises_when_rows_are_an_array():
    with pytest.raises(ValueError, match=r"names column 'size' but X is an array; expected an ind"):
        read_table(ARRAY).chosen("size")


def test_all_features_raise_when_they_are_many():
    with pytest.raises(ValueError, match=r"`feature` is None but X has 13 columns; .* at most 12"):
        read_table(rows(5, 13)).chosen(None)


@pytest.mark.parametrize("name", ["town", "new"])
def test_grid_raises_when_a_column_has_no_numbers(name):
    table = read_table(frame())
    with pytest.raises(ValueError, match=rf"`feature` is '{name}', .*expected a numeric column"):
        table.grid(table.index(name), 5, (0, 1), None)


def test_grid_raises_when_a_column_is_constant():
    with pytest.raises(ValueError, match=r"Column 'feature 1' runs from 1 to 1 .* Pass `x_range`"):
        read_table(np.ones((4, 2))).grid(1, 5, (0, 1), None)


@pytest.mark.parametrize(
    "pair", [(0.5, 0.5), (0.9, 0.1), (-0.1, 1), (0, 100), 0.5, "ab", (0, 1, 2)]
)
def test_bad_percentiles_raise(pair):
    with pytest.raises(ValueError, match=r"`percentiles` is .*; expected two fractions, 0 <= low"):
        read_table(ARRAY).grid(0, 5, pair, None)


@pytest.mark.parametrize("pair", [(1, 1), (2, -2), (0, np.inf), (np.nan, 1), 3.0, (1,), {"a": 1}])
def test_bad_range_raises(pair):
    with pytest.raises(ValueError, match=r"`x_range` is .*; expected two finite ends, low < high"):
        read_table(ARRAY).grid(0, 5, (0, 1), pair)


def test_ranges_are_given_by_column():
    table = read_table(frame())
    assert table.ranges(None) == {}
    assert table.ranges({"floor": (0, 3)}) == {1: (0, 3)}
    assert table.ranges((0, 3)) == dict.fromkeys(range(4), (0, 3))
    with pytest.raises(ValueError, match=r"`x_range` names column 'color'; expected one of"):
        table.ranges({"color": (0, 1)})


@pytest.mark.parametrize("at", [[1.0], [1.0, 2.0, 3.0, 4.0], "abc", 0.5])
def test_bad_row_to_hold_raises(at):
    with pytest.raises(ValueError, match=r"`at` holds \d values; expected a row of X, 3 values"):
        read_table(ARRAY).held(at)


def test_bad_column_to_hold_raises():
    with pytest.raises(ValueError, match=r"`at` names column 'color'; expected one of"):
        read_table(frame()).held({"color": 3})


def test_bad_rows_raise():
    with pytest.raises(ValueError, match="Expected 2D array, got 1D array instead"):
        read_table(ARRAY[0])
    with pytest.raises(ValueError, match="`grid_resolution` is 1; expected an integer of at least"):
        read_table(ARRAY).grid(0, 1, (0, 1), None)
