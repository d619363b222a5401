"""Polynomial activations: their duals are polynomials in the covariance."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from sknk.kernels._activation import SmoothActivation
from sknk.kernels._arccosine import check_degree
from sknk.kernels._series import power_sum

__all__ = ["Hermite", "Monomial", "Polynomial"]


class PolynomialActivation(SmoothActivation):
    r"""phi(x) = sum_j c_j x^j, whose Hermite coefficients at variance q are q^(l/2) rho_l(q).

    .. math::
        E[\phi\phi] = \sum_l \rho_l(q_1)\rho_l(q_2)\,q^l, \qquad
        E[\phi'\phi'] = \sum_{l \ge 1} l\,\rho_l(q_1)\rho_l(q_2)\,q^{l-1}, \qquad
        \rho_l(t) = \sum_i c_{2i+l} \frac{(2i + l)!}{2^i\, i!\, \sqrt{l!}}\, t^i

    (Han et al. 2022, section 3). Nothing is divided by norms: zero rows need no care.
    """

    compilable: ClassVar[bool] = False  # NumPy makes the tables

    @cached_property
    def powers(self) -> tuple[float, ...]:
        """The coefficients c_0, c_1, ... of phi."""
        raise NotImplementedError

    def __call__(self, x: Tensor) -> Tensor:
        """Return the polynomial of x."""
        total = torch.full_like(x, self.powers[-1])
        for c in self.powers[-2::-1]:
            total = total * x + c
        return total

    def dual(self, q1: Tensor, q: Tensor, q2: Tensor) -> Tensor:
        """Return sum_l rho_l(q1) rho_l(q2) q^l."""
        return _series(self._radial, q1, q, q2)

    def dual_dot(self, q1: Tensor, q: Tensor, q2: Tensor) -> Tensor:
        """Return sum_(l >= 1) l rho_l(q1) rho_l(q2) q^(l - 1)."""
        slopes = self._radial[1:] * np.sqrt(np.arange(1.0, len(self._radial)))[:, None]
        return _series(slopes, q1, q, q2)

    @cached_property
    def _radial(self) -> np.ndarray:
        """Coefficients of t^i in rho_l, (degree + 1, degree // 2 + 1)."""
        degree = len(self.powers) - 1
        table = np.zeros((degree + 1, degree // 2 + 1))
        for j, c in enumerate(self.powers):
            for i in range(j // 2 + 1):
                ways = math.factorial(j) / (2**i * math.factorial(i))
                table[j - 2 * i, i] = c * ways / math.sqrt(math.factorial(j - 2 * i))
        return table


def _series(table: np.ndarray, q1: Tensor, q: Tensor, q2: Tensor) -> Tensor:
    """Return the sum over rows rho_l of a table of rho_l(q1) rho_l(q2) q^l."""
    terms = np.flatnonzero(table.any(axis=1)).tolist()
    if not terms:  # slopes of a constant
        return torch.zeros_like(q)
    return power_sum(_evaluate(table, q1), _evaluate(table, q2), q, terms)


def _evaluate(table: np.ndarray, t: Tensor) -> Tensor:
    """Return the polynomials rho_l(t), one for each row of `table`, along a new first axis."""
    columns = torch.tensor(table.T, dtype=t.dtype, device=t.device)
    total = t.new_zeros((len(table), *t.shape))
    for column in columns.flip(0):
        total = total * t + column.reshape(-1, *[1] * t.ndim)
    return total


@dataclass(frozen=True, repr=False)
class Polynomial(PolynomialActivation):
    """Polynomial c_0 + c_1 x + c_2 x^2 + ..., exact at every variance (Han et al. 2022, section 3).

    Parameters
    ----------
    coefficients : tuple of float
        c_0, c_1, ..., lowest degree first.

    Examples
    --------
    >>> from sknk.kernels import NTK, Polynomial
    >>> NTK(depth=1, activation=Polynomial((0.0, 1.0, 0.5)), weight_var=1.0)
    NTK(depth=1, activation=Polynomial(coefficients=(0.0, 1.0, 0.5)), weight_var=1.0)
    """

    coefficients: tuple[float, ...]

    def __post_init__(self) -> None:
        """Keep the coefficients as a tuple.

        Raises
        ------
        ValueError
            If there is no coefficient other than zero, or one is not finite.
        """
        object.__setattr__(self, "coefficients", tuple(self.coefficients))
        if not any(self.coefficients) or not all(map(math.isfinite, self.coefficients)):
            raise ValueError(
                f"`coefficients` of Polynomial are {self.coefficients!r}; expected finite numbers, "
                "not all zero."
            )

    @cached_property
    def powers(self) -> tuple[float, ...]:
        """The coefficients."""
        return tuple(map(float, self.coefficients))


@dataclass(frozen=True, repr=False)
class Monomial(PolynomialActivation, name="monomial"):
    """Power x^k: E[phi phi] of degree 2 is 2 q^2 + q1 q2, of degree 3 6 q^3 + 9 q q1 q2.

    Variances grow like (2k - 1)!! q^k from layer to layer: keep them near one.

    Parameters
    ----------
    degree : int, default=2
        The exponent k.

    Examples
    --------
    >>> from sknk.kernels import NNGP, Monomial
    >>> NNGP(depth=1, activation=Monomial(3), weight_var=1.0, normalize=False).diag([[1.0]])
    array([15.])
    """

    degree: int = 2

    def __post_init__(self) -> None:
        """Refuse exponents of no polynomial.

        Raises
        ------
        ValueError
            If `degree` is not a whole number, zero or more.
        """
        check_degree(type(self).__name__, self.degree)

    @cached_property
    def powers(self) -> tuple[float, ...]:
        """One coefficient."""
        return (*(0.0 for _ in range(self.degree)), 1.0)


@dataclass(frozen=True, repr=False)
class Hermite(PolynomialActivation, name="hermite"):
    """Hermite polynomial He_k(x)/sqrt(k!), normalized at unit variance (Daniely et al. 2016).

    There E[phi phi] = q^k and E[phi' phi'] = k q^(k - 1). At other variances it is the same
    polynomial, and the duals are those of :class:`Polynomial`.

    Parameters
    ----------
    degree : int, default=2
        The degree k, of probabilists' polynomials.

    Examples
    --------
    >>> import torch
    >>> from sknk.kernels import Hermite
    >>> one, half = torch.ones(1).double(), torch.tensor([0.5]).double()
    >>> round(Hermite(3).dual(one, half, one).item(), 12)
    0.125
    """

    degree: int = 2

    def __post_init__(self) -> None:
        """Refuse degrees of no polynomial.

        Raises
        ------
        ValueError
            If `degree` is not a whole number, zero or more.
        """
        check_degree(type(self).__name__, self.degree)

    @cached_property
    def powers(self) -> tuple[float, ...]:
        """Coefficients of the monomials."""
        return hermite_powers((*(0.0 for _ in range(self.degree)), 1.0))


def hermite_powers(coefficients: tuple[float, ...]) -> tuple[float, ...]:
    """Return the monomial coefficients of a sum of normalized Hermite polynomials."""
    scaled = [c / math.sqrt(math.factorial(j)) for j, c in enumerate(coefficients)]
    return tuple(np.polynomial.hermite_e.herme2poly(scaled).tolist())
