"""A line, its band and the points it was fitted to, on one pair of axes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import ndtri

from sknk.inspection._checks import check_fraction
from sknk.inspection._plotting import percent, style

__all__ = ["KINDS", "Slice", "band_label", "half_width"]

KINDS = ("band", "errorbar")


def half_width(level: Any, n_std: Any) -> float:
    r"""Return the half width of a band in standard deviations.

    .. math:: z = \Phi^{-1}(\tfrac{1 + \ell}{2})

    Parameters
    ----------
    level : float
        Probability inside.
    n_std : float or None
        The half width itself, where given.

    Returns
    -------
    float
        Dimensionless.

    Raises
    ------
    ValueError
        If `level` is no probability, or `n_std` not positive.
    """
    if n_std is None:
        level = check_fraction(level, "level", "the probability inside the band")
        return float(ndtri((1.0 + level) / 2.0))
    if not isinstance(n_std, int | float | np.number) or not 0 < n_std < np.inf:
        raise ValueError(
            f"`n_std` is {n_std!r}; expected a positive number of standard deviations, such as 2."
        )
    return float(n_std)


def band_label(kind: str, level: float, n_std: float | None) -> str:
    """Return what the legend calls the band, or the bars."""
    if n_std is not None:
        return f"± {n_std:g} std"
    return f"{percent(level)} {'band' if kind == 'band' else 'interval'}"


@dataclass(frozen=True)
class Slice:
    """Predictions along one feature.

    Parameters
    ----------
    x, mean, half : ndarray of shape (m,)
        Feature values, means, half widths of the band in units of y.
    x_train, y_train : ndarray of shape (n,) or None
        Points.
    """

    x: np.ndarray
    mean: np.ndarray
    half: np.ndarray
    x_train: np.ndarray | None
    y_train: np.ndarray | None

    def draw_line(self, ax: Any, kind: str, label: str, line_kw: Mapping[str, Any]) -> Any:
        """Draw the means and return the line."""
        from matplotlib.lines import Line2D

        marks = {"marker": "o", "linestyle": "none", "markersize": 5} if kind == "errorbar" else {}
        (line,) = ax.plot(
            self.x, self.mean, **style(Line2D, {"label": label, "zorder": 2.5, **marks}, line_kw)
        )
        return line

    def draw_band(
        self, ax: Any, kind: str, label: str, color: Any, band_kw: Mapping[str, Any] | None
    ) -> Any:
        """Draw the band, or bars, and return the collection."""
        from matplotlib.collections import LineCollection, PolyCollection

        lower, upper = self.mean - self.half, self.mean + self.half
        if kind == "errorbar":
            bars = {"color": color, "alpha": 0.6, "linewidth": 1.5, "label": label}
            return ax.vlines(self.x, lower, upper, **style(LineCollection, bars, band_kw))
        fill = {"facecolor": color, "alpha": 0.2, "linewidth": 0.0, "label": label}
        return ax.fill_between(self.x, lower, upper, **style(PolyCollection, fill, band_kw))

    def draw_points(self, ax: Any, scatter_kw: Mapping[str, Any] | None) -> Any:
        """Draw the points and return their collection, None without any."""
        from matplotlib.collections import PathCollection

        if self.x_train is None or self.y_train is None:
            return None
        # Few points are to be seen, many to be seen through.
        size = float(np.clip(300.0 / np.sqrt(len(self.y_train)), 8.0, 25.0))
        dots = {"color": "0.25", "s": size, "alpha": 0.6, "linewidth": 0.0, "zorder": 2.0}
        if "data" not in ax.get_legend_handles_labels()[1]:
            dots["label"] = "data"
        return ax.scatter(self.x_train, self.y_train, **style(PathCollection, dots, scatter_kw))
