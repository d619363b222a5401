import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch

from sknk.inspection import _checks as checks


@pytest.mark.parametrize(
    "values",
    [[1, 2], np.array([[1], [2]]), torch.tensor([1, 2]), pd.Series([1, 2]), pl.Series([1, 2])],
    ids=lambda v: type(v).__name__,
)
def test_vector_is_float64(values):
    found = checks.check_vector(values, "v", rows=2)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, [1.0, 2.0])


def test_vector_of_a_tensor_with_gradient():
    values = torch.ones(2, requires_grad=True)
    np.testing.assert_array_equal(checks.check_vector(values, "v"), [1.0, 1.0])


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        (np.ones((2, 2)), ValueError, r"`v` has shape \(2, 2\); expected one number a row"),
        ([], ValueError, r"`v` has shape \(0,\)"),
        (3.0, ValueError, r"`v` has shape \(\)"),
        ([1.0], ValueError, "`v` has 1 rows; expected 2"),
        ([1.0, np.nan], ValueError, "`v` is nan at row 1; expected finite values"),
        ([-np.inf, 1.0], ValueError, "`v` is -inf at row 0"),
        (["a", "b"], TypeError, "`v` has dtype .*; expected numbers"),
    ],
)
def test_bad_vector_raises(values, error, message):
    with pytest.raises(error, match=message):
        checks.check_vector(values, "v", rows=2)


@pytest.mark.parametrize("value", [0, 1, -0.1, 90, np.nan, "0.9", None, True])
def test_bad_fraction_raises(value):
    with pytest.raises(ValueError, match=r"`level` is .*; expected a share between 0 and 1"):
        checks.check_fraction(value, "level", "a share")


@pytest.mark.parametrize("value", [1, 2.5, "3", None, True])
def test_bad_count_raises(value):
    with pytest.raises(ValueError, match=r"`n_bins` is .*; expected an integer of at least 2"):
        checks.check_count(value, "n_bins", 2)


@pytest.mark.parametrize("value", ["z", None, 1, ["x"]])
def test_bad_choice_raises(value):
    with pytest.raises(ValueError, match=r"`kind` is .*; expected one of 'x', 'y'"):
        checks.check_choice(value, "kind", ("x", "y"))


def test_effective_rows_count_equal_weights():
    assert checks.effective_rows(np.full(7, 0.3)) == pytest.approx(7.0, rel=1e-14)
    assert checks.effective_rows(np.array([1.0, 0.0, 0.0])) == 1.0
