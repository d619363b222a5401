"""A kernel machine that stands for a network, and tells which rows a prediction rests on."""

from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from scipy.special import log_softmax, logsumexp
from scipy.stats import kendalltau
from sklearn.base import BaseEstimator
from sklearn.metrics import r2_score
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from sknk._array import to_numpy
from sknk._estimator import unchanged_on_error
from sknk._validation import Interval, fit_context
from sknk.attribution._heads import class_numbers
from sknk.attribution._rows import are_numbers, check_pair
from sknk.kernels import EmpiricalNTK, Normalized, linearize
from sknk.ridge import NTKRidgeClassifierCV, NTKRidgeCV

__all__ = ["Faithfulness", "SurrogateExplainer"]


@dataclass(frozen=True)
class Faithfulness:
    """How closely a surrogate follows its network on some rows.

    Attributes
    ----------
    kendall_tau : float
        Kendall's tau between the two of the log odds of the true class, or of predicted numbers;
        1 is the same order of rows, 0 none in common. NaN where either is constant.
    accuracy_difference : float
        Accuracy of the network less that of the surrogate, in [-1, 1]; of numbers the difference
        of R2.
    agreement : float
        Share of rows given the same class, in [0, 1]; of numbers the correlation of predictions.
    n_rows : int
        Rows compared.
    """

    kendall_tau: float
    accuracy_difference: float
    agreement: float
    n_rows: int


def _is_classifier(explainer: Any) -> bool:
    check_is_fitted(explainer)
    return explainer.classes_ is not None


class SurrogateExplainer(BaseEstimator):
    r"""Predictions of a trained network as sums over training rows, by a kernel machine.

    .. math:: f_c(x) = b_c + \sum_i \alpha_{ic}\, \bar\Theta(x_i, x), \qquad
        \bar\Theta(x, x') = \frac{\Theta(x, x')}{\sqrt{\Theta(x, x)\, \Theta(x', x')}}

    with the network's tangent kernel in cosine form (trNTK for the trace; Engel et al. 2024) and
    ridge coefficients fitted to the targets. Terms explain the surrogate exactly, and the network
    as far as the surrogate is faithful: look at ``faithfulness_`` first. O(n^3) time and
    8 n^2 bytes beyond the Gram matrix of gradients.

    Parameters
    ----------
    module : nn.Module, or object with a ``module_``
        Trained; maps rows to one output a class (logits), to one for two classes, or to one number.
        Kept as a copy, never changed.
    kind : {"trace", "pseudo", "sign", "last_layer", "embedding"}, default="trace"
        Which kernel, as in :class:`~sknk.kernels.EmpiricalNTK`.
    alpha : float or None, default=None
        The ridge, beside a unit diagonal; None is chosen by leave-one-out.
    params, projection, input_shape, input_dtype, random_state : object
        As in :class:`~sknk.kernels.EmpiricalNTK`.

    Attributes
    ----------
    surrogate_ : NTKRidgeClassifierCV or NTKRidgeCV
        The kernel machine, with a copy of the network in its kernel.
    classes_ : ndarray of shape (C,) or None
        Class of every output; None for numbers.
    expected_value_ : ndarray of shape (C,) or (1,)
        b, what is predicted without any term; dimensionless for classes, else units of y.
    loo_predictions_ : ndarray of shape (n,) or (n, C)
        Decision values, or numbers, of training rows that are left out one at a time.
    faithfulness_ : Faithfulness
        On the validation rows; without any on the training rows, each left out by the surrogate
        but not by the network, which then looks better than it is.
    kendall_tau_, accuracy_difference_ : float
        The same, by itself.

    References
    ----------
    .. [1] A. Engel, Z. Wang, N. S. Frank, I. Dumitriu, S. Choudhury, A. Sarwate and T. Chiang,
       "Faithful and efficient explanations for neural networks via neural tangent kernel surrogate
       models", 2024.

    Examples
    --------
    >>> import torch
    >>> from sklearn.datasets import load_iris
    >>> from sknk.attribution import SurrogateExplainer
    >>> X, y = load_iris(return_X_y=True)
    >>> _ = torch.manual_seed(0)
    >>> net = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.Tanh(), torch.nn.Linear(16, 3))
    >>> explainer = SurrogateExplainer(net, alpha=0.1).fit(X[::2], y[::2], X[1::2], y[1::2])
    >>> explainer.explain(X[1:3]).shape
    (2, 75)
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "module": "no_validation",
        "kind": [str],
        "alpha": [None, Interval(Real, 0, None, closed="neither")],
        "params": "no_validation",
        "projection": [None, Interval(Integral, 1, None, closed="left")],
        "input_shape": "no_validation",
        "input_dtype": "no_validation",
        "random_state": [Integral],
    }

    def __init__(
        self,
        module: Any,
        *,
        kind: str = "trace",
        alpha: float | None = None,
        params: Any = None,
        projection: int | None = None,
        input_shape: tuple[int, ...] | None = None,
        input_dtype: Any = None,
        random_state: int = 0,
    ) -> None:
        self.module = module
        self.kind = kind
        self.alpha = alpha
        self.params = params
        self.projection = projection
        self.input_shape = input_shape
        self.input_dtype = input_dtype
        self.random_state = random_state

    def __sklearn_clone__(self) -> Self:
        """Copy the module with its weights; scikit-learn would reset a skorch net."""
        settings = self.get_params(deep=False)
        settings["module"] = self._kernel().__sklearn_clone__().module
        return type(self)(**settings)

    @fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: Any, X_val: Any = None, y_val: Any = None) -> Self:
        """Fit the surrogate, and compare it with the network.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Rows the network was trained on.
        y : array-like of shape (n,)
            Their labels, or numbers.
        X_val : array-like of shape (m, d) or None, default=None
            Rows to compare on, which neither has seen.
        y_val : array-like of shape (m,) or None, default=None
            Their targets.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If rows, targets and outputs of the network do not fit each other.
        TypeError
            If `module` is none.
        """
        check_pair(X_val, y_val)
        with unchanged_on_error(self):
            y = _column(y, "y")
            continuous = are_numbers(y)
            search = NTKRidgeCV if continuous else NTKRidgeClassifierCV
            alphas = None if self.alpha is None else [self.alpha]
            kernel = Normalized(self._kernel())
            self.surrogate_ = search(kernel, param_grid={}, alphas=alphas).fit(X, y)
            self.n_features_in_ = self.surrogate_.n_features_in_
            self.classes_ = None if continuous else self.surrogate_.classes_
            self._check_outputs(self._network_outputs(X[:1]))
            self._dual = _each_class(self.surrogate_.dual_coef_.reshape(len(y), -1), self.classes_)
            bias = np.reshape(self.surrogate_.intercept_, (1, -1))
            self.expected_value_ = _each_class(bias, self.classes_)[0]
            self.loo_predictions_ = self.surrogate_.loo_predictions_
            self._compare(X, y, X_val, y_val)
        return self

    def _compare(self, X: Any, y: np.ndarray, X_val: Any, y_val: Any) -> None:
        if X_val is None:
            loo = self.loo_predictions_
            self.faithfulness_ = self._compared(self._network_outputs(X), loo, y)
        else:
            self.faithfulness_ = self.faithfulness(X_val, y_val)
        self.kendall_tau_ = self.faithfulness_.kendall_tau
        self.accuracy_difference_ = self.faithfulness_.accuracy_difference

    def faithfulness(self, X: Any, y: Any) -> Faithfulness:
        """Return how closely the surrogate follows the network.

        Parameters
        ----------
        X : array-like of shape (m, d)
            Rows that neither has seen.
        y : array-like of shape (m,)
            Their targets.

        Returns
        -------
        Faithfulness
        """
        check_is_fitted(self)
        return self._compared(
            self._network_outputs(X), self.surrogate_._decision(X), _column(y, "y")
        )

    def _compared(self, outputs: np.ndarray, scores: np.ndarray, y: np.ndarray) -> Faithfulness:
        """Compare outputs of the network (m, O) and of the surrogate on targets (m,)."""
        if len(outputs) != len(y):
            raise ValueError(f"`y` has {len(y)} rows; expected {len(outputs)}, those of `X`.")
        if self.classes_ is None:
            own, other = outputs[:, 0], scores
            difference = r2_score(y, own) - r2_score(y, other)
            agreement = _correlation(own, other)
        else:
            ours = _log_probabilities(outputs)
            with np.errstate(divide="ignore"):
                theirs = np.log(self.surrogate_._coder.proba(scores, self.surrogate_._calibration))
            truth = class_numbers(y, self.classes_)
            guess, copy = ours.argmax(1), theirs.argmax(1)
            difference = np.mean(guess == truth) - np.mean(copy == truth)
            agreement = np.mean(guess == copy)
            own, other = _log_odds(ours, truth), _log_odds(theirs, truth)
        tau = kendalltau(own, other).statistic
        return Faithfulness(float(tau), float(difference), float(agreement), len(y))

    def explain(self, X: Any, y: Any = None) -> np.ndarray:
        """Return what every training row adds to predictions.

        Parameters
        ----------
        X : array-like of shape (m, d)
            Rows.
        y : array-like of shape (m,) or None, default=None
            Classes whose decision values are explained; None is what the network predicts. Nothing
            for numbers.

        Returns
        -------
        ndarray of shape (m, n)
            Terms; with ``expected_value_`` of the class they sum to its decision value, or to the
            predicted number.

        Raises
        ------
        ValueError
            For labels that are not classes, or classes of numbers.
        """
        check_is_fitted(self)
        if y is None:
            chosen = self._network_classes(X)
        elif self.classes_ is None:
            raise ValueError(
                "`y` is given and the network predicts numbers; expected None, as there are no "
                "classes to choose from."
            )
        else:
            chosen = class_numbers(_column(y, "y"), self.classes_)
        rows = self.surrogate_._checked_rows(X)
        if len(chosen) != len(rows):
            raise ValueError(f"`y` has {len(chosen)} rows; expected {len(rows)}, those of `X`.")
        K = np.asarray(self.surrogate_.kernel_(rows, self.surrogate_.X_fit_[:]))
        return K * self._dual[:, chosen].T

    def network_predict(self, X: Any) -> np.ndarray:
        """Return what the network predicts: classes, or numbers; (m,)."""
        check_is_fitted(self)
        if self.classes_ is None:
            return self._network_outputs(X)[:, 0]
        return self.classes_[self._network_classes(X)]

    def predict(self, X: Any) -> np.ndarray:
        """Return what the surrogate predicts: classes, or numbers; (m,)."""
        check_is_fitted(self)
        return self.surrogate_.predict(X)

    @available_if(_is_classifier)
    def decision_function(self, X: Any) -> np.ndarray:
        """Return the surrogate's decision values, (m,) for two classes, else (m, C)."""
        return self.surrogate_.decision_function(X)

    @available_if(_is_classifier)
    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the surrogate's probabilities, calibrated on leave-one-out; (m, C)."""
        return self.surrogate_.predict_proba(X)

    def _kernel(self) -> EmpiricalNTK:
        return EmpiricalNTK(
            self.module,
            self.kind,
            self.params,
            projection=self.projection,
            input_shape=self.input_shape,
            input_dtype=self.input_dtype,
            random_state=self.random_state,
        )

    def _network_outputs(self, X: Any) -> np.ndarray:
        """Return outputs of the network in evaluation mode, (m, O)."""
        kernel = self.surrogate_.kernel_.kernel
        model = linearize(
            kernel.module, "*", input_shape=kernel.input_shape, input_dtype=kernel.input_dtype
        )
        return np.asarray(model.f0(self.surrogate_._checked_rows(X)))

    def _network_classes(self, X: Any) -> np.ndarray:
        """Return positions of the classes the network predicts; zeros for numbers."""
        outputs = self._network_outputs(X)
        if self.classes_ is None:
            return np.zeros(len(outputs), dtype=int)
        return _log_probabilities(outputs).argmax(1)

    def _check_outputs(self, outputs: np.ndarray) -> None:
        """Refuse networks whose outputs are not the targets'."""
        found = outputs.shape[1]
        if self.classes_ is None:
            if found != 1:
                raise ValueError(
                    f"The network has {found} outputs and `y` holds numbers; expected one output. "
                    "Wrap the module so that it returns the one to explain."
                )
            return
        count = len(self.classes_)
        if found != count and not (found == 1 and count == 2):
            raise ValueError(
                f"The network has {found} outputs and `y` {count} classes "
                f"({self.classes_.tolist()[:10]}); expected one output a class, or one for two. "
                "Pass rows of every class, and labels as the network knows them."
            )


def _column(y: Any, name: str) -> np.ndarray:
    """Return targets (n,)."""
    y = to_numpy(y) if isinstance(y, Tensor) else np.asarray(y)
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1:
        raise ValueError(
            f"`{name}` has shape {y.shape}; expected (n,). Explain one target at a time."
        )
    return y


def _each_class(columns: np.ndarray, classes: np.ndarray | None) -> np.ndarray:
    """Return one column a class, where two classes share one."""
    if classes is None or columns.shape[1] > 1:
        return columns
    return np.column_stack([-columns[:, 0], columns[:, 0]])


def _log_probabilities(outputs: np.ndarray) -> np.ndarray:
    """Return log class probabilities of logits (m, O), (m, C)."""
    if outputs.shape[1] == 1:
        outputs = np.column_stack([np.zeros(len(outputs)), outputs[:, 0]])
    return log_softmax(outputs, axis=1)


def _log_odds(log_p: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return log odds of the true class: its probability's order, without ties near one."""
    true = np.eye(log_p.shape[1], dtype=bool)[truth]
    return log_p[true] - logsumexp(np.where(true, -np.inf, log_p), axis=1)


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])
