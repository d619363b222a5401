"""Shapley values of training rows for nearest neighbours, in closed form."""

from collections.abc import Iterator
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import check_is_fitted

from sknk._estimator import PLACE_CONSTRAINTS
from sknk._validation import Interval, StrOptions, check_memory, validate_data
from sknk.attribution._base import BaseAttributor
from sknk.attribution._heads import class_numbers
from sknk.attribution._neighbors import Neighbors, NeighborVotes
from sknk.attribution._rows import as_numpy, check_pair, judged_rows, place_of

__all__ = ["KNNShapleyAttributor", "hard_values", "soft_values", "threshold_values"]


def hard_values(c: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    r"""Return Shapley values of U(S) = (1/K) sum of c over the min(K, \|S\|) nearest of S.

    s_N = c_N min(K, N) / (N K), s_i = s_{i+1} + (c_i - c_{i+1}) / K min(K, i) / i: equations 6 and
    7 of Jia et al. 2019, whose first, c_N / N, supposes that N >= K. O(m N).

    Parameters
    ----------
    c : ndarray of shape (m, N)
        Whether each training row has the label of the row judged, the nearest first.
    k : int
        K.

    Returns
    -------
    values : ndarray of shape (m, N)
        In the same order.
    full : ndarray of shape (m,)
        Utility of all rows; that of none is 0.
    """
    c = c.astype(np.float64)
    N = c.shape[1]
    i = np.arange(1, N)
    steps = np.empty_like(c)
    steps[:, :-1] = -np.diff(c, axis=1) * (np.minimum(k, i) / (i * k))
    steps[:, -1] = c[:, -1] * (min(k, N) / (N * k))
    return _sums_from_the_right(steps), c[:, :k].sum(axis=1) / k


def soft_values(c: np.ndarray, k: int, n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    r"""Return Shapley values of U(S) = mean of c over the min(K, \|S\|) nearest of S, 1/C of none.

    With K at most N and h = sum_{j <= K} 1/j (Wang, Zhu, Wang, Jia and Mittal 2023),
    s_N = (c_N - mean_{j < N} c_j) (h - 1) / N + (c_N - 1/C) / N and s_i = s_{i+1} + (c_i - c_{i+1})
    / (N - 1) [h + (min(i, K) (N - 1) / i - K) / K]. O(m N).

    Parameters
    ----------
    c : ndarray of shape (m, N)
        Whether each training row has the label of the row judged, the nearest first.
    k : int
        K.
    n_classes : int
        C.

    Returns
    -------
    values : ndarray of shape (m, N)
        In the same order.
    full : ndarray of shape (m,)
        Utility of all rows; that of none is 1/C.
    """
    c = c.astype(np.float64)
    N = c.shape[1]
    k = min(k, N)  # the recursion does not hold beyond
    h = (1.0 / np.arange(1, k + 1)).sum()
    i = np.arange(1, N)
    steps = np.empty_like(c)
    steps[:, :-1] = -np.diff(c, axis=1) * ((h - 1.0) / max(N - 1, 1) + np.minimum(i, k) / (i * k))
    others = c[:, :-1].sum(axis=1) / max(N - 1, 1)
    last = c[:, -1]
    steps[:, -1] = ((last - others) * (h - 1.0) + last - 1.0 / n_classes) / N
    return _sums_from_the_right(steps), c[:, :k].mean(axis=1)


def threshold_values(
    c: np.ndarray, inside: np.ndarray, n_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    r"""Return Shapley values of U(S) = mean of c over the rows of S in a ball, 1/C of none.

    Rows outside never matter, so the game is that of the B rows inside, A of them with the label:
    s_i = [c_i - 1/C + (c_i - (A - c_i) / (B - 1)) (1/2 + ... + 1/B)] / B. The sum over all N rows
    of Wang, Zhu, Wang, Jia and Mittal 2023 is this harmonic number. O(m N).

    Parameters
    ----------
    c : ndarray of shape (m, N)
        Whether each training row has the label of the row judged; any order.
    inside : ndarray of bool of shape (m, N)
        Whether it is in the ball.
    n_classes : int
        C.

    Returns
    -------
    values : ndarray of shape (m, N)
        In the same order.
    full : ndarray of shape (m,)
        Utility of all rows; that of none is 1/C.
    """
    c = c.astype(np.float64)
    N = c.shape[1]
    B = inside.sum(axis=1, keepdims=True)
    A = (c * inside).sum(axis=1, keepdims=True)
    harmonic = np.cumsum(np.concatenate([[0.0], 1.0 / np.arange(1, N + 1)]))
    others = (A - c) / np.maximum(B - 1, 1)
    each = c - 1.0 / n_classes + (c - others) * np.maximum(harmonic[B] - 1.0, 0.0)
    full = np.where(B > 0, A / np.maximum(B, 1), 1.0 / n_classes)
    return np.where(inside, each / np.maximum(B, 1), 0.0), full[:, 0]


def _sums_from_the_right(steps: np.ndarray) -> np.ndarray:
    return np.cumsum(steps[:, ::-1], axis=1)[:, ::-1]


class KNNShapleyAttributor(BaseAttributor):
    r"""Exact Shapley values of training rows for nearest neighbours: one sort, no model.

    .. math:: U_v(S) = \tfrac1K \sum_{j \le \min(K, |S|)} 1[y_{\alpha_j(S)} = y_v], \qquad
        \phi_i = \operatorname{mean}_v \phi_i(U_v)

    for ``variant="hard"``, with the j-th nearest row of S to the row v that judges (Jia et al.
    2019). "soft" has the mean over min(K, \|S\|) neighbours, and "threshold" that over all rows
    within a radius; both 1 / C of no rows (Wang et al. 2023; 2024). Equally distant rows come in
    row order. O(m n (d + log n)) time, memory for blocks of rows that judge.

    Without validation rows each training row is judged by all others. No row judges itself: it is
    a player without a part in that game. Values are means over the n games, exact as well.

    Signs are no threshold: values depend on how many rows share a neighbourhood. Read ranks.

    Parameters
    ----------
    n_neighbors : int, default=5
        K.
    variant : {"hard", "soft", "threshold"}, default="hard"
        What is valued.
    kernel : kernel or None, default=None
        Of the distance k(x, x) + k(v, v) - 2 k(x, v), squared: any of sknk's or scikit-learn's,
        such as the tangent kernel of a network. None is the Euclidean distance of the rows.
    threshold : float or None, default=None
        Radius of "threshold", units of the distance. None is the median distance of the rows that
        judge to their n_neighbors-th neighbour, or to the farthest of fewer.
    device : str or None, default=None
        Of the kernel: "auto", a torch device, or None for what is configured (the CPU).
    dtype : {"float32", "float64"} or None, default=None
        Of the kernel.

    Attributes
    ----------
    values_ : ndarray of shape (n,)
        Positive is helpful; parts of a probability. They sum to ``utility_full_ - utility_empty_``.
    std_error_ : ndarray of shape (n,)
        Zeros.
    utility_full_, utility_empty_ : float
        Utility of all rows, and of none.
    efficiency_gap_ : float
        Sum of the values, less ``utility_full_ - utility_empty_``: rounding.
    classes_ : ndarray of shape (C,)
        Labels.
    threshold_ : float
        The radius, of "threshold" only.
    estimator_ : estimator
        The classifier by neighbours' votes, for ``removal_curve``.
    n_features_in_ : int
        Columns seen in ``fit``.
    feature_names_in_ : ndarray of str
        Their names, where the rows had names.

    References
    ----------
    .. [1] R. Jia, D. Dao, B. Wang, F. A. Hubis, N. M. Gurel, B. Li, C. Zhang, C. Spanos and
       D. Song, "Efficient task-specific data valuation for nearest neighbor algorithms", 2019.
    .. [2] J. T. Wang and R. Jia, "A note on 'Efficient task-specific data valuation for nearest
       neighbor algorithms'", 2023.
    .. [3] J. T. Wang, Y. Zhu, Y.-X. Wang, R. Jia and P. Mittal, "Threshold KNN-Shapley: a
       linear-time and privacy-friendly approach to data valuation", 2023.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sknk.attribution import KNNShapleyAttributor
    >>> X, y = load_iris(return_X_y=True)
    >>> y[7] = 2
    >>> int(KNNShapleyAttributor().fit(X, y).bottom(1)[0])
    7
    """

    estimator: Any = None  # there is none: distances decide

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "variant": [StrOptions({"hard", "soft", "threshold"})],
        "kernel": "no_validation",  # type: ignore[dict-item]
        "threshold": [None, Interval(Real, 0, None, closed="left")],
        **PLACE_CONSTRAINTS,
    }

    def __init__(
        self,
        n_neighbors: int = 5,
        *,
        variant: str = "hard",
        kernel: Any = None,
        threshold: float | None = None,
        device: str | None = None,
        dtype: str | None = None,
    ) -> None:
        self.n_neighbors = n_neighbors
        self.variant = variant
        self.kernel = kernel
        self.threshold = threshold
        self.device = device
        self.dtype = dtype

    def _fit_estimator(self, X: Any, y: Any, X_val: Any, y_val: Any) -> None:
        check_pair(X_val, y_val)
        X, y = as_numpy(X), as_numpy(y)
        rows, y = validate_data(self, X, y, dtype=np.float64)
        if type_of_target(y).startswith("continuous"):
            raise ValueError(
                f"`y` is continuous (its first value is {y[0]!r}); expected labels, which "
                "neighbours share or do not. Use ShapleyAttributor or LeaveOneOutAttributor for "
                "numbers."
            )
        self.classes_, self._codes = np.unique(y, return_inverse=True)
        self._neighbors = Neighbors.of(rows, self.kernel)
        self._data = (X, y)

    def _attribute_rows(self, X: Any, y: np.ndarray, X_val: Any, y_val: Any) -> None:
        own, n = X_val is None, len(y)
        if own and n < 2:
            raise ValueError(
                f"n_samples={n} row; values without validation rows need at least 2. Pass `X_val`."
            )
        rows, codes = self._neighbors.X, self._codes
        if not own:
            rows, codes = self._judges(X_val, y_val)
        self.__dict__.pop("threshold_", None)
        total, full = np.zeros(n), 0.0
        with place_of(self, X):
            if self.variant == "threshold":
                self.threshold_ = self._radius(rows, own=own)
            for _, values, utilities in self._games(rows, codes, own=own):
                total += values.sum(axis=0)
                full += float(utilities.sum())
        self.values_ = total / len(rows)
        self.std_error_ = np.zeros(n)
        self.utility_full_ = full / len(rows)
        self.utility_empty_ = 0.0 if self.variant == "hard" else 1.0 / len(self.classes_)
        gain = self.utility_full_ - self.utility_empty_
        self.efficiency_gap_ = float(self.values_.sum()) - gain
        self.estimator_ = self._votes().fit(*self._data)

    def attribute(self, X_test: Any, y_test: Any) -> np.ndarray:
        """Return the Shapley values of each training row for each test row.

        Parameters
        ----------
        X_test : array-like of shape (m, d)
            Test rows.
        y_test : array-like of shape (m,)
            Their labels, all of them of training.

        Returns
        -------
        ndarray of shape (m, n)
            Positive where the training row helps.
        """
        check_is_fitted(self)
        rows, codes = self._judges(X_test, y_test)
        m, n = len(rows), len(self._codes)
        what, instead = f"Values of n={n} rows for m={m} others", "Use fewer test rows."
        check_memory(8.0 * m * n, torch.device("cpu"), what=what, instead=instead)
        out = np.empty((m, n))
        with place_of(self, X_test):
            for span, values, _ in self._games(rows, codes, own=False):
                out[span] = values
        return out

    def _judges(self, X: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
        rows, y = judged_rows(self, X, y)
        return rows, class_numbers(y, self.classes_)

    def _games(
        self, rows: np.ndarray, codes: np.ndarray, *, own: bool
    ) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
        """Yield values (b, n), and utilities of all rows (b,), of blocks of rows that judge."""
        for span, D in self._neighbors.blocks(rows, own=own):
            match = self._codes == codes[span, None]
            yield span, *self._values_of(match, D, own=own)

    def _values_of(
        self, match: np.ndarray, D: np.ndarray, *, own: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        C = len(self.classes_)
        if self.variant == "threshold":
            return threshold_values(match, self.threshold_ >= D, C)
        order = D.argsort(axis=1, kind="stable")
        order = order[:, :-1] if own else order  # the row itself, at no distance, is last
        c = np.take_along_axis(match, order, axis=1)
        k = self.n_neighbors
        found, full = hard_values(c, k) if self.variant == "hard" else soft_values(c, k, C)
        values = np.zeros(D.shape)
        np.put_along_axis(values, order, found, axis=1)
        return values, full

    def _radius(self, rows: np.ndarray, *, own: bool) -> float:
        if self.threshold is not None:
            return float(self.threshold)
        last = min(self.n_neighbors, len(self._codes) - own) - 1
        blocks = self._neighbors.blocks(rows, own=own)
        return float(np.median(np.concatenate([np.partition(D, last)[:, last] for _, D in blocks])))

    def _votes(self) -> NeighborVotes:
        radius = self.threshold_ if self.variant == "threshold" else None
        place = {"device": self.device, "dtype": self.dtype}
        return NeighborVotes(self.n_neighbors, radius=radius, kernel=self.kernel, **place)
