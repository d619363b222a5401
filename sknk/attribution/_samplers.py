"""Semivalues of a game: sampled by permutations, by sizes of coalitions, or enumerated."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.special import betaln, gammaln
from torch import Tensor

from sknk._array import to_numpy
from sknk._validation import check_memory
from sknk.attribution._games import Game, ValidationGame

__all__ = [
    "Antithetic",
    "Permutations",
    "Sampler",
    "Stratified",
    "Tally",
    "enumerate_game",
    "enumerate_points",
    "size_weights",
]

_SIZES = 24  # coalitions of an estimate


def size_weights(semivalue: Any, n: int) -> np.ndarray:
    r"""Return the weight of marginals at coalitions of 0 .. n - 1 others; they sum to 1.

    .. math:: \text{Shapley: } 1/n, \qquad
        \text{Banzhaf: } \binom{n-1}{k} 2^{1-n}, \qquad
        \mathrm{Beta}(a, b): \binom{n-1}{k} \frac{B(k + b, n - 1 - k + a)}{B(a, b)}

    Parameters
    ----------
    semivalue : "shapley", "banzhaf" or tuple (a, b)
        A pair is Beta(a, b) of Kwon and Zou (2022): a over b weighs small coalitions.
    n : int
        Players.

    Returns
    -------
    ndarray of shape (n,)

    Raises
    ------
    ValueError
        For other names.
    """
    k = np.arange(n)
    if semivalue == "shapley":
        return np.full(n, 1.0 / n)
    log_choose = gammaln(n) - gammaln(k + 1) - gammaln(n - k)
    if semivalue == "banzhaf":
        return np.exp(log_choose - (n - 1) * np.log(2.0))
    try:
        a, b = (float(v) for v in semivalue)
        valid = not isinstance(semivalue, str) and 0 < a < np.inf and 0 < b < np.inf
    except (TypeError, ValueError):
        valid = False
    if not valid:
        raise ValueError(
            f"`semivalues` has {semivalue!r}; expected 'shapley', 'banzhaf', or a pair (a, b) of "
            "positive numbers for Beta(a, b)."
        )
    return np.exp(log_choose + betaln(k + b, n - 1 - k + a) - betaln(a, b))


class Sampler(ABC):
    """Independent, unbiased estimates of all values, numbered from 0.

    Parameters
    ----------
    game : Game
    weights : ndarray of shape (S, n)
        Size weights of each semivalue.
    groups : list of ndarray or None
        Rows of each player; None where players are rows.
    seed : int
        Estimate t depends on the seed and t only.
    """

    batch: int = 1

    def __init__(
        self, game: Game, weights: np.ndarray, groups: list[np.ndarray] | None, seed: int
    ) -> None:
        self.game, self.weights, self.groups, self.seed = game, weights, groups, seed
        self.n_players = game.n if groups is None else len(groups)

    @abstractmethod
    def estimates(self, numbers: range) -> np.ndarray:
        """Return the estimates of those numbers, (len(numbers), S, players)."""

    @abstractmethod
    def points(self, number: int) -> Tensor:
        """Return one estimate of the first semivalue for each row judged, (m, players)."""

    def rng(self, number: int) -> np.random.Generator:
        """Return the generator of one estimate."""
        return np.random.default_rng([self.seed, number])


class Permutations(Sampler):
    """Every player's marginal where it comes in a random order; efficient in each order.

    On an accelerator orders are factorized in batches.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        if self.game.device.type != "cpu":
            game = self.game.parts[0]
            held = game.n * 2 * (game.n + game.cross.shape[1] + game.Y.shape[1])
            self.batch = int(max(1, min(64, 2**28 // held)))

    def estimates(self, numbers: range) -> np.ndarray:
        """Return marginals times n size weights, by player."""
        orders = np.stack([self.rng(t).permutation(self.n_players) for t in numbers])
        return self._of_orders(orders)

    def points(self, number: int) -> Tensor:
        """Return marginals in one order."""
        return self._points_of(self.rng(number).permutation(self.n_players))

    def _points_of(self, order: np.ndarray) -> Tensor:
        rows, ends = self._rows_of(order[None])
        sizes, places = np.diff(ends[0]), np.arange(self.n_players)
        scale = np.repeat(self.n_players * self.weights[0][places], sizes)
        player = torch.from_numpy(np.repeat(order, sizes)).to(rows.device)
        assert isinstance(self.game, ValidationGame)
        blocks = self.game.each_prefix(rows[0])
        last = next(blocks)[1]
        scales = torch.from_numpy(scale).to(last)
        total = last.new_zeros(last.shape[1], self.n_players)
        for prefixes, each in blocks:
            at = slice(prefixes.start - 1, prefixes.stop - 1)
            steps = torch.diff(torch.cat([last, each]), dim=0) * scales[at, None]  # (b, m)
            total.index_add_(1, player[at], steps.mT)  # rows of a group add up
            last = each[-1:]
        return total

    def _of_orders(self, orders: np.ndarray) -> np.ndarray:
        rows, ends = self._rows_of(orders)
        utilities = to_numpy(self.game.prefix_utilities(rows)).astype(np.float64)
        at = np.take_along_axis(utilities, ends, axis=1)
        marginals = np.diff(at, axis=1)  # (B, players)
        scaled = self.n_players * self.weights[None] * marginals[:, None]  # (B, S, players)
        out = np.empty_like(scaled)
        np.put_along_axis(out, np.broadcast_to(orders[:, None], out.shape), scaled, axis=2)
        return out

    def _rows_of(self, orders: np.ndarray) -> tuple[Tensor, np.ndarray]:
        """Return orders of rows (B, n) and where players end in them (B, players + 1)."""
        if self.groups is None:
            ends = np.tile(np.arange(self.n_players + 1), (len(orders), 1))
            return torch.from_numpy(orders).to(self.game.device), ends
        rows = np.stack([np.concatenate([self.groups[g] for g in order]) for order in orders])
        lengths = np.array([len(g) for g in self.groups])[orders]
        ends = np.hstack([np.zeros((len(orders), 1), int), lengths.cumsum(1)])
        return torch.from_numpy(rows).to(self.game.device), ends


class Antithetic(Permutations):
    """The mean of an order and its reverse, where early and late marginals balance."""

    def points(self, number: int) -> Tensor:
        """Return means over an order and its reverse."""
        order = self.rng(number).permutation(self.n_players)
        return 0.5 * (self._points_of(order) + self._points_of(order[::-1].copy()))

    def estimates(self, numbers: range) -> np.ndarray:
        """Return means over each order and its reverse."""
        orders = np.stack([self.rng(t).permutation(self.n_players) for t in numbers])
        both = self._of_orders(np.concatenate([orders, orders[:, ::-1]]))
        return 0.5 * (both[: len(orders)] + both[len(orders) :])


class Stratified(Sampler):
    r"""Every player's marginal at coalitions of many sizes, most of them small.

    A coalition tells the marginal of *every* row: rows outside join it, rows inside join the rest.
    With sizes drawn with density p, a marginal at size s is seen by each row P(s) times an
    estimate, so that

    .. math:: \hat\phi_i = w_0 m_i(0) + w_{n-1} m_i(n-1) + \sum_{\text{seen}}
        \frac{w_s}{P(s)} m_i(s)

    is unbiased for any semivalue of size weights w; the ends are exact. Marginals of smooth
    utilities fall as 1/s, small coalitions cost little, and Neyman's p(s) in proportion to
    w_s s^-decay / sqrt(cost) spends time where variance is. Shapley estimates are moved by one
    number for all rows to sum to U(all) - U(none), which takes what they have in common.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        n = self.game.n
        self._exact = self._ends()
        sizes = np.arange(1, n)
        wanted = sum(one[1:] / one[1:].sum() for one in self.weights if one[1:].sum() > 0)
        density = np.asarray(wanted) * sizes**-self.game.decay / np.sqrt(self.game.costs(sizes))
        self._p = density / density.sum() if n > 1 else density
        self._coefficients = self._inverse_counts()
        nothing, everything = self.game.ends
        self._total = everything - nothing
        self._efficient = np.isclose(self.weights, 1.0 / n, rtol=1e-12, atol=0).all(axis=1)

    def _inverse_counts(self) -> np.ndarray:
        """Return w_s / P(s), (S, n); zero at both ends, which are exact."""
        n = self.game.n
        p = np.zeros(n + 1)
        p[1:n] = self._p
        s = np.arange(n)
        seen = _SIZES * (p[:-1] * (n - s) + p[1:] * (s + 1)) / n
        inside = (s > 0) & (s < n - 1) & (seen > 0)  # weights of sizes may underflow
        return np.where(inside, self.weights / np.where(inside, seen, 1.0), 0.0)

    def _ends(self) -> np.ndarray:
        """Return the exact part: marginals at no rows and at all others, (S, n)."""
        n = self.game.n
        out = np.zeros_like(self.weights)
        every = torch.arange(n, device=self.game.device)
        for inside in (every[:0], every) if n > 1 else (every[:0],):
            for found in self.game.moves(inside):
                at = self.weights[:, [found.size]]
                out[:, to_numpy(found.rows)] += at * to_numpy(found.values)
        return out

    def estimates(self, numbers: range) -> np.ndarray:
        """Return unbiased estimates, each from coalitions of its own."""
        return np.stack([self._estimate(self.rng(t)) for t in numbers])

    def _estimate(self, rng: np.random.Generator) -> np.ndarray:
        out = self._exact.copy()
        for inside in self._coalitions(rng):
            for found in self.game.moves(inside):
                rows, values = to_numpy(found.rows), to_numpy(found.values)
                out[:, rows] += self._coefficients[:, [found.size]] * values
        gap = out.sum(axis=1) - self._total
        return out - np.where(self._efficient, gap / self.game.n, 0.0)[:, None]

    def points(self, number: int) -> Tensor:
        """Return the sum over coalitions; the ends are those of every estimate."""
        assert isinstance(self.game, ValidationGame)
        n, w = self.game.n, self.weights[0]
        every = torch.arange(n, device=self.game.device)
        ends = np.zeros(n)
        ends[[0, n - 1]] = w[[0, n - 1]]
        total = self.game.parts[0].K.new_zeros(self.game.parts[0].cross.shape[1], n)
        for inside in (every[:0], every) if n > 1 else (every[:0],):
            self._add_points_(total, inside, ends)
        for inside in self._coalitions(self.rng(number)):
            self._add_points_(total, inside, self._coefficients[0])
        if self._efficient[0]:
            wanted = self.game.each_of(every[None]) - self.game.each_of(every[None, :0])
            total -= (total.sum(1) - wanted[0])[:, None] / n
        return total

    def _add_points_(self, total: Tensor, inside: Tensor, coefficients: np.ndarray) -> None:
        assert isinstance(self.game, ValidationGame)
        for found in self.game.each_move(inside):
            total[:, found.rows] += float(coefficients[found.size]) * found.values.mT

    def _coalitions(self, rng: np.random.Generator) -> Iterator[Tensor]:
        """Draw sizes, evenly over the density, and coalitions of them."""
        n = self.game.n
        if n < 3:
            return
        u = (np.arange(_SIZES) + rng.random(_SIZES)) / _SIZES
        sizes = 1 + np.minimum(np.searchsorted(self._p.cumsum(), u, side="right"), n - 2)
        for k in sizes:
            yield torch.from_numpy(rng.permutation(n)[:k]).to(self.game.device)


def enumerate_game(game: Game, weights: np.ndarray, groups: list[np.ndarray] | None) -> np.ndarray:
    """Return exact values (S, players) from the utilities of all 2^players coalitions."""
    n = game.n if groups is None else len(groups)
    utilities = np.empty(2**n)
    if groups is None:
        for subsets, found in game.subsets():
            masks = (2 ** to_numpy(subsets)).sum(1)
            utilities[masks] = to_numpy(found)
    else:
        for mask, rows in enumerate(_unions(groups)):
            subset = torch.from_numpy(rows).to(game.device)[None]
            utilities[mask] = float(game._utilities_of(subset)[0])
    return _semivalues(utilities[:, None], weights)[..., 0]


def enumerate_points(
    game: ValidationGame, weights: np.ndarray, groups: list[np.ndarray] | None
) -> np.ndarray:
    """Return exact values of the first semivalue for each row judged, (m, players)."""
    n, m = weights.shape[1], game.parts[0].cross.shape[1]
    check_memory(
        3.0 * 2**n * m * 8,
        torch.device("cpu"),
        what=f"Utilities of 2^{n} coalitions for m={m} rows",
        instead="Attribute fewer rows at a time, or sampler='stratified'.",
    )
    utilities = np.empty((2**n, m))
    if groups is None:
        for subsets, found in game.each_subset():
            utilities[(2 ** to_numpy(subsets)).sum(1)] = to_numpy(found)
    else:
        for mask, rows in enumerate(_unions(groups)):
            subset = torch.from_numpy(rows).to(game.device)[None]
            utilities[mask] = to_numpy(game.each_of(subset)[0])
    return _semivalues(utilities, weights[:1])[0].T


def _unions(groups: list[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield the rows of all unions of groups, by bit masks."""
    for mask in range(2 ** len(groups)):
        inside = [rows for g, rows in enumerate(groups) if mask >> g & 1]
        yield np.concatenate([np.empty(0, dtype=int), *inside])


def _semivalues(utilities: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return semivalues (S, n, m) of games given by their utilities (2^n, m), by bit masks."""
    n = weights.shape[1]
    masks = np.arange(2**n)
    sizes = np.array([int(mask).bit_count() for mask in masks])
    others = np.arange(n)
    choose = np.exp(gammaln(n) - gammaln(others + 1) - gammaln(n - others))
    out = np.empty((*weights.shape, utilities.shape[1]))
    for i in range(n):
        without = masks[masks >> i & 1 == 0]
        marginals = utilities[without | (1 << i)] - utilities[without]
        out[:, i] = (weights / choose)[:, sizes[without]] @ marginals
    return out


@dataclass
class Tally:
    """Running means and squared deviations of estimates (Welford 1962).

    Attributes
    ----------
    count : int
    mean, deviations : ndarray of shape (S, players)
    """

    count: int
    mean: np.ndarray
    deviations: np.ndarray

    @classmethod
    def empty(cls, shape: tuple[int, ...]) -> "Tally":
        """Return a tally of nothing."""
        return cls(0, np.zeros(shape), np.zeros(shape))

    def add(self, estimates: np.ndarray) -> None:
        """Add estimates (B, S, players)."""
        for one in estimates:
            self.count += 1
            gap = one - self.mean
            self.mean = self.mean + gap / self.count
            self.deviations = self.deviations + gap * (one - self.mean)

    @property
    def std_error(self) -> np.ndarray:
        """Standard errors of the means; infinite before the second estimate."""
        if self.count < 2:
            return np.full_like(self.mean, np.inf)
        return np.sqrt(self.deviations / (self.count - 1) / self.count)
