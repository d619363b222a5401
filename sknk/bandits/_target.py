"""Logged feedback as one array: what was played, what came of it, how likely it was."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils import check_consistent_length, column_or_1d
from sklearn.utils._missing import is_pandas_na, is_scalar_nan

__all__ = ["Feedback", "bandit_target", "check_kinds", "column", "feedback_of"]

_COLUMNS = "`y` as bandit_target(action, reward), columns (action, reward[, propensity]) or rewards"
_NAMES = ("action", "reward", "propensity")


@dataclass(frozen=True)
class Feedback:
    """Rounds that were played.

    Attributes
    ----------
    action : ndarray of shape (n,)
        Labels of arms; zeros where `y` was rewards alone.
    reward : ndarray of float64 of shape (n,)
        What came of them.
    propensity : ndarray of float64 of shape (n,) or None
        Probability with which the action was chosen; None if nobody knows.
    rewards_alone : bool
        Whether `y` named no actions, as if there were a single arm.
    """

    action: np.ndarray
    reward: np.ndarray
    propensity: np.ndarray | None
    rewards_alone: bool = False


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
        For lengths that differ, an action that is missing, a reward that is not finite or a
        propensity outside (0, 1].

    Examples
    --------
    >>> from sknk.bandits import bandit_target
    >>> y = bandit_target(["left", "right"], [1.0, 0.0], propensity=0.5)
    >>> y["reward"].sum()
    np.float64(1.0)
    """
    check_kinds(action, "action")
    action, reward = column(action, "action"), column(_numbers(reward, "reward"), "reward")
    known = None
    if propensity is not None:
        known = _numbers(propensity, "propensity")
        known = np.full(len(action), known) if known.ndim == 0 else column(known, "propensity")
    check_consistent_length(action, reward, known)
    found = Feedback(action, reward, known)
    _check(found)
    columns = {name: getattr(found, name) for name in _NAMES if getattr(found, name) is not None}
    y = np.empty(len(action), dtype=[(name, part.dtype) for name, part in columns.items()])
    for name, part in columns.items():
        y[name] = part
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
        _check_names(list(y.columns))
        y = bandit_target(*(np.asarray(y[name]) for name in _NAMES if name in y.columns))
    y = np.asarray(y)
    if y.dtype.names is not None:
        _check_names(list(y.dtype.names))
        known = y["propensity"].astype(np.float64) if "propensity" in y.dtype.names else None
        found = Feedback(y["action"], y["reward"].astype(np.float64), known)
    elif y.ndim == 2 and y.shape[1] in (2, 3):
        numbers = _numbers(y, "y")
        known = numbers[:, 2] if y.shape[1] == 3 else None
        found = Feedback(_whole(numbers[:, 0]), numbers[:, 1], known)
    else:
        reward = _numbers(column_or_1d(y, warn=True), "y")
        found = Feedback(np.zeros(len(reward), dtype=int), reward, None, rewards_alone=True)
    _check(found)
    return found


def _check_names(names: list[Any]) -> None:
    """Refuse names of columns or fields that would be left out or misread."""
    if not {"action", "reward"} <= set(names) <= set(_NAMES):
        raise ValueError(
            f"`y` has columns {', '.join(map(str, names))}; expected 'action' and 'reward', and "
            "'propensity' where it is known, and no others. Rename them, or pass them to "
            "bandit_target(action, reward, propensity)."
        )


def _numbers(values: Any, name: str) -> np.ndarray:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"`{name}` is no array of numbers; expected {_COLUMNS}.") from error


def column(values: Any, name: str) -> np.ndarray:
    """Return one value of each round, (n,); a ValueError names the parameter that has others."""
    values = np.asarray(values)  # of a table, as it is
    if np.ndim(values) == 0 or np.size(values) != len(values):
        raise ValueError(
            f"`{name}` has shape {np.shape(values)}; expected one of each round, (n,)."
        )
    return column_or_1d(values)


def _whole(actions: np.ndarray) -> np.ndarray:
    """Return numbers of arms as integers, where they are."""
    whole = np.isfinite(actions).all() and (actions == np.floor(actions)).all()
    return actions.astype(int) if whole else actions


def _is_missing(label: Any) -> bool:
    return label is None or is_scalar_nan(label) or is_pandas_na(label)


def check_kinds(labels: Any, name: str) -> None:
    """Refuse words among numbers, which NumPy would make words of.

    Parameters
    ----------
    labels : array-like of shape (n,)
        Of arms.
    name : str
        Of the parameter.

    Raises
    ------
    ValueError
        If there are both.
    """
    if np.ndim(labels) != 1 or getattr(getattr(labels, "dtype", None), "kind", "O") != "O":
        return
    named = (label for label in labels if not _is_missing(label))
    if len({isinstance(label, str) for label in named}) > 1:
        raise ValueError(f"`{name}` has words and numbers; expected labels of one kind.")


def _check(found: Feedback) -> None:
    """Refuse what no log can hold."""
    action, reward, propensity = found.action, found.reward, found.propensity
    check_kinds(action, "action")
    labels = action.tolist() if action.dtype.kind in ("f", "O") else []  # others are never missing
    bad = np.flatnonzero([_is_missing(label) for label in labels])
    if len(bad):
        raise ValueError(f"The action of row {bad[0]} is missing (NaN); expected the arm's label.")
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
