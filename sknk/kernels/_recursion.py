"""The layers of a fully connected network, run once for any number of depths."""

import functools
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from sknk import _config
from sknk.exceptions import DeviceWarning
from sknk.kernels._activation import Activation
from sknk.kernels._layers import Dense
from sknk.kernels._state import KernelState

__all__ = ["Output", "Recursion", "run"]

Output = tuple[int, Literal["nngp", "ntk"]]


@dataclass(frozen=True)
class Recursion:
    """Dense, then (activation, Dense) once per hidden layer; hashable, so compilable once.

    Attributes
    ----------
    activation : Activation
        Of every hidden layer.
    biased : bool
        Whether the bias variance is positive.
    fixed_depth : int
        Untrained weight layers, counted from the input.
    fan_ins : tuple of int or None
        Input and hidden width in the standard parametrization.
    outputs : tuple of (depth, "nngp" or "ntk")
        What to return, in this order.
    """

    activation: Activation
    biased: bool
    fixed_depth: int
    fan_ins: tuple[int, int] | None
    outputs: tuple[Output, ...]

    def __call__(self, state: KernelState, values: Mapping[str, Tensor]) -> list[Tensor]:
        """Run the layers; the pair tensors of `state` may be overwritten."""
        found = [state.var_x] * len(self.outputs)  # placeholders, all overwritten
        deepest = max(depth for depth, _ in self.outputs)
        for layer in range(deepest + 1):
            if layer:
                state = self.activation.propagate(state)
            state = self._dense(layer).propagate(state, values)
            for position, (depth, kind) in enumerate(self.outputs):
                if depth == layer:
                    K = state.nngp if kind == "nngp" else state.tangents
                    # Later layers overwrite what the state holds.
                    found[position] = K if layer == deepest else K.clone()
        return found

    def _dense(self, layer: int) -> Dense:
        fan_in = None if self.fan_ins is None else self.fan_ins[min(layer, 1)]
        return Dense(biased=self.biased, trained=layer >= self.fixed_depth, fan_in=fan_in)


@functools.lru_cache(maxsize=64)
def _compiled(recursion: Recursion) -> Any:
    def forward(state: tuple[Tensor, ...], weight_var: Tensor, bias_var: Tensor) -> list[Tensor]:
        var_x, var_y, sin2, cos2 = state
        pairs = KernelState(var_x, var_y, sin2=sin2, cos2=cos2)
        return recursion(pairs, {"weight_var": weight_var, "bias_var": bias_var})

    return torch.compile(forward, dynamic=True, fullgraph=True)


def run(recursion: Recursion, state: KernelState, values: Mapping[str, Tensor]) -> list[Tensor]:
    if not _config.current().compile or torch.is_grad_enabled():
        return recursion(state, values)
    if state.var_x.device.type == "cpu" and not any(map(shutil.which, ("g++", "clang++", "c++"))):
        warnings.warn(
            "`compile=True` but no C++ compiler was found; the kernel runs eagerly. Install one or "
            "set `compile=False`.",
            DeviceWarning,
            stacklevel=2,
        )
        return recursion(state, values)
    assert state.sin2 is not None
    pairs = (state.var_x, state.var_y, state.sin2, state.cos2)
    return _compiled(recursion)(pairs, values["weight_var"], values["bias_var"])
