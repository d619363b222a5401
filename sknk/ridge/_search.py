"""What the two searching estimators share: parameters, the search, learned features."""

import warnings
from abc import abstractmethod
from dataclasses import replace
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from sklearn.gaussian_process.kernels import Kernel as SklearnKernel
from sklearn.model_selection import check_cv

from sknk._training import TrainingSet
from sknk._validation import Interval, StrOptions
from sknk.exceptions import NotPSDError, NumericalWarning
from sknk.kernels import NTK
from sknk.kernels._adapt import Foreign
from sknk.kernels._base import Kernel
from sknk.ridge._base import COMMON_CONSTRAINTS, BaseRidge
from sknk.ridge._feature_maps import gradient_outer_product
from sknk.ridge._feature_search import LEARNERS, FeatureSearch, Learned
from sknk.ridge._grid import (
    Fit,
    GridSearch,
    candidates_of,
    classification_alphas,
    classification_grid,
    regression_alphas,
    regression_grid,
)
from sknk.ridge._selection import Criterion, loo_scores
from sknk.ridge._solved import solve_ridge

__all__ = ["RidgeSearch"]


_LEARNED = {
    "feature_map_",
    "feature_matrix_",
    "feature_importances_",
    "feature_learning_",
    "rounds_",
    "feature_path_",
}


class RidgeSearch(BaseRidge):
    """Kernel and ridge by leave-one-out or folds; features where a map is better than none."""

    param_grid: Any
    alphas: Any
    cv: Any
    scoring: Any
    feature_learning: str | None
    max_rounds: int
    search_rows: int | None
    verbose: int

    alpha_: float

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "kernel": [None, SklearnKernel, StrOptions({"precomputed"})],
        "param_grid": [None, dict, list],
        "alphas": [None, "array-like"],
        "cv": ["cv_object"],
        "scoring": [None, str, callable],
        "feature_learning": [None, StrOptions({"auto", *LEARNERS})],
        "max_rounds": [Interval(Integral, 1, None, closed="left")],
        "search_rows": [None, Interval(Integral, 10, None, closed="left")],
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
        return candidates_of(grid, kernel)

    def _checked_alphas(self) -> np.ndarray:
        if self.alphas is None:
            return classification_alphas() if self._is_classifier() else regression_alphas()
        alphas = np.atleast_1d(np.asarray(self.alphas, dtype=np.float64))
        if alphas.ndim != 1 or not alphas.size or not (np.isfinite(alphas) & (alphas > 0)).all():
            raise ValueError(f"`alphas` is {self.alphas!r}; expected positive, finite ridges.")
        return alphas

    def _search(
        self, X: np.ndarray, kernel: Kernel | None, training: TrainingSet, criterion: Criterion
    ) -> np.ndarray:
        """Score the grid, set the fitted attributes, return leave-one-out of distinct rows."""
        if len(training.first) < 2:
            raise ValueError(
                f"n_samples={len(training.first)} distinct row of positive weight; leave-one-out "
                "needs at least 2. Use NTKRidge for a single one."
            )
        grid = GridSearch(
            kernel,
            self._candidates(kernel),
            self._checked_alphas(),
            self.fit_intercept,
            self._folds(X, criterion.y),
            self.verbose,
            forgives=self.alphas is None,
        )
        some, own = self._searched(training, criterion)
        for name in _LEARNED.intersection(vars(self)):  # of an earlier fit
            delattr(self, name)
        if self.feature_learning is None:
            fit = grid.run(some, own)
        else:
            fit = self._learn(grid, some, own)
        if some is not training:
            fit = self._fitted_to_all(fit, grid.alphas, training, criterion)
        self._keep(fit, training, criterion)
        return fit.loo

    def _searched(
        self, training: TrainingSet, criterion: Criterion
    ) -> tuple[TrainingSet, Criterion]:
        """Return the rows on which kernels and maps are chosen: folds need all."""
        if self.cv is not None or self.search_rows is None or training.precomputed:
            return training, criterion
        labels = criterion.coder is not None and criterion.coder.multilabel
        classes = self._is_classifier() and not labels
        index = training.sample(self.search_rows, classes=classes)
        if len(index) == len(training.first):
            return training, criterion
        return training.part(index), criterion.on(training, index)

    def _learn(self, grid: GridSearch, training: TrainingSet, criterion: Criterion) -> Fit:
        """Search for features, set what is known of them."""
        if grid.kernel is None or isinstance(grid.kernel, Foreign):
            raise ValueError(
                f"`feature_learning` is {self.feature_learning!r} and `kernel` {self.kernel!r}, "
                "which has no gradients with respect to rows; expected an sknk kernel. Pass one, "
                "such as NTK(), or `feature_learning=None`."
            )
        wanted = self.feature_learning
        learners = {k: v for k, v in LEARNERS.items() if wanted in ("auto", k)}
        found = FeatureSearch(grid, learners, self.max_rounds, self.verbose).run(
            training, criterion
        )
        if found.reasons:
            warnings.warn(
                f"`feature_learning={self.feature_learning!r}` found no map: "
                f"{'; '.join(dict.fromkeys(found.reasons))}. The features stay as they "
                "are; look at the targets and at the scales of the columns.",
                NumericalWarning,
                stacklevel=5,  # the caller of fit
            )
        self._describe(found, training)
        return found.fit

    def _describe(self, found: Learned, training: TrainingSet) -> None:
        fit, d = found.fit, training.rows.shape[1]
        self.feature_map_ = np.ones(d) if fit.feature_map is None else fit.feature_map
        self.feature_matrix_ = gradient_outer_product(fit, training)
        squares = np.diag(self.feature_matrix_)
        known = np.ptp(training.Y, axis=0).any() and squares.any()
        self.feature_importances_ = squares / squares.sum() if known else np.zeros(d)
        self.feature_learning_, self.rounds_ = found.chosen
        self.feature_path_ = {name: np.array(column) for name, column in found.path.items()}

    def _fitted_to_all(
        self, fit: Fit, alphas: np.ndarray, training: TrainingSet, criterion: Criterion
    ) -> Fit:
        """Fit the kernel chosen on some rows to all, with the best of three neighbouring ridges."""
        at = int(np.searchsorted(np.sort(alphas), fit.alpha))
        near = np.sort(alphas)[max(at - 1, 0) : at + 2]
        K = training.gram(fit.kernel)
        fits: list[tuple[float, Fit]] = []
        for alpha in near:
            try:
                solved = solve_ridge(
                    K.clone(), training, float(alpha), fit_intercept=self.fit_intercept
                )
            except NotPSDError:
                if alpha == near[-1] and not fits:
                    raise
                continue
            loo = solved.leave_one_out(training.left_out())
            score = float(loo_scores(loo[None], training, criterion)[0, 0])
            found = replace(
                fit, alpha=float(alpha), coef=solved.coef, intercept=solved.intercept, loo=loo
            )
            fits.append((-np.inf if np.isnan(score) else score, found))
        return max(fits, key=lambda pair: pair[0])[1]

    def _keep(self, fit: Fit, training: TrainingSet, criterion: Criterion) -> None:
        self.cv_results_, self.best_index_ = fit.results, fit.index
        self.best_params_, self.best_score_ = fit.params, fit.score
        self.alpha_ = fit.alpha
        squeeze = training.Y.shape[1] == 1 and (self._is_classifier() or criterion.y.ndim == 1)
        self._store(training, fit.kernel, fit.coef, fit.intercept, squeeze=squeeze)

    def _folds(self, X: np.ndarray, y: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]] | None:
        if self.cv is None:
            return None
        splitter = check_cv(self.cv, y, classifier=self._is_classifier())
        return [(_positions(train), _positions(test)) for train, test in splitter.split(X, y)]


def _positions(part: Any) -> np.ndarray:
    """Return the rows of a fold, given as positions or as a mask."""
    part = np.asarray(part)
    return np.flatnonzero(part) if part.dtype == bool else part
