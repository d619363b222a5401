"""The search over kernels and ridges: one Gram recursion for depths, one spectrum for ridges."""

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
from sklearn.gaussian_process.kernels import Kernel as SklearnKernel
from sklearn.model_selection import ParameterGrid, check_cv
from torch import Tensor

from sknk._array import to_numpy
from sknk._progress import progress
from sknk._training import TrainingSet
from sknk._validation import StrOptions
from sknk.kernels import NTK
from sknk.kernels._base import Kernel
from sknk.ridge._base import COMMON_CONSTRAINTS, BaseRidge
from sknk.ridge._selection import Criterion, cv_results, fold_scores, loo_scores
from sknk.solvers import RidgePath

__all__ = ["RidgeSearch", "classification_grid", "default_alphas", "regression_grid"]


def classification_grid() -> list[dict[str, list[Any]]]:
    """Return three depths times three bias variances: seventy kernels were no better."""
    return [{"depth": [1, 3, 8], "bias_var": [0.1, 1.0, 10.0]}]


def regression_grid() -> list[dict[str, list[Any]]]:
    """Return two depths times three bias variances, all layers trained or the last one only."""
    return [
        {"depth": [depth], "bias_var": [0.0, 1.0, 10.0], "fixed_depth": [0, depth]}
        for depth in (1, 2)
    ]


def default_alphas() -> np.ndarray:
    """Thirteen ridges, half a decade apart, around a mean diagonal of one."""
    return np.logspace(-4, 2, 13)


class RidgeSearch(BaseRidge):
    """Every kernel of a grid, every ridge on one eigendecomposition each."""

    param_grid: Any
    alphas: Any
    cv: Any
    scoring: Any
    verbose: int

    alpha_: float

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "kernel": [None, SklearnKernel, StrOptions({"precomputed"})],
        "param_grid": [None, dict, list],
        "alphas": [None, "array-like"],
        "cv": ["cv_object"],
        "scoring": [None, str, callable],
        "verbose": ["verbose"],
        **COMMON_CONSTRAINTS,
    }

    def _ridge(self) -> float:
        return self.alpha_

    @abstractmethod
    def _is_classifier(self) -> bool:
        """Return whether targets are classes."""

    def _candidates(self, kernel: Kernel | None) -> list[dict[str, Any]]:
        grid = self.param_grid
        if grid is None:
            own = classification_grid() if self._is_classifier() else regression_grid()
            grid = own if isinstance(kernel, NTK) else {}
        if kernel is None and grid:
            raise ValueError(
                f"`param_grid` is {grid!r} but a precomputed kernel has no parameters; leave it "
                "None."
            )
        candidates = list(ParameterGrid(grid))
        if not candidates:
            raise ValueError(f"`param_grid` is {grid!r}; expected at least one candidate.")
        return candidates

    def _checked_alphas(self) -> np.ndarray:
        if self.alphas is None:
            return default_alphas()
        alphas = np.atleast_1d(np.asarray(self.alphas, dtype=np.float64))
        if alphas.ndim != 1 or not alphas.size or not (np.isfinite(alphas) & (alphas > 0)).all():
            raise ValueError(f"`alphas` is {self.alphas!r}; expected positive, finite ridges.")
        return alphas

    def _grams(
        self, kernel: Kernel | None, training: TrainingSet, candidates: list[dict[str, Any]]
    ) -> Iterator[tuple[int, Tensor]]:
        if kernel is None:
            yield 0, training.gram(None)
        else:
            yield from kernel._gram_path(training.distinct, None, candidates)

    def _search(
        self,
        X: np.ndarray,
        kernel: Kernel | None,
        training: TrainingSet,
        criterion: Criterion,
    ) -> np.ndarray:
        """Score the grid, set the fitted attributes, return leave-one-out of distinct rows."""
        if len(training.first) < 2:
            raise ValueError(
                f"n_samples={len(training.first)} distinct row of positive weight; leave-one-out "
                "needs at least 2. Use NTKRidge for a single one."
            )
        candidates, alphas = self._candidates(kernel), self._checked_alphas()
        folds = self._folds(X, criterion.y)
        scores = np.empty((len(candidates), 1 if folds is None else len(folds), len(alphas)))
        best: tuple[float, int, RidgePath] | None = None
        grams = self._grams(kernel, training, candidates)
        for index, K in progress(grams, verbose=self.verbose, total=len(candidates), unit="kernel"):
            if folds is not None:
                scores[index] = fold_scores(
                    K, training, criterion, folds, alphas, self.fit_intercept
                )
                continue
            path = self._path(K, training, alphas)
            scores[index] = loo_scores(path, training, criterion)
            top = np.max(scores[index], where=~np.isnan(scores[index]), initial=-np.inf)
            if best is None or top > best[0] or (top == best[0] and index < best[1]):
                best = (top, index, path)
        results = cv_results(candidates, alphas, scores, by_fold=folds is not None)
        winner = int(np.argmin(results["rank_test_score"]))
        chosen, ridge = divmod(winner, len(alphas))
        final = None if kernel is None else kernel.clone_with_params(candidates[chosen])
        if best is None or best[1] != chosen:
            path = self._path(training.gram(final), training, alphas)
        else:
            path = best[2]
        self.cv_results_, self.best_index_ = results, winner
        self.best_params_ = results["params"][winner]
        self.best_score_ = float(results["mean_test_score"][winner])
        self.alpha_ = float(alphas[ridge])
        squeeze = training.Y.shape[1] == 1 and (self._is_classifier() or criterion.y.ndim == 1)
        self._store(training, final, path.dual_coef[ridge], path.intercept, squeeze=squeeze)
        return to_numpy(path.loo_predictions[ridge]).astype(np.float64)

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

    def _folds(self, X: np.ndarray, y: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]] | None:
        if self.cv is None:
            return None
        splitter = check_cv(self.cv, y, classifier=self._is_classifier())
        return [(_positions(train), _positions(test)) for train, test in splitter.split(X, y)]


def _positions(part: Any) -> np.ndarray:
    """Return the rows of a fold, given as positions or as a mask."""
    part = np.asarray(part)
    return np.flatnonzero(part) if part.dtype == bool else part
