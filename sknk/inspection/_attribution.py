"""Training rows that helped or harmed, the most helpful first."""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import check_is_fitted

from sknk.inspection._checks import as_array, check_count, check_vector
from sknk.inspection._plotting import axes_on, pyplot, style

__all__ = ["AttributionDisplay"]

_COLORS = {"helpful": "C0", "harmful": "C3"}


class AttributionDisplay:
    """The most helpful and the most harmful training rows, beside the values of all.

    Bars are values: of one prediction where test rows are given, else of the whole model. Rows with
    positive values are helpful. The histogram beside them has the values of all rows, with a tick
    for every bar; counts are logarithmic, as most values are small. Create it by `from_estimator`
    or `from_predictions`.

    Parameters
    ----------
    values : ndarray of shape (n,)
        In units of the utility, or of the prediction.
    labels : list of str
        n names of training rows, or of groups.
    k : int, default=10
        At most so many are drawn of either kind.
    std_error : ndarray of shape (n,), default=None
        Standard errors of the values.
    name : str, default="value"
        What the axes call a value.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Where the bars are.
    histogram_ax_ : matplotlib Axes or None
        Where the histogram is, if anywhere.
    figure_ : matplotlib Figure
        The figure of those axes.
    helpful_, harmful_ : ndarray of shape (<= k,)
        Rows that are drawn, the largest value first, and the smallest first.
    bars_ : dict of str to matplotlib BarContainer
        "helpful" and "harmful".
    text_ : matplotlib Text or None
        What the rows between hold; None where all are drawn.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sknk import NTKRidgeClassifier
    >>> from sknk.attribution import RepresenterAttributor
    >>> from sknk.inspection import AttributionDisplay
    >>> X, y = load_iris(return_X_y=True)
    >>> representer = RepresenterAttributor(NTKRidgeClassifier(alpha=0.1)).fit(X[::2], y[::2])
    >>> display = AttributionDisplay.from_estimator(representer, X[1::2], y[1::2], row=3, k=5)
    >>> len(display.helpful_)
    5
    """

    ax_: Any
    histogram_ax_: Any
    figure_: Any
    helpful_: np.ndarray
    harmful_: np.ndarray
    bars_: dict[str, Any]
    text_: Any

    def __init__(
        self,
        values: np.ndarray,
        labels: list[str],
        *,
        k: int = 10,
        std_error: np.ndarray | None = None,
        name: str = "value",
    ) -> None:
        self.values = values
        self.labels = labels
        self.k = k
        self.std_error = std_error
        self.name = name

    @classmethod
    def from_estimator(
        cls,
        attributor: Any,
        X_test: Any = None,
        y_test: Any = None,
        *,
        row: int = 0,
        k: int = 10,
        labels: Any = None,
        name: str | None = None,
        ax: Any = None,
        histogram_kw: Mapping[str, Any] | None = None,
        **bar_kw: Any,
    ) -> Self:
        """Draw the values of a model's rows, or those for one prediction.

        Parameters
        ----------
        attributor : attributor or SurrogateExplainer
            Fitted.
        X_test : array-like of shape (m, d), default=None
            Test rows; None draws the values of the whole model.
        y_test : array-like of shape (m,), default=None
            Their targets; a SurrogateExplainer without any explains what the network predicts.
        row : int, default=0
            The test row whose prediction is drawn.
        k : int, default=10
            At most so many rows are drawn of either kind.
        labels : array-like of shape (n,), default=None
            Names of the training rows; None is "row 0" and so on, or those of groups.
        name : str, default=None
            What the axes call a value; None is the class of the attributor.
        ax : matplotlib Axes or pair of Axes, default=None
            Where to draw; one draws the bars alone, None makes a figure of two.
        histogram_kw : dict, default=None
            Style of the histogram.
        **bar_kw : dict
            Style of the bars.

        Returns
        -------
        AttributionDisplay

        Raises
        ------
        ValueError
            If a parameter is not as described.
        ImportError
            If matplotlib is not installed.
        """
        pyplot(f"{cls.__name__}.from_estimator")
        check_is_fitted(attributor)
        error = None
        if X_test is not None:
            values = _of_one(attributor, X_test, y_test, row)
        elif hasattr(attributor, "explain"):
            raise ValueError(
                f"`X_test` is None; expected rows, as {type(attributor).__name__} explains single "
                "predictions."
            )
        else:
            values = attributor.values_
            error = attributor.std_error_ if np.any(attributor.std_error_) else None
        if labels is None and hasattr(attributor, "groups_"):
            labels = [str(group) for group in attributor.groups_]
        return cls.from_predictions(
            values,
            k=k,
            labels=labels,
            std_error=error,
            name=f"value by {type(attributor).__name__}" if name is None else name,
            ax=ax,
            histogram_kw=histogram_kw,
            **bar_kw,
        )

    @classmethod
    def from_predictions(
        cls,
        values: Any,
        *,
        k: int = 10,
        labels: Any = None,
        std_error: Any = None,
        name: str = "value",
        ax: Any = None,
        histogram_kw: Mapping[str, Any] | None = None,
        **bar_kw: Any,
    ) -> Self:
        """Draw values that are known already.

        Parameters
        ----------
        values : array-like of shape (n,)
            Values of training rows; positive is helpful.
        k, labels, name, ax, histogram_kw : object
            As in :meth:`from_estimator`.
        std_error : array-like of shape (n,), default=None
            Standard errors of the values.
        **bar_kw : dict
            Style of the bars.

        Returns
        -------
        AttributionDisplay

        Raises
        ------
        ValueError
            If lengths differ, values are not finite or `k` is below 1.
        ImportError
            If matplotlib is not installed.

        Examples
        --------
        >>> from sknk.inspection import AttributionDisplay
        >>> display = AttributionDisplay.from_predictions([0.3, -0.1, 0.0, 0.5], k=2)
        >>> display.helpful_, display.harmful_
        (array([3, 0]), array([1]))
        """
        pyplot(f"{cls.__name__}.from_predictions")
        found = check_vector(values, "values")
        n = len(found)
        error = None if std_error is None else check_vector(std_error, "std_error", rows=n)
        names = [f"row {i}" for i in range(n)] if labels is None else _names(labels, n)
        display = cls(found, names, k=check_count(k, "k", 1), std_error=error, name=name)
        return display.plot(ax, histogram_kw=histogram_kw, **bar_kw)

    def plot(
        self, ax: Any = None, *, histogram_kw: Mapping[str, Any] | None = None, **bar_kw: Any
    ) -> Self:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes or pair of Axes, default=None
            Where; one draws the bars alone, None makes a figure of two.
        histogram_kw : dict, default=None
            Style of the histogram.
        **bar_kw : dict
            Style of the bars.

        Returns
        -------
        AttributionDisplay
            Itself, with the artists as attributes.

        Raises
        ------
        ValueError
            If `ax` is neither one nor two.
        ImportError
            If matplotlib is not installed.
        """
        order = np.argsort(-self.values, kind="stable")
        self.helpful_ = order[self.values[order] > 0][: self.k]
        self.harmful_ = order[::-1][self.values[order[::-1]] < 0][: self.k]
        self.ax_, self.histogram_ax_ = self._axes(ax)
        self.figure_ = self.ax_.figure
        self._draw_bars(bar_kw)
        if self.histogram_ax_ is not None:
            self._draw_histogram(histogram_kw)
        return self

    def _axes(self, ax: Any) -> tuple[Any, Any]:
        caller = f"{type(self).__name__}.plot"
        if ax is None:
            bars = max(len(self.helpful_) + len(self.harmful_), 4)
            _, (left, right) = pyplot(caller).subplots(
                1, 2, figsize=(8.4, 1.4 + 0.26 * bars), layout="constrained", width_ratios=[1.5, 1]
            )
            return left, right
        pyplot(caller)
        if hasattr(ax, "plot") or isinstance(ax, str):
            return axes_on(ax, caller), None
        given = list(np.ravel(ax))
        if len(given) != 2:
            raise ValueError(
                f"`ax` holds {len(given)} axes; expected one for the bars, or a second for the "
                "histogram."
            )
        return axes_on(given[0], caller), axes_on(given[1], caller)

    def _draw_bars(self, kw: Mapping[str, Any]) -> None:
        """Draw helpful rows from the top, harmful ones below, the worst last."""
        from matplotlib.patches import Rectangle

        ax, low = self.ax_, len(self.helpful_) + (1 if len(self.helpful_) else 0)
        drawn = {"helpful": self.helpful_, "harmful": self.harmful_[::-1]}
        places = {"helpful": np.arange(len(self.helpful_)), "harmful": low + np.arange(self.k)}
        self.bars_ = {}
        ticks: list[float] = []
        names: list[str] = []
        for kind, rows in drawn.items():
            at = places[kind][: len(rows)]
            error = None if self.std_error is None else self.std_error[rows]
            default = {"height": 0.75, "color": _COLORS[kind], "label": f"{kind} rows"}
            chosen = style(Rectangle, default, kw)
            self.bars_[kind] = ax.barh(at, self.values[rows], xerr=error, **chosen)
            ticks.extend(at)
            names.extend(self.labels[i] for i in rows)
        ax.axvline(0.0, color="0.3", linewidth=0.8)
        ax.set_yticks(ticks, names)
        last = max(low + len(self.harmful_), 1)
        ax.set(ylim=(last - 0.4, -0.6), xlabel=self.name)
        self.text_ = self._draw_rest(ax, low - 1)

    def _draw_rest(self, ax: Any, place: float) -> Any:
        """Say what the rows between hold."""
        drawn = np.concatenate([self.helpful_, self.harmful_])
        rest = len(self.values) - len(drawn)
        if not rest or not len(self.helpful_):
            return None
        total = self.values.sum() - self.values[drawn].sum()
        note = f"{rest} others, sum {total:.3g}"
        where = {"ha": "center", "va": "center", "transform": ax.get_yaxis_transform()}
        paper = {"facecolor": ax.get_facecolor(), "edgecolor": "none", "pad": 1.0}
        return ax.text(0.5, place, note, fontsize="small", color="0.35", bbox=paper, **where)

    def _draw_histogram(self, kw: Mapping[str, Any] | None) -> None:
        from matplotlib.patches import Polygon

        ax = self.histogram_ax_
        default = {"color": "0.7", "bins": min(60, max(10, len(self.values) // 5))}
        ax.hist(self.values, **style(Polygon, default, kw))
        for kind, rows in (("helpful", self.helpful_), ("harmful", self.harmful_)):
            ticks = {
                "color": _COLORS[kind],
                "linewidth": 1.0,
                "transform": ax.get_xaxis_transform(),
            }
            ax.vlines(self.values[rows], 0.0, 0.06, **ticks)
        ax.axvline(0.0, color="0.3", linewidth=0.8)
        ax.locator_params(axis="x", nbins=5)
        ax.set(yscale="log", xlabel=self.name, ylabel=f"rows, of {len(self.values)}")


def _of_one(attributor: Any, X_test: Any, y_test: Any, row: int) -> np.ndarray:
    """Return the values for one test row, (n,)."""
    explains = hasattr(attributor, "explain")
    if y_test is None and not explains:
        raise ValueError("`y_test` is None; expected the targets of `X_test`.")
    count = X_test.shape[0] if hasattr(X_test, "shape") else len(X_test)
    if not isinstance(row, int | np.integer) or not 0 <= row < count:
        raise ValueError(f"`row` is {row!r}; expected a position among {count} test rows.")
    one = _safe_indexing(X_test, [int(row)])
    truth = None if y_test is None else as_array(y_test)[[int(row)]]
    return (attributor.explain(one, truth) if explains else attributor.attribute(one, truth))[0]


def _names(labels: Any, n: int) -> list[str]:
    names = [str(label) for label in as_array(labels).ravel()]
    if len(names) != n:
        raise ValueError(f"`labels` has {len(names)} names; expected {n}, one for each value.")
    return names
