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

__all__ = ["DictionaryPosterior"]


@dataclass(frozen=True)
class DictionaryPosterior(Frozen):
    """Law of weights given rows with targets; immutable, O(m^2) a row however many came before.

    Attributes
    ----------
    root : Tensor of shape (m, p)
        U S^-1/2, of the p eigenvalues that are not rounding.
    w : Tensor of shape (p, r)
        Mean of the weights, for r targets.
    C : Tensor of shape (p, p)
        Their covariance.
    information_gain : float
        What the rows told of the weights, in nats.
    """

    root: Tensor
    w: Tensor
    C: Tensor
    information_gain: float

    @classmethod
    def of(cls, K: Tensor, n_targets: int) -> "DictionaryPosterior":
        """Return the law before any row; O(m^3).

        Parameters
        ----------
        K : Tensor of shape (m, m)
            Prior covariance of the dictionary.
        n_targets : int
            r.

        Returns
        -------
        DictionaryPosterior
        """
        S, U = torch.linalg.eigh(K)
        kept = S.max() * len(K) * torch.finfo(K.dtype).eps < S
        root = U[:, kept] / S[kept].sqrt()
        identity = torch.eye(root.shape[1], dtype=K.dtype, device=K.device)
        return cls(root, K.new_zeros(root.shape[1], n_targets), identity, 0.0)

    def features(self, K_cross: Tensor) -> Tensor:
        """Return z of n rows, (n, p), from their covariance with the dictionary, (m, n)."""
        return K_cross.mT @ self.root

    def mean(self, Z: Tensor) -> Tensor:
        """Return means at n rows, (n, r)."""
        return Z @ self.w

    def variance(self, Z: Tensor, diag: Tensor) -> Tensor:
        """Return variances at n rows, whose prior ones are `diag`, (n,); none negative."""
        return self.left_out(Z, diag) + ((Z @ self.C) * Z).sum(1).clamp_(min=0.0)

    def covariance(self, Z: Tensor, K: Tensor) -> Tensor:
        """Return covariances among n rows, whose prior ones are `K`, (n, n)."""
        return K - Z @ Z.mT + Z @ self.C @ Z.mT

    def left_out(self, Z: Tensor, diag: Tensor) -> Tensor:
        """Return what the span leaves out of n rows' prior variances `diag`, (n,)."""
        return (diag - Z.square().sum(1)).clamp_(min=0.0)

    def extended(self, z: Tensor, left_out: Tensor) -> Self:
        """Return the law whose dictionary has one row more; O(m p).

        Of the direction that the row adds to the span nothing is known yet.

        Parameters
        ----------
        z : Tensor of shape (p,)
            Features of the row.
        left_out : Tensor of shape ()
            What the span leaves out of its prior variance, positive.

        Returns
        -------
        DictionaryPosterior
        """
        s, (m, p) = left_out.sqrt(), self.root.shape
        root = self.root.new_zeros(m + 1, p + 1)
        root[:m, :p], root[:m, p], root[m, p] = self.root, -(self.root @ z) / s, 1.0 / s
        C = torch.nn.functional.pad(self.C, (0, 1, 0, 1))
        C[p, p] = 1.0
        w = torch.nn.functional.pad(self.w, (0, 0, 0, 1))
        return type(self)(root, w, C, self.information_gain)

    def append(self, Z: Tensor, y: Tensor, noise: Any) -> Self:
        """Return the law with n rows more; O(n p^2), as in recursive least squares.

        What the span leaves out of a row is noise to its weights: add :meth:`left_out`, or widths
        are too small (Snelson and Ghahramani 2006).

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
        DictionaryPosterior
        """
        noise = torch.as_tensor(noise, dtype=Z.dtype, device=Z.device).expand(len(Z))
        if len(Z) > Z.shape[1]:
            return self._refitted(Z, y, noise)
        ZC = Z @ self.C
        L = torch.linalg.cholesky(ZC @ Z.mT + torch.diag(noise))
        half = torch.linalg.solve_triangular(L, ZC, upper=False)
        rest = torch.linalg.solve_triangular(L, y - Z @ self.w, upper=False)
        gain = float(L.diagonal().double().log().sum() - 0.5 * noise.double().log().sum())
        C = self.C - half.mT @ half
        return type(self)(self.root, self.w + half.mT @ rest, C, self.information_gain + gain)

    def _refitted(self, Z: Tensor, y: Tensor, noise: Tensor) -> Self:
        """Append many rows by the precision of the weights."""
        before = torch.linalg.cholesky(self.C)
        scaled = Z / noise.sqrt()[:, None] @ before
        identity = torch.eye(Z.shape[1], dtype=Z.dtype, device=Z.device)
        L = torch.linalg.cholesky(identity + scaled.mT @ scaled)
        root = torch.linalg.solve_triangular(L, before.mT, upper=False)
        w = self.w + root.mT @ (root @ (Z.mT @ ((y - Z @ self.w) / noise[:, None])))
        gain = float(L.diagonal().double().log().sum())
        return type(self)(self.root, w, root.mT @ root, self.information_gain + gain)
