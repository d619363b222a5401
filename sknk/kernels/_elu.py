"""Exponential linear units: duals by sectors of the plane, in which they are analytic.

In polar coordinates u = s1 rho cos(psi - eta), v = s2 rho cos(psi + eta), with s the norms and eta
half the angle between two rows, the radial integrals have closed forms in the Mills ratio M, and
the kink at zero is a line of constant psi. What remains are integrals of analytic functions over
four sectors, for Gauss-Legendre rules (Tsuchida et al. 2021 give the same duals by bivariate normal
probabilities, which cancel at large variances).
"""

import functools
import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from sknk.kernels._activation import Activation
from sknk.kernels._adjoint import reverse_mode
from sknk.kernels._angular import exact_half_angle, resolved_angles
from sknk.kernels._layer import Values
from sknk.kernels._state import Features, KernelState, reusable, safe_sqrt

__all__ = ["ELU", "SELU"]

_HALF = math.sqrt(math.pi / 2.0)  # M(0)
# Up to here exp(x^2) erfc(x) is right to 1e-14, at a twentieth of the price of erfcx.
_MODERATE = 8.0

Fall = Callable[[Tensor], Tensor]


class ExponentialLinear(Activation):
    r"""phi(x) = scale (x for x > 0, alpha (e^x - 1) for x < 0).

    With p and t the sizes of u and v at distance one along a ray, N(t) = 1 - t M(t) and
    M(t) = sqrt(pi/2) erfcx(t / sqrt(2)),

    .. math::
        E[e^u e^v; u, v < 0] = \frac{1}{2\pi}\int N(p + t)\,d\psi, \qquad
        E[e^v; u > 0 > v] = \frac{1}{2\pi}\int N(t)\,d\psi, \qquad
        E[u(e^v - 1); u > 0 > v] = -\frac{1}{2\pi}\int p\,(M(0) + t - (1 + t^2)M(t))\,d\psi .

    Each takes 17 nodes at variance 1, 24 at 10, 47 at 100 for errors of 1e-13 q: 3 microseconds per
    pair and layer. It hands on covariances, not angles: beyond the first layer rows closer than
    1e-8 coincide.
    """

    compilable: ClassVar[bool] = False  # how many nodes depends on the data

    @property
    @abstractmethod
    def constants(self) -> tuple[float, float]:
        """The constants (scale, alpha)."""

    def __call__(self, x: Tensor) -> Tensor:
        """Return phi(x)."""
        scale, alpha = self.constants
        return scale * (x.clamp(min=0.0) + alpha * torch.expm1(x.clamp(max=0.0)))

    def dtype(self, wanted: torch.dtype, rows: torch.dtype) -> torch.dtype:
        """Return the rows' dtype: the duals are covariances."""
        return rows

    def second_moment(self, var: Tensor) -> Tensor:
        """Return scale^2 (q/2 + alpha^2 E[(e^u - 1)^2; u < 0])."""
        scale, alpha = self.constants
        s = safe_sqrt(var)
        falls = _HALF * (2.0 * _fall(s) - _fall(2.0 * s)) / math.pi
        # The closed form cancels for short rows.
        falls = torch.where(s < 0.5, _short_moment(s.clamp(max=0.5)), falls)
        return scale**2 * (0.5 * var + alpha**2 * falls)

    def propagate(
        self, state: KernelState, x: Features, y: Features, values: Values
    ) -> KernelState:
        """Sum over quadrants: both positive, one, none."""
        scale, alpha = self.constants
        sin2, cos2 = resolved_angles(state)
        sine, cosine, half = exact_half_angle(sin2, cos2)
        s1, s2 = state.x.norm, state.y.norm
        mixed, mixed_dot, below, below_dot = _sectors(half, s1, s2)
        above = 2.0 * sine * cosine + (math.pi - 2.0 * half) * (1.0 - 2.0 * sin2)
        cov = above * (s1 * s2) - alpha * mixed + alpha**2 * below
        dot = (math.pi - 2.0 * half) + alpha * mixed_dot + alpha**2 * below_dot
        share, ntk = scale**2 / (2.0 * math.pi), state.ntk
        if ntk is not None:
            ntk = torch.mul(ntk, dot * share, out=reusable(ntk))
        return replace(state, x=x, y=y, sin2=None, cos2=None, cov=cov * share, ntk=ntk)


def _sectors(half: Tensor, s1: Tensor, s2: Tensor) -> tuple[Tensor, ...]:
    """Integrate over the two sectors of mixed signs, and over that of negative ones."""
    largest = _largest(s1, s2)
    fall = _moderate_fall if math.sqrt(2.0) * largest < _MODERATE else _fall
    n_nodes = 13 + math.ceil(3.4 * min(largest, 20.0))
    if reverse_mode(half, s1, s2):
        return Integral.apply(half, s1, s2, n_nodes, fall)
    return _integral(half, s1, s2, n_nodes, fall)


def _integral(half: Tensor, s1: Tensor, s2: Tensor, n_nodes: int, fall: Fall) -> tuple[Tensor, ...]:
    total: tuple[Tensor, ...] = ()
    for node, weight in zip(*_rule(n_nodes), strict=True):
        terms = tuple(weight * term for term in _at_node(half, s1, s2, node, fall))
        total = tuple(map(torch.add, total, terms)) if total else terms
    return total


class Integral(Function):
    """Derivative of the sum over nodes, which keeps the temporaries of one node at a time."""

    @staticmethod
    def forward(
        ctx: Any, half: Tensor, s1: Tensor, s2: Tensor, n_nodes: int, fall: Fall
    ) -> tuple[Tensor, ...]:
        ctx.save_for_backward(half, s1, s2)
        ctx.options = n_nodes, fall
        return _integral(half, s1, s2, n_nodes, fall)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *g: Tensor) -> tuple[Tensor | None, ...]:
        n_nodes, fall = ctx.options
        half, s1, s2 = inputs = [x.detach().requires_grad_() for x in ctx.saved_tensors]
        grads = [torch.zeros_like(x) for x in inputs]
        for node, weight in zip(*_rule(n_nodes), strict=True):
            with torch.enable_grad():
                terms = _at_node(half, s1, s2, node, fall)
            for total, part in zip(grads, torch.autograd.grad(terms, inputs, g), strict=True):
                total.add_(part, alpha=weight)
        return *grads, None, None


def _largest(s1: Tensor, s2: Tensor) -> float:
    return max((float(s.detach().max()) for s in (s1, s2) if s.numel()), default=0.0)


def _at_node(half: Tensor, s1: Tensor, s2: Tensor, node: float, fall: Fall) -> tuple[Tensor, ...]:
    """Return the integrands at one node in [-1, 1], times the half widths of their sectors."""
    a, b = ((1.0 - node) * half).sin(), ((1.0 + node) * half).sin()
    t1, t2 = s1 * b, s2 * b
    F1, F2 = fall(t1), fall(t2)
    mixed = half * a * (s1 * _mixed(t2, F2) + s2 * _mixed(t1, F1))
    mixed_dot = half * (2.0 - t1 * (_HALF - F1) - t2 * (_HALF - F2))
    width = math.pi / 2.0 - half
    p, t = s1 * (node * width - half).cos(), s2 * (node * width + half).cos()
    both = p + t
    F = fall(both)
    below = width * (both * F - p * fall(p) - t * fall(t))
    return mixed, mixed_dot, below, width * (1.0 - both * (_HALF - F))


def _mixed(t: Tensor, F: Tensor) -> Tensor:
    """Return M(0) + t - (1 + t^2) M(t), where F = M(0) - M(t)."""
    return F + t - t * t * (_HALF - F)


def _fall(t: Tensor) -> Tensor:
    """Return M(0) - M(t), M(t) = sqrt(pi/2) erfcx(t / sqrt(2)) the Mills ratio."""
    return _HALF - _HALF * torch.special.erfcx(t / math.sqrt(2.0))


def _moderate_fall(t: Tensor) -> Tensor:
    """Return the same for t / sqrt(2) below 8."""
    x = t / math.sqrt(2.0)
    return _HALF - _HALF * (x * x).exp() * x.erfc()


def _short_moment(s: Tensor) -> Tensor:
    """Return E[(e^u - 1)^2; u < 0] for norms s below one, by a rule in z = -u/s."""
    nodes, weights = (torch.tensor(a, dtype=s.dtype, device=s.device) for a in _rule(64))
    z = 5.0 * (1.0 + nodes)  # the density at 10 is 1e-22
    weights = 5.0 * weights * torch.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)
    return (torch.expm1(-s[..., None] * z).square() * weights).sum(-1)


@functools.lru_cache(maxsize=4)
def _rule(n_nodes: int) -> tuple[list[float], list[float]]:
    """Return Gauss-Legendre nodes and weights on [-1, 1]."""
    nodes, weights = np.polynomial.legendre.leggauss(n_nodes)
    return nodes.tolist(), weights.tolist()


@dataclass(frozen=True, repr=False)
class ELU(ExponentialLinear, name="elu"):
    """Exponential linear unit: x right of zero, alpha (e^x - 1) left of it.

    Parameters
    ----------
    alpha : float, default=1.0
        Depth of the left branch; other values than 1 have a kink.

    Examples
    --------
    >>> from sknk.kernels import NTK
    >>> NTK(depth=1, activation="elu")([[1.0], [0.0]]).round(6)
    array([[1., 0.],
           [0., 0.]])
    """

    alpha: float = 1.0

    @property
    def constants(self) -> tuple[float, float]:
        """1 and alpha."""
        return 1.0, self.alpha


@dataclass(frozen=True, repr=False)
class SELU(ExponentialLinear, name="selu"):
    """Scaled exponential linear unit, which keeps unit variance (Klambauer et al. 2017).

    Examples
    --------
    >>> from sknk.kernels import NNGP
    >>> NNGP(depth=20, activation="selu", weight_var=1.0, normalize=False).diag([[1.0]]).round(6)
    array([1.])
    """

    @property
    def constants(self) -> tuple[float, float]:
        """1.0507... and 1.6732...; the fixed point of mean zero and variance one."""
        return 1.0507009873554804934193349852946, 1.6732632423543772848170429916717
