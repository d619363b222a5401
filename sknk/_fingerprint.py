"""Hashes of data and settings: what a run that goes on must agree on."""

import hashlib
import re
from typing import Any

import numpy as np

__all__ = ["described", "fingerprint", "signature"]


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
    if isinstance(function, str):
        return function
    code = getattr(function, "__code__", None)
    cells = getattr(function, "__closure__", None) or ()
    inside = [cell.cell_contents for cell in cells]
    inside += [*(getattr(function, "__defaults__", None) or ())]
    for held in (getattr(function, "__kwdefaults__", None), getattr(function, "__dict__", None)):
        inside += sorted((held or {}).items())
    inside = [fingerprint(part) if isinstance(part, np.ndarray) else part for part in inside]
    known = None if code is None else (code.co_code, code.co_consts, code.co_names)
    name = getattr(function, "__qualname__", repr(type(function)))
    return re.sub(r" at 0x[0-9a-f]+", "", repr((name, known, inside)))  # the same in any process


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


def _content(value: Any) -> Any:
    """Return a structure whose ``repr`` tells a parameter from all others."""
    if isinstance(value, type):
        return value.__qualname__
    if hasattr(value, "get_params"):
        params = value.get_params(deep=False)
        return type(value).__qualname__, {name: _content(params[name]) for name in sorted(params)}
    if hasattr(value, "state_dict"):  # a torch module
        weights = {name: fingerprint(np.asarray(v.cpu())) for name, v in value.state_dict().items()}
        return repr(value), weights
    if isinstance(value, np.ndarray):
        return fingerprint(value)
    if isinstance(value, np.random.RandomState):
        return [_content(part) for part in value.get_state(legacy=True)]
    if isinstance(value, dict):
        return {name: _content(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_content(item) for item in value]
    if hasattr(value, "func") and hasattr(value, "keywords"):  # functools.partial
        return [_content(part) for part in (value.func, value.args, value.keywords)]
    return described(value) if callable(value) else repr(value)
