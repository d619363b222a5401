"""The law of rewards before any round, by the way contexts and arms are put together."""

import numpy as np
from torch import Tensor

from sknk.bandits._beliefs import Belief, GroupedBelief, PairsBelief
from sknk.bandits._encodings import (
    ArmFeatures,
    Columns,
    Disjoint,
    Encoding,
    Joint,
    Orthogonal,
    check_columns,
)
from sknk.kernels._base import Kernel

__all__ = ["encoding_of", "start_of"]


def start_of(
    encoding: str, kernel: Kernel, X: Tensor, n_arms: int, features: np.ndarray | None, like: Tensor
) -> tuple[Belief, Encoding]:
    """Return what is known before any round, and the kernel of pairs.

    Parameters
    ----------
    encoding : {"joint", "disjoint", "features", "columns"}
        How contexts and arms are put together.
    kernel : Kernel
        Of contexts, or of what they are put together to.
    X : Tensor of shape (n, d)
        Rows to try kernels on.
    n_arms : int
        K.
    features : ndarray of shape (K, p) or None
        Of arms.
    like : Tensor of shape (0, 2)
        Targets of no round.

    Returns
    -------
    belief : Belief
    encoding : Encoding

    Raises
    ------
    ValueError
        If the kernel or the rows do not suit the encoding.
    """
    pairs = encoding_of(encoding, kernel, X, n_arms, features)
    if isinstance(pairs, Disjoint):
        return GroupedBelief.empty(kernel, None, n_arms, X[:0], like), pairs
    if isinstance(pairs, Joint) and pairs.orthogonal.is_product():
        return GroupedBelief.empty(kernel, pairs.orthogonal, n_arms, X[:0], like), pairs
    return PairsBelief.empty(pairs, n_arms, X[:0], like), pairs


def encoding_of(
    name: str, kernel: Kernel, X: Tensor, n_arms: int, features: np.ndarray | None
) -> Encoding:
    """Return the kernel of pairs by its name; parameters as of :func:`start_of`.

    Parameters
    ----------
    name : {"joint", "disjoint", "features", "columns"}
    kernel : Kernel
    X : Tensor of shape (n, d)
    n_arms : int
    features : ndarray of shape (K, p) or None

    Returns
    -------
    Encoding
    """
    if name == "joint":
        return Joint(kernel, Orthogonal(kernel, X))
    if name == "disjoint":
        return Disjoint(kernel)
    if name == "columns":
        check_columns(X.shape[1], n_arms)
        return Columns(kernel, n_arms)
    assert features is not None
    return ArmFeatures(kernel, features)
