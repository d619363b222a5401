"""Windows of pixels: sums along axes that move together, paddings, what is no image."""

from typing import Any

import torch
from torch import Tensor

from sknk.kernels._layer import Layer
from sknk.kernels._state import reusable

__all__ = ["padding_of", "pixels_of", "reciprocal", "scaled", "too_large", "window_sum"]


def pixels_of(layer: Layer, v: Tensor) -> Tensor:
    """Return what a layer of images is given, if it is one."""
    if v.ndim < 4:
        raise ValueError(
            f"{layer!r} needs images, and rows reach it. Pass `image_shape=(c, h, w)` to "
            "NetworkKernel, and end pixels once: after Flatten or GlobalAvgPool2d there are none."
        )
    return v


def scaled(v: Tensor, factor: Any) -> Tensor:
    return torch.mul(v, factor, out=reusable(v))


def padding_of(length: int, size: int, stride: int) -> tuple[int, int]:
    """Return the zeros before and after an axis that make ceil(length / stride) outputs."""
    total = max((-(-length // stride) - 1) * stride + size - length, 0)
    return total // 2, total - total // 2


def too_large(size: int, length: int) -> ValueError:
    return ValueError(
        f"A window of {size} pixels does not fit {length}; use smaller windows or fewer layers."
    )


def reciprocal(norm: Tensor) -> Tensor:
    """Return 1 / norm, and 0 where there is nothing to divide."""
    return torch.where(norm > 0, 1.0 / torch.where(norm > 0, norm, 1.0), 0.0)


def window_sum(v: Tensor, axes: tuple[int, ...], size: int, stride: int, *, same: bool) -> Tensor:
    """Sum windows along axes that move together; zeros outside."""
    length = v.shape[axes[0]]
    before, after = padding_of(length, size, stride) if same else (0, 0)
    outputs = (length + before + after - size) // stride + 1
    if outputs < 1:
        raise too_large(size, length)
    shape = [outputs if axis in axes else n for axis, n in enumerate(v.shape)]
    total = v.new_zeros(shape)
    for offset in range(size):
        first = max(0, -(-(before - offset) // stride))  # the first output that sees a pixel here
        last = min(outputs - 1, (length - 1 + before - offset) // stride)
        if last < first:
            continue
        start = first * stride + offset - before
        source = slice(start, start + (last - first) * stride + 1, stride)
        into = _cut(total, axes, slice(first, last + 1))
        into += _cut(v, axes, source)
    return total


def _cut(v: Tensor, axes: tuple[int, ...], part: slice) -> Tensor:
    return v[tuple(part if axis in axes else slice(None) for axis in range(v.ndim))]
