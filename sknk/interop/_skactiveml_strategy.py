"""A selector as a query strategy: scikit-activeml's cycle around our choice of rows."""

from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.base import clone
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted

from sknk._array import config_of, to_numpy
from sknk._estimator import PLACE_CONSTRAINTS
from sknk._validation import Interval, StrOptions
from sknk.active_learning import Selector, Transform
from sknk.active_learning._learners import View, laws_of, view_of
from sknk.active_learning._select_batch import choose, generator_of, selector_of
from sknk.active_learning._space import Space
from sknk.active_learning._spaces import Rows, checked_rows, space_of

try:
    from skactiveml.base import (
        SingleAnnotatorPoolQueryStrategy,
        SkactivemlClassifier,
        SkactivemlRegressor,
    )
    from skactiveml.utils import check_equal_missing_label, check_type, is_labeled
except ImportError as error:
    raise ImportError(
        "to_skactiveml needs scikit-activeml; install it with `pip install 'sknk[activeml]'`."
    ) from error

__all__ = ["SelectorStrategy", "named_selector"]

_NOISE = 1e-6  # that of `select_batch`


class SelectorStrategy(SingleAnnotatorPoolQueryStrategy):
    """Chooses the candidates of a query as a selector; see :func:`sknk.interop.to_skactiveml`.

    Parameters
    ----------
    selector : "auto", str or Selector, default="auto"
        How to choose.
    kernel : kernel, str or None, default=None
        Inner product of rows; None is the estimator's own, without one rows are features.
    transforms : iterable of Transform, default=()
        Of the inner products, from left to right.
    mode : {"auto", "P", "TP"}, default="auto"
        What rows with labels are.
    noise_variance : float or None, default=None
        Noise of labels, units of the kernel; None is the estimator's.
    device : str or None, default=None
        "auto", a torch device, or None for what is configured (the CPU).
    dtype : {"float32", "float64"} or None, default=None
        Of kernels.
    missing_label : float, str, int or None, default=nan
        What stands for no label.
    random_state : int, RandomState instance or None, default=None
        Of what is drawn.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "selector": [str, Selector],
        "kernel": "no_validation",
        "transforms": "no_validation",
        "mode": [StrOptions({"auto", "P", "TP"})],
        "noise_variance": [None, Interval(Real, 0, None, closed="neither")],
        "missing_label": "no_validation",
        "random_state": ["random_state"],
        **PLACE_CONSTRAINTS,
    }

    def __init__(
        self,
        selector: Any = "auto",
        *,
        kernel: Any = None,
        transforms: Iterable[Transform] = (),
        mode: str = "auto",
        noise_variance: float | None = None,
        device: str | None = None,
        dtype: str | None = None,
        missing_label: Any = np.nan,
        random_state: Any = None,
    ) -> None:
        super().__init__(missing_label=missing_label, random_state=random_state)
        self.selector = selector
        self.kernel = kernel
        self.transforms = transforms
        self.mode = mode
        self.noise_variance = noise_variance
        self.device = device
        self.dtype = dtype

    def query(
        self,
        X: Any,
        y: Any,
        reg: Any = None,
        fit_reg: bool = True,
        clf: Any = None,
        fit_clf: bool = True,
        sample_weight: Any = None,
        candidates: Any = None,
        X_eval: Any = None,
        batch_size: int = 1,
        return_utilities: bool = False,
    ) -> Any:
        """Return the candidates to label next.

        Parameters
        ----------
        X : array-like of shape (n, d)
            All rows.
        y : array-like of shape (n,)
            Labels, `missing_label` where there is none.
        reg : SkactivemlRegressor or None, default=None
            By whose kernel rows are compared.
        fit_reg : bool, default=True
            Fit a copy of it to the rows with labels; False takes it as it is.
        clf : SkactivemlClassifier or None, default=None
            In place of `reg`.
        fit_clf : bool, default=True
            As `fit_reg`.
        sample_weight : array-like of shape (n,), default=None
            Of the rows, for the fit.
        candidates : None, array-like of int of shape (m,) or array-like of shape (m, d)
            Rows that may be chosen: those of `X` without a label, those numbered, or others.
        X_eval : array-like of shape (J, d), default=None
            Rows whose predictions are judged, for "vtl"; None is `X`.
        batch_size : int, default=1
            How many; clipped to the candidates, with a warning.
        return_utilities : bool, default=False
            Also return how every row was judged before each choice.

        Returns
        -------
        indices : ndarray of shape (b,)
            Rows of `X`, or of `candidates` where these are rows.
        utilities : ndarray of shape (b, n) or (b, m)
            nan for rows that were no candidates or chosen before. The selector's own measure: a
            variance, a squared distance, a fall of variances; for "random" one for all. Not always
            the largest is chosen: not where rows are drawn, nor by "lcmd" and forward-backward.

        Raises
        ------
        ValueError
            If there are no candidates, both `reg` and `clf` are given, or the selector needs class
            probabilities and there is no classifier that was fitted to some labels.
        TypeError
            If they are not scikit-activeml's, or have no kernel of their own and `kernel` is None.

        Warns
        -----
        UserWarning
            If fewer candidates are there than the batch should have.
        """
        self._validate_params()
        X, y, candidates, batch_size, return_utilities = self._validate_data(
            X, y, candidates, batch_size, return_utilities
        )
        pool, mapping = self._transform_candidates(candidates, X, y)
        if not len(pool):
            raise ValueError(
                f"All {len(X)} rows have labels; expected at least one without. Pass `candidates`."
            )
        known = is_labeled(y, self.missing_label_)
        machine, fit = self._checked(reg, fit_reg, clf, fit_clf)
        with config_of(self.device, self.dtype):
            model = _model(machine, fit, X, y, known, sample_weight)
            selector, space, generator = self._space(model, X, known, pool, X_eval)
            found = choose(selector, space, batch_size, generator, mode=self.mode)
            if not return_utilities:
                return found if mapping is None else mapping[found]
            scores = self._scores(selector, space, found)
        if mapping is None:
            return found, scores
        utilities = np.full((len(found), len(X)), np.nan)
        utilities[:, mapping] = scores
        return mapping[found], utilities

    def _checked(self, reg: Any, fit_reg: bool, clf: Any, fit_clf: bool) -> tuple[Any, bool]:
        """Return the regressor or classifier, None without one, and whether it is to be fitted."""
        if reg is not None and clf is not None:
            raise ValueError(f"`reg` is {reg!r} and `clf` is {clf!r}; expected one of the two.")
        name, machine, fit = ("reg", reg, fit_reg) if clf is None else ("clf", clf, fit_clf)
        check_type(fit, f"fit_{name}", bool)
        if machine is None:
            return None, fit
        if not isinstance(machine, SkactivemlRegressor | SkactivemlClassifier):
            raise TypeError(
                f"`{name}` is {machine!r}; expected a regressor or classifier of scikit-activeml. "
                "Wrap it in SklearnRegressor or SklearnClassifier."
            )
        check_equal_missing_label(machine.missing_label, self.missing_label_)
        return machine, fit

    def _space(
        self, model: "_Model", X: np.ndarray, known: np.ndarray, pool: np.ndarray, X_eval: Any
    ) -> tuple[Selector, Space, torch.Generator]:
        """Return selector, candidates in the space it looks at, and what it draws from."""
        view = self._view(model, X)
        selector = named_selector(self.selector, auto=view.selector)
        noise = view.noise_variance if self.noise_variance is None else self.noise_variance
        train, targets = X[known] if known.any() else None, None
        if "targets" in selector.needs:
            targets = X if X_eval is None else check_array(X_eval, input_name="X_eval")
        proba, proba_train = model.laws(selector, pool, train, self.random_state_)

        def seen(rows: Any, name: str) -> Any:
            return None if rows is None else checked_rows(view.before(rows), name, view.kernel)

        rows = Rows(
            pool=seen(pool, "X"),
            train=seen(train, "X"),
            targets=seen(targets, "X_eval"),
            proba=proba,
            proba_train=proba_train,
        )
        generator = generator_of(self.random_state_)
        return selector, space_of(rows, view.kernel, noise, self.transforms, generator), generator

    def _view(self, model: "_Model", X: np.ndarray) -> View:
        """Return how rows are compared."""
        if model.estimator is None:
            if isinstance(self.kernel, str):
                raise ValueError(
                    f"`kernel` is {self.kernel!r} and there is no estimator; expected a kernel or "
                    "None. Pass `reg` or `clf` to the query."
                )
            return View(lambda rows: rows, self.kernel, _NOISE, "lcmd")
        seed = int(self.random_state) if isinstance(self.random_state, Integral) else 0
        return view_of(model.estimator, self.kernel, X, fitted=model.fitted, seed=seed)

    def _scores(self, selector: Selector, space: Space, found: np.ndarray) -> np.ndarray:
        """Return how candidates were judged before each choice, (b, m); nan for those chosen."""
        every = selector.scores_before(space, found, mode=self.mode)
        scores = np.stack([to_numpy(line).astype(np.float64) for line in every])
        for step, row in enumerate(found):
            scores[step + 1 :, row] = np.nan
        return scores


@dataclass(frozen=True)
class _Model:
    """What a query was given to compare rows by.

    Attributes
    ----------
    machine : SkactivemlRegressor, SkactivemlClassifier or None
        As scikit-activeml has it.
    estimator : estimator or None
        What it holds, or itself.
    fitted : bool
        Whether that is fitted.
    """

    machine: Any = None
    estimator: Any = None
    fitted: bool = False

    def laws(
        self, selector: Selector, pool: np.ndarray, train: np.ndarray | None, rng: Any
    ) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Return class probabilities of candidates and of rows with labels, if they are needed."""
        if train is None or not self.fitted:
            return None, None
        # The wrapper knows of classes that no row has yet; draws are what it holds has.
        whole = "proba" in selector.needs and isinstance(self.machine, SkactivemlClassifier)
        return laws_of(self.machine if whole else self.estimator, selector, pool, train, rng)


def _model(
    machine: Any, fit: bool, X: np.ndarray, y: np.ndarray, known: np.ndarray, weights: Any
) -> _Model:
    """Return a copy fitted to the rows with labels, or the estimator as it is."""
    if machine is None:
        return _Model()
    if fit:
        machine = clone(machine)
        if known.any():
            machine.fit(X, y, **({} if weights is None else {"sample_weight": weights}))
    else:
        check_is_fitted(machine)
    ready = not fit or bool(known.any())
    held = vars(machine)  # getattr would find attributes of what it holds, too
    if "neural_net_" in held:
        return _Model(machine, held["neural_net_"], ready)
    if "estimator" not in held:
        return _Model(machine, machine, ready)
    fitted = ready and held.get("is_fitted_", False)  # the wrapper warns where a fit fails
    return _Model(machine, held["estimator_" if fitted else "estimator"], fitted)


def named_selector(selector: Any, *, auto: str = "lcmd") -> Selector:
    """Return the selector of a name; "auto" is the one that suits the estimator."""
    return selector_of(auto if isinstance(selector, str) and selector == "auto" else selector)
