"""Kernels of infinitely deep classifiers that are Bayes consistent (Radhakrishnan et al. 2023)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from numbers import Real
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sknk.kernels._base import Kernel
from sknk.kernels._flat import check_integer
from sknk.kernels._inputs import Directions, half_angles
from sknk.kernels._polynomial import PolynomialActivation, hermite_powers
from sknk.kernels._state import safe_sqrt

__all__ = ["OptimalDepthNTK", "OptimalPolynomial"]


@dataclass(frozen=True, repr=False)
class OptimalPolynomial(PolynomialActivation, name="optimal_polynomial"):
    r"""The cubic whose infinitely deep NTK classifies optimally (Radhakrishnan et al. 2023).

    With d = `intrinsic_dim` >= 2 and normalized Hermite polynomials h_k,

    .. math::
        \phi = 2^{-d/4}(h_3 + h_1) + \sqrt{1 - 2^{1 - d/2}}\,h_2, \qquad
        \tau(c) = 2^{-d/2}(c + c^3) + (1 - 2^{1 - d/2})\,c^2

    at unit variances. It is centred, tau(0) = 0, and its tangents are not, tau'(0) > 0: with depth
    the NTK of unit rows becomes a singular kernel of order -2 log tau'(0)/log tau'(1) = d.

    Parameters
    ----------
    intrinsic_dim : float, default=2
        Dimension d of the surface that the unit rows lie on.

    Examples
    --------
    >>> import torch
    >>> from sknk.kernels import OptimalPolynomial
    >>> phi, one = OptimalPolynomial(intrinsic_dim=4), torch.ones(1).double()
    >>> phi.dual(one, one, one).round(decimals=12).item()
    1.0
    """

    intrinsic_dim: float = 2

    def __post_init__(self) -> None:
        """Refuse dimensions without this closed form.

        Raises
        ------
        TypeError
            If `intrinsic_dim` is not a number.
        ValueError
            If it is below 2.
        """
        check_dimension(type(self).__name__, self.intrinsic_dim)

    @cached_property
    def powers(self) -> tuple[float, ...]:
        """Coefficients of 1, x, x^2 and x^3."""
        odd, even = weights(self.intrinsic_dim)
        return hermite_powers((0.0, math.sqrt(odd), math.sqrt(even), math.sqrt(odd)))


def weights(intrinsic_dim: float) -> tuple[float, float]:
    """Return the coefficients of c + c^3 and of c^2 in the dual."""
    odd = 2.0 ** (-intrinsic_dim / 2.0)
    return odd, max(1.0 - 2.0 * odd, 0.0)


def check_dimension(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"`intrinsic_dim` of {name} is {value!r}; expected a number.")
    if not 2 <= float(value) < math.inf:
        raise ValueError(
            f"`intrinsic_dim` of {name} is {value!r}; expected 2 or more. Data on a curve have "
            "dimension 1, for which no cubic is optimal: use 2."
        )


class _UnitRows(NamedTuple):
    """Directions, and one for rows that have one, zero for zero rows, (n, 1)."""

    directions: Directions
    present: Tensor


class OptimalDepthNTK(Kernel):
    r"""NTK of a deep network whose classifier is consistent in the limit of infinite depth.

    Rows are divided by their norms. With c_0 the cosine of two rows, tau as in
    :class:`OptimalPolynomial` and L = `depth`,

    .. math::
        c_{l+1} = \tau(c_l), \qquad \Theta_0 = c_0, \qquad
        \Theta_{l+1} = c_{l+1} + \tau'(c_l)\,\Theta_l, \qquad K = \Theta_L / (2^{L+1} - 1),

    so that K(x, x) = 1. As L grows, the sign of :math:`\sum_i y_i K(x, x_i)` tends to a vote with
    weights :math:`\|x - x_i\|^{-d}`: the classifier that is consistent for every distribution on a
    d-dimensional surface (Radhakrishnan et al. 2023, for rows in the positive orthant). An
    activation whose mean is not zero (ReLU) would end in a majority vote, one with mean and mean
    slope zero in the nearest neighbour.

    At finite depth K behaves like :math:`\|x - x_i\|^{-d} (L + C \|x - x_i\|^{-2})`: the limit
    takes over at distances beyond L^(-1/2), and below them the nearest rows weigh more. Each layer
    divides by its own diagonal, so nothing overflows, but K of different rows shrinks by a factor
    2^(1 + d/2) a layer: beyond 1000/(1 + d/2) layers it is zero.

    Parameters
    ----------
    intrinsic_dim : float, default=2
        Dimension d >= 2 of the surface that the unit rows lie on.
    depth : int, default=10
        Hidden layers.

    Examples
    --------
    >>> from sknk.kernels import OptimalDepthNTK
    >>> K = OptimalDepthNTK(intrinsic_dim=2, depth=20)
    >>> K([[1.0, 0.0], [2.0, 0.0], [0.0, 3.0]]).round(6)
    array([[1., 1., 0.],
           [1., 1., 0.],
           [0., 0., 1.]])
    """

    def __init__(self, intrinsic_dim: float = 2, depth: int = 10) -> None:
        self.intrinsic_dim = intrinsic_dim
        self.depth = depth

    def _check_parameters(self, n_features: int) -> None:
        check_integer("OptimalDepthNTK", "depth", self.depth, 0, "hidden layers")
        check_dimension("OptimalDepthNTK", self.intrinsic_dim)

    def _prepare(self, x: Tensor, values: Mapping[str, Tensor]) -> _UnitRows:
        norm = safe_sqrt((x * x).sum(1, keepdim=True))
        return _UnitRows(Directions.of(x / torch.where(norm > 0, norm, 1.0)), (norm > 0).to(x))

    def _tile(self, rx: _UnitRows, ry: _UnitRows, values: Mapping[str, Tensor]) -> Tensor:
        sin2, _ = half_angles(rx.directions, ry.directions, self._dtype())
        K = self._recursion(sin2)
        return K * rx.present.to(K.dtype) * ry.present.to(K.dtype).T

    def _recursion(self, u: Tensor) -> Tensor:
        """Run the layers on u = (1 - c)/2, each divided by its diagonal 2^(l+1) - 1."""
        odd, even = weights(self.intrinsic_dim)
        K = c = 1.0 - 2.0 * u
        for layer in range(1, int(self.depth) + 1):
            slope = odd + c * (2.0 * even + 3.0 * odd * c)
            # (1 - tau(c))/2 without a difference of numbers near one, and c without one near zero.
            u = u * (odd * (2.0 + c * (1.0 + c)) + 2.0 * even * (1.0 - u))
            c = torch.where(u < 0.25, 1.0 - 2.0 * u, c * (odd * (1.0 + c * c) + even * c))
            own = 1.0 / (2.0 ** (layer + 1) - 1.0) if layer < 1023 else 0.0
            K = own * c + (0.5 * (1.0 - own)) * slope * K
        return K

    def _diag(self, x: Tensor, values: Mapping[str, Tensor]) -> Tensor:
        return (x != 0).any(1).to(x.dtype)
