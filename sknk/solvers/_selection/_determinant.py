"""Rows of the largest determinant: pivoted Cholesky, BatchBALD of a Gaussian process."""

import torch
from torch import Tensor

from sknk.solvers._gram import GramOperator
from sknk.solvers._selection._greedy import FallingScores, Round, one_by_one
from sknk.solvers._selection._residual import Residual, posterior_gram

__all__ = ["max_det"]


def max_det(
    gram: GramOperator,
    size: int,
    *,
    given: Tensor,
    noise_variance: float,
    bonus: Tensor | None = None,
) -> Tensor:
    r"""Choose rows S greedily for the largest log det(K_SS + s2 I), after rows that are given.

    The gain of a row is the log of its predictive variance, so that the next is the largest of

    .. math:: d_j = s^2 + C_{jj}, \qquad C = K - K_{:,G} (K_{GG} + s^2 I)^{-1} K_{G,:}

    with G what is given or chosen: a pivoted Cholesky factorization. Variances only fall.
    O((t + b) n d) time on features of d columns; on kernels O((t + b)^2 n), and as many of their
    columns; for t rows given and b chosen.

    Parameters
    ----------
    gram : GramOperator
        K of all n rows.
    size : int
        b.
    given : LongTensor of shape (t,)
        Rows that are in G from the start.
    noise_variance : float
        s2, units of K.
    bonus : Tensor of shape (n,) or None
        Added to the variances once, units of K (the entropies of KECOR).

    Returns
    -------
    LongTensor of shape (k,)
        In the order of choice; k < `size` where no other row has variance left.
    """
    residual = posterior_gram(gram, given, noise_variance)
    scores = residual.diag() + noise_variance
    rounding = torch.zeros_like(scores)
    if noise_variance == 0.0:  # variances end, at a part of k(x, x) that grows with the steps
        rounding = 4.0 * (len(given) + size) * torch.finfo(scores.dtype).eps * gram.diag()
    problem = _Variances(residual, scores if bonus is None else scores + bonus, rounding)
    return one_by_one(problem, size, given)


class _Variances(FallingScores):
    """Predictive variances d of all rows."""

    def __init__(self, residual: Residual, scores: Tensor, rounding: Tensor) -> None:
        self.residual, self.rounding = residual, rounding
        self.scores = _above(scores, rounding)

    def follow(self, rows: Tensor) -> "_Elimination":
        """Open a round."""
        return _Elimination(self.residual, rows, self.scores[rows], self.rounding[rows])

    def close(self, chosen: Tensor, round_: Round) -> None:
        """Take all variances given what was chosen."""
        assert isinstance(round_, _Elimination)
        before = self.residual.diag()
        self.residual.condition(chosen, round_.factor())
        self.scores = _above(self.scores - (before - self.residual.diag()), self.rounding)


class _Elimination(Round):
    """Steps of a pivoted Cholesky factorization of the rows followed."""

    def __init__(self, residual: Residual, rows: Tensor, scores: Tensor, rounding: Tensor) -> None:
        self.scores, self._rounding = scores, rounding
        self._residual = residual.restrict(rows)
        self._roots: list[Tensor] = []
        self._places: list[Tensor] = []

    def choose(self, at: Tensor) -> None:
        """Subtract u^2, with u = (C[:, i] - U' U[:, i]) / d_i^1/2 the next row of U."""
        u = self._residual.block(slice(None), at[None]).squeeze(1)
        if self._roots:
            U = torch.stack(self._roots)
            u = u - U.mT @ U[:, at]
        pivot = self.scores[at].sqrt()
        u = u / pivot
        u[at] = pivot  # its own entry has the noise
        self.scores = _above(self.scores - u.square(), self._rounding)
        self._roots.append(u)
        self._places.append(at)

    def factor(self) -> Tensor:
        """Return L of the rows chosen, in their order, (k, k)."""
        return torch.stack(self._roots)[:, torch.stack(self._places)].mT.tril()


def _above(scores: Tensor, rounding: Tensor) -> Tensor:
    """Return scores, 0 where they are no more than rounding."""
    return torch.where(scores > rounding, scores, 0.0)
