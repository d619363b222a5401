"""Data attribution: what training rows are worth to a model, and why it predicts what it does."""

from sknk.attribution._closed import (
    InfluenceAttributor,
    LeaveOneOutAttributor,
    RepresenterAttributor,
)
from sknk.attribution._data_oob import DataOOB
from sknk.attribution._groups import GroupRemoval
from sknk.attribution._knn import KNNShapleyAttributor
from sknk.attribution._label_errors import LabelErrors, find_label_errors
from sknk.attribution._result import AttributionResult, Curve
from sknk.attribution._shapley import ShapleyAttributor
from sknk.attribution._surrogate import Faithfulness, SurrogateExplainer
from sknk.attribution._trak import TRAKAttributor
from sknk.attribution._unlearn import unlearn

__all__ = [
    "AttributionResult",
    "Curve",
    "DataOOB",
    "Faithfulness",
    "GroupRemoval",
    "InfluenceAttributor",
    "KNNShapleyAttributor",
    "LabelErrors",
    "LeaveOneOutAttributor",
    "RepresenterAttributor",
    "ShapleyAttributor",
    "SurrogateExplainer",
    "TRAKAttributor",
    "find_label_errors",
    "unlearn",
]
