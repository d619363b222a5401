r"""How a round and an arm become something a kernel compares.

An *encoding* is a kernel of pairs (x, a) of a context and an arm. "joint" places x in the block of
a in R^{K d} and zeros elsewhere, so that networks see which arm is meant; nothing of that size is
ever made, since rows of two blocks have inner product zero:

.. math:: k((x, a), (x', a')) = k(x, x') \text{ if } a = a', \quad
    c(\lVert x \rVert, \lVert x' \rVert) \text{ otherwise},

with c the kernel of orthogonal rows of those norms.
"""

import copy
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from sknk._array import as_tensor, compute_dtype
from sknk.kernels._base import Kernel

__all__ = [
    "ArmFeatures",
    "Blocks",
    "Columns",
    "Disjoint",
    "Encoding",
    "Joint",
    "Orthogonal",
    "Pairs",
    "check_columns",
]

_RTOL = 1e-8  # of kernel values of rotated rows; float32 kernels are looked at below


@dataclass(frozen=True)
class Pairs:
    """Contexts with an arm each.

    Attributes
    ----------
    rows : Tensor of shape (n, p)
        What the kernel sees.
    arm : Tensor of int64 of shape (n,)
        Codes of the arms.
    """

    rows: Tensor
    arm: Tensor

    def __len__(self) -> int:
        """Return n."""
        return len(self.arm)

    def __getitem__(self, J: slice | Tensor) -> "Pairs":
        """Return some of them."""
        return Pairs(self.rows[J], self.arm[J])


class Encoding(ABC):
    """A kernel of pairs."""

    kernel: Kernel

    @abstractmethod
    def pairs(self, X: Tensor, arm: Tensor) -> Pairs:
        """Return the pairs of contexts (n, d) and codes (n,)."""

    def with_kernel(self, kernel: Kernel) -> Self:
        """Return the same encoding for another kernel."""
        new = copy.copy(self)
        new.kernel = kernel
        return new

    def with_arm(self, features: np.ndarray | None) -> "Encoding":
        """Return the kernel of pairs with one arm more; `features` (1, p) where it has them."""
        return self

    def gram(self, p: Pairs) -> Tensor:
        """Return the kernel among pairs, (n, n)."""
        return self.kernel(p.rows)

    def cross(self, p: Pairs, q: Pairs) -> Tensor:
        """Return the kernel of n and m pairs, (n, m)."""
        return self.kernel(p.rows, q.rows)

    def diag(self, p: Pairs) -> Tensor:
        """Return the kernel of pairs with themselves, (n,)."""
        return self.kernel.diag(p.rows)

    def every(self, X: Tensor, codes: Tensor) -> Pairs:
        """Return contexts (m, d) with each of K arms, m K pairs, arms of a context together."""
        return self.pairs(X.repeat_interleave(len(codes), dim=0), codes.repeat(len(X)))

    def gram_every(self, X: Tensor, codes: Tensor) -> Tensor:
        """Return the kernel among the arms of each context, (m, K, K)."""
        return torch.stack([self.gram(self.every(x[None], codes)) for x in X])

    def cross_every(self, p: Pairs, X: Tensor, codes: Tensor) -> Tensor:
        """Return the kernel of n pairs and :meth:`every`, (n, m K)."""
        return self.cross(p, self.every(X, codes))


class Orthogonal:
    """The kernel of orthogonal rows of any norms: c(|x|, |y|), for kernels that rotations keep.

    Parameters
    ----------
    kernel : Kernel
        Of the inner product and the norms of rows, as all kernels of dense networks are.
    X : Tensor of shape (n, d)
        Rows to try it on.

    Raises
    ------
    ValueError
        If the kernel of rotated rows is another.
    """

    def __init__(self, kernel: Kernel, X: Tensor) -> None:
        self.kernel = kernel
        # One column has no orthogonal row: two do, of variances as before if the kernel divides
        # by the number of columns, of norms as before if not.
        self._d, self._scale, self._is_written = max(2, X.shape[1]), 1.0, False
        drawn = np.random.RandomState(1).standard_normal((5, X.shape[1]))  # X may be one row
        # Of norm one, as kernels without a bound on their values overflow on long rows.
        drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
        tried = torch.cat([X[:5], torch.as_tensor(drawn, dtype=X.dtype, device=X.device)])
        for scale in (1.0, 2**0.5) if X.shape[1] == 1 else (1.0,):
            self._scale = scale
            if self._keeps(tried):
                one = torch.ones(1, 1, dtype=torch.float64)
                self._root = max(0.0, float(self(one, one))) ** 0.5
                self._degree, self._at_zero = self._homogeneity()
                self._is_written = self._degree is not None and self.is_product()
                return
        raise ValueError(
            f"The kernel {kernel} changes when rows are rotated, so rows of two arms have no joint "
            "encoding; expected a function of norms and inner products, such as NTK with one "
            "`input_scale`. Use encoding='disjoint', or 'features' with `arm_features`."
        )

    def __call__(self, X: Tensor, Y: Tensor) -> Tensor:
        """Return c(|x|, |y|), (n, m)."""
        if self._is_written:
            return torch.outer(self.factor(X), self.factor(Y))
        return self.kernel(self._along(X, 0), self._along(Y, 1))

    def factor(self, X: Tensor) -> Tensor:
        """Return n(x) with c(|x|, |y|) = n(x) n(y), (n,), of a kernel that has it."""
        if self._degree is None:
            return self._measured(X)
        norm = X.norm(dim=1)
        # Written down, it spares every round of a bandit two kernels of two rows.
        return torch.where(norm > 0, self._root * norm**self._degree, self._at_zero).to(
            compute_dtype()
        )

    def _measured(self, X: Tensor) -> Tensor:
        """Return n(x) of the kernel beside a row of norm one."""
        column = self(X, X.new_ones(1, 1))[:, 0]
        return column / self._root if self._root > 0 else torch.zeros_like(column)

    def _homogeneity(self) -> tuple[int | None, float]:
        """Return p where n(x) is n(1) |x|^p, None where it is neither 0 nor 1, and n(0)."""
        norm = torch.tensor([[0.0], [0.5], [1.0], [2.0]], dtype=torch.float64)
        n = self._measured(norm)
        rtol = 16 * torch.finfo(n.dtype).eps
        for degree in (0, 1):
            ideal = self._root * norm[1:, 0].to(n) ** degree
            if torch.allclose(n[1:], ideal, rtol=rtol, atol=0.0):
                return degree, float(n[0])
        return None, float(n[0])

    def is_product(self) -> bool:
        """Return whether c(r, s) = n(r) n(s): kernels of networks without biases, and constants."""
        norms = torch.tensor([[0.5], [1.0], [2.0]], dtype=torch.float64)
        c = self(norms, norms)
        product = c[:, 1:2] * c[1:2] / c[1, 1] if c[1, 1] > 0 else torch.zeros_like(c)
        return bool(torch.allclose(c, product, rtol=_RTOL, atol=1e-12))

    def _along(self, X: Tensor, axis: int) -> Tensor:
        rows = X.new_zeros(len(X), self._d)
        rows[:, axis] = X.norm(dim=1) * self._scale
        return rows

    def _keeps(self, X: Tensor) -> bool:
        """Return whether rows may be rotated."""
        Q = np.linalg.qr(np.random.RandomState(0).standard_normal((self._d, self._d)))[0]
        wide = torch.nn.functional.pad(X * self._scale, (0, self._d - X.shape[1]))
        turned = wide @ torch.as_tensor(Q, dtype=X.dtype, device=X.device)
        K = self.kernel(X)
        # float32 kernels have their own rounding; a kernel that turns with its rows differs by more
        rtol = _RTOL if K.dtype is torch.float64 else 1e-4
        return bool(torch.allclose(self.kernel(turned), K, rtol=rtol, atol=rtol))


class Joint(Encoding):
    """Contexts in the block of their arm, of any kernel that rotations keep.

    Parameters
    ----------
    kernel : Kernel
        Of contexts.
    orthogonal : Orthogonal
        Its values between blocks.
    """

    def __init__(self, kernel: Kernel, orthogonal: Orthogonal) -> None:
        self.kernel, self.orthogonal = kernel, orthogonal

    def pairs(self, X: Tensor, arm: Tensor) -> Pairs:
        """Return the pairs; the kernel sees contexts, and here codes decide."""
        return Pairs(X, arm)

    def gram(self, p: Pairs) -> Tensor:
        """Return the kernel among pairs."""
        return self._by_arm(p, p, self.kernel(p.rows))

    def cross(self, p: Pairs, q: Pairs) -> Tensor:
        """Return the kernel of n and m pairs."""
        return self._by_arm(p, q, self.kernel(p.rows, q.rows))

    def cross_every(self, p: Pairs, X: Tensor, codes: Tensor) -> Tensor:
        """Return the kernel of n pairs and every arm; a context is compared once for all."""
        same, other = self.kernel(p.rows, X), self._between(p.rows, X)
        every = torch.where(p.arm[:, None, None] == codes, same[:, :, None], other[:, :, None])
        return every.flatten(1)

    def _between(self, X: Tensor, Y: Tensor) -> Tensor:
        """Return the kernel of rows in two blocks."""
        return self.orthogonal(X, Y)

    def _by_arm(self, p: Pairs, q: Pairs, same: Tensor) -> Tensor:
        return torch.where(p.arm[:, None] == q.arm, same, self._between(p.rows, q.rows))


class Disjoint(Joint):
    """Arms that have nothing in common.

    Parameters
    ----------
    kernel : Kernel
        Of contexts.
    """

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel

    def _between(self, X: Tensor, Y: Tensor) -> Tensor:
        return torch.zeros((), dtype=compute_dtype(), device=X.device).expand(len(X), len(Y))


class Blocks(Encoding):
    """Contexts in the block of their arm, made: for networks, which see nothing but rows.

    Parameters
    ----------
    kernel : Kernel
        Of rows of K d numbers.
    n_arms : int
        K.
    """

    def __init__(self, kernel: Kernel, n_arms: int) -> None:
        self.kernel, self.n_arms = kernel, n_arms

    def pairs(self, X: Tensor, arm: Tensor) -> Pairs:
        """Return the pairs."""
        rows = X.new_zeros(len(X), self.n_arms, X.shape[1])
        rows[torch.arange(len(X), device=X.device), arm] = X
        return Pairs(rows.flatten(1), arm)

    def with_arm(self, features: np.ndarray | None) -> "Blocks":
        """Refuse: a network's inputs are as many as they are."""
        raise ValueError(
            f"A network with blocks of {self.n_arms} arms has no place for one more; expected "
            "encoding='features'."
        )


class ArmFeatures(Encoding):
    """Contexts followed by the features of their arm.

    Parameters
    ----------
    kernel : Kernel
        Of both together.
    Z : ndarray of shape (K, p)
        Features of arms, in the order of codes.
    """

    def __init__(self, kernel: Kernel, Z: np.ndarray) -> None:
        self.kernel, self.Z = kernel, Z

    def pairs(self, X: Tensor, arm: Tensor) -> Pairs:
        """Return the pairs."""
        return Pairs(torch.cat([X, as_tensor(self.Z, X.device, X.dtype)[arm]], dim=1), arm)

    def with_arm(self, features: np.ndarray | None) -> "ArmFeatures":
        """Return the kernel with the features of one arm more, as many as others have."""
        assert features is not None
        return ArmFeatures(self.kernel, np.vstack([self.Z, features]))


class Columns(Encoding):
    """Rounds that bring features of every arm: those of arm a are the a-th block of columns.

    Parameters
    ----------
    kernel : Kernel
        Of one block.
    n_arms : int
        K.
    """

    def __init__(self, kernel: Kernel, n_arms: int) -> None:
        self.kernel, self.n_arms = kernel, n_arms

    def pairs(self, X: Tensor, arm: Tensor) -> Pairs:
        """Return the pairs."""
        blocks = X.reshape(len(X), self.n_arms, X.shape[1] // self.n_arms)
        return Pairs(blocks[torch.arange(len(X), device=X.device), arm], arm)


def check_columns(n_features: int, n_arms: Any) -> None:
    """Refuse rows that are not one block for each arm.

    Parameters
    ----------
    n_features, n_arms : int
        Columns, and blocks there should be.

    Raises
    ------
    ValueError
        If the first is no multiple of the second.
    """
    if n_features % n_arms:
        raise ValueError(
            f"`X` has {n_features} features for {n_arms} arms; expected a multiple, one block of "
            "columns for every arm, with encoding='columns'."
        )
