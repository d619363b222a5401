"""Displays of predictions and of how far to trust them; drawing needs `sknk[plot]`."""

from sknk.inspection._calibration import CalibrationDisplay
from sknk.inspection._coverage import CoverageDisplay
from sknk.inspection._importance import FeatureImportanceDisplay
from sknk.inspection._prediction import GPPredictionDisplay
from sknk.inspection._reliability import expected_calibration_error

__all__ = [
    "CalibrationDisplay",
    "CoverageDisplay",
    "FeatureImportanceDisplay",
    "GPPredictionDisplay",
    "expected_calibration_error",
]
