"""A Gaussian process's predictions and their band along one feature."""

from collections.abc import Iterable, Mapping
from typing import Any, Self

import numpy as np

from sknk.inspection._bands import KINDS, Slice, band_label, half_width
from sknk.inspection._checks import check_choice, check_vector
from sknk.inspection._estimators import check_std, gaussian_prediction, last_step, one_target
from sknk.inspection._plotting import axes_for, legend_over, pyplot, stands_alone
from sknk.inspection._slices import read_table

__all__ = ["GPPredictionDisplay"]


class GPPredictionDisplay:
    r"""Mean and band of a Gaussian process along one feature.

    .. math:: \mu(x) \pm z\, \sigma(x), \qquad z = \Phi^{-1}(\tfrac{1 + \ell}{2})

    At each x the band holds a fraction :math:`\ell` (`level`) of the predictive law
    :math:`N(\mu(x), \sigma(x)^2)`; it is a band for single points, not for whole curves. Whether
    noise is part of :math:`\sigma` is the estimator's business. Create it by `from_estimator` or
    `from_predictions`.

    Parameters
    ----------
    x : ndarray of shape (m,) or list of such
        Feature values in increasing order; one array for each panel.
    mean, std : ndarray of shape (m,) or list of such
        Predictive mean and standard deviation there, units of y.
    level : float, default=0.9
        Probability inside the band, in (0, 1).
    n_std : float, default=None
        Half the width of the band in standard deviations, in place of `level`.
    x_train : ndarray of shape (n,) or list of such, default=None
        Feature values of the points to draw.
    y_train : ndarray of shape (n,), default=None
        Their targets, units of y.
    feature_name : str or list of str, default="x"
        Label of the horizontal axis.
    target_name : str, default="y"
        Label of the vertical axis.
    name : str, default=None
        Name of the curve in the legend.

    Attributes
    ----------
    ax_ : matplotlib Axes or list of Axes
        Where it is drawn; a list where `x` is one, as are the artists below.
    figure_ : matplotlib Figure
        The figure of those axes.
    line_ : matplotlib Line2D or list of Line2D
        The mean.
    band_ : matplotlib Collection or list of Collection
        The band, or the bars.
    scatter_ : matplotlib PathCollection, list of PathCollection or None
        The points; None where no `y_train` is given.

    See Also
    --------
    CoverageDisplay : How often such bands hold new targets.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.gaussian_process import GaussianProcessRegressor
    >>> from sknk.inspection import GPPredictionDisplay
    >>> from sknk.kernels import NTK
    >>> X = np.linspace(-1, 1, 12)[:, None]
    >>> gp = GaussianProcessRegressor(NTK(bias_var=0.1), alpha=0.01, optimizer=None)
    >>> gp = gp.fit(X, np.sin(3 * X[:, 0]))
    >>> display = GPPredictionDisplay.from_estimator(gp, X, y=np.sin(3 * X[:, 0]))
    >>> display.mean.shape
    (100,)
    """

    ax_: Any
    figure_: Any
    line_: Any
    band_: Any
    scatter_: Any

    def __init__(
        self,
        x: Any,
        mean: Any,
        std: Any,
        *,
        level: float = 0.9,
        n_std: float | None = None,
        x_train: Any = None,
        y_train: Any = None,
        feature_name: Any = "x",
        target_name: str = "y",
        name: str | None = None,
    ) -> None:
        self.x = x
        self.mean = mean
        self.std = std
        self.level = level
        self.n_std = n_std
        self.x_train = x_train
        self.y_train = y_train
        self.feature_name = feature_name
        self.target_name = target_name
        self.name = name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        y: Any = None,
        feature: Any = None,
        at: Any = None,
        target: int | None = None,
        grid_resolution: int = 100,
        percentiles: tuple[float, float] = (0.0, 1.0),
        x_range: Any = None,
        level: float = 0.9,
        n_std: float | None = None,
        kind: str = "band",
        name: str | None = None,
        ax: Any = None,
        band_kw: Mapping[str, Any] | None = None,
        scatter_kw: Mapping[str, Any] | None = None,
        **line_kw: Any,
    ) -> Self:
        """Predict along each feature and draw.

        Of several features one varies at a time; the others stay where `at` puts them: a panel is
        a slice through the model, not an average. Each costs one call of ``predict``.

        Parameters
        ----------
        estimator : estimator
            Fitted regressor whose ``predict(X, return_std=True)`` returns (mean, std): a Gaussian
            process of this package or of scikit-learn, a pipeline that ends in one, a search over
            one.
        X : array-like or data frame of shape (n, d)
            Training rows: their ranges and medians place the slices. The estimator gets rows of
            the same type.
        y : array-like of shape (n,), default=None
            Targets to draw as points; they lie at other values of the features held.
        feature : int, str or list of such, default=None
            The columns to vary, by index or, in a data frame, by name. None is every column, at
            most 12.
        at : array-like of shape (d,) or mapping, default=None
            Where the other columns are held: a row, or values by column. None, and columns that
            the mapping leaves out, are medians (most frequent values of columns without numbers).
        target : int, default=None
            Column of a prediction of several targets.
        grid_resolution : int, default=100
            Points of a slice.
        percentiles : tuple of float, default=(0, 1)
            Fractions of the rows where a slice starts and ends.
        x_range : tuple of float or mapping, default=None
            The ends themselves in units of the feature, to look beyond the data; a mapping has
            them by column.
        level : float, default=0.9
            Probability inside the band, in (0, 1).
        n_std : float, default=None
            Half the width of the band in standard deviations, in place of `level`.
        kind : {"band", "errorbar"}, default="band"
            A line in a band, or points with bars.
        name : str, default=None
            Name in the legend; None is the estimator's class.
        ax : matplotlib Axes or sequence of Axes, default=None
            Where to draw, one for each feature; None makes a figure.
        band_kw, scatter_kw : dict, default=None
            Style of the band and of the points.
        **line_kw : dict
            Style of the line.

        Returns
        -------
        GPPredictionDisplay

        Raises
        ------
        ValueError
            If a feature, `at`, a range or a level is not as described.
        TypeError
            If the estimator returns no standard deviations.
        ImportError
            If matplotlib is not installed.

        Examples
        --------
        >>> from sklearn.datasets import load_diabetes
        >>> from sklearn.gaussian_process import GaussianProcessRegressor
        >>> from sklearn.pipeline import make_pipeline
        >>> from sklearn.preprocessing import StandardScaler
        >>> from sknk.inspection import GPPredictionDisplay
        >>> from sknk.kernels import NTK
        >>> X, y = load_diabetes(return_X_y=True, as_frame=True)
        >>> gp = GaussianProcessRegressor(NTK(), alpha=1.0, optimizer=None, normalize_y=True)
        >>> model = make_pipeline(StandardScaler(), gp).fit(X, y)
        >>> display = GPPredictionDisplay.from_estimator(
        ...     model, X, y=y, feature=["bmi", "bp"], at={"sex": X["sex"].max()}
        ... )
        >>> [ax.get_xlabel() for ax in display.ax_]
        ['bmi', 'bp']
        """
        pyplot(f"{cls.__name__}.from_estimator")
        table = read_table(X)
        columns = table.chosen(feature)
        several = len(columns) > 1 or not (feature is None or np.ndim(feature) == 0)
        held, ends = table.held(at), table.ranges(x_range)
        y_train = None if y is None else one_target(y, "y", target, rows=table.n_rows)
        grids = [
            table.grid(column, grid_resolution, percentiles, ends.get(column)) for column in columns
        ]
        laws = [
            gaussian_prediction(estimator, table.rows(column, grid, held), target=target)
            for column, grid in zip(columns, grids, strict=True)
        ]

        def panels(values: Iterable[Any]) -> Any:
            return list(values) if several else next(iter(values))

        display = cls(
            panels(grids),
            panels(mean for mean, _ in laws),
            panels(std for _, std in laws),
            level=level,
            n_std=n_std,
            x_train=panels(table.numbers(column) for column in columns),
            y_train=y_train,
            feature_name=panels(table.label(column) for column in columns),
            target_name=str(getattr(y, "name", None) or "y"),
            name=type(last_step(estimator)).__name__ if name is None else name,
        )
        return display.plot(ax, kind=kind, band_kw=band_kw, scatter_kw=scatter_kw, **line_kw)

    @classmethod
    def from_predictions(
        cls,
        x: Any,
        mean: Any,
        std: Any,
        *,
        x_train: Any = None,
        y_train: Any = None,
        level: float = 0.9,
        n_std: float | None = None,
        kind: str = "band",
        feature_name: str = "x",
        target_name: str = "y",
        name: str | None = None,
        ax: Any = None,
        band_kw: Mapping[str, Any] | None = None,
        scatter_kw: Mapping[str, Any] | None = None,
        **line_kw: Any,
    ) -> Self:
        """Draw predictions that are known already.

        Parameters
        ----------
        x : array-like of shape (m,)
            Feature values in any order.
        mean, std : array-like of shape (m,)
            Predictive mean and standard deviation, units of y.
        x_train, y_train : array-like of shape (n,), default=None
            Points to draw: feature values and targets, both or neither.
        level : float, default=0.9
            Probability inside the band, in (0, 1).
        n_std : float, default=None
            Half the width of the band in standard deviations, in place of `level`.
        kind : {"band", "errorbar"}, default="band"
            A line in a band, or points with bars.
        feature_name, target_name : str, default="x", "y"
            Labels of the axes.
        name : str, default=None
            Name in the legend.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.
        band_kw, scatter_kw : dict, default=None
            Style of the band and of the points.
        **line_kw : dict
            Style of the line.

        Returns
        -------
        GPPredictionDisplay

        Raises
        ------
        ValueError
            If lengths differ, values are not finite or a standard deviation is negative.
        ImportError
            If matplotlib is not installed.

        Examples
        --------
        >>> import numpy as np
        >>> from sknk.inspection import GPPredictionDisplay
        >>> x = np.linspace(0, 3, 50)
        >>> display = GPPredictionDisplay.from_predictions(x, np.sin(x), 0.1 + 0.1 * x, n_std=2)
        >>> display.line_.get_label()
        'mean'
        """
        pyplot(f"{cls.__name__}.from_predictions")
        x = check_vector(x, "x")
        mean = check_vector(mean, "mean", rows=len(x))
        std = check_std(std, len(x))
        if (x_train is None) != (y_train is None):
            missing = "x_train" if x_train is None else "y_train"
            raise ValueError(f"`{missing}` is None; expected both `x_train` and `y_train`.")
        if x_train is not None:
            x_train = check_vector(x_train, "x_train")
            y_train = check_vector(y_train, "y_train", rows=len(x_train))
        order = np.argsort(x, kind="stable")
        display = cls(
            x[order],
            mean[order],
            std[order],
            level=level,
            n_std=n_std,
            x_train=x_train,
            y_train=y_train,
            feature_name=feature_name,
            target_name=target_name,
            name=name,
        )
        return display.plot(ax, kind=kind, band_kw=band_kw, scatter_kw=scatter_kw, **line_kw)

    def plot(
        self,
        ax: Any = None,
        *,
        kind: str = "band",
        name: str | None = None,
        band_kw: Mapping[str, Any] | None = None,
        scatter_kw: Mapping[str, Any] | None = None,
        **line_kw: Any,
    ) -> Self:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes or sequence of Axes, default=None
            Where, one for each panel; None makes a figure.
        kind : {"band", "errorbar"}, default="band"
            A line in a band, or points with bars.
        name : str, default=None
            Name in the legend; None is that of the display.
        band_kw, scatter_kw : dict, default=None
            Style of the band and of the points.
        **line_kw : dict
            Style of the line.

        Returns
        -------
        GPPredictionDisplay
            Itself, with the artists as attributes.

        Raises
        ------
        ValueError
            If `kind`, `level` or `n_std` is not as described, or `ax` not one for each panel.
        ImportError
            If matplotlib is not installed.
        """
        check_choice(kind, "kind", KINDS)
        several = isinstance(self.x, list)
        axes = axes_for(ax, len(self.x) if several else 1, f"{type(self).__name__}.plot")
        name = self.name if name is None else name
        labels = self.feature_name if several else [self.feature_name]
        drawn = []
        for panel, xlabel, current in zip(self._slices(), labels, axes, strict=True):
            line = panel.draw_line(current, kind, "mean" if name is None else name, line_kw)
            label = band_label(kind, self.level, self.n_std)
            band = panel.draw_band(current, kind, label, line.get_color(), band_kw)
            drawn.append((line, band, panel.draw_points(current, scatter_kw)))
            current.set_xlabel(xlabel)
            if stands_alone(current):
                current.set_ylabel(self.target_name)
        legend_over(axes) if several else axes[0].legend(fontsize="small")
        self.ax_ = axes if several else axes[0]
        self.figure_ = axes[0].figure
        lines, bands, points = (list(artists) for artists in zip(*drawn, strict=True))
        self.line_, self.band_ = (lines, bands) if several else (lines[0], bands[0])
        self.scatter_ = points if several and self.y_train is not None else points[0]
        return self

    def _slices(self) -> list[Slice]:
        """Return the panels."""
        z = half_width(self.level, self.n_std)
        if not isinstance(self.x, list):
            return [Slice(self.x, self.mean, z * self.std, self.x_train, self.y_train)]
        points = [None] * len(self.x) if self.x_train is None else self.x_train
        return [
            Slice(x, mean, z * std, x_train, self.y_train)
            for x, mean, std, x_train in zip(self.x, self.mean, self.std, points, strict=True)
        ]
