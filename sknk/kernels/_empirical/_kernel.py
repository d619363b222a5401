"""EmpiricalNTK: the tangent kernel of a torch module."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from sknk._array import as_tensor
from sknk._validation import memory_budget
from sknk.exceptions import NonFiniteGradientError
from sknk.kernels import _tiles
from sknk.kernels._base import Kernel, Values
from sknk.kernels._empirical._checks import EMBEDDINGS
from sknk.kernels._empirical._choice import GRADIENTS, IMPLEMENTATIONS, SKETCHED, Choice, choose
from sknk.kernels._empirical._contractions import SUMMED
from sknk.kernels._empirical._embeddings import embeddings
from sknk.kernels._empirical._forms import Forms
from sknk.kernels._empirical._gradients import Dense, RowGradients, scaled, signs
from sknk.kernels._empirical._implementation import RowState, remembered
from sknk.kernels._empirical._linearize import Linearization
from sknk.kernels._empirical._module import unwrap
from sknk.kernels._empirical._network import Network, Piece, pieces
from sknk.kernels._empirical._object import ModuleKernel
from sknk.kernels._empirical._parameters import select
from sknk.kernels._empirical._products import VectorProducts
from sknk.kernels._empirical._sketch import SKETCHES, Rademacher

__all__ = ["EmpiricalNTK"]

# Gradients of one output in less than this many bytes: not worth asking whether Jacobians fit.
_SMALL = 2**22
_DIRECTIONS = 2**27  # bytes of the parameter directions that a product holds at once


class EmpiricalNTK(Forms, ModuleKernel):
    r"""Tangent kernel of a torch module, trained or not.

    With the Jacobian J(x) = df/dtheta, (O, P), of O outputs in P parameters,

    .. math:: K(x, x') = \tfrac1O \operatorname{tr} J(x) J(x')^\top

    for ``kind="trace"``, and so on (Jacot et al. 2018; Mohamadi et al. 2023 for the pseudo-NTK;
    Engel et al. 2024 for the trace, embedding and projected kernels; Malladi et al. 2023 for
    signs). The module is never changed, and runs in evaluation mode. Rows are inputs of the module,
    one each.

    Parameters
    ----------
    module : nn.Module, or object with a ``module_``
        Maps (n, ...) to (n,), (n, O) or (n, a, b); a skorch net stands for its module. Clones have
        a copy: a fitted estimator keeps the weights it was fitted with.
    kind : {"trace", "pseudo", "sign", "last_layer", "embedding"}, default="trace"
        "trace": mean over outputs (``Normalized`` makes it the cosine form, trNTK); "pseudo": of
        the sum of outputs over sqrt(O); "sign": of the gradients' signs, mean over outputs;
        "last_layer": of the input of the last layer with parameters (conjugate kernel);
        "embedding": of the hidden inputs of all layers with parameters, summed.
    params : None, str, iterable of str, or callable, default=None
        The parameters theta: names or shell patterns ("*.bias"), or ``params(name, parameter)``
        that returns True; None is all that require a gradient.
    projection : int or None, default=None
        Number of random features k that stand for the gradients: K = Z Z' with Z (n, k), whose
        error falls as k^-1/2. See :meth:`features`.
    sketch : {"rademacher", "sparse"}, default="rademacher"
        Signs for every parameter and feature, or four signs for every parameter.
    implementation : str, default="auto"
        "structured" (factors of layers), "jacobian" (torch.func), "vector_products" or "loop";
        "auto" is the first of structured, jacobian and loop that serves, for Rademacher features of
        the trace kernel "vector_products" before all. See :meth:`choose_implementation`.
    chunk_size : int or None, default=None
        Rows of one forward and backward pass; None is a block of tiles. Changes memory only.
    input_shape : tuple of int or None, default=None
        Shape of one input that a row holds, such as (1, 8, 8).
    input_dtype : str, torch.dtype or None, default=None
        Integer dtype of inputs that are codes, such as "int64" for token ids.
    random_state : int, default=0
        Seed of the projection.

    Raises
    ------
    ValueError
        When called: rows or parameters that do not fit the module, an implementation that cannot
        serve it (naming the layer), rows that influence each other.
    NonFiniteGradientError
        When called, for a row where a gradient is not finite.

    See Also
    --------
    sknk.features.EmpiricalNTKFeatures : The projection as a transformer.
    linearize : The module's first-order model.

    Notes
    -----
    Structured gradients cost Q backward passes to the outputs of layers (Q = O, or 1 for "pseudo")
    and O(n width) memory, a Gram matrix O(n^2 Q width); contracting Jacobians O(n Q P) memory and
    O(n^2 Q P) time, with parameters split into passes where Jacobians do not fit into half the
    memory budget.

    Examples
    --------
    >>> import torch
    >>> from sklearn.datasets import load_iris
    >>> from sknk import NTKRidgeClassifier
    >>> from sknk.kernels import EmpiricalNTK
    >>> X, y = load_iris(return_X_y=True)
    >>> _ = torch.manual_seed(0)
    >>> net = torch.nn.Sequential(torch.nn.Linear(4, 64), torch.nn.Tanh(), torch.nn.Linear(64, 3))
    >>> NTKRidgeClassifier(EmpiricalNTK(net), alpha=0.1).fit(X, y).score(X, y) > 0.95
    True
    """

    def __init__(
        self,
        module: Any,
        kind: str = "trace",
        params: Any = None,
        projection: int | None = None,
        sketch: str = "rademacher",
        implementation: str = "auto",
        chunk_size: int | None = None,
        input_shape: tuple[int, ...] | None = None,
        input_dtype: Any = None,
        random_state: int = 0,
    ) -> None:
        self.module = module
        self.kind = kind
        self.params = params
        self.projection = projection
        self.sketch = sketch
        self.implementation = implementation
        self.chunk_size = chunk_size
        self.input_shape = input_shape
        self.input_dtype = input_dtype
        self.random_state = random_state

    def choose_implementation(self, X: Any) -> Choice:
        """Return which implementation serves these rows, and why the ones before it do not.

        Parameters
        ----------
        X : array-like or Tensor of shape (n, d)
            At least one row.

        Returns
        -------
        Choice
            With ``name`` and ``refusals``.

        Raises
        ------
        ValueError
            If none serves, or `kind` needs none.
        """
        if self.kind in EMBEDDINGS:
            raise ValueError(f"kind={self.kind!r} differentiates nothing: one forward pass serves.")
        x, _ = self._rows(X, None)
        network = self._network(x, self._values(x.device))
        return self._choose(network, x, sketched=self.projection is not None)

    def linearize(self) -> Linearization:
        """Return the first-order model of the module, in the parameters that `params` chooses.

        Returns
        -------
        Linearization
        """
        return Linearization(self)

    def _choose(self, network: Network, x: Tensor, *, sketched: bool = False) -> Choice:
        order: tuple[str, ...] = GRADIENTS
        if self.kind != "sign" and not (sketched and self.sketch == "sparse"):
            # Forward mode makes features of all outputs at the price of one output's.
            order = SKETCHED if sketched and self.kind == "trace" else (*GRADIENTS, SKETCHED[0])
        return choose(self.implementation, order, unwrap(self.module), network, x)

    def _prepare(self, x: Tensor, values: Values) -> RowState:
        network = self._network(x, values)
        if self.kind in EMBEDDINGS:
            return embeddings(network, x, last=self.kind == "last_layer")
        W = self._combinations(network, x)
        if self.projection is not None:
            Z = self._sketched(network, x, W)
            return RowGradients((("",),), (Dense(Z[None, :, None]),))
        return self._state(network, x, W)

    def _combinations(self, network: Network, x: Tensor) -> Tensor:
        """Return the combinations of outputs that are differentiated, (Q, n, O)."""
        outputs = network.n_outputs
        whole = torch.eye(outputs, dtype=network.dtype, device=x.device)
        rows = whole.sum(0, keepdim=True) if self.kind == "pseudo" else whole
        return (rows / outputs**0.5)[:, None].expand(-1, len(x), -1)

    def _state(self, network: Network, x: Tensor, W: Tensor, *, together: bool = True) -> Any:
        """Return gradients of a block of rows; their signs for that kind."""
        state = self._checked_state(network, x, W, together=together)
        return self._signed(state, network, W) if self.kind == "sign" else state

    def _checked_state(self, network: Network, x: Tensor, W: Tensor, *, together: bool) -> Any:
        """Return finite gradients of a block of rows, made chunk by chunk."""
        implementation = IMPLEMENTATIONS[self._choose(network, x).name]
        chunks = _tiles.spans(len(x), self.chunk_size or len(x))
        found = [implementation.prepare(network, x[s], W[:, s], together=together) for s in chunks]
        state = type(found[0]).joined(found)
        bad = state.first_bad()
        if bad is not None:
            raise NonFiniteGradientError(*bad)
        return state

    @staticmethod
    def _signed(state: RowGradients, network: Network, W: Tensor) -> RowGradients:
        return scaled(signs(state, network.lengths(state.names)), W.shape[-1] ** -0.5)

    def _sketched(self, network: Network, x: Tensor, W: Tensor) -> Tensor:
        """Return random features, (n, k)."""
        assert self.projection is not None
        if self._choose(network, x, sketched=True).name == "vector_products":
            rows = IMPLEMENTATIONS["vector_products"].prepare(network, x, W, together=False)
            bad = rows.first_bad()
            if bad is not None:
                raise NonFiniteGradientError(*bad)
            return Rademacher(self.projection, self.random_state).products(network, x, W)
        sketch = SKETCHES[self.sketch](self.projection, self.random_state)
        return sketch.gradients(self._state(network, x, W, together=False), network)

    def _tile(self, rx: Any, ry: Any, values: Values) -> Tensor:
        return rx.contract(ry, SUMMED)

    def _diag(self, x: Tensor, values: Values) -> Tensor:
        parts = [
            self._prepare(x[s], values).diag() for s in _tiles.spans(len(x), self._tile_rows(x))
        ]
        return torch.cat(parts) if parts else x.new_zeros(0)

    def _prepare_with_diag(self, x: Tensor, values: Values) -> tuple[Any, Tensor]:
        state = self._prepare(x, values)
        return state, state.diag()

    def _grams(self, X: Any, Y: Any, tile: Any, *, prepare: Any = None, n_outputs: int = 1) -> Any:
        def grams(part: Self) -> list[Any]:
            own = None if prepare is None else partial(prepare, part)
            return Kernel._grams(part, X, Y, tile, prepare=own, n_outputs=n_outputs)

        first, *rest = (grams(part) for part in self._passes(X, Y))
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
        if self._prefers_products(X, V):
            return self._matmul_by_products(X, Y, V)
        first, *rest = (Kernel.matmul(part, X, Y, V) for part in self._passes(X, Y))
        return sum(rest, first)

    def _prefers_products(self, X: Any, V: Any) -> bool:
        if self.projection is not None or self.kind in ("sign", *EMBEDDINGS):
            return False
        x, _ = self._rows(X, None)
        if self.implementation != "auto" or not len(x) or np.size(V) >= len(V) * len(x):
            return self.implementation == "vector_products"
        return self._knows("products", x, lambda: self._products_serve(x))

    def _products_serve(self, x: Tensor) -> bool:
        network = self._network(x[:1], self._values(x.device))
        named = type(self)(**{**self.get_params(deep=False), "implementation": "vector_products"})
        try:
            return self._choose(network, x[:1]).name != "structured" and bool(
                named._choose(network, x[:1])
            )
        except ValueError:  # forward mode refuses
            return False

    def _matmul_by_products(self, X: Any, Y: Any, V: Any) -> Any:
        """Push sums of gradients forward: 2 Q t passes over the rows, whatever n and m are."""
        x, y = self._rows(X, Y)
        y = x if y is None else y
        v = as_tensor(V, x.device, self._dtype())
        if len(v) != len(y):
            raise ValueError(f"`V` has {len(v)} rows; expected {len(y)}.")
        columns = v[:, None] if v.ndim == 1 else v
        out = columns.new_zeros((len(x), columns.shape[1]))
        if len(x) and len(y):
            with torch.no_grad():
                values = self._values(x.device)
                at, of = (self._blocks(rows, values) for rows in (x, y))
                self._fill_products(out, at, of, columns)
        return self._like(out[:, 0] if v.ndim == 1 else out, X)

    @staticmethod
    def _fill_products(out: Tensor, at: _tiles.Blocks, of: _tiles.Blocks, columns: Tensor) -> None:
        _, first = at[0]
        each = len(first.W) * sum(leaf.numel() for leaf in first.network.leaves.values())
        step = max(1, int(_DIRECTIONS // (each * out.element_size())))
        for t in _tiles.spans(out.shape[1], step):
            blocks = [columns[s, t] for s, _ in of]
            directions = VectorProducts.directions([rows for _, rows in of], blocks)
            for s, rows in at:
                out[s, t] = VectorProducts.moved(rows, directions)

    def _passes(self, X: Any, Y: Any) -> list[Self]:
        """Return kernels of parts of the parameters, whose sum is this one."""
        # One, but where Jacobians of all rows would take more than half the memory budget.
        x, y = self._rows(X, Y)
        n = len(x) + (0 if y is None else len(y))
        if not len(x) or self.kind in EMBEDDINGS or self.projection or self._pieces is not None:
            return [self]
        if n * _size(unwrap(self.module)) * self._dtype().itemsize < _SMALL:
            return [self]
        if not self._knows("passes", x, lambda: self._forms_jacobians(x)):
            return [self]
        network = self._network(x[:1], self._values(x.device))
        outputs = 1 if self.kind == "pseudo" else network.n_outputs
        room = memory_budget(x.device) / (2 * n * outputs * self._dtype().itemsize)
        groups = pieces(network, room)
        return [self] if len(groups) == 1 else [self._restricted(group) for group in groups]

    def _knows(self, what: str, x: Tensor, find: Callable[[], bool]) -> bool:
        """Return what a network has to be made for, once: mirrors cost time in every call."""
        module = unwrap(self.module)
        names, inputs = tuple(select(module, self.params)), (self.input_shape, self.input_dtype)
        where = (x.shape[1], self._dtype(), x.device)
        return remembered(
            module, (what, self.implementation, self.kind, names, inputs, where), find
        )

    def _forms_jacobians(self, x: Tensor) -> bool:
        network = self._network(x[:1], self._values(x.device))
        return self._choose(network, x[:1]).name in ("jacobian", "loop")

    def _restricted(self, group: Sequence[Piece]) -> Self:
        part = type(self)(**self.get_params(deep=False))
        part._pieces = group
        return part


def _size(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
