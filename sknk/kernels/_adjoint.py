"""Hand-written derivatives of the three steps on angles: few passes over a tile, no singularities.

Autograd would save a dozen tiles for every layer and divide by the sine of coincident rows. Here a
step saves two or three, and sums over rows and columns are matrix products. First derivatives in
reverse mode only; forward mode takes the steps' own formulas.
"""

from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd import Function, forward_ad
from torch.autograd.function import once_differentiable

__all__ = ["Cosine", "Rectified", "Rectifying", "Tilted", "reverse_mode"]


def reverse_mode(*tensors: Tensor | None) -> bool:
    """Return whether autograd records, and none of these carries a forward tangent."""
    return torch.is_grad_enabled() and all(
        t is None or forward_ad.unpack_dual(t).tangent is None for t in tensors
    )


class Rectifying(Protocol):
    """A rectifier's step on pairs."""

    @property
    def moments(self) -> tuple[float, float]:
        """The constants (A, F)."""

    def dual_dot(self, half: Tensor) -> Tensor:
        """Return A - F theta."""

    def advance(self, sin2: Tensor, cos2: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return sin2 after the step, and half the angle before it."""


class Rectified(Function):
    r"""Derivative of a rectifier's step, with u = sin^2(theta/2).

    .. math::
        \frac{du'}{du} = 1 - \frac{F}{A}\theta, \qquad
        \frac{d\Theta'}{d\Theta} = A - F\theta, \qquad
        \frac{d\Theta'}{du} = -\frac{2F}{\sin\theta}\,\Theta

    The last has a cusp at coincident and antipodal rows: 0 there.
    """

    @staticmethod
    def forward(
        ctx: Any, rectifier: Rectifying, sin2: Tensor, cos2: Tensor | None, ntk: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        after, half = rectifier.advance(sin2, cos2)
        dot = rectifier.dual_dot(half)
        ctx.moments = rectifier.moments
        ctx.save_for_backward(sin2, cos2, ntk, dot)
        return after, None if ntk is None else ntk * dot

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g_sin2: Tensor, g_ntk: Tensor | None) -> tuple[Any, ...]:
        sin2, cos2, ntk, dot = ctx.saved_tensors
        A, F = ctx.moments
        if ntk is None or g_ntk is None:
            return None, (g_sin2 * dot).div_(A), None, None
        bend = sin2 * (1.0 - sin2 if cos2 is None else cos2)  # sin^2(theta) / 4
        # Coincident rows have an angle of rounding size, whose direction means nothing.
        nothing = (4.0 * torch.finfo(bend.dtype).eps) ** 2
        cusp = bend <= nothing if bool(bend.min() <= nothing) else None
        bend.rsqrt_().mul_(ntk).mul_(g_ntk)
        if cusp is not None:
            bend.masked_fill_(cusp, 0.0)
        # The slope of sin2 is dot / A.
        return None, bend.mul_(-F).addcmul_(g_sin2, dot, value=1.0 / A), None, g_ntk * dot


class Tilted(Function):
    """Derivative of a tilt, ``pairs cos_x cos_y + (f_x e_y + sign e_x f_y)^2``."""

    @staticmethod
    def forward(
        ctx: Any,
        pairs: Tensor,
        cos_x: Tensor,
        e_x: Tensor,
        f_x: Tensor,
        cos_y: Tensor,
        e_y: Tensor,
        f_y: Tensor,
        sign: float,
    ) -> Tensor:
        half = (f_x * e_y).addcmul_(e_x, f_y, value=sign)
        ctx.save_for_backward(pairs, half, cos_x, e_x, f_x, cos_y, e_y, f_y)
        ctx.sign = sign
        return (pairs * cos_x).mul_(cos_y).addcmul_(half, half)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        pairs, half, cos_x, e_x, f_x, cos_y, e_y, f_y = ctx.saved_tensors
        sign, work = ctx.sign, g * pairs
        g_cos_x, g_cos_y = work @ cos_y.mT, cos_x.mT @ work
        torch.mul(g, half, out=work).mul_(2.0)
        g_fe_x = work @ torch.cat([e_y, f_y]).mT  # (n, 2)
        g_fe_y = torch.cat([f_x, e_x], dim=1).mT @ work  # (2, m)
        g_f_x, g_e_x = g_fe_x[:, :1], sign * g_fe_x[:, 1:]
        g_e_y, g_f_y = g_fe_y[:1], sign * g_fe_y[1:]
        g_pairs = torch.mul(g, cos_x, out=work).mul_(cos_y) if ctx.needs_input_grad[0] else None
        return g_pairs, g_cos_x, g_e_x, g_f_x, g_cos_y, g_e_y, g_f_y, None


class Cosine(Function):
    """Derivative of the covariance, ``norm_x (1 - 2 sin2) norm_y``."""

    @staticmethod
    def forward(ctx: Any, sin2: Tensor, norm_x: Tensor, norm_y: Tensor) -> Tensor:
        cosine = torch.add(sin2.new_ones(()), sin2, alpha=-2)
        ctx.save_for_backward(cosine, norm_x, norm_y)
        return (cosine * norm_x).mul_(norm_y)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        cosine, norm_x, norm_y = ctx.saved_tensors
        g_cosine = g * cosine
        g_x, g_y = g_cosine @ norm_y.mT, norm_x.mT @ g_cosine
        return torch.mul(g, norm_x, out=g_cosine).mul_(norm_y).mul_(-2.0), g_x, g_y
