"""What a layer hands to the next: the covariances of its values at every pair of rows.

Pairs are held as sin^2 of half the angle between two rows of features, not as covariances:
``cov = sqrt(var_x var_y) (1 - 2 sin2)``. Nothing is lost near coincidence, where 1 - cos cancels
(float32 keeps positive definite Gram matrices), and rectifiers need the angle anyway. Layers
that are formulas in covariances ask for :meth:`KernelState.covariance`.
"""

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

__all__ = ["KernelState", "RowState", "coincident_state", "pair_state", "reusable", "safe_sqrt"]

# Below this, (1 - x.y)/2 has lost half of float64's digits and is recomputed from differences.
_NEAR = 1e-6


def reusable(x: Tensor) -> Tensor | None:
    """Return a temporary to write into (``out=``), or None where autograd needs its value."""
    return None if torch.is_grad_enabled() else x


def safe_sqrt(x: Tensor) -> Tensor:
    """Square root whose derivative at zero is 0, not infinite."""
    if not torch.is_grad_enabled():
        return x.sqrt()
    positive = x > 0
    return torch.where(positive, torch.where(positive, x, 1.0).sqrt(), 0.0)


@dataclass(frozen=True)
class RowState:
    """Rows of inputs, ready for pairing.

    Attributes
    ----------
    unit : Tensor of shape (n, d)
        Rows divided by their norms; zero rows stay zero.
    var : Tensor of shape (n, 1)
        Squared norms over d: the input layer's variances.
    gain : Tensor, 0-d
        Reciprocal square root of the kernel's normalizing constant.
    """

    unit: Tensor
    var: Tensor
    gain: Tensor

    @classmethod
    def of(cls, x: Tensor, gain: Tensor) -> Self:
        """Split rows (n, d) into directions and variances."""
        norm2 = (x * x).sum(1, keepdim=True)  # (n, 1)
        norm = safe_sqrt(norm2)
        return cls(x / torch.where(norm2 > 0, norm, 1.0), norm2 / x.shape[1], gain)


@dataclass(frozen=True)
class KernelState:
    """Covariances of one layer at all pairs of rows; exactly one of `sin2` and `cov` is set.

    A layer owns the state it is given: without autograd it may overwrite its pair tensors.

    Attributes
    ----------
    var_x, var_y : Tensor of shape (n, 1) and (1, m)
        Diagonals of the NNGP kernel, in float64 where the device has it.
    sin2 : Tensor of shape (n, m) or None
        sin^2(theta/2), theta the angle between two rows of features.
    cos2 : Tensor of shape (n, m) or None
        cos^2(theta/2) = 1 - sin2, kept apart while rows can be antipodal.
    cov : Tensor of shape (n, m) or None
        NNGP kernel.
    ntk : Tensor of shape (n, m) or None
        Tangent kernel; None before the first trained layer.
    """

    var_x: Tensor
    var_y: Tensor
    sin2: Tensor | None = None
    cos2: Tensor | None = None
    cov: Tensor | None = None
    ntk: Tensor | None = None

    def pair(self, v: Tensor) -> Tensor:
        """Cast a per-row quantity to the dtype of the pairs."""
        reference = self.cov if self.sin2 is None else self.sin2
        assert reference is not None
        return v.to(reference.dtype)

    @property
    def nngp(self) -> Tensor:
        """Covariance kernel (n, m); a new tensor where the state holds angles."""
        if self.cov is not None:
            return self.cov
        assert self.sin2 is not None
        cosine = torch.add(self.sin2.new_ones(()), self.sin2, alpha=-2)
        scaled = torch.mul(cosine, self.pair(safe_sqrt(self.var_x)), out=reusable(cosine))
        return torch.mul(scaled, self.pair(safe_sqrt(self.var_y)), out=reusable(scaled))

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
        norms = safe_sqrt(self.var_x) * safe_sqrt(self.var_y)
        cosine = self.cov / self.pair(torch.where(norms > 0, norms, 1.0))
        return replace(self, sin2=((1.0 - cosine) / 2.0).clamp(0.0, 1.0), cov=None)

    def angle(self) -> Tensor:
        """Angle theta in [0, pi] between rows of features; gradients at its ends are 0."""
        assert self.sin2 is not None
        info = torch.finfo(self.sin2.dtype)
        if self.cos2 is None:
            u = self.sin2.clamp(info.tiny, 1.0 - info.eps)
            half = torch.asin(torch.sqrt(u, out=reusable(u)), out=reusable(u))
        else:
            u, v = self.sin2.clamp(min=info.tiny), self.cos2.clamp(min=info.tiny)
            s, c = torch.sqrt(u, out=reusable(u)), torch.sqrt(v, out=reusable(v))
            half = torch.atan2(s, c, out=reusable(u))
        return torch.mul(half, 2.0, out=reusable(half))


def pair_state(rx: RowState, ry: RowState, dtype: torch.dtype) -> KernelState:
    """Pair rows of inputs: O(n m d) in the rows' precision, the result cast to `dtype`.

    Parameters
    ----------
    rx, ry : RowState
        n and m rows.
    dtype : torch.dtype
        Of the pairs.

    Returns
    -------
    KernelState
        Of the input layer: variances |x|^2 / d.
    """
    half = rx.unit.new_full((1, 1), 0.5)
    sin2 = torch.addmm(half, rx.unit, ry.unit.T, alpha=-0.5)  # (n, m)
    cos2 = 1.0 - sin2
    if sin2.numel():
        low, high = torch.aminmax(sin2.detach())
        if low < _NEAR:
            sin2 = _refined(sin2, rx.unit, -ry.unit)
        if high > 1.0 - _NEAR:
            cos2 = _refined(cos2, rx.unit, ry.unit)
    return KernelState(rx.var, ry.var.T, sin2=sin2.to(dtype), cos2=cos2.to(dtype))


def _refined(values: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Replace entries near zero by |x + y|^2 / 4 from the rows themselves."""
    i, j = torch.nonzero(values.detach() < _NEAR, as_tuple=True)
    exact = (x[i] + y[j]).square().sum(1) / 4.0
    return values.index_put((i, j), exact)


def coincident_state(var: Tensor, dtype: torch.dtype) -> KernelState:
    """Pair every row with itself: all shapes (n, 1), so that layers yield exact diagonals."""
    zero = torch.zeros_like(var, dtype=dtype)
    return KernelState(var, var, sin2=zero, cos2=zero + 1.0)
