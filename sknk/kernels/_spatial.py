"""Layers of images: convolutions and the ways to end them.

Pairs of images hold one entry for every pair of pixels that matters: (h, w, n, m) where only equal
pixels do (flattened networks), (h, w, h, w, n, m) where a layer averages over pixels (pooling).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from sknk.kernels._affine import passed_on
from sknk.kernels._checks import check_count, check_variances
from sknk.kernels._layer import Function, Layer, Values
from sknk.kernels._layers import normal, trainable
from sknk.kernels._state import Features, KernelState, reusable

__all__ = ["AvgPool2d", "Conv2d", "Flatten", "GlobalAvgPool2d"]


@dataclass(frozen=True, repr=False)
class Conv2d(Layer):
    r"""Convolution of images with square filters.

    With q, q' pixels of two images and the offsets o of a filter of k by k,

    .. math::
        \Sigma(q, q') \leftarrow \frac{w}{k^2} \sum_o \Sigma(q + o, q' + o) + b, \qquad
        \Theta(q, q') \leftarrow \Sigma_{\text{new}}(q, q')
        + \frac{w}{k^2} \sum_o \Theta(q + o, q' + o)

    with zeros outside the images (Novak et al. 2019; Arora et al. 2019, section 4). O(k) a pair of
    pixels: rows and columns are summed one after the other.

    Parameters
    ----------
    size : int, default=3
        k, pixels.
    stride : int, default=1
        Pixels between outputs.
    padding : {"same", "valid"}, default="same"
        "same" pads with zeros to ceil(h / stride) outputs; "valid" does not pad.
    weight_var, bias_var, trained, weight_var_bounds, bias_var_bounds : object
        As in :class:`Dense`.

    Raises
    ------
    ValueError
        For sizes, strides, paddings or variances that no convolution has.

    Examples
    --------
    >>> from sknk.kernels import Conv2d, Dense, GlobalAvgPool2d, NetworkKernel, ReLU
    >>> network = Conv2d() >> ReLU() >> GlobalAvgPool2d() >> Dense()
    >>> NetworkKernel(network, image_shape=(1, 2, 2))([[1.0, 0.0, 0.0, 1.0]]).shape
    (1, 1)
    """

    size: int = 3
    stride: int = 1
    padding: str = "same"
    weight_var: float = 2.0
    bias_var: float = 0.0
    trained: bool = True
    weight_var_bounds: Any = "fixed"
    bias_var_bounds: Any = (1e-5, 1e5)

    _value_names: ClassVar[tuple[str, ...]] = ("weight_var", "bias_var")

    def __post_init__(self) -> None:
        """Refuse what no convolution has.

        Raises
        ------
        ValueError
            For an unknown padding.
        """
        check_count(self, "size", self.size)
        check_count(self, "stride", self.stride)
        check_variances(self)
        if self.padding not in ("same", "valid"):
            raise ValueError(
                f"`padding` of Conv2d is {self.padding!r}; expected 'same' or 'valid'."
            )

    def rows(self, itself: KernelState, values: Values) -> Features:
        """Return the patches' mean variance, times w, plus b."""
        w, var = values["weight_var"], _pixels(self, itself.x.var)
        mean = self._patch_mean(var.clone(), [(0,), (1,)])
        features = Features.of(w * mean + values["bias_var"])
        if itself.sin2 is None or self.padding == "valid":
            return features
        return features._replace(unmatched=w * self._unmatched(var))

    def _unmatched(self, var: Tensor) -> Tensor:
        """Return patch means of the variances whose partners lie outside, (h, w, h, w, n, 1)."""
        h, w = var.shape[:2]
        (top, bottom), (left, right) = (_padding(n, self.size, self.stride) for n in (h, w))
        padded = functional.pad(var, [0] * 8 + [left, right, top, bottom])
        shape = (1, 1, h + top + bottom, w + left + right, 1, 1)
        outside = var.new_ones(shape)
        outside[:, :, top : top + h, left : left + w] = 0.0
        found = padded * outside  # (h, w, h, w, n, 1), borders included
        for axes in ((0, 2), (1, 3)):
            found = _window_sum(found, axes, self.size, self.stride, same=False)
        return found / self.size**2

    def propagate(
        self, state: KernelState, x: Features, y: Features, values: Values
    ) -> KernelState:
        """Average over patches: distances, which do not cancel, where pairs are angles."""
        w, b = values["weight_var"], values["bias_var"]
        ntk = None if state.ntk is None else self._patch_mean(state.ntk)
        if state.cov is not None:
            after = replace(state, x=x, y=y, cov=self._patch_mean(state.cov) * w + b)
        else:
            near, far = (
                None if d is None else self._patch_distance(d, x, y, w) for d in state.distances()
            )
            assert near is not None
            after = state.at_distances(x, y, near, None if far is None else far + 4.0 * b, None)
        own = None
        if self.trained:
            own = after.nngp if after.cov is None else after.cov.clone()
        return replace(after, ntk=passed_on(ntk, own, w))

    def _patch_distance(self, d: Tensor, x: Features, y: Features, w: Tensor) -> Tensor:
        """Return mean distances of patches; a pixel's from zeros outside is its variance."""
        d = _scaled(self._patch_mean(d), w)
        for side in (x, y):
            if side.unmatched is not None:
                d = torch.add(d, side.unmatched, out=reusable(d))
        return d

    def _patch_mean(self, v: Tensor, axes: Sequence[tuple[int, ...]] | None = None) -> Tensor:
        for together in axes or ([(0, 2), (1, 3)] if v.ndim == 6 else [(0,), (1,)]):
            v = _window_sum(v, together, self.size, self.stride, same=self.padding == "same")
        return _scaled(v, 1.0 / self.size**2)

    def untrained(self) -> Self:
        """Return the layer with its filters kept."""
        return replace(self, trained=False)

    def finite(self, example: Tensor, width: int, generator: torch.Generator) -> nn.Module:
        """Return a convolution with random filters."""
        channels, k = example.shape[1], self.size
        filters = normal((width, channels, k, k), example, generator)
        biases = normal((width,), example, generator)
        w, b = (self.weight_var / (channels * k * k)) ** 0.5, self.bias_var**0.5
        pads = [0, 0, 0, 0]
        if self.padding == "same":
            (top, bottom), (left, right) = (_padding(n, k, self.stride) for n in example.shape[2:])
            pads = [left, right, top, bottom]

        def forward(x: Tensor, filters: Tensor, biases: Tensor) -> Tensor:
            padded = functional.pad(x, pads)
            return functional.conv2d(padded, w * filters, b * biases, stride=self.stride)

        return trainable(self, forward, filters, biases)


@dataclass(frozen=True, repr=False)
class AvgPool2d(Layer):
    r"""Mean over square windows: covariances are averaged over all pairs of their pixels.

    Incomplete windows at the border are left out.

    Parameters
    ----------
    size : int, default=2
        Pixels of a window's side.
    stride : int or None, default=None
        Pixels between windows; None is `size`.

    Raises
    ------
    ValueError
        Unless both are positive integers.

    Examples
    --------
    >>> from sknk.kernels import AvgPool2d, Conv2d, Flatten, NetworkKernel, ReLU
    >>> network = Conv2d() >> ReLU() >> AvgPool2d() >> Flatten()
    >>> NetworkKernel(network, image_shape=(1, 4, 4)).diag([[1.0] * 16]).round(12)
    array([1.])
    """

    size: int = 2
    stride: int | None = None

    def __post_init__(self) -> None:
        """Refuse what no window has."""
        check_count(self, "size", self.size)
        check_count(self, "stride", self._stride)

    @property
    def _stride(self) -> int:
        return self.size if self.stride is None else self.stride

    @property
    def mixes_pixels(self) -> bool:
        """Return True."""
        return True

    @property
    def averages(self) -> bool:
        """Return True."""
        return True

    def rows(self, itself: KernelState, values: Values) -> Features:
        """Return the variances of the windows' means."""
        pooled = self._mean(_pixels(self, itself.nngp))  # (h, w, h, w, n, 1)
        var = pooled.diagonal(dim1=0, dim2=2).diagonal(dim1=0, dim2=1)  # (n, 1, h, w)
        return Features.of(var.permute(2, 3, 0, 1)[:, :, None, None])

    def propagate(
        self, state: KernelState, x: Features, y: Features, values: Values
    ) -> KernelState:
        """Average covariances and tangents."""
        ntk = None if state.ntk is None else self._mean(state.ntk)
        cov = self._mean(state.nngp)
        return replace(state, x=x, y=y, sin2=None, cos2=None, cov=cov, ntk=ntk)

    def _mean(self, v: Tensor) -> Tensor:
        for axis in range(4):
            v = _window_sum(v, (axis,), self.size, self._stride, same=False)
        return _scaled(v, 1.0 / self.size**4)

    def finite(self, example: Tensor, width: int, generator: torch.Generator) -> nn.Module:
        """Return torch's pooling."""
        return nn.AvgPool2d(self.size, self._stride)


@dataclass(frozen=True, repr=False)
class GlobalAvgPool2d(Layer):
    """Mean over all pixels: images become rows, covariances of all pairs of pixels are averaged.

    Examples
    --------
    >>> from sknk.kernels import Conv2d, GlobalAvgPool2d, NetworkKernel
    >>> kernel = NetworkKernel(Conv2d(size=1) >> GlobalAvgPool2d(), image_shape=(1, 1, 2))
    >>> kernel([[1.0, -1.0]])  # the mean pixel is zero
    array([[0.]])
    """

    @property
    def mixes_pixels(self) -> bool:
        """Return True."""
        return True

    @property
    def averages(self) -> bool:
        """Return True."""
        return True

    def rows(self, itself: KernelState, values: Values) -> Features:
        """Return the variance of every image's mean pixel."""
        return Features.of(_pixels(self, itself.nngp).mean((0, 1, 2, 3)).clamp(min=0.0))

    def propagate(
        self, state: KernelState, x: Features, y: Features, values: Values
    ) -> KernelState:
        """Average covariances and tangents over all pairs of pixels."""
        ntk = None if state.ntk is None else state.ntk.mean((0, 1, 2, 3))
        cov = state.nngp.mean((0, 1, 2, 3))
        return replace(state, x=x, y=y, sin2=None, cos2=None, cov=cov, ntk=ntk)

    def finite(self, example: Tensor, width: int, generator: torch.Generator) -> nn.Module:
        """Return the mean over pixels."""
        return Function(lambda x: x.mean((2, 3)))


@dataclass(frozen=True, repr=False)
class Flatten(Layer):
    """Pixels become features: covariances of equal pixels are averaged, the others do not matter.

    Examples
    --------
    >>> from sknk.kernels import NTK, Dense, Flatten, NetworkKernel, ReLU
    >>> kernel = NetworkKernel(Flatten() >> Dense() >> ReLU() >> Dense(), image_shape=(1, 2, 2))
    >>> X = [[1.0, 0.0, 2.0, 1.0]]
    >>> bool(abs(kernel(X) - NTK(depth=1)(X)) < 1e-15)
    True
    """

    @property
    def averages(self) -> bool:
        """Return True."""
        return True

    def rows(self, itself: KernelState, values: Values) -> Features:
        """Return the mean variance over pixels."""
        var = _pixels(self, itself.x.var)
        return Features.of(var.reshape(-1, *var.shape[-2:]).mean(0))

    def propagate(
        self, state: KernelState, x: Features, y: Features, values: Values
    ) -> KernelState:
        """Average covariances and tangents over equal pixels."""
        ntk = None if state.ntk is None else _mean_of_equal_pixels(state.ntk)
        cov = _mean_of_equal_pixels(state.nngp)
        return replace(state, x=x, y=y, sin2=None, cos2=None, cov=cov, ntk=ntk)

    def finite(self, example: Tensor, width: int, generator: torch.Generator) -> nn.Module:
        """Return torch's layer."""
        return nn.Flatten()


def _mean_of_equal_pixels(v: Tensor) -> Tensor:
    if v.ndim == 4:
        return v.mean((0, 1))
    return v.diagonal(dim1=0, dim2=2).diagonal(dim1=0, dim2=1).mean((2, 3))


def _pixels(layer: Layer, v: Tensor) -> Tensor:
    """Return what a layer of images is given, if it is one."""
    if v.ndim < 4:
        raise ValueError(
            f"{layer!r} needs images, and rows reach it. Pass `image_shape=(c, h, w)` to "
            "NetworkKernel, and end pixels once: after Flatten or GlobalAvgPool2d there are none."
        )
    return v


def _scaled(v: Tensor, factor: Any) -> Tensor:
    return torch.mul(v, factor, out=reusable(v))


def _padding(length: int, size: int, stride: int) -> tuple[int, int]:
    """Return the zeros before and after an axis that make ceil(length / stride) outputs."""
    total = max((-(-length // stride) - 1) * stride + size - length, 0)
    return total // 2, total - total // 2


def _window_sum(v: Tensor, axes: tuple[int, ...], size: int, stride: int, *, same: bool) -> Tensor:
    """Sum windows along axes that move together; zeros outside."""
    length = v.shape[axes[0]]
    before, after = _padding(length, size, stride) if same else (0, 0)
    outputs = (length + before + after - size) // stride + 1
    if outputs < 1:
        raise ValueError(
            f"A window of {size} pixels does not fit {length}; use smaller windows or fewer layers."
        )
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
