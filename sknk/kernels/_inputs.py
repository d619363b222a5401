"""Angles between rows, or between pixels of images, as they come in."""

from collections.abc import Sequence
from typing import NamedTuple, Self

import torch
from torch import Tensor

from sknk.kernels._state import Features, KernelState, reusable, safe_sqrt

__all__ = ["Directions", "Pixels", "component_angles", "directions_of", "half_angles"]

# Below this, (1 - x.y)/2 has lost half of float64's digits and is recomputed from differences.
_NEAR = 1e-6
# Above this, arcsin(sqrt(sin2)) would lose more than two bits, and cos2 is carried along.
_OBTUSE = 0.95
# Short against any row, and its square still a float32.
_SHORT = 1e-15


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


def directions_of(x: Tensor) -> tuple[Directions, Features]:
    """Split rows (n, d) into directions and variances |x|^2 / d.

    Parameters
    ----------
    x : Tensor of shape (n, d)
        Rows.

    Returns
    -------
    directions : Directions
    features : Features
    """
    unit, norm2 = _split(x, (x * x).sum(1, keepdim=True))
    return Directions.of(unit), Features.of(norm2 / x.shape[1])


def _split(x: Tensor, norm2: Tensor) -> tuple[Tensor, Tensor]:
    """Return directions and squared norms."""
    if torch.is_grad_enabled():
        # A zero row as the limit of a short one: norm times direction keeps its derivative.
        norm2 = torch.where(norm2 > 0, norm2, _SHORT**2)
    return x / torch.where(norm2 > 0, safe_sqrt(norm2), 1.0), norm2


class Pixels(NamedTuple):
    """Images as rows of features for every pixel.

    Attributes
    ----------
    channels : tuple of Tensor
        Pixels divided by their norms, one tensor a channel: (h, w, n, 1) where only equal pixels
        are to be paired, (h, w, 1, 1, n, 1) where all are.
    features : Features
        Mean squares over channels, in the same shape.
    """

    channels: tuple[Tensor, ...]
    features: Features

    @classmethod
    def of(cls, x: Tensor, image_shape: tuple[int, int, int], *, all_pairs: bool) -> Self:
        """Cut rows (n, c h w) into pixels."""
        c, h, w = image_shape
        images = x.reshape(len(x), c, h, w).permute(1, 2, 3, 0)[..., None]  # (c, h, w, n, 1)
        if all_pairs:
            images = images[:, :, :, None, None]
        unit, norm2 = _split(images, images.square().sum(0))
        return cls(tuple(unit), Features.of(norm2 / c))

    def angles(
        self, columns: tuple[Tensor, ...], x: Features, y: Features, dtype: torch.dtype
    ) -> KernelState:
        """Return the state of all pairs, from differences and sums of directions; O(c) a pair.

        Parameters
        ----------
        columns : tuple of Tensor
            Channels of the second images, as columns.
        x, y : Features
            Of the first images, and of the second as columns.
        dtype : torch.dtype
            Of the pairs.

        Returns
        -------
        KernelState
        """
        sin2, cos2 = component_angles(self.channels, columns).to(dtype), None
        if sin2.numel() and bool(sin2.detach().max() > _OBTUSE):
            cos2 = component_angles(self.channels, columns, sign=-1.0).to(dtype)
        return KernelState(x, y, sin2=sin2, cos2=cos2)


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


def component_angles(x: Sequence[Tensor], y: Sequence[Tensor], *, sign: float = 1.0) -> Tensor:
    """Return |x - sign y|^2 / 4 of unit vectors given by components: sin^2 of half their angles.

    Exact where vectors coincide; 2 k passes over the pairs.

    Parameters
    ----------
    x, y : sequence of k Tensor
        Components, (..., n, 1) and (..., 1, m).
    sign : float, default=1.0
        -1 for cos^2.

    Returns
    -------
    Tensor of shape (..., n, m)
    """
    total = torch.sub(x[0], y[0], alpha=sign).square()
    for p, q in zip(x[1:], y[1:], strict=True):
        difference = torch.sub(p, q, alpha=sign)
        total = torch.addcmul(total, difference, difference, out=reusable(total))
    return torch.mul(total, 0.25, out=reusable(total))


def _refined(values: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Replace entries near zero by |x + y|^2 / 4 from the rows themselves."""
    i, j = torch.nonzero(values.detach() < _NEAR, as_tuple=True)
    exact = (x[i] + y[j]).square().sum(1) / 4.0
    put = values.index_put if torch.is_grad_enabled() else values.index_put_
    return put((i, j), exact)
