"""Neural tangent kernels as scikit-learn estimators."""

from sknk._config import config_context, get_config, set_config
from sknk.exceptions import DeviceWarning, MemoryBudgetError, NotPSDError, NumericalWarning
from sknk.gaussian_process import NTKGaussianProcessClassifier, NTKGaussianProcessRegressor
from sknk.ridge import (
    FeatureLearner,
    NTKRidge,
    NTKRidgeClassifier,
    NTKRidgeClassifierCV,
    NTKRidgeCV,
)

__version__ = "0.1.0.dev0"

__all__ = [
    "DeviceWarning",
    "FeatureLearner",
    "MemoryBudgetError",
    "NTKGaussianProcessClassifier",
    "NTKGaussianProcessRegressor",
    "NTKRidge",
    "NTKRidgeCV",
    "NTKRidgeClassifier",
    "NTKRidgeClassifierCV",
    "NotPSDError",
    "NumericalWarning",
    "__version__",
    "config_context",
    "get_config",
    "set_config",
]
