"""Labels that a classifier needs: selectors by classes and by rows, on six UCI tables.

From 3 labels a class, 15 batches of 20 out of a pool of 1000 rows, tested on the other rows (at
most 1000), 5 splits. Reported: the labels with which the mean curve first reaches 95 % of the
accuracy with all labels of the pool, and the mean accuracy after the first batch and later. Kernel
and ridge are chosen by leave-one-out on the first labels, the same for all selectors of a split;
BatchBALD needs draws, so a Gaussian process classifier with fixed hyperparameters plays it, and
random and margin once more. Multi-class BAIT is left out: it looks at all pairs of rows and
classes, a minute a batch at ten classes. "margin", "entropy", "BADGE" and "Core-Set" are what
others do. Tables are the first six by name of the UCI collection with 1400 to 11000 rows and 4 to
10 classes, none of which has 45 % of the rows.

A run that is cut goes on where it ended: steps are kept in `results/active_learning_classes/`.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
from _active_learning import played
from _common import bar, main, rounded
from _tables import standardized, stored

from sknk import NTKGaussianProcessClassifier, NTKRidgeClassifierCV
from sknk.active_learning import BatchActiveLearner, BatchBALD
from sknk.kernels import NTK

TABLES = (
    "cardiotocography-10clases",
    "image-segmentation",
    "optical",
    "pendigits",
    "semeion",
    "statlog-landsat",
)
N_POOL, N_TEST, EACH, BATCH, N_BATCHES, N_SPLITS = 1000, 1000, 3, 20, 15, 5
CONFIGURATIONS = 1000  # of labels; a tenth of the default, 3 s a batch
RIDGE = {
    "random": "random",
    "margin": "margin",
    "entropy": "entropy",
    "BADGE": "badge",
    "Core-Set": "maxdist",
    "BAIT": "bait",
    "LCMD": "lcmd",
    "KECOR": "kecor",
    "look-ahead": "look-ahead",
}
PROCESS = {
    "random, GP": "random",
    "margin, GP": "margin",
    "BatchBALD, GP": BatchBALD(n_configurations=CONFIGURATIONS),
}
PART = 0.95

Lines = dict[str, Any]


def measure(quick: bool, folder: Path | None) -> Lines:
    """Play all tables."""
    steps = None if folder is None else folder / "active_learning_classes"
    names = TABLES[1:2] if quick else TABLES
    found = {name: of_table(name, steps, quick) for name in names}
    accuracy = accuracy_of_all(found)
    return {
        "bars": bars(accuracy),
        "mean_accuracy": accuracy,
        "mean_labels_needed": labels_of_all(found),
        "tables": found,
    }


def of_table(name: str, folder: Path | None, quick: bool) -> Lines:
    """Return the labels that each selector needs on one table, and its curves."""
    print(name, file=sys.stderr, flush=True)
    X, y = rows_of(name)
    n_initial = EACH * len(np.unique(y))
    settings = {
        "n_splits": 1 if quick else N_SPLITS,
        "test_size": min(N_TEST, len(y) - N_POOL - n_initial),
        "folder": folder,
    }
    whole = played(
        {"all": BatchActiveLearner(NTKRidgeClassifierCV(), "random", batch_size=BATCH)},
        X,
        y,
        name=f"{name}-all",
        n_initial=N_POOL,
        n_batches=0,
        **settings,
    )
    goal = PART * float(whole.scores["all"].mean())
    curves = played(
        learners(),
        X,
        y,
        name=name,
        n_initial=n_initial,
        n_batches=3 if quick else N_BATCHES,
        **settings,
    )
    return {
        "n_labels": curves.n_labels.tolist(),
        "accuracy_with_all": rounded(goal / PART),
        "labels_needed": {
            k: None if np.isnan(v) else v for k, v in curves.labels_to_reach(goal).items()
        },
        "mean_accuracy": {k: rounded(v) for k, v in curves.mean().items()},
        "curves": {k: [rounded(float(v)) for v in c.mean(0)] for k, c in curves.scores.items()},
    }


def rows_of(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return standardized rows, drawn by a fixed seed, and classes."""
    key = f"uci121/{name}"
    tables, absent = stored([key])
    if absent:
        raise RuntimeError(f"{key}: {absent[key]}")
    X, y = standardized(tables[key]["X"]), np.asarray(tables[key]["y"], dtype=np.float64).ravel()
    n = N_POOL + N_TEST + EACH * len(np.unique(y))
    rows = np.random.default_rng(0).permutation(len(y))[:n]
    return X[rows], y[rows]


def learners() -> dict[str, BatchActiveLearner]:
    """Return all of them by name."""
    process = NTKGaussianProcessClassifier(
        NTK(depth=2, bias_var=0.1), optimizer=None, amplitude=4.0, alpha_eps=0.01
    )
    ridge = NTKRidgeClassifierCV()
    return {
        label: BatchActiveLearner(model, selector, batch_size=BATCH)
        for model, selectors in ((ridge, RIDGE), (process, PROCESS))
        for label, selector in selectors.items()
    }


def labels_of_all(tables: Lines) -> dict[str, float | None]:
    """Return mean labels over tables; None where a selector does not get there on one."""
    found: dict[str, float | None] = {}
    for name in next(iter(tables.values()))["labels_needed"]:
        each = [table["labels_needed"][name] for table in tables.values()]
        found[name] = None if None in each else rounded(float(np.mean(each)))
    return found


def accuracy_of_all(tables: Lines) -> dict[str, float]:
    """Return mean accuracies over tables, of all tables for all selectors."""
    names = next(iter(tables.values()))["mean_accuracy"]
    return {
        name: rounded(float(np.mean([table["mean_accuracy"][name] for table in tables.values()])))
        for name in names
    }


def bars(mean: dict[str, float]) -> list[Lines]:
    """Say how much more accurate ours are than the best of others'. Nothing was asked."""
    others = ("random", "margin", "entropy", "BADGE", "Core-Set")
    best = max(mean[name] for name in others)
    return [
        bar(f"{name}: accuracy beyond the best other's", mean[name] - best, 0.0, at_least=True)
        for name in RIDGE
        if name not in others
    ]


if __name__ == "__main__":
    main(measure, __file__, resumes=True)
