"""Exact removal of training rows from a fitted model."""

from typing import Any

import numpy as np
from sklearn.base import is_classifier

from sknk._pipelines import split_pipeline, with_last_step
from sknk.attribution._machine import machine_of

__all__ = ["unlearn"]


def unlearn(estimator: Any, indices: Any) -> Any:
    """Return the model that some training rows had never reached.

    The factorization is downdated, O(n^2 + m^2 k) for k rows and m behind the first of them, or
    factorized again where many rows go; so are dual coefficients, leave-one-out predictions and
    calibration. It equals a refit to the rows that are left with the same kernel, ridge or
    hyperparameters, and the same transformations before it in a Pipeline, which have seen all
    rows: choose and fit those on other rows where that matters. Prior mean and scale of a Gaussian
    process with ``normalize_y`` stay.

    Parameters
    ----------
    estimator : estimator
        Fitted ridge, Gaussian process regressor, or a Pipeline that ends in one; never changed.
    indices : int or array-like of int
        Positions of rows in the data it was fitted to.

    Returns
    -------
    estimator
        A new one, fitted to the other rows, in their order.

    Raises
    ------
    NotFittedError
        If the estimator is not fitted.
    TypeError
        If it is not one whose rows can be removed exactly.
    IndexError
        If an index is out of range.
    ValueError
        If no row would be left, or no row of a class.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from sknk import NTKRidgeClassifier
    >>> from sknk.attribution import unlearn
    >>> X, y = load_iris(return_X_y=True)
    >>> less = unlearn(NTKRidgeClassifier(alpha=0.1).fit(X, y), [0, 60])
    >>> refit = NTKRidgeClassifier(alpha=0.1).fit(np.delete(X, [0, 60], 0), np.delete(y, [0, 60]))
    >>> bool(np.allclose(less.decision_function(X), refit.decision_function(X)))
    True
    """
    machine = machine_of(estimator)
    rows = _checked(indices, machine.n)
    _, final = split_pipeline(estimator)
    if not hasattr(final, "_without"):
        raise TypeError(
            f"`estimator` is {type(final).__name__}; expected a ridge or "
            "NTKGaussianProcessRegressor, whose rows can be removed exactly. Fit it again to the "
            "other rows."
        )
    left = np.setdiff1d(machine.active, rows)
    if not len(left):
        raise ValueError(
            f"`indices` removes all {len(machine.active)} rows of positive weight; expected at "
            "least one to stay."
        )
    if is_classifier(final):
        _check_classes(final, rows)
    return with_last_step(estimator, final._without(rows))


def _checked(indices: Any, n: int) -> np.ndarray:
    rows = np.atleast_1d(np.asarray(indices))
    if rows.size == 0:
        rows = rows.astype(int)
    if rows.ndim != 1 or not np.issubdtype(rows.dtype, np.integer):
        raise ValueError(f"`indices` is {indices!r}; expected positions of rows, whole numbers.")
    if rows.size and (rows.min() < -n or rows.max() >= n):
        raise IndexError(f"`indices` is {indices!r}; expected positions of {n} rows, from 0.")
    return np.unique(rows % n)


def _check_classes(final: Any, rows: np.ndarray) -> None:
    if final.class_weight == "balanced":
        raise ValueError(
            "`class_weight` is 'balanced', so the weight of every row depends on all others; "
            "expected None or a dict. Fit again to the other rows."
        )
    training = final._training.without(rows)[0]
    gone = [
        label
        for label, before, after in zip(
            final.classes_.tolist(), _counts(final._training), _counts(training), strict=False
        )
        if before and not after
    ]
    if gone:
        raise ValueError(
            f"`indices` removes every row of the class {gone[0]!r}; expected at least one to stay. "
            "Fit again to the other rows for a model without it."
        )


def _counts(training: Any) -> np.ndarray:
    """Return distinct rows of each class."""
    Y = training.Y
    if Y.shape[1] == 1:
        return np.array([(Y < 0).sum(), (Y > 0).sum()])
    return (Y > 0).sum(axis=0)
