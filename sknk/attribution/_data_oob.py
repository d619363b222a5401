"""Data-OOB: how well bags without a row predict it."""

import warnings
from collections.abc import Iterator
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator, is_classifier, is_regressor
from sklearn.ensemble import BaggingClassifier, BaggingRegressor
from sklearn.utils import Tags, check_array, get_tags
from sklearn.utils.multiclass import type_of_target

from sknk._pipelines import split_pipeline, unwrap_frozen
from sknk._validation import HasMethods
from sknk.attribution._base import BaseAttributor, fitted_estimator
from sknk.attribution._heads import class_numbers
from sknk.attribution._rows import are_numbers, as_numpy, check_pair
from sknk.attribution._runs import drawn_seed
from sknk.exceptions import NumericalWarning

__all__ = ["DataOOB"]

_BAGS = 500


class DataOOB(BaseAttributor):
    r"""Out-of-bag values: how well the members of an ensemble that never saw a row predict it.

    .. math:: \phi_i = \frac{\sum_b 1[i \notin B_b]\; T(y_i, f_b(x_i))}{\sum_b 1[i \notin B_b]}

    with T = 1[y_i = f_b(x_i)] for classes and -(y_i - f_b(x_i))^2 for numbers (Kwon and Zou 2023).
    It needs one ensemble, which may be there already, and no validation rows. O(T n) predictions
    for T bags, O(n) memory.

    Parameters
    ----------
    estimator : None or estimator, default=None
        A bagging ensemble, ``BaggingClassifier``, ``RandomForestRegressor`` and their like, or a
        Pipeline that ends in one: it has ``estimators_`` and ``estimators_samples_`` once fitted,
        and members of a classifier predict positions in its ``classes_``. Cloned and fitted; a
        ``FrozenEstimator`` is used as it is. None is 500 bagged trees, which take all columns.
    random_state : int, RandomState or None, default=None
        Seed of the bags; of None only.
    n_jobs : int or None, default=None
        Processes that fit trees; of None only.

    Attributes
    ----------
    values_ : ndarray of shape (n,)
        Part of the bags that are right, or minus the mean squared error, units of y squared.
        Rows in every bag have the mean of the others.
    std_error_ : ndarray of shape (n,)
        Standard errors over bags; of rows out of fewer than two bags, from the spread of others.
    n_bags_ : ndarray of int of shape (n,)
        Bags without each row.
    estimator_ : estimator
        The fitted ensemble.
    n_features_in_ : int
        Columns seen in ``fit``.
    feature_names_in_ : ndarray of str
        Their names, where the rows had names.

    Warns
    -----
    NumericalWarning
        In ``fit``, if rows are in every bag: nothing is known of them.

    References
    ----------
    .. [1] Y. Kwon and J. Zou, "Data-OOB: out-of-bag estimate as a simple and efficient data value",
       2023, equation 4.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.ensemble import RandomForestClassifier
    >>> from sknk.attribution import DataOOB
    >>> X, y = load_iris(return_X_y=True)
    >>> y[7] = 2
    >>> values = DataOOB(RandomForestClassifier(random_state=0)).fit(X, y)
    >>> int(values.bottom(1)[0])
    7
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "estimator": [None, HasMethods(["fit"])],
        "random_state": ["random_state"],
        "n_jobs": [None, Integral],
    }

    def __init__(
        self, estimator: Any = None, *, random_state: Any = None, n_jobs: int | None = None
    ) -> None:
        self.estimator = estimator
        self.random_state = random_state
        self.n_jobs = n_jobs

    def attribute(self, X_test: Any, y_test: Any) -> np.ndarray:
        """Refuse: bags judge the training rows, each by itself.

        Parameters
        ----------
        X_test, y_test : object
            Ignored.

        Raises
        ------
        NotImplementedError
            Always.
        """
        raise NotImplementedError(
            "DataOOB judges training rows by bags without them, and has no values for test rows. "
            "Use KNNShapleyAttributor, or RepresenterAttributor of a kernel machine."
        )

    def _fit_estimator(self, X: Any, y: Any, X_val: Any, y_val: Any) -> None:
        # Validation rows are not needed: every row has judges of its own.
        check_pair(X_val, y_val)
        X, y = as_numpy(X), as_numpy(y)
        type_of_target(y, input_name="y", raise_unknown=True)
        given = self._default(y) if self.estimator is None else self.estimator
        self.estimator_ = fitted_estimator(given, X, y)
        fitted = unwrap_frozen(self.estimator_)
        for name in ("n_features_in_", "feature_names_in_"):
            self.__dict__.pop(name, None)
            if hasattr(fitted, name):
                setattr(self, name, getattr(fitted, name))
        y = np.asarray(y)
        self._data = (X, y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y)

    def __sklearn_tags__(self) -> Tags:
        """Take rows as the ensemble does."""
        tags = super().__sklearn_tags__()
        if self.estimator is None:
            tags.input_tags = get_tags(BaggingClassifier()).input_tags
        return tags

    def _default(self, y: Any) -> BaseEstimator:
        ensemble = BaggingRegressor if are_numbers(y) else BaggingClassifier
        # None would have bags drawn from NumPy's global generator.
        seed = drawn_seed(self.random_state, None)
        return ensemble(n_estimators=_BAGS, random_state=seed, n_jobs=self.n_jobs)

    def _attribute_rows(self, X: Any, y: np.ndarray, X_val: Any, y_val: Any) -> None:
        before, ensemble = split_pipeline(self.estimator_)
        _check_ensemble(ensemble, y)
        rows = check_array(
            before(X), accept_sparse="csr", dtype=None, ensure_all_finite=False, input_name="X"
        )
        targets = class_numbers(y, ensemble.classes_) if is_classifier(ensemble) else y
        spread = _Spread(len(y))
        for out, predictions in _out_of_bag(ensemble, rows):
            spread.add(out, _right(ensemble, targets[out], predictions))
        self._keep(spread)

    def _keep(self, spread: "_Spread") -> None:
        known = spread.count > 0
        if not known.any():
            raise ValueError(
                f"Every bag of `estimator` has all rows (n_samples={len(known)}); expected bags "
                "that leave rows out. Pass `bootstrap=True`, or `max_samples` below 1."
            )
        self.n_bags_ = spread.count
        self.values_ = np.where(known, spread.mean, spread.mean[known].mean())
        self.std_error_ = spread.std_error()
        if not known.all():
            warnings.warn(
                f"{int((~known).sum())} of {len(known)} rows, the first of them row "
                f"{int(np.argmin(known))}, are in every bag; they get the mean value of the "
                "others. Raise `n_estimators`.",
                NumericalWarning,
                stacklevel=2,
            )


class _Spread:
    """Means and spreads of what is seen of n rows, one value at a time (Welford 1962)."""

    def __init__(self, n: int) -> None:
        self.count = np.zeros(n, dtype=np.int64)
        self.mean = np.zeros(n)
        self._squares = np.zeros(n)

    def add(self, rows: np.ndarray, seen: np.ndarray) -> None:
        """Take one value for each of some rows."""
        self.count[rows] += 1
        gap = seen - self.mean[rows]
        self.mean[rows] += gap / self.count[rows]
        self._squares[rows] += gap * (seen - self.mean[rows])

    def std_error(self) -> np.ndarray:
        """Return standard errors of the means; of fewer than two values by all rows' variance."""
        freedom = np.maximum(self.count - 1, 0)
        pooled = self._squares.sum() / max(int(freedom.sum()), 1)
        variance = np.where(self.count > 1, self._squares / np.maximum(freedom, 1), pooled)
        return np.sqrt(variance / np.maximum(self.count, 1))


def _check_ensemble(ensemble: Any, y: np.ndarray) -> None:
    bagged = hasattr(ensemble, "estimators_") and hasattr(ensemble, "estimators_samples_")
    if not bagged or not (is_classifier(ensemble) or is_regressor(ensemble)):
        name = repr(ensemble) if isinstance(ensemble, BaseEstimator) else type(ensemble).__name__
        raise TypeError(
            f"`estimator` is {name}; expected a bagging classifier or regressor, with "
            "`estimators_samples_`. Wrap others, as in BaggingClassifier(estimator)."
        )
    if y.ndim != 1:
        raise ValueError(f"`y` has shape {y.shape}; expected (n,), one target a row.")
    seen = getattr(ensemble, "_n_samples", len(y))
    if seen != len(y):
        raise ValueError(
            f"`estimator` was fitted to {seen} rows and `X` has {len(y)}; expected the rows it was "
            "fitted to."
        )


def _out_of_bag(ensemble: Any, rows: Any) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the rows that each bag leaves out, and what it predicts of them."""
    columns = getattr(ensemble, "estimators_features_", None)
    for b, (member, bag) in enumerate(
        zip(ensemble.estimators_, ensemble.estimators_samples_, strict=True)
    ):
        out = np.ones(rows.shape[0], dtype=bool)
        out[bag] = False
        if out.any():
            left = rows[out] if columns is None else rows[out][:, columns[b]]
            yield np.flatnonzero(out), member.predict(left)


def _right(ensemble: Any, targets: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """Return 1 for classes that are right and 0 for others, or minus squared errors."""
    if is_classifier(ensemble):
        return (predictions.astype(np.int64) == targets).astype(np.float64)
    return -np.square(targets - predictions)
