"""Rewards by a network that is trained as rounds come, widths by its gradients."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sknk._array import to_numpy
from sknk.bandits._beliefs import Belief, Look, PairsBelief, Rounds
from sknk.bandits._encodings import Encoding, Pairs
from sknk.bandits._growing import Growing
from sknk.bandits._history import units_of
from sknk.kernels import EmpiricalNTK
from sknk.networks._gradients import output_gradients
from sknk.networks._training import Recipe, outputs_of, seeded, trained

__all__ = ["DiagonalBelief", "DiagonalWidths", "NeuralBelief", "Training", "Widths"]

_NUMBERS = 2**24  # of one block of gradients


@dataclass(frozen=True)
class Training:
    """When and how a network is trained.

    Attributes
    ----------
    every : int
        Rounds between trainings.
    noise_variance : float
        Pull towards the first weights: the loss is the sum of squares plus it times the squared
        distance, as of the Gaussian process whose widths are used.
    learning_rate : float
        Of Adam.
    max_epochs, batch_size : int
        Passes over the rounds, and most rounds of a step.
    seed : int
        Of the order of rounds.
    normalize : bool
        Whether the network predicts rewards in standard deviations around their mean.
    """

    every: int
    noise_variance: float
    learning_rate: float
    max_epochs: int
    batch_size: int
    seed: int
    normalize: bool

    def units(self, y: Tensor) -> tuple[float, float]:
        """Return centre and scale of the rewards of a training."""
        return units_of(to_numpy(y).astype(np.float64)) if self.normalize else (0.0, 1.0)

    def train(self, module: nn.Module, start: nn.Module, X: Tensor, y: Tensor) -> nn.Module:
        """Return the network after one training on all rounds, from where it is."""
        first = [p.detach() for p in start.parameters() if p.requires_grad]
        pull = self.noise_variance / len(X)

        def penalty(now: nn.Module) -> Tensor:
            learned = (p for p in now.parameters() if p.requires_grad)
            gaps = [(p - q).square().sum() for p, q in zip(learned, first, strict=True)]
            return pull * torch.stack(gaps).sum()

        def loss(out: Tensor, target: Tensor) -> Tensor:
            return F.mse_loss(out.reshape(target.shape), target)

        recipe = Recipe(loss, self.learning_rate, self.max_epochs, self.batch_size, penalty=penalty)
        seed = int(np.random.SeedSequence([self.seed, len(X)]).generate_state(1)[0])
        with seeded(seed, X):
            return trained(module, X, y, recipe)


@dataclass(frozen=True)
class Widths:
    """The law that gives variances, of any network.

    Attributes
    ----------
    encoding : Encoding
        What networks see of a pair; its kernel is not used.
    n_arms : int
        K.
    noise_variance : float
        Of rewards.
    """

    encoding: Encoding
    n_arms: int
    noise_variance: float

    def of(self, module: nn.Module, X: Tensor, like: Tensor) -> Belief:
        """Return the law of the network's tangent kernel before any round."""
        encoding = self.encoding.with_kernel(EmpiricalNTK(module))
        return PairsBelief.empty(encoding, self.n_arms, X, like)

    def with_arm(self, features: np.ndarray | None) -> Self:
        """Return the same for one arm more."""
        return replace(self, encoding=self.encoding.with_arm(features), n_arms=self.n_arms + 1)


class DiagonalWidths(Widths):
    """The same with the covariance of weights cut to its diagonal, as in published code."""

    def of(self, module: nn.Module, X: Tensor, like: Tensor) -> Belief:
        """Return the law before any round."""
        learned = [p for p in module.parameters() if p.requires_grad]
        U = like.new_full((sum(p.numel() for p in learned),), self.noise_variance)
        return DiagonalBelief(
            module, self.encoding, self.n_arms, self.noise_variance, Growing(U), 0
        )


@dataclass(frozen=True)
class NeuralBelief(Belief):
    """Means by a network, variances by the law of its tangent kernel.

    Attributes
    ----------
    start, module : nn.Module
        First weights, and those after the last training.
    widths : Widths
        From a network to the law that gives variances.
    width : Belief
        That law now.
    current : bool
        Whether gradients are those of the network as it is, or as it began.
    schedule : Training
        Of the network.
    X, arm, y, noise : Growing
        All rounds.
    built : int
        Rounds at the last training.
    units : tuple of float
        Centre and scale of rewards then, in which the network's outputs are; before, of all rounds.
    """

    merges: ClassVar[bool] = False

    start: nn.Module
    module: nn.Module
    widths: Widths
    width: Belief
    current: bool
    schedule: Training
    X: Growing
    arm: Growing
    y: Growing
    noise: Growing
    built: int = 0
    units: tuple[float, float] = (0.0, 1.0)

    @classmethod
    def empty(
        cls,
        module: nn.Module,
        widths: Widths,
        current: bool,
        schedule: Training,
        X: Tensor,
        like: Tensor,
    ) -> "NeuralBelief":
        """Return what is known before any round; `X` and `like` are of none."""
        none = torch.arange(0, device=like.device)
        parts = Growing(X), Growing(none), Growing(like), Growing(like[:, 0])
        width = widths.of(module, X, like)
        return cls(module, module, widths, width, current, schedule, *parts)

    def look(self, X: Tensor) -> "_NeuralLook":
        """Judge every arm."""
        codes = torch.arange(self.widths.n_arms, device=X.device)
        rows = self.widths.encoding.every(X, codes).rows.to(self.y.rows.dtype)
        centre, scale = self.units
        mean = centre + scale * outputs_of(self.module, rows).reshape(len(X), len(codes))
        return _NeuralLook(mean, self.width.look(X))

    def observe(self, rounds: Rounds, seen: Look | None = None) -> Self:
        """Return what is known after rounds; the network is trained when its turn has come."""
        inner = seen.width if isinstance(seen, _NeuralLook) else None
        grown = replace(
            self,
            X=self.X.append(rounds.X),
            arm=self.arm.append(rounds.arm),
            y=self.y.append(rounds.y),
            noise=self.noise.append(rounds.noise),
        )
        if not self.built:  # widths are in the units of all rounds, and so is what is untrained
            grown = replace(grown, units=self.schedule.units(grown.y.rows[:, 0]))
        due = grown.n_rows >= self.built + self.schedule.every
        if not (due and self.current):  # a training makes them all anew
            grown = replace(grown, width=self.width.observe(rounds, inner))
        return grown._retrained() if due else grown

    def expect(self, rounds: Rounds) -> Self:
        """Return what is known if rounds bring what is expected; nothing is trained."""
        return replace(self, width=self.width.expect(rounds))

    def _retrained(self) -> Self:
        X, arm, y = self.X.rows, self.arm.rows, self.y.rows
        rows = self.widths.encoding.pairs(X, arm).rows.to(y.dtype)
        centre, scale = units = self.schedule.units(y[:, 0])
        module = self.schedule.train(self.module, self.start, rows, (y[:, 0] - centre) / scale)
        width = self.width
        if self.current:
            number = torch.arange(len(arm), device=arm.device)
            every = Rounds(X, arm, y, self.noise.rows, number)
            width = self.widths.of(module, X[:0], y[:0]).observe(every)
        return replace(self, module=module, width=width, built=self.n_rows, units=units)

    def with_arm(self, features: np.ndarray | None) -> Self:
        """Return what is known with one arm more."""
        widths, width = self.widths.with_arm(features), self.width.with_arm(features)
        return replace(self, widths=widths, width=width)

    @property
    def n_rows(self) -> int:
        """How many rounds it keeps."""
        return len(self.arm)

    @property
    def information_gain(self) -> float:
        """What rounds told, in nats, by the widths."""
        return self.width.information_gain


@dataclass(frozen=True)
class _NeuralLook(Look):
    outputs: Tensor
    width: Look

    def mean(self) -> Tensor:
        return torch.stack([self.outputs, torch.ones_like(self.outputs)], dim=2)

    def variance(self) -> Tensor:
        return self.width.variance()

    def covariance(self) -> Tensor:
        return self.width.covariance()


@dataclass(frozen=True)
class DiagonalBelief(Belief):
    """Independent weights: variances lambda sum_p g_p^2 / U_p, with U = lambda + sum of g^2.

    Attributes
    ----------
    module : nn.Module
        Whose gradients.
    encoding : Encoding
        What it sees of a pair.
    n_arms : int
        K.
    noise_variance : float
        lambda.
    U : Growing
        Precisions of P weights times lambda.
    count : int
        Rounds.
    """

    module: nn.Module
    encoding: Encoding
    n_arms: int
    noise_variance: float
    U: Growing
    count: int

    def look(self, X: Tensor) -> "_DiagonalLook":
        """Judge every arm; means are not known."""
        codes = torch.arange(self.n_arms, device=X.device)
        every, U = self.encoding.every(X, codes), self.U.rows
        parts = [(squares / U).sum(1) for _, squares in self._squares(every)]
        variance = self.noise_variance * torch.cat([U[:0], *parts])
        return _DiagonalLook(variance.reshape(len(X), self.n_arms))

    def observe(self, rounds: Rounds, seen: Look | None = None) -> Self:
        """Return the law after rounds."""
        U, weight = self.U.rows.clone(), self.noise_variance / rounds.noise
        for span, squares in self._squares(self.encoding.pairs(rounds.X, rounds.arm)):
            U += weight[span] @ squares
        return replace(self, U=Growing(U), count=self.count + len(rounds))

    def with_arm(self, features: np.ndarray | None) -> Self:
        """Return the law with one arm more."""
        return replace(self, n_arms=self.n_arms + 1, encoding=self.encoding.with_arm(features))

    @property
    def n_rows(self) -> int:
        """How many rounds it saw."""
        return self.count

    @property
    def information_gain(self) -> float:
        """What rounds told of independent weights, in nats."""
        return 0.5 * float((self.U.rows.double() / self.noise_variance).log().sum())

    def _squares(self, pairs: Pairs) -> Iterator[tuple[slice, Tensor]]:
        """Yield squared gradients of blocks of pairs that fit."""
        rows = pairs.rows.to(self.U.rows.dtype)
        size = max(1, _NUMBERS // max(1, len(self.U)))
        for start in range(0, len(rows), size):
            span = slice(start, start + size)
            yield span, output_gradients(self.module, rows[span]).square()


@dataclass(frozen=True)
class _DiagonalLook(Look):
    variances: Tensor

    def mean(self) -> Tensor:
        return torch.zeros_like(self.variances)[:, :, None].expand(-1, -1, 2)

    def variance(self) -> Tensor:
        return self.variances

    def covariance(self) -> Tensor:
        return torch.diag_embed(self.variances)
