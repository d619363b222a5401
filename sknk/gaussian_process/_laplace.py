"""Laplace's approximation of a softmax Gaussian process: its evidence, its joint predictions."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from sknk.gaussian_process._dirichlet import Labelled
from sknk.gaussian_process._hyperparameters import Hyperparameters, Score
from sknk.solvers import LaplaceMode, softmax_mode

__all__ = ["LaplaceScore", "joint_parts", "mode_of"]


def mode_of(data: Labelled, K: Tensor, start: LaplaceMode | Tensor | None = None) -> LaplaceMode:
    """Return the mode for the Gram matrix K, amplitude included."""
    weights = None if bool((data.weights == 1).all()) else data.weights
    return softmax_mode(K, data.one_hot, weights, start=start)


def joint_parts(
    mode: LaplaceMode, K_cross: Tensor, K_new: Tensor
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield S_c and V_c of every class, with which covariances of rows and classes are sums.

    :meth:`LaplaceMode.predict` of all rows together, with its E_c and M::

        cov(f_a, f_b) = delta_ab S_a + V_a' V_b
        S_c = K** - K*' E_c K*        V_c = M^-1 E_c K*

    so that one m x m factorization of each class takes the place of one of (m C) x (m C).
    O(n^2 m + n m^2) time for each class.

    Parameters
    ----------
    mode : LaplaceMode
    K_cross : Tensor of shape (n, m)
        Kernel of the training rows with the new ones.
    K_new : Tensor of shape (m, m)
        Kernel of the new rows.

    Yields
    ------
    tuple of (Tensor of shape (m, m), Tensor of shape (n, m))
        S_c, positive semi-definite but for rounding, and V_c.
    """
    E, M = mode._factors.E, mode._factors.M
    for E_c in E:
        Ek = E_c @ K_cross
        S = torch.addmm(K_new, K_cross.mT, Ek, alpha=-1)
        yield S, torch.linalg.solve_triangular(M, Ek, upper=False)


class LaplaceScore:
    """Laplace's log evidence and its gradient; every mode starts from the last one.

    Parameters
    ----------
    data : Labelled
    """

    def __init__(self, data: Labelled) -> None:
        self.data = data
        self.mode: LaplaceMode | None = None

    def __call__(self, hyper: Hyperparameters, *, gradient: bool = True) -> Score:
        kernel, a = hyper.kernel, hyper["amplitude"]
        K = kernel(self.data.X).mul_(a)
        self.mode = mode = mode_of(self.data, K, self.mode)
        if not gradient:
            return Score(mode.log_evidence)
        W = mode.gram_gradient()
        theta = a * kernel.theta_vjp(self.data.X, None, W) if kernel.n_dims else np.empty(0)
        return Score(mode.log_evidence, theta, {"amplitude": float((W * K).sum())})
