"""Worker: tangent kernels of a given network by neural-tangents' structured derivatives, under jit."""

import time
from importlib.metadata import version
from typing import Any

import jax
import jax.numpy as jnp
import neural_tangents as nt
import numpy as np
from _peers import serve
from neural_tangents import stax

LAYERS = (512, 512, 10)


def kernel_function(trace_axes: tuple[int, ...]) -> Any:
    """Return the compiled kernel of weights and rows."""
    layers: list[Any] = []
    for width in LAYERS:
        layers += [stax.Dense(width, b_std=1.0, parameterization="standard"), stax.Relu()]
    kernel = nt.empirical_ntk_fn(
        stax.serial(*layers[:-1])[1],
        trace_axes=trace_axes,
        vmap_axes=0,
        implementation=nt.NtkImplementation.STRUCTURED_DERIVATIVES,
    )
    return jax.jit(lambda x, params: kernel(x, None, params))


FORMS = {"trace": kernel_function((-1,)), "full": kernel_function(())}
FILES: dict[str, Any] = {}


def arguments(file: str) -> Any:
    """Return rows and the parameters of the layers, already on the device."""
    if file not in FILES:
        with np.load(file) as found:
            params: list[Any] = []
            for layer in range(0, 2 * len(LAYERS), 2):
                W, b = found[f"{layer}.weight"], found[f"{layer}.bias"]
                params += [(jnp.array(W.T), jnp.array(b[None])), ()]
            FILES[file] = jnp.array(found["X"]), params[:-1]
    return FILES[file]


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Time one call, or return versions, or leave values in a file."""
    if request["case"] == "versions":
        names = ("neural-tangents", "jax", "jaxlib", "numpy")
        return {name: version(name) for name in names}
    x, params = arguments(request["file"])
    start = time.perf_counter()
    K = FORMS[request["form"]](x, params)
    K.block_until_ready()
    seconds = time.perf_counter() - start
    assert K.dtype == np.float32
    if request["case"] == "time":
        return {"seconds": seconds}
    if request["form"] == "full":  # (n, m, O, O) there, rows and outputs side by side here
        K = K.transpose(0, 2, 1, 3).reshape(2 * (len(x) * LAYERS[-1],))
    np.save(request["out"], np.asarray(K))
    return {"out": request["out"]}


serve(answer)
