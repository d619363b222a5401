"""Classification on the 90 UCI tables of Arora et al. 2020, their protocol and an honest one.

Honest: in every one of the four published folds each method chooses whatever it chooses inside the
training part, of which at most 2000 rows are used, the same for all. Ours has no arguments. A
method that fails on a fold counts as the class frequencies there, and the failure is recorded.

Published: hyperparameters are chosen on one split into halves and scored on folds of the same rows,
so the choice has seen test rows; it is here to reproduce known figures.

``SKNK_UCI_METHODS`` (names, comma-separated) and ``SKNK_UCI_MAX_ROWS`` say what is fitted now;
results of earlier runs count all the same. A method's mean is over the tables that all methods
have, a comparison over those that both have.
"""

import os
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from _common import bar, main
from _store import Result, Store, _name
from _tables import stored
from _uci import (
    FOREST,
    LEARNED,
    METHODS,
    OURS,
    SVM,
    TABLES,
    WORKED,
    Worker,
    contestants,
    fold_of,
    frequencies,
    scored,
)
from _uci_leaky import NTK_SVM, PUBLISHED, published
from _uci_summary import Scores, against, overall

FOLDS = 4
SMALL = (60, 1100)
MANY = 1000
KNOWN = {
    "published_ntk_svm": 81.95,
    "published_ntk_ridge": 81.56,
    "published_rbf_svm": 81.44,
    "published_forest": 81.18,
}
"""Mean accuracies of a reference run of the published protocol on the 90 tables."""


class Wanted(Store):
    """A store that fits only what was asked for."""

    def __init__(self, folder: Path | None) -> None:
        super().__init__(folder, __file__)
        names = os.environ.get("SKNK_UCI_METHODS", "")
        self._names = names.split(",") if names else [*METHODS, *PUBLISHED]
        self._most = int(os.environ.get("SKNK_UCI_MAX_ROWS", "5000"))

    def result(
        self, key: list[Any], n: int, settings: Any, fit: Callable[[], Result]
    ) -> Result | None:
        """Return what is known or asked for; None for what is neither."""
        if key[0] in self._names and n <= self._most:
            return self.get(key, settings, fit)
        return self._known.get(_name(key, settings))


def measure(quick: bool, folder: Path | None) -> dict[str, Any]:
    """Score every table, smallest first; print means over the tables."""
    found, absent = stored(f"uci121/{name}" for name in TABLES)
    names = sorted(found, key=lambda name: (len(found[name]["X"]), name))
    names = names[2:12:3] if quick else names
    store, worker = Wanted(folder), Worker()
    tables: dict[str, Any] = {}
    try:
        for name in names:
            tables[name] = one_table(name, found[name], store, worker)
            print(line(name, tables[name]), flush=True)
        missing = worker.peer if isinstance(worker.peer, str) else None
    finally:
        worker.close()
    summaries = {which: summarized(group) for which, group in groups(tables).items()}
    for which, summary in summaries.items():
        show(which, summary)
    return {
        "bars": bars(tables),
        "fits": store.counts(),
        "absent_tables": absent,
        "absent_peers": missing,
        "known_figures": KNOWN,
        "summaries": summaries,
        "tables": tables,
    }


# --- one table ------------------------------------------------------------------------------------


def one_table(
    name: str, table: dict[str, np.ndarray], store: Wanted, worker: Worker
) -> dict[str, Any]:
    """Fit everyone; methods without results on every fold are left out."""
    n = len(table["X"])
    folds = [fold_of(table, k) for k in range(FOLDS)]
    honest = {}
    for method, settings, predict in contestants(worker):
        if method in WORKED and isinstance(worker.peer, str):
            continue
        fits = [
            store.result([method, name, k], n, settings, partial(scored, predict, fold))
            for k, fold in enumerate(folds)
        ]
        if None not in fits:
            honest[method] = averaged(fits, folds)
    leaky = {
        method: store.result([method, name], n, settings, fit)
        for method, settings, fit in published(table)
    }
    return {
        "rows": n,
        "d": table["X"].shape[1],
        "classes": folds[0].n_classes,
        "train_rows": [len(fold.y) for fold in folds],
        "honest": honest,
        "published": {method: found for method, found in leaky.items() if found is not None},
    }


def averaged(fits: Iterable[Any], folds: Iterable[Any]) -> dict[str, Any]:
    """Return the means over folds, and what went wrong."""
    used, failed, kinds = [], {}, set()
    for k, (fit, fold) in enumerate(zip(fits, folds, strict=True)):
        kinds |= set(fit["warnings"])
        if "failed" in fit:
            failed[str(k)] = fit["failed"]
        used.append(fit | scored(frequencies, fold) if "failed" in fit else fit)
    numbers = ("accuracy", "log_loss", "fit_predict_seconds")
    means = {name: round(float(np.mean([fit[name] for fit in used])), 5) for name in numbers}
    return {**means, "warnings": sorted(kinds)} | ({"failed": failed} if failed else {})


def line(name: str, table: dict[str, Any]) -> str:
    """Return a table's accuracies for the terminal."""
    found = {**table["honest"], **table["published"]}
    shown = "  ".join(f"{m} {100 * r['accuracy']:.1f}" for m, r in found.items() if "accuracy" in r)
    return f"{name.removeprefix('uci121/'):<34}{table['rows']:>5}  {shown}"


# --- all tables -----------------------------------------------------------------------------------


def groups(tables: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return all tables, and those of a size at which everyone is quick."""
    low, high = SMALL
    small = {name: t for name, t in tables.items() if low <= t["rows"] <= high}
    return {"all": tables, f"{low} to {high} rows": small}


def complete(tables: dict[str, Any], protocol: str, methods: Iterable[str]) -> Scores:
    """Return the results of the tables that every method has finished."""
    methods = list(methods)
    return {
        name: table[protocol]
        for name, table in tables.items()
        if all("accuracy" in table[protocol].get(method, {}) for method in methods)
    }


def summarized(tables: dict[str, Any]) -> dict[str, Any]:
    """Return the figures of both protocols."""
    honest = [m for m in METHODS if any(m in t["honest"] for t in tables.values())]
    leaky = [m for m in PUBLISHED if any(m in t["published"] for t in tables.values())]
    scores = complete(tables, "honest", honest)
    seen = complete(tables, "published", leaky)
    peers = [m for m in honest if m != OURS] if OURS in honest else []
    return {
        "tables": {"all": len(tables), "honest": len(scores), "published": len(seen)},
        "honest": overall(scores, honest),
        "ours_against": {peer: paired(tables, peer) for peer in peers},
        "features_against": {
            peer: paired(tables, peer, LEARNED) for peer in honest if peer != LEARNED
        },
        "ours_against_published": {peer: mixed(tables, peer) for peer in leaky if peers},
        "published": overall(seen, leaky),
    }


def paired(tables: dict[str, Any], peer: str, mine: str = OURS) -> dict[str, Any]:
    """Compare one of our models with another method, over the tables that both have finished."""
    scores = complete(tables, "honest", (mine, peer))
    return {"tables": len(scores), **against(scores, mine, peer)}


def mixed(tables: dict[str, Any], peer: str) -> dict[str, Any]:
    """Compare our honest accuracies with a method's published protocol."""
    scores = {
        name: {OURS: t["honest"][OURS], peer: t["published"][peer]}
        for name, t in tables.items()
        if OURS in t["honest"] and "accuracy" in t["published"].get(peer, {})
    }
    return {"tables": len(scores), **against(scores, OURS, peer)}


def bars(tables: dict[str, Any]) -> list[dict[str, Any]]:
    """Judge what was asked for, each pair over the tables that both have finished."""
    peers = [m for m in METHODS if m not in (OURS, LEARNED)]
    points, p = "mean_difference", "wilcoxon_p"
    found = []
    for mine, name in ((OURS, "ours"), (LEARNED, "features learned")):
        compared = {peer: paired(tables, peer, mine) for peer in peers}
        gaps = [line["log_loss_difference"] for line in compared.values() if line["tables"]]
        for peer, title in ((FOREST, "forest"), (SVM, "tuned RBF-SVM")):
            value = compared[peer].get(points)
            found.append(bar(f"{name} minus {title}, points", value, 0.8, at_least=True))
        least = min(gaps, default=None)
        found.append(bar(f"least log loss of others minus {name}", least, 0.0, at_least=True))
        value = compared[FOREST].get(p)
        found.append(bar(f"{name}: Wilcoxon's p against the forest", value, 0.05, at_least=False))
    leaky = mixed(tables, NTK_SVM).get(points)
    found.append(bar("ours minus published NTK-SVM, points", leaky, 0.0, at_least=True))
    many = {name: table for name, table in tables.items() if table["rows"] >= MANY}
    for title, group in (("", tables), (f", {MANY} rows or more", many)):
        gain = paired(group, OURS, LEARNED).get(points)
        found.append(bar(f"features minus without{title}, points", gain, 0.0, at_least=True))
    return found


def show(which: str, summary: dict[str, Any]) -> None:
    """Print the figures of one group of tables."""
    print(f"\n{which}: {summary['tables']}")
    for protocol in ("honest", "published"):
        for method, numbers in summary[protocol].items():
            shown = "  ".join(f"{name} {value:g}" for name, value in numbers.items())
            print(f"{method:<22}{shown}")
    for peer, compared in (summary["ours_against"] | summary["ours_against_published"]).items():
        print(f"ours against {peer}: {compared}")


if __name__ == "__main__":
    main(measure, __file__, resumes=True)
