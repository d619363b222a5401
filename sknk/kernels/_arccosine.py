"""Powers of the rectifier: arc-cosine kernels of any order, held as angles (Cho & Saul 2009)."""

import math
from abc import abstractmethod
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sknk.kernels._activation import Activation
from sknk.kernels._angular import exact_half_angle, resolved_angles, without_tangents
from sknk.kernels._layer import Values
from sknk.kernels._state import Features, KernelState, reusable

__all__ = ["RectifiedMonomial", "Step"]


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
        return 0.5 * (
            _odd_factorial(self.order) * var**self.order if self.order else (var > 0).to(var)
        )

    def propagate(
        self, state: KernelState, x: Features, y: Features, values: Values
    ) -> KernelState:
        """Propagate angles: sin2 <- (1 - j_n)/2, j_n = J_n(theta)/J_n(0)."""
        n, ntk = self.order, state.ntk
        before, after = _deficits(n, *resolved_angles(state))
        if ntk is None or not n:
            ntk = without_tangents(ntk)
        else:
            slope = 0.5 * n * n * _odd_factorial(n - 1) * (1.0 - 2.0 * before)
            ntk = torch.mul(ntk, slope, out=reusable(ntk))
            if n > 1:
                ntk = ntk * (state.x.norm * state.y.norm) ** (n - 1)
        return replace(state, x=x, y=y, sin2=after, cos2=None, cov=None, ntk=ntk)


def _odd_factorial(n: int) -> int:
    """Return (2n - 1)!! = 1 3 5 ... (2n - 1)."""
    return math.prod(range(1, 2 * n, 2))


def _deficits(order: int, sin2: Tensor, cos2: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return (1 - j_(n-1))/2 and (1 - j_n)/2; the first means nothing if n = 0.

    The recursion of J in s_n = (1 - j_n)/2, with u = sin2 and k = (n-1)^2/((2n-1)(2n-3)):
    s_n = u + s_(n-1) (1 - 2u) - 2 k u (1 - u)(1 - 2 s_(n-2)). No step subtracts numbers near one:
    the error is eps theta, eps in the angle itself.

    Parameters
    ----------
    order : int
        n.
    sin2, cos2 : Tensor of shape (n, m)
        As in :class:`KernelState`.

    Returns
    -------
    before, after : Tensor of shape (n, m)
    """
    sine, cosine, half = exact_half_angle(sin2, cos2)
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
    r"""Power of the rectifier max(x, 0)^n: the arc-cosine kernel of order n (Cho & Saul 2009).

    .. math::
        E[\phi\phi] = \frac{r^n}{2\pi} J_n(\theta), \qquad
        E[\phi'\phi'] = \frac{n^2 r^{n-1}}{2\pi} J_{n-1}(\theta), \qquad r = \sqrt{q_1 q_2} .

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
