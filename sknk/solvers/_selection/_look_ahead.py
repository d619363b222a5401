r"""Rows that change values of a Gaussian model most, were their largest value one.

Observing row i with label y changes values F at all rows by

.. math:: \Delta_i(v) = \frac{C_{vi}}{C_{ii} + s^2} (y - f_i)

with the covariance C given what was observed (Mohamadi, Bae and Sutherland 2022, section 3).
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from sknk.solvers._gram import GramOperator, row_blocks
from sknk.solvers._selection._residual import posterior_gram

__all__ = ["changes_before", "largest_changes"]

_NUMBERS = 2**22  # of covariances that are held at once


def largest_changes(
    gram: GramOperator, size: int, *, P: Tensor, given: Tensor, noise_variance: float
) -> Tensor:
    """Choose the row that changes values most, again and again; O(n^2) a step.

    Parameters
    ----------
    gram : GramOperator
        K; its first n rows may be chosen, and are those whose changes count.
    size : int
        b.
    P : Tensor of shape (n, C)
        Values of classes at those rows.
    given : LongTensor of shape (t,)
        Rows that were observed.
    noise_variance : float
        s2 > 0, units of K.

    Returns
    -------
    LongTensor of shape (k,)
        In the order of choice; k < `size` where no other row changes anything.
    """
    state = _Changes(gram, P, given, noise_variance)
    open_ = torch.ones(len(P), dtype=torch.bool, device=P.device)
    chosen: list[Tensor] = []
    for _ in range(size):
        scores = state.scores()
        row = torch.where(open_, scores, -torch.inf).argmax()
        if not (bool(open_[row]) and float(scores[row]) > 0):
            break
        chosen.append(row)
        open_[row] = False
        state.observe(row)
    return torch.stack(chosen) if chosen else given[:0]


def changes_before(
    gram: GramOperator, chosen: Tensor, *, P: Tensor, given: Tensor, noise_variance: float
) -> Iterator[Tensor]:
    """Yield by how much each row (n,) would change values before each choice.

    Parameters
    ----------
    gram : GramOperator
        K; its first n rows are those whose changes count.
    chosen : LongTensor of shape (b,)
        In the order of choice.
    P : Tensor of shape (n, C)
        Values of classes at those rows.
    given : LongTensor of shape (t,)
        Rows that were observed before.
    noise_variance : float
        s2 > 0, units of K.

    Yields
    ------
    Tensor of shape (n,)
    """
    state = _Changes(gram, P, given, noise_variance)
    for row in chosen:
        yield state.scores()
        state.observe(row)


class _Changes:
    """Values at n rows, and their covariance, as labels are taken for granted."""

    def __init__(self, gram: GramOperator, P: Tensor, given: Tensor, noise_variance: float) -> None:
        self.residual = posterior_gram(gram, given, noise_variance)
        self.P, self.noise_variance = P.clone(), noise_variance

    def scores(self) -> Tensor:
        """Return the summed norms of all changes by each row, (n,)."""
        n = len(self.P)
        reach = torch.empty(n, dtype=self.P.dtype, device=self.P.device)
        for rows in row_blocks(n, max(1, _NUMBERS // n)):
            reach[rows] = self.residual.block(rows, slice(0, n)).abs().sum(1)
        pivots = self.residual.diag()[:n] + self.noise_variance
        return (self._labels() - self.P).norm(dim=1) * reach / pivots

    def observe(self, row: Tensor) -> None:
        """Take the most probable class of a row for its label."""
        step = (self._labels() - self.P)[row]
        column = self.residual.block(slice(0, len(self.P)), row[None])
        pivot = self.residual.diag()[row] + self.noise_variance
        self.P = self.P + column / pivot * step
        self.residual.condition(row[None], pivot.sqrt()[None, None])

    def _labels(self) -> Tensor:
        return torch.nn.functional.one_hot(self.P.argmax(1), self.P.shape[1]).to(self.P)
