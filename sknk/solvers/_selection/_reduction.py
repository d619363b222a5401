r"""Rows that lower variances most: BAIT, integrated variance, variance at targets.

With C the covariance given the rows observed so far, a row i lowers the sum of variances of the
rows J that are judged by

.. math:: \mathrm{score}_i = \frac{\sum_{v \in J} C_{vi}^2}{C_{ii} + s^2}

This one number is the score of forward BAIT for regression, of EV-GP, of undirected VTL (with J the
targets, VTL itself), and the expected squared change of predictions in look-ahead.
"""

import warnings
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from sknk.exceptions import NumericalWarning
from sknk.solvers._cholesky import Cholesky
from sknk.solvers._feature_gram import FeatureGram
from sknk.solvers._gram import GramOperator, row_blocks
from sknk.solvers._selection._residual import conditioned

__all__ = [
    "KernelCovariance",
    "Reductions",
    "least_variance",
    "reductions_of",
    "variance_reductions",
    "warn_of_rounding",
]

_NUMBERS = 2**22  # of covariances that are held at once


def least_variance(
    gram: GramOperator,
    size: int,
    *,
    given: Tensor,
    noise_variance: float,
    judged: Tensor | None = None,
    forward: int | None = None,
    n_open: int | None = None,
) -> Tensor:
    """Choose the row that lowers the variances most, again and again; then drop some, if asked.

    Forward, O(n d) a step on features of d columns and O(n J) on kernels. Backward, O(k^2) a step
    for k rows, in float64: of more than `size` rows the one whose loss raises variances least is
    dropped, again and again (Ash, Goel, Krishnamurthy and Kakade 2021, algorithm 1, for
    regression).

    Parameters
    ----------
    gram : GramOperator
        K of all n rows.
    size : int
        b.
    given : LongTensor of shape (t,)
        Rows that are observed from the start.
    noise_variance : float
        s2 > 0, units of K.
    judged : LongTensor of shape (J,) or None
        Rows whose variances count; None is all n.
    forward : int or None
        Rows to choose before some are dropped; None is `size`.
    n_open : int or None
        Only the first so many rows may be chosen; None is all.

    Returns
    -------
    LongTensor of shape (k,)
        In the order of choice; k < `size` where no other row lowers anything.
    """
    state = reductions_of(gram, given, noise_variance, judged)
    open_ = torch.arange(gram.shape[0], device=gram.device) < (n_open or gram.shape[0])
    open_[given] = False
    largest = state.diag.max()
    chosen = _forward(state, size if forward is None else max(size, forward), open_)
    warn_of_rounding(noise_variance, largest, state.least, backward=len(chosen) > size)
    if len(chosen) <= size:
        return chosen
    return chosen[_backward(*state.covariance.tables(chosen), size, noise_variance)]


def warn_of_rounding(
    noise_variance: float, largest: Tensor, least: Tensor, *, backward: bool
) -> None:
    """Warn where rows beyond the rank of the kernel were chosen by rounding.

    Once all directions are observed, what is left of variances is of the size of the noise; going
    backward, of its square.

    Parameters
    ----------
    noise_variance : float
        Units of K.
    largest : Tensor, 0-d
        Of variances before the first choice.
    least : Tensor, 0-d
        Of variances of chosen rows, each before its choice.
    backward : bool
        Whether some rows are dropped again.

    Warns
    -----
    NumericalWarning
    """
    eps, most = torch.finfo(largest.dtype).eps, float(largest)
    limit = most * (eps**0.5 if backward else 1e3 * eps)
    if noise_variance < limit and float(least) < most * eps**0.5:
        warnings.warn(
            f"`noise_variance` is {noise_variance:g} and variances go from {most:g} to "
            f"{float(least):.2g}: in {str(largest.dtype).removeprefix('torch.')}, what the last "
            f"rows of a batch would tell is rounding. Expected at least {limit:.2g}: raise it, "
            "rescale the kernel, or compute in float64.",
            NumericalWarning,
            stacklevel=5,
        )


def variance_reductions(
    gram: GramOperator, *, given: Tensor, noise_variance: float, judged: Tensor | None = None
) -> Tensor:
    """Return by how much observing each row would lower the sum of variances, (n,).

    Parameters
    ----------
    gram : GramOperator
        K of all n rows.
    given : LongTensor of shape (t,)
        Rows that are observed.
    noise_variance : float
        s2 > 0, units of K.
    judged : LongTensor of shape (J,) or None
        Rows whose variances count; None is all n.

    Returns
    -------
    Tensor of shape (n,)
        Units of K.
    """
    return reductions_of(gram, given, noise_variance, judged).scores()


def _forward(state: "Reductions", size: int, open_: Tensor) -> Tensor:
    """Return open rows in the order in which they lower the sum of variances most."""
    chosen: list[Tensor] = []
    for _ in range(size):
        scores = state.scores()
        row = torch.where(open_, scores, -torch.inf).argmax()
        if not (bool(open_[row]) and float(scores[row]) > 0):
            break
        chosen.append(row)
        open_[row] = False
        state.observe(row)
    return torch.stack(chosen) if chosen else open_.nonzero().squeeze(1)[:0]


def _backward(C: Tensor, Q: Tensor, size: int, noise_variance: float) -> Tensor:
    r"""Return which rows remain when those that lower the sum of variances least are dropped.

    With A = (C + s2 I)^-1 and Q the products of covariances with those judged, dropping row i
    raises the sum by (A Q A)_ii / A_ii. Variances of rows that were chosen are not used: they are
    s2 but for rounding.

    Returns
    -------
    LongTensor of shape (size,)
    """
    shifted = C.double() + noise_variance * torch.eye(len(C), dtype=torch.float64, device=C.device)
    A = torch.cholesky_inverse(Cholesky().factorize(shifted, 0.0).L)
    N = A @ Q.double() @ A
    open_ = torch.ones(len(C), dtype=torch.bool, device=C.device)
    for _ in range(len(C) - size):
        rises = torch.where(open_, N.diagonal() / A.diagonal(), torch.inf)
        i = rises.argmin()
        open_[i] = False
        a, n, pivot = A[:, i] / A[i, i], N[:, i].clone(), A[i, i].clone()
        both = torch.outer(a, n)
        N = N - both - both.mT + n[i] * torch.outer(a, a)
        A = A - pivot * torch.outer(a, a)
        A[i, i] = 1.0  # of a row that is gone, so that no ratio is undefined
    return open_.nonzero().squeeze(1)


class _Covariance(ABC):
    """C of rows with each other and with those judged, while rows are observed."""

    @abstractmethod
    def diag(self) -> Tensor:
        """Return its diagonal, (n,)."""

    @abstractmethod
    def sums(self) -> Tensor:
        """Return the sum of C_vj^2 over the rows v judged, (n,)."""

    @abstractmethod
    def columns(self, row: Tensor) -> tuple[Tensor, Tensor]:
        """Return c = C[:, row] and q = C[:, J] C[J, row], (n,) each."""

    @abstractmethod
    def move(self, pivot: Tensor) -> None:
        """Subtract c c' / pivot, c that of the last :meth:`columns`."""

    @abstractmethod
    def tables(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return C of some rows, and C_SJ C_JS, before anything moved, (k, k) each."""


class Reductions:
    """Sums of squared covariances and variances, updated by one column a row that is observed.

    Parameters
    ----------
    covariance : _Covariance
        Given the rows observed before.
    noise_variance : float
        s2, units of K.

    Attributes
    ----------
    least : Tensor, 0-d
        Of variances of rows that were observed, each before it was.
    """

    def __init__(self, covariance: _Covariance, noise_variance: float) -> None:
        self.covariance, self.noise_variance = covariance, noise_variance
        self.diag, self.sums = covariance.diag().clone(), covariance.sums()
        self.least = self.diag.max()

    def scores(self) -> Tensor:
        """Return by how much each row would lower the sum of variances, (n,)."""
        return self.sums / (self.diag + self.noise_variance)

    def observe(self, row: Tensor) -> None:
        """Condition on a row."""
        self.least = torch.minimum(self.least, self.diag[row])
        pivot = self.diag[row] + self.noise_variance
        c, q = self.covariance.columns(row)
        self.covariance.move(pivot)
        ratio = c / pivot
        self.sums = self.sums - 2.0 * ratio * q + ratio.square() * self.sums[row]
        self.diag = self.diag - ratio * c


class _FeatureCovariance(_Covariance):
    """C = Phi M Phi', and sums from B = Phi_J' Phi_J."""

    def __init__(self, Phi: Tensor, B: Tensor, M: Tensor) -> None:
        self.Phi, self.B, self.M = Phi, B, M

    def diag(self) -> Tensor:
        """Return phi' M phi of each row; M is still I."""
        return FeatureGram(self.Phi).diag()

    def sums(self) -> Tensor:
        """Return phi' B phi of each row; M is still I."""
        # Written in place: small results between freed blocks would keep a heap from reusing them.
        n, d = self.Phi.shape
        sums = self.Phi.new_empty(n)
        for J in row_blocks(n, max(1, _NUMBERS // d)):
            phi = self.Phi[J]
            sums[J] = (phi @ self.B).mul_(phi).sum(1)
        return sums

    def columns(self, row: Tensor) -> tuple[Tensor, Tensor]:
        """Return Phi M phi and Phi M B M phi; one pass over the features."""
        self._v = self.M @ self.Phi[row]
        both = torch.stack([self._v, self.M @ (self.B @ self._v)])
        c, q = (self.Phi @ both.mT).unbind(1)
        return c, q

    def move(self, pivot: Tensor) -> None:
        """Subtract M phi phi' M / pivot."""
        self.M = torch.addr(self.M, self._v / -pivot, self._v)

    def tables(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return Phi Phi' and Phi B Phi' of some rows."""
        Phi, B = self.Phi[rows].double(), self.B.double()
        return Phi @ Phi.mT, Phi @ B @ Phi.mT


class KernelCovariance(_Covariance):
    """C - R' R, with R of one row for each move: products with the covariance at the start."""

    def __init__(self, start: GramOperator, judged: Tensor | None) -> None:
        self.start, self.R = start, start.diag().new_zeros(0, start.shape[0])
        self._judged = slice(None) if judged is None else judged
        # Columns of few targets are kept; of all rows they would be a matrix of n^2.
        few = judged is not None and 2 * len(judged) <= start.shape[0]
        self._cross = start.block(slice(None), judged) if few else None

    def diag(self) -> Tensor:
        """Return the variances; nothing has moved."""
        return self.start.diag()

    def sums(self) -> Tensor:
        """Return sums of squares, by blocks of rows; nothing has moved."""
        n, found = self.start.shape[0], torch.empty_like(self.start.diag())
        for rows in row_blocks(n, max(1, _NUMBERS // n)):
            found[rows] = self._rows(rows).square().sum(1)
        return found

    def columns(self, row: Tensor) -> tuple[Tensor, Tensor]:
        """Return C[:, row], and C[:, J] times what is judged of it."""
        c, q = self.columns_of(row[None])
        self._c = c
        return c.squeeze(1), q.squeeze(1)

    def columns_of(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return the same of k rows at once, (n, k) each."""
        c = self.start.block(slice(None), rows) - self.R.mT @ self.R[:, rows]
        judged = c[self._judged]
        q = self._products(c) if self._cross is None else self._cross @ judged
        return c, q - self.R.mT @ (self.R[:, self._judged] @ judged)

    def _products(self, c: Tensor) -> Tensor:
        """Return the covariance at the start times what is judged of columns."""
        if isinstance(self._judged, Tensor):
            c = torch.zeros_like(c).index_add_(0, self._judged, c[self._judged])
        return self.start.matmul(c)

    def move(self, pivot: Tensor) -> None:
        """Append c / pivot^1/2 to R; rows only come here."""
        self.append((self._c * pivot.rsqrt()).mT)

    def append(self, roots: Tensor) -> None:
        """Subtract the product of k rows with themselves, (k, n)."""
        self.R = torch.cat([self.R, roots])

    def tables(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return covariances at the start, and their products with those judged."""
        judged = self._rows(rows).double()
        return self.start.block(rows, rows), judged @ judged.mT

    def _rows(self, rows: Tensor | slice) -> Tensor:
        """Return the covariances of some rows with those judged, at the start."""
        held = self._cross
        return self.start.block(rows, self._judged) if held is None else held[rows]


def reductions_of(
    gram: GramOperator, given: Tensor, noise_variance: float, judged: Tensor | None = None
) -> Reductions:
    """Return the state after rows were given, as of :func:`variance_reductions`."""
    return Reductions(_covariance(gram, given, noise_variance, judged), noise_variance)


def _covariance(
    gram: GramOperator, given: Tensor, noise_variance: float, judged: Tensor | None
) -> _Covariance:
    """Return the posterior covariance given some rows, in the form that suits the operator."""
    gram = conditioned(gram, given, noise_variance)
    if not isinstance(gram, FeatureGram):
        return KernelCovariance(gram, judged)
    Phi = gram.Phi
    Phi_J = Phi if judged is None else Phi[judged]
    identity = torch.eye(Phi.shape[1], dtype=Phi.dtype, device=Phi.device)
    return _FeatureCovariance(Phi, Phi_J.mT @ Phi_J, identity)
