"""Where the rows of a batch lie among the others."""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from sklearn.decomposition import PCA
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted

from sknk._pipelines import split_pipeline
from sknk._validation import check_positions
from sknk.inspection._plotting import axes_on, pyplot, style

__all__ = ["BatchDisplay"]


class BatchDisplay:
    """Rows in two dimensions: the pool, what has a label, and what a batch asks for.

    Rows of more than two columns are shown by their first two principal components. Create it by
    `from_estimator` or `from_predictions`.

    Parameters
    ----------
    points : ndarray of shape (n, 2)
        All rows.
    labelled : ndarray of bool of shape (n,)
        Rows with labels.
    chosen : ndarray of int of shape (b,)
        Rows of the batch, in the order of choice.
    axis_names : tuple of str, default=("", "")
        Labels of the axes.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Where it is drawn.
    figure_ : matplotlib Figure
        The figure of those axes.
    pool_, labelled_, chosen_ : matplotlib PathCollection
        Points of each kind.

    Examples
    --------
    >>> import numpy as np
    >>> from sknk.active_learning import select_batch
    >>> from sknk.inspection import BatchDisplay
    >>> X = np.random.default_rng(0).normal(size=(50, 2))
    >>> batch = select_batch(X[10:], method="lcmd", batch_size=5, X_train=X[:10]) + 10
    >>> display = BatchDisplay.from_predictions(X, batch, labelled=np.arange(10))
    >>> len(display.chosen_.get_offsets())
    5
    """

    ax_: Any
    figure_: Any
    pool_: Any
    labelled_: Any
    chosen_: Any

    def __init__(
        self,
        points: np.ndarray,
        labelled: np.ndarray,
        chosen: np.ndarray,
        *,
        axis_names: tuple[str, str] = ("", ""),
    ) -> None:
        self.points = points
        self.labelled = labelled
        self.chosen = chosen
        self.axis_names = axis_names

    @classmethod
    def from_estimator(
        cls,
        learner: Any,
        *,
        batch_size: int | None = None,
        ax: Any = None,
        chosen_kw: Mapping[str, Any] | None = None,
        **pool_kw: Any,
    ) -> Self:
        """Query a learner, and draw; rows are shown behind the transformers of a Pipeline.

        Parameters
        ----------
        learner : BatchActiveLearner
            Fitted.
        batch_size : int or None, default=None
            Other than the learner's.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.
        chosen_kw : dict, default=None
            Style of what is chosen.
        **pool_kw : dict
            Style of the pool.

        Returns
        -------
        BatchDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        pyplot(f"{cls.__name__}.from_estimator")
        check_is_fitted(learner, "is_labelled_")
        chosen = learner.query(batch_size=batch_size)
        X = learner.X_fit_
        if learner.estimator_ is not None:
            X = split_pipeline(learner.estimator_)[0](X)
        labelled = np.flatnonzero(learner.is_labelled_)
        return cls.from_predictions(
            X, chosen, labelled=labelled, ax=ax, chosen_kw=chosen_kw, **pool_kw
        )

    @classmethod
    def from_predictions(
        cls,
        X: Any,
        chosen: Any,
        *,
        labelled: Any = (),
        ax: Any = None,
        chosen_kw: Mapping[str, Any] | None = None,
        **pool_kw: Any,
    ) -> Self:
        """Draw a batch that is known already.

        Parameters
        ----------
        X : array-like of shape (n, d)
            All rows.
        chosen : array-like of int of shape (b,)
            Rows of the batch.
        labelled : array-like of int, or of bool of shape (n,), default=()
            Rows with labels.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.
        chosen_kw : dict, default=None
            Style of what is chosen.
        **pool_kw : dict
            Style of the pool.

        Returns
        -------
        BatchDisplay

        Raises
        ------
        ValueError
            For rows that are not there.
        ImportError
            If matplotlib is not installed.
        """
        pyplot(f"{cls.__name__}.from_predictions")
        names = ("", "") if not hasattr(X, "columns") else tuple(map(str, X.columns[:2]))
        X = check_array(X, dtype=np.float64)
        rows, known = _rows(chosen, "chosen", len(X)), _rows(labelled, "labelled", len(X))
        if X.shape[1] > 2:
            components = PCA(2).fit(X)
            shares = 100.0 * components.explained_variance_ratio_
            X = components.transform(X)
            names = tuple(f"component {i + 1}, {share:.0f} %" for i, share in enumerate(shares))
        elif X.shape[1] == 1:
            X = np.column_stack([X[:, 0], np.zeros(len(X))])
            names = (names[0], "")
        mask = np.zeros(len(X), dtype=bool)
        mask[known] = True
        display = cls(X, mask, rows, axis_names=(names[0], names[1]))
        return display.plot(ax, chosen_kw=chosen_kw, **pool_kw)

    def plot(
        self, ax: Any = None, *, chosen_kw: Mapping[str, Any] | None = None, **pool_kw: Any
    ) -> Self:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where; None makes a figure.
        chosen_kw : dict, default=None
            Style of what is chosen.
        **pool_kw : dict
            Style of the pool.

        Returns
        -------
        BatchDisplay
            Itself, with the artists as attributes.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        ax = axes_on(ax, f"{type(self).__name__}.plot", (5.0, 4.4))
        from matplotlib.collections import PathCollection

        pool = ~self.labelled
        pool[self.chosen] = False
        plain = style(PathCollection, {"s": 9.0, "color": "0.75", "label": "pool"}, pool_kw)
        self.pool_ = ax.scatter(*self.points[pool].T, **plain)
        self.labelled_ = ax.scatter(
            *self.points[self.labelled].T, s=18.0, marker="s", color="tab:blue", label="labelled"
        )
        default = {"s": 40.0, "marker": "*", "color": "tab:red", "label": "batch", "zorder": 3}
        kw = style(PathCollection, default, chosen_kw)
        self.chosen_ = ax.scatter(*self.points[self.chosen].T, **kw)
        ax.set(xlabel=self.axis_names[0], ylabel=self.axis_names[1])
        ax.legend(fontsize="small")
        self.ax_, self.figure_ = ax, ax.figure
        return self


def _rows(rows: Any, name: str, n: int) -> np.ndarray:
    """Return numbers of rows, of a mask too."""
    found = np.asarray(rows)
    if found.dtype.kind == "b" and len(found) == n:
        return np.flatnonzero(found)
    if found.size and found.dtype.kind not in "iu":
        raise ValueError(
            f"`{name}` has dtype {found.dtype} and {len(found)} entries; expected numbers of rows, "
            f"or a mask of {n}."
        )
    check_positions(found, name, n)
    return found.astype(int)
