"""Seconds of a batch beside bmdal-reg, and of LCMD on growing pools, with its memory.

``peers``: every selector on the same 512 features of a pool of 20 000 rows and 256 training rows,
batches of 256, in turn on two threads; both sides count what they do to the features first
(posteriors). Features are those of a network's sketched gradients, so that rows lie on a curved
sheet of few dimensions, as they do in practice; "uniform" ones fill all 512 dimensions, where
nothing can be pruned. float64 where bmdal-reg uses it, float32 elsewhere. ``pools``: LCMD on 512
float32 features of up to a million rows: seconds, and growth of a fresh process's memory beyond the
features.
"""

import json
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _common import bar, interleave, main, ratio, rounded, summary
from _peers import Peer
from torch import nn

from sknk.active_learning import select_batch
from sknk.kernels import EmpiricalNTK

POOL, TRAIN, WIDTH, BATCH, NOISE = 20_000, 256, 512, 256, 0.01
DOUBLE = ("maxdiag", "maxdet-P", "maxdet-TP", "bait", "bait-fb")
SINGLE = ("frank-wolfe", "maxdist", "kmeans++", "lcmd")
ROUNDS = 3
TIMES_FASTER = 1.5
POOLS, POOL_BATCH = (125_000, 250_000, 500_000, 1_000_000), 64
GIB, BYTES = 4.0, 2**30
LINEAR = 1.3  # exponent of seconds in rows

Lines = dict[str, Any]


def measure(quick: bool) -> Lines:
    """Measure both parts; without the peer only ours."""
    peer = Peer.open("SKNK_PEER_BMDAL", "_worker_bmdal.py")
    found = {
        "peer": {"absent": peer} if isinstance(peer, str) else peer.versions,
        "features": {
            "network": beside(gradient_features(quick), peer, quick),
            "uniform": beside(uniform_features(quick), peer, quick),
        },
        "pools": pools(quick),
    }
    if isinstance(peer, Peer):
        peer.close()
    return {"bars": bars(found), **found}


# --- beside the peer ------------------------------------------------------------------------------


def sizes(quick: bool) -> tuple[int, int, int]:
    """Return rows of the pool, training rows, and rows of a batch."""
    return (400, 20, 10) if quick else (POOL, TRAIN, BATCH)


def gradient_features(quick: bool) -> np.ndarray:
    """Return sketched gradients of a random network of two hidden layers, at clustered rows."""
    n, t, _ = sizes(quick)
    rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    centres = rng.normal(size=(40, 12))
    X = centres[rng.integers(40, size=n + t)] + 0.4 * rng.normal(size=(n + t, 12))
    net = nn.Sequential(
        nn.Linear(12, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 1)
    )
    with torch.no_grad():
        for weight in net.parameters():
            fan = weight.shape[-1] if weight.ndim > 1 else 1
            weight.copy_(torch.randn(weight.shape, generator=generator) * (2.0 / fan) ** 0.5)
    kernel = EmpiricalNTK(net, projection=WIDTH, sketch="gaussian")
    Z = kernel.features(X)
    return Z / np.sqrt(np.square(Z).sum(1).mean())


def uniform_features(quick: bool) -> np.ndarray:
    """Return independent Gaussian features."""
    n, t, _ = sizes(quick)
    return np.random.default_rng(1).normal(size=(n + t, WIDTH)) / WIDTH**0.5


def beside(Phi: np.ndarray, peer: Peer | str, quick: bool) -> Lines:
    """Time every selector in turn with the peer's."""
    n, _, batch = sizes(quick)
    lines: Lines = {}
    for name in (*DOUBLE, *SINGLE):
        features = Phi if name in DOUBLE else Phi.astype(np.float32)
        pool, train = features[:n], features[n:]
        chosen: dict[str, np.ndarray] = {}
        runs = {"sknk": partial(ours, name, pool, train, batch, chosen)}
        if isinstance(peer, Peer):
            runs["bmdal-reg"] = partial(theirs, peer, name, pool, train, batch, chosen)
        seconds = interleave(runs, 1 if quick else ROUNDS)
        lines[name] = {"seconds": {who: summary(line) for who, line in seconds.items()}}
        if isinstance(peer, Peer):
            mine, other = chosen["sknk"], chosen["bmdal-reg"]
            lines[name]["times_faster"] = ratio(seconds["bmdal-reg"], seconds["sknk"])
            lines[name]["same_rows"] = rounded(len(set(mine) & set(other)) / batch)
        medians = {who: line["median"] for who, line in lines[name]["seconds"].items()}
        print(f"{name}: {medians}, same rows {lines[name].get('same_rows')}", flush=True)
    return lines


def ours(
    name: str, pool: np.ndarray, train: np.ndarray, batch: int, chosen: dict[str, np.ndarray]
) -> float:
    """Return the seconds of one batch of ours."""
    method, _, mode = name.partition("-") if name.startswith("maxdet") else (name, "", "auto")
    start = time.perf_counter()
    chosen["sknk"] = select_batch(
        pool,
        method=method,
        mode=mode,
        batch_size=batch,
        X_train=train,
        noise_variance=NOISE,
        random_state=0,
    )
    return time.perf_counter() - start


def theirs(
    peer: Peer,
    name: str,
    pool: np.ndarray,
    train: np.ndarray,
    batch: int,
    chosen: dict[str, np.ndarray],
) -> float:
    """Return the seconds of one batch of the peer's."""
    arrays = {"pool": pool, "train": train, "batch": np.array(batch)}
    arrays["noise_variance"] = np.array(NOISE)
    found, reply = peer.fit(name, str(torch.get_num_threads()), **arrays)
    chosen["bmdal-reg"] = found["rows"]
    return float(reply["seconds"])


# --- growing pools --------------------------------------------------------------------------------


def pools(quick: bool) -> Lines:
    """Return seconds and memory of LCMD in fresh processes."""
    script = str(Path(__file__).resolve().parent / "_worker_selection_memory.py")
    lines = []
    for n in (2000, 4000) if quick else POOLS:
        words = [sys.executable, script, str(n), str(WIDTH), str(POOL_BATCH)]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        lines.append({"rows": n, **json.loads(done.stdout)})
        print(f"pool: {lines[-1]}", flush=True)
    rows, seconds = ([line[key] for line in lines] for key in ("rows", "seconds"))
    exponent = float(np.polyfit(np.log(rows), np.log(seconds), 1)[0])
    return {"batch": POOL_BATCH, "runs": lines, "exponent": rounded(exponent)}


# --- bars -----------------------------------------------------------------------------------------


def bars(found: Lines) -> list[Lines]:
    """Judge what was measured; the rest is None."""
    lines = []
    for kind, by_name in found["features"].items():
        faster = [v["times_faster"]["of_medians"] for v in by_name.values() if "times_faster" in v]
        mean = float(np.exp(np.mean(np.log(faster)))) if faster else None
        name = f"{kind} features, times faster than bmdal-reg"
        lines.append(bar(f"{name}, geometric mean", mean, TIMES_FASTER, at_least=True))
        least = min(faster, default=None)
        lines.append(bar(f"{name}, least", least, 1.0, at_least=True))
    part = found["pools"]
    beyond = max(line["bytes_beyond_the_features"] for line in part["runs"]) / BYTES
    lines.append(bar("GiB of LCMD beyond the features", beyond, GIB, at_least=False))
    name = "exponent of LCMD's seconds in rows of the pool"
    lines.append(bar(name, part["exponent"], LINEAR, at_least=False))
    return lines


if __name__ == "__main__":
    main(measure, __file__)
