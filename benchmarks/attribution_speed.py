"""Shapley values of training rows: seconds an order, precision at equal time, 5000 rows, memory.

``orders``: permutation Shapley of 1000 digits, 200 validation rows, ten classes; seconds an order
of ours (whole ``fit``, kernel included) beside one inverse for all classes grown in place, FreeShap
as published and pyDVL with refits of KernelRidge, on one thread and on two. ``equal_time``:
stratified samples and permutations after as many seconds, beside a long run (600 rows, Brier
score). ``large``: 5000 rows and 1000 validation rows beside a long run with another seed.
``memory``: growth of fresh processes beside the n x m x C outputs of all prefixes.

``SKNK_ATTRIBUTION_PARTS`` (names, comma-separated) says which parts are measured now; parts that an
earlier run left for the same sources count all the same.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _attribution import threads
from _attribution_baselines import FreeShap, bordered_walk
from _common import bar, interleave, main, ratio, rounded, summary, timed
from _peers import Peer
from _store import Result, Store, _name, package_sources
from _tables import bundled, standardized, stored
from scipy.stats import spearmanr
from sklearn.frozen import FrozenEstimator

from sknk import NTKRidgeClassifier, NTKRidgeClassifierCV
from sknk.attribution import ShapleyAttributor
from sknk.kernels import NTK

PARTS = ("orders", "equal_time", "large", "memory")
RIDGE = 0.1
ROWS, JUDGED, ORDERS = 1000, 200, 20
TIMES_FASTER = {"one inverse, Brier": 15.0, "one inverse, accuracy": 15.0, "FreeShap": 200.0}
TIMES_FASTER |= {"FreeShap, untruncated": 200.0, "pyDVL": 1000.0}
DIFFERENCE = 1e-8  # of marginals, float64
EQUAL_ROWS, EQUAL_SECONDS, EQUAL_SEEDS, LONG_SECONDS = 600, 8.0, 5, 240.0
HALF = 0.5
LARGE, LARGE_TABLE, LARGE_STEPS, LARGE_STEP_SECONDS = (5000, 1000), "openml/2dplanes", 10, 50.0
LARGE_LONG_SECONDS, LARGE_LIMIT, CLOSE = 1500.0, 600.0, 0.95
MEMORY_CASES = (  # n, m, C, utility, sampler
    (600, 2000, 100, "accuracy", "permutation"),
    (600, 2000, 100, "accuracy", "stratified"),
    (600, 2000, 100, "brier", "permutation"),
    (600, 2000, 100, "brier", "stratified"),
    (5000, 1000, 10, "accuracy", "permutation"),
)
QUICK_MEMORY = ((100, 300, 20, "accuracy", "permutation"),)
JUDGED_MEMORY = 4  # cases; of the last the Gram matrix is large itself
PART_OF_OUTPUTS = 0.5

Data = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def measure(quick: bool, folder: Path | None) -> dict[str, Any]:
    """Measure every part that is asked for."""
    asked = os.environ.get("SKNK_ATTRIBUTION_PARTS")
    store, settings = Store(folder, __file__), {"sources": package_sources()}
    functions: dict[str, Callable[[bool], Result]] = {
        "orders": orders,
        "equal_time": equal_time,
        "large": large,
        "memory": memory,
    }
    found: dict[str, Any] = {}
    for part in PARTS:
        if not asked or part in asked.split(","):
            found[part] = store.get([part], settings, partial(functions[part], quick))
        elif _name([part], settings) in store._known:
            found[part] = store._known[_name([part], settings)]
    return {"bars": bars(found), "parts": store.counts(), **found}


# --- seconds an order -----------------------------------------------------------------------------


def digits(n: int, m: int) -> Data:
    """Return training and validation rows of ten classes."""
    table = bundled("digits")
    rows = np.random.default_rng(0).permutation(len(table["X"]))[: n + m]
    X, y = table["X"][rows] / 16.0, table["y"][rows]
    return X[:n], y[:n], X[n:], y[n:]


def orders(quick: bool) -> Result:
    """Time ours and everyone else on the same kernel, ridge and codes."""
    data = digits(150, 50) if quick else digits(ROWS, JUDGED)
    X, y, X_val, _ = data
    model = NTKRidgeClassifier(NTK(depth=2), alpha=RIDGE, fit_intercept=False).fit(X, y)
    frozen, kernel = FrozenEstimator(model), NTK(depth=2)
    K, cross = kernel(X), kernel(X_val, X)
    peer = Peer.open("SKNK_PEER_PYDVL", "_worker_pydvl.py")
    found: Result = {
        "rows": len(X),
        "judged": len(X_val),
        "classes": 10,
        "orders_of_a_run_of_ours": ORDERS,
        "peers": {"pyDVL": {"absent": peer} if isinstance(peer, str) else peer.versions},
        "largest_difference_of_marginals": agreement(frozen, data, K, cross),
    }
    for count in (1, 2):
        with threads(count):
            name = "one thread" if count == 1 else "two threads"
            found[name] = on_threads(frozen, data, K, cross, peer, count, quick)
            medians = {who: line["median"] for who, line in found[name]["seconds"].items()}
            print(f"{name}, seconds an order: {medians}", flush=True)
    if isinstance(peer, Peer):
        peer.close()
    return found


def ours(frozen: Any, data: Data, utility: str, n_iter: int) -> ShapleyAttributor:
    """Return values over some orders."""
    attributor = ShapleyAttributor(
        frozen, utility=utility, sampler="permutation", n_iter=n_iter, tol=0, random_state=0
    )
    return attributor.fit(*data)


def tensors(data: Data, K: np.ndarray, cross: np.ndarray) -> tuple[torch.Tensor, ...]:
    """Return kernels, and codes -1 and 1."""
    codes = (np.where(y[:, None] == np.arange(10), 1.0, -1.0) for y in (data[1], data[3]))
    K, cross, Y, T = (torch.from_numpy(a) for a in (K, cross, *codes))
    return K, cross, Y, T


def agreement(frozen: Any, data: Data, K: np.ndarray, cross: np.ndarray) -> dict[str, float]:
    """Compare the marginals of one order; FreeShap's accuracies but that of the first row."""
    n = len(K)
    order = np.random.default_rng([0, 0]).permutation(n)
    found = {}
    for utility in ("brier", "accuracy"):
        values = ours(frozen, data, utility, 1).values_
        walk = bordered_walk(*tensors(data, K, cross), RIDGE, order, utility)
        gap = np.abs(values - walk.marginals(order)).max()
        found[f"one inverse, {utility}"] = rounded(float(gap), 2)
        if utility == "accuracy":
            few = min(n, 120)
            walk = free_shap(data, K, cross).walk(order, most=few)
            gap = np.abs(values[order[1:few]] - np.diff(walk.utilities[1:, 1]))
            found["FreeShap, accuracy"] = rounded(float(gap.max()), 2)
    return found


def free_shap(data: Data, K: np.ndarray, cross: np.ndarray) -> FreeShap:
    """Return the published algorithm on our kernel and ridge."""
    return FreeShap(torch.from_numpy(K), torch.from_numpy(cross), data[1], data[3], 10, RIDGE)


def on_threads(
    frozen: Any,
    data: Data,
    K: np.ndarray,
    cross: np.ndarray,
    peer: Peer | str,
    count: int,
    quick: bool,
) -> Result:
    """Time everyone: quick ones in turn, then slow ones in turn with ours."""
    n_iter = 2 if quick else ORDERS
    order = np.random.default_rng(0).permutation(len(K))

    def each(utility: str) -> Callable[[], float]:
        run = timed(lambda: ours(frozen, data, utility, n_iter))
        return lambda: run() / n_iter

    def grown(utility: str) -> Callable[[], float]:
        arguments = tensors(data, K, cross)
        return timed(lambda: bordered_walk(*arguments, RIDGE, order, utility))

    runs = {f"ours, {u}": each(u.lower()) for u in ("Brier", "accuracy")}
    fair = {f"one inverse, {u}": grown(u.lower()) for u in ("Brier", "accuracy")}
    seconds = interleave({**runs, **fair}, 2 if quick else 7)
    faster = {
        who: ratio(seconds[who], seconds["ours, " + who.removeprefix("one inverse, ")])
        for who in fair
    }
    slow: dict[str, Callable[[], float]] = {}
    walks: list[Any] = []
    published = free_shap(data, K, cross)

    def walked() -> float:
        walks.append(published.walk(order))
        return float(walks[-1].seconds[-1])

    slow["FreeShap, untruncated"] = walked
    if isinstance(peer, Peer):
        slow["pyDVL, kernel given"] = lambda: refits(peer, data, count, K=K, cross=cross)
        slow["pyDVL, RBF kernel of the rows"] = lambda: refits(peer, data, count)
    late = interleave({**runs, **slow}, 1 if quick else 3, warm=0)
    stops = [FreeShap.stop(walk) for walk in walks]
    late["FreeShap"] = [float(w.seconds[k - 1]) for w, k in zip(walks, stops, strict=True)]
    accuracy, brier = late["ours, accuracy"], late["ours, Brier"]
    faster["FreeShap"] = ratio(late["FreeShap"], accuracy)
    faster["FreeShap, untruncated"] = ratio(late["FreeShap, untruncated"], accuracy)
    for who in set(late) & {"pyDVL, kernel given", "pyDVL, RBF kernel of the rows"}:
        faster[who] = ratio(late[who], brier)
    return {
        "seconds": {who: summary(line) for who, line in (late | seconds).items()},
        "times_faster": faster,
        "free_shap_stops_after_rows": stops[-1],
    }


def refits(peer: Peer, data: Data, count: int, **kernels: np.ndarray) -> float:
    """Return the seconds of one order of pyDVL's, no truncation."""
    names = dict(zip(("X", "y", "X_val", "y_val"), data, strict=True))
    scalars = {"ridge": RIDGE, "n_classes": 10, "threads": count, "orders": 1}
    arrays = {key: np.array(value) for key, value in scalars.items()}
    arrays["utility"] = np.array("brier")
    return float(peer.fit("permutations", "", **names, **kernels, **arrays)[1]["seconds"])


# --- precision at equal time ----------------------------------------------------------------------


def noisy(X: np.ndarray, y: np.ndarray, n: int, m: int, seed: int) -> Data:
    """Return training rows, a tenth of their labels wrong, and validation rows."""
    rng = np.random.default_rng(seed)
    rows = rng.permutation(len(X))[: n + m]
    X, y = standardized(X[rows]), y[rows].astype(int)
    wrong = rng.choice(n, n // 10, replace=False)
    C = y.max() + 1
    y[wrong] = (y[wrong] + rng.integers(1, C, len(wrong))) % C
    return X[:n], y[:n], X[n:], y[n:]


def tuned(data: Data) -> FrozenEstimator:
    """Return a ridge classifier, its ridge chosen by leave-one-out."""
    model = NTKRidgeClassifierCV(NTK(depth=2), param_grid={})
    return FrozenEstimator(model.fit(*data[:2]))


def equal_time(quick: bool) -> Result:
    """Compare samplers after as many seconds with long runs of both kinds."""
    n, seconds, long = (100, 0.5, 2.0) if quick else (EQUAL_ROWS, EQUAL_SECONDS, LONG_SECONDS)
    tables, absent = stored([LARGE_TABLE])
    found: Result = {"rows": n, "seconds_each": seconds, "absent_tables": absent, "tables": {}}
    for name, table in {"digits": bundled("digits"), **tables}.items():
        data = noisy(np.asarray(table["X"], dtype=np.float64), table["y"], n, 100, 0)
        found["tables"][name] = one_contest(data, seconds, long, 2 if quick else EQUAL_SEEDS)
        print(name, {k: v["rmse"] for k, v in found["tables"][name]["samplers"].items()})
    return found


def one_contest(data: Data, seconds: float, long: float, seeds: int) -> Result:
    """Return root mean squared errors in standard deviations of the values."""
    model = tuned(data)

    def run(sampler: str, limit: float, seed: int) -> tuple[ShapleyAttributor, float]:
        attributor = ShapleyAttributor(
            model,
            utility="brier",
            sampler=sampler,
            n_iter=10**9,
            tol=0,
            max_time=limit,
            random_state=seed,
        )
        start = time.perf_counter()
        return attributor.fit(*data), time.perf_counter() - start

    reference, check = run("stratified", long, 1000)[0], run("antithetic", long, 1001)[0]
    spread = float(reference.values_.std())
    z = (check.values_ - reference.values_) / np.hypot(check.std_error_, reference.std_error_)
    lines = {}
    for sampler in ("stratified", "permutation", "antithetic"):
        runs = [run(sampler, seconds, seed) for seed in range(seeds)]
        errors = [np.sqrt(np.mean((a.values_ - reference.values_) ** 2)) / spread for a, _ in runs]
        ranks = [spearmanr(a.values_, reference.values_).statistic for a, _ in runs]
        lines[sampler] = {
            "rmse": rounded(float(np.mean(errors))),
            "rmse_of_seeds": [rounded(float(e)) for e in errors],
            "spearman": rounded(float(np.mean(ranks))),
            "estimates": [a.n_iter_ for a, _ in runs],
            "seconds": rounded(float(np.mean([s for _, s in runs]))),
        }
    return {
        "samplers": lines,
        "ratio": rounded(lines["stratified"]["rmse"] / lines["permutation"]["rmse"]),
        "reference": {
            "seconds": long,
            "estimates": reference.n_iter_,
            "standard_error": mean_error(reference),
            # About 1 if stratified samples and orders estimate the same.
            "deviation_of_z_against_antithetic_orders": rounded(float(np.sqrt(np.mean(z**2)))),
        },
    }


def mean_error(reference: ShapleyAttributor) -> float | None:
    """Return its own root mean squared standard error, None of a single estimate."""
    error = float(np.sqrt(np.mean(reference.std_error_**2)) / reference.values_.std())
    return rounded(error) if np.isfinite(error) else None


# --- 5000 rows ------------------------------------------------------------------------------------


def large(quick: bool) -> Result:
    """Follow one run, and compare it with a long one of another seed."""
    (n, m), steps, each = LARGE, LARGE_STEPS, LARGE_STEP_SECONDS
    long = LARGE_LONG_SECONDS
    if quick:
        n, m, steps, each, long = 200, 50, 3, 0.5, 3.0
    tables, absent = stored([LARGE_TABLE])
    if absent:
        return {"absent_tables": absent, "reached": None}
    table = tables[LARGE_TABLE]
    data = noisy(np.asarray(table["X"], dtype=np.float64), table["y"], n, m, 0)
    start = time.perf_counter()
    model = tuned(data)
    fitting = time.perf_counter() - start
    settings: Mapping[str, Any] = {"utility": "brier", "n_iter": 10**9, "tol": 0}
    run = ShapleyAttributor(model, max_time=each, random_state=0, **settings)
    path, spent = [], fitting
    for _ in range(steps):
        start = time.perf_counter()
        run.partial_fit(*data)
        spent += time.perf_counter() - start
        path.append((spent, run.n_iter_, run.values_.copy()))
    reference = ShapleyAttributor(model, max_time=long, random_state=1, **settings).fit(*data)
    lines = [
        {
            "seconds": rounded(seconds),
            "estimates": estimates,
            "spearman": rounded(float(spearmanr(values, reference.values_).statistic)),
        }
        for seconds, estimates, values in path
    ]
    for line in lines:
        print(f"n = {n}: {line}", flush=True)
    close = [line["seconds"] for line in lines if line["spearman"] >= CLOSE]
    return {
        "rows": n,
        "judged": m,
        "seconds_to_choose_the_ridge": rounded(fitting),
        "path": lines,
        "reached": close[0] if close else None,
        "best_spearman_within_limit": max(
            [line["spearman"] for line in lines if line["seconds"] <= LARGE_LIMIT], default=None
        ),
        "reference": {
            "seconds": long,
            "estimates": reference.n_iter_,
            "standard_error": mean_error(reference),
        },
    }


# --- memory ---------------------------------------------------------------------------------------


def memory(quick: bool) -> Result:
    """Return the growth of fresh processes, and bytes of what they might hold, in MiB."""
    script = Path(__file__).resolve().parent / "_worker_attribution_memory.py"
    cases = []
    for n, m, C, utility, sampler in QUICK_MEMORY if quick else MEMORY_CASES:
        words = [sys.executable, str(script), str(n), str(m), str(C), utility, sampler]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        sizes = {"growth": json.loads(done.stdout), "gram": 8 * n * n, "cross": 8 * n * m}
        sizes["outputs_would_be"] = 8 * n * m * C
        in_mib = {name: rounded(size / 2**20) for name, size in sizes.items()}
        cases.append({"n": n, "m": m, "C": C, "utility": utility, "sampler": sampler, **in_mib})
        print(f"memory: {cases[-1]}", flush=True)
    return {"mib": cases}


# --- bars -----------------------------------------------------------------------------------------


def bars(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Judge every part; what was not measured is None."""
    lines = []
    part = found.get("orders", {})
    for count in ("one thread", "two threads"):
        faster = part.get(count, {}).get("times_faster", {})
        for who, limit in TIMES_FASTER.items():
            key = "pyDVL, kernel given" if who == "pyDVL" else who
            value = faster[key]["of_medians"] if key in faster else None
            lines.append(bar(f"{count}, times faster than {who}", value, limit, at_least=True))
    gaps = part.get("largest_difference_of_marginals")
    gap = max(gaps.values()) if gaps else None
    lines.append(bar("largest difference of marginals", gap, DIFFERENCE, at_least=False))
    tables = found.get("equal_time", {}).get("tables", {})
    for name in ("digits", LARGE_TABLE):
        value = tables[name]["ratio"] if name in tables else None
        lines.append(bar(f"{name}, RMSE over that of orders", value, HALF, at_least=False))
    part = found.get("large", {})
    value = part.get("best_spearman_within_limit")
    lines.append(bar("n = 5000, Spearman within 10 minutes", value, CLOSE, at_least=True))
    cases = found.get("memory", {}).get("mib", [])[:JUDGED_MEMORY]
    value = max((c["growth"] / c["outputs_would_be"] for c in cases), default=None)
    name = "peak memory over n x m x C outputs"
    lines.append(bar(name, value, PART_OF_OUTPUTS, at_least=False))
    return lines


if __name__ == "__main__":
    main(measure, __file__, resumes=True)
