"""The best row of a pool, by asking for few values."""

from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.utils import check_array, column_or_1d
from sklearn.utils.validation import check_is_fitted

from sknk._array import as_tensor, compute_device, row_dtype, to_numpy
from sknk._estimator import PLACE_CONSTRAINTS, KernelEstimator, unchanged_on_error
from sknk._validation import (
    Interval,
    StrOptions,
    check_positions,
    fit_context,
    private_random_state,
    validate_data,
)
from sknk.bandits._beta import Confidence, Schedule, beta_of
from sknk.bandits._history import units_of
from sknk.kernels import NTK
from sknk.kernels._adapt import as_kernel, copy_of
from sknk.solvers import KernelGram, PoolPosterior, symmetric_roots

__all__ = ["PoolOptimizer"]


class PoolOptimizer(KernelEstimator):
    r"""Find the row of a pool with the largest value, by asking for few of them.

    A Gaussian process over all rows says which to try next: the largest
    :math:`\mu + \beta \sigma` (GP-UCB, Srinivas et al. 2012), in batches with variances that fall
    for rows that are on their way (GP-BUCB, Desautels, Krause and Burdick 2014), or the best row of
    a drawn function (Thompson). Every value that comes costs O(t P) for means and variances of all
    P rows, exactly.

    Parameters
    ----------
    kernel : kernel or None, default=None
        Of rows; None is ``NTK(depth=2, bias_var=1.0)``, for standardized columns.
    strategy : {"ucb", "thompson"}, default="ucb"
        What a row is asked for by.
    beta : float, "theory", "gp-ucb" or callable, default=2.0
        Factor of standard deviations, as of :class:`NTKUCB`; values are standardized. "theory"
        takes a norm of 1, noise of scale 1/2 and delta 0.1.
    noise_variance : float, default=0.01
        Of a value around its mean, in units of the variance of values.
    replace : bool, default=False
        Ask for rows that were asked for before, as noisy values may want.
    n_candidates : int, default=1000
        Rows at which functions are drawn, at random where there are more; cubic cost.
    random_state : int, RandomState instance or None, default=None
        Of draws and ties.
    device : str or None, default=None
        "auto", a torch device, or None for what is configured (the CPU).
    dtype : {"float32", "float64"} or None, default=None
        Of kernels; None is float64.

    Attributes
    ----------
    asked_ : ndarray of int
        Rows on their way: asked for, not told.
    told_ : ndarray of int
        Rows with a value, in order.
    values_ : ndarray of float
        Their values.
    best_index_ : int
        The told row of the largest value.
    best_value_ : float
        Its value.
    n_features_in_ : int
        Features seen in ``fit``.
    feature_names_in_ : ndarray of str
        Their names, where the rows had names.

    Examples
    --------
    >>> import numpy as np
    >>> from sknk.bandits import PoolOptimizer
    >>> X = np.linspace(-2, 2, 200)[:, None]
    >>> value = np.exp(-((X[:, 0] - 0.7) ** 2) * 4)
    >>> search = PoolOptimizer(random_state=0).fit(X)
    >>> for _ in range(8):
    ...     rows = search.ask(3)
    ...     search = search.tell(rows, value[rows])
    >>> search.best_value_ > 0.99
    True
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "kernel": [None, Callable],
        "strategy": [StrOptions({"ucb", "thompson"})],
        "beta": [
            Interval(Real, 0, None, closed="left"),
            StrOptions({"theory", "gp-ucb"}),
            Callable,
        ],
        "noise_variance": [Interval(Real, 0, None, closed="neither")],
        "replace": ["boolean"],
        "n_candidates": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
        **PLACE_CONSTRAINTS,
    }

    def __init__(
        self,
        kernel: Any = None,
        *,
        strategy: str = "ucb",
        beta: Schedule = 2.0,
        noise_variance: float = 0.01,
        replace: bool = False,
        n_candidates: int = 1000,
        random_state: Any = None,
        device: str | None = None,
        dtype: str | None = None,
    ) -> None:
        self.kernel = kernel
        self.strategy = strategy
        self.beta = beta
        self.noise_variance = noise_variance
        self.replace = replace
        self.n_candidates = n_candidates
        self.random_state = random_state
        self.device = device
        self.dtype = dtype

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None) -> Self:
        """Take the pool, and values that are known.

        Parameters
        ----------
        X : array-like of shape (P, d)
            Rows.
        y : array-like of shape (P,), default=None
            Values, nan where they are not known; None knows none.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For rows and values that do not go together.
        """
        with unchanged_on_error(self):
            X = validate_data(self, X, dtype=np.float64)
            self.X_fit_ = X
            self._rng = private_random_state(self.random_state)
            self.asked_ = self.told_ = np.empty(0, dtype=int)
            self.values_ = np.empty(0)
            self._posterior: PoolPosterior | None = None
            if y is not None:
                y = column_or_1d(check_array(y, ensure_2d=False, ensure_all_finite="allow-nan"))
                if len(y) != len(X):
                    raise ValueError(f"`y` has {len(y)} values; expected {len(X)}, one a row.")
                known = np.flatnonzero(~np.isnan(y))
                self.tell(known, y[known])
        return self

    def ask(self, n: int = 1) -> np.ndarray:
        """Return rows whose values to find next; they are on their way until told.

        Parameters
        ----------
        n : int, default=1
            How many.

        Returns
        -------
        ndarray of int of shape (n,)
            Positions in the pool.

        Raises
        ------
        ValueError
            If fewer rows are left.
        """
        check_is_fitted(self, "X_fit_")
        open_ = np.ones(len(self.X_fit_), dtype=bool)
        if not self.replace:
            open_[self.told_] = open_[self.asked_] = False
        if not isinstance(n, Integral) or n < 1 or (n > open_.sum() and not self.replace):
            raise ValueError(
                f"`n` is {n!r}; expected a positive number, and {open_.sum()} rows are left that "
                "were not asked for. Pass replace=True to ask again."
            )
        chosen: list[int] = []
        with self._place(), torch.no_grad():
            believed = self._known().copy()
            for row in self.asked_:
                believed.observe(int(row), None)
            for _ in range(n):
                row = self._next(believed, open_)
                believed.observe(row, None)
                open_[row] = self.replace
                chosen.append(row)
        self.asked_ = np.append(self.asked_, chosen)
        return np.asarray(chosen)

    def tell(self, indices: Any, y: Any) -> Self:
        """Take values of rows.

        Parameters
        ----------
        indices : array-like of int of shape (m,)
            Positions in the pool, asked for or not.
        y : array-like of shape (m,)
            Values; larger is better.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For a position that is not there, or a value that is not finite.
        """
        check_is_fitted(self, "X_fit_")
        rows, values = np.atleast_1d(np.asarray(indices)), np.atleast_1d(y).astype(float)
        if rows.dtype.kind not in "iu" and rows.size:
            raise ValueError(f"`indices` is {indices!r}; expected positions, whole numbers.")
        rows = rows.astype(int)
        check_positions(rows, "indices", len(self.X_fit_))
        if rows.shape != values.shape:
            raise ValueError(f"`y` has shape {values.shape}; expected {rows.shape}, one a row.")
        if not np.isfinite(values).all():
            bad = np.flatnonzero(~np.isfinite(values))[0]
            raise ValueError(
                f"The value of row {rows[bad]} is {values[bad]}; expected a finite one. Leave out "
                "what is not known yet: such rows stay among `asked_`."
            )
        with self._place(), torch.no_grad():
            posterior = self._known().copy()
            for row, value in zip(rows.tolist(), values.tolist(), strict=True):
                posterior.observe(row, [value, 1.0])
        left = self.asked_.tolist()
        for row in rows.tolist():
            if row in left:
                left.remove(row)
        self._posterior, self.asked_ = posterior, np.asarray(left, dtype=int)
        self.told_, self.values_ = np.append(self.told_, rows), np.append(self.values_, values)
        return self

    def predict_pool(self, return_std: bool = False) -> Any:
        """Return expected values of all rows of the pool.

        Parameters
        ----------
        return_std : bool, default=False
            Also return standard deviations of expected values.

        Returns
        -------
        mean : ndarray of shape (P,)
            In units of values.
        std : ndarray of shape (P,)
            If `return_std`.
        """
        check_is_fitted(self, "X_fit_")
        with self._place(), torch.no_grad():
            known = self._known()
            mean = to_numpy(self._mean(known)).astype(np.float64)
            std = to_numpy(known.variance.sqrt()).astype(np.float64) * self._units()[1]
        return (mean, std) if return_std else mean

    @property
    def best_index_(self) -> int:
        """The told row of the largest value."""
        check_is_fitted(self, "X_fit_")
        if not len(self.told_):
            raise ValueError("No value was told yet; expected some. Call `tell` first.")
        return int(self.told_[self.values_.argmax()])

    @property
    def best_value_(self) -> float:
        """The largest value told."""
        return float(self.values_[np.flatnonzero(self.told_ == self.best_index_)].max())

    # --- what is known ---------------------------------------------------------------------------

    def _place(self) -> Any:
        return self._context(self.X_fit_)

    def _known(self) -> PoolPosterior:
        """Return the law given all values; after a pickle it is found again, value by value."""
        if self._posterior is None:
            kernel = self._checked_kernel()
            device = compute_device()
            rows = as_tensor(self.X_fit_, device, row_dtype(device))
            found = PoolPosterior(KernelGram(kernel, rows), float(self.noise_variance), 2)
            for row, value in zip(self.told_.tolist(), self.values_.tolist(), strict=True):
                found.observe(row, [value, 1.0])
            self._posterior = found
        return self._posterior

    def _checked_kernel(self) -> Any:
        """Return a copy of the kernel."""
        default = NTK(depth=2, bias_var=1.0)
        return copy_of(as_kernel(default if self.kernel is None else self.kernel))

    def _units(self) -> tuple[float, float]:
        """Return centre and scale of values."""
        return units_of(self.values_)

    def _mean(self, posterior: PoolPosterior) -> torch.Tensor:
        both = posterior.mean
        return both[:, 0] + self._units()[0] * (1.0 - both[:, 1])

    def _next(self, believed: PoolPosterior, open_: np.ndarray) -> int:
        """Return the open row to ask for; `believed` has those on their way."""
        rows = np.flatnonzero(open_)
        if self.strategy == "thompson" and len(rows) > self.n_candidates:
            rows = np.sort(self._rng.choice(rows, self.n_candidates, replace=False))
        at = torch.as_tensor(rows, device=believed.mean.device)
        # Means are of the values that came; rows on their way lower variances only.
        mean, scale = self._mean(self._known())[at], self._units()[1] * self._factor(believed)
        if self.strategy == "ucb":
            index = to_numpy(mean + scale * believed.variance[at].sqrt())
        else:
            noise = as_tensor(self._rng.standard_normal(len(rows)), mean.device, mean.dtype)
            root = symmetric_roots(believed.covariance(at)[None])[0]
            index = to_numpy(mean + scale * (root @ noise))
        best = np.flatnonzero(index == index.max())
        return int(rows[self._rng.choice(best)])

    def _factor(self, believed: PoolPosterior) -> float:
        t = len(believed.rows) + 1
        known = Confidence(1.0, 0.5, 0.1, float(self.noise_variance))
        return beta_of(self.beta, known, len(self.X_fit_), t, lambda: believed.information_gain)

    def __getstate__(self) -> dict[str, Any]:
        """Drop the law: values and rows give it again."""
        state = super().__getstate__()
        return {name: None if name == "_posterior" else value for name, value in state.items()}
