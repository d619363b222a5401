r"""Gaussian posteriors of rows that come one after another: what bandits stand on.

With L L' = K + diag(s2) over the t rows seen, z = L^-1 y, and V = L^-1 K(X, Q) for m others Q,

.. math:: \mu = V^\top z, \qquad \Sigma = K(Q, Q) - V^\top V, \qquad
    I = \tfrac12 \log\det(I + \operatorname{diag}(s^2)^{-1} K)

and a row that is observed needs no other solve than the one that judged it: its column of V is its
row of L.
"""

from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from sknk.solvers._cholesky import Cholesky, CholeskyFactorization
from sknk.solvers._feature_gram import FeatureGram
from sknk.solvers._gram import DenseGram, GramOperator
from sknk.solvers._selection._residual import KernelResidual

__all__ = ["OnlinePosterior", "PoolPosterior"]


@dataclass(frozen=True)
class OnlinePosterior:
    """Law of a function given rows with targets; immutable, and cheap to extend.

    Attributes
    ----------
    factor : CholeskyFactorization
        Of K + diag(noise), t rows.
    y : Tensor of shape (t,)
        Targets; of a row that stands for c equal ones their mean.
    noise : Tensor of shape (t,)
        s2 of each, s2 / c where it stands for c.
    z : Tensor of shape (t,)
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
        y : Tensor of shape (t,)
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

    def __len__(self) -> int:
        """Return t."""
        return len(self.y)

    def half_solve(self, K_cross: Tensor) -> Tensor:
        """Return V = L^-1 K(X, Q), (t, m); O(t^2 m), the one solve that judging costs."""
        return self.factor.half_solve(K_cross)

    def mean(self, V: Tensor) -> Tensor:
        """Return means at the rows of `V`, (m,)."""
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
        y : Tensor of shape (m,)
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
        rest = (y - V.mT @ self.z)[:, None]
        new = torch.linalg.solve_triangular(corner, rest, upper=False).squeeze(1)
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

    def with_targets(self, y: Tensor) -> Self:
        """Return the law with other targets of the same rows; O(t^2)."""
        return type(self)(self.factor, y, self.noise, self.factor.half_solve(y))

    @property
    def information_gain(self) -> float:
        """What all observations told, in nats: half the log determinant of I + K / s2."""
        # A row that stands for c observations has noise s2 / c, which counts all of them.
        logs = self.factor.log_pivots().double() - self.noise.double().log()
        return 0.5 * float(logs.sum())


class PoolPosterior:
    """The law at all P rows of a pool, brought up to date by every observation of one; O(t P).

    No factor is kept: the column of V at an observed row is all that is needed.

    Parameters
    ----------
    gram : GramOperator
        Prior covariance of the P rows.
    noise_variance : float
        s2 > 0, units of K.

    Attributes
    ----------
    mean : Tensor of shape (P,)
        Posterior mean.
    rows : list of int
        What was observed, in order.
    """

    def __init__(self, gram: GramOperator, noise_variance: float) -> None:
        # Residuals of features keep no V, which means are made of.
        prior = DenseGram(gram.dense()) if isinstance(gram, FeatureGram) else gram
        none = torch.zeros((0, gram.shape[0]), dtype=gram.dtype, device=gram.device)
        self._residual = KernelResidual(prior, prior.diag(), none)
        self.noise_variance = noise_variance
        self.mean = none.new_zeros(gram.shape[0])
        self.rows: list[int] = []
        self._z: list[Tensor] = []
        self._roots: list[Tensor] = []
        self._y: list[Tensor | None] = []

    @property
    def variance(self) -> Tensor:
        """Posterior variance, (P,)."""
        return self._residual.diag()

    @property
    def information_gain(self) -> float:
        """What all observations told, in nats: half the log determinant of I + K / s2."""
        pivots = torch.stack(self._roots).double().square() if self._roots else torch.ones(0)
        return 0.5 * float((pivots / self.noise_variance).log().sum())

    def covariance(self, rows: Tensor) -> Tensor:
        """Return the posterior covariance among some rows, (k, k)."""
        return self._residual.block(rows, rows)

    def observe(self, row: int, y: float | None) -> None:
        """Condition on a target of one row.

        Parameters
        ----------
        row : int
        y : float or None
            None is a target that will come: variances fall, means stay, as if it were what is
            expected (hallucinated, Desautels, Krause and Burdick 2014). See :meth:`resolve`.
        """
        at = torch.tensor([row], device=self.mean.device)
        root = (self.variance[at] + self.noise_variance).sqrt()
        self._residual.condition(at, root[:, None])
        target = None if y is None else self._number(y)
        z = self.mean.new_zeros(()) if target is None else (target - self.mean[row]) / root[0]
        self.mean = self.mean + self._residual.U[-1] * z
        self.rows.append(row)
        self._z.append(z)
        self._roots.append(root[0])
        self._y.append(target)

    def resolve(self, positions: Any, y: Any) -> None:
        """Put targets that came in the place of expected ones; O(t P).

        Parameters
        ----------
        positions : iterable of int
            Which observations, by number.
        y : iterable of float
            Their targets.

        Raises
        ------
        ValueError
            If one has a target already.
        """
        for position, target in zip(positions, y, strict=True):
            if self._y[position] is not None:
                raise ValueError(
                    f"Observation {position} has a target already; expected one that was None."
                )
            self._y[position] = self._number(target)
        U, z = self._residual.U, torch.stack(self._z)
        for t in range(min(positions), len(z)):  # targets after them were judged by other means
            target, row = self._y[t], self.rows[t]
            if target is not None:
                z[t] = (target - U[:t, row] @ z[:t]) / self._roots[t]
        self._z = list(z)
        self.mean = U.mT @ z

    def _number(self, y: Any) -> Tensor:
        # A float is no float32 on its way.
        return torch.as_tensor(y, dtype=self.mean.dtype, device=self.mean.device)
