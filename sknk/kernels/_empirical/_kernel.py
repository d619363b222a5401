"""EmpiricalNTK: the tangent kernel of a torch module."""

from typing import Any

import torch
from torch import Tensor

from sknk._validation import memory_budget
from sknk.exceptions import NonFiniteGradientError
from sknk.kernels import _tiles
from sknk.kernels._base import Values
from sknk.kernels._empirical._checks import EMBEDDINGS
from sknk.kernels._empirical._choice import GRADIENTS, IMPLEMENTATIONS, SKETCHED, Choice, choose
from sknk.kernels._empirical._contractions import SUMMED
from sknk.kernels._empirical._embeddings import embeddings
from sknk.kernels._empirical._forms import Forms
from sknk.kernels._empirical._gradients import Dense, RowGradients, scaled, signs
from sknk.kernels._empirical._implementation import RowState
from sknk.kernels._empirical._linearize import Linearization
from sknk.kernels._empirical._network import Network
from sknk.kernels._empirical._passes import Passes
from sknk.kernels._empirical._products import VectorProducts
from sknk.kernels._empirical._sketch import SKETCHES, Rademacher

__all__ = ["EmpiricalNTK"]

_NUMBERS = 2**24  # of gradients that are formed together where they are not kept


class EmpiricalNTK(Forms, Passes):
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
    params : None, str, collection of str, or callable, default=None
        The parameters theta: names or shell patterns (``"*.bias"``), or ``params(name, parameter)``
        that returns True; None is all that require a gradient.
    projection : int or None, default=None
        Number of random features k that stand for the gradients: K = Z Z' with Z (n, k), whose
        error falls as k^-1/2. See :meth:`features`.
    sketch : {"rademacher", "sparse", "gaussian"}, default="rademacher"
        Signs for every parameter and feature, four signs for every parameter, or products of
        Gaussian sketches of a weight's two axes, which leave structured gradients in factors.
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
    and O(n Q width) memory, a Gram matrix O(n^2 Q width); contracting Jacobians O(n Q P) memory and
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
        if self.kind != "sign" and not (sketched and self.sketch != "rademacher"):
            # Forward mode makes features of all outputs at the price of one output's.
            order = SKETCHED if sketched and self.kind == "trace" else (*GRADIENTS, SKETCHED[0])
        return choose(self.implementation, order, network, x)

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
        found = []
        for s in _tiles.spans(len(x), self.chunk_size or len(x)):
            try:
                found.append(implementation.prepare(network, x[s], W[:, s], together=together))
            except ValueError as error:
                raise ValueError(
                    f"Implementation {implementation.name!r} fails at these rows, though not at "
                    f"others: {error}. Pass implementation='jacobian' or 'loop'."
                ) from error
        state = type(found[0]).joined(found)
        bad = state.first_bad()
        if bad is not None:
            raise NonFiniteGradientError(*bad)
        return state

    @staticmethod
    def _signed(state: RowGradients, network: Network, W: Tensor) -> RowGradients:
        return scaled(signs(state, network.lengths(state.names)), W.shape[-1] ** -0.5)

    def _sketched(self, network: Network, x: Tensor, W: Tensor) -> Tensor:
        """Return random features, (n, k), of a few rows at a time."""
        assert self.projection is not None
        if self._choose(network, x, sketched=True).name == "vector_products":
            Z = Rademacher(self.projection, self.random_state).products(network, x, W)
            if not bool(Z.isfinite().all()):
                rows = VectorProducts().prepare(network, x, W, together=False)
                raise NonFiniteGradientError(*(rows.first_bad() or rows.first_of(Z)))
            return Z
        sketch = SKETCHES[self.sketch](self.projection, self.random_state)
        parts = _tiles.blocks_of(
            torch.arange(len(x)),
            lambda i: sketch.gradients(
                self._state(network, x[i], W[:, i], together=False), network
            ),
            self._few(network, W) if sketch.forms_gradients else self.chunk_size or len(x),
        )
        return torch.cat([Z for _, Z in parts])

    def _few(self, network: Network, W: Tensor) -> int:
        """Return how many rows' gradients may be formed together, at least one."""
        size = max(1, len(W) * network.size)
        numbers = min(_NUMBERS, memory_budget(W.device) / (2 * W.element_size()))
        return self.chunk_size or max(1, min(W.shape[1], int(numbers // size)))

    def _tile(self, rx: Any, ry: Any, values: Values) -> Tensor:
        return rx.contract(ry, SUMMED)

    def _diag(self, x: Tensor, values: Values) -> Tensor:
        if not len(x):
            return x.new_zeros(0)
        size = self._tile_rows(x)
        if self.projection is None and self.kind not in EMBEDDINGS:
            network = self._network(x, values)
            size = min(size, self._few(network, self._combinations(network, x)))
        blocks = _tiles.blocks_of(x, lambda rows: self._prepare(rows, values).diag(), size)
        return torch.cat([d for _, d in blocks])

    def _prepare_with_diag(self, x: Tensor, values: Values) -> tuple[Any, Tensor]:
        state = self._prepare(x, values)
        return state, state.diag()
