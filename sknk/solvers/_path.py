"""The whole ridge path, its exact leave-one-out and GCV, from one eigendecomposition."""

from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from sknk._array import as_tensor
from sknk.solvers._checks import check_weights
from sknk.solvers._eigh import check_spectrum, eigh_
from sknk.solvers._gram import as_operator, row_blocks

__all__ = ["RidgePath", "leave_one_out"]


def leave_one_out(
    solve_Y: Tensor,
    solve_1: Tensor | None,
    inv_diag: Tensor,
    Y: Tensor,
    weights: Tensor | None = None,
    fit_intercept: bool = True,
    *,
    alpha: Tensor | float = 1.0,
    left_out: Tensor | None = None,
) -> Tensor:
    """Return exact leave-one-out predictions of kernel ridge regression, with no refit.

    With G = (K + alpha diag(1/w))^-1 the residual of row i under the fit that has the weight s_i
    less of it is (Sherman and Morrison)::

        e_i = alpha ([G y]_i - m_i [G 1]_i) / (w_i - s_i + alpha (s_i / w_i) G_ii)
        m_i = (sum_j w_j y_j - s_i y_i) / (sum_j w_j - s_i)

    where m_i, the mean of the remaining targets, is zero without intercept. Without the whole row,
    s_i = w_i, the first is ([G y]_i - m_i [G 1]_i) / G_ii. The identity holds for targets shifted
    by any constant; centred ones lose fewer digits.

    Parameters
    ----------
    solve_Y : Tensor of shape (..., n, t)
        G Y.
    solve_1 : Tensor of shape (..., n) or None
        G 1; not read without intercept.
    inv_diag : Tensor of shape (..., n)
        The diagonal of G.
    Y : Tensor of shape (n, t)
        Targets, as they were solved for.
    weights : Tensor of shape (n,), optional
        Positive sample weights w; None means ones.
    fit_intercept : bool, default=True
        Whether each refit centres the targets at their weighted mean.
    alpha : float or Tensor of shape (...)
        The ridge; read only with `left_out`.
    left_out : Tensor of shape (n,), optional
        Weight s that leave-one-out takes from each row, in (0, w]; None is all of it.

    Returns
    -------
    Tensor of shape (..., n, t)
        Predictions y_i - e_i; units of y.

    Raises
    ------
    ValueError
        If `solve_1` is missing where the intercept needs it.
    """
    w = torch.ones_like(Y[:, 0]) if weights is None else weights
    s = w if left_out is None else left_out
    residual = solve_Y
    if fit_intercept:
        if solve_1 is None:
            raise ValueError("`solve_1` is None; with `fit_intercept=True` pass G 1.")
        rest = (w.sum() - s)[:, None]
        total = (w[:, None] * Y).sum(dim=0) - s[:, None] * Y
        # The mean of no targets is taken as zero.
        mean = torch.where(rest > 0, total / rest.where(rest > 0, 1), 0)  # (n, t)
        residual = solve_Y - mean * solve_1[..., None]
    gain = 1.0 / inv_diag
    if left_out is not None:
        a = torch.as_tensor(alpha, dtype=w.dtype, device=w.device)[..., None]
        gain = torch.where(s == w, gain, a / (w - s + a * (s / w) * inv_diag))
    return Y - residual * gain[..., None]


class RidgePath:
    """Weighted kernel ridge regression for many ridges at the cost of one eigendecomposition.

    Minimises sum_i w_i (y_i - b - f(x_i))^2 + alpha ||f||^2 with b the weighted mean of the
    targets (zero without intercept). With W = diag(w) and W^1/2 K W^1/2 = V diag(lambda) V',
    every quantity comes from::

        H = V diag(1 / (lambda + alpha)) V'        G = (K + alpha W^-1)^-1 = W^1/2 H W^1/2

    O(9 n^3) time once, then O(n^2 t) per ridge; H itself is never formed. Rows of weight zero
    get zero coefficients, and their leave-one-out prediction is the prediction.

    Parameters
    ----------
    K : Tensor, ndarray, memmap, GramOperator or tuple (kernel, X)
        Gram matrix, symmetric n x n.
    Y : Tensor or ndarray of shape (n,) or (n, t)
        Targets.
    weights : Tensor or ndarray of shape (n,), optional
        Sample weights, not negative; dimensionless.
    alphas : sequence of float, of length A
        Ridges, not negative; units of K.
    fit_intercept : bool, default=True
        Whether targets are centred at their weighted mean.
    left_out : Tensor or ndarray of shape (n,), optional
        Weight that leave-one-out takes from each row; None is all of it.
    overwrite : bool, default=False
        Let the eigenvectors take the memory of a dense K.

    Attributes
    ----------
    alphas : Tensor of shape (A,)
        The ridges.
    intercept : Tensor of shape (t,)
        b; units of y.
    eigenvalues : Tensor of shape (n_active,)
        lambda, ascending; n_active counts the rows of positive weight.

    Raises
    ------
    NotPSDError
        If the smallest eigenvalue plus the smallest ridge is not positive.
    ValueError
        For ridges or weights outside their range, or shapes that do not fit.
    """

    def __init__(
        self,
        K: Any,
        Y: Any,
        weights: Any = None,
        *,
        alphas: Any,
        fit_intercept: bool = True,
        left_out: Any = None,
        overwrite: bool = False,
    ) -> None:
        gram = as_operator(K)
        n = gram.shape[0]
        Y = _check_targets(as_tensor(Y, gram.device, gram.dtype), n)
        self.alphas = _check_alphas(as_tensor(alphas, gram.device, gram.dtype))
        self._fit_intercept, self._n = fit_intercept, n
        w = Y.new_ones(n) if weights is None else check_weights(weights, n, Y.device, Y.dtype)
        s = None if left_out is None else as_tensor(left_out, Y.device, Y.dtype)
        self._kept: Tensor | None = None
        if not bool((w > 0).all()):
            kept, left = (w > 0).nonzero()[:, 0], (w == 0).nonzero()[:, 0]
            self._kept, self._left, self._K_left = kept, left, gram.block(left, kept)
            gram, Y, w, overwrite = gram.restrict(kept), Y[kept], w[kept], True
            s = None if s is None else s[kept]
        self._w, self._s = w, s
        self.intercept = (w @ Y) / w.sum() if fit_intercept else torch.zeros_like(Y[0])
        self._Y = Y - self.intercept
        self._decompose(gram.writable(overwrite=overwrite), weighted=weights is not None)

    def _decompose(self, A: Tensor, *, weighted: bool) -> None:
        root = self._w.sqrt()
        if weighted:
            A.mul_(root[:, None]).mul_(root)
        self.eigenvalues, self._V = eigh_(A)
        check_spectrum(self.eigenvalues + self.alphas.min())
        self._inverse = (self.eigenvalues + self.alphas[:, None]).reciprocal()  # (A, n)
        # H applied to W^1/2 [Y, 1], for every ridge in one product.
        B = root[:, None] * torch.cat([self._Y, torch.ones_like(self._Y[:, :1])], dim=1)
        Z = self._V.mT @ B  # (n, t + 1)
        spread = self._inverse.mT[:, :, None] * Z[:, None, :]  # (n, A, t + 1)
        HB = (self._V @ spread.flatten(1)).unflatten(1, spread.shape[1:])
        self._HB = HB.permute(1, 0, 2)  # (A, n, t + 1)
        self._GB = root[:, None] * self._HB

    def _all_rows(self, values: Tensor, fill: Tensor | None = None) -> Tensor:
        """Spread (A, n_active, ...) over all n rows; rows of weight zero get `fill` or zero."""
        if self._kept is None:
            return values
        out = values.new_zeros(values.shape[0], self._n, *values.shape[2:])
        out[:, self._kept] = values
        if fill is not None:
            out[:, self._left] = fill
        return out

    @cached_property
    def dual_coef(self) -> Tensor:
        """G (Y - b) for every ridge, (A, n, t)."""
        return self._all_rows(self._GB[..., :-1])

    @cached_property
    def _inv_diag(self) -> Tensor:
        out = torch.empty_like(self._inverse)
        for rows in row_blocks(len(self._w), 2048):
            out[:, rows] = self._inverse @ self._V[rows].square().mT
        return self._w * out

    @cached_property
    def inv_diag(self) -> Tensor:
        """The diagonal of G for every ridge, (A, n): w_i sum_k V_ik^2 / (lambda_k + alpha)."""
        return self._all_rows(self._inv_diag)

    @cached_property
    def loo_predictions(self) -> Tensor:
        """Exact leave-one-out predictions, (A, n, t); units of y."""
        G_Y, G_1 = self._GB[..., :-1], self._GB[..., -1]
        centred = leave_one_out(
            G_Y,
            G_1,
            self._inv_diag,
            self._Y,
            self._w,
            self._fit_intercept,
            alpha=self.alphas,
            left_out=self._s,
        )
        fill = None if self._kept is None else self._K_left @ G_Y + self.intercept
        # Without a single other row there are no targets to average: the fit is zero.
        mean = self.intercept if len(self._w) > 1 else 0.0
        return self._all_rows(centred + mean, fill)

    @cached_property
    def gcv(self) -> Tensor:
        """Generalized cross-validation score, (A, t); units of y squared.

        With S the matrix that maps targets to fits, intercept included::

            n sum_i w_i (y_i - [S y]_i)^2 / tr(I - S)^2

        where the residual is alpha W^-1 G (y - b) and tr(I - S) = alpha (tr H - 1' G 1 / sum w),
        the last term only with an intercept (Golub, Heath and Wahba 1979, eq. 1.4).
        """
        trace = self._inverse.sum(dim=1)  # (A,)
        if self._fit_intercept:
            trace = trace - self._GB[..., -1].sum(dim=1) / self._w.sum()
        # alpha squared cancels; W^1/2 W^-1 G = H W^1/2.
        squares = self._HB[..., :-1].square().sum(dim=1)  # (A, t)
        return len(self._w) * squares / trace.square()[:, None]


def _check_alphas(alphas: Tensor) -> Tensor:
    if alphas.ndim != 1 or alphas.numel() == 0:
        raise ValueError(f"`alphas` has shape {tuple(alphas.shape)}; expected a list of numbers.")
    bad = ~(torch.isfinite(alphas) & (alphas >= 0))
    if bool(bad.any()):
        value = alphas[bad][0].item()
        raise ValueError(f"`alphas` contains {value:.3g}; expected finite numbers, not negative.")
    return alphas


def _check_targets(Y: Tensor, n: int) -> Tensor:
    if Y.ndim not in (1, 2) or len(Y) != n:
        raise ValueError(f"`Y` has shape {tuple(Y.shape)}; expected ({n},) or ({n}, t).")
    return Y[:, None] if Y.ndim == 1 else Y
