"""Estimators as active learners: where their rows live, and how they take new ones."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.pipeline import Pipeline
from torch import nn

from sknk._pipelines import split_pipeline, unwrap_frozen, with_last_step
from sknk.active_learning._base_kernels import (
    ensemble_features,
    has_members,
    member_probabilities,
    network_kernel,
    networks_of,
)
from sknk.active_learning._selectors import Selector
from sknk.active_learning._spaces import checked_proba
from sknk.gaussian_process import NTKGaussianProcessClassifier, NTKGaussianProcessRegressor
from sknk.networks import NetworkClassifier, NetworkRegressor
from sknk.ridge import NTKRidge, NTKRidgeClassifier
from sknk.ridge._base import BaseRidge
from sknk.ridge._classes import RidgeClassifierMixin

__all__ = ["View", "default_for", "laws_of", "taught", "view_of"]

_NAMED = {
    "gradient": "a torch network",
    "last_layer": "a torch network",
    "members": "a forest, bagging, voting, or networks with `n_models` > 1",
}
_SKETCH = 512  # features of a network's gradients, as in the paper of LCMD
_NOISE = 1e-6


@dataclass(frozen=True)
class View:
    """How an estimator sees rows.

    Attributes
    ----------
    before : callable
        From rows as passed to rows of the kernel.
    kernel : kernel or None
        Their inner product; None where they are features.
    noise_variance : float
        Of labels, units of the kernel.
    selector : str
        The one that suits it.
    """

    before: Callable[[Any], Any]
    kernel: Any
    noise_variance: float
    selector: str


def default_for(estimator: Any, y: np.ndarray, seed: Any = None) -> Any:
    """Return the estimator, a module's own, or the ridge that suits labels: floats are numbers."""
    numbers = y.dtype.kind == "f"
    if isinstance(estimator, nn.Module):
        kind = NetworkRegressor if numbers else NetworkClassifier
        return kind(estimator, random_state=seed)
    if estimator is not None:
        return estimator
    return NTKRidge() if numbers else NTKRidgeClassifier()


def view_of(estimator: Any, kernel: Any, X: Any, *, fitted: bool, seed: int) -> View:
    """Return how an estimator sees rows.

    Parameters
    ----------
    estimator : estimator
        Fitted to the rows with labels, or not where there are none.
    kernel : kernel, {"gradient", "last_layer", "members"} or None
        Another one than the estimator's own.
    X : array-like of shape (n, d)
        All rows; transformers of a pipeline that is not fitted are fitted to them.
    fitted : bool
        Whether it is.
    seed : int
        Of a network's sketch.

    Returns
    -------
    View

    Raises
    ------
    TypeError
        If the estimator has no kernel and none is given.
    """
    before, final = _split(estimator, X, fitted=fitted)
    modules, known = networks_of(final), kernel
    if isinstance(kernel, str):
        _check_named(kernel, final, modules)
    if kernel == "members" or (kernel is None and not modules and fitted and has_members(final)):
        return View(lambda rows: ensemble_features(final, before(rows)), None, _NOISE, "lcmd")
    if modules:
        if kernel is None or isinstance(kernel, str):
            known = network_kernel(kernel or "gradient", modules, _SKETCH, seed)
        return View(before, known, _NOISE, "lcmd")
    machines = BaseRidge, NTKGaussianProcessRegressor, NTKGaussianProcessClassifier
    if isinstance(final, machines):
        own = final.kernel_ if fitted else final.kernel
        return View(before, kernel or own, _noise(final, fitted=fitted), "bait")
    if kernel is None:
        raise TypeError(
            f"`estimator` is {type(final).__name__}, which has no kernel of its own, and `kernel` "
            "is None. Pass a kernel such as NTK(), or a ridge, a Gaussian process, a forest, or a "
            "torch network as estimator: the last two have one once rows have labels."
        )
    return View(before, kernel, _NOISE, "lcmd")


def _check_named(kernel: str, final: Any, modules: list[nn.Module]) -> None:
    """Refuse names of kernels that the estimator does not have."""
    if kernel not in _NAMED:
        raise ValueError(
            f"`kernel` is {kernel!r}; expected a kernel, None, or one of {', '.join(_NAMED)}."
        )
    if not (has_members(final) if kernel == "members" else modules):
        raise ValueError(
            f"`kernel` is {kernel!r} and `estimator` {type(final).__name__}; expected "
            f"{_NAMED[kernel]}, with labels for some rows."
        )


def _split(estimator: Any, X: Any, *, fitted: bool) -> tuple[Callable[[Any], Any], Any]:
    """Return transformation and last step; without labels the first steps see all rows."""
    estimator = unwrap_frozen(estimator)
    if fitted or not isinstance(estimator, Pipeline):
        return split_pipeline(estimator)
    last = estimator.steps[-1][1]
    if len(estimator.steps) == 1:
        return _split(last, X, fitted=False)
    head = clone(estimator[:-1]).fit(X)
    before, final = _split(last, head.transform(X), fitted=False)
    return lambda rows: before(head.transform(rows)), final


def _noise(machine: Any, *, fitted: bool) -> float:
    """Return the ridge, or the noise variance over the amplitude."""
    if isinstance(machine, BaseRidge):
        return float(machine._ridge()) if fitted else float(getattr(machine, "alpha", 1.0))
    noise = getattr(machine, "noise_variance_", None)
    if not fitted or noise is None:
        return _NOISE if noise is None else float(noise)
    return float(np.mean(noise) / np.mean(machine.amplitude_))


def laws_of(
    estimator: Any, selector: Selector, pool: Any, known: Any, rng: np.random.RandomState
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Return class probabilities of the pool and of rows with labels, if a selector looks at them.

    Parameters
    ----------
    estimator : estimator or None
        Fitted; None where there are no labels.
    selector : Selector
    pool : array-like of shape (n, d)
        Rows as passed.
    known : array-like of shape (t, d), or None
        Rows with labels.
    rng : RandomState
        Of draws.

    Returns
    -------
    proba : ndarray of shape (n, C) or (S, n, C), or None
    proba_train : ndarray of shape (t, C) or None
    """
    if estimator is None or not {"proba", "draws"} & set(selector.needs):
        return None, None
    if "draws" in selector.needs:
        return _draws(estimator, pool, selector.n_samples, rng), None
    if not hasattr(estimator, "predict_proba"):
        return None, None
    name = f"predict_proba of {type(estimator).__name__}"
    proba, proba_train = (estimator.predict_proba(rows) for rows in (pool, known))
    return (
        checked_proba(proba, len(proba), name),
        checked_proba(proba_train, len(proba_train), name),
    )


def _draws(
    estimator: Any, pool: Any, n_samples: int, rng: np.random.RandomState
) -> np.ndarray | None:
    """Return class probabilities under draws of a classifier, (S, n, C), if it has them."""
    before, final = split_pipeline(estimator)
    if isinstance(final, NTKGaussianProcessClassifier):
        seed = int(rng.randint(2**31 - 1))
        return np.moveaxis(final.sample_proba(before(pool), n_samples, seed), 2, 0)
    if not (has_members(final) and hasattr(final, "classes_")):
        return None
    return member_probabilities(final, before(pool))


def taught(estimator: Any, X: Any, y: np.ndarray) -> Any | None:
    """Return the estimator with rows more, appended to its factorization.

    Parameters
    ----------
    estimator : estimator
        Fitted; never changed.
    X : array-like of shape (m, d)
        New rows.
    y : ndarray of shape (m,)
        Their labels.

    Returns
    -------
    estimator or None
        None where rows cannot be appended: it has to be fitted again.
    """
    before, final = split_pipeline(estimator)
    regressor = isinstance(final, NTKGaussianProcessRegressor)
    if not regressor and not (isinstance(final, BaseRidge) and final.kernel_ != "precomputed"):
        return None
    rows = np.asarray(before(X), dtype=np.float64)
    if regressor:
        return with_last_step(estimator, copy.copy(final).partial_fit(rows, y))
    if not isinstance(final, RidgeClassifierMixin):
        Y = np.asarray(y, dtype=np.float64)[:, None]
        return with_last_step(estimator, final._with(rows, Y))
    if final.class_weight is not None or not np.isin(y, final.classes_).all():
        return None  # weights of all rows, or the columns of targets, would change
    return with_last_step(estimator, final._with(rows, final._coder.coded(y)))
