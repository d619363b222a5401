r"""A Gaussian process on the span of a dictionary, with the variance that the span leaves out.

With z(x) = S^-1/2 U' k(D, x) for the m rows D of a dictionary, K_DD = U S U', the weights of
f(x) = w'z(x) + rest have the prior N(0, I), and

.. math::
    \mu(x) = z^\top w, \qquad
    \sigma^2(x) = k(x, x) - z^\top z + z^\top C z

(Calandriello et al. 2019, BKB, in units of the kernel). What z leaves out of k(x, x) stays in the
variance: far from the dictionary nothing is believed to be known. With all rows in the dictionary
the law is exact.
"""

from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from sknk.solvers._frozen import Frozen

__all__ = ["DictionarySpan", "WeightsPosterior"]


@dataclass(frozen=True)
class DictionarySpan(Frozen):
    """Features of rows on the span of a dictionary; immutable.

    Attributes
    ----------
    root : Tensor of shape (m, p)
        U S^-1/2, of the p eigenvalues that are not rounding.
    """

    root: Tensor

    @classmethod
    def of(cls, K: Tensor) -> "DictionarySpan":
        """Return the span of rows of prior covariance `K`, (m, m); O(m^3)."""
        S, U = torch.linalg.eigh(K)
        kept = S.max() * len(K) * torch.finfo(K.dtype).eps < S
        return cls(U[:, kept] / S[kept].sqrt())

    def features(self, K_cross: Tensor) -> Tensor:
        """Return z of n rows, (n, p), from their covariance with the dictionary, (m, n)."""
        return K_cross.mT @ self.root

    def left_out(self, Z: Tensor, diag: Tensor) -> Tensor:
        """Return what the span leaves out of n rows' prior variances `diag`, (n,)."""
        return (diag - Z.square().sum(1)).clamp_(min=0.0)

    def extended(self, Z: Tensor, L: Tensor) -> Self:
        """Return the span of b rows more, whose features are then Z beside L; O(b m p).

        Parameters
        ----------
        Z : Tensor of shape (b, p)
            Their features.
        L : Tensor of shape (b, b)
            Lower Cholesky factor of what the span leaves out of their covariance.

        Returns
        -------
        DictionarySpan
        """
        (m, p), b = self.root.shape, len(L)
        identity = torch.eye(b, dtype=L.dtype, device=L.device)
        ends = torch.linalg.solve_triangular(L, identity, upper=False).mT
        root = self.root.new_zeros(m + b, p + b)
        root[:m, :p], root[:m, p:], root[m:, p:] = self.root, -(self.root @ Z.mT) @ ends, ends
        return type(self)(root)


@dataclass(frozen=True)
class WeightsPosterior(Frozen):
    """Law of weights given rows with targets; immutable, O(p^2) a row however many came before.

    Attributes
    ----------
    w : Tensor of shape (p, r)
        Mean of the weights, for r targets.
    C : Tensor of shape (p, p)
        Their covariance.
    information_gain : float
        What the rows told of the weights, in nats.
    """

    w: Tensor
    C: Tensor
    information_gain: float

    @classmethod
    def prior(cls, p: int, like: Tensor) -> "WeightsPosterior":
        """Return N(0, I) for p weights; targets are `like` those of no row, (0, r)."""
        identity = torch.eye(p, dtype=like.dtype, device=like.device)
        return cls(like.new_zeros(p, like.shape[1]), identity, 0.0)

    def mean(self, Z: Tensor) -> Tensor:
        """Return means at n rows, (n, r)."""
        return Z @ self.w

    def variance(self, Z: Tensor) -> Tensor:
        """Return variances at n rows, without what a span leaves out, (n,); none negative."""
        return ((Z @ self.C) * Z).sum(1).clamp_(min=0.0)

    def covariance(self, Z: Tensor) -> Tensor:
        """Return covariances among n rows, without what a span leaves out, (n, n)."""
        return Z @ self.C @ Z.mT

    def extended(self, b: int) -> Self:
        """Return the law with b weights more, of which nothing is known yet; O(p^2)."""
        p = len(self.w)
        C = torch.nn.functional.pad(self.C, (0, b, 0, b))
        C[p:, p:].diagonal().fill_(1.0)
        w = torch.nn.functional.pad(self.w, (0, 0, 0, b))
        return type(self)(w, C, self.information_gain)

    def append(self, Z: Tensor, y: Tensor, noise: Any) -> Self:
        """Return the law with n rows more; O(n p^2), as in recursive least squares.

        What the span leaves out of a row is noise to its weights: without it,
        :meth:`DictionarySpan.left_out`, widths are too small (Snelson and Ghahramani 2006).

        Parameters
        ----------
        Z : Tensor of shape (n, p)
            Their features.
        y : Tensor of shape (n, r)
            Targets.
        noise : float or Tensor of shape (n,)
            s2 > 0, units of the kernel.

        Returns
        -------
        WeightsPosterior
        """
        noise = torch.as_tensor(noise, dtype=Z.dtype, device=Z.device).expand(len(Z))
        if len(Z) > Z.shape[1]:
            return self._refitted(Z, y, noise)
        ZC = Z @ self.C
        L = torch.linalg.cholesky(ZC @ Z.mT + torch.diag(noise))
        half = torch.linalg.solve_triangular(L, ZC, upper=False)
        rest = torch.linalg.solve_triangular(L, y - Z @ self.w, upper=False)
        gain = float(L.diagonal().double().log().sum() - 0.5 * noise.double().log().sum())
        C = torch.addmm(self.C, half.mT, half, alpha=-1)
        return type(self)(self.w + half.mT @ rest, C, self.information_gain + gain)

    def _refitted(self, Z: Tensor, y: Tensor, noise: Tensor) -> Self:
        """Append many rows by the precision of the weights."""
        before = torch.linalg.cholesky(self.C)
        scaled = Z / noise.sqrt()[:, None] @ before
        identity = torch.eye(Z.shape[1], dtype=Z.dtype, device=Z.device)
        L = torch.linalg.cholesky(identity + scaled.mT @ scaled)
        root = torch.linalg.solve_triangular(L, before.mT, upper=False)
        w = self.w + root.mT @ (root @ (Z.mT @ ((y - Z @ self.w) / noise[:, None])))
        gain = float(L.diagonal().double().log().sum())
        return type(self)(w, root.mT @ root, self.information_gain + gain)
