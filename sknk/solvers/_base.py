"""The solver contract: a Solver turns a Gram matrix into a Factorization."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, NoReturn, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator
from torch import Tensor

from sknk._array import as_tensor, to_numpy
from sknk.solvers._checks import check_weights
from sknk.solvers._gram import GramOperator, as_operator

__all__ = ["Factorization", "Solver", "writable"]

# Who has which verb; a contract test keeps it true.
VERBS: dict[str, tuple[str, ...]] = {
    "solve": ("Cholesky", "Eigh"),
    "half_solve": ("Cholesky", "Eigh"),
    "logdet": ("Cholesky", "Eigh"),
    "log_pivots": ("Cholesky",),
    "inv_diag": ("Cholesky", "Eigh"),
    "inv_tiles": ("Cholesky", "Eigh"),
    "apply": ("Eigh",),
    "filter": ("Eigh",),
    "reshift": ("Cholesky", "Eigh"),
    "append": ("Cholesky",),
    "remove": ("Cholesky",),
}


class Factorization(ABC):
    """K + diag(shift), factorized once and used many times.

    Tensors go in and come out, on the device and in the dtype of K; a right-hand side of shape
    (n,) gives a result of shape (n,). Pickles hold NumPy arrays and load on the CPU.

    Attributes
    ----------
    n : int
        Rows of K.
    dtype, device : torch.dtype, torch.device
        Of K.
    n_iter_ : int or None
        Iterations of the last solve; None for a direct method.
    residual_norm_ : float or None
        Largest relative residual norm of the last solve; None for a direct method, which does
        not measure it.
    jitter_ : float
        What was added to the diagonal beyond `shift`; units of K.
    """

    n_iter_: int | None = None
    residual_norm_: float | None = None
    jitter_: float = 0.0

    # Attributes that only save time: left out of pickles and copies.
    _transient: ClassVar[tuple[str, ...]] = ()

    def __init__(self, n: int, dtype: torch.dtype, device: torch.device) -> None:
        self.n, self.dtype, self.device = n, dtype, device

    def _lacks(self, verb: str) -> NoReturn:
        others = " or ".join(f"`{name}`" for name in VERBS[verb])
        name = type(self).__name__.removesuffix("Factorization")
        raise NotImplementedError(f"The solver `{name}` has no `{verb}`. Use {others}.")

    @abstractmethod
    def solve(self, B: Tensor) -> Tensor:
        """Return (K + shift)^-1 B.

        Parameters
        ----------
        B : Tensor of shape (n, t) or (n,)
            Right-hand sides.

        Returns
        -------
        Tensor of the shape of B
        """

    def half_solve(self, B: Tensor) -> Tensor:
        """Return R B for some fixed R with R' R = (K + shift)^-1; L^-1 B for a Cholesky factor.

        So B' (K + shift)^-1 B is a sum of squares: predictive variances use it.

        Parameters
        ----------
        B : Tensor of shape (n, t) or (n,)
            Right-hand sides.

        Returns
        -------
        Tensor of the shape of B
        """
        return self._lacks("half_solve")

    def logdet(self) -> float:
        """Return log det(K + shift)."""
        return self._lacks("logdet")

    def log_pivots(self) -> Tensor:
        """Return log L_ii^2 in row order, (n,); it sums to :meth:`logdet`.

        exp of entry i is the variance of row i given the rows before it (units of K).

        Returns
        -------
        Tensor of shape (n,)
        """
        return self._lacks("log_pivots")

    def inv_diag(self) -> Tensor:
        """Return the diagonal of (K + shift)^-1, (n,)."""
        return self._lacks("inv_diag")

    def inv_tiles(self, tile: int = 512) -> Iterator[tuple[slice, slice, Tensor]]:
        """Iterate over the lower triangle of (K + shift)^-1; O(n^3) time, O(n tile) memory.

        Parameters
        ----------
        tile : int
            Rows and columns of a tile; n need not be a multiple.

        Returns
        -------
        iterator of (slice, slice, Tensor)
            Rows, columns and ((K + shift)^-1)[rows, columns], with
            ``rows.start >= columns.start``; diagonal tiles are full, both triangles.
        """
        return self._lacks("inv_tiles")

    def apply(self, h: Callable[[Tensor], Tensor], B: Tensor | None = None) -> Tensor:
        """Return V h(lambda) V' B, with K + shift = V diag(lambda) V'.

        Parameters
        ----------
        h : callable
            Elementwise function of the eigenvalues *of K + shift*, (n,) -> (n,).
        B : Tensor of shape (n, t) or (n,), optional
            Right-hand sides; None returns the matrix itself.

        Returns
        -------
        Tensor of the shape of B, or (n, n)
        """
        return self._lacks("apply")

    def filter(self, h: Callable[[Tensor], Tensor], B: Tensor) -> Tensor:
        """Return D^-1/2 V h(lambda + s) V' D^-1/2 B, with h in place of the inverse.

        Here K + shift = D^1/2 V diag(lambda + s) V' D^1/2: D = I for a number as shift, its
        direction s D for a vector. So h(x) = 1/x is :meth:`solve`, D = I is :meth:`apply`, and
        h(x) = (1 - exp(-x t)) / x gives the dual coefficients of gradient flow at time t.

        Parameters
        ----------
        h : callable
            Elementwise function of lambda + s, (n,) -> (n,).
        B : Tensor of shape (n, t) or (n,)
            Right-hand sides.

        Returns
        -------
        Tensor of the shape of B
        """
        return self._lacks("filter")

    def reshift(self, shift: Any) -> Self:
        """Return a new factorization of the same K with another shift.

        Parameters
        ----------
        shift : float or array-like of shape (n,)
            Replaces, does not add to, the present one.

        Returns
        -------
        Factorization
        """
        return self._lacks("reshift")

    def append(
        self, K_cross: Tensor, K_new: Tensor, shift: Any, *, half: Tensor | None = None
    ) -> Self:
        """Return the factorization with rows added at the end; this one stays valid.

        Parameters
        ----------
        K_cross : Tensor of shape (n, m)
            Kernel of the present rows with the new ones.
        K_new : Tensor of shape (m, m)
            Kernel of the new rows.
        shift : float or array-like of shape (m,)
            Of the new rows.
        half : Tensor of shape (n, m) or None
            ``half_solve(K_cross)``, of a caller who has it.

        Returns
        -------
        Factorization
            Of n + m rows.
        """
        return self._lacks("append")

    def remove(self, index: Any) -> Self:
        """Return the factorization without some rows; this one stays valid.

        Parameters
        ----------
        index : int or array-like of int
            Rows to leave out; repeats count once.

        Returns
        -------
        Factorization
        """
        return self._lacks("remove")

    def _columns(self, B: Any) -> tuple[Tensor, tuple[int, ...]]:
        """Return B as (n, t) on this device, and the shape to give back."""
        B = as_tensor(B, self.device, self.dtype).detach()
        if B.ndim not in (1, 2) or len(B) != self.n:
            raise ValueError(
                f"Right-hand side of shape {tuple(B.shape)}; expected ({self.n},) or ({self.n}, t)."
            )
        return (B[:, None] if B.ndim == 1 else B), tuple(B.shape)

    def __getstate__(self) -> dict[str, Any]:
        state = {k: v for k, v in self.__dict__.items() if k not in self._transient}
        tensors = {k: to_numpy(v) for k, v in state.items() if isinstance(v, Tensor)}
        return {**state, **tensors, "_tensors": sorted(tensors)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        tensors = set(state["_tensors"])
        for name, value in state.items():
            if name != "_tensors":
                setattr(self, name, writable(value) if name in tensors else value)
        self.device = torch.device("cpu")

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Copy on the same device, which a round trip through a pickle would not."""
        new = object.__new__(type(self))
        memo[id(self)] = new
        for name, value in self.__dict__.items():
            if name not in self._transient:
                setattr(new, name, copy.deepcopy(value, memo))
        return new


class Solver(BaseEstimator, ABC):
    """A small holder of parameters that knows how to factorize Gram matrices.

    A scikit-learn parameter object: ``clone``, ``get_params`` and a grid over ``solver__rank``
    work. Constructors only assign.
    """

    @abstractmethod
    def factorize(self, gram: Any, shift: Any, *, overwrite: bool = False) -> Factorization:
        """Factorize K + diag(shift).

        Parameters
        ----------
        gram : Tensor, ndarray, memmap, GramOperator or tuple (kernel, X)
            K, symmetric n x n.
        shift : float or array-like of shape (n,)
            Added to the diagonal: ridge, noise variances; units of K.
        overwrite : bool, default=False
            Allow a dense K to be destroyed, which saves one n x n copy.

        Returns
        -------
        Factorization

        Raises
        ------
        NotPSDError
            If K + diag(shift) is not positive definite.
        ValueError
            If K is not square or not finite.
        MemoryBudgetError
            If the factorization cannot fit.
        """

    def fit_dual(
        self, gram_or_kernel: Any, X: Any, Y: Any, alpha: float, sample_weight: Any = None
    ) -> tuple[Any, Tensor]:
        """Solve the ridge problem in its dual: (K + alpha diag(1/w)) C = Y.

        It minimises sum_i w_i (y_i - f(x_i))^2 + alpha ||f||^2 over f(x) = k(x, centres) C.

        Parameters
        ----------
        gram_or_kernel : Tensor, ndarray, memmap, GramOperator or kernel
            K, or the kernel that computes it on `X`.
        X : array-like or Tensor of shape (n, ...)
            Training rows.
        Y : array-like or Tensor of shape (n,) or (n, t)
            Targets, centred by the caller where an intercept is wanted.
        alpha : float
            Ridge; units of K.
        sample_weight : array-like of shape (n,), optional
            Weights w, not negative; rows of weight zero get a zero coefficient.

        Returns
        -------
        centres : array-like or Tensor
            The rows the coefficients belong to; here `X`.
        dual_coef : Tensor of the shape of Y
            C; units of y over units of K.

        Raises
        ------
        ValueError
            If a weight is negative or all are zero.
        """
        gram = _as_gram(gram_or_kernel, X)
        n = gram.shape[0]
        Y = as_tensor(Y, gram.device, gram.dtype)
        if sample_weight is None:
            return X, self.factorize(gram, alpha).solve(Y)
        w = check_weights(sample_weight, n, gram.device, gram.dtype)
        active = w > 0
        if bool(active.all()):
            return X, self.factorize(gram, alpha / w).solve(Y)
        kept = active.nonzero()[:, 0]
        factor = self.factorize(gram.restrict(kept), alpha / w[kept], overwrite=True)
        coef = torch.zeros_like(Y)
        coef[kept] = factor.solve(Y[kept])
        return X, coef


def writable(values: np.ndarray) -> Tensor:
    """Return an array of a pickle as a tensor that may be written to.

    Parameters
    ----------
    values : ndarray
        Shared where it may be.

    Returns
    -------
    Tensor
    """
    # joblib may hand out read-only maps of a file, which torch warns about.
    return torch.from_numpy(values if values.flags.writeable else values.copy())


def _as_gram(gram_or_kernel: Any, X: Any) -> GramOperator:
    arrays = (Tensor, np.ndarray, GramOperator, tuple)
    if isinstance(gram_or_kernel, arrays) or not callable(gram_or_kernel):
        return as_operator(gram_or_kernel)
    return as_operator((gram_or_kernel, X))
