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

__all__ = ["History"]

# Observations of a smaller weight change no mean by more than their own noise in a thousand.
_LEAST_WEIGHT = 1e-3


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
    _first: dict[bytes, int] = field(default_factory=dict)  # round of each context and arm
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
        distinct, n = self._n_distinct, len(self)
        if self.memory is None:
            for number, key in enumerate(_digests(X, arm), start=n):
                # The table is shared; what a round that failed left behind has no lower number.
                if self._first.get(key, number) >= number:
                    self._first[key], distinct = number, distinct + 1
        parts = self.X.append(X), self.arm.append(arm), self.reward.append(reward)
        return type(self)(*parts, self.noise_variance, self.memory, self._first, distinct)

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
        return to_numpy(found.y[:, 0]), to_numpy(self.noise_variance / found.noise)

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
        """Return one round for each context and arm: their mean reward, a share of the noise."""
        found = self.rounds(0, len(self))
        if self._n_distinct == len(self):
            return found
        first: dict[bytes, int] = {}
        of = [first.setdefault(key, len(first)) for key in _digests(found.X, found.arm)]
        group = torch.tensor(of, device=found.arm.device)
        count = torch.bincount(group)
        sums = found.y.new_zeros(len(first), 2).index_add_(0, group, found.y)
        one = torch.empty_like(count).scatter_(0, group, torch.arange(len(of)).to(group))
        y, noise = sums / count[:, None], found.noise[0] / count
        number = torch.arange(len(first), device=count.device)
        return Rounds(found.X[one], found.arm[one], y, noise, number)


def _digests(X: Tensor, arm: Tensor) -> list[bytes]:
    """Return one name for equal contexts with equal arms."""
    rows = np.ascontiguousarray(X.cpu().numpy() + 0.0)  # a negative zero is a zero
    return [
        hashlib.blake2b(row.tobytes(), digest_size=16, salt=code.to_bytes(8, "little")).digest()
        for row, code in zip(rows, arm.tolist(), strict=True)
    ]
