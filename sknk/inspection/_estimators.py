"""What displays ask of an estimator: means with standard deviations, or intervals."""

from typing import Any

import numpy as np

from sknk.inspection._checks import as_array, check_vector

__all__ = ["check_std", "gaussian_prediction", "interval_prediction", "last_step", "one_target"]


def last_step(estimator: Any) -> Any:
    """Return what predicts: the last step of a pipeline, the winner of a search."""
    if hasattr(estimator, "best_estimator_"):
        return last_step(estimator.best_estimator_)
    if _is_pipeline(estimator):
        return last_step(estimator.steps[-1][1])
    return estimator


def gaussian_prediction(
    estimator: Any, X: Any, *, target: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return predictive means and standard deviations.

    Parameters
    ----------
    estimator : estimator
        Fitted; with ``predict(X, return_std=True)``.
    X : array-like of shape (m, d)
        Rows.
    target : int or None
        Column of a prediction of several targets.

    Returns
    -------
    mean, std : ndarray of shape (m,)
        Units of y.

    Raises
    ------
    TypeError
        If the estimator returns no standard deviations.
    """
    model = getattr(estimator, "best_estimator_", estimator)
    name = type(last_step(model)).__name__
    instead = (
        "expected a regressor whose `predict(X, return_std=True)` returns (mean, std). Pass a "
        "Gaussian process, or a pipeline that ends in one."
    )
    try:
        found = model.predict(X, return_std=True)
    except TypeError as error:
        if "return_std" not in str(error):
            raise
        raise TypeError(f"{name}.predict takes no `return_std`; {instead}") from error
    if not isinstance(found, tuple) or len(found) != 2:
        raise TypeError(f"{name}.predict returned a {type(found).__name__}; {instead}")
    mean = one_target(found[0], "mean", target)
    return mean, check_std(one_target(found[1], "std", target), len(mean))


def check_std(std: Any, rows: int) -> np.ndarray:
    """Return standard deviations as a vector.

    Parameters
    ----------
    std : array-like of shape (m,)
        Units of y.
    rows : int
        m, the number of means.

    Returns
    -------
    ndarray of shape (m,)

    Raises
    ------
    ValueError
        If one is negative.
    """
    found = check_vector(std, "std", rows=rows)
    if (found < 0).any():
        row = int(np.argmin(found))
        raise ValueError(
            f"`std` is {found[row]:.3g} at row {row}; expected standard deviations, which are not "
            "negative. Take the square root of variances."
        )
    return found


def one_target(
    values: Any, name: str, target: int | None, *, rows: int | None = None
) -> np.ndarray:
    """Return one column of values of several targets.

    Parameters
    ----------
    values : array-like of shape (m,) or (m, t)
        Predictions or targets.
    name : str
        What they are, for messages.
    target : int or None
        Column.
    rows : int or None
        Expected m.

    Returns
    -------
    ndarray of shape (m,)

    Raises
    ------
    ValueError
        If there are several columns and none is chosen, or no such column.
    """
    found = as_array(values)
    if found.ndim < 2 or found.shape[1] == 1:
        return check_vector(found, name, rows=rows)
    columns = found.shape[1]
    if not isinstance(target, int | np.integer) or not -columns <= target < columns:
        raise ValueError(
            f"`target` is {target!r} but `{name}` has {columns} columns; expected the index of "
            f"one, 0 to {columns - 1}."
        )
    return check_vector(found[:, target], name, rows=rows)


def interval_prediction(estimator: Any, X: Any, levels: np.ndarray) -> np.ndarray | None:
    """Return central intervals by the estimator's own ``predict_interval``.

    Parameters
    ----------
    estimator : estimator
        Fitted. Of a pipeline the last step is asked, on the rows the steps before it make.
    X : array-like of shape (m, d)
        Rows.
    levels : ndarray of shape (l,)
        Nominal coverages.

    Returns
    -------
    ndarray of shape (l, m, 2) or None
        Lower and upper bounds, units of y; None without such a method.
    """
    if not hasattr(last_step(estimator), "predict_interval"):
        return None
    model, rows = _at_last_step(estimator, X)
    # 1 - 0.9 is not 0.1, and the count of rows outside an interval is rounded: snap to decimals.
    return np.stack(
        [as_array(model.predict_interval(rows, alpha=round(1.0 - p, 12))) for p in levels.tolist()]
    )


def _is_pipeline(estimator: Any) -> bool:
    return hasattr(estimator, "steps") and hasattr(estimator, "named_steps")


def _at_last_step(estimator: Any, X: Any) -> tuple[Any, Any]:
    """Return what predicts, and the rows that it sees."""
    if hasattr(estimator, "best_estimator_"):
        return _at_last_step(estimator.best_estimator_, X)
    if _is_pipeline(estimator):
        rows = estimator[:-1].transform(X) if len(estimator.steps) > 1 else X
        return _at_last_step(estimator.steps[-1][1], rows)
    return estimator, X
