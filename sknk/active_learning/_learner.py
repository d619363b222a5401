"""BatchActiveLearner: an estimator, a pool, and the rows to label next."""

from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, clone
from sklearn.utils import (
    Tags,
    _safe_indexing,
    check_consistent_length,
    column_or_1d,
    get_tags,
)
from sklearn.utils.validation import check_is_fitted

from sknk._array import config_of, to_numpy
from sknk._estimator import PLACE_CONSTRAINTS, unchanged_on_error
from sknk._validation import (
    Interval,
    StrOptions,
    fit_context,
    private_random_state,
    validate_data,
)
from sknk.active_learning._candidates import open_rows
from sknk.active_learning._labels import as_rows, both_dtype, is_missing, lesson
from sknk.active_learning._learners import View, default_for, laws_of, taught, view_of
from sknk.active_learning._select_batch import choose, generator_of, selector_of
from sknk.active_learning._selectors import Selector
from sknk.active_learning._space import Space
from sknk.active_learning._spaces import Rows, checked_rows, space_of, space_without_kernel
from sknk.active_learning._transforms import Transform
from sknk.ridge import NTKRidge

__all__ = ["BatchActiveLearner"]


class BatchActiveLearner(BaseEstimator):
    r"""Fit an estimator to the rows that have labels, and say which others to label next.

    ``fit`` takes all rows at once; those without a label have `missing_label`, as in
    scikit-activeml. ``query`` returns rows, ``teach`` takes their labels: a ridge or Gaussian
    process appends to its factorization, O(n^2 m) for m new rows, hyperparameters as they are;
    other estimators are fitted again.

    Parameters
    ----------
    estimator : estimator, nn.Module or None, default=None
        Regressor or classifier, or a Pipeline that ends in one: rows are compared behind its
        transformers. A torch module is trained by :class:`~sknk.networks.NetworkRegressor` or
        :class:`~sknk.networks.NetworkClassifier`; a skorch net trains its own. None is
        :class:`~sknk.NTKRidge` for labels that are floating-point numbers,
        :class:`~sknk.NTKRidgeClassifier` for others; where nan stands for no label, numbers of
        classes are floating-point too, and the classifier has to be passed.
    selector : "auto", str or Selector, default="auto"
        As `method` of :func:`select_batch`; "auto" is "bait" for ridges and Gaussian processes with
        their own kernel, "lcmd" otherwise.
    kernel : kernel, {"gradient", "last_layer", "members"} or None, default=None
        Inner product of rows. None is the estimator's own: a ridge's or Gaussian process's kernel,
        as fitted, "gradient" of a network or "members" of a forest. "gradient" is a network's
        tangent kernel, sketched to 512 features; "last_layer" that of its last layer's inputs;
        "members" the covariance of an ensemble's predictions (:func:`ensemble_features`).
    transforms : iterable of Transform, default=()
        Of the inner products, from left to right.
    batch_size : int, default=1
        Rows of a batch.
    mode : {"auto", "P", "TP"}, default="auto"
        As in :func:`select_batch`.
    noise_variance : float or None, default=None
        Noise of labels, units of the kernel. None is a ridge's `alpha`, a Gaussian process's noise
        over its amplitude, 1e-6 for others.
    missing_label : float, str, int or None, default=nan
        What stands for no label.
    random_state : int, RandomState instance or None, default=None
        Of what is drawn. With a number, a query depends on it and on how many labels there are.
    device : str or None, default=None
        "auto", a torch device, or None for what is configured (the CPU).
    dtype : {"float32", "float64"} or None, default=None
        Of kernels; None is float64.

    Attributes
    ----------
    estimator_ : estimator or None
        Fitted to the rows with labels; None without any.
    X_fit_ : ndarray or DataFrame of shape (n, d)
        All rows.
    y_fit_ : ndarray of shape (n,)
        Labels, and `missing_label`.
    is_labelled_ : ndarray of bool of shape (n,)
        Which rows have one.
    n_features_in_ : int
        Features seen in ``fit``.
    feature_names_in_ : ndarray of str
        Their names, where the rows had names.

    See Also
    --------
    select_batch : Selectors without an estimator.

    Notes
    -----
    Cold start: without any label a query is by the kernel alone, before hyperparameters are fitted,
    and without training rows: "bait" chooses the rows that tell most about all others.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sknk import NTKRidge
    >>> from sknk.active_learning import BatchActiveLearner
    >>> X, y = load_diabetes(return_X_y=True)
    >>> known = np.where(np.arange(len(y)) < 20, y, np.nan)
    >>> model = make_pipeline(StandardScaler(), NTKRidge(alpha=0.5))
    >>> learner = BatchActiveLearner(model, batch_size=10).fit(X, known)
    >>> rows = learner.query()
    >>> learner.teach(rows, y[rows]).is_labelled_.sum()
    np.int64(30)
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "estimator": "no_validation",
        "selector": [str, Selector],
        "kernel": "no_validation",
        "transforms": "no_validation",
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "mode": [StrOptions({"auto", "P", "TP"})],
        "noise_variance": [None, Interval(Real, 0, None, closed="neither")],
        "missing_label": "no_validation",
        "random_state": ["random_state"],
        **PLACE_CONSTRAINTS,
    }

    def __init__(
        self,
        estimator: Any = None,
        selector: Any = "auto",
        *,
        kernel: Any = None,
        transforms: Iterable[Transform] = (),
        batch_size: int = 1,
        mode: str = "auto",
        noise_variance: float | None = None,
        missing_label: Any = np.nan,
        random_state: Any = None,
        device: str | None = None,
        dtype: str | None = None,
    ) -> None:
        self.estimator = estimator
        self.selector = selector
        self.kernel = kernel
        self.transforms = transforms
        self.batch_size = batch_size
        self.mode = mode
        self.noise_variance = noise_variance
        self.missing_label = missing_label
        self.random_state = random_state
        self.device = device
        self.dtype = dtype

    @fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: Any) -> Self:
        """Fit the estimator to the rows that have labels.

        Parameters
        ----------
        X : array-like of shape (n, d)
            All rows.
        y : array-like of shape (n,)
            Labels, `missing_label` where there is none.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For rows and labels that do not go together, and whatever the estimator refuses.
        """
        with unchanged_on_error(self):
            X, y = self._checked(X, y)
            labelled = ~is_missing(y, self.missing_label)
            if self.selector != "auto":
                selector_of(self.selector)
            self.estimator_ = None
            if labelled.any():
                self.estimator_ = self._fitted(_safe_indexing(X, labelled), y[labelled])
            self.X_fit_, self.y_fit_, self.is_labelled_ = X, y, labelled
        return self

    def query(
        self,
        X: Any = None,
        candidates: Any = None,
        batch_size: int | None = None,
        return_utilities: bool = False,
        *,
        X_target: Any = None,
    ) -> Any:
        """Return the rows to label next.

        Parameters
        ----------
        X : array-like of shape (m, d), default=None
            Rows to choose from; None is the rows of ``fit`` without a label.
        candidates : int, array-like of int or None, default=None
            Rows that may be chosen, of `X` or of ``fit``; a number draws so many at random.
        batch_size : int or None, default=None
            Other than the learner's.
        return_utilities : bool, default=False
            Also return how every row was judged before each choice.
        X_target : array-like of shape (J, d), default=None
            Rows whose predictions are judged, for "vtl".

        Returns
        -------
        indices : ndarray of shape (b,)
            Rows of `X`, or of ``fit``.
        utilities : ndarray of shape (b, m)
            nan for rows that were no candidates or chosen before. The selector's own measure: a
            variance, a squared distance, a fall of variances; for "random" one for all.

        Raises
        ------
        ValueError
            If all rows have labels, or candidates do, or the selector needs what is not there:
            targets, or class probabilities.

        Warns
        -----
        UserWarning
            If fewer candidates are there than the batch should have.
        """
        check_is_fitted(self, "is_labelled_")
        pool = self.X_fit_ if X is None else as_rows(X)
        if X is not None:
            validate_data(self, pool, reset=False, dtype=None, ensure_all_finite=False)
        open_ = np.flatnonzero(~self.is_labelled_) if X is None else np.arange(len(pool))
        if not len(open_):
            raise ValueError(
                f"All {len(pool)} rows have labels; expected at least one without. Pass other rows "
                "as `X`."
            )
        targets = None if X_target is None else as_rows(X_target)
        rng = self._rng()
        open_ = open_rows(candidates, open_, len(pool), rng)
        size = self.batch_size if batch_size is None else batch_size
        with config_of(self.device, self.dtype):
            selector, space, generator = self._space(_safe_indexing(pool, open_), targets, rng)
            found = choose(selector, space, size, generator, mode=self.mode)
            if not return_utilities:
                return open_[found]
            utilities = np.full((len(found), len(pool)), np.nan)
            for line, scores in zip(
                utilities, selector.scores_before(space, found, mode=self.mode), strict=True
            ):
                line[open_] = to_numpy(scores)
        for step, row in enumerate(open_[found]):
            utilities[step + 1 :, row] = np.nan
        return open_[found], utilities

    def teach(self, indices: Any, y: Any) -> Self:
        """Take labels of rows of ``fit``.

        Parameters
        ----------
        indices : array-like of int of shape (m,)
            Rows without a label so far.
        y : array-like of shape (m,)
            Their labels.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For rows that have a label, or labels that are missing.
        """
        check_is_fitted(self, "is_labelled_")
        rows, labels = lesson(indices, y, self.is_labelled_, self.missing_label)
        with unchanged_on_error(self):
            y_fit = self.y_fit_.astype(both_dtype(self.y_fit_, labels), copy=True)
            y_fit[rows] = labels
            labelled = self.is_labelled_.copy()
            labelled[rows] = True
            known = None
            if self.estimator_ is not None:
                known = taught(self.estimator_, _safe_indexing(self.X_fit_, rows), labels)
            if known is None:
                known = self._fitted(_safe_indexing(self.X_fit_, labelled), y_fit[labelled])
            self.estimator_, self.y_fit_, self.is_labelled_ = known, y_fit, labelled
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Return what the estimator predicts.

        Parameters
        ----------
        X : array-like of shape (m, d)
            Rows.

        Returns
        -------
        ndarray of shape (m,)
        """
        return self._taught_estimator().predict(X)

    def score(self, X: Any, y: Any) -> float:
        """Return the estimator's score.

        Parameters
        ----------
        X : array-like of shape (m, d)
            Rows.
        y : array-like of shape (m,)
            Their labels.

        Returns
        -------
        float
        """
        return float(self._taught_estimator().score(X, y))

    def _taught_estimator(self) -> Any:
        check_is_fitted(self, "is_labelled_")
        if self.estimator_ is None:
            raise ValueError("No row has a label yet; expected some. Call `teach` first.")
        return self.estimator_

    def _checked(self, X: Any, y: Any) -> tuple[Any, np.ndarray]:
        """Return rows as passed, and labels."""
        X, y = as_rows(X), column_or_1d(as_rows(y), warn=True)
        validate_data(self, X, dtype=None, ensure_all_finite=False)  # rows stay as passed
        check_consistent_length(X, y)
        return X, y

    def _fitted(self, X: Any, y: np.ndarray) -> Any:
        """Return the estimator fitted to rows with labels."""
        if y.dtype == object:  # labels beside a missing one of another type
            y = np.asarray(y.tolist())
        seed = self.random_state if isinstance(self.random_state, Integral) else None
        return clone(default_for(self.estimator, y, seed)).fit(X, y)

    def _rng(self) -> np.random.RandomState:
        """Return what a query draws from: of a number the same for as many labels."""
        if isinstance(self.random_state, Integral):
            seeds = [int(self.random_state), int(self.is_labelled_.sum())]
            return np.random.RandomState(np.random.MT19937(np.random.SeedSequence(seeds)))
        return private_random_state(self.random_state)

    def _space(
        self, pool: Any, targets: Any, rng: np.random.RandomState
    ) -> tuple[Selector, Space, torch.Generator]:
        """Return selector, rows in the space it looks at, and what it draws from."""
        if self.selector != "auto":
            selector = selector_of(self.selector)
            if not selector.by_kernel:
                laws = laws_of(self.estimator_, selector, pool, pool[:1], rng)
                return selector, space_without_kernel(len(pool), laws[0]), generator_of(rng)
        view = self._view()
        selector = selector_of(view.selector if self.selector == "auto" else self.selector)
        noise = view.noise_variance if self.noise_variance is None else self.noise_variance
        known = None
        if self.is_labelled_.any():
            known = _safe_indexing(self.X_fit_, self.is_labelled_)

        def seen(rows: Any, name: str) -> Any:
            return None if rows is None else checked_rows(view.before(rows), name, view.kernel)

        laws = laws_of(self.estimator_, selector, pool, known, rng)
        rows = Rows(seen(pool, "X"), seen(known, "X"), seen(targets, "X_target"), None, None, *laws)
        generator = generator_of(rng)
        space = space_of(rows, view.kernel, noise, self.transforms, generator)
        return selector, space, generator

    def _view(self) -> View:
        known = self.estimator_
        own = NTKRidge() if self.estimator is None else self.estimator
        seed = int(self.random_state) if isinstance(self.random_state, Integral) else 0
        shown = own if known is None else known
        return view_of(shown, self.kernel, self.X_fit_, fitted=known is not None, seed=seed)

    def __sklearn_tags__(self) -> Tags:
        """Take rows as the estimator does; labels are required, some may be missing."""
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        if isinstance(self.estimator, BaseEstimator):
            tags.input_tags = get_tags(self.estimator).input_tags
        return tags
