"""What parameters of layers must be."""

import math
from numbers import Integral, Real
from typing import Any

from sknk.kernels._layer import Layer

__all__ = ["check_count", "check_layer", "check_named", "check_number", "check_variances"]


def check_number(layer: Layer, name: str, value: Any, *, least: float) -> None:
    """Raise unless a layer's parameter is a finite number, `least` or more."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"`{name}` of {type(layer).__name__} is {value!r}; expected a number.")
    if not least <= float(value) < math.inf:
        raise ValueError(
            f"`{name}` of {type(layer).__name__} is {value!r}; expected a finite number, "
            f"{least:g} or more."
        )


def check_count(layer: Layer, name: str, value: Any) -> None:
    """Raise unless a layer's parameter is a positive integer."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise ValueError(
            f"`{name}` of {type(layer).__name__} is {value!r}; expected a positive integer."
        )


def check_variances(layer: Any) -> None:
    """Raise for variances of weights and biases that no layer has."""
    check_number(layer, "weight_var", layer.weight_var, least=0.0)
    check_number(layer, "bias_var", layer.bias_var, least=0.0)
    if layer.weight_var == 0:
        raise ValueError(
            f"`weight_var` of {type(layer).__name__} is 0, which makes every row equal; raise it."
        )


def check_layer(owner: Layer, name: str, layer: object) -> None:
    """Raise unless this is a layer."""
    if not isinstance(layer, Layer):
        raise TypeError(f"`{name}` of {type(owner).__name__} is {layer!r}; expected a layer.")


def check_named(owner: Layer, parameter: str, layers: object) -> None:
    """Raise unless these are (name, layer) pairs whose names parameters can have."""
    kind = type(owner).__name__
    if not isinstance(layers, tuple) or not layers:
        raise TypeError(
            f"`{parameter}` of {kind} is {layers!r}; expected a tuple of (name, layer) pairs."
        )
    for pair in layers:
        if not (isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], str)):
            raise TypeError(
                f"`{parameter}` of {kind} contains {pair!r}; expected (name, layer) pairs."
            )
        check_layer(owner, pair[0], pair[1])
    names = [name for name, _ in layers]
    reserved = [n for n in names if "__" in n or not n or n == parameter]
    if reserved or len(set(names)) < len(names):
        raise ValueError(
            f"`{parameter}` of {kind} has the names {names}; expected unique ones without '__', "
            f"other than {parameter!r}."
        )
