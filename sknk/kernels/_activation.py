"""What an activation is to a kernel: a pair of dual functions.

For centred Gaussians (u, v) with variances q1, q2 and covariance q, phi has the duals
E[phi(u) phi(v)] and E[phi'(u) phi'(v)] (Cho & Saul 2009; Jacot et al. 2018; Han et al. 2022).
"""

from abc import ABC, abstractmethod
from dataclasses import replace

import torch
from torch import Tensor

from sknk.kernels._state import Features, KernelState, reusable

__all__ = ["Activation", "SmoothActivation"]


class Activation(ABC):
    """An activation layer: ``nngp <- E[phi phi]``, ``ntk <- E[phi' phi'] ntk``."""

    def dtype(self, wanted: torch.dtype, rows: torch.dtype) -> torch.dtype:
        """Return the dtype in which pairs keep the digits of `wanted`; angles do in their own."""
        return wanted

    @abstractmethod
    def rows(self, features: Features) -> Features:
        """Return every row's variance after this layer."""

    @abstractmethod
    def propagate(self, state: KernelState, x: Features, y: Features) -> KernelState:
        """Return the state after this layer; may overwrite the pairs of `state`.

        Parameters
        ----------
        state : KernelState
            Of the layer's inputs.
        x, y : Features
            Of its outputs, from :meth:`rows`.

        Returns
        -------
        KernelState
        """


class SmoothActivation(Activation):
    """An activation whose duals are formulas in (q1, q, q2)."""

    def dtype(self, wanted: torch.dtype, rows: torch.dtype) -> torch.dtype:
        """Return the rows' dtype: covariances of long rows cancel in these formulas."""
        return rows

    @abstractmethod
    def dual(self, q1: Tensor, q: Tensor, q2: Tensor) -> Tensor:
        """Return E[phi(u) phi(v)], broadcast over the arguments."""

    @abstractmethod
    def dual_dot(self, q1: Tensor, q: Tensor, q2: Tensor) -> Tensor:
        """Return E[phi'(u) phi'(v)], broadcast over the arguments."""

    def rows(self, features: Features) -> Features:
        """Return E[phi(u)^2] of every row."""
        return Features.of(self.dual(features.var, features.var, features.var))

    def propagate(self, state: KernelState, x: Features, y: Features) -> KernelState:
        """Apply the duals to covariances and tangents."""
        state = state.covariance()
        assert state.cov is not None
        q1, q, q2 = state.x.var, state.cov, state.y.var
        ntk = state.ntk
        if ntk is not None:
            ntk = torch.mul(ntk, self.dual_dot(q1, q, q2), out=reusable(ntk))
        return replace(state, x=x, y=y, cov=self.dual(q1, q, q2), ntk=ntk)
