"""Which parameters a tangent kernel differentiates, and how: as real leaves, whole or in slices."""

from collections.abc import Collection, Mapping
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["as_module_tensors", "lead", "real", "select"]


def select(module: nn.Module, params: Any) -> list[str]:
    """Return the names of the parameters that `params` means, in the module's order.

    Parameters
    ----------
    module : nn.Module
        Tied parameters count once, under their first name.
    params : None, str, collection of str, or callable
        None means every parameter that requires a gradient; strings are names or shell patterns
        ("*.bias"); a callable is asked ``params(name, parameter)``.

    Returns
    -------
    list of str

    Raises
    ------
    ValueError
        If a pattern or everything together matches nothing.
    TypeError
        For a `params` of another kind.
    """
    named = {name: p for name, p in module.named_parameters() if p.numel()}
    if params is None:
        chosen = [name for name, p in named.items() if p.requires_grad]
    elif callable(params):
        chosen = [name for name, p in named.items() if params(name, p)]
    else:
        patterns = _patterns(params)
        chosen = [n for n in named if any(n == p or fnmatchcase(n, p) for p in patterns)]
        for pattern in patterns:
            if not any(n == pattern or fnmatchcase(n, pattern) for n in named):
                raise ValueError(
                    f"`params` has {pattern!r}, which no parameter of {type(module).__name__} "
                    f"matches; expected names or patterns of {list(named)}."
                )
    if not chosen:
        raise ValueError(_nothing_chosen(module, params, list(named)))
    integers = [name for name in chosen if not _is_differentiable(named[name])]
    if integers:
        raise ValueError(
            f"Parameter {integers[0]!r} is of {named[integers[0]].dtype}, which has no gradient; "
            "leave it out with `params`."
        )
    return chosen


def _patterns(params: Any) -> list[str]:
    patterns = [params] if isinstance(params, str) else params
    # An iterator would be empty at the second call.
    if not isinstance(patterns, Collection) or not all(isinstance(p, str) for p in patterns):
        raise TypeError(
            f"`params` is {params!r}; expected None, a name or pattern, several of them, or a "
            "callable of name and parameter."
        )
    return list(patterns)


def _nothing_chosen(module: nn.Module, params: Any, names: list[str]) -> str:
    kind = type(module).__name__
    if not names:
        return f"{kind} has no parameters, so no tangent kernel; expected at least one."
    if params is None:
        return (
            f"No parameter of {kind} requires a gradient; pass `params='*'` to differentiate "
            "frozen ones."
        )
    return f"`params` chooses no parameter of {kind}; expected some of {names}."


def _is_differentiable(p: Tensor) -> bool:
    return p.is_floating_point() or p.is_complex()


def real(t: Tensor) -> Tensor:
    """Return a parameter as real numbers: a complex one as pairs (re, im) in a last axis."""
    # A complex parameter is two real ones; J J^H over complex derivatives is another kernel.
    return torch.view_as_real(t) if t.is_complex() else t


def lead(leaf: Tensor) -> int:
    """Return the length of a parameter's first axis; a number has one entry."""
    return leaf.shape[0] if leaf.ndim else 1


def as_module_tensors(
    leaves: Mapping[str, Tensor], like: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return real leaves as the module knows its parameters."""
    return {
        name: torch.view_as_complex(leaf) if like[name].is_complex() else leaf
        for name, leaf in leaves.items()
    }
