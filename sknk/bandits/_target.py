"""Logged feedback as one array: what was played, what came of it, how likely it was."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils import check_consistent_length, column_or_1d

__all__ = ["Feedback", "bandit_target", "feedback_of"]

_COLUMNS = "`y` as bandit_target(action, reward), columns (action, reward[, propensity]) or rewards"


@dataclass(frozen=True)
class Feedback:
    """Rounds that were played.

    Attributes
    ----------
    action : ndarray of shape (n,)
        Labels of arms.
    reward : ndarray of float64 of shape (n,)
        What came of them.
    propensity : ndarray of float64 of shape (n,) or None
        Probability with which the action was chosen; None if nobody knows.
    """

    action: np.ndarray
    reward: np.ndarray
    propensity: np.ndarray | None


def bandit_target(action: Any, reward: Any, propensity: Any = None) -> np.ndarray:
    """Return actions, rewards and propensities as one structured array, the `y` of a bandit.

    One array goes through ``Pipeline``, ``GridSearchCV`` and splitters like any other target.

    Parameters
    ----------
    action : array-like of shape (n,)
        Labels of the arms that were played.
    reward : array-like of shape (n,)
        What came of them; any unit, larger is better.
    propensity : array-like of shape (n,) or float or None, default=None
        Probability with which each action was chosen, in (0, 1]; None if nobody knows.

    Returns
    -------
    ndarray of shape (n,)
        With fields ``action``, ``reward`` and, where it is given, ``propensity``.

    Raises
    ------
    ValueError
        For lengths that differ, a reward that is not finite or a propensity outside (0, 1].

    Examples
    --------
    >>> from sknk.bandits import bandit_target
    >>> y = bandit_target(["left", "right"], [1.0, 0.0], propensity=0.5)
    >>> y["reward"].sum()
    np.float64(1.0)
    """
    action, reward = column_or_1d(action), _numbers(reward, "reward")
    check_consistent_length(action, reward)
    fields = [("action", action.dtype), ("reward", np.float64)]
    if propensity is not None:
        fields.append(("propensity", np.float64))
    y = np.empty(len(action), dtype=fields)
    y["action"], y["reward"] = action, reward
    if propensity is not None:
        y["propensity"] = np.broadcast_to(np.asarray(propensity, dtype=np.float64), len(y))
    _check(y["reward"], y["propensity"] if propensity is not None else None)
    return y


def feedback_of(y: Any) -> Feedback:
    """Return what a target says; a 1-D one is rewards of a single arm, named 0.

    Parameters
    ----------
    y : structured array, array-like of shape (n, 2) or (n, 3), or of shape (n,)
        As of :func:`bandit_target`, its columns as numbers, or rewards alone.

    Returns
    -------
    Feedback

    Raises
    ------
    ValueError
        For another shape, fields that are missing, and as :func:`bandit_target`.
    """
    if hasattr(y, "columns"):  # a table, whose columns have names
        y = y[[name for name in ("action", "reward", "propensity") if name in y.columns]]
        y = bandit_target(*(np.asarray(y[name]) for name in y.columns))
    y = np.asarray(y)
    if y.dtype.names is not None:
        if not {"action", "reward"} <= set(y.dtype.names):
            raise ValueError(f"`y` has fields {', '.join(y.dtype.names)}; expected {_COLUMNS}.")
        known = y["propensity"].astype(np.float64) if "propensity" in y.dtype.names else None
        found = Feedback(y["action"], y["reward"].astype(np.float64), known)
    elif y.ndim == 2 and y.shape[1] in (2, 3):
        numbers = _numbers(y, "y")
        known = numbers[:, 2] if y.shape[1] == 3 else None
        found = Feedback(_whole(numbers[:, 0]), numbers[:, 1], known)
    else:
        reward = _numbers(column_or_1d(y, warn=True), "y")
        found = Feedback(np.zeros(len(reward), dtype=int), reward, None)
    _check(found.reward, found.propensity)
    return found


def _numbers(values: Any, name: str) -> np.ndarray:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"`{name}` is no array of numbers; expected {_COLUMNS}.") from error


def _whole(actions: np.ndarray) -> np.ndarray:
    """Return numbers of arms as integers, where they are."""
    whole = np.isfinite(actions).all() and (actions == np.floor(actions)).all()
    return actions.astype(int) if whole else actions


def _check(reward: np.ndarray, propensity: np.ndarray | None) -> None:
    bad = np.flatnonzero(~np.isfinite(reward))
    if len(bad):
        raise ValueError(
            f"The reward of row {bad[0]} is {reward[bad[0]]}: NaN or infinity; expected a finite "
            "number. Leave rounds out whose reward has not come, or announce them by `add_pending`."
        )
    if propensity is None:
        return
    bad = np.flatnonzero(~((propensity > 0) & (propensity <= 1)))
    if len(bad):
        raise ValueError(
            f"The propensity of row {bad[0]} is {propensity[bad[0]]}; expected a probability in "
            "(0, 1]. An action that could not be chosen cannot be in the log."
        )
