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
    twice = x[:1].expand(2, -1)
    hidden = _calls(network, x)
    chosen = []
    for call, one, two in zip(hidden, _calls(network, x[:1]), _calls(network, twice), strict=True):
        if one.given.shape == two.given.shape:  # a grid or a table: the same for every row
            continue
        if two.given.shape[0] != 2 * one.given.shape[0]:
            raise ValueError(
                f"Layer {call.layer!r} is given {tuple(call.given.shape)} for {len(x)} rows; "
                "expected rows along the first axis. Use kind='trace'."
            )
        chosen.append(call)
    if not chosen:
        raise ValueError(
            f"{type(network.module).__name__} has no layer with a hidden input, so no embedding; "
            "use kind='trace'."
        )
    chosen = chosen[-1:] if last else chosen
    names = tuple((f"{call.layer}[{index}]",) for index, call in enumerate(chosen))
    parts = tuple(Dense(call.given.reshape(1, len(x), 1, -1)) for call in chosen)
    return RowGradients(names, parts)


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
