"""Kernel: rows -> Gram matrix, for scikit-learn's tools and for torch."""

import inspect
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np
import scipy.sparse
import torch
from sklearn.base import clone
from sklearn.gaussian_process import kernels as sk
from sklearn.model_selection import ParameterGrid
from torch import Tensor

from sknk._array import as_tensor, compute_device, compute_dtype, row_dtype, to_numpy
from sknk._validation import check_memory, memory_budget
from sknk.kernels import _tiles
from sknk.kernels._gradient import Gradients, Gram, KernelGradient

__all__ = ["Candidate", "Kernel", "KernelGradient"]

Candidate = Mapping[str, Any]
Values = Mapping[str, Tensor]
_INSTEAD = "Use `kernel.matmul`, fewer rows, or dtype 'float32'."


class Kernel(Gradients, sk.Kernel):
    """Base of every kernel: three torch methods in, scikit-learn's kernel API out.

    Subclasses give ``_prepare(x, values)`` (rows -> row state), ``_tile(rx, ry, values)`` (two row
    states -> (n, m)), ``_diag(x, values)`` (n,), and name their numeric parameters in
    ``_value_names``; those reach the methods through `values` as tensors. Everything else is here
    once: symmetric calls, tiles, gradients, devices.
    """

    _value_names: tuple[str, ...] = ()

    def _prepare(self, x: Tensor, values: Values) -> Any:
        return x

    def _prepare_with_diag(self, x: Tensor, values: Values) -> tuple[Any, Tensor]:
        """Return row state and diagonal of a block; kernels whose state knows both say so."""
        return self._prepare(x, values), self._diag(x, values)

    @abstractmethod
    def _tile(self, rx: Any, ry: Any, values: Values) -> Tensor:
        """Return the kernel between two prepared blocks of rows, (n, m)."""

    @abstractmethod
    def _diag(self, x: Tensor, values: Values) -> Tensor:
        """Return K(x_i, x_i), (n,), never from a Gram matrix."""

    def _check_parameters(self, n_features: int) -> None:
        """Raise for parameters that no kernel has."""

    def __call__(self, X: Any, Y: Any = None, eval_gradient: bool = False) -> Any:
        """Return the Gram matrix of rows.

        Parameters
        ----------
        X, Y : array-like or Tensor of shape (n, d) and (m, d)
            Rows; Y None, or X itself, makes a symmetric call that evaluates one triangle.
        eval_gradient : bool, default=False
            Also return the derivative with respect to ``theta``; symmetric calls only.

        Returns
        -------
        K : ndarray or Tensor of shape (n, m)
            In the configured dtype; a tensor on the same device for tensors, through which
            gradients flow to inputs that require them.
        gradient : ndarray of shape (n, n, n_theta)
            If `eval_gradient`; costs one Gram matrix for every free hyperparameter.

        Raises
        ------
        ValueError
            For rows of the wrong shape, or a gradient of a cross Gram matrix.
        TypeError
            For sparse rows.
        MemoryBudgetError
            If the result does not fit.
        """
        if eval_gradient:
            return self._gram_and_gradient(X, Y)
        if torch.is_grad_enabled() and any(
            isinstance(a, Tensor) and a.requires_grad for a in (X, Y)
        ):
            other = None if Y is None or Y is X else torch.as_tensor(Y)
            return Gram.apply(self, torch.as_tensor(X), other)
        return self._grams(X, Y, lambda rx, ry, values: [self._tile(rx, ry, values)])[0]

    def diag(self, X: Any) -> Any:
        """Return K(x, x) of every row in O(n).

        Parameters
        ----------
        X : array-like or Tensor of shape (n, d)
            Rows.

        Returns
        -------
        ndarray or Tensor of shape (n,)
            In the configured dtype.
        """
        x, _ = self._rows(X, None)
        with torch.no_grad():
            found = self._diag(x, self._values(x.device)).to(self._dtype())
        return self._like(found, X)

    def matmul(self, X: Any, Y: Any, V: Any) -> Any:
        """Return K(X, Y) @ V tile by tile; K is never stored.

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
        if len(v) != len(x if y is None else y):
            raise ValueError(f"`V` has {len(v)} rows; expected {len(x if y is None else y)}.")
        columns = v[:, None] if v.ndim == 1 else v
        with torch.no_grad():
            values = self._values(x.device)
            bx, by = self._paired_blocks(x, y, values)
            out = torch.empty((len(x), columns.shape[1]), device=x.device, dtype=self._dtype())
            _tiles.matmul(out, lambda rx, ry: self._tile(rx, ry, values), columns, bx, by)
        return self._like(out[:, 0] if v.ndim == 1 else out, X)

    def gram_path(self, X: Any, Y: Any = None, **grid: Any) -> Iterator[tuple[dict[str, Any], Any]]:
        """Yield (parameters, K) at every point of a parameter grid; depths share one recursion.

        Parameters
        ----------
        X, Y : array-like or Tensor of shape (n, d) and (m, d)
            Rows; Y None means X.
        **grid : dict of str to list
            Values of this kernel's parameters.

        Yields
        ------
        params : dict
            One point of the grid; points that share work come together.
        K : ndarray or Tensor of shape (n, m)

        Examples
        --------
        >>> from sknk.kernels import NTK
        >>> path = NTK().gram_path([[1.0], [2.0]], depth=[1, 2], bias_var=[0.0, 0.1])
        >>> [sorted(params.items()) for params, _ in path][0]
        [('bias_var', 0.0), ('depth', 1)]
        """
        candidates = list(ParameterGrid(grid))
        for index, K in self._gram_path(X, Y, candidates):
            yield candidates[index], K

    def _gram_path(
        self, X: Any, Y: Any, candidates: Sequence[Candidate]
    ) -> Iterator[tuple[int, Any]]:
        for index, params in enumerate(candidates):
            yield index, self.clone_with_params(params)(X, Y)

    def joint(self, X: Any, Y: Any = None) -> tuple[Any, Any]:
        """Return (nngp, ntk) on one scale, for kernels of networks.

        Parameters
        ----------
        X, Y : array-like or Tensor of shape (n, d) and (m, d)
            Rows.

        Raises
        ------
        TypeError
            This kernel is not a tangent kernel.
        """
        raise TypeError(self._no_network("joint NNGP and NTK"))

    def joint_diag(self, X: Any) -> tuple[Any, Any]:
        """Return the diagonals of :meth:`joint`.

        Parameters
        ----------
        X : array-like or Tensor of shape (n, d)
            Rows.

        Raises
        ------
        TypeError
            This kernel is not a tangent kernel.
        """
        raise TypeError(self._no_network("joint NNGP and NTK"))

    def nngp(self) -> "Kernel":
        """Return the covariance kernel of the same network before training.

        It has the hyperparameters, free and fixed, of this one.

        Raises
        ------
        TypeError
            This kernel is not one of a network.
        """
        raise TypeError(self._no_network("NNGP"))

    def _no_network(self, wanted: str) -> str:
        return (
            f"{self!r} is no tangent kernel of a network, so it has no {wanted}. It serves "
            "posterior='ntkgp', the ordinary Gaussian process; use NTK for 'nngp' and 'ensemble'."
        )

    def is_stationary(self) -> bool:
        """Return False: tangent kernels see inner products, not differences."""
        return False

    def clone_with_params(self, params: Candidate) -> Self:
        """Return a copy with some parameters changed."""
        return clone(self).set_params(**params)

    def __add__(self, other: Any) -> Any:
        """Sum with a kernel or a number; scikit-learn's Sum with scikit-learn's kernels."""
        return _algebra().add(self, other)

    def __radd__(self, other: Any) -> Any:
        """Sum from the right."""
        return _algebra().add(other, self)

    def __mul__(self, other: Any) -> Any:
        """Product with a kernel, Scale with a number."""
        return _algebra().multiply(self, other)

    def __rmul__(self, other: Any) -> Any:
        """Product from the right."""
        return _algebra().multiply(other, self)

    def __eq__(self, other: object) -> bool:
        """Compare types and parameters."""
        if type(self) is not type(other):
            return False
        mine, theirs = self.get_params(deep=False), other.get_params(deep=False)
        return all(np.array_equal(mine[k], theirs[k]) for k in mine)

    __hash__ = None  # type: ignore[assignment]  # mutable, compared by value

    def __repr__(self) -> str:
        """Return the constructor form, defaults left out."""
        defaults = inspect.signature(type(self)).parameters
        shown = (
            f"{name}={value.tolist() if isinstance(value, np.ndarray | np.generic) else value!r}"
            for name, value in self.get_params(deep=False).items()
            if not np.array_equal(value, defaults[name].default)
        )
        return f"{type(self).__name__}({', '.join(shown)})"

    def _dtype(self) -> torch.dtype:
        return compute_dtype()

    def _values(self, device: torch.device) -> dict[str, Tensor]:
        """Return the numeric parameters as tensors, in the rows' dtype."""
        dtype = row_dtype(device)
        return {
            name: torch.as_tensor(np.asarray(getattr(self, name), dtype=np.float64)).to(
                device, dtype
            )
            for name in self._value_names
        }

    def _free_names(self) -> list[str]:
        return [h.name for h in self.hyperparameters if not h.fixed]

    def _rows(self, X: Any, Y: Any) -> tuple[Tensor, Tensor | None]:
        """Move rows to the device; Y None for symmetric calls."""
        device = compute_device(X)
        x = _row_tensor(X, "X", device)
        y = None if Y is None or Y is X else _row_tensor(Y, "Y", device)
        if y is not None and y.shape[1] != x.shape[1]:
            raise ValueError(f"`X` has {x.shape[1]} features and `Y` {y.shape[1]}; expected equal.")
        self._check_parameters(x.shape[1])
        return x, y

    def _blocks(
        self,
        x: Tensor,
        values: Values,
        prepare: Callable[[Tensor, Values], Any] | None = None,
        size: int | None = None,
    ) -> _tiles.Blocks:
        prepare = prepare or self._prepare
        size = self._tile_rows(x) if size is None else size
        return _tiles.blocks_of(x, lambda rows: prepare(rows, values), size)

    def _paired_blocks(
        self,
        x: Tensor,
        y: Tensor | None,
        values: Values,
        prepare: Callable[[Tensor, Values], Any] | None = None,
    ) -> tuple[_tiles.Blocks, _tiles.Blocks | None]:
        """Prepare both sides; a side beside few rows has longer blocks, of as many pairs."""
        if y is None:
            return self._blocks(x, values, prepare), None
        size = self._tile_rows(x)
        of_x, of_y = (max(size, size**2 // max(1, len(other))) for other in (y, x))
        return self._blocks(x, values, prepare, of_x), self._blocks(y, values, prepare, of_y)

    def _tile_rows(self, x: Tensor) -> int:
        return _tiles.tile_rows(x.device, self._dtype(), self._entries_per_pair(x.shape[1]))

    def _entries_per_pair(self, n_features: int) -> int:
        """Return how many numbers a tile holds for every pair of rows."""
        return 1

    @staticmethod
    def _like(result: Tensor, X: Any) -> Any:
        return result if isinstance(X, Tensor) else to_numpy(result)

    def _gram_bytes(self, n: int, m: int) -> int:
        return n * m * self._dtype().itemsize

    def _grams_at_once(self, X: Any, Y: Any) -> int:
        """Return how many Gram matrices half the memory budget holds, at least one."""
        x, y = self._rows(X, Y)
        each = self._gram_bytes(len(x), len(x if y is None else y))
        return max(1, int(min(memory_budget(x.device) // (2 * each + 1), 2**31)))

    def _grams(
        self,
        X: Any,
        Y: Any,
        tile: Callable[[Any, Any, Values], Sequence[Tensor]],
        *,
        prepare: Callable[[Tensor, Values], Any] | None = None,
        n_outputs: int = 1,
    ) -> list[Any]:
        """Fill `n_outputs` Gram matrices with one pass over the tiles."""
        x, y = self._rows(X, Y)
        n, m = len(x), len(x if y is None else y)
        count = "A" if n_outputs == 1 else f"{n_outputs} times a"
        what = f"{count} Gram matrix of n={n} by {m} rows in {self._dtype()}"
        check_memory(n_outputs * self._gram_bytes(n, m), x.device, what=what, instead=_INSTEAD)
        with torch.no_grad():
            values = self._values(x.device)
            bx, by = self._paired_blocks(x, y, values, prepare)
            outs = [x.new_empty((n, m), dtype=self._dtype()) for _ in range(n_outputs)]
            _tiles.fill(outs, lambda rx, ry: tile(rx, ry, values), bx, by)
        return [self._like(out, X) for out in outs]


def _row_tensor(X: Any, name: str, device: torch.device) -> Tensor:
    if scipy.sparse.issparse(X):
        raise TypeError(f"`{name}` is sparse; kernels need dense rows. Use `{name}.toarray()`.")
    if np.iscomplexobj(X) or (isinstance(X, Tensor) and X.is_complex()):
        raise TypeError(f"`{name}` is complex; expected real rows. Stack real and imaginary parts.")
    x = as_tensor(X, device, row_dtype(device))
    if x.ndim != 2:
        raise ValueError(
            f"`{name}` has shape {tuple(x.shape)}; expected rows (n, d). Reshape one feature with "
            "`.reshape(-1, 1)`, one row with `.reshape(1, -1)`."
        )
    return x


def _algebra() -> Any:
    from sknk.kernels import _algebra

    return _algebra
