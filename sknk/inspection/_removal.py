"""What removing, or adding, rows in the order of their values does to a model."""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from sklearn.base import is_classifier
from sklearn.utils.validation import check_is_fitted

from sknk.attribution import Curve
from sknk.inspection._checks import check_choice
from sknk.inspection._plotting import axes_on, pyplot, style

__all__ = ["RemovalCurveDisplay"]


class RemovalCurveDisplay:
    """Test scores of a model refitted without, or on, a growing part of its rows.

    Where values are right, scores fall early when the highest go first, and late, or not at all,
    when the lowest do. The band is the range of random orders, and the dotted line their mean.
    Create it by `from_estimator` or `from_predictions`.

    Parameters
    ----------
    curves : list of Curve
        Of one action; those of the same fractions share the band.
    names : list of str
        One for each curve.
    score_name : str, default="test score"
        Label of the y axis.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Where it is drawn.
    figure_ : matplotlib Figure
        The figure of those axes.
    lines_ : list of matplotlib Line2D
        The curves.
    band_ : matplotlib PolyCollection or None
        Range of the random orders; None where there are none.
    random_line_ : matplotlib Line2D or None
        Their mean.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sknk import NTKRidgeClassifier
    >>> from sknk.attribution import RepresenterAttributor
    >>> from sknk.inspection import RemovalCurveDisplay
    >>> X, y = load_iris(return_X_y=True)
    >>> representer = RepresenterAttributor(NTKRidgeClassifier(alpha=0.1)).fit(X[::2], y[::2])
    >>> display = RemovalCurveDisplay.from_estimator(
    ...     representer, X[1::2], y[1::2], fractions=[0.0, 0.2, 0.4], random_state=0
    ... )
    >>> [line.get_label() for line in display.lines_]
    ['highest first', 'lowest first']
    """

    ax_: Any
    figure_: Any
    lines_: list[Any]
    band_: Any
    random_line_: Any

    def __init__(
        self, curves: list[Curve], names: list[str], *, score_name: str = "test score"
    ) -> None:
        self.curves = curves
        self.names = names
        self.score_name = score_name

    @classmethod
    def from_estimator(
        cls,
        attributor: Any,
        X_test: Any,
        y_test: Any,
        *,
        order: str = "both",
        action: str = "remove",
        fractions: Any = None,
        n_random: int = 10,
        random_state: Any = None,
        name: str | None = None,
        ax: Any = None,
        random_kw: Mapping[str, Any] | None = None,
        **line_kw: Any,
    ) -> Self:
        """Refit the model without its rows, and draw; one factorization for every point.

        Parameters
        ----------
        attributor : attributor
            Fitted, to rows rather than groups.
        X_test : array-like of shape (m, d)
            Rows that took no part in the values.
        y_test : array-like of shape (m,)
            Their targets.
        order : {"both", "lowest", "highest"}, default="both"
            Which values go first.
        action : {"remove", "add"}, default="remove"
            What is done to rows.
        fractions : array-like of shape (f,), default=None
            Parts of the rows, as in ``removal_curve`` and ``addition_curve``.
        n_random : int, default=10
            Random orders to compare with.
        random_state : int, RandomState or None, default=None
            Seed of the random orders.
        name : str, default=None
            What the legend puts before the order.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.
        random_kw : dict, default=None
            Style of the band.
        **line_kw : dict
            Style of the lines.

        Returns
        -------
        RemovalCurveDisplay

        Raises
        ------
        ValueError
            If an order, an action or fractions are not as described.
        ImportError
            If matplotlib is not installed.
        """
        pyplot(f"{cls.__name__}.from_estimator")
        check_is_fitted(attributor)
        check_choice(order, "order", ("both", "lowest", "highest"))
        check_choice(action, "action", ("remove", "add"))
        follow = attributor.removal_curve if action == "remove" else attributor.addition_curve
        orders = ("highest", "lowest") if order == "both" else (order,)
        curves = [
            follow(
                X_test,
                y_test,
                order=one,
                fractions=fractions,
                n_random=n_random if one == orders[0] else 0,  # one band serves both
                random_state=random_state,
            )
            for one in orders
        ]
        lead = "" if name is None else f"{name}, "
        return cls.from_predictions(
            curves,
            names=[f"{lead}{one} first" for one in orders],
            score_name="accuracy" if is_classifier(attributor.estimator_) else "$R^2$",
            ax=ax,
            random_kw=random_kw,
            **line_kw,
        )

    @classmethod
    def from_predictions(
        cls,
        curves: Any,
        *,
        names: Any = None,
        score_name: str = "test score",
        ax: Any = None,
        random_kw: Mapping[str, Any] | None = None,
        **line_kw: Any,
    ) -> Self:
        """Draw curves that are known already.

        Parameters
        ----------
        curves : Curve, or list of Curve
            Of one action.
        names : str or list of str, default=None
            One for each curve; None names the order.
        score_name : str, default="test score"
            Label of the y axis.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.
        random_kw : dict, default=None
            Style of the band.
        **line_kw : dict
            Style of the lines.

        Returns
        -------
        RemovalCurveDisplay

        Raises
        ------
        ValueError
            If there are no curves, their actions differ, or names are too few.
        TypeError
            If one is no Curve.
        ImportError
            If matplotlib is not installed.

        Examples
        --------
        >>> import numpy as np
        >>> from sknk.attribution import Curve
        >>> from sknk.inspection import RemovalCurveDisplay
        >>> x, scores = np.array([0.0, 0.5]), np.array([0.9, 0.6])
        >>> curve = Curve(x, scores, np.full((3, 2), 0.8), "highest", "remove")
        >>> RemovalCurveDisplay.from_predictions(curve).names
        ['highest first']
        """
        pyplot(f"{cls.__name__}.from_predictions")
        found = _curves(curves)
        if names is None:
            names = [f"{curve.order} first" for curve in found]
        texts = [names] if isinstance(names, str) else [str(name) for name in names]
        if len(texts) != len(found):
            raise ValueError(
                f"`names` has {len(texts)} names; expected {len(found)}, one for each curve."
            )
        display = cls(found, texts, score_name=score_name)
        return display.plot(ax, random_kw=random_kw, **line_kw)

    def plot(
        self, ax: Any = None, *, random_kw: Mapping[str, Any] | None = None, **line_kw: Any
    ) -> Self:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where; None makes a figure.
        random_kw : dict, default=None
            Style of the band.
        **line_kw : dict
            Style of the lines.

        Returns
        -------
        RemovalCurveDisplay
            Itself, with the artists as attributes.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        ax = axes_on(ax, f"{type(self).__name__}.plot", (5.6, 3.8))
        from matplotlib.lines import Line2D

        self.band_, self.random_line_ = self._draw_random(ax, random_kw)
        self.lines_ = []
        for curve, name in zip(self.curves, self.names, strict=True):
            default = {"marker": "o", "markersize": 4.0, "label": name}
            kw = style(Line2D, default, line_kw)
            self.lines_ += ax.plot(100 * curve.fractions, curve.scores, **kw)
        done = {"remove": "removed", "add": "kept"}[self.curves[0].action]
        ax.set(xlabel=f"training rows {done}, %", ylabel=self.score_name)
        ax.legend(fontsize="small")
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _draw_random(self, ax: Any, kw: Mapping[str, Any] | None) -> tuple[Any, Any]:
        """Draw the range and the mean of random orders, those on one axis of fractions."""
        known = [curve for curve in self.curves if len(curve.random_scores)]
        if not known:
            return None, None
        from matplotlib.collections import PolyCollection

        x = known[0].fractions
        same: list[np.ndarray] = []
        for curve in known:  # curves of one seed have the same random orders: they count once
            again = any(np.array_equal(curve.random_scores, other) for other in same)
            if np.array_equal(curve.fractions, x) and not again:
                same.append(curve.random_scores)
        scores = np.concatenate(same)
        label = f"{len(scores)} random orders"
        default = {"color": "0.5", "alpha": 0.2, "linewidth": 0.0, "label": label}
        chosen = style(PolyCollection, default, kw)
        band = ax.fill_between(100 * x, scores.min(0), scores.max(0), **chosen)
        (line,) = ax.plot(100 * x, scores.mean(0), color="0.4", linestyle=":", zorder=1.6)
        return band, line


def _curves(curves: Any) -> list[Curve]:
    """Return curves of one action."""
    found = [curves] if isinstance(curves, Curve) else list(curves)
    if not found:
        raise ValueError("`curves` is empty; expected at least one Curve.")
    strange = [one for one in found if not isinstance(one, Curve)]
    if strange:
        raise TypeError(
            f"`curves` holds {strange[0]!r}; expected what `removal_curve` or `addition_curve` of "
            "an attributor returns."
        )
    actions = sorted({curve.action for curve in found})
    if len(actions) > 1:
        raise ValueError(f"`curves` have the actions {actions}; expected one on one figure.")
    return found
