"""Displays of predictions and of how far to trust them; drawing needs `sknk[plot]`."""

from sknk.inspection._attribution import AttributionDisplay
from sknk.inspection._batch import BatchDisplay
from sknk.inspection._calibration import CalibrationDisplay
from sknk.inspection._coverage import CoverageDisplay
from sknk.inspection._importance import FeatureImportanceDisplay
from sknk.inspection._learning import LearningCurveDisplay
from sknk.inspection._prediction import GPPredictionDisplay
from sknk.inspection._regret import RegretDisplay
from sknk.inspection._reliability import expected_calibration_error
from sknk.inspection._removal import RemovalCurveDisplay

__all__ = [
    "AttributionDisplay",
    "BatchDisplay",
    "CalibrationDisplay",
    "CoverageDisplay",
    "FeatureImportanceDisplay",
    "GPPredictionDisplay",
    "LearningCurveDisplay",
    "RegretDisplay",
    "RemovalCurveDisplay",
    "expected_calibration_error",
]
