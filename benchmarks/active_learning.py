"""Active learning with kernel ridge as learner: every selector, and scikit-activeml's strategies.

The protocol of Holzmueller, Zaverkin, Kaestner and Steinwart (2023) scaled down: 256 first labels,
8 batches of 128 from a pool of 4096, 2048 test rows, 5 splits, mean log RMSE after the first batch
and later. Depth, biases and ridge are chosen by leave-one-out on the first labels
(`NTKRidgeCV()`), the same for all; labels that come are appended. scikit-activeml's strategies ask
the same learner, in an environment of their own (`SKNK_PEER_ACTIVEML`), on the first split; bars
compare on that. Three are left out: they fit a model for every candidate, minutes a batch.

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
from sknk.active_learning import BAIT, BatchActiveLearner, KMeansPlusPlus

N_ROWS, N_INITIAL, BATCH, N_BATCHES, N_SPLITS = 6400, 256, 128, 8, 5
JUDGED = 1500  # rows that BAIT sums over
SELECTORS = {  # selector, mode
    "random": ("random", "auto"),
    "MaxDiag (BALD)": ("maxdiag", "auto"),
    "MaxDet (BatchBALD)": ("maxdet", "auto"),
    "BAIT": (BAIT(n_judged=JUDGED), "auto"),
    "BAIT-FB": (BAIT(overselect=2.0, n_judged=JUDGED), "auto"),
    "Frank-Wolfe": ("frank-wolfe", "auto"),
    "MaxDist (Core-Set)": ("maxdist", "auto"),
    "KMeans++-TP": (KMeansPlusPlus(), "TP"),
    "KMeans++-P": (KMeansPlusPlus(), "P"),
    "LCMD": ("lcmd", "auto"),
}
PEER_SPLITS = 1
BETTER = 0.05

Lines = dict[str, Any]


def measure(quick: bool, folder: Path | None) -> Lines:
    """Play all tables with our selectors, then with the peer's strategies."""
    names = REGRESSION[:1] if quick else REGRESSION
    steps = None if folder is None else folder / "active_learning"
    found = {name: ours(name, steps, quick) for name in names}
    peer = Peer.open("SKNK_PEER_ACTIVEML", "_worker_activeml.py")
    failed, beside = {}, {}
    if isinstance(peer, Peer):
        for name in names:
            others, failed[name] = theirs(peer, name, steps, quick)
            beside[name] = {k: line[:PEER_SPLITS] for k, line in found[name].items()} | others
    lines = averages(found)
    compared = averages(beside)["mean_log_rmse"] if beside else {}
    return {
        "bars": bars(lines["mean_log_rmse"], compared),
        "peer": {"absent": peer} if isinstance(peer, str) else peer.versions,
        "failed": failed,
        **lines,
        "beside_scikit_activeml": compared,
        "curves": curve_lines(found),
        "curves_beside_scikit_activeml": curve_lines(beside),
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
    print(name, file=sys.stderr, flush=True)
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
        json.dumps(settings(quick) | {"n_splits": 1 if quick else PEER_SPLITS}),
        json.dumps([name, N_ROWS, BATCH, None if folder is None else str(folder)]),
    )
    return {label: np.log(-line) for label, line in found.items()}, reply["failed"]


def bars(mean: dict[str, float], compared: dict[str, float]) -> list[Lines]:
    """Judge what was asked for; lower is better."""
    lines = [
        bar(f"{name} below random, log RMSE", mean["random"] - mean[name], limit, at_least=True)
        for name, limit in (("BAIT", BETTER), ("LCMD", 0.0))
    ]
    best = min((v for name, v in compared.items() if name not in SELECTORS), default=None)
    for name in ("BAIT", "LCMD"):
        gap = None if best is None else best - compared[name]
        lines.append(bar(f"{name} below the best of scikit-activeml", gap, 0.0, at_least=True))
    return lines


if __name__ == "__main__":
    main(measure, __file__, resumes=True)
