"""Automatic relevance determination: a scale for each feature by leave-one-out."""

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from scipy.optimize import OptimizeResult, minimize
from torch import Tensor

from sknk._array import as_tensor, to_numpy
from sknk._training import TrainingSet
from sknk.exceptions import NotPSDError
from sknk.ridge._feature_maps import (
    NoMapError,
    OuterProduct,
    check_targets,
    normalized_map,
)
from sknk.ridge._grid import Fit
from sknk.ridge._selection import Criterion
from sknk.ridge._solved import solve_ridge

__all__ = ["Relevance", "univariate_relevance"]

_LOG_SCALES, _LOG_ALPHAS = (-6.0, 3.0), (np.log(1e-8), np.log(1e4))
_LARGEST_START = 0.03
_STARTING_SCALES = OuterProduct(power=0.25, shrinkage=0.01, diagonal=True)
_BINS, _ROUNDING = 10, 1e-12


@dataclass(frozen=True)
class Relevance:
    r"""Scales s of the features that minimise the leave-one-out loss, with a prior on their logs.

    .. math:: \min_{s, \alpha}\; \mathcal L(f_{-1}(x_1), \dots, f_{-n}(x_n))
        + \frac{c}{2n} \sum_j \log^2 s_j

    L is half the logarithm of the mean squared error, or the log loss at its best temperature, so
    that n L is a negative log-likelihood and c the precision of the prior. One gradient costs a
    factorization, an inverse and one pass over the tiles, whatever d: O(n^3 + n^2 d), no array of
    size n^2 d. Each distinct row is left out whole. L-BFGS from several starts; after a few steps
    the best one alone goes on.

    Attributes
    ----------
    prior : float
        c.
    rows : int
        At most so many rows take part, drawn with a fixed seed.
    first, steps : int
        Steps of every start, and of the best one after them.
    """

    most_rounds: ClassVar[float] = 1

    prior: float = 3.0
    rows: int = 500
    first: int = 8
    steps: int = 20

    def check(self, fit: Fit, training: TrainingSet) -> None:
        """Refuse targets without a map."""
        check_targets(training)

    def learn(self, fit: Fit, training: TrainingSet, criterion: Criterion) -> np.ndarray:
        """Return the scales.

        Parameters
        ----------
        fit : Fit
            Without a map; the search begins with its kernel and ridge.
        training : TrainingSet
            Rows.
        criterion : Criterion
            Whose loss is minimised.

        Returns
        -------
        ndarray of shape (d,)
            Of mean square one.

        Raises
        ------
        NoMapError
            If no start has a finite loss.
        """
        part = training.part(training.sample(self.rows))
        check_targets(part)
        begin = loosened(fit, part)
        starts = [univariate_relevance(part)]
        with suppress(NoMapError):
            starts.append(_STARTING_SCALES.learn(begin, part))
        objective = _Objective(begin, part, criterion, self.prior)
        found = [objective.minimize(np.log(s), np.log(begin.alpha), self.first) for s in starts]
        best = min(found, key=lambda result: result.fun)
        if not np.isfinite(best.fun):
            raise NoMapError("no start of the search has a finite leave-one-out loss")
        last = objective.minimize(best.x[:-1], best.x[-1], self.steps)
        return normalized_map(np.exp(last.x[:-1]))


def loosened(fit: Fit, training: TrainingSet) -> Fit:
    """Return the fit to these rows with at most a small ridge.

    Where the first fit saw no signal its ridge is large, and from there the loss is flat all
    around; the gradients of a function that follows every target show which columns it needs.

    Parameters
    ----------
    fit : Fit
        Whose kernel and ridge are taken.
    training : TrainingSet
        Rows.

    Returns
    -------
    Fit

    Raises
    ------
    NoMapError
        If the Gram matrix and that ridge are not positive definite.
    """
    alpha = min(fit.alpha, _LARGEST_START)
    try:
        solved = solve_ridge(
            training.gram(fit.kernel), training, alpha, fit_intercept=fit.fit_intercept
        )
    except NotPSDError as error:
        raise NoMapError(str(error)) from error
    return replace(fit, alpha=alpha, coef=solved.coef, intercept=solved.intercept)


class _Objective:
    """The penalised loss of log scales and log ridge, with its gradient."""

    def __init__(self, fit: Fit, training: TrainingSet, criterion: Criterion, prior: float) -> None:
        self._fit, self._training, self._criterion = fit, training, criterion
        assert fit.kernel is not None
        self._kernel, self._x = fit.kernel, training.distinct
        self._precision = prior / len(training.first)

    def minimize(self, log_scales: np.ndarray, log_alpha: float, steps: int) -> OptimizeResult:
        bounds = [_LOG_SCALES] * len(log_scales) + [_LOG_ALPHAS]
        start = np.clip(np.append(log_scales, log_alpha), *np.array(bounds).T)
        options = {"maxiter": steps, "ftol": 1e-4}
        return minimize(self, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options)

    def __call__(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        logs, alpha = theta[:-1], float(np.exp(theta[-1]))
        z = self._x * as_tensor(np.exp(logs), self._x.device, self._x.dtype)
        K = self._kernel(z)
        try:
            solved = solve_ridge(K, self._training, alpha, fit_intercept=self._fit.fit_intercept)
        except NotPSDError:
            return np.inf, np.zeros_like(theta)
        loss, by_predictions = self._criterion.smooth_loss(
            solved.leave_one_out(), self._training.Y, self._training.weights
        )
        W = solved.gradient(by_predictions)
        by_logs = self._by_log_scales(z, W) + self._precision * logs
        diagonal = to_numpy(W.diagonal()).astype(np.float64)
        by_alpha = alpha * float((diagonal / self._training.copies).sum())
        penalty = 0.5 * self._precision * float(logs @ logs)
        return loss + penalty, np.append(by_logs, by_alpha)

    def _by_log_scales(self, z: Tensor, W: Tensor) -> np.ndarray:
        """Return d sum(W K) / d log s_j = sum_i z_ij d / d z_ij."""
        found = self._kernel.vjp(z, None, W).X
        return to_numpy((found * z).sum(dim=0)).astype(np.float64)


def univariate_relevance(training: TrainingSet) -> np.ndarray:
    r"""Return scales from the part of the targets' variance that each column explains alone.

    .. math:: s_j \propto \sqrt{R_j^2 + 0.01 \max_k R_k^2}

    with the adjusted R^2 of the means in ten bins of equal counts. It sees what the gradients of a
    fit that found nothing cannot. O(u d log u) time.

    Parameters
    ----------
    training : TrainingSet
        Rows and targets.

    Returns
    -------
    ndarray of shape (d,)
        Of mean square one.
    """
    rows, w = training.rows[training.first], training.copies
    Y = training.Y - np.average(training.Y, axis=0, weights=w)
    total = (w[:, None] * Y**2).sum()
    found = np.array([_explained(column, Y, w) for column in rows.T])
    gain = np.where(found > _ROUNDING * total, found, 0.0)
    if not gain.any():
        return np.ones(len(gain))
    return normalized_map(np.sqrt(gain + 0.01 * gain.max()))


def _explained(column: np.ndarray, Y: np.ndarray, w: np.ndarray) -> float:
    """Return the squares explained by bins of a column, less what chance explains."""
    edges = np.unique(np.quantile(column, np.linspace(0.0, 1.0, _BINS + 1)[1:-1]))
    bins = np.searchsorted(edges, column, side="right")
    mass = np.bincount(bins, weights=w, minlength=len(edges) + 1)
    sums = np.column_stack([np.bincount(bins, w * y, len(edges) + 1) for y in Y.T])
    filled = mass > 0
    squares = float((sums[filled] ** 2 / mass[filled, None]).sum())
    chance = float((w[:, None] * Y**2).sum()) * (filled.sum() - 1) / max(len(Y) - 1, 1)
    return squares - chance
