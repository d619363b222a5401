"""What is known of every arm: laws of rewards that rounds extend, and looks at new contexts.

Targets have two columns, the reward and one: a mean is linear in targets, so that of centred
rewards is had from both, at whatever centre later rounds ask for.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from sknk.bandits._encodings import Encoding, Orthogonal, Pairs
from sknk.bandits._growing import Growing
from sknk.kernels._base import Kernel
from sknk.kernels._prepared import PreparedRows
from sknk.solvers import GroupedPosterior, OnlinePosterior

__all__ = ["Belief", "GroupedBelief", "Look", "PairsBelief", "Rounds"]


@dataclass(frozen=True)
class Rounds:
    """Rounds that were played, as tensors.

    Attributes
    ----------
    X : Tensor of shape (m, d)
        Contexts.
    arm : Tensor of int64 of shape (m,)
        Codes.
    y : Tensor of shape (m, 2)
        Rewards, and ones.
    noise : Tensor of shape (m,)
        Variances of rewards around their mean.
    number : Tensor of int64 of shape (m,)
        When; ascending.
    """

    X: Tensor
    arm: Tensor
    y: Tensor
    noise: Tensor
    number: Tensor

    def __len__(self) -> int:
        """Return m."""
        return len(self.arm)

    def __getitem__(self, J: slice | Tensor) -> "Rounds":
        """Return some of them."""
        return Rounds(self.X[J], self.arm[J], self.y[J], self.noise[J], self.number[J])


class Look(ABC):
    """The law at m contexts and all K arms."""

    @abstractmethod
    def mean(self) -> Tensor:
        """Return posterior means of both targets, (m, K, 2)."""

    @abstractmethod
    def variance(self) -> Tensor:
        """Return posterior variances, (m, K)."""

    @abstractmethod
    def covariance(self) -> Tensor:
        """Return posterior covariances among arms, (m, K, K)."""


class Belief(ABC):
    """A law of rewards of all arms; immutable.

    Attributes
    ----------
    merges : bool
        Whether equal rounds may come as one of their mean and a share of the noise.
    """

    merges: ClassVar[bool] = True

    @abstractmethod
    def look(self, X: Tensor) -> Look:
        """Judge every arm at contexts (m, d)."""

    @abstractmethod
    def observe(self, rounds: Rounds, seen: Look | None = None) -> Self:
        """Return the law after rounds; of one round, the look that judged it saves its solve."""

    def expect(self, rounds: Rounds) -> Self:
        """Return the law if rounds bring what is expected of them: a fork, for a while."""
        return self.observe(rounds)

    def forget(self, before: int) -> Self:
        """Return the law without rounds of lower numbers, where they can be parted from."""
        raise NotImplementedError(f"{type(self).__name__} cannot forget rounds.")

    @abstractmethod
    def with_arm(self, features: np.ndarray | None) -> Self:
        """Return the law with one arm more, of which at most features (1, p) are known."""

    @property
    @abstractmethod
    def n_rows(self) -> int:
        """How many rows it keeps."""

    @property
    @abstractmethod
    def information_gain(self) -> float:
        """What rounds told, in nats."""


# --- arms with factors of their own --------------------------------------------------------------


@dataclass(frozen=True)
class GroupedBelief(Belief):
    """Arms of one block each, that share nothing or one offset: a factor for every arm.

    Without an offset arms are disjoint. With n(x) they are joint, for kernels whose values between
    blocks are products n(x) n(x').

    Attributes
    ----------
    kernel : Kernel
        Of contexts.
    orthogonal : Orthogonal or None
        What gives n; None for disjoint arms.
    rows, offsets, number : Growing
        Contexts of all rounds, their n(x), and which round it was.
    prepared : PreparedRows
        What the kernel makes of the contexts.
    members : tuple of Growing
        Positions of each arm's rounds among them.
    law : GroupedPosterior
        Given them.
    """

    kernel: Kernel
    orthogonal: Orthogonal | None
    rows: Growing
    offsets: Growing
    number: Growing
    prepared: PreparedRows
    members: tuple[Growing, ...]
    law: GroupedPosterior

    @classmethod
    def empty(
        cls, kernel: Kernel, orthogonal: Orthogonal | None, n_arms: int, X: Tensor, like: Tensor
    ) -> "GroupedBelief":
        """Return the law before any round; `X` and `like` are contexts and targets of none."""
        never = Growing(torch.arange(0, device=like.device))
        law = GroupedPosterior.empty(n_arms, like)
        parts = Growing(X), Growing(like[:, 0]), never, PreparedRows(kernel), (never,) * n_arms
        return cls(kernel, orthogonal, *parts, law)

    def look(self, X: Tensor) -> "_GroupedLook":
        """Judge every arm; O(n_a^2 m) for each."""
        offsets = self._offsets(X)
        G, diag = self.prepared.cross_with_diag(self.rows.rows, X)
        G.addr_(self.offsets.rows, offsets, alpha=-1)
        crosses = [G[held.rows] for held in self.members]
        V = self.law.half_solve(crosses)
        return _GroupedLook(self.law, crosses, V, offsets, diag - offsets.square())

    def observe(self, rounds: Rounds, seen: Look | None = None) -> Self:
        """Return the law after rounds; arms that were not played are as before."""
        if seen is None and len(rounds) == 1:
            seen = self.look(rounds.X)
        if isinstance(seen, _GroupedLook):
            offsets = seen.offsets
        else:
            offsets = self._offsets(rounds.X)
        law, members = self.law, list(self.members)
        for arm in rounds.arm.unique().tolist():
            of = (rounds.arm == arm).nonzero()[:, 0]
            if isinstance(seen, _GroupedLook):
                parts = seen.crosses[arm], seen.diag[:, None]
                V = seen.V[arm]
            else:
                parts, V = self._blocks(arm, rounds.X[of], offsets[of]), None
            law = law.append(arm, *parts, rounds.y[of], offsets[of], rounds.noise[of], V)
            members[arm] = members[arm].append(of + len(self.rows))
        rows, n = self.rows.append(rounds.X), self.offsets.append(offsets)
        number, prepared = self.number.append(rounds.number), self.prepared.of(rows.rows)
        held = rows, n, number, prepared, tuple(members)
        return type(self)(self.kernel, self.orthogonal, *held, law)

    def expect(self, rounds: Rounds) -> Self:
        """Return the law if rounds bring what is expected of them."""
        return replace(self, law=self.law.forked()).observe(rounds)

    def forget(self, before: int) -> Self:
        """Return the law without rounds of lower numbers."""
        old = _older(self.number, before)
        law, members = self.law, list(self.members)
        for arm, held in enumerate(self.members):
            gone = _older(held, old)
            if gone:
                law = law.remove(arm, range(gone))
            members[arm] = Growing(held.rows[gone:] - old)
        rows, n, number = (held.since(old) for held in (self.rows, self.offsets, self.number))
        prepared = PreparedRows(self.kernel).of(rows.rows) if old else self.prepared
        kept = rows, n, number, prepared, tuple(members)
        return type(self)(self.kernel, self.orthogonal, *kept, law)

    def with_arm(self, features: np.ndarray | None) -> Self:
        """Return the law with one arm more."""
        never = Growing(self.number.rows[:0].clone())
        return replace(self, members=(*self.members, never), law=self.law.with_group())

    @property
    def n_rows(self) -> int:
        """How many rows it keeps."""
        return len(self.law)

    @property
    def information_gain(self) -> float:
        """What rounds told, in nats."""
        return self.law.information_gain

    def _offsets(self, X: Tensor) -> Tensor:
        """Return n(x) in the kernel's dtype."""
        if self.orthogonal is None:
            return self.offsets.rows.new_zeros(len(X))
        return self.orthogonal.factor(X)

    def _blocks(self, arm: int, X: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
        """Return g of an arm's rows with new ones, and of new ones among each other."""
        held = self.members[arm].rows
        cross = self.kernel(self.rows.rows[held], X)
        cross.addr_(self.offsets.rows[held], offsets, alpha=-1)
        return cross, self.kernel(X).addr_(offsets, offsets, alpha=-1)


@dataclass(frozen=True)
class _GroupedLook(Look):
    law: GroupedPosterior
    crosses: list[Tensor]
    V: list[Tensor]
    offsets: Tensor
    diag: Tensor

    def mean(self) -> Tensor:
        return self.law.mean(self.V, self.offsets)

    def variance(self) -> Tensor:
        return self.law.variance(self.V, self.offsets, self.diag)

    def covariance(self) -> Tensor:
        return self.law.covariance(self.V, self.offsets, self.diag)


# --- one factor for all --------------------------------------------------------------------------


@dataclass(frozen=True)
class PairsBelief(Belief):
    """Any kernel of pairs: one factor for all rounds.

    Attributes
    ----------
    encoding : Encoding
        The kernel.
    n_arms : int
        K.
    rows, arm, number : Growing
        Pairs that were played, and in which round.
    law : OnlinePosterior
        Given them.
    """

    encoding: Encoding
    n_arms: int
    rows: Growing
    arm: Growing
    number: Growing
    law: OnlinePosterior

    @classmethod
    def empty(cls, encoding: Encoding, n_arms: int, X: Tensor, like: Tensor) -> "PairsBelief":
        """Return the law before any round; `X` and `like` are contexts and targets of none."""
        codes = torch.arange(0, device=like.device)
        rows = Growing(encoding.pairs(X, codes).rows)
        law = OnlinePosterior.empty(like)
        return cls(encoding, n_arms, rows, Growing(codes), Growing(codes), law)

    @property
    def codes(self) -> Tensor:
        """All arms, (K,)."""
        return torch.arange(self.n_arms, device=self.law.y.device)

    def look(self, X: Tensor) -> "_PairsLook":
        """Judge every arm; O(t^2 m K)."""
        cross = self._cross(X, None)
        diag = self.encoding.diag(self.encoding.every(X, self.codes))
        return _PairsLook(self, X, cross, self.law.half_solve(cross), diag)

    def observe(self, rounds: Rounds, seen: Look | None = None) -> Self:
        """Return the law after rounds."""
        new = self.encoding.pairs(rounds.X, rounds.arm)
        if seen is None and len(rounds) == 1:
            seen = self.look(rounds.X)  # so that the last bit does not depend on what was kept
        V = None
        if isinstance(seen, _PairsLook):
            cross, V = seen.cross[:, rounds.arm], seen.V[:, rounds.arm]
        else:
            cross = self._cross(rounds.X, rounds.arm)
        law = self.law.append(cross, self.encoding.gram(new), rounds.y, rounds.noise, V)
        rows, arm = self.rows.append(new.rows), self.arm.append(new.arm)
        number = self.number.append(rounds.number)
        return replace(self, rows=rows, arm=arm, number=number, law=law)

    def expect(self, rounds: Rounds) -> Self:
        """Return the law if rounds bring what is expected of them."""
        return replace(self, law=self.law.forked()).observe(rounds)

    def forget(self, before: int) -> Self:
        """Return the law without rounds of lower numbers."""
        old = _older(self.number, before)
        if not old:
            return self
        law = _without(self.law, old)
        rows, arm, number = (held.since(old) for held in (self.rows, self.arm, self.number))
        return replace(self, rows=rows, arm=arm, number=number, law=law)

    def with_arm(self, features: np.ndarray | None) -> Self:
        """Return the law with one arm more."""
        encoding = self.encoding.with_arm(features)
        return replace(self, n_arms=self.n_arms + 1, encoding=encoding)

    @property
    def n_rows(self) -> int:
        """How many rows it keeps."""
        return len(self.law)

    @property
    def information_gain(self) -> float:
        """What rounds told, in nats."""
        return self.law.information_gain

    def _cross(self, X: Tensor, arm: Tensor | None) -> Tensor:
        """Return the kernel of pairs seen with others: of some arms, or of every one."""
        seen = Pairs(self.rows.rows, self.arm.rows)
        width = len(X) * self.n_arms if arm is None else len(X)
        if not len(seen):
            return self.law.y.new_zeros(0, width)
        if arm is None:
            return self.encoding.cross_every(seen, X, self.codes)
        return self.encoding.cross(seen, self.encoding.pairs(X, arm))


@dataclass(frozen=True)
class _PairsLook(Look):
    belief: PairsBelief
    X: Tensor
    cross: Tensor
    V: Tensor
    diag: Tensor

    def mean(self) -> Tensor:
        means = self.belief.law.mean(self.V)
        return means.reshape(len(self.X), self.belief.n_arms, -1)

    def variance(self) -> Tensor:
        return OnlinePosterior.variance(self.V, self.diag).reshape(len(self.X), -1)

    def covariance(self) -> Tensor:
        priors = self.belief.encoding.gram_every(self.X, self.belief.codes)
        parts = zip(self.V.split(self.belief.n_arms, dim=1), priors, strict=True)
        return torch.stack([OnlinePosterior.covariance(V, prior) for V, prior in parts])


def _older(numbers: Growing, before: int) -> int:
    """Return how many rounds, of ascending numbers, have lower ones."""
    return int(torch.searchsorted(numbers.rows, before))


def _without(law: OnlinePosterior, old: int) -> OnlinePosterior:
    """Return a law without its first rows."""
    return OnlinePosterior.empty(law.y[:0]) if old == len(law) else law.remove(torch.arange(old))
