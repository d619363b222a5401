"""Laws of the targets given their covariance: Gaussian, and its scale mixture."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import stats
from scipy.special import digamma, gammaln

__all__ = ["Gaussian", "LogDensity", "Student"]


class LogDensity(NamedTuple):
    """A log density and its derivatives.

    Attributes
    ----------
    value : float
        Summed over outputs.
    gain : ndarray of shape (t,)
        Minus twice the derivative with respect to ``quad``.
    df : float
        Derivative with respect to the logarithm of the degrees of freedom.
    """

    value: float
    gain: np.ndarray
    df: float = 0.0


@dataclass(frozen=True)
class Gaussian:
    """y ~ N(0, C)."""

    def evidence(self, quad: np.ndarray, logdet: float, n: float) -> LogDensity:
        """Return the log density of the targets, by quad = y' C^-1 y of every output."""
        value = -0.5 * (quad + logdet + n * np.log(2.0 * np.pi)).sum()
        return LogDensity(float(value), np.ones_like(quad))

    def factor(self, quad: np.ndarray, n: float) -> np.ndarray:
        """Return by how much the data rescale predictive variances, (t,)."""
        return np.ones_like(quad)

    def df(self, n: float) -> float:
        """Return the degrees of freedom of predictions."""
        return np.inf

    def standard(self, n: float) -> stats.rv_continuous:
        """Return the law of (y - mean) / scale."""
        return stats.norm()


@dataclass(frozen=True)
class Student:
    r"""y ~ N(0, s C) with s ~ InvGamma(a, a), a = df/2: a multivariate t with df degrees.

    .. math:: \log p = a \log a - \ln\Gamma(a) + \ln\Gamma(a + \tfrac n2) - \tfrac n2 \log 2\pi
        - \tfrac12 \log|C| - (a + \tfrac n2) \log(a + \tfrac12 y^\top C^{-1} y)

    An inverse gamma of rate b instead of a is the same with C times b/a (Tracey and Wolpert 2018).
    """

    prior_df: float

    def evidence(self, quad: np.ndarray, logdet: float, n: float) -> LogDensity:
        """Return the log density of the targets, by quad = y' C^-1 y of every output."""
        a = self.prior_df / 2.0
        rate, shape = a + quad / 2.0, a + n / 2.0
        constant = a * np.log(a) - gammaln(a) + gammaln(shape) - 0.5 * n * np.log(2.0 * np.pi)
        value = (constant - 0.5 * logdet - shape * np.log(rate)).sum()
        slope = np.log(a) + 1.0 - digamma(a) + digamma(shape) - np.log(rate) - shape / rate
        return LogDensity(float(value), shape / rate, float(a * slope.sum()))

    def factor(self, quad: np.ndarray, n: float) -> np.ndarray:
        """Return (df + quad) / (df + n), by how much the data rescale variances, (t,)."""
        return (self.prior_df + quad) / (self.prior_df + n)

    def df(self, n: float) -> float:
        """Return the degrees of freedom of predictions, df + n."""
        return self.prior_df + n

    def standard(self, n: float) -> stats.rv_continuous:
        """Return the law of (y - mean) / scale."""
        return stats.t(self.df(n))
