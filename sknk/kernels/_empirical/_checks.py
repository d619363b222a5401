"""Checks of EmpiricalNTK's parameters."""

from numbers import Integral
from typing import Any

import numpy as np
import torch

from sknk.kernels._empirical._choice import IMPLEMENTATIONS
from sknk.kernels._empirical._sketch import SKETCHES

__all__ = ["EMBEDDINGS", "KINDS", "check_labels", "check_parameters", "code_dtype"]

EMBEDDINGS = ("last_layer", "embedding")
KINDS = ("trace", "pseudo", "sign", *EMBEDDINGS)


def check_parameters(kernel: Any, n_features: int) -> None:
    """Refuse parameters that no tangent kernel has.

    Parameters
    ----------
    kernel : EmpiricalNTK
        Whose parameters.
    n_features : int
        Columns of the rows.

    Raises
    ------
    ValueError
        For a value outside its range.
    TypeError
        For a value of the wrong type.
    """
    _check_option("kind", kernel.kind, KINDS)
    _check_option("implementation", kernel.implementation, ("auto", *IMPLEMENTATIONS))
    _check_option("sketch", kernel.sketch, tuple(SKETCHES))
    _check_count("projection", kernel.projection, "columns")
    _check_count("chunk_size", kernel.chunk_size, "rows")
    if not isinstance(kernel.random_state, Integral) or isinstance(kernel.random_state, bool):
        raise TypeError(
            f"`random_state` of EmpiricalNTK is {kernel.random_state!r}; expected an integer: two "
            "calls of a kernel must see the same signs."
        )
    if kernel.random_state < 0:
        raise ValueError(f"`random_state` of EmpiricalNTK is {kernel.random_state}; expected >= 0.")
    if kernel.kind in EMBEDDINGS:
        given = {"params": kernel.params, "projection": kernel.projection}
        for name, value in given.items():
            if value is not None:
                raise ValueError(
                    f"`{name}` is {value!r} with kind={kernel.kind!r}, which differentiates "
                    "nothing; expected None."
                )
    code_dtype(kernel.input_dtype)
    shape = kernel.input_shape
    if shape is not None and int(np.prod(shape)) != n_features:
        raise ValueError(
            f"`input_shape` is {shape!r}, {int(np.prod(shape))} numbers, but rows have "
            f"{n_features}; expected equal."
        )


def _check_option(name: str, value: Any, options: tuple[str, ...]) -> None:
    if value not in options:
        raise ValueError(f"`{name}` of EmpiricalNTK is {value!r}; expected one of {list(options)}.")


def _check_count(name: str, value: Any, unit: str) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"`{name}` of EmpiricalNTK is {value!r}; expected None or an integer.")
    if value < 1:
        raise ValueError(f"`{name}` of EmpiricalNTK is {value}; expected 1 or more {unit}.")


def code_dtype(input_dtype: Any) -> torch.dtype | None:
    """Return the integer dtype of the module's inputs; None for inputs that are numbers.

    Parameters
    ----------
    input_dtype : None, str or torch.dtype
        Such as "int64".

    Returns
    -------
    torch.dtype or None

    Raises
    ------
    ValueError
        For anything that is no integer dtype.
    """
    if input_dtype is None:
        return None
    name = str(input_dtype).removeprefix("torch.")
    found = getattr(torch, name, None)
    if not isinstance(found, torch.dtype) or found.is_floating_point or found.is_complex:
        raise ValueError(
            f"`input_dtype` is {input_dtype!r}; expected None (numbers, in the kernel's dtype) or "
            "an integer dtype such as 'int64'."
        )
    return found


def check_labels(y: Any, n: int, n_outputs: int, name: str) -> np.ndarray:
    """Return labels as indices of outputs.

    Parameters
    ----------
    y : array-like of shape (n,)
        Integers from 0.
    n : int
        Rows.
    n_outputs : int
        Outputs of the module.
    name : str
        For messages.

    Returns
    -------
    ndarray of shape (n,)

    Raises
    ------
    ValueError
        If they are not.
    """
    labels = np.asarray(y)
    if labels.shape != (n,):
        raise ValueError(f"`{name}` has shape {labels.shape}; expected ({n},), one label a row.")
    if not np.isin(labels, np.arange(n_outputs)).all():
        bad = labels[~np.isin(labels, np.arange(n_outputs))][0]
        raise ValueError(
            f"`{name}` has the label {bad!r}; expected 0 to {n_outputs - 1}, an output's index."
        )
    return labels.astype(np.int64)
