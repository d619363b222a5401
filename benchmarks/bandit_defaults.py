"""On which evidence were the defaults of bandits chosen?

Regret of NTK-UCB on six tables that `bandits.py` does not score, over depth, `beta` and
`noise_variance`: 1000 rounds, two orders. What is compared is the mean over tables of the regret
relative to the table's best setting. Defaults are to be good everywhere: the settings with the
least means are listed, and those within one standard error of the least.
"""

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
N_ROUNDS, N_SEEDS = 1000, 2


def measure(quick: bool, folder: Path | None) -> dict[str, Any]:
    """Play every setting on every table."""
    store = Store(folder, __file__)
    grid = list(product(DEPTHS, BETAS, NOISES))[: 3 if quick else None]
    names, n_rounds = (TABLES[4:5], 100) if quick else (TABLES, N_ROUNDS)
    regret = np.empty((len(names), len(grid)))
    for row, name in enumerate(names):
        print(name, flush=True)
        policies = {str(point): policy(*point) for point in grid}
        found = played(store, name, policies, n_rounds, range(1 if quick else N_SEEDS))
        regret[row] = [np.mean([run["regret"] for run in found[str(point)]]) for point in grid]
    relative = regret / regret.min(axis=1, keepdims=True)
    mean, error = relative.mean(axis=0), relative.std(axis=0) / np.sqrt(len(names))
    order = np.argsort(mean)
    close = [i for i in order if mean[i] <= mean[order[0]] + error[order[0]]]
    return {
        "settings": "depth, beta, noise_variance",
        "least_relative_regret": [[*grid[i], rounded(mean[i])] for i in order[:10]],
        "within_one_standard_error": [[*grid[i], rounded(mean[i])] for i in close],
        "default": rounded(float(mean[grid.index((2, 1.0, 0.1))])) if not quick else None,
        "regret": {
            name: {str(point): rounded(value) for point, value in zip(grid, line, strict=True)}
            for name, line in zip(names, regret, strict=True)
        },
        "fits": store.counts(),
    }


def policy(depth: int, beta: float, noise: float) -> NTKUCB:
    """Return NTK-UCB of one setting."""
    kernel = Normalized(NTK(depth=depth, bias_var=0.0))
    return NTKUCB(kernel, beta=beta, noise_variance=noise)


if __name__ == "__main__":
    main(measure, __file__, resumes=True)
