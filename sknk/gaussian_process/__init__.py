"""Gaussian processes: regression and classification."""

from sknk.gaussian_process._classifier import NTKGaussianProcessClassifier
from sknk.gaussian_process._regressor import NTKGaussianProcessRegressor

__all__ = ["NTKGaussianProcessClassifier", "NTKGaussianProcessRegressor"]
