"""Utilities: how good predictions of some rows are, larger is better.

Outputs come relative to the prior. Most utilities are means over the rows judged, and then values
split over them; the quadratic ones need no outputs at all.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from sknk._array import to_numpy

__all__ = [
    "Accuracy",
    "Coded",
    "Custom",
    "GaussianLogDensity",
    "LogProbability",
    "Pointwise",
    "SoftmaxBrier",
    "Squares",
    "Utility",
]


@dataclass(frozen=True)
class Coded:
    """Targets of the rows judged, as outputs should be.

    Attributes
    ----------
    T : Tensor of shape (m, C)
    prior : Tensor of shape (C,)
        Outputs are relative to it.
    relative : Tensor of shape (m, C)
        T - prior, subtracted in float64.
    """

    T: Tensor
    prior: Tensor
    relative: Tensor

    @cached_property
    def labels(self) -> Tensor:
        """Class numbers, (m,), where a row has one class."""
        return (self.T > 0).to(torch.int8).argmax(-1)

    def own(self, outputs: Tensor) -> Tensor:
        """Return the outputs of each row's own class, (..., m)."""
        return outputs.gather(-1, self.labels.expand(outputs.shape[:-1])[..., None]).squeeze(-1)


@dataclass(frozen=True)
class Utility(ABC):
    """A number for every set of predictions.

    Attributes
    ----------
    coded : Coded
        Targets.
    """

    coded: Coded

    # Marginal utilities of the k-th row fall about as k^-decay; where samples are spent.
    decay: ClassVar[float] = 0.5
    needs_variance: ClassVar[bool] = False

    @abstractmethod
    def of(self, outputs: Tensor, variance: Tensor | None = None) -> Tensor:
        """Return utilities of outputs (..., m, C), (...)."""


class Pointwise(Utility):
    """A mean over the rows judged."""

    @abstractmethod
    def each(self, outputs: Tensor, variance: Tensor | None = None) -> Tensor:
        """Return the part of every row judged, (..., m); their mean is the utility."""

    def of(self, outputs: Tensor, variance: Tensor | None = None) -> Tensor:
        """Return the mean over the rows judged."""
        return self.each(outputs, variance).mean(-1)


@dataclass(frozen=True)
class Squares(Pointwise):
    r"""A constant less squared errors: Brier scores, mean squared errors, R2.

    .. math:: U(f) = c - \sum_v \sum_c a_c (T_{vc} - f_{vc})^2

    Attributes
    ----------
    coefficients : Tensor of shape (C,)
        a.
    constant : float
        c.
    """

    coefficients: Tensor
    constant: float

    decay: ClassVar[float] = 1.0

    @property
    def roots(self) -> Tensor:
        """What outputs are multiplied by, so that coefficients are one, (C,)."""
        return self.coefficients.sqrt()

    @property
    def scaled_targets(self) -> Tensor:
        """Targets relative to the prior, times `roots`, (m, C)."""
        return self.coded.relative * self.roots

    def each(self, outputs: Tensor, variance: Tensor | None = None) -> Tensor:
        """Return c less m times the weighted squared errors of each row."""
        errors = (self.coded.relative - outputs).square() @ self.coefficients
        return self.constant - len(self.coded.T) * errors


@dataclass(frozen=True)
class Accuracy(Pointwise):
    """The share of right labels.

    Attributes
    ----------
    apart : bool
        Whether each output is a label of its own.
    """

    apart: bool

    def each(self, outputs: Tensor, variance: Tensor | None = None) -> Tensor:
        """Return 1 where the label is right."""
        f = outputs + self.coded.prior
        if self.apart or f.shape[-1] == 1:
            return ((f > 0) == (self.coded.T > 0)).to(f.dtype).mean(-1)
        # Of equal outputs the first is the label. Maxima of outputs that are stored classes first
        # take a tenth of the time of `argmax`.
        own = self.coded.own(f)
        right = (own >= f.amax(-1)) & (own > (f + self._earlier_only).amax(-1))
        return right.to(f.dtype)

    @cached_property
    def _earlier_only(self) -> Tensor:
        """0 for classes before a row's own, minus infinity for others, (m, C), classes first."""
        classes = torch.arange(self.coded.T.shape[1], device=self.coded.T.device)[:, None]
        return torch.where(classes < self.coded.labels, 0.0, -torch.inf).to(self.coded.T).mT


@dataclass(frozen=True)
class LogProbability(Pointwise):
    """Log probability of the true class, nats; a tempered softmax mixed as by the estimator.

    Attributes
    ----------
    slopes : Tensor of shape (1,) or (C,)
        Inverse temperatures.
    rows : float
        Rows behind them: one more row is spread over all classes.
    apart : bool
        Whether each output is a label of its own.
    """

    slopes: Tensor
    rows: float
    apart: bool

    def each(self, outputs: Tensor, variance: Tensor | None = None) -> Tensor:
        """Return log p of the true class, over labels their mean."""
        f, T = outputs + self.coded.prior, self.coded.T
        if self.apart or f.shape[-1] == 1:
            return self._mixed(torch.nn.functional.logsigmoid(self.slopes * f * T), 2).mean(-1)
        tempered = self.slopes * f
        return self._mixed(self.coded.own(tempered) - tempered.logsumexp(-1), f.shape[-1])

    def _mixed(self, log_p: Tensor, n_classes: int) -> Tensor:
        if np.isinf(self.rows):
            return log_p
        share = 1.0 / (self.rows + 1.0)
        floor = torch.full_like(log_p, float(np.log(share / n_classes)))
        return torch.logaddexp(log_p + float(np.log1p(-share)), floor)


class SoftmaxBrier(Pointwise):
    """Brier score of the softmax of latent values."""

    decay: ClassVar[float] = 1.0

    def each(self, outputs: Tensor, variance: Tensor | None = None) -> Tensor:
        """Return minus the squared distance of probabilities from the true class."""
        truth = (self.coded.T > 0).to(outputs.dtype)
        return -(torch.softmax(outputs + self.coded.prior, -1) - truth).square().sum(-1)


@dataclass(frozen=True)
class GaussianLogDensity(Pointwise):
    """Log predictive density of the targets, nats; a mean over outputs.

    Attributes
    ----------
    scale : Tensor of shape (C,)
        Units of y over those of the kernel's standard deviation.
    noise : float
        Noise variance, units of the kernel.
    """

    scale: Tensor
    noise: float

    needs_variance: ClassVar[bool] = True

    def each(self, outputs: Tensor, variance: Tensor | None = None) -> Tensor:
        """Return log N(y; f, variance + noise)."""
        assert variance is not None
        v = (variance[..., None].clamp(min=0.0) + self.noise) * self.scale.square()
        errors = self.coded.relative - outputs
        return -0.5 * (errors.square() / v + (2.0 * torch.pi * v).log()).mean(-1)


@dataclass(frozen=True)
class Custom(Utility):
    """A function of targets and outputs, called once for every coalition.

    Attributes
    ----------
    function : callable
        ``f(y, outputs) -> float``, outputs as of ``predict`` or ``decision_function``.
    y : ndarray of shape (m,) or (m, t)
        As passed.
    flat : bool
        Whether outputs are (m,).
    offset : ndarray of shape (C,)
        The prior, in float64.
    """

    function: Callable[[np.ndarray, np.ndarray], float]
    y: np.ndarray
    flat: bool
    offset: np.ndarray

    def of(self, outputs: Tensor, variance: Tensor | None = None) -> Tensor:
        """Call the function."""
        f = to_numpy(outputs).astype(np.float64) + self.offset
        stacked = f.reshape(-1, *f.shape[-2:])
        found = [self._one(one[:, 0] if self.flat else one) for one in stacked]
        return torch.tensor(found, dtype=torch.float64).reshape(f.shape[:-2]).to(outputs)

    def _one(self, outputs: np.ndarray) -> float:
        found = np.asarray(self.function(self.y, outputs))
        if found.size != 1:
            raise ValueError(
                f"`utility` returned an array of shape {found.shape}; expected one number for all "
                f"{len(self.y)} rows judged. Return, say, its mean."
            )
        return float(found.reshape(()))
