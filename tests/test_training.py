"""Parts of a training set: dealt whatever the order of rows, of equal spread of targets."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sknk._training import merge_rows
from sknk.kernels import NTK
from tests.cases import rows


def table(n, d=3, seed=0):
    """Return rows and one target, no two equal."""
    X = rows(n, d, seed=seed)
    return X, X[:, :1] ** 2 + X[:, 1:2]


def training_of(X, Y, w=None, unit=None):
    return merge_rows(X, Y, w, precomputed=False, unit=unit)


SIZES = {"n": st.integers(1, 90), "count": st.integers(1, 12)}


# --- dealing -------------------------------------------------------------------------------------


@given(**SIZES)
def test_training_deal_makes_parts_of_equal_size(n, count):
    sizes = np.bincount(training_of(*table(n)).deal(count), minlength=count)
    assert len(sizes) == count
    assert np.ptp(sizes) <= 1
    assert sizes.sum() == n


@given(**SIZES)
def test_training_deal_gives_neighbours_in_target_to_different_parts(n, count):
    X, Y = table(n)
    dealt = training_of(X, Y).deal(count)[np.argsort(Y[:, 0])]
    for start in range(0, n, count):
        hand = dealt[start : start + count]
        assert len(set(hand)) == len(hand)


@given(**SIZES)
def test_training_deal_ignores_the_order_of_rows(n, count):
    X, Y = table(n)
    order = np.random.default_rng(n).permutation(n)
    expected = training_of(X, Y).deal(count)
    np.testing.assert_array_equal(training_of(X[order], Y[order]).deal(count), expected[order])


@pytest.mark.parametrize("target", ["constant", "classes", "columns"])
def test_training_deal_ignores_the_order_of_rows_when_targets_tie(target):
    X, y = table(50)
    labels = np.digitize(y[:, 0], [0.0, 1.0])
    Y = {
        "constant": np.ones((50, 1)),
        "classes": np.where(labels[:, None] == np.arange(3), 1.0, -1.0),
        "columns": np.column_stack([labels, y[:, 0]]),
    }[target]
    order = np.random.default_rng(1).permutation(50)
    dealt = training_of(X, Y).deal(3)
    np.testing.assert_array_equal(training_of(X[order], Y[order]).deal(3), dealt[order])
    assert len(set(dealt)) == 3


def test_training_deal_gives_every_part_the_same_spread_of_targets():
    X, Y = table(150)
    dealt = training_of(X, Y).deal(3)
    levels = np.linspace(0.1, 0.9, 9)
    parts = np.array([np.quantile(Y[dealt == k, 0], levels) for k in range(3)])
    # Two neighbours in the order of targets are 2 / 150 of the distribution apart.
    low, high = (np.quantile(Y[:, 0], np.clip(levels + e, 0, 1)) for e in (-0.03, 0.03))
    assert (parts >= low).all()
    assert (parts <= high).all()


def test_training_deal_gives_every_part_its_share_of_every_class():
    X, y = table(90)
    labels = np.digitize(y[:, 0], [0.0, 2.0])
    dealt = training_of(X, np.where(labels[:, None] == np.arange(3), 1.0, -1.0)).deal(3)
    counts = np.array([np.bincount(labels[dealt == k], minlength=3) for k in range(3)])
    assert np.ptp(counts, axis=0).max() <= 2  # a class may begin and end inside a hand
    assert counts.min() > 0


def test_training_deal_is_of_distinct_rows_of_positive_weight():
    X, Y = table(40)
    w = (np.arange(40) % 4 > 0).astype(float)
    expected = training_of(X[w > 0], Y[w > 0]).deal(3)
    np.testing.assert_array_equal(training_of(X, Y, w).deal(3), expected)
    twice = training_of(np.tile(X, (2, 1)), np.tile(Y, (2, 1)))
    np.testing.assert_array_equal(twice.deal(3), training_of(X, Y).deal(3))


def test_training_deal_is_not_in_turn():
    # Parts 0, 1, 2, 0, 1, 2 would give the last part the largest target of every hand.
    X, Y = table(90)
    hands = training_of(X, Y).deal(3)[np.argsort(Y[:, 0])].reshape(30, 3)
    assert len({tuple(hand) for hand in hands}) == 6


# --- samples -------------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [30, 31, 1000])
def test_training_sample_is_all_rows_when_they_are_few(most):
    np.testing.assert_array_equal(training_of(*table(30)).sample(most), np.arange(30))


@pytest.mark.parametrize(("n", "most"), [(151, 150), (400, 100), (399, 60), (2001, 2000)])
def test_training_sample_is_about_as_large_as_asked(n, most):
    index = training_of(*table(n)).sample(most)
    assert 0.9 * most <= len(index) <= 1.1 * most
    assert (np.diff(index) > 0).all()


@pytest.mark.parametrize(("n", "most"), [(400, 100), (399, 60), (21, 10), (46, 10), (1000, 20)])
def test_training_sample_is_no_larger_than_asked(n, most):
    assert len(training_of(*table(n)).sample(most)) <= most


@pytest.mark.parametrize(("n", "most"), [(21, 10), (51, 50)])
def test_training_sample_is_about_as_large_as_asked_when_rows_are_few(n, most):
    assert len(training_of(*table(n)).sample(most)) >= 0.8 * most


def test_training_sample_has_the_spread_of_all_targets():
    X, Y = table(400)
    some = Y[training_of(X, Y).sample(100), 0]
    ranks = np.searchsorted(np.sort(Y[:, 0]), some) / 400
    # Drawn evenly: their ranks are nearer to uniform than those of 100 independent draws (0.14).
    gap = np.abs(np.sort(ranks) - (np.arange(len(some)) + 0.5) / len(some)).max()
    assert gap < 0.06


def test_training_sample_ignores_the_order_of_rows():
    X, Y = table(200)
    order = np.random.default_rng(2).permutation(200)
    some = training_of(X, Y).sample(60)
    other = order[training_of(X[order], Y[order]).sample(60)]
    np.testing.assert_array_equal(np.sort(other), some)


# --- parts ---------------------------------------------------------------------------------------


def test_training_part_is_a_table_of_its_own():
    X, Y = table(20)
    X, Y = np.vstack([X[:5], X]), np.vstack([Y[:5], Y])  # copies
    index = np.array([0, 3, 4, 11, 19])
    whole = training_of(X, Y)
    part = whole.part(index)
    np.testing.assert_array_equal(part.rows, X[whole.first[index]])
    np.testing.assert_array_equal(part.Y, whole.Y[index])
    np.testing.assert_array_equal(part.weights, [2.0, 2.0, 2.0, 1.0, 1.0])
    for name in ("first", "group"):
        np.testing.assert_array_equal(getattr(part, name), np.arange(5))
    np.testing.assert_array_equal(part.share, np.ones(5))


def test_training_part_has_the_gram_matrix_of_its_rows():
    X, Y = table(12)
    whole, index = training_of(np.vstack([X, X]), np.vstack([Y, Y])), np.array([7, 2, 9])
    K = whole.gram(NTK(depth=1))
    # Kernel calls of other shapes may round differently.
    np.testing.assert_allclose(whole.part(index).gram(NTK(depth=1)), K[index][:, index], rtol=1e-12)


@pytest.mark.parametrize("weights", [None, "repeats", "real"])
def test_training_part_leaves_out_what_the_whole_does(weights):
    X, Y = table(12)
    w = {"repeats": np.arange(12) % 3 + 1.0, "real": np.linspace(0.3, 2.0, 12)}.get(weights)
    whole, index = training_of(X, np.sign(Y), w, np.ones(12)), np.array([1, 4, 5, 10])
    found, every = whole.part(index).left_out(), whole.left_out()
    if weights == "repeats":
        np.testing.assert_array_equal(found, every[index])
    else:
        assert found is None
        assert every is None


def test_training_parts_cover_the_table():
    X, Y = table(50)
    whole = training_of(X, Y, np.linspace(0.5, 2.0, 50))
    dealt = whole.deal(3)
    parts = [whole.part(np.flatnonzero(dealt == k)) for k in range(3)]
    assert sum(len(part.first) for part in parts) == 50
    assert sum(part.copies.sum() for part in parts) == pytest.approx(whole.copies.sum(), rel=1e-12)
    np.testing.assert_array_equal(np.unique(np.vstack([p.rows for p in parts]), axis=0),
                                  np.unique(X, axis=0))  # fmt: skip
