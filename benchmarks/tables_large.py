"""Regression on the ten largest tables of `tables.py`, at most 10 000 training rows, a fold each.

The same contestants and the same rows for all, see there; ``SKNK_REGRESSION_TABLES`` and
``SKNK_REGRESSION_METHODS`` restrict the run, which takes hours with everyone: LightGBM, the forest
and ours are quick. Ours searches on 2000 rows and fits what it chose to all.
"""

from pathlib import Path
from typing import Any

from _common import main
from _store import Store
from tables import FULL, scores_of

LARGEST = (
    "protein",
    "beijing_pm25",
    "diamonds",
    "cal_housing",
    "bike",
    "elevators",
    "pol",
    "naval",
    "power",
    "delta_elevators",
)


def measure(quick: bool, folder: Path | None) -> dict[str, Any]:
    """Score the largest tables."""
    sizes = FULL | {"most": 300, "trees": 20} if quick else FULL | {"most": 10_000}
    return scores_of(LARGEST[-1:] if quick else LARGEST, sizes, Store(folder, __file__))


if __name__ == "__main__":
    main(measure, __file__, resumes=True)
