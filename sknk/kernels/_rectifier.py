"""Piecewise linear activations: arc-cosine kernels, propagated as angles (Cho & Saul 2009)."""

import math
from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from sknk.kernels._activation import Activation
from sknk.kernels._adjoint import Rectified, reverse_mode
from sknk.kernels._layer import Values
from sknk.kernels._state import Features, KernelState, half_angle, reusable

__all__ = ["ABReLU", "Abs", "LeakyReLU", "ReLU"]


class Rectifier(Activation):
    r"""Two half-lines through the origin: phi(x) = a min(x, 0) + b max(x, 0).

    With A = (a^2 + b^2)/2, F = (a - b)^2/(2 pi), r = sqrt(q1 q2) and theta the angle,

    .. math::
        E[\phi\phi] = r\,(A\cos\theta + F(\sin\theta - \theta\cos\theta)), \qquad
        E[\phi'\phi'] = A - F\theta .
    """

    homogeneous: ClassVar[bool] = True

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
    def moments(self) -> tuple[float, float]:
        """The constants (A, F)."""
        a, b = self.slopes
        return (a * a + b * b) / 2.0, (a - b) ** 2 / (2.0 * math.pi)

    def __call__(self, x: Tensor) -> Tensor:
        """Return a min(x, 0) + b max(x, 0)."""
        a, b = self.slopes
        return a * x.clamp(max=0.0) + b * x.clamp(min=0.0)

    def second_moment(self, var: Tensor) -> Tensor:
        """Return A times the variance."""
        return self.moments[0] * var

    def propagate(
        self, state: KernelState, x: Features, y: Features, values: Values
    ) -> KernelState:
        """Propagate angles: sin2 <- sin2 - F/(2A) (sin theta - theta cos theta)."""
        state = state.angular()
        assert state.sin2 is not None
        if reverse_mode(state.sin2, state.ntk):
            sin2, ntk = Rectified.apply(self, state.sin2, state.cos2, state.ntk)
            return replace(state, x=x, y=y, sin2=sin2, cos2=None, ntk=ntk)
        sin2, half = self.advance(state.sin2, state.cos2)
        ntk = state.ntk
        if ntk is not None:
            ntk = torch.mul(ntk, self.dual_dot(half), out=reusable(ntk))
        return replace(state, x=x, y=y, sin2=sin2, cos2=None, ntk=ntk)

    def dual_dot(self, half: Tensor) -> Tensor:
        """Return E[phi' phi'] = A - F theta, half = theta / 2."""
        A, F = self.moments
        return torch.add(half.new_full((), A), half, alpha=-2.0 * F)

    def advance(self, sin2: Tensor, cos2: Tensor | None) -> tuple[Tensor, Tensor]:
        """Take the step on angles, which it leaves as they are.

        Parameters
        ----------
        sin2, cos2 : Tensor of shape (n, m)
            As in :class:`KernelState`.

        Returns
        -------
        sin2 : Tensor of shape (n, m)
            After the step.
        half : Tensor of shape (n, m)
            Half the angle before it.
        """
        A, F = self.moments
        sine, cosine, half = half_angle(sin2, cos2)  # (n, m), of theta / 2
        folded, cos_theta, acute = self._fold(sin2, cos2, sine, cosine, half)
        # sin theta - theta cos theta = 2 (sin cos - half cos theta) cancels to theta^3/3, with an
        # error of eps theta: in sin2, of size theta^2/4, an error of eps in the angle itself.
        deficit = torch.mul(sine, cosine, out=reusable(sine))
        deficit = torch.addcmul(deficit, acute, cos_theta, value=-1.0, out=reusable(deficit))
        return torch.add(folded, deficit, alpha=-F / A, out=reusable(deficit)), half

    def _fold(
        self, sin2: Tensor, cos2: Tensor | None, sine: Tensor, cosine: Tensor, half: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return sin^2(theta/2), cos theta and theta/2 as they enter the covariance."""
        return sin2, torch.add(half.new_ones(()), sin2, alpha=-2.0), half


@dataclass(frozen=True, repr=False)
class ReLU(Rectifier, name="relu"):
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


@dataclass(frozen=True, repr=False)
class LeakyReLU(Rectifier, name="leaky_relu"):
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


@dataclass(frozen=True, repr=False)
class ABReLU(Rectifier, name="abrelu"):
    """Rectifier with any two slopes: a min(x, 0) + b max(x, 0).

    Parameters
    ----------
    a, b : float
        Slopes left and right of zero, dimensionless; not both zero.

    Examples
    --------
    >>> from sknk.kernels import ABReLU
    >>> ABReLU(a=-0.5, b=1.0)
    ABReLU(a=-0.5)
    """

    a: float = 0.0
    b: float = 1.0

    @property
    def slopes(self) -> tuple[float, float]:
        """Slopes (a, b)."""
        return self.a, self.b


@dataclass(frozen=True, repr=False)
class Abs(Rectifier, name="abs"):
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

    def _fold(
        self, sin2: Tensor, cos2: Tensor | None, sine: Tensor, cosine: Tensor, half: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Reflect obtuse angles: antipodal rows must not cancel to coincidence."""
        sin2 = torch.minimum(sin2, 1.0 - sin2 if cos2 is None else cos2)
        return sin2, 1.0 - 2.0 * sin2, torch.minimum(sine, cosine).asin()
