"""Linear maps of the rows from the gradients of a fitted function."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from sknk._array import as_tensor, to_numpy
from sknk._training import TrainingSet
from sknk.ridge._grid import Fit
from sknk.ridge._selection import Criterion

__all__ = [
    "NoMapError",
    "OuterProduct",
    "check_targets",
    "gradient_outer_product",
    "normalized_map",
]

_NOTHING = 1e-24  # squared gradients below this part of the squared targets are rounding
_MOST_TARGETS = 12
_ALONE = 0.999  # part of a map in one direction that leaves rows on a line


class NoMapError(ArithmeticError):
    """What was fitted suggests no map; the message says why."""


def gradient_outer_product(fit: Fit, training: TrainingSet, *, centred: bool = False) -> np.ndarray:
    r"""Return the average gradient outer product of a fitted function, (d, d).

    .. math:: M = \frac{1}{\sum_i w_i} \sum_i w_i \sum_c \nabla f_c(x_i) \nabla f_c(x_i)^\top

    over the distinct training rows and all targets or classes (Radhakrishnan et al. 2024, eq. 2).
    Gradients are found tile by tile: O(t u^2 d) time, u d numbers. Of many targets, random
    orthogonal combinations take their place, whose sum is M in the mean.

    Parameters
    ----------
    fit : Fit
        Kernel and dual coefficients of the distinct rows.
    training : TrainingSet
        Those rows and their weights.
    centred : bool, default=False
        Subtract the mean gradient first: what remains is blind to the linear part of f.

    Returns
    -------
    ndarray of shape (d, d)
        Symmetric, positive semi-definite; units of y squared over those of the columns.
    """
    if centred not in fit.known:
        fit.known[centred] = _outer_product(fit, training, centred)
    return fit.known[centred]


def _outer_product(fit: Fit, training: TrainingSet, centred: bool) -> np.ndarray:
    assert fit.kernel is not None
    rows = training.distinct
    w = torch.as_tensor(training.copies, dtype=rows.dtype, device=rows.device)
    w = w / w.sum()
    M = rows.new_zeros((rows.shape[1], rows.shape[1]))
    for coef in _combined(fit.coef).T:
        G = fit.kernel.row_gradients(rows, rows, coef).to(rows.dtype)
        if centred:
            G = G - w @ G
        M += (G * w[:, None]).T @ G
    return to_numpy((M + M.T) / 2.0)


def check_targets(training: TrainingSet) -> None:
    """Refuse targets that are all equal: nothing can be learned from them.

    Raises
    ------
    NoMapError
        If they are.
    """
    if not np.ptp(training.Y, axis=0).any():
        raise NoMapError(f"all targets are {training.Y[0].tolist()}")


def _combined(coef: Tensor) -> Tensor:
    """Return the coefficients of all targets (u, t), or of fewer combinations of many."""
    t = coef.shape[1]
    if t <= _MOST_TARGETS:
        return coef
    draw = np.random.default_rng(0).standard_normal((t, _MOST_TARGETS))
    Q = np.linalg.qr(draw)[0] * np.sqrt(t / _MOST_TARGETS)
    return coef @ as_tensor(Q, coef.device, coef.dtype)


def normalized_map(A: np.ndarray) -> np.ndarray:
    """Return a map whose squared singular values have mean one, so that ridges keep their units."""
    return A / np.sqrt(np.square(A).sum() / len(A))


@dataclass(frozen=True)
class OuterProduct:
    r"""The map that a fitted function's gradients suggest.

    .. math:: A = (M / \bar\lambda + \epsilon I)^p, \qquad \bar\lambda = \operatorname{tr} M / d

    or, diagonal, the same of the diagonal of M; one round of a recursive feature machine
    (Radhakrishnan et al. 2024, algorithm 1, has p = 1/2 and no shrinkage).

    Attributes
    ----------
    power : float
        p.
    shrinkage : float
        Epsilon: how much of the identity stays.
    diagonal : bool
        Scales of features only.
    centred : bool
        Gradients less their mean.
    """

    most_rounds: ClassVar[float] = np.inf

    power: float
    shrinkage: float
    diagonal: bool
    centred: bool = False

    def check(self, fit: Fit, training: TrainingSet) -> None:
        """Refuse a function without a map."""
        self.learn(fit, training)

    def learn(
        self, fit: Fit, training: TrainingSet, criterion: Criterion | None = None
    ) -> np.ndarray:
        """Return the map, (d, d) or diagonal (d,).

        Parameters
        ----------
        fit : Fit
            The function, with or without a map of its own.
        training : TrainingSet
            Rows it was fitted to.
        criterion : Criterion, optional
            Not read.

        Returns
        -------
        ndarray of shape (d, d) or (d,)

        Raises
        ------
        NoMapError
            If there are no gradients, or one direction is all of the map.
        """
        check_targets(training)
        M = gradient_outer_product(fit, training, centred=self.centred)
        if self.diagonal:
            M = np.diag(np.diag(M))
        scale = np.trace(M) / len(M)
        if not np.isfinite(M).all() or scale <= _NOTHING * np.var(training.Y, axis=0).sum():
            raise NoMapError("every gradient of the fitted function is zero")
        values, V = np.linalg.eigh(M / scale)
        gains = (np.maximum(values, 0.0) + self.shrinkage) ** self.power
        share = float(gains.max() ** 2 / np.square(gains).sum())
        if len(M) > 1 and share > _ALONE:
            raise NoMapError(f"one direction alone would hold {share:.6f} of the map")
        A = (V * gains) @ V.T
        return normalized_map(np.diag(A) if self.diagonal else (A + A.T) / 2.0)
