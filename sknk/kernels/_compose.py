"""Layers made of layers: one after the other, several times."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor, nn

from sknk.kernels._checks import check_count, check_layer, check_named
from sknk.kernels._layer import Children, Layer, Values, values_of
from sknk.kernels._state import Features, KernelState

__all__ = ["Repeat", "Serial"]


def _follow(
    layers: Children, itself: KernelState, values: Values
) -> tuple[Features, tuple[Features, ...]]:
    """Follow rows through layers: what leaves the last, and what leaves each."""
    found: list[Features] = []
    for name, layer in layers:
        inside = values_of(name, values)
        after = layer.rows(itself, inside)
        if itself.paired:
            itself = layer.propagate(itself.copied(), after, after.partners, inside)
        else:
            itself = replace(itself, x=after, y=after.partners)
        found.append(after)
    return found[-1], tuple(found)


@dataclass(frozen=True, repr=False)
class Serial(Layer):
    """Layers one after the other; written ``a >> b >> c``.

    Parameters
    ----------
    layers : tuple of (name, Layer)
        From the input on, named as in scikit-learn's Pipeline: ``network__dense__bias_var``.
        ``>>`` names layers by their class: dense, relu, dense_2.

    Raises
    ------
    ValueError
        For no layers, or names that are not unique.
    TypeError
        For what is not a pair of a name and a layer.

    Examples
    --------
    >>> from sknk.kernels import Dense, Erf
    >>> network = Dense(bias_var=0.1) >> Erf() >> Dense()
    >>> [name for name, _ in network.layers]
    ['dense', 'erf', 'dense_2']
    >>> network.get_params()["dense__bias_var"]
    0.1
    """

    layers: Children

    def __post_init__(self) -> None:
        """Refuse layers without a name, and names that mean two layers."""
        check_named(self, "layers", self.layers)

    @property
    def children(self) -> Children:
        """The layers."""
        return self.layers

    def with_children(self, children: Mapping[str, Layer]) -> Self:
        """Return this chain with other layers under the same names."""
        return replace(self, layers=tuple((name, children[name]) for name, _ in self.layers))

    def dtype(self, wanted: torch.dtype, rows: torch.dtype) -> torch.dtype:
        """Return the rows' dtype also where angles follow on averages of covariances."""
        averaged = [index for index, (_, child) in enumerate(self.layers) if child.averages]
        later = self.layers[averaged[0] + 1 :] if averaged else ()
        if any(child.needs_angles for _, child in later):
            return rows
        return super().dtype(wanted, rows)

    def gaussian(self, before: bool) -> bool:
        """Return what the last layer says."""
        for _, layer in self.layers:
            before = layer.gaussian(before)
        return before

    def fresh(self, before: bool) -> bool:
        """Return what the last layer says."""
        for _, layer in self.layers:
            before = layer.fresh(before)
        return before

    def rows(self, itself: KernelState, values: Values) -> Features:
        """Return the rows after the last layer, and after each as parts."""
        last, parts = _follow(self.layers, itself, values)
        return last._replace(parts=parts)

    def propagate(
        self, state: KernelState, x: Features, y: Features, values: Values
    ) -> KernelState:
        """Propagate through one layer after the other."""
        for (name, layer), after_x, after_y in zip(self.layers, x.parts, y.parts, strict=True):
            state = layer.propagate(state, after_x, after_y, values_of(name, values))
        return state

    def finite(self, example: Tensor, width: int, generator: torch.Generator) -> nn.Module:
        """Return the layers in a torch Sequential."""
        modules = []
        with torch.no_grad():
            for _, layer in self.layers:
                modules.append(layer.finite(example, width, generator))
                example = modules[-1](example)
        return nn.Sequential(*modules)


@dataclass(frozen=True, repr=False)
class Repeat(Layer):
    """The same layer several times, each time with weights of its own.

    Parameters
    ----------
    layer : Layer
        What is repeated; its hyperparameters are shared, named ``layer__dense__bias_var``.
    times : int, default=2
        How often.

    Raises
    ------
    ValueError
        Unless `times` is a positive integer.

    Examples
    --------
    >>> from sknk.kernels import NTK, Dense, NetworkKernel, ReLU, Repeat
    >>> kernel = NetworkKernel(Repeat(Dense() >> ReLU(), times=4) >> Dense())
    >>> (abs(kernel([[1.0], [-2.0]]) - NTK(depth=4)([[1.0], [-2.0]])) < 1e-14).all().item()
    True
    """

    layer: Layer
    times: int = 2

    def __post_init__(self) -> None:
        """Refuse to repeat less than once, or what is no layer."""
        check_layer(self, "layer", self.layer)
        check_count(self, "times", self.times)

    @property
    def children(self) -> Children:
        """The repeated layer."""
        return (("layer", self.layer),)

    def dtype(self, wanted: torch.dtype, rows: torch.dtype) -> torch.dtype:
        """Return the dtype of the chain."""
        return self._chain.dtype(wanted, rows)

    @property
    def _chain(self) -> Serial:
        return Serial(tuple((f"layer_{k}", self.layer) for k in range(self.times)))

    def _shared(self, values: Values) -> dict[str, Tensor]:
        return {
            f"layer_{k}__{name}": value
            for k in range(self.times)
            for name, value in values_of("layer", values).items()
        }

    def gaussian(self, before: bool) -> bool:
        """Return what the last repetition says."""
        return self._chain.gaussian(before)

    def fresh(self, before: bool) -> bool:
        """Return what the last repetition says."""
        return self._chain.fresh(before)

    def rows(self, itself: KernelState, values: Values) -> Features:
        """Return the rows after the last repetition."""
        return self._chain.rows(itself, self._shared(values))

    def propagate(
        self, state: KernelState, x: Features, y: Features, values: Values
    ) -> KernelState:
        """Propagate through every repetition."""
        return self._chain.propagate(state, x, y, self._shared(values))

    def finite(self, example: Tensor, width: int, generator: torch.Generator) -> nn.Module:
        """Return the repetitions in a torch Sequential."""
        return self._chain.finite(example, width, generator)


def chain(first: Layer, second: Layer) -> Serial:
    """Return ``first >> second``, chains flattened, names by class."""
    layers: list[tuple[str, Layer]] = []
    for part in (first, second):
        named = part.layers if isinstance(part, Serial) else ((_name_of(part), part),)
        for name, layer in named:
            layers.append((_unused(name, [taken for taken, _ in layers]), layer))
    return Serial(tuple(layers))


def _name_of(layer: Layer) -> str:
    return type(layer).__name__.lower()


def _unused(name: str, taken: Sequence[str]) -> str:
    """Return the name, numbered if it is taken: dense, dense_2, dense_3."""
    if name not in taken:
        return name
    base, number = re.sub(r"_\d+$", "", name), 2
    while f"{base}_{number}" in taken:
        number += 1
    return f"{base}_{number}"
