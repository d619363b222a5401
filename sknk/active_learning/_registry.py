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
from sknk.active_learning._selectors import SELECTORS
from sknk.active_learning._targeted import VTL, LookAhead

__all__ = ["NAMED"]

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
