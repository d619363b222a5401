"""Gradients entry by entry: all rows at once by torch.func, or row after row by backward."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.func import vjp, vmap

from sknk._validation import check_memory
from sknk.kernels._empirical._gradients import Dense, RowGradients
from sknk.kernels._empirical._implementation import Implementation
from sknk.kernels._empirical._network import Network
from sknk.kernels._empirical._parameters import lead
from sknk.kernels._empirical._verification import quiet

__all__ = ["Jacobian", "Loop", "pulled"]


def _as_gradients(network: Network, grads: dict[str, Tensor]) -> RowGradients:
    """Keep gradients (n, Q, *shape) by parameter, outputs first; a number has one entry."""
    parts = (
        Dense(g.reshape(*g.shape[:2], lead(network.leaves[name]), -1).transpose(0, 1))
        for name, g in grads.items()
    )
    return RowGradients(tuple((name,) for name in grads), tuple(parts))


def _check_room(network: Network, W: Tensor) -> None:
    """Refuse Jacobians that do not fit."""
    q, n, _ = W.shape
    check_memory(
        float(q) * n * network.size * network.dtype.itemsize,
        W.device,
        what=f"The Jacobian of n={n} rows, {q} outputs and {network.size} parameters",
        instead="Use kind='pseudo', fewer `params`, `projection`, or implementation "
        "'vector_products'.",
    )


class Jacobian(Implementation):
    """Contraction of Jacobians that torch.func makes for all rows of a block at once.

    O(n Q P) memory for P parameters; works for what ``torch.func.vmap`` can batch.
    """

    name = "jacobian"
    doubt = "has another gradient by ordinary backward passes than torch.func finds for many rows"

    def prepare(self, network: Network, x: Tensor, W: Tensor, *, together: bool) -> RowGradients:
        """Pull Q cotangents of every row back to the parameters."""
        _check_room(network, W)

        def gradients(row: Tensor, w: Tensor) -> dict[str, Tensor]:
            return pulled(lambda leaves: network.row(leaves, row), network.leaves, w)

        return _as_gradients(network, vmap(gradients, (0, 1))(x, W))


class Loop(Implementation):
    """One backward pass for every row and combination of outputs; works for any module."""

    name = "loop"

    def prepare(self, network: Network, x: Tensor, W: Tensor, *, together: bool) -> RowGradients:
        """Run every row forward once and Q times backward."""
        _check_room(network, W)
        leaves = network.trainable()
        rows = []
        for i in range(len(x)):
            with torch.enable_grad():
                out = network(leaves, x[i : i + 1])[0]
                rows.append([self._grads(out @ w, leaves, x.requires_grad) for w in W[:, i]])
        grads = {
            name: torch.stack([torch.stack([grads[k] for grads in row]) for row in rows])
            for k, name in enumerate(leaves)
        }
        return _as_gradients(network, grads)

    @staticmethod
    def _grads(total: Tensor, leaves: dict[str, Tensor], differentiable: bool) -> Any:
        if not total.requires_grad:
            return [torch.zeros_like(leaf) for leaf in leaves.values()]
        return torch.autograd.grad(
            total,
            list(leaves.values()),
            retain_graph=True,
            create_graph=differentiable,
            allow_unused=True,
            materialize_grads=True,
        )


def pulled(
    function: Callable[[dict[str, Tensor]], Tensor], leaves: dict[str, Tensor], w: Tensor
) -> dict[str, Tensor]:
    """Return the gradients of Q combinations of a function's outputs.

    Parameters
    ----------
    function : callable
        Parameters -> outputs (O,).
    leaves : dict of str to Tensor
        Where.
    w : Tensor of shape (Q, O)
        Combinations.

    Returns
    -------
    dict of str to Tensor of shape (Q, ...)
    """
    with quiet():
        pull = vjp(function, leaves)[1]
        return vmap(pull)(w)[0]
