"""Gradients of a network's output, row by row."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

__all__ = ["output_gradients"]


def output_gradients(module: nn.Module, X: Tensor) -> Tensor:
    """Return the gradient of the single output at each row, by the parameters that are trained.

    Parameters
    ----------
    module : nn.Module
        Maps (n, d) to (n,) or (n, 1).
    X : Tensor of shape (n, d)
        Rows.

    Returns
    -------
    Tensor of shape (n, P)
    """
    learned = {k: v.detach() for k, v in module.named_parameters() if v.requires_grad}

    def output(values: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(module, values, (x[None],)).squeeze()

    rows: Callable[..., dict[str, Tensor]] = vmap(grad(output), in_dims=(None, 0))
    found = rows(learned, X)
    return torch.cat([found[name].flatten(1) for name in learned], dim=1)
