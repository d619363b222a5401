"""One coalition of rows, solved, and all that differ from it by a row."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sknk.exceptions import NotPSDError
from sknk.solvers._moves import Moves

if TYPE_CHECKING:
    from sknk.solvers._coalitions import Coalitions

__all__ = ["Coalition", "log_normal", "moved_means"]


@dataclass(frozen=True)
class Coalition:
    """The ridge regression on k rows S, ready to gain or lose one.

    Attributes
    ----------
    game : Coalitions
        All rows.
    inside, outside : Tensor of shape (k,) and (n - k,)
        S, and the other rows.
    L : Tensor of shape (k, k)
        Factor of K_SS + shift.
    W : Tensor of shape (k, C + 1)
        L^-1 [Y_S, 1].
    Z : Tensor of shape (k, m)
        L^-1 K(S, X_val).
    B : Tensor of shape (k, n - k)
        L^-1 K(S, others).
    """

    game: "Coalitions"
    inside: Tensor
    outside: Tensor
    L: Tensor
    W: Tensor
    Z: Tensor
    B: Tensor

    @classmethod
    def of(cls, game: "Coalitions", inside: Tensor) -> "Coalition":
        """Factorize S and solve for everything that moves need; see Coalitions.coalition."""
        out = torch.ones(game.n, dtype=torch.bool, device=inside.device)
        out[inside] = False
        outside = out.nonzero()[:, 0]
        rows = game.K[inside]  # (k, n)
        K = rows[:, inside]
        K.diagonal().add_(game.shift[inside])
        L, info = torch.linalg.cholesky_ex(K)
        if int(info):
            raise NotPSDError(
                f"K + shift of {len(inside)} rows is not positive definite in {K.dtype} (pivot "
                f"{int(info)}). Increase the ridge, or pass `dtype='float64'`."
            )
        Y = game.Y[inside]
        sides = [Y, torch.ones_like(Y[:, :1]), game.cross[inside], rows[:, outside]]
        solved = torch.linalg.solve_triangular(L, torch.cat(sides, dim=1), upper=False)
        C, m = Y.shape[1], game.cross.shape[1]
        W, Z, B = solved.split([C + 1, m, len(outside)], dim=1)
        return cls(game, inside, outside, L, W, Z, B)

    def additions(self) -> Moves:
        """Return S and one of the others; O(k (n - k) (m + C)).

        Returns
        -------
        Moves
        """
        game, rows = self.game, self.outside
        pivots, Y = self._pivots(), game.Y[rows]
        rho = torch.cat([Y, torch.ones_like(Y[:, :1])], dim=1) - self.B.mT @ self.W
        G = torch.addmm(game.cross[rows], self.B.mT, self.Z, alpha=-1)
        return self._moves(rows, G, rho / pivots[:, None], 1.0 / pivots, coming=True)

    def removals(self) -> Moves:
        """Return S without one of its rows; O(k^3 / 2 + k^2 (m + C)).

        Returns
        -------
        Moves
        """
        T = self._inverse()
        coef, G, diagonal = T.mT @ self.W, T.mT @ self.Z, T.square().sum(0)
        r = -coef / diagonal[:, None]
        return self._moves(self.inside, G, r, -1.0 / diagonal, coming=False)

    def addition_densities(self) -> Tensor:
        """Return log p(y_i | y_S) of the others, summed over outputs, (n - k,)."""
        pivots = self._pivots()
        residuals = self.game.Y[self.outside] - self.B.mT @ self.W[:, :-1]
        return log_normal(residuals / pivots[:, None], 1.0 / pivots)

    def removal_densities(self) -> Tensor:
        """Return log p(y_i | the rest of y_S) of the rows of S, summed over outputs, (k,)."""
        T = self._inverse()
        return log_normal(T.mT @ self.W[:, :-1], T.square().sum(0))

    def _pivots(self) -> Tensor:
        """Return variances of the others given S, their noise included, (n - k,)."""
        shift = self.game.shift[self.outside]
        prior = self.game.K.diagonal()[self.outside]
        # What S tells can be rounded to more than the prior, never to more than the noise is left.
        return (prior - self.B.square().sum(0)).clamp(min=0.0) + shift

    def _inverse(self) -> Tensor:
        eye = torch.eye(len(self.L), device=self.L.device, dtype=self.L.dtype)
        return torch.linalg.solve_triangular(self.L, eye, upper=False)

    def _moves(self, rows: Tensor, G: Tensor, r: Tensor, gain: Tensor, *, coming: bool) -> Moves:
        game, fits = self.game, self.Z.mT @ self.W  # (m, C + 1)
        h, mean = 1.0 - fits[:, -1], mean_of(game, self.inside)
        after = moved_means(game, self.inside, rows, coming=coming)
        variance = game.prior_variance
        if variance is not None:
            variance = variance - self.Z.square().sum(0)
        r = r[:, :-1] - after * r[:, -1:]
        outputs = fits[:, :-1] + mean * h[:, None]
        return Moves(rows, outputs, variance, h, after - mean, G, r, gain)


def mean_of(game: "Coalitions", rows: Tensor) -> Tensor:
    """Return the mean target of some rows, (C,); zeros where targets are not centred."""
    if game.weights is None or not len(rows):
        return torch.zeros_like(game.Y[0])
    w = game.weights[rows]
    return w @ game.Y[rows] / w.sum()


def moved_means(game: "Coalitions", inside: Tensor, rows: Tensor, *, coming: bool) -> Tensor:
    """Return mean targets of a coalition with, or without, each of some rows; (q, C).

    Parameters
    ----------
    game : Coalitions
    inside : Tensor of shape (k,)
        The coalition.
    rows : Tensor of shape (q,)
        Rows that come, one at a time; those that go are `inside`.
    coming : bool
        Which.

    Returns
    -------
    Tensor of shape (q, C)
        Zeros where targets are not centred, or no row is left.
    """
    Y = game.Y[rows]
    if game.weights is None:
        return torch.zeros_like(Y)
    w, own = game.weights[inside][:, None], game.weights[rows][:, None]
    sums = w * game.Y[inside]
    if coming:
        return (sums.sum(0) + own * Y) / (w.sum() + own)
    if len(inside) == 1:
        return torch.zeros_like(Y)
    return _sums_of_others(sums) / _sums_of_others(w)


def _sums_of_others(values: Tensor) -> Tensor:
    """Return the sum of all other rows for each row, (k, C): none is subtracted."""
    none = torch.zeros_like(values[:1])
    before = torch.cat([none, values[:-1].cumsum(0)])
    after = torch.cat([values[1:].flip(0).cumsum(0).flip(0), none])
    return before + after


def log_normal(coef: Tensor, precision: Tensor) -> Tensor:
    """Return log densities of residuals e, given coef = precision e, summed over outputs."""
    C = coef.shape[-1]
    quadratic = coef.square().sum(-1) / precision
    return -0.5 * quadratic + 0.5 * C * (precision / (2.0 * torch.pi)).log()
