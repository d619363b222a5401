"""What Gaussian process classifiers predict from their model: latent values, probabilities."""

from collections.abc import Callable
from numbers import Integral
from typing import Any

import numpy as np
import torch
from sklearn.utils import check_scalar
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from sknk._array import as_tensor, compute_device, row_dtype, to_numpy
from sknk._validation import check_memory, nonnegative_variance
from sknk.gaussian_process._joint import draw_probabilities
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

    def sample_proba(self: Any, X: Any, n_samples: int = 1, random_state: Any = 0) -> np.ndarray:
        r"""Draw class probabilities from the posterior, jointly at the rows.

        .. math:: p_{ics} = \operatorname{softmax}(f_s(x_i))_c, \qquad
            f_s \sim p(f(x_1), \dots, f(x_m) \mid X_{fit}, y_{fit})

        One draw s is one latent function of every class at all rows, so that what two rows share
        is seen: their mutual information, which BatchBALD needs. The mean over draws is
        :meth:`predict_proba`; one draw of "student" has one scale. Copies of a row get the same
        numbers, and the order of rows does not matter.

        O(C (n^2 m + n m^2 + m^3 + m^2 S)) time for S draws, n being `rank` for "variational"; 48
        m^2 + 24 n m + 24 m C S bytes.

        Parameters
        ----------
        X : array-like of shape (m, d)
            Rows.
        n_samples : int, default=1
            Draws.
        random_state : int, RandomState or None, default=0
            Seed of a private generator.

        Returns
        -------
        ndarray of shape (m, C, n_samples)
            Sums over the classes are 1.

        Raises
        ------
        TypeError
            If `n_samples` is no whole number.
        ValueError
            If `n_samples` is below 1.
        MemoryBudgetError
            If the covariance of the rows, or the draws, do not fit.

        See Also
        --------
        predict_proba : The expectation, without m x m matrices.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from sknk import NTKGaussianProcessClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> model = NTKGaussianProcessClassifier().fit(X[::3], y[::3])
        >>> p = model.sample_proba(X[1::3], n_samples=100)
        >>> p.shape
        (50, 3, 100)
        >>> mean = p.mean(axis=2)
        >>> entropy = -(mean * np.log(mean)).sum(axis=1)
        >>> given_f = -(p * np.log(p)).sum(axis=1).mean(axis=1)
        >>> bool((entropy > given_f).all())  # BALD: what a label says about f
        True
        """
        check_is_fitted(self)
        check_scalar(n_samples, "n_samples", Integral, min_val=1)
        with self._context(X), torch.no_grad():
            rows, copy = np.unique(self._checked_rows(X) + 0.0, axis=0, return_inverse=True)
            device, n_classes = compute_device(), len(self.classes_)
            check_memory(
                24.0 * len(copy) * n_classes * n_samples,
                device,
                what=f"{n_samples} draws of {len(copy)} rows and {n_classes} classes",
                instead="Use fewer draws (`n_samples`) or rows.",
            )
            law = self._model.joint(as_tensor(rows, device, row_dtype(device)))
            drawn = draw_probabilities(law, self._gain, self._df, n_samples, random_state)
            return to_numpy(drawn).astype(np.float64, copy=False)[copy.ravel()]

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
