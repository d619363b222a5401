"""Piecewise linear activations: arc-cosine kernels, propagated as angles (Cho & Saul 2009)."""

import math
from abc import abstractmethod
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sknk.kernels._activation import Activation
from sknk.kernels._state import Features, KernelState, reusable

__all__ = ["ABReLU", "Abs", "LeakyReLU", "ReLU", "Rectifier"]

_CENTRE = math.pi**2 / 2

# (sin t - t cos t)/t^3 as a polynomial in t^2/c - 1, c = pi^2/2, lowest power first: interpolation
# at the Chebyshev nodes of [0, pi^2], solved in 60 digits. Degree 6 reaches 4e-10, 10 8e-17.
_DEFICIT = {
    torch.float32: (
        0.19532447581904464,
        -0.1138928210297456,
        0.02188006927098306,
        -0.002108472417702057,
        0.0001225797420416238,
        -4.7813540690541625e-06,
        1.3365504340693685e-07,
    ),
    torch.float64: (
        0.19532447581904464,
        -0.11389282072194494,
        0.02188006926592399,
        -0.0021084748800407043,
        0.00012257978251347944,
        -4.776429792172922e-06,
        1.3357410402838175e-07,
        -2.8131098132945497e-09,
        4.624282073785699e-11,
        -6.101522172065417e-13,
        6.602177750411992e-15,
    ),
}


def sine_deficit(half: Tensor) -> Tensor:
    """Return sin(theta) - theta cos(theta), theta = 2 half in [0, pi], to full precision."""
    # The terms cancel to theta^3/3 near zero. One polynomial serves the whole interval: a branch
    # (torch.where) costs more than its ten fused multiply-adds.
    t = torch.addcmul(half.new_full((), -1.0), half, half, value=4.0 / _CENTRE)
    *rest, next_to_last, last = (8.0 * c for c in _DEFICIT[half.dtype])  # theta^3 = 8 half^3
    p = torch.add(half.new_full((), next_to_last), t, alpha=last)
    for c in reversed(rest):
        p = torch.addcmul(half.new_full((), c), p, t, out=reusable(p))
    for _ in range(3):
        p = torch.mul(p, half, out=reusable(p))
    return p


class Rectifier(Activation):
    r"""Two half-lines through the origin: phi(x) = a min(x, 0) + b max(x, 0).

    With A = (a^2 + b^2)/2, F = (a - b)^2/(2 pi), r = sqrt(q1 q2) and theta the angle,

    .. math::
        E[\phi\phi] = r\,(A\cos\theta + F(\sin\theta - \theta\cos\theta)), \qquad
        E[\phi'\phi'] = A - F\theta .
    """

    @property
    @abstractmethod
    def slopes(self) -> tuple[float, float]:
        """Slopes (a, b) left and right of zero."""

    def __post_init__(self) -> None:
        """Refuse the zero function, whose kernel is zero.

        Raises
        ------
        ValueError
            If both slopes are zero or one is not finite.
        """
        a, b = self.slopes
        if not (math.isfinite(a) and math.isfinite(b) and (a or b)):
            raise ValueError(
                f"{self!r} has slopes {a!r} and {b!r}; expected finite slopes, not both zero."
            )

    @property
    def _constants(self) -> tuple[float, float]:
        a, b = self.slopes
        return (a * a + b * b) / 2.0, (a - b) ** 2 / (2.0 * math.pi)  # A, F

    def rows(self, features: Features) -> Features:
        """Return A times the variance of every row."""
        return Features.of(self._constants[0] * features.var)

    def propagate(self, state: KernelState, x: Features, y: Features) -> KernelState:
        """Propagate angles: 1 - cos theta' = 1 - cos theta - (F/A)(sin theta - theta cos theta)."""
        state = state.angular()
        A, F = self._constants
        half = state.half_angle()  # (n, m)
        ntk = state.ntk
        if ntk is not None:
            dot = torch.add(half.new_full((), A), half, alpha=-2.0 * F)
            ntk = torch.mul(ntk, dot, out=reusable(ntk))
        sin2, half = self._fold(state, half)
        sin2 = torch.add(sin2, sine_deficit(half), alpha=-F / (2.0 * A), out=reusable(sin2))
        return replace(state, x=x, y=y, sin2=sin2, cos2=None, ntk=ntk)

    def _fold(self, state: KernelState, half: Tensor) -> tuple[Tensor, Tensor]:
        """Return sin^2(theta/2) and theta/2 as they enter the covariance."""
        assert state.sin2 is not None
        return state.sin2, half


@dataclass(frozen=True)
class ReLU(Rectifier):
    """Rectified linear unit max(x, 0): the arc-cosine kernel of order 1 (Cho & Saul 2009).

    Examples
    --------
    >>> from sknk.kernels import NTK, ReLU
    >>> NTK(activation=ReLU())(([[1.0, 0.0]])).round(6)
    array([[0.5]])
    """

    @property
    def slopes(self) -> tuple[float, float]:
        """Slopes (0, 1)."""
        return 0.0, 1.0


@dataclass(frozen=True)
class LeakyReLU(Rectifier):
    """Leaky rectifier: slope `negative_slope` left of zero, 1 right of it.

    Parameters
    ----------
    negative_slope : float, default=0.01
        Dimensionless; 1 is the identity, -1 the absolute value.

    Examples
    --------
    >>> from sknk.kernels import LeakyReLU
    >>> LeakyReLU(negative_slope=0.3).slopes
    (0.3, 1.0)
    """

    negative_slope: float = 0.01

    @property
    def slopes(self) -> tuple[float, float]:
        """Slopes (negative_slope, 1)."""
        return self.negative_slope, 1.0


@dataclass(frozen=True)
class ABReLU(Rectifier):
    """Rectifier with any two slopes: a min(x, 0) + b max(x, 0).

    Parameters
    ----------
    a, b : float
        Slopes left and right of zero, dimensionless; not both zero.

    Examples
    --------
    >>> from sknk.kernels import ABReLU
    >>> ABReLU(a=-0.5, b=1.0)
    ABReLU(a=-0.5, b=1.0)
    """

    a: float = 0.0
    b: float = 1.0

    @property
    def slopes(self) -> tuple[float, float]:
        """Slopes (a, b)."""
        return self.a, self.b


@dataclass(frozen=True)
class Abs(Rectifier):
    """Absolute value: an even function, so antipodal rows coincide after it.

    Examples
    --------
    >>> from sknk.kernels import Abs
    >>> Abs().slopes
    (-1.0, 1.0)
    """

    @property
    def slopes(self) -> tuple[float, float]:
        """Slopes (-1, 1)."""
        return -1.0, 1.0

    def _fold(self, state: KernelState, half: Tensor) -> tuple[Tensor, Tensor]:
        """Reflect obtuse angles: antipodal rows must not cancel to coincidence."""
        assert state.sin2 is not None
        cos2 = 1.0 - state.sin2 if state.cos2 is None else state.cos2
        return torch.minimum(state.sin2, cos2), torch.minimum(half, math.pi / 2 - half)
