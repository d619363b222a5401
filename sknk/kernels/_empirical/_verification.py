"""What is tried on a few rows before a module is trusted, and before an implementation is."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn

from sknk.kernels._empirical._contractions import PAIRS
from sknk.kernels._empirical._gradients import RowGradients
from sknk.kernels._empirical._network import Network

__all__ = ["Verdict", "compared", "probes", "quiet", "remembered", "run_through"]

Verdict = tuple[Any, bool]  # an answer, and whether it is worth remembering

# Relative errors beyond these are no rounding.
_AGREEMENT = {torch.float64: 1e-8, torch.float32: 1e-3}
_FEW = 2**22  # parameters of a network whose gradients are compared for several combinations
_KEPT = 64  # answers for one module: a counter among its settings must not fill the memory
_SINGLE = "Expected a function of single rows; use layers that keep running statistics."
_PLAIN = (bool, int, float, str, type(None))

# What a module's structure decides does not change from call to call; its layers may.
_known: WeakKeyDictionary[nn.Module, dict[Any, Any]] = WeakKeyDictionary()


def remembered(module: nn.Module, key: Any, find: Callable[[], Verdict]) -> Any:
    """Return what is found once for every structure of a module.

    Parameters
    ----------
    module : nn.Module
        Whose layers, settings and hooks belong to the key.
    key : hashable
        What else the answer depends on.
    find : callable
        Returns the answer and whether to remember it; an error is not remembered.

    Returns
    -------
    object
    """
    known = _known.setdefault(module, {})
    key = (key, _structure(module))
    if key in known:
        return known[key]
    answer, lasting = find()
    if lasting:
        if len(known) >= _KEPT:
            known.clear()
        known[key] = answer
    return answer


def _structure(module: nn.Module) -> tuple[Any, ...]:
    """Return layers and their contents by identity, parameters by shape, settings by value."""
    return tuple(
        (id(part), *((k, _content(v)) for k, v in vars(part).items() if k != "training"))
        for part in module.modules()
    )


def _content(value: Any) -> Any:
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, dict):
        return tuple(
            (key, _item(item)) for key, item in value.items() if isinstance(key, str | int)
        )
    if isinstance(value, list | tuple | set | frozenset):
        return tuple(map(_item, value))
    return id(value)


def _item(value: Any) -> Any:
    if isinstance(value, Tensor):
        return tuple(value.shape)
    return value if isinstance(value, _PLAIN) else id(value)


@contextmanager
def quiet() -> Iterator[None]:
    """Ignore what torch says of its own slow paths and deprecations."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "There is a performance drop")
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        yield


def probes(network: Network, x: Tensor) -> Tensor:
    """Return three rows like those of x, different from each other wherever rows can be made.

    Gradients at given rows may all be zero, or the rows equal: nothing would be seen there.

    Parameters
    ----------
    network : Network
        The function.
    x : Tensor of shape (n, d)
        At least one row.

    Returns
    -------
    Tensor of shape (3, d)
    """
    rows = x.detach()[[0, len(x) // 2, len(x) - 1]]
    if network.packing.integer is not None:
        return rows
    clean = torch.nan_to_num(rows, posinf=0.0, neginf=0.0)
    shift = np.random.default_rng(0).uniform(0.01, 0.1, size=tuple(rows.shape))
    scale = float(clean.abs().mean()) or 1.0
    moved = clean + scale * torch.from_numpy(shift).to(clean)  # upwards: domains are often x > 0
    with torch.enable_grad(), quiet():
        return moved if bool(network(network.leaves, moved).isfinite().all()) else rows


def run_through(network: Network, x: Tensor) -> Verdict:
    """Return the number of outputs, once the module is seen to be a function of single rows.

    Parameters
    ----------
    network : Network
        The function; its mirror is of no further use.
    x : Tensor of shape (n, d)
        At least one row.

    Returns
    -------
    int, bool

    Raises
    ------
    ValueError
        If outputs have no row axis, rows see each other, outputs are random, or do not depend on
        the parameters the module has.
    TypeError
        If the module does not return a tensor.
    """
    before = torch.get_rng_state()
    with torch.enable_grad(), quiet():
        together, alone = _together_and_alone(network, x)
    if not torch.equal(before, torch.get_rng_state()):
        torch.set_rng_state(before)
        raise ValueError(
            f"{network.kind} draws random numbers in evaluation mode; a tangent kernel needs a "
            "deterministic function."
        )
    _check_closures(network, together)
    together, alone = together.detach(), alone.detach()
    gaps = (together - alone).abs().amax(1)
    finite = bool(together.isfinite().all() and alone.isfinite().all())
    if finite and gaps.max() > _AGREEMENT[network.dtype] * alone.abs().max():
        raise ValueError(
            f"{network.kind} couples rows: the output of row {int(gaps.argmax())} changes by "
            f"{gaps.max().item():.3g} when other rows stand beside it. {_SINGLE}"
        )
    return together.shape[1], finite and not torch.equal(together[0], together[1])


def _together_and_alone(network: Network, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the outputs of three rows, run as one batch and one by one."""
    try:
        network.fresh().shaped(x[:1])  # errors of the module, on a row as it was given
    except ValueError:
        if _runs(network.fresh(), x[[0, 0, 0]]):
            raise ValueError(f"{network.kind} fails on a row that is alone. {_SINGLE}") from None
        raise
    rows = probes(network.fresh(), x)
    return network.shaped(rows), torch.cat([network.shaped(row[None]) for row in rows])


def _runs(network: Network, x: Tensor) -> bool:
    try:
        network.shaped(x)
    except ValueError:
        return False
    return True


def _check_closures(network: Network, out: Tensor) -> None:
    """Refuse outputs that depend on the module itself, not on the parameters it is given."""
    own = {name: p for name, p in network.origin.named_parameters() if p.requires_grad}
    if not out.requires_grad or not own:
        return
    with torch.enable_grad():
        grads = torch.autograd.grad(out.sum(), list(own.values()), allow_unused=True)
    for name, grad in zip(own, grads, strict=True):
        if grad is not None:
            raise ValueError(
                f"{network.kind} reads {name!r} through a function that belongs to one module "
                "(a closure or a replaced `forward`), so copies of it cannot be differentiated. "
                "Write the computation in the `forward` of a class."
            )


def compared(implementation: Any, truth: Any, network: Network, x: Tensor) -> Verdict:
    """Return what an implementation finds otherwise than ordinary backward passes, on few rows.

    Finds weights that are read outside their layer, rows that are not the first axis, operations
    with wrong batched or forward derivatives.

    Parameters
    ----------
    implementation, truth : Implementation
        The one in question, and backward passes.
    network : Network
        The function.
    x : Tensor of shape (n, d)
        Rows.

    Returns
    -------
    str or None, bool
        What differs.
    """
    rows = probes(network.fresh(), x)
    q, n = (2, 3) if network.size <= _FEW else (1, 2)
    drawn = np.random.default_rng(1).uniform(1.0, 2.0, (q, n, network.n_outputs))
    W = torch.from_numpy(drawn).to(x.device, network.dtype)
    wanted = truth.prepare(network.fresh(), rows[:n], W, together=False)
    try:
        with quiet():
            found = implementation.prepare(network.fresh(), rows[:n], W, together=False)
            gaps, scale = _gaps(found, wanted, network)
    except (RuntimeError, NotImplementedError, ValueError, TypeError, AttributeError) as error:
        return _first_line(error), True
    for name, gap in gaps.items():
        if gap > _AGREEMENT[network.dtype] * scale:
            return f"{name} {implementation.doubt}", True
    lasting = 0.0 < scale < np.inf and all(np.isfinite(list(gaps.values())))
    return None, lasting


def _gaps(found: Any, wanted: RowGradients, network: Network) -> tuple[dict[str, float], float]:
    """Return the largest differences by parameter (of the kernel, for products), and the scale."""
    if not isinstance(found, RowGradients):
        K, truth = found.contract(found, PAIRS), wanted.contract(wanted, PAIRS)
        return {"The kernel": float((K - truth).abs().max())}, float(truth.abs().max())
    gaps, scale = {}, 0.0
    for name, lead in zip(
        network.names, network.lengths([(n,) for n in network.names]), strict=True
    ):
        truth = wanted.part(name).block(0, lead)
        gap = (found.part(name).block(0, lead).reshape(truth.shape) - truth).abs()
        gaps[repr(name)] = float(gap.max()) if gap.numel() else 0.0
        scale = max(scale, float(truth.abs().max()) if truth.numel() else 0.0)
    return gaps, scale


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
