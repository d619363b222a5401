r"""The law of a function at every row of a fixed pool, one observation after another.

With V = L^-1 K(X, P) for the t rows seen and all P of the pool, an observation of row i adds to V
the row :math:`v = (k(x_i, P) - V_i^\top V) / d`, where d^2 is the variance of its target, and

.. math:: \mu_P \leftarrow \mu_P + v z, \qquad \sigma_P^2 \leftarrow \sigma_P^2 - v^2

exactly, in O(t P) and without a solve.
"""

import copy
from typing import Any

import torch
from torch import Tensor

from sknk.solvers._feature_gram import FeatureGram
from sknk.solvers._gram import DenseGram, GramOperator
from sknk.solvers._selection._residual import KernelResidual

__all__ = ["PoolPosterior"]


class PoolPosterior:
    """The law at all P rows of a pool, brought up to date by every observation of one; O(t P).

    No factor is kept: the column of V at an observed row is all that is needed.

    Parameters
    ----------
    gram : GramOperator
        Prior covariance of the P rows.
    noise_variance : float
        s2 > 0, units of K.
    n_targets : int or None, default=None
        r, of targets with several columns; None is a number each.

    Attributes
    ----------
    mean : Tensor of shape (P,) or (P, r)
        Posterior mean.
    rows : list of int
        What was observed, in order.
    """

    def __init__(
        self, gram: GramOperator, noise_variance: float, n_targets: int | None = None
    ) -> None:
        # Residuals of features keep no V, which means are made of.
        prior = DenseGram(gram.dense()) if isinstance(gram, FeatureGram) else gram
        none = torch.zeros((0, gram.shape[0]), dtype=gram.dtype, device=gram.device)
        self._residual = KernelResidual(prior, prior.diag(), none)
        self.noise_variance = noise_variance
        self.mean = none.new_zeros((gram.shape[0], *(() if n_targets is None else (n_targets,))))
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

    def copy(self) -> "PoolPosterior":
        """Return one that goes its own way; what was observed is shared."""
        new = copy.copy(self)
        new._residual = copy.copy(self._residual)
        new.rows, new._z = list(self.rows), list(self._z)
        new._roots, new._y = list(self._roots), list(self._y)
        return new

    def observe(self, row: int, y: Any) -> None:
        """Condition on a target of one row.

        Parameters
        ----------
        row : int
        y : float, array-like of shape (r,) or None
            None is a target that will come: variances fall, means stay, as if it were what is
            expected (hallucinated, Desautels, Krause and Burdick 2014). See :meth:`resolve`.
        """
        at = torch.tensor([row], device=self.mean.device)
        root = (self.variance[at] + self.noise_variance).sqrt()
        self._residual.condition(at, root[:, None])
        target = None if y is None else self._number(y)
        z = torch.zeros_like(self.mean[0]) if target is None else target - self.mean[row]
        z = z / root[0]
        # A column times a number, or times a row of r.
        self.mean = self.mean + self._residual.U[-1].reshape(-1, *(1,) * z.ndim) * z
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
        told = dict(zip(positions, y, strict=True))
        for position in told:
            if self._y[position] is not None:
                raise ValueError(
                    f"Observation {position} has a target already; expected one that was None."
                )
        if not told:
            return
        for position, target in told.items():
            self._y[position] = self._number(target)
        U, z = self._residual.U, torch.stack(self._z)
        for t in range(min(told), len(z)):  # targets after them were judged by other means
            target, row = self._y[t], self.rows[t]
            if target is not None:
                z[t] = (target - U[:t, row] @ z[:t]) / self._roots[t]
        self._z = list(z)
        self.mean = U.mT @ z

    def _number(self, y: Any) -> Tensor:
        # A float is no float32 on its way.
        return torch.as_tensor(y, dtype=self.mean.dtype, device=self.mean.device)
