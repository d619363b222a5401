"""Worker: Gram matrices of images by neural-tangents under jit. Argument: the dtype.

Images come from a file that the parent writes, channels first; here they are (n, h, w, c). Requests
name the number of 3 x 3 convolutions and what ends the pixels.
"""

import sys
import time
from functools import cache
from importlib.metadata import version
from typing import Any

import jax
import numpy as np
from _memory import resident
from _peers import serve

DTYPE = sys.argv[1]
jax.config.update("jax_enable_x64", DTYPE == "float64")

import jax.numpy as jnp  # noqa: E402 - the precision must be chosen first
from neural_tangents import stax  # noqa: E402

SCALES = {"W_std": 2.0**0.5, "b_std": 0.1**0.5}


@cache
def kernel(convolutions: int, end: str) -> Any:
    """Return the compiled kernel function of a convolutional ReLU network."""
    layers: list[Any] = []
    for _ in range(convolutions):
        layers += [stax.Conv(1, (3, 3), padding="SAME", **SCALES), stax.Relu()]
    layers += [stax.GlobalAvgPool() if end == "pool" else stax.Flatten()]
    evaluate = stax.serial(*layers, stax.Dense(1, **SCALES))[2]
    return jax.jit(lambda x, y: evaluate(x, y, "ntk"))


@cache
def images(file: str) -> Any:
    """Return the parent's images, already on the device."""
    return jnp.array(np.load(file).transpose(0, 2, 3, 1).astype(DTYPE))


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Time one call, or return versions, values or resident memory."""
    if request["case"] == "versions":
        names = ("neural-tangents", "jax", "jaxlib", "numpy")
        return {name: version(name) for name in names}
    if request["case"] == "resident":
        return {"bytes": resident(peak=request["peak"])}
    call = kernel(request["convolutions"], request["end"])
    x = images(request["x"])
    y = images(request["y"]) if request["y"] else None
    start = time.perf_counter()
    K = call(x, y)
    K.block_until_ready()
    seconds = time.perf_counter() - start
    assert K.dtype == DTYPE
    if request["case"] == "values":
        return {"values": np.asarray(K, dtype=float).tolist()}
    return {"seconds": seconds}


serve(answer)
