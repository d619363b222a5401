"""Batch active learning: which rows of a pool are best labelled next."""

from sknk.active_learning._learner import BatchActiveLearner
from sknk.active_learning._select_batch import select_batch
from sknk.active_learning._selectors import (
    BAIT,
    LCMD,
    FrankWolfe,
    KMeansPlusPlus,
    MaxDet,
    MaxDiag,
    MaxDist,
    Random,
    Selector,
)
from sknk.active_learning._transforms import ACSFeatures, Posterior, Rescale, Sketch, Transform

__all__ = [
    "BAIT",
    "LCMD",
    "ACSFeatures",
    "BatchActiveLearner",
    "FrankWolfe",
    "KMeansPlusPlus",
    "MaxDet",
    "MaxDiag",
    "MaxDist",
    "Posterior",
    "Random",
    "Rescale",
    "Selector",
    "Sketch",
    "Transform",
    "select_batch",
]
