r"""All rows but some, in closed form: leave-one-out, groups, and the influence of a weight.

With :math:`G = (K + \mathrm{shift})^{-1}`, :math:`\alpha = G Y` and
:math:`H = K(X_{val}, X)\, G`, one factorization answers for every row that is left out.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from sknk._validation import check_memory
from sknk.exceptions import NotPSDError
from sknk.solvers._base import Factorization
from sknk.solvers._coalition import moved_means
from sknk.solvers._coalitions import Coalitions
from sknk.solvers._gram import square_bytes
from sknk.solvers._moves import Moves

__all__ = ["Whole"]


@dataclass(frozen=True)
class Whole:
    """The ridge regression on all rows, and what it would be without some.

    Attributes
    ----------
    game : Coalitions
        Rows, and those judged.
    factor : Factorization
        Of K + shift.
    coef : Tensor of shape (n, C + 1)
        (K + shift)^-1 [Y, 1].
    H : Tensor of shape (m, n)
        K(X_val, X) (K + shift)^-1.
    """

    game: Coalitions
    factor: Factorization
    coef: Tensor
    H: Tensor

    @classmethod
    def of(cls, game: Coalitions, factor: Factorization) -> "Whole":
        """Solve once: O(n^2 (m + C))."""
        Y = game.Y
        solved = factor.solve(torch.cat([Y, torch.ones_like(Y[:, :1]), game.cross], dim=1))
        return cls(game, factor, solved[:, : Y.shape[1] + 1], solved[:, Y.shape[1] + 1 :].mT)

    @property
    def mean(self) -> Tensor:
        """Mean target of all rows, (C,)."""
        return self.game.means(torch.arange(self.game.n, device=self.game.K.device))[-1]

    @property
    def h(self) -> Tensor:
        """1 - g^1 of the rows judged, (m,): what a change of the mean moves."""
        return 1.0 - self.game.cross.mT @ self.coef[:, -1]

    @property
    def outputs(self) -> Tensor:
        """What all rows predict, (m, C)."""
        return self.game.cross.mT @ self.coef[:, :-1] + self.h[:, None] * self.mean

    @property
    def variance(self) -> Tensor | None:
        """Predictive variances, (m,)."""
        prior = self.game.prior_variance
        return None if prior is None else prior - (self.game.cross * self.H.mT).sum(0)

    def without_each(self) -> Moves:
        r"""Return all rows without one; O(n^3 / 3) for the diagonal of the inverse.

        .. math:: f(x) - f_{-i}(x) = H_{xi}\, \alpha_i / G_{ii}

        Returns
        -------
        Moves
        """
        every = torch.arange(self.game.n, device=self.game.K.device)
        diagonal = self.factor.inv_diag()
        after = moved_means(self.game, every, every, coming=False)
        r = -(self.coef[:, :-1] - after * self.coef[:, -1:]) / diagonal[:, None]
        return self._moves(after - self.mean, r, -1.0 / diagonal)

    def own_without_each(self) -> tuple[Tensor, Tensor]:
        r"""Return what the others predict of every row, and with what variance; O(n^3 / 3).

        .. math:: f_{-i}(x_i) = y_i - \alpha_i / G_{ii}, \qquad \mathrm{var} = 1 / G_{ii}

        the variance with the row's own noise.

        Returns
        -------
        outputs : Tensor of shape (n, C)
        variance : Tensor of shape (n,)
        """
        every = torch.arange(self.game.n, device=self.game.K.device)
        diagonal = self.factor.inv_diag()
        after = moved_means(self.game, every, every, coming=False)
        residuals = (self.coef[:, :-1] - after * self.coef[:, -1:]) / diagonal[:, None]
        return self.game.Y - residuals, 1.0 / diagonal

    def reweighted(self) -> Moves:
        r"""Return the derivative of f by the weight of each row, times the weight.

        .. math:: w_i \frac{\partial f(x)}{\partial w_i} = H_{xi}\, \mathrm{shift}_i\, \alpha_i
            = H_{xi}\,(y_i - f(x_i)), \qquad
            w_i \frac{\partial \mathrm{var}(x)}{\partial w_i} = -\mathrm{shift}_i\, H_{xi}^2

        What leave-one-out is to first order: by 1 - h_ii, h the hat matrix, smaller.

        Returns
        -------
        Moves
            With `r`, `delta` and `gain` per unit of relative weight.
        """
        Y, w, mean = self.game.Y, self.game.weights, self.mean
        r = self.game.shift[:, None] * (self.coef[:, :-1] - mean * self.coef[:, -1:])
        moved = torch.zeros_like(Y) if w is None else (w / w.sum())[:, None] * (Y - mean)
        return self._moves(moved, r, self.game.shift)

    def without_groups(self, groups: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor | None]]:
        r"""Yield what is predicted without each group of rows, and its variance.

        .. math:: f - f_{-R} = H_{\cdot R}\,(G_{RR})^{-1} \alpha_R

        O(n^3) for the inverse, then O(|R|^3 + m |R| C) a group; 8 n^2 bytes.

        Parameters
        ----------
        groups : iterable of Tensor of shape (g,)
            Rows of each group.

        Yields
        ------
        outputs : Tensor of shape (m, C)
        variance : Tensor of shape (m,) or None

        Raises
        ------
        NotPSDError
            If rounding makes a block of the inverse indefinite.
        """
        n, K = self.game.n, self.game.K
        check_memory(
            square_bytes(n, K.dtype),
            K.device,
            what=f"The inverse of a Gram matrix of n={n} rows",
            instead="Use fewer rows or `dtype='float32'`.",
        )
        G = self.factor.solve(torch.eye(n, device=K.device, dtype=K.dtype))
        fits, variance = self.game.cross.mT @ self.coef, self.variance
        for R in groups:
            L, info = torch.linalg.cholesky_ex(G[R][:, R])
            if int(info):
                raise NotPSDError(
                    f"The inverse of K + shift is not positive definite on a group of {len(R)} of "
                    f"{n} rows, in {K.dtype}. Increase the ridge, or pass `dtype='float64'`."
                )
            both = torch.cat([self.coef[R], self.H[:, R].mT], dim=1)
            half = torch.linalg.solve_triangular(L, both, upper=False)
            moved, along = half[:, : fits.shape[1]], half[:, fits.shape[1] :]
            left = fits - along.mT @ moved  # (m, C + 1)
            mean = self._mean_without(R)
            outputs = left[:, :-1] + mean * (1.0 - left[:, -1:])
            yield outputs, None if variance is None else variance + along.square().sum(0)

    def _mean_without(self, R: Tensor) -> Tensor:
        if self.game.weights is None:
            return torch.zeros_like(self.mean)
        w = self.game.weights.clone()
        w[R] = 0.0
        total = w.sum()
        return (w[:, None] * self.game.Y).sum(0) / torch.where(total > 0, total, 1.0)

    def _moves(self, delta: Tensor, r: Tensor, gain: Tensor) -> Moves:
        every = torch.arange(self.game.n, device=self.game.K.device)
        return Moves(every, self.outputs, self.variance, self.h, delta, self.H.mT, r, gain)
