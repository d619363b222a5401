"""Seconds and peak memory of a torch module's tangent kernels, beside Jacobians and a peer.

100 rows and a ReLU network d -> 512 -> 512 -> 10 in float32 on the CPU. The trace kernel and the
kernel of all outputs, structured, in turn with contracted Jacobians as tutorials have them
(``vmap(jacrev)`` of torch.func in this process) and with neural-tangents' structured derivatives
under jit, in an interpreter of its own (`SKNK_PEER_NT`), on the same weights and rows. Then the
peak memory of 2000 rows in fresh processes, and, as information, products K v.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _common import bar, interleave, main, ratio, rounded, summary, timed
from _peers import Peer
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vmap

from sknk import config_context
from sknk.kernels import EmpiricalNTK

ROWS, WIDTH, OUTPUTS = 100, 512, 10
INPUTS = (16, 32, 64)
FORMS = ("trace", "full")
TIMES_FASTER = {"trace": 100.0, "full": 80.0}  # than contracted Jacobians; than neural-tangents: 1
DIFFERENCE = 1e-5  # of float32 values, over the largest
MANY, MANY_INPUTS = 2000, 64


def network(d: int) -> nn.Sequential:
    """Return the network, the same in every process."""
    torch.manual_seed(0)
    hidden = [nn.Linear(d, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU()]
    return nn.Sequential(*hidden, nn.Linear(WIDTH, OUTPUTS))


def rows(n: int, d: int, dtype: str = "float32") -> np.ndarray:
    """Return n rows."""
    return np.random.RandomState(0).standard_normal((n, d)).astype(dtype)


def measure(quick: bool) -> dict[str, Any]:
    """Time every width of the input; a peer that is absent is named as such."""
    peer = Peer.open("SKNK_PEER_NT", "_worker_empirical.py")
    described = {"absent": peer} if isinstance(peer, str) else {"versions": peer.versions}
    cases = []
    with tempfile.TemporaryDirectory() as folder:
        for d in INPUTS[:1] if quick else INPUTS:
            for form in FORMS:
                cases.append(one_case(form, d, peer, Path(folder), quick))
                medians = {who: line["median"] for who, line in cases[-1]["seconds"].items()}
                print(f"{form:<6}d = {d:<4} seconds: {medians}", flush=True)
    if isinstance(peer, Peer):
        peer.close()
    return {
        "bars": [line for case in cases for line in case_bars(case)],
        "rows": ROWS,
        "layers": [WIDTH, WIDTH, OUTPUTS],
        "peers": {"neural-tangents": described},
        "cases": cases,
        "peak_memory_mib": {dtype: peak_memory(dtype) for dtype in ("float32", "float64")},
        "products": products(20 if quick else 200),
    }


def one_case(form: str, d: int, peer: "Peer | str", folder: Path, quick: bool) -> dict[str, Any]:
    """Time ours and the quick peer in turn, then ours and the slow contraction; compare values."""
    module, X = network(d), rows(ROWS, d)
    ours = partial(structured, EmpiricalNTK(module, implementation="structured"), form, X)
    theirs = partial(contracted, module, form, torch.from_numpy(X))
    first = timed(ours)()  # asks whether the layers have rules
    K = ours()
    differences = {"jacobians": difference(theirs().numpy(), K)}
    runs = {"ours": timed(ours)}
    seconds: dict[str, list[float]] = {}
    faster = {}
    if isinstance(peer, Peer):
        request = {"form": form, "file": weights_and_rows(module, X, folder / f"{d}.npz")}
        peer.ask(case="values", out=str(folder / "values.npy"), **request)  # compiles
        differences["neural-tangents"] = difference(np.load(folder / "values.npy"), K)
        quicker = {**runs, "neural-tangents": peer.timed(case="time", **request)}
        spent = interleave(quicker, 5 if quick else 25, warm=2)
        faster["than neural-tangents"] = ratio(spent["neural-tangents"], spent["ours"])
        seconds |= spent
    spent = interleave({**runs, "jacobians": timed(theirs)}, 1 if quick else 5, warm=0)
    faster["than jacobians"] = ratio(spent["jacobians"], spent["ours"])
    seconds = spent | seconds
    return {
        "form": form,
        "d": d,
        "seconds": {who: summary(line) for who, line in seconds.items()},
        "first_call_seconds": rounded(first),
        "times_faster": faster,
        "largest_difference_over_largest_entry": differences,
    }


def structured(kernel: EmpiricalNTK, form: str, X: np.ndarray) -> np.ndarray:
    """Return our kernel in float32."""
    with config_context(dtype="float32"):
        return kernel.full(X) if form == "full" else kernel(X)


def contracted(module: nn.Module, form: str, X: Tensor) -> Tensor:
    """Return the kernel by Jacobians of every row, parameter by parameter."""
    parameters = {name: p.detach() for name, p in module.named_parameters()}

    def outputs(values: Mapping[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(module, dict(values), (x[None],))[0]

    jacobians = vmap(jacrev(outputs), (None, 0))(parameters, X).values()
    if form == "trace":
        each = (J.flatten(2) for J in jacobians)
        return sum(torch.einsum("nop,mop->nm", J, J) for J in each) / OUTPUTS
    flat = (J.reshape(len(X) * OUTPUTS, -1) for J in jacobians)
    return sum(J @ J.T for J in flat)


def difference(theirs: np.ndarray, ours: np.ndarray) -> float:
    """Return the largest difference over the largest entry."""
    gap = np.abs(theirs.astype(np.float64) - ours).max()
    return rounded(float(gap / np.abs(ours).max()), 2)


def weights_and_rows(module: nn.Sequential, X: np.ndarray, path: Path) -> str:
    """Write what the worker needs: rows, and weights and biases in order."""
    arrays = {name: p.detach().numpy() for name, p in module.named_parameters()}
    np.savez(path, X=X, **arrays)
    return str(path)


def case_bars(case: dict[str, Any]) -> list[dict[str, Any]]:
    """Judge one case; ratios of an absent peer are None."""
    name, form = f"{case['form']}, d = {case['d']}", case["form"]
    ratios = {who: line["of_medians"] for who, line in case["times_faster"].items()}
    gap = case["largest_difference_over_largest_entry"]["jacobians"]
    slow, quick = ratios["than jacobians"], ratios.get("than neural-tangents")
    return [
        bar(f"{name}, times faster than Jacobians", slow, TIMES_FASTER[form], at_least=True),
        bar(f"{name}, times faster than neural-tangents", quick, 1.0, at_least=True),
        bar(f"{name}, difference from Jacobians", gap, DIFFERENCE, at_least=False),
    ]


def peak_memory(dtype: str) -> dict[str, float | None]:
    """Return the growth of a fresh process's resident set, beside what it is made of, in MiB."""
    script = Path(__file__).resolve().parent / "_worker_empirical_memory.py"
    words = [sys.executable, str(script), str(MANY), str(MANY_INPUTS), dtype]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    size = sum(p.numel() for p in network(MANY_INPUTS).parameters())
    each = np.dtype(dtype).itemsize
    parts = {
        "gram": each * MANY**2,
        "activations": each * MANY * (MANY_INPUTS + 2 * WIDTH),
        "cotangents": each * MANY * OUTPUTS * (2 * WIDTH + OUTPUTS),
        "jacobians_would_be": each * MANY * OUTPUTS * size,
    }
    found = json.loads(done.stdout) | parts
    in_mib = {name: rounded(size / 2**20) for name, size in found.items()}
    print(f"peak memory, n = {MANY}, {dtype}, MiB: {in_mib}", flush=True)
    return in_mib


def products(n: int) -> dict[str, Any]:
    """Time K v for one vector: by products with Jacobians, by tiles, and by the whole matrix."""
    module, X = network(MANY_INPUTS), rows(n, MANY_INPUTS)
    v = np.random.RandomState(1).standard_normal(n).astype(np.float32)
    tiles = EmpiricalNTK(module, implementation="structured")
    by_products = EmpiricalNTK(module, implementation="vector_products")
    calls: dict[str, Callable[[], np.ndarray]] = {
        "vector products": partial(product, by_products, X, v),
        "tiles": partial(product, tiles, X, v),
        "Gram matrix": lambda: structured(tiles, "trace", X) @ v,
    }
    values = {name: call() for name, call in calls.items()}
    seconds = interleave({name: timed(call) for name, call in calls.items()}, 3)
    found = {
        "n": n,
        "seconds": {name: summary(line) for name, line in seconds.items()},
        "largest_difference_over_largest_entry": difference(
            values["vector products"], values["Gram matrix"]
        ),
    }
    print(f"K v, n = {n}, seconds:", {k: v["median"] for k, v in found["seconds"].items()})
    return found


def product(kernel: EmpiricalNTK, X: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Return K v in float32."""
    with config_context(dtype="float32"):
        return kernel.matmul(X, None, v)


if __name__ == "__main__":
    main(measure, __file__)
