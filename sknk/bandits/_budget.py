"""Long horizons: exact up to a number of rounds, then on a dictionary of as many."""

import math
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from sknk.bandits._beliefs import Belief, Look, Rounds
from sknk.bandits._encodings import Encoding, Pairs
from sknk.bandits._growing import Growing
from sknk.bandits._history import merged
from sknk.solvers import DictionarySpan, GramOperator, WeightsPosterior, pivoted_cholesky

__all__ = ["BudgetBelief"]

# Rounds at a dictionary's choice, relative to those at the one before, and at least, where pairs
# that joined have filled it: choosing costs O(t m^2), so O(m^2) a round.
_GROWTH, _FILLED = 1.25, 1.05
# A pair of which the span leaves out so much joins the dictionary at once: it would be played over
# and over, and never learned of. Of announced pairs hardly anything is left out, so that all are
# known to be on their way.
_NEW, _ANNOUNCED = 0.5, 0.01
_ROOM = 0.25  # for pairs that join, relative to the budget
_ROUNDING = 64.0  # times the root of the rounding unit: less is left out of pairs that are there
# Of weights in choosing a dictionary: of means beside widths, and what parts equal ones.
_MEANS, _TIES = 3.0, 0.1
_NUMBERS = 2**24  # of one block of features
_NEWCOMERS = 512  # pairs that may join at once
_CANDIDATES = 20  # at most so many times the budget: choosing holds budget numbers of each


@dataclass(frozen=True)
class BudgetBelief(Belief):
    """All rounds while they fit the budget, then a dictionary of pairs that were played.

    Dictionaries are chosen anew as rounds come, by pivoted Cholesky: pair by pair the one of which
    those before leave out most, times a weight. For widths a weight is the number of rounds, for
    means what a dictionary for widths alone has missed of rewards. The published rule draws pairs
    by their leverage (Calandriello et al. 2019, 2020), and loses more with dictionaries of the same
    size.

    Attributes
    ----------
    encoding : Encoding
        Kernel of pairs.
    n_arms, budget, seed : int
        K, pairs in a dictionary, and what parts equal ones.
    rows, arm, y, noise : Growing
        All rounds, as pairs.
    now : Belief
        What is believed: exact, or on a dictionary.
    built : int
        Rounds when the dictionary was chosen.
    """

    encoding: Encoding
    n_arms: int
    budget: int
    seed: int
    rows: Growing
    arm: Growing
    y: Growing
    noise: Growing
    now: Belief
    built: int = 0

    @classmethod
    def empty(
        cls,
        exact: Belief,
        encoding: Encoding,
        n_arms: int,
        budget: int,
        seed: int,
        X: Tensor,
        like: Tensor,
    ) -> "BudgetBelief":
        """Return the law before any round; `X` and `like` are contexts and targets of none."""
        none = torch.arange(0, device=like.device)
        rows = encoding.pairs(X, none).rows
        parts = Growing(rows), Growing(none), Growing(like), Growing(like[:, 0])
        return cls(encoding, n_arms, budget, seed, *parts, exact)

    def look(self, X: Tensor) -> Look:
        """Judge every arm."""
        return self.now.look(X)

    def observe(self, rounds: Rounds, seen: Look | None = None) -> Self:
        """Return the law after rounds."""
        n = self.n_rows + len(rounds)
        filled = self.now.n_rows >= _capacity(self.budget)
        anew = n > self.budget and n >= (_FILLED if filled else _GROWTH) * self.built
        new = self.encoding.pairs(rounds.X, rounds.arm)
        grown = replace(
            self,
            rows=self.rows.append(new.rows),
            arm=self.arm.append(new.arm),
            y=self.y.append(rounds.y),
            noise=self.noise.append(rounds.noise),
        )
        if anew:
            return replace(grown, now=grown._rebuilt(), built=n)
        return replace(grown, now=self.now.observe(rounds, seen))

    def expect(self, rounds: Rounds) -> Self:
        """Return the law if rounds bring what is expected; the dictionary stays."""
        return replace(self, now=self.now.expect(rounds))

    def with_arm(self, features: np.ndarray | None) -> Self:
        """Return the law with one arm more."""
        encoding = self.encoding.with_arm(features)
        now = self.now.with_arm(features)
        return replace(self, encoding=encoding, n_arms=self.n_arms + 1, now=now)

    @property
    def n_rows(self) -> int:
        """How many rows it keeps."""
        return len(self.arm)

    @property
    def information_gain(self) -> float:
        """What rounds told, in nats; of the dictionary's span once there is one."""
        return self.now.information_gain

    def _rebuilt(self) -> "_DictionaryBelief":
        """Return what all rounds tell on a dictionary of their own."""
        number = torch.arange(self.n_rows, device=self.arm.rows.device)
        # Rows are of pairs, so that equal ones are of equal pairs.
        told = merged(Rounds(self.rows.rows, self.arm.rows, self.y.rows, self.noise.rows, number))
        asked = told[self._candidates(len(told), number.device)]
        count = told.noise.max() / asked.noise
        # Of equal ones the first by this drawing, as otherwise rounding decided.
        draws = torch.Generator().manual_seed(self.seed + self.n_rows)
        count = count * (1.0 + _TIES * torch.rand(len(asked), generator=draws).to(count))
        rough = self._on(self._chosen(asked, count, self.budget), told)
        return self._on(self._chosen(asked, rough.missed(asked, count), self.budget), told)

    def _chosen(self, asked: Rounds, weights: Tensor, size: int) -> Pairs:
        """Return those pairs without which most of the others would be left out."""
        pairs = Pairs(asked.X, asked.arm)
        weighed = _Weighed(self.encoding, pairs, weights)
        chosen, _ = pivoted_cholesky(weighed, min(size, len(pairs)))
        return pairs[chosen.sort().values]

    def _on(self, dictionary: Pairs, told: Rounds) -> "_DictionaryBelief":
        """Return what rounds tell on a dictionary."""
        found = _DictionaryBelief.of(self.encoding, self.n_arms, self.budget, dictionary, told.y)
        return found.told(Pairs(told.X, told.arm), told.y, told.noise)

    def _candidates(self, n: int, device: torch.device) -> Tensor:
        """Return which of n distinct pairs the dictionary is chosen from."""
        at = np.arange(n)
        if n > _CANDIDATES * self.budget:
            rng = np.random.default_rng([self.seed, self.n_rows])
            at = np.sort(rng.choice(n, _CANDIDATES * self.budget, replace=False))
        return torch.as_tensor(at, device=device)


class _Weighed(GramOperator):
    """The kernel of pairs, each times the root of its weight."""

    def __init__(self, encoding: Encoding, pairs: Pairs, weights: Tensor) -> None:
        self.encoding, self.pairs, self.root = encoding, pairs, weights.sqrt()
        self.shape = (len(self.root), len(self.root))
        self.dtype, self.device = self.root.dtype, self.root.device

    def block(self, i: Any, j: Any) -> Tensor:
        K = self.encoding.cross(self.pairs[i], self.pairs[j])
        return K * self.root[i, None] * self.root[j]

    def diag(self) -> Tensor:
        return self.encoding.diag(self.pairs) * self.root.square()

    def dense(self) -> Tensor:
        return self.encoding.gram(self.pairs) * torch.outer(self.root, self.root)


@dataclass(frozen=True)
class _DictionaryBelief(Belief):
    """Laws on the span of some pairs; up to `budget` of them any that is new joins, then few do.

    What the span leaves out of a round is noise to the weights. Neighbours share it, so that it is
    less noise than it seems: means by a law without it are closer to the exact ones, and widths by
    that law are too small. Each is taken from the law that serves it.
    """

    encoding: Encoding
    n_arms: int
    budget: int
    rows: Growing
    arm: Growing
    span: DictionarySpan
    means: WeightsPosterior
    law: WeightsPosterior

    @classmethod
    def of(
        cls, encoding: Encoding, n_arms: int, budget: int, dictionary: Pairs, like: Tensor
    ) -> "_DictionaryBelief":
        span = DictionarySpan.of(encoding.gram(dictionary))
        law = WeightsPosterior.prior(span.root.shape[1], like)
        rows, arm = Growing(dictionary.rows), Growing(dictionary.arm)
        return cls(encoding, n_arms, budget, rows, arm, span, law, law)

    @property
    def _dictionary(self) -> Pairs:
        return Pairs(self.rows.rows, self.arm.rows)

    def features(self, pairs: Pairs) -> Tensor:
        return self.span.features(self.encoding.cross(self._dictionary, pairs))

    def told(self, pairs: Pairs, y: Tensor, noise: Tensor) -> Self:
        """Return the laws after pairs, none of which joins."""
        found, size = self, max(1, _NUMBERS // len(self.arm))
        for part in _blocks(len(pairs), size):
            Z, diag = self.features(pairs[part]), self.encoding.diag(pairs[part])
            found = found._told(Z, diag, y[part], noise[part])
        return found

    def _told(self, Z: Tensor, diag: Tensor, y: Tensor, noise: Tensor) -> Self:
        left_out = self.span.left_out(Z, diag)
        means, law = self.means.append(Z, y, noise), self.law.append(Z, y, noise + left_out)
        return replace(self, means=means, law=law)

    def _joined(
        self, new: Pairs, Z: Tensor, diag: Tensor, least: float, room: float
    ) -> tuple[Self, Tensor]:
        """Return the laws with those pairs in the dictionary of which more is left out.

        Pairs join one after another, as one of them may bring the span near to the next.

        Parameters
        ----------
        new : Pairs
        Z : Tensor of shape (n, p)
            Their features.
        diag : Tensor of shape (n,)
            Their prior variances.
        least : float
            What part of a prior variance has to be left out.
        room : float
            How many may join.

        Returns
        -------
        found : _DictionaryBelief
        Z : Tensor of shape (n, p + b)
            Their features, once b of them have joined.
        """
        enough = least * diag
        far = (self.span.left_out(Z, diag) > enough).nonzero()[:, 0].tolist()
        if not far:
            return self, Z
        prior = self.encoding.gram(new) if len(new) > 1 else diag[:, None]
        rest = prior - Z @ Z.mT
        joining: list[int] = []
        added: list[Tensor] = []
        for i in far:
            if len(joining) < room and rest[i, i] > enough[i]:
                column = rest[:, i] / rest[i, i].sqrt()
                rest = rest.addr(column, column, alpha=-1)
                joining.append(i)
                added.append(column)
        if not joining:
            return self, Z
        J, columns = torch.as_tensor(joining, device=Z.device), torch.stack(added, dim=1)
        joined = new[J]
        found = replace(
            self,
            rows=self.rows.append(joined.rows),
            arm=self.arm.append(joined.arm),
            span=self.span.extended(Z[J], columns[J].tril()),
            means=self.means.extended(len(J)),
            law=self.law.extended(len(J)),
        )
        return found, torch.cat([Z, columns], dim=1)

    def _after(self, rounds: Rounds, least: float, most: float, seen: Look | None) -> Self:
        found, new = self, self.encoding.pairs(rounds.X, rounds.arm)
        for part in _blocks(len(new), _NEWCOMERS):
            if isinstance(seen, _DictionaryLook):
                Z = seen.Z[rounds.arm]
            else:
                Z = found.features(new[part])
            diag = self.encoding.diag(new[part])
            found, Z = found._joined(new[part], Z, diag, least, most - found.n_rows)
            found = found._told(Z, diag, rounds.y[part], rounds.noise[part])
        return found

    def missed(self, told: Rounds, count: Tensor) -> Tensor:
        """Return what it costs to leave something out of pairs, relative to each other.

        Of widths it is n_i, the number of rounds. Of the mean sum_i a_i k(x, x_i) it is a_i^2, and
        a_i goes as n_i times what the present law misses of the mean reward.

        Parameters
        ----------
        told : Rounds
            Merged rounds.
        count : Tensor of shape (n,)
            How many each stands for.

        Returns
        -------
        Tensor of shape (n,)
        """
        rest = told.y - self.means.mean(self.features(Pairs(told.X, told.arm)))
        centre = (count * told.y[:, 0]).sum() / count.sum()
        squared = (count * (rest[:, 0] - centre * rest[:, 1])).square()
        rounding = _ROUNDING * torch.finfo(count.dtype).eps * told.y[:, 0].abs().max()
        if squared.sum() <= count.square().sum() * rounding**2:
            return count
        return count + _MEANS * squared * (count.sum() / squared.sum())

    def look(self, X: Tensor) -> "_DictionaryLook":
        codes = torch.arange(self.n_arms, device=self.arm.rows.device)
        Z = self.span.features(self.encoding.cross_every(self._dictionary, X, codes))
        return _DictionaryLook(self, X, codes, Z)

    def observe(self, rounds: Rounds, seen: Look | None = None) -> Self:
        if seen is None and len(rounds) == 1:
            seen = self.look(rounds.X)  # so that the last bit does not depend on what was kept
        full, eps = self.n_rows >= self.budget, torch.finfo(rounds.y.dtype).eps
        least = _NEW if full else _ROUNDING * eps**0.5
        return self._after(rounds, least, _capacity(self.budget), seen)

    def expect(self, rounds: Rounds) -> Self:
        return self._after(rounds, _ANNOUNCED, math.inf, None)

    def with_arm(self, features: np.ndarray | None) -> Self:
        return replace(self, n_arms=self.n_arms + 1, encoding=self.encoding.with_arm(features))

    @property
    def n_rows(self) -> int:
        return len(self.arm)

    @property
    def information_gain(self) -> float:
        return self.law.information_gain


@dataclass(frozen=True)
class _DictionaryLook(Look):
    belief: _DictionaryBelief
    X: Tensor
    codes: Tensor
    Z: Tensor

    def mean(self) -> Tensor:
        return self.belief.means.mean(self.Z).reshape(len(self.X), len(self.codes), -1)

    def variance(self) -> Tensor:
        diag = self.belief.encoding.diag(self.belief.encoding.every(self.X, self.codes))
        left_out = self.belief.span.left_out(self.Z, diag)
        return (left_out + self.belief.law.variance(self.Z)).reshape(len(self.X), -1)

    def covariance(self) -> Tensor:
        priors = self.belief.encoding.gram_every(self.X, self.codes)
        of_each = zip(self.Z.split(len(self.codes)), priors, strict=True)
        parts = [prior - Z @ Z.mT + self.belief.law.covariance(Z) for Z, prior in of_each]
        return torch.stack(parts)


def _capacity(budget: int) -> int:
    """Return up to how many pairs a dictionary holds that is not chosen anew."""
    return budget + max(1, int(_ROOM * budget))


def _blocks(n: int, size: int) -> list[slice]:
    return [slice(start, start + size) for start in range(0, n, size)]
