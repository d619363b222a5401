"""What an implementation of tangent kernels is: rows and cotangents in, row gradients out."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Protocol, Self
from weakref import WeakKeyDictionary

from torch import Tensor, nn

from sknk.kernels._empirical._contractions import Contraction
from sknk.kernels._empirical._network import Network

__all__ = ["Implementation", "RowState", "remembered"]


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
    explicit : bool
        Whether gradients exist entry by entry, so that signs and sketches of them can be taken.
    """

    name: ClassVar[str]
    explicit: ClassVar[bool] = True

    @abstractmethod
    def refusal(self, network: Network, x: Tensor) -> str | None:
        """Return why this implementation cannot serve a network, naming the layer; None if it can.

        Parameters
        ----------
        network : Network
            The function.
        x : Tensor of shape (n, d)
            Rows to try it on.

        Returns
        -------
        str or None
        """

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


_PLAIN = (bool, int, float, str, type(None))

# What a module's structure decides does not change from call to call; its layers may.
_known: WeakKeyDictionary[nn.Module, dict[Any, Any]] = WeakKeyDictionary()


def remembered(module: nn.Module, key: Any, find: Callable[[], Any]) -> Any:
    """Return what is found once for every structure of a module.

    Parameters
    ----------
    module : nn.Module
        Whose layers and settings belong to the key.
    key : hashable
        What else the answer depends on.
    find : callable
        Finds it; an error is not remembered.

    Returns
    -------
    object
    """
    known = _known.setdefault(module, {})
    key = (key, _structure(module))
    if key not in known:
        known[key] = find()
    return known[key]


def _structure(module: nn.Module) -> tuple[Any, ...]:
    """Return layers by identity, shapes of their parameters, and whatever settings are plain."""
    return tuple(
        (
            id(part),
            *((name, None if p is None else p.shape) for name, p in part._parameters.items()),
            *((k, v) for k, v in vars(part).items() if isinstance(v, _PLAIN) and k != "training"),
        )
        for part in module.modules()
    )
