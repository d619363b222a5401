"""What Gaussian process regressors predict from their model: moments, quantiles, samples."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from sknk._array import as_tensor, compute_device, row_dtype, to_numpy
from sknk._validation import nonnegative_variance
from sknk.gaussian_process._densities import Gaussian, Student
from sknk.solvers._gram import row_blocks

__all__ = ["LOOPrediction", "PredictionMixin", "blocks"]

# Entries of a cross Gram matrix that one block of new rows may have: 128 MiB in float64.
_BLOCK_ENTRIES = 2**24


class LOOPrediction(NamedTuple):
    """Leave-one-out predictions of the training targets.

    Attributes
    ----------
    mean : ndarray of shape (n,) or (n, t)
        Prediction of each row by the others, units of y.
    std : ndarray of shape (n,) or (n, t)
        Standard deviation of a new target there, noise included, units of y.
    log_density : ndarray of shape (n,)
        Log density of each row's targets, nats (of y in its units), summed over outputs.
    """

    mean: np.ndarray
    std: np.ndarray
    log_density: np.ndarray


def blocks(X: np.ndarray, n_fit: int) -> Iterator[tuple[slice, Tensor]]:
    """Yield new rows in blocks, as tensors on the compute device, that keep O(n m) small."""
    device = compute_device()
    size = max(64, _BLOCK_ENTRIES // max(1, n_fit))
    for rows in row_blocks(len(X), size):
        yield rows, as_tensor(X[rows], device, row_dtype(device))


class PredictionMixin:
    """Predictions in units of y; `_model` has the posterior in scaled units."""

    _law: Gaussian | Student
    _gain: np.ndarray
    _n: float

    def predict(
        self: Any,
        X: Any,
        return_std: bool = False,
        return_cov: bool = False,
        return_df: bool = False,
    ) -> Any:
        """Return posterior means of the latent function, and how sure they are.

        Rows are predicted in blocks; standard deviations cost O(n^2) for each row and never a full
        covariance. The noise of new targets is not included: see :meth:`predict_quantiles`.

        Parameters
        ----------
        X : array-like of shape (m, d)
            New rows.
        return_std : bool, default=False
            Also return standard deviations.
        return_cov : bool, default=False
            Also return the full covariance of the rows.
        return_df : bool, default=False
            Also return the degrees of freedom of the predictive distribution, infinite for a
            Gaussian prior.

        Returns
        -------
        mean : ndarray of shape (m,) or (m, t)
            Units of y.
        std : ndarray of shape (m,) or (m, t)
            If `return_std`; units of y.
        cov : ndarray of shape (m, m) or (m, m, t)
            If `return_cov`; units of y squared.
        df : float
            If `return_df`.

        Raises
        ------
        ValueError
            If both `return_std` and `return_cov` are asked for.

        Warns
        -----
        NumericalWarning
            If a variance is negative beyond rounding; it is set to zero.
        """
        if return_std and return_cov:
            raise ValueError(
                "`return_std` and `return_cov` are both True; expected at most one. The diagonal "
                "of the covariance is the squared standard deviation."
            )
        check_is_fitted(self)
        with self._context(X), torch.no_grad():
            X = self._checked_rows(X)
            if return_cov:
                found = self._mean_and_covariance(X)
            elif return_std:
                mean, variance = self._moments(X)
                found = (mean, np.sqrt(variance * self._inflation()))
            else:
                found = (self._means(X),)
        found = tuple(map(self._squeeze, found))
        if return_df:
            found = (*found, self._law.df(self._n))
        return found if len(found) > 1 else found[0]

    def predict_quantiles(
        self, X: Any, quantiles: Any = (0.05, 0.5, 0.95), noise_variance: Any = None
    ) -> np.ndarray:
        """Return quantiles of new targets, noise included.

        Parameters
        ----------
        X : array-like of shape (m, d)
            New rows.
        quantiles : array-like of shape (q,), default=(0.05, 0.5, 0.95)
            Probabilities in (0, 1).
        noise_variance : float or array-like of shape (m,), default=None
            Of the new targets, units of y squared; None is the fitted ``noise_variance_``, which
            a model fitted with one variance per row does not have.

        Returns
        -------
        ndarray of shape (m, q) or (m, q, t)
            Units of y.

        Raises
        ------
        ValueError
            If a probability is outside (0, 1), or `noise_variance` is needed and missing.
        """
        levels = np.atleast_1d(np.asarray(quantiles, dtype=np.float64))
        if levels.ndim != 1 or not ((levels > 0) & (levels < 1)).all():
            raise ValueError(f"`quantiles` is {quantiles!r}; expected probabilities in (0, 1).")
        mean, scale = self._predictive(X, noise_variance)
        steps = self._law.standard(self._n).ppf(levels)
        return self._squeeze(mean[:, None] + steps[None, :, None] * scale[:, None])

    def predict_interval(
        self, X: Any, alpha: float = 0.1, noise_variance: Any = None
    ) -> np.ndarray:
        """Return central intervals that miss a fraction `alpha` of new targets.

        Parameters
        ----------
        X : array-like of shape (m, d)
            New rows.
        alpha : float, default=0.1
            Miscoverage, in (0, 1); dimensionless.
        noise_variance : float or array-like of shape (m,), default=None
            As in :meth:`predict_quantiles`.

        Returns
        -------
        ndarray of shape (m, 2) or (m, 2, t)
            Lower and upper bounds, units of y.

        Raises
        ------
        ValueError
            If `alpha` is outside (0, 1).
        """
        if not 0 < alpha < 1:
            raise ValueError(f"`alpha` is {alpha!r}; expected a miscoverage between 0 and 1.")
        return self.predict_quantiles(X, (alpha / 2, 1 - alpha / 2), noise_variance)

    def predict_log_density(self: Any, X: Any, y: Any, noise_variance: Any = None) -> np.ndarray:
        """Return the log predictive density of targets at new rows, each on its own.

        Parameters
        ----------
        X : array-like of shape (m, d)
            New rows.
        y : array-like of shape (m,) or (m, t)
            Their targets.
        noise_variance : float or array-like of shape (m,), default=None
            As in :meth:`predict_quantiles`.

        Returns
        -------
        ndarray of shape (m,)
            Nats, summed over outputs.

        Raises
        ------
        ValueError
            If y does not have the shape of the predictions.
        """
        mean, scale = self._predictive(X, noise_variance)
        y = np.asarray(to_numpy(y) if isinstance(y, Tensor) else y, dtype=np.float64)
        if y.shape != self._squeeze(mean).shape:
            raise ValueError(
                f"`y` has shape {y.shape}; expected {self._squeeze(mean).shape}, one target for "
                "every prediction."
            )
        return self._log_density(y.reshape(mean.shape), mean, scale, self._n)

    def sample_y(self: Any, X: Any, n_samples: int = 1, random_state: Any = 0) -> np.ndarray:
        """Draw latent functions from the posterior, jointly at the rows.

        Parameters
        ----------
        X : array-like of shape (m, d)
            Rows.
        n_samples : int, default=1
            Draws.
        random_state : int, RandomState or None, default=0
            Seed.

        Returns
        -------
        ndarray of shape (m, n_samples) or (m, t, n_samples)
            Units of y; for a Student prior each draw has its own scale.
        """
        mean, cov = self.predict(X, return_cov=True)
        rng = check_random_state(random_state)
        df = self._law.df(self._n)
        covs = cov[..., None] if cov.ndim == 2 else cov
        means = mean[:, None] if mean.ndim == 1 else mean
        out = np.empty((*means.shape, n_samples))
        for t in range(means.shape[1]):
            z = rng.standard_normal((len(means), n_samples))
            if np.isfinite(df):  # the covariance of a t is df / (df - 2) times its scale
                z *= np.sqrt((df - 2.0) / rng.chisquare(df, n_samples))
            out[:, t] = means[:, t, None] + _root(covs[..., t]) @ z
        return out[:, 0] if mean.ndim == 1 else out

    def loo_predictive(self: Any) -> LOOPrediction:
        """Return leave-one-out predictions of the training targets, in closed form.

        Copies of a row, equal in x and y, are left out together; rows of weight zero are predicted
        from all others. O(n^3), no refit; hyperparameters stay as they are.

        Returns
        -------
        LOOPrediction

        Raises
        ------
        NotImplementedError
            For models without a closed form: gradient flow that stops, variational posteriors.
        """
        check_is_fitted(self)
        with self._context(None), torch.no_grad():
            model = self._model.merged()
            training = model.training
            mean, scale, n = self._leave_one_out(model)
            left = training.group < 0
            mean, scale, n = (v[training.group] for v in (mean, scale, n))
            if left.any():
                mean[left], scale[left] = self._predictive(self.X_fit_[left], self._own_noise(left))
                n[left] = self._n
        Y = self.y_fit_.reshape(mean.shape)
        std = scale * np.sqrt(_inflation(self._law.df(n)))
        density = self._log_density(Y, mean, scale, n)
        return LOOPrediction(self._squeeze(mean), self._squeeze(std), density)

    def _leave_one_out(self: Any, model: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return means and scales (u, t) of new targets at distinct rows, and rows left (u, 1)."""
        data = model.observations
        found = model.leave_one_out()
        mean, variance = (to_numpy(v).astype(np.float64) for v in found)
        variance = nonnegative_variance(variance)
        noise = model.hyper["noise_variance"]
        w = model.training.copies
        n = (self._n - w)[:, None]
        merged = to_numpy(data.ratio).astype(np.float64)[:, None] * noise
        quad = self._quad - (model.Y - mean) ** 2 / (variance + merged)
        gain = self._law.factor(quad, n)
        scale = np.sqrt((variance + merged * w[:, None]) * gain)
        return mean * self._y_scale + self._y_mean, scale * self._y_scale, n

    # --- scaled units to units of y -------------------------------------------------------------

    def _means(self: Any, X: np.ndarray) -> np.ndarray:
        posterior, found = self._model.posterior(), []
        for _, rows in blocks(X, len(self.X_fit_)):
            found.append(to_numpy(posterior.mean(rows)).astype(np.float64))
        return np.concatenate(found) * self._y_scale + self._y_mean

    def _moments(self: Any, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return means and squared scales of the latent function, (m, t) each."""
        posterior, means, variances = self._model.posterior(), [], []
        for _, rows in blocks(X, len(self.X_fit_)):
            mean, variance = posterior.moments(rows)
            means.append(to_numpy(mean).astype(np.float64))
            variances.append(to_numpy(variance).astype(np.float64))
        variance = nonnegative_variance(np.concatenate(variances))
        mean = np.concatenate(means) * self._y_scale + self._y_mean
        return mean, variance * self._gain * self._y_scale**2

    def _mean_and_covariance(self: Any, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        posterior = self._model.posterior()
        rows = as_tensor(X, compute_device(), row_dtype(compute_device()))
        cov = to_numpy(posterior.covariance(rows)).astype(np.float64)
        factor = self._gain * self._y_scale**2 * self._inflation()  # (t,)
        each = cov if cov.ndim == 3 else cov[None]  # (t or 1, m, m)
        return self._means(X), np.moveaxis(each * factor[:, None, None], 0, -1)

    def _predictive(self: Any, X: Any, noise_variance: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return means and scales of new targets, (m, t) each, noise included."""
        check_is_fitted(self)
        with self._context(X), torch.no_grad():
            X = self._checked_rows(X)
            mean, variance = self._moments(X)
        noise = self._new_noise(noise_variance, len(X))
        return mean, np.sqrt(variance + noise * self._gain)

    def _new_noise(self: Any, noise_variance: Any, m: int) -> np.ndarray:
        """Return noise variances of new targets, (m, t) or (t,), units of y squared."""
        if noise_variance is not None:
            given = np.asarray(noise_variance, dtype=np.float64)
            if given.shape not in ((), (m,)) or not (np.isfinite(given) & (given >= 0)).all():
                raise ValueError(
                    f"`noise_variance` is {noise_variance!r}; expected a number or shape ({m},), "
                    "finite and not negative."
                )
            return np.broadcast_to(given, (m,))[:, None]
        if self._model.own is not None:
            raise ValueError(
                "The model was fitted with one `noise_variance` per row, so that of new rows is "
                "not known; pass `noise_variance`."
            )
        return np.atleast_1d(self.noise_variance_)

    def _own_noise(self: Any, left: np.ndarray) -> Any:
        return None if self._model.own is None else np.asarray(self.noise_variance_)[left]

    def _inflation(self: Any) -> Any:
        return _inflation(self._law.df(self._n))

    def _log_density(self: Any, Y: Any, mean: Any, scale: Any, n: Any) -> np.ndarray:
        z = (Y - mean) / scale
        return (self._law.standard(n).logpdf(z) - np.log(scale)).sum(axis=1)

    def _squeeze(self: Any, values: np.ndarray) -> np.ndarray:
        return values[..., 0] if self.y_fit_.ndim == 1 else values


def _inflation(df: Any) -> Any:
    """Return variance over squared scale of Student's t; infinite for two degrees or fewer."""
    df = np.asarray(df, dtype=np.float64)
    finite = np.isfinite(df) & (df > 2)
    return np.where(finite, df / np.where(finite, df - 2.0, 1.0), np.where(df > 2, 1.0, np.inf))


def _root(cov: np.ndarray) -> np.ndarray:
    """Return R with R R' = cov, which may be singular up to rounding."""
    eigenvalues, V = np.linalg.eigh(cov)
    return V * np.sqrt(np.clip(eigenvalues, 0.0, None))
