"""Clusters of rows around heads that are as unlike each other as can be."""

from typing import Any

import torch
from torch import Tensor

from sknk.solvers._gram import as_operator

__all__ = ["farthest_point_clusters"]


def farthest_point_clusters(similarity: Any, n_clusters: int) -> tuple[Tensor, Tensor]:
    r"""Cluster rows by similarities that may be negative: farthest point clustering.

    The first head is the row most similar to itself. Each further one is the row least similar to
    the head of its cluster,

    .. math:: h_{m+1} = \arg\min_{i \notin H} K(i, h(i)),

    and takes those rows from all clusters that are more similar to it than to their own head (Guo,
    Ren, Albrecht and Smith 2024). Heads stay where they are, and of equal rows the first is taken.
    Similarities count as they are, no distances are made of them: a row of short features is not
    very similar to anything, itself included. O(M n) time, and as many entries of K: the rows of
    the heads, one at a time.

    Parameters
    ----------
    similarity : Tensor of shape (n, n) or GramOperator
        K, symmetric.
    n_clusters : int
        M, 1 to n.

    Returns
    -------
    heads : LongTensor of shape (M,)
        Rows, in the order in which they became heads.
    labels : LongTensor of shape (n,)
        The cluster of each row, 0 to M - 1: ``heads[labels]`` is the head of each.

    Raises
    ------
    ValueError
        For another number of clusters.

    Examples
    --------
    >>> import torch
    >>> from sknk.solvers import farthest_point_clusters
    >>> X = torch.tensor([[2.0, 0.1], [1.9, 0.0], [0.0, 1.0], [0.1, 0.8]])
    >>> farthest_point_clusters(X @ X.T, 2)
    (tensor([0, 2]), tensor([0, 0, 1, 1]))
    """
    gram = as_operator(similarity)
    n = gram.shape[0]
    if not 1 <= n_clusters <= n:
        raise ValueError(
            f"`n_clusters` is {n_clusters}; expected 1 to {n}, the number of rows of `similarity`."
        )
    heads = torch.zeros(n_clusters, dtype=torch.long, device=gram.device)
    labels = torch.zeros(n, dtype=torch.long, device=gram.device)
    own = torch.full((n,), -torch.inf, dtype=gram.dtype, device=gram.device)  # K(i, h(i))
    head = gram.diag().argmax()
    for cluster in range(n_clusters):
        to_head = gram.rows(head[None])[0]
        closer = to_head > own
        own = torch.where(closer, to_head, own)
        labels.masked_fill_(closer, cluster)
        # Infinitely similar to itself, a head is never the least similar row, nor moves.
        own[head], labels[head], heads[cluster] = torch.inf, cluster, head
        head = own.argmin()
    return heads, labels
