"""Checks shared by kernels and estimators; scikit-learn's private imports live here only."""

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.base import _fit_context as fit_context
from sklearn.utils import check_random_state, compute_sample_weight
from sklearn.utils._optional_dependencies import check_pandas_support
from sklearn.utils._param_validation import HasMethods, Interval, RealNotInt, StrOptions
from sklearn.utils.validation import _check_feature_names_in as check_feature_names_in
from sklearn.utils.validation import _check_sample_weight, validate_data

from sknk import _config
from sknk.exceptions import MemoryBudgetError, NumericalWarning

__all__ = [
    "HasMethods",
    "Interval",
    "RealNotInt",
    "StrOptions",
    "check_class_weights",
    "check_feature_names_in",
    "check_memory",
    "check_pandas_support",
    "check_positions",
    "check_precomputed",
    "check_weights",
    "fit_context",
    "nonnegative_variance",
    "private_random_state",
    "repetition_weights",
    "validate_data",
    "warn_unscaled",
]

# Standardized columns have ratio 1; a column in units a thousand times another's decides alone.
_SCALE_RATIO = 1e3
_SYMMETRY_RTOL = 1e-6
# Asking the system what is free costs more than a small Gram matrix.
_SMALL_BYTES = 2**26


def _free_bytes(device: torch.device) -> float:
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        return 1024.0 * int(fields["MemAvailable"].split()[0])
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return np.inf


def memory_budget(device: torch.device) -> float:
    """Return the bytes a result may take: what is configured, else what is free."""
    configured = _config.current().memory_budget
    return _free_bytes(device) if configured is None else float(configured)


def check_memory(n_bytes: float, device: torch.device, *, what: str, instead: str) -> None:
    """Refuse an allocation before it is made.

    Parameters
    ----------
    n_bytes : float
        Bytes of the result and of the copies its computation holds at once.
    device : torch.device
        Where it would live.
    what : str
        The array, with its size, for the message.
    instead : str
        What the user can do.

    Raises
    ------
    MemoryBudgetError
        If `n_bytes` exceeds the budget.
    """
    if n_bytes < _SMALL_BYTES and _config.current().memory_budget is None:
        return
    allowed = memory_budget(device)
    if n_bytes > allowed:
        raise MemoryBudgetError(
            f"{what} needs {n_bytes:.3g} bytes but {allowed:.3g} are allowed on {device} "
            f"(`memory_budget` in sknk.set_config, else the free memory). {instead}"
        )


def check_positions(rows: np.ndarray, name: str, n: int) -> None:
    """Refuse positions of rows that are not there.

    Parameters
    ----------
    rows : ndarray of int of shape (m,)
        Positions.
    name : str
        Parameter they were passed as.
    n : int
        Rows there are.

    Raises
    ------
    ValueError
        If one is below 0, or n or more.
    """
    bad = rows[(rows < 0) | (rows >= n)]
    if len(bad):
        raise ValueError(f"`{name}` has row {bad[0]}; expected rows from 0 to {n - 1}.")


def private_random_state(random_state: Any) -> np.random.RandomState:
    """Return what to draw from; None leaves NumPy's global generator alone.

    Parameters
    ----------
    random_state : None, int or RandomState
        As scikit-learn's.

    Returns
    -------
    RandomState
    """
    if random_state is None:
        return np.random.RandomState(np.random.MT19937())
    return check_random_state(random_state)


def check_weights(sample_weight: Any, X: np.ndarray) -> np.ndarray | None:
    """Validate sample weights.

    Parameters
    ----------
    sample_weight : None, float or array-like of shape (n_samples,)
        Weights; dimensionless, finite, not negative, not all zero.
    X : ndarray of shape (n_samples, ...)
        The rows they belong to.

    Returns
    -------
    ndarray of shape (n_samples,) or None

    Raises
    ------
    ValueError
        If a weight is negative or not finite, or all are zero.
    """
    if sample_weight is None:
        return None
    raw = np.asarray(sample_weight, dtype=np.float64)
    if raw.size and not raw.any():
        raise ValueError("`sample_weight` is zero for every row; at least one must be non-zero.")
    weights = _check_sample_weight(sample_weight, X, dtype=np.float64)
    if (weights < 0).any():
        row = int(np.argmin(weights))
        raise ValueError(
            f"`sample_weight` is {weights[row]:.3g} at row {row}; expected weights that are "
            "not negative. Use zero to leave a row out."
        )
    return weights


def check_class_weights(
    class_weight: Any, y: np.ndarray, sample_weight: Any, X: np.ndarray
) -> np.ndarray | None:
    """Return sample weights times class weights, None where neither is given.

    Parameters
    ----------
    class_weight : None, "balanced" or dict
        As in scikit-learn; "balanced" gives every class the same total weight, `sample_weight`
        included.
    y : ndarray of shape (n_samples,) or (n_samples, n_labels)
        Classes.
    sample_weight : None, float or array-like of shape (n_samples,)
        Weights of rows.
    X : ndarray of shape (n_samples, ...)
        The rows.

    Returns
    -------
    ndarray of shape (n_samples,) or None

    Raises
    ------
    ValueError
        If a weight is not valid, or rows of positive weight have one class.
    """
    weights = check_weights(sample_weight, X)
    _check_two_classes(y, weights, "`sample_weight` is")
    if class_weight is None:
        return weights
    if weights is not None and class_weight == "balanced":
        return weights * _balanced(y, weights)
    factors = compute_sample_weight(class_weight, y)
    if not (np.isfinite(factors).all() and (factors >= 0).all()):
        raise ValueError(
            f"`class_weight` is {class_weight!r}; expected finite numbers that are not negative."
        )
    weights = factors if weights is None else factors * weights
    _check_two_classes(y, weights, "`class_weight` times `sample_weight` is")
    return weights


def repetition_weights(weights: np.ndarray | None, sample_weight: Any, X: np.ndarray) -> np.ndarray:
    """Return what one repetition of each row weighs: its class weight, (n,)."""
    if weights is None:
        return np.ones(len(X))
    own = check_weights(sample_weight, X)
    if own is None:
        return weights
    return np.where(own > 0, weights / np.where(own > 0, own, 1.0), 1.0)


def _check_two_classes(y: np.ndarray, weights: np.ndarray | None, what: str) -> None:
    """Refuse weights that leave fewer than two classes."""
    if weights is None or y.ndim != 1:
        return
    left = np.unique(y[weights > 0]).tolist()
    if len(left) < 2:
        raise ValueError(
            f"`y` has {'one class (' + repr(left[0]) + ')' if left else 'no class'} where {what} "
            "positive; a classifier needs at least two classes."
        )


def _balanced(y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return factors that give every class present the same total weight, (n,)."""
    out = np.ones(len(y))
    for column in y.reshape(len(y), -1).T:
        _, index = np.unique(column, return_inverse=True)
        totals = np.bincount(index, weights=weights)
        factors = np.zeros_like(totals)
        present = totals > 0
        factors[present] = weights.sum() / (present.sum() * totals[present])
        out *= factors[index]
    return out


def check_precomputed(K: np.ndarray) -> None:
    """Check that a precomputed training Gram matrix is square and symmetric.

    Parameters
    ----------
    K : ndarray of shape (n, n)
        The matrix passed to ``fit`` with ``kernel="precomputed"``.

    Raises
    ------
    ValueError
        If it is not square, or not symmetric to a relative 1e-6.
    """
    if K.shape[0] != K.shape[1]:
        raise ValueError(
            f"Precomputed kernel of shape {K.shape}; expected a square Gram matrix (n_samples, "
            "n_samples) of the training rows in `fit`."
        )
    gap = float(np.abs(K - K.T).max())
    scale = float(np.abs(K).max())
    if gap > _SYMMETRY_RTOL * scale:
        raise ValueError(
            f"Precomputed kernel is not symmetric (largest |K - K.T| is {gap:.3g} at entries up "
            f"to {scale:.3g}); expected a Gram matrix. Pass (K + K.T) / 2 if the gap is noise."
        )


def nonnegative_variance(variance: np.ndarray) -> np.ndarray:
    """Return variances with negative ones at zero, and say so: rounding is clipped before.

    Parameters
    ----------
    variance : ndarray
        Predictive variances.

    Returns
    -------
    ndarray

    Warns
    -----
    NumericalWarning
        If one is negative.
    """
    smallest = float(variance.min(initial=0.0))
    if smallest < 0:
        warnings.warn(
            f"{int((variance < 0).sum())} predictive variances are negative (smallest "
            f"{smallest:.2g}) and set to zero. Pass `dtype='float64'`, or a larger noise variance.",
            NumericalWarning,
            stacklevel=3,
        )
    return np.clip(variance, 0.0, None)


def warn_unscaled(X: np.ndarray) -> None:
    """Warn when columns have plainly different scales: a tangent kernel sees inner products.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        Training rows.

    Warns
    -----
    NumericalWarning
        If the largest column standard deviation is over 1000 times the median one.
    """
    if X.ndim != 2 or X.shape[1] < 2 or X.shape[0] < 2:
        return
    spread = X.std(axis=0)
    varying = spread[spread > 0]
    if varying.size < 2:
        return
    ratio = varying.max() / np.median(varying)
    if ratio > _SCALE_RATIO:
        column = int(np.argmax(spread))
        warnings.warn(
            f"Column {column} has a standard deviation {ratio:.3g} times the median column's, so "
            "it alone decides the kernel. Put a StandardScaler before the estimator.",
            NumericalWarning,
            stacklevel=3,
        )
