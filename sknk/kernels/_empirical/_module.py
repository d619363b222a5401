"""Torch modules as they come: found inside other objects, read, and mirrored without a change."""

import copy
from itertools import chain
from typing import Any

import torch
from sklearn.exceptions import NotFittedError
from torch import Tensor, nn

__all__ = ["duplicate", "equal_modules", "inner", "mirror", "portable", "tensors_of", "unwrap"]


def unwrap(module: Any) -> nn.Module:
    """Return the torch module of a kernel's `module` parameter.

    Parameters
    ----------
    module : nn.Module or object with a ``module_``
        skorch's nets keep their module there once they are initialized.

    Returns
    -------
    nn.Module
        That of a compiled module is the one that was compiled.

    Raises
    ------
    TypeError
        For an object without a module.
    NotFittedError
        For one that has not made its module yet.
    ValueError
        For lazy parameters, which have no shape yet.
    """
    found = module if isinstance(module, nn.Module) else getattr(module, "module_", module)
    found = getattr(found, "_orig_mod", found)
    if not isinstance(found, nn.Module):
        if hasattr(module, "initialize"):
            raise NotFittedError(
                f"`module` is a {type(module).__name__} without `module_`; expected an initialized "
                "net. Call its `initialize` or `fit` first."
            )
        raise TypeError(
            f"`module` is {module!r}; expected a torch.nn.Module, or an object whose `module_` is "
            "one, such as a fitted skorch net."
        )
    lazy = [name for name, p in found.named_parameters() if nn.parameter.is_lazy(p)]
    if lazy:
        raise ValueError(
            f"Parameter {lazy[0]!r} of {type(found).__name__} is lazy: it has no shape yet. Call "
            "the module on one row first."
        )
    return found


# What torch keeps of a module; everything else in its __dict__ is the user's, or settings.
_REGISTRIES = ("_parameters", "_buffers", "_modules")
_SIMPLE = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device)


def inner(module: Any) -> Any:
    """Return the torch module, or the object itself where it has none (yet)."""
    try:
        return unwrap(module)
    except (TypeError, NotFittedError, ValueError):
        return module


def mirror(module: nn.Module) -> nn.Module:
    """Copy a module's structure, not its tensors, and set the copy to evaluation mode.

    What is done to the copy (hooks, modes, swapped parameters) cannot reach the original, also
    while another thread trains it.

    Parameters
    ----------
    module : nn.Module
        Left as it is.

    Returns
    -------
    nn.Module
        Shares parameters, buffers and tensors that autograd made.
    """
    shared = [*module.parameters(), *module.buffers(), *_results(module)]
    memo: dict[int, Any] = {id(t): t for t in shared}
    for part in reversed(list(module.modules())):  # leaves first: they are most of a module
        if _is_plain(part):
            memo[id(part)] = _plain_copy(part)
    twin = _copied(module, memo)
    for part in twin.modules():
        part.training = False  # not `eval()`, which classes override to merge weights in place
        if isinstance(part, nn.Embedding | nn.EmbeddingBag):
            part.sparse = False  # the same gradient, in a form that can be contracted
    return twin


def _results(module: nn.Module) -> list[Tensor]:
    """Return what old-style reparametrizations keep beside parameters, and deepcopy refuses."""
    tensors = (t for part in module.modules() for t in vars(part).values())
    return [t for t in tensors if isinstance(t, Tensor) and not t.is_leaf]


def duplicate(module: Any) -> Any:
    """Return a copy with weights of its own.

    Parameters
    ----------
    module : nn.Module or object
        A torch module, or what has none yet.

    Returns
    -------
    nn.Module or object

    Raises
    ------
    TypeError
        If something in it cannot be copied.
    """
    memo = {}
    if isinstance(module, nn.Module):
        memo = {id(t): t.detach().clone() for t in _results(module)}
    try:
        return _copied(module, memo)
    except (TypeError, RuntimeError) as error:
        raise TypeError(
            f"{type(module).__name__} cannot be copied ({error}); kernels and estimators keep "
            "copies of their module. Keep what cannot be copied outside of it."
        ) from error


def _copied(module: Any, memo: dict[int, Any]) -> Any:
    """Copy deeply; classes that copy themselves by their constructor draw weights in vain."""
    with torch.random.fork_rng(devices=[]):
        return copy.deepcopy(module, memo)


def _is_plain(part: nn.Module) -> bool:
    """Return whether a module without children has nothing but settings beside its registries."""
    kind = type(part)
    return (
        not part._modules
        and kind.__module__.startswith("torch.nn.modules.")
        and kind.__setstate__ is nn.Module.__setstate__
        and all(
            isinstance(value, _SIMPLE) or (isinstance(value, dict) and not value)
            for name, value in vars(part).items()
            if name not in _REGISTRIES and name != "_non_persistent_buffers_set"
        )
    )


def _plain_copy(part: nn.Module) -> nn.Module:
    """Copy a plain module; ten times faster than ``deepcopy``, which would do the same."""
    made = nn.Module.__new__(type(part))
    # Registries and the empty dictionaries of hooks are the copy's own.
    made.__dict__ = {k: v.copy() if isinstance(v, dict | set) else v for k, v in vars(part).items()}
    return made


def tensors_of(module: nn.Module, device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
    """Return copies of a module's parameters and buffers by name, tied ones once.

    Parameters
    ----------
    module : nn.Module
        Read only.
    device : torch.device
        Where the copies go.
    dtype : torch.dtype
        Of real numbers; complex ones get its complex counterpart, integers stay.

    Returns
    -------
    dict of str to Tensor
    """
    named = chain(module.named_parameters(), module.named_buffers())
    return {name: _converted(t.detach(), device, dtype) for name, t in named}


def _converted(t: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    if t.is_complex():
        dtype = dtype.to_complex()
    elif not t.is_floating_point():
        dtype = t.dtype
    return t.to(device=device, dtype=dtype, copy=True)


def portable(module: nn.Module) -> nn.Module:
    """Return the module itself on the CPU, else a copy there: pickles load where there is no GPU.

    Parameters
    ----------
    module : nn.Module
        Left where it is.

    Returns
    -------
    nn.Module
    """
    tensors = chain(module.parameters(), module.buffers())
    if all(t.device.type == "cpu" for t in tensors):
        return module
    return duplicate(module).cpu()


def equal_modules(a: nn.Module, b: nn.Module) -> bool:
    """Return whether two modules have one structure and bitwise equal parameters and buffers.

    Parameters
    ----------
    a, b : nn.Module
        Compared by value.

    Returns
    -------
    bool
    """
    if a is b:
        return True
    if type(a) is not type(b) or repr(a) != repr(b) or _settings(a) != _settings(b):
        return False
    mine, theirs = (dict(chain(m.named_parameters(), m.named_buffers())) for m in (a, b))
    return mine.keys() == theirs.keys() and all(_equal(mine[k], theirs[k]) for k in mine)


def _settings(module: nn.Module) -> list[Any]:
    """Return plain settings and numbers of hooks, layer by layer."""
    return [
        {
            k: len(v) if k.endswith("_hooks") else v
            for k, v in vars(part).items()
            if k != "training" and (isinstance(v, _SIMPLE) or k.endswith("_hooks"))
        }
        for part in module.modules()
    ]


def _equal(a: Tensor, b: Tensor) -> bool:
    same = a.shape == b.shape and a.dtype == b.dtype and a.requires_grad == b.requires_grad
    return same and torch.equal(a.detach().cpu(), b.detach().cpu())
