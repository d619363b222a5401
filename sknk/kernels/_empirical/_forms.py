"""What an empirical tangent kernel has beside its Gram matrix of rows."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sknk._validation import check_memory
from sknk.kernels import _tiles
from sknk.kernels._base import Kernel, Values
from sknk.kernels._empirical._checks import EMBEDDINGS, check_labels
from sknk.kernels._empirical._contractions import EACH, PAIRS, SUMMED
from sknk.kernels._empirical._gradients import RowGradients, contracted, signs
from sknk.kernels._empirical._network import Network

__all__ = ["Forms"]

_INSTEAD = "Use fewer rows, `kind='pseudo'`, or dtype 'float32'."


class Forms:
    """Kernels of single outputs, of labelled rows, of parameters; features; asymmetric signs.

    They differentiate the outputs themselves, in the parameters that `params` chooses; `kind` and
    `projection` matter to :meth:`features` and :meth:`layerwise` only.
    """

    def full(self: Any, X: Any, Y: Any = None) -> Any:
        r"""Return the tangent kernel of all outputs, Theta(x, x') = J(x) J(x')'.

        O(n m O^2 width) time with structured gradients, 8 n m O^2 bytes.

        Parameters
        ----------
        X, Y : array-like or Tensor of shape (n, d) and (m, d)
            Rows; Y None means X.

        Returns
        -------
        ndarray or Tensor of shape (n O, m O)
            Row i O + c is output c of row i.

        Raises
        ------
        MemoryBudgetError
            If the result does not fit.

        Examples
        --------
        >>> import torch
        >>> from sknk.kernels import EmpiricalNTK
        >>> kernel = EmpiricalNTK(torch.nn.Linear(2, 3, bias=False))
        >>> kernel.full([[1.0, 2.0]])
        array([[5., 0., 0.],
               [0., 5., 0.],
               [0., 0., 5.]])
        """
        x, y, outputs = self._rows_and_outputs(X, Y)
        n, m = len(x), len(x if y is None else y)
        what = f"A tangent kernel of n={n} by {m} rows and {outputs} outputs"
        check_memory(
            self._gram_bytes(n * outputs, m * outputs), x.device, what=what, instead=_INSTEAD
        )
        out = torch.zeros((n, outputs, m, outputs), dtype=self._dtype(), device=x.device)
        for part in self._passes(X, Y, plain=True):
            with torch.no_grad():
                bx = part._output_blocks(x)
                by = None if y is None else part._output_blocks(y)
                for i, rx, j, ry, mirrored in _tiles.pairs(bx, by):
                    K = rx.contract(ry, PAIRS)  # (n, O, m, O)
                    if rx is ry:
                        K = 0.5 * (K + K.permute(2, 3, 0, 1))  # exactly symmetric
                    out[i, :, j] += K
                    if mirrored:
                        out[j, :, i] += K.permute(2, 3, 0, 1)
        return self._like(out.reshape(n * outputs, m * outputs), X)

    def per_output(self: Any, X: Any, Y: Any = None) -> Any:
        """Return the tangent kernel of every single output.

        Parameters
        ----------
        X, Y : array-like or Tensor of shape (n, d) and (m, d)
            Rows; Y None means X.

        Returns
        -------
        ndarray or Tensor of shape (O, n, m)
            Their mean is the trace kernel.
        """
        _, _, outputs = self._rows_and_outputs(X, Y)

        def tile(rx: RowGradients, ry: RowGradients, values: Values) -> Sequence[Tensor]:
            return list(rx.contract(ry, EACH))

        def prepare(kernel: Any, x: Tensor, values: Values) -> Any:
            network = kernel._network(x, values)
            return kernel._checked_state(network, x, _each_output(network, x), together=True)

        return _stack(self._grams(X, Y, tile, prepare=prepare, n_outputs=outputs))

    def labelled(self: Any, X: Any, y: Any, Y: Any = None, y2: Any = None) -> Any:
        r"""Return the labelled pseudo-NTK (lpNTK; Guo et al. 2024, eq. 5).

        .. math:: K = \tfrac{1}{O^2}\, s(y)^\top \Theta(x, x')\, s(y'), \quad s_k(y) = \pm 1

        with + where k = y: large entries mean rows that teach the same, negative ones rows that
        contradict each other.

        Parameters
        ----------
        X : array-like or Tensor of shape (n, d)
            Rows.
        y : array-like of shape (n,)
            Their labels, 0 to O - 1.
        Y : array-like or Tensor of shape (m, d) or None
            Other rows; None means X.
        y2 : array-like of shape (m,) or None
            Their labels.

        Returns
        -------
        ndarray or Tensor of shape (n, m)

        Raises
        ------
        ValueError
            For labels that are no outputs, or one of Y and y2 without the other.
        """
        if (Y is None) is not (y2 is None):
            raise ValueError(
                f"`Y` is {'missing' if Y is None else 'given'} and `y2` is "
                f"{'missing' if y2 is None else 'given'}; expected both or neither."
            )
        x, z, outputs = self._rows_and_outputs(X, Y)
        mine = _label_signs(check_labels(y, len(x), outputs, "y"), outputs)
        theirs = None
        if y2 is not None:
            m = len(x if z is None else z)
            theirs = _label_signs(check_labels(y2, m, outputs, "y2"), outputs)
        return self._weighed(X, Y, mine, theirs)

    def _weighed(self: Any, X: Any, Y: Any, mine: np.ndarray, theirs: np.ndarray | None) -> Any:
        """Return the kernel of one combination of outputs for each row, (n, O) and (m, O)."""
        x, y = self._rows(X, Y)
        y = x if y is None else y  # the same rows may have other labels
        n, m = len(x), len(y)
        what = f"A Gram matrix of n={n} by {m} rows"
        check_memory(self._gram_bytes(n, m), x.device, what=what, instead=_INSTEAD)
        total = torch.zeros((n, m), dtype=self._dtype(), device=x.device)
        for part in self._passes(X, Y):
            K = torch.empty_like(total)
            with torch.no_grad():
                bx = part._weighed_blocks(x, mine)
                by = None if theirs is None else part._weighed_blocks(y, theirs)
                _tiles.fill([K], lambda rx, ry: [rx.contract(ry, SUMMED)], bx, by)
            total += K
        return self._like(total, X)

    def asymmetric_sign(self: Any, X: Any, Y: Any = None) -> Any:
        r"""Return <sign grad f(x), grad f(x')>, mean over outputs (Malladi et al. 2023, def. 3.6).

        The kernel of sign descent: one step of it on x with rate eta moves f(x') by eta times this.
        Not symmetric; see :func:`sknk.solvers.asymmetric_svm` for its solver.

        Parameters
        ----------
        X, Y : array-like or Tensor of shape (n, d) and (m, d)
            Rows; Y None means X. Signs are those of X.

        Returns
        -------
        ndarray or Tensor of shape (n, m)

        Raises
        ------
        ValueError
            For an implementation that has no gradients entry by entry.
        """
        x, y, outputs = self._rows_and_outputs(X, Y)
        y = x if y is None else y
        what = f"A Gram matrix of n={len(x)} by {len(y)} rows"
        check_memory(self._gram_bytes(len(x), len(y)), x.device, what=what, instead=_INSTEAD)
        total = torch.zeros((len(x), len(y)), dtype=self._dtype(), device=x.device)
        # Signs can be taken of the implementations that serve this kind.
        for part in self._with(kind="sign", projection=None)._passes(X, Y, plain=True):
            K = torch.empty_like(total)
            with torch.no_grad():
                by, lengths = part._separate_blocks(y)
                bx = by if x is y else part._separate_blocks(x)[0]
                signed = [(s, signs(state, lengths)) for s, state in bx]
                _tiles.fill([K], lambda rx, ry: [rx.contract(ry, SUMMED)], signed, by)
            total += K
        return self._like(total / outputs, X)

    def layerwise(self: Any, X: Any, Y: Any = None) -> dict[str, Any]:
        """Return the kernel of every parameter by itself; they sum to the kernel of all.

        Parameters
        ----------
        X, Y : array-like or Tensor of shape (n, d) and (m, d)
            Rows; Y None means X.

        Returns
        -------
        dict of str to (ndarray or Tensor of shape (n, m))
            By name, in the module's order.

        Raises
        ------
        ValueError
            For a kind without parameters, or a projection.
        """
        products = self.implementation == "vector_products"
        if self.kind in EMBEDDINGS or self.projection is not None or products:
            raise ValueError(
                f"layerwise has kind={self.kind!r}, projection={self.projection!r}, "
                f"implementation={self.implementation!r}; expected 'trace', 'pseudo' or 'sign', no "
                "projection and no 'vector_products': others do not part by parameter."
            )
        found: dict[str, Any] = {}
        x, _ = self._rows(X, None)
        for part in self._passes(X, Y):
            names = part._network(x, part._values(x.device)).names
            for name, K in zip(names, part._by_parameter(X, Y, names), strict=True):
                found[name] = found[name] + K if name in found else K
        return found

    def _by_parameter(self: Any, X: Any, Y: Any, names: Sequence[str]) -> list[Any]:
        def tile(rx: RowGradients, ry: RowGradients, values: Values) -> list[Tensor]:
            return [contracted(rx.part(name), ry.part(name), SUMMED) for name in names]

        def prepare(x: Tensor, values: Values) -> Any:
            network = self._network(x, values)
            return self._state(network, x, self._combinations(network, x), together=False)

        # The base's own: this is one of the passes.
        return Kernel._grams(self, X, Y, tile, prepare=prepare, n_outputs=len(names))

    def features(self: Any, X: Any) -> Any:
        r"""Return Z with K = Z Z': the random projection of the gradients, or embeddings.

        .. math:: z_k(x) = k^{-1/2} \sum_q s_{qk} \sum_p S_{pk}\, \partial_p g_q(x)

        with signs S and s, and the combinations of outputs g of the kernel's kind; E[Z Z'] is that
        kernel and its error falls as k^-1/2. Signs depend on `random_state` and names only. Kinds
        of embeddings are made of finite features and need no projection.

        Parameters
        ----------
        X : array-like or Tensor of shape (n, d)
            Rows.

        Returns
        -------
        ndarray or Tensor of shape (n, k)
            With k = `projection`, or as many as embeddings have.

        Raises
        ------
        ValueError
            If `projection` is None and the kind is one of gradients.
        """
        if self.kind in EMBEDDINGS:
            return self._embedded(X)
        if self.projection is None:
            raise ValueError("`projection` is None; expected the number of features.")
        x, _ = self._rows(X, None)
        n_bytes = self._gram_bytes(len(x), self.projection)
        check_memory(n_bytes, x.device, what=f"Features of n={len(x)} rows", instead=_INSTEAD)
        with torch.no_grad():
            blocks = self._blocks(x, self._values(x.device))
            parts = [state.parts[0].values[0, :, 0] for _, state in blocks]
            empty = torch.empty((0, self.projection), dtype=self._dtype(), device=x.device)
        return self._like(torch.cat([empty, *parts]), X)

    def _embedded(self: Any, X: Any) -> Any:
        """Return what layers are given, side by side, (n, k)."""
        x, _ = self._rows(X, None)
        with torch.no_grad():
            blocks = self._blocks(x, self._values(x.device))
            parts = [
                torch.cat([part.values.flatten(2)[0] for part in state.parts], 1)
                for _, state in blocks
            ]
        return self._like(torch.cat(parts), X)

    def _weighed_features(self: Any, X: Any, weights: np.ndarray) -> Any:
        """Return the random projection of one combination of outputs for each row, (n, k)."""
        x, _ = self._rows(X, None)
        n_bytes = self._gram_bytes(len(x), self.projection)
        check_memory(n_bytes, x.device, what=f"Features of n={len(x)} rows", instead=_INSTEAD)
        W = torch.as_tensor(weights, dtype=self._dtype(), device=x.device)[None]

        def state(network: Network, rows: Tensor, index: Tensor) -> Any:
            return self._sketched(network, rows, W[:, index])

        with torch.no_grad():
            parts = [Z for _, Z in self._blocks_of(x, state)]
        return self._like(torch.cat(parts), X)

    def _rows_and_outputs(self: Any, X: Any, Y: Any) -> tuple[Tensor, Tensor | None, int]:
        if self.kind in EMBEDDINGS:
            raise ValueError(
                f"kind={self.kind!r} differentiates nothing; expected 'trace', 'pseudo' or 'sign'."
            )
        x, y = self._rows(X, Y)
        if not len(x) or (y is not None and not len(y)):
            raise ValueError(
                f"`{'Y' if len(x) else 'X'}` has no rows; expected at least one, to see the shape "
                "of outputs."
            )
        network = self._network(x, self._values(x.device))
        return x, y, network.n_outputs

    def _blocks_of(self: Any, x: Tensor, state: Callable[[Network, Tensor, Tensor], Any]) -> Any:
        """Prepare blocks of rows; `state` is told which rows they are."""
        values = self._values(x.device)

        def prepare(index: Tensor) -> Any:
            rows = x[index]
            return state(self._network(rows, values), rows, index)

        index = torch.arange(len(x), device=x.device)
        return _tiles.blocks_of(index, prepare, self._tile_rows(x))

    def _output_blocks(self: Any, x: Tensor) -> Any:
        def state(network: Network, rows: Tensor, _: Tensor) -> Any:
            W = _each_output(network, rows)
            return self._checked_state(network, rows, W, together=True)

        return self._blocks_of(x, state)

    def _weighed_blocks(self: Any, x: Tensor, weights: np.ndarray) -> Any:
        W = torch.as_tensor(weights, dtype=self._dtype(), device=x.device)[None]

        def state(network: Network, rows: Tensor, index: Tensor) -> Any:
            return self._checked_state(network, rows, W[:, index], together=True)

        return self._blocks_of(x, state)

    def _separate_blocks(self: Any, x: Tensor) -> tuple[Any, list[int]]:
        lengths: list[int] = []

        def state(network: Network, rows: Tensor, _: Tensor) -> Any:
            W = _each_output(network, rows)
            found = self._checked_state(network, rows, W, together=False)
            lengths[:] = network.lengths(found.names)
            return found

        return self._blocks_of(x, state), lengths


def _each_output(network: Network, x: Tensor) -> Tensor:
    """Return the outputs one by one, (O, n, O)."""
    outputs = network.n_outputs
    eye = torch.eye(outputs, dtype=network.dtype, device=x.device)
    return eye[:, None].expand(-1, len(x), -1)


def _label_signs(labels: np.ndarray, n_outputs: int) -> np.ndarray:
    """Return s(y) / O, (n, O)."""
    return np.where(np.eye(n_outputs, dtype=bool)[labels], 1.0, -1.0) / n_outputs


def _stack(grams: Sequence[Any]) -> Any:
    return torch.stack(list(grams)) if isinstance(grams[0], Tensor) else np.stack(grams)
