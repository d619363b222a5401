"""Measures of features: whose they are, and in which unit they compare."""

from typing import Any

import numpy as np

from sknk.inspection._checks import check_vector

__all__ = ["check_names", "check_reference", "feature_names_of", "positive_sum"]


def positive_sum(values: np.ndarray, name: str) -> float:
    """Return the sum of the values above zero, 1 where all are zero.

    Parameters
    ----------
    values : ndarray of shape (d,)
        A measure of d features.
    name : str
        Parameter name, for the message.

    Returns
    -------
    float
        Positive, in the unit of the measure.

    Raises
    ------
    ValueError
        If some are negative and none is positive.
    """
    total = float(values[values > 0].sum())
    if total == 0 and values.any():
        raise ValueError(
            f"`{name}` is at most {values.max():.3g}; expected a value above zero, for parts of "
            "their sum. A model that predicts nothing has no importances."
        )
    return total or 1.0


def check_names(names: Any, d: int) -> list[str]:
    """Return the names of d features.

    Parameters
    ----------
    names : array-like of shape (d,) or None
        None makes them up.
    d : int
        Number of features.

    Returns
    -------
    list of str

    Raises
    ------
    ValueError
        If there is another number of names.
    """
    if names is None:
        return [f"x{j}" for j in range(d)]
    found = [str(name) for name in names]
    if len(found) != d:
        raise ValueError(
            f"`feature_names` has {len(found)} names; expected {d}, one for each importance."
        )
    return found


def check_reference(
    reference: Any, error: Any, d: int
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Return another measure of d features and its errors, as parts of its sum.

    Parameters
    ----------
    reference : array-like of shape (d,), Bunch or None
        The measure; a Bunch of ``permutation_importance`` brings its own errors.
    error : array-like of shape (d,) or None
        Errors of an array.
    d : int
        Number of features.

    Returns
    -------
    reference, error : ndarray of shape (d,) or None
        Dimensionless.

    Raises
    ------
    ValueError
        If lengths differ, an error is negative or there is nothing it is of.
    """
    if hasattr(reference, "importances_mean") and error is None:
        reference, error = reference.importances_mean, reference.importances_std
    if reference is None:
        if error is not None:
            raise ValueError("`reference` is None; expected what `reference_error` is of.")
        return None, None
    values = check_vector(reference, "reference", rows=d)
    total = positive_sum(values, "reference")
    if error is None:
        return values / total, None
    spread = check_vector(error, "reference_error", rows=d)
    if (spread < 0).any():
        row = int(np.argmin(spread))
        raise ValueError(
            f"`reference_error` is {spread[row]:.3g} at feature {row}; expected standard errors, "
            "which are not negative."
        )
    return values / total, spread / total


def feature_names_of(estimator: Any, names: Any = None) -> Any:
    """Return the names of the columns that the last step sees.

    Parameters
    ----------
    estimator : estimator
        Fitted; perhaps a pipeline, or a search over one.
    names : array-like of str or None
        Names of the columns that it is given, where known.

    Returns
    -------
    array-like of str or None
        None where nobody knows them.
    """
    if hasattr(estimator, "best_estimator_"):
        return feature_names_of(estimator.best_estimator_, names)
    if not hasattr(estimator, "steps"):
        return getattr(estimator, "feature_names_in_", names)
    if len(estimator.steps) > 1:
        try:
            names = estimator[:-1].get_feature_names_out(names)
        except (AttributeError, ValueError):  # a step that does not name what it makes
            names = None
    return feature_names_of(estimator.steps[-1][1], names)
