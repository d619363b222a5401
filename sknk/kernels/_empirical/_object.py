"""What a kernel of a torch module is as an object: copies, pickles, equality, its network."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import clone
from torch import Tensor

from sknk.kernels._base import Kernel, Values
from sknk.kernels._empirical._checks import EMBEDDINGS, check_parameters, code_dtype
from sknk.kernels._empirical._module import (
    duplicate,
    equal_modules,
    inner,
    portable,
    tensors_of,
    unwrap,
)
from sknk.kernels._empirical._network import Network, Packing, Piece
from sknk.kernels._empirical._parameters import select
from sknk.kernels._empirical._verification import remembered, run_through

__all__ = ["ModuleKernel"]


class ModuleKernel(Kernel):
    """A kernel whose values are a module's weights."""

    module: Any
    kind: str
    params: Any
    input_shape: tuple[int, ...] | None
    input_dtype: Any

    _pieces: Sequence[Piece] | None = None  # of the parameters, where one pass does not hold all

    def __sklearn_clone__(self) -> Self:
        """Copy the module with its weights; scikit-learn would reset a skorch net."""
        params = {k: clone(v, safe=False) for k, v in self._settings().items()}
        return type(self)(module=duplicate(inner(self.module)), **params)

    def __getstate__(self) -> dict[str, Any]:
        """Return what a pickle keeps: the module on the CPU."""
        found = inner(self.module)
        kept = portable(found) if isinstance(found, torch.nn.Module) else found
        return {**vars(self), "module": kept}

    def __eq__(self, other: object) -> bool:
        """Compare settings, and modules by structure and weights."""
        if type(self) is not type(other):
            return False
        assert isinstance(other, ModuleKernel)
        own, others = self._settings(), other._settings()
        if not all(np.array_equal(own[k], others[k]) for k in own):
            return False
        mine, theirs = inner(self.module), inner(other.module)
        if isinstance(mine, torch.nn.Module) and isinstance(theirs, torch.nn.Module):
            return equal_modules(mine, theirs)
        return mine is theirs

    __hash__ = None  # mutable, compared by value

    def __repr__(self) -> str:
        """Return the settings; of the module its class and size."""
        found = inner(self.module)
        size = ""
        if isinstance(found, torch.nn.Module):
            size = f" of {sum(p.numel() for p in found.parameters())} parameters"
        defaults = type(self)(module=None)._settings()
        shown = "".join(f", {k}={v!r}" for k, v in self._settings().items() if v != defaults[k])
        return f"{type(self).__name__}(<{type(found).__name__}{size}>{shown})"

    def _no_network(self, wanted: str) -> str:
        return (
            f"{self!r} is the tangent kernel of one network, so it has no {wanted}. It serves "
            "posterior='ntkgp', the ordinary Gaussian process; use NTK for 'nngp' and 'ensemble'."
        )

    def _settings(self) -> dict[str, Any]:
        return {k: v for k, v in self.get_params(deep=False).items() if k != "module"}

    def _values(self, device: torch.device) -> dict[str, Tensor]:
        """Return parameters and buffers: the weights are this kernel's values."""
        return tensors_of(unwrap(self.module), device, self._dtype())

    def _network(self, x: Tensor, values: Values) -> Network:
        """Return the module as a function, once it has been seen to be one of single rows."""
        module = unwrap(self.module)
        pieces = self._pieces
        if pieces is None:
            names = [] if self.kind in EMBEDDINGS else select(module, self.params)
            pieces = [Piece(name) for name in names]
        network = Network(module, dict(values), pieces, self._packing(), self._dtype())
        key = ("function", network.packing, x.shape[1], network.dtype, x.device)
        network.n_outputs = remembered(module, key, lambda: run_through(network.fresh(), x))
        return network

    def _packing(self) -> Packing:
        shape = None if self.input_shape is None else tuple(self.input_shape)
        return Packing(shape, code_dtype(self.input_dtype))

    def _rows(self, X: Any, Y: Any) -> tuple[Tensor, Tensor | None]:
        x, y = super()._rows(X, Y)
        self._packing().check(x, "X")
        if y is not None:
            self._packing().check(y, "Y")
        return x, y

    def _check_parameters(self, n_features: int) -> None:
        check_parameters(self, n_features)
