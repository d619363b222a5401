"""What an activation is to a kernel: a pair of dual functions.

For centred Gaussians (u, v) with variances q1, q2 and covariance q, phi has the duals
E[phi(u) phi(v)] and E[phi'(u) phi'(v)] (Cho & Saul 2009; Jacot et al. 2018; Han et al. 2022).
"""

from abc import ABC, abstractmethod
from dataclasses import replace

import torch
from torch import Tensor

from sknk.kernels._state import KernelState, reusable

__all__ = ["Activation", "SmoothActivation"]


class Activation(ABC):
    """An activation layer: ``nngp <- E[phi phi]``, ``ntk <- E[phi' phi'] ntk``."""

    @abstractmethod
    def propagate(self, state: KernelState) -> KernelState:
        """Return the state after this layer; may overwrite the pairs of `state`."""


class SmoothActivation(Activation):
    """An activation whose duals are formulas in (q1, q, q2)."""

    @abstractmethod
    def dual(self, q1: Tensor, q: Tensor, q2: Tensor) -> Tensor:
        """Return E[phi(u) phi(v)], broadcast over the arguments."""

    @abstractmethod
    def dual_dot(self, q1: Tensor, q: Tensor, q2: Tensor) -> Tensor:
        """Return E[phi'(u) phi'(v)], broadcast over the arguments."""

    def propagate(self, state: KernelState) -> KernelState:
        """Apply the duals to covariances, tangents and both diagonals."""
        state = state.covariance()
        assert state.cov is not None
        q1, q, q2 = state.pair(state.var_x), state.cov, state.pair(state.var_y)
        ntk = state.ntk
        if ntk is not None:
            ntk = torch.mul(ntk, self.dual_dot(q1, q, q2), out=reusable(ntk))
        var_x, var_y = (self.dual(v, v, v) for v in (state.var_x, state.var_y))
        return replace(state, var_x=var_x, var_y=var_y, cov=self.dual(q1, q, q2), ntk=ntk)
