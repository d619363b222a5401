"""On which evidence were the defaults of bandits chosen?

Regret of NTK-UCB on tables that `bandits.py` does not score, over depth, `beta` and
`noise_variance`: 1000 rounds of one order of six tables with every setting, and of two further
orders with the best dozen. What is compared is the mean over tables of the regret relative to the
table's best setting. A dozen that a thousand rounds hardly tell apart may differ over horizons as
long as those that are scored: of the dozen, settings of depth 2 play 3000 rounds of the twelve
tables of the collection with at least 5000 rows that are not scored.

Rewards in standard deviations around their mean (`normalize_reward`) play both as well, with some
settings of depth 2. The default is one of these: as good as the best of plain rewards over both
horizons, and fit for rewards of any unit. Thompson sampling takes its kernel and `noise_variance`
over, and plays its own `beta`.
"""

from collections.abc import Mapping, Sequence
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
DRAW_BETAS = (0.05, 0.1, 0.2, 0.3, 0.5, 1.0)
NORMALIZED = ((0.5, 0.01), (1.0, 0.01), (1.0, 0.03), (1.0, 0.1), (1.5, 0.03), (2.0, 0.01))
NORMALIZED_LONG = ((0.7, 0.01), (1.0, 0.01), (1.0, 0.03))
DEPTH, N_ROUNDS, N_LONG, N_FINALISTS, ORDERS = 2, 1000, 3000, 12, range(3)

Policies = Mapping[str, NTKUCB | NTKThompsonSampling]


def measure(quick: bool, folder: Path | None) -> dict[str, Any]:
    """Play every setting on every table, and the best ones again."""
    play = Play(Store(folder, __file__), quick)
    grid = list(product(DEPTHS, BETAS, NOISES))[: 3 if quick else None]
    first = play({named(*point): ucb(*point) for point in grid}, ORDERS[:1])
    best = np.argsort(relative(first).mean(axis=0))[: 2 if quick else N_FINALISTS]
    finalists = {named(*grid[i]): ucb(*grid[i]) for i in best}
    deep = [grid[i] for i in best if grid[i][0] == DEPTH]
    last = play(finalists, ORDERS[: 2 if quick else None])
    short = [(DEPTH, *point, True) for point in NORMALIZED[: 2 if quick else None]]
    longer = [(DEPTH, *point, True) for point in NORMALIZED_LONG]
    units = {named(*point): ucb(*point) for point in short}
    both = np.hstack([first, play(units, ORDERS[:1])])
    long = {named(*point): ucb(*point) for point in (*deep, *longer)}
    play_long = Play(play.store, quick, LONG, N_LONG)
    draws = {f"beta {beta}": sampling(beta) for beta in DRAW_BETAS}
    return {
        "finalists_of_three_orders": lines(finalists, last),
        "one_order": lines([*(named(*point) for point in grid), *units], both),
        "3000_rounds": {} if quick else lines(long, play_long(long, ORDERS[:1])),
        "thompson_sampling": lines(draws, play(draws, ORDERS[:1])),
        "regret_of_one_order": {
            name: [rounded(value) for value in of]
            for name, of in zip(play.tables, first, strict=True)
        },
        "fits": play.store.counts(),
    }


class Play:
    """Regret of policies on tables, as an array of tables by policies.

    Parameters
    ----------
    store : Store
        Of single runs.
    quick : bool
        One table and few rounds.
    tables : sequence of str
        Names.
    n_rounds : int
        T.
    """

    def __init__(
        self, store: Store, quick: bool, tables: Sequence[str] = TABLES, n_rounds: int = N_ROUNDS
    ) -> None:
        self.store = store
        self.tables, self.n_rounds = (tables[4:5], 100) if quick else (tables, n_rounds)

    def __call__(self, policies: Policies, orders: range) -> np.ndarray:
        """Return mean regret over the orders."""
        return np.array([self._of_table(name, policies, orders) for name in self.tables])

    def _of_table(self, name: str, policies: Policies, orders: range) -> list[float]:
        print(name, flush=True)
        found = played(self.store, name, policies, self.n_rounds, orders)
        return [float(np.mean([run["regret"] for run in of])) for of in found.values()]


def relative(regret: np.ndarray) -> np.ndarray:
    """Return regret over the least of each table."""
    return np.asarray(regret / regret.min(axis=1, keepdims=True))


def lines(names: Policies | Sequence[str], regret: np.ndarray) -> dict[str, list[float]]:
    """Return mean relative regret by setting, the least first, and its standard error."""
    ratio = relative(regret)
    mean, error = ratio.mean(axis=0), ratio.std(axis=0) / np.sqrt(len(ratio))
    known = list(names)
    return {known[i]: [rounded(mean[i]), rounded(error[i])] for i in np.argsort(mean)}


def named(depth: int, beta: float, noise: float, units: bool = False) -> str:
    """Return the name of a setting."""
    return f"depth {depth}, beta {beta}, noise {noise}" + ", normalized" * units


def ucb(depth: int, beta: float, noise: float, units: bool = False) -> NTKUCB:
    """Return NTK-UCB of one setting."""
    kernel = Normalized(NTK(depth=depth, bias_var=0.0))
    return NTKUCB(kernel, beta=beta, noise_variance=noise, normalize_reward=units)


def sampling(beta: float) -> NTKThompsonSampling:
    """Return Thompson sampling with the kernel and noise of NTK-UCB's defaults."""
    kernel = Normalized(NTK(depth=DEPTH, bias_var=0.0))
    return NTKThompsonSampling(kernel, beta=beta, noise_variance=0.01, normalize_reward=True)


if __name__ == "__main__":
    main(measure, __file__, resumes=True)
