"""Training rows that judge each other: folds in place of validation rows."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from sklearn.model_selection import KFold, StratifiedKFold

from sknk.attribution._games import ValidationGame
from sknk.attribution._machine import Machine
from sknk.solvers import Coalitions

__all__ = ["fold_game", "folds"]

_FOLDS = 5


def folds(machine: Machine, y: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Split the active rows, classes evenly."""
    n = len(y)
    count = min(_FOLDS, n)
    if count < 2:
        raise ValueError(
            f"n_samples={n} row; values without validation rows need at least 2. Pass `X_val`, or "
            "utility='evidence'."
        )
    if machine.head.classifies and y.ndim == 1:
        least = np.unique(y, return_counts=True)[1].min()
        if least >= count:
            return StratifiedKFold(count, shuffle=True, random_state=0).split(y, y)
    return KFold(count, shuffle=True, random_state=0).split(y)


def fold_game(
    machine: Machine,
    games: list[Coalitions],
    name: Any,
    train: np.ndarray,
    test: np.ndarray,
    y: np.ndarray,
) -> ValidationGame:
    """Return the game of some training rows, judged on others."""
    inside, outside = torch.from_numpy(train), torch.from_numpy(test)
    variance = machine.head.needs_variance(name)
    parts = []
    for game in games:
        rows, judged = inside.to(game.K.device), outside.to(game.K.device)
        prior = game.K.diagonal()[judged] if variance else None
        cross = game.K[rows][:, judged]
        parts.append(replace(game.take(rows), cross=cross, prior_variance=prior))
    return ValidationGame(parts, machine.head.utility(name, y[test], parts[0].K))
