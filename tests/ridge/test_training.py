import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from sknk._training import merge_rows
from sknk.kernels import NTK
from tests.reference import ridge as oracle


def merged(X, Y, weights=None):
    return merge_rows(np.asarray(X, float), np.asarray(Y, float), weights, precomputed=False)


def test_merge_rows_without_copies_changes_nothing(table):
    training = merged(table.X, table.Y)
    np.testing.assert_array_equal(training.first, np.arange(20))
    np.testing.assert_array_equal(training.group, np.arange(20))
    np.testing.assert_array_equal(training.share, np.ones(20))
    assert training.weights is None
    assert training.rows is table.X


def test_merge_rows_sums_weights_of_copies_in_order_of_appearance():
    X, Y = [[2.0], [1.0], [2.0], [1.0], [1.0]], [[0.0], [5.0], [0.0], [5.0], [6.0]]
    training = merged(X, Y, np.array([1.0, 2.0, 3.0, 0.0, 4.0]))
    np.testing.assert_array_equal(training.first, [0, 1, 4])
    np.testing.assert_array_equal(training.group, [0, 1, 0, -1, 2])
    np.testing.assert_array_equal(training.weights, [4.0, 2.0, 4.0])
    np.testing.assert_array_equal(training.share, [0.25, 1.0, 0.75, 0.0, 1.0])
    np.testing.assert_array_equal(training.Y, [[0.0], [5.0], [6.0]])


def test_merge_rows_keeps_rows_of_other_target_apart():
    assert len(merged([[1.0], [1.0]], [[0.0], [1.0]]).first) == 2


def test_merge_rows_takes_minus_zero_as_zero():
    assert len(merged([[0.0], [-0.0]], [[-0.0], [0.0]]).first) == 1


def test_merge_rows_drops_weights_that_merge_to_one():
    training = merged([[1.0], [1.0], [2.0]], np.zeros((3, 1)), np.array([0.5, 0.5, 1.0]))
    assert training.weights is None
    np.testing.assert_array_equal(training.share, [0.5, 0.5, 1.0])


SMALL_INTEGERS = st.integers(-1, 1).map(float)


@given(
    rows=arrays.arrays(float, st.tuples(st.integers(1, 12), st.just(3)), elements=SMALL_INTEGERS),
    data=st.data(),
)
def test_merge_rows_groups_are_copies(rows, data):
    X, Y = rows[:, :2], rows[:, 2:]
    weights = np.array(data.draw(st.lists(st.integers(0, 3), min_size=len(X), max_size=len(X))))
    if not weights.any():
        weights[0] = 1
    training = merged(X, Y, weights.astype(float))
    active = weights > 0
    same = training.group[:, None] == training.group[None]
    copies = oracle.copies(X, Y)
    expected = copies[:, None] == copies[None]
    np.testing.assert_array_equal(same[np.ix_(active, active)], expected[np.ix_(active, active)])
    assert (training.group[~active] == -1).all()
    total = np.ones(len(training.first)) if training.weights is None else training.weights
    assert total.sum() == weights.sum()
    # Shares of a distinct row add up to one.
    sums = np.bincount(training.group[active], weights=training.share[active])
    np.testing.assert_allclose(sums, 1.0, rtol=1e-12)


def test_training_gram_is_of_distinct_rows(table):
    X, Y = np.vstack([table.X[:3], table.X]), np.vstack([table.Y[:3], table.Y])
    kernel = NTK(depth=1)
    K = kernel(X)
    by_kernel = merged(X, Y).gram(kernel)
    by_gram = merge_rows(K, Y, None, precomputed=True).gram(None)
    expected = kernel(np.vstack([table.X]))
    # Kernel calls of other shapes may round differently.
    np.testing.assert_allclose(by_kernel, expected, rtol=1e-12)
    np.testing.assert_allclose(by_gram, expected, rtol=1e-12)


def test_training_precomputed_gram_may_be_overwritten(table):
    K = table.kernel(table.X)
    before = K.copy()
    merge_rows(K, table.Y, None, precomputed=True).gram(None).fill_(0.0)
    np.testing.assert_array_equal(K, before)


@pytest.mark.parametrize("weights", [None, np.array([1.0, 0.0, 2.0, 3.0])])
def test_training_fold_weights_count_rows_inside(weights):
    X = np.array([[1.0], [2.0], [1.0], [3.0]])
    training = merge_rows(X, X, weights, precomputed=False)
    found = training.fold_weights(np.array([0, 1, 2]), weights)
    expected = [2.0, 1.0, 0.0] if weights is None else [3.0, 0.0]
    np.testing.assert_array_equal(found, expected)


def test_training_every_row_repeats_values_and_asks_elsewhere():
    X = np.array([[1.0], [2.0], [1.0]])
    training = merge_rows(X, X, np.array([1.0, 0.0, 1.0]), precomputed=False)
    asked = []

    def elsewhere(left):
        asked.append(left.tolist())
        return np.array([[9.0]])

    found = training.every_row(np.array([[5.0]]), elsewhere)
    np.testing.assert_array_equal(found, [[5.0], [9.0], [5.0]])
    assert asked == [[False, True, False]]


def test_training_mean_is_weighted(table):
    training = merged(table.X, table.Y, table.weights)
    expected = np.average(table.Y, axis=0, weights=table.weights)
    np.testing.assert_allclose(training.mean(True), expected, rtol=1e-14)
    np.testing.assert_array_equal(training.mean(False), [0.0, 0.0])
