"""Roots of small covariance matrices, many at a time."""

import torch
from torch import Tensor

__all__ = ["symmetric_roots"]


def symmetric_roots(C: Tensor) -> Tensor:
    """Return the symmetric S with S S = C of each covariance; O(b k^3).

    Unlike a Cholesky factor it exists for singular ones, such as those of arms nothing tells apart;
    eigenvalues that rounding made negative count as zero.

    Parameters
    ----------
    C : Tensor of shape (b, k, k)
        Symmetric, positive semidefinite up to rounding.

    Returns
    -------
    Tensor of shape (b, k, k)
    """
    eigenvalues, V = torch.linalg.eigh(C)
    return (V * eigenvalues.clamp(min=0.0).sqrt()[:, None, :]) @ V.mT
