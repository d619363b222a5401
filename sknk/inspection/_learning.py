"""How scores grow as labels come."""

from collections.abc import Mapping
from typing import Any, Self

from sknk.active_learning import LearningCurves, run_active_learning
from sknk.inspection._plotting import axes_on, draw_mean, pyplot

__all__ = ["LearningCurveDisplay"]


class LearningCurveDisplay:
    """Mean scores of learners as labels come, and their standard errors over splits.

    Create it by `from_estimator` or `from_predictions`.

    Parameters
    ----------
    curves : LearningCurves
        Of one or several learners.
    score_name : str, default="test score"
        Label of the y axis.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Where it is drawn.
    figure_ : matplotlib Figure
        The figure of those axes.
    lines_ : dict of str to matplotlib Line2D
        Means over splits.
    bands_ : dict of str to matplotlib PolyCollection
        One standard error to both sides; empty for a single split.

    Examples
    --------
    >>> import numpy as np
    >>> from sknk.active_learning import LearningCurves
    >>> from sknk.inspection import LearningCurveDisplay
    >>> scores = {"bait": np.array([[0.3, 0.6], [0.2, 0.7]])}
    >>> curves = LearningCurves(np.array([10, 20]), scores, {})
    >>> display = LearningCurveDisplay.from_predictions(curves)
    >>> display.lines_["bait"].get_xdata()
    array([10, 20])
    """

    ax_: Any
    figure_: Any
    lines_: dict[str, Any]
    bands_: dict[str, Any]

    def __init__(self, curves: LearningCurves, *, score_name: str = "test score") -> None:
        self.curves = curves
        self.score_name = score_name

    @classmethod
    def from_estimator(
        cls,
        learners: Any,
        X: Any,
        y: Any,
        *,
        n_initial: int,
        n_batches: int,
        n_splits: int = 5,
        test_size: float | int = 0.2,
        scoring: Any = None,
        random_state: Any = None,
        score_name: str | None = None,
        ax: Any = None,
        band_kw: Mapping[str, Any] | None = None,
        **line_kw: Any,
    ) -> Self:
        """Run learners on a table whose labels are known, and draw.

        Parameters
        ----------
        learners : BatchActiveLearner, or dict of str to BatchActiveLearner
            As in :func:`sknk.active_learning.run_active_learning`, like what follows.
        X : array-like of shape (n, d)
            Rows.
        y : array-like of shape (n,)
            Labels of all.
        n_initial : int
            First labels.
        n_batches : int
            Steps.
        n_splits : int, default=5
            Repetitions.
        test_size : float or int, default=0.2
            Rows that are tested on.
        scoring : str, callable or None, default=None
            As in scikit-learn.
        random_state : int, RandomState instance or None, default=None
            Of splits and queries.
        score_name : str, default=None
            Label of the y axis; None is the name of `scoring`, if it has one.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.
        band_kw : dict, default=None
            Style of the bands.
        **line_kw : dict
            Style of the lines.

        Returns
        -------
        LearningCurveDisplay

        Raises
        ------
        ValueError
            For runs that cannot be.
        ImportError
            If matplotlib is not installed.
        """
        pyplot(f"{cls.__name__}.from_estimator")
        curves = run_active_learning(
            learners,
            X,
            y,
            n_initial=n_initial,
            n_batches=n_batches,
            n_splits=n_splits,
            test_size=test_size,
            scoring=scoring,
            random_state=random_state,
        )
        name = scoring if score_name is None and isinstance(scoring, str) else score_name
        return cls.from_predictions(
            curves, score_name=name or "test score", ax=ax, band_kw=band_kw, **line_kw
        )

    @classmethod
    def from_predictions(
        cls,
        curves: LearningCurves,
        *,
        score_name: str = "test score",
        ax: Any = None,
        band_kw: Mapping[str, Any] | None = None,
        **line_kw: Any,
    ) -> Self:
        """Draw curves that are known already.

        Parameters
        ----------
        curves : LearningCurves
            What :func:`sknk.active_learning.run_active_learning` returned.
        score_name : str, default="test score"
            Label of the y axis.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.
        band_kw : dict, default=None
            Style of the bands.
        **line_kw : dict
            Style of the lines.

        Returns
        -------
        LearningCurveDisplay

        Raises
        ------
        TypeError
            If they are no LearningCurves.
        ImportError
            If matplotlib is not installed.
        """
        pyplot(f"{cls.__name__}.from_predictions")
        if not isinstance(curves, LearningCurves):
            raise TypeError(f"`curves` is {curves!r}; expected what `run_active_learning` returns.")
        return cls(curves, score_name=score_name).plot(ax, band_kw=band_kw, **line_kw)

    def plot(
        self, ax: Any = None, *, band_kw: Mapping[str, Any] | None = None, **line_kw: Any
    ) -> Self:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where; None makes a figure.
        band_kw : dict, default=None
            Style of the bands.
        **line_kw : dict
            Style of the lines.

        Returns
        -------
        LearningCurveDisplay
            Itself, with the artists as attributes.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        ax = axes_on(ax, f"{type(self).__name__}.plot", (5.6, 3.8))
        n, self.lines_, self.bands_ = self.curves.n_labels, {}, {}
        for name, scores in self.curves.scores.items():
            default = {"marker": "o", "markersize": 4.0, "label": name}
            self.lines_[name], band = draw_mean(ax, n, scores, default, line_kw, band_kw)
            if band is not None:
                self.bands_[name] = band
        ax.set(xlabel="labels", ylabel=self.score_name)
        ax.legend(fontsize="small")
        self.ax_, self.figure_ = ax, ax.figure
        return self
