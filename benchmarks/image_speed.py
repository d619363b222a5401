"""Seconds and peak memory of convolutional kernels of images, beside neural-tangents.

Three 3 x 3 convolutions with ReLU and bias, global average pooling, a dense layer, on the 8 x 8
digits: 200 images with themselves, and 200 with 200 others. As information also larger images in
color. The peer runs in an interpreter of its own (`SKNK_PEER_NT`), in turn with ours, in one dtype.
"""

import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from _common import bar, interleave, main, ratio, rounded, summary, timed
from _peers import Peer
from sklearn.datasets import load_digits

from sknk import config_context
from sknk.kernels import Conv2d, Dense, Flatten, GlobalAvgPool2d, Layer, NetworkKernel, ReLU, Repeat

DTYPES = ("float32", "float64")
MEMORY_BAR = 64.0  # MiB: tiles, the layers' values of 200 images and a result of 0.3 MiB


@dataclass(frozen=True)
class Case:
    """Images and what is made of them; `cross` pairs the first half with the second."""

    name: str
    images: np.ndarray  # (n, c, h, w)
    end: str
    cross: bool = False
    judged: bool = True

    @property
    def tables(self) -> tuple[np.ndarray, np.ndarray | None]:
        """The images on both sides."""
        half = len(self.images) // 2
        return (self.images[:half], self.images[half:]) if self.cross else (self.images, None)


def cases(quick: bool) -> list[Case]:
    """Return the bar's two cases, then two larger ones."""
    n = 40 if quick else 200
    digits = load_digits().images[: 2 * n, None] / 16.0
    colors = np.random.RandomState(0).standard_normal((20, 3, 32, 32))
    large, few = (8, 2) if quick else (20, 8)
    return [
        Case("gram", digits[:n], "pool"),
        Case("cross", digits, "pool", cross=True),
        Case("32 x 32 flattened", colors[:large], "flatten", judged=False),
        Case("32 x 32 pooled", colors[:few], "pool", judged=False),
    ]


def network(convolutions: int, end: str) -> Layer:
    """Return the network that the worker has too."""
    pixels = Repeat(Conv2d(bias_var=0.1) >> ReLU(), times=convolutions)
    return pixels >> (GlobalAvgPool2d() if end == "pool" else Flatten()) >> Dense(bias_var=0.1)


def measure(quick: bool) -> dict[str, Any]:
    """Measure both dtypes; a peer that is absent is named as such."""
    found: list[dict[str, Any]] = []
    bars: list[dict[str, Any]] = []
    peers: dict[str, Any] = {}
    memory: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for dtype in DTYPES:
            peer = Peer.open("SKNK_PEER_NT", "_worker_images.py", dtype)
            peers[dtype] = (
                {"absent": peer} if isinstance(peer, str) else {"versions": peer.versions}
            )
            for case in cases(quick):
                result = one_case(case, dtype, peer, Path(folder), 2)
                found.append(result)
                if case.judged:
                    name = f"{case.name} {dtype}, times faster than neural-tangents"
                    faster = result["times_faster"] and result["times_faster"]["of_medians"]
                    bars.append(bar(name, faster, 1.0, at_least=True))
                print(f"{case.name:<20}{dtype}  {medians(result)}", flush=True)
            if isinstance(peer, Peer):
                peer.close()
            memory[dtype] = peak_memory(cases(quick)[0], dtype, Path(folder))
            ours = memory[dtype]["ours"]
            bars.append(bar(f"peak memory, {dtype}, MiB", ours, MEMORY_BAR, at_least=False))
    return {"bars": bars, "peers": peers, "cases": found, "peak_memory_mib": memory}


def one_case(
    case: Case, dtype: str, peer: "Peer | str", folder: Path, rounds: int
) -> dict[str, Any]:
    """Time one matrix, ours and the peer's in turn, and compare values."""
    kernel = NetworkKernel(network(3, case.end), normalize=False, image_shape=case.images.shape[1:])
    runs = {"ours": timed(call(kernel, case, dtype))}
    difference = None
    if isinstance(peer, Peer):
        request = {"convolutions": 3, "end": case.end, **files(case, folder)}
        theirs = np.array(peer.ask(case="values", **request)["values"])  # compiles
        K = call(kernel, case, dtype)().astype(np.float64)
        difference = rounded(float(np.abs(theirs / K - 1.0).max()), 2)
        runs["neural-tangents"] = peer.timed(case="time", **request)
    seconds = interleave(runs, rounds, warm=0)  # both have just run
    n, c, h, w = case.images.shape
    return {
        "case": case.name,
        "dtype": dtype,
        "images": n,
        "image_shape": [c, h, w],
        "end": case.end,
        "seconds": {who: summary(spent) for who, spent in seconds.items()},
        "times_faster": ratio(seconds["neural-tangents"], seconds["ours"])
        if len(runs) > 1
        else None,
        "largest_relative_difference": difference,
    }


def call(kernel: NetworkKernel, case: Case, dtype: str) -> Callable[[], Any]:
    """Return our call: images as rows, channels first."""
    x, y = (None if t is None else t.reshape(len(t), -1).astype(dtype) for t in case.tables)

    def run() -> Any:
        with config_context(dtype=dtype):
            return kernel(x, y)

    return run


def files(case: Case, folder: Path) -> dict[str, str | None]:
    """Write the images where the worker reads them."""
    written: dict[str, str | None] = {}
    for side, table in zip("xy", case.tables, strict=True):
        path = folder / f"{case.name}_{side}.npy"
        if table is not None:
            np.save(path, table)
        written[side] = None if table is None else str(path)
    return written


def medians(result: dict[str, Any]) -> dict[str, float]:
    """Return what to show while the benchmark runs."""
    return {who: spent["median"] for who, spent in result["seconds"].items()}


def peak_memory(case: Case, dtype: str, folder: Path) -> dict[str, float | None]:
    """Return resident-set growth in MiB, each in a fresh process; None where it is not known."""
    if not Path("/proc/self/status").exists():
        return {"ours": None, "neural-tangents": None}
    rows = folder / "rows.npy"
    np.save(rows, case.images.reshape(len(case.images), -1).astype(dtype))
    script = Path(__file__).resolve().parent / "_worker_image_memory.py"
    words = [sys.executable, str(script), str(rows), *map(str, case.images.shape[1:]), dtype]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    found: dict[str, float | None] = {"ours": rounded(float(done.stdout) / 2**20)}
    peer = Peer.open("SKNK_PEER_NT", "_worker_images.py", dtype)
    if isinstance(peer, str):
        return found | {"neural-tangents": None}
    before = peer.ask(case="resident", peak=False)["bytes"]
    peer.ask(case="time", convolutions=3, end=case.end, **files(case, folder))
    growth = peer.ask(case="resident", peak=True)["bytes"] - before
    peer.close()
    return found | {"neural-tangents": rounded(growth / 2**20)}


if __name__ == "__main__":
    main(measure, __file__)
