"""The one boundary to matplotlib, which is imported when something is drawn."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.stats import binom

__all__ = [
    "SQUARE",
    "axes_for",
    "axes_on",
    "binomial_band",
    "draw_diagonal",
    "draw_mean",
    "legend_over",
    "percent",
    "pyplot",
    "stands_alone",
    "style",
]

_LEGEND = "sknk-legend"
SQUARE = (4.8, 4.8)


def pyplot(caller: str) -> Any:
    """Import matplotlib's pyplot.

    Parameters
    ----------
    caller : str
        Who draws, for the message.

    Returns
    -------
    module

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            f"{caller} draws with matplotlib, which cannot be imported ({error}). Install it with "
            "`pip install 'sknk[plot]'`."
        ) from error
    return plt


def draw_mean(
    ax: Any,
    x: np.ndarray,
    lines: np.ndarray,
    default: Mapping[str, Any],
    line_kw: Any,
    band_kw: Any,
) -> tuple[Any, Any]:
    """Draw the mean of curves, and a band of one standard error where there are several.

    Parameters
    ----------
    ax : matplotlib Axes
        Where.
    x : ndarray of shape (s,)
        Of all curves.
    lines : ndarray of shape (r, s)
        Curves.
    default : dict
        Style of the line.
    line_kw, band_kw : dict or None
        Styles of the user.

    Returns
    -------
    line : matplotlib Line2D
    band : matplotlib PolyCollection or None
        None for a single curve.
    """
    from matplotlib.collections import PolyCollection
    from matplotlib.lines import Line2D

    mean = lines.mean(axis=0)
    (line,) = ax.plot(x, mean, **style(Line2D, default, line_kw))
    if len(lines) == 1:
        return line, None
    error = lines.std(axis=0, ddof=1) / np.sqrt(len(lines))
    kw = style(PolyCollection, {"color": line.get_color(), "alpha": 0.2, "linewidth": 0.0}, band_kw)
    return line, ax.fill_between(x, mean - error, mean + error, **kw)


def axes_on(ax: Any, caller: str, figsize: tuple[float, float] | None = None) -> Any:
    """Return the axes to draw on: the given ones, or those of a new figure.

    Parameters
    ----------
    ax : matplotlib Axes or None
        Axes of the user.
    caller : str
        Who draws, for messages.
    figsize : tuple of float or None
        Width and height of a new figure, inches.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    TypeError
        If `ax` is neither None nor axes.
    """
    plt = pyplot(caller)
    if ax is None:
        return plt.subplots(figsize=figsize, layout="constrained")[1]
    if not hasattr(ax, "plot") or not hasattr(ax, "figure"):
        raise TypeError(
            f"`ax` is {ax!r}; expected matplotlib axes. Pass one of `plt.subplots()`, or None for "
            "a new figure."
        )
    return ax


def axes_for(ax: Any, count: int, caller: str) -> list[Any]:
    """Return one pair of axes for each panel.

    Parameters
    ----------
    ax : matplotlib Axes, sequence of Axes or None
        Axes of the user; None makes a figure of at most three columns.
    count : int
        Panels.
    caller : str
        Who draws, for messages.

    Returns
    -------
    list of matplotlib Axes

    Raises
    ------
    ValueError
        If the user passed another number of axes.
    """
    if ax is None and count > 1:
        columns = 2 if count == 4 else min(count, 3)
        rows = -(-count // columns)
        _, grid = pyplot(caller).subplots(
            rows,
            columns,
            sharey=True,
            squeeze=False,
            figsize=(3.4 * columns, 2.8 * rows),
            layout="constrained",
        )
        for spare in grid.flat[count:]:
            spare.remove()
        return list(grid.flat[:count])
    given = [ax] if ax is None or hasattr(ax, "plot") else list(np.ravel(ax))
    if len(given) != count:
        raise ValueError(
            f"`ax` holds {len(given)} axes; expected {count}, one for each feature. Pass those of "
            f"`plt.subplots(1, {count})`, or None for a new figure."
        )
    return [axes_on(one, caller) for one in given]


def stands_alone(ax: Any) -> bool:
    """Return whether axes need their own y label: no axes to the left share theirs."""
    place = ax.get_subplotspec()
    shared = len(ax.get_shared_y_axes().get_siblings(ax)) > 1
    return not shared or place is None or place.is_first_col()


def style(artist: Any, default: Mapping[str, Any], *users: Mapping[str, Any] | None) -> dict:
    """Merge keyword arguments of an artist; what the user says wins, under any of its aliases.

    Parameters
    ----------
    artist : type
        The matplotlib class whose aliases (`c`, `lw`) are resolved.
    default : mapping
        Our style.
    *users : mapping or None
        Styles that override it, the last one most.

    Returns
    -------
    dict
    """
    from matplotlib.cbook import normalize_kwargs

    merged = dict(default)
    for user in users:
        given = normalize_kwargs(dict(user or {}), artist)
        if "c" in given:  # of a scatter: one colour a point, exclusive with `color`
            merged.pop("color", None)
        merged.update(given)
    return merged


def legend_over(axes: list[Any]) -> None:
    """Put one legend over several panels, in the first where the layout leaves no room above."""
    figure = axes[0].figure
    for old in [one for one in figure.legends if one.get_gid() == _LEGEND]:
        old.remove()
    if type(figure.get_layout_engine()).__name__ != "ConstrainedLayoutEngine":
        axes[0].legend(fontsize="small")
        return
    handles, labels = axes[0].get_legend_handles_labels()
    legend = figure.legend(
        handles, labels, loc="outside upper center", ncols=3, frameon=False, fontsize="small"
    )
    legend.set_gid(_LEGEND)


def draw_diagonal(ax: Any, label: str) -> None:
    """Show the unit square and, once, its diagonal."""
    if label not in ax.get_legend_handles_labels()[1]:
        ax.plot([0.0, 1.0], [0.0, 1.0], color="0.4", linestyle=":", zorder=1.6, label=label)
    # Room for markers on the edges.
    ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")


def percent(fraction: float) -> str:
    """Return a fraction as text, 0.9 as "90 %"."""
    return f"{100 * fraction:g} %"


def binomial_band(rows: Any, chance: Any, level: float) -> tuple[np.ndarray, np.ndarray]:
    r"""Return the range in which an observed frequency of successes lies by chance.

    .. math:: \hat p \in [Q(\tfrac{1 - \ell}{2}), Q(\tfrac{1 + \ell}{2})] / n, \qquad
        n \hat p \sim \text{Binomial}(n, p)

    Parameters
    ----------
    rows : array-like of shape (k,) or float
        n, rounded; for weighted rows the effective number, (sum w)^2 / sum w^2.
    chance : array-like of shape (k,)
        p, the probability of success.
    level : float
        Probability of the range, at least.

    Returns
    -------
    lower, upper : ndarray of shape (k,)
        Frequencies.
    """
    n = np.maximum(np.rint(rows), 1.0)
    lower, upper = binom.interval(level, n, np.clip(chance, 0.0, 1.0))
    # scipy starts a distribution without spread at -1.
    return np.maximum(lower, 0.0) / n, upper / n
