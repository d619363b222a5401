"""Reliability diagrams of classifiers with two or more classes."""

from typing import Any, Self

import numpy as np

from sknk.inspection._checks import check_choice, check_count, check_fraction
from sknk.inspection._estimators import last_step
from sknk.inspection._plotting import (
    SQUARE,
    axes_on,
    binomial_band,
    draw_diagonal,
    percent,
    pyplot,
    style,
)
from sknk.inspection._reliability import STRATEGIES, check_forecast

__all__ = ["CalibrationDisplay"]

TARGETS = ("top", "classes")
_MOST_INSIDE = 4


class CalibrationDisplay:
    r"""Reliability diagram: how often what has probability p happens.

    .. math:: \text{conf}_b = \frac{1}{n_b} \sum_{i \in b} p_i, \qquad
        \text{acc}_b = \frac{1}{n_b} \sum_{i \in b} 1[\text{event}_i]

    Points on the diagonal are calibrated; below it a classifier is too sure, above not sure
    enough. The event is "the most probable class is right" (top-label reliability), or "this class
    occurs". The bars show where a bin of a calibrated classifier lies by chance alone, binomially.
    The legend has the expected calibration error of the drawn bins, see
    `expected_calibration_error`. Create it by `from_estimator` or `from_predictions`.

    Parameters
    ----------
    prob_true, prob_pred : ndarray of shape (b,) or list of such
        Observed frequency and mean probability in each bin with rows; a list has one array for
        each class.
    rows : ndarray of shape (b,) or list of such
        Number of rows in those bins; of weighted rows the effective one.
    error : float or list of float
        Expected calibration error, dimensionless.
    label : object or list of object, default=None
        The classes; None for top-label reliability.
    name : str, default=None
        Name of the classifier in the legend.
    band_level : float, default=0.9
        Probability that a calibrated bin lies in its bar; None draws no bars.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Where it is drawn.
    figure_ : matplotlib Figure
        The figure of those axes.
    line_ : matplotlib Line2D or list of Line2D
        The curve; a list where `prob_true` is one.
    band_ : matplotlib LineCollection or None
        The bars; None for several curves.

    See Also
    --------
    expected_calibration_error : The number alone.
    CoverageDisplay : The same question for regressors.

    Notes
    -----
    Bars take all probabilities of a bin for equal to their mean, which makes them a little too
    long (Bröcker and Smith 2007, https://doi.org/10.1175/WAF993.1, resample instead).

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from sklearn.model_selection import train_test_split
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sknk import NTKRidgeClassifier
    >>> from sknk.inspection import CalibrationDisplay
    >>> X, y = load_wine(return_X_y=True)
    >>> X, X_test, y, y_test = train_test_split(X, y, test_size=0.5, random_state=0)
    >>> model = make_pipeline(StandardScaler(), NTKRidgeClassifier()).fit(X, y)
    >>> display = CalibrationDisplay.from_estimator(model, X_test, y_test, n_bins=5)
    >>> bool(display.error < 0.1)
    True
    """

    ax_: Any
    figure_: Any
    line_: Any
    band_: Any

    def __init__(
        self,
        prob_true: Any,
        prob_pred: Any,
        rows: Any,
        error: Any,
        *,
        label: Any = None,
        name: str | None = None,
        band_level: float | None = 0.9,
    ) -> None:
        self.prob_true = prob_true
        self.prob_pred = prob_pred
        self.rows = rows
        self.error = error
        self.label = label
        self.name = name
        self.band_level = band_level

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        target: str = "top",
        pos_label: Any = None,
        n_bins: int = 15,
        strategy: str = "uniform",
        sample_weight: Any = None,
        name: str | None = None,
        ax: Any = None,
        band_level: float | None = 0.9,
        **line_kw: Any,
    ) -> Self:
        """Predict probabilities of rows the classifier has not seen, and draw.

        Parameters
        ----------
        estimator : estimator
            Fitted classifier with ``predict_proba``.
        X : array-like of shape (n, d)
            Rows outside the training set.
        y : array-like of shape (n,)
            Their labels.
        target : {"top", "classes"}, default="top"
            One curve for the most probable class of each row, or one for every class.
        pos_label : object, default=None
            One curve for this class, in place of `target`.
        n_bins : int, default=15
            Bins of the unit interval; empty ones are not drawn.
        strategy : {"uniform", "quantile"}, default="uniform"
            Bins of equal width, or of equally many rows.
        sample_weight : array-like of shape (n,), default=None
            Weights of the rows.
        name : str, default=None
            Name in the legend; None is the estimator's class, where there is one curve.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.
        band_level : float, default=0.9
            Probability that a calibrated bin lies in its bar; None draws no bars.
        **line_kw : dict
            Style of the lines.

        Returns
        -------
        CalibrationDisplay

        Raises
        ------
        TypeError
            If the estimator has no ``predict_proba``, or one that returns no array.
        ValueError
            If a label or a parameter is not as described.
        ImportError
            If matplotlib is not installed.
        """
        pyplot(f"{cls.__name__}.from_estimator")
        model = last_step(estimator)
        if not hasattr(estimator, "predict_proba"):
            raise TypeError(
                f"{type(model).__name__} has no `predict_proba`; expected a classifier with "
                "probabilities. Wrap it in sklearn.calibration.CalibratedClassifierCV."
            )
        if name is None and target != "classes":
            name = type(model).__name__
        prob = estimator.predict_proba(X)
        if isinstance(prob, list):
            raise TypeError(
                f"{type(model).__name__}.predict_proba returned a list of {len(prob)} arrays; "
                "expected one array. Pass those of one target to `from_predictions`."
            )
        return cls.from_predictions(
            y,
            prob,
            classes=estimator.classes_,
            target=target,
            pos_label=pos_label,
            n_bins=n_bins,
            strategy=strategy,
            sample_weight=sample_weight,
            name=name,
            ax=ax,
            band_level=band_level,
            **line_kw,
        )

    @classmethod
    def from_predictions(
        cls,
        y_true: Any,
        y_prob: Any,
        *,
        classes: Any = None,
        target: str = "top",
        pos_label: Any = None,
        n_bins: int = 15,
        strategy: str = "uniform",
        sample_weight: Any = None,
        name: str | None = None,
        ax: Any = None,
        band_level: float | None = 0.9,
        **line_kw: Any,
    ) -> Self:
        """Draw probabilities that are known already.

        Parameters
        ----------
        y_true : array-like of shape (n,)
            Labels.
        y_prob : array-like of shape (n, c), or (n,) for the second of two classes
            Probabilities; rows sum to one.
        classes : array-like of shape (c,), default=None
            Labels of the columns; None is the sorted labels of `y_true`.
        target : {"top", "classes"}, default="top"
            One curve for the most probable class of each row, or one for every class.
        pos_label : object, default=None
            One curve for this class, in place of `target`.
        n_bins : int, default=15
            Bins of the unit interval; empty ones are not drawn.
        strategy : {"uniform", "quantile"}, default="uniform"
            Bins of equal width, or of equally many rows.
        sample_weight : array-like of shape (n,), default=None
            Weights of the rows.
        name : str, default=None
            Name in the legend.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.
        band_level : float, default=0.9
            Probability that a calibrated bin lies in its bar; None draws no bars.
        **line_kw : dict
            Style of the lines.

        Returns
        -------
        CalibrationDisplay

        Raises
        ------
        ValueError
            If shapes do not fit, a label is unknown, or rows are no probabilities.
        ImportError
            If matplotlib is not installed.

        Examples
        --------
        >>> import numpy as np
        >>> from sknk.inspection import CalibrationDisplay
        >>> chance = np.linspace(0.02, 0.98, 49)
        >>> happened = (np.arange(49) * 0.618) % 1 < chance
        >>> display = CalibrationDisplay.from_predictions(
        ...     happened, chance, pos_label=True, n_bins=4
        ... )
        >>> display.rows
        array([12., 13., 12., 12.])
        """
        pyplot(f"{cls.__name__}.from_predictions")
        n_bins = check_count(n_bins, "n_bins", 1)
        check_choice(strategy, "strategy", STRATEGIES)
        check_choice(target, "target", TARGETS)
        if pos_label is not None and target != "top":
            raise ValueError(
                f"`pos_label` is {pos_label!r} and `target` is {target!r}; expected one of them. "
                "Leave `target` out for one class."
            )
        forecast = check_forecast(y_true, y_prob, classes, sample_weight)
        several = target == "classes"
        if several:
            found = [forecast.of(c, n_bins, strategy) for c in range(len(forecast.classes))]
        elif pos_label is None:
            found = [forecast.top(n_bins, strategy)]
        else:
            found = [forecast.of(forecast.column(pos_label), n_bins, strategy)]

        def curves(field: str) -> Any:
            values = [getattr(curve, field) for curve in found]
            return values if several else values[0]

        display = cls(
            curves("prob_true"),
            curves("prob_pred"),
            curves("rows"),
            curves("error"),
            label=forecast.classes if several else pos_label,
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
            Style of the lines.

        Returns
        -------
        CalibrationDisplay
            Itself, with the artists as attributes.

        Raises
        ------
        ValueError
            If `band_level` is no probability.
        ImportError
            If matplotlib is not installed.
        """
        ax = axes_on(ax, f"{type(self).__name__}.plot", SQUARE)
        name = self.name if name is None else name
        draw_diagonal(ax, "calibrated")
        if isinstance(self.prob_true, list):
            curves = zip(self.prob_pred, self.prob_true, self.error, self.label, strict=True)
            self.line_ = [
                _draw_curve(ax, pred, true, error, [name, label], line_kw)
                for pred, true, error, label in curves
            ]
            self.band_ = None
        else:
            self.line_ = _draw_curve(
                ax, self.prob_pred, self.prob_true, self.error, [name], line_kw
            )
            self.band_ = self._draw_bars(ax)
        ax.set(**self._axis_labels())
        # A list of many classes would cover the curves.
        beside = isinstance(self.line_, list) and len(self.line_) > _MOST_INSIDE
        place = {"loc": "center left", "bbox_to_anchor": (1.0, 0.5)} if beside else {}
        ax.legend(fontsize="small", frameon=not beside, **place)
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _draw_bars(self, ax: Any) -> Any:
        """Draw where bins of a calibrated classifier lie by chance."""
        if self.band_level is None:
            return None
        level = check_fraction(self.band_level, "band_level", "the probability of the bars")
        lower, upper = binomial_band(self.rows, self.prob_pred, level)
        label = f"{percent(level)} by chance"
        seen = label in ax.get_legend_handles_labels()[1]
        return ax.vlines(
            self.prob_pred,
            lower,
            upper,
            color=self.line_.get_color(),
            alpha=0.25,
            linewidth=6.0,
            zorder=1.5,
            label=None if seen else label,
        )

    def _axis_labels(self) -> dict[str, str]:
        """Return the labels of the axes."""
        if isinstance(self.prob_true, list):
            return {"xlabel": "mean predicted probability", "ylabel": "observed frequency"}
        if self.label is None:
            return {"xlabel": "mean probability of the top class", "ylabel": "accuracy"}
        return {
            "xlabel": f"mean predicted probability of class {self.label}",
            "ylabel": f"observed frequency of class {self.label}",
        }


def _draw_curve(
    ax: Any,
    prob_pred: np.ndarray,
    prob_true: np.ndarray,
    error: float,
    names: list[Any],
    line_kw: dict[str, Any],
) -> Any:
    """Draw one curve and return its line."""
    from matplotlib.lines import Line2D

    known = ", ".join(str(name) for name in names if name is not None)
    label = f"{known} (ECE {error:.3f})" if known else f"ECE {error:.3f}"
    default = {"marker": "o", "markersize": 4.5, "label": label}
    (line,) = ax.plot(prob_pred, prob_true, **style(Line2D, default, line_kw))
    return line
