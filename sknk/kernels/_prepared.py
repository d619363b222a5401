"""Rows that are compared with new ones again and again, prepared once."""

from typing import Any

import torch
from torch import Tensor

from sknk.kernels._base import Kernel

__all__ = ["PreparedRows"]

_CHUNK = 256


class PreparedRows:
    """What a kernel makes of rows, kept for rows that are only ever appended to.

    Spans are powers of two times 256 rows, by the binary digits of their number: few tiles a call,
    and every row is prepared a logarithmic number of times. They depend on the number of rows
    alone, so results do not depend on how these came.

    Parameters
    ----------
    kernel : Kernel
        Whose ``_prepare`` it is.
    states : dict of (int, int) to object
        Prepared spans; None is prepared when it is asked for.
    """

    def __init__(
        self, kernel: Kernel, states: dict[tuple[int, int], Any | None] | None = None
    ) -> None:
        self._kernel, self._states = kernel, states or {}
        # Kernels that go over rows in passes, as tangent kernels of modules do, decide themselves.
        self._serves = type(kernel)._grams is Kernel._grams

    def of(self, X: Tensor) -> "PreparedRows":
        """Return what serves the rows X, of which those seen so far are the first."""
        if not self._prepares(X):
            return self
        with torch.no_grad():
            values = self._kernel._values(X.device)
            states = {span: self._state(span, X, values) for span in _spans(len(X))}
        return PreparedRows(self._kernel, states)

    def cross_with_diag(self, X: Tensor, Y: Tensor) -> tuple[Tensor, Tensor]:
        """Return k(X, Y), (n, m), and k(y, y), (m,); `X` as in :meth:`of`, `Y` few rows."""
        if not self._prepares(X):
            return self._kernel(X, Y), self._kernel.diag(Y)
        with torch.no_grad():
            values, dtype = self._kernel._values(X.device), self._kernel._dtype()
            new, diag = self._kernel._prepare_with_diag(Y, values)
            out = torch.empty((len(X), len(Y)), device=X.device, dtype=dtype)
            done = 0
            for span in self._states:
                start, done = span
                state = self._states[span] = self._state(span, X, values)
                out[start:done] = self._kernel._tile(state, new, values)
            if done < len(X):
                rest = self._kernel._prepare(X[done:], values)
                out[done:] = self._kernel._tile(rest, new, values)
        return out, diag.to(dtype)

    def _prepares(self, X: Tensor) -> bool:
        return self._serves and self._kernel._entries_per_pair(X.shape[1]) <= 1

    def _state(self, span: tuple[int, int], X: Tensor, values: Any) -> Any:
        """Return what the kernel makes of a span of rows."""
        known = self._states.get(span)
        return self._kernel._prepare(X[slice(*span)], values) if known is None else known

    def __getstate__(self) -> dict[str, Any]:
        """Hold kernel and spans: rows give the rest again, and sums round by where spans end."""
        spans = dict.fromkeys(self._states)
        return {"_kernel": self._kernel, "_states": spans, "_serves": self._serves}


def _spans(n: int) -> list[tuple[int, int]]:
    """Return spans of 256 times the binary digits of n / 256, the largest first."""
    found, start, chunks = [], 0, n // _CHUNK
    for digit in reversed(range(chunks.bit_length())):
        if chunks >> digit & 1:
            stop = start + (_CHUNK << digit)
            found.append((start, stop))
            start = stop
    return found
