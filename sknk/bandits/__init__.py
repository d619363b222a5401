"""Contextual bandits on tangent kernels."""

from sknk.bandits._beta import optimistic_draws
from sknk.bandits._greedy import NTKEpsilonGreedy
from sknk.bandits._policies import NTKUCB
from sknk.bandits._sampling import NTKThompsonSampling
from sknk.bandits._target import bandit_target

__all__ = [
    "NTKUCB",
    "NTKEpsilonGreedy",
    "NTKThompsonSampling",
    "bandit_target",
    "optimistic_draws",
]
