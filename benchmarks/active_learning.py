"""Active learning with kernel ridge as learner: every selector, and scikit-activeml's strategies.

The protocol of Holzmueller, Zaverkin, Kaestner and Steinwart (2023) scaled down: 256 first labels,
8 batches of 128 from a pool of 2048, 2048 test rows, 5 splits, mean log RMSE after the first batch
and later. Depth, biases and ridge are chosen by leave-one-out on the first labels
(`NTKRidgeCV()`), the same for all; labels that come are appended. scikit-activeml's strategies ask
the same learner, in an environment of their own (`SKNK_PEER_ACTIVEML`), on the same splits. Three
are left out: they fit a model for every candidate, minutes a batch.

A run that is cut goes on where it ended: steps are kept in `results/active_learning/`.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
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
from _peers import Peer

from sknk import NTKRidgeCV
from sknk.active_learning import BatchActiveLearner, KMeansPlusPlus

N_ROWS, N_INITIAL, BATCH, N_BATCHES, N_SPLITS = 4352, 256, 128, 8, 5
SELECTORS = {  # selector, mode
    "random": ("random", "auto"),
    "MaxDiag (BALD)": ("maxdiag", "auto"),
    "MaxDet (BatchBALD)": ("maxdet", "auto"),
    "BAIT": ("bait", "auto"),
    "BAIT-FB": ("bait-fb", "auto"),
    "Frank-Wolfe": ("frank-wolfe", "auto"),
    "MaxDist (Core-Set)": ("maxdist", "auto"),
    "KMeans++-TP": (KMeansPlusPlus(), "TP"),
    "KMeans++-P": (KMeansPlusPlus(), "P"),
    "LCMD": ("lcmd", "auto"),
}
BETTER = 0.05

Lines = dict[str, Any]


def measure(quick: bool, folder: Path | None) -> Lines:
    """Play all tables with our selectors, then with the peer's strategies."""
    names = REGRESSION[:1] if quick else REGRESSION
    steps = None if folder is None else folder / "active_learning"
    peer = Peer.open("SKNK_PEER_ACTIVEML", "_worker_activeml.py")
    found, failed = {}, {}
    for name in names:
        print(name, file=sys.stderr, flush=True)
        found[name] = ours(name, steps, quick)
        if isinstance(peer, Peer):
            more, failed[name] = theirs(peer, name, steps, quick)
            found[name] |= more
    lines = averages(found)
    named = [] if isinstance(peer, str) else peer.versions["strategies"]
    strategies = [name for name in named if name in lines["mean_log_rmse"]]
    return {
        "bars": bars(lines["mean_log_rmse"], strategies),
        "peer": {"absent": peer} if isinstance(peer, str) else peer.versions,
        "failed": failed,
        **lines,
        "curves": curve_lines(found),
    }


def settings(quick: bool) -> Lines:
    """Return what all runs share."""
    return {
        "n_initial": N_INITIAL,
        "n_batches": 2 if quick else N_BATCHES,
        "n_splits": 1 if quick else N_SPLITS,
        "test_size": N_TEST,
        "scoring": "neg_root_mean_squared_error",
    }


def ours(name: str, folder: Path | None, quick: bool) -> dict[str, np.ndarray]:
    """Return log RMSE of our selectors on one table."""
    learners = {
        label: BatchActiveLearner(NTKRidgeCV(), selector, mode=mode, batch_size=BATCH)
        for label, (selector, mode) in SELECTORS.items()
    }
    X, y = regression_table(name, N_ROWS)
    return log_errors(played(learners, X, y, folder=folder, name=name, **settings(quick)))


def theirs(
    peer: Peer, name: str, folder: Path | None, quick: bool
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return log RMSE of the peer's strategies on the same splits, and why others failed."""
    found, reply = peer.fit(
        json.dumps(settings(quick)),
        json.dumps([name, N_ROWS, BATCH, None if folder is None else str(folder)]),
    )
    return {label: np.log(-line) for label, line in found.items()}, reply["failed"]


def bars(mean: dict[str, float], strategies: list[str]) -> list[Lines]:
    """Judge what was asked for; lower is better."""
    lines = [
        bar(
            f"{name} below random, mean log RMSE", mean["random"] - mean[name], limit, at_least=True
        )
        for name, limit in (("BAIT", BETTER), ("LCMD", 0.0))
    ]
    for name in ("BAIT", "LCMD"):
        best = min((mean[s] for s in strategies), default=None)
        gap = None if best is None else best - mean[name]
        lines.append(bar(f"{name} below the best of scikit-activeml", gap, 0.0, at_least=True))
    return lines


if __name__ == "__main__":
    main(measure, __file__, resumes=True)
