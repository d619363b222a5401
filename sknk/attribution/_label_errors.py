"""Rows whose labels look wrong, the most suspicious first."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.base import clone
from torch import Tensor

from sknk._array import to_numpy
from sknk._validation import check_pandas_support
from sknk.attribution._base import BaseAttributor, fitted_estimator
from sknk.attribution._closed import (
    InfluenceAttributor,
    LeaveOneOutAttributor,
    RepresenterAttributor,
)
from sknk.attribution._data_oob import DataOOB
from sknk.attribution._knn import KNNShapleyAttributor
from sknk.attribution._machine import Machine, machine_of
from sknk.attribution._shapley import ShapleyAttributor
from sknk.solvers import Cholesky, Whole

__all__ = ["LabelErrors", "find_label_errors"]

_METHODS: dict[str, Any] = {
    "data_oob": lambda estimator: DataOOB(random_state=0),
    "evidence": lambda estimator: ShapleyAttributor(estimator, utility="evidence", random_state=0),
    "influence": InfluenceAttributor,
    "knn_shapley": lambda estimator: KNNShapleyAttributor(),
    "leave_one_out": LeaveOneOutAttributor,
    "representer": RepresenterAttributor,
    "shapley": lambda estimator: ShapleyAttributor(estimator, random_state=0),
}


@dataclass(frozen=True)
class LabelErrors:
    """How suspicious the label of every row is.

    Attributes
    ----------
    suspicion_ : ndarray of shape (n,)
        Higher is more likely wrong; comparable within one result only.
    ranked_indices_ : ndarray of shape (n,)
        Rows, the most suspicious first; ties in row order.
    method : str
        How it was measured.
    """

    suspicion_: np.ndarray
    ranked_indices_: np.ndarray
    method: str

    def to_frame(self) -> Any:
        """Return a data frame of rows in order of suspicion; needs pandas.

        Returns
        -------
        pandas.DataFrame
            Columns ``row`` and ``suspicion``.
        """
        pandas = check_pandas_support("LabelErrors.to_frame")
        ranked = self.ranked_indices_
        return pandas.DataFrame({"row": ranked, "suspicion": self.suspicion_[ranked]})


def find_label_errors(
    estimator: Any, X: Any, y: Any, *, method: Any = "loo", X_val: Any = None, y_val: Any = None
) -> LabelErrors:
    r"""Rank rows by how likely their labels are wrong.

    By default by the margin of the closed-form leave-one-out prediction, with each row judged by
    all others:

    .. math:: \text{suspicion}_i = \max_{c \ne y_i} f_{-i, c}(x_i) - f_{-i, y_i}(x_i), \qquad
        \text{of numbers } |y_i - f_{-i}(x_i)| / \sqrt{1 / G_{ii}}

    copies of a row with the same target leave together. One factorization, O(n^3) time.

    Parameters
    ----------
    estimator : None, estimator or nn.Module
        As in :class:`LeaveOneOutAttributor`.
    X : array-like of shape (n, d)
        Rows.
    y : array-like of shape (n,)
        Labels, or numbers.
    method : str or attributor, default="loo"
        "loo", an unfitted attributor, or the name of one: "data_oob", "evidence", "influence",
        "knn_shapley", "leave_one_out", "representer", "shapley". Suspicion is then minus the value;
        "data_oob" and "knn_shapley" have models of their own.
    X_val : array-like of shape (m, d) or None, default=None
        Clean rows, for attributors that judge on some.
    y_val : array-like of shape (m,) or None, default=None
        Their labels.

    Returns
    -------
    LabelErrors

    Raises
    ------
    ValueError
        For a method of another name.
    TypeError
        For an estimator that is not supported.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sknk import NTKRidgeClassifier
    >>> from sknk.attribution import find_label_errors
    >>> X, y = load_iris(return_X_y=True)
    >>> y[7] = 2
    >>> int(find_label_errors(NTKRidgeClassifier(alpha=0.1), X, y).ranked_indices_[0])
    7
    """
    if isinstance(method, str) and method == "loo":
        if X_val is not None or y_val is not None:
            raise ValueError(
                "`X_val` is given and `method` is 'loo', which judges rows by each other; expected "
                "None. Pass an attributor that judges on validation rows, such as 'shapley'."
            )
        suspicion = _by_others(fitted_estimator(estimator, X, y), y)
        return _ranked(suspicion, "loo")
    if isinstance(method, str):
        if method not in _METHODS:
            raise ValueError(
                f"`method` is {method!r}; expected 'loo', an attributor, or one of "
                f"{sorted(_METHODS)}."
            )
        attributor = _METHODS[method](estimator)
    elif isinstance(method, BaseAttributor):
        attributor = clone(method)
    else:
        raise ValueError(f"`method` is {method!r}; expected a name or an unfitted attributor.")
    values = attributor.fit(X, y, X_val, y_val).values_
    name = method if isinstance(method, str) else type(method).__name__
    return _ranked(-values, name)


def _ranked(suspicion: np.ndarray, method: str) -> LabelErrors:
    return LabelErrors(suspicion, np.argsort(-suspicion, kind="stable"), method)


def _by_others(estimator: Any, y: Any) -> np.ndarray:
    """Return how much each row contradicts the others, (n,)."""
    machine = machine_of(estimator)
    suspicion = np.empty(machine.n)
    y = np.asarray(to_numpy(y) if isinstance(y, Tensor) else y)
    left = np.setdiff1d(np.arange(machine.n), machine.active)
    with machine.place():
        games, first, copy_of = machine.merged_games(machine.rows[left] if len(left) else None)
        whole = [Whole.of(g, Cholesky().factorize(g.K, g.shift)) for g in games]
        outputs, variance = zip(*(w.own_without_each() for w in whole), strict=True)
        own = _contradiction(machine, torch.cat(outputs, dim=1), variance[0], y[first])
        suspicion[machine.active] = own[copy_of]
        if len(left):  # rows of weight zero are judged by all others already
            seen = torch.cat([w.outputs for w in whole], dim=1)
            noise = torch.ones_like(seen[:, 0]) * variance[0].median()
            suspicion[left] = _contradiction(machine, seen, noise, y[left])
    return suspicion


def _contradiction(
    machine: Machine, outputs: Tensor, variance: Tensor, y: np.ndarray
) -> np.ndarray:
    """Return margins by which classes are missed, or absolute residuals over their deviation."""
    head = machine.head
    f = to_numpy(outputs).astype(np.float64) + head.prior
    T = head.code(y)
    if not head.classifies:
        scale = np.sqrt(to_numpy(variance).astype(np.float64))[:, None]
        return np.abs((T - f) / scale).max(axis=1)
    if head.apart or f.shape[1] == 1:
        return -(T * f).min(axis=1)  # of several labels the worst
    own = f[T > 0]
    return np.where(T > 0, -np.inf, f).max(axis=1) - own
