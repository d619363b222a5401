"""From what is known to what is played."""

import copy
import pickle

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, Normalizer

from sknk.bandits import (
    NTKUCB,
    NTKEpsilonGreedy,
    NTKThompsonSampling,
    bandit_target,
    optimistic_draws,
)
from sknk.kernels import NTK, Normalized
from tests.bandits.naive import PLAIN, joint, log, posterior
from tests.cases import BANDITS

CLASSES = [NTKUCB, NTKThompsonSampling, NTKEpsilonGreedy]
NAMES = np.array(["no", "one", "two"])


def fitted(cls=NTKUCB, n=40, **options):
    X, arm, reward = log(n)
    return cls(random_state=0, **options).fit(X, bandit_target(NAMES[arm], reward))


def Q(n=7):
    return log(n, seed=5)[0]


# --- rules ---------------------------------------------------------------------------------------


def test_bounds_are_means_and_deviations():
    X, arm, reward = log()
    mean, covariance, _ = posterior(joint, X, arm, reward, Q(), 3)
    bound = mean + 0.7 * np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
    policy = fitted(beta=0.7, **PLAIN)
    np.testing.assert_allclose(policy.decision_function(Q()), bound, rtol=1e-9)
    np.testing.assert_array_equal(policy.predict(Q()), NAMES[bound.argmax(1)])
    np.testing.assert_array_equal(policy.predict(Q(), exploit=True), NAMES[mean.argmax(1)])
    np.testing.assert_array_equal(policy.predict_proba(Q()), np.eye(3)[bound.argmax(1)])
    np.testing.assert_array_equal(policy.rank(Q()), NAMES[np.argsort(-bound)])
    np.testing.assert_array_equal(policy.rank(Q(), 2), NAMES[np.argsort(-bound)[:, :2]])


def test_an_arm_nobody_played_has_its_prior():
    X, arm, reward = log()
    policy = NTKUCB(actions=range(4), encoding="disjoint", beta=2.0, normalize_reward=False)
    policy.fit(X, bandit_target(arm, reward))
    np.testing.assert_allclose(policy.decision_function(Q())[:, 3], 2.0)  # beta k(x, x)^1/2


@pytest.mark.parametrize("encoding", ["joint", "disjoint"])
def test_draws_have_the_posterior_law(encoding):
    policy = fitted(NTKThompsonSampling, encoding=encoding, beta=0.5, n=12, **PLAIN)
    X, one = log(1, seed=5)[0], policy._belief
    look = one.look(policy._tensors(X, np.zeros(1, int))[0])
    drawn = policy._drawn(look, np.random.RandomState(1), 20_000)[0].numpy()
    mean, std = policy.predict_reward(X, return_std=True)
    np.testing.assert_allclose(drawn.mean(1), mean[0], atol=5 * 0.5 * std.max() / 20_000**0.5)
    wanted = 0.25 * look.covariance()[0].numpy()
    np.testing.assert_allclose(np.cov(drawn), wanted, atol=0.04 * wanted.max())
    independent = fitted(NTKThompsonSampling, encoding=encoding, draws="independent", n=12, **PLAIN)
    drawn = independent._drawn(look, np.random.RandomState(1), 20_000)[0].numpy()
    assert np.abs(np.corrcoef(drawn) - np.eye(3)).max() < 0.03


def test_probabilities_of_draws_are_those_of_the_law():
    X, arm, reward = log()
    two = arm < 2
    policy = NTKThompsonSampling(beta=0.5).fit(X[two], bandit_target(arm[two], reward[two]))
    share = policy.predict_proba(Q())
    look = policy._belief.look(policy._tensors(Q(), np.zeros(7, int))[0])
    cov = 0.25 * look.covariance().numpy()
    gap = policy.predict_reward(Q()) @ [1, -1]
    wanted = norm.cdf(gap / np.sqrt(cov[:, 0, 0] + cov[:, 1, 1] - 2 * cov[:, 0, 1]))
    np.testing.assert_allclose(share[:, 0], wanted, atol=5 * 0.5 / 1000**0.5)
    np.testing.assert_allclose(share.sum(1), 1.0)
    np.testing.assert_array_equal(share, policy.predict_proba(Q()))


def test_chance_plays_every_arm_with_its_share():
    policy = fitted(NTKEpsilonGreedy, epsilon=0.3)
    share = policy.predict_proba(Q(1))[0]
    assert sorted(share) == pytest.approx([0.1, 0.1, 0.8])
    played = policy.predict(np.repeat(Q(1), 4000, axis=0))
    found = [(played == name).mean() for name in NAMES]
    np.testing.assert_allclose(found, share, atol=0.03)
    np.testing.assert_array_equal(policy.decision_function(Q()), policy.predict_reward(Q()))
    assert fitted(NTKEpsilonGreedy, epsilon=lambda t: 1 / t).epsilon_ == pytest.approx(1 / 41)


def test_factors_follow_their_formulas():
    ucb = fitted(beta="gp-ucb", delta=0.05)
    assert ucb.beta_ == pytest.approx(np.sqrt(2 * np.log(3 * 41**2 * np.pi**2 / 0.3)))
    ucb = fitted(beta="theory", norm_bound=2.0, noise_scale=0.3, delta=0.05, **PLAIN)
    spent = 2 * (ucb.information_gain_ + np.log(1 / 0.05))
    assert ucb.beta_ == pytest.approx(2.0 + 0.3 / np.sqrt(0.1) * np.sqrt(spent))
    seen = []
    policy = fitted(beta=lambda t, gain: seen.append((t, gain)) or 0.5)
    assert policy.beta_ == 0.5
    assert seen == [(41, policy.information_gain_)]
    with pytest.raises(ValueError, match=r"`beta` returned -1\.0 in round 41"):
        _ = fitted(beta=lambda t, gain: -1).beta_
    with pytest.raises(ValueError, match=r"`epsilon` returned 2\.0 in round 41"):
        _ = fitted(NTKEpsilonGreedy, epsilon=lambda t: 2).epsilon_


# --- sets ----------------------------------------------------------------------------------------


def test_sets_of_one_arm_are_single_arms():
    ucb = fitted()
    np.testing.assert_array_equal(ucb.select_set(Q(), 1)[:, 0], ucb.predict(Q()))
    one, other = fitted(NTKThompsonSampling), fitted(NTKThompsonSampling, optimism=1)
    np.testing.assert_array_equal(one.select_set(Q(), 1)[:, 0], other.predict(Q()))


def test_sets_are_the_largest_bounds_or_the_oracles():
    policy = fitted()
    bound = policy.decision_function(Q())
    top = policy.select_set(Q(), 2)
    np.testing.assert_array_equal(top, NAMES[np.argsort(-bound)[:, :2]])
    worst = policy.select_set(Q(), 2, oracle=lambda scores, k: np.argsort(scores)[:k])
    np.testing.assert_array_equal(worst, NAMES[np.argsort(bound)[:, :2]])
    only = policy.select_set(Q(), 2, available=["no", "two"])
    assert set(only.ravel()) == {"no", "two"}


@pytest.mark.parametrize("answer", [[0, 0], [0], [0, 3], [0.0, 1.0], [0, 1]])
def test_oracles_that_return_no_set_are_named(answer):
    available = ["no", "two"] if answer == [0, 1] else None
    with pytest.raises(ValueError, match="`oracle` returned"):
        fitted().select_set(Q(), 2, oracle=lambda scores, k: answer, available=available)


def test_optimistic_draws_are_the_largest_of_some():
    assert [optimistic_draws(k) for k in (1, 2, 4, 8)] == [1, 15, 28, 41]
    many = fitted(NTKThompsonSampling, beta=1.0, optimism=50, draws="independent")
    mean, std = many.predict_reward(Q(), return_std=True)
    found = np.mean([(many.decision_function(Q()) - mean) / std for _ in range(50)])
    assert found == pytest.approx(2.249, abs=0.1)  # the mean of the largest of 50 normals
    policy, k = fitted(NTKThompsonSampling), []
    policy._drawn = lambda look, rng, n: (
        k.append(n) or NTKThompsonSampling._drawn(policy, look, rng, n)
    )
    policy.select_set(Q(), 2)
    policy.predict(Q())
    assert k == [15, 1]


def test_all_arms_of_a_set_are_learned_from():
    policy = fitted(n=10, **PLAIN)
    x = Q(1)
    chosen = policy.select_set(x, 2)[0]
    policy.partial_fit(np.repeat(x, 2, axis=0), bandit_target(chosen, [0.3, 0.9]))
    X, arm, reward = log(10)
    codes = [int(np.flatnonzero(name == NAMES)[0]) for name in chosen]
    more = np.vstack([X, x, x]), np.append(arm, codes), np.append(reward, [0.3, 0.9])
    mean, _, _ = posterior(joint, *more, Q(), 3)
    np.testing.assert_allclose(policy.predict_reward(Q()), mean, rtol=1e-8, atol=1e-9)


# --- arms ----------------------------------------------------------------------------------------


def test_only_available_arms_are_played():
    for cls in CLASSES:
        policy = fitted(cls)
        assert set(policy.predict(Q(50), available=["one"])) == {"one"}
        mask = np.eye(3, dtype=bool)[np.arange(50) % 3]
        np.testing.assert_array_equal(policy.predict(Q(50), available=mask), NAMES[mask.argmax(1)])
        share = policy.predict_proba(Q(50), available=["no", "two"])
        np.testing.assert_array_equal(share[:, 1], 0.0)
        np.testing.assert_allclose(share.sum(1), 1.0)


def test_bad_sets_of_available_arms_are_refused():
    policy = fitted()
    for empty in ([], np.zeros((7, 3), dtype=bool)):
        with pytest.raises(ValueError, match="`available` is empty in row 0"):
            policy.predict(Q(), available=empty)
    with pytest.raises(ValueError, match="unknown"):
        policy.predict(Q(), available=["three"])
    with pytest.raises(ValueError, match="`available` has shape"):
        policy.predict(Q(), available=np.ones((2, 3), dtype=bool))
    with pytest.raises(ValueError, match="`k` is 3; expected a whole number, 1 to 2"):
        policy.rank(Q(), 3, available=["no", "two"])


@pytest.mark.parametrize("encoding", ["joint", "disjoint"])
def test_arms_come_and_go(encoding):
    policy, x = fitted(encoding=encoding), Q(1)
    before = policy.predict_reward(Q())
    policy.add_arm("three")
    np.testing.assert_array_equal(policy.arms_, [*NAMES, "three"])
    np.testing.assert_allclose(policy.predict_reward(Q())[:, :3], before)
    policy.partial_fit(x, bandit_target(["three"], [9.0]))
    assert policy.predict(x, exploit=True) == ["three"]
    policy.remove_arm("one")
    assert set(policy.predict(Q(50))) <= {"no", "two", "three"}
    np.testing.assert_array_equal(policy.arms_, ["no", "two", "three"])
    assert policy.predict(x, exploit=True) == ["three"]
    policy.partial_fit(x, bandit_target(["one"], [-1.0]))  # its rewards may be late
    assert policy.n_rounds_ == 42
    with pytest.raises(ValueError, match="which was removed"):
        policy.predict(x, available=["one"])
    with pytest.raises(ValueError, match="unknown"):
        policy.remove_arm("one")
    with pytest.raises(ValueError, match="there already"):
        policy.add_arm("two")
    known = policy.predict_reward(Q())
    policy.remove_arm("two").add_arm("two")  # what it taught is still known
    np.testing.assert_array_equal(policy.arms_, ["no", "three", "two"])
    np.testing.assert_array_equal(policy.predict_reward(Q()), known[:, [0, 2, 1]])
    policy.remove_arm("no").remove_arm("two")
    with pytest.raises(ValueError, match="is the last"):
        policy.remove_arm("three")
    assert policy.predict(x) == ["three"]


def test_labels_of_arms_are_of_one_kind():
    X, arm, reward = log()
    policy = NTKUCB().fit(X, bandit_target(arm, reward))
    for bad in ("new", 2.5, [3, 4]):
        with pytest.raises(ValueError, match="expected a label like"):
            policy.add_arm(bad)
    assert policy.predict(Q()).shape == (7,)
    with pytest.raises(ValueError, match="labels of one kind"):
        NTKUCB(actions=[1, "a"]).initialize(4)


def test_logged_arms_that_were_removed_score_nothing():
    policy, (X, arm, reward) = fitted(), log()
    policy.remove_arm("one")
    y = bandit_target(NAMES[arm], reward)
    greedy = policy.predict(X, exploit=True) == NAMES[arm]
    assert policy.score(X, y) == pytest.approx(reward[greedy].mean())


def test_an_arm_with_features_is_known_by_them():
    X, arm, reward = log()
    Z = np.eye(3)
    policy = NTKUCB(encoding="features", arm_features=Z).fit(X, bandit_target(arm, reward))
    policy.add_arm(3, features=Z[1])
    np.testing.assert_allclose(policy.predict_reward(Q())[:, 3], policy.predict_reward(Q())[:, 1])
    with pytest.raises(ValueError, match="`features` is None"):
        policy.add_arm(4)
    with pytest.raises(ValueError, match="`features` has 2 numbers; expected 3"):
        policy.add_arm(4, features=[1.0, 2.0])
    with pytest.raises(ValueError, match="`arm_features` has 2 rows"):
        NTKUCB(encoding="features", arm_features=Z[:2]).fit(X, bandit_target(arm, reward))
    with pytest.raises(ValueError, match="`arm_features` is None"):
        NTKUCB(encoding="features").fit(X, bandit_target(arm, reward))
    columns = NTKUCB(encoding="columns").fit(np.tile(X, 3), bandit_target(arm, reward))
    with pytest.raises(ValueError, match="one block for every arm"):
        columns.add_arm(3)


# --- starts, bad input, state --------------------------------------------------------------------


def test_a_cold_start_plays_arms_alike():
    for cls in CLASSES:
        policy = cls(actions=NAMES, random_state=0)
        with pytest.raises(NotFittedError):
            policy.predict(Q())
        policy.initialize(4)
        assert policy.n_rounds_ == 0
        assert policy.information_gain_ == 0
        if cls is NTKThompsonSampling:
            np.testing.assert_allclose(policy.predict_proba(Q()), 1 / 3, atol=0.08)
        else:
            np.testing.assert_allclose(policy.predict_proba(Q()), 1 / 3)
        played = policy.predict(np.repeat(Q(1), 3000, axis=0))
        np.testing.assert_allclose([(played == n).mean() for n in NAMES], 1 / 3, atol=0.05)
    with pytest.raises(ValueError, match="`actions` is None"):
        NTKUCB().initialize(4)


def test_bad_rounds_are_refused_and_nothing_is_lost():
    policy, (X, arm, reward) = fitted(), log()
    before = policy.decision_function(Q())
    y = bandit_target(NAMES[arm], reward)
    with pytest.raises(ValueError, match=r"row 1 is nan"):
        bandit_target([0, 1], [1.0, np.nan])
    for bad in (0.0, 1.5, np.nan):
        with pytest.raises(ValueError, match=r"propensity of row 1 is .*\(0, 1\]"):
            bandit_target([0, 1], [1.0, 0.0], [0.5, bad])
    with pytest.raises(ValueError, match=r"Row 0 plays arm .*three.*unknown"):
        policy.partial_fit(X[:1], bandit_target(["three"], [1.0]))
    with pytest.raises(ValueError, match="3 features"):
        policy.partial_fit(X[:, :3], y)
    with pytest.raises(ValueError, match="inconsistent numbers"):
        policy.partial_fit(X[:3], y[:2])
    broken = y.copy()
    broken["reward"][3] = np.inf
    with pytest.raises(ValueError, match="reward of row 3"):
        policy.partial_fit(X, broken)
    with pytest.raises(ValueError, match="columns a, b"):
        policy.fit(X, np.zeros(40, dtype=[("a", int), ("b", float)]))
    with pytest.raises(ValueError, match="unknown"):
        policy.add_pending(X[:1], ["three"])
    with pytest.raises(ValueError, match="different labels"):
        NTKUCB(actions=["a", "a"]).fit(X, y)
    with pytest.raises(ValueError, match="no array of numbers"):
        policy.fit(X, np.column_stack([NAMES[arm], reward.astype(str)]))
    np.testing.assert_array_equal(policy.decision_function(Q()), before)


def test_targets_as_columns_or_rewards_alone():
    X, arm, reward = log()
    one = NTKUCB().fit(X, bandit_target(arm, reward, 0.5))
    other = NTKUCB().fit(X, np.column_stack([arm, reward, np.full(40, 0.5)]))
    np.testing.assert_array_equal(other.arms_, [0, 1, 2])
    np.testing.assert_array_equal(one.predict_reward(Q()), other.predict_reward(Q()))
    assert NTKUCB().fit(X, reward).predict_reward(Q()).shape == (7, 1)


@pytest.mark.parametrize("policy", BANDITS, ids=lambda p: f"{type(p).__name__}-{p.encoding}")
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(policy):
    def go_on(policy, steps, resumed=False):
        for row in steps:
            x = X[row : row + 1]
            played = policy.predict(x)
            if row % 5 == 4:  # a reward that comes two rounds later
                policy.add_pending(x, played)
                policy.late_ = x, bandit_target(played, [table[row, played[0]]])
                continue
            if row % 5 == 1 and hasattr(policy, "late_"):
                policy.partial_fit(*policy.late_)
            if resumed and row % 7 == 0:  # also between a choice and its reward
                policy = pickle.loads(pickle.dumps(policy))
            policy.partial_fit(x, bandit_target(played, [table[row, played[0]]]))
        return policy

    rng = np.random.default_rng(0)
    X, table = rng.normal(size=(60, 6)), rng.random((60, 3))
    start = clone(policy).set_params(random_state=3).fit(X[:3], bandit_target(range(3), table[0]))
    whole = go_on(copy.deepcopy(start), range(60))
    again = go_on(go_on(copy.deepcopy(start), range(20)), range(20, 60), resumed=True)
    for one, other in zip(
        whole.predict_reward(X, True), again.predict_reward(X, True), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(whole.decision_function(X), again.decision_function(X))
    np.testing.assert_array_equal(whole.predict(X), again.predict(X))


def test_depth_is_chosen_by_a_grid_search_in_a_pipeline():
    X, arm, reward = log(60, unit=False)
    y = bandit_target(arm, reward, 1 / 3)
    kernel = Normalized(NTK(depth=1, bias_var=0.0))
    pipe = make_pipeline(Normalizer(), NTKUCB(kernel, actions=range(3)))
    search = GridSearchCV(pipe, {"ntkucb__kernel__kernel__depth": [1, 2]}, cv=3).fit(X, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.predict(X).shape == (60,)
    # The score is a weighted mean of rewards where the greedy arm was played.
    greedy = search.best_estimator_.predict(X, exploit=True) == arm
    assert search.score(X, y) == pytest.approx(reward[greedy].mean())
    plain = make_pipeline(FunctionTransformer(), NTKUCB()).fit(X, y)
    assert np.isfinite(plain.score(X, y))


def test_scores_weigh_by_propensities():
    X, arm, reward = log()
    p = np.random.default_rng(2).uniform(0.2, 0.6, size=40)
    policy = NTKUCB().fit(X, bandit_target(arm, reward))
    greedy = policy.predict(X, exploit=True) == arm
    wanted = np.sum(reward[greedy] / p[greedy]) / np.sum(1 / p[greedy])
    assert policy.score(X, bandit_target(arm, reward, p)) == pytest.approx(wanted)


@pytest.mark.gpu
@pytest.mark.parametrize("policy", BANDITS, ids=lambda p: f"{type(p).__name__}-{p.encoding}")
def test_bandit_on_gpu_agrees_with_cpu(policy, cuda):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(40, 6)), bandit_target(rng.integers(3, size=40), rng.random(40))
    there = clone(policy).set_params(device=str(cuda), random_state=0).fit(X, y)
    here = clone(policy).set_params(random_state=0).fit(X, y)
    for one in (here, there):
        one.partial_fit(X[:1], y[:1])
    found, wanted = there.predict_reward(X), here.predict_reward(X)
    np.testing.assert_allclose(found, wanted, rtol=1e-8, atol=1e-8)
