"""
Which button does this visitor want?
====================================

A visitor shows a handwritten digit, and a policy presses one of ten buttons. It is told whether
that was right, never what would have been. Pressing the button that did best so far leaves most of
the others untried; pressing at random earns little. A policy that knows how sure it is needs
neither.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

from sknk.bandits import (
    NTKUCB,
    NTKEpsilonGreedy,
    NTKThompsonSampling,
    bandit_target,
    classification_problem,
    policy_value,
    simulate,
)
from sknk.inspection import RegretDisplay

X, y = load_digits(return_X_y=True)


def problem(seed):
    """Return 300 visitors in an order of their own."""
    return classification_problem(X, y, n_rounds=300, random_state=seed)


# %%
# Regret
# ------
# :func:`~sknk.bandits.simulate` starts every policy from nothing. A round is one ``predict`` and
# one ``partial_fit``, which appends to a Cholesky factor. Regret counts the wrong buttons. One
# policy presses the button whose reward may be largest, one the best of a drawn reward function,
# and one the best so far, or any in one round of twenty. Luck decides single runs, so three are
# played.

policies = {
    "NTK, upper bounds": NTKUCB(),
    "NTK, best mean": NTKEpsilonGreedy(epsilon=0.05),
    "NTK, draws": NTKThompsonSampling(),
}
played = simulate(policies, problem, n_runs=3, random_state=0)
for name, regret in played.final().items():
    print(f"{name:<17} {regret:3.0f} of 300 wrong, mean of three runs")

# %%
# What would it have earned?
# --------------------------
# Someone pressed buttons at random for 1000 visitors and kept a log. The value of a policy that
# learned from half of it is estimated on the other half, though its buttons were pressed in one
# round of ten. All classes are known here, so the estimates can be checked.

log = classification_problem(X, y, n_rounds=1000, random_state=1)
pressed = np.random.default_rng(0).integers(10, size=1000)
reward = log.reward[np.arange(1000), pressed]
logged = bandit_target(pressed, reward, propensity=0.1)

policy = NTKUCB(beta=0.0).fit(log.X[:500], logged[:500])
truth = (policy.predict_proba(log.X[500:]) * log.reward[500:]).sum(axis=1).mean()
found = {
    name: policy_value(policy, log.X[500:], logged[500:], estimator=name)
    for name in ("ips", "snips", "dr")
}
for name, value in found.items():
    low, high = value.interval
    print(
        f"{name:<5} {value.value:.2f}, from {low:.2f} to {high:.2f}, {value.n_matched} rounds match"
    )
print(f"true  {truth:.2f}")

figure, (left, right) = plt.subplots(1, 2, figsize=(10.0, 4.0), layout="constrained")
RegretDisplay.from_predictions(played, ax=left)
values = [value.value for value in found.values()]
errors = [value.interval[1] - value.value for value in found.values()]
right.errorbar(range(3), values, errors, fmt="o", capsize=4)
right.axhline(truth, color="0.5", linestyle="--", label="true value")
right.set_xticks(range(3), list(found))
right.set(ylabel="reward a round", title="from 500 logged rounds")
right.legend(fontsize="small")

if "__file__" in globals():  # run as a script, not by the gallery
    target = Path(__file__).with_name("play_bandit.png")
    figure.savefig(target, dpi=120)
    print(f"figure: {target.name}")
plt.show()
