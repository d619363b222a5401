"""Activations whose duals see rows through their angle: arc-cosine kernels of any order, and signs.

Pairs stay angles, sin2 = sin^2(theta/2), so that nearly coincident rows keep their distance. Sources:
Cho & Saul 2009 (arc-cosine kernels), Shankar et al. 2020 (normalized Gaussian).
"""

import math
from abc import abstractmethod
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sknk.kernels._activation import Activation
from sknk.kernels._layer import Finite, Values
from sknk.kernels._state import Features, KernelState, half_angle, reusable

__all__ = ["ExpNormalized", "RectifiedMonomial", "Sign", "Step"]


def _halves(sin2: Tensor, cos2: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Return sine, cosine and size of theta/2, the last exactly zero where rows coincide.

    Steps divide small angles by their square roots, layer after layer: the smallest positive number
    that :func:`half_angle` puts there would grow to 1e-5.
    """
    sine, cosine, half = half_angle(sin2, cos2)
    return sine, cosine, torch.where(sin2 > torch.finfo(sin2.dtype).tiny, half, 0.0)


def _without_tangents(ntk: Tensor | None) -> Tensor | None:
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
        """Propagate angles: sin2 <- theta/pi, cos2 <- 1 - theta/pi.

        Parameters
        ----------
        state : KernelState
            Of the layer's inputs.
        x, y : Features
            Of its outputs.
        values : mapping of str to Tensor
            Empty.

        Returns
        -------
        KernelState
        """
        state = state.angular()
        assert state.sin2 is not None
        _, _, half = _halves(state.sin2, state.cos2)
        cos2 = state.cos2
        if cos2 is not None:
            # The complement of the angle, from the side where it is small.
            _, _, rest = _halves(cos2, state.sin2)
            cos2 = rest * (2.0 / math.pi)
        ntk = _without_tangents(state.ntk)
        return replace(state, x=x, y=y, sin2=half * (2.0 / math.pi), cos2=cos2, ntk=ntk)


class ArcCosine(Activation):
    r"""Powers of the rectifier, max(x, 0)^n: the arc-cosine kernel of order n (Cho & Saul 2009).

    With r = sqrt(q1 q2), E[phi phi] = r^n J_n(theta)/(2 pi) and E[phi' phi'] = n^2 r^(n-1)
    J_(n-1)(theta)/(2 pi), where J_0 = pi - theta, J_1 = sin theta + (pi - theta) cos theta and

    .. math:: J_n = (2n - 1)\cos\theta\,J_{n-1} + (n - 1)^2 \sin^2\theta\,J_{n-2} .
    """

    @property
    @abstractmethod
    def order(self) -> int:
        """The exponent n."""

    def __call__(self, x: Tensor) -> Tensor:
        """Return max(x, 0)^n; 1 for positive x if n = 0."""
        return x.clamp(min=0.0) ** self.order if self.order else (x > 0).to(x.dtype)

    def second_moment(self, var: Tensor) -> Tensor:
        """Return (2n - 1)!!/2 q^n; 1/2 for positive q if n = 0."""
        return 0.5 * (_odd_factorial(self.order) * var**self.order if self.order else var > 0)

    def propagate(
        self, state: KernelState, x: Features, y: Features, values: Values
    ) -> KernelState:
        """Propagate angles: sin2 <- (1 - j_n)/2, j_n = J_n(theta)/J_n(0).

        Parameters
        ----------
        state : KernelState
            Of the layer's inputs.
        x, y : Features
            Of its outputs.
        values : mapping of str to Tensor
            Empty.

        Returns
        -------
        KernelState
        """
        n, ntk = self.order, state.ntk
        state = state.angular()
        assert state.sin2 is not None
        before, after = _deficits(n, state.sin2, state.cos2)
        if ntk is None or not n:
            ntk = _without_tangents(ntk)
        else:
            slope = 0.5 * n * n * _odd_factorial(n - 1) * (1.0 - 2.0 * before)
            ntk = torch.mul(ntk, slope, out=reusable(ntk))
            if n > 1:
                ntk = ntk * (state.x.norm * state.y.norm) ** (n - 1)
        return replace(state, x=x, y=y, sin2=after, cos2=None, ntk=ntk)


def _odd_factorial(n: int) -> int:
    """Return (2n - 1)!! = 1 3 5 ... (2n - 1)."""
    return math.prod(range(1, 2 * n, 2))


def _deficits(order: int, sin2: Tensor, cos2: Tensor | None) -> tuple[Tensor, Tensor]:
    r"""Return (1 - j_(n-1))/2 and (1 - j_n)/2; the first means nothing if n = 0.

    The recursion of J in s_n = (1 - j_n)/2, with u = sin2 and k = (n-1)^2/((2n-1)(2n-3)):
    s_n = u + s_(n-1) (1 - 2u) - 2 k u (1 - u)(1 - 2 s_(n-2)). No step subtracts numbers near one, so
    the error is eps theta, eps in the angle itself.
    """
    sine, cosine, half = _halves(sin2, cos2)
    before, now = half / math.pi, half / math.pi  # s_0 = theta / (2 pi)
    if order:
        now = sin2 - (sine * cosine - half * (1.0 - 2.0 * sin2)) / math.pi
    bend = 2.0 * sin2 * (1.0 - sin2 if cos2 is None else cos2)  # sin^2(theta) / 2
    for n in range(2, order + 1):
        k = (n - 1) ** 2 / ((2 * n - 1) * (2 * n - 3))
        after = sin2 + now * (1.0 - 2.0 * sin2) - k * bend * (1.0 - 2.0 * before)
        before, now = now, after
    return before, now


@dataclass(frozen=True, repr=False)
class Step(ArcCosine, name="step"):
    """Heaviside step, 1 for x > 0: E[phi phi] = (pi - theta)/(2 pi), and no tangents.

    The arc-cosine kernel of order 0 (Cho & Saul 2009); what :class:`Sign` says of cusps and of the
    NTK holds here too.

    Examples
    --------
    >>> from sknk.kernels import NNGP, Step
    >>> K = NNGP(depth=1, activation=Step(), weight_var=1.0, normalize=False)
    >>> K([[1.0, 0.0], [0.0, 1.0]]).round(6)
    array([[0.5 , 0.25],
           [0.25, 0.5 ]])
    """

    @property
    def order(self) -> int:
        """Zero."""
        return 0


@dataclass(frozen=True, repr=False)
class RectifiedMonomial(ArcCosine, name="rectified_monomial"):
    r"""Power of the rectifier max(x, 0)^n: arc-cosine kernels of every order (Cho & Saul 2009, eq. 4).

    :math:`E[\phi\phi] = r^n J_n(\theta)/(2\pi)`,
    :math:`E[\phi'\phi'] = n^2 r^{n-1} J_{n-1}(\theta)/(2\pi)`, J_n by a recursion of three terms.
    Degree 0 is :class:`Step`, degree 1 is :class:`ReLU`. Beyond that variances grow like q^n from
    layer to layer: keep them near one, with weight variances near 2/(2n - 1)!!.

    Parameters
    ----------
    degree : int, default=2
        The exponent n.

    Examples
    --------
    >>> from sknk.kernels import NNGP, RectifiedMonomial
    >>> NNGP(depth=1, activation=RectifiedMonomial(3), normalize=False).diag([[1.0]])
    array([120.])
    """

    degree: int = 2

    def __post_init__(self) -> None:
        """Refuse an exponent without a closed form.

        Raises
        ------
        ValueError
            If `degree` is not a whole number, zero or more.
        """
        check_degree(type(self).__name__, self.degree)

    @property
    def order(self) -> int:
        """The degree."""
        return self.degree


def check_degree(activation: str, degree: int) -> None:
    if isinstance(degree, bool) or not isinstance(degree, int) or degree < 0:
        raise ValueError(
            f"`degree` of {activation} is {degree!r}; expected a whole number, zero or more."
        )


@dataclass(frozen=True, repr=False)
class ExpNormalized(Activation, name="exp_normalized"):
    r"""Normalized Gaussian kernel: rows keep their norms, angles become cos <- exp(gamma (cos - 1)).

    :math:`E[\phi\phi] = r e^{\gamma(c - 1)}`, :math:`E[\phi'\phi'] = \gamma e^{\gamma(c - 1)}`, c the
    cosine (Shankar et al. 2020, section 4.3; Han et al. 2022). As a network it divides a row by its
    root mean square, applies phi, the sum of sqrt(gamma^j e^-gamma / j!) h_j with normalized
    Hermite polynomials h_j, and multiplies it back.

    Parameters
    ----------
    gamma : float, default=1.0
        Inverse squared length on the sphere.

    Examples
    --------
    >>> from sknk.kernels import NNGP, ExpNormalized
    >>> K = NNGP(depth=1, activation=ExpNormalized(), weight_var=1.0)([[1.0, 0.0], [0.0, 1.0]])
    >>> K.round(6)
    array([[0.5     , 0.18394],
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

    def finite(self, channels: int, width: int, generator: torch.Generator) -> Finite:
        """Return phi between a division by the root mean square of the features and its inverse.

        Parameters
        ----------
        channels : int
            Features that enter, per pixel.
        width : int
            Not used: there are no weights.
        generator : torch.Generator
            Not used.

        Returns
        -------
        Finite
        """

        def forward(x: Tensor) -> Tensor:
            scale = x.square().mean(1, keepdim=True).sqrt()
            return scale * self(x / scale)

        return Finite(forward, channels)

    def second_moment(self, var: Tensor) -> Tensor:
        """Return the variance itself."""
        return var

    def propagate(
        self, state: KernelState, x: Features, y: Features, values: Values
    ) -> KernelState:
        """Propagate angles: sin2 <- (1 - exp(-2 gamma sin2))/2.

        Parameters
        ----------
        state : KernelState
            Of the layer's inputs.
        x, y : Features
            Of its outputs.
        values : mapping of str to Tensor
            Empty.

        Returns
        -------
        KernelState
        """
        state = state.angular()
        assert state.sin2 is not None
        decay = torch.expm1((-2.0 * self.gamma) * state.sin2)
        ntk = state.ntk
        if ntk is not None:
            ntk = torch.mul(ntk, self.gamma * (decay + 1.0), out=reusable(ntk))
        return replace(state, x=x, y=y, sin2=-0.5 * decay, cos2=None, ntk=ntk)
