"""Gram matrices of a kernel's features times a few others, which are never formed."""

import torch
from torch import Tensor

from sknk._array import as_tensor
from sknk.solvers._gram import GramOperator, Index, row_blocks

__all__ = ["GroupedGram", "ProductGram"]

_NUMBERS = 2**22  # of inner products that are held at once


class ProductGram(GramOperator):
    r"""K o (A A'): the kernel of features that are products of the kernel's and a few others.

    .. math:: K_{ij} \, a_i^\top a_j = \langle a_i \otimes \phi_i, a_j \otimes \phi_j \rangle

    which are never formed (Ash et al. 2020 for BADGE).

    Parameters
    ----------
    gram : GramOperator
        K of n rows.
    A : Tensor of shape (n, m)
        The few features.

    Raises
    ------
    ValueError
        If they are not as many rows.
    """

    def __init__(self, gram: GramOperator, A: Tensor) -> None:
        if A.ndim != 2 or len(A) != gram.shape[0]:
            raise ValueError(
                f"`A` has shape {tuple(A.shape)}; expected ({gram.shape[0]}, m), a line for each "
                "row of the kernel."
            )
        self.gram, self.A = gram, as_tensor(A, gram.device, gram.dtype)
        self.shape, self.width = gram.shape, gram.width
        self.dtype, self.device = gram.dtype, gram.device

    def block(self, i: Index, j: Index) -> Tensor:
        """Return K[i][:, j] o (A[i] A[j]')."""
        return self.gram.block(i, j) * (self.A[i] @ self.A[j].mT)

    def diag(self) -> Tensor:
        """Return the diagonal, (n,)."""
        return self.gram.diag() * self.A.square().sum(1)

    def dense(self) -> Tensor:
        """Return a newly computed matrix."""
        self._check_memory()
        return self.block(slice(None), slice(None))

    def matmul(self, V: Tensor) -> Tensor:
        """Return the product with V, one product of K with m times its columns."""
        V = as_tensor(V, self.device, self.dtype)
        columns = V.reshape(len(V), 1, -1)
        A = self.A[:, :, None]
        found = self.gram.matmul((A * columns).flatten(1)).reshape(len(V), A.shape[1], -1)
        return (A * found).sum(1).reshape(V.shape)

    def restrict(self, idx: Index) -> GramOperator:
        """Return the operator of the rows `idx`."""
        return ProductGram(self.gram.restrict(idx), self.A[idx])


class GroupedGram(GramOperator):
    r"""C rows of features for every row of a kernel: its features times each of C few ones.

    .. math:: K_{(i, c), (j, c')} = k_{ij} \, a_{ic}^\top a_{jc'}

    Row i C + c is the c-th of row i.

    Parameters
    ----------
    gram : GramOperator
        k of n rows.
    A : Tensor of shape (n, C, m)
        The few features.
    """

    def __init__(self, gram: GramOperator, A: Tensor) -> None:
        if A.ndim != 3 or len(A) != gram.shape[0]:
            raise ValueError(
                f"`A` has shape {tuple(A.shape)}; expected ({gram.shape[0]}, C, m), C lines for "
                "each row of the kernel."
            )
        self.gram, self.A = gram, as_tensor(A, gram.device, gram.dtype)
        self.each = A.shape[1]
        self.shape, self.width = (len(A) * self.each, len(A) * self.each), gram.width
        self.dtype, self.device = gram.dtype, gram.device

    def block(self, i: Index, j: Index) -> Tensor:
        """Return a block; every entry of k is computed once."""
        (rows, at_i, A_i), (columns, at_j, A_j) = self._lines(i), self._lines(j)
        return self.gram.block(rows, columns)[at_i][:, at_j].mul_(A_i @ A_j.mT)

    def diag(self) -> Tensor:
        """Return the diagonal, (n C,)."""
        return (self.gram.diag()[:, None] * self.A.square().sum(2)).flatten()

    def dense(self) -> Tensor:
        """Return a newly computed matrix."""
        self._check_memory()
        return self.block(slice(None), slice(None))

    def matmul(self, V: Tensor) -> Tensor:
        """Return the product with V, one product of k with m times its columns."""
        V = as_tensor(V, self.device, self.dtype)
        weighed = self.A.mT @ V.reshape(len(self.A), self.each, -1)  # (n, m, t)
        found = self.gram.matmul(weighed.flatten(1)).view_as(weighed)
        return (self.A @ found).reshape(V.shape)

    def within(self) -> Tensor:
        """Return the blocks of groups with themselves, (n, C, C)."""
        return self.gram.diag()[:, None, None] * (self.A @ self.A.mT)

    def squares(self) -> Tensor:
        """Return the blocks of K^2 of groups with themselves, (n, C, C); O(n^2 m^2) time."""
        n, _, m = self.A.shape
        outer = (self.A.mT @ self.A).flatten(1)  # (n, m^2)
        sums = torch.empty_like(outer)  # pieces kept apart would hold on to freed blocks
        for rows in row_blocks(n, max(1, _NUMBERS // n)):
            sums[rows] = self.gram.rows(rows).square() @ outer
        return self.A @ sums.view(n, m, m) @ self.A.mT

    def _lines(self, idx: Index) -> tuple[Index, Tensor, Tensor]:
        """Return distinct rows of k, where each of `idx` is among them, and its few features."""
        every = torch.arange(self.shape[0], device=self.device)
        if isinstance(idx, slice) and idx == slice(None):  # read in place
            return idx, every // self.each, self.A.flatten(0, 1)
        every = every[idx]
        rows, places = torch.unique(every // self.each, return_inverse=True)
        return rows, places, self.A.flatten(0, 1)[every]
