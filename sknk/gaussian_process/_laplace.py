"""The evidence of a softmax Gaussian process by Laplace's approximation."""

import numpy as np
from torch import Tensor

from sknk.gaussian_process._dirichlet import Labelled
from sknk.gaussian_process._hyperparameters import Hyperparameters, Score
from sknk.solvers import LaplaceMode, softmax_mode

__all__ = ["LaplaceScore", "mode_of"]


def mode_of(data: Labelled, K: Tensor, start: LaplaceMode | Tensor | None = None) -> LaplaceMode:
    """Return the mode for the Gram matrix K, amplitude included."""
    weights = None if bool((data.weights == 1).all()) else data.weights
    return softmax_mode(K, data.one_hot, weights, start=start)


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
