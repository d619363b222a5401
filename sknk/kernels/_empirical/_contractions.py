"""Three ways to pair the gradients of outputs: summed, output by output, every output with every.

L (Q, n, p) and R (Q, m, p) hold, for each of Q combinations of outputs, one vector a row.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from sknk.kernels._state import reusable

__all__ = ["EACH", "PAIRS", "SUMMED", "Contraction"]

_SHORT = 64  # entries of a row
_SMALL = 2**22  # numbers that stay in a cache between two passes


class Contraction(ABC):
    """Inner products of rows of gradients."""

    @abstractmethod
    def products(self, L: Tensor, R: Tensor) -> Tensor:
        """Return inner products over p."""

    def shared(self, G: Tensor) -> Tensor:
        """Return what all outputs share, (n, m), so that it multiplies :meth:`products`."""
        return G

    def over_places(self, D: Tensor, places: int) -> Tensor:
        """Sum over the places of each second row, which stand side by side."""
        return D.unflatten(-1, (-1, places)).sum(-1)

    def weighed(self, L: Tensor, R: Tensor, G: Tensor) -> Tensor:
        """Return products times what all outputs share."""
        D = self.products(L, R)
        return torch.mul(D, self.shared(G), out=reusable(D))


class _Summed(Contraction):
    """K = sum_q L_q R_q^T, (n, m)."""

    def products(self, L: Tensor, R: Tensor) -> Tensor:
        if L.shape[-1] < _SHORT:  # one product of short rows, in place of Q of very short ones
            return L.transpose(0, 1).flatten(1) @ R.transpose(0, 1).flatten(1).mT
        if len(L) * L.shape[1] * R.shape[1] <= _SMALL:  # threads meet once, not Q times
            return torch.bmm(L, R.mT).sum(0)
        K = L[0] @ R[0].mT
        for left, right in zip(L[1:], R[1:], strict=True):
            K = torch.addmm(K, left, right.mT, out=reusable(K))
        return K


class _Each(Contraction):
    """K_q = L_q R_q^T, (Q, n, m)."""

    def products(self, L: Tensor, R: Tensor) -> Tensor:
        return torch.bmm(L, R.mT)


class _Pairs(Contraction):
    """K_qr = L_q R_r^T, (n, Q, m, Q)."""

    def products(self, L: Tensor, R: Tensor) -> Tensor:
        if L.is_contiguous() and R.is_contiguous():
            flat = L.flatten(0, 1) @ R.flatten(0, 1).mT
            return flat.reshape(*L.shape[:2], *R.shape[:2]).permute(1, 0, 3, 2)
        left, right = L.transpose(0, 1), R.transpose(0, 1)  # as Jacobians are made, rows first
        flat = left.flatten(0, 1) @ right.flatten(0, 1).mT
        return flat.reshape(*left.shape[:2], *right.shape[:2])

    def shared(self, G: Tensor) -> Tensor:
        return G[:, None, :, None]

    def over_places(self, D: Tensor, places: int) -> Tensor:
        return D.unflatten(2, (-1, places)).sum(3)


SUMMED, EACH, PAIRS = _Summed(), _Each(), _Pairs()
