"""What an implementation of tangent kernels is: rows and cotangents in, row gradients out."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Protocol, Self

from torch import Tensor

from sknk.kernels._empirical._contractions import Contraction
from sknk.kernels._empirical._network import Network

__all__ = ["Implementation", "RowState"]


class RowState(Protocol):
    """What an implementation prepares for a block of rows."""

    def contract(self, other: Self, how: Contraction) -> Tensor:
        """Return inner products with the gradients of other rows."""

    def diag(self) -> Tensor:
        """Return squared norms of the gradients, (n,)."""


class Implementation(ABC):
    """A way to compute inner products of gradients.

    Attributes
    ----------
    name : str
        As in ``EmpiricalNTK(implementation=name)``.
    doubt : str
        What to say of a gradient that differs from that of an ordinary backward pass.
    """

    name: ClassVar[str]
    doubt: ClassVar[str] = "differs from ordinary backward passes"

    def unsupported(self, network: Network) -> str | None:
        """Return what the network's structure alone rules out, naming the layer."""
        return None

    @abstractmethod
    def prepare(self, network: Network, x: Tensor, W: Tensor, *, together: bool) -> Any:
        """Return the state of a block of rows.

        Parameters
        ----------
        network : Network
            The function.
        x : Tensor of shape (n, d)
            Rows.
        W : Tensor of shape (Q, n, O)
            Combinations of outputs that are differentiated.
        together : bool
            Whether parameters that share their work may come as one part.

        Returns
        -------
        RowState
        """
