"""What theory promises: bounds that cover, and regret that grows less than rounds do."""

import numpy as np
import pytest

from sknk.bandits import NTKUCB, bandit_target, simulate, synthetic_problem
from tests.bandits.naive import KERNEL, joint, log


def truth(rng, d=3, arms=2, n=15):
    """Return a function of contexts and arms, and its norm in the joint kernel's space."""
    X, arm, _ = log(n, d, arms, seed=int(rng.integers(1000)))
    weights = rng.normal(size=n)
    K = joint(KERNEL, X, arm, X, arm, arms)
    weights /= np.sqrt(weights @ K @ weights) / 2.0  # norm 2

    def f(Q):
        every = np.repeat(Q, arms, axis=0), np.tile(np.arange(arms), len(Q))
        return (joint(KERNEL, *every, X, arm, arms) @ weights).reshape(len(Q), arms)

    return f


@pytest.mark.parametrize("noise_variance", [0.05, 1.0])
def test_bounds_of_theory_cover_functions_of_known_norm(noise_variance):
    missed, tightest, n_runs = 0, np.inf, 10
    for seed in range(n_runs):
        rng = np.random.default_rng(seed)
        f = truth(rng)
        policy = NTKUCB(
            beta="theory",
            norm_bound=2.0,
            noise_scale=0.3,
            delta=0.1,
            noise_variance=noise_variance,
            actions=[0, 1],
            random_state=seed,
        ).initialize(3)
        covers = True
        for _ in range(25):
            X = log(6, 3, seed=int(rng.integers(10**6)))[0]
            mean, std = policy.predict_reward(X, return_std=True)
            gap = np.abs(f(X) - mean) / std
            covers &= bool((gap <= policy.beta_).all())
            tightest = min(tightest, policy.beta_ / gap.max())
            arm = policy.predict(X[:1])
            reward = f(X[:1])[0, arm[0]] + 0.3 * rng.normal()
            policy.partial_fit(X[:1], bandit_target(arm, [reward]))
        missed += not covers
    assert missed <= 0.1 * n_runs
    assert tightest < 20  # and the bound is no bound of anything


@pytest.mark.parametrize("function", ["h1", "h2"])
def test_regret_grows_less_than_rounds(function):
    def problem(seed):
        return synthetic_problem(function, n_rounds=500, n_features=5, random_state=seed)

    played = simulate(NTKUCB(beta=0.5), problem, random_state=0)
    assert played.slope()["policy"] <= 0.8
