"""Tangent kernels by products with Jacobians: one row pulled back, all others pushed forward."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor
from torch.func import jvp, vjp, vmap

from sknk.kernels._empirical._contractions import EACH, PAIRS, Contraction
from sknk.kernels._empirical._implementation import Implementation
from sknk.kernels._empirical._jacobian import pulled
from sknk.kernels._empirical._network import Network
from sknk.kernels._empirical._verification import quiet

__all__ = ["VectorProducts", "pull_back", "push_forward"]

_NUMBERS = 2**22  # of the gradients that are held at once
_PASSES = 2**12  # forward passes of rows whose activations are held at once


@dataclass(frozen=True)
class _Rows:
    """Rows that wait for their partners: nothing is kept of a gradient.

    Attributes
    ----------
    network : Network
        The function.
    x : Tensor of shape (n, d)
        Rows.
    W : Tensor of shape (Q, n, O)
        Combinations of outputs.
    """

    network: Network
    x: Tensor
    W: Tensor

    def contract(self, other: Self, how: Contraction) -> Tensor:
        """Return Theta by columns: pull every row of `other` back, push it forward to all of these.

        O(m Q) passes over n rows, memory for the parameters and activations of a few columns.

        Parameters
        ----------
        other : row state
            Of m rows.
        how : Contraction
            Which outputs are paired.

        Returns
        -------
        Tensor
            As the contraction says.
        """
        columns = self._by_row(lambda y, w: self._column(y, w, how), other.x, other.W)
        return columns.movedim(0, 2 if how is PAIRS else -1)

    def _by_row(self, function: Callable[..., Tensor], x: Tensor, W: Tensor) -> Tensor:
        """Map rows, some at a time: as many as keep their gradients small."""
        numbers = len(W) * self.network.size
        few = min(_NUMBERS // max(numbers, 1), _PASSES // max(len(W) * len(self.x), 1))
        return vmap(function, (0, 1), chunk_size=max(1, few))(x, W)

    def _gradients(self, row: Tensor, w: Tensor) -> dict[str, Tensor]:
        """Return the gradients of Q combinations of outputs at one row, (Q, ...) a parameter."""
        return pulled(lambda leaves: self.network.row(leaves, row), self.network.leaves, w)

    def _column(self, y: Tensor, w: Tensor, how: Contraction) -> Tensor:
        gradients = self._gradients(y, w)

        def push(direction: dict[str, Tensor]) -> Tensor:
            return push_forward(self.network, self.x, direction)

        moved = vmap(push)(gradients)  # (R, n, O): what direction r does to the outputs
        if how is PAIRS:
            return torch.einsum("qno,rno->nqr", self.W, moved)
        each = (self.W * moved).sum(-1)
        return each if how is EACH else each.sum(0)

    def diag(self) -> Tensor:
        """Return squared norms of the gradients, (n,)."""

        def norm(row: Tensor, w: Tensor) -> Tensor:
            return sum(g.square().sum() for g in self._gradients(row, w).values())  # type: ignore[return-value]

        return self._by_row(norm, self.x, self.W)

    def first_bad(self) -> tuple[int, str] | None:
        """Return (row, parameter) of a gradient that is not finite; one backward pass a row."""

        def largest(row: Tensor, w: Tensor) -> Tensor:
            return torch.stack([g.abs().amax() for g in self._gradients(row, w).values()])

        bad = torch.nonzero(~self._by_row(largest, self.x, self.W).isfinite())  # (row, parameter)
        return (int(bad[0, 0]), self.network.names[int(bad[0, 1])]) if len(bad) else None

    def first_of(self, Z: Tensor) -> tuple[int, str]:
        """Return the first row where features are not finite, though gradients are."""
        return int(torch.nonzero(~Z.isfinite())[0, 0]), "all parameters, in forward mode"

    @classmethod
    def joined(cls, chunks: Sequence[Self]) -> Self:
        """Stack the rows of several blocks."""
        x, W = torch.cat([c.x for c in chunks]), torch.cat([c.W for c in chunks], 1)
        return cls(chunks[0].network, x, W)


class VectorProducts(Implementation):
    """NTK-vector products (Novak et al. 2022, section 3.2): Theta v = J(x) (J(x')^T v).

    Slower than contracting Jacobians, but with memory for the gradients of a few rows, whatever n.
    """

    name = "vector_products"
    doubt = "differs from ordinary backward passes: forward and reverse mode disagree"

    def prepare(self, network: Network, x: Tensor, W: Tensor, *, together: bool) -> Any:
        """Keep the rows."""
        return _Rows(network, x, W)

    @staticmethod
    def directions(rows: Sequence[_Rows], blocks: Sequence[Tensor]) -> dict[str, Tensor]:
        """Return sums of gradients, sum_j V_jt G_q(y_j), one (Q, t, ...) a parameter.

        Parameters
        ----------
        rows : sequence of row states
            Of blocks of m rows.
        blocks : sequence of Tensor
            The rows of V (m, t) that belong to them.

        Returns
        -------
        dict of str to Tensor
        """
        total: dict[str, Tensor] = {}
        for other, V in zip(rows, blocks, strict=True):
            cotangents = torch.einsum("qmo,mt->qtmo", other.W, V)
            found = vmap(vmap(lambda u, r=other: pull_back(r.network, r.x, u)))(cotangents)
            for name, g in found.items():
                total[name] = g + total[name] if name in total else g
        return total

    @staticmethod
    def moved(rows: _Rows, directions: dict[str, Tensor]) -> Tensor:
        """Return what directions (Q, t, ...) do to the combinations of outputs, (n, t)."""
        moved = vmap(vmap(lambda v: push_forward(rows.network, rows.x, v)))(directions)
        return torch.einsum("qno,qtno->nt", rows.W, moved)


def push_forward(network: Network, x: Tensor, direction: dict[str, Tensor]) -> Tensor:
    """Return J(x) v, (n, O): how outputs move when parameters move along v."""
    with quiet():
        return jvp(lambda leaves: network(leaves, x), (network.leaves,), (direction,))[1]


def pull_back(network: Network, x: Tensor, cotangent: Tensor) -> dict[str, Tensor]:
    """Return J(x)^T u, one tensor a parameter, for u (n, O)."""
    with quiet():
        return vjp(lambda leaves: network(leaves, x), network.leaves)[1](cotangent)[0]
