"""How feature learning was chosen: powers, shrinkage, centring, priors, and when a map is taken.

On 30 regression tables that `tables.py` does not score, at most 500 training and 1000 test rows.
Every map is learned on all training rows and judged on the test rows; it is also learned without
each of three folds and judged there, as the estimator does. Rules, so many standard errors, are
replayed on the stored losses: what would have been chosen, and what it does to the test error.
Figures are mean logarithms of errors over those without a map: negative is better.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from _common import main, rounded
from _regression import MOST_TEST, split
from _store import Store, package_sources
from _tables import stored
from sklearn.preprocessing import StandardScaler
from torch import no_grad

from sknk._training import merge_rows
from sknk.kernels import NTK
from sknk.ridge._feature_maps import OuterProduct
from sknk.ridge._feature_search import LEARNERS, FeatureSearch
from sknk.ridge._grid import GridSearch, candidates_of, regression_alphas, regression_grid
from sknk.ridge._relevance import Relevance
from sknk.ridge._selection import Criterion

TABLES = (
    "kin40k",
    "keggundirected",
    "keggdirected",
    "tamielectric",
    "fishcatch",
    "lowbwt",
    "meta",
    "pbc",
    "pharynx",
    "pollution",
    "puma8nh",
    "pyrim",
    "quake",
    "sensory",
    "stock",
    "triazines",
    "veteran",
    "pollen",
    "satellite_image",
    "house_16h",
    "house8l",
    "fried",
    "tecator",
    "esl",
    "swd",
    "lev",
    "era",
    "sacramento",
    "nycflights13_60k",
    "sarcos_test",
)
MOST, ROUNDS = 500, 2
MAPS = {
    "whole, power 1/2": OuterProduct(0.5, 0.0, False),
    "whole, power 1/2, centred": OuterProduct(0.5, 0.0, False, centred=True),
    "whole, power 1/4": OuterProduct(0.25, 0.0, False),
    "whole, power 1/2, shrunk by 0.05": LEARNERS["agop"],
    "diagonal, power 1/2": OuterProduct(0.5, 0.0, True),
    "diagonal, power 1/4": LEARNERS["agop_diag"],
    "relevance, prior 1": Relevance(prior=1.0),
    "relevance, prior 3": LEARNERS["ard"],
    "relevance, prior 10": Relevance(prior=10.0),
}
CHOSEN = [name for name, learner in MAPS.items() if learner in LEARNERS.values()]
RULES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)


def measure(quick: bool, folder: Path | None) -> dict[str, Any]:
    """Learn every map on every table, replay the rules."""
    found, absent = stored(TABLES[4:6] if quick else TABLES)
    store = Store(folder, __file__)
    most = 100 if quick else MOST
    settings = {"sources": package_sources(), "most": most}
    tables = {}
    for name in sorted(found, key=lambda name: found[name]["X"].shape[1]):
        run = store.get([name], settings, lambda name=name: one_table(found[name], most))
        if "failed" not in run:
            tables[name] = run["steps"]
            print(name, run["seconds"], "s", flush=True)
    maps = {step: over_tables(tables, step) for step in next(iter(tables.values()), {})}
    rules = {str(errors): replayed(tables, errors) for errors in RULES}
    for name, line in [*maps.items(), *rules.items()]:
        print(f"{name:<42}", "  ".join(f"{key} {value}" for key, value in line.items()))
    return {"fits": store.counts(), "maps": maps, "rules": rules, "absent_tables": absent} | {
        "tables": tables
    }


def one_table(table: dict[str, np.ndarray], most: int) -> dict[str, Any]:
    """Return errors of every map, and how certain its gain on the folds is."""
    X, y, X_test, y_test = split(table, 0, most)
    X_test, y_test = X_test[: MOST_TEST // 2], y_test[: MOST_TEST // 2]
    scaler = StandardScaler().fit(X)
    Y = y[:, None]
    training = merge_rows(scaler.transform(X), Y, None, precomputed=False)
    criterion = Criterion(None, Y, Y, None, None)
    kernel = NTK()
    candidates = candidates_of(regression_grid(), kernel)
    grid = GridSearch(kernel, candidates, regression_alphas(), True, None, 0)
    search = FeatureSearch(grid, MAPS, ROUNDS, 0)
    with no_grad():
        few = grid.best_kernels(grid.run(training, criterion), 3)
        losses = search._held_out(few, training, criterion)
        steps = {}
        for step, fit in search._fold_fits(few, training, criterion):
            gap = fit.predict(scaler.transform(X_test), training)[:, 0] - y_test
            difference = losses["none", 0] - losses.get(step, losses["none", 0])
            steps[f"{step[0]}; {step[1]}"] = {
                "test": rounded(float(np.log(np.square(gap).mean()) / 2)),
                "leave_one_out": rounded(float(np.log(-fit.score) / 2)),
                "held_out": rounded(float(np.log(losses.get(step, [np.nan]).mean()) / 2)),
                "gain": float(difference.mean()),
                "gain_error": float(difference.std() / len(difference) ** 0.5),
            }
    return {"steps": steps}


Steps = Mapping[str, Mapping[str, float]]
NONE = "none; 0"


def over_tables(tables: Mapping[str, Steps], step: str) -> dict[str, Any]:
    """Return the mean changes of a map's errors."""
    return {
        key: rounded(float(np.mean([t[step][key] - t[NONE][key] for t in tables.values()])))
        for key in ("leave_one_out", "held_out", "test")
    }


def replayed(tables: Mapping[str, Steps], errors: float) -> dict[str, Any]:
    """Return what a rule does: the best of the estimator's maps, if better by so many errors."""
    changes = []
    for steps in tables.values():
        able = {
            name: line["gain"]
            for name, line in steps.items()
            if name.split("; ")[0] in CHOSEN and line["gain"] > errors * line["gain_error"]
        }
        chosen = max(able, key=able.__getitem__, default=NONE)
        changes.append(steps[chosen]["test"] - steps[NONE]["test"])
    worse = np.array(changes) > np.log(1.02)
    return {
        "test": rounded(float(np.mean(changes))),
        "worst": rounded(float(max(changes, default=0.0))),
        "worse_by_2_percent": int(worse.sum()),
        "chosen": int(np.count_nonzero(changes)),
    }


if __name__ == "__main__":
    main(measure, __file__, resumes=True)
