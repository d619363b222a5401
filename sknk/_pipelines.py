"""Pipelines: what stands before the last step, and another last step in its place."""

import copy
from collections.abc import Callable
from typing import Any

from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline

__all__ = ["split_pipeline", "unwrap_frozen", "with_last_step"]


def unwrap_frozen(estimator: Any) -> Any:
    """Return what a FrozenEstimator holds, or the estimator."""
    while isinstance(estimator, FrozenEstimator):
        estimator = estimator.estimator
    return estimator


def split_pipeline(estimator: Any) -> tuple[Callable[[Any], Any], Any]:
    """Return the transformation of rows before the last step, and that step."""
    estimator = unwrap_frozen(estimator)
    if not isinstance(estimator, Pipeline):
        return _as_it_is, estimator
    before, final = split_pipeline(estimator.steps[-1][1])
    if len(estimator.steps) == 1:
        return before, final
    head = estimator[:-1]
    return lambda X: before(head.transform(X)), final


def _as_it_is(X: Any) -> Any:
    return X


def with_last_step(estimator: Any, final: Any) -> Any:
    """Return an estimator with another last step; the steps before are shared."""
    estimator = unwrap_frozen(estimator)
    if not isinstance(estimator, Pipeline):
        return final
    new = copy.copy(estimator)
    name, last = estimator.steps[-1]
    new.steps = [*estimator.steps[:-1], (name, with_last_step(last, final))]
    return new
