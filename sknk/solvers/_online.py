r"""Gaussian posteriors of rows that come one after another: what bandits stand on.

With L L' = K + diag(s2) over the t rows seen, z = L^-1 y, and V = L^-1 K(X, Q) for m others Q,

.. math:: \mu = V^\top z, \qquad \Sigma = K(Q, Q) - V^\top V, \qquad
    I = \tfrac12 \log\det(I + \operatorname{diag}(s^2)^{-1} K)

and a row that is observed needs no other solve than the one that judged it: its column of V is its
row of L.
"""

import copy
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import torch
from torch import Tensor

from sknk.solvers._cholesky import Cholesky, CholeskyFactorization
from sknk.solvers._frozen import Frozen
from sknk.solvers._gram import DenseGram

__all__ = ["OnlinePosterior"]


@dataclass(frozen=True)
class OnlinePosterior(Frozen):
    """Law of a function given rows with targets; immutable, and cheap to extend.

    Attributes
    ----------
    factor : CholeskyFactorization
        Of K + diag(noise), t rows.
    y : Tensor of shape (t,) or (t, r)
        Targets, or several of each row; of a row that stands for c equal ones their mean.
    noise : Tensor of shape (t,)
        s2 of each, s2 / c where it stands for c.
    z : Tensor of the shape of y
        L^-1 y.
    """

    factor: CholeskyFactorization
    y: Tensor
    noise: Tensor
    z: Tensor

    @classmethod
    def of(cls, K: Tensor, y: Tensor, noise: Any) -> "OnlinePosterior":
        """Return the law given t rows at once; O(t^3 / 3).

        Parameters
        ----------
        K : Tensor of shape (t, t)
            Prior covariance.
        y : Tensor of shape (t,) or (t, r)
            Targets.
        noise : float or Tensor of shape (t,)
            s2 > 0, units of K.

        Returns
        -------
        OnlinePosterior

        Raises
        ------
        NotPSDError
            If K + diag(noise) is not positive definite.
        """
        noise = torch.as_tensor(noise, dtype=K.dtype, device=K.device).expand(len(K))
        factor = Cholesky().factorize(DenseGram(K), noise)
        return cls(factor, y, noise, factor.half_solve(y))

    @classmethod
    def empty(cls, like: Tensor) -> "OnlinePosterior":
        """Return the law before any row was seen.

        Parameters
        ----------
        like : Tensor of shape (0,) or (0, r)
            Targets of no row: their dtype, device and number.

        Returns
        -------
        OnlinePosterior
        """
        none = like.new_empty(0)
        factor = CholeskyFactorization(like.new_empty(0, 0), none, none, 0.0, Cholesky().jitter)
        return cls(factor, like, none, like)

    def __len__(self) -> int:
        """Return t."""
        return len(self.y)

    def half_solve(self, K_cross: Tensor) -> Tensor:
        """Return V = L^-1 K(X, Q), (t, m); O(t^2 m), the one solve that judging costs."""
        return self.factor.half_solve(K_cross)

    def mean(self, V: Tensor) -> Tensor:
        """Return means at the rows of `V`, (m,) or (m, r)."""
        return V.mT @ self.z

    @staticmethod
    def variance(V: Tensor, diag: Tensor) -> Tensor:
        """Return variances at the rows of `V`, whose prior ones are `diag`, (m,); none negative."""
        return (diag - V.square().sum(0)).clamp_(min=0.0)

    @staticmethod
    def covariance(V: Tensor, K: Tensor) -> Tensor:
        """Return covariances among the rows of `V`, whose prior ones are `K`, (m, m)."""
        return K - V.mT @ V

    def append(
        self, K_cross: Tensor, K_new: Tensor, y: Tensor, noise: Any, V: Tensor | None = None
    ) -> Self:
        """Return the law with m rows more; O(t^2 m), O(t m) with the `V` that judged them.

        Parameters
        ----------
        K_cross : Tensor of shape (t, m)
            Prior covariance of rows seen and new ones.
        K_new : Tensor of shape (m, m)
            Prior covariance of new ones.
        y : Tensor of shape (m,) or (m, r)
            Their targets.
        noise : float or Tensor of shape (m,)
            s2 > 0, units of K.
        V : Tensor of shape (t, m) or None
            ``half_solve(K_cross)``.

        Returns
        -------
        OnlinePosterior
        """
        t, m = len(self), len(K_new)
        noise = torch.as_tensor(noise, dtype=K_new.dtype, device=K_new.device).expand(m)
        V = self.half_solve(K_cross) if V is None else V
        factor = self.factor.append(K_cross, K_new, noise, half=V)
        targets, noises = torch.cat([self.y, y]), torch.cat([self.noise, noise])
        if factor.jitter_ != self.factor.jitter_:  # it was factorized anew
            return type(self)(factor, targets, noises, factor.half_solve(targets))
        corner = factor._packed[t:, t:].tril()
        rest = (y - V.mT @ self.z).reshape(m, -1)
        new = torch.linalg.solve_triangular(corner, rest, upper=False).reshape(y.shape)
        return type(self)(factor, targets, noises, torch.cat([self.z, new]))

    def remove(self, index: Any) -> Self:
        """Return the law without some rows, such as the oldest of a window; O(t^2).

        Parameters
        ----------
        index : int or array-like of int

        Returns
        -------
        OnlinePosterior

        Raises
        ------
        IndexError
            If one is out of range.
        ValueError
            If no row would be left.
        """
        factor = self.factor.remove(index)
        kept = torch.ones(len(self), dtype=torch.bool, device=self.y.device)
        kept[torch.as_tensor(index, device=self.y.device)] = False
        y = self.y[kept]
        return type(self)(factor, y, self.noise[kept], factor.half_solve(y))

    @cached_property
    def target_gram(self) -> Tensor:
        """Products z' z = y' (K + diag(s2))^-1 y of several targets, (r, r)."""
        return self.z.mT @ self.z

    def forked(self) -> Self:
        """Return the same, whose appends copy instead of taking this one's spare room."""
        factor = copy.copy(self.factor)
        factor._store = None
        return replace(self, factor=factor)

    def with_targets(self, y: Tensor) -> Self:
        """Return the law with other targets of the same rows; O(t^2)."""
        return type(self)(self.factor, y, self.noise, self.factor.half_solve(y))

    @property
    def information_gain(self) -> float:
        """What all observations told, in nats: half the log determinant of I + K / s2."""
        # A row that stands for c observations has noise s2 / c, which counts all of them.
        logs = self.factor.log_pivots().double() - self.noise.double().log()
        return 0.5 * float(logs.sum())
