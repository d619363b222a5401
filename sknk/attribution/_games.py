"""Coalitional games of training rows: a utility for every coalition, marginals from few solves."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sknk._array import to_numpy
from sknk.attribution._utilities import Pointwise, Squares, Utility
from sknk.solvers import Coalitions, Moves, OrderedCoalitions

__all__ = ["EvidenceGame", "Game", "Marginals", "ValidationGame"]

_OVERHEAD = 5e6  # multiplications in the time that small operations take anyway
_HELD = 2**22  # numbers of coalitions that are solved at once


class Marginals(NamedTuple):
    """What single rows add to coalitions of one size.

    Attributes
    ----------
    size : int
        Rows of the coalition each one joins.
    rows : Tensor of shape (q,)
    values : Tensor of shape (q,)
        Utility with the row, less that without it.
    """

    size: int
    rows: Tensor
    values: Tensor


class Game(ABC):
    """Players are rows; a coalition's utility is that of the model fitted to it.

    Attributes
    ----------
    parts : list of Coalitions
        One for every group of outputs.
    decay : float
        Marginals fall about as (size)^-decay.
    sources : tuple of ndarray
        Rows it was made from, for its fingerprint.
    """

    parts: list[Coalitions]
    decay: float
    sources: tuple[np.ndarray, ...] = ()

    @property
    def n(self) -> int:
        """Players."""
        return self.parts[0].n

    @property
    def device(self) -> torch.device:
        """Where it is computed."""
        return self.parts[0].K.device

    def arrays(self) -> list[np.ndarray]:
        """Return what the game is made of."""
        # A corner tells kernels apart; the last bits of all of K change with torch's threads.
        each = [a for p in self.parts for a in (p.K[:8, :8], p.shift, p.Y, p.weights)]
        short = [np.empty(0) if a is None else to_numpy(a).astype(np.float32) for a in each]
        return [*self.sources, *short]

    @abstractmethod
    def prefix_utilities(self, orders: Tensor) -> Tensor:
        """Return utilities of the first k rows of orders (B, n), k = 0 .. n; (B, n + 1)."""

    @abstractmethod
    def moves(self, inside: Tensor) -> Iterator[Marginals]:
        """Yield every row's marginal at a coalition of k rows.

        Rows outside join the k; rows inside join the other k - 1.
        """

    def subsets(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield all coalitions of each size (B, k) with their utilities (B,); 2^n in all."""
        for some in self._every_subset():
            yield some, self._utilities_of(some)

    def _numbers_of_one(self, k: int) -> int:
        """Return how many numbers solving one coalition of k rows holds."""
        return k * k + 1

    def _every_subset(self) -> Iterator[Tensor]:
        for k in range(self.n + 1):
            chosen = list(combinations(range(self.n), k))
            every = torch.tensor(chosen, dtype=torch.long, device=self.device)
            yield from every.split(max(1, _HELD // self._numbers_of_one(k)))

    @abstractmethod
    def _utilities_of(self, subsets: Tensor) -> Tensor:
        """Return the utility of each of some coalitions of one size, (B, k) -> (B,)."""

    @abstractmethod
    def costs(self, sizes: np.ndarray) -> np.ndarray:
        """Return about how much work the moves around coalitions of some sizes are."""

    @property
    def ends(self) -> tuple[float, float]:
        """Utility of no rows, and of all."""
        order = torch.arange(self.n, device=self.device)[None]
        utilities = self.prefix_utilities(order)[0]
        return float(utilities[0]), float(utilities[-1])


class ValidationGame(Game):
    """Coalitions are judged on other rows.

    Parameters
    ----------
    parts : list of Coalitions
        Judged on the same m rows.
    utility : Utility
    """

    def __init__(self, parts: list[Coalitions], utility: Utility) -> None:
        self.utility, self.decay = utility, utility.decay
        self._squares = utility if isinstance(utility, Squares) and len(parts) == 1 else None
        if self._squares is not None:  # outputs in units in which all coefficients are one
            parts = [replace(parts[0], Y=parts[0].Y * self._squares.roots)]
        self.parts = parts

    def arrays(self) -> list[np.ndarray]:
        """Return what the game is made of, targets of the rows judged included."""
        coded = self.utility.coded
        targets = [to_numpy(a).astype(np.float32) for a in (coded.T, coded.prior)]
        return [*super().arrays(), *targets]

    def prefix_utilities(self, orders: Tensor) -> Tensor:
        """Return utilities of all prefixes; no outputs are formed for squared errors."""
        if self._squares is not None:
            ordered = self.parts[0].ordered(orders)
            errors = ordered.prefix_square_errors(self._squares.scaled_targets)
            return _checked_sizes(self._squares.constant - errors, 0)
        out = [self._nothing().expand(len(orders), 1)]
        for J, outputs, variance in _together([p.ordered(orders) for p in self.parts]):
            out.append(_checked_sizes(self.utility.of(outputs, variance), J.start + 1))
        return torch.cat(out, dim=1)

    def each_prefix(self, order: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Yield the parts of the rows judged in the utilities of prefixes: of none, then blocks.

        Yields
        ------
        sizes : slice
            Of the prefixes.
        parts : Tensor of shape (b, m)
        """
        assert isinstance(self.utility, Pointwise)
        yield slice(0, 1), self._nothing_each()
        for J, outputs, variance in _together([p.ordered(order) for p in self.parts]):
            yield (
                slice(J.start + 1, J.stop + 1),
                self.utility.each(self._scaled(outputs), variance),
            )

    def moves(self, inside: Tensor) -> Iterator[Marginals]:
        """Yield marginals of the rows outside, then of those inside."""
        k = len(inside)
        solved = [part.coalition(inside) for part in self.parts]
        if k < self.n:
            coming = [one.additions() for one in solved]
            yield Marginals(k, coming[0].rows, self._gains(coming, k, k + 1))
        if k:
            going = [one.removals() for one in solved]
            yield Marginals(k - 1, going[0].rows, -self._gains(going, k, k - 1))

    def each_move(self, inside: Tensor) -> Iterator[Marginals]:
        """Yield marginals as :meth:`moves` does, for each row judged: values (q, m)."""
        assert isinstance(self.utility, Pointwise)
        solved = [part.coalition(inside) for part in self.parts]
        k = len(inside)
        for coming in (True, False):
            if (coming and k == self.n) or not (coming or k):
                continue
            moves = [one.additions() if coming else one.removals() for one in solved]
            base = self._scaled(_beside([m.outputs for m in moves]))
            before = self.utility.each(base, moves[0].variance)  # (m,)
            for tiles in zip(*(m.tiles() for m in moves), strict=True):
                outputs = self._scaled(_beside([f for _, f, _ in tiles]))
                gains = self.utility.each(outputs, tiles[0][2]) - before  # (q, m)
                rows = moves[0].rows[tiles[0][0]]
                yield Marginals(k if coming else k - 1, rows, gains if coming else -gains)

    def each_subset(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield all coalitions of each size (B, k) with the parts of the rows judged, (B, m)."""
        for subsets in self._every_subset():
            yield subsets, self.each_of(subsets)

    def each_of(self, subsets: Tensor) -> Tensor:
        """Return the parts of the rows judged in the utilities of coalitions (B, k), (B, m)."""
        assert isinstance(self.utility, Pointwise)
        if not subsets.shape[1]:
            return self._nothing_each().expand(len(subsets), -1)
        found = [part.subset_outputs(subsets) for part in self.parts]
        outputs = self._scaled(_beside([f for f, _ in found]))
        return self.utility.each(outputs, found[0][1])

    def _nothing_each(self) -> Tensor:
        """Return the parts of the rows judged in the utility of no rows, (1, m)."""
        assert isinstance(self.utility, Pointwise)
        game = self.parts[0]
        nothing = game.K.new_zeros(1, game.cross.shape[1], self._columns)
        return self.utility.each(nothing, self._prior_variance)

    def costs(self, sizes: np.ndarray) -> np.ndarray:
        """Return multiplications; an output that is judged counts for ten."""
        n, m = self.parts[0].cross.shape
        judged = 1.0 if self._squares is not None else 10.0 * self._columns
        return _solving(sizes, n, m, len(self.parts)) + n * m * judged

    def _gains(self, moves: list[Moves], k: int, after: int) -> Tensor:
        """Return how much utility every move from k rows to so many brings."""
        if self._squares is not None:
            gains = moves[0].square_gains(self._squares.scaled_targets)
            return _checked(gains, after)
        base = _beside([m.outputs for m in moves])
        before = _checked(self.utility.of(base, moves[0].variance), k)
        gains = torch.empty_like(moves[0].gain)
        for tiles in zip(*(m.tiles() for m in moves), strict=True):
            outputs = _beside([f for _, f, _ in tiles])
            gains[tiles[0][0]] = self.utility.of(outputs, tiles[0][2]) - before
        return _checked(gains, after)

    def _numbers_of_one(self, k: int) -> int:
        m = self.parts[0].cross.shape[1]
        return sum(k * (k + m) + (m + k) * p.Y.shape[1] for p in self.parts) + 1

    def _utilities_of(self, subsets: Tensor) -> Tensor:
        if not subsets.shape[1]:
            return self._nothing().expand(len(subsets))
        found = [part.subset_outputs(subsets) for part in self.parts]
        outputs = self._scaled(_beside([f for f, _ in found]))
        utilities = self.utility.of(outputs, found[0][1])
        return _checked(utilities, subsets.shape[1])

    def _nothing(self) -> Tensor:
        """Return the utility of no rows, (1,)."""
        game = self.parts[0]
        nothing = game.K.new_zeros(1, game.cross.shape[1], self._columns)
        return _checked(self.utility.of(nothing, self._prior_variance), 0)

    @property
    def _columns(self) -> int:
        return sum(part.Y.shape[1] for part in self.parts)

    @property
    def _prior_variance(self) -> Tensor | None:
        variance = self.parts[0].prior_variance
        return None if variance is None else variance[None]

    def _scaled(self, outputs: Tensor) -> Tensor:
        """Return outputs in units of y, for utilities of outputs."""
        return outputs if self._squares is None else outputs / self._squares.roots


class EvidenceGame(Game):
    """A coalition's utility is the log density of its own targets; no other rows are needed.

    A row's marginal is the log predictive density of its target given the coalition.

    Parameters
    ----------
    parts : list of Coalitions
        Judged on no rows; targets in units of the prior's standard deviation.
    """

    decay = 0.5

    def __init__(self, parts: list[Coalitions]) -> None:
        self.parts = parts

    def prefix_utilities(self, orders: Tensor) -> Tensor:
        """Return log p(y_S) of all prefixes, by the chain rule."""
        steps = sum(part.ordered(orders).log_densities() for part in self.parts)
        assert isinstance(steps, Tensor)
        return torch.cat([torch.zeros_like(steps[:, :1]), steps.cumsum(1)], dim=1)

    def moves(self, inside: Tensor) -> Iterator[Marginals]:
        """Yield log densities of the rows outside given those inside, then of each inside."""
        k = len(inside)
        solved = [part.coalition(inside) for part in self.parts]
        if k < self.n:
            values = torch.stack([one.addition_densities() for one in solved]).sum(0)
            yield Marginals(k, solved[0].outside, values)
        if k:
            values = torch.stack([one.removal_densities() for one in solved]).sum(0)
            yield Marginals(k - 1, inside, values)

    def costs(self, sizes: np.ndarray) -> np.ndarray:
        """Return multiplications."""
        return _solving(sizes, self.n, 0, len(self.parts))

    def _utilities_of(self, subsets: Tensor) -> Tensor:
        if not subsets.shape[1]:
            return self.parts[0].K.new_zeros(len(subsets))
        each = [part.subset_log_densities(subsets) for part in self.parts]
        return torch.stack(each).sum(0)


def _checked(utilities: Tensor, size: int) -> Tensor:
    """Return utilities of coalitions of one size if all are finite.

    Returns
    -------
    Tensor

    Raises
    ------
    ValueError
        If one is not.
    """
    if bool(utilities.isfinite().all()):
        return utilities
    raise ValueError(
        f"The utility of a coalition of {size} rows is not a finite number; expected a finite one. "
        "Let `utility` return a number for every coalition, also of no rows."
    )


def _checked_sizes(utilities: Tensor, first: int) -> Tensor:
    """Return utilities (B, b) of coalitions of growing sizes if all are finite."""
    broken = (~utilities.isfinite()).any(0)
    if bool(broken.any()):
        at = int(broken.int().argmax())
        _checked(utilities[:, at], first + at)
    return utilities


def _solving(k: np.ndarray, n: int, m: int, parts: int) -> np.ndarray:
    """Return the multiplications of coalitions of k rows, their moves, and a fixed overhead."""
    own = k**3 + k**2 * (n + m) / 2 + k * (n - k) * m + k**2 * m
    return parts * (own + n * m + _OVERHEAD)


def _together(
    ordered: list[OrderedCoalitions],
) -> Iterator[tuple[slice, Tensor, Tensor | None]]:
    """Yield prefix outputs of all parts side by side."""
    for blocks in zip(*(one.prefix_outputs() for one in ordered), strict=True):
        yield blocks[0][0], _beside([f for _, f, _ in blocks]), blocks[0][2]


def _beside(outputs: list[Tensor]) -> Tensor:
    """Return the outputs of all parts side by side; of one part they keep their layout."""
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=-1)
