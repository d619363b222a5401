"""Scores of every kernel and ridge: leave-one-out from one eigendecomposition, or folds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from inspect import signature
from typing import Any

import numpy as np
import torch
from scipy.stats import rankdata
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from torch import Tensor

from sknk._array import to_numpy
from sknk._training import TrainingSet
from sknk.ridge._calibration import Calibration
from sknk.ridge._classes import LabelCoder
from sknk.solvers import RidgePath

__all__ = ["Criterion", "cv_results", "fold_scores", "loo_scores"]


class _Replay(BaseEstimator):
    """An estimator whose predictions are already known, for scikit-learn's scorers."""

    def __init__(self, scores: Any = None) -> None:
        self.scores = scores

    def __sklearn_is_fitted__(self) -> bool:
        return True


class _ReplayRegressor(RegressorMixin, _Replay):
    def predict(self, X: Any) -> np.ndarray:
        return self.scores


class _ReplayClassifier(ClassifierMixin, _Replay):
    def __init__(self, scores: Any = None, coder: Any = None, calibration: Any = None) -> None:
        super().__init__(scores)
        self.coder = coder
        self.calibration = calibration

    @property
    def classes_(self) -> np.ndarray:
        return self.coder.classes

    def decision_function(self, X: Any) -> np.ndarray:
        return self.scores

    def predict(self, X: Any) -> np.ndarray:
        return self.coder.labels(self.scores)

    def predict_proba(self, X: Any) -> np.ndarray:
        return self.coder.proba(self.scores, self.calibration())


@dataclass(frozen=True)
class Criterion:
    """How predictions are judged: by their own loss, or by a scorer.

    Attributes
    ----------
    scorer : callable or None
        A scikit-learn scorer; None is the negative weighted mean squared error of targets, and of
        classes the negative log loss of calibrated probabilities.
    y : ndarray
        Targets or labels as passed, what a scorer compares with.
    Y : ndarray of shape (n, t)
        Coded targets.
    weights : ndarray of shape (n,) or None
        Sample weights.
    coder : LabelCoder or None
        Of a classifier.
    """

    scorer: Callable[..., float] | None
    y: np.ndarray
    Y: np.ndarray
    weights: np.ndarray | None
    coder: LabelCoder | None

    def __call__(
        self, predictions: np.ndarray, rows: Any, calibration: Callable[[], list[Calibration]]
    ) -> np.ndarray:
        """Judge the predictions of every ridge.

        Parameters
        ----------
        predictions : ndarray of shape (A, n_rows, t)
            Of the given rows.
        rows : index
            Which rows they are.
        calibration : callable
            Returns the calibration of every ridge; asked only where probabilities count.

        Returns
        -------
        ndarray of shape (A,)
        """
        w, Y = None if self.weights is None else self.weights[rows], self.Y[rows]
        if self.scorer is not None:
            known = cache(calibration)
            replays = (
                self._replay(p, lambda a=a: known()[a])  # type: ignore[misc]
                for a, p in enumerate(predictions)
            )
            return np.array([self._score(replay, rows, w) for replay in replays])
        return self.negative_loss(predictions, calibration, Y, w)

    def negative_loss(
        self,
        predictions: np.ndarray,
        calibration: Callable[[], list[Calibration]],
        Y: np.ndarray,
        weights: np.ndarray | None,
    ) -> np.ndarray:
        """Return minus the weighted mean of the rows' own losses, predictions (A, n, t), (A,)."""
        known = [None] * len(predictions) if self.coder is None else calibration()
        rows = [self.row_losses(p, c, Y) for p, c in zip(predictions, known, strict=True)]
        return -np.average(rows, axis=1, weights=weights)

    def on(self, training: TrainingSet, index: np.ndarray) -> "Criterion":
        """Return the same criterion for some of the distinct rows, as a table of their own."""
        weights = None if training.weights is None else training.weights[index]
        first = training.first[index]
        return replace(self, y=self.y[first], Y=training.Y[index], weights=weights)

    def row_losses(
        self, predictions: np.ndarray, calibration: Calibration | None, Y: np.ndarray
    ) -> np.ndarray:
        """Return the loss of every row of predictions (n, t): squared error, or log loss."""
        if self.coder is None:
            return np.square(predictions - Y).mean(axis=1)
        assert calibration is not None
        return self.coder.log_losses(predictions, calibration, Y)

    def smooth_loss(
        self, predictions: np.ndarray, Y: np.ndarray, weights: np.ndarray | None
    ) -> tuple[float, np.ndarray]:
        """Return a negative log-likelihood per row of predictions (n, t), and its gradient.

        Of numbers it is half the logarithm of the part of their variance that is left.

        Parameters
        ----------
        predictions, Y : ndarray of shape (n, t)
            Of rows that were left out, and their coded targets.
        weights : ndarray of shape (n,) or None
            Sample weights.

        Returns
        -------
        loss : float
            Nats.
        gradient : ndarray of shape (n, t)
            By the predictions.
        """
        if self.coder is not None:
            return self.coder.tempered_loss(predictions, Y, weights)
        w = np.ones(len(Y)) if weights is None else weights
        residual = w[:, None] * (predictions - Y)
        squares = max(float((residual * (predictions - Y)).sum()), np.finfo(float).tiny)
        total = float((w @ np.square(Y - np.average(Y, axis=0, weights=w))).sum())
        return 0.5 * np.log(squares / max(total, np.finfo(float).tiny)), residual / squares

    def _score(self, replay: _Replay, rows: Any, weights: np.ndarray | None) -> float:
        assert self.scorer is not None
        takes = signature(self.scorer).parameters
        weighted = weights is not None and ("sample_weight" in takes or "kwargs" in takes)
        options = {"sample_weight": weights} if weighted else {}
        return float(self.scorer(replay, replay.scores, self.y[rows], **options))

    def _replay(self, p: np.ndarray, calibration: Callable[[], Calibration]) -> _Replay:
        flat = p[:, 0] if p.shape[1] == 1 and self.y.ndim == 1 else p
        if self.coder is None:
            return _ReplayRegressor(flat)
        return _ReplayClassifier(flat, self.coder, calibration)


def loo_scores(loo: np.ndarray, training: TrainingSet, criterion: Criterion) -> np.ndarray:
    """Return the scores of leave-one-out predictions (A, u, t) of the distinct rows, (1, A)."""

    def calibration() -> list[Calibration]:
        assert criterion.coder is not None
        return criterion.coder.calibrate(loo, training.Y, training.weights)

    if criterion.scorer is not None:
        active = training.group >= 0
        return criterion(loo[:, training.group[active]], active, calibration)[None]
    return criterion.negative_loss(loo, calibration, training.Y, training.weights)[None]


def fold_scores(
    K: Tensor,
    training: TrainingSet,
    criterion: Criterion,
    folds: Sequence[tuple[np.ndarray, np.ndarray]],
    alphas: np.ndarray,
    fit_intercept: bool,
) -> np.ndarray:
    """Return the score of every ridge on every fold, (n_folds, A).

    Parameters
    ----------
    K : Tensor of shape (u, u)
        Gram matrix of the distinct rows; a fold leaves rows out by giving them weight zero.
    training : TrainingSet
        All rows.
    criterion : Criterion
        What judges the predictions.
    folds : sequence of (train, test)
        Indices into the rows as passed.
    alphas : ndarray of shape (A,)
        Ridges.
    fit_intercept : bool
        Whether targets are centred in every fold.

    Returns
    -------
    ndarray of shape (n_folds, A)
    """
    scores = []
    for train, test in folds:
        weights = training.fold_weights(train, criterion.weights)
        path = RidgePath(
            K,
            training.Y,
            weights,
            alphas=alphas,
            fit_intercept=fit_intercept,
            left_out=training.left_out(weights),
        )
        seen = test[training.group[test] >= 0]
        index = torch.from_numpy(training.group[seen]).to(K.device)
        predictions = K[index] @ path.dual_coef + path.intercept  # (A, n_test, t)
        inside = weights > 0

        def calibration(
            path: RidgePath = path,
            inside: np.ndarray = inside,
            weights: np.ndarray = weights,
        ) -> list[Calibration]:
            assert criterion.coder is not None
            loo = to_numpy(path.loo_predictions).astype(np.float64, copy=False)[:, inside]
            return criterion.coder.calibrate(loo, training.Y[inside], weights[inside])

        scores.append(criterion(to_numpy(predictions).astype(np.float64), seen, calibration))
    return np.array(scores)


def cv_results(
    candidates: Sequence[dict[str, Any]], alphas: np.ndarray, scores: np.ndarray, by_fold: bool
) -> dict[str, Any]:
    """Return scikit-learn's table of results, one line for every kernel and ridge.

    Parameters
    ----------
    candidates : sequence of dict
        Kernel parameters, C of them.
    alphas : ndarray of shape (A,)
        Ridges.
    scores : ndarray of shape (C, n_folds, A)
        Higher is better.
    by_fold : bool
        Whether the folds are folds, not leave-one-out.

    Returns
    -------
    dict of str to list or ndarray of length C * A
    """
    params = [{**candidate, "alpha": float(a)} for candidate in candidates for a in alphas]
    flat = np.moveaxis(scores, 1, 0).reshape(scores.shape[1], -1)  # (n_folds, C * A)
    mean = flat.mean(axis=0)
    results: dict[str, Any] = {"params": params}
    for name in sorted({key for line in params for key in line}):
        present = [name in line for line in params]
        column = np.ma.masked_all(len(params), dtype=object)
        column[present] = np.array(
            [line[name] for line in params if name in line] + [None], dtype=object
        )[:-1]
        results[f"param_{name}"] = column
    if by_fold:
        results |= {f"split{k}_test_score": fold for k, fold in enumerate(flat)}
        results["std_test_score"] = flat.std(axis=0)
    results["mean_test_score"] = mean
    ranked = np.where(np.isnan(mean), -np.inf, mean)  # a score of NaN is last
    results["rank_test_score"] = rankdata(-ranked, method="min").astype(np.int32)
    return results
