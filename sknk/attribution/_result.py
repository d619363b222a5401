"""What every fitted attributor tells: values, ranks, tables, and what removing rows does."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from sknk._validation import check_pandas_support
from sknk.attribution._curves import refits

__all__ = ["AttributionResult", "Curve"]


@dataclass(frozen=True)
class Curve:
    """Scores of models refitted without, or on, a growing part of the training rows.

    Attributes
    ----------
    fractions : ndarray of shape (f,)
        Parts of the rows that were removed, or kept.
    scores : ndarray of shape (f,)
        Test scores, rows in the order of their values.
    random_scores : ndarray of shape (r, f)
        The same in random orders.
    order : {"lowest", "highest"}
        Which values go first.
    action : {"remove", "add"}
        What is done to them.
    """

    fractions: np.ndarray
    scores: np.ndarray
    random_scores: np.ndarray
    order: str
    action: str


class AttributionResult:
    """The one form of all attributors' results; a fitted attributor is one.

    Attributes
    ----------
    values_ : ndarray of shape (n,)
        What each training row adds to the utility; positive is helpful.
    std_error_ : ndarray of shape (n,)
        Standard errors of sampled values; zeros of exact ones.
    """

    values_: np.ndarray
    std_error_: np.ndarray
    estimator_: Any
    _data: tuple[Any, np.ndarray]

    def attribute(self, X_test: Any, y_test: Any) -> np.ndarray:
        """Return what each training row adds to the prediction of each test row.

        Parameters
        ----------
        X_test : array-like of shape (m, d)
            Test rows.
        y_test : array-like of shape (m,)
            Their targets.

        Returns
        -------
        ndarray of shape (m, n)
            Positive where the training row helps.
        """
        raise NotImplementedError

    def rank(self) -> np.ndarray:
        """Return the rank of every row, 0 the most helpful; (n,), ties in row order."""
        check_is_fitted(self)
        order = np.argsort(-self.values_, kind="stable")
        ranks = np.empty_like(order)
        ranks[order] = np.arange(len(order))
        return ranks

    def top(self, k: int | None = None) -> np.ndarray:
        """Return the k most helpful rows, the best first; (k,). None is ten, or all of fewer."""
        return np.argsort(self.rank())[: _checked_count(k, len(self.values_))]

    def bottom(self, k: int | None = None) -> np.ndarray:
        """Return the k least helpful rows, the worst first; (k,). None is ten, or all of fewer."""
        return np.argsort(self.rank())[::-1][: _checked_count(k, len(self.values_))]

    def to_frame(self) -> Any:
        """Return a data frame of values, standard errors and ranks; needs pandas.

        Returns
        -------
        pandas.DataFrame
            One line a row, or a group; columns ``value``, ``std_error``, ``rank``.
        """
        check_is_fitted(self)
        pandas = check_pandas_support("AttributionResult.to_frame")
        columns = {"value": self.values_, "std_error": self.std_error_, "rank": self.rank()}
        return pandas.DataFrame(columns, index=getattr(self, "groups_", None))

    def removal_curve(
        self,
        X_test: Any,
        y_test: Any,
        *,
        order: str = "lowest",
        fractions: Any = None,
        n_random: int = 10,
        random_state: Any = None,
    ) -> Curve:
        """Return test scores of models refitted without a growing part of the rows.

        Removing the lowest values first should keep the score, the highest first should break it.

        Parameters
        ----------
        X_test : array-like of shape (m, d)
            Rows that took no part in the values.
        y_test : array-like of shape (m,)
            Their targets.
        order : {"lowest", "highest"}, default="lowest"
            Which values go first.
        fractions : array-like of shape (f,) or None, default=None
            Parts of the rows to remove, in [0, 1); None is 0 to .5 by .05.
        n_random : int, default=10
            Random orders to compare with.
        random_state : int, RandomState or None, default=None
            Seed of the random orders.

        Returns
        -------
        Curve
            Accuracies, or R2.

        Raises
        ------
        ValueError
            For fractions or an order that are not valid.
        """
        parts = np.linspace(0, 0.5, 11) if fractions is None else fractions
        return self._curve(X_test, y_test, order, parts, n_random, random_state, "remove")

    def addition_curve(
        self,
        X_test: Any,
        y_test: Any,
        *,
        order: str = "highest",
        fractions: Any = None,
        n_random: int = 10,
        random_state: Any = None,
    ) -> Curve:
        """Return test scores of models fitted to a growing part of the rows.

        Parameters
        ----------
        X_test : array-like of shape (m, d)
            Rows that took no part in the values.
        y_test : array-like of shape (m,)
            Their targets.
        order : {"lowest", "highest"}, default="highest"
            Which values come first.
        fractions : array-like of shape (f,) or None, default=None
            Parts of the rows to keep, in (0, 1]; None is .05 to .5 by .05.
        n_random : int, default=10
            Random orders to compare with.
        random_state : int, RandomState or None, default=None
            Seed of the random orders.

        Returns
        -------
        Curve
            Accuracies, or R2.

        Raises
        ------
        ValueError
            For fractions or an order that are not valid.
        """
        parts = np.linspace(0.05, 0.5, 10) if fractions is None else fractions
        return self._curve(X_test, y_test, order, parts, n_random, random_state, "add")

    def _curve(
        self,
        X_test: Any,
        y_test: Any,
        order: str,
        fractions: Any,
        n_random: int,
        random_state: Any,
        action: str,
    ) -> Curve:
        check_is_fitted(self)
        if order not in ("lowest", "highest"):
            raise ValueError(f"`order` is {order!r}; expected 'lowest' or 'highest'.")
        n = len(self.values_)
        if hasattr(self, "groups_"):
            raise ValueError(f"Values are of {n} groups; curves are of rows. Fit without `groups`.")
        parts = np.asarray(fractions, dtype=np.float64)
        share = 1.0 - parts if action == "remove" else parts  # that is kept
        if parts.ndim != 1 or not parts.size or not ((share > 0) & (share <= 1)).all():
            raise ValueError(
                f"`fractions` is {fractions!r}; expected parts of {n} rows, at least one row kept."
            )
        low, high = (0, n - 1) if action == "remove" else (1, n)
        counts = np.clip(np.rint(parts * n), low, high).astype(int)
        score = refits(self.estimator_, *self._data, X_test, y_test)
        # NumPy's global generator is left alone.
        rng = np.random.default_rng() if random_state is None else check_random_state(random_state)
        own = np.argsort(self.rank())[:: 1 if order == "highest" else -1]

        def along(ranked: np.ndarray) -> list[float]:
            kept = [ranked[c:] if action == "remove" else ranked[:c] for c in counts]
            return [score(np.sort(rows)) for rows in kept]

        random = np.array([along(rng.permutation(n)) for _ in range(n_random)])
        return Curve(
            parts, np.array(along(own)), random.reshape(n_random, len(parts)), order, action
        )


def _checked_count(k: int | None, n: int) -> int:
    if k is None:
        return min(10, n)
    if not 0 <= k <= n:
        raise ValueError(f"`k` is {k!r}; expected 0 to {n}, the number of values.")
    return int(k)
