"""What attributors share: estimators in every form, fitted; values of rows; clean failure."""

from abc import abstractmethod
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils import Tags, get_tags
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from sknk._array import to_numpy
from sknk._estimator import unchanged_on_error
from sknk._pipelines import split_pipeline, unwrap_frozen
from sknk._validation import fit_context
from sknk.attribution._machine import Machine, machine_of
from sknk.attribution._result import AttributionResult
from sknk.attribution._rows import are_numbers, as_numpy, check_pair
from sknk.kernels import EmpiricalNTK
from sknk.ridge import NTKRidgeClassifierCV, NTKRidgeCV

__all__ = [
    "BaseAttributor",
    "MachineAttributor",
    "fitted_estimator",
    "network_alphas",
    "network_estimator",
]

_RIDGES = np.logspace(-6, 2, 17)  # of networks, in units of the kernel's mean diagonal


def fitted_estimator(estimator: Any, X: Any, y: Any) -> Any:
    """Return a fitted model of (X, y).

    Parameters
    ----------
    estimator : None, estimator or nn.Module
        None is a tuned kernel ridge; a network becomes kernel ridge on its pseudo-NTK; a
        FrozenEstimator stays as it is; others are cloned and fitted.
    X : array-like of shape (n, d)
        Training rows.
    y : array-like of shape (n,)
        Targets.

    Returns
    -------
    estimator

    Raises
    ------
    NotFittedError
        If a frozen estimator is not fitted.
    ValueError
        If it was fitted to another number of rows.
    """
    y = as_numpy(y)
    if estimator is None:
        return (NTKRidgeCV() if are_numbers(y) else NTKRidgeClassifierCV()).fit(X, y)
    if isinstance(estimator, nn.Module) or isinstance(
        getattr(estimator, "module_", None), nn.Module
    ):
        return network_estimator(estimator, X, y).fit(X, y)
    if isinstance(estimator, FrozenEstimator):
        check_is_fitted(unwrap_frozen(estimator))
        return estimator
    return clone(estimator).fit(X, y)


def network_alphas(kernel: EmpiricalNTK, rows: np.ndarray) -> np.ndarray:
    """Return the ridges to choose from: 1e-6 to 100 times the kernel's mean diagonal."""
    return _RIDGES * float(np.mean(kernel.diag(rows)))


def network_estimator(module: Any, X: Any, y: Any) -> Any:
    """Return kernel ridge on a network's pseudo-NTK, its ridge chosen by leave-one-out.

    Kernels of networks have no scale of their own: ridges are 1e-6 to 100 times the mean diagonal.

    Parameters
    ----------
    module : nn.Module or skorch net
        Its rows are those of `X`.
    X : array-like of shape (n, d)
        Training rows.
    y : array-like of shape (n,)
        Targets.

    Returns
    -------
    NTKRidgeCV or NTKRidgeClassifierCV
    """
    kernel = EmpiricalNTK(module, kind="pseudo")
    alphas = network_alphas(kernel, np.asarray(as_numpy(X), dtype=np.float64))
    search = NTKRidgeCV if are_numbers(as_numpy(y)) else NTKRidgeClassifierCV
    return search(kernel, alphas=alphas)


class BaseAttributor(AttributionResult, BaseEstimator):
    """Values of the training rows of a model; subclasses say by what rule."""

    estimator: Any

    utility_full_: float
    utility_empty_: float

    @abstractmethod
    def _attribute_rows(self, X: Any, y: np.ndarray, X_val: Any, y_val: Any) -> None:
        """Set `values_` and what belongs to them."""

    @fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: Any, X_val: Any = None, y_val: Any = None) -> Self:
        """Value the training rows.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Training rows.
        y : array-like of shape (n,)
            Their targets.
        X_val : array-like of shape (m, d) or None, default=None
            Rows the model is judged on; None judges it on the training rows, each left out.
        y_val : array-like of shape (m,) or None, default=None
            Their targets.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For rows or targets that are not valid.
        TypeError
            For an estimator that is not supported.
        """
        with unchanged_on_error(self):
            self._fit_estimator(X, y, X_val, y_val)
            self._attribute_rows(X, self._data[1], X_val, y_val)
        return self

    def _fit_estimator(self, X: Any, y: Any, X_val: Any, y_val: Any) -> None:
        check_pair(X_val, y_val)
        estimator = fitted_estimator(self.estimator, X, y)
        self.estimator_ = estimator
        for name in ("n_features_in_", "feature_names_in_"):
            self.__dict__.pop(name, None)  # of other rows, fitted before
            if hasattr(unwrap_frozen(estimator), name):
                setattr(self, name, getattr(unwrap_frozen(estimator), name))
        X = to_numpy(X) if isinstance(X, Tensor) else X
        y = to_numpy(y) if isinstance(y, Tensor) else np.asarray(y)
        self._data = (X, y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y)

    def __sklearn_tags__(self) -> Tags:
        """Take over the estimator's input tags; targets are required."""
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        inner = split_pipeline(self.estimator)[1]
        if isinstance(inner, BaseEstimator):
            tags.input_tags = get_tags(inner).input_tags
        return tags


class MachineAttributor(BaseAttributor):
    """Values of the rows of a kernel machine."""

    _machine: Machine

    def _attribute_rows(self, X: Any, y: np.ndarray, X_val: Any, y_val: Any) -> None:
        machine = machine_of(self.estimator_)
        if machine.n != len(y):
            raise ValueError(
                f"`estimator` was fitted to {machine.n} rows and `X` has {len(y)}; expected the "
                "rows it was fitted to."
            )
        if isinstance(self.estimator_, FrozenEstimator):
            machine.check_rows(X, y)
        with machine.place():
            self._attribute_machine(machine, X_val, y_val)

    @abstractmethod
    def _attribute_machine(self, machine: Machine, X_val: Any, y_val: Any) -> None:
        """Set `values_` and what belongs to them."""

    def attribute(self, X_test: Any, y_test: Any) -> np.ndarray:
        """Return what each training row adds to the utility of each test row.

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
        check_is_fitted(self)
        machine = machine_of(self.estimator_)
        with machine.place():
            found = self._attribute_each(machine, machine.judged(X_test), y_test)
        return self._every_row(machine, found)

    @abstractmethod
    def _attribute_each(self, machine: Machine, rows: np.ndarray, y_test: Any) -> np.ndarray:
        """Return values of the active rows for each test row, (m, a)."""

    def _every_row(self, machine: Machine, values: np.ndarray) -> np.ndarray:
        """Return values (..., a) of active rows for all rows, (..., n): zero at weight zero."""
        out = np.zeros((*values.shape[:-1], machine.n))
        out[..., machine.active] = values
        return out
