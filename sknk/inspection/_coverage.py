"""Nominal against observed coverage of a regressor's intervals."""

from typing import Any, Self

import numpy as np
from scipy.special import ndtri

from sknk.inspection._checks import (
    as_array,
    check_fraction,
    check_vector,
    effective_rows,
    row_weights,
)
from sknk.inspection._estimators import (
    check_std,
    gaussian_prediction,
    interval_prediction,
    last_step,
)
from sknk.inspection._plotting import (
    SQUARE,
    axes_on,
    binomial_band,
    draw_diagonal,
    percent,
    pyplot,
    style,
)

__all__ = ["CoverageDisplay"]


class CoverageDisplay:
    r"""Coverage diagram: whether intervals hold as many new targets as they promise.

    .. math:: \hat c(\ell) = \frac{\sum_i w_i\, 1[\text{lower}_{\ell, i} \le y_i \le
        \text{upper}_{\ell, i}]}{\sum_i w_i}

    Points on the diagonal keep the promise; above it intervals are too wide, below too narrow
    (Kuleshov, Fenner and Ermon 2018, https://doi.org/10.48550/arXiv.1807.00263). The band shows
    where the points of an honest model lie by chance alone: n independent rows, each covered with
    probability :math:`\ell`. It holds for single levels; points of one curve share their rows. The
    legend has the mean distance to the diagonal. Create it by `from_estimator` or
    `from_predictions`.

    Parameters
    ----------
    levels : ndarray of shape (l,)
        Nominal coverages in increasing order, in (0, 1).
    observed : ndarray of shape (l,)
        Fraction of targets inside, in [0, 1].
    n_rows : float
        Rows behind a fraction; of weighted ones the effective number (sum w)^2 / sum w^2.
    name : str, default=None
        Name of the regressor in the legend.
    band_level : float, default=0.9
        Probability that an honest model's point lies in the band; None draws no band.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Where it is drawn.
    figure_ : matplotlib Figure
        The figure of those axes.
    line_ : matplotlib Line2D
        The curve.
    band_ : matplotlib PolyCollection or None
        The band; None if another display has drawn the same.

    See Also
    --------
    GPPredictionDisplay : The intervals themselves.
    CalibrationDisplay : The same question for classifiers.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sknk import NTKRidge
    >>> from sknk.inspection import CoverageDisplay
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = make_pipeline(StandardScaler(), NTKRidge(alpha=1.0)).fit(X[::2], y[::2])
    >>> display = CoverageDisplay.from_estimator(model, X[1::2], y[1::2], levels=[0.5, 0.8, 0.95])
    >>> bool(display.coverage_error < 0.05)
    True
    """

    ax_: Any
    figure_: Any
    line_: Any
    band_: Any

    def __init__(
        self,
        levels: np.ndarray,
        observed: np.ndarray,
        n_rows: float,
        *,
        name: str | None = None,
        band_level: float | None = 0.9,
    ) -> None:
        self.levels = levels
        self.observed = observed
        self.n_rows = n_rows
        self.name = name
        self.band_level = band_level

    @property
    def coverage_error(self) -> float:
        """Mean distance between observed and nominal coverage; dimensionless."""
        return float(np.abs(self.observed - self.levels).mean())

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        levels: Any = None,
        sample_weight: Any = None,
        name: str | None = None,
        ax: Any = None,
        band_level: float | None = 0.9,
        **line_kw: Any,
    ) -> Self:
        """Predict intervals of rows the regressor has not seen, and draw.

        Parameters
        ----------
        estimator : estimator
            Fitted regressor, or a pipeline or search that ends in one. Its
            ``predict_interval(X, alpha=1 - level)`` is asked where it has one, else the Gaussian
            law of ``predict(X, return_std=True)``, whose std should contain the noise.
        X : array-like of shape (m, d)
            Rows outside the training set.
        y : array-like of shape (m,)
            Their targets.
        levels : array-like of shape (l,), default=None
            Nominal coverages, in (0, 1); None is 0.05, 0.1, ..., 0.95. Each costs a call of
            ``predict_interval``.
        sample_weight : array-like of shape (m,), default=None
            Weights of the rows.
        name : str, default=None
            Name in the legend; None is the estimator's class.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.
        band_level : float, default=0.9
            Probability that an honest model's point lies in the band; None draws no band.
        **line_kw : dict
            Style of the line.

        Returns
        -------
        CoverageDisplay

        Raises
        ------
        TypeError
            If the estimator predicts neither intervals nor standard deviations.
        ValueError
            If targets or levels are not as described.
        ImportError
            If matplotlib is not installed.
        """
        pyplot(f"{cls.__name__}.from_estimator")
        target, nominal = check_vector(y, "y"), _check_levels(levels)
        given: dict[str, Any] = {"intervals": interval_prediction(estimator, X, nominal)}
        if given["intervals"] is None:
            mean, std = gaussian_prediction(estimator, X)
            given = {"mean": mean, "std": std}
        return cls.from_predictions(
            target,
            **given,
            levels=nominal,
            sample_weight=sample_weight,
            name=type(last_step(estimator)).__name__ if name is None else name,
            ax=ax,
            band_level=band_level,
            **line_kw,
        )

    @classmethod
    def from_predictions(
        cls,
        y_true: Any,
        intervals: Any = None,
        levels: Any = None,
        *,
        mean: Any = None,
        std: Any = None,
        sample_weight: Any = None,
        name: str | None = None,
        ax: Any = None,
        band_level: float | None = 0.9,
        **line_kw: Any,
    ) -> Self:
        """Draw intervals, or Gaussian predictions, that are known already.

        Parameters
        ----------
        y_true : array-like of shape (m,)
            Targets.
        intervals : array-like of shape (l, m, 2), default=None
            Lower and upper bounds at each level, units of y; infinite ones are allowed. Either
            these or `mean` and `std`.
        levels : float or array-like of shape (l,), default=None
            Nominal coverages in any order, in (0, 1). Must be given with `intervals`; else None
            is 0.05, 0.1, ..., 0.95.
        mean, std : array-like of shape (m,), default=None
            Of Gaussian predictive laws of the targets, noise included; units of y.
        sample_weight : array-like of shape (m,), default=None
            Weights of the rows.
        name : str, default=None
            Name in the legend.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.
        band_level : float, default=0.9
            Probability that an honest model's point lies in the band; None draws no band.
        **line_kw : dict
            Style of the line.

        Returns
        -------
        CoverageDisplay

        Raises
        ------
        ValueError
            If shapes do not fit, bounds are reversed or a level is no probability.
        ImportError
            If matplotlib is not installed.

        Examples
        --------
        >>> import numpy as np
        >>> from sknk.inspection import CoverageDisplay
        >>> y = np.array([0.1, -0.4, 1.2, -2.0])
        >>> display = CoverageDisplay.from_predictions(
        ...     y, mean=np.zeros(4), std=np.ones(4), levels=[0.5, 0.9]
        ... )
        >>> display.observed
        array([0.5 , 0.75])
        """
        pyplot(f"{cls.__name__}.from_predictions")
        y = check_vector(y_true, "y_true")
        if (intervals is None) == (mean is None) or (mean is None) != (std is None):
            given = {"intervals": intervals, "mean": mean, "std": std}
            found = [key for key, value in given.items() if value is not None]
            raise ValueError(
                f"Of the predictions {found} are given; expected either `intervals`, or `mean` and "
                "`std`."
            )
        if intervals is None:
            nominal = _check_levels(levels)
            bounds = _gaussian_intervals(mean, std, nominal, len(y))
        elif levels is None:
            raise ValueError("`levels` is None; expected the nominal coverage of each interval.")
        else:
            nominal = _check_levels(levels)
            bounds = _check_intervals(intervals, len(nominal), len(y))
        weights = row_weights(sample_weight, y)
        inside = (bounds[..., 0] <= y) & (y <= bounds[..., 1])  # (l, m)
        order = np.argsort(nominal)
        display = cls(
            nominal[order],
            (inside @ weights / weights.sum())[order],
            effective_rows(weights),
            name=name,
            band_level=band_level,
        )
        return display.plot(ax, **line_kw)

    def plot(self, ax: Any = None, *, name: str | None = None, **line_kw: Any) -> Self:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where; None makes a figure.
        name : str, default=None
            Name in the legend; None is that of the display.
        **line_kw : dict
            Style of the line.

        Returns
        -------
        CoverageDisplay
            Itself, with the artists as attributes.

        Raises
        ------
        ValueError
            If `band_level` is no probability.
        ImportError
            If matplotlib is not installed.
        """
        ax = axes_on(ax, f"{type(self).__name__}.plot", SQUARE)
        from matplotlib.lines import Line2D

        name = self.name if name is None else name
        gap = f"mean gap {self.coverage_error:.3f}"
        label = gap if name is None else f"{name} ({gap})"
        default = {"marker": "o", "markersize": 4.5, "label": label}
        draw_diagonal(ax, "as promised")
        self.band_ = self._draw_band(ax)
        (self.line_,) = ax.plot(self.levels, self.observed, **style(Line2D, default, line_kw))
        ax.set(xlabel="nominal coverage", ylabel="observed coverage")
        ax.legend(fontsize="small")
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _draw_band(self, ax: Any) -> Any:
        """Draw where points of an honest model lie by chance."""
        if self.band_level is None:
            return None
        level = check_fraction(self.band_level, "band_level", "the probability of the band")
        label = f"{percent(level)} by chance, {self.n_rows:.0f} rows"
        if label in ax.get_legend_handles_labels()[1]:
            return None
        chance = np.linspace(0.0, 1.0, 201)
        lower, upper = binomial_band(self.n_rows, chance, level)
        return ax.fill_between(
            chance, lower, upper, color="0.5", alpha=0.2, linewidth=0.0, label=label
        )


def _check_levels(levels: Any) -> np.ndarray:
    """Return nominal coverages (l,); None is 0.05, 0.1, ..., 0.95."""
    if levels is None:
        return np.arange(1, 20) / 20
    found = check_vector(np.atleast_1d(as_array(levels)), "levels")
    bad = (found <= 0) | (found >= 1)
    if bad.any():
        raise ValueError(
            f"`levels` holds {found[bad][0]}; expected coverages between 0 and 1, such as 0.9 for "
            "90 %."
        )
    return found


def _gaussian_intervals(mean: Any, std: Any, levels: np.ndarray, rows: int) -> np.ndarray:
    """Return central intervals of Gaussian laws, (l, m, 2)."""
    centre = check_vector(mean, "mean", rows=rows)
    z = ndtri((1.0 + levels) / 2.0)
    half = z[:, None] * check_std(std, rows)
    return np.stack([centre - half, centre + half], axis=-1)


def _check_intervals(intervals: Any, n_levels: int, rows: int) -> np.ndarray:
    """Return bounds (l, m, 2), lower first."""
    bounds = as_array(intervals).astype(np.float64)
    if n_levels == 1 and bounds.ndim == 2:
        bounds = bounds[None]
    if bounds.shape != (n_levels, rows, 2):
        raise ValueError(
            f"`intervals` has shape {bounds.shape}; expected ({n_levels}, {rows}, 2), one pair of "
            "bounds for each level and row."
        )
    wrong = ~(bounds[..., 0] <= bounds[..., 1])
    if wrong.any():
        level, row = np.argwhere(wrong)[0].tolist()
        raise ValueError(
            f"`intervals` holds {bounds[level, row].tolist()} at level {level}, row {row}; "
            "expected lower <= upper. The lower bound comes first."
        )
    return bounds
