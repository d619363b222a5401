"""Derivatives of scores of a factorized C = K + shift, as matrices to meet dC."""

import torch
from torch import Tensor

from sknk.solvers._base import Factorization

__all__ = [
    "evidence_cotangent",
    "leave_one_out_cotangent",
    "leave_one_out_gradient",
    "sandwich_diagonal",
]


def evidence_cotangent(factor: Factorization, alpha: Tensor, gain: Tensor) -> Tensor:
    r"""Return W = sum_t g_t alpha_t alpha_t' - T C^-1.

    Half of <W, dC> is the derivative of T Gaussian log densities, alpha = C^-1 Y and g = 1
    (Rasmussen and Williams 2006, eq. 5.9). O(n^3) time, one n x n buffer.

    Parameters
    ----------
    factor : Factorization
        Of C; needs ``inv_tiles``.
    alpha : Tensor of shape (n, T)
        C^-1 Y.
    gain : Tensor of shape (T,)
        Weights of the outer products, dimensionless.

    Returns
    -------
    Tensor of shape (n, n)
    """
    scaled = alpha * gain
    W = alpha.new_empty((len(alpha), len(alpha)))
    for rows, columns, inverse in factor.inv_tiles():
        block = torch.addmm(inverse, scaled[rows], alpha[columns].mT, beta=-alpha.shape[1])
        W[rows, columns] = block
        if rows.start != columns.start:
            W[columns, rows] = block.mT
    return W


def leave_one_out_cotangent(
    factor: Factorization, alpha: Tensor, by_alpha: Tensor, by_diagonal: Tensor
) -> tuple[Tensor, Tensor]:
    r"""Return how a function of alpha = C^-1 y and of diag(C^-1) depends on C and on y.

    .. math:: W = -\tfrac12 (v \alpha^\top + \alpha v^\top)
        - C^{-1} \operatorname{diag}(g) C^{-1}, \qquad v = C^{-1} \partial F / \partial \alpha

    summed over columns, and dF = <W, dC> + v' dy, g the derivative by the diagonal: closed-form
    leave-one-out scores are such functions. O(n^3) time, two n x n buffers.

    Parameters
    ----------
    factor : Factorization
        Of C; needs ``inv_tiles``.
    alpha : Tensor of shape (n,) or (n, t)
        C^-1 y.
    by_alpha : Tensor of shape (n,) or (n, t)
        Derivatives of F by alpha.
    by_diagonal : Tensor of shape (n,)
        Derivatives of F by the diagonal of C^-1.

    Returns
    -------
    W : Tensor of shape (n, n)
        Symmetric.
    v : Tensor of shape (n,) or (n, t)
    """
    v = factor.solve(by_alpha)
    inverse = alpha.new_empty((len(alpha), len(alpha)))
    for rows, columns, tile in factor.inv_tiles():
        inverse[rows, columns] = tile
        if rows.start != columns.start:
            inverse[columns, rows] = tile.mT
    W = (inverse * by_diagonal) @ inverse
    columns_of = (v, alpha) if alpha.ndim == 2 else (v[:, None], alpha[:, None])
    W.addmm_(torch.cat(columns_of, 1), torch.cat(columns_of[::-1], 1).mT, beta=-1.0, alpha=-0.5)
    return W, v


def leave_one_out_gradient(
    factor: Factorization,
    solved: Tensor,
    Y: Tensor,
    by_predictions: Tensor,
    weights: Tensor | None = None,
    fit_intercept: bool = True,
) -> Tensor:
    r"""Return how a function of leave-one-out predictions depends on C = K + alpha diag(1/w).

    With r = C^-1 y - m C^-1 1 and B = dF / df, :func:`leave_one_out` being f_i = y_i - r_i / G_ii,

    .. math:: \partial F / \partial r_i = -B_i / G_{ii}, \qquad
        \partial F / \partial G_{ii} = B_i r_i / G_{ii}^2

    and dF = <W, dC>. Each row is left out whole. O(n^3) time, two n x n buffers.

    Parameters
    ----------
    factor : Factorization
        Of C; needs ``inv_tiles``.
    solved : Tensor of shape (n, t + 1)
        C^-1 [Y, 1].
    Y : Tensor of shape (n, t)
        Targets, as they were solved for.
    by_predictions : Tensor of shape (n, t)
        B.
    weights : Tensor of shape (n,), optional
        Positive sample weights w; None means ones.
    fit_intercept : bool, default=True
        Whether each refit centres the targets at their weighted mean.

    Returns
    -------
    Tensor of shape (n, n)
        W, symmetric.
    """
    w = torch.ones_like(Y[:, :1]) if weights is None else weights[:, None]
    m = ((w * Y).sum(dim=0) - w * Y) / (w.sum() - w) * float(fit_intercept)
    gain = 1.0 / factor.inv_diag()[:, None]
    r = solved[:, :-1] - m * solved[:, -1:]
    by_r = -by_predictions * gain
    by_alpha = torch.cat([by_r, -(by_r * m).sum(dim=1, keepdim=True)], dim=1)
    by_diagonal = (by_predictions * r * gain.square()).sum(dim=1)
    return leave_one_out_cotangent(factor, solved, by_alpha, by_diagonal)[0]


def sandwich_diagonal(factor: Factorization, S: Tensor) -> Tensor:
    """Return diag(G S G), G the inverse behind a factor; O(n^3) time, one n x n buffer."""
    GS = factor.solve(S)
    out = S.new_zeros(len(S))
    for rows, columns, G in factor.inv_tiles():
        out[rows] += (GS[rows, columns] * G).sum(1)
        if rows.start != columns.start:
            out[columns] += (GS[columns, rows] * G.mT).sum(1)
    return out
