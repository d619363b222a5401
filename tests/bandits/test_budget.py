"""Long horizons on a dictionary of pairs."""

import numpy as np
import pytest

from sknk import config_context
from sknk.bandits import (
    NTKUCB,
    NTKThompsonSampling,
    bandit_target,
    classification_problem,
    simulate,
)
from sknk.kernels import NTK
from tests.bandits.naive import S2, log, ucb

OPTIONS = [
    {},
    {"encoding": "disjoint"},
    {"kernel": NTK(depth=1, bias_var=0.2)},
    {"encoding": "features", "arm_features": np.eye(3)},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("block", [1, 40])
def test_a_budget_of_all_rounds_is_exact(options, block):
    X, arm, reward = log()
    y, Q = bandit_target(arm, reward), log(7, seed=5)[0]
    exact = NTKUCB(**options).fit(X, y)
    policy = NTKUCB(budget=39, random_state=0, actions=range(3), **options).initialize(4)
    for start in range(0, 40, block):
        rows = slice(start, start + block)
        policy.predict(X[rows])
        policy.partial_fit(X[rows], y[rows])
        if start < 39 and block == 1:
            assert policy._known.n_rows == start + 1
    # The fortieth is one more than the dictionary holds; only that is no longer exact.
    mean, std = policy.predict_reward(Q, True)
    true_mean, true_std = exact.predict_reward(Q, True)
    assert np.corrcoef(mean.ravel(), true_mean.ravel())[0, 1] > 0.95
    assert (std > 0.99 * true_std).all()
    whole = NTKUCB(budget=39, **options).fit(X[:39], y[:39])
    np.testing.assert_array_equal(
        whole.predict_reward(Q), NTKUCB(**options).fit(X[:39], y[:39]).predict_reward(Q)
    )


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_dictionary_of_all_pairs_is_exact(options, monkeypatch):
    import sknk.bandits._budget as module

    X, arm, reward = log()
    y, Q = bandit_target(arm, reward), log(7, seed=5)[0]
    exact = NTKThompsonSampling(random_state=0, **options).fit(X, y)
    policy = NTKThompsonSampling(budget=40, random_state=0, **options).fit(X, y)
    law = policy._known
    monkeypatch.setattr(module.BudgetBelief, "n_rows", property(lambda self: 40))
    policy._known = module.replace(law, now=law._rebuilt())
    assert type(policy._belief.now) is module._DictionaryBelief
    close = {"rtol": 1e-8, "atol": 1e-9}
    np.testing.assert_allclose(
        policy.predict_reward(Q, True), exact.predict_reward(Q, True), **close
    )
    look, wanted = (p._belief.look(p._tensors(Q, np.zeros(7, int))[0]) for p in (policy, exact))
    np.testing.assert_allclose(look.covariance(), wanted.covariance(), **close)
    assert policy.information_gain_ == pytest.approx(exact.information_gain_, rel=1e-8)


def test_dictionaries_are_drawn_as_rounds_come_and_never_starve():
    X, arm, reward = log(200)
    y, Q = bandit_target(arm, reward), log(30, seed=5)[0]
    policy = ucb(budget=60, random_state=0, actions=range(3)).initialize(4)
    built = []
    for row in range(200):
        policy.partial_fit(X[row : row + 1], y[row : row + 1])
        built.append(policy._known.built)
    drawn = np.unique(built)
    assert drawn[0] == 0
    assert drawn[1] == 61
    assert (drawn[2:] <= np.ceil(1.25 * drawn[1:-1])).all()
    assert 60 <= policy._known.now.n_rows <= 75
    mean, std = policy.predict_reward(Q, True)
    exact = ucb().fit(X, y)
    true_mean, true_std = exact.predict_reward(Q, True)
    assert (std > 0.99 * true_std).all()
    assert (np.abs(mean - true_mean) < 2 * std).mean() > 0.95  # errors are those it admits
    again = ucb(budget=60, random_state=0, actions=range(3)).initialize(4)
    for row in range(200):
        again.partial_fit(X[row : row + 1], y[row : row + 1])
    np.testing.assert_array_equal(again.predict_reward(Q), policy.predict_reward(Q))


def test_budgets_take_pending_rounds_and_new_arms():
    X, arm, reward = log(60)
    y, Q = bandit_target(arm, reward), log(7, seed=5)[0]
    policy = ucb(budget=20, random_state=0, encoding="disjoint").fit(X, y)
    mean, std = policy.predict_reward(Q, True)
    policy.add_pending(Q, [0] * 7)
    then, less = policy.predict_reward(Q, True)
    np.testing.assert_allclose(then, mean, atol=1e-9)
    assert (less[:, 0] < std[:, 0]).all()
    policy.partial_fit(Q, bandit_target([0] * 7, [1.0] * 7))
    assert not policy._pending
    policy.add_arm(9)
    np.testing.assert_allclose(policy.predict_reward(Q, True)[1][:, 3], 1.0)


def test_budget_and_memory_exclude_each_other():
    X, arm, reward = log()
    with pytest.raises(ValueError, match="`budget` is 5 and `memory` 7"):
        NTKUCB(budget=5, memory=7).fit(X, bandit_target(arm, reward))


def test_a_budget_costs_little_regret():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 5))
    y = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0.5)
    rounds = classification_problem(X, y, random_state=0)
    policies = {"exact": NTKUCB(), "budget": NTKUCB(budget=100)}
    found = simulate(policies, rounds, random_state=0).final()
    assert found["budget"] <= 1.6 * found["exact"]


def plays_of_a_bad_arm(policy, n, add=None):
    """Count how often an arm that pays least is played."""
    rng, bad = np.random.default_rng(1), 0
    if add is not None:
        policy.add_arm(add)
    for x in log(n, seed=7)[0]:
        arm = policy.predict(x[None])
        worst = arm[0] == (1 if add is None else add)
        policy.partial_fit(
            x[None], bandit_target(arm, [-1.0 if worst else 0.8 + 0.1 * rng.normal()])
        )
        bad += worst
    return bad


def test_arms_outside_the_dictionary_are_learned_of_at_once():
    rng = np.random.default_rng(0)
    X = log(800, seed=2)[0]
    many = bandit_target(np.zeros(800, int), 0.8 + 0.1 * rng.normal(size=800))
    new = NTKUCB(actions=[0, 1], budget=50, random_state=0).fit(X, many)
    assert plays_of_a_bad_arm(new, 60, add=2) <= 20
    arm = np.where(np.arange(800) % 100 == 0, 1, 0)  # rare in the log, and bad
    rare = bandit_target(arm, np.where(arm == 1, -1.0, 0.8 + 0.1 * rng.normal(size=800)))
    assert plays_of_a_bad_arm(NTKUCB(budget=50, random_state=0).fit(X, rare), 60) <= 10


def test_pending_rounds_draw_no_dictionary():
    X, arm, reward = log(60)
    y = bandit_target(arm, reward)
    for n in (18, 40):
        policy = NTKUCB(budget=20, random_state=0, actions=range(3)).fit(X[:n], y[:n])
        Q = log(7, seed=5)[0]
        mean, std = policy.predict_reward(Q, True)
        policy.add_pending(X[n : n + 15], arm[n : n + 15])
        then, less = policy.predict_reward(Q, True)
        np.testing.assert_allclose(then, mean, atol=1e-9)
        assert (less <= std + 1e-12).all()
        assert policy._belief.built == policy._known.built


def test_pairs_that_come_again_and_again_stay_known():
    rng = np.random.default_rng(0)
    C, f = log(5, seed=1)[0], rng.normal(size=(5, 3))
    exact, policy = (
        ucb(actions=range(3), budget=budget, random_state=0).initialize(4) for budget in (None, 15)
    )
    for _ in range(150):  # all fifteen pairs fit the budget
        i, a = rng.integers(5), rng.integers(3)
        y = bandit_target([a], [f[i, a] + 0.1 * rng.normal()])
        for one in (exact, policy):
            one.partial_fit(C[[i]], y)
        np.testing.assert_allclose(
            policy.predict_reward(C, True), exact.predict_reward(C, True), atol=1e-9
        )


def test_a_pair_of_many_rounds_stays():
    # One pair was played three hundred times, forty others once: it is known best, and must stay.
    X, arm, reward = log(41)
    rows = np.r_[np.arange(1, 41), np.zeros(300, int)]
    y = bandit_target(arm[rows], reward[rows])
    kept = 0
    for seed in range(10):
        policy = ucb(budget=20, random_state=seed, actions=range(3)).initialize(4)
        for start in range(0, 340, 20):
            span = rows[start : start + 20]
            policy.partial_fit(X[span], y[start : start + 20])
        kept += policy.predict_reward(X[:1], return_std=True)[1][0, arm[0]] < 0.1
    assert kept >= 9


def test_announced_rounds_are_known_to_be_on_their_way():
    X, arm, reward = log(200, d=8)
    Q = log(3, d=8, seed=5)[0]
    policy = ucb(budget=20, random_state=0).fit(X, bandit_target(arm, reward))
    mean, before = policy.predict_reward(Q, True)
    then, std = policy.add_pending(Q, [1, 1, 1]).predict_reward(Q, True)
    np.testing.assert_allclose(then, mean, atol=1e-9)
    assert (before[:, 1] > 0.6).all()
    assert (std[:, 1] < np.sqrt(S2)).all()  # as after a round that was seen


def test_dictionaries_keep_their_size_whatever_comes_at_once():
    X, arm, reward = log(1300, d=30)
    policy = NTKUCB(budget=10, random_state=0, actions=range(10)).initialize(30)
    policy.partial_fit(X[:1000], bandit_target(arm[:1000], reward[:1000]))
    policy.partial_fit(X[1000:1240], bandit_target(arm[1000:1240], reward[1000:1240]))
    assert policy._known.now.n_rows <= 15
    assert policy.n_rounds_ == 1240


def test_dictionaries_that_fill_at_once_are_chosen_no_more_often():
    # Every pair is new, so all would join: a choice goes over all rounds, and must stay rare.
    X, arm, reward = log(400, d=60)
    y = bandit_target(arm, reward)
    policy, built = ucb(budget=20, random_state=0, actions=range(3)).initialize(60), []
    for row in range(400):
        policy.partial_fit(X[row : row + 1], y[row : row + 1])
        built.append(policy._known.built)
        assert policy._known.now.n_rows <= 25
    chosen = np.unique(built)[1:]
    assert (chosen[1:] >= 1.05 * chosen[:-1]).all()
    assert chosen[-1] > 380


def test_dictionaries_do_not_depend_on_how_rounds_came():
    rng = np.random.default_rng(0)
    angle = np.r_[rng.normal(0.0, 0.3, 300), rng.normal(np.pi, 0.3, 300)]
    X, reward = np.c_[np.cos(angle), np.sin(angle)], np.sin(3 * angle) + 0.1 * rng.normal(size=600)
    y = bandit_target(np.zeros(600, int), reward)
    whole = NTKUCB(actions=[0], budget=40, encoding="disjoint", random_state=0).fit(X, y)
    parts = NTKUCB(actions=[0], budget=40, encoding="disjoint", random_state=0).fit(
        X[:300], y[:300]
    )
    parts.partial_fit(X[300:], y[300:])  # does not crowd out what was there before
    np.testing.assert_array_equal(parts.predict_reward(X), whole.predict_reward(X))
    assert np.sqrt(np.mean((whole.predict_reward(X)[:, 0] - np.sin(3 * angle)) ** 2)) < 0.2


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_pairs_that_are_there_do_not_join_again(dtype):
    X, arm, reward = log(30)
    rows = np.r_[np.arange(30), np.random.default_rng(0).integers(30, size=25)]
    kernel = NTK(depth=1, bias_var=1.0)  # smooth: rows are near the span of others
    policy = ucb(kernel, actions=range(3), budget=40, dtype=dtype, random_state=0).initialize(4)
    for row in rows:
        policy.partial_fit(X[[row]], bandit_target(arm[[row]], reward[[row]]))
    assert policy._known.built > 40
    assert policy._known.now.n_rows == 30


def dictionary_of(reward, dtype="float64", budget=30):
    """Return angles in the dictionary of 400 rounds on a circle."""
    X, y = circle(), bandit_target(np.zeros(400, int), reward)
    with config_context(dtype=dtype):
        policy = NTKUCB(actions=[0], budget=budget, encoding="disjoint", random_state=0).fit(X, y)
    rows = policy._known.now.rows.rows.numpy()
    return np.arctan2(rows[:, 1], rows[:, 0])


def circle():
    angle = np.random.default_rng(0).uniform(-np.pi, np.pi, 400)
    return np.c_[np.cos(angle), np.sin(angle)]


def rough():
    """Return rewards that change where the second coordinate is positive."""
    x, z = circle().T
    noise = 0.02 * np.random.default_rng(1).normal(size=400)
    return np.where(z > 0, np.cos(12 * np.arctan2(z, x)), 1.0) + noise


def test_dictionaries_go_where_rewards_change():
    assert np.mean(dictionary_of(rough()) > 0) > 0.6
    flat = dictionary_of(np.random.default_rng(1).normal(size=400))
    assert 0.35 < np.mean(flat > 0) < 0.65


def test_dictionaries_are_those_of_rewards_in_other_units():
    found, same = dictionary_of(rough()), dictionary_of(3.0 - 50.0 * rough())
    np.testing.assert_array_equal(found, same)


@pytest.mark.parametrize("reward", [0.0, 0.7, -3e8])
def test_equal_rewards_leave_a_choice_by_rounds(reward):
    # What is missed of them is rounding, which must not choose.
    zero = dictionary_of(np.zeros(400))
    np.testing.assert_array_equal(dictionary_of(np.full(400, reward)), zero)


@pytest.mark.parametrize("d", [4, 60])
def test_dictionaries_are_the_same_in_float32(d):
    # In many columns rows are nearly orthogonal: what is left out of them is nearly equal.
    X, arm, reward = log(300, d=d)
    X = X.astype(np.float32)
    kept = []
    for dtype in ("float32", "float64"):
        with config_context(dtype=dtype):
            policy = NTKUCB(budget=40, random_state=0).fit(X, bandit_target(arm, reward))
            kept.append({tuple(row) for row in policy._known.now.rows.rows.double().tolist()})
    assert len(kept[0] & kept[1]) > 36
