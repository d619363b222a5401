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
    "Features",
    "KernelState",
    "as_columns",
    "as_partners",
    "coincident_state",
    "half_angle",
    "reusable",
    "safe_sqrt",
]


# Roundings of a covariance, relative to its rows' norms, that can separate equal rows.
_ROUNDING = 8.0


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

    Images have leading axes, one entry a pixel: (h, w, n, 1) where only equal pixels are paired,
    (h, w, 1, 1, n, 1) and (1, 1, h, w, 1, n) where all are.

    Attributes
    ----------
    var : Tensor
        Diagonal of the NNGP kernel.
    norm : Tensor
        Its square root.
    tilt : tuple of Tensor or None
        cos phi, cos(phi/2) and sin(phi/2) of the angle by which a biased layer turned the row
        towards the bias axis.
    patch : tuple of Tensor
        Of a convolution: the norms in every pixel's patch, divided by the root of their sum of
        squares, one tensor an offset.
    parts : tuple of Features
        After the layers inside a layer made of layers.
    """

    var: Tensor
    norm: Tensor
    tilt: tuple[Tensor, Tensor, Tensor] | None = None
    patch: tuple[Tensor, ...] = ()
    parts: tuple["Features", ...] = ()

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
        return self._map(as_columns)

    @property
    def partners(self) -> Self:
        """The same rows, each as the partner of itself."""
        return self._map(as_partners)

    def _map(self, change: Callable[[Tensor], Tensor]) -> Self:
        tilt = self.tilt and (change(self.tilt[0]), change(self.tilt[1]), change(self.tilt[2]))
        patch = tuple(map(change, self.patch))
        parts = tuple(part._map(change) for part in self.parts)
        return type(self)(change(self.var), change(self.norm), tilt, patch, parts)


def as_partners(v: Tensor) -> Tensor:
    """Move pixels from the first image's axes to the second's."""
    return v.permute(2, 3, 0, 1, 4, 5) if v.ndim == 6 else v


def as_columns(v: Tensor) -> Tensor:
    """Make rows the columns of pairs."""
    return as_partners(v).mT


@dataclass(frozen=True)
class KernelState:
    """One layer's values at all pairs of rows; at most one of `sin2` and `cov` is set.

    A layer owns the state it is given: without autograd it may overwrite its pair tensors. Pairs of
    images have leading axes: (h, w, n, m) for equal pixels, (h, w, h, w, n, m) for all pairs.
    A state without pairs is that of rows paired with themselves, each at angle zero.

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
    same : bool
        Whether entry (i, i) pairs a row with itself, and not with a copy.
    """

    x: Features
    y: Features
    sin2: Tensor | None = None
    cos2: Tensor | None = None
    cov: Tensor | None = None
    ntk: Tensor | None = None
    same: bool = False

    @property
    def paired(self) -> bool:
        """Whether there are pairs."""
        return self.sin2 is not None or self.cov is not None

    @property
    def nngp(self) -> Tensor:
        """Covariance kernel (n, m); a new tensor where the state holds angles."""
        if self.cov is not None:
            return self.cov
        assert self.sin2 is not None
        if (
            self.y.norm.ndim == 2
            and len(self.y.norm) == 1
            and reverse_mode(self.sin2, self.x.norm, self.y.norm)
        ):
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
        sin2 = ((1.0 - cosine) / 2.0).clamp(0.0, 1.0)
        # What rounding leaves of coincidence is taken for it: sums of pairs must not lose it.
        sin2 = torch.where(sin2 > _ROUNDING * torch.finfo(sin2.dtype).eps, sin2, 0.0)
        return replace(self, sin2=sin2, cov=None)

    def copied(self) -> "KernelState":
        """Return a state that layers may overwrite while this one is still needed."""
        pairs = (self.sin2, self.cos2, self.cov, self.ntk)
        sin2, cos2, cov, ntk = (v if v is None else v.clone() for v in pairs)
        return replace(self, sin2=sin2, cos2=cos2, cov=cov, ntk=ntk)

    def coincident(self) -> Tensor:
        """Return which pairs are a row (or a pixel) and itself, as a mask that broadcasts."""
        rows, columns = self.x.var.shape[-2], self.y.var.shape[-1]
        device = self.x.var.device
        if not self.same:
            return torch.zeros((rows, columns), dtype=torch.bool, device=device)
        paired = torch.ones((rows, 1), dtype=torch.bool, device=device)
        if columns > 1:
            paired = torch.eye(rows, dtype=torch.bool, device=device)
        if self.x.var.ndim != 6:
            return paired
        h, w = self.x.var.shape[:2]
        pixels = torch.eye(h * w, dtype=torch.bool, device=device)
        return pixels.reshape(h, w, h, w, 1, 1) & paired


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


def coincident_state(features: Features) -> KernelState:
    """Pair every row with itself: all shapes (n, 1), so that layers yield exact diagonals."""
    return KernelState(features, features, sin2=torch.zeros_like(features.var), same=True)
