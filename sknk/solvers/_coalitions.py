r"""Ridge regression on coalitions of rows, many from one factor.

Rows may come and go; kernel, ridge and prior stay. With G_S = (K_SS + shift)^-1 and, where targets
are centred, their weighted mean y_S over the coalition S,

.. math:: f_S(x) = y_S + k(x, S)\, G_S (Y_S - y_S) = g^Y_S(x) + y_S\,(1 - g^1_S(x))

so one more column of targets, the ones, centres every coalition exactly. Targets, outputs and means
are relative to the prior, what no rows predict.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from sknk.exceptions import NotPSDError
from sknk.solvers._coalition import Coalition, log_normal
from sknk.solvers._gram import row_blocks
from sknk.solvers._moves import NUMBERS

__all__ = ["Coalitions", "OrderedCoalitions"]

_BLOCK = 64  # prefixes whose inner products are taken at once


@dataclass(frozen=True)
class Coalitions:
    """n rows of a ridge regression, and m rows it is judged on.

    Attributes
    ----------
    K : Tensor of shape (n, n)
        Gram matrix.
    cross : Tensor of shape (n, m)
        Kernel of the rows with those judged; m may be 0.
    prior_variance : Tensor of shape (m,) or None
        K(x, x) of those judged, where variances are wanted.
    shift : Tensor of shape (n,)
        Ridge, or noise variances; units of K.
    Y : Tensor of shape (n, C)
        Targets, relative to the prior.
    weights : Tensor of shape (n,) or None
        Weights of the mean target; None where targets are not centred.
    """

    K: Tensor
    cross: Tensor
    prior_variance: Tensor | None
    shift: Tensor
    Y: Tensor
    weights: Tensor | None

    @property
    def n(self) -> int:
        """Rows."""
        return len(self.K)

    def take(self, rows: Tensor) -> "Coalitions":
        """Return some of the rows, or all in another order."""
        weights = None if self.weights is None else self.weights[rows]
        K = self.K[rows][:, rows]
        cross, shift, Y = self.cross[rows], self.shift[rows], self.Y[rows]
        return Coalitions(K, cross, self.prior_variance, shift, Y, weights)

    def ordered(self, order: Tensor) -> "OrderedCoalitions":
        """Factorize in an order of rows: O(n^3 / 3 + n^2 (m + C)).

        Leading blocks of L are the factors of the prefixes, leading rows of L^-1 B their half
        solves: every prefix of the order is solved at once.

        Parameters
        ----------
        order : Tensor of shape (..., n)
            Permutations of the rows.

        Returns
        -------
        OrderedCoalitions

        Raises
        ------
        NotPSDError
            If K + shift is not positive definite.
        """
        rows = self.K[order]  # (..., n, n); columns by `gather`, twice as fast as by indexing
        K = rows.gather(-1, order[..., None, :].expand_as(rows))
        K.diagonal(dim1=-2, dim2=-1).add_(self.shift[order])
        L, info = torch.linalg.cholesky_ex(K)
        if bool(info.any()):
            raise NotPSDError(
                f"K + shift of {self.n} rows is not positive definite in {K.dtype} (pivot "
                f"{int(info.max())} of an order). Increase the ridge, or pass `dtype='float64'`."
            )
        Y = self.Y[order]
        sides = torch.cat([Y, torch.ones_like(Y[..., :1]), self.cross[order]], dim=-1)
        solved = torch.linalg.solve_triangular(L, sides, upper=False)
        W, Z = solved[..., : Y.shape[-1] + 1], solved[..., Y.shape[-1] + 1 :]
        return OrderedCoalitions(self, order, L, W, Z, self.means(order))

    def coalition(self, rows: Tensor) -> Coalition:
        """Solve for some rows: O(k^2 (n + m) + k n m).

        Parameters
        ----------
        rows : Tensor of shape (k,)
            Distinct; none, or all, are some too.

        Returns
        -------
        Coalition

        Raises
        ------
        NotPSDError
            If K + shift is not positive definite on them.
        """
        return Coalition.of(self, rows)

    def subset_outputs(self, subsets: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return what coalitions of one size predict, each solved by itself; O(B k^2 (k + m + C)).

        Parameters
        ----------
        subsets : Tensor of shape (B, k)
            Their rows, k > 0.

        Returns
        -------
        outputs : Tensor of shape (B, m, C)
        variance : Tensor of shape (B, m) or None
        """
        L, Y = self._subset_factors(subsets), self.Y[subsets]
        mean = torch.zeros_like(Y[:, :1])
        if self.weights is not None:
            w = self.weights[subsets][..., None]
            mean = (w * Y).sum(1, keepdim=True) / w.sum(1, keepdim=True)
        half = torch.linalg.solve_triangular(L, self.cross[subsets], upper=False)  # (B, k, m)
        fit = torch.linalg.solve_triangular(L, Y - mean, upper=False)
        variance = self.prior_variance
        if variance is not None:
            variance = variance - half.square().sum(1)
        return mean + half.mT @ fit, variance

    def subset_log_densities(self, subsets: Tensor) -> Tensor:
        """Return log p(y_S) of coalitions (B, k), summed over outputs, (B,)."""
        L = self._subset_factors(subsets)
        fit = torch.linalg.solve_triangular(L, self.Y[subsets], upper=False)
        pivots = L.diagonal(dim1=1, dim2=2)
        return log_normal(fit / pivots[..., None], pivots.square().reciprocal()).sum(1)

    def _subset_factors(self, subsets: Tensor) -> Tensor:
        K = self.K[subsets[:, :, None], subsets[:, None, :]]
        L, info = torch.linalg.cholesky_ex(K + torch.diag_embed(self.shift[subsets]))
        if bool(info.any()):
            raise NotPSDError(
                f"K + shift of {subsets.shape[1]} rows is not positive definite in {K.dtype}. "
                "Increase the ridge, or pass `dtype='float64'`."
            )
        return L

    def means(self, order: Tensor) -> Tensor:
        """Return the mean targets of all prefixes, none of them first.

        Parameters
        ----------
        order : Tensor of shape (..., n)
            Permutations of the rows.

        Returns
        -------
        Tensor of shape (..., n + 1, C)
        """
        Y = self.Y[order]
        means = torch.zeros_like(torch.cat([Y[..., :1, :], Y], dim=-2))
        if self.weights is not None:
            w = self.weights[order][..., None]
            means[..., 1:, :] = (w * Y).cumsum(-2) / w.cumsum(-2)
        return means


@dataclass(frozen=True)
class OrderedCoalitions:
    """All prefixes of an order of rows.

    Attributes
    ----------
    game : Coalitions
        The rows, in the order they have there.
    order : Tensor of shape (..., n)
        Which row comes when.
    L : Tensor of shape (..., n, n)
        Factor of the ordered K + shift.
    W : Tensor of shape (..., n, C + 1)
        L^-1 [Y, 1].
    Z : Tensor of shape (..., n, m)
        L^-1 K(X, X_val).
    means : Tensor of shape (..., n + 1, C)
        Mean targets of the prefixes.
    """

    game: Coalitions
    order: Tensor
    L: Tensor
    W: Tensor
    Z: Tensor
    means: Tensor

    def prefix_outputs(
        self, numbers: int = NUMBERS
    ) -> Iterator[tuple[slice, Tensor, Tensor | None]]:
        """Yield what prefixes of k = 1 .. n rows predict, in blocks; O(n m C) in all.

        Yields
        ------
        prefixes : slice
            Their k - 1.
        outputs : Tensor of shape (..., b, m, C)
        variance : Tensor of shape (..., b, m) or None
        """
        Z, W = self.Z, self.W.mT  # columns come first in memory: sums and maxima over them are fast
        if self.game.weights is None:
            W = W[..., :-1, :]
        fits = 0.0 * (W[..., :, :1] * Z[..., :1, :])  # (..., C or C + 1, m)
        variance = self.game.prior_variance
        for J in row_blocks(self.L.shape[-1], max(1, numbers // max(fits.numel(), 1))):
            # Rows judged last in memory, as a solve does not leave it.
            z = Z[..., J, :].contiguous()
            each = W[..., J, None] * z[..., None, :, :]  # (..., C or C + 1, b, m)
            each[..., 0, :] += fits
            each.cumsum_(-2)
            fits = each[..., -1, :]
            outputs = self._centred(each, J).movedim(-3, -1)
            if variance is None:
                yield J, outputs, None
                continue
            falling = variance[..., None, :] - z.square().cumsum(-2)
            variance = falling[..., -1, :]
            yield J, outputs, falling

    def _centred(self, each: Tensor, J: slice) -> Tensor:
        """Return g^Y + mean (1 - g^1) of some prefixes, (..., C, b, m)."""
        if self.game.weights is None:
            return each
        mean = self.means[..., J.start + 1 : J.stop + 1, :].mT[..., None]
        return each[..., :-1, :, :] + mean * (1.0 - each[..., -1:, :, :])

    def prefix_square_errors(self, T: Tensor) -> Tensor:
        r"""Return sum |T - f_k|^2 of prefixes of k = 0 .. n rows, no outputs formed; (..., n + 1).

        With A_k = [T - g^Y_k, 1 - g^1_k], a row j adds -Z_j W_j' to it. The inner products A_k' Z_k
        come in blocks of matrix products, so that the work is O(n m C) of BLAS 3.

        Parameters
        ----------
        T : Tensor of shape (m, C)
            Targets of the rows judged, relative to the prior.

        Returns
        -------
        Tensor of shape (..., n + 1)
        """
        A = torch.cat([T, torch.ones_like(T[:, :1])], dim=1).expand(*self.order.shape[:-1], -1, -1)
        products, squares = [], []
        for J in row_blocks(self.L.shape[-1], _BLOCK):
            Z, W = self.Z[..., J, :], self.W[..., J, :]
            S = Z @ Z.mT
            products.append(Z @ A - S.tril(-1) @ W)  # A_{k-1}' Z_k of each k
            squares.append(S.diagonal(dim1=-2, dim2=-1))
            A = A - Z.mT @ W
        P, s = torch.cat(products, dim=-2), torch.cat(squares, dim=-1)
        Y, one = self.W[..., :-1], self.W[..., -1:]
        by_y = (s[..., None] * Y - 2.0 * P[..., :-1]).mul_(Y).sum(-1)  # of |T - g|^2
        errors = _accumulated(by_y, T.square().sum())
        if self.game.weights is None:
            return errors
        by_cross = (s[..., None] * Y - P[..., :-1]) * one - Y * P[..., -1:]  # of (T - g)' h
        by_h = ((s[..., None] * one - 2.0 * P[..., -1:]) * one).squeeze(-1)  # of |h|^2
        cross = _accumulated(by_cross.mT, T.sum(0)[:, None]).mT
        h = _accumulated(by_h, T.new_tensor(float(len(T))))
        return errors - 2.0 * (self.means * cross).sum(-1) + self.means.square().sum(-1) * h

    def log_densities(self) -> Tensor:
        """Return log p(y_k | rows before it), summed over outputs, (..., n): the chain rule."""
        pivots = self.L.diagonal(dim1=-2, dim2=-1)
        return log_normal(self.W[..., :-1] / pivots[..., None], pivots.square().reciprocal())


def _accumulated(steps: Tensor, start: Tensor) -> Tensor:
    """Return start, start + step_1, start + step_1 + step_2, ..."""
    head = start.expand(steps[..., :1].shape)
    return torch.cat([head, head + steps.cumsum(-1)], dim=-1)
