"""Contextual bandits on tangent kernels, and how to judge them."""

from sknk.bandits._beta import optimistic_draws
from sknk.bandits._greedy import NTKEpsilonGreedy
from sknk.bandits._neural import NeuralTS, NeuralUCB
from sknk.bandits._off_policy import PolicyValue, cross_fitted_rewards, policy_value
from sknk.bandits._optimizer import PoolOptimizer
from sknk.bandits._policies import NTKUCB
from sknk.bandits._problems import (
    BanditProblem,
    classification_problem,
    synthetic_problem,
    wheel_problem,
)
from sknk.bandits._replay import (
    make_ope_scorer,
    make_regret_scorer,
    make_replay_scorer,
    partial_fit_pipeline,
    progressive_replay,
)
from sknk.bandits._sampling import NTKThompsonSampling
from sknk.bandits._simulate import Simulation, simulate
from sknk.bandits._target import bandit_target

__all__ = [
    "NTKUCB",
    "BanditProblem",
    "NTKEpsilonGreedy",
    "NTKThompsonSampling",
    "NeuralTS",
    "NeuralUCB",
    "PolicyValue",
    "PoolOptimizer",
    "Simulation",
    "bandit_target",
    "classification_problem",
    "cross_fitted_rewards",
    "make_ope_scorer",
    "make_regret_scorer",
    "make_replay_scorer",
    "optimistic_draws",
    "partial_fit_pipeline",
    "policy_value",
    "progressive_replay",
    "simulate",
    "synthetic_problem",
    "wheel_problem",
]
