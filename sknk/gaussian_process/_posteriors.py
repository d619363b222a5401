"""What an estimator knows after training: means and covariances of the latent function at new rows.

Every posterior has ``mean`` and ``variance`` of blocks of rows, and ``covariance`` of a few; scales
and noise are the estimator's business. Kernels are multiplied by the amplitude a.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from sknk.kernels._base import Kernel
from sknk.solvers import Factorization, InducingPosterior
from sknk.solvers._sparse import clip_rounding

__all__ = [
    "EnsemblePosterior",
    "ExactPosterior",
    "FlowPosterior",
    "Posterior",
    "SparsePosterior",
    "flow_filter",
]

Filter = Callable[[Tensor], Tensor]


class Posterior(Protocol):
    """Means and variances of blocks of new rows."""

    def mean(self, X: Tensor) -> Tensor:
        """Return posterior means, (m, t)."""

    def moments(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """Return posterior means (m, t) and variances (m, t), never a full covariance."""

    def covariance(self, X: Tensor) -> Tensor:
        """Return posterior covariances of the rows, (m, m) or (t, m, m)."""


def flow_filter(time: float) -> Filter:
    """Return lambda -> (1 - exp(-lambda t))/lambda: the inverse that gradient flow has reached."""

    def h(eigenvalues: Tensor) -> Tensor:
        return -torch.expm1(-time * eigenvalues) / eigenvalues

    return h


class _DualPosterior(ABC):
    """A posterior whose mean is a K(X, X_fit) dual."""

    def __init__(
        self,
        kernel: Kernel,
        amplitude: float,
        X_fit: Tensor,
        factor: Factorization,
        dual: Tensor,
    ) -> None:
        self.kernel, self.amplitude, self.X_fit = kernel, amplitude, X_fit
        self.factor, self.dual = factor, dual

    def mean(self, X: Tensor) -> Tensor:
        """Return a K(X, X_fit) dual, (m, t), K never stored."""
        return self.amplitude * self.kernel.matmul(X, self.X_fit, self.dual)

    def moments(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """Return means and variances, (m, t) each; O(n m) memory."""
        prior = self._prior(X)
        K, variance = self._cross_and_variance(X, prior)
        variance = clip_rounding(variance, prior)
        return K.mT @ self.dual, variance[:, None].expand(-1, self.dual.shape[1])

    def _cross(self, X: Tensor) -> Tensor:
        """Return a K(X_fit, X), (n, m)."""
        return self.kernel(self.X_fit, X).mul_(self.amplitude)

    def _prior(self, X: Tensor) -> Tensor:
        return self.amplitude * self.kernel.diag(X)

    @abstractmethod
    def _cross_and_variance(self, X: Tensor, prior: Tensor) -> tuple[Tensor, Tensor]:
        """Return a K(X_fit, X), (n, m), and variances (m,)."""

    @abstractmethod
    def covariance(self, X: Tensor) -> Tensor:
        """Return the covariance of the rows, (m, m)."""


class ExactPosterior(_DualPosterior):
    """Gaussian process conditioned on all rows (Rasmussen and Williams 2006, algorithm 2.1)."""

    def _cross_and_variance(self, X: Tensor, prior: Tensor) -> tuple[Tensor, Tensor]:
        K = self._cross(X)
        return K, prior - self.factor.half_solve(K).square_().sum(0)

    def covariance(self, X: Tensor) -> Tensor:
        """Return a K** - V'V, V = L^-1 a K(X_fit, X)."""
        V = self.factor.half_solve(self._cross(X))
        return torch.addmm(self.amplitude * self.kernel(X), V.mT, V, alpha=-1)


class FlowPosterior(_DualPosterior):
    r"""Gradient flow stopped at time t, from a draw of the prior (Lee et al. 2019, section 2.3).

    .. math:: K_{**} - K_*^\top V \operatorname{diag}\frac{1 - e^{-2\lambda t}}{\lambda} V^\top K_*
    """

    def __init__(
        self,
        kernel: Kernel,
        amplitude: float,
        X_fit: Tensor,
        factor: Factorization,
        dual: Tensor,
        time: float,
    ) -> None:
        super().__init__(kernel, amplitude, X_fit, factor, dual)
        self._filter = flow_filter(2.0 * time)

    def _cross_and_variance(self, X: Tensor, prior: Tensor) -> tuple[Tensor, Tensor]:
        K = self._cross(X)
        return K, prior - self.factor.filter(self._filter, K).mul_(K).sum(0)

    def covariance(self, X: Tensor) -> Tensor:
        """Return the formula of the class."""
        K = self._cross(X)
        gain = self.factor.filter(self._filter, K)
        return torch.addmm(self.amplitude * self.kernel(X), K.mT, gain, alpha=-1)


class EnsemblePosterior(_DualPosterior):
    r"""Law of an infinite ensemble of trained networks (Lee et al. 2019, eq. 16).

    .. math:: \Sigma_{**} + A \Sigma A^\top - A \Sigma_* - \Sigma_*^\top A^\top, \qquad
        A = \Theta_*^\top \Theta^{-1}

    with the NNGP kernel Sigma, the tangent kernel Theta with noise, and for a finite time the
    inverse that gradient flow has reached.

    Parameters
    ----------
    kernel, amplitude, X_fit, factor, dual
        Of the tangent kernel.
    nngp : Tensor of shape (n, n)
        a Sigma of the training rows.
    respond : callable
        B -> Theta^-1 B, or what flow has reached of it.
    """

    def __init__(
        self,
        kernel: Kernel,
        amplitude: float,
        X_fit: Tensor,
        factor: Factorization,
        dual: Tensor,
        nngp: Tensor,
        respond: Callable[[Tensor], Tensor],
    ) -> None:
        super().__init__(kernel, amplitude, X_fit, factor, dual)
        self.nngp, self._respond = nngp, respond

    def _prior(self, X: Tensor) -> Tensor:
        return self.amplitude * self.kernel.joint_diag(X)[0]

    def _joint_cross(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """Return a Sigma(X_fit, X) and a Theta(X_fit, X), (n, m) each."""
        nngp, ntk = self.kernel.joint(self.X_fit, X)
        return nngp.mul_(self.amplitude), ntk.mul_(self.amplitude)

    def _cross_and_variance(self, X: Tensor, prior: Tensor) -> tuple[Tensor, Tensor]:
        nngp, ntk = self._joint_cross(X)
        A = self._respond(ntk)  # (n, m)
        return ntk, prior - (A * (2.0 * nngp - self.nngp @ A)).sum(0)

    def covariance(self, X: Tensor) -> Tensor:
        """Return the formula of the class."""
        nngp, ntk = self._joint_cross(X)
        A = self._respond(ntk)
        own = self.amplitude * self.kernel.joint(X)[0]
        cross = A.mT @ nngp
        return own + A.mT @ (self.nngp @ A) - cross - cross.mT


class SparsePosterior:
    """Gaussian process known through inducing rows Z.

    Parameters
    ----------
    kernel, amplitude
        As everywhere.
    Z : Tensor of shape (k, d)
        Inducing rows.
    law : InducingPosterior
        Of the process at Z.
    """

    def __init__(self, kernel: Kernel, amplitude: float, Z: Tensor, law: InducingPosterior) -> None:
        self.kernel, self.amplitude, self.Z, self.law = kernel, amplitude, Z, law

    def cross(self, X: Tensor) -> Tensor:
        """Return a K(Z, X), (k, m)."""
        return self.amplitude * self.kernel(self.Z, X)

    def mean(self, X: Tensor) -> Tensor:
        """Return posterior means, (m, t)."""
        return self.moments(X)[0]

    def moments(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """Return posterior means and variances, (m, t) each."""
        return self.law.predict(self.cross(X), self.amplitude * self.kernel.diag(X))

    def covariance(self, X: Tensor) -> Tensor:
        """Return posterior covariances, (m, m) or (t, m, m)."""
        return self.law.covariance(self.cross(X), self.amplitude * self.kernel(X))
