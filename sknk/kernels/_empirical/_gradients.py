"""Gradients of a block of rows, kept as the factors they are products of.

With Q combinations of outputs, n rows and T places where a row uses a weight, a gradient is
``G_q(x) = sum_t left_q(x, t) right(x, t)^T``; inner products of two rows never need G itself.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Self

import torch
from torch import Tensor

from sknk.kernels._empirical._contractions import Contraction

__all__ = [
    "Dense",
    "Gradient",
    "Lookup",
    "Outer",
    "RowGradients",
    "compact",
    "contracted",
    "scaled",
    "signs",
]

# A weight gradient may take this many times the numbers of its factors where products get cheaper.
_LARGER = 4
# Where rows stand in a gradient's tensors.
_ROWS = {"values": 1, "left": 1, "right": 0, "codes": 0}


class Gradient(ABC):
    """Gradient of Q combinations of outputs with respect to one parameter, for n rows."""

    @property
    @abstractmethod
    def n_rows(self) -> int:
        """Number of rows."""

    @abstractmethod
    def contract(self, other: Self, how: Contraction) -> Tensor:
        """Return inner products with the gradients of m other rows."""

    @abstractmethod
    def diag(self) -> Tensor:
        """Return squared norms, summed over q, (n,)."""

    @abstractmethod
    def block(self, start: int, stop: int) -> Tensor:
        """Return entries of the gradient itself, (Q, n, stop - start, ...).

        Parameters
        ----------
        start, stop : int
            Slice of the parameter's first axis.

        Returns
        -------
        Tensor of shape (Q, n, stop - start, rest)
        """

    @abstractmethod
    def finite(self) -> Tensor:
        """Return which rows are finite, (n,)."""


@dataclass(frozen=True)
class Dense(Gradient):
    """A gradient itself.

    Attributes
    ----------
    values : Tensor of shape (Q, n, lead, rest)
        `lead` is the parameter's first axis, 1 for a number.
    """

    values: Tensor

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return self.values.shape[1]

    @property
    def _flat(self) -> Tensor:
        return self.values.flatten(2)

    def contract(self, other: Self, how: Contraction) -> Tensor:
        """Return inner products; O(n m p) for p entries."""
        return how.products(self._flat, other._flat)

    def diag(self) -> Tensor:
        """Return squared norms, (n,)."""
        return self._flat.square().sum((0, 2))

    def block(self, start: int, stop: int) -> Tensor:
        """Return entries, (Q, n, stop - start, rest)."""
        return self.values[:, :, start:stop]

    def finite(self) -> Tensor:
        """Return which rows are finite, (n,)."""
        return self._flat.isfinite().all(2).all(0)


@dataclass(frozen=True)
class Outer(Gradient):
    """sum_t left_t right_t^T: the weight of a linear layer that a row uses at T places.

    Inner products are those of the left factors times those of the right ones, summed over pairs of
    places (Novak et al. 2022, section 3.3; Goodfellow 2015 for norms).

    Attributes
    ----------
    left : Tensor of shape (Q, n, T, o)
        Cotangents of what the layer gives.
    right : Tensor of shape (n, T, i)
        What it was given.
    """

    left: Tensor
    right: Tensor

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return self.left.shape[1]

    def contract(self, other: Self, how: Contraction) -> Tensor:
        """Return inner products; O(n m T^2 (Q o + i)), memory for one place at a time."""
        places = other.right.shape[1]  # of control flow that looks at rows: not always as many
        left, right = other.left.flatten(1, 2), other.right.flatten(0, 1)
        total = None
        for t in range(self.right.shape[1]):
            G = self._matches(self.right[:, t], right).to(left.dtype)
            at_t = how.weighed(self.left[:, :, t], left, G)
            at_t = how.over_places(at_t, places) if places > 1 else at_t
            total = at_t if total is None else total + at_t
        assert total is not None
        return total

    @staticmethod
    def _matches(a: Tensor, b: Tensor) -> Tensor:
        return a @ b.mT

    def diag(self) -> Tensor:
        """Return squared norms, (n,); O(n T^2 (Q o + i))."""
        matches = self._matches(self.right, self.right).to(self.left.dtype)
        return sum(((left @ left.mT) * matches).sum((1, 2)) for left in self.left)

    def block(self, start: int, stop: int) -> Tensor:
        """Return entries, (Q, n, stop - start, i)."""
        return torch.einsum("qnto,nti->qnoi", self.left[..., start:stop], self.right)

    def finite(self) -> Tensor:
        """Return which rows are finite, (n,)."""
        left = self.left.flatten(2).isfinite().all(2).all(0)
        return left & self.right.isfinite().all(2).all(1)


@dataclass(frozen=True)
class Lookup(Gradient):
    """sum_t onehot(code_t) left_t^T: the table of an embedding.

    Attributes
    ----------
    left : Tensor of shape (Q, n, T, o)
        Cotangents of what was looked up.
    codes : Tensor of shape (n, T)
        Integers.
    """

    left: Tensor
    codes: Tensor

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return self.left.shape[1]

    def contract(self, other: Self, how: Contraction) -> Tensor:
        """Return inner products, places matched where codes are equal; O(n m T^2 Q o)."""
        mine, theirs = (Matching(g.left, g.codes[..., None]) for g in (self, other))
        return mine.contract(theirs, how)

    def diag(self) -> Tensor:
        """Return squared norms, (n,)."""
        return Matching(self.left, self.codes[..., None]).diag()

    def block(self, start: int, stop: int) -> Tensor:
        """Return entries, (Q, n, stop - start, o)."""
        inside = (self.codes >= start) & (self.codes < stop)
        onehot = torch.zeros(
            (*self.codes.shape, stop - start), dtype=self.left.dtype, device=self.left.device
        )
        index = torch.where(inside, self.codes - start, 0)[..., None]
        onehot.scatter_(2, index, inside[..., None].to(onehot.dtype))
        return torch.einsum("qnto,ntv->qnvo", self.left, onehot)

    def finite(self) -> Tensor:
        """Return which rows are finite, (n,)."""
        return self.left.flatten(2).isfinite().all(2).all(0)


class Matching(Outer):
    """Factors whose right sides are codes: their product is 1 where they are equal."""

    @staticmethod
    def _matches(a: Tensor, b: Tensor) -> Tensor:
        return torch.eq(a, b.mT)


def compact(outer: Outer) -> Gradient:
    """Return the gradient itself where many places make it the cheaper form, else the factors.

    A convolution's kernel is smaller than the image it slides over. The result never takes more
    than four times the memory of the factors, so blocks of rows stay O(width), not O(parameters).

    Parameters
    ----------
    outer : Outer
        Factors.

    Returns
    -------
    Gradient
    """
    q, _, places, o = outer.left.shape
    i = outer.right.shape[-1]
    whole, factors = q * o * i, places * (q * o + i)
    if places > 1 and whole <= min(places * factors, _LARGER * factors):
        return Dense(outer.block(0, o))
    return outer


@dataclass(frozen=True)
class RowGradients:
    """Gradients of a block of rows with respect to every chosen parameter.

    Attributes
    ----------
    names : tuple of tuple of str
        Parameters of each part; a layer's weight and bias may be one.
    parts : tuple of Gradient
        Their gradients.
    """

    names: tuple[tuple[str, ...], ...]
    parts: tuple[Gradient, ...]

    def contract(self, other: Self, how: Contraction) -> Tensor:
        """Return inner products with the gradients of m other rows, over all parameters."""
        # Of a layer that one of two blocks never entered, the names differ and products are zero.
        theirs = dict(zip(other.names, other.parts, strict=True))
        shared = [
            (part, theirs[names])
            for names, part in zip(self.names, self.parts, strict=True)
            if names in theirs
        ]
        if not shared:
            shared = [(Dense(self.parts[0].block(0, 0)), Dense(other.parts[0].block(0, 0)))]
        first, *rest = (contracted(a, b, how) for a, b in shared)
        for part in rest:
            first = first + part
        return first

    def diag(self) -> Tensor:
        """Return squared norms of the gradients, (n,)."""
        return torch.stack([part.diag() for part in self.parts]).sum(0)

    def part(self, name: str) -> Gradient:
        """Return the gradient of one parameter."""
        return self.parts[self.names.index((name,))]

    def first_bad(self) -> tuple[int, str] | None:
        """Return (row, parameter) of a gradient that is not finite, the first in both orders."""
        if math.isfinite(sum(map(_sum, self.parts))):
            return None
        found = []
        for names, part in zip(self.names, self.parts, strict=True):
            bad = torch.nonzero(~part.finite())
            if len(bad):
                found.append((int(bad[0, 0]), names[0]))
        return min(found, key=lambda pair: pair[0]) if found else None

    def __len__(self) -> int:
        """Return the number of rows."""
        return self.parts[0].n_rows

    @classmethod
    def joined(cls, chunks: Sequence[Self]) -> Self:
        """Stack the rows of several chunks, which must have gone through the same layers."""
        if len(chunks) == 1:
            return chunks[0]
        forms = {(c.names, tuple(map(type, c.parts))) for c in chunks}
        if len(forms) > 1:
            raise ValueError(
                "Chunks of rows take different layers; expected the same for all. Leave "
                "`chunk_size` None, or pass implementation='loop'."
            )
        parts = [_joined(parts) for parts in zip(*(c.parts for c in chunks), strict=True)]
        return cls(chunks[0].names, tuple(parts))


def _sum(part: Gradient) -> float:
    """Return a number that is finite if every entry is, but for overflow; one pass."""
    tensors = (_tensor(part, f.name).detach() for f in fields(part))  # type: ignore[arg-type]
    return math.fsum(float(t.sum()) for t in tensors)


def _tensor(part: Gradient, name: str) -> Tensor:
    return getattr(part, name)


def _joined(parts: Sequence[Gradient]) -> Gradient:
    names = [f.name for f in fields(parts[0])]  # type: ignore[arg-type]
    whole = {name: torch.cat([_tensor(p, name) for p in parts], _ROWS[name]) for name in names}
    return replace(parts[0], **whole)  # type: ignore[type-var]


def scaled(gradients: RowGradients, factor: float) -> RowGradients:
    """Return gradients times a number."""
    parts = (replace(p, **{_linear(p): factor * _tensor(p, _linear(p))}) for p in gradients.parts)  # type: ignore[type-var]
    return replace(gradients, parts=tuple(parts))


def _linear(part: Gradient) -> str:
    return "values" if isinstance(part, Dense) else "left"


def signs(gradients: RowGradients, lengths: Sequence[int]) -> RowGradients:
    """Return the signs of gradients, entry by entry.

    Those of one outer product are products of signs; a sum over places has to be formed.

    Parameters
    ----------
    gradients : RowGradients
        With Q combinations of outputs for n rows.
    lengths : sequence of int
        First axis of each part's parameter.

    Returns
    -------
    RowGradients
    """
    parts = tuple(_sign(p, lead) for p, lead in zip(gradients.parts, lengths, strict=True))
    return replace(gradients, parts=parts)


def _sign(part: Gradient, lead: int) -> Gradient:
    if isinstance(part, Outer) and part.right.shape[1] == 1:
        return Outer(part.left.sign(), part.right.sign())
    return Dense(part.block(0, lead).sign())


def contracted(a: Gradient, b: Gradient, how: Contraction) -> Tensor:
    """Return inner products of two gradients; of two forms, both are formed first."""
    if type(a) is type(b):
        return a.contract(b, how)
    length = next(_length(g) for g in (a, b) if not isinstance(g, Lookup))
    return Dense(a.block(0, length)).contract(Dense(b.block(0, length)), how)


def _length(gradient: Gradient) -> int:
    """Return the first axis of the parameter."""
    return gradient.values.shape[2] if isinstance(gradient, Dense) else gradient.left.shape[-1]  # type: ignore[attr-defined]
