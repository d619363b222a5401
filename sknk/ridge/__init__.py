"""Kernel ridge regression and classification."""

from sknk.ridge._cv import NTKRidgeClassifierCV, NTKRidgeCV
from sknk.ridge._learner import FeatureLearner
from sknk.ridge._ridge import NTKRidge, NTKRidgeClassifier

__all__ = ["FeatureLearner", "NTKRidge", "NTKRidgeCV", "NTKRidgeClassifier", "NTKRidgeClassifierCV"]
