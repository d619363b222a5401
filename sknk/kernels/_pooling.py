"""The ways to make pixels fewer, and to end them: pooling and flattening."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from sknk.kernels._checks import check_count
from sknk.kernels._layer import Function, Layer, Values
from sknk.kernels._state import Features, KernelState
from sknk.kernels._windows import pixels_of, scaled, window_sum

__all__ = ["AvgPool2d", "Flatten", "GlobalAvgPool2d"]


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
        pixels_of(self, itself.x.var)
        pooled = self._mean(itself.nngp)  # (h, w, h, w, n, 1)
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
            v = window_sum(v, (axis,), self.size, self._stride, same=False)
        return scaled(v, 1.0 / self.size**4)

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
    >>> kernel([[1.0, 1.0], [3.0, -1.0]]).round(12)  # both have a mean pixel of one
    array([[1., 1.],
           [1., 1.]])
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
        pixels_of(self, itself.x.var)
        return Features.of(itself.nngp.mean((0, 1, 2, 3)).clamp(min=0.0))

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
        var = pixels_of(self, itself.x.var)
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
