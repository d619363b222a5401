"""Closed-form duals of waves: sine, cosine, Gabor and random Fourier layers.

Sources: Pearce et al. 2020 (sine, RBF), Han et al. 2022 (arXiv:2209.04121; Gabor).
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sknk.kernels._activation import Activation, SmoothActivation
from sknk.kernels._dual import determinant
from sknk.kernels._layer import Values
from sknk.kernels._state import Features, KernelState, reusable

__all__ = ["Cos", "Gabor", "Rbf", "Sin"]


def _mean_product(b: float, odd: float, q1: Tensor, q: Tensor, q2: Tensor) -> Tensor:
    """Return odd E[sin(b u) sin(b v)] + (1 - odd) E[cos(b u) cos(b v)].

    With s1 = exp(-b^2 E(u - v)^2/2) and s2 = exp(-b^2 E(u + v)^2/2) these means are (s1 - s2)/2 and
    (s1 + s2)/2, and that of a sine and a cosine is zero.

    Parameters
    ----------
    b : float
        Frequency.
    odd : float
        Share of the sines.
    q1, q, q2 : Tensor
        Variance, covariance, variance.

    Returns
    -------
    Tensor
    """
    mean = (q1 + q2) / 2.0
    even = ((b * b * (q - mean)).exp() + (-b * b * (q + mean)).exp()) / 2.0
    # s1 - s2 = tanh(b^2 q)(s1 + s2) does not cancel where rows are short.
    return even * (odd * (b * b * q).tanh() + (1.0 - odd))


@dataclass(frozen=True, repr=False)
class Sin(SmoothActivation, name="sin"):
    """Sine a sin(b x + c) (Pearce et al. 2020).

    It is a cos(c) sin(b x) + a sin(c) cos(b x), and its derivative exchanges the two parts.

    Parameters
    ----------
    a, b, c : float
        Amplitude, frequency and phase.

    Examples
    --------
    >>> from sknk.kernels import Sin
    >>> Sin(b=2.0)
    Sin(b=2.0)
    """

    a: float = 1.0
    b: float = 1.0
    c: float = 0.0

    def __call__(self, x: Tensor) -> Tensor:
        """Return a sin(b x + c)."""
        return self.a * torch.sin(self.b * x + self.c)

    def dual(self, q1: Tensor, q: Tensor, q2: Tensor) -> Tensor:
        """Return a^2/2 (s1 - s2 cos 2c)."""
        return self.a**2 * _mean_product(self.b, math.cos(self.c) ** 2, q1, q, q2)

    def dual_dot(self, q1: Tensor, q: Tensor, q2: Tensor) -> Tensor:
        """Return a^2 b^2/2 (s1 + s2 cos 2c)."""
        steep = (self.a * self.b) ** 2
        return steep * _mean_product(self.b, math.sin(self.c) ** 2, q1, q, q2)


@dataclass(frozen=True, repr=False)
class Cos(SmoothActivation, name="cos"):
    """Cosine a cos(b x + c): :class:`Sin` with a quarter turn added to its phase.

    Parameters
    ----------
    a, b, c : float
        Amplitude, frequency and phase.

    Examples
    --------
    >>> from sknk.kernels import NNGP, Cos
    >>> NNGP(depth=1, activation=Cos(b=0.5))
    NNGP(depth=1, activation=Cos(b=0.5))
    """

    a: float = 1.0
    b: float = 1.0
    c: float = 0.0

    def __call__(self, x: Tensor) -> Tensor:
        """Return a cos(b x + c)."""
        return self.a * torch.cos(self.b * x + self.c)

    def dual(self, q1: Tensor, q: Tensor, q2: Tensor) -> Tensor:
        """Return a^2/2 (s1 + s2 cos 2c)."""
        return self.a**2 * _mean_product(self.b, math.sin(self.c) ** 2, q1, q, q2)

    def dual_dot(self, q1: Tensor, q: Tensor, q2: Tensor) -> Tensor:
        """Return a^2 b^2/2 (s1 - s2 cos 2c)."""
        steep = (self.a * self.b) ** 2
        return steep * _mean_product(self.b, math.cos(self.c) ** 2, q1, q, q2)


@dataclass(frozen=True, repr=False)
class Gabor(SmoothActivation, name="gabor"):
    r"""Gabor wavelet exp(-x^2) sin(x) (Han et al. 2022, table 1).

    With S = q1 + q2, delta = 4(q1 q2 - q^2), d = 1 + 2S + delta and t = 2q/d,

    .. math::
        E[\phi\phi] = \frac{e^{-n}(e^t - 1)}{2\sqrt d}, \qquad
        E[\phi'\phi'] = \frac{e^{-n}}{2 d^{5/2}}
            \left(\sigma(1 + e^t) + \kappa(e^t - 1)\right),

    n = (S + delta + 2q)/(2d), sigma = 1 + 2S + 4(q^2 + q1 q2), kappa = 4q(delta + 3S + 2).

    Examples
    --------
    >>> from sknk.kernels import NTK, Gabor
    >>> NTK(depth=1, activation=Gabor()).diag([[1.0, 1.0]])
    array([1.])
    """

    def __call__(self, x: Tensor) -> Tensor:
        """Return exp(-x^2) sin(x)."""
        return torch.exp(-x * x) * torch.sin(x)

    def dual(self, q1: Tensor, q: Tensor, q2: Tensor) -> Tensor:
        """Return exp(-n) expm1(t) / (2 sqrt(d))."""
        _, d, decay, growth = self._terms(q1, q, q2)
        return 0.5 * decay * growth * d.rsqrt()

    def dual_dot(self, q1: Tensor, q: Tensor, q2: Tensor) -> Tensor:
        """Return exp(-n) [sigma (2 + expm1(t)) + kappa expm1(t)] / (2 d^(5/2))."""
        delta, d, decay, growth = self._terms(q1, q, q2)
        S = q1 + q2
        sigma = 1.0 + 2.0 * S + 4.0 * (q * q + q1 * q2)
        kappa = 4.0 * q * (delta + 3.0 * S + 2.0)
        # kappa and expm1(t) have the sign of q: a sum of positive numbers.
        return 0.5 * decay * (sigma * (2.0 + growth) + kappa * growth) / (d * d) * d.rsqrt()

    @staticmethod
    def _terms(q1: Tensor, q: Tensor, q2: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return delta, d, exp(-n) and expm1(t)."""
        S, delta = q1 + q2, 4.0 * determinant(q1, q, q2)
        d = 1.0 + 2.0 * S + delta
        return delta, d, (-0.5 * (S + delta + 2.0 * q) / d).exp(), torch.expm1(2.0 * q / d)


@dataclass(frozen=True, repr=False)
class Rbf(Activation, name="rbf"):
    """Random Fourier layer sqrt(2) sin(sqrt(2 gamma) x + pi/4): its NNGP is the Gaussian kernel.

    Parameters
    ----------
    gamma : float, default=1.0
        Inverse squared length of the pre-activations.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.gaussian_process.kernels import RBF
    >>> from sknk.kernels import NNGP, Rbf
    >>> X = np.array([[0.0, 1.0], [2.0, 0.0]])
    >>> K = NNGP(depth=1, activation=Rbf(gamma=0.5), weight_var=1.0, normalize=False)(X)
    >>> np.allclose(K, RBF(length_scale=2**0.5)(X))  # inputs enter divided by sqrt(d)
    True
    """

    gamma: float = 1.0

    def __post_init__(self) -> None:
        """Refuse a length that does not exist.

        Raises
        ------
        ValueError
            If `gamma` is not positive.
        """
        if not self.gamma > 0:
            raise ValueError(f"`gamma` is {self.gamma!r}; expected a positive number.")

    def __call__(self, x: Tensor) -> Tensor:
        """Return sqrt(2) sin(sqrt(2 gamma) x + pi/4)."""
        return math.sqrt(2.0) * torch.sin(math.sqrt(2.0 * self.gamma) * x + math.pi / 4.0)

    def second_moment(self, var: Tensor) -> Tensor:
        """Return ones: every row has unit variance."""
        return torch.ones_like(var)

    def propagate(
        self, state: KernelState, x: Features, y: Features, values: Values
    ) -> KernelState:
        """Apply E[phi phi] = exp(-gamma D), E[phi' phi'] = 2 gamma times it, D = E(u - v)^2."""
        state = state.angular()
        assert state.sin2 is not None
        p, q = state.x.norm, state.y.norm
        D = (p - q).square() + 4.0 * (p * q) * state.sin2  # (n, m)
        decay = torch.expm1(-self.gamma * D)
        ntk = state.ntk
        if ntk is not None:
            ntk = torch.mul(ntk, (decay + 1.0) * (2.0 * self.gamma), out=reusable(ntk))
        return replace(state, x=x, y=y, sin2=-0.5 * decay, cos2=None, ntk=ntk)
