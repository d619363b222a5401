"""All rounds that were played, and what of them a bandit still goes by."""

import hashlib
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import torch
from torch import Tensor

from sknk._array import to_numpy
from sknk.bandits._beliefs import Belief, Look, Rounds
from sknk.bandits._growing import Growing

__all__ = ["History", "merged", "units_of"]

# Observations of a smaller weight change no mean by more than their own noise in a thousand.
_LEAST_WEIGHT = 1e-3


@dataclass
class _Table:
    """The first round of each context and arm, of the rounds before `used`."""

    first: dict[bytes, int]
    used: int


@dataclass(frozen=True)
class History:
    """Rounds in order, and the rule by which the old ones fade.

    Attributes
    ----------
    X, arm, reward : Growing
        Contexts, codes, rewards.
    noise_variance : float
        Of a reward around its mean.
    memory : None, int or float
        Keep all, a number of the last rounds, or weigh by a power of the age.
    """

    X: Growing
    arm: Growing
    reward: Growing
    noise_variance: float
    memory: int | float | None
    _table: _Table = field(default_factory=lambda: _Table({}, 0))
    _n_distinct: int = 0

    @classmethod
    def empty(
        cls, X: Tensor, like: Tensor, noise_variance: float, memory: int | float | None
    ) -> "History":
        """Return the history before any round; `X` and `like` are contexts and rewards of none."""
        codes = torch.arange(0, device=like.device)
        return cls(Growing(X), Growing(codes), Growing(like), noise_variance, memory)

    def __len__(self) -> int:
        """Return how many rounds there were."""
        return len(self.arm)

    def append(self, X: Tensor, arm: Tensor, reward: Tensor) -> Self:
        """Return the history with rounds more."""
        table, distinct, n = self._table, self._n_distinct, len(self)
        if self.memory is None:
            if table.used != n:  # another history went on from here, or a round failed
                table = _Table({key: row for key, row in table.first.items() if row < n}, n)
            table.used = n + len(arm)
            for number, key in enumerate(_digests(X, arm), start=n):
                distinct += table.first.setdefault(key, number) == number
        parts = self.X.append(X), self.arm.append(arm), self.reward.append(reward)
        return type(self)(*parts, self.noise_variance, self.memory, table, distinct)

    def law(self, start: Belief) -> Belief:
        """Return what the rounds tell, from the law before any."""
        if self.memory is not None:
            return start.observe(self._recent())
        return start.observe(self._merged() if start.merges else self.rounds(0, len(self)))

    def grown(self, before: Belief, start: Belief, n_new: int, seen: Look | None) -> Belief:
        """Return what the rounds tell, from the law before the last of them.

        Parameters
        ----------
        before, start : Belief
            Before the new rounds, and before any.
        n_new : int
            How many are new.
        seen : Look or None
            Of one new round, what judged it.

        Returns
        -------
        Belief
        """
        if isinstance(self.memory, float):  # the weights of all rounds are others
            return self.law(start)
        new = self.rounds(len(self) - n_new, len(self))
        if self.memory is None:
            # Merged, rounds of one context and arm are one row: worth it once half are.
            if start.merges and before.n_rows + n_new > 2 * self._n_distinct:
                return self.law(start)
            return before.observe(new, seen)
        if n_new >= self.memory:
            return self.law(start)
        return before.observe(new, seen).forget(len(self) - self.memory)

    def kept(self) -> tuple[np.ndarray, np.ndarray]:
        """Return rewards of rounds that still count, and their weights."""
        found = self.rounds(0, len(self)) if self.memory is None else self._recent()
        reward, noise = to_numpy(found.y[:, 0]), to_numpy(found.noise)
        return reward.astype(np.float64), self.noise_variance / noise.astype(np.float64)

    def rounds(self, start: int, stop: int) -> Rounds:
        """Return some rounds, as they are."""
        span = slice(start, stop)
        reward = self.reward.rows[span]
        number = torch.arange(start, stop, device=reward.device)
        y = torch.stack([reward, torch.ones_like(reward)], dim=1)
        noise = torch.full_like(reward, self.noise_variance)
        return Rounds(self.X.rows[span], self.arm.rows[span], y, noise, number)

    def _recent(self) -> Rounds:
        """Return those in the window, or with the weights of their age."""
        n = len(self)
        if isinstance(self.memory, int):
            return self.rounds(max(0, n - self.memory), n)
        assert self.memory is not None
        oldest = int(np.log(_LEAST_WEIGHT) / np.log(self.memory)) + 1
        found = self.rounds(max(0, n - oldest), n)
        age = (n - 1 - found.number).to(found.noise.dtype)
        return Rounds(found.X, found.arm, found.y, found.noise / self.memory**age, found.number)

    def _merged(self) -> Rounds:
        """Return one round for each context and arm."""
        found = self.rounds(0, len(self))
        return found if self._n_distinct == len(self) else merged(found)


def units_of(values: np.ndarray, weight: np.ndarray | None = None) -> tuple[float, float]:
    """Return centre and scale of values; the scale of equal ones is 1.

    Parameters
    ----------
    values, weight : ndarray of float64 of shape (n,)
        None weighs them equally.

    Returns
    -------
    centre, scale : float
        Mean and standard deviation.
    """
    if not len(values):
        return 0.0, 1.0
    centre = np.average(values, weights=weight)
    spread = np.sqrt(np.average((values - centre) ** 2, weights=weight))
    differ = spread > 1e-12 * np.abs(values).max()  # not by rounding alone
    return float(centre), float(spread) if differ else 1.0


def merged(rounds: Rounds) -> Rounds:
    """Return one round for each context and arm: the mean reward, and what noise it has left.

    Parameters
    ----------
    rounds : Rounds
        In order.

    Returns
    -------
    Rounds
        Each where the first of its kind was, numbered from 0.
    """
    known: dict[bytes, int] = {}
    of: list[int] = []
    first: list[int] = []
    for row, key in enumerate(_digests(rounds.X, rounds.arm)):
        of.append(known.setdefault(key, len(known)))
        if of[-1] == len(first):
            first.append(row)
    kind, one = torch.tensor(of).to(rounds.arm), torch.tensor(first).to(rounds.arm)
    precision = 1.0 / rounds.noise
    total = precision.new_zeros(len(one)).index_add_(0, kind, precision)
    sums = rounds.y.new_zeros(len(one), rounds.y.shape[1])
    sums.index_add_(0, kind, rounds.y * precision[:, None])
    number = torch.arange(len(one), device=one.device)
    return Rounds(rounds.X[one], rounds.arm[one], sums / total[:, None], 1.0 / total, number)


def _digests(X: Tensor, arm: Tensor) -> list[bytes]:
    """Return one name for equal contexts with equal arms."""
    rows = np.ascontiguousarray(X.cpu().numpy() + 0.0)  # a negative zero is a zero
    return [
        hashlib.blake2b(row.tobytes(), digest_size=16, salt=code.to_bytes(8, "little")).digest()
        for row, code in zip(rows, arm.tolist(), strict=True)
    ]
