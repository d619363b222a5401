"""Base kernels made from a fitted estimator: gradients, last layers, covariances of members."""

from typing import Any

import numpy as np
import torch
from scipy.sparse import issparse
from scipy.special import softmax
from sklearn.ensemble import (
    BaggingClassifier,
    BaggingRegressor,
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from sknk.kernels import EmpiricalNTK, Sum
from sknk.kernels._empirical._checks import EMBEDDINGS
from sknk.networks import NetworkClassifier
from sknk.networks._base import BaseNetwork

__all__ = [
    "ensemble_features",
    "features_under",
    "has_members",
    "member_probabilities",
    "network_kernel",
    "networks_of",
]

_AVERAGES = (
    RandomForestRegressor,
    RandomForestClassifier,
    ExtraTreesRegressor,
    ExtraTreesClassifier,
    BaggingRegressor,
    BaggingClassifier,
    VotingRegressor,
    VotingClassifier,
)


def features_under(kernel: Any, X: Tensor) -> Tensor | None:
    """Return features whose inner products are a kernel, if it has finite ones.

    Those of a sum stand side by side; independent sketches of one width are added, which keeps the
    width and the mean (Holzmueller, Zaverkin, Kaestner and Steinwart 2023, section 4.2).

    Parameters
    ----------
    kernel : kernel
    X : Tensor of shape (n, d)
        Rows.

    Returns
    -------
    Tensor of shape (n, k) or None
    """
    if isinstance(kernel, EmpiricalNTK):
        finite = kernel.projection is not None or kernel.kind in EMBEDDINGS
        return kernel.features(X) if finite else None
    if not isinstance(kernel, Sum):
        return None
    left, right = (features_under(part, X) for part in (kernel.k1, kernel.k2))
    if left is None or right is None:
        return None
    return left + right if _independent(kernel) else torch.cat([left, right], dim=1)


def _independent(kernel: Sum) -> bool:
    """Return whether all terms are sketches of one width, by numbers of their own."""
    terms = _terms(kernel)
    return (
        len({term.projection for term in terms}) == 1
        and terms[0].projection is not None
        and len({term.random_state for term in terms}) == len(terms)
    )


def _terms(kernel: Any) -> list[Any]:
    return [*_terms(kernel.k1), *_terms(kernel.k2)] if isinstance(kernel, Sum) else [kernel]


def networks_of(estimator: Any) -> list[nn.Module]:
    """Return the torch modules of a fitted estimator: its own, or those of a skorch net."""
    if isinstance(estimator, BaseNetwork):
        return list(getattr(estimator, "modules_", []))
    module = estimator if isinstance(estimator, nn.Module) else getattr(estimator, "module_", None)
    return [module] if isinstance(module, nn.Module) else []


def network_kernel(kind: str, modules: list[nn.Module], width: int, seed: int) -> Any:
    """Return the sketched gradient kernel of modules, or that of their last layers, summed.

    Parameters
    ----------
    kind : {"gradient", "last_layer"}
    modules : list of nn.Module
        At least one.
    width : int
        Of the sketch.
    seed : int
        Of the first sketch; each module has the next.

    Returns
    -------
    Kernel
    """
    if kind == "last_layer":
        kernels = [EmpiricalNTK(module, kind=kind) for module in modules]
    else:
        kernels = [
            EmpiricalNTK(module, projection=width, sketch="gaussian", random_state=seed + i)
            for i, module in enumerate(modules)
        ]
    total: Any = kernels[0]
    for kernel in kernels[1:]:
        total = total + kernel
    return total


def has_members(estimator: Any) -> bool:
    """Return whether an estimator's prediction is that of several which can be asked."""
    if isinstance(estimator, BaseNetwork):
        return estimator.n_models > 1
    return isinstance(estimator, _AVERAGES)  # stages of boosting are no members


def ensemble_features(estimator: Any, X: Any) -> np.ndarray:
    r"""Return features whose inner products are the covariance of an ensemble's predictions.

    .. math:: \phi_m(x) = \frac{f_m(x) - \bar f(x)}{\sqrt M}, \qquad
        \phi(x)^\top \phi(x') = \frac1M \sum_m (f_m(x) - \bar f(x)) (f_m(x') - \bar f(x'))

    A base kernel for any model of which there are several, such as the trees of a random forest
    (Kirsch 2023). Class probabilities of members are summed over classes.

    Parameters
    ----------
    estimator : estimator
        Fitted: a forest, bagging or voting, or a network estimator of several members.
    X : array-like of shape (n, d)
        Rows.

    Returns
    -------
    ndarray of shape (n, M k)
        For M members of k outputs; units of y, dimensionless for classes.

    Raises
    ------
    TypeError
        If the estimator has no members.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.ensemble import RandomForestRegressor
    >>> from sknk.active_learning import ensemble_features, select_batch
    >>> X, y = load_diabetes(return_X_y=True)
    >>> forest = RandomForestRegressor(50, random_state=0).fit(X[:100], y[:100])
    >>> select_batch(ensemble_features(forest, X[100:]), method="lcmd", batch_size=5).shape
    (5,)
    """
    check_is_fitted(estimator)
    found = np.stack(_predictions(estimator, X))  # (M, n, k)
    found -= found.mean(axis=0)
    return found.transpose(1, 0, 2).reshape(found.shape[1], -1) / len(found) ** 0.5


def member_probabilities(estimator: Any, X: Any) -> np.ndarray:
    """Return class probabilities of each member, (M, n, C)."""
    return np.stack(_predictions(estimator, X))


def _predictions(estimator: Any, X: Any) -> list[np.ndarray]:
    """Return what each member predicts, (n, k)."""
    if isinstance(estimator, NetworkClassifier):
        return list(softmax(estimator.members(X), axis=-1))
    if isinstance(estimator, BaseNetwork):
        return list(estimator.members(X))
    if not has_members(estimator):
        raise TypeError(
            f"`estimator` is {type(estimator).__name__}, no mean of several; expected a forest, "
            "bagging, voting, or networks with `n_models` > 1."
        )
    members = list(estimator.estimators_)
    columns = getattr(estimator, "estimators_features_", None)
    if columns is not None:  # bagging: members see arrays, of some columns
        parts = [_safe_indexing(X, own, axis=1) for own in columns]
        return [
            _of(member, np.asarray(part), estimator)
            for member, part in zip(members, parts, strict=True)
        ]
    voting = isinstance(estimator, VotingRegressor | VotingClassifier)
    rows = X if voting or issparse(X) else np.asarray(X)
    return [_of(member, rows, estimator) for member in members]


def _of(member: Any, X: Any, ensemble: Any) -> np.ndarray:
    """Return numbers, or probabilities of the ensemble's classes; a vote is sure of one."""
    if not hasattr(ensemble, "classes_"):
        found = np.asarray(member.predict(X), dtype=np.float64)
        return found.reshape(len(found), -1)
    # Members number classes as the ensemble does, and may not have seen them all.
    n_classes = len(ensemble.classes_)
    if not hasattr(member, "predict_proba"):
        return np.eye(n_classes)[np.asarray(member.predict(X), dtype=int)]
    proba = np.asarray(member.predict_proba(X), dtype=np.float64)
    whole = np.zeros((len(proba), n_classes))
    whole[:, np.asarray(member.classes_, dtype=int)] = proba
    return whole
