"""Hashes of data and settings: what a run that goes on must agree on."""

import hashlib
import re
from typing import Any

import numpy as np

__all__ = ["described", "fingerprint"]


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
    """Return what tells a utility from others: its name, or a function's name, code and closure."""
    if isinstance(function, str):
        return function
    code = getattr(function, "__code__", None)
    cells = getattr(function, "__closure__", None) or ()
    inside = [cell.cell_contents for cell in cells]
    known = None if code is None else (code.co_code, code.co_consts, code.co_names)
    name = getattr(function, "__qualname__", repr(type(function)))
    return re.sub(r" at 0x[0-9a-f]+", "", repr((name, known, inside)))  # the same in any process
