"""Rows far from those that are given or chosen: k-center, k-means++, largest cells."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from sknk.solvers._gram import GramOperator, row_blocks
from sknk.solvers._selection._greedy import FallingScores, Round, one_by_one

__all__ = ["Cells", "k_means_plus_plus", "largest_cells", "max_dist"]

_NUMBERS = 2**22  # of kernel values, or of features, that are held at once


class Cells:
    r"""The Voronoi cells of centres: which of them is nearest to each of n rows, by the kernel.

    .. math:: D(x, c) = k(x, x) + k(c, c) - 2 k(x, c)

    A new centre c takes no row x of the cell of a with D(c, a) >= 4 D(x, a), by the triangle
    inequality (Elkan 2003): of those nothing is computed.

    Parameters
    ----------
    gram : GramOperator
        K of the rows, centres among them.
    centres : LongTensor of shape (t,)
        The first ones.

    Attributes
    ----------
    squared : Tensor of shape (n,)
        D to the nearest centre; infinite without any.
    cell : LongTensor of shape (n,)
        Which one that is, by number; of equally near ones the first.
    """

    def __init__(self, gram: GramOperator, centres: Tensor) -> None:
        gram = gram.centred()
        self.gram, self.diag = gram, gram.diag().contiguous()
        self.centres = centres
        n = len(self.diag)
        self.squared = torch.full_like(self.diag, torch.inf)
        self.cell = torch.zeros(n, dtype=torch.long, device=self.diag.device)
        # Distances are differences: below this they are rounding.
        self._slack = _rounding(self.diag) * float(self.diag.abs().max())
        if len(centres):
            for J in row_blocks(n, max(1, _NUMBERS // len(centres))):
                self.squared[J], self.cell[J] = distances(gram, self.diag, J, centres).min(1)
            self.squared[centres] = 0.0

    def add(self, row: Tensor) -> None:
        """Make a row a centre; O(n) beside the distances that are computed."""
        number = len(self.centres)
        for rows in self._reachable(row):
            closer = distances(self.gram, self.diag, rows, row[None]).squeeze(1)
            at = (closer < self.squared[rows]).nonzero().squeeze(1)
            moved = at + rows.start if isinstance(rows, slice) else rows[at]
            self.squared[moved] = closer[at]
            self.cell[moved] = number
        self.squared[row], self.cell[row] = 0.0, number
        self.centres = torch.cat([self.centres, row[None]])

    def _reachable(self, row: Tensor) -> Iterator[Tensor | slice]:
        """Yield the rows that may be nearer to a new centre than to theirs, in blocks."""
        n = len(self.diag)
        block = max(1, _NUMBERS // max(1, self.gram.width))
        if len(self.centres):
            apart = distances(self.gram, self.diag, self.centres, row[None]).squeeze(1)
            rows = (4.0 * (self.squared + self._slack) > apart[self.cell]).nonzero().squeeze(1)
            if len(rows) < n // 2:  # gathering more than that takes longer than computing all
                yield from rows.split(block)
                return
        yield slice(0, n)

    def sizes(self) -> Tensor:
        """Return the sum of squared distances in each cell, (centres,)."""
        sums = self.squared.new_zeros(max(1, len(self.centres)))
        return sums.index_add_(0, self.cell, self.squared)


def distances(gram: GramOperator, diag: Tensor, i: Tensor | slice, j: Tensor) -> Tensor:
    """Return D of rows i and j, (len(i), len(j)); of rows that coincide but for rounding, 0."""
    sums = diag[i][:, None] + diag[j]
    squared = torch.sub(sums, gram.block(i, j), alpha=2.0)
    return squared.masked_fill_(squared <= sums.mul_(_rounding(sums)), 0.0)


def _rounding(values: Tensor) -> float:
    """Return the part of k(x, x) + k(c, c) below which their difference from 2 k(x, c) is none."""
    return 16.0 * torch.finfo(values.dtype).eps


def largest_cells(gram: GramOperator, size: int, *, given: Tensor) -> Tensor:
    """Choose the farthest row of the largest cell, again and again: LCMD.

    A cell is as large as the sum of squared distances in it (Holzmueller, Zaverkin, Kaestner and
    Steinwart 2023, section 4.3): rows that are chosen are far from others, where many are. With no
    centre the first is the row of the largest k(x, x). O((t + b) n d) on features, and as many
    columns of a kernel, less what the triangle inequality saves.

    Parameters
    ----------
    gram : GramOperator
        K of all n rows.
    size : int
        b.
    given : LongTensor of shape (t,)
        Rows that are centres from the start.

    Returns
    -------
    LongTensor of shape (k,)
        In the order of choice; k < `size` where all other rows coincide with centres.
    """
    cells = Cells(gram, given)

    def next_row() -> Tensor | None:
        if not len(cells.centres):
            return gram.diag().argmax()
        in_largest = cells.cell == cells.sizes().argmax()
        row = torch.where(in_largest, cells.squared, 0.0).argmax()
        return row if bool(cells.squared[row] > 0) else None

    return _grown(cells, size, next_row)


def k_means_plus_plus(
    gram: GramOperator, size: int, *, given: Tensor, generator: torch.Generator
) -> Tensor:
    """Draw rows with probabilities as their squared distances to the nearest centre.

    (Arthur and Vassilvitskii 2007; the step of BADGE.) With no centre the first is any row, all
    equally likely. Costs as :func:`largest_cells`.

    Parameters
    ----------
    gram : GramOperator
        K of all n rows.
    size : int
        b.
    given : LongTensor of shape (t,)
        Rows that are centres from the start.
    generator : torch.Generator
        On the CPU.

    Returns
    -------
    LongTensor of shape (k,)
        In the order of choice; k < `size` where all other rows coincide with centres.
    """
    cells = Cells(gram, given)

    def next_row() -> Tensor | None:
        weights = cells.squared if len(cells.centres) else torch.ones_like(cells.squared)
        sums = weights.double().cumsum(0)
        if not float(sums[-1]) > 0:
            return None
        u = torch.rand((), generator=generator, dtype=torch.float64).to(sums.device)
        # In (0, total]: a row of weight zero has no share.
        return torch.searchsorted(sums, (1.0 - u) * sums[-1]).clamp_(max=len(sums) - 1)

    return _grown(cells, size, next_row)


def _grown(cells: Cells, size: int, next_row: Callable[[], Tensor | None]) -> Tensor:
    """Add rows to the cells, and return them."""
    given = len(cells.centres)
    for _ in range(size):
        row = next_row()
        if row is None:
            break
        cells.add(row)
    return cells.centres[given:]


def max_dist(gram: GramOperator, size: int, *, given: Tensor) -> Tensor:
    """Choose the row farthest from all that are given or chosen, again and again: Core-Set.

    The greedy algorithm for k centers (Gonzalez 1985; Sener and Savarese 2018), whose radius is at
    most twice the smallest. With no centre the first is the row of the largest k(x, x).
    O((t + b) n d) on features, and as many columns of a kernel.

    Parameters
    ----------
    gram : GramOperator
        K of all n rows.
    size : int
        b.
    given : LongTensor of shape (t,)
        Rows that are centres from the start.

    Returns
    -------
    LongTensor of shape (k,)
        In the order of choice; k < `size` where all other rows coincide with centres.
    """
    if not size:
        return given[:0]
    first = given[:0] if len(given) else gram.diag().argmax()[None]
    problem = _Radii(gram, torch.cat([given, first]))
    return torch.cat([first, one_by_one(problem, size - len(first), problem.centres)])


class _Radii(FallingScores):
    """Squared distances of all rows to the nearest centre."""

    def __init__(self, gram: GramOperator, centres: Tensor) -> None:
        gram = gram.centred()
        self.gram, self.diag = gram, gram.diag().contiguous()
        self.scores, self.centres = torch.full_like(self.diag, torch.inf), centres
        self._take(centres)

    def follow(self, rows: Tensor) -> "_Approach":
        """Open a round."""
        return _Approach(self, rows)

    def close(self, chosen: Tensor, round_: Round) -> None:
        """Take the nearest of all that were chosen."""
        self._take(chosen)

    def _take(self, centres: Tensor) -> None:
        for J in row_blocks(len(self.scores), max(1, _NUMBERS // len(centres))):
            nearest = distances(self.gram, self.diag, J, centres).amin(1)
            self.scores[J] = torch.minimum(self.scores[J], nearest)
        self.scores[centres] = 0.0


class _Approach(Round):
    """Distances of the rows followed, while centres come."""

    def __init__(self, radii: _Radii, rows: Tensor) -> None:
        self._rows, self._diag = rows, radii.diag[rows]
        self._gram = radii.gram.restrict(rows)
        self.scores = radii.scores[rows]

    def choose(self, at: Tensor) -> None:
        """Take the distance to the row at this place."""
        every = slice(None)
        nearest = distances(self._gram, self._diag, every, at[None]).squeeze(1)
        self.scores = torch.minimum(self.scores, nearest)
