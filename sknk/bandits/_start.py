"""The law of rewards before any round, by the way contexts and arms are put together."""

import numpy as np
from torch import Tensor

from sknk.bandits._beliefs import Belief, GroupedBelief, PairsBelief
from sknk.bandits._encodings import (
    ArmFeatures,
    Columns,
    Encoding,
    Joint,
    Orthogonal,
    check_columns,
)
from sknk.kernels._base import Kernel

__all__ = ["start_of"]


def start_of(
    encoding: str, kernel: Kernel, X: Tensor, n_arms: int, features: np.ndarray | None, like: Tensor
) -> Belief:
    """Return what is known before any round.

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
    Belief

    Raises
    ------
    ValueError
        If the kernel or the rows do not suit the encoding.
    """
    if encoding == "disjoint":
        return GroupedBelief.empty(kernel, None, n_arms, X[:0], like)
    pairs: Encoding
    if encoding == "joint":
        orthogonal = Orthogonal(kernel, X)
        if orthogonal.is_product():
            return GroupedBelief.empty(kernel, orthogonal, n_arms, X[:0], like)
        pairs = Joint(kernel, orthogonal)
    elif encoding == "columns":
        check_columns(X.shape[1], n_arms)
        pairs = Columns(kernel, n_arms)
    else:
        assert features is not None
        pairs = ArmFeatures(kernel, features)
    return PairsBelief.empty(pairs, n_arms, X[:0], like)
