"""The layers of a fully connected network, run once for any number of depths."""

import functools
import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Self

import torch
from torch import Tensor

from sknk import _config
from sknk.exceptions import DeviceWarning
from sknk.kernels._activation import Activation
from sknk.kernels._affine import Affine
from sknk.kernels._inputs import Directions, directions_of, half_angles
from sknk.kernels._state import Features, KernelState, coincident_state, reusable

__all__ = ["Output", "Recursion", "Rows", "diagonals", "known_constants", "run"]

Values = Mapping[str, Tensor]

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

    @property
    def deepest(self) -> int:
        """Hidden layers to run."""
        return max(depth for depth, _ in self.outputs)

    @property
    def homogeneous(self) -> bool:
        """Whether rows c times as long have kernels c^2 times as large."""
        return self.activation.homogeneous and not self.biased

    def rows(self, features: Features, values: Values) -> tuple[Features, ...]:
        """Return the features of rows before and after every layer: 2 + 2 deepest of them."""
        found = [features]
        for layer in range(self.deepest + 1):
            if layer:
                found.append(Features.of(self.activation.second_moment(found[-1].var)))
            found.append(self._affine(layer).rows(found[-1], values))
        return tuple(found)

    def __call__(
        self,
        state: KernelState,
        x: Sequence[Features],
        y: Sequence[Features],
        values: Values,
    ) -> list[Tensor]:
        """Run the layers; the pair tensors of `state` may be overwritten.

        Parameters
        ----------
        state : KernelState
            Of the inputs.
        x, y : sequence of Features
            Of rows and columns, from :meth:`rows`.
        values : mapping of str to Tensor
            ``weight_var`` and ``bias_var``, in the dtype of the pairs.

        Returns
        -------
        list of Tensor
            One kernel (n, m) for every entry of `outputs`.
        """
        found = [x[0].var] * len(self.outputs)  # placeholders, all overwritten
        for layer in range(self.deepest + 1):
            if layer:
                state = self.activation.propagate(state, x[2 * layer], y[2 * layer], values)
            after = 2 * layer + 1
            state = self._affine(layer).propagate(state, x[after], y[after], values)
            for position, (depth, kind) in enumerate(self.outputs):
                if depth == layer:
                    K = state.nngp if kind == "nngp" else state.tangents
                    # Later layers overwrite what the state holds.
                    found[position] = K if layer == self.deepest else K.clone()
        return found

    def _affine(self, layer: int) -> Affine:
        fan_in = None if self.fan_ins is None else self.fan_ins[min(layer, 1)]
        return Affine(biased=self.biased, trained=layer >= self.fixed_depth, fan_in=fan_in)


@dataclass(frozen=True)
class Rows:
    """Rows of a table, ready for pairing: everything of O(n) is done once per block.

    Attributes
    ----------
    directions : Directions
        Rows divided by their norms.
    rows, columns : tuple of Features
        Before and after every layer, as (n, 1) and as (1, n).
    recursion : Recursion
        What will run on them.
    gains : Tensor of shape (len(outputs),) or None
        Reciprocals of the normalizing constants.
    """

    directions: Directions
    rows: tuple[Features, ...]
    columns: tuple[Features, ...]
    recursion: Recursion
    gains: Tensor | None

    @classmethod
    def of(
        cls,
        x: Tensor,
        recursion: Recursion,
        values: Values,
        constants: Tensor | None,
        dtype: torch.dtype,
    ) -> Self:
        """Split rows (n, d) into directions and variances, and follow these through the layers."""
        directions, features = directions_of(x)
        layers = recursion.rows(features, values)
        gains = None if constants is None else constants.reciprocal().to(dtype)
        rows = tuple(features.to(dtype) for features in layers)
        columns = tuple(features.columns for features in rows)
        return cls(directions, rows, columns, recursion, gains)


def diagonals(recursion: Recursion, var: Tensor, values: Values) -> list[Tensor]:
    """Return a recursion's kernels of rows with themselves, by their input variances (n, 1)."""
    if recursion.homogeneous and not torch.is_grad_enabled():
        return [var * K for K in known_constants(recursion, float(values["weight_var"]), 0.0, 1.0)]
    return _measured_diagonals(recursion, var, values)


def _measured_diagonals(recursion: Recursion, var: Tensor, values: Values) -> list[Tensor]:
    rows = recursion.rows(Features.of(var), values)
    return recursion(coincident_state(rows[0]), rows, rows, values)


@functools.lru_cache(maxsize=1024)
def known_constants(
    recursion: Recursion, weight_var: float, bias_var: float, scale2: float
) -> tuple[float, ...]:
    var, w, b = torch.tensor([scale2, weight_var, bias_var], dtype=torch.float64)
    found = _measured_diagonals(recursion, var.reshape(1, 1), {"weight_var": w, "bias_var": b})
    return tuple(K.item() for K in found)


@functools.lru_cache(maxsize=64)
def _forward(recursion: Recursion, *, compiled: bool) -> Callable[..., list[Tensor]]:
    def forward(
        sin2: Tensor,
        cos2: Tensor | None,
        x: tuple[Features, ...],
        y: tuple[Features, ...],
        values: dict[str, Tensor],
        gains: Tensor | None,
    ) -> list[Tensor]:
        found = recursion(KernelState(x[0], y[0], sin2=sin2, cos2=cos2), x, y, values)
        if gains is None:
            return found
        return [torch.mul(K, gains[i], out=reusable(K)) for i, K in enumerate(found)]

    return torch.compile(forward, dynamic=True, fullgraph=True) if compiled else forward


def run(rx: Rows, ry: Rows, values: Values) -> list[Tensor]:
    """Pair two blocks of rows, compiled where that is configured and possible.

    Parameters
    ----------
    rx, ry : Rows
        n and m rows of one recursion.
    values : mapping of str to Tensor
        ``weight_var`` and ``bias_var``, 0-d.

    Returns
    -------
    list of Tensor
        One kernel (n, m) for every output of the recursion.
    """
    dtype = rx.rows[0].var.dtype
    scales = {name: values[name].to(dtype) for name in ("weight_var", "bias_var")}
    compiled = (
        _config.current().compile
        and rx.recursion.activation.compilable
        and not torch.is_grad_enabled()
        and _can_compile(scales["weight_var"])
    )
    forward = _forward(rx.recursion, compiled=compiled)
    pairs = half_angles(rx.directions, ry.directions, dtype)
    return forward(*pairs, rx.rows, ry.columns, scales, rx.gains)


def _can_compile(x: Tensor) -> bool:
    if x.device.type != "cpu" or any(map(shutil.which, ("g++", "clang++", "c++"))):
        return True
    warnings.warn(
        "`compile=True` but no C++ compiler was found; the kernel runs eagerly. Install one or "
        "set `compile=False`.",
        DeviceWarning,
        stacklevel=2,
    )
    return False
