"""The tile loops: fill, matmul, vector-Jacobian product.

Rows are prepared once per block; pairs are visited in cache-sized tiles, one triangle of them in
symmetric calls. Results do not depend on the tile size.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor

from sknk import _config
from sknk._array import keep_heap
from sknk.exceptions import NonFiniteGradientError

__all__ = ["Gradients", "blocks_of", "fill", "matmul", "pairs", "spans", "tile_rows", "vjp"]

Values = Mapping[str, Tensor]
Blocks = Sequence[tuple[slice, Any]]

# Four temporaries of one tile nearly stay in 2 MiB of second-level cache per core.
_CPU_BYTES_PER_THREAD = 9 * 2**16
_GPU_ROWS = 4096


@dataclass(frozen=True)
class Gradients:
    """Gradients of sum(W * K(X, Y)); `Y` is None in symmetric calls, where `X` has both parts."""

    values: dict[str, Tensor]
    X: Tensor
    Y: Tensor | None


def tile_rows(device: torch.device, dtype: torch.dtype, entries: int = 1) -> int:
    """Return the rows of a square tile: configured, else what fits the cache."""
    # `entries` is how many numbers a kernel holds for each pair of rows (images: pairs of pixels).
    configured = _config.current().tile_size
    if configured is not None:
        return int(configured)
    if device.type != "cpu":
        return max(1, math.isqrt(_GPU_ROWS**2 // entries))
    numbers = _CPU_BYTES_PER_THREAD * torch.get_num_threads() // dtype.itemsize
    return max(1, math.isqrt(numbers // entries))


def spans(n: int, size: int) -> list[slice]:
    """Split range(n) into slices of at most `size`."""
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]


def blocks_of(x: Tensor, prepare: Callable[[Tensor], Any], size: int) -> Blocks:
    """Prepare the rows of x in blocks of at most `size`.

    Parameters
    ----------
    x : Tensor of shape (n, d)
        Rows.
    prepare : callable
        Block of rows -> row state.
    size : int
        Rows of a block.

    Returns
    -------
    list of (slice, object)

    Raises
    ------
    NonFiniteGradientError
        Of a block, its row counted from the first row of x.
    """
    return [(span, _numbered(span, prepare, x[span])) for span in spans(len(x), size)]


def _numbered(span: slice, prepare: Callable[..., Any], *block: Any) -> Any:
    """Prepare a block; count the row of an error from the first row of all."""
    try:
        return prepare(*block)
    except NonFiniteGradientError as error:
        raise error.after(span.start) from error


def pairs(bx: Blocks, by: Blocks | None) -> Sequence[tuple[slice, Any, slice, Any, bool]]:
    """List (row slice, rows, column slice, columns, mirrored) of the tiles to visit."""
    if by is not None:
        return [(i, rx, j, ry, False) for i, rx in bx for j, ry in by]
    return [
        (i, rx, j, ry, a > b)
        for a, (i, rx) in enumerate(bx)
        for b, (j, ry) in enumerate(bx[: a + 1])
    ]


def fill(
    outs: Sequence[Tensor],
    tile: Callable[[Any, Any], Sequence[Tensor]],
    bx: Blocks,
    by: Blocks | None = None,
) -> None:
    """Write tiles into whole matrices, several kernels of one recursion at a time.

    Parameters
    ----------
    outs : sequence of Tensor, each (n, m)
        Written in place.
    tile : callable
        Two row states -> one (rows, columns) tensor for every output.
    bx, by : Blocks
        Prepared rows; without `by` the matrices are symmetric and one triangle is evaluated.
    """
    keep_heap(outs[0].device)
    for i, rx, j, ry, mirrored in pairs(bx, by):
        for out, K in zip(outs, tile(rx, ry), strict=True):
            out[i, j] = K if rx is not ry else _symmetric(K)
            if mirrored:
                out[j, i] = K.T


def _symmetric(K: Tensor) -> Tensor:
    """Mirror the lower triangle of a diagonal tile: products of rows may round differently."""
    return K.tril() + K.tril(-1).T


def matmul(
    out: Tensor, tile: Callable[[Any, Any], Tensor], V: Tensor, bx: Blocks, by: Blocks | None = None
) -> None:
    """Accumulate K(X, Y) @ V in `out` (n, t) without storing K; V is (m, t)."""
    keep_heap(out.device)
    out.zero_()
    for i, rx, j, ry, mirrored in pairs(bx, by):
        K = tile(rx, ry)
        out[i] += K @ V[j]
        if mirrored:
            out[j] += K.T @ V[i]


def vjp(
    prepare: Callable[[Tensor, Values], Any],
    tile: Callable[[Any, Any, Values], Tensor],
    x: Tensor,
    y: Tensor | None,
    W: Tensor,
    values: Mapping[str, Tensor],
    size: int,
) -> Gradients:
    """Differentiate sum(W * K) tile by tile: O(n m) time, one tile of memory.

    Rows are prepared once per block. Tiles accumulate gradients of what was prepared, and one pass
    back through the preparation ends the call.

    Parameters
    ----------
    prepare : callable
        Rows and values -> row state, differentiable.
    tile : callable
        Two row states and values -> (n, m), differentiable.
    x, y : Tensor of shape (n, d) and (m, d)
        Rows, differentiated where they require gradients; y None for a symmetric call.
    W : Tensor of shape (n, m)
        Cotangent; need not be symmetric.
    values : mapping of str to Tensor
        Differentiated where they require gradients.
    size : int
        Rows of a tile.

    Returns
    -------
    Gradients
    """
    keep_heap(x.device)
    leaves = {name: _leaf(value) for name, value in values.items()}
    with torch.enable_grad():
        bx = _leaves_of(x, prepare, leaves, size)
        by = None
        if y is not None:
            by = _leaves_of(y, prepare, leaves, size)
        for i, rx, j, ry, mirrored in pairs(bx, by):
            K = tile(rx.state, ry.state, leaves)
            if K.requires_grad:
                K.backward(W[i, j] + W[j, i].T if mirrored else W[i, j])
    for _, block in [*bx, *(by or [])]:
        block.backward()
    return Gradients(
        {name: _gradient(leaf) for name, leaf in leaves.items()},
        torch.cat([_gradient(block.x) for _, block in bx]) if bx else torch.zeros_like(x),
        None if y is None else torch.cat([_gradient(block.x) for _, block in by or []]),
    )


def _leaves_of(
    x: Tensor, prepare: Callable[[Tensor, Values], Any], values: Values, size: int
) -> list[tuple[slice, "_Prepared"]]:
    """Prepare blocks of rows whose states collect gradients."""
    return [(s, _numbered(s, _Prepared, _leaf(x, s), prepare, values)) for s in spans(len(x), size)]


def _leaf(x: Tensor, rows: slice = slice(None)) -> Tensor:
    """Cut a tensor, or a block of its rows, off the graph it may belong to."""
    return (x[rows] if x.ndim else x).detach().requires_grad_(x.requires_grad)


def _gradient(leaf: Tensor) -> Tensor:
    return torch.zeros_like(leaf) if leaf.grad is None else leaf.grad


class _Prepared:
    """A block of rows and its state, every tensor of which collects its own gradient."""

    def __init__(self, x: Tensor, prepare: Callable[..., Any], values: Values) -> None:
        self.x = x
        self._links: dict[int, tuple[Tensor, Tensor]] = {}  # of what was prepared, and its copy
        self.state = self._copy(prepare(x, values))

    def _copy(self, state: Any) -> Any:
        """Rebuild a state of tuples, lists and dataclasses with leaves for tensors."""
        if isinstance(state, Tensor):
            if not state.requires_grad:
                return state
            return self._links.setdefault(id(state), (state, _leaf(state)))[1]
        if isinstance(state, tuple) and hasattr(state, "_fields"):
            return type(state)(*map(self._copy, state))
        if isinstance(state, tuple | list):
            return type(state)(map(self._copy, state))
        if is_dataclass(state) and not isinstance(state, type):
            return replace(
                state, **{f.name: self._copy(getattr(state, f.name)) for f in fields(state)}
            )
        return state

    def backward(self) -> None:
        """Pass what the tiles collected on to rows and values."""
        links = [(made, leaf.grad) for made, leaf in self._links.values() if leaf.grad is not None]
        through = [(made, grad) for made, grad in links if made.grad_fn is not None]
        if through:
            torch.autograd.backward([made for made, _ in through], [grad for _, grad in through])
        for made, grad in links:
            if made.grad_fn is None:  # the rows themselves, prepared by doing nothing
                made.grad = grad if made.grad is None else made.grad + grad
