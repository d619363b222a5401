"""From rows as they are passed to the space that selectors see."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.utils import check_array
from torch import Tensor

from sknk._array import as_tensor, compute_device, row_dtype
from sknk.active_learning._base_kernels import features_under
from sknk.active_learning._space import Space
from sknk.active_learning._transforms import Transform
from sknk.kernels._adapt import as_kernel
from sknk.solvers import FeatureGram, GramOperator, KernelGram
from sknk.solvers._feature_gram import StackedRows

__all__ = ["Rows", "checked_proba", "checked_rows", "space_of", "space_without_kernel"]


@dataclass(frozen=True)
class Rows:
    """What there is to choose from, and what is known of it.

    Attributes
    ----------
    pool : ndarray or Tensor of shape (n, d)
        Finite.
    train : ndarray or Tensor of shape (t, d), or None
        Rows with labels.
    targets : ndarray or Tensor of shape (J, d), or None
        Rows whose predictions are judged.
    candidates : ndarray of int of shape (k,), or None
        Which rows of the pool may be chosen, in order; None is all.
    bonus : ndarray of shape (k,) or None
        Of candidates, units of the kernel.
    proba : ndarray of shape (k, C) or (S, k, C), or None
        Class probabilities of candidates.
    proba_train : ndarray of shape (t, C) or None
        Those of training rows.
    """

    pool: Any
    train: Any = None
    targets: Any = None
    candidates: np.ndarray | None = None
    bonus: np.ndarray | None = None
    proba: np.ndarray | None = None
    proba_train: np.ndarray | None = None


def space_of(
    rows: Rows,
    kernel: Any,
    noise_variance: float,
    transforms: Iterable[Transform],
    generator: torch.Generator,
) -> Space:
    """Return rows in the space of a kernel, transformed.

    Parameters
    ----------
    rows : Rows
    kernel : kernel or None
        None takes rows as features.
    noise_variance : float
        Units of the kernel.
    transforms : iterable of Transform
        From left to right.
    generator : torch.Generator
        On the CPU, for what they draw.

    Returns
    -------
    Space

    Raises
    ------
    ValueError
        If training rows or targets have other features.
    """
    gram = _gram(rows, kernel)
    space = Space(
        gram,
        len(rows.pool if rows.candidates is None else rows.candidates),
        noise_variance,
        _beside(rows.bonus, gram),
        0 if rows.targets is None else len(rows.targets),
        _beside(rows.proba, gram),
        _beside(rows.proba_train, gram),
    )
    for transform in transforms:
        space = transform.apply(space, generator)
    return space


def space_without_kernel(n: int, proba: np.ndarray | None) -> Space:
    """Return n rows of which nothing but class probabilities is known.

    Parameters
    ----------
    n : int
    proba : ndarray of shape (n, C) or (S, n, C), or None

    Returns
    -------
    Space
    """
    device = compute_device()
    gram = FeatureGram(torch.zeros((n, 1), dtype=row_dtype(device), device=device))
    return Space(gram, n, 1.0, proba=_beside(proba, gram))


def _beside(values: np.ndarray | None, gram: GramOperator) -> Tensor | None:
    return None if values is None else as_tensor(values, gram.device, gram.dtype)


def checked_rows(X: Any, name: str, kernel: Any) -> Any:
    """Return rows as a tensor where they are one, else as an array; floats of two widths stay."""
    if isinstance(X, Tensor):
        if X.ndim != 2 or not len(X) or not bool(X.isfinite().all()):
            raise ValueError(
                f"`{name}` is a tensor of shape {tuple(X.shape)}; expected finite rows (n, d), at "
                "least one."
            )
        return X.detach()
    allowed = np.float64 if kernel is not None else (np.float64, np.float32)
    return check_array(X, dtype=allowed, input_name=name, order="C")


def checked_proba(proba: Any, n: int, name: str) -> np.ndarray | None:
    """Return class probabilities of n rows, of one model or of S draws.

    Parameters
    ----------
    proba : array-like of shape (n, C) or (S, n, C), or None
    n : int
        Rows.
    name : str
        For messages.

    Returns
    -------
    ndarray or None

    Raises
    ------
    ValueError
        If they are none.
    """
    if proba is None:
        return None
    P = np.asarray(proba, dtype=np.float64)
    if P.ndim not in (2, 3) or P.shape[-2] != n or 0 in P.shape:
        raise ValueError(
            f"`{name}` has shape {P.shape}; expected ({n}, C) or (S, {n}, C), class probabilities "
            "of each row."
        )
    if P.shape[-1] < 2:
        raise ValueError(
            f"`{name}` has shape {P.shape}; expected at least two classes: pass both of two."
        )
    sums = P.sum(axis=-1)
    wrong = ~(np.isclose(sums, 1.0, atol=1e-4) & (P >= 0.0).all(axis=-1))
    if wrong.any():
        raise ValueError(
            f"`{name}` has {P[wrong][0].tolist()} for a row; expected rows that sum to 1, none "
            "below 0."
        )
    return P


def _gram(rows: Rows, kernel: Any) -> GramOperator:
    """Return the inner products of candidates, then training rows, then targets."""
    pool, device = rows.pool, compute_device(rows.pool)
    parts = [(pool, rows.candidates)]
    for name, others in (("X_train", rows.train), ("X_target", rows.targets)):
        if others is None:
            continue
        if others.shape[1] != pool.shape[1]:
            raise ValueError(
                f"`{name}` has {others.shape[1]} features and `X_pool` {pool.shape[1]}; expected "
                "equal."
            )
        parts.append((others, None))
    narrow = kernel is None and "float32" in str(pool.dtype)  # other rows follow the pool
    dtype = torch.float32 if narrow else row_dtype(device)
    stacked = StackedRows(parts, device, dtype)
    if kernel is None:
        return FeatureGram(stacked)
    X = stacked.tensor()
    Phi = features_under(kernel, X)
    return KernelGram(as_kernel(kernel), X) if Phi is None else FeatureGram(Phi)
