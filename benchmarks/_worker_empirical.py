"""Worker: tangent kernels of a network by neural-tangents' structured derivatives, under jit."""

import time
from importlib.metadata import version
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from _peers import serve
from jax._src import config, source_info_util
from jax.interpreters import ad

# neural-tangents 0.6.5 looks for these two where jax kept them before 0.4.30.
ad.config, ad.source_info_util = config.config, source_info_util

import neural_tangents as nt  # noqa: E402 - after the names above

LAYERS = 3


def outputs(params: Any, x: Any) -> Any:
    """Return the outputs of a ReLU network; a little quicker than the same of stax layers."""
    *hidden, (W, b) = params
    for V, c in hidden:
        x = jax.nn.relu(x @ V + c)
    return x @ W + b


def kernel_function(trace_axes: tuple[int, ...]) -> Any:
    """Return the compiled kernel of rows and weights."""
    kernel = nt.empirical_ntk_fn(
        outputs,
        trace_axes=trace_axes,
        vmap_axes=0,
        implementation=nt.NtkImplementation.STRUCTURED_DERIVATIVES,
    )
    return jax.jit(lambda x, params: kernel(x, None, params))


FORMS = {"trace": kernel_function((-1,)), "full": kernel_function(())}
FILES: dict[str, Any] = {}


def arguments(file: str) -> Any:
    """Return rows and weights, already on the device."""
    if file not in FILES:
        with np.load(file) as found:
            names = [str(2 * layer) for layer in range(LAYERS)]
            params = [(found[f"{name}.weight"].T, found[f"{name}.bias"]) for name in names]
            FILES[file] = jax.tree.map(jnp.array, (found["X"], params))
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
    if request["case"] == "values":
        if request["form"] == "full":  # (n, n, O, O) there, outputs beside their rows here
            n, _, o, _ = K.shape
            K = K.transpose(0, 2, 1, 3).reshape(n * o, n * o)
        np.save(request["out"], np.asarray(K))
    return {"seconds": seconds}


serve(answer)
