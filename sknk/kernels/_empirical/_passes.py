"""How an empirical kernel goes over many rows or parameters: in passes, or by products."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Self

import torch
from torch import Tensor

from sknk._array import as_tensor
from sknk._validation import memory_budget
from sknk.exceptions import NonFiniteGradientError
from sknk.kernels import _tiles
from sknk.kernels._base import Kernel
from sknk.kernels._empirical._checks import EMBEDDINGS
from sknk.kernels._empirical._module import unwrap
from sknk.kernels._empirical._network import Network, Piece, pieces
from sknk.kernels._empirical._object import ModuleKernel
from sknk.kernels._empirical._parameters import select
from sknk.kernels._empirical._products import VectorProducts
from sknk.kernels._empirical._verification import remembered

__all__ = ["Passes"]

# Gradients of one output in less than this many bytes: not worth asking whether Jacobians fit.
_SMALL = 2**22
_DIRECTIONS = 2**27  # bytes of the parameter directions that a product holds at once


class Passes(ModuleKernel):
    """Gram matrices as sums over parts of the parameters, and products without either."""

    projection: int | None
    implementation: str

    _choose: Callable[..., Any]
    _combinations: Callable[[Network, Tensor], Tensor]

    def _grams(self, X: Any, Y: Any, tile: Any, *, prepare: Any = None, n_outputs: int = 1) -> Any:
        def grams(part: Self) -> list[Any]:
            own = None if prepare is None else partial(prepare, part)
            return Kernel._grams(part, X, Y, tile, prepare=own, n_outputs=n_outputs)

        first, *rest = (grams(part) for part in self._passes(X, Y, plain=prepare is not None))
        for others in rest:
            first = [a + b for a, b in zip(first, others, strict=True)]
        return first

    def matmul(self, X: Any, Y: Any, V: Any) -> Any:
        """Return K(X, Y) @ V; K is never stored.

        Where structured gradients do not serve and V has fewer columns than X has rows, "auto"
        takes vector products: no Jacobian is stored either.

        Parameters
        ----------
        X, Y : array-like or Tensor of shape (n, d) and (m, d)
            Rows; Y None means X.
        V : array-like or Tensor of shape (m,) or (m, t)
            Vectors.

        Returns
        -------
        ndarray or Tensor of shape (n,) or (n, t)

        Raises
        ------
        ValueError
            If V does not have one entry for every row of Y.
        """
        x, y = self._rows(X, Y)
        v = as_tensor(V, x.device, self._dtype())
        if self._prefers_products(x, v):
            return self._like(self._by_products(x, x if y is None else y, v), X)
        first, *rest = (Kernel.matmul(part, X, Y, V) for part in self._passes(X, Y))
        return sum(rest, first)

    def _prefers_products(self, x: Tensor, v: Tensor) -> bool:
        if self.projection is not None or self.kind in ("sign", *EMBEDDINGS) or not v.numel():
            return False
        few = v.numel() < len(v) * len(x)
        if self.implementation != "auto" or not few:
            return self.implementation == "vector_products"
        return self._knows("products", x, lambda: self._products_serve(x))

    def _products_serve(self, x: Tensor) -> bool:
        """Return whether structured gradients do not serve, and forward mode does."""
        network = self._network(x, self._values(x.device))
        if self._choose(network, x).name == "structured":
            return False
        try:
            return bool(self._with(implementation="vector_products")._choose(network, x))
        except ValueError:
            return False

    def _by_products(self, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        """Push sums of gradients forward: 2 Q t passes over the rows, whatever n and m are."""
        if len(v) != len(y):
            raise ValueError(f"`V` has {len(v)} rows; expected {len(y)}.")
        columns = v[:, None] if v.ndim == 1 else v
        out = columns.new_zeros((len(x), columns.shape[1]))
        if len(x):
            with torch.no_grad():
                network = self._network(x, self._values(x.device))
                size = self.chunk_size or self._tile_rows(x)
                at, of = (self._waiting(network, rows, size) for rows in (x, y))
                self._fill_products(out, at, of, columns)
        return out[:, 0] if v.ndim == 1 else out

    def _waiting(self, network: Network, x: Tensor, size: int) -> _tiles.Blocks:
        def prepare(rows: Tensor) -> Any:
            W = self._combinations(network, rows)
            return VectorProducts().prepare(network, rows, W, together=False)

        return _tiles.blocks_of(x, prepare, size)

    @staticmethod
    def _fill_products(out: Tensor, at: _tiles.Blocks, of: _tiles.Blocks, columns: Tensor) -> None:
        _, first = at[0]
        each = len(first.W) * first.network.size
        step = max(1, int(_DIRECTIONS // (each * out.element_size())))
        for t in _tiles.spans(out.shape[1], step):
            blocks = [columns[s, t] for s, _ in of]
            directions = VectorProducts.directions([rows for _, rows in of], blocks)
            for s, rows in at:
                out[s, t] = VectorProducts.moved(rows, directions)
        if not bool(out.isfinite().all()):
            _name_the_bad([*at, *of])

    def _passes(self, X: Any, Y: Any, *, plain: bool = False) -> list[Self]:
        """Return kernels of parts of the parameters, whose sum is this one.

        Parameters
        ----------
        X, Y : array-like or Tensor of shape (n, d) and (m, d)
            Rows.
        plain : bool
            Whether all outputs are differentiated, whatever `kind` and `projection` say.

        Returns
        -------
        list of Passes
            One, but where Jacobians of all rows would take more than half the memory budget.
        """
        x, y = self._rows(X, Y)
        n = len(x) + (0 if y is None else len(y))
        features = self.projection is not None and not plain
        if not len(x) or self.kind in EMBEDDINGS or features or self._pieces is not None:
            return [self]
        size = sum(p.numel() for p in unwrap(self.module).parameters())
        if n * size * self._dtype().itemsize < _SMALL:
            return [self]
        if not self._knows("passes", x, lambda: self._forms_jacobians(x)):
            return [self]
        network = self._network(x, self._values(x.device))
        outputs = 1 if self.kind == "pseudo" and not plain else network.n_outputs
        room = memory_budget(x.device) / (2 * n * outputs * self._dtype().itemsize)
        groups = pieces(network, room)
        return [self] if len(groups) == 1 else [self._restricted(group) for group in groups]

    def _knows(self, what: str, x: Tensor, find: Callable[[], bool]) -> bool:
        """Return what a network has to be made for, once: mirrors cost time in every call."""
        module = unwrap(self.module)
        names, where = tuple(select(module, self.params)), (x.shape[1], self._dtype(), x.device)
        key = (what, self.implementation, self.kind, names, self._packing(), where)
        return remembered(module, key, lambda: (find(), True))

    def _forms_jacobians(self, x: Tensor) -> bool:
        network = self._network(x, self._values(x.device))
        return self._choose(network, x).name in ("jacobian", "loop")

    def _with(self, **changes: Any) -> Self:
        """Return this kernel with other settings, of the same module."""
        return type(self)(**{**self.get_params(deep=False), **changes})

    def _restricted(self, group: Sequence[Piece]) -> Self:
        part = self._with()
        part._pieces = group
        return part


def _name_the_bad(blocks: Sequence[tuple[slice, Any]]) -> None:
    """Raise for the first row whose gradient is not finite, if there is one."""
    for span, rows in blocks:
        bad = rows.first_bad()
        if bad is not None:
            raise NonFiniteGradientError(*bad).after(span.start)
