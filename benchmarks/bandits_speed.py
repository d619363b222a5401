"""How long does a round take, and what does a budget cost?

Ten joint arms, contexts of norm one in 64 columns, NTK-UCB with default arguments, 10 000 rounds:
the whole run is timed, beside fitting anew every round, which is extrapolated from 50 fits spaced
over the rounds. A fit is the kernel of all rounds, one factorization by LAPACK and a solve for ten
arms. Rounds are timed in fifty parts, so that their growth can be seen; with a budget of 1000 means
count the rounds that choose a dictionary, and medians do not. The best arm is the largest of ten
random linear functions.

A budget of 1000 is played on magic and shuttle for 10 000 rounds, and of T/4 on digits, beside the
exact policy on the same rounds.
"""

import time
from pathlib import Path
from typing import Any

import numpy as np
from _bandits import played
from _common import bar, main, rounded
from _store import Store
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import nnls

from sknk.bandits import NTKUCB, bandit_target
from sknk.kernels import NTK, Normalized

T, K, D, PARTS = 10_000, 10, 64, 50
FASTER, MINUTES = 40.0, 5.0
BUDGETS = {"digits": (1797, 449, 1.6), "magic": (T, 1000, 1.1), "shuttle": (T, 1000, 1.1)}


def measure(quick: bool, folder: Path | None) -> dict[str, Any]:
    """Time rounds, then count what budgets lose."""
    n_rounds = 300 if quick else T
    X, reward = rounds_of(n_rounds)
    ours, _, whole = run(X, reward, NTKUCB(actions=range(K), random_state=0))
    bounded, with_choices, bounded_whole = run(
        X, reward, NTKUCB(actions=range(K), random_state=0, budget=n_rounds // 10)
    )
    refits = refitted(X, 3 if quick else PARTS)
    anew = float(np.trapezoid([s for _, s in refits], [t for t, _ in refits]))
    lines = [
        bar("10 000 rounds, over fitting anew every round", anew / whole, FASTER, at_least=True),
        bar("10 000 rounds, minutes", whole / 60, MINUTES, at_least=False),
    ]
    store = Store(folder, __file__)
    budgets = {} if quick else {name: of_budget(store, name) for name in BUDGETS}
    for name, found in budgets.items():
        ratio = found["budget"] / found["exact"]
        lines.append(bar(f"{name}, budget over exact", ratio, BUDGETS[name][2], at_least=False))
    return {
        "bars": lines,
        "seconds_of_the_run": rounded(whole),
        "seconds_of_the_run_with_budget": rounded(bounded_whole),
        "seconds_of_fitting_anew": rounded(anew),
        "exponent_of_growth": {"exact": growth(ours), "budget": growth(with_choices)},
        "milliseconds_of_the_last_round_by_growth": parts_of_a_round(ours),
        "milliseconds_a_round": [rounded(1e3 * s) for s in ours],
        "milliseconds_a_round_with_budget": [rounded(1e3 * s) for s in bounded],
        "milliseconds_a_round_with_budget_and_choices": [rounded(1e3 * s) for s in with_choices],
        "refits": [[t, rounded(s)] for t, s in refits],
        "regret_with_budget": budgets,
        "fits": store.counts(),
    }


def rounds_of(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return contexts of norm one, and rewards of all arms."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, D))
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    best = (X @ rng.standard_normal((D, K))).argmax(axis=1)
    return X, np.eye(K)[best]


def run(X: np.ndarray, reward: np.ndarray, policy: NTKUCB) -> tuple[np.ndarray, np.ndarray, float]:
    """Return median and mean seconds of a round in each part, and those of all rounds."""
    policy.initialize(D)
    seconds = np.empty(len(X))
    for t in range(len(X)):
        start = time.perf_counter()
        arm = policy.predict(X[t : t + 1])
        policy.partial_fit(X[t : t + 1], bandit_target(arm, reward[t, arm]))
        seconds[t] = time.perf_counter() - start
    parts = np.array_split(seconds, min(PARTS, len(X)))
    medians, means = ([f(part) for part in parts] for f in (np.median, np.mean))
    return np.array(medians), np.array(means), float(seconds.sum())


def growth(seconds: np.ndarray) -> float:
    """Return p of seconds that grow as t^p in the last half of the rounds."""
    parts = np.arange(1, len(seconds) + 1)[len(seconds) // 2 :]
    return rounded(float(np.polyfit(np.log(parts), np.log(seconds[-len(parts) :]), 1)[0]))


def parts_of_a_round(seconds: np.ndarray) -> dict[str, float]:
    """Return what grows as 1, t and t^2, as parts of a round at the end, none negative."""
    t = (np.arange(len(seconds)) + 0.5) / len(seconds)
    found, _ = nnls(t[:, None] ** np.arange(3), 1e3 * seconds)
    return dict(zip(["fixed", "t", "t^2"], map(rounded, found), strict=True))


def refitted(X: np.ndarray, n: int) -> list[tuple[int, float]]:
    """Return seconds of fitting all rounds anew and judging ten arms, at some rounds."""
    kernel, rng = Normalized(NTK(depth=2, bias_var=0.0)), np.random.default_rng(1)
    arms, found = rng.integers(K, size=len(X)), []
    orthogonal = float(kernel(np.eye(2))[0, 1])
    for t in np.linspace(1, len(X) - 1, n).astype(int):
        start = time.perf_counter()
        same = arms[:t, None] == arms[None, :t]
        G = np.where(same, kernel(X[:t]), orthogonal)
        G[np.diag_indices(t)] += NTKUCB().noise_variance
        factor = cho_factor(G, lower=True, overwrite_a=True, check_finite=False)
        k = kernel(X[:t], X[t : t + 1])
        cross = np.where(arms[:t, None] == np.arange(K), k, orthogonal)
        dual = cho_solve(factor, np.column_stack([np.ones(t), cross]), check_finite=False)
        _ = cross.T @ dual[:, 0], 1.0 - np.sum(cross * dual[:, 1:], axis=0)
        found.append((int(t), time.perf_counter() - start))
    return found


def of_budget(store: Store, name: str) -> dict[str, float]:
    """Return regret of the exact policy and of a budget."""
    n_rounds, budget, _ = BUDGETS[name]
    policies = {"exact": NTKUCB(), "budget": NTKUCB(budget=budget)}
    runs = played(store, name, policies, n_rounds, range(3))
    return {label: float(np.mean([one["regret"] for one in of])) for label, of in runs.items()}


if __name__ == "__main__":
    main(measure, __file__, resumes=True)
