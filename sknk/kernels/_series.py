"""Sums of products over pairs: sum_j left_j right_j base^j, one pass over a tile for every term."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from sknk.kernels._adjoint import reverse_mode
from sknk.kernels._state import reusable

__all__ = ["power_sum"]


def power_sum(left: Tensor, right: Tensor, base: Tensor, terms: Sequence[int]) -> Tensor:
    """Return ``sum_j left[j] right[j] base^j`` over the powers in `terms`.

    Two passes over the pairs a term, and one temporary; the derivative recomputes the powers.

    Parameters
    ----------
    left, right : Tensor of shape (terms, n, 1) and (terms, 1, m)
        Coefficients of rows and columns, more axes in between for pixels.
    base : Tensor of shape (n, m)
        What is raised to powers.
    terms : sequence of int
        Ascending, not empty; the others are zero.

    Returns
    -------
    Tensor of shape (n, m)
    """
    if reverse_mode(left, right, base):
        return PowerSum.apply(left, right, base, terms)
    return _horner(left, right, base, terms)


def _horner(left: Tensor, right: Tensor, base: Tensor, terms: Sequence[int]) -> Tensor:
    power, last = _Powers(base), terms[-1]
    total = (left[last] * right[last]).expand_as(base).clone()
    for above, j in pairwise(reversed(terms)):
        total = torch.mul(total, power(above - j), out=reusable(total))
        total = torch.addcmul(total, left[j], right[j], out=reusable(total))
    return torch.mul(total, power(terms[0]), out=reusable(total)) if terms[0] else total


class _Powers:
    """Small powers of one tensor, each computed once: even functions skip every other."""

    def __init__(self, base: Tensor) -> None:
        self.known = {1: base}

    def __call__(self, exponent: int) -> Tensor:
        if exponent not in self.known:
            self.known[exponent] = self.known[1] ** exponent
        return self.known[exponent]


class PowerSum(Function):
    """Derivative of a power sum in all its arguments, without keeping a tile for every term."""

    @staticmethod
    def forward(
        ctx: Any, left: Tensor, right: Tensor, base: Tensor, terms: Sequence[int]
    ) -> Tensor:
        ctx.save_for_backward(left, right, base)
        ctx.terms = terms
        return _horner(left, right, base, terms)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        left, right, base = ctx.saved_tensors
        power, work, below = _Powers(base), g.clone(), 0
        g_left, g_right = torch.zeros_like(left), torch.zeros_like(right)
        for j in ctx.terms:
            if j > below:
                work.mul_(power(j - below))  # g base^j
            below = j
            g_left[j] = (work * right[j]).sum_to_size(left[j].shape)
            g_right[j] = (work * left[j]).sum_to_size(right[j].shape)
        return g_left, g_right, g * _slope(left, right, base, ctx.terms), None


def _slope(left: Tensor, right: Tensor, base: Tensor, terms: Sequence[int]) -> Tensor:
    """Return ``sum_j j left[j] right[j] base^(j - 1)``."""
    rising = [j - 1 for j in terms if j]
    if not rising:
        return torch.zeros_like(base)
    factors = torch.arange(1, len(left), dtype=left.dtype, device=left.device)
    return _horner(left[1:] * factors.reshape(-1, *[1] * (left.ndim - 1)), right[1:], base, rising)
