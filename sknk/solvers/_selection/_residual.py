"""Covariances given rows that were observed with noise: K - K_G' (K_GG + s2 I)^-1 K_G."""

from abc import abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from sknk.solvers._cholesky import Cholesky
from sknk.solvers._feature_gram import FeatureGram
from sknk.solvers._gram import GramOperator, Index, row_blocks

__all__ = ["KernelResidual", "Residual", "conditioned", "posterior_features", "posterior_gram"]

_NUMBERS = 2**22  # of covariances that are held at once


class Residual(GramOperator):
    """The posterior covariance C of n rows, given some of them.

    Parameters
    ----------
    gram : GramOperator
        The prior covariance K.
    variances : Tensor of shape (n,)
        The diagonal of C.
    """

    def __init__(self, gram: GramOperator, variances: Tensor) -> None:
        self.gram, self._variances = gram, variances
        self.shape, self.dtype, self.device = gram.shape, gram.dtype, gram.device

    def condition(self, rows: Tensor, L: Tensor) -> None:
        """Observe rows.

        Parameters
        ----------
        rows : LongTensor of shape (k,)
        L : Tensor of shape (k, k)
            Cholesky factor of C[rows][:, rows] and their noise.
        """
        self._variances = self._variances - self._observe(rows, L)

    @abstractmethod
    def _observe(self, rows: Tensor, L: Tensor) -> Tensor:
        """Keep what gives L^-1 C[rows]; return the sums of squares of its columns, (n,)."""

    def diag(self) -> Tensor:
        """Return the variances, (n,); never negative."""
        return self._variances.clamp(min=0.0)

    def dense(self) -> Tensor:
        """Return a newly computed C."""
        self._check_memory()
        return self.block(slice(None), slice(None))


class KernelResidual(Residual):
    """By columns of a kernel: C = K - U' U, with U of one row for each that is given."""

    def __init__(self, gram: GramOperator, variances: Tensor, U: Tensor) -> None:
        super().__init__(gram, variances)
        self.U = U

    def block(self, i: Index, j: Index) -> Tensor:
        """Return K[i][:, j] - U[:, i]' U[:, j]."""
        return self.gram.block(i, j) - self.U[:, i].mT @ self.U[:, j]

    def matmul(self, V: Tensor) -> Tensor:
        """Return K V - U' U V."""
        return self.gram.matmul(V) - self.U.mT @ (self.U @ V)

    def restrict(self, idx: Index) -> "KernelResidual":
        """Return the covariance of some rows."""
        return KernelResidual(self.gram.restrict(idx), self._variances[idx], self.U[:, idx])

    def _observe(self, rows: Tensor, L: Tensor) -> Tensor:
        new = torch.linalg.solve_triangular(L, self.rows(rows), upper=False)
        self.U = torch.cat([self.U, new])
        return new.square().sum(0)


class FeatureResidual(Residual):
    """By features: C = Phi (I - A' A) Phi', with A of one row for each that is given."""

    gram: FeatureGram

    def __init__(self, gram: FeatureGram, variances: Tensor, A: Tensor) -> None:
        super().__init__(gram, variances)
        self.A = A

    def block(self, i: Index, j: Index) -> Tensor:
        """Return Phi[i] (I - A' A) Phi[j]'."""
        return self.gram.Phi[i] @ self._residual(self.gram.Phi[j]).mT

    def restrict(self, idx: Index) -> "FeatureResidual":
        """Return the covariance of some rows."""
        return FeatureResidual(self.gram.restrict(idx), self._variances[idx], self.A)

    def _observe(self, rows: Tensor, L: Tensor) -> Tensor:
        new = torch.linalg.solve_triangular(L, self._residual(self.gram.Phi[rows]), upper=False)
        self.A = torch.cat([self.A, new])
        # Of many rows that are given, L^-1 C[rows] is as large as the features.
        sums = torch.empty_like(self._variances)
        for J in row_blocks(len(sums), max(1, _NUMBERS // len(new))):
            sums[J] = (new @ self.gram.Phi[J].mT).square().sum(0)
        return sums

    def _residual(self, Phi: Tensor) -> Tensor:
        return Phi - (Phi @ self.A.mT) @ self.A


def posterior_gram(gram: GramOperator, given: Tensor, noise_variance: float) -> Residual:
    """Condition on rows that are given; O(t^2 n) time for t of them, or less by features.

    Parameters
    ----------
    gram : GramOperator
        Prior covariance K of n rows.
    given : LongTensor of shape (t,)
        Rows that were observed.
    noise_variance : float
        s2, units of K.

    Returns
    -------
    Residual
        The posterior covariance.

    Raises
    ------
    NotPSDError
        If K + s2 I of the given rows is not positive definite.
    """
    residual: Residual
    if isinstance(gram, FeatureGram):
        if len(given) > gram.width and noise_variance > 0:
            gram, given = _conditioned_features(gram, given, noise_variance), given[:0]
        residual = FeatureResidual(gram, gram.diag(), gram.Phi[:0])
    else:
        none = torch.zeros((0, gram.shape[0]), dtype=gram.dtype, device=gram.device)
        residual = KernelResidual(gram, gram.diag(), none)
    if len(given):
        residual.condition(given, Cholesky().factorize(gram.restrict(given), noise_variance).L)
    return residual


def conditioned(gram: GramOperator, given: Tensor, noise_variance: float) -> GramOperator:
    """Condition on rows that are given; features stay features.

    Parameters
    ----------
    gram : GramOperator
        Prior covariance K of n rows.
    given : LongTensor of shape (t,)
        Rows that were observed; K itself is returned for none.
    noise_variance : float
        s2 > 0, units of K.

    Returns
    -------
    GramOperator
        The posterior covariance of all n rows.

    Raises
    ------
    NotPSDError
        If K + s2 I of the given rows is not positive definite.
    """
    if not len(given):
        return gram
    if isinstance(gram, FeatureGram):
        return _conditioned_features(gram, given, noise_variance)
    return posterior_gram(gram, given, noise_variance)


def _conditioned_features(gram: FeatureGram, given: Tensor, noise_variance: float) -> FeatureGram:
    posterior = posterior_features(gram.features(given), noise_variance)
    return gram.mapped(posterior, width=gram.width)


def posterior_features(Phi: Tensor, noise_variance: float) -> Callable[[Tensor], Tensor]:
    r"""Return the map to features of the posterior covariance, given rows of features.

    .. math:: \phi \mapsto s L^{-1} \phi, \qquad L L^\top = \Phi^\top \Phi + s^2 I

    whose inner products are K - K_G' (K_GG + s2 I)^-1 K_G, by Woodbury; O(t d^2 + d^3), and O(d^2)
    a row (Holzmueller, Zaverkin, Kaestner and Steinwart 2023, section 4.2).

    Parameters
    ----------
    Phi : Tensor of shape (t, d)
        Features of the rows that were observed.
    noise_variance : float
        s2 > 0, units of K.

    Returns
    -------
    callable
        (n, d) -> (n, d).

    Raises
    ------
    NotPSDError
        If the sum of squares is not positive definite, after the jitter that solvers try.
    """
    L = Cholesky().factorize(Phi.mT @ Phi, noise_variance).L

    def posterior(phi: Tensor) -> Tensor:
        found = torch.linalg.solve_triangular(L, phi.mT, upper=False).mT
        return found.contiguous().mul_(noise_variance**0.5)

    return posterior
