"""Scores of a model refitted to some of its training rows."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn.base import clone, is_classifier
from sklearn.metrics import accuracy_score, r2_score
from sklearn.utils import _safe_indexing

from sknk._array import to_numpy
from sknk._pipelines import unwrap_frozen
from sknk.attribution._machine import Machine, machine_of

__all__ = ["refits"]


def refits(
    estimator: Any, X: Any, y: np.ndarray, X_test: Any, y_test: Any
) -> Callable[[np.ndarray], float]:
    """Return a function that scores the model fitted to some rows.

    Kernel machines keep kernel, ridge and preprocessing, and take a factorization each; other
    estimators are fitted anew.

    Parameters
    ----------
    estimator : estimator
        Fitted.
    X : array-like of shape (n, d)
        Training rows.
    y : ndarray of shape (n,)
        Their targets.
    X_test, y_test : array-like
        Rows to be judged on.

    Returns
    -------
    callable
        Sorted rows (k,) to an accuracy, or R2.
    """
    try:
        machine = machine_of(estimator)
    except TypeError:
        return _anew(unwrap_frozen(estimator), X, y, X_test, y_test)
    return _by_kernel(machine, X_test, y_test)


def _by_kernel(machine: Machine, X_test: Any, y_test: Any) -> Callable[[np.ndarray], float]:
    with machine.place():
        games = machine.games(machine.judged(X_test))

    def score(rows: np.ndarray) -> float:
        kept = torch.from_numpy(machine.positions(rows))[None].to(games[0].K.device)
        outputs = machine.head.prior
        with machine.place():
            if kept.numel():
                each = [to_numpy(game.subset_outputs(kept)[0][0]) for game in games]
                outputs = outputs + np.column_stack(each)
        outputs = np.broadcast_to(outputs, (len(y_test), len(machine.head.prior)))
        return machine.head.score(y_test, outputs)

    return score


def _anew(
    estimator: Any, X: Any, y: np.ndarray, X_test: Any, y_test: Any
) -> Callable[[np.ndarray], float]:
    metric = accuracy_score if is_classifier(estimator) else r2_score

    def score(rows: np.ndarray) -> float:
        some = y[rows]
        if is_classifier(estimator) and len(np.unique(some)) == 1:
            return float(metric(y_test, np.full(len(y_test), some[0])))
        model = clone(estimator).fit(_safe_indexing(X, rows), some)
        return float(metric(y_test, model.predict(X_test)))

    return score
