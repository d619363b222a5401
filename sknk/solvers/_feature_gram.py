"""Gram matrices of features: K = Phi Phi', never stored."""

from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sknk._array import as_tensor
from sknk.solvers._gram import GramOperator, Index, row_blocks

__all__ = ["CentredFeatureGram", "FeatureGram", "StackedRows"]

_NUMBERS = 2**22  # of features that are copied, or made, at once
_MOST = 0.9  # part of the squared norms that the mean has before it is subtracted


class StackedRows:
    """Rows of several tables, one below another, which stay where they are until they are read.

    Parameters
    ----------
    parts : sequence of (table, idx)
        An ndarray or Tensor of shape (m, d), and which of its rows; None is all of them.
    device : torch.device
        Of what is read.
    dtype : torch.dtype
        Of what is read.

    Attributes
    ----------
    shape : tuple of int
        (n, d).
    """

    def __init__(
        self,
        parts: Sequence[tuple[Any, np.ndarray | None]],
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self._parts, self.device, self.dtype = parts, device, dtype
        counts = [len(table if idx is None else idx) for table, idx in parts]
        self._bounds = list(pairwise(accumulate(counts, initial=0)))
        self.shape = (sum(counts), parts[0][0].shape[1])

    def __len__(self) -> int:
        """Return n."""
        return self.shape[0]

    def __getitem__(self, idx: slice | Tensor) -> Tensor:
        """Return some rows, (k, d); a slice of one table shares its memory."""
        if isinstance(idx, slice):
            start, stop, _ = idx.indices(len(self))
            for part, (first, end) in enumerate(self._bounds):
                if first <= start and stop <= end:
                    return self._read(part, slice(start - first, stop - first))
            places = np.arange(start, stop)
        else:
            places = idx.cpu().numpy()
        out = torch.empty((len(places), self.shape[1]), device=self.device, dtype=self.dtype)
        for part, (first, end) in enumerate(self._bounds):
            here = (first <= places) & (places < end)
            out[torch.from_numpy(here)] = self._read(part, places[here] - first)
        return out

    def tensor(self) -> Tensor:
        """Return all rows, (n, d): one copy, or none of a whole table."""
        if len(self._parts) == 1 and self._parts[0][1] is None:
            return self[:]
        out = torch.empty(self.shape, device=self.device, dtype=self.dtype)
        for J in row_blocks(len(self), _rows_of(self.shape[1])):
            out[J] = self[J]
        return out

    def _read(self, part: int, idx: slice | np.ndarray) -> Tensor:
        table, chosen = self._parts[part]
        rows = table[idx if chosen is None else chosen[idx]]
        return as_tensor(rows, self.device, self.dtype).detach()


class FeatureGram(GramOperator):
    """The inner products of rows of features.

    Parameters
    ----------
    Phi : Tensor or StackedRows of shape (n, d)
        Features, float32 or float64; kept, not copied. Stacked ones are copied into one tensor,
        which is kept, when they are first needed together.

    Attributes
    ----------
    Phi : Tensor of shape (n, d)
        The features in one tensor.
    width : int
        d; blocks of rows are as short as that asks for.

    Raises
    ------
    ValueError
        If they are no such table.
    """

    def __init__(self, Phi: Tensor | StackedRows) -> None:
        if len(Phi.shape) != 2 or not len(Phi) or not Phi.dtype.is_floating_point:
            raise ValueError(
                f"Features of shape {tuple(Phi.shape)} and dtype {Phi.dtype}; expected (n, d), "
                "n > 0, in float32 or float64."
            )
        self._source = Phi.detach() if isinstance(Phi, Tensor) else Phi
        self.shape, self.width = (len(Phi), len(Phi)), Phi.shape[1]
        self.dtype, self.device = Phi.dtype, Phi.device

    @cached_property
    def Phi(self) -> Tensor:
        """The features in one tensor, (n, d)."""
        return self._source if isinstance(self._source, Tensor) else self._source.tensor()

    def features(self, idx: slice | Tensor) -> Tensor:
        """Return the features of some rows, (k, d); nothing is stacked for them."""
        return self._source[idx]

    def mapped(
        self, function: Callable[[Tensor], Tensor], *, width: int, n: int | None = None
    ) -> "FeatureGram":
        """Return the operator of other features of the rows.

        Blocks of rows are read and mapped into one new tensor: beside it and the rows themselves,
        nothing of their size is held.

        Parameters
        ----------
        function : callable
            (k, d) -> (k, width), of each row by itself.
        width : int
            How many features it makes.
        n : int or None
            How many rows, from the first one on; None is all.

        Returns
        -------
        FeatureGram
        """
        n = self.shape[0] if n is None else n
        out = torch.empty((n, width), device=self.device, dtype=self.dtype)
        for J in row_blocks(n, _rows_of(max(width, self.width))):
            out[J] = function(self.features(J))
        return FeatureGram(out)

    def block(self, i: Index, j: Index) -> Tensor:
        """Return Phi[i] Phi[j]'."""
        return self.Phi[i] @ self.Phi[j].mT

    def diag(self) -> Tensor:
        """Return the squared norms, (n,)."""
        # No table of squares beside the features: they may fill the memory.
        return torch.einsum("ij,ij->i", self.Phi, self.Phi)

    def dense(self) -> Tensor:
        """Return a newly computed K."""
        self._check_memory()
        return self.Phi @ self.Phi.mT

    def matmul(self, V: Tensor) -> Tensor:
        """Return Phi (Phi' V); O(n d t)."""
        return self.Phi @ (self.Phi.mT @ as_tensor(V, self.device, self.dtype))

    def centred(self) -> "GramOperator":
        """Return the inner products of features less their mean, where that is most of them."""
        mean = self.Phi.mean(0)
        if float(mean.square().sum()) < _MOST * float(self.diag().mean()):
            return self
        return CentredFeatureGram(self, mean)

    def restrict(self, idx: Index) -> "FeatureGram":
        """Return the operator of the rows `idx`."""
        return FeatureGram(self.Phi[idx])


class CentredFeatureGram(GramOperator):
    """The inner products of features less a mean, which are never formed.

    Distances are those of the features, but come from numbers as small as they are themselves.

    Parameters
    ----------
    features : FeatureGram
        Of n rows.
    mean : Tensor of shape (d,)
        What is subtracted.
    """

    def __init__(self, features: FeatureGram, mean: Tensor) -> None:
        self.features, self.mean = features, mean
        self.shape, self.width = features.shape, features.width
        self.dtype, self.device = features.dtype, features.device

    def block(self, i: Index, j: Index) -> Tensor:
        """Return (Phi[i] - mean) (Phi[j] - mean)', by the features themselves."""
        Phi = self.features.Phi
        right = (Phi[j] - self.mean).mT
        return Phi[i] @ right - self.mean @ right

    def diag(self) -> Tensor:
        """Return the squared norms, (n,), by blocks of rows."""
        squares = self.mean.new_empty(self.shape[0])
        for J in row_blocks(self.shape[0], _rows_of(self.width)):
            squares[J] = (self.features.Phi[J] - self.mean).square_().sum(1)
        return squares

    def dense(self) -> Tensor:
        """Return a newly computed K."""
        self._check_memory()
        return self.block(slice(None), slice(None))

    def restrict(self, idx: Index) -> "CentredFeatureGram":
        """Return the operator of the rows `idx`, the mean as it is."""
        return CentredFeatureGram(self.features.restrict(idx), self.mean)


def _rows_of(width: int) -> int:
    """Return how many rows of so many features are in a block."""
    return max(1, _NUMBERS // max(1, width))
