"""Which implementation serves a network: by name, or the first of a documented order."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from sknk.kernels._empirical._implementation import Implementation
from sknk.kernels._empirical._jacobian import Jacobian, Loop
from sknk.kernels._empirical._network import Network
from sknk.kernels._empirical._products import VectorProducts
from sknk.kernels._empirical._structured import Structured
from sknk.kernels._empirical._verification import Verdict, compared, remembered

__all__ = ["IMPLEMENTATIONS", "Choice", "choose"]

IMPLEMENTATIONS: dict[str, Implementation] = {
    kind.name: kind() for kind in (Structured, Jacobian, VectorProducts, Loop)
}
GRADIENTS = ("structured", "jacobian", "loop")
SKETCHED = ("vector_products", *GRADIENTS)


@dataclass(frozen=True)
class Choice:
    """Which implementation serves a kernel, and why others do not.

    Attributes
    ----------
    name : str
        The implementation.
    refusals : dict of str to str
        Why each implementation that was asked before cannot serve.
    """

    name: str
    refusals: dict[str, str]


def choose(wanted: str, order: Sequence[str], network: Network, x: Tensor) -> Choice:
    """Return the implementation that serves a network.

    Parameters
    ----------
    wanted : str
        A name, or "auto" for the first in `order` that does not refuse.
    order : sequence of str
        Names that can serve the kind of kernel.
    network : Network
        The function.
    x : Tensor of shape (n, d)
        At least one row to try.

    Returns
    -------
    Choice

    Raises
    ------
    ValueError
        If what was asked for by name refuses, or does not serve the kind.
    """
    if wanted != "auto" and wanted not in order:
        raise ValueError(
            f"`implementation` is {wanted!r}, which cannot form what this `kind`, `projection` and "
            f"`sketch` need; expected one of {list(order)}."
        )
    refusals: dict[str, str] = {}
    for name in order if wanted == "auto" else [wanted]:
        key = (name, tuple(network.pieces), network.packing, x.shape[1], network.dtype, x.device)
        refusal = remembered(network.origin, key, partial(_refusal, name, network, x))
        if refusal is None:
            return Choice(name, refusals)
        refusals[name] = refusal
    why = "; ".join(f"{name}: {refusal}" for name, refusal in refusals.items())
    raise ValueError(
        f"No implementation serves {network.kind} ({why}). Expected a supported layer for every "
        "parameter: leave some out with `params`, or pass implementation='auto'."
    )


def _refusal(name: str, network: Network, x: Tensor) -> Verdict:
    """Return why an implementation cannot serve, and whether that is worth remembering."""
    implementation, truth = IMPLEMENTATIONS[name], IMPLEMENTATIONS["loop"]
    if implementation is truth:
        return None, True
    why = implementation.unsupported(network)
    return (why, True) if why is not None else compared(implementation, truth, network, x)
