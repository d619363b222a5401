"""Batch active learning: which rows of a pool are best labelled next."""

from sknk.active_learning._base_kernels import ensemble_features
from sknk.active_learning._class_selectors import (
    BADGE,
    KECOR,
    BatchBALD,
    Entropy,
    FisherBAIT,
    Margin,
)
from sknk.active_learning._labelled import LabelledNTKSelector
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
from sknk.active_learning._targeted import VTL, LookAhead
from sknk.active_learning._transforms import ACSFeatures, Posterior, Rescale, Sketch, Transform

__all__ = [
    "BADGE",
    "BAIT",
    "KECOR",
    "LCMD",
    "VTL",
    "ACSFeatures",
    "BatchActiveLearner",
    "BatchBALD",
    "Entropy",
    "FisherBAIT",
    "FrankWolfe",
    "KMeansPlusPlus",
    "LabelledNTKSelector",
    "LearningCurves",
    "LookAhead",
    "Margin",
    "MaxDet",
    "MaxDiag",
    "MaxDist",
    "Posterior",
    "Random",
    "Rescale",
    "Selector",
    "Sketch",
    "Transform",
    "ensemble_features",
    "run_active_learning",
    "select_batch",
]
