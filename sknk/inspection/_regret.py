"""What bandits lose, round by round."""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from sknk.bandits import Simulation, simulate
from sknk.inspection._plotting import axes_on, draw_mean, pyplot

__all__ = ["RegretDisplay"]


class RegretDisplay:
    """Mean cumulative regret of policies, and standard errors over runs.

    Create it by `from_estimator` or `from_predictions`.

    Parameters
    ----------
    simulation : Simulation
        Of one or several policies.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Where it is drawn.
    figure_ : matplotlib Figure
        The figure of those axes.
    lines_ : dict of str to matplotlib Line2D
        Means over runs.
    bands_ : dict of str to matplotlib PolyCollection
        One standard error to both sides; empty for a single run.

    Examples
    --------
    >>> import numpy as np
    >>> from sknk.bandits import Simulation
    >>> from sknk.inspection import RegretDisplay
    >>> regret = {"ucb": np.array([[1.0, 1.0, 2.0], [0.0, 1.0, 1.0]])}
    >>> display = RegretDisplay.from_predictions(Simulation(regret, {}, {}))
    >>> display.lines_["ucb"].get_ydata()
    array([0.5, 1. , 1.5])
    """

    ax_: Any
    figure_: Any
    lines_: dict[str, Any]
    bands_: dict[str, Any]

    def __init__(self, simulation: Simulation) -> None:
        self.simulation = simulation

    @classmethod
    def from_estimator(
        cls,
        policies: Any,
        problem: Any,
        *,
        n_runs: int = 1,
        batch_size: int = 1,
        random_state: Any = None,
        ax: Any = None,
        band_kw: Mapping[str, Any] | None = None,
        **line_kw: Any,
    ) -> Self:
        """Let policies play, and draw.

        Parameters
        ----------
        policies : bandit, or dict of str to bandit
            As in :func:`sknk.bandits.simulate`, like what follows.
        problem : BanditProblem, or callable
            The rounds.
        n_runs : int, default=1
            Repetitions.
        batch_size : int, default=1
            Rounds between lessons.
        random_state : int, RandomState instance or None, default=None
            Of problems and policies.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.
        band_kw : dict, default=None
            Style of the bands.
        **line_kw : dict
            Style of the lines.

        Returns
        -------
        RegretDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        pyplot(f"{cls.__name__}.from_estimator")
        played = simulate(
            policies, problem, n_runs=n_runs, batch_size=batch_size, random_state=random_state
        )
        return cls.from_predictions(played, ax=ax, band_kw=band_kw, **line_kw)

    @classmethod
    def from_predictions(
        cls,
        simulation: Simulation,
        *,
        ax: Any = None,
        band_kw: Mapping[str, Any] | None = None,
        **line_kw: Any,
    ) -> Self:
        """Draw curves that are known already.

        Parameters
        ----------
        simulation : Simulation
            What :func:`sknk.bandits.simulate` returned.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.
        band_kw : dict, default=None
            Style of the bands.
        **line_kw : dict
            Style of the lines.

        Returns
        -------
        RegretDisplay

        Raises
        ------
        TypeError
            If it is no Simulation.
        ImportError
            If matplotlib is not installed.
        """
        pyplot(f"{cls.__name__}.from_predictions")
        if not isinstance(simulation, Simulation):
            kind = type(simulation).__name__
            raise TypeError(f"`simulation` is a {kind}; expected what `simulate` returns.")
        return cls(simulation).plot(ax, band_kw=band_kw, **line_kw)

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
        RegretDisplay
            Itself, with the artists as attributes.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        ax = axes_on(ax, f"{type(self).__name__}.plot", (5.6, 3.8))
        self.lines_, self.bands_ = {}, {}
        for name, curves in self.simulation.regret.items():
            t = np.arange(1, curves.shape[1] + 1)
            self.lines_[name], band = draw_mean(ax, t, curves, {"label": name}, line_kw, band_kw)
            if band is not None:
                self.bands_[name] = band
        ax.set(xlabel="rounds", ylabel="cumulative regret")
        ax.legend(fontsize="small")
        self.ax_, self.figure_ = ax, ax.figure
        return self
