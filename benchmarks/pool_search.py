"""Best rows of pools: which kernel and factor find them with fewest values?

A pool is 600 rows of a regression table, columns standardized; values are its targets, or their
opposites where the run's number is odd. Forty values are asked for in batches of four, from
nothing. What counts is how many rows are better than the best that was found. Random rows and a
Gaussian process with scikit-learn's RBF kernel of length sqrt(d) stand beside. Defaults were chosen
by the tables of CHOSEN_BY; the others only judge them.
"""

from pathlib import Path
from typing import Any

import numpy as np
from _common import bar, main, rounded
from _store import Store
from _tables import standardized, stored
from sklearn.base import clone
from sklearn.gaussian_process.kernels import RBF

from sknk._fingerprint import signature
from sknk.bandits import PoolOptimizer
from sknk.kernels import NTK, Normalized

CHOSEN_BY = (
    "airfoil",
    "bank8fm",
    "elevators",
    "fried",
    "house8l",
    "kin40k",
    "pumadyn32nm",
    "stock",
)
JUDGED_BY = ("cal_housing", "concrete", "cpu_act", "energy", "kin8nm", "naval", "power", "wine_red")
ROWS, VALUES, BATCH, RUNS = 600, 40, 4, 4
KERNELS = {
    "NTK, 2 layers, bias 0.1": NTK(depth=2, bias_var=0.1),
    "NTK, 2 layers, bias 1": NTK(depth=2, bias_var=1.0),
    **{
        f"normalized NTK, {depth} layers, bias {bias:g}": Normalized(NTK(depth, bias_var=bias))
        for depth in (1, 2, 3)
        for bias in (0.1, 1.0)
    },
}
BETAS, DRAW_BETAS = (0.5, 1.0, 2.0, 4.0), (0.25, 0.5, 1.0, 2.0)


def measure(quick: bool, folder: Path | None) -> dict[str, Any]:
    """Search all pools."""
    names = ("airfoil", "concrete") if quick else CHOSEN_BY + JUDGED_BY
    tables, absent = stored(names)
    store = Store(folder, __file__)
    found: dict[str, dict[str, list[float]]] = {}
    for name, table in tables.items():
        print(name, flush=True)
        for label, search in contestants(table["X"].shape[1], quick).items():
            for run in range(1 if quick else RUNS):
                key = [name, "random" if search is None else signature(search), run]
                left = store.get(key, [], lambda s=search, r=run, t=table: searched(s, t, r))
                found.setdefault(label, {}).setdefault(name, []).append(left["better"])
    means = {part: summary(found, part) for part in (CHOSEN_BY, JUDGED_BY)}
    judged = means[JUDGED_BY]
    return {
        "bars": []
        if not judged
        else [
            bar(
                "rows left, default over random",
                judged["default"] / judged["random"],
                0.5,
                at_least=False,
            ),
            bar(
                "rows left, default over the best RBF",
                judged["default"] / min(v for k, v in judged.items() if k.startswith("RBF")),
                1.0,
                at_least=False,
            ),
        ],
        "rows_left_chosen_by": means[CHOSEN_BY],
        "rows_left_judged_by": judged,
        "rows_left": {
            label: {name: rounded(float(np.mean(v))) for name, v in of.items()}
            for label, of in found.items()
        },
        "absent": absent,
        "fits": store.counts(),
    }


def contestants(d: int, quick: bool) -> dict[str, PoolOptimizer | None]:
    """Return searches by name; None draws rows at random."""
    found: dict[str, PoolOptimizer | None] = {"random": None, "default": PoolOptimizer()}
    kernels = KERNELS | {"RBF": RBF(d**0.5)}
    for name, kernel in list(kernels.items())[-1 if quick else 0 :]:
        for beta in BETAS:
            found[f"{name}, beta {beta:g}"] = PoolOptimizer(kernel, beta=beta)
    for beta in DRAW_BETAS:
        found[f"default, Thompson, beta {beta:g}"] = PoolOptimizer(strategy="thompson", beta=beta)
    return found


def searched(
    search: PoolOptimizer | None, table: dict[str, np.ndarray], run: int
) -> dict[str, Any]:
    """Return how many rows of a pool are better than the best that was found."""
    rng = np.random.default_rng(run)
    rows = rng.permutation(len(table["X"]))[:ROWS]
    X, value = standardized(table["X"][rows]), table["y"][rows].astype(np.float64)
    value = -value if run % 2 else value
    if search is None:
        best = value[rng.permutation(len(rows))[:VALUES]].max()
        return {"better": float((value > best).sum())}
    search = clone(search).set_params(random_state=run).fit(X)
    for _ in range(VALUES // BATCH):
        asked = search.ask(BATCH)
        search.tell(asked, value[asked])
    return {"better": float((value > search.best_value_).sum())}


def summary(found: dict[str, dict[str, list[float]]], names: tuple[str, ...]) -> dict[str, Any]:
    """Return means over tables, the smallest first."""
    means = {
        label: float(np.mean([of[name] for name in names if name in of]))
        for label, of in found.items()
        if any(name in of for name in names)
    }
    return {label: rounded(mean) for label, mean in sorted(means.items(), key=lambda kv: kv[1])}


if __name__ == "__main__":
    main(measure, __file__, resumes=True)
