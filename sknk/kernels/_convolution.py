"""Convolutions of images.

Pairs of images hold one entry for every pair of pixels that matters: (h, w, n, m) where only equal
pixels do (flattened networks), (h, w, h, w, n, m) where a layer averages over pixels (pooling).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from sknk.kernels._affine import passed_on
from sknk.kernels._checks import check_count, check_variances
from sknk.kernels._inputs import component_angles
from sknk.kernels._layer import Layer, Values
from sknk.kernels._layers import normal, trainable
from sknk.kernels._state import Features, KernelState
from sknk.kernels._windows import (
    padding_of,
    pixels_of,
    reciprocal,
    scaled,
    too_large,
    window_sum,
)

__all__ = ["Conv2d"]


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

    def gaussian(self, before: bool) -> bool:
        """Return True: sums of many independent terms."""
        return True

    def fresh(self, before: bool) -> bool:
        """Return True: weights of its own."""
        return True

    def rows(self, itself: KernelState, values: Values) -> Features:
        """Return the patches' mean variance, times w, plus b."""
        w, b = values["weight_var"], values["bias_var"]
        gain, norm = (w / self.size**2).sqrt(), pixels_of(self, itself.x.norm)
        patch = [gain * part for part in self._patches(norm)]
        if self.bias_var:
            patch.append(b.sqrt().expand_as(patch[0]))
        features = Features.of(torch.stack(patch).square().sum(0))
        shrink = reciprocal(features.norm)
        return features._replace(patch=tuple(part * shrink for part in patch))

    def _patches(self, norm: Tensor) -> Iterator[Tensor]:
        """Yield the pixels that outputs see at every offset of the filter; zeros outside."""
        padded = functional.pad(norm, [0, 0] * (norm.ndim - 2) + self._pads(*norm.shape[:2]))
        if min(padded.shape[:2]) < self.size:
            raise too_large(self.size, min(padded.shape[:2]))
        h, w = (n - self.size + 1 for n in padded.shape[:2])
        for i, j in product(range(self.size), repeat=2):
            yield padded[i : i + h : self.stride, j : j + w : self.stride]

    def _pads(self, height: int, width: int) -> list[int]:
        """Return the zeros left, right, above and below an image."""
        if self.padding == "valid":
            return [0, 0, 0, 0]
        rows, columns = (padding_of(n, self.size, self.stride) for n in (height, width))
        return [*columns, *rows]

    def propagate(
        self, state: KernelState, x: Features, y: Features, values: Values
    ) -> KernelState:
        """Average over patches, whose pixels stand side by side as one vector."""
        # Half angles: u <- sum_o p_o q_o u_o + |p - q|^2/4, with the norms p, q of the pixels in a
        # patch over that of the patch. Nothing cancels.
        w, b = values["weight_var"], values["bias_var"]
        ntk = None if state.ntk is None else self._patch_mean(state.ntk)
        if state.sin2 is None:
            after = replace(state, x=x, y=y, cov=self._patch_mean(state.nngp) * w + b)
        else:
            of_x, of_y = reciprocal(x.norm), reciprocal(y.norm)
            gains = of_x * w, of_y
            norms = component_angles(x.patch, y.patch)
            sin2 = norms + self._weighted_mean(state, state.sin2, gains)
            cos2 = None
            if state.cos2 is not None:
                shared = b * of_x * of_y  # the biases' coordinate
                cos2 = norms + shared + self._weighted_mean(state, state.cos2, gains)
            after = replace(state, x=x, y=y, sin2=sin2, cos2=cos2)
        own = None
        if self.trained:
            own = after.nngp if after.cov is None else after.cov.clone()
        return replace(after, ntk=passed_on(ntk, own, w))

    def _weighted_mean(
        self, state: KernelState, halves: Tensor, gains: tuple[Tensor, Tensor]
    ) -> Tensor:
        weighted = scaled(scaled(halves, state.x.norm), state.y.norm)
        return scaled(scaled(self._patch_mean(weighted), gains[0]), gains[1])

    def _patch_mean(self, v: Tensor) -> Tensor:
        for together in [(0, 2), (1, 3)] if v.ndim == 6 else [(0,), (1,)]:
            v = window_sum(v, together, self.size, self.stride, same=self.padding == "same")
        return scaled(v, 1.0 / self.size**2)

    def untrained(self) -> Self:
        """Return the layer with its filters kept."""
        return replace(self, trained=False)

    def finite(self, example: Tensor, width: int, generator: torch.Generator) -> nn.Module:
        """Return a convolution with random filters."""
        channels, k = example.shape[1], self.size
        filters = normal((width, channels, k, k), example, generator)
        biases = normal((width,), example, generator)
        w, b = (self.weight_var / (channels * k * k)) ** 0.5, self.bias_var**0.5
        pads = self._pads(*example.shape[2:])

        def forward(x: Tensor, filters: Tensor, biases: Tensor) -> Tensor:
            padded = functional.pad(x, pads)
            return functional.conv2d(padded, w * filters, b * biases, stride=self.stride)

        return trainable(self, forward, filters, biases)
