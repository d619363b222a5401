"""The tile loops: fill, matmul, vector-Jacobian product.

Rows are prepared once per block; pairs are visited in cache-sized tiles, one triangle of them in
symmetric calls. Results do not depend on the tile size.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sknk import _config
from sknk._array import keep_heap

__all__ = ["Gradients", "blocks_of", "fill", "matmul", "spans", "vjp"]

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


def tile_rows(device: torch.device, dtype: torch.dtype) -> int:
    """Return the rows of a square tile: configured, else what fits the cache."""
    configured = _config.current().tile_size
    if configured is not None:
        return int(configured)
    if device.type != "cpu":
        return _GPU_ROWS
    return math.isqrt(_CPU_BYTES_PER_THREAD * torch.get_num_threads() // dtype.itemsize)


def spans(n: int, size: int) -> list[slice]:
    """Split range(n) into slices of at most `size`."""
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]


def blocks_of(x: Tensor, prepare: Callable[[Tensor], Any], dtype: torch.dtype) -> Blocks:
    """Prepare the rows of x block by block."""
    return [(s, prepare(x[s])) for s in spans(len(x), tile_rows(x.device, dtype))]


def _pairs(bx: Blocks, by: Blocks | None) -> Sequence[tuple[slice, Any, slice, Any, bool]]:
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
    for i, rx, j, ry, mirrored in _pairs(bx, by):
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
    for i, rx, j, ry, mirrored in _pairs(bx, by):
        K = tile(rx, ry)
        out[i] += K @ V[j]
        if mirrored:
            out[j] += K.T @ V[i]


def vjp(
    tile: Callable[[Tensor, Tensor, Values], Tensor],
    x: Tensor,
    y: Tensor | None,
    W: Tensor,
    values: Mapping[str, Tensor],
) -> Gradients:
    """Differentiate sum(W * K) tile by tile: O(n m) time, one tile of memory.

    Parameters
    ----------
    tile : callable
        Rows, rows and values -> differentiable tile.
    x, y : Tensor of shape (n, d) and (m, d)
        Rows; y None for a symmetric call.
    W : Tensor of shape (n, m)
        Cotangent; need not be symmetric.
    values : mapping of str to Tensor
        Differentiated with respect to each.

    Returns
    -------
    Gradients
    """
    keep_heap(x.device)
    leaves = {name: value.detach().requires_grad_() for name, value in values.items()}
    grad_values = {name: torch.zeros_like(value) for name, value in values.items()}
    grad_x = torch.zeros_like(x)
    grad_y = grad_x if y is None else torch.zeros_like(y)
    size = tile_rows(x.device, W.dtype)
    bx = [(s, x[s].detach().requires_grad_()) for s in spans(len(x), size)]
    by = None if y is None else [(s, y[s].detach().requires_grad_()) for s in spans(len(y), size)]
    for i, xi, j, yj, mirrored in _pairs(bx, by):
        weight = W[i, j] + W[j, i].T if mirrored else W[i, j]
        inputs = [*leaves.values(), xi, *([] if yj is xi else [yj])]
        with torch.enable_grad():
            total = (weight * tile(xi, yj, leaves)).sum()
        if not total.requires_grad:
            continue
        grads = torch.autograd.grad(total, inputs, allow_unused=True, materialize_grads=True)
        for name, grad in zip(leaves, grads, strict=False):
            grad_values[name] += grad
        grad_x[i] += grads[len(leaves)]
        if yj is not xi:
            grad_y[j] += grads[-1]
    return Gradients(grad_values, grad_x, None if y is None else grad_y)
