"""What a model's outputs mean: how targets are coded, outputs read, and predictions judged."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.metrics import accuracy_score, r2_score
from torch import Tensor

from sknk._array import as_tensor
from sknk.attribution._utilities import (
    Accuracy,
    Coded,
    Custom,
    GaussianLogDensity,
    LogProbability,
    SoftmaxBrier,
    Squares,
    Utility,
)
from sknk.ridge._classes import LabelCoder

__all__ = ["ClassHead", "Head", "LatentHead", "RegressionHead"]


@dataclass(frozen=True)
class Head:
    """Outputs of one family of models.

    Attributes
    ----------
    prior : ndarray of shape (C,)
        What no training rows predict.
    """

    prior: np.ndarray

    classifies: ClassVar[bool] = False

    @property
    def utilities(self) -> tuple[str, ...]:
        """Names of utilities."""
        raise NotImplementedError

    @property
    def apart(self) -> bool:
        """Whether each output is a label of its own."""
        return False

    def needs_variance(self, name: Any) -> bool:
        """Return whether the utility of that name judges predictive variances."""
        return False

    def code(self, y: Any) -> np.ndarray:
        """Return targets (m,) or (m, t) as outputs should be, (m, C)."""
        raise NotImplementedError

    def read(self, outputs: np.ndarray) -> np.ndarray:
        """Return predictions of outputs (m, C), as the estimator's ``predict``."""
        raise NotImplementedError

    def score(self, y: Any, outputs: np.ndarray) -> float:
        """Return accuracy, or R2."""
        metric = accuracy_score if self.classifies else r2_score
        return float(metric(y, self.read(outputs)))

    def utility(self, name: Any, y: Any, like: Tensor) -> Utility:
        """Return the utility of that name for targets y.

        Parameters
        ----------
        name : str or callable
            One of `utilities`, or ``f(y, outputs) -> float``.
        y : array-like of shape (m,) or (m, t)
            Targets of the rows that predictions are judged on.
        like : Tensor
            Its device and dtype are used.

        Returns
        -------
        Utility

        Raises
        ------
        ValueError
            If this family of models has no such utility.
        """
        T = self.code(y)
        coded = Coded(
            as_tensor(T, like.device, like.dtype),
            as_tensor(self.prior, like.device, like.dtype),
            as_tensor(T - self.prior, like.device, like.dtype),
        )
        if callable(name):
            y = np.asarray(y)
            flat = y[:, 0] if self._flat and y.ndim == 2 else y
            return Custom(coded, name, flat, self._flat, self.prior)
        if name not in self.utilities:
            kind = "a classifier" if self.classifies else "a regressor"
            raise ValueError(
                f"`utility` is {name!r} for {kind}; expected one of {sorted(self.utilities)} or a "
                "callable, or, for ShapleyAttributor, 'evidence'."
            )
        return self._named(name, coded)

    @property
    def _flat(self) -> bool:
        return len(self.prior) == 1

    def _named(self, name: str, coded: Coded) -> Utility:
        raise NotImplementedError


@dataclass(frozen=True)
class RegressionHead(Head):
    """Outputs are predictions, units of y.

    Attributes
    ----------
    squeeze : bool
        Whether y is flat.
    scale : ndarray of shape (t,)
        Units of y over those of the kernel's standard deviation; for predictive variances.
    noise : float or None
        Noise variance, units of the kernel; None where the model has no law of noise.
    """

    squeeze: bool
    scale: np.ndarray
    noise: float | None

    @property
    def utilities(self) -> tuple[str, ...]:
        """Names of utilities; densities where the model has a law of noise."""
        return ("mse", "r2") if self.noise is None else ("mse", "r2", "log_prob")

    def needs_variance(self, name: Any) -> bool:
        """Return whether it is the density of targets."""
        return isinstance(name, str) and name == "log_prob"

    def code(self, y: Any) -> np.ndarray:
        """Return targets as columns."""
        Y = np.asarray(y, dtype=np.float64)
        Y = Y[:, None] if Y.ndim == 1 else Y
        if Y.ndim != 2 or Y.shape[1] != len(self.prior):
            raise ValueError(
                f"`y_val` has shape {np.shape(y)}; expected {len(self.prior)} output(s), as in "
                "training."
            )
        if not np.isfinite(Y).all():
            raise ValueError("`y_val` has values that are not finite; leave those rows out.")
        return Y

    def read(self, outputs: np.ndarray) -> np.ndarray:
        """Return predictions, units of y."""
        return outputs[:, 0] if self.squeeze else outputs

    def _named(self, name: str, coded: Coded) -> Utility:
        m, t = coded.T.shape
        if name == "mse":
            return Squares(coded, coded.T.new_full((t,), 1.0 / (m * t)), 0.0)
        if name == "log_prob":
            assert self.noise is not None
            scale = as_tensor(self.scale, coded.T.device, coded.T.dtype)
            return GaussianLogDensity(coded, scale, self.noise)
        spread = (coded.T - coded.T.mean(0)).square().sum(0)
        if bool((spread == 0).any()):
            raise ValueError(
                f"`utility` is 'r2' and an output of the {m} rows judged is constant; R2 is not "
                "defined there. "
                "Use 'mse', or validation rows of different targets."
            )
        return Squares(coded, 1.0 / (t * spread), 1.0)


@dataclass(frozen=True)
class ClassHead(Head):
    """Outputs are ridge regressions of classes coded -1 and 1.

    Attributes
    ----------
    coder : LabelCoder
    calibration : Calibration
        What turns outputs into probabilities.
    """

    coder: LabelCoder
    calibration: Any

    classifies: ClassVar[bool] = True

    @property
    def utilities(self) -> tuple[str, ...]:
        """Names of utilities."""
        return ("brier", "log_prob", "accuracy")

    @property
    def apart(self) -> bool:
        """Whether each output is a label of its own."""
        return self.coder.multilabel

    def code(self, y: Any) -> np.ndarray:
        """Return labels as -1 and 1."""
        if self.apart:
            Y = np.asarray(y)
            if Y.ndim != 2 or Y.shape[1] != len(self.prior):
                raise ValueError(
                    f"`y_val` has shape {Y.shape}; expected an indicator of {len(self.prior)} "
                    "labels."
                )
            return np.where(Y > 0, 1.0, -1.0)
        numbers = class_numbers(y, self.coder.classes)
        if len(self.coder.classes) == 2:
            return np.where(numbers == 1, 1.0, -1.0)[:, None]
        return np.where(numbers[:, None] == np.arange(len(self.coder.classes)), 1.0, -1.0)

    def read(self, outputs: np.ndarray) -> np.ndarray:
        """Return labels."""
        return self.coder.labels(outputs[:, 0] if self._flat else outputs)

    def _named(self, name: str, coded: Coded) -> Utility:
        m, C = coded.T.shape
        if name == "brier":
            # Probabilities (1 + f) / 2; of two classes both, of labels the mean.
            each = 0.25 / C if self.apart else (0.5 if C == 1 else 0.25)
            return Squares(coded, coded.T.new_full((C,), each / m), 0.0)
        if name == "accuracy":
            return Accuracy(coded, apart=self.apart)
        slopes, rows = self.calibration
        slopes = as_tensor(np.asarray(slopes), coded.T.device, coded.T.dtype)
        return LogProbability(coded, slopes, float(rows), apart=self.apart)


@dataclass(frozen=True)
class LatentHead(Head):
    """Outputs are latent means of classes; probabilities are their softmax.

    Attributes
    ----------
    classes : ndarray of shape (C,)
    """

    classes: np.ndarray

    classifies: ClassVar[bool] = True

    @property
    def utilities(self) -> tuple[str, ...]:
        """Names of utilities."""
        return ("brier", "log_prob", "accuracy")

    def code(self, y: Any) -> np.ndarray:
        """Return labels as -1 and 1."""
        numbers = class_numbers(y, self.classes)
        return np.where(numbers[:, None] == np.arange(len(self.classes)), 1.0, -1.0)

    def read(self, outputs: np.ndarray) -> np.ndarray:
        """Return labels."""
        return self.classes[outputs.argmax(axis=1)]

    def _named(self, name: str, coded: Coded) -> Utility:
        if name == "brier":
            return SoftmaxBrier(coded)
        if name == "accuracy":
            return Accuracy(coded, apart=False)
        one = torch.ones(1, device=coded.T.device, dtype=coded.T.dtype)
        return LogProbability(coded, one, np.inf, apart=False)


def class_numbers(y: Any, classes: np.ndarray) -> np.ndarray:
    """Return positions of labels among the classes.

    Returns
    -------
    ndarray of int of shape (m,)

    Raises
    ------
    ValueError
        For labels that were not seen in training.
    """
    y = np.asarray(y)
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1:
        raise ValueError(f"`y_val` has shape {y.shape}; expected (m,), one label a row.")
    unseen = sorted(set(y.tolist()) - set(classes.tolist()), key=str)
    if unseen:
        raise ValueError(
            f"`y_val` has the labels {unseen[:5]}, which are not in training; expected some of "
            f"{classes.tolist()[:10]}. Leave those rows out."
        )
    return np.searchsorted(classes, y)
