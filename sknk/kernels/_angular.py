"""Activations whose duals see rows through their angle: the sign and the normalized Gaussian.

Pairs stay angles, sin2 = sin^2(theta/2), so that nearly coincident rows keep their distance. Powers
of the rectifier are in `_arccosine`.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from sknk.kernels._activation import Activation
from sknk.kernels._layer import Function, Values
from sknk.kernels._state import Features, KernelState, half_angle, reusable

__all__ = ["ExpNormalized", "Sign"]


def resolved_angles(state: KernelState) -> tuple[Tensor, Tensor | None]:
    """Return sin2 and cos2 of a state, zero where the angle is of rounding size.

    Steps take square roots of small angles, layer after layer: 1e-16 would become 1e-4. Covariances
    resolve sin2 to eps, states that hold angles resolve the angles to eps.

    Parameters
    ----------
    state : KernelState
        Held as angles or as covariances.

    Returns
    -------
    sin2 : Tensor of shape (n, m)
    cos2 : Tensor of shape (n, m) or None
    """
    state = state.angular()  # what covariances do not resolve is zero already
    assert state.sin2 is not None
    nothing = (4.0 * torch.finfo(state.sin2.dtype).eps) ** 2
    sin2, cos2 = state.sin2, state.cos2
    return torch.where(sin2 > nothing, sin2, 0.0), (
        None if cos2 is None else torch.where(cos2 > nothing, cos2, 0.0)
    )


def exact_half_angle(sin2: Tensor, cos2: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Return sine, cosine and size of half the angle, exactly zero at coincidence."""
    sine, cosine, half = half_angle(sin2, cos2)
    apart = sin2 > 0.0  # half_angle puts the smallest positive number there
    return torch.where(apart, sine, 0.0), cosine, torch.where(apart, half, 0.0)


def without_tangents(ntk: Tensor | None) -> Tensor | None:
    """Flat pieces pass no tangents on: E[phi' phi'] = 0."""
    return None if ntk is None else torch.zeros_like(ntk)


@dataclass(frozen=True, repr=False)
class Sign(Activation, name="sign"):
    r"""Sign of x: E[phi phi] = 1 - 2 theta/pi (Sheppard 1899), and no tangents.

    After it sin2 = theta/pi: a square root of the distance, so networks of signs are rough, and
    their kernels have a cusp at coincident rows, where the gradient is 0 by convention. The NTK is
    that of the last layer alone, the NNGP kernel.

    Examples
    --------
    >>> from sknk.kernels import NNGP, Sign
    >>> K = NNGP(depth=1, activation=Sign(), weight_var=1.0)([[1.0, 0.0], [1.0, 1.0]])
    >>> K.round(6)
    array([[1. , 0.5],
           [0.5, 1. ]])
    """

    def __call__(self, x: Tensor) -> Tensor:
        """Return -1, 0 or 1."""
        return torch.sign(x)

    def second_moment(self, var: Tensor) -> Tensor:
        """Return one, zero for zero rows."""
        return (var > 0).to(var.dtype)

    def propagate(
        self, state: KernelState, x: Features, y: Features, values: Values
    ) -> KernelState:
        """Propagate angles: sin2 <- theta/pi, cos2 <- 1 - theta/pi."""
        sin2, cos2 = resolved_angles(state)
        half = exact_half_angle(sin2, cos2)[2]
        if cos2 is not None:  # the complement of the angle, from the side where it is small
            cos2 = exact_half_angle(cos2, sin2)[2] * (2.0 / math.pi)
        ntk = without_tangents(state.ntk)
        return replace(state, x=x, y=y, sin2=half * (2.0 / math.pi), cos2=cos2, cov=None, ntk=ntk)


@dataclass(frozen=True, repr=False)
class ExpNormalized(Activation, name="exp_normalized"):
    r"""Normalized Gaussian kernel: rows keep their norms, cosines c become exp(gamma (c - 1)).

    .. math:: E[\phi\phi] = r e^{\gamma(c - 1)}, \qquad E[\phi'\phi'] = \gamma e^{\gamma(c - 1)}

    with r the product of the norms (Shankar et al. 2020; Han et al. 2022). As a network it
    divides a row by its root mean square, applies phi, the sum of sqrt(gamma^j e^-gamma / j!) h_j
    with normalized Hermite polynomials h_j, and multiplies it back.

    Parameters
    ----------
    gamma : float, default=1.0
        Inverse squared length on the sphere.

    Examples
    --------
    >>> from sknk.kernels import NNGP, ExpNormalized
    >>> K = NNGP(depth=1, activation=ExpNormalized(), weight_var=1.0)([[1.0, 0.0], [0.0, 1.0]])
    >>> K.round(6)
    array([[0.5    , 0.18394],
           [0.18394, 0.5    ]])
    """

    gamma: float = 1.0

    def __post_init__(self) -> None:
        """Refuse a length that does not exist.

        Raises
        ------
        ValueError
            If `gamma` is not positive.
        """
        if not (math.isfinite(self.gamma) and self.gamma > 0):
            raise ValueError(
                f"`gamma` of ExpNormalized is {self.gamma!r}; expected a positive number."
            )

    def __call__(self, x: Tensor) -> Tensor:
        """Return phi(x) at unit variance, by its Hermite series."""
        before, now = torch.zeros_like(x), torch.ones_like(x)
        weight = math.exp(-self.gamma / 2.0)
        total = weight * now
        for j in range(1, math.ceil(self.gamma + 10.0 * self.gamma**0.5) + 50):
            before, now = now, (x * now - math.sqrt(j - 1) * before) / math.sqrt(j)
            weight *= math.sqrt(self.gamma / j)
            total = total + weight * now
        return total

    def finite(self, example: Tensor, width: int, generator: torch.Generator) -> nn.Module:
        """Return phi between a division by the root mean square of the features and its inverse."""

        def forward(x: Tensor) -> Tensor:
            scale = x.square().mean(1, keepdim=True).sqrt()
            return scale * self(x / scale)

        return Function(forward)

    def second_moment(self, var: Tensor) -> Tensor:
        """Return the variance itself."""
        return var

    def propagate(
        self, state: KernelState, x: Features, y: Features, values: Values
    ) -> KernelState:
        """Propagate angles: sin2 <- (1 - exp(-2 gamma sin2))/2."""
        state = state.angular()
        assert state.sin2 is not None
        decay = torch.expm1((-2.0 * self.gamma) * state.sin2)
        ntk = state.ntk
        if ntk is not None:
            ntk = torch.mul(ntk, self.gamma * (decay + 1.0), out=reusable(ntk))
        return replace(state, x=x, y=y, sin2=-0.5 * decay, cos2=None, ntk=ntk)
