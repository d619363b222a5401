"""Class labels as regression targets, and scores as classes and probabilities."""

from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import Tags, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from sknk.ridge._calibration import (
    Calibration,
    fit_temperatures,
    log_losses,
    probabilities,
    tempered_loss,
)

__all__ = ["LabelCoder", "RidgeClassifierMixin"]


class LabelCoder:
    """Labels to targets of -1 and 1, one column a class (one column for two classes).

    Parameters
    ----------
    y : ndarray of shape (n,) or (n, l)
        Labels, or a multi-label indicator.

    Raises
    ------
    ValueError
        If there are fewer than two classes.
    """

    def __init__(self, y: np.ndarray) -> None:
        check_classification_targets(y)
        self._binarizer = LabelBinarizer(pos_label=1, neg_label=-1)
        Y = self._binarizer.fit_transform(y)
        self.multilabel = self._binarizer.y_type_.startswith("multilabel")
        if not self.multilabel:
            y = column_or_1d(y, warn=True)
        self.classes = self._binarizer.classes_
        if not self.multilabel and len(self.classes) < 2:
            raise ValueError(
                f"`y` has one class ({self.classes.tolist()[0]!r}); a classifier needs at least "
                "two classes."
            )
        self.Y = Y.astype(np.float64)

    def coded(self, y: np.ndarray) -> np.ndarray:
        """Return targets of other rows, whose classes are among those seen, (m, c)."""
        return self._binarizer.transform(y).astype(np.float64)

    def labels(self, scores: np.ndarray) -> np.ndarray:
        """Return the classes of decision values."""
        if self.multilabel:
            return (scores > 0).astype(int)
        index = scores.argmax(axis=1) if scores.ndim == 2 else (scores > 0).astype(int)
        return self.classes[index]

    def numbers(self, Y: np.ndarray) -> np.ndarray:
        """Return class numbers of coded targets (n, c)."""
        return (Y[:, 0] > 0).astype(int) if Y.shape[1] == 1 else Y.argmax(axis=1)

    def calibrate(
        self, scores: np.ndarray, Y: np.ndarray, weights: np.ndarray | None
    ) -> list[Calibration]:
        """Fit probabilities of A candidates to the decision values (A, n, t) of unseen rows."""
        rows = float(len(Y) if weights is None else weights.sum())
        if self.multilabel:
            columns = zip(np.moveaxis(scores, 2, 0), Y.T, strict=True)
            each = [fit_temperatures(f, (t > 0).astype(int), weights) for f, t in columns]
            slopes = np.stack(each, axis=1)  # (A, l)
        else:
            slopes = fit_temperatures(_flat(scores), self.numbers(Y), weights)[:, None]
        return [Calibration(slope, rows) for slope in slopes]

    def log_losses(self, scores: np.ndarray, calibration: Calibration, Y: np.ndarray) -> np.ndarray:
        """Return the log loss of every calibrated row (n, t); over labels their mean; (n,)."""
        if self.multilabel:
            present = self.proba(scores, calibration)  # (n, l)
            pairs = [np.column_stack([1.0 - p, p]) for p in present.T]
            truths = (Y.T > 0).astype(int)
            each = [log_losses(p, t) for p, t in zip(pairs, truths, strict=True)]
            return np.mean(each, axis=0)
        return log_losses(self.proba(_flat(scores), calibration), self.numbers(Y))

    def tempered_loss(
        self, scores: np.ndarray, Y: np.ndarray, weights: np.ndarray | None
    ) -> tuple[float, np.ndarray]:
        """Return the log loss of decision values (n, t) at its best temperature, its gradient."""
        if self.multilabel:
            pairs = zip(scores.T, (Y.T > 0).astype(int), strict=True)
            found = [tempered_loss(f, t, weights) for f, t in pairs]
            gradient = np.column_stack([g for _, g in found])
            return float(np.mean([loss for loss, _ in found])), gradient / len(found)
        loss, gradient = tempered_loss(_flat(scores), self.numbers(Y), weights)
        return loss, gradient.reshape(scores.shape)

    def proba(self, scores: np.ndarray, calibration: Calibration) -> np.ndarray:
        """Return probabilities (n, c), or of each label being present (n, l)."""
        slopes, rows = calibration
        if self.multilabel:
            pairs = zip(scores.reshape(len(scores), -1).T, slopes, strict=True)
            return np.column_stack([probabilities(f, slope, rows)[:, 1] for f, slope in pairs])
        return probabilities(scores, slopes[0], rows)


def _flat(scores: np.ndarray) -> np.ndarray:
    """Drop the last axis where two classes share a column."""
    return scores[..., 0] if scores.shape[-1] == 1 else scores


class RidgeClassifierMixin(ClassifierMixin):
    """What ridge classifiers add to ridge: labels, scores, calibrated probabilities."""

    class_weight: Any
    _coder: LabelCoder
    _calibration: Calibration

    def _numeric(self) -> bool:
        return False

    def _calibrate(self: Any, coder: LabelCoder, loo: np.ndarray) -> None:
        """Set classes, leave-one-out decision values (of the distinct rows: `loo`), calibration."""
        self._coder = coder
        self.classes_ = coder.classes
        self._keep_leave_one_out(loo)

    def _keep_leave_one_out(self: Any, loo: np.ndarray) -> None:
        """Calibrate on leave-one-out decision values of the distinct rows."""
        training = self._training
        (self._calibration,) = self._coder.calibrate(loo[None], training.Y, training.weights)
        every = training.every_row(
            loo, lambda left: self._combine(training.rows[left]).reshape(-1, loo.shape[1])
        )
        self.loo_predictions_ = every[:, 0] if loo.shape[1] == 1 else every

    def decision_function(self: Any, X: Any) -> np.ndarray:
        """Return ridge regressions of the -1 / 1 coded classes.

        Parameters
        ----------
        X : array-like of shape (m, d)
            Rows; for a precomputed kernel K(X, X_fit), (m, n).

        Returns
        -------
        ndarray of shape (m,) for two classes, (m, c) for more, (m, l) for labels
            Dimensionless; positive favours the class.
        """
        return self._decision(X)

    def predict(self: Any, X: Any) -> np.ndarray:
        """Return the class of the largest decision value.

        Parameters
        ----------
        X : array-like of shape (m, d)
            Rows; for a precomputed kernel K(X, X_fit), (m, n).

        Returns
        -------
        ndarray of shape (m,), or (m, l) for labels
        """
        scores = self._decision(X)
        return self._coder.labels(scores)

    def predict_proba(self: Any, X: Any) -> np.ndarray:
        """Return probabilities calibrated on leave-one-out decision values.

        A softmax of the decision values over one temperature, fitted in ``fit`` by convex log loss
        to the closed-form leave-one-out values, so no row calibrates its own score, then mixed
        with one row spread over all classes. The most probable class is the predicted one.

        Parameters
        ----------
        X : array-like of shape (m, d)
            Rows; for a precomputed kernel K(X, X_fit), (m, n).

        Returns
        -------
        ndarray of shape (m, c)
            Rows sum to 1, except for labels, where column l is the probability of label l.
        """
        check_is_fitted(self)
        return self._coder.proba(self._decision(X), self._calibration)

    def __sklearn_tags__(self) -> Tags:
        """Declare multi-label targets."""
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        tags.target_tags.multi_output = False
        return tags
