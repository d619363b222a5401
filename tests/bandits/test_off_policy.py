"""Estimates from logged rounds, against what is known, and scorers."""

from functools import partial

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestRegressor
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV, TimeSeriesSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler, normalize

from sknk.bandits import (
    NTKUCB,
    NTKEpsilonGreedy,
    NTKThompsonSampling,
    bandit_target,
    cross_fitted_rewards,
    make_ope_scorer,
    make_regret_scorer,
    make_replay_scorer,
    partial_fit_pipeline,
    policy_value,
    progressive_replay,
)
from sknk.kernels import NTK, Normalized

ESTIMATORS = ["ips", "snips", "dm", "dr", "sndr", "switch", "dros"]


def log(n=300, seed=0, uniform=True):
    """Contexts, a log, its table of expected rewards, and a policy's probabilities."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 3))
    table = 1 / (1 + np.exp(-X))  # of three arms
    p = np.full((n, 3), 1 / 3) if uniform else rng.dirichlet([2, 2, 2], size=n)
    arm = np.array([rng.choice(3, p=row) for row in p])
    reward = table[np.arange(n), arm] + 0.1 * rng.normal(size=n)
    share = np.exp(3 * X) / np.exp(3 * X).sum(1, keepdims=True)
    return X, bandit_target(arm, reward, p[np.arange(n), arm]), table, share


def test_estimators_are_their_formulas():
    X, y, table, share = log(40, uniform=False)
    arm, r, q = y["action"], y["reward"], table + 0.05
    w = share[np.arange(40), arm] / y["propensity"]
    direct, rest = (share * q).sum(1), r - q[np.arange(40), arm]
    limit = 1.5
    wanted = {
        "ips": np.mean(np.minimum(w, limit) * r),
        "snips": np.sum(np.minimum(w, limit) * r) / np.minimum(w, limit).sum(),
        "dm": direct.mean(),
        "dr": np.mean(direct + np.minimum(w, limit) * rest),
        "sndr": direct.mean() + np.sum(w * rest) / w.sum(),
        "switch": np.mean(direct + w * (w <= limit) * rest),
        "dros": np.mean(direct + limit**2 * w / (w**2 + limit**2) * rest),
    }
    for name, value in wanted.items():
        found = policy_value(share, X, y, estimator=name, limit=limit, q=q)
        assert found.value == pytest.approx(value, rel=1e-12), name
        assert found.n_matched == 40
        assert found.n_effective == pytest.approx(w.sum() ** 2 / (w**2).sum())
    # Without a limit all corrections are the whole one.
    whole = policy_value(share, X, y, estimator="dr", q=q).value
    for name in ("switch", "dros"):
        assert policy_value(share, X, y, estimator=name, q=q).value == pytest.approx(whole)


@pytest.mark.parametrize("estimator", ["ips", "snips", "dr", "sndr"])
@pytest.mark.parametrize("uniform", [True, False])
def test_intervals_cover_the_value(estimator, uniform):
    covered, n_times = 0, 120
    for seed in range(n_times):
        X, y, table, share = log(200, seed, uniform)
        truth = 0.5  # expected rewards of three alike arms, none of them favoured
        truth = (share * table).sum(1).mean()
        found = policy_value(share, X, y, estimator=estimator, q=np.full((200, 3), 0.5))
        assert found.std_error > 0
        covered += found.interval[0] <= truth <= found.interval[1]
    assert covered >= 0.9 * n_times


def test_errors_of_the_doubly_robust_are_smaller_with_a_good_model():
    X, y, table, share = log()
    plain = policy_value(share, X, y, estimator="ips")
    robust = policy_value(share, X, y, estimator="dr", q=table)
    assert robust.std_error < 0.6 * plain.std_error
    fitted = policy_value(share, X, y, estimator="dr")  # NTKRidgeCV, crosswise
    truth = (share * table).sum(1).mean()
    assert fitted.interval[0] <= truth <= fitted.interval[1]
    assert fitted.std_error < plain.std_error


def test_estimates_of_digits_hold_the_value_of_full_information():
    X, label = load_digits(return_X_y=True)
    X, rng = normalize(X), np.random.default_rng(0)
    arm = rng.integers(10, size=len(X))
    y = bandit_target(arm, (arm == label).astype(float), 0.1)
    policy = NTKUCB(random_state=0).fit(X[:900], y[:900])
    greedy = policy.predict(X[900:], exploit=True)
    truth = (greedy == label[900:]).mean()
    share = (greedy[:, None] == policy.arms_).astype(float)
    forest = RandomForestRegressor(20, random_state=0)
    for name in ("ips", "snips", "dr"):
        found = policy_value(share, X[900:], y[900:], estimator=name, q=forest, confidence=0.999)
        assert found.interval[0] <= truth <= found.interval[1], name
    assert policy.score(X[900:], y[900:]) == pytest.approx(
        policy_value(share, X[900:], y[900:]).value
    )


def test_models_are_fitted_to_other_rounds():
    X, y, table, _ = log(200)
    q = cross_fitted_rewards(X, y, model=LinearRegression())
    assert q.shape == (200, 3)
    swapped = y.copy()
    swapped["reward"][0] += 100.0
    again = cross_fitted_rewards(X, swapped, model=LinearRegression())
    same = np.isclose(q, again).all(axis=1)
    assert same[0]  # a round's own reward is not in its model
    assert same.sum() == 40  # nor in that of its fold
    assert np.abs(cross_fitted_rewards(X, y) - table).mean() < 0.1


def test_labels_of_arms_are_any():
    X, y, _, share = log(60)
    names = np.array(["c", "a", "b"])
    named = bandit_target(names[y["action"]], y["reward"], y["propensity"])
    order = np.argsort(names)
    one = policy_value(share, X, y, estimator="dr", q=np.zeros((60, 3)))
    other = policy_value(share[:, order], X, named, estimator="dr", q=np.zeros((60, 3)))
    assert one.value == pytest.approx(other.value)


def test_bad_logs_are_refused():
    X, y, _, share = log(20)
    with pytest.raises(ValueError, match="`estimator` is 'best'"):
        policy_value(share, X, y, estimator="best")
    with pytest.raises(ValueError, match="`limit` is 0"):
        policy_value(share, X, y, limit=0)
    with pytest.raises(ValueError, match="probabilities of shape"):
        policy_value(share[:, :2], X, y)
    with pytest.raises(ValueError, match="`q` has shape"):
        policy_value(share, X, y, estimator="dm", q=np.zeros((20, 2)))
    policy = NTKUCB(actions=[0, 1]).fit(X[y["action"] < 2], y[y["action"] < 2])
    with pytest.raises(ValueError, match="which the policy does not know"):
        policy_value(policy, X, y)


def test_no_match_has_no_value():
    X, y, _, _ = log(20)
    never = np.zeros((20, 3))
    never[np.arange(20), (y["action"] + 1) % 3] = 1.0
    found = policy_value(never, X, y)
    assert np.isnan(found.value)
    assert (found.n_matched, found.n_effective) == (0, 0.0)
    assert np.isnan(policy_value(never, X, y, estimator="ips").interval).all()


def test_columns_are_named_where_the_log_lacks_an_arm():
    X, y, _, share = log(60)
    two = y["action"] < 2
    whole = policy_value(share[two], X[two], y[two], arms=[0, 1, 2])
    assert np.isfinite(whole.value)
    with pytest.raises(ValueError, match="no probabilities"):
        policy_value(2 * share, X, y)


def test_tables_of_pandas_keep_their_names():
    pandas = pytest.importorskip("pandas")
    X, y, _, _ = log(60)
    frame = pandas.DataFrame(X, columns=["a", "b", "c"])
    told = pandas.DataFrame({"reward": y["reward"], "action": y["action"]})
    policy = NTKUCB(random_state=0).fit(frame, told)
    np.testing.assert_array_equal(policy.arms_, [0, 1, 2])
    assert progressive_replay(policy, frame, y).n_matched > 0  # and no warning of names
    pipe = make_pipeline(NTKUCB()).fit(frame, y)
    assert partial_fit_pipeline(pipe, frame, y)[-1].n_rounds_ == 120
    assert policy_value(pipe, frame, y).n_matched > 0
    draws = NTKThompsonSampling(random_state=0).fit(frame, y)
    assert draws.select_set(frame, 2).shape == (60, 2)
    assert draws.predict_proba(frame).shape == (60, 3)
    assert draws.rank(frame).shape == (60, 3)


# --- replay --------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 8])
def test_replay_learns_from_rounds_that_match(batch_size):
    X, y, _, _ = log(120)
    policy = NTKUCB(random_state=0).fit(X[:20], y[:20])
    found = progressive_replay(policy, X[20:], y[20:], batch_size=batch_size)
    assert policy.n_rounds_ == 20  # it was a copy
    by_hand, earned = NTKUCB(random_state=0).fit(X[:20], y[:20]), []
    for start in range(20, 120, batch_size):
        rows = np.arange(start, min(start + batch_size, 120))
        match = rows[by_hand.predict(X[rows]) == y["action"][rows]]
        earned.extend(y["reward"][match])
        if len(match):
            by_hand.partial_fit(X[match], y[match])
    assert found.value == pytest.approx(np.mean(earned))
    assert found.n_matched == len(earned)
    assert found.interval[0] < found.value < found.interval[1]


def test_replay_corrects_unequal_propensities():
    # Every arm pays by its context; the log plays the better arm more often.
    found, truth = [], []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(200, 1))
        p = np.where(x[:, 0] > 0, 0.8, 0.2)
        arm = (rng.random(200) < p).astype(int)
        y = bandit_target(arm, x[:, 0] * arm, np.where(arm == 1, p, 1 - p))
        policy = NTKEpsilonGreedy(NTK(depth=1), epsilon=1.0, random_state=seed).fit(x, y)
        found.append(progressive_replay(policy, x, y, batch_size=50, random_state=seed).value)
        truth.append(np.mean(x[:, 0]) / 2)  # of arms at random
    assert np.mean(found) - np.mean(truth) == pytest.approx(0.0, abs=4 * np.std(found) / 40**0.5)
    assert np.mean(x[:, 0] * arm) > 0.2  # what was logged is far above


def test_replay_without_a_match_is_nan():
    X, y, _, _ = log(20)
    one = NTKUCB(actions=[0, 1, 2, 3], normalize_reward=False)
    only = one.fit(X, bandit_target(np.full(20, 3), np.full(20, 50.0)))
    found = progressive_replay(only, X[:5], y[:5])
    assert np.isnan(found.value)
    assert found.n_matched == 0


def test_scorers_choose_in_grid_searches():
    X, y, _, _ = log(90)
    kernel = Normalized(NTK(depth=1, bias_var=0.0))
    pipe = make_pipeline(Normalizer(), NTKUCB(kernel, actions=range(3), random_state=0))
    depth = {"ntkucb__kernel__kernel__depth": [1, 2]}
    search = GridSearchCV(pipe, depth, cv=3, scoring=make_ope_scorer("ips")).fit(X, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    grid = {"ntkucb__beta": [0.0, 1.0]}
    folds = TimeSeriesSplit(3)
    search = GridSearchCV(pipe, grid, cv=folds, scoring=make_replay_scorer()).fit(X, y)
    assert np.ptp(search.cv_results_["mean_test_score"]) > 0  # it sees exploration
    blind = GridSearchCV(pipe, grid, cv=folds).fit(X, y)
    assert np.ptp(blind.cv_results_["mean_test_score"]) == 0  # the estimator's own does not
    classes = np.digitize(X[:, 0], [-0.5, 0.5])
    pipe.set_params(ntkucb__actions=None)  # classes are no rewards of several arms
    search = GridSearchCV(pipe, grid, cv=2, scoring=make_regret_scorer(30)).fit(X, classes)
    assert (search.cv_results_["mean_test_score"] < 0).all()
    assert (search.cv_results_["mean_test_score"] > -1).all()
    alone = make_ope_scorer()(NTKUCB().fit(X, y), X, y)
    assert np.isfinite(alone)


def test_pipelines_are_taught_behind_their_transformers():
    X, y, _, _ = log(40)
    pipe = make_pipeline(Normalizer(), NTKUCB()).fit(X[:30], y[:30])
    partial_fit_pipeline(pipe, X[30:], y[30:])
    whole = make_pipeline(Normalizer(), NTKUCB()).fit(X, y)
    np.testing.assert_allclose(
        pipe[-1].predict_reward(normalize(X)), whole[-1].predict_reward(normalize(X)), atol=1e-10
    )
    bare = NTKUCB().fit(X[:30], y[:30])
    assert partial_fit_pipeline(bare, X[30:], y[30:]) is bare
    assert bare.n_rounds_ == 40


def test_the_default_model_does_not_shrink_small_logs_to_nothing():
    for seed in range(3):
        X, y, table, share = log(120, seed)
        y["reward"] += 2.0  # rewards are not centred
        found = policy_value(share, X, y, estimator="dm")
        assert abs(found.value - (share * (table + 2.0)).sum(1).mean()) < 0.1


def test_rounds_of_arms_that_were_removed_weigh_nothing():
    X, y, _, _ = log(90)
    policy = NTKUCB(random_state=0).fit(X, y).remove_arm(2)
    share = np.hstack([policy.predict_proba(X), np.zeros((90, 1))])
    for name in ESTIMATORS:
        wanted = policy_value(share, X, y, estimator=name, arms=[0, 1, 2])
        assert policy_value(policy, X, y, estimator=name) == wanted
    of_offered = policy_value(policy, X, y, estimator="dr", q=np.ones((90, 2)))
    assert of_offered == policy_value(share, X, y, estimator="dr", q=np.ones((90, 3)))
    with pytest.raises(ValueError, match=r"`q` has shape \(90, 3\); .* columns \[0, 1\]"):
        policy_value(policy, X, y, estimator="dr", q=np.ones((90, 3)))
    greedy = NTKUCB(beta=0.0, random_state=0).fit(X, y).remove_arm(2)
    assert greedy.score(X, y) == pytest.approx(policy_value(greedy, X, y).value)
    with pytest.raises(ValueError, match="plays arm 2, which the policy does not know"):
        policy_value(NTKUCB(actions=[0, 1]).initialize(3), X, y)


def test_the_direct_method_needs_no_round_that_matches():
    X, y, table, _ = log(30)
    other = (y["action"][:, None] + 1) % 3 == np.arange(3)
    found = policy_value(other.astype(float), X, y, estimator="dm", q=table)
    assert found.n_matched == 0
    assert np.isfinite(found.interval).all()
    assert np.isnan(policy_value(other.astype(float), X, y).value)


def test_replay_reads_tables_by_their_names():
    pandas = pytest.importorskip("pandas")
    X, y, _, _ = log(60)
    columns = ["reward", "propensity", "action"]  # in no order that matters
    frame = pandas.DataFrame({name: y[name] for name in columns})
    policy = NTKUCB(actions=range(3), random_state=0).initialize(3)
    whole = progressive_replay(policy, X, y, random_state=0)
    assert progressive_replay(policy, X, frame, random_state=0) == whole
    assert whole.n_matched > 5


def test_what_can_be_neither_judged_nor_taught_is_named():
    X, y, _, _ = log(30)
    with pytest.raises(NotFittedError, match="`initialize` without any"):
        policy_value(NTKUCB(), X, y)
    with pytest.raises(ValueError, match="ndarray that holds no numbers"):
        policy_value(np.full(30, "left"), X, y)
    with pytest.raises(ValueError, match="`estimator` is 'snip'"):
        make_ope_scorer("snip")
    with pytest.raises(ValueError, match=r"Row . plays arm 2, which is not in `arms`"):
        cross_fitted_rewards(X, y, arms=[0, 1])
    scaler = make_pipeline(StandardScaler()).fit(X)
    with pytest.raises(ValueError, match="expected a bandit"):
        partial_fit_pipeline(scaler, X, y)
    assert scaler[-1].n_samples_seen_ == 30


def test_rewards_alone_are_of_the_single_arm_everywhere():
    X, y, _, _ = log(30)
    reward = y["reward"]
    one = NTKUCB(actions=["a"], random_state=0).fit(X, reward)
    assert one.score(X, reward) == pytest.approx(reward.mean())
    assert policy_value(one, X, reward).value == pytest.approx(reward.mean())
    assert progressive_replay(one, X, reward).n_matched == 30
    several = NTKUCB(actions=[0, 1], random_state=0).initialize(3)
    for judge in (
        several.score,
        *(partial(f, several) for f in (policy_value, progressive_replay)),
    ):
        with pytest.raises(ValueError, match="`y` is 1-D, rewards of a single arm"):
            judge(X, reward)
