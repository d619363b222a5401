"""Parameter gradients of single layers, from what a layer was given and its output's cotangents.

A rule is a function of the layer, its calls, and names for those of its parameters that are chosen.
A call holds the input (n, ...) and the cotangents (Q, n, ...) of the output.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sknk.kernels._empirical._gradients import Dense, Gradient, Lookup, Outer

__all__ = ["RULES", "Call", "Found", "supported", "supports"]


class Call(NamedTuple):
    """One use of a layer by n rows."""

    given: Tensor  # (n, ...)
    cotangents: Tensor  # (Q, n, ...)


Found = list[tuple[tuple[str, ...], Gradient]]
Wanted = Mapping[str, str]  # the layer's own name of a parameter -> the module's
Rule = Callable[[Any, Sequence[Call], Wanted, bool], Found]


def _beside(factors: Sequence[Tensor], axis: int) -> Tensor:
    """Put the places of all calls side by side."""
    return factors[0] if len(factors) == 1 else torch.cat(tuple(factors), axis)


def _left(cotangents: Tensor) -> Tensor:
    """Return cotangents (Q, n, ..., o) as left factors, (Q, n, T, o)."""
    return cotangents.flatten(2, -2) if cotangents.ndim > 3 else cotangents[:, :, None]


def _weight_and_bias(left: Tensor, right: Tensor, wanted: Wanted, together: bool) -> Found:
    """Return the gradients of y = W x + b; with ones beside x both are one outer product."""
    if together and len(wanted) == 2:
        right = torch.cat([right, torch.ones_like(right[..., :1])], -1)
        return [((wanted["weight"], wanted["bias"]), Outer(left, right))]
    return _apart(Outer(left, right), left, wanted)


def _apart(weight: Gradient, left: Tensor, wanted: Wanted) -> Found:
    """Return the gradients of a weight and of the bias beside it, whichever are wanted."""
    found = {"weight": weight, "bias": Dense(left.sum(2)[..., None])}
    return [((name,), found[own]) for own, name in wanted.items()]


def _linear(layer: nn.Linear, calls: Sequence[Call], wanted: Wanted, together: bool) -> Found:
    right = _beside([c.given.reshape(len(c.given), -1, layer.in_features) for c in calls], 1)
    left = _beside([_left(c.cotangents) for c in calls], 2)
    return _weight_and_bias(left, right, wanted, together)


def _convolution(layer: Any, calls: Sequence[Call], wanted: Wanted, together: bool) -> Found:
    right = _beside([_patches(layer, c.given) for c in calls], 1)  # (n, T, C k)
    left = _beside([c.cotangents.flatten(3).mT for c in calls], 2)  # (Q, n, T, o)
    if layer.groups == 1 or "weight" not in wanted:
        return _weight_and_bias(left, right, wanted, together)
    # Groups have small weights: formed, they take at most the kernel's size times the factors.
    grouped = left.unflatten(3, (layer.groups, -1)), right.unflatten(2, (layer.groups, -1))
    weight = torch.einsum("qntgo,ntgi->qngoi", *grouped)
    return _apart(Dense(weight.flatten(2, 3)), left, wanted)


def _patches(layer: Any, x: Tensor) -> Tensor:
    """Return what every output pixel of a convolution sees, (n, T, C k)."""
    spatial = x.ndim - 2
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    x = F.pad(x, layer._reversed_padding_repeated_twice, mode=mode)
    for axis in range(spatial):
        size, step, gap = layer.kernel_size[axis], layer.stride[axis], layer.dilation[axis]
        x = x.unfold(2 + axis, gap * (size - 1) + 1, step)[..., ::gap]
    order = [0, *range(2, 2 + spatial), 1, *range(2 + spatial, 2 + 2 * spatial)]
    return x.permute(order).flatten(1 + spatial).flatten(1, spatial)


def _embedding(layer: nn.Embedding, calls: Sequence[Call], wanted: Wanted, _: bool) -> Found:
    codes = _beside([c.given.reshape(len(c.given), -1) for c in calls], 1)
    left = _beside([_left(c.cotangents) for c in calls], 2)
    if layer.padding_idx is not None:
        left = torch.where((codes == layer.padding_idx)[..., None], 0.0, left)
    return [((wanted["weight"],), Lookup(left, codes))]


def _scale_and_shift(normalized: Callable[[Any, Tensor], Tensor], channels: bool) -> Rule:
    """Return the rule of y = w * normalized(x) + b, with w for channels or for last axes."""

    def rule(layer: Any, calls: Sequence[Call], wanted: Wanted, _: bool) -> Found:
        factors = {
            "weight": [c.cotangents * normalized(layer, c.given) for c in calls],
            "bias": [c.cotangents for c in calls],
        }
        found: Found = []
        for own, name in wanted.items():
            shape = getattr(layer, own).shape
            total = torch.stack([_over(g, shape, channels) for g in factors[own]]).sum(0)
            found.append(((name,), _dense(total, shape[0])))
        return found

    return rule


def _dense(g: Tensor, lead: int) -> Dense:
    """Keep a gradient (Q, n, ...)."""
    return Dense(g.reshape(*g.shape[:2], lead, -1))


def _over(g: Tensor, shape: torch.Size, channels: bool) -> Tensor:
    """Sum (Q, n, ...) over the places that share a number."""
    if channels:
        return g.flatten(3).sum(3) if g.ndim > 3 else g
    lead = g.ndim - len(shape)
    return g.flatten(2, lead - 1).sum(2) if lead > 2 else g


def _prelu(layer: nn.PReLU, calls: Sequence[Call], wanted: Wanted, _: bool) -> Found:
    total: Any = 0.0
    for call in calls:
        g = call.cotangents * call.given.clamp(max=0.0)
        total = total + (
            g.flatten(2).sum(2, keepdim=True)
            if layer.num_parameters == 1
            else _over(g, layer.weight.shape, True)
        )
    return [((wanted["weight"],), _dense(total, len(layer.weight)))]


def _batch_normalized(layer: Any, x: Tensor) -> Tensor:
    shape = (1, -1) + (1,) * (x.ndim - 2)
    # In the precision of the rows before anything is computed.
    mean, var = (b.to(x).reshape(shape) for b in (layer.running_mean, layer.running_var))
    return (x - mean) / (var + layer.eps).sqrt()


def _instance_normalized(layer: Any, x: Tensor) -> Tensor:
    if layer.track_running_stats:
        return _batch_normalized(layer, x)
    return F.instance_norm(x, eps=layer.eps)


_layer_norm = _scale_and_shift(
    lambda layer, x: F.layer_norm(x, layer.normalized_shape, eps=layer.eps), channels=False
)
_group_norm = _scale_and_shift(
    lambda layer, x: F.group_norm(x, layer.num_groups, eps=layer.eps), channels=True
)
_batch_norm = _scale_and_shift(_batch_normalized, channels=True)
_instance_norm = _scale_and_shift(_instance_normalized, channels=True)

RULES: dict[type[nn.Module], Rule] = {
    nn.Linear: _linear,
    nn.Conv1d: _convolution,
    nn.Conv2d: _convolution,
    nn.Conv3d: _convolution,
    nn.Embedding: _embedding,
    nn.LayerNorm: _layer_norm,
    nn.GroupNorm: _group_norm,
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
    nn.BatchNorm3d: _batch_norm,
    nn.InstanceNorm1d: _instance_norm,
    nn.InstanceNorm2d: _instance_norm,
    nn.InstanceNorm3d: _instance_norm,
    nn.PReLU: _prelu,
}
if hasattr(nn, "RMSNorm"):
    RULES[nn.RMSNorm] = _scale_and_shift(
        lambda layer, x: F.rms_norm(x, layer.normalized_shape, eps=layer.eps), channels=False
    )


def supported() -> str:
    """Return the names of the layers that have rules."""
    return ", ".join(kind.__name__ for kind in RULES)


def supports(layer: nn.Module) -> bool:
    """Return whether a layer has a rule and computes what the rule takes derivatives of."""
    kind = type(layer)
    if kind not in RULES:
        return False
    # An embedding that rescales gradients, or renormalizes its table, is no plain lookup.
    return not (
        isinstance(layer, nn.Embedding) and (layer.scale_grad_by_freq or layer.max_norm is not None)
    )
