"""Rows whose weighted sum of embeddings is that of all: active set selection by Frank-Wolfe."""

import torch
from torch import Tensor

from sknk.solvers._gram import GramOperator

__all__ = ["FrankWolfe", "frank_wolfe"]

_SMALL = 1e-30  # rows without an embedding do not divide by zero


def frank_wolfe(gram: GramOperator, size: int) -> Tensor:
    r"""Choose rows whose embeddings sum up to u = sum_j phi_j, by steps of Frank and Wolfe: ACS-FW.

    With r_j the length of phi_j, r = sum_j r_j and w the sum of those chosen, the next row and its
    step are

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
    state = FrankWolfe(gram)
    open_ = torch.ones_like(state.by_u, dtype=torch.bool)
    chosen: list[Tensor] = []
    for _ in range(size):
        i = torch.where(open_, state.scores(), -torch.inf).argmax()
        chosen.append(i)
        open_[i] = False
        if len(chosen) < size:
            state.step(i)
    return torch.stack(chosen) if chosen else open_.nonzero().squeeze(1)[:0]


class FrankWolfe:
    """The sum w of chosen embeddings, by its inner products with others.

    Parameters
    ----------
    gram : GramOperator
        K of all n rows.
    """

    def __init__(self, gram: GramOperator) -> None:
        self.gram = gram
        self.lengths = gram.diag().clamp(min=0.0).sqrt()
        self.r = self.lengths.sum()
        self.by_u = gram.matmul(torch.ones_like(self.lengths)[:, None]).squeeze(1)  # <phi_j, u>
        self.by_w = torch.zeros_like(self.by_u)  # <phi_j, w>
        self.w_w = self.w_u = torch.zeros_like(self.r)

    def scores(self) -> Tensor:
        """Return <phi_j, u - w> / r_j, (n,)."""
        return (self.by_u - self.by_w) / (self.lengths + _SMALL)

    def step(self, i: Tensor) -> None:
        """Move w towards a row's embedding, as far as is best."""
        by_u, by_w, r = self.by_u[i], self.by_w[i], self.r
        scale = r / (self.lengths[i] + _SMALL)
        squared = (r.square() - 2.0 * scale * by_w + self.w_w).clamp(min=_SMALL)  # |delta|^2
        gamma = (scale * (by_u - by_w) + self.w_w - self.w_u) / squared
        kept, gained = 1.0 - gamma, gamma * scale
        moved = kept.square() * self.w_w + 2.0 * kept * gained * by_w
        self.w_w = moved + (gamma * r).square()
        self.w_u = kept * self.w_u + gained * by_u
        self.by_w = kept * self.by_w + gained * self.gram.rows(i[None]).squeeze(0)
