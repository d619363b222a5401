"""Gradients of Gram matrices: the result of ``Kernel.vjp``, and its place in autograd."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["Gram", "KernelGradient"]


@dataclass(frozen=True)
class KernelGradient:
    """Gradient of sum(W * K(X, Y)).

    Attributes
    ----------
    theta : ndarray of shape (n_theta,)
        With respect to log hyperparameters, in the order of ``kernel.theta``.
    X : ndarray or Tensor of shape (n, d)
        With respect to the rows; in symmetric calls through both arguments.
    Y : ndarray or Tensor of shape (m, d) or None
        None in symmetric calls.
    """

    theta: np.ndarray
    X: Any
    Y: Any


class Gram(torch.autograd.Function):
    """A Gram matrix whose backward pass is :meth:`Kernel.vjp`: O(n m) memory at any depth."""

    @staticmethod
    def forward(ctx: Any, kernel: Any, X: Tensor, Y: Tensor | None) -> Tensor:
        ctx.kernel = kernel
        ctx.save_for_backward(X, Y)
        return kernel(X, Y)

    @staticmethod
    def backward(ctx: Any, W: Tensor) -> tuple[None, Tensor, Tensor | None]:
        X, Y = ctx.saved_tensors
        found = ctx.kernel.vjp(X.detach(), None if Y is None else Y.detach(), W)
        return None, found.X.to(X.dtype), None if Y is None else found.Y.to(Y.dtype)
