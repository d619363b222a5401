"""Checks shared by kernels and estimators, and the class tree of errors."""

import warnings

import numpy as np
import pytest
import torch

from sknk import _validation
from sknk._config import config_context
from sknk.exceptions import DeviceWarning, MemoryBudgetError, NotPSDError, NumericalWarning

CPU = torch.device("cpu")
X = np.random.default_rng(0).standard_normal((5, 3))


def test_memory_within_the_budget_passes():
    with config_context(memory_budget=100):
        _validation.check_memory(100, CPU, what="A thing", instead="Do less.")


def test_memory_beyond_the_budget_raises_and_names_everything():
    message = (
        r"A thing needs 101 bytes but 100 are allowed on cpu \(`memory_budget`.*\)\. Do less\."
    )
    with config_context(memory_budget=100), pytest.raises(MemoryBudgetError, match=message):
        _validation.check_memory(101, CPU, what="A thing", instead="Do less.")


def test_budget_is_the_free_memory_when_none_is_configured():
    free = _validation.memory_budget(CPU)
    assert 2**20 < free < 2**50
    with config_context(memory_budget=5):
        assert _validation.memory_budget(CPU) == 5


def test_absurd_allocations_raise_without_configuration():
    with pytest.raises(MemoryBudgetError, match=r"A universe needs 1e\+30 bytes"):
        _validation.check_memory(1e30, CPU, what="A universe", instead="")


@pytest.mark.parametrize("weight", [None, 2.0, [1, 2, 3, 0, 5], np.ones(5, dtype=np.float32)])
def test_weights_become_float64_or_stay_none(weight):
    found = _validation.check_weights(weight, X)
    if weight is None:
        assert found is None
        return
    np.testing.assert_array_equal(found, np.broadcast_to(weight, 5))
    assert found.dtype == np.float64


@pytest.mark.parametrize(
    ("weight", "match"),
    [
        (
            [1, -2, 1, 1, 1],
            "`sample_weight` is -2 at row 1; expected weights that are not negative",
        ),
        ([0, 0, 0, 0, 0], "`sample_weight` is zero for every row"),
        (0.0, "`sample_weight` is zero for every row"),
        ([1, 1], "(?i)sample_weight"),
        (np.ones((5, 2)), "1D array or scalar"),
        ([1, np.nan, 1, 1, 1], "NaN"),
        ([1, np.inf, 1, 1, 1], "infinity"),
    ],
    ids=str,
)
def test_impossible_weights_raise(weight, match):
    with pytest.raises(ValueError, match=match):
        _validation.check_weights(weight, X)


def test_weights_are_not_written_to():
    weight = np.arange(5.0)
    _validation.check_weights(weight, X)
    np.testing.assert_array_equal(weight, np.arange(5.0))


def test_precomputed_gram_passes_when_symmetric_up_to_rounding():
    K = X @ X.T
    K[0, 1] += 1e-9
    _validation.check_precomputed(K)
    _validation.check_precomputed(np.zeros((3, 3)))


def test_precomputed_gram_raises_when_not_square():
    with pytest.raises(
        ValueError, match=r"Precomputed kernel of shape \(5, 3\); expected a square"
    ):
        _validation.check_precomputed(X)


def test_precomputed_gram_raises_when_not_symmetric():
    K = X @ X.T
    K[0, 1] += 0.25
    with pytest.raises(ValueError, match=r"not symmetric \(largest \|K - K.T\| is 0.25 at entries"):
        _validation.check_precomputed(K)


def test_unscaled_columns_warn():
    wild = X * [1.0, 1e5, 1.0]
    with pytest.warns(
        NumericalWarning, match="Column 1 has a standard deviation .* StandardScaler"
    ):
        _validation.warn_unscaled(wild)


@pytest.mark.parametrize(
    "table",
    [
        X,
        X * [1.0, 100.0, 0.01],
        X * [1.0, 0.0, 0.0],
        X * 0.0 + 1e9,
        X[:1],
        X[:, :1],
        X[0],
    ],
    ids=["standard", "hundredfold", "constant", "all_constant", "row", "column", "vector"],
)
def test_plain_tables_do_not_warn(table):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _validation.warn_unscaled(table)


def test_errors_and_warnings_subclass_the_standard_ones():
    assert issubclass(NotPSDError, np.linalg.LinAlgError)
    assert issubclass(NotPSDError, ValueError)
    assert issubclass(MemoryBudgetError, MemoryError)
    assert issubclass(NumericalWarning, UserWarning)
    assert issubclass(DeviceWarning, UserWarning)
