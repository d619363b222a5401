"""Selectors by name."""

from typing import Any

from sknk.active_learning._class_selectors import (
    BADGE,
    KECOR,
    BatchBALD,
    Entropy,
    FisherBAIT,
    Margin,
)
from sknk.active_learning._selectors import (
    BAIT,
    LCMD,
    FrankWolfe,
    KMeansPlusPlus,
    MaxDet,
    MaxDiag,
    MaxDist,
    Random,
)
from sknk.active_learning._targeted import VTL, LookAhead

__all__ = ["NAMED", "SELECTORS"]

SELECTORS: dict[str, Any] = {
    "random": Random,
    "maxdiag": MaxDiag,
    "maxdet": MaxDet,
    "bait": BAIT,
    "bait-fb": lambda: BAIT(overselect=2.0),
    "frank-wolfe": FrankWolfe,
    "maxdist": MaxDist,
    "kmeans++": KMeansPlusPlus,
    "lcmd": LCMD,
}
NAMED: dict[str, Any] = {
    **SELECTORS,
    "vtl": VTL,
    "margin": Margin,
    "entropy": Entropy,
    "badge": BADGE,
    "fisher-bait": FisherBAIT,
    "batchbald": BatchBALD,
    "kecor": KECOR,
    "look-ahead": LookAhead,
}
