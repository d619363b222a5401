"""On which evidence were the defaults of bandits chosen?

Regret of NTK-UCB on tables that `bandits.py` does not score, over depth, `beta` and
`noise_variance`: 1000 rounds of one order of six tables with every setting, and of two further
orders with the best dozen. What is compared is the mean over tables of the regret relative to the
table's best setting. A dozen that a thousand rounds hardly tell apart may differ over horizons as
long as those that are scored: of the dozen, settings of depth 2 (the default) play 3000 rounds of
the twelve tables of the collection with at least 5000 rows that are not scored; the best of them is
the default. Thompson sampling takes its `noise_variance` over, and plays its own `beta`.
"""

from collections.abc import Iterable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from _bandits import played
from _common import main, rounded
from _store import Store

from sknk.bandits import NTKUCB, NTKThompsonSampling
from sknk.kernels import NTK, Normalized

TABLES = (
    "uci121/pendigits",
    "uci121/letter",
    "uci121/statlog-landsat",
    "uci121/image-segmentation",
    "uci121/statlog-vehicle",
    "uci121/wine-quality-red",
)
LONG = (
    "uci121/chess-krvk",
    "uci121/letter",
    "uci121/nursery",
    "uci121/page-blocks",
    "uci121/pendigits",
    "uci121/ringnorm",
    "uci121/statlog-landsat",
    "uci121/thyroid",
    "uci121/twonorm",
    "uci121/wall-following",
    "uci121/waveform",
    "uci121/waveform-noise",
)
DEPTHS, BETAS, NOISES = (1, 2, 3), (0.1, 0.3, 0.5, 1.0, 2.0), (0.01, 0.03, 0.1, 0.3)
DEPTH, N_ROUNDS, N_LONG, N_FINALISTS, ORDERS = 2, 1000, 3000, 12, range(3)

Point = tuple[int, float, float]
Policies = dict[Point, NTKUCB | NTKThompsonSampling]


def measure(quick: bool, folder: Path | None) -> dict[str, Any]:
    """Play every setting on every table, and the best ones again."""
    store = Store(folder, __file__)
    grid = list(product(DEPTHS, BETAS, NOISES))[: 3 if quick else None]
    names, n_rounds = (TABLES[4:5], 100) if quick else (TABLES, N_ROUNDS)
    few = ORDERS[: 2 if quick else None]

    def regrets(policies: Policies, orders: range) -> np.ndarray:
        return np.array([of_table(store, name, policies, n_rounds, orders) for name in names])

    first = regrets({point: upper_bounds(*point) for point in grid}, ORDERS[:1])
    best = np.argsort(relative(first).mean(axis=0))[: 2 if quick else N_FINALISTS]
    finalists = [grid[i] for i in best]
    last = relative(regrets({point: upper_bounds(*point) for point in finalists}, few))
    mean, error = last.mean(axis=0), last.std(axis=0) / np.sqrt(len(names))
    order = np.argsort(mean)
    close = mean <= mean[order[0]] + error[order[0]]
    longer = {} if quick else of_long(store, finalists)
    default = min(longer, key=longer.__getitem__, default=finalists[order[0]])
    settings = [(default[0], beta, default[2]) for beta in BETAS]
    drawn = relative(regrets({point: sampling(*point) for point in settings}, ORDERS[:1]))
    return {
        "settings": "depth, beta, noise_variance",
        "orders": len(few),
        "default": default,
        "relative_regret_of_3000_rounds": lines(list(longer), longer.values()),
        "relative_regret": [[*finalists[i], rounded(mean[i])] for i in order],
        "within_one_standard_error": [finalists[i] for i in order if close[i]],
        "thompson_sampling": lines(settings, drawn.mean(axis=0)),
        "one_order": lines(grid, relative(first).mean(axis=0)),
        "regret_of_one_order": {
            name: {str(point): rounded(value) for point, value in zip(grid, of, strict=True)}
            for name, of in zip(names, first, strict=True)
        },
        "fits": store.counts(),
    }


def of_long(store: Store, finalists: list[Point]) -> dict[Point, float]:
    """Return mean relative regret over the longer horizon, of the default depth."""
    policies: Policies = {point: upper_bounds(*point) for point in finalists if point[0] == DEPTH}
    regret = np.array([of_table(store, name, policies, N_LONG, ORDERS[:1]) for name in LONG])
    return dict(zip(policies, relative(regret).mean(axis=0), strict=True))


def of_table(
    store: Store, name: str, policies: Policies, n_rounds: int, orders: range
) -> list[float]:
    """Return mean regret of every policy on a table."""
    print(name, flush=True)
    named = {str(point): policy for point, policy in policies.items()}
    found = played(store, name, named, n_rounds, orders)
    return [float(np.mean([run["regret"] for run in of])) for of in found.values()]


def relative(regret: np.ndarray) -> np.ndarray:
    """Return regret over the least of each table."""
    return np.asarray(regret / regret.min(axis=1, keepdims=True))


def lines(points: list[Point], values: Iterable[float]) -> list[list[float]]:
    """Return settings with what was found."""
    return [[*point, rounded(value)] for point, value in zip(points, values, strict=True)]


def upper_bounds(depth: int, beta: float, noise: float) -> NTKUCB:
    """Return NTK-UCB of one setting."""
    return NTKUCB(kernel_of(depth), beta=beta, noise_variance=noise)


def sampling(depth: int, beta: float, noise: float) -> NTKThompsonSampling:
    """Return Thompson sampling of one setting."""
    return NTKThompsonSampling(kernel_of(depth), beta=beta, noise_variance=noise)


def kernel_of(depth: int) -> Normalized:
    """Return the kernel of one depth."""
    return Normalized(NTK(depth=depth, bias_var=0.0))


if __name__ == "__main__":
    main(measure, __file__, resumes=True)
