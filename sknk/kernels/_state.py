"""What a layer hands to the next: row by row the variances, pair by pair the angles.

Pairs are held as sin^2 of half the angle between two rows of features, not as covariances:
``cov = sqrt(var_x var_y) (1 - 2 sin2)``. Nothing is lost near coincidence, where 1 - cos cancels
(float32 keeps positive definite Gram matrices), and rectifiers need the angle anyway. Layers
that are formulas in covariances ask for :meth:`KernelState.covariance`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import torch
from torch import Tensor

from sknk.kernels._adjoint import Cosine, reverse_mode

__all__ = [
    "Directions",
    "Features",
    "KernelState",
    "coincident_state",
    "half_angle",
    "half_angles",
    "reusable",
    "safe_sqrt",
]

# Below this, (1 - x.y)/2 has lost half of float64's digits and is recomputed from differences.
_NEAR = 1e-6
# Above this, arcsin(sqrt(sin2)) would lose more than two bits, and cos2 is carried along.
_OBTUSE = 0.95


def reusable(x: Tensor) -> Tensor | None:
    """Return a temporary to write into (``out=``), or None where autograd needs its value."""
    return None if torch.is_grad_enabled() else x


def safe_sqrt(x: Tensor) -> Tensor:
    """Square root whose derivative at zero is 0, not infinite."""
    if not torch.is_grad_enabled():
        return x.sqrt()
    positive = x > 0
    return torch.where(positive, torch.where(positive, x, 1.0).sqrt(), 0.0)


class Features(NamedTuple):
    """What pairs need to know of each row after a layer; all (n, 1), or (1, n) as columns.

    Attributes
    ----------
    var : Tensor
        Diagonal of the NNGP kernel.
    norm : Tensor
        Its square root.
    tilt : tuple of Tensor or None
        cos phi, cos(phi/2) and sin(phi/2) of the angle by which a biased layer turned the row
        towards the bias axis.
    """

    var: Tensor
    norm: Tensor
    tilt: tuple[Tensor, Tensor, Tensor] | None = None

    @classmethod
    def of(cls, var: Tensor, *tilt: Tensor) -> Self:
        """Complete variances by norms."""
        return cls(var, safe_sqrt(var), (tilt[0], tilt[1], tilt[2]) if tilt else None)

    def to(self, dtype: torch.dtype) -> Self:
        """Cast to the dtype of the pairs."""
        return self._map(lambda v: v.to(dtype))

    @property
    def columns(self) -> Self:
        """The same rows as columns of pairs."""
        return self._map(lambda v: v.T)

    def _map(self, change: Callable[[Tensor], Tensor]) -> Self:
        tilt = self.tilt and (change(self.tilt[0]), change(self.tilt[1]), change(self.tilt[2]))
        return self._replace(var=change(self.var), norm=change(self.norm), tilt=tilt)


@dataclass(frozen=True)
class KernelState:
    """One layer's values at all pairs of rows; exactly one of `sin2` and `cov` is set.

    A layer owns the state it is given: without autograd it may overwrite its pair tensors.

    Attributes
    ----------
    x, y : Features
        Of the rows (n, 1) and of the columns (1, m), in the dtype of the pairs.
    sin2 : Tensor of shape (n, m) or None
        sin^2(theta/2), theta the angle between two rows of features.
    cos2 : Tensor of shape (n, m) or None
        cos^2(theta/2) = 1 - sin2, kept apart while rows may be nearly antipodal.
    cov : Tensor of shape (n, m) or None
        NNGP kernel.
    ntk : Tensor of shape (n, m) or None
        Tangent kernel; None before the first trained layer.
    """

    x: Features
    y: Features
    sin2: Tensor | None = None
    cos2: Tensor | None = None
    cov: Tensor | None = None
    ntk: Tensor | None = None

    @property
    def nngp(self) -> Tensor:
        """Covariance kernel (n, m); a new tensor where the state holds angles."""
        if self.cov is not None:
            return self.cov
        assert self.sin2 is not None
        if len(self.y.norm) == 1 and reverse_mode(self.sin2, self.x.norm, self.y.norm):
            return Cosine.apply(self.sin2, self.x.norm, self.y.norm)
        cosine = torch.add(self.sin2.new_ones(()), self.sin2, alpha=-2)
        scaled = torch.mul(cosine, self.x.norm, out=reusable(cosine))
        return torch.mul(scaled, self.y.norm, out=reusable(scaled))

    @property
    def tangents(self) -> Tensor:
        """Tangent kernel (n, m), where some layer was trained."""
        assert self.ntk is not None
        return self.ntk

    def covariance(self) -> "KernelState":
        """Return this state with pairs held as covariances."""
        return replace(self, cov=self.nngp, sin2=None, cos2=None)

    def angular(self) -> "KernelState":
        """Return this state with pairs held as angles (cancels where rows nearly coincide)."""
        if self.sin2 is not None:
            return self
        assert self.cov is not None
        norms = self.x.norm * self.y.norm
        cosine = self.cov / torch.where(norms > 0, norms, 1.0)
        return replace(self, sin2=((1.0 - cosine) / 2.0).clamp(0.0, 1.0), cov=None)


def half_angle(sin2: Tensor, cos2: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Return sine, cosine and size of half the angle between rows; derivatives at its ends are 0.

    Parameters
    ----------
    sin2, cos2 : Tensor of shape (n, m)
        As in :class:`KernelState`.

    Returns
    -------
    sine, cosine, half : Tensor of shape (n, m)
    """
    info = torch.finfo(sin2.dtype)
    u = sin2.clamp(info.tiny, 1.0 - info.eps if cos2 is None else None)
    v = 1.0 - u if cos2 is None else cos2.clamp(min=info.tiny)
    sine, cosine = torch.sqrt(u, out=reusable(u)), torch.sqrt(v, out=reusable(v))
    return sine, cosine, sine.asin() if cos2 is None else torch.atan2(sine, cosine)


class Directions(NamedTuple):
    """Rows without their lengths, ready for one product.

    Attributes
    ----------
    unit : Tensor of shape (n, d)
        Rows of norm one; zero rows stay zero, orthogonal to all.
    left, right : Tensor of shape (n, d + 1)
        ``left @ right.T`` is (1 - cos theta) / 2.
    """

    unit: Tensor
    left: Tensor
    right: Tensor

    @classmethod
    def of(cls, unit: Tensor) -> Self:
        """Append the column that carries the one half."""
        ones = torch.ones_like(unit[:, :1])
        left, right = torch.cat([-0.5 * unit, 0.5 * ones], dim=1), torch.cat([unit, ones], dim=1)
        return cls(unit, left, right)


def half_angles(x: Directions, y: Directions, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
    """Return sin^2 and, where some angle is obtuse enough, cos^2 of half the angles of inputs.

    O(n m d), in the rows' precision.

    Parameters
    ----------
    x, y : Directions
        Of n and m rows.
    dtype : torch.dtype
        Of the result.

    Returns
    -------
    sin2 : Tensor of shape (n, m)
    cos2 : Tensor of shape (n, m) or None
        None where `sin2` alone gives every angle.
    """
    exact = x.left @ y.right.T
    itself = x is y and not torch.is_grad_enabled()
    if itself:
        exact.fill_diagonal_(0.5)  # not to be refined one by one
    sin2, cos2 = exact.to(dtype), None
    if sin2.numel():
        low, high = torch.aminmax(sin2.detach())
        if high > _OBTUSE:
            cos2 = 1.0 - exact
            cos2 = (_refined(cos2, x.unit, y.unit) if high > 1.0 - _NEAR else cos2).to(dtype)
        if low < _NEAR:
            sin2 = _refined(exact, x.unit, -y.unit).to(dtype)
    if itself:
        sin2.fill_diagonal_(0.0)
        cos2 = None if cos2 is None else cos2.fill_diagonal_(1.0)
    return sin2, cos2


def _refined(values: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Replace entries near zero by |x + y|^2 / 4 from the rows themselves."""
    i, j = torch.nonzero(values.detach() < _NEAR, as_tuple=True)
    exact = (x[i] + y[j]).square().sum(1) / 4.0
    put = values.index_put if torch.is_grad_enabled() else values.index_put_
    return put((i, j), exact)


def coincident_state(features: Features) -> KernelState:
    """Pair every row with itself: all shapes (n, 1), so that layers yield exact diagonals."""
    return KernelState(features, features, sin2=torch.zeros_like(features.var))
