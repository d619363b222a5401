"""Hashes of data and settings: what a run that goes on must agree on."""

import hashlib
import inspect
import re
from typing import Any

import numpy as np

__all__ = ["described", "fingerprint", "signature"]

_DEPTH = 4  # of functions and objects that hold others, which may hold themselves


def fingerprint(*parts: Any) -> str:
    """Return a hash of arrays and settings: what a run that is resumed must agree on."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray) and part.dtype != object:
            digest.update(str((part.dtype.str, part.shape)).encode())
            digest.update(np.ascontiguousarray(part).tobytes())
        elif isinstance(part, np.ndarray):
            digest.update(repr(part.tolist()).encode())
        else:
            digest.update(repr(part).encode())
    return digest.hexdigest()


def described(function: Any) -> Any:
    """Return what tells a utility from others: its name, or what a function or an object holds."""
    return function if isinstance(function, str) else _described(function, _DEPTH)


def _described(function: Any, depth: int) -> str:
    owner = getattr(function, "__self__", None)
    code = getattr(function, "__code__", None)
    cells = getattr(function, "__closure__", None) or ()
    inside = [cell.cell_contents for cell in cells]
    inside += [*(getattr(function, "__defaults__", None) or ())]
    for held in (getattr(function, "__kwdefaults__", None), getattr(function, "__dict__", None)):
        inside += [part for item in sorted((held or {}).items()) for part in item]
    inside += [owner] if owner is not None and not inspect.ismodule(owner) else []
    parts = [_content(part, depth - 1) for part in inside] if depth else []
    known = None if code is None else (code.co_code, code.co_consts, code.co_names)
    name = getattr(function, "__qualname__", repr(type(function)))
    return re.sub(r" at 0x[0-9a-f]+", "", repr((name, known, parts)))  # the same in any process


def signature(value: Any) -> str:
    """Return a hash of an estimator by its parameters: arrays and weights by content.

    A ``repr`` leaves out the middle of arrays and all weights of networks.

    Parameters
    ----------
    value : object
        Estimator, kernel, module, function, array or plain value.

    Returns
    -------
    str
    """
    return fingerprint(_content(value))[:24]


def _content(value: Any, depth: int = _DEPTH) -> Any:
    """Return a structure whose ``repr`` tells a parameter from all others."""
    if isinstance(value, type):
        return value.__qualname__
    if hasattr(value, "get_params"):
        params = value.get_params(deep=False)
        found = {name: _content(params[name], depth) for name in sorted(params)}
        return type(value).__qualname__, found
    if hasattr(value, "state_dict"):  # a torch module
        weights = {name: fingerprint(np.asarray(v.cpu())) for name, v in value.state_dict().items()}
        return repr(value), weights
    if getattr(value, "ndim", 0) > 0:  # an array, a tensor, a table
        value = value.detach().cpu() if hasattr(value, "detach") else value
        return [*map(str, getattr(value, "columns", ()))], fingerprint(np.asarray(value))
    if isinstance(value, np.random.RandomState):
        return [_content(part) for part in value.get_state(legacy=True)]
    if isinstance(value, dict):
        return {name: _content(item, depth) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_content(item, depth) for item in value]
    if hasattr(value, "func") and hasattr(value, "keywords"):  # functools.partial
        return [_content(part, depth) for part in (value.func, value.args, value.keywords)]
    if callable(value) or hasattr(value, "__dict__"):
        return _described(value, depth)
    return repr(value)
