"""The search over kernels and ridges: one Gram recursion for depths, one spectrum for ridges."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from sklearn.model_selection import ParameterGrid
from torch import Tensor

from sknk._array import as_tensor, to_numpy
from sknk._progress import progress
from sknk._training import TrainingSet
from sknk.kernels import Mapped
from sknk.kernels._base import Kernel
from sknk.ridge._selection import Criterion, cv_results, fold_scores, loo_scores
from sknk.solvers import RidgePath

__all__ = [
    "Fit",
    "GridSearch",
    "candidates_of",
    "classification_alphas",
    "classification_grid",
    "regression_alphas",
    "regression_grid",
]

Folds = Sequence[tuple[np.ndarray, np.ndarray]]

_ROUNDINGS = 8.0  # of the trace, by which the smallest eigenvalue may be off


def classification_grid() -> list[dict[str, list[Any]]]:
    """Return three depths times three bias variances: seventy kernels were no better."""
    return [{"depth": [1, 3, 8], "bias_var": [0.1, 1.0, 10.0]}]


def regression_grid() -> list[dict[str, list[Any]]]:
    """Return two depths times three bias variances, all layers trained or the last one only."""
    return [
        {"depth": [depth], "bias_var": [0.0, 1.0, 10.0], "fixed_depth": [0, depth]}
        for depth in (1, 2)
    ]


def classification_alphas() -> np.ndarray:
    """Return ridges half a decade apart, around a mean diagonal of one."""
    return np.logspace(-4, 2, 13)


def regression_alphas() -> np.ndarray:
    """Return ridges half a decade apart, down to those of targets without noise."""
    return np.logspace(-8, 2, 21)


@dataclass(frozen=True)
class Fit:
    """The best kernel and ridge of a grid, fitted.

    Attributes
    ----------
    kernel : Kernel or None
        With the chosen parameters, map included; None for precomputed Gram matrices.
    feature_map : ndarray of shape (d,) or (d, d), or None
        Of the rows before the inner kernel.
    params : dict
        Chosen kernel parameters and ``alpha``, as in `results`.
    alpha : float
        Ridge of the fit.
    coef, intercept : Tensor of shape (u, t) and (t,)
        Dual coefficients and what targets were centred by.
    loo : ndarray of shape (u, t)
        Leave-one-out predictions of the distinct rows.
    fit_intercept : bool
        Whether targets were centred.
    results : dict
        One line for every kernel and ridge.
    index : int
        Line of the winner.
    known : dict of bool to ndarray
        Gradient outer products, centred or not, once they were asked for.
    """

    kernel: Kernel | None
    feature_map: np.ndarray | None
    params: dict[str, Any]
    alpha: float
    coef: Tensor
    intercept: Tensor
    loo: np.ndarray
    fit_intercept: bool
    results: dict[str, Any]
    index: int
    known: dict[bool, np.ndarray] = field(default_factory=dict, init=False, compare=False)

    def predict(self, rows: np.ndarray, training: TrainingSet) -> np.ndarray:
        """Return f of new rows, (m, t), from the rows it was fitted to."""
        assert self.kernel is not None
        x = as_tensor(rows, self.coef.device, torch.float64)
        found = self.kernel.matmul(x, training.distinct, self.coef) + self.intercept
        return to_numpy(found).astype(np.float64)

    @property
    def score(self) -> float:
        """Score of the choice; higher is better."""
        return float(self.results["mean_test_score"][self.index])


@dataclass(frozen=True)
class GridSearch:
    """Every kernel of a grid, every ridge on one eigendecomposition each.

    Attributes
    ----------
    kernel : Kernel or None
        What candidates change; None for precomputed Gram matrices.
    candidates : sequence of dict
        Kernel parameters.
    alphas : ndarray of shape (A,)
        Ridges.
    fit_intercept : bool
        Whether targets are centred.
    folds : sequence of (train, test) or None
        Of the rows as passed; None is leave-one-out.
    verbose : int
        1 shows progress.
    forgives : bool
        Score ridges below the rounding of a Gram matrix as NaN, where others would raise.
    """

    kernel: Kernel | None
    candidates: Sequence[dict[str, Any]]
    alphas: np.ndarray
    fit_intercept: bool
    folds: Folds | None
    verbose: int
    forgives: bool = False

    def run(
        self,
        training: TrainingSet,
        criterion: Criterion,
        feature_map: np.ndarray | None = None,
    ) -> Fit:
        """Score all kernels and ridges on rows, mapped where a map is given; fit the best.

        Parameters
        ----------
        training : TrainingSet
            At least two distinct rows.
        criterion : Criterion
            What judges predictions of these rows.
        feature_map : ndarray of shape (d,) or (d, d), optional
            Applied to the rows first.

        Returns
        -------
        Fit
        """
        seen = training
        if feature_map is not None:
            assert self.kernel is not None
            rows = Mapped(self.kernel, feature_map).map_rows(training.rows)
            seen = replace(training, rows=rows)
        scores, best = self._scores(seen, criterion)
        results = cv_results(self.candidates, self.alphas, scores, by_fold=self.folds is not None)
        winner = int(np.argmin(results["rank_test_score"]))
        chosen, ridge = divmod(winner, len(self.alphas))
        final = None
        if self.kernel is not None:
            final = self.kernel.clone_with_params(self.candidates[chosen])
        if best is None or best[0] != chosen:
            K = seen.gram(final)
            path = self._path(K, training, self._solvable(K, training))
        else:
            path = best[1]
        if final is not None and feature_map is not None:
            final = Mapped(final, feature_map)
        return Fit(
            final,
            feature_map,
            results["params"][winner],
            float(self.alphas[ridge]),
            path.dual_coef[ridge],
            path.intercept,
            to_numpy(path.loo_predictions[ridge]).astype(np.float64),
            self.fit_intercept,
            results,
            winner,
        )

    def best_kernels(self, fit: Fit, count: int) -> "GridSearch":
        """Return the search over the kernels that did best at their best ridges."""
        scores = fit.results["mean_test_score"].reshape(-1, len(self.alphas))
        tops = np.where(np.isnan(scores), -np.inf, scores).max(axis=1)
        order = np.sort(np.argsort(-tops, kind="stable")[:count])
        return replace(self, candidates=[self.candidates[i] for i in order])

    def _scores(
        self, training: TrainingSet, criterion: Criterion
    ) -> tuple[np.ndarray, tuple[int, RidgePath] | None]:
        """Return all scores (C, n_folds, A), and the best kernel's path where one was computed."""
        n_folds = 1 if self.folds is None else len(self.folds)
        scores = np.empty((len(self.candidates), n_folds, len(self.alphas)))
        best: tuple[float, int, RidgePath] | None = None
        total = len(self.candidates)
        grams = self._grams(training)
        for index, K in progress(grams, verbose=self.verbose, total=total, unit="kernel"):
            alphas = self._solvable(K, training)
            if self.folds is not None:
                scores[index] = fold_scores(
                    K, training, criterion, self.folds, alphas, self.fit_intercept
                )
                scores[index, :, alphas > self.alphas] = np.nan
                continue
            path = self._path(K, training, alphas)
            loo = to_numpy(path.loo_predictions).astype(np.float64, copy=False)
            scores[index] = loo_scores(loo, training, criterion)
            scores[index, :, alphas > self.alphas] = np.nan
            top = np.max(scores[index], where=~np.isnan(scores[index]), initial=-np.inf)
            if best is None or top > best[0] or (top == best[0] and index < best[1]):
                best = (top, index, path)
        return scores, None if best is None else best[1:]

    def _grams(self, training: TrainingSet) -> Iterable[tuple[int, Tensor]]:
        if self.kernel is None:
            return [(0, training.gram(None))]
        return self.kernel._gram_path(training.distinct, None, self.candidates)

    def _solvable(self, K: Tensor, training: TrainingSet) -> np.ndarray:
        """Return the ridges, those that rounding may make indefinite raised to one it cannot."""
        if not self.forgives:
            return self.alphas
        trace = float(training.copies @ to_numpy(K.diagonal()).astype(np.float64))
        least = _ROUNDINGS * torch.finfo(K.dtype).eps * trace
        return np.maximum(self.alphas, min(least, self.alphas.max()))

    def _path(self, K: Tensor, training: TrainingSet, alphas: np.ndarray) -> RidgePath:
        return RidgePath(
            K,
            training.Y,
            training.weights,
            alphas=alphas,
            fit_intercept=self.fit_intercept,
            left_out=training.left_out(),
            overwrite=True,
        )


def candidates_of(grid: Any, kernel: Kernel | None) -> list[dict[str, Any]]:
    """Return the points of a parameter grid.

    Parameters
    ----------
    grid : dict or list of dict
        As in ``ParameterGrid``.
    kernel : Kernel or None
        What the points change; None for precomputed Gram matrices.

    Returns
    -------
    list of dict

    Raises
    ------
    ValueError
        If there are none, or a precomputed kernel would have to change.
    """
    if kernel is None and grid:
        raise ValueError(
            f"`param_grid` is {grid!r} but a precomputed kernel has no parameters; leave it None."
        )
    candidates = list(ParameterGrid(grid))
    if not candidates:
        raise ValueError(f"`param_grid` is {grid!r}; expected at least one candidate.")
    return candidates
