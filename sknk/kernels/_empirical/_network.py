"""A torch module as a function of its chosen parameters and of rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.func import functional_call

from sknk.kernels._empirical._module import mirror
from sknk.kernels._empirical._parameters import as_module_tensors, lead, real

__all__ = ["Network", "Packing", "Piece", "pieces"]


@dataclass(frozen=True)
class Packing:
    """How a row of a table becomes an input of the module.

    Attributes
    ----------
    shape : tuple of int or None
        Of one input; None keeps the row.
    integer : torch.dtype or None
        Of inputs that are codes; None computes in the kernel's dtype.
    """

    shape: tuple[int, ...] | None
    integer: torch.dtype | None

    def __call__(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """Return the inputs of rows (n, d)."""
        # A copy: modules may write into their inputs.
        x = x.to(dtype if self.integer is None else self.integer, copy=True)
        return x if self.shape is None else x.reshape(len(x), *self.shape)

    def check(self, x: Tensor, name: str) -> None:
        """Refuse codes that are not integers."""
        if self.integer is not None and bool((x != x.round()).any()):
            row, column = torch.nonzero(x != x.round())[0].tolist()
            value = x[row, column].item()
            raise ValueError(
                f"Row {row} of `{name}` is {value:.6g} in column {column}; expected integers, as "
                f"`input_dtype` is {str(self.integer).removeprefix('torch.')!r}."
            )


@dataclass(frozen=True)
class Piece:
    """A slice of a parameter along its first axis; all of it where `stop` is None."""

    name: str
    start: int = 0
    stop: int | None = None


class Network:
    """f(theta, x): the module with its parameters made arguments.

    Parameters
    ----------
    origin : nn.Module
        The user's; a mirror of it does the work.
    tensors : dict of str to Tensor
        Every parameter and buffer, in the dtype of the computation.
    pieces : sequence of Piece
        The parameters that are differentiated, or slices of them.
    packing : Packing
        Of the rows.
    dtype : torch.dtype
        Of the computation.
    n_outputs : int
        O; unknown before the module has run.

    Attributes
    ----------
    leaves : dict of str to Tensor
        What is differentiated, real numbers: complex parameters as pairs, slices where only a slice
        is meant.
    """

    def __init__(
        self,
        origin: nn.Module,
        tensors: dict[str, Tensor],
        pieces: Sequence[Piece],
        packing: Packing,
        dtype: torch.dtype,
        n_outputs: int = 0,
    ) -> None:
        self.n_outputs = n_outputs
        self.origin, self.module = origin, mirror(origin)
        self.tensors, self.packing, self.dtype = tensors, packing, dtype
        self.pieces = list(pieces)
        self.leaves = {p.name: real(tensors[p.name])[_slice(p)] for p in pieces}

    def restricted(self, pieces: Sequence[Piece]) -> Self:
        """Return the function of fewer parameters, or of slices of them."""
        return type(self)(
            self.origin, self.tensors, pieces, self.packing, self.dtype, self.n_outputs
        )

    def fresh(self) -> Self:
        """Return the same function on a new mirror, without what a pass has left in this one."""
        return self.restricted(self.pieces)

    @property
    def names(self) -> list[str]:
        """Names of the parameters that are differentiated."""
        return list(self.leaves)

    @property
    def size(self) -> int:
        """Number of entries that are differentiated."""
        return sum(leaf.numel() for leaf in self.leaves.values())

    def trainable(self) -> dict[str, Tensor]:
        """Return the leaves as starts of a graph of their own."""
        return {name: leaf.detach().requires_grad_() for name, leaf in self.leaves.items()}

    def lengths(self, parts: Sequence[tuple[str, ...]]) -> list[int]:
        """Return the first axis of each part's parameter; 1 for a number."""
        return [lead(self.leaves[names[0]]) for names in parts]

    def __call__(self, leaves: Mapping[str, Tensor], x: Tensor) -> Tensor:
        """Return the outputs of rows, (n, d) -> (n, O); complex outputs as pairs.

        Parameters
        ----------
        leaves : mapping of str to Tensor
            Values of the chosen parameters.
        x : Tensor of shape (n, d)
            Rows.

        Returns
        -------
        Tensor of shape (n, O)
        """
        whole = {p.name: self._whole(p, leaves[p.name]) for p in self.pieces}
        tensors = {**self.tensors, **as_module_tensors(whole, self.tensors)}
        out = self._output(functional_call(self.module, tensors, (self.packing(x, self.dtype),)))
        return real(out).reshape(len(x), -1)

    def row(self, leaves: Mapping[str, Tensor], x: Tensor) -> Tensor:
        """Return the outputs of one row, (d,) -> (O,)."""
        return self(leaves, x[None])[0]

    def _whole(self, piece: Piece, leaf: Tensor) -> Tensor:
        if piece.stop is None:
            return leaf
        rest = real(self.tensors[piece.name])
        return torch.cat([rest[: piece.start], leaf, rest[piece.stop :]])

    def _output(self, out: Any) -> Tensor:
        if isinstance(out, Tensor):
            return out
        raise TypeError(
            f"{self.kind} returns a {type(out).__name__}; expected one tensor with "
            "a row for every input. Wrap it in a module that returns the tensor that is meant."
        )

    @property
    def kind(self) -> str:
        """Name of the module's class."""
        return type(self.module).__name__

    def shaped(self, x: Tensor) -> Tensor:
        """Return the outputs of rows, (n, O), or say what is wrong with them.

        Parameters
        ----------
        x : Tensor of shape (n, d)
            Rows.

        Returns
        -------
        Tensor of shape (n, O)

        Raises
        ------
        ValueError
            If the module fails, or its output has no row for each input.
        """
        try:
            out = functional_call(self.module, self.tensors, (self.packing(x, self.dtype),))
        except (RuntimeError, IndexError, AssertionError, ValueError) as error:
            given = list(self.packing(x, self.dtype).shape)
            raise ValueError(
                f"{self.kind} fails on inputs of shape {given} in {self.dtype}: {error}. Unpack "
                "rows with `input_shape` and `input_dtype`; constants must have the input's dtype."
            ) from error
        out = self._output(out)
        if out.ndim == 0 or out.shape[0] != len(x):
            raise ValueError(
                f"{self.kind} maps {len(x)} rows to an output of shape {tuple(out.shape)}; "
                f"expected ({len(x)}, ...), one row each."
            )
        return real(out).reshape(len(x), -1)


def _slice(piece: Piece) -> Any:
    return ... if piece.stop is None else slice(piece.start, piece.stop)


def pieces(network: Network, numbers: float) -> list[list[Piece]]:
    """Split the parameters into groups of at most `numbers` entries; at least one row of each.

    Parameters
    ----------
    network : Network
        Whose parameters.
    numbers : float
        Entries of a group, as far as rows of a parameter allow.

    Returns
    -------
    list of list of Piece
    """
    groups: list[list[Piece]] = []
    room = 0.0
    for name, leaf in network.leaves.items():
        for piece, size in _cut(name, leaf, numbers):
            if not groups or size > room:
                groups.append([])
                room = numbers
            groups[-1].append(piece)
            room -= size
    return groups


def _cut(name: str, leaf: Tensor, numbers: float) -> list[tuple[Piece, int]]:
    if leaf.numel() <= numbers or leaf.ndim == 0:
        return [(Piece(name), leaf.numel())]
    each = leaf[0].numel()
    step = max(1, int(numbers // each))
    return [
        (Piece(name, start, min(start + step, len(leaf))), step * each)
        for start in range(0, len(leaf), step)
    ]
