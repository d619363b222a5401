r"""Groups of rows that lower variances most: multi-class BAIT.

A row of a classifier is C observations, one for each class. With C_{II} the covariance of group I
given all that was observed, and sums over all rows v, observing the group lowers variances by

.. math:: \operatorname{tr} \Big[ (C_{II} + s^2 I)^{-1} \sum_v C_{Iv} C_{vI} \Big]
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from sknk._validation import check_memory
from sknk.solvers._cholesky import Cholesky
from sknk.solvers._product_gram import GroupedGram
from sknk.solvers._selection._reduction import KernelCovariance, warn_of_rounding
from sknk.solvers._selection._residual import KernelResidual, conditioned

__all__ = ["group_reductions_before", "least_variance_groups"]

_ROUNDING = 64  # units in the last place that variances are wrong by, once many rows are observed


def least_variance_groups(
    gram: GroupedGram,
    size: int,
    *,
    given: Tensor,
    noise_variance: float,
    forward: int | None = None,
) -> Tensor:
    """Choose the group that lowers variances most, again and again; then drop some, if asked.

    C products of the matrix with a column and O(n C^2) numbers a step, after O(n^2 C^2) for the
    first scores (Ash, Goel, Krishnamurthy and Kakade 2021, algorithm 1).

    Parameters
    ----------
    gram : GroupedGram
        K of n groups of C rows.
    size : int
        Groups to choose.
    given : LongTensor of shape (t,)
        Groups that are observed from the start.
    noise_variance : float
        s2 > 0, units of K.
    forward : int or None
        Groups to choose before some are dropped; None is `size`.

    Returns
    -------
    LongTensor of shape (k,)
        In the order of choice; k < `size` where no other group lowers anything.
    """
    state = _GroupReductions(gram, given, noise_variance)
    largest = state.variance()
    open_ = torch.ones(len(gram.A), dtype=torch.bool, device=gram.device)
    open_[given] = False
    chosen: list[Tensor] = []
    for _ in range(size if forward is None else max(size, forward)):
        scores = state.scores()
        group = torch.where(open_, scores, -torch.inf).argmax()
        if not (bool(open_[group]) and float(scores[group]) > 0):
            break
        chosen.append(group)
        open_[group] = False
        state.observe(group)
    found = torch.stack(chosen) if chosen else given[:0]
    warn_of_rounding(noise_variance, largest, state.least, backward=len(found) > size)
    if len(found) <= size:
        return found
    tables = state.covariance.tables(_rows_of(found, gram.each))
    return found[_kept(*tables, size, gram.each, noise_variance)]


def group_reductions_before(
    gram: GroupedGram, chosen: Tensor, *, given: Tensor, noise_variance: float
) -> Iterator[Tensor]:
    """Yield by how much each group (n,) would lower variances before each choice.

    Parameters
    ----------
    gram : GroupedGram
        K of n groups of C rows.
    chosen : LongTensor of shape (b,)
        In the order of choice.
    given : LongTensor of shape (t,)
        Groups that were observed before.
    noise_variance : float
        s2, units of K.

    Yields
    ------
    Tensor of shape (n,)
    """
    state = _GroupReductions(gram, given, noise_variance)
    for group in chosen:
        yield state.scores()
        state.observe(group)


def _rows_of(groups: Tensor, each: int) -> Tensor:
    """Return the rows of groups, (len(groups) C,)."""
    return (groups[:, None] * each + torch.arange(each, device=groups.device)).flatten()


class _GroupReductions:
    """Covariances S (n, C, C) within groups, and Q of their squares summed over all rows."""

    def __init__(self, gram: GroupedGram, given: Tensor, noise_variance: float) -> None:
        size = float(len(given)) * gram.each * gram.shape[0]
        check_memory(
            4.0 * size * gram.dtype.itemsize,
            gram.device,
            what=f"What {len(given)} rows tell about {len(gram.A)} of {gram.each} observations",
            instead="Draw `candidates`, or use dtype='float32'.",
        )
        start = conditioned(gram, _rows_of(given, gram.each), noise_variance)
        self.covariance = KernelCovariance(start, None)
        self.each = gram.each
        self.S, self.Q = gram.within().double(), gram.squares().double()
        if isinstance(start, KernelResidual):  # K - U' U, and its square within groups
            U = start.U.mT.unflatten(0, (-1, self.each))  # (n, C, t C)
            crossed = gram.matmul(start.U.mT).view_as(U) @ U.mT
            self.Q -= crossed + crossed.mT - U @ (start.U @ start.U.mT) @ U.mT
            self.S -= U @ U.mT

        self.least = self.variance()
        self._noise = noise_variance + _ROUNDING * torch.finfo(gram.dtype).eps * float(self.least)

    def variance(self) -> Tensor:
        """Return the largest variance, 0-d, in the dtype that it was computed in."""
        return self.S.diagonal(dim1=1, dim2=2).max().to(self.covariance.R)

    def scores(self) -> Tensor:
        """Return by how much observing each group would lower variances, (n,)."""
        return torch.linalg.solve(self._noisy(self.S), self.Q).diagonal(dim1=1, dim2=2).sum(1)

    def observe(self, group: Tensor) -> None:
        """Condition on all rows of a group."""
        self.least = torch.minimum(self.least, self.S[group].diagonal().max().to(self.least))
        L = Cholesky().factorize(self._noisy(self.S[group]), 0.0).L
        columns, products = self.covariance.columns_of(_rows_of(group[None], self.each))
        # Roots (C, n C) of what is subtracted; products of the covariance with them.
        roots, crossed, square = (
            torch.linalg.solve_triangular(L, part.mT.double(), upper=False)
            for part in (columns, products, self.Q[group])
        )
        square = torch.linalg.solve_triangular(L, square.mT, upper=False)
        self.covariance.append(roots.to(columns))
        u, q = (part.mT.unflatten(0, (-1, self.each)) for part in (roots, crossed))
        both = u @ q.mT
        self.Q -= both + both.mT - u @ square @ u.mT
        self.S -= u @ u.mT

    def _noisy(self, S: Tensor) -> Tensor:
        """Return covariances of groups with noise; no rounding takes them below it."""
        return S + self._noise * torch.eye(self.each, dtype=S.dtype, device=S.device)


def _kept(C: Tensor, Q: Tensor, size: int, each: int, noise_variance: float) -> Tensor:
    r"""Return which groups remain when those that lower variances least are dropped.

    With A = (C + s2 I)^-1 and N = A Q A, dropping group g raises the sum of variances by
    tr(A_gg^-1 N_gg); float64.

    Returns
    -------
    LongTensor of shape (size,)
    """
    shifted = C.double() + noise_variance * torch.eye(len(C), dtype=torch.float64, device=C.device)
    A = torch.cholesky_inverse(Cholesky().factorize(shifted, 0.0).L)
    N = A @ Q.double() @ A
    left = torch.arange(len(C) // each, device=C.device)
    while len(left) > size:
        rises = torch.linalg.solve(_within(A, each), _within(N, each))
        g = rises.diagonal(dim1=1, dim2=2).sum(1).argmin()
        others = torch.arange(len(left), device=C.device) != g
        own, rest = (mask.repeat_interleave(each) for mask in (~others, others))
        T = torch.linalg.solve(A[own][:, own], A[own][:, rest])
        moved = N[rest][:, own] @ T
        N = N[rest][:, rest] - moved - moved.mT + T.mT @ N[own][:, own] @ T
        A = A[rest][:, rest] - A[rest][:, own] @ T
        left = left[others]
    return left


def _within(M: Tensor, each: int) -> Tensor:
    """Return the blocks of a matrix on its diagonal, (k, C, C)."""
    blocks = M.unflatten(0, (-1, each)).unflatten(2, (-1, each))
    return blocks.diagonal(dim1=0, dim2=2).permute(2, 0, 1)
