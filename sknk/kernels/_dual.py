"""Closed-form duals of smooth activations, and the table of activation names.

Sources: Williams 1997 (erf), Tsuchida et al. 2021 (GELU), Pearce et al. 2020 (sine, RBF), collected
in Han et al. 2022 (arXiv:2209.04121).
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sknk.kernels._activation import Activation, SmoothActivation
from sknk.kernels._rectifier import ABReLU, Abs, LeakyReLU, ReLU
from sknk.kernels._state import Features, KernelState, reusable

__all__ = ["GELU", "Erf", "Rbf", "Sin", "as_activation"]


@dataclass(frozen=True)
class Erf(SmoothActivation):
    r"""Error function: E[phi phi] = (2/pi) arcsin(2q / sqrt((1 + 2 q1)(1 + 2 q2))) (Williams 1997).

    Examples
    --------
    >>> from sknk.kernels import NNGP, Erf
    >>> NNGP(depth=1, activation=Erf())
    NNGP(depth=1, activation=Erf())
    """

    def dual(self, q1: Tensor, q: Tensor, q2: Tensor) -> Tensor:
        """Return (2/pi) atan2(2q, D), D = sqrt((1 + 2 q1)(1 + 2 q2) - 4 q^2)."""
        return torch.atan2(2.0 * q, self._discriminant(q1, q, q2)) * (2.0 / math.pi)

    def dual_dot(self, q1: Tensor, q: Tensor, q2: Tensor) -> Tensor:
        """Return 4 / (pi D)."""
        return (4.0 / math.pi) / self._discriminant(q1, q, q2)

    @staticmethod
    def _discriminant(q1: Tensor, q: Tensor, q2: Tensor) -> Tensor:
        # 1 + 2 q1 + 2 q2 is a lower bound (Cauchy-Schwarz) that rounding must not cross.
        below = 1.0 + 2.0 * (q1 + q2)
        return (below + 4.0 * (q1 * q2 - q * q).clamp(min=0.0)).sqrt()


@dataclass(frozen=True)
class GELU(SmoothActivation):
    """Gaussian error linear unit x Phi(x), exact (Tsuchida et al. 2021).

    Its duals use p = q1 q2, P = (1 + q1)(1 + q2) and D = sqrt(P - q^2).

    Examples
    --------
    >>> from sknk.kernels import GELU, NTK
    >>> NTK(activation=GELU())
    NTK(activation=GELU())
    """

    def dual(self, q1: Tensor, q: Tensor, q2: Tensor) -> Tensor:
        """Return [(q^2 + p D^2)/(P D) + q atan2(q, D)]/(2 pi) + q/4, D^2 = P - q^2."""
        p, P, D = self._terms(q1, q, q2)
        return ((q * q + p * D * D) / (P * D) + q * torch.atan2(q, D)) / (2 * math.pi) + q / 4.0

    def dual_dot(self, q1: Tensor, q: Tensor, q2: Tensor) -> Tensor:
        """Return 1/4 + [atan2(q, D) + (q/D)(1/D^2 + (1 - p)/P + 1)]/(2 pi)."""
        p, P, D = self._terms(q1, q, q2)
        tail = (q / D) * (1.0 / (D * D) + (1.0 - p) / P + 1.0)
        return 0.25 + (torch.atan2(q, D) + tail) / (2.0 * math.pi)

    @staticmethod
    def _terms(q1: Tensor, q: Tensor, q2: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        p = q1 * q2
        D = (1.0 + q1 + q2 + (p - q * q).clamp(min=0.0)).sqrt()
        return p, (1.0 + q1) * (1.0 + q2), D


@dataclass(frozen=True)
class Sin(SmoothActivation):
    """Sine a sin(b x + c) (Pearce et al. 2020); `c` = pi/2 is the cosine.

    Parameters
    ----------
    a, b, c : float
        Amplitude, frequency and phase.

    Examples
    --------
    >>> from sknk.kernels import Sin
    >>> Sin(b=2.0)
    Sin(a=1.0, b=2.0, c=0.0)
    """

    a: float = 1.0
    b: float = 1.0
    c: float = 0.0

    def dual(self, q1: Tensor, q: Tensor, q2: Tensor) -> Tensor:
        """Return a^2/2 (s1 - s2 cos 2c)."""
        s1, s2 = self._waves(q1, q, q2)
        # s1 - s2 = tanh(b^2 q)(s1 + s2) does not cancel where rows are short.
        difference = (self.b**2 * q).tanh() * (s1 + s2)
        return (self.a**2 / 2.0) * (difference + 2.0 * math.sin(self.c) ** 2 * s2)

    def dual_dot(self, q1: Tensor, q: Tensor, q2: Tensor) -> Tensor:
        """Return a^2 b^2/2 (s1 + s2 cos 2c)."""
        s1, s2 = self._waves(q1, q, q2)
        return ((self.a * self.b) ** 2 / 2.0) * (s1 + math.cos(2.0 * self.c) * s2)

    def _waves(self, q1: Tensor, q: Tensor, q2: Tensor) -> tuple[Tensor, Tensor]:
        """Return exp(-b^2 E(u - v)^2/2) and exp(-b^2 E(u + v)^2/2)."""
        mean = (q1 + q2) / 2.0
        return (self.b**2 * (q - mean)).exp(), (-(self.b**2) * (q + mean)).exp()


@dataclass(frozen=True)
class Rbf(Activation):
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

    def rows(self, features: Features) -> Features:
        """Return ones: every row has unit variance."""
        return Features.of(torch.ones_like(features.var))

    def propagate(self, state: KernelState, x: Features, y: Features) -> KernelState:
        """Apply E[phi phi] = exp(-gamma D), E[phi' phi'] = 2 gamma exp(-gamma D), D = E(u - v)^2.

        Parameters
        ----------
        state : KernelState
            Of the layer's inputs.
        x, y : Features
            Of its outputs.

        Returns
        -------
        KernelState
            Held as angles: sin2 = (1 - exp(-gamma D))/2 without cancellation.
        """
        state = state.angular()
        assert state.sin2 is not None
        p, q = state.x.norm, state.y.norm
        D = (p - q).square() + 4.0 * (p * q) * state.sin2  # (n, m)
        decay = torch.expm1(-self.gamma * D)
        ntk = state.ntk
        if ntk is not None:
            ntk = torch.mul(ntk, (decay + 1.0) * (2.0 * self.gamma), out=reusable(ntk))
        return replace(state, x=x, y=y, sin2=-0.5 * decay, cos2=None, ntk=ntk)


ACTIVATIONS: dict[str, type[Activation]] = {
    "relu": ReLU,
    "leaky_relu": LeakyReLU,
    "abrelu": ABReLU,
    "abs": Abs,
    "erf": Erf,
    "gelu": GELU,
    "sin": Sin,
    "rbf": Rbf,
}


def as_activation(activation: str | Activation) -> Activation:
    """Return the activation a parameter names.

    Parameters
    ----------
    activation : str or Activation
        A name stands for the class with its default parameters.

    Returns
    -------
    Activation

    Raises
    ------
    ValueError
        For an unknown name.
    TypeError
        For neither a name nor an activation.
    """
    if isinstance(activation, Activation):
        return activation
    if not isinstance(activation, str):
        raise TypeError(
            f"`activation` is {activation!r}; expected a name or an activation such as ReLU()."
        )
    if activation not in ACTIVATIONS:
        raise ValueError(f"`activation` is {activation!r}; expected one of {sorted(ACTIVATIONS)}.")
    return ACTIVATIONS[activation]()
