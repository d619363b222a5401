"""Gram matrices as operators: stored, computed from a kernel, or mapped from a file."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sknk._array import as_tensor, compute_device, row_dtype
from sknk._validation import check_memory

__all__ = ["DenseGram", "GramOperator", "KernelGram", "MappedGram", "as_operator"]

# Row blocks of this many bytes keep a product's temporaries far below the matrix itself.
_BLOCK_BYTES = 2**26

Index = Any  # slice, list, or one-dimensional integer array or tensor


def row_blocks(n: int, rows: int) -> Iterator[slice]:
    """Yield the slices that cover ``range(n)`` by `rows` at a time; the last may be shorter."""
    for start in range(0, n, rows):
        yield slice(start, min(start + rows, n))


def square_bytes(n: int, dtype: torch.dtype) -> float:
    """Return the bytes of an n x n matrix."""
    return float(n) * n * dtype.itemsize


def _check_square(shape: tuple[int, ...]) -> None:
    if len(shape) != 2 or shape[0] != shape[1] or shape[0] == 0:
        raise ValueError(
            f"Gram matrix of shape {tuple(shape)}; expected a square, non-empty (n, n). "
            "Pass the Gram matrix of the training rows with themselves."
        )


class GramOperator(ABC):
    """A symmetric positive semi-definite n x n matrix that need not be stored.

    Attributes
    ----------
    shape : tuple of int
        (n, n).
    dtype : torch.dtype
        Of every block.
    device : torch.device
        Where blocks live.
    width : int
        Numbers that are copied for each row of a block.
    """

    width: int = 1
    shape: tuple[int, int]
    dtype: torch.dtype
    device: torch.device

    @abstractmethod
    def block(self, i: Index, j: Index) -> Tensor:
        """Return K[i][:, j].

        Parameters
        ----------
        i, j : slice, list, or integer array or tensor
            Rows and columns.

        Returns
        -------
        Tensor of shape (len(i), len(j))
        """

    @abstractmethod
    def diag(self) -> Tensor:
        """Return the diagonal, (n,)."""

    @abstractmethod
    def dense(self) -> Tensor:
        """Return the whole matrix, (n, n); 8 n^2 bytes in float64.

        The result may share memory with the operator; :meth:`writable` never does unasked.
        """

    def rows(self, idx: Index) -> Tensor:
        """Return K[idx], of shape (len(idx), n)."""
        return self.block(idx, slice(None))

    def matmul(self, V: Tensor) -> Tensor:
        """Return K V by blocks of rows; O(n^2 t) time, K never stored.

        Parameters
        ----------
        V : Tensor of shape (n, t) or (n,)
            The factor.

        Returns
        -------
        Tensor of the shape of V
        """
        n = self.shape[0]
        V = as_tensor(V, self.device, self.dtype)
        out = torch.empty_like(V)
        for block in row_blocks(n, max(1, _BLOCK_BYTES // (n * self.dtype.itemsize))):
            out[block] = self.rows(block) @ V
        return out

    def centred(self) -> "GramOperator":
        """Return an operator with the same distances, of smaller numbers where that is cheap."""
        return self

    def restrict(self, idx: Index) -> "GramOperator":
        """Return the operator of the rows and columns `idx`."""
        return DenseGram(self.block(idx, idx))

    def writable(self, *, overwrite: bool = False) -> Tensor:
        """Return a dense, contiguous matrix that the caller may write into.

        Parameters
        ----------
        overwrite : bool, default=False
            Hand out the operator's own memory where it has any, instead of a copy.

        Returns
        -------
        Tensor of shape (n, n)
        """
        return self.dense()

    def _check_memory(self) -> None:
        n = self.shape[0]
        check_memory(
            square_bytes(n, self.dtype),
            self.device,
            what=f"A dense {n} x {n} Gram matrix",
            instead="Use fewer rows, `dtype='float32'`, or overwrite the matrix you hold.",
        )


class DenseGram(GramOperator):
    """A stored Gram matrix.

    Parameters
    ----------
    K : Tensor of shape (n, n)
        The matrix; kept, not copied.

    Raises
    ------
    ValueError
        If K is not square or not floating point.
    """

    def __init__(self, K: Tensor) -> None:
        _check_square(K.shape)
        if not K.is_floating_point():
            raise ValueError(f"Gram matrix of dtype {K.dtype}; expected float32 or float64.")
        self._K = K.detach()
        self.shape = (K.shape[0], K.shape[0])
        self.dtype, self.device = K.dtype, K.device

    def block(self, i: Index, j: Index) -> Tensor:
        """Return K[i][:, j]."""
        return self._K[i][:, j]

    def diag(self) -> Tensor:
        """Return the diagonal, (n,)."""
        return self._K.diagonal()

    def dense(self) -> Tensor:
        """Return the stored matrix itself."""
        return self._K

    def matmul(self, V: Tensor) -> Tensor:
        """Return K V."""
        return self._K @ as_tensor(V, self.device, self.dtype)

    def writable(self, *, overwrite: bool = False) -> Tensor:
        """Return a copy, or the stored matrix itself where `overwrite` allows it."""
        # A column-major K is its own transpose in row-major order: no copy.
        K = self._K if self._K.is_contiguous() else self._K.mT
        if overwrite and K.is_contiguous():
            return K
        self._check_memory()
        return torch.empty(self.shape, device=self.device, dtype=self.dtype).copy_(K)


class KernelGram(GramOperator):
    """The Gram matrix of a kernel on rows, computed block by block where that is enough.

    Parameters
    ----------
    kernel : callable
        ``kernel(X)``, ``kernel(X, Y)`` and ``kernel.diag(X)``; ``kernel.matmul(X, Y, V)`` is used
        where it exists.
    X : Tensor of shape (n, ...)
        The rows.

    Raises
    ------
    ValueError
        If there are no rows.
    """

    def __init__(self, kernel: Any, X: Tensor) -> None:
        _check_square((len(X), len(X)))
        self.kernel, self.X = kernel, X
        self.shape = (len(X), len(X))
        # The kernel, not its rows, decides the dtype: one row tells.
        probe = torch.as_tensor(kernel.diag(X[:1]))
        self.dtype, self.device = probe.dtype, X.device

    def _tensor(self, values: Any) -> Tensor:
        return as_tensor(values, self.device, self.dtype).detach()

    def block(self, i: Index, j: Index) -> Tensor:
        """Return k(X[i], X[j])."""
        return self._tensor(self.kernel(self.X[i], self.X[j]))

    def diag(self) -> Tensor:
        """Return k(x, x) of every row, (n,)."""
        return self._tensor(self.kernel.diag(self.X))

    def dense(self) -> Tensor:
        """Return a newly computed K; the kernel checks the memory."""
        return self._tensor(self.kernel(self.X))

    def matmul(self, V: Tensor) -> Tensor:
        """Return K V, K never stored."""
        if not hasattr(self.kernel, "matmul"):
            return super().matmul(V)
        V = as_tensor(V, self.device, self.dtype)
        return self._tensor(self.kernel.matmul(self.X, self.X, V))

    def restrict(self, idx: Index) -> "GramOperator":
        """Return the operator of the rows `idx`; nothing is computed."""
        return KernelGram(self.kernel, self.X[idx])


class MappedGram(GramOperator):
    """A Gram matrix in a memory-mapped file, read in blocks of rows.

    Parameters
    ----------
    K : memmap or ndarray of shape (n, n)
        float32 or float64; never written to.

    Raises
    ------
    ValueError
        If K is not square or not floating point.
    """

    def __init__(self, K: np.ndarray) -> None:
        _check_square(K.shape)
        if K.dtype not in (np.float32, np.float64):
            raise ValueError(f"Mapped Gram matrix of dtype {K.dtype}; expected float32 or float64.")
        self._K = K
        self.shape = (K.shape[0], K.shape[0])
        self.dtype = torch.float32 if K.dtype == np.float32 else torch.float64
        self.device = compute_device()

    def _read(self, values: np.ndarray) -> Tensor:
        return as_tensor(np.array(values), self.device, self.dtype)

    def block(self, i: Index, j: Index) -> Tensor:
        """Read K[i][:, j]."""
        i, j = (x.cpu().numpy() if isinstance(x, Tensor) else x for x in (i, j))
        return self._read(self._K[i][:, j])

    def diag(self) -> Tensor:
        """Read the diagonal, (n,)."""
        return self._read(self._K.diagonal())

    def dense(self) -> Tensor:
        """Read the whole file; 8 n^2 bytes in float64."""
        self._check_memory()
        out = torch.empty(self.shape, device=self.device, dtype=self.dtype)
        for block in row_blocks(self.shape[0], max(1, _BLOCK_BYTES // self._K[0].nbytes)):
            out[block] = self.rows(block)
        return out


def as_operator(gram: Any) -> GramOperator:
    """Return `gram` as a :class:`GramOperator`.

    Parameters
    ----------
    gram : Tensor, ndarray, memmap, GramOperator or tuple (kernel, X)
        Arrays keep their floating dtype and, on the CPU, their memory; a memmap stays on disk.

    Returns
    -------
    GramOperator

    Raises
    ------
    ValueError
        If an array is not square.
    TypeError
        For anything else.
    """
    if isinstance(gram, GramOperator):
        return gram
    if isinstance(gram, Tensor):
        return DenseGram(gram)
    if isinstance(gram, np.memmap):
        return MappedGram(gram)
    if isinstance(gram, np.ndarray):
        dtype = torch.float32 if gram.dtype == np.float32 else torch.float64
        return DenseGram(as_tensor(gram, compute_device(), dtype))
    if isinstance(gram, tuple) and len(gram) == 2 and callable(gram[0]):
        kernel, X = gram
        if not isinstance(X, Tensor):
            device = compute_device()
            X = as_tensor(X, device, row_dtype(device))
        return KernelGram(kernel, X)
    raise TypeError(
        f"Gram matrix is a {type(gram).__name__}; expected a tensor, an array, a memmap, a "
        "GramOperator or a tuple (kernel, X)."
    )
