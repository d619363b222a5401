"""What bandits know, against one dense matrix of all rounds."""

import copy
import pickle

import numpy as np
import pytest
from sklearn.gaussian_process.kernels import RBF

from sknk.bandits import NTKUCB, bandit_target
from sknk.bandits._history import History
from sknk.kernels import NNGP, NTK, EmpiricalNTK, Normalized
from tests.bandits.naive import KERNEL, S2, disjoint, joint, log, posterior, sampling, ucb
from tests.cases import ANY_WIDTH

OF = {"joint": joint, "disjoint": disjoint}
CLOSE = {"rtol": 1e-9, "atol": 1e-10}


def check(policy, X, arm, reward, n_arms=3, of=joint, kernel=KERNEL, noise=S2, Q=None):
    Q = log(7, X.shape[1], seed=5)[0] if Q is None else Q
    mean, std = policy.predict_reward(Q, return_std=True)
    wanted, covariance, gain = posterior(of, X, arm, reward, Q, n_arms, kernel, noise)
    np.testing.assert_allclose(mean, wanted, **CLOSE)
    np.testing.assert_allclose(std**2, np.diagonal(covariance, axis1=1, axis2=2), **CLOSE)
    assert policy.information_gain_ == pytest.approx(gain, abs=1e-9)


@pytest.mark.parametrize("encoding", ["joint", "disjoint"])
@pytest.mark.parametrize("block", [1, 3, 40])
def test_learning_in_blocks_is_solving_at_once(encoding, block):
    X, arm, reward = log()
    policy = ucb(encoding=encoding, actions=range(3), random_state=0).initialize(X.shape[1])
    for start in range(0, len(X), block):
        rows = slice(start, start + block)
        policy.predict(X[rows])  # a look at one row is used by what learns it
        policy.partial_fit(X[rows], bandit_target(arm[rows], reward[rows]))
    check(policy, X, arm, reward, of=OF[encoding])
    fitted = ucb(encoding=encoding).fit(X, bandit_target(arm, reward))
    Q = log(7, seed=6)[0]
    np.testing.assert_allclose(policy.predict_reward(Q), fitted.predict_reward(Q), **CLOSE)


@pytest.mark.parametrize(
    "kernel",
    [
        NTK(depth=1),
        NTK(depth=1, bias_var=0.3),  # no product of norms: one factor for all
        Normalized(NTK(depth=2, bias_var=0.1)),
        NNGP(depth=2, bias_var=0.2, activation="erf"),
        NTK(activation="erf"),  # orthogonal rows are independent
    ],
    ids=str,
)
@pytest.mark.parametrize("d", [1, 4])
def test_joint_arms_are_explicit_blocks(kernel, d):
    X, arm, reward = log(d=d, unit=False)
    policy = ucb(kernel).fit(X, bandit_target(arm, reward))
    check(policy, X, arm, reward, kernel=kernel, Q=log(7, d, seed=5, unit=False)[0])
    for row in range(3):  # and row by row
        policy.partial_fit(X[row : row + 1], bandit_target(arm[row : row + 1], [2.0]))
    more = [np.concatenate([a, b]) for a, b in ((X, X[:3]), (arm, arm[:3]), (reward, [2.0] * 3))]
    check(policy, *more, kernel=kernel, Q=log(7, d, seed=5, unit=False)[0])


def test_one_factor_for_all_equals_one_for_each_arm(monkeypatch):
    from sknk.bandits._encodings import Orthogonal

    X, arm, reward = log()
    y, Q = bandit_target(arm, reward), log(7, seed=5)[0]
    each = sampling(random_state=0).fit(X, y)
    monkeypatch.setattr(Orthogonal, "is_product", lambda self: False)
    whole = sampling(random_state=0).fit(X, y)
    assert type(whole._belief) is not type(each._belief)
    for one, other in ((each, whole),):
        found, wanted = one.predict_reward(Q, return_std=True), other.predict_reward(Q, True)
        np.testing.assert_allclose(found, wanted, **CLOSE)
        np.testing.assert_allclose(one.decision_function(Q), other.decision_function(Q), rtol=1e-6)
    assert each.information_gain_ == pytest.approx(whole.information_gain_, abs=1e-10)


def test_radial_kernels_see_distances_between_blocks():
    X, arm, reward = log(unit=False)
    policy = ucb(RBF(1.5)).fit(X, bandit_target(arm, reward))
    # Explicit blocks, not scaled: an RBF does not divide by the number of columns.
    Q = log(7, seed=5)[0]
    unscaled = lambda k, X, a, Y, b, n: joint(  # noqa: E731
        k, X / np.sqrt(n), a, Y / np.sqrt(n), b, n
    )
    check(policy, X, arm, reward, of=unscaled, kernel=RBF(1.5), Q=Q)


@pytest.mark.parametrize(
    "kernel", [NTK(input_scale=[1.0, 2.0, 0.5, 1.0]), EmpiricalNTK(ANY_WIDTH)], ids=["ard", "net"]
)
def test_kernels_that_turn_with_rows_have_no_joint_encoding(kernel):
    X, arm, reward = log()
    y = bandit_target(arm, reward)
    with pytest.raises(ValueError, match="changes when rows are rotated"):
        ucb(kernel).fit(X, y)
    policy = ucb(kernel, encoding="disjoint").fit(X, y)
    check(policy, X, arm, reward, of=disjoint, kernel=kernel)


def test_one_row_does_not_hide_that_a_kernel_turns():
    X, arm, reward = log(5)
    kernel = RBF([1.0, 1.0, 1.0, 10.0])
    with pytest.raises(ValueError, match="changes when rows are rotated"):
        ucb(kernel, actions=range(3)).fit(X[:1], bandit_target(arm[:1], reward[:1]))


def test_features_of_arms_follow_contexts():
    X, arm, reward = log()
    Z = np.random.default_rng(1).normal(size=(3, 2))

    def of(kernel, X, arm, Y, other, n_arms):
        return kernel(np.hstack([X, Z[arm]]), np.hstack([Y, Z[other]]))

    policy = ucb(NTK(), encoding="features", arm_features=Z).fit(X, bandit_target(arm, reward))
    check(policy, X, arm, reward, of=of, kernel=NTK())


def test_columns_are_features_of_arms_in_this_round():
    n, d, arms = 30, 2, 3
    rng = np.random.default_rng(0)
    X, arm, reward = rng.normal(size=(n, d * arms)), rng.integers(arms, size=n), rng.normal(size=n)

    def of(kernel, X, arm, Y, other, n_arms):
        def block(X, arm):
            return X.reshape(len(X), n_arms, d)[np.arange(len(X)), arm]

        return kernel(block(X, arm), block(Y, other))

    policy = ucb(NTK(), encoding="columns").fit(X, bandit_target(arm, reward))
    check(policy, X, arm, reward, of=of, kernel=NTK(), Q=rng.normal(size=(5, d * arms)))
    with pytest.raises(ValueError, match="expected a multiple"):
        ucb(encoding="columns").fit(X[:, :5], bandit_target(arm, reward))


# --- what fades, what repeats, what is to come ----------------------------------------------------


@pytest.mark.parametrize("encoding", ["joint", "disjoint"])
@pytest.mark.parametrize("block", [1, 4])
def test_a_window_keeps_the_last_rounds(encoding, block):
    X, arm, reward = log()
    policy = ucb(encoding=encoding, memory=10, actions=range(3)).initialize(X.shape[1])
    for start in range(0, len(X), block):
        rows = slice(start, start + block)
        policy.partial_fit(X[rows], bandit_target(arm[rows], reward[rows]))
        assert policy._known.n_rows == min(10, start + block)
    check(policy, X[-10:], arm[-10:], reward[-10:], of=OF[encoding])
    assert policy.n_rounds_ == 40


def test_a_window_of_one_factor_for_all():
    X, arm, reward = log()
    kernel = NTK(depth=1, bias_var=0.3)
    policy = ucb(kernel, memory=8, actions=range(3)).initialize(X.shape[1])
    for row in range(len(X)):
        policy.partial_fit(X[row : row + 1], bandit_target(arm[row : row + 1], [reward[row]]))
    check(policy, X[-8:], arm[-8:], reward[-8:], kernel=kernel)


def test_old_rounds_fade_by_a_power_of_their_age():
    X, arm, reward = log()
    policy = ucb(memory=0.9, actions=range(3)).initialize(X.shape[1])
    for row in range(len(X)):
        policy.partial_fit(X[row : row + 1], bandit_target(arm[row : row + 1], [reward[row]]))
    age = np.arange(len(X))[::-1]
    check(policy, X, arm, reward, noise=S2 / 0.9**age)
    fitted = ucb(memory=0.9).fit(X, bandit_target(arm, reward))
    Q = log(7, seed=6)[0]
    np.testing.assert_allclose(policy.predict_reward(Q), fitted.predict_reward(Q), **CLOSE)


@pytest.mark.parametrize("block", [1, 6, 60])
def test_equal_rounds_are_one_row_of_less_noise(block):
    X, arm, _ = log(6)
    many = np.random.default_rng(0).integers(6, size=60)
    X, arm = X[many], arm[many]
    reward = np.random.default_rng(1).normal(size=60)
    policy = ucb(actions=range(3)).initialize(X.shape[1])
    for start in range(0, 60, block):
        rows = slice(start, start + block)
        policy.partial_fit(X[rows], bandit_target(arm[rows], reward[rows]))
    check(policy, X, arm, reward)  # the dense matrix has a row for each
    assert policy._known.n_rows <= 2 * len(np.unique(many))
    assert policy.n_rounds_ == 60


def test_pending_rounds_lower_variances_and_leave_means():
    X, arm, reward = log()
    y, Q = bandit_target(arm, reward), log(7, seed=5)[0]
    policy = ucb(actions=range(3)).fit(X[:30], y[:30])
    mean, std = policy.predict_reward(Q, return_std=True)
    policy.add_pending(X[30:36], arm[30:36])
    then, less = policy.predict_reward(Q, return_std=True)
    np.testing.assert_allclose(then, mean, **CLOSE)
    _, covariance, _ = posterior(joint, X[:36], arm[:36], reward[:36], Q, 3)
    np.testing.assert_allclose(less**2, np.diagonal(covariance, axis1=1, axis2=2), **CLOSE)
    assert (less < std).all()
    # Rounds come in another order, others between them.
    order = [35, 31, 38, 30, 39, 33]
    policy.partial_fit(X[order], y[order])
    assert len(policy._pending) == 2
    policy.partial_fit(X[[32, 34]], y[[32, 34]])
    rows = [*range(30), *order, 32, 34]
    check(policy, X[rows], arm[rows], reward[rows])


def test_normalized_rewards_move_and_stretch_with_them():
    X, arm, reward = log()
    Q = log(7, seed=5)[0]
    one = ucb(normalize_reward=True).fit(X, bandit_target(arm, reward))
    other = ucb(normalize_reward=True).fit(X, bandit_target(arm, 50.0 + 7.0 * reward))
    np.testing.assert_allclose(
        other.decision_function(Q), 50.0 + 7.0 * one.decision_function(Q), rtol=1e-9
    )
    mean, _, _ = posterior(joint, X, arm, (reward - reward.mean()) / reward.std(), Q, 3)
    np.testing.assert_allclose(one.predict_reward(Q), reward.mean() + reward.std() * mean, **CLOSE)


def test_equal_rewards_have_no_units_of_their_own():
    X, arm, _ = log()
    Q = log(7, seed=5)[0]
    policy = ucb(normalize_reward=True).fit(X, bandit_target(arm, np.full(40, 0.3)))  # not a float
    mean, std = policy.predict_reward(Q, return_std=True)
    np.testing.assert_allclose(mean, 0.3, rtol=1e-12)
    np.testing.assert_array_equal(
        std, ucb().fit(X, bandit_target(arm, arm)).predict_reward(Q, True)[1]
    )


@pytest.mark.parametrize("memory", [60, 0.95])
def test_what_is_forgotten_sets_no_units(memory):
    rng = np.random.default_rng(0)
    X = log(400, seed=1)[0]
    reward = np.where(np.arange(400) < 200, 100.0, 0.0) + 0.1 * rng.normal(size=400)
    y = bandit_target(rng.integers(2, size=400), reward)
    mean, std = ucb(normalize_reward=True, memory=memory).fit(X, y).predict_reward(X[-5:], True)
    assert np.abs(mean).max() < 1.0
    assert std.max() < 2.0


def test_widths_of_theory_are_in_units_of_rewards():
    X, arm, reward = log()
    Q = log(7, seed=5)[0]
    found = []
    for scale in (1.0, 100.0):
        policy = ucb(
            beta="theory", normalize_reward=True, norm_bound=2.0 * scale, noise_scale=0.3 * scale
        ).fit(X, bandit_target(arm, scale * reward))
        found.append((policy.decision_function(Q) - policy.predict_reward(Q)) / scale)
    np.testing.assert_allclose(found[0], found[1], rtol=1e-9)


def test_announced_rounds_are_answered_by_the_context_that_was_stored():
    X, arm, reward = log(30)
    policy = ucb(actions=range(3)).fit(X[:20], bandit_target(arm[:20], reward[:20]))
    policy.add_pending(X[20:], arm[20:])
    assert policy.n_pending_ == 10
    policy.partial_fit(X[20:25].astype(np.float32), bandit_target(arm[20:25], reward[20:25]))
    assert policy.n_pending_ == 5
    policy.partial_fit(X[:5], bandit_target(arm[:5], reward[:5]))  # others answer nothing
    assert policy.n_pending_ == 5
    near = np.array([[1e8, 0, 0, 0], [1e8 + 1, 0, 0, 0]])  # float32 cannot tell them apart
    policy.add_pending(near, [0, 0]).partial_fit(near[1:], bandit_target([0], [1.0]))
    assert policy._pending[-1][0][0] == 1e8


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [3, 7, 20])
def test_rounding_of_equal_rewards_is_no_unit(dtype, n):
    X, arm, _ = log(n)
    policy = NTKUCB(dtype=dtype).fit(X, bandit_target(arm, np.full(n, 0.1)))
    assert policy._units == (pytest.approx(0.1), 1.0)


def test_a_round_that_failed_is_not_remembered(monkeypatch):
    X, arm, reward = log(40)
    policy = ucb(actions=range(3)).fit(X[:5], bandit_target(arm[:5], reward[:5]))
    twin = copy.copy(policy)
    with monkeypatch.context() as patch:
        patch.setattr(History, "grown", None)  # not callable
        with pytest.raises(TypeError):
            policy.partial_fit(X[10:], bandit_target(arm[10:], reward[10:]))
    calls = []
    monkeypatch.setattr(History, "law", lambda *_: calls.append(1))
    for one in (policy, twin):  # both go on from the same rounds
        for row in [*range(5, 10), *range(10, 40)]:
            one.partial_fit(X[[row]], bandit_target(arm[[row]], reward[[row]]))
        assert one._history._n_distinct == 40
    assert not calls  # nothing was merged, as nothing came twice


def test_joint_kernels_without_bounds_are_tried_on_rows_they_can_bear():
    kernel = NTK(depth=2, bias_var=0.0, activation="exp")
    X, arm, reward = log(d=20)
    policy = NTKUCB(kernel, actions=range(3)).initialize(20)
    assert np.isfinite(policy.partial_fit(X, bandit_target(arm, reward)).predict_reward(X)).all()


@pytest.mark.parametrize("n", [255, 256, 800])
def test_a_pickled_law_of_many_rounds_is_the_same_to_the_last_bit(n):
    X, arm, reward = log(n + 20, d=5)
    whole = NTKUCB(actions=range(3), random_state=0).fit(X[:n], bandit_target(arm[:n], reward[:n]))
    again = pickle.loads(pickle.dumps(whole))
    for row in range(n, n + 20):
        for policy in (whole, again):
            policy.predict(X[[row]])
            policy.partial_fit(X[[row]], bandit_target(arm[[row]], reward[[row]]))
        np.testing.assert_array_equal(
            again.decision_function(X[[row - 1]]), whole.decision_function(X[[row - 1]])
        )
