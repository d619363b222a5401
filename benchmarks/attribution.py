"""Values of training rows on real tables: wrong labels found, rows removed and added, signs.

Six tables of ../shared/data/openml and six of uci121, five seeds: 1000 training rows, a tenth of
them with another label drawn by the seed, 200 clean validation rows for those that need some, and
up to 2000 of the other rows for tests. Columns are standardized and bounded by 5 tanh(x / 5), the
kernel is that of a ReLU network of two layers, its ridge chosen by leave-one-out on the noisy
labels. Nothing is chosen on test rows.

``detection``: areas under the ROC curve of finding the wrong labels. ``curves``: test accuracy
without, or on, growing parts of 300 rows, beside random orders, pyDVL's TMC Shapley with refits of
KernelRidge, and pyinfluence. ``stability``: signs of values of the same rows among others drawn
anew. ``seconds``: `find_label_errors`, choice of the ridge included, beside Data-OOB, in turn on
two threads; all else runs on one thread and is not timed.

``SKNK_ATTRIBUTION_PARTS`` (comma-separated), ``SKNK_ATTRIBUTION_METHODS`` (semicolons between
names) and ``SKNK_ATTRIBUTION_SEEDS`` restrict what is measured now.
"""

import copy
import os
from collections.abc import Callable
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from _attribution import (
    ESTIMATES,
    FINDER,
    Case,
    Scores,
    by_peers,
    ours,
    out_of_bag,
    pipeline,
    seeds,
    shapley,
    threads,
)
from _common import bar, interleave, main, ratio, rounded, summary, timed
from _peers import Peer
from _store import Result, Store, package_sources
from _tables import stored
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import roc_auc_score

from sknk.attribution import (
    InfluenceAttributor,
    LeaveOneOutAttributor,
    ShapleyAttributor,
    find_label_errors,
)

PARTS = ("detection", "curves", "stability", "seconds")
OPENML = ("2dplanes", "click", "fraud", "cpu_act_bin", "credit_default", "pol_bin")
UCI = (
    "image-segmentation",
    "optical",
    "spambase",
    "statlog-landsat",
    "waveform",
    "wine-quality-white",
)
TABLES = (*(f"openml/{name}" for name in OPENML), *(f"uci121/{name}" for name in UCI))
SEEDS, ROWS, JUDGED = 5, 1000, 200
FEW_SEEDS = 2  # of those who take tens of seconds a table: their means stand beside ours of these
SLOW = ("Shapley, evidence", "Shapley, Brier", "Shapley, accuracy")
SLOW += ("pyDVL, Data-OOB", "cleanlab, forest")
NEAR_THE_BEST, TIMES_FASTER = 0.01, 10.0
CURVE_SEEDS, CURVE_ROWS = 2, 300
CURVES = {  # action, order: parts
    ("remove", "lowest"): (0.1, 0.2, 0.4),
    ("remove", "highest"): (0.1, 0.2, 0.4),
    ("add", "highest"): (0.05, 0.1, 0.2, 0.4),
    ("add", "lowest"): (0.05, 0.1, 0.2, 0.4),
}
PEER_ORDERS, PEER_SECONDS = 50, 30.0
SAME_ROWS, OTHER_ROWS, DRAWS, EACH_JUDGED = 100, 200, 10, 50
STABLE_ESTIMATES = 200
STABLE = OPENML[:3]  # minutes each
ROUNDS = 5
TIMED = ("openml/2dplanes", "uci121/optical", "uci121/spambase")

Lines = dict[str, Any]


def measure(quick: bool, folder: Path | None) -> dict[str, Any]:
    """Measure what is asked for; a peer that is absent is named as such."""
    asked = os.environ.get("SKNK_ATTRIBUTION_PARTS", ",".join(PARTS)).split(",")
    names = [TABLES[0], TABLES[6]] if quick else TABLES
    tables, absent = stored(names)
    peers = {
        "pyDVL": Peer.open("SKNK_PEER_PYDVL", "_worker_pydvl.py"),
        "pyinfluence": Peer.open("SKNK_PEER_INFLUENCE", "_worker_influence.py"),
    }
    store = Store(folder, __file__)
    found: Lines = {}
    try:
        with threads(1):
            if "detection" in asked:
                found["detection"] = detection(tables, peers, store, quick)
            if "curves" in asked:
                found["curves"] = curves(tables, peers, store, quick)
            if "stability" in asked:
                found["stability"] = stability(tables, store, quick)
        if "seconds" in asked:
            found["seconds"] = seconds(tables, peers["pyDVL"], store, quick)
    finally:
        for peer in peers.values():
            if isinstance(peer, Peer):
                peer.close()
    return {
        "bars": bars(found),
        "fits": store.counts(),
        "absent_tables": absent,
        "peers": {
            name: {"absent": peer} if isinstance(peer, str) else peer.versions
            for name, peer in peers.items()
        },
        **{key: found[key] for key in PARTS if key in found},
    }


# --- wrong labels ---------------------------------------------------------------------------------


def detection(tables: Lines, peers: Lines, store: Store, quick: bool) -> Lines:
    """Return areas under the ROC curve by table, means over seeds."""
    n, m = (120, 60) if quick else (ROWS, JUDGED)
    sources = {"sources": package_sources(), "rows": [n, m], "estimates": ESTIMATES}
    everyone = [(name, sources, fit) for name, fit in ours().items()]
    versions = {k: p.versions for k, p in peers.items() if isinstance(p, Peer)}
    theirs = {"versions": versions, "rows": [n, m], "estimates": {}}
    for name, fit in by_peers(*peers.values()).items():
        # Kernels and ridges of peers are ours; their versions are not all they depend on.
        everyone.append((name, theirs if "KNN" in name or "OOB" in name else sources, fit))
    asked = os.environ.get("SKNK_ATTRIBUTION_METHODS")
    everyone = [line for line in everyone if not asked or line[0] in asked.split(";")]
    Runs = dict[str, dict[str, list[float]]]
    runs: Runs = {name: {} for name in tables}
    first: Runs = {name: {} for name in tables}
    for seed in seeds(SEEDS, quick):
        for name, table in tables.items():
            case = Case(table, seed, n, m)
            for who, settings, fit in everyone:
                if who in SLOW and seed >= FEW_SEEDS:
                    continue
                key = ["detection", who, name, seed]
                result = store.get(key, settings, partial(areas, fit, case))
                for each, area in result.get("areas", {}).items():
                    if seed < FEW_SEEDS:
                        first[name].setdefault(each, []).append(area)
                    if who not in SLOW:
                        runs[name].setdefault(each, []).append(area)
            latest = first[name] | runs[name]
            shown = {who: round(line[-1], 3) for who, line in latest.items()}
            print(f"seed {seed}, {name}: {shown}", flush=True)
    by_table, by_table_first = mean_by_table(runs), mean_by_table(first)
    means = mean_areas(by_table)
    for who, area in means.items():
        print(f"{who:<32} {area:.4f}")
    return {
        "seeds": len(seeds(SEEDS, quick)),
        "first_seeds": {
            "seeds": len(seeds(FEW_SEEDS, quick)),
            "mean": mean_areas(by_table_first),
            "tables": by_table_first,
        },
        "rows": n,
        "judged": m,
        "wrong": 0.1,
        "estimates": ESTIMATES,
        "mean": means,
        "tables": by_table,
    }


def areas(fit: Callable[[Case], Scores], case: Case) -> Result:
    """Return the area under the curve of every kind of value."""
    values = fit(case)
    return {"areas": {who: float(roc_auc_score(case.wrong, -v)) for who, v in values.items()}}


def mean_by_table(runs: dict[str, dict[str, list[float]]]) -> dict[str, dict[str, float]]:
    """Return means over seeds."""
    return {
        name: {who: rounded(float(np.mean(line))) for who, line in lines.items()}
        for name, lines in runs.items()
    }


def mean_areas(by_table: dict[str, dict[str, float]]) -> dict[str, float]:
    """Return means over the tables of those who have all, the best first."""
    lines = list(by_table.values())
    names = set(lines[0]).intersection(*lines[1:]) if lines else set()
    means = {who: rounded(float(np.mean([line[who] for line in lines]))) for who in names}
    return dict(sorted(means.items(), key=lambda item: -item[1]))


# --- rows removed and added -----------------------------------------------------------------------


def curves(tables: Lines, peers: Lines, store: Store, quick: bool) -> Lines:
    """Return mean test accuracies along every curve, over the tables of two classes."""
    n, m = (80, 60) if quick else (CURVE_ROWS, JUDGED)
    sources = {"sources": package_sources(), "rows": [n, m], "draws": PEER_ORDERS}
    versions = {k: p.versions for k, p in peers.items() if isinstance(p, Peer)}
    found: list[Lines] = []
    for seed in seeds(CURVE_SEEDS, quick):
        for name, table in tables.items():
            if not name.startswith("openml/"):
                continue
            case = Case(table, seed, n, m)
            settings = sources | {"peers": versions}
            key = ["curves", name, seed]
            result = store.get(key, settings, partial(one_table, case, peers, quick))
            if "failed" not in result:
                found.append(result["curves"])
                print(f"curves, seed {seed}, {name}", flush=True)
    lines: Lines = {}
    for who in found[0] if found else ():
        lines[who] = {
            curve: [rounded(float(v)) for v in np.mean([run[who][curve] for run in found], axis=0)]
            for curve in found[0][who]
        }
        print(f"{who:<32} {lines[who]}", flush=True)
    parts = {" ".join(key): list(value) for key, value in CURVES.items()}
    return {"runs": len(found), "rows": n, "judged": m, "parts": parts, "accuracy": lines}


def one_table(case: Case, peers: Lines, quick: bool) -> Result:
    """Return test accuracies along the curves of everyone's values."""
    values = curve_values(case, peers, quick)
    carrier = LeaveOneOutAttributor(case.model).fit(*case.judged)
    found: Lines = {"random": {}}
    for who, each in values.items():
        other = copy.copy(carrier)
        other.values_ = each
        found[who] = {}
        for (action, order), parts in CURVES.items():
            curve = getattr(other, "removal_curve" if action == "remove" else "addition_curve")(
                case.X_test,
                case.y_test,
                order=order,
                fractions=parts,
                n_random=10 if not found["random"].get(f"{action} {order}") else 0,
                random_state=0,
            )
            found[who][f"{action} {order}"] = curve.scores.tolist()
            if len(curve.random_scores):
                found["random"][f"{action} {order}"] = curve.random_scores.mean(0).tolist()
    return {"curves": found}


def curve_values(case: Case, peers: Lines, quick: bool) -> Scores:
    """Return everyone's values."""
    values: Scores = {}
    wanted = ours()
    for who in wanted:
        if who.startswith(("leave", "influence", "representer", "KNN-Shapley", "Data", "find")):
            values |= wanted[who](case)
    for utility in ("brier", "accuracy"):
        values |= shapley(case, utility, 20 if quick else 200)
    for peer, who, model, scalars in (
        ("pyDVL", "pyDVL, TMC", "tmc", tmc_settings(quick)),
        ("pyinfluence", "pyinfluence", "influence", {}),
    ):
        if isinstance(peers[peer], Peer):
            arrays = case.for_peers(kernels=True, **scalars)
            values[who] = peers[peer].fit(model, "", **arrays)[0]["values"]
    return values


def tmc_settings(quick: bool) -> Lines:
    """Return how long pyDVL samples."""
    orders = 2 if quick else PEER_ORDERS
    return {"orders": orders, "utility": "accuracy", "most_seconds": PEER_SECONDS}


# --- signs ----------------------------------------------------------------------------------------


def stability(tables: Lines, store: Store, quick: bool) -> Lines:
    """Return how often a row's value keeps its sign among other rows, drawn anew."""
    sizes = (20, 40, 3, 10) if quick else (SAME_ROWS, OTHER_ROWS, DRAWS, EACH_JUDGED)
    settings = {"sources": package_sources(), "sizes": sizes, "estimates": STABLE_ESTIMATES}
    found: Lines = {}
    for name, table in tables.items():
        if name.removeprefix("openml/") in STABLE:
            fit = partial(signs, table, *sizes, 20 if quick else STABLE_ESTIMATES)
            result = store.get(["stability", name], settings, fit)
            if "failed" not in result:
                found[name] = result["agreement"]
                print(f"signs, {name}: {found[name]}", flush=True)
    names = next(iter(found.values()), {})
    mean = {who: rounded(float(np.mean([line[who] for line in found.values()]))) for who in names}
    return {"rows": sizes[0], "others": sizes[1], "draws": sizes[2], "mean": mean, "tables": found}


def signs(table: Lines, same: int, others: int, draws: int, each: int, n_iter: int) -> Result:
    """Return agreements of signs, of values and of parts of single validation rows."""
    case = Case(table, 0, 3000, JUDGED)
    pool = len(case.X)
    found: dict[str, list[np.ndarray]] = {}
    for draw in range(draws):
        rng = np.random.default_rng([1, draw])
        rows = np.r_[:same, same + rng.choice(pool - same, others, replace=False)]
        X, y = case.X[rows], case.y[rows]
        model = FrozenEstimator(pipeline().fit(X, y))
        for who, attributor in {
            "Shapley": ShapleyAttributor(model, utility="brier", n_iter=n_iter, random_state=0),
            "leave-one-out": LeaveOneOutAttributor(model),
            "influence": InfluenceAttributor(model),
        }.items():
            attributor.fit(X, y, case.X_val, case.y_val)
            parts = attributor.attribute(case.X_val[:each], case.y_val[:each])
            found.setdefault(who, []).append(np.sign(attributor.values_[:same]))
            found.setdefault(f"{who}, each row judged", []).append(np.sign(parts[:, :same]))
    pairs = list(combinations(range(draws), 2))
    return {
        "agreement": {
            who: rounded(float(np.mean([np.mean(s[a] == s[b]) for a, b in pairs])))
            for who, s in found.items()
        }
    }


# --- seconds --------------------------------------------------------------------------------------


def seconds(tables: Lines, peer: Peer | str, store: Store, quick: bool) -> Lines:
    """Time `find_label_errors` and Data-OOB in turn, two threads or processes for everyone."""
    found: Lines = {}
    settings = {"sources": package_sources(), "rows": (120, 60) if quick else (ROWS, JUDGED)}
    for name in TIMED:
        if name in tables:
            fit = partial(in_turn, tables[name], peer, quick)
            found[name] = store.get(["seconds", name], settings, fit)
            spent = found[name].get("spent", {})
            medians = {who: line["median"] for who, line in spent.items()}
            print(f"{name}, seconds: {medians}", flush=True)
    return found


def in_turn(table: Lines, peer: Peer | str, quick: bool) -> Result:
    """Return seconds of everyone on one table, round after round."""
    case = Case(table, 0, *((120, 60) if quick else (ROWS, JUDGED)))
    arrays = case.for_peers(kernels=False) | {"threads": np.array(2)}
    runs = {
        FINDER: timed(partial(find_label_errors, pipeline(), case.X, case.y)),
        "Data-OOB": timed(partial(out_of_bag, case, 2)),
    }
    if isinstance(peer, Peer):
        for who, model in (("pyDVL, Data-OOB", "out_of_bag"), ("pyDVL, KNN-Shapley", "knn")):
            runs[who] = partial(worked, peer, model, arrays)
    spent = interleave(runs, 1 if quick else ROUNDS)
    return {
        "spent": {who: summary(line) for who, line in spent.items()},
        "times_faster": {w: ratio(spent[w], spent[FINDER]) for w in spent if w != FINDER},
    }


def worked(peer: Peer, model: str, arrays: Scores) -> float:
    """Return the seconds of a worker's values."""
    return float(peer.fit(model, "", **arrays)[1]["seconds"])


# --- bars -----------------------------------------------------------------------------------------


def bars(found: Lines) -> list[Lines]:
    """Judge what was measured; the rest is None."""
    part = found.get("detection", {})
    means, by_table = part.get("mean", {}), part.get("tables", {})
    lines = []
    for seeds_of, each in (
        ("all seeds", means),
        ("first seeds, slow methods too", part.get("first_seeds", {}).get("mean", {})),
    ):
        gap = max(each.values()) - each[FINDER] if FINDER in each else None
        name = f"best mean AUROC less {FINDER}, {seeds_of}"
        lines.append(bar(name, gap, NEAR_THE_BEST, at_least=False))
    for name in TABLES:
        line = by_table.get(name, {})
        theirs = [line[who] for who in ("pyDVL, KNN-Shapley", "KNN-Shapley") if who in line]
        value = line[FINDER] - max(theirs) if theirs and FINDER in line else None
        lines.append(bar(f"{name}, AUROC above KNN-Shapley", value, 0.0, at_least=True))
    for name in TIMED:
        faster = found.get("seconds", {}).get(name, {}).get("times_faster", {})
        each = [v["of_medians"] for who, v in faster.items() if "OOB" in who]
        value = min(each, default=None)
        lines.append(bar(f"{name}, times faster than Data-OOB", value, TIMES_FASTER, at_least=True))
    mean = found.get("stability", {}).get("mean", {})
    for suffix in ("", ", each row judged"):
        value = mean[f"Shapley{suffix}"] - mean[f"leave-one-out{suffix}"] if mean else None
        name = f"agreement of signs above leave-one-out{suffix}"
        lines.append(bar(name, value, 0.0, at_least=True))
    return lines


if __name__ == "__main__":
    main(measure, __file__, resumes=True)
