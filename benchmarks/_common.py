"""What every benchmark shares: a clean process, interleaved timing, bars, JSON.

A benchmark is a module with ``measure(quick) -> dict`` whose last line hands it to :func:`main`.
Long ones take ``measure(quick, folder)`` and keep single results there (`_store.py`).
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).resolve().parent / "results"
THREADS = 2
_MARK = "SKNK_BENCHMARK_CLEAN"
_PACKAGES = ("numpy", "scipy", "scikit-learn", "torch")


def main(measure: Callable[..., dict[str, Any]], script: str, *, resumes: bool = False) -> None:
    """Run a benchmark in a clean process, print its bars, write its JSON.

    Full runs write ``results/<script>.json``; ``--quick`` ones write only where ``--out`` says.
    With `resumes`, `measure` gets that folder (or None) as its second argument.
    """
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, few rounds; no record")
    parser.add_argument("--out", type=Path, help="folder of the JSON file")
    options = parser.parse_args()
    if _MARK not in os.environ:
        restart()
    folder = options.out or (None if options.quick else RESULTS)
    before, start = load(), time.perf_counter()
    with tempfile.TemporaryDirectory() as empty:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = empty
        found = measure(options.quick, folder) if resumes else measure(options.quick)
    record = {
        "script": Path(script).stem,
        "quick": options.quick,
        **source(),
        "seconds": rounded(time.perf_counter() - start),
        "machine": {**machine(), "load_before": before, "load_after": load()},
        **found,
    }
    print_bars(record.get("bars", []))
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{record['script']}.json"
        path.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        print(f"wrote {path.name}")


def clean_environment() -> dict[str, str]:
    """Return the environment of measured processes: two threads, no OPENBLAS_* variables."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("OPENBLAS_")}
    env.pop("PYTHONDONTWRITEBYTECODE", None)  # imports are measured with compiled files in place
    threads = str(THREADS)
    return env | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "JAX_PLATFORMS": "cpu"}


def restart() -> NoReturn:
    """Become this script again in a clean environment, bound to two cores.

    Thread counts are read once, by the first ``import numpy``, so setting them here is too late.
    Pools that ignore such variables (XLA's) follow the cores that the process may use.
    """
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:THREADS])
    env = clean_environment()
    paths = os.pathsep.join(filter(None, [str(ROOT), env.get("PYTHONPATH")]))
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, *sys.argv], env | {_MARK: "1", "PYTHONPATH": paths})


def load() -> list[float] | None:
    """Return the load averages, for readers who wonder how quiet the machine was."""
    return [round(x, 2) for x in os.getloadavg()] if hasattr(os, "getloadavg") else None


def machine() -> dict[str, Any]:
    """Describe processor, memory and versions; no names, no paths."""
    info = Path("/proc/cpuinfo")
    models = [
        line.partition(":")[2].strip()
        for line in (info.read_text(encoding="utf-8").splitlines() if info.exists() else [])
        if line.startswith("model name")
    ]
    try:
        memory = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError):
        memory = None
    return {
        "cpu": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "threads_used": THREADS,
        "memory_gib": memory,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: installed(name) for name in _PACKAGES},
    }


def installed(package: str) -> str | None:
    """Return the version of an installed distribution."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def source() -> dict[str, Any]:
    """Return the date and which sources were measured."""

    def git(*words: str) -> str | None:
        words = ("git", "-C", str(ROOT), *words)
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else None

    return {
        "date": datetime.now(UTC).date().isoformat(),
        "commit": git("rev-parse", "--verify", "HEAD"),
        "sources_changed_since_commit": bool(git("status", "--porcelain", "--", "sknk")),
    }


def rounded(value: float, digits: int = 4) -> float:
    """Round to significant digits."""
    return float(f"{value:.{digits}g}")


def timed(call: Callable[[], Any]) -> Callable[[], float]:
    """Return a function that runs `call` and returns its seconds."""

    def run() -> float:
        start = time.perf_counter()
        result = call()
        seconds = time.perf_counter() - start
        del result  # freed outside the measured time, as peers do
        return seconds

    return run


def interleave(
    runs: Mapping[str, Callable[[], float]], rounds: int, *, pause: float = 0.05, warm: int = 1
) -> dict[str, list[float]]:
    """Run all in turn, round after round, so that a busy spell of the machine hits all of them.

    The pause lets the thread pools of the previous run stop spinning. `warm` rounds are dropped.
    """
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for round_number in range(warm + rounds):
        for name, run in runs.items():
            time.sleep(pause)
            spent = run()
            if round_number >= warm:
                seconds[name].append(spent)
    return seconds


def summary(seconds: Iterable[float]) -> dict[str, Any]:
    """Return median and spread of repeated timings."""
    x = sorted(seconds)
    return {
        "median": rounded(statistics.median(x)),
        "min": rounded(x[0]),
        "max": rounded(x[-1]),
        "repeats": len(x),
    }


def ratio(slow: list[float], fast: list[float]) -> dict[str, float]:
    """Return how many times `fast` is faster: medians, and the spread of round by round ratios."""
    each = [s / f for s, f in zip(slow, fast, strict=True)]
    middle = statistics.median(slow) / statistics.median(fast)
    return {"of_medians": rounded(middle), "min": rounded(min(each)), "max": rounded(max(each))}


def bar(name: str, value: float | None, limit: float, *, at_least: bool) -> dict[str, Any]:
    """Judge one number; a number that could not be measured (None) is neither met nor missed."""
    met = None if value is None else bool(value >= limit if at_least else value <= limit)
    shown = None if value is None else rounded(value)
    sign = ">=" if at_least else "<="
    return {"bar": name, "value": shown, "limit": f"{sign} {limit:g}", "met": met}


def print_bars(bars: list[dict[str, Any]]) -> None:
    """Print what was asked for beside what was measured."""
    verdict = {True: "met", False: "MISSED", None: "not measured"}
    for line in bars:
        value = "-" if line["value"] is None else f"{line['value']:.3g}"
        print(f"{line['bar']:<58} {value:>9}  {line['limit']:<9} {verdict[line['met']]}")
