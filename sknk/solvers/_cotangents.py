"""Derivatives of scores of a factorized C = K + shift, as matrices to meet dC."""

import torch
from torch import Tensor

from sknk.solvers._base import Factorization

__all__ = ["evidence_cotangent", "leave_one_out_cotangent"]


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

    and dF = <W, dC> + v' dy, g the derivative by the diagonal: closed-form leave-one-out scores
    are such functions. O(n^3) time, two n x n buffers.

    Parameters
    ----------
    factor : Factorization
        Of C; needs ``inv_tiles``.
    alpha : Tensor of shape (n,)
        C^-1 y.
    by_alpha, by_diagonal : Tensor of shape (n,)
        Derivatives of F by alpha and by the diagonal of C^-1.

    Returns
    -------
    W : Tensor of shape (n, n)
        Symmetric.
    v : Tensor of shape (n,)
    """
    v = factor.solve(by_alpha)
    inverse = alpha.new_empty((len(alpha), len(alpha)))
    for rows, columns, tile in factor.inv_tiles():
        inverse[rows, columns] = tile
        if rows.start != columns.start:
            inverse[columns, rows] = tile.mT
    W = (inverse * by_diagonal) @ inverse
    left = torch.stack([v, alpha], dim=1)
    W.addmm_(left, left.flip(1).mT, beta=-1.0, alpha=-0.5)
    return W, v
