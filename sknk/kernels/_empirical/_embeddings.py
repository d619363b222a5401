"""What layers are given: the kernels of hidden embeddings."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sknk.kernels._empirical._gradients import Dense, RowGradients
from sknk.kernels._empirical._network import Network

__all__ = ["embeddings"]


def embeddings(network: Network, x: Tensor, *, last: bool) -> RowGradients:
    """Return the inputs of layers with parameters, but for layers that are given the row itself.

    Parameters
    ----------
    network : Network
        The function.
    x : Tensor of shape (n, d)
        Rows.
    last : bool
        Of the last layer only.

    Returns
    -------
    RowGradients
        One part for each call of a layer: its inner products are those of embeddings.

    Raises
    ------
    ValueError
        If no layer has a hidden input, or its first axis is not that of rows.
    """
    first, last_row, twice = x[:1], x[-1:], x[:1].expand(2, -1)
    runs = [_calls(network.fresh(), rows) for rows in (x, first, last_row, twice)]
    if len({len(run) for run in runs}) > 1:
        raise ValueError(
            f"{network.kind} calls its layers a number of times that depends on the rows; expected "
            "one pass for all. Use kind='trace'."
        )
    chosen = [
        call
        for call, one, other, two in zip(*runs, strict=True)
        if two.given.shape != one.given.shape and _is_by_row(call, one, other)
    ]  # what has one shape for any number of rows, a grid or a table, is no embedding
    if not chosen:
        raise ValueError(
            f"{network.kind} has no layer with a hidden input, so no embedding; use kind='trace'."
        )
    chosen = chosen[-1:] if last else chosen
    names = tuple((f"{call.layer}[{index}]",) for index, call in enumerate(chosen))
    parts = tuple(Dense(call.given.reshape(1, len(x), 1, -1)) for call in chosen)
    return RowGradients(names, parts)


def _is_by_row(call: "_Call", one: "_Call", other: "_Call") -> bool:
    """Return True where the first axis is that of rows; say so where it is not."""
    n, each = len(call.given) // max(len(one.given), 1), one.given.reshape(-1)
    flat = call.given.reshape(n, -1) if n and call.given.numel() == n * each.numel() else None
    if (
        flat is None
        or not torch.allclose(flat[0], each, rtol=1e-3, equal_nan=True)
        or not torch.allclose(flat[-1], other.given.reshape(-1), rtol=1e-3, equal_nan=True)
    ):
        raise ValueError(
            f"Layer {call.layer!r} is given {tuple(call.given.shape)}, where rows are not along "
            "the first axis; expected what it is given for single rows. Use kind='trace'."
        )
    return True


class _Call(NamedTuple):
    """What a layer with parameters was given."""

    layer: str
    given: Tensor
    storage: int


def _calls(network: Network, x: Tensor) -> list[_Call]:
    """Return the calls of layers with parameters on numbers other than the row itself."""
    seen: list[_Call] = []
    handles = [
        layer.register_forward_pre_hook(_keeping(seen, name), with_kwargs=True)
        for name, layer in network.module.named_modules()
        if not name or any(True for _ in layer.parameters(recurse=False))
    ]
    try:
        with torch.set_grad_enabled(x.requires_grad):
            network(network.leaves, x)
    finally:
        for handle in handles:
            handle.remove()
    whole, *calls = seen
    return [c for c in calls if c.given.is_floating_point() and c.storage != whole.storage]


def _keeping(seen: list[_Call], name: str) -> Any:
    def hook(_: nn.Module, args: Any, kwargs: Any) -> None:
        given = args[0] if args else next(iter(kwargs.values()), None)
        if isinstance(given, Tensor):  # a copy: later layers may write into it
            seen.append(_Call(name, given.clone(), given.untyped_storage().data_ptr()))

    return hook
