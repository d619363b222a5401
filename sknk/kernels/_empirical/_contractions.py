"""Three ways to pair the gradients of outputs: summed, output by output, every output with every.

L (n, Q, p) and R (m, Q, p) hold, for each row, one vector for each of Q combinations of outputs.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from sknk.kernels._state import reusable

__all__ = ["EACH", "PAIRS", "SUMMED", "Contraction"]


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
        return L.flatten(1) @ R.flatten(1).mT


class _Each(Contraction):
    """K_q = L_q R_q^T, (Q, n, m)."""

    def products(self, L: Tensor, R: Tensor) -> Tensor:
        return torch.bmm(L.transpose(0, 1), R.permute(1, 2, 0))


class _Pairs(Contraction):
    """K_qr = L_q R_r^T, (n, Q, m, Q)."""

    def products(self, L: Tensor, R: Tensor) -> Tensor:
        flat = L.flatten(0, 1) @ R.flatten(0, 1).mT
        return flat.reshape(*L.shape[:2], *R.shape[:2])

    def shared(self, G: Tensor) -> Tensor:
        return G[:, None, :, None]

    def over_places(self, D: Tensor, places: int) -> Tensor:
        return D.unflatten(2, (-1, places)).sum(3)


SUMMED, EACH, PAIRS = _Summed(), _Each(), _Pairs()
