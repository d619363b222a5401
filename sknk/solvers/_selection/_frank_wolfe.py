"""Rows whose weighted sum of embeddings is that of all: active set selection by Frank-Wolfe."""

import torch
from torch import Tensor

from sknk.solvers._feature_gram import FeatureGram
from sknk.solvers._gram import GramOperator

__all__ = ["FrankWolfe", "frank_wolfe"]

_SMALL = 1e-30  # rows without an embedding do not divide by zero
_AHEAD = 16  # columns of one pass over features
_WIDE = 128  # features from which on reading a row takes longer than its sixteen products


def frank_wolfe(gram: GramOperator, size: int) -> Tensor:
    r"""Choose rows whose embeddings sum up to u = sum_j phi_j, by steps of Frank and Wolfe: ACS-FW.

    With r_j the length of phi_j, r = sum_j r_j and w the sum of those chosen, the next row and its
    step are

    .. math:: i = \arg\max_j \frac{\langle \phi_j, u - w \rangle}{r_j}, \quad
              \delta = \frac{r}{r_i} \phi_i - w, \quad
              \gamma = \frac{\langle \delta, u - w \rangle}{\lvert \delta \rvert^2}, \quad
              w \leftarrow w + \gamma \delta

    (Pinsler, Gordon, Nalisnick and Hernandez-Lobato 2019, algorithm 1; their weights are dropped,
    and a row is chosen once.) Only inner products are used: one product of K with a vector of ones,
    and one column of K a step. On features that is O(n d), and where they are many columns are read
    ahead, into half the memory of the features.

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
    columns = _columns_of(gram)
    open_ = torch.ones_like(state.by_u, dtype=torch.bool)
    chosen: list[Tensor] = []
    for _ in range(size):
        scores = torch.where(open_, state.scores(), -torch.inf)
        i = scores.argmax()
        chosen.append(i)
        open_[i] = False
        if len(chosen) < size:
            state.step(i, columns.at(i, scores))
    return torch.stack(chosen) if chosen else open_.nonzero().squeeze(1)[:0]


class FrankWolfe:
    """The sum w of chosen embeddings, by its inner products with others.

    Parameters
    ----------
    gram : GramOperator
        K of all n rows.
    """

    def __init__(self, gram: GramOperator) -> None:
        self.lengths = gram.diag().clamp(min=0.0).sqrt()
        self.r = self.lengths.sum()
        self.by_u = gram.matmul(torch.ones_like(self.lengths)[:, None]).squeeze(1)  # <phi_j, u>
        self.by_w = torch.zeros_like(self.by_u)  # <phi_j, w>
        self.w_w = self.w_u = torch.zeros_like(self.r)

    def scores(self) -> Tensor:
        """Return <phi_j, u - w> / r_j, (n,)."""
        return (self.by_u - self.by_w) / (self.lengths + _SMALL)

    def step(self, i: Tensor, by_i: Tensor) -> None:
        """Move w towards a row's embedding, as far as is best; `by_i` is its column of K, (n,)."""
        by_u, by_w, r = self.by_u[i], self.by_w[i], self.r
        scale = r / (self.lengths[i] + _SMALL)
        squared = (r.square() - 2.0 * scale * by_w + self.w_w).clamp(min=_SMALL)  # |delta|^2
        gamma = (scale * (by_u - by_w) + self.w_w - self.w_u) / squared
        kept, gained = 1.0 - gamma, gamma * scale
        moved = kept.square() * self.w_w + 2.0 * kept * gained * by_w
        self.w_w = moved + (gamma * r).square()
        self.w_u = kept * self.w_u + gained * by_u
        self.by_w = kept * self.by_w + gained * by_i


def _columns_of(gram: GramOperator) -> "_KernelColumns | _FeatureColumns":
    if isinstance(gram, FeatureGram) and gram.width >= _WIDE:
        return _FeatureColumns(gram)
    return _KernelColumns(gram)


class _KernelColumns:
    """Columns of K, each computed when it is asked for."""

    def __init__(self, gram: GramOperator) -> None:
        self.gram = gram

    def at(self, i: Tensor, scores: Tensor) -> Tensor:
        """Return K[:, i], (n,)."""
        return self.gram.rows(i[None]).squeeze(0)


class _FeatureColumns:
    """Columns of Phi Phi', of which one pass over Phi computes those most likely to be asked for.

    A product with one row takes as long as reading Phi, and with sixteen rows little longer. Steps
    turn to rows that have scored high for a while, so half of all columns and more are there when
    they are asked for. Of rows that score low, columns make room for others.

    Parameters
    ----------
    gram : FeatureGram
        K of all n rows.
    """

    def __init__(self, gram: FeatureGram) -> None:
        n, size = gram.shape[0], gram.width // 2
        self.gram = gram
        self.held = torch.full((size,), -1, device=gram.device)  # which row's column it is
        self.columns = torch.empty((size, n), dtype=gram.dtype, device=gram.device)

    def at(self, i: Tensor, scores: Tensor) -> Tensor:
        """Return K[:, i], (n,); the higher `scores` (n,), the sooner a row may be asked for."""
        found = self.held == i
        if not found.any():
            self._read(i, scores)
            found = self.held == i
        return self.columns[found.nonzero()[0, 0]]

    def _read(self, i: Tensor, scores: Tensor) -> None:
        """Compute the columns of a row and of those that score highest beside it."""
        known = self.held >= 0
        of_held = torch.where(known, scores[self.held.clamp(min=0)], -torch.inf)
        fresh = scores.clone()
        fresh[self.held[known]] = -torch.inf
        fresh[i] = torch.inf
        rows = fresh.topk(min(_AHEAD, len(fresh))).indices
        places = of_held.topk(len(rows), largest=False).indices
        self.columns[places] = self.gram.block(slice(None), rows).mT
        self.held[places] = rows
