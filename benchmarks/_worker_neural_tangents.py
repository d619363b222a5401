"""Worker: Gram matrices by neural-tangents under jit. Argument: the dtype."""

import sys
import time
from importlib.metadata import version
from typing import Any

import jax
import numpy as np
from _peers import serve

DTYPE = sys.argv[1]
jax.config.update("jax_enable_x64", DTYPE == "float64")

import jax.numpy as jnp  # noqa: E402 - the precision must be chosen first
from neural_tangents import stax  # noqa: E402


def network(depth: int, weight_var: float, bias_var: float) -> Any:
    """Return the kernel function of a fully connected ReLU network."""
    dense = {"W_std": weight_var**0.5, "b_std": bias_var**0.5}
    layers: list[Any] = []
    for _ in range(depth):
        layers += [stax.Dense(1, **dense), stax.Relu()]
    return stax.serial(*layers, stax.Dense(1, **dense))[2]


KERNEL = network(2, 2.0, 0.09)
GRAM = jax.jit(lambda x: KERNEL(x, None, "ntk"))
CROSS = jax.jit(lambda x, y: KERNEL(x, y, "ntk"))
ROWS: dict[tuple[int, int, int], Any] = {}


def rows(seed: int, n: int, d: int) -> Any:
    """Return the rows that the parent draws from the same seed, already on the device."""
    if (seed, n, d) not in ROWS:
        drawn = np.random.RandomState(seed).standard_normal((n, d)).astype(DTYPE)
        ROWS[seed, n, d] = jnp.array(drawn)
    return ROWS[seed, n, d]


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Time one call, or return versions or values."""
    if request["case"] == "versions":
        names = ("neural-tangents", "jax", "jaxlib", "numpy")
        return {name: version(name) for name in names}
    x = rows(0, request["n"], request["d"])
    if request["case"] == "values":
        return {"values": np.asarray(GRAM(x[: request["head"]]), dtype=float).tolist()}
    y = rows(1, request["m"], request["d"]) if request["case"] == "cross" else None
    start = time.perf_counter()
    K = GRAM(x) if y is None else CROSS(x, y)
    K.block_until_ready()
    seconds = time.perf_counter() - start
    assert K.dtype == DTYPE
    return {"seconds": seconds}


serve(answer)
