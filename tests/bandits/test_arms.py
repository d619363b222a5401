"""Arms by their labels, and targets that name them: tables, words, removals, bad input."""

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

from sknk.bandits import NTKUCB, bandit_target
from tests.bandits.naive import log

X, ARM, REWARD = log()
Y = bandit_target(ARM, REWARD)


def test_words_of_a_table_are_labels_like_others():
    pandas = pytest.importorskip("pandas")
    words = np.array(["a", "b", "cc"])[ARM]
    for action in (words.astype(object), pandas.Series(words), pandas.Series(words, dtype=object)):
        policy = NTKUCB(random_state=0).fit(X, bandit_target(action, REWARD))
        policy.remove_arm("a").add_arm("a").add_arm("dddd")
        assert policy.arms_.tolist() == ["b", "cc", "a", "dddd"]
        assert set(policy.predict(X, available=["dddd"])) == {"dddd"}
        policy.partial_fit(X, bandit_target(action, REWARD))
        assert policy.n_rounds_ == 80


def test_tables_are_read_by_their_columns():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"reward": REWARD, "propensity": 0.5, "action": ARM})
    policy = NTKUCB(random_state=0).fit(X, frame)
    np.testing.assert_array_equal(
        policy.predict_reward(X), NTKUCB(random_state=0).fit(X, Y).predict_reward(X)
    )
    for names in ({"action": "arm"}, {"reward": "r"}, {"propensity": "p"}):
        with pytest.raises(ValueError, match=r"`y` has columns .*; expected 'action' and 'reward'"):
            policy.fit(X, frame.rename(columns=names))


def test_masks_of_tables_are_masks():
    policy = NTKUCB(actions=[0, 1, 2], random_state=0).fit(X, Y)
    row = np.array([True, False, False], dtype=object)
    assert set(policy.predict(X, available=row)) == {0}


def test_labels_are_the_same_by_every_route():
    pandas = pytest.importorskip("pandas")
    ids = pandas.Series([2**53, 2**53 + 1] * 20, dtype="Int64")  # no floats hold them apart
    frame = pandas.DataFrame({"action": ids, "reward": REWARD})
    for y in (frame, bandit_target(ids, REWARD)):
        assert NTKUCB().fit(X, y).arms_.tolist() == [2**53, 2**53 + 1]


def test_rewards_alone_are_those_of_a_single_arm():
    one = NTKUCB(actions=["a"], random_state=0).fit(X, REWARD)
    assert one.predict(X[:1]) == ["a"]
    assert one.partial_fit(X, REWARD).n_rounds_ == 80
    for policy in (NTKUCB(actions=["a", "b"]), NTKUCB(actions=[0, 1])):
        with pytest.raises(
            ValueError, match="`y` is 1-D, rewards of a single arm, and there are 2"
        ):
            policy.fit(X, REWARD)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (([1, None], [1.0, 2.0]), "action of row 1 is missing"),
        (([1.0, np.nan], [1.0, 2.0]), "action of row 1 is missing"),
        ((["a", None], [1.0, 2.0]), "action of row 1 is missing"),
        ((["a", 1], [1.0, 2.0]), "`action` has words and numbers"),
        ((np.array(["a", 1], dtype=object), [1.0, 2.0]), "`action` has words and numbers"),
        (("a", 1.0), r"`action` has shape \(\); expected one of each round"),
        (([1, 2], [[1.0, 2.0]]), r"`reward` has shape \(1, 2\)"),
        (([1, 2], [1.0, 2.0], [0.5]), "inconsistent numbers of samples"),
        (([1, 2], [1.0, 2.0], "half"), "`propensity` is no array of numbers"),
    ],
)
def test_bad_targets_are_named(target, message):
    with pytest.raises(ValueError, match=message):
        bandit_target(*target)


@pytest.mark.parametrize(
    ("available", "message"),
    [
        ("b", r"`available` has shape \(\); expected a list of labels"),
        ([["b"], ["a", "c"]], "`available` has rows of several lengths"),
        (np.ones((2, 3), dtype=int), r"`available` has shape \(2, 3\)"),
        (["b", "x"], r"`available` has arm 'x', which is unknown; expected some of \['b', 'c'\]"),
        (["b", "a"], "`available` has arm 'a', which was removed"),
    ],
)
def test_bad_offers_are_named(available, message):
    policy = NTKUCB(actions=["a", "b", "c"], random_state=0).initialize(4).remove_arm("a")
    with pytest.raises(ValueError, match=message):
        policy.predict(X[:2], available=available)


def test_arms_of_columns_come_back_but_no_new_ones():
    policy = NTKUCB(encoding="columns", actions=[0, 1, 2], random_state=0).initialize(6)
    wide = np.random.default_rng(0).normal(size=(5, 6))
    before = policy.predict_reward(wide)
    assert policy.remove_arm(1).add_arm(1).arms_.tolist() == [0, 2, 1]
    np.testing.assert_array_equal(policy.predict_reward(wide), before[:, [0, 2, 1]])
    with pytest.raises(ValueError, match="one block for every arm"):
        policy.add_arm(3)
    assert policy.arms_.tolist() == [0, 2, 1]


def test_features_of_arms_are_taken_or_refused():
    with pytest.raises(ValueError, match="`features` is given where `encoding` is 'joint'"):
        NTKUCB(actions=[0]).initialize(4).add_arm(1, features=[1.0])
    policy = NTKUCB(encoding="features", arm_features=np.eye(3), random_state=0).fit(X, Y)
    before = policy.predict_reward(X)
    with pytest.raises(
        ValueError, match=r"`features` of arm 2 are \[0, 1, 1\]; expected \[0. 0. 1.\]"
    ):
        policy.remove_arm(2).add_arm(2, [0, 1, 1])
    for old in (None, [0, 0, 1]):
        np.testing.assert_array_equal(policy.add_arm(2, old).predict_reward(X), before)
        policy.remove_arm(2)
    with pytest.raises(ValueError, match="`features` has 2 numbers; expected 3"):
        policy.add_arm(3, [0, 1])


def test_ranks_are_of_scores_or_of_means_among_available_arms():
    policy = NTKUCB(random_state=0).fit(X, Y)
    Q = log(20, seed=5)[0]
    np.testing.assert_array_equal(
        policy.rank(Q), np.argsort(-policy.decision_function(Q), axis=1, kind="stable")
    )
    np.testing.assert_array_equal(
        policy.rank(Q, exploit=True), np.argsort(-policy.predict_reward(Q), axis=1, kind="stable")
    )
    assert (policy.rank(Q) != policy.rank(Q, exploit=True)).any()
    assert policy.rank(Q, available=[0, 2]).shape == (20, 2)
    for k in (3, 0, 1.0):
        with pytest.raises(ValueError, match=f"`k` is {k}; expected a whole number, 1 to 2"):
            policy.rank(Q, k, available=[0, 2])


def test_what_has_not_begun_says_how_to_begin():
    with pytest.raises(NotFittedError, match="`fit` with logged rounds, or `initialize`"):
        NTKUCB(actions=[0, 1]).predict(X)
