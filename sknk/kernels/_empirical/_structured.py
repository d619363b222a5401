"""Structured gradients: activations and cotangents of layers, never a weight's gradient by row."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from sknk.kernels._empirical._gradients import Gradient, Outer, RowGradients, compact
from sknk.kernels._empirical._implementation import Implementation
from sknk.kernels._empirical._layer_rules import RULES, Call, supported, supports
from sknk.kernels._empirical._network import Network
from sknk.kernels._empirical._parameters import lead

__all__ = ["Structured"]


@dataclass
class _Site:
    """A layer that owns chosen parameters, and what passed through it."""

    name: str
    layer: nn.Module
    wanted: dict[str, str]
    given: list[Tensor] = field(default_factory=list)
    versions: list[int] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)

    def hook(self, _: Any, args: Any, kwargs: Any, output: Tensor) -> Tensor:
        """Keep input and output; later writes into the output must not reach what is kept."""
        given = args[0] if args else kwargs["input"]
        self.given.append(given)
        self.versions.append(given._version)
        self.outputs.append(output)
        return output.clone()

    def called(self) -> bool:
        """Return whether the forward pass came by."""
        return bool(self.given)

    def changed(self) -> bool:
        """Return whether what the layer was given has been written to since."""
        return any(
            given._version != version
            for given, version in zip(self.given, self.versions, strict=True)
        )


class Structured(Implementation):
    r"""Factors of gradients, layer by layer.

    A linear layer y = W x + b has dL/dW = delta x^T with delta = dL/dy, so inner products of two
    rows' gradients are ``(x . x' + 1) (delta . delta')``: Q backward passes to the outputs of
    layers, O(n Q width) memory (Novak et al. 2022, section 3.3).
    """

    name = "structured"

    doubt = (
        "has another gradient by ordinary backward passes: its layer does not see rows along the "
        "first axis, or the weight is used outside the layer's forward"
    )

    def unsupported(self, network: Network) -> str | None:
        """Return the layer without a rule."""
        sites = _sites(network)
        return sites if isinstance(sites, str) else None

    def prepare(self, network: Network, x: Tensor, W: Tensor, *, together: bool) -> RowGradients:
        """Run the rows forward once and Q times backward."""
        sites = _sites(network)
        assert not isinstance(sites, str)
        with torch.enable_grad(), _watched(sites):
            out = network(network.trainable(), x)
        for site in sites:
            if site.changed():
                raise ValueError(f"layer {site.name!r} had its input overwritten in place")
        outputs = [y for site in sites for y in site.outputs]
        cotangents = _cotangents(out, outputs, W, differentiable=x.requires_grad)
        found: dict[tuple[str, ...], list[Gradient]] = {}
        for site in filter(_Site.called, sites):
            calls = [
                Call(given if x.requires_grad else given.detach(), next(cotangents))
                for given in site.given
            ]
            rule = RULES[type(site.layer)]
            own = together and not _tied(site, sites)
            for names, gradient in rule(site.layer, calls, site.wanted, own):
                if gradient.n_rows != len(x):
                    raise ValueError(f"layer {site.name!r} sees other rows than the module")
                found.setdefault(names, []).append(gradient)
        used = {name for names in found for name in names}
        for name in filter(lambda name: name not in used, network.names):
            found[(name,)] = [_nothing(network.leaves[name], W)]
        parts = tuple(_merged(gradients) for gradients in found.values())
        return RowGradients(tuple(found), parts)


def _sites(network: Network) -> list[_Site] | str:
    """Return the layers that own the chosen parameters, or why one cannot be used."""
    module = network.module
    names = {id(p): name for name, p in module.named_parameters()}
    chosen, sites = set(network.names), []
    if any(piece.stop is not None for piece in network.pieces):
        return "parameters are split"
    for where, layer in module.named_modules():
        wanted = {
            own: names[id(p)]
            for own, p in layer.named_parameters(recurse=False, remove_duplicate=False)
            if names[id(p)] in chosen
        }
        if not wanted:
            continue
        label = f"{type(layer).__name__} {where!r}" if where else type(layer).__name__
        if not supports(layer) or not wanted.keys() <= {"weight", "bias"}:
            return f"{label} owns {next(iter(wanted.values()))!r}; expected {supported()}"
        sites.append(_Site(where, layer, wanted))
    return sites


class _watched:
    """Hooks on the layers of a mirror, for one forward pass."""

    def __init__(self, sites: Sequence[_Site]) -> None:
        self._sites = sites

    def __enter__(self) -> None:
        self._handles = [
            s.layer.register_forward_hook(s.hook, with_kwargs=True) for s in self._sites
        ]

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()


def _cotangents(
    out: Tensor, outputs: Sequence[Tensor], W: Tensor, *, differentiable: bool
) -> Iterator[Tensor]:
    """Return the gradients of the Q combinations of outputs with respect to layers' outputs."""
    if not outputs:
        return iter(())
    # Rows are independent, so one backward pass of the sum over rows serves all of them.
    if len(W) > 1 and not differentiable:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # of an operation that vmap would loop over
                grads = torch.autograd.grad(
                    out, outputs, W, is_grads_batched=True, allow_unused=True, retain_graph=True
                )
            return (_present(g, y, len(W)) for g, y in zip(grads, outputs, strict=True))
        except (RuntimeError, NotImplementedError, Warning):
            pass  # the same numbers, one pass after another
    passes = [
        torch.autograd.grad(
            out, outputs, w, retain_graph=True, allow_unused=True, create_graph=differentiable
        )
        for w in W
    ]
    columns = zip(*passes, strict=True)
    return (
        torch.stack([_present(g, y, 1)[0] for g in column])
        for column, y in zip(columns, outputs, strict=True)
    )


def _present(g: Tensor | None, y: Tensor, q: int) -> Tensor:
    """Return a batch of cotangents; zeros for a layer that the outputs do not depend on."""
    if g is None:
        return y.new_zeros((q, *y.shape))
    return g if g.ndim > y.ndim else g[None]


def _tied(site: _Site, sites: Sequence[_Site]) -> bool:
    others = {name for s in sites if s is not site for name in s.wanted.values()}
    return bool(others & set(site.wanted.values()))


def _nothing(leaf: Tensor, W: Tensor) -> Outer:
    """Return the gradient of a parameter that no row used."""
    q, n, _ = W.shape
    left, right = (
        W.new_zeros((q, n, 1, lead(leaf))),
        W.new_zeros((n, 1, leaf.numel() // lead(leaf))),
    )
    return Outer(left, right)


def _merged(gradients: Sequence[Gradient]) -> Gradient:
    """Add up the uses of one parameter: places of factors stand side by side."""
    first = gradients[0]
    if len(gradients) > 1:
        kind = type(first)
        if any(type(g) is not kind for g in gradients):
            raise TypeError("one parameter belongs to layers of different kinds")
        tensors = [vars(g) for g in gradients]
        if "values" in tensors[0]:
            first = kind(torch.stack([t["values"] for t in tensors]).sum(0))  # type: ignore[call-arg]
        else:
            first = kind(
                **{
                    k: torch.cat([t[k] for t in tensors], 2 if k == "left" else 1)
                    for k in tensors[0]
                }
            )
    return compact(first) if isinstance(first, Outer) else first
