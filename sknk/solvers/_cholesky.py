"""Cholesky factorization: exact, updatable, everyone's oracle in float64."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from numbers import Real
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from sknk._array import as_tensor
from sknk._validation import check_memory, memory_budget
from sknk.solvers._base import Factorization, Solver
from sknk.solvers._checks import check_shift, raise_not_finite
from sknk.solvers._gram import as_operator, row_blocks, square_bytes
from sknk.solvers._jitter import factorize_with_jitter_
from sknk.solvers._triangular import (
    backward,
    cholesky_,
    forward,
    inverse_columns,
    rank_update_,
    restore_lower_,
)

__all__ = ["Cholesky", "CholeskyFactorization"]

# A rank-k update of m trailing rows beats their new factorization from 512 rows on, for k up to
# m / 24 (measured at n = 3000, k = 1: 66 ms against 136; k = 150: 129 against 115).
_UPDATE_ROWS, _UPDATE_RATIO = 512, 24
# Room left by `append`: n appends copy O(n) buffers' worth in all, for 1.56 times the memory.
_GROWTH = 1.25


@dataclass
class _Store:
    """A packed buffer with room to grow, and how many of its rows are in use."""

    data: Tensor
    used: int


class CholeskyFactorization(Factorization):
    """K + diag(shift) = L L', in one n x n buffer with K above the diagonal.

    Parameters
    ----------
    packed : Tensor of shape (n, n)
        L below, diagonal included, and K above.
    diag, shift : Tensor of shape (n,)
        The diagonal of K, and the shift.
    jitter : float
        Added to the diagonal as well; units of K.
    largest_jitter : float
        Relative limit for what is factorized anew.
    """

    _transient: ClassVar[tuple[str, ...]] = ("_store",)
    _store: _Store | None = None

    def __init__(
        self, packed: Tensor, diag: Tensor, shift: Tensor, jitter: float, largest_jitter: float
    ) -> None:
        super().__init__(len(packed), packed.dtype, packed.device)
        self._packed, self._diag, self._shift = packed, diag, shift
        self.jitter_, self._largest_jitter = jitter, largest_jitter

    @property
    def L(self) -> Tensor:
        """The lower factor, (n, n), copied out; 8 n^2 bytes in float64."""
        return self._packed.tril()

    def solve(self, B: Tensor) -> Tensor:
        """Return L^-T L^-1 B; O(n^2 t)."""
        columns, shape = self._columns(B)
        return backward(self._packed, forward(self._packed, columns)).reshape(shape)

    def half_solve(self, B: Tensor) -> Tensor:
        """Return L^-1 B; O(n^2 t)."""
        columns, shape = self._columns(B)
        return forward(self._packed, columns).reshape(shape)

    def logdet(self) -> float:
        """Return the sum of :meth:`log_pivots`, accumulated in float64."""
        return float(self.log_pivots().cpu().double().sum())

    def log_pivots(self) -> Tensor:
        """Return log L_ii^2 in row order, (n,)."""
        return 2 * self._packed.diagonal().log()

    def inv_diag(self) -> Tensor:
        """Return the column sums of squares of L^-1; O(n^3 / 3) time, O(n) tiles of memory."""
        out = torch.empty_like(self._diag)
        for columns, values in inverse_columns(self._packed):
            out[columns] = values.square().sum(dim=0)
        return out

    def inv_tiles(self, tile: int = 512) -> Iterator[tuple[slice, slice, Tensor]]:
        """Yield tiles of L^-T L^-1, one slab of columns at a time."""
        for columns, values in inverse_columns(self._packed, tile):
            j = columns.start
            # The trailing rows of L^-T Z need the trailing rows of Z only.
            slab = backward(self._packed[j:, j:], values)
            for local in row_blocks(self.n - j, tile):
                yield slice(j + local.start, j + local.stop), columns, slab[local]

    def reshift(self, shift: Any) -> Self:
        """Factorize again from the K kept above the diagonal; O(n^3 / 3), one more buffer."""
        shift = check_shift(shift, self.n, self.device, self.dtype).expand(self.n)
        packed = self._new_buffer(self.n).copy_(self._packed)
        return self._refactorize_(packed, self._diag, shift)

    def append(
        self, K_cross: Tensor, K_new: Tensor, shift: Any, *, half: Tensor | None = None
    ) -> Self:
        """Border L by [K_cross' L^-T, chol(Schur complement)]; O(n^2 m), O(n m) with `half`.

        The new object grows into spare room of the same buffer, which the present one never
        reads; a second append to the same object copies.

        Returns
        -------
        CholeskyFactorization

        Raises
        ------
        ValueError
            If shapes do not fit.
        """
        n, m = self.n, len(K_new)
        K_cross = as_tensor(K_cross, self.device, self.dtype)
        K_new = as_tensor(K_new, self.device, self.dtype)
        if K_cross.shape != (n, m) or K_new.shape != (m, m):
            raise ValueError(
                f"`K_cross` has shape {tuple(K_cross.shape)} and `K_new` {tuple(K_new.shape)}; "
                f"expected ({n}, m) and (m, m) for {n} present and m new rows."
            )
        added = check_shift(shift, m, self.device, self.dtype).expand(m)
        diag = torch.cat([self._diag, K_new.diagonal()])
        shifts = torch.cat([self._shift, added])
        store = self._grown(m)
        packed = store.data[: n + m, : n + m]
        packed[:n, n:], packed[n:, n:] = K_cross, K_new
        packed[n:, :n] = (forward(self._packed, K_cross) if half is None else half).mT
        packed.diagonal()[n:] = K_new.diagonal() + added + self.jitter_
        broken = cholesky_(packed, start=n)
        if broken is None:
            new = self._like(packed, diag, shifts, self.jitter_)
            new._store = store
            return new
        if math.isnan(broken.pivot):
            raise_not_finite(packed.triu(1), otherwise=broken.row)
        fresh = self._new_buffer(n + m).copy_(packed)  # the present rows of L must survive
        return self._refactorize_(fresh, diag, shifts)

    def remove(self, index: Any) -> Self:
        """Cut rows out and repair what follows the first, m rows; O(n^2 + m^2 k).

        Without rows R, the trailing block is L_KK L_KK' + L_KR L_KR': an update, not a downdate,
        so it cannot break down. A small m, or a k over m / 24, is factorized anew, from
        the K kept above the diagonal, in O(m^3 / 3).

        Returns
        -------
        CholeskyFactorization

        Raises
        ------
        IndexError
            If an index is out of range.
        ValueError
            If no row would be left.
        """
        removed = self._check_index(index)
        mask = torch.ones(self.n, dtype=torch.bool, device=self.device)
        mask[removed] = False
        kept = mask.nonzero()[:, 0]
        first, k = int(removed.min()) if len(removed) else self.n, len(removed)
        packed = self._new_buffer(len(kept))
        for rows in row_blocks(len(kept), 512):
            packed[rows] = self._packed[kept[rows]][:, kept]
        diag, shift = self._diag[kept], self._shift[kept]
        trailing = len(kept) - first
        if trailing >= max(_UPDATE_ROWS, k * _UPDATE_RATIO):
            below = kept[first:, None]
            W = self._packed[below, removed].where(below > removed, 0)  # K is above the diagonal
            rank_update_(packed, W, start=first)
        elif trailing > 0:
            restore_lower_(packed, start=first)
            packed.diagonal()[first:] = (diag + shift + self.jitter_)[first:]
            if cholesky_(packed, start=first) is not None:
                return self._refactorize_(packed, diag, shift)
        return self._like(packed, diag, shift, self.jitter_)

    def __getstate__(self) -> dict[str, Any]:
        """Keep the room that appends grew into: products round by the layout in memory."""
        room = self.n if self._store is None else len(self._store.data)
        return {**super().__getstate__(), "_room": room}

    def __setstate__(self, state: dict[str, Any]) -> None:
        room = state["_room"]
        super().__setstate__({name: value for name, value in state.items() if name != "_room"})
        if room > self.n:
            data = torch.empty((room, room), dtype=self.dtype)
            data[: self.n, : self.n] = self._packed
            self._store, self._packed = _Store(data, self.n), data[: self.n, : self.n]

    def _check_index(self, index: Any) -> Tensor:
        values = torch.as_tensor(index, device=self.device).reshape(-1)
        if values.numel() and (int(values.min()) < -self.n or int(values.max()) >= self.n):
            raise IndexError(f"`index` is {index!r}; expected rows of {self.n}, from 0.")
        removed = torch.unique(values.long() % self.n)
        if len(removed) == self.n:
            raise ValueError(f"`index` removes all {self.n} rows; at least one must stay.")
        return removed

    def _like(self, packed: Tensor, diag: Tensor, shift: Tensor, jitter: float) -> Self:
        return type(self)(packed, diag, shift, jitter, self._largest_jitter)

    def _refactorize_(self, packed: Tensor, diag: Tensor, shift: Tensor) -> Self:
        restore_lower_(packed)
        jitter = factorize_with_jitter_(packed, diag, shift, self._largest_jitter)
        return self._like(packed, diag, shift, jitter)

    def _new_buffer(self, n: int) -> Tensor:
        check_memory(
            square_bytes(n, self.dtype),
            self.device,
            what=f"A Cholesky factor of {n} rows",
            instead="Use fewer rows or `dtype='float32'`.",
        )
        return torch.empty((n, n), device=self.device, dtype=self.dtype)

    def _grown(self, m: int) -> _Store:
        """Return a buffer that holds this factor and has room for m more rows."""
        n, store = self.n, self._store
        if store is not None and store.used == n and len(store.data) >= n + m:
            store.used = n + m
            return store
        roomy = max(n + m, int(_GROWTH * n))
        fits = square_bytes(roomy, self.dtype) <= memory_budget(self.device)
        grown = _Store(self._new_buffer(roomy if fits else n + m), n + m)
        grown.data[:n, :n] = self._packed
        return grown


class Cholesky(Solver):
    """Cholesky factorization of K + diag(shift).

    O(n^3 / 3) multiply-adds and one n x n buffer (8 n^2 bytes in float64). When rounding makes
    K + diag(shift) indefinite, the diagonal is raised by the smallest power of ten of its mean
    that helps, and a :class:`~sknk.exceptions.NumericalWarning` states the amount.

    Parameters
    ----------
    jitter : float, default=1e-4
        Largest jitter to try, relative to the mean diagonal of K; dimensionless. The first tried
        is 1e-10 in float64, 1e-6 in float32. 0 never adds any.

    Examples
    --------
    >>> import torch
    >>> from sknk.solvers import Cholesky
    >>> K = torch.tensor([[3.0, 2.0], [2.0, 4.0]], dtype=torch.float64)
    >>> Cholesky().factorize(K, 1.0).solve(torch.tensor([6.0, 7.0]))
    tensor([1., 1.], dtype=torch.float64)
    """

    def __init__(self, jitter: float = 1e-4) -> None:
        self.jitter = jitter

    def factorize(self, gram: Any, shift: Any, *, overwrite: bool = False) -> CholeskyFactorization:
        """Factorize K + diag(shift) = L L'; see :meth:`Solver.factorize`.

        Parameters
        ----------
        gram : Tensor, ndarray, memmap, GramOperator or tuple (kernel, X)
            K, symmetric n x n.
        shift : float or array-like of shape (n,)
            Added to the diagonal; units of K.
        overwrite : bool, default=False
            Factorize a dense K in its own memory, destroying it.

        Returns
        -------
        CholeskyFactorization

        Raises
        ------
        NotPSDError
            If K + diag(shift) is not positive definite even with the largest jitter.
        ValueError
            If K is not square or not finite, or `jitter` not in [0, 1].
        """
        if not isinstance(self.jitter, Real) or not 0 <= self.jitter <= 1:
            raise ValueError(f"`jitter` is {self.jitter!r}; expected a number in [0, 1].")
        op = as_operator(gram)
        n = op.shape[0]
        shift = check_shift(shift, n, op.device, op.dtype).expand(n)
        packed = op.writable(overwrite=overwrite)
        diag = packed.diagonal().clone()
        jitter = factorize_with_jitter_(packed, diag, shift, float(self.jitter))
        return CholeskyFactorization(packed, diag, shift, jitter, float(self.jitter))
