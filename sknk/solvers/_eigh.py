"""Eigendecomposition: one factorization for every shift and every spectral function."""

from collections.abc import Callable, Iterator
from typing import Any, Self

import torch
from torch import Tensor

from sknk._validation import check_memory
from sknk.solvers._base import Factorization, Solver
from sknk.solvers._checks import check_shift, raise_not_finite, raise_not_psd
from sknk.solvers._gram import as_operator, row_blocks, square_bytes

__all__ = ["Eigh", "EighFactorization", "check_spectrum", "eigh_"]

# Beyond rounding of the division, two vectors are not multiples of each other.
_MULTIPLE_RTOL = {torch.float64: 1e-10, torch.float32: 1e-4}


def eigh_(A: Tensor) -> tuple[Tensor, Tensor]:
    """Decompose A = V diag(lambda) V', destroying A; O(9 n^3), LAPACK works in 2 n^2 numbers.

    Parameters
    ----------
    A : Tensor of shape (n, n)
        Symmetric, contiguous; V takes its memory.

    Returns
    -------
    eigenvalues : Tensor of shape (n,)
        Ascending.
    V : Tensor of shape (n, n)
        Eigenvectors in columns.

    Raises
    ------
    ValueError
        If A is not finite.
    MemoryBudgetError
        If LAPACK's workspace cannot fit.
    """
    n = len(A)
    check_memory(
        2 * square_bytes(n, A.dtype),
        A.device,
        what=f"The workspace of an eigendecomposition of {n} rows",
        instead="Use `Cholesky`, which needs none, fewer rows or `dtype='float32'`.",
    )
    if not bool(torch.isfinite(A.sum())):
        raise_not_finite(A)
    eigenvalues = A.new_empty(n)
    V = A.mT  # the column-major view that LAPACK writes without a copy; A is symmetric
    torch.linalg.eigh(V, out=(eigenvalues, V))
    return eigenvalues, V


def check_spectrum(shifted: Tensor) -> None:
    """Refuse ascending eigenvalues of K + alpha I that are not positive.

    Raises
    ------
    NotPSDError
        If the first is not.
    """
    smallest = float(shifted[0])
    if not smallest > 0:
        name = str(shifted.dtype).removeprefix("torch.")
        raise_not_psd(f"smallest eigenvalue {smallest:.1e}, {name}", shifted.dtype)


class EighFactorization(Factorization):
    """K + s D = D^1/2 V diag(lambda + s) V' D^1/2, for any number s at no further cost.

    Parameters
    ----------
    eigenvalues, V : Tensor of shape (n,) and (n, n)
        lambda and V of D^-1/2 K D^-1/2.
    scale : Tensor of shape (n,) or None
        The diagonal of D; None means ones, and s is then the shift itself.
    s : float
        The multiple of D.
    unit : float, default=1.0
        The number that a vector shift with equal entries holds; without `scale`. It changes
        nothing but the meaning of :meth:`filter`, which must not jump where a vector is constant.

    Raises
    ------
    NotPSDError
        If the smallest eigenvalue plus s is not positive.
    """

    def __init__(
        self, eigenvalues: Tensor, V: Tensor, scale: Tensor | None, s: float, unit: float = 1.0
    ) -> None:
        super().__init__(len(V), V.dtype, V.device)
        self._base, self._V, self._scale, self._unit = eigenvalues, V, scale, unit
        self._lambda = eigenvalues + s
        check_spectrum(self._lambda)

    def _whiten(self, B: Tensor) -> Tensor:
        return B if self._scale is None else B / self._scale.sqrt()[:, None]

    def solve(self, B: Tensor) -> Tensor:
        """Return D^-1/2 V (lambda + s)^-1 V' D^-1/2 B; O(n^2 t)."""
        return self.filter(torch.reciprocal, B)

    def half_solve(self, B: Tensor) -> Tensor:
        """Return (lambda + s)^-1/2 V' D^-1/2 B: eigenvector coordinates, not those of a Cholesky.

        Inner products of results are those of any other R with R' R = (K + shift)^-1.

        Returns
        -------
        Tensor of the shape of B
        """
        columns, shape = self._columns(B)
        coordinates = self._V.mT @ self._whiten(columns)
        return (coordinates / self._lambda.sqrt()[:, None]).reshape(shape)

    def logdet(self) -> float:
        """Return the sum of log(lambda + s) and of log D, accumulated in float64."""
        total = self._lambda.cpu().double().log().sum()
        if self._scale is not None:
            total = total + self._scale.cpu().double().log().sum()
        return float(total)

    def inv_diag(self) -> Tensor:
        """Return sum_k V_ik^2 / (lambda_k + s) / D_i; O(n^2)."""
        out = torch.empty_like(self._base)
        for rows in row_blocks(self.n, 512):
            out[rows] = self._V[rows].square() @ self._lambda.reciprocal()
        return out if self._scale is None else out / self._scale

    def inv_tiles(self, tile: int = 512) -> Iterator[tuple[slice, slice, Tensor]]:
        """Yield tiles of D^-1/2 V (lambda + s)^-1 V' D^-1/2."""
        for columns in row_blocks(self.n, tile):
            right = (self._V[columns] / self._lambda).mT
            for start in range(columns.start, self.n, tile):
                rows = slice(start, min(start + tile, self.n))
                block = self._V[rows] @ right
                if self._scale is not None:
                    block = block / torch.outer(self._scale[rows], self._scale[columns]).sqrt()
                yield rows, columns, block

    def apply(self, h: Callable[[Tensor], Tensor], B: Tensor | None = None) -> Tensor:
        """Return V h(lambda) V' B, lambda the eigenvalues of K + shift; O(n^2 t), O(n^3) for None.

        Returns
        -------
        Tensor of the shape of B, or (n, n)

        Raises
        ------
        ValueError
            If the shift is not one number: V are then not the eigenvectors of K + shift.
        """
        if self._scale is not None:
            raise ValueError(
                "`apply` needs the eigenvectors of K + shift, but `shift` is a vector, so those "
                "of a rescaled K are stored. Factorize with one number as `shift`."
            )
        values = h(self._lambda)
        if B is None:
            return (self._V * values) @ self._V.mT
        columns, shape = self._columns(B)
        return (self._V @ (values[:, None] * (self._V.mT @ columns))).reshape(shape)

    def filter(self, h: Callable[[Tensor], Tensor], B: Tensor) -> Tensor:
        """Return D^-1/2 V h(lambda + s) V' D^-1/2 B; O(n^2 t).

        A vector `shift` is factorized as D with s = 1. For D = 1 / w and s = rho, factorize
        1 / w and then ``reshift(rho / w)``.

        Returns
        -------
        Tensor of the shape of B
        """
        columns, shape = self._columns(B)
        values = h(self._lambda / self._unit) / self._unit
        coordinates = values[:, None] * (self._V.mT @ self._whiten(columns))
        return self._whiten(self._V @ coordinates).reshape(shape)

    def reshift(self, shift: Any) -> Self:
        """Return the factorization for another multiple of the same vector; O(n), shares memory.

        Returns
        -------
        EighFactorization

        Raises
        ------
        ValueError
            If `shift` is not a multiple of the vector given to ``factorize``, or a number where
            that was a number.
        """
        values = check_shift(shift, self.n, self.device, self.dtype)
        ratio = values if self._scale is None else values / self._scale
        s = ratio.max()
        if bool((s - ratio.min()) > _MULTIPLE_RTOL[self.dtype] * s.abs()):
            raise ValueError(
                f"`shift` is not a multiple of the vector factorized (ratios from "
                f"{float(ratio.min()):.3g} to {float(s):.3g}), and an eigendecomposition serves "
                "only those. Use `Cholesky`, or factorize again."
            )
        return type(self)(self._base, self._V, self._scale, float(s), self._unit)


class Eigh(Solver):
    """Eigendecomposition of K, then every shift in O(n^2).

    O(9 n^3) time, about ten times a Cholesky factorization, and three n x n buffers: worth it
    for a whole path of ridges, or for spectral functions. A vector `shift` is factorized as
    s D with s = 1: D^-1/2 K D^-1/2 = V diag(lambda) V', and `reshift` then takes multiples of it.

    Examples
    --------
    >>> import torch
    >>> from sknk.solvers import Eigh
    >>> K = torch.tensor([[2.0, 0.0], [0.0, 3.0]], dtype=torch.float64)
    >>> Eigh().factorize(K, 1.0).inv_diag()
    tensor([0.3333, 0.2500], dtype=torch.float64)
    """

    def factorize(self, gram: Any, shift: Any, *, overwrite: bool = False) -> EighFactorization:
        """Factorize K + diag(shift); see :meth:`Solver.factorize`.

        Parameters
        ----------
        gram : Tensor, ndarray, memmap, GramOperator or tuple (kernel, X)
            K, symmetric n x n.
        shift : float or array-like of shape (n,)
            Added to the diagonal; units of K. The entries of a vector must be positive.
        overwrite : bool, default=False
            Let the eigenvectors take the memory of a dense K.

        Returns
        -------
        EighFactorization

        Raises
        ------
        NotPSDError
            If the smallest eigenvalue of K + diag(shift) is not positive.
        ValueError
            If K is not square or not finite, or a vector `shift` not positive.
        """
        op = as_operator(gram)
        values = check_shift(shift, op.shape[0], op.device, op.dtype)
        unit = 1.0
        if values.ndim == 1 and bool((values == values[0]).all()):
            values = values[0]
            unit = float(values) if values > 0 else 1.0
        if values.ndim == 1 and not bool((values > 0).all()):
            raise ValueError(
                f"`shift` is {float(values.min()):.3g} at row {int(values.argmin())}; an "
                "eigendecomposition needs a positive one in every row. Use `Cholesky`."
            )
        A = op.writable(overwrite=overwrite)
        if values.ndim == 0:
            return EighFactorization(*eigh_(A), None, float(values), unit)
        root = values.sqrt()
        A.div_(root[:, None]).div_(root)
        return EighFactorization(*eigh_(A), values.clone(), 1.0)
