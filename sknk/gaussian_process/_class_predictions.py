"""What Gaussian process classifiers predict from their model: latent values, probabilities."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from sknk._array import to_numpy
from sknk._validation import nonnegative_variance
from sknk.gaussian_process._predictions import blocks
from sknk.gaussian_process._softmax import expected_softmax

__all__ = ["ClassPredictionMixin"]


class ClassPredictionMixin:
    """Predictions of classes; `_model` has the law of the latent functions."""

    _gain: np.ndarray
    _df: float

    def predict_latent(self: Any, X: Any, return_std: bool = False) -> Any:
        """Return means of the latent functions, and their standard deviations.

        Parameters
        ----------
        X : array-like of shape (m, d)
            Rows.
        return_std : bool, default=False
            Also return standard deviations.

        Returns
        -------
        mean : ndarray of shape (m, C)
            Dimensionless.
        std : ndarray of shape (m, C)
            If `return_std`.
        """
        found = self._blockwise(X, self._mean_and_variance)
        mean, variance = found[..., 0], found[..., 1]
        return (mean, np.sqrt(nonnegative_variance(variance))) if return_std else mean

    def _mean_and_variance(self: Any, rows: Tensor) -> Tensor:
        mean, variance, _ = self._model.latent(rows)
        gain = torch.from_numpy(self._gain).to(mean)
        return torch.stack([mean, variance * gain], dim=-1)

    def decision_function(self: Any, X: Any) -> np.ndarray:
        """Return the logarithms of the probabilities, which rank rows and classes as these do.

        Means of the latent functions do not: at the same means, probabilities are the closer to
        uniform the less sure a row's latent values are.

        Parameters
        ----------
        X : array-like of shape (m, d)
            Rows.

        Returns
        -------
        ndarray of shape (m,) for two classes, (m, C) for more
            Nats; for two classes log odds of the second.
        """
        logs = np.log(np.maximum(self.predict_proba(X), np.finfo(np.float64).tiny))
        return logs[:, 1] - logs[:, 0] if logs.shape[1] == 2 else logs

    def predict_proba(self: Any, X: Any) -> np.ndarray:
        """Return class probabilities, the expected softmax of the latent functions.

        Parameters
        ----------
        X : array-like of shape (m, d)
            Rows.

        Returns
        -------
        ndarray of shape (m, C)
            Rows sum to 1.
        """
        return self._blockwise(X, self._probabilities)

    def _probabilities(self: Any, rows: Tensor) -> Tensor:
        latent = self._model.latent(rows)
        root = latent.root
        if latent.covariance is None:
            root = root * torch.from_numpy(np.sqrt(self._gain)).to(root)
        return expected_softmax(latent.mean, root, self._df)

    def predict(self: Any, X: Any) -> np.ndarray:
        """Return the most probable class.

        Parameters
        ----------
        X : array-like of shape (m, d)
            Rows.

        Returns
        -------
        ndarray of shape (m,)
        """
        proba = self.predict_proba(X)
        return self.classes_[proba.argmax(axis=1)]

    def _blockwise(self: Any, X: Any, function: Callable[[Tensor], Tensor]) -> np.ndarray:
        """Apply a function of rows block by block."""
        check_is_fitted(self)
        with self._context(X), torch.no_grad():
            X = self._checked_rows(X)
            found = [function(rows) for _, rows in blocks(X, len(self.X_fit_))]
            return np.concatenate([to_numpy(part).astype(np.float64) for part in found])
