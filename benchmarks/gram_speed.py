"""Seconds and peak memory of Gram matrices, beside neural-tangents and scikit-ntk.

Two hidden ReLU layers with bias, d = 30, n = 5000; the cross matrix is 5000 x 1000. Peers run in
interpreters of their own (`SKNK_PEER_NT`, `SKNK_PEER_SKNTK`), in turn with ours, in one dtype.
"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from _common import bar, interleave, main, ratio, rounded, summary, timed
from _peers import Peer

from sknk import config_context
from sknk.kernels import NTK

KERNEL = NTK(depth=2, bias_var=0.09)
# Bars by case, dtype and contestant, against neural-tangents; any case against scikit-ntk is 15.
BARS = {
    ("gram", "float32", "eager"): 3.5,
    ("gram", "float64", "eager"): 2.5,
    ("gram", "float32", "compiled"): 5.0,
    ("cross", "float32", "eager"): 1.5,
    ("cross", "float64", "eager"): 1.5,
}
SCIKIT_NTK_BAR = 15.0


def measure(quick: bool) -> dict[str, Any]:
    """Measure both dtypes; peers that are absent are named as such."""
    sizes = {"n": 2000 if quick else 5000, "m": 1000, "d": 30}
    cases: list[dict[str, Any]] = []
    bars: list[dict[str, Any]] = []
    peers: dict[str, Any] = {}
    for dtype in ("float32", "float64"):
        part = one_dtype(dtype, sizes, quick)
        cases += part["cases"]
        bars += part["bars"]
        peers |= part["peers"]
    memory = {dtype: peak_memory(sizes, dtype) for dtype in ("float32", "float64")}
    for dtype, found in memory.items():
        bars.append(bar(f"peak memory over result, {dtype}", found, 1.15, at_least=False))
    return {
        "bars": bars,
        **sizes,
        "peers": peers,
        "cases": cases,
        "peak_memory_over_result": memory,
    }


def one_dtype(dtype: str, sizes: dict[str, int], quick: bool) -> dict[str, Any]:
    """Compare everyone in one dtype: Gram and cross."""
    draw = np.random.RandomState
    X = draw(0).standard_normal((sizes["n"], sizes["d"])).astype(dtype)
    Y = draw(1).standard_normal((sizes["m"], sizes["d"])).astype(dtype)
    opened = {
        "neural-tangents": Peer.open("SKNK_PEER_NT", "_worker_neural_tangents.py", dtype),
        "scikit-ntk": Peer.open("SKNK_PEER_SKNTK", "_worker_scikit_ntk.py", dtype),
    }
    agreement = {
        "neural-tangents": KERNEL,
        "scikit-ntk": NTK(depth=2, bias_var=0.0),
    }
    peers: dict[str, Any] = {}
    running = {name: peer for name, peer in opened.items() if isinstance(peer, Peer)}
    for name, peer in opened.items():
        described = (
            {"absent": peer}
            if isinstance(peer, str)
            else {
                "versions": peer.versions,
                "largest_relative_difference": disagreement(peer, agreement[name], X, dtype, sizes),
            }
        )
        peers[f"{name} {dtype}"] = described
    cases, bars = [], []
    for case in ("gram", "cross"):
        found = one_case(case, dtype, (X, None if case == "gram" else Y), running, sizes, quick)
        cases.append(found)
        medians = {k: v["median"] for k, v in found["seconds"].items()}
        print(f"{case:<6}{dtype}  seconds: {medians}", flush=True)
        bars += case_bars(found)
    for peer in running.values():
        peer.close()
    return {"cases": cases, "bars": bars, "peers": peers}


def one_case(
    case: str,
    dtype: str,
    rows: tuple[np.ndarray, np.ndarray | None],
    running: dict[str, Peer],
    sizes: dict[str, int],
    quick: bool,
) -> dict[str, Any]:
    """Time one matrix: ours and the quick peer in turn, then ours and the slow one."""
    ours = {"eager": timed(call(rows, dtype=dtype))}
    ours["compiled"] = timed(call(rows, dtype=dtype, compile=True))
    first_call = ours["compiled"]()  # compiles, unless an earlier case has
    seconds: dict[str, list[float]] = {}
    faster: dict[str, dict[str, float]] = {}
    for name, rounds in (
        ("neural-tangents", 5 if quick else 15),
        ("scikit-ntk", 1 if quick else 3),
    ):
        peer = {name: running[name].timed(case=case, **sizes)} if name in running else {}
        if name == "scikit-ntk" and not peer:
            continue
        spent = interleave({**ours, **peer}, rounds, warm=0 if name == "scikit-ntk" else 2)
        for contestant in ours if peer else ():
            faster[f"{contestant} than {name}"] = ratio(spent[name], spent[contestant])
        seconds = {**spent, **seconds}
    result = {
        "case": case,
        "dtype": dtype,
        "seconds": {k: summary(v) for k, v in seconds.items()},
        "times_faster": faster,
    }
    result["first_compiled_call_seconds"] = rounded(first_call)
    return result


def call(rows: tuple[np.ndarray, np.ndarray | None], **config: Any) -> Callable[[], Any]:
    """Return our call under a configuration."""

    def run() -> Any:
        with config_context(**config):
            return KERNEL(*rows)

    return run


def case_bars(case: dict[str, Any]) -> list[dict[str, Any]]:
    """Judge one case; ratios of absent peers are None."""
    name, dtype = case["case"], case["dtype"]
    ratios = {k: v["of_medians"] for k, v in case["times_faster"].items()}
    wanted = [
        (who, "neural-tangents", limit)
        for (c, t, who), limit in BARS.items()
        if (c, t) == (name, dtype)
    ]
    wanted.append(("eager", "scikit-ntk", SCIKIT_NTK_BAR))
    return [
        bar(
            f"{name} {dtype} {who}, times faster than {peer}",
            ratios.get(f"{who} than {peer}"),
            limit,
            at_least=True,
        )
        for who, peer, limit in wanted
    ]


def disagreement(
    peer: Peer, kernel: NTK, X: np.ndarray, dtype: str, sizes: dict[str, int]
) -> float:
    """Return the largest relative difference on 40 rows, up to one constant factor."""
    theirs = np.array(peer.ask(case="values", head=40, **sizes)["values"])
    with config_context(dtype=dtype):
        ours = kernel(X[:40]).astype(np.float64)
    quotient = theirs / ours
    return rounded(float(np.abs(quotient / np.median(quotient) - 1.0).max()), 2)


def peak_memory(sizes: dict[str, int], dtype: str) -> float:
    """Return resident-set growth over the bytes of a 5000 x 5000 result, in a fresh process."""
    script = Path(__file__).resolve().parent / "_worker_memory.py"
    words = [sys.executable, str(script), "5000", str(sizes["d"]), dtype]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return rounded(float(done.stdout))


if __name__ == "__main__":
    main(measure, __file__)
