r"""Rows whose labels tell most about a model, together: BatchBALD.

By the chain rule, a row tells beside those chosen already

.. math:: I(y_i; f \mid y_S) = \sum_{y_S} p(y_S) H(y_i \mid y_S)
    - \frac1K \sum_k H(y_i \mid f_k)

from K draws f_k of the model (Kirsch, van Amersfoort and Gal 2019, equation 9).
"""

from collections.abc import Iterator

import torch
from torch import Tensor

__all__ = ["information_before", "most_informative"]

_NUMBERS = 2**22  # of probabilities that are held at once
_NOTHING = 1e-10  # nats, rounding of an entropy


def most_informative(
    P: Tensor, size: int, generator: torch.Generator, *, n_configurations: int = 10_000
) -> Tensor:
    """Choose the row that tells most beside those chosen, again and again.

    Exact for the K draws as long as the labels of chosen rows have at most `n_configurations`
    configurations; by as many drawn ones, m, beyond. O(m K n C) a step.

    Parameters
    ----------
    P : Tensor of shape (K, n, C)
        Class probabilities of all rows under each draw.
    size : int
        b.
    generator : torch.Generator
        On the CPU, for configurations.
    n_configurations : int, default=10000
        Most configurations of labels.

    Returns
    -------
    LongTensor of shape (k,)
        In the order of choice; k < `size` where no other label would tell anything.
    """
    labels = _Labels(P, generator, n_configurations)
    open_ = torch.ones(P.shape[1], dtype=torch.bool, device=P.device)
    chosen: list[Tensor] = []
    for _ in range(min(size, P.shape[1])):
        told = torch.where(open_, labels.information(), -torch.inf)
        row = told.argmax()
        if float(told[row]) <= _NOTHING:
            break
        chosen.append(row)
        open_[row] = False
        labels.add(row)
    return torch.stack(chosen) if chosen else torch.arange(0, device=P.device)


def information_before(
    P: Tensor, chosen: Tensor, generator: torch.Generator, *, n_configurations: int = 10_000
) -> Iterator[Tensor]:
    """Yield what the label of each row (n,) would tell before each choice, in nats.

    Parameters
    ----------
    P : Tensor of shape (K, n, C)
        Class probabilities of all rows under each draw.
    chosen : LongTensor of shape (b,)
        In the order of choice.
    generator : torch.Generator
        On the CPU, for configurations.
    n_configurations : int, default=10000
        Most configurations of labels.

    Yields
    ------
    Tensor of shape (n,)
    """
    labels = _Labels(P, generator, n_configurations)
    for row in chosen:
        yield labels.information()
        labels.add(row)


class _Labels:
    """Configurations of labels of the rows chosen so far, and what each says about the draws.

    Attributes
    ----------
    weights : Tensor of shape (m,)
        p(y_S) of configurations, or 1/m of drawn ones.
    R : Tensor of shape (m, K)
        p(k | y_S).
    """

    def __init__(self, P: Tensor, generator: torch.Generator, most: int) -> None:
        self.P, self.generator, self.most = P, generator, most
        self.noise = torch.special.entr(P).sum(2).mean(0)
        self.weights, self.drawn = P.new_ones(1), False
        self.R = torch.full((1, len(P)), 1.0 / len(P), dtype=P.dtype, device=P.device)

    def information(self) -> Tensor:
        """Return I(y_i; f | y_S) of all rows, (n,)."""
        _, n, C = self.P.shape
        expected = torch.zeros_like(self.noise)
        size = max(1, _NUMBERS // (n * C))
        for R, weights in zip(self.R.split(size), self.weights.split(size), strict=True):
            p = (R @ self.P.flatten(1)).unflatten(1, (n, C))
            expected += weights @ torch.special.entr(p).sum(2)
        return expected - self.noise

    def add(self, row: Tensor) -> None:
        """Condition every configuration on a label of one more row."""
        P = self.P[:, row]  # (K, C)
        if not self.drawn and len(self.R) * P.shape[1] <= self.most:
            joint = self.R[:, None] * P.mT  # (m, C, K)
            p = joint.sum(2)
            self.weights = (self.weights[:, None] * p).flatten()
            self.R = (joint / p[:, :, None].clamp_min(torch.finfo(p.dtype).tiny)).flatten(0, 1)
            return
        if not self.drawn:
            self.R = self.R[self._draw(self.weights[None], self.most)]
            self.weights = self.weights.new_full((self.most,), 1.0 / self.most)
            self.drawn = True
        joint = self.R * P.mT[self._draw(self.R @ P, 1)]
        self.R = joint / joint.sum(1, keepdim=True)

    def _draw(self, p: Tensor, count: int) -> Tensor:
        """Return columns of each row (m, C), drawn with their probabilities, (m count,)."""
        u = torch.rand((len(p), count), generator=self.generator, dtype=torch.float64)
        sums = p.double().cumsum(1)
        # In (0, total]: a column of probability zero has no share.
        found = torch.searchsorted(sums, (1.0 - u.to(sums.device)) * sums[:, -1:])
        return found.clamp_(max=p.shape[1] - 1).flatten()
