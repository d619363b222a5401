"""Rows whose weighted sum of embeddings is that of all: active set selection by Frank-Wolfe."""

import torch
from torch import Tensor

from sknk.solvers._gram import GramOperator

__all__ = ["frank_wolfe"]

_SMALL = 1e-30  # rows without an embedding do not divide by zero


def frank_wolfe(gram: GramOperator, size: int) -> Tensor:
    r"""Choose rows whose embeddings sum up to u = sum_j phi_j, by steps of Frank and Wolfe: ACS-FW.

    With r_j = |phi_j|, r = sum_j r_j and w the sum of those chosen, the next row and its step are

    .. math:: i = \arg\max_j \frac{\langle \phi_j, u - w \rangle}{r_j}, \quad
              \delta = \frac{r}{r_i} \phi_i - w, \quad
              \gamma = \frac{\langle \delta, u - w \rangle}{\lvert \delta \rvert^2}, \quad
              w \leftarrow w + \gamma \delta

    (Pinsler, Gordon, Nalisnick and Hernandez-Lobato 2019, algorithm 1; their weights are dropped,
    and a row is chosen once.) Only inner products are used: O(n d) a step on features, one column
    of a kernel, and one product of K with a vector of ones.

    Parameters
    ----------
    gram : GramOperator
        K of all n rows.
    size : int
        b <= n.

    Returns
    -------
    LongTensor of shape (b,)
        In the order of choice.
    """
    lengths = gram.diag().clamp(min=0.0).sqrt()
    r = lengths.sum()
    by_u = gram.matmul(torch.ones_like(lengths)[:, None]).squeeze(1)  # <phi_j, u>
    by_w = torch.zeros_like(by_u)  # <phi_j, w>
    w_w = w_u = torch.zeros_like(r)
    open_ = torch.ones_like(by_u, dtype=torch.bool)
    chosen: list[Tensor] = []
    for _ in range(size):
        scores = (by_u - by_w) / (lengths + _SMALL)
        i = torch.where(open_, scores, -torch.inf).argmax()
        chosen.append(i)
        open_[i] = False
        if len(chosen) == size:
            break
        scale = r / (lengths[i] + _SMALL)
        delta_delta = (r.square() - 2.0 * scale * by_w[i] + w_w).clamp(min=_SMALL)
        step = (scale * (by_u[i] - by_w[i]) + w_w - w_u) / delta_delta
        kept, gained = 1.0 - step, step * scale
        w_w = kept.square() * w_w + 2.0 * kept * gained * by_w[i] + (step * r).square()
        w_u = kept * w_u + gained * by_u[i]
        by_w = kept * by_w + gained * gram.rows(i[None]).squeeze(0)
    return torch.stack(chosen) if chosen else open_.nonzero().squeeze(1)[:0]
