"""On which evidence were the defaults of bandits chosen?

Regret of NTK-UCB on six tables that `bandits.py` does not score, over depth, `beta` and
`noise_variance`: 1000 rounds of one order with every setting, of two further orders with the best
dozen. What is compared is the mean over tables of the regret relative to the table's best setting.
Defaults are to be good everywhere: the dozen is listed by its means over three orders, with what
is within one standard error of the least.
"""

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from _bandits import played
from _common import main, rounded
from _store import Store

from sknk.bandits import NTKUCB
from sknk.kernels import NTK, Normalized

TABLES = (
    "uci121/pendigits",
    "uci121/letter",
    "uci121/statlog-landsat",
    "uci121/image-segmentation",
    "uci121/statlog-vehicle",
    "uci121/wine-quality-red",
)
DEPTHS, BETAS, NOISES = (1, 2, 3), (0.1, 0.3, 0.5, 1.0, 2.0), (0.01, 0.03, 0.1, 0.3)
N_ROUNDS, N_FINALISTS, ORDERS = 1000, 12, range(3)

Point = tuple[int, float, float]


def measure(quick: bool, folder: Path | None) -> dict[str, Any]:
    """Play every setting on every table, and the best ones again."""
    store = Store(folder, __file__)
    grid = list(product(DEPTHS, BETAS, NOISES))[: 3 if quick else None]
    names, n_rounds = (TABLES[4:5], 100) if quick else (TABLES, N_ROUNDS)
    first = regret_of(store, names, grid, n_rounds, ORDERS[:1])
    best = np.argsort(relative(first).mean(axis=0))[: 2 if quick else N_FINALISTS]
    finalists = [grid[i] for i in best]
    last = regret_of(store, names, finalists, n_rounds, ORDERS[: 2 if quick else None])
    mean = relative(last).mean(axis=0)
    error = relative(last).std(axis=0, ddof=1) / np.sqrt(len(names)) if len(names) > 1 else 0 * mean
    order = np.argsort(mean)
    close = [i for i in order if mean[i] <= mean[order[0]] + error[order[0]]]
    return {
        "settings": "depth, beta, noise_variance",
        "orders": len(ORDERS),
        "relative_regret": [[*finalists[i], rounded(mean[i])] for i in order],
        "within_one_standard_error": [finalists[i] for i in close],
        "relative_regret_of_one_order": [
            [*point, rounded(value)]
            for point, value in zip(grid, relative(first).mean(axis=0), strict=True)
        ],
        "regret_of_one_order": {
            name: {str(point): rounded(value) for point, value in zip(grid, line, strict=True)}
            for name, line in zip(names, first, strict=True)
        },
        "fits": store.counts(),
    }


def regret_of(
    store: Store, names: Sequence[str], points: list[Point], n_rounds: int, orders: range
) -> np.ndarray:
    """Return mean regret, tables by settings."""
    regret = np.empty((len(names), len(points)))
    policies = {str(point): policy(*point) for point in points}
    for row, name in enumerate(names):
        print(name, flush=True)
        found = played(store, name, policies, n_rounds, orders)
        regret[row] = [np.mean([run["regret"] for run in found[str(point)]]) for point in points]
    return regret


def relative(regret: np.ndarray) -> np.ndarray:
    """Return regret over the least of each table."""
    return np.asarray(regret / regret.min(axis=1, keepdims=True))


def policy(depth: int, beta: float, noise: float) -> NTKUCB:
    """Return NTK-UCB of one setting."""
    kernel = Normalized(NTK(depth=depth, bias_var=0.0))
    return NTKUCB(kernel, beta=beta, noise_variance=noise)


if __name__ == "__main__":
    main(measure, __file__, resumes=True)
