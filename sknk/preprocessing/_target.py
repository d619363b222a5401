"""Targets with a long tail, made more symmetric."""

import warnings
from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.preprocessing import PowerTransformer

from sknk._validation import Interval, fit_context
from sknk.preprocessing._columnwise import ColumnwiseTransformer
from sknk.preprocessing._scale import SpreadScaler

__all__ = ["SkewTransformer", "skewness"]

# Largest error of a round trip, in units of the training range, that predictions do not notice.
_INVERTIBLE = 1e-6


def skewness(Y: np.ndarray) -> np.ndarray:
    """Return the third standardized moment of each column, 0 for a constant, (t,)."""
    centred = Y - Y.mean(axis=0)
    largest = np.abs(centred).max(axis=0)
    # In units of the largest deviation, so that cubes do not overflow.
    centred = centred / np.where(largest > 0, largest, 1.0)
    variance = (centred**2).mean(axis=0)
    return (centred**3).mean(axis=0) / np.where(variance > 0, variance, 1.0) ** 1.5


class SkewTransformer(ColumnwiseTransformer):
    r"""Yeo-Johnson's power transform where a column is skewed and the transform helps.

    A column whose skewness is at most `threshold` in absolute value, or is not reduced, or whose
    transform could not be inverted in floating point, stays as it is. Otherwise

    .. math:: z = \left( \psi_\lambda((y - c) / s) - m \right) / d

    with the median c and the robust spread s of y (see ``SpreadScaler``), so that neither units nor
    the origin matter, and lambda of maximum likelihood; m and d standardize (Yeo and Johnson 2000,
    doi:10.1093/biomet/87.4.954). The image of the power can be bounded, and scikit-learn's inverse
    is NaN outside it; here values are first clipped to the image of the training range. O(n) time
    an evaluation of the likelihood.

    Parameters
    ----------
    threshold : float, default=1.0
        Skewness to act on, dimensionless; an exponential variable has 2, a normal one 0.
    margin : float, default=0.0
        How far inverses may leave the training range, in units of its length. The inverse of a
        power grows fast there, and each step outside cost squared error on real tables.

    Attributes
    ----------
    powers_ : list of t (PowerTransformer or None)
        None where a column stays as it is.
    center_, unit_ : ndarray of shape (t,)
        Medians and spreads, units of the columns.
    lower_, upper_ : ndarray of shape (t,)
        Bounds of transformed values that are inverted, infinite where a column stays as it is.
    n_features_in_, feature_names_in_ : object
        As in scikit-learn.

    Examples
    --------
    >>> import numpy as np
    >>> from sknk.preprocessing._target import SkewTransformer
    >>> prices = np.exp(np.linspace(0.0, 6.0, 50))[:, None]
    >>> model = SkewTransformer().fit(prices)
    >>> bool(model.transform(prices).max() < 2)
    True
    >>> model.inverse_transform([[1e9]]).round(0)
    array([[403.]])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "threshold": [Interval(Real, 0, None, closed="left")],
        "margin": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(self, *, threshold: float = 1.0, margin: float = 0.0) -> None:
        self.threshold = threshold
        self.margin = margin

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None) -> Self:
        """Decide for every column, and estimate its power.

        Parameters
        ----------
        X : array-like of shape (n, t)
            Training targets.
        y : None
            Ignored.

        Returns
        -------
        self
        """
        X = self._fit_rows(X).astype(np.float64)
        scaler = SpreadScaler().fit(X)
        self.center_ = scaler.center_
        self.unit_ = np.where(np.isfinite(scaler.scale_), scaler.scale_, 1.0)
        self.powers_, bounds = [], []
        for column in ((X - self.center_) / self.unit_).T:
            power, ends = self._power(column[:, None])
            self.powers_.append(power)
            bounds.append(ends)
        self.lower_, self.upper_ = np.array(bounds).T
        return self

    def _power(self, u: np.ndarray) -> tuple[PowerTransformer | None, np.ndarray]:
        """Return the power of one column, (n, 1), and what its bounds become."""
        unchanged = None, np.array([-np.inf, np.inf])
        skew = abs(skewness(u).item())
        if skew <= self.threshold or not np.ptp(u) > 0:
            return unchanged
        # Arrays, whatever `transform_output` is configured.
        power = PowerTransformer().set_output(transform="default").fit(u)
        room = self.margin * np.ptp(u)
        ends = np.array([[u.min() - room], [u.max() + room]])
        images = power.transform(ends)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of NaN, which is what is asked for here
            error = np.abs(power.inverse_transform(images) - ends).max()
        # NaN is not below either. What holds at both ends holds between: the transform is monotone.
        if error <= _INVERTIBLE * np.ptp(u) and abs(skewness(power.transform(u)).item()) < skew:
            return power, images[:, 0]
        return unchanged

    def transform(self, X: Any) -> np.ndarray:
        """Return transformed targets.

        Parameters
        ----------
        X : array-like of shape (m, t)
            Targets.

        Returns
        -------
        ndarray of shape (m, t)
            Standardized where a column is transformed, else in its own units.
        """
        X = self._new_rows(X)
        Z = X.copy()
        for k, power in enumerate(self.powers_):
            if power is not None:
                Z[:, [k]] = power.transform((X[:, [k]] - self.center_[k]) / self.unit_[k])
        return Z

    def inverse_transform(self, X: Any) -> np.ndarray:
        """Return targets in their own units, all finite.

        Parameters
        ----------
        X : array-like of shape (m, t)
            Transformed targets or predictions of them.

        Returns
        -------
        ndarray of shape (m, t)
            Within the training range and the margin where a column is transformed.
        """
        Z = self._transformed_rows(X)
        Y = Z.copy()
        for k, power in enumerate(self.powers_):
            if power is not None:
                inside = np.clip(Z[:, [k]], self.lower_[k], self.upper_[k])
                Y[:, [k]] = self.center_[k] + self.unit_[k] * power.inverse_transform(inside)
        return Y
