"""Worker: Gram matrices by scikit-ntk. Argument: the dtype of the rows."""

import sys
import time
from importlib.metadata import version
from typing import Any

import numpy as np
from _peers import serve
from skntk import NeuralTangentKernel

DTYPE = sys.argv[1]


def rows(seed: int, n: int, d: int) -> np.ndarray:
    """Return the rows that the parent draws from the same seed."""
    return np.random.RandomState(seed).standard_normal((n, d)).astype(DTYPE)


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Time one call, or return versions or values."""
    if request["case"] == "versions":
        return {name: version(name) for name in ("scikit-ntk", "numpy", "scikit-learn")}
    x = rows(0, request["n"], request["d"])
    if request["case"] == "values":
        kernel = NeuralTangentKernel(
            depth=2, bias=0.0
        )  # with a bias it is another kernel than ours
        return {"values": kernel(x[: request["head"]]).astype(float).tolist()}
    kernel = NeuralTangentKernel(depth=2, bias=0.3)
    y = rows(1, request["m"], request["d"]) if request["case"] == "cross" else None
    start = time.perf_counter()
    K = kernel(x, y)
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "dtype": str(K.dtype)}


serve(answer)
