"""NetworkKernel: any architecture as a kernel."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import clone
from sklearn.gaussian_process.kernels import Hyperparameter
from torch import Tensor

from sknk._array import row_dtype
from sknk._validation import check_memory
from sknk.kernels._base import Kernel, Values
from sknk.kernels._inputs import Directions, Pixels, directions_of, half_angles
from sknk.kernels._layer import Layer, values_of
from sknk.kernels._state import Features, KernelState, as_columns, as_partners
from sknk.kernels._tiles import spans, tile_rows

__all__ = ["NetworkKernel"]

# Tensors of one tile that a convolution and an activation hold at once.
_TEMPORARIES = 10


@dataclass(frozen=True)
class Prepared:
    """Rows or images of a network, ready for pairing.

    Attributes
    ----------
    inputs : Directions or Pixels
        As they come in.
    partners : tuple of Tensor
        Channels of the same images as columns; none of rows.
    x, y : tuple of (Features, Features)
        Before and after the network, as rows and as columns, in the dtype of the pairs.
    gain : Tensor or None
        Reciprocal of the normalizing constant.
    """

    inputs: Directions | Pixels
    partners: tuple[Tensor, ...]
    x: tuple[Features, Features]
    y: tuple[Features, Features]
    gain: Tensor | None


class NetworkKernel(Kernel):
    r"""Kernel of any network of infinite width that layers can be chained to.

    The tangent kernel Theta, or the covariance Sigma, of the network's output features (Jacot et
    al. 2018; Novak et al. 2020). Layers take one :class:`KernelState` to the next, pair of rows by
    pair of rows. A network that pools holds all pairs of pixels of two images: O((h w)^2) time and
    memory a pair, tile by tile; one that only flattens O(h w). ``compile=True`` has no effect here.

    Parameters
    ----------
    network : Layer
        Such as ``Dense() >> ReLU() >> Dense()``; its parameters are
        ``network__dense__bias_var`` and so on.
    output : {"ntk", "nngp"}, default="ntk"
        Tangent kernel, or covariance before training.
    normalize : bool, default=True
        Divide by the kernel's value at the row of ones (squared norm d), or at the image of ones.
    image_shape : tuple (c, h, w) or None, default=None
        Channels, height and width of the images that rows hold, channels first; None is no images.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sknk.kernels import Conv2d, Dense, Flatten, NetworkKernel, ReLU
    >>> X, _ = load_digits(return_X_y=True)
    >>> network = Conv2d() >> ReLU() >> Flatten() >> Dense()
    >>> NetworkKernel(network, image_shape=(1, 8, 8))(X[:5]).shape
    (5, 5)
    """

    def __init__(
        self,
        network: Layer,
        output: str = "ntk",
        normalize: bool = True,
        image_shape: tuple[int, int, int] | None = None,
    ) -> None:
        self.network = network
        self.output = output
        self.normalize = normalize
        self.image_shape = image_shape

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters, those of layers as ``network__dense__bias_var``."""
        params = super().get_params(deep=False)
        if deep and isinstance(self.network, Layer):
            nested = self.network.get_params()
            params.update((f"network__{key}", value) for key, value in nested.items())
        return params

    def set_params(self, **params: Any) -> Self:
        """Set parameters, those of layers by making the network anew.

        Parameters
        ----------
        **params : object
            ``output="nngp"``, ``network__dense__bias_var=0.1``.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For a name that neither kernel nor network has.
        """
        prefix = "network__"
        own = {key: value for key, value in params.items() if not key.startswith(prefix)}
        super().set_params(**own)
        nested = {
            key[len(prefix) :]: value for key, value in params.items() if key.startswith(prefix)
        }
        if nested:
            self.network = self.network.with_params(**nested)
        return self

    @property
    def hyperparameters(self) -> list[Hyperparameter]:
        """Those of the layers, ``network__...``."""
        return [
            Hyperparameter(f"network__{h.name}", h.value_type, h.bounds)
            for h in self.network.hyperparameters
        ]

    @property
    def theta(self) -> np.ndarray:
        """Logarithms of the free hyperparameters."""
        params = self.get_params()
        return np.log(np.array([params[name] for name in self._free_names()], dtype=np.float64))

    @theta.setter
    def theta(self, theta: np.ndarray) -> None:
        values = (float(value) for value in np.exp(theta))
        self.set_params(**dict(zip(self._free_names(), values, strict=True)))

    def joint(self, X: Any, Y: Any = None) -> tuple[Any, Any]:
        """Return the NNGP and NTK Gram matrices of the network, both divided by the NTK's constant.

        Parameters
        ----------
        X, Y : array-like of shape (n, d) and (m, d)
            Rows; Y None means X.

        Returns
        -------
        nngp, ntk : ndarray or Tensor of shape (n, m)

        Raises
        ------
        TypeError
            If the output is "nngp".
        """
        self._check_tangents("joint NNGP and NTK")
        nngp, ntk = self._grams(X, Y, self._both, n_outputs=2)
        return nngp, ntk

    def joint_diag(self, X: Any) -> tuple[Any, Any]:
        """Return the diagonals of :meth:`joint`.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Rows.

        Returns
        -------
        nngp, ntk : ndarray or Tensor of shape (n,)

        Raises
        ------
        TypeError
            If the output is "nngp".
        """
        self._check_tangents("joint NNGP and NTK")
        x, _ = self._rows(X, None)
        with torch.no_grad():
            values = self._values(x.device)
            found = self._on_diagonal(x, values, _nngp), self._diag(x, values)
        nngp, ntk = (self._like(K.to(self._dtype()), X) for K in found)
        return nngp, ntk

    def _check_tangents(self, wanted: str) -> None:
        if self.output != "ntk":
            raise TypeError(self._no_network(wanted))

    def nngp(self) -> "NetworkKernel":
        """Return the covariance kernel of the same network, normalized by its own constant."""
        return clone(self).set_params(output="nngp")

    def _check_parameters(self, n_features: int) -> None:
        if not isinstance(self.network, Layer):
            raise TypeError(f"`network` is {self.network!r}; expected layers such as Dense().")
        self.network.gaussian(False)
        if self.output not in ("ntk", "nngp"):
            raise ValueError(f"`output` is {self.output!r}; expected 'ntk' or 'nngp'.")
        if self.image_shape is not None:
            shape = tuple(self.image_shape)
            if len(shape) != 3 or int(np.prod(shape)) != n_features or min(shape) < 1:
                raise ValueError(
                    f"`image_shape` is {self.image_shape!r} and rows have {n_features} features; "
                    "expected (c, h, w) with c h w of them, channels first."
                )

    def _entries_per_pair(self, n_features: int) -> int:
        if self.image_shape is None:
            return 1
        pixels = int(self.image_shape[1]) * int(self.image_shape[2])
        return pixels**2 if self.network.mixes_pixels else pixels

    @property
    def _layers(self) -> Layer:
        return self.network if self.output == "ntk" else self.network.untrained()

    def _values(self, device: torch.device) -> dict[str, Tensor]:
        params = self.get_params()
        like = torch.zeros((), dtype=torch.float64)
        values = {h.name: like.new_tensor(float(params[h.name])) for h in self.hyperparameters}
        return {name: value.to(device, row_dtype(device)) for name, value in values.items()}

    def _inputs(self, x: Tensor) -> tuple[Directions | Pixels, Features]:
        if self.image_shape is None:
            return directions_of(x)
        pixels = Pixels.of(x, self.image_shape, all_pairs=self.network.mixes_pixels)
        return pixels, pixels.features

    def _itself(self, inputs: Directions | Pixels, features: Features) -> KernelState:
        """Pair rows with themselves; with pairs of pixels where the network averages over them."""
        state = KernelState(features, features.partners, same=True)
        if isinstance(inputs, Pixels) and self.network.mixes_pixels:
            partners = tuple(as_partners(c) for c in inputs.channels)
            found = inputs.angles(partners, features, features.partners, features.var.dtype)
            return replace(found, same=True)
        return state

    def _prepare(self, x: Tensor, values: Values) -> Prepared:
        entries = self._entries_per_pair(x.shape[1])
        check_memory(
            _TEMPORARIES * entries * x.dtype.itemsize,
            x.device,
            what=f"One pair of images with {entries} pairs of pixels, {_TEMPORARIES} times,",
            instead="Use smaller images, strides in the first layer, or Flatten for pooling.",
        )
        inputs, features = self._inputs(x)
        after = self._outputs(self._itself(inputs, features), values)
        dtype = self.network.dtype(self._dtype(), x.dtype)
        rows = features.to(dtype), after.to(dtype)
        partners = (
            tuple(as_columns(c) for c in inputs.channels) if isinstance(inputs, Pixels) else ()
        )
        gain = self._gain(x, values)
        return Prepared(inputs, partners, rows, (rows[0].columns, rows[1].columns), gain)

    def _outputs(self, itself: KernelState, values: Values) -> Features:
        """Follow rows through the network."""
        after = self.network.untrained().rows(itself, values_of("network", values))
        if after.var.ndim != 2:
            raise ValueError(
                f"The network ends with pixels: {self.network!r}. Add GlobalAvgPool2d() or "
                "Flatten() to make them a row."
            )
        return after

    def _gain(self, x: Tensor, values: Values) -> Tensor | None:
        if not self.normalize:
            return None
        ones = x.new_ones((1, x.shape[1]))
        return self._read(self._with_itself(ones, values)).reshape(()).reciprocal()

    def _read(self, state: KernelState) -> Tensor:
        if self.output == "nngp":
            return state.nngp
        if state.ntk is None:
            raise ValueError(
                f"No layer of {self.network!r} is trained, so it has no tangent kernel. Train one, "
                "or pass output='nngp'."
            )
        return state.tangents

    def _tile(self, rx: Prepared, ry: Prepared, values: Values) -> Tensor:
        return self._finished(self._read(self._paired(rx, ry, values)), rx)

    def _both(self, rx: Prepared, ry: Prepared, values: Values) -> list[Tensor]:
        state = self._paired(rx, ry, values)
        return [self._finished(K, rx) for K in (state.nngp, self._read(state))]

    def _finished(self, K: Tensor, rx: Prepared) -> Tensor:
        return (K if rx.gain is None else K * rx.gain.to(K.dtype)).to(self._dtype())

    def _paired(self, rx: Prepared, ry: Prepared, values: Values) -> KernelState:
        (x, after_x), (y, after_y) = rx.x, ry.y
        if isinstance(rx.inputs, Pixels):
            state = rx.inputs.angles(ry.partners, x, y, x.var.dtype)
        else:
            assert isinstance(ry.inputs, Directions)
            sin2, cos2 = half_angles(rx.inputs, ry.inputs, x.var.dtype)
            state = KernelState(x, y, sin2=sin2, cos2=cos2)
        inside = {k: v.to(x.var.dtype) for k, v in values_of("network", values).items()}
        state = replace(state, same=rx is ry)
        return self._layers.propagate(state, after_x, after_y, inside)

    def _with_itself(self, x: Tensor, values: Values) -> KernelState:
        """Propagate rows paired with themselves, (n, 1)."""
        inputs, features = self._inputs(x)
        itself, inside = self._itself(inputs, features), values_of("network", values)
        after = self._outputs(itself, values)
        if not itself.paired:
            itself = replace(itself, sin2=torch.zeros_like(features.var))
        return self._layers.propagate(itself, after, after.partners, inside)

    def _diag(self, x: Tensor, values: Values) -> Tensor:
        return self._on_diagonal(x, values, self._read)

    def _on_diagonal(
        self, x: Tensor, values: Values, read: Callable[[KernelState], Tensor]
    ) -> Tensor:
        if not len(x):
            return x.new_empty(0)
        # So many images with themselves hold as much as a tile.
        size = tile_rows(x.device, x.dtype, self._entries_per_pair(x.shape[1])) ** 2
        found = [read(self._with_itself(x[s], values))[:, 0] for s in spans(len(x), size)]
        gain = self._gain(x, values)
        return torch.cat(found) if gain is None else torch.cat(found) * gain


def _nngp(state: KernelState) -> Tensor:
    return state.nngp
