"""How the defaults of `NTKRidgeClassifierCV` were chosen: kernels, ridges, rule, calibration.

On 80 tables without the tag arora90 (`_tuning.py` lists them, and what was left out because its
rows are those of a test table), three splits each: at most 150, 300 and 600 training rows, the
sizes of the tables that `uci.py` scores. Every kernel's ridge path is computed once; every policy,
a set of kernels and a rule, is then replayed on the stored numbers. Differences are means over
tables with their standard errors.
"""

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from _common import bar, main, rounded
from _store import Store
from _tuning import SAME_ROWS, SIZES, TABLES, Split, split_of, tuning_tables
from _tuning_scores import Target, calibrations, numbers, ridge_scores
from _uci import fingerprint

from sknk.kernels import NNGP, NTK, LeakyReLU, Rbf
from sknk.ridge._classes import LabelCoder

ALPHAS = np.logspace(-4, 2, 13)
DEPTHS, BIASES = (1, 2, 3, 4, 5, 8), (0.0, 0.1, 1.0, 10.0)


def free(depths: Iterable[int], biases: Iterable[float]) -> dict[str, Any]:
    """Return kernels with every layer trained."""
    return {f"{d} layers, bias {b:g}": NTK(d, bias_var=b) for d in depths for b in biases}


def last(depths: Iterable[int], biases: Iterable[float]) -> dict[str, Any]:
    """Return kernels with the last layer trained only."""
    return {
        f"{d} layers, bias {b:g}, last trained": NTK(d, bias_var=b, fixed_depth=d)
        for d in depths
        for b in biases
    }


OTHERS = {
    "linear": NTK(0),
    "erf": NTK(2, "erf", bias_var=1.0, weight_var=1.0),
    "gelu": NTK(2, "gelu", bias_var=1.0),
    "leaky": NTK(2, LeakyReLU(0.3), bias_var=1.0),
    "abs": NTK(1, "abs", bias_var=0.1),
    "gaussian": NNGP(1, Rbf(0.3), weight_var=1.0),
}
KERNELS = {**free(DEPTHS, BIASES), **last((1, 2, 3, 4, 5), (0.0, 0.1)), **OTHERS}
CHOSEN = tuple(free((1, 3, 8), (0.1, 1.0, 10.0)))
FIRST = (*free((1, 2, 3, 4, 5), (0.0, 0.1)), *last((1, 2, 3, 4, 5), (0.0, 0.1)))
GRIDS = {
    "first": FIRST,  # what the estimator had before this experiment
    "chosen": CHOSEN,
    "depths 1, 3, 8, bias 0.1, 1": tuple(free((1, 3, 8), (0.1, 1.0))),
    "depths 1, 3, 5, bias 0.1, 1, 10": tuple(free((1, 3, 5), (0.1, 1.0, 10.0))),
    "depths 1, 2, 3, 5, 8, bias 0.1, 1, 10": tuple(free((1, 2, 3, 5, 8), (0.1, 1.0, 10.0))),
    "depths 1 to 5, bias 0, 0.1, 1": tuple(free((1, 2, 3, 4, 5), (0.0, 0.1, 1.0))),
    "depths 1, 3, 8, no bias": tuple(free((1, 3, 8), (0.0,))),
    "one kernel: depth 1, bias 1": tuple(free((1,), (1.0,))),
    "one kernel: depth 3, bias 1": tuple(free((3,), (1.0,))),
    "everything": tuple(KERNELS),
    **{f"chosen and {name}": (*CHOSEN, name) for name in OTHERS},
    "chosen and last layers": (*CHOSEN, *last((1, 3), (0.1,))),
}
RULES = ("square", "log_loss", "accuracy", "ranks")
BEFORE, AFTER = ("first", "all", "square"), ("chosen", "one", "log_loss")
"""Grid, what is left out (all copies of a row or one) and rule, before the experiment and after."""

Table = dict[str, Any]


def measure(quick: bool, folder: Path | None) -> dict[str, Any]:
    """Compute every split, replay every policy."""
    tables, absent = tuning_tables(TABLES[::16] if quick else TABLES)
    store, splits = Store(folder, __file__), range(1 if quick else len(SIZES))
    settings = {"kernels": fingerprint(KERNELS.values()), "alphas": ALPHAS.tolist()}
    found: dict[str, list[Table]] = {}
    for name, (X, y) in tables.items():
        for k in splits:
            split = split_of(X, y, k)
            if split.y.any():  # few rows of a table with a rare class may be of one class
                one = store.get([name, k], settings, partial(one_split, split))
                found.setdefault(name, []).append(one)
        print(f"{name:<40}{[one['n'] for one in found.get(name, [])]}", flush=True)
    policies = [(grid, "one", rule) for grid in GRIDS for rule in RULES]
    policies = [BEFORE, ("first", "all", "log_loss"), *policies]
    results = {policy: replayed(found, policy) for policy in policies}
    lines = {", ".join(policy): compared(results, policy) for policy in policies}
    calibrated = by_calibration(found)
    for name, line in {**lines, **calibrated}.items():
        print(f"{name:<66}{line}")
    gain = results[AFTER] - results[BEFORE]
    return {
        "bars": [
            bar("defaults: gain of accuracy, points", gain[:, 0].mean() * 100, 0, at_least=True),
            bar("defaults: gain of log loss, nats", -gain[:, 1].mean(), 0, at_least=True),
        ],
        "fits": store.counts(),
        "training_rows": SIZES,
        "left_out_as_same_rows": SAME_ROWS,
        "absent_tables": absent,
        "kernels": {name: repr(kernel) for name, kernel in KERNELS.items()},
        "grids": GRIDS,
        "before": BEFORE,
        "after": AFTER,
        "policies": lines,
        "calibrations_of_the_model_chosen_after": calibrated,
        "tables": {
            name: {"before": before.round(5).tolist(), "after": after.round(5).tolist()}
            for name, before, after in zip(found, results[BEFORE], results[AFTER], strict=True)
        },
    }


# --- one split ------------------------------------------------------------------------------------


def one_split(split: Split) -> Table:
    """Return the numbers of every kernel and ridge, and the calibrations of the chosen model."""
    rows, first, copies = distinct(split)
    Y = LabelCoder(split.y).Y[first]
    target = Target(Y, split.y[first], copies, split.y_test)
    found: dict[str, Any] = {}
    best: tuple[float, Any] = (np.inf, None)
    for name, kernel in KERNELS.items():
        scores = ridge_scores(kernel(rows), kernel(split.X_test, rows), target, ALPHAS)
        found[name] = numbers(scores, target)
        losses = found[name]["one_log_loss"]
        if name in CHOSEN and min(losses) < best[0]:
            a = int(np.argmin(losses))
            best = min(losses), (scores.one_out[a], scores.test[a])
    left_out, test = best[1]
    return {
        "n": len(split.y),
        "distinct": len(first),
        "kernels": found,
        "calibrations": calibrations(left_out, test, target),
    }


def distinct(split: Split) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return rows that differ in x or class, where each comes first, and how many copies it has."""
    keys = np.column_stack([split.X, split.y])
    _, first, copies = np.unique(keys, axis=0, return_index=True, return_counts=True)
    return split.X[first], first, copies.astype(float)


# --- policies -------------------------------------------------------------------------------------


def replayed(found: dict[str, list[Table]], policy: tuple[str, str, str]) -> np.ndarray:
    """Return accuracy and log loss of a policy's choices, means over splits, (tables, 2)."""
    return np.array([np.mean([choice(one, *policy) for one in t], axis=0) for t in found.values()])


def choice(one: Table, grid: str, left: str, rule: str) -> tuple[float, float]:
    """Return test accuracy and log loss of what a rule chooses from a grid on one split."""
    kernels = [one["kernels"][name] for name in GRIDS[grid]]

    def every(number: str) -> np.ndarray:
        return np.concatenate([kernel[number] for kernel in kernels])

    i = int(np.argmin(criterion(every, left, rule)))
    return every("test_accuracy")[i], every(f"{left}_test_log_loss")[i]


def criterion(every: Any, left: str, rule: str) -> np.ndarray:
    """Return what a rule minimizes."""
    if rule == "accuracy":
        return -every(f"{left}_accuracy")
    if rule == "ranks":
        ranks = [np.argsort(np.argsort(every(f"{left}_{r}"))) for r in ("square", "log_loss")]
        return ranks[0] + ranks[1]
    return every(f"{left}_{rule}")


def compared(
    results: dict[tuple[str, str, str], np.ndarray], policy: tuple[str, str, str]
) -> dict[str, Any]:
    """Return a policy's means, and its difference to what was before and to what came after."""
    own = results[policy]
    return {
        "kernels": len(GRIDS[policy[0]]),
        "accuracy": rounded(100 * own[:, 0].mean()),
        "log_loss": rounded(own[:, 1].mean()),
        "minus_before": difference(own, results[BEFORE]),
        "minus_after": difference(own, results[AFTER]),
    }


def by_calibration(found: dict[str, list[Table]]) -> dict[str, Any]:
    """Return means of every calibration, and its difference to one temperature."""
    tables = list(found.values())
    ways = tables[0][0]["calibrations"]
    values = {
        way: np.array(
            [np.mean([o["calibrations"][way] for o in t], axis=0) for t in found.values()]
        )
        for way in ways
    }
    plain = values["temperature"]
    return {
        way: {
            "accuracy": rounded(100 * own[:, 0].mean()),
            "log_loss": rounded(own[:, 1].mean()),
            "minus_temperature": difference(own, plain),
        }
        for way, own in values.items()
    }


def difference(a: np.ndarray, b: np.ndarray) -> dict[str, list[float]]:
    """Return mean and standard error over tables: points of accuracy, nats of log loss."""
    each = (a - b) * (100.0, 1.0)
    errors = each.std(axis=0, ddof=1) / len(each) ** 0.5 if len(each) > 1 else np.zeros(2)
    pairs = [[rounded(m), rounded(e)] for m, e in zip(each.mean(axis=0), errors, strict=True)]
    return dict(zip(("accuracy", "log_loss"), pairs, strict=True))


if __name__ == "__main__":
    main(measure, __file__, resumes=True)
