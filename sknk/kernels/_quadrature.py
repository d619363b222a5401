"""Activations without closed forms: Hermite series whose coefficients are Gaussian quadratures."""

import functools
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from scipy.special import roots_hermitenorm
from torch import Tensor

from sknk.kernels._activation import SmoothActivation
from sknk.kernels._series import power_sum
from sknk.kernels._state import safe_sqrt

__all__ = ["Quadrature"]

# Terms below this share of the sum are left out; a thousand of them do not reach its last digit.
_NEGLIGIBLE = 1e-19
# Nodes of smaller weight are left out: their square roots multiply the function's values.
_WEIGHTLESS = 1e-36

Elementwise = Callable[[Tensor], Tensor]


class Expanded(SmoothActivation):
    r"""An activation known by its values: duals by Hermite series (Daniely et al. 2016).

    With normalized Hermite polynomials h_j, c = q / sqrt(q1 q2) and `degree` terms,

    .. math::
        E[\phi\phi] = \sum_j a_j(q_1)\,a_j(q_2)\,c^j, \qquad a_j(q) = E[\phi(\sqrt q z)\,h_j(z)]

    and the same for phi'. The coefficients are Gauss-Hermite sums with as many nodes as terms. At
    c = 1 the series is then the quadrature of E[phi phi] itself. A grid of nodes would take
    `degree`^2 values of phi for every pair; this takes one multiply-add for every term, in all
    O(n degree^2 + n^2 degree). Gram matrices are positive semidefinite at any degree.
    """

    compilable: ClassVar[bool] = False  # which terms count depends on the data

    degree: int

    def __post_init__(self) -> None:
        """Refuse sums that do not exist.

        Raises
        ------
        ValueError
            If `degree` is not an integer from 2 to 1024.
        """
        degree = self.degree
        if isinstance(degree, bool) or not isinstance(degree, int) or not 2 <= degree <= 1024:
            raise ValueError(
                f"`degree` of {type(self).__name__} is {degree!r}; expected an integer from 2 to "
                "1024."
            )

    @abstractmethod
    def slope(self, x: Tensor) -> Tensor:
        """Return phi'(x), elementwise."""

    def dual(self, q1: Tensor, q: Tensor, q2: Tensor) -> Tensor:
        """Return sum_j a_j(q1) a_j(q2) c^j."""
        return _series(self, self.degree, q1, q, q2)

    def dual_dot(self, q1: Tensor, q: Tensor, q2: Tensor) -> Tensor:
        """Return the same series for phi'."""
        return _series(self.slope, self.degree, q1, q, q2)


def _series(function: Elementwise, degree: int, q1: Tensor, q: Tensor, q2: Tensor) -> Tensor:
    left = _coefficients(function, degree, q1)
    right = left if q2 is q1 else _coefficients(function, degree, q2)
    r = safe_sqrt(q1) * safe_sqrt(q2)
    cosine = q / torch.where(r > 0, r, 1.0)
    return power_sum(left, right, cosine, _significant(left, right))


def _coefficients(function: Elementwise, degree: int, var: Tensor) -> Tensor:
    """Return a_j of rows with these variances, (degree, *var.shape)."""
    nodes, table = (torch.as_tensor(a).to(var) for a in _hermite_table(degree))
    values = function(safe_sqrt(var)[..., None] * nodes)  # (..., nodes)
    return (values @ table).movedim(-1, 0).contiguous()


def _significant(left: Tensor, right: Tensor) -> list[int]:
    """Return the terms that matter for some pair or its derivative."""
    sizes = [side.detach().abs().flatten(1).amax(1) for side in (left, right) if side.numel()]
    if len(sizes) < 2:
        return [0]
    # The larger side decides: where the other passes through zero, its derivative does not.
    share = torch.maximum(*sizes).square()
    keep = ~(share <= _NEGLIGIBLE * share.sum())  # not-a-number stays
    keep[0] = True
    return torch.nonzero(keep)[:, 0].tolist()


@functools.lru_cache(maxsize=32)
def _hermite_table(degree: int) -> tuple[np.ndarray, np.ndarray]:
    """Return Gauss-Hermite nodes (k,) and w_i h_j(x_i), (k, degree), weights summing to one."""
    nodes, weights = roots_hermitenorm(degree)  # numpy's overflow beyond 300 nodes
    weights /= weights.sum()
    keep = weights > _WEIGHTLESS
    nodes, weights = nodes[keep], weights[keep]
    before, now = np.zeros_like(weights), np.sqrt(weights)
    columns = [now]
    for j in range(1, degree):
        before, now = now, (nodes * now - np.sqrt(j - 1.0) * before) / np.sqrt(j)
        columns.append(now)
    return nodes, np.sqrt(weights)[:, None] * np.stack(columns, axis=1)


def _derivative(function: Elementwise, x: Tensor) -> Tensor:
    """Return the derivative of an elementwise function by automatic differentiation."""
    values, pullback, *_ = torch.func.vjp(function, x)
    return pullback(torch.ones_like(values))[0]


@dataclass(frozen=True, repr=False)
class Quadrature(Expanded):
    """Any elementwise torch function as an activation, by a Hermite series.

    Equal and hashed by the function itself, so a lambda equals only itself, and has no constructor
    form in ``repr``; pickling needs a function that pickle can import.

    Parameters
    ----------
    function : callable
        Tensor -> Tensor, elementwise.
    degree : int, default=128
        Nodes and terms. Analytic functions converge like exp(-2 y sqrt(degree/q)), y the distance
        of their nearest complex pole from the real line and q the variance; kinks leave errors of
        about degree^(-3/2), jumps of degree^(-1/2).
    derivative : callable, optional
        Its derivative; by default automatic.

    Examples
    --------
    >>> import torch
    >>> from sknk.kernels import NTK, Quadrature
    >>> kernel = NTK(depth=1, activation=Quadrature(torch.erf))
    >>> X = [[1.0, 0.0], [1.0, 1.0]]
    >>> (abs(kernel(X) - NTK(depth=1, activation="erf")(X)) < 1e-12).all().item()
    True
    """

    function: Elementwise
    degree: int = 128
    derivative: Elementwise | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be called.

        Raises
        ------
        TypeError
            If `function` or `derivative` is not callable.
        """
        for name in ("function", "derivative"):
            value = getattr(self, name)
            if not (callable(value) or (name == "derivative" and value is None)):
                raise TypeError(f"`{name}` of Quadrature is {value!r}; expected a callable.")
        super().__post_init__()

    def __call__(self, x: Tensor) -> Tensor:
        """Return the function's value."""
        return self.function(x)

    def slope(self, x: Tensor) -> Tensor:
        """Return its derivative."""
        return _derivative(self.function, x) if self.derivative is None else self.derivative(x)
