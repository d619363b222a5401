"""Finite networks as estimators: what active learners and bandits train beside kernel machines."""

from sknk.networks._classifier import NetworkClassifier
from sknk.networks._modules import PowerMLP, TangentMLP
from sknk.networks._regressor import NetworkRegressor

__all__ = ["NetworkClassifier", "NetworkRegressor", "PowerMLP", "TangentMLP"]
