"""Rows that are appended to, amortised."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sknk._array import to_numpy

__all__ = ["Growing"]

_GROWTH = 1.5


@dataclass
class _Store:
    data: Tensor
    used: int


class Growing:
    """An immutable tensor of n rows; appending m of them costs O(m), amortised.

    Parameters
    ----------
    rows : Tensor of shape (n, ...)
        The first rows.
    """

    def __init__(self, rows: Tensor) -> None:
        self._n, self._store = len(rows), _Store(rows, len(rows))

    def __len__(self) -> int:
        return self._n

    @property
    def rows(self) -> Tensor:
        """All rows, (n, ...), a view."""
        return self._store.data[: self._n]

    def append(self, rows: Tensor) -> "Growing":
        """Return the rows and others behind them; the present object stays as it is."""
        n, m = self._n, len(rows)
        store = self._store
        if store.used != n or len(store.data) < n + m:  # others grew into the room, or none is left
            data = rows.new_empty((max(n + m, int(_GROWTH * n)), *rows.shape[1:]))
            data[:n] = self.rows
            store = _Store(data, n)
        store.data[n : n + m] = rows
        store.used = n + m
        new = Growing.__new__(Growing)
        new._n, new._store = n + m, store
        return new

    def since(self, start: int) -> "Growing":
        """Return the rows from one on."""
        return Growing(self.rows[start:].clone())

    def __getstate__(self) -> dict[str, Any]:
        return {"rows": to_numpy(self.rows).copy()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        Growing.__init__(self, torch.from_numpy(state["rows"]))

    def __deepcopy__(self, memo: dict[int, Any]) -> "Growing":
        """Return the same: it never changes."""
        return self
