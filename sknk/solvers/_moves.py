"""Ridge regressions that each differ from one by a single row."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from sknk.solvers._gram import row_blocks

__all__ = ["NUMBERS", "Moves"]

NUMBERS = 2**17  # of outputs that are held at once: a megabyte


@dataclass(frozen=True)
class Moves:
    """Ridge regressions that each differ from one by a row: f + delta_q h + G_q r_q.

    Attributes
    ----------
    rows : Tensor of shape (q,)
        The rows that come, or go.
    outputs : Tensor of shape (m, C)
        f, what the coalition predicts.
    variance : Tensor of shape (m,) or None
        Its predictive variances, units of K.
    h : Tensor of shape (m,)
        1 - g^1: what is left of a change of the mean.
    delta : Tensor of shape (q, C)
        Changes of the mean target.
    G : Tensor of shape (q, m)
        Directions, one a row.
    r : Tensor of shape (q, C)
        How far along them.
    gain : Tensor of shape (q,)
        The variance falls by gain_q G_q^2; negative for rows that go.
    """

    rows: Tensor
    outputs: Tensor
    variance: Tensor | None
    h: Tensor
    delta: Tensor
    G: Tensor
    r: Tensor
    gain: Tensor

    def tiles(self, numbers: int = NUMBERS) -> Iterator[tuple[slice, Tensor, Tensor | None]]:
        """Yield the changed outputs (b, m, C) and variances (b, m), some rows at a time."""
        few = max(1, numbers // max(self.outputs.numel(), 1))
        for q in row_blocks(len(self.rows), few):
            along = self.G[q]  # (b, m); columns come first in memory: sums and maxima are fast
            moved = self.r[q].mT[:, :, None] * along
            moved += self.outputs.mT[:, None] + self.delta[q].mT[:, :, None] * self.h
            variance = self.variance
            if variance is not None:
                variance = variance - self.gain[q, None] * along.square()
            yield q, moved.movedim(0, -1), variance

    def slopes(self, by_outputs: Tensor, by_variance: Tensor | None = None) -> Tensor:
        """Return the derivative of a function of outputs and variances along each move, (q,).

        Parameters
        ----------
        by_outputs : Tensor of shape (m, C)
            Its gradient at f.
        by_variance : Tensor of shape (m,) or None, default=None
            Its gradient at the variances; None where it has none.

        Returns
        -------
        Tensor of shape (q,)
        """
        slopes = (self.r * (self.G @ by_outputs)).sum(1) + self.delta @ (by_outputs.mT @ self.h)
        if by_variance is not None:
            slopes -= self.gain * (self.G.square() @ by_variance)
        return slopes

    def square_gains(self, T: Tensor) -> Tensor:
        r"""Return how much each move lowers the squared error, without the outputs it makes.

        With e = T - f,

        .. math:: |e|^2 - |e - \delta h - G_q r|^2 = 2\,\delta \cdot e^\top h
            + 2\, r \cdot e^\top G_q - |\delta|^2 |h|^2 - 2\,(\delta \cdot r)\, h^\top G_q
            - |r|^2 |G_q|^2

        Parameters
        ----------
        T : Tensor of shape (m, C)
            Targets.

        Returns
        -------
        Tensor of shape (q,)
        """
        e, h, G, r, delta = T - self.outputs, self.h, self.G, self.r, self.delta
        by_row = G @ torch.cat([e, h[:, None]], dim=1)  # (q, C + 1)
        gains = 2.0 * (r * by_row[:, :-1]).sum(1) - r.square().sum(1) * G.square().sum(1)
        if bool(delta.any()):
            gains += 2.0 * delta @ (e.mT @ h) - delta.square().sum(1) * h.square().sum()
            gains -= 2.0 * (delta * r).sum(1) * by_row[:, -1]
        return gains
