"""Networks that are trained as rounds come, and widths of their gradients."""

import numpy as np
import pytest
import torch
from torch import nn

from sknk.bandits import NeuralTS, NeuralUCB, bandit_target, simulate, synthetic_problem
from sknk.kernels import EmpiricalNTK
from sknk.networks import PowerMLP
from sknk.networks._gradients import output_gradients
from tests.bandits.naive import log, ucb

S2 = 0.1


def small(n_inputs, n_outputs, power=2):
    return PowerMLP(n_inputs, n_outputs, hidden=(8,), power=power)


def played(n=30, **options):
    X, arm, reward = log(n)
    options = {"max_epochs": 5, "random_state": 0, "normalize_reward": False, **options}
    policy = NeuralUCB(small, actions=range(3), **options).initialize(4)
    for row in range(n):
        policy.predict(X[row : row + 1])
        policy.partial_fit(X[row : row + 1], bandit_target(arm[row : row + 1], [reward[row]]))
    return policy, X, arm, reward


def blocks(X, arm):
    wide = np.zeros((len(X), 3, X.shape[1]))
    wide[np.arange(len(X)), arm] = X
    return torch.from_numpy(wide.reshape(len(X), -1))


def gradients(module, X, arm):
    """Gradients by autograd, one row after another."""
    rows, found = blocks(X, arm), []
    learned = [p for p in module.parameters() if p.requires_grad]
    for row in rows:
        parts = torch.autograd.grad(module(row[None]).sum(), learned)
        found.append(torch.cat([g.flatten() for g in parts]))
    return torch.stack(found)


def test_rows_gradients_are_autograds():
    X, arm, _ = log(6)
    module = small(12, 1).double()
    found = output_gradients(module, blocks(X, arm))
    torch.testing.assert_close(found, gradients(module, X, arm), rtol=1e-12, atol=1e-12)
    K = EmpiricalNTK(module)(blocks(X, arm))
    torch.testing.assert_close(K, found @ found.mT, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("width", ["exact", "diagonal"])
@pytest.mark.parametrize("kind", ["current", "initial"])
def test_widths_are_the_formula_on_gradients(width, kind):
    policy, X, arm, _ = played(35, width=width, gradients=kind, retrain_every=10)
    module = policy.module_ if kind == "current" else policy._known.start
    Q = log(5, seed=5)[0]
    std = policy.predict_reward(Q, return_std=True)[1]
    then = gradients(module, X, arm)
    if width == "diagonal" or kind == "current":
        # Gradients of every round, those before the last training by the network after it.
        assert policy._known.built == 30
    for a in range(3):
        g = gradients(module, Q, np.full(5, a))
        if width == "exact":
            Z = S2 * torch.eye(g.shape[1]).double() + then.mT @ then
            wanted = S2 * (g * torch.linalg.solve(Z, g.mT).mT).sum(1)
        else:
            wanted = S2 * (g.square() / (S2 + then.square().sum(0))).sum(1)
        np.testing.assert_allclose(std[:, a] ** 2, wanted, rtol=1e-6)


def test_means_are_the_networks_outputs():
    policy, *_ = played(21, retrain_every=10)
    Q = log(5, seed=5)[0]
    mean = policy.predict_reward(Q)
    for a in range(3):
        out = policy.module_(blocks(Q, np.full(5, a)))[:, 0]
        np.testing.assert_allclose(mean[:, a], out.detach(), rtol=1e-12)
    bound = mean + policy.predict_reward(Q, return_std=True)[1]
    np.testing.assert_allclose(policy.decision_function(Q), bound)


@pytest.mark.parametrize("width", ["exact", "diagonal"])
def test_pending_rounds_train_no_network(width):
    policy, X, arm, _ = played(15, retrain_every=10, width=width)
    Q = log(5, seed=5)[0]
    mean, std = policy.predict_reward(Q, return_std=True)
    policy.add_pending(X, arm)
    then, less = policy.predict_reward(Q, return_std=True)
    np.testing.assert_array_equal(then, mean)
    assert (less < std).all()
    assert policy._belief.module is policy._known.module


def test_training_comes_in_batches_and_pulls_to_the_first_weights():
    policy, *_ = played(19, retrain_every=10)
    assert policy._known.built == 10
    X, arm, reward = log(40)
    y = bandit_target(arm, reward)
    far = {}
    for noise in (1e-3, 1e3):
        policy = NeuralUCB(small, noise_variance=noise, max_epochs=200, random_state=0).fit(X, y)
        start = policy._known.start.state_dict()
        now = policy.module_.state_dict()
        far[noise] = sum(float((now[k] - start[k]).square().sum()) for k in now)
    assert far[1e3] < 0.01 * far[1e-3]
    fit = NeuralUCB(small, noise_variance=1e-3, max_epochs=200, random_state=0).fit(X, y)
    found = fit.predict_reward(X)[np.arange(40), arm]
    assert np.corrcoef(found, reward)[0, 1] > 0.9


def test_a_wide_network_at_its_start_is_the_tangent_kernels_process():
    X, arm, reward = log(25)
    wide = NeuralUCB(
        lambda n, k: PowerMLP(n, k, hidden=(4000,)),
        gradients="initial",
        max_epochs=0,
        normalize_reward=False,
        random_state=0,
    ).fit(X, bandit_target(arm, reward))
    Q = log(5, seed=5)[0]
    assert np.abs(wide.predict_reward(Q)).max() < 1e-12  # untrained: it starts as zero
    from sknk.kernels import NTK

    # PowerMLP has no division in the first layer and one by the number of layers at the end.
    kernel = NTK(depth=1, normalize=False, weight_var=2.0)
    kernel = (1.0 / float(kernel(Q[:1] * 2.0)[0, 0])) * kernel
    exact = ucb(kernel).fit(2.0 * X, bandit_target(arm, reward))  # |2 x|^2 = d
    std = exact.predict_reward(2.0 * Q, return_std=True)[1]
    np.testing.assert_allclose(wide.predict_reward(Q, return_std=True)[1], std, rtol=0.1)


def test_draws_are_of_each_arm_by_itself():
    X, arm, reward = log(30)
    policy = NeuralTS(small, max_epochs=5, random_state=0).fit(X, bandit_target(arm, reward))
    Q = log(4, seed=5)[0]
    mean, std = policy.predict_reward(Q, return_std=True)
    look = policy._belief.look(policy._tensors(Q, np.zeros(4, int))[0])
    many = np.moveaxis(policy._drawn(look, np.random.RandomState(1), 3000).numpy(), 2, 0)
    np.testing.assert_allclose(many.mean(0), mean, atol=5 * std.max() / 3000**0.5)
    np.testing.assert_allclose(many.std(0), std, rtol=0.1)
    correlation = np.corrcoef(many[:, 0].T)
    assert np.abs(correlation - np.eye(3)).max() < 0.1
    share = policy.predict_proba(Q)
    np.testing.assert_allclose(share.sum(1), 1.0)
    assert policy.select_set(Q, 2).shape == (4, 2)


def test_features_and_columns_are_what_networks_see():
    X, arm, reward = log(25)
    y, Z = bandit_target(arm, reward), np.eye(3)
    policy = NeuralUCB(small, encoding="features", arm_features=Z, random_state=0, max_epochs=3)
    policy.fit(X, y).add_arm(3, features=[1.0, 1.0, 0.0])
    assert policy.predict_reward(X[:2]).shape == (2, 4)
    columns = NeuralUCB(small, encoding="columns", random_state=0, max_epochs=3)
    columns.fit(np.tile(X, 3), y)
    same = columns.predict_reward(np.tile(X[:2], 3))
    np.testing.assert_allclose(same, same[:, :1] @ np.ones((1, 3)))
    with pytest.raises(ValueError, match="no place for one more"):
        NeuralUCB(small, max_epochs=1).fit(X, y).add_arm(3)


def test_modules_of_users_are_copied():
    torch.manual_seed(0)
    mine = nn.Sequential(nn.Linear(12, 6), nn.Tanh(), nn.Linear(6, 1))
    before = {k: v.clone() for k, v in mine.state_dict().items()}
    X, arm, reward = log(25)
    policy = NeuralUCB(mine, learning_rate=0.01, max_epochs=5).fit(X, bandit_target(arm, reward))
    assert all(torch.equal(before[k], v) for k, v in mine.state_dict().items())
    assert not torch.equal(policy.module_[0].weight.float(), mine[0].weight)
    with pytest.raises(ValueError, match=r"outputs of shape \(1, 2\)"):
        NeuralUCB(nn.Linear(12, 2)).fit(X, bandit_target(arm, reward))


@pytest.mark.parametrize("power", [1, 2, 3])
def test_power_networks_start_as_zero_with_gradients_near_one(power):
    torch.manual_seed(0)
    net = PowerMLP(5, hidden=(2000,), power=power).double()
    X = torch.nn.functional.normalize(torch.randn(20, 5).double())
    assert net(X).abs().max() == 0
    K = EmpiricalNTK(net)(X)
    # Of one net they spread, the more the higher the power: rows share its hidden units.
    assert K.diagonal().mean() == pytest.approx(1.0, rel=0.15)
    with pytest.raises(ValueError, match="`power` is 0"):
        PowerMLP(3, power=0)


def test_networks_learn_what_kernels_do():
    rounds = synthetic_problem("h1", n_rounds=120, random_state=0)
    policies = {
        "ucb": NeuralUCB(beta=0.5, gradients="initial", retrain_every=30),
        "ts": NeuralTS(beta=0.2, gradients="initial", retrain_every=30),
    }
    found = simulate(policies, rounds, random_state=0).final()
    chance = (rounds.expected.max(1) - rounds.expected.mean(1)).sum()
    assert max(found.values()) < 0.8 * chance


@pytest.mark.parametrize("kind", [NeuralUCB, NeuralTS])
def test_networks_learn_rewards_of_any_unit(kind):
    X, arm, reward = log(40)
    Q, found = log(5, seed=5)[0], []
    for a, b in ((1.0, 0.0), (100.0, 1e3)):
        policy = kind(small, max_epochs=5, random_state=0)
        policy.fit(X, bandit_target(arm, a * reward + b))
        mean, std = policy.predict_reward(Q, return_std=True)
        found.append(((mean - b) / a, std / a, policy.predict(Q)))
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)
    raw = kind(small, max_epochs=5, normalize_reward=False, random_state=0)
    raw.fit(X, bandit_target(arm, 100.0 * reward + 1e3))
    assert (raw.predict_reward(Q) < 500).all()  # a few steps do not lead to a thousand


def test_untrained_networks_speak_in_units_of_rewards():
    torch.manual_seed(0)
    start, X = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 1)), log(15)[0]
    arm, reward = log(15)[1:]
    found = []
    for a, b in ((1.0, 0.0), (1e-3, 5.0)):
        policy = NeuralUCB(start, actions=range(3), random_state=0).initialize(4)
        policy.partial_fit(X, bandit_target(arm, a * reward + b))
        assert not policy._known.built
        found.append((policy.predict_reward(X) - b) / a)
    np.testing.assert_allclose(*found, rtol=1e-6, atol=1e-6)


def test_what_is_no_network_is_named():
    X, arm, reward = log()
    with pytest.raises(ValueError, match="`module` is 'mlp'; expected a torch module"):
        NeuralUCB("mlp").fit(X, bandit_target(arm, reward))
