"""Search for the best row of a pool."""

import pickle

import numpy as np
import pytest
from sklearn.utils import estimator_checks as checks

from sknk.bandits import PoolOptimizer
from sknk.kernels import NTK
from tests.cases import rows

X = rows(80, d=3)
KERNEL = NTK(depth=1, bias_var=0.2)
S2 = 0.01


def value(X):
    return 5.0 + 3.0 * np.exp(-((X - 0.3) ** 2).sum(1))


def naive(told, values):
    """Return mean and deviation of the pool by one dense solve."""
    K = KERNEL(X)
    centre, scale = values.mean(), values.std()
    C = K[told][:, told] + S2 * np.eye(len(told))
    mean = centre + K[:, told] @ np.linalg.solve(C, values - centre)
    variance = np.diagonal(K) - np.sum(K[:, told] * np.linalg.solve(C, K[told]).T, axis=1)
    return mean, scale * np.sqrt(variance)


def test_what_is_believed_of_the_pool_is_one_dense_solve():
    search = PoolOptimizer(KERNEL, random_state=0).fit(X)
    told = np.array([3, 9, 3, 40, 7])
    values = value(X[told]) + np.array([0.1, 0.0, -0.1, 0.0, 0.0])
    search.tell(told[:2], values[:2]).tell(told[2:], values[2:])
    found, wanted = search.predict_pool(return_std=True), naive(told, values)
    np.testing.assert_allclose(found[0], wanted[0], rtol=1e-9)
    np.testing.assert_allclose(found[1], wanted[1], rtol=1e-7, atol=1e-9)
    assert search.best_index_ in (told[values.argmax()],)
    assert search.best_value_ == values.max()
    whole = np.full(80, np.nan)
    whole[told] = value(X[told])
    once = PoolOptimizer(KERNEL).fit(X, whole)
    np.testing.assert_array_equal(once.told_, [3, 7, 9, 40])


def test_rows_are_asked_for_by_their_bound():
    search = PoolOptimizer(KERNEL, beta=1.5, random_state=0).fit(X)
    told = np.array([3, 9, 40, 7])
    search.tell(told, value(X[told]))
    mean, std = search.predict_pool(return_std=True)
    bound = mean + 1.5 * std
    bound[told] = -np.inf
    assert search.ask() == [bound.argmax()]
    assert search.asked_ == [bound.argmax()]


def test_batches_know_what_is_on_its_way():
    search = PoolOptimizer(KERNEL, beta=1.5, random_state=0).fit(X)
    told = np.array([3, 9, 40, 7])
    search.tell(told, value(X[told]))
    mean, _ = search.predict_pool(return_std=True)
    by_hand, known = [], told
    scale = value(X[told]).std()
    K = KERNEL(X)
    for _ in range(3):
        C = K[known][:, known] + S2 * np.eye(len(known))
        variance = np.diagonal(K) - np.sum(K[:, known] * np.linalg.solve(C, K[known]).T, axis=1)
        bound = mean + 1.5 * scale * np.sqrt(variance.clip(min=0))
        bound[known] = -np.inf
        by_hand.append(int(bound.argmax()))
        known = np.append(known, by_hand[-1])
    first = search.ask(2)
    np.testing.assert_array_equal([*first, *search.ask(1)], by_hand)
    np.testing.assert_allclose(search.predict_pool(), mean)  # nothing came
    search.tell(by_hand[1], value(X[by_hand[1:2]]))
    np.testing.assert_array_equal(search.asked_, [by_hand[0], by_hand[2]])


@pytest.mark.parametrize("options", [{}, {"strategy": "thompson"}])
def test_the_best_row_is_found_by_few_values(options):
    search = PoolOptimizer(random_state=0, n_candidates=50, **options).fit(X)
    for _ in range(8):
        asked = search.ask(3)
        assert len(set(asked)) == 3
        search.tell(asked, value(X[asked]))
    assert search.best_value_ == value(X).max()
    assert len(set(search.told_)) == 24


def test_bounds_of_theory_explore_more():
    asked = {}
    for beta in (1.0, "gp-ucb"):
        search = PoolOptimizer(KERNEL, beta=beta, random_state=0).fit(X)
        search.tell([3, 9], value(X[[3, 9]]))
        asked[beta] = search.predict_pool(return_std=True)[1][search.ask()]
    assert asked["gp-ucb"] > asked[1.0]


def test_values_in_other_units_ask_for_the_same_rows():
    asked = []
    for a, b in ((1.0, 0.0), (100.0, -3e3)):
        search = PoolOptimizer(random_state=0).fit(X)
        for _ in range(6):
            row = search.ask(2)
            search.tell(row, b + a * value(X[row]))
        asked.append(search.told_)
    np.testing.assert_array_equal(*asked)


def test_equal_values_have_no_units_of_their_own():
    found = []
    for equal in (0.1, 0.5):  # three times 0.1 differ from their mean by rounding
        search = PoolOptimizer(random_state=0).fit(X).tell([0, 1, 2], [equal] * 3)
        found.append(search.predict_pool(return_std=True)[1])
    np.testing.assert_allclose(*found)


@pytest.mark.parametrize("strategy", ["ucb", "thompson"])
def test_ties_are_broken_at_random(strategy):
    asked = {
        PoolOptimizer(strategy=strategy, beta=0.0, random_state=seed).fit(X).ask()[0]
        for seed in range(8)
    }
    assert len(asked) > 4


def test_a_pickled_search_goes_on_bit_for_bit():
    def go_on(search, n):
        for _ in range(n):
            row = search.ask(2)
            search.tell(row, value(X[row]))
        return search

    for strategy in ("ucb", "thompson"):
        whole = go_on(PoolOptimizer(strategy=strategy, random_state=0).fit(X), 8)
        half = go_on(PoolOptimizer(strategy=strategy, random_state=0).fit(X), 4)
        again = go_on(pickle.loads(pickle.dumps(half)), 4)
        np.testing.assert_array_equal(whole.told_, again.told_)
        np.testing.assert_array_equal(whole.predict_pool(), again.predict_pool())


def test_noisy_rows_are_asked_for_again_if_wanted():
    few = X[:4]
    search = PoolOptimizer(replace=True, noise_variance=1.0, random_state=0).fit(few)
    for _ in range(6):
        row = search.ask(2)
        search.tell(row, value(few[row]))
    assert len(search.told_) == 12
    once = PoolOptimizer(random_state=0).fit(few)
    once.tell([0, 1], value(few[:2]))
    for n in (3, 0, 1.0):
        with pytest.raises(ValueError, match=f"`n` is {n}; .* 2 rows are left"):
            once.ask(n)
    assert not len(once.asked_)
    assert len(search.ask(5)) == 5  # with replacement rows do not run out


def test_bad_values_are_refused():
    search = PoolOptimizer().fit(X)
    with pytest.raises(ValueError, match="No value was told"):
        _ = search.best_index_
    with pytest.raises(ValueError, match=r"`indices` has row 80"):
        search.tell([80], [1.0])
    with pytest.raises(ValueError, match="value of row 3 is nan; expected a finite one"):
        search.tell([0, 3], [1.0, np.nan])
    with pytest.raises(ValueError, match=r"`y` has shape \(2,\); expected \(1,\)"):
        search.tell([0], [1.0, 2.0])
    with pytest.raises(ValueError, match="`y` has 3 values; expected 80"):
        PoolOptimizer().fit(X, [1.0, 2.0, 3.0])
    assert not len(search.told_)


@checks.parametrize_with_checks([PoolOptimizer(), PoolOptimizer(strategy="thompson")])
def test_optimizer_passes_sklearn_check(estimator, check):
    check(estimator)


def test_optimizer_passes_sklearn_check_for_parameters():
    checks.check_param_validation("PoolOptimizer", PoolOptimizer())


@pytest.mark.gpu
def test_optimizer_on_gpu_agrees_with_cpu(cuda):
    here = PoolOptimizer(random_state=0).fit(X)
    there = PoolOptimizer(random_state=0, device=str(cuda)).fit(X)
    for _ in range(4):
        row = here.ask(2)
        np.testing.assert_array_equal(there.ask(2), row)
        here.tell(row, value(X[row]))
        there.tell(row, value(X[row]))
    np.testing.assert_allclose(there.predict_pool(), here.predict_pool(), rtol=1e-8)
