"""Importances of features, most important first, beside another measure of the same."""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from sklearn.utils.validation import check_is_fitted

from sknk.inspection._checks import check_count, check_vector
from sknk.inspection._estimators import last_step
from sknk.inspection._measures import check_names, check_reference, feature_names_of, positive_sum
from sknk.inspection._plotting import axes_on, pyplot, style

__all__ = ["FeatureImportanceDisplay"]

_MARKS = {"color": "0.2", "linestyle": "none", "marker": "D", "markersize": 4.0, "zorder": 3.0}


class FeatureImportanceDisplay:
    r"""Bars of feature importances, most important first.

    .. math:: I_j = M_{jj} / \operatorname{tr} M, \qquad
        M = \frac1n \sum_i \nabla f(x_i) \nabla f(x_i)^\top

    is what an estimator of this package with ``feature_learning`` has learned: how steep f is along
    each column, for columns of one scale. Another measure may stand beside it as markers; both are
    divided by the sum of their positive values. For linear f those by permutation are the same.
    Create it by `from_estimator` or `from_importances`.

    Parameters
    ----------
    importances : ndarray of shape (d,)
        Parts of their sum, dimensionless.
    feature_names : list of str
        d names.
    n_features : int, default=15
        The most important so many are drawn.
    reference, reference_error : ndarray of shape (d,), default=None
        Another measure and its standard errors, on the same scale.
    name, reference_name : str, default="importance", "reference"
        What the legend calls them.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Where it is drawn.
    figure_ : matplotlib Figure
        The figure of those axes.
    order_ : ndarray of shape (k,)
        Columns that are drawn, from the top.
    bars_ : matplotlib BarContainer
        The bars.
    markers_ : matplotlib ErrorbarContainer or None
        The reference.
    text_ : matplotlib Text or None
        What the features hold that are not drawn; None where all are.

    Examples
    --------
    >>> from sklearn.datasets import make_friedman1
    >>> from sknk import NTKRidgeCV
    >>> from sknk.inspection import FeatureImportanceDisplay
    >>> X, y = make_friedman1(n_samples=120, n_features=7, random_state=0)
    >>> model = NTKRidgeCV(feature_learning="agop_diag", max_rounds=1).fit(X, y)
    >>> display = FeatureImportanceDisplay.from_estimator(model, n_features=5)
    >>> sorted(display.order_.tolist())
    [0, 1, 2, 3, 4]
    """

    ax_: Any
    figure_: Any
    order_: np.ndarray
    bars_: Any
    markers_: Any
    text_: Any

    def __init__(
        self,
        importances: np.ndarray,
        feature_names: list[str],
        *,
        n_features: int = 15,
        reference: np.ndarray | None = None,
        reference_error: np.ndarray | None = None,
        name: str = "importance",
        reference_name: str = "reference",
    ) -> None:
        self.importances = importances
        self.feature_names = feature_names
        self.n_features = n_features
        self.reference = reference
        self.reference_error = reference_error
        self.name = name
        self.reference_name = reference_name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        *,
        feature_names: Any = None,
        n_features: int = 15,
        reference: Any = None,
        reference_error: Any = None,
        name: str | None = None,
        reference_name: str = "reference",
        ax: Any = None,
        reference_kw: Mapping[str, Any] | None = None,
        **bar_kw: Any,
    ) -> Self:
        """Draw what an estimator has learned.

        Parameters
        ----------
        estimator : estimator
            Fitted, with ``feature_importances_``; a pipeline that ends in one, a search over one.
        feature_names : array-like of shape (d,), default=None
            Names of the columns that the last step sees. None takes those that the steps before it
            make, or those of the data frame it was fitted to, else ``x0`` and so on.
        n_features : int, default=15
            The most important so many are drawn.
        reference : array-like of shape (d,) or Bunch, default=None
            Another measure of those columns, such as the answer of ``permutation_importance``. If
            earlier steps make columns or move them, ask it of the last step, on the rows it sees.
        reference_error : array-like of shape (d,), default=None
            Standard errors of a `reference` that is an array.
        name : str, default=None
            What the legend calls the bars; None is the estimator's class.
        reference_name : str, default="reference"
            What it calls the markers.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.
        reference_kw : dict, default=None
            Style of the markers.
        **bar_kw : dict
            Style of the bars.

        Returns
        -------
        FeatureImportanceDisplay

        Raises
        ------
        TypeError
            If it has no importances.
        ValueError
            If lengths differ, or a value or a parameter is not as described.
        ImportError
            If matplotlib is not installed.
        """
        pyplot(f"{cls.__name__}.from_estimator")
        model = last_step(estimator)
        check_is_fitted(model)
        if not hasattr(model, "feature_importances_"):
            raise TypeError(
                f"{type(model).__name__} has no `feature_importances_`; expected an estimator that "
                'learns them. Fit NTKRidgeCV or NTKRidgeClassifierCV with `feature_learning="auto"`'
                ", or pass those of another measure to `from_importances`."
            )
        return cls.from_importances(
            model.feature_importances_,
            feature_names_of(estimator) if feature_names is None else feature_names,
            n_features=n_features,
            reference=reference,
            reference_error=reference_error,
            name=type(model).__name__ if name is None else name,
            reference_name=reference_name,
            ax=ax,
            reference_kw=reference_kw,
            **bar_kw,
        )

    @classmethod
    def from_importances(
        cls,
        importances: Any,
        feature_names: Any = None,
        *,
        n_features: int = 15,
        reference: Any = None,
        reference_error: Any = None,
        name: str = "importance",
        reference_name: str = "reference",
        ax: Any = None,
        reference_kw: Mapping[str, Any] | None = None,
        **bar_kw: Any,
    ) -> Self:
        """Draw importances that are known already.

        Parameters
        ----------
        importances : array-like of shape (d,)
            In any unit: they are divided by the sum of those above zero.
        feature_names : array-like of shape (d,), default=None
            None is ``x0`` and so on.
        n_features : int, default=15
            The most important so many are drawn.
        reference, reference_error : array-like of shape (d,), default=None
            Another measure and its errors, scaled likewise; or a Bunch, as above.
        name, reference_name : str, default="importance", "reference"
            What the legend calls bars and markers.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.
        reference_kw : dict, default=None
            Style of the markers.
        **bar_kw : dict
            Style of the bars.

        Returns
        -------
        FeatureImportanceDisplay

        Raises
        ------
        ValueError
            If lengths differ, values are not finite, all are negative, or `n_features` is below 1.
        ImportError
            If matplotlib is not installed.

        Examples
        --------
        >>> from sknk.inspection import FeatureImportanceDisplay
        >>> display = FeatureImportanceDisplay.from_importances([1.0, 3.0], ["age", "income"])
        >>> display.importances
        array([0.25, 0.75])
        """
        pyplot(f"{cls.__name__}.from_importances")
        values = check_vector(importances, "importances")
        other, error = check_reference(reference, reference_error, len(values))
        display = cls(
            values / positive_sum(values, "importances"),
            check_names(feature_names, len(values)),
            n_features=check_count(n_features, "n_features", 1),
            reference=other,
            reference_error=error,
            name=name,
            reference_name=reference_name,
        )
        return display.plot(ax, reference_kw=reference_kw, **bar_kw)

    def plot(
        self, ax: Any = None, *, reference_kw: Mapping[str, Any] | None = None, **bar_kw: Any
    ) -> Self:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where; None makes a figure.
        reference_kw : dict, default=None
            Style of the markers.
        **bar_kw : dict
            Style of the bars.

        Returns
        -------
        FeatureImportanceDisplay
            Itself, with the artists as attributes.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        pyplot(f"{type(self).__name__}.plot")
        from matplotlib.patches import Rectangle

        self.order_ = order = np.argsort(-self.importances, kind="stable")[: self.n_features]
        k = len(order)
        ax = axes_on(ax, f"{type(self).__name__}.plot", (5.6, 1.2 + 0.28 * max(k, 4)))
        default = {"height": 0.7, "label": self.name}
        self.bars_ = ax.barh(range(k), self.importances[order], **style(Rectangle, default, bar_kw))
        self.markers_ = self._draw_markers(ax, order, reference_kw)
        self.text_ = self._draw_rest(ax, order)
        ax.set_yticks(range(k), [self.feature_names[j] for j in order])
        # The first on top; said as limits, which drawing twice does not turn around.
        ax.set(ylim=(k - 0.4, -0.6), xlabel="importance, part of the sum")
        if self.markers_ is not None:
            ax.legend(fontsize="small")
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _draw_markers(self, ax: Any, order: np.ndarray, kw: Mapping[str, Any] | None) -> Any:
        """Draw the reference, where there is one."""
        if self.reference is None:
            return None
        from matplotlib.lines import Line2D

        error = None if self.reference_error is None else self.reference_error[order]
        chosen = style(Line2D, {**_MARKS, "label": self.reference_name}, kw)
        return ax.errorbar(self.reference[order], range(len(order)), xerr=error, **chosen)

    def _draw_rest(self, ax: Any, order: np.ndarray) -> Any:
        """Say what the features hold that are not drawn."""
        if len(order) == len(self.importances):
            return None
        rest = float(self.importances.sum() - self.importances[order].sum())
        note = f"{len(self.importances) - len(order)} more: {100 * rest:.1f} %"
        place = {"ha": "right", "va": "bottom", "transform": ax.transAxes}
        return ax.text(0.98, 0.03, note, fontsize="small", color="0.35", **place)
