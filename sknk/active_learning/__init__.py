"""Batch active learning: which rows of a pool are best labelled next."""

from sknk.active_learning._learner import BatchActiveLearner
from sknk.active_learning._run import LearningCurves, run_active_learning
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
    "LearningCurves",
    "MaxDet",
    "MaxDiag",
    "MaxDist",
    "Posterior",
    "Random",
    "Rescale",
    "Selector",
    "Sketch",
    "Transform",
    "run_active_learning",
    "select_batch",
]
