"""Active learning with a network as learner: which rows to label, by mean log RMSE.

The protocol of Holzmueller, Zaverkin, Kaestner and Steinwart (2023) scaled down: 256 first labels,
8 batches of 128, a network of two hidden layers of 512 trained anew after each batch (128 epochs in
steps of 128 rows in place of 256 and 256, the best epoch on 512 validation rows kept), 3 splits of
12 288 rows of each table, 2048 of them tested on. The names are those of the paper's table:
BatchBALD and Core-Set look at the last layer, BAIT and LCMD at sketched gradients.

A run that is cut goes on where it ended: steps are kept in `results/active_learning_network/`.
"""

import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _active_learning import (
    N_TEST,
    REGRESSION,
    averages,
    curve_lines,
    log_errors,
    played,
    regression_table,
)
from _common import bar, main

from sknk.active_learning import BatchActiveLearner, Rescale
from sknk.networks import NetworkRegressor

N_ROWS, N_VALIDATION, N_INITIAL, BATCH, N_BATCHES, N_SPLITS = 12_800, 512, 256, 128, 8, 3
EPOCHS, STEP = 128, 128
NOISE = 1e-6  # of a kernel rescaled to mean one on the diagonal, as in the paper
SELECTORS = {  # selector, kernel
    "random": ("random", None),
    "BatchBALD": ("maxdet", "last_layer"),
    "Core-Set": ("maxdist", "last_layer"),
    "BAIT": ("bait", "gradient"),
    "LCMD": ("lcmd", "gradient"),
}
BETTER = 0.05

Lines = dict[str, Any]


def measure(quick: bool, folder: Path | None) -> Lines:
    """Play all tables."""
    torch.set_num_threads(1)  # two threads of so small steps gain a tenth
    names = REGRESSION[:1] if quick else REGRESSION
    steps = None if folder is None else folder / "active_learning_network"
    found = {name: of_table(name, steps, quick) for name in names}
    lines = averages(found)
    return {"bars": bars(lines["mean_log_rmse"]), **lines, "curves": curve_lines(found)}


def of_table(name: str, folder: Path | None, quick: bool) -> dict[str, np.ndarray]:
    """Return log RMSE of every selector on one table."""
    X, y = regression_table(name, N_ROWS)
    X, y, held_out = X[:-N_VALIDATION], y[:-N_VALIDATION], (X[-N_VALIDATION:], y[-N_VALIDATION:])
    network = NetworkRegressor(
        max_epochs=4 if quick else EPOCHS,
        batch_size=STEP,
        validation_data=held_out,
        random_state=0,
        dtype="float32",
    )
    learners = {
        label: BatchActiveLearner(
            network,
            selector,
            kernel=kernel,
            transforms=(Rescale(),),
            batch_size=BATCH,
            noise_variance=NOISE,
        )
        for label, (selector, kernel) in SELECTORS.items()
    }
    print(name, file=sys.stderr, flush=True)
    curves = played(
        learners,
        X,
        y,
        folder=folder,
        name=name,
        n_initial=N_INITIAL,
        n_batches=2 if quick else N_BATCHES,
        n_splits=1 if quick else N_SPLITS,
        test_size=N_TEST,
        scoring="neg_root_mean_squared_error",
    )
    return log_errors(curves)


def bars(mean: dict[str, float]) -> list[Lines]:
    """Judge what was asked for; lower is better."""
    gain = mean["random"] - mean["LCMD"]
    lines = [bar("LCMD below random, mean log RMSE", gain, BETTER, at_least=True)]
    order = ("LCMD", "Core-Set", "BatchBALD", "random")
    lines += [
        bar(f"{a} below {b}", mean[b] - mean[a], 0.0, at_least=True) for a, b in pairwise(order)
    ]
    return lines


if __name__ == "__main__":
    main(measure, __file__, resumes=True)
