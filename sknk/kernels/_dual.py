"""Closed-form duals of smooth activations: error functions and exponentials.

Sources: Williams 1997 (erf), Tsuchida et al. 2021 (GELU), Mairal et al. 2014 (exponential),
collected in Han et al. 2022 (arXiv:2209.04121), table 1. Waves are in `_waves`.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sknk.kernels._activation import SmoothActivation

__all__ = ["GELU", "Erf", "Exp", "Gaussian", "SigmoidLike"]


def determinant(q1: Tensor, q: Tensor, q2: Tensor) -> Tensor:
    """Return q1 q2 - q^2, which rounding must not make negative (Cauchy-Schwarz)."""
    return (q1 * q2 - q * q).clamp(min=0.0)


@dataclass(frozen=True, repr=False)
class Erf(SmoothActivation, name="erf"):
    r"""Error function a erf(b x) + c (Williams 1997, eq. 11).

    With p = b^2 q and so on, and D = sqrt((1 + 2 p1)(1 + 2 p2) - 4 p^2),

    .. math::
        E[\phi\phi] = \frac{2 a^2}{\pi} \operatorname{atan2}(2p, D) + c^2, \qquad
        E[\phi'\phi'] = \frac{4 a^2 b^2}{\pi D} .

    Parameters
    ----------
    a, b, c : float
        Amplitude, steepness and offset.

    Examples
    --------
    >>> from sknk.kernels import NNGP, Erf
    >>> NNGP(depth=1, activation=Erf())
    NNGP(depth=1, activation=Erf())
    >>> Erf(a=0.5, c=0.5)
    Erf(a=0.5, c=0.5)
    """

    a: float = 1.0
    b: float = 1.0
    c: float = 0.0

    def __call__(self, x: Tensor) -> Tensor:
        """Return a erf(b x) + c."""
        return self.a * torch.erf(self.b * x) + self.c

    def dual(self, q1: Tensor, q: Tensor, q2: Tensor) -> Tensor:
        """Return (2 a^2/pi) atan2(2 b^2 q, D) + c^2; the mean of erf is zero."""
        angle = torch.atan2((2.0 * self.b**2) * q, self._root(q1, q, q2))
        return angle * (2.0 * self.a**2 / math.pi) + self.c**2

    def dual_dot(self, q1: Tensor, q: Tensor, q2: Tensor) -> Tensor:
        """Return 4 a^2 b^2 / (pi D)."""
        return (4.0 * (self.a * self.b) ** 2 / math.pi) / self._root(q1, q, q2)

    def _root(self, q1: Tensor, q: Tensor, q2: Tensor) -> Tensor:
        # D^2 = 1 + 2 (p1 + p2) + 4 (p1 p2 - p^2): no difference of large numbers but the last.
        b2 = self.b**2
        return (1.0 + 2.0 * b2 * (q1 + q2) + (4.0 * b2 * b2) * determinant(q1, q, q2)).sqrt()


@dataclass(frozen=True, repr=False)
class SigmoidLike(SmoothActivation, name="sigmoid_like"):
    """Error function in the shape of the logistic sigmoid: erf(x / 2.402...)/2 + 1/2.

    The surrogate of Han et al. 2022 for the sigmoid, whose duals have no closed form
    (:class:`Sigmoid` has them by quadrature).

    Examples
    --------
    >>> import torch
    >>> from sknk.kernels import SigmoidLike
    >>> x = torch.tensor([-2.0, 0.0, 2.0])
    >>> (SigmoidLike()(x) - x.sigmoid()).abs().max().item() < 0.02
    True
    """

    def __call__(self, x: Tensor) -> Tensor:
        """Return erf(x / 2.402...)/2 + 1/2."""
        return _SIGMOID(x)

    def dual(self, q1: Tensor, q: Tensor, q2: Tensor) -> Tensor:
        """Return that of :class:`Erf`."""
        return _SIGMOID.dual(q1, q, q2)

    def dual_dot(self, q1: Tensor, q: Tensor, q2: Tensor) -> Tensor:
        """Return that of :class:`Erf`."""
        return _SIGMOID.dual_dot(q1, q, q2)


_SIGMOID = Erf(a=0.5, b=1.0 / 2.4020563531719796, c=0.5)


@dataclass(frozen=True, repr=False)
class GELU(SmoothActivation, name="gelu"):
    """Gaussian error linear unit x Phi(x), exact (Tsuchida et al. 2021).

    Its duals use p = q1 q2, P = (1 + q1)(1 + q2) and D = sqrt(P - q^2).

    Examples
    --------
    >>> from sknk.kernels import GELU, NTK
    >>> NTK(activation=GELU())
    NTK(activation=GELU())
    """

    def __call__(self, x: Tensor) -> Tensor:
        """Return x Phi(x)."""
        return x * torch.special.ndtr(x)

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
        D = (1.0 + q1 + q2 + determinant(q1, q, q2)).sqrt()
        return p, (1.0 + q1) * (1.0 + q2), D


@dataclass(frozen=True, repr=False)
class Exp(SmoothActivation, name="exp"):
    """Exponential a exp(b x), whose duals grow like exp(2 b^2 q): keep variances near one.

    E[phi phi] = a^2 exp(b^2 ((q1 + q2)/2 + q)) is the mean of a log-normal variable, and
    E[phi' phi'] = b^2 E[phi phi] (Mairal et al. 2014; Daniely et al. 2016). Every layer
    exponentiates the one before: beyond q = 350/b^2 float64 overflows.

    Parameters
    ----------
    a, b : float
        Amplitude and rate.

    Examples
    --------
    >>> from sknk.kernels import NTK, Exp
    >>> NTK(depth=1, activation=Exp(b=0.3), weight_var=1.0)([[1.0], [-1.0]]).round(6)
    array([[1.      , 0.697336],
           [0.697336, 1.      ]])
    """

    a: float = 1.0
    b: float = 1.0

    def __call__(self, x: Tensor) -> Tensor:
        """Return a exp(b x)."""
        return self.a * torch.exp(self.b * x)

    def dual(self, q1: Tensor, q: Tensor, q2: Tensor) -> Tensor:
        """Return a^2 exp(b^2 ((q1 + q2)/2 + q))."""
        return self.a**2 * (self.b**2 * ((q1 + q2) / 2.0 + q)).exp()

    def dual_dot(self, q1: Tensor, q: Tensor, q2: Tensor) -> Tensor:
        """Return b^2 times the dual."""
        return self.b**2 * self.dual(q1, q, q2)


@dataclass(frozen=True, repr=False)
class Gaussian(SmoothActivation, name="gaussian"):
    r"""Gaussian a exp(b x^2), b < 0 (Williams 1997, section 3.2).

    With D = (1 - 2 b q1)(1 - 2 b q2) - 4 b^2 q^2,

    .. math:: E[\phi\phi] = a^2 D^{-1/2}, \qquad E[\phi'\phi'] = 4 a^2 b^2 q\, D^{-3/2} .

    Parameters
    ----------
    a, b : float
        Amplitude and curvature; `b` is negative.

    Examples
    --------
    >>> from sknk.kernels import Gaussian
    >>> Gaussian(b=-0.5)
    Gaussian(b=-0.5)
    """

    a: float = 1.0
    b: float = -1.0

    def __post_init__(self) -> None:
        """Refuse a function that grows.

        Raises
        ------
        ValueError
            If `b` is not negative.
        """
        if not (math.isfinite(self.b) and self.b < 0):
            raise ValueError(f"`b` of Gaussian is {self.b!r}; expected a negative number.")

    def __call__(self, x: Tensor) -> Tensor:
        """Return a exp(b x^2)."""
        return self.a * torch.exp(self.b * x * x)

    def dual(self, q1: Tensor, q: Tensor, q2: Tensor) -> Tensor:
        """Return a^2 / sqrt(D)."""
        return self.a**2 * self._square(q1, q, q2).rsqrt()

    def dual_dot(self, q1: Tensor, q: Tensor, q2: Tensor) -> Tensor:
        """Return 4 a^2 b^2 q / D^(3/2)."""
        D = self._square(q1, q, q2)
        return (4.0 * (self.a * self.b) ** 2) * (q / D) * D.rsqrt()

    def _square(self, q1: Tensor, q: Tensor, q2: Tensor) -> Tensor:
        return 1.0 - 2.0 * self.b * (q1 + q2) + (4.0 * self.b**2) * determinant(q1, q, q2)
