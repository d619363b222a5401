"""Attributors in closed form: one factorization answers for every row."""

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.utils import check_consistent_length
from torch import Tensor

from sknk._array import to_numpy
from sknk._validation import HasMethods
from sknk.attribution._base import MachineAttributor
from sknk.attribution._machine import Machine
from sknk.attribution._rows import as_numpy
from sknk.attribution._utilities import Custom, Pointwise, Utility
from sknk.solvers import Cholesky, Coalitions, Moves, Whole

__all__ = [
    "CONSTRAINTS",
    "ClosedForm",
    "InfluenceAttributor",
    "LeaveOneOutAttributor",
    "RepresenterAttributor",
    "judged_games",
    "named_utility",
    "pointwise_of",
]

CONSTRAINTS: dict[str, list[Any]] = {
    "estimator": [None, HasMethods(["fit"]), torch.nn.Module],
    "utility": [str, callable],
}


def named_utility(name: Any, machine: Machine) -> Any:
    """Return what "auto" stands for: the Brier score of classes, else mean squared error."""
    if isinstance(name, str) and name == "auto":
        return "brier" if machine.head.classifies else "mse"
    return name


def judged_games(
    machine: Machine, name: Any, rows: np.ndarray, y: Any
) -> tuple[list[Coalitions], Utility]:
    """Return the coalitions judged on rows of the final estimator, and their utility."""
    y = as_numpy(y)
    check_consistent_length(rows, y)
    name = named_utility(name, machine)
    games = machine.games(rows, variance=machine.head.needs_variance(name))
    return games, machine.head.utility(name, y, games[0].K)


class ClosedForm(MachineAttributor):
    """One utility, one factorization of each group of outputs."""

    utility: Any

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = CONSTRAINTS

    def __init__(self, estimator: Any = None, *, utility: Any = "auto") -> None:
        self.estimator = estimator
        self.utility = utility

    def _named(self) -> Any:
        """Return the name of the utility."""
        return self.utility

    def _judges(self, machine: Machine, X_val: Any, y_val: Any) -> tuple[np.ndarray, Any]:
        """Return the rows judged; without any, the training rows."""
        if X_val is None:
            return machine.rows, self._data[1]
        return machine.judged(X_val), y_val

    def _solved(
        self, machine: Machine, rows: np.ndarray, y: Any
    ) -> tuple[list[Whole], Utility, Tensor, Tensor | None]:
        """Return the solved parts, the utility, the outputs of all rows and their variance."""
        games, utility = judged_games(machine, self._named(), rows, y)
        whole = [Whole.of(g, Cholesky().factorize(g.K, g.shift)) for g in games]
        outputs = torch.cat([w.outputs for w in whole], dim=1)
        self._refuse_infinite(utility.of(outputs, whole[0].variance), "all")
        return whole, utility, outputs, whole[0].variance

    def _refuse_infinite(self, value: Tensor, which: str) -> None:
        if not bool(value.isfinite().all()):
            raise ValueError(
                f"The utility of {which} of {len(self._data[1])} rows is not a finite number; "
                "expected a finite one. Let `utility` return a number for these targets."
            )

    def _set(
        self,
        machine: Machine,
        values: Tensor,
        full: Tensor,
        utility: Utility,
        prior_variance: Tensor | None,
    ) -> None:
        """Set values of the active rows, and the utilities of all rows and of none."""
        self.values_ = self._every_row(machine, to_numpy(values).astype(np.float64))
        self.std_error_ = np.zeros_like(self.values_)
        self.utility_full_ = float(full)
        self.utility_empty_ = float(utility.of(torch.zeros_like(utility.coded.T), prior_variance))


class LeaveOneOutAttributor(ClosedForm):
    r"""What the model loses without each single row, exactly, from one factorization.

    .. math:: \phi_i = U(f) - U(f_{-i}), \qquad
        f(x) - f_{-i}(x) = H_{xi}\,\alpha_i / G_{ii}

    with G = (K + alpha)^-1, dual coefficients G Y and H = K(X_val, X) G; centred targets are
    centred anew without the row. O(n^3 / 3 + n^2 m) time. Without validation rows a row's value
    is the utility of its own target as the others predict it: the residual that finds wrong labels.

    Parameters
    ----------
    estimator : None, estimator or nn.Module, default=None
        A ridge, a Gaussian process, a Pipeline that ends in one, or a torch network, which becomes
        ridge classification on its pseudo-NTK. Cloned and fitted; a ``FrozenEstimator`` is used as
        it is. None is a tuned kernel ridge.
    utility : str or callable, default="auto"
        "brier", "log_prob" or "accuracy" of classes; "mse", "r2", or, of a Gaussian process,
        "log_prob" of numbers; or ``f(y, outputs) -> float``. "auto" is "brier" or "mse".

    Attributes
    ----------
    values_ : ndarray of shape (n,)
        Positive is helpful; units of the utility.
    std_error_ : ndarray of shape (n,)
        Zeros.
    utility_full_, utility_empty_ : float
        Utility of all rows, and of none.
    estimator_ : estimator
        The fitted model.

    References
    ----------
    .. [1] C. E. Rasmussen and C. K. I. Williams, "Gaussian Processes for Machine Learning", 2006,
       equation 5.12.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sknk import NTKRidgeClassifier
    >>> from sknk.attribution import LeaveOneOutAttributor
    >>> X, y = load_iris(return_X_y=True)
    >>> model = NTKRidgeClassifier(alpha=0.1)
    >>> values = LeaveOneOutAttributor(model).fit(X[::2], y[::2], X[1::2], y[1::2]).values_
    >>> values.shape
    (75,)
    """

    def _attribute_machine(self, machine: Machine, X_val: Any, y_val: Any) -> None:
        if X_val is None:
            self._judge_by_others(machine)
            return
        whole, utility, outputs, variance = self._solved(
            machine, *self._judges(machine, X_val, y_val)
        )
        full = utility.of(outputs, variance)
        losses = torch.cat([full - u for u in self._without(whole, utility.of)])
        self._refuse_infinite(losses, "all but one")
        self._set(machine, losses, full, utility, whole[0].game.prior_variance)

    def _without(self, whole: list[Whole], judge: Callable[..., Tensor]) -> Any:
        """Yield judgements of blocks of models without a row."""
        moves = [w.without_each() for w in whole]
        for tiles in zip(*(m.tiles() for m in moves), strict=True):
            yield judge(torch.cat([f for _, f, _ in tiles], dim=-1), tiles[0][2])

    def _judge_by_others(self, machine: Machine) -> None:
        active = machine.active
        y = self._data[1][active]
        games = machine.games(None)
        utility = machine.head.utility(named_utility(self.utility, machine), y, games[0].K)
        if not isinstance(utility, Pointwise):
            raise ValueError(
                f"`utility` is {self.utility!r} without validation rows; expected a named utility, "
                "which judges rows one by one. Pass `X_val` and `y_val`."
            )
        whole = [Whole.of(g, Cholesky().factorize(g.K, g.shift)) for g in games]
        outputs, variance = zip(*(w.own_without_each() for w in whole), strict=True)
        latent = (variance[0] - games[0].shift).clamp(min=0.0)
        each = utility.each(torch.cat(outputs, dim=1), latent)
        self._set(machine, each, each.mean(), utility, games[0].K.diagonal())

    def _attribute_each(self, machine: Machine, rows: np.ndarray, y_test: Any) -> np.ndarray:
        whole, utility, outputs, variance = self._solved(machine, rows, y_test)
        pointwise = pointwise_of(utility, self.utility)
        full = pointwise.each(outputs, variance)  # (m,)
        losses = [full - u for u in self._without(whole, pointwise.each)]  # (b, m)
        return to_numpy(torch.cat(losses).mT).astype(np.float64)


class InfluenceAttributor(ClosedForm):
    r"""How the utility changes with each row's weight: influence functions, exact for ridge.

    .. math:: \phi_i = w_i \frac{\partial U}{\partial w_i}, \qquad
        w_i \frac{\partial f(x)}{\partial w_i} = H_{xi}\,(y_i - f(x_i))

    what leave-one-out is to first order (Koh and Liang 2017; for kernel ridge no Hessian has to be
    approximated). O(n^2 m) time beyond one factorization. Without validation rows the model is
    judged on its training rows.

    Parameters
    ----------
    estimator : None, estimator or nn.Module, default=None
        As in :class:`LeaveOneOutAttributor`.
    utility : str, default="auto"
        As in :class:`LeaveOneOutAttributor`, but one that has a derivative.

    Attributes
    ----------
    values_, std_error_, utility_full_, utility_empty_, estimator_ : object
        As in :class:`LeaveOneOutAttributor`.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sknk import NTKRidge
    >>> from sknk.attribution import InfluenceAttributor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> influence = InfluenceAttributor(NTKRidge(alpha=0.1)).fit(X[:300], y[:300], X[300:], y[300:])
    >>> influence.attribute(X[300:302], y[300:302]).shape
    (2, 300)
    """

    def _attribute_machine(self, machine: Machine, X_val: Any, y_val: Any) -> None:
        found = self._solved(machine, *self._judges(machine, X_val, y_val))
        whole, utility, outputs, variance = found
        by, by_variance = self._gradients(utility, outputs, variance, utility.of)
        values = sum(m.slopes(g, by_variance) for m, g in _side_by_side(whole, by))
        assert isinstance(values, Tensor)
        full, prior = utility.of(outputs, variance), whole[0].game.prior_variance
        self._set(machine, values, full, utility, prior)

    def _gradients(
        self, utility: Utility, outputs: Tensor, variance: Tensor | None, judge: Any
    ) -> tuple[Tensor, Tensor | None]:
        """Return the derivatives of the (summed) judgement by outputs (m, C) and variance (m,)."""
        leaves = [outputs.detach().clone()]
        if variance is not None:
            leaves.append(variance.detach().clone())
        with torch.enable_grad():
            wanted = [leaf.requires_grad_() for leaf in leaves]
            value = None if isinstance(utility, Custom) else judge(*wanted).sum()
            if value is None or not value.requires_grad:
                raise ValueError(
                    f"`utility` is {self.utility!r}, which has no derivative by the outputs; "
                    "expected 'brier', 'log_prob', 'mse' or 'r2'. Use LeaveOneOutAttributor for "
                    "others."
                )
            by, *others = torch.autograd.grad(value, wanted)
        return by, others[0] if others else None

    def _attribute_each(self, machine: Machine, rows: np.ndarray, y_test: Any) -> np.ndarray:
        whole, utility, outputs, variance = self._solved(machine, rows, y_test)
        pointwise = pointwise_of(utility, self.utility)
        by, by_variance = self._gradients(utility, outputs, variance, pointwise.each)
        total = torch.zeros_like(whole[0].H)
        for m, g in _side_by_side(whole, by):
            total += m.G.mT * (g @ m.r.mT) + m.h[:, None] * (g @ m.delta.mT)
            if by_variance is not None:
                total -= by_variance[:, None] * m.gain * m.G.mT.square()
        return to_numpy(total).astype(np.float64)


class RepresenterAttributor(ClosedForm):
    r"""What each row contributes to predictions: the terms of the representer theorem.

    .. math:: f(x) = b + \sum_i \alpha_i\, k(x_i, x), \qquad
        \phi_i(x, y) = \sum_c t_c(y)\, \alpha_{ic}\, k(x_i, x)

    (Yeh et al. 2018), with t the direction of the target: 1 for its class and -1 / (C - 1) for the
    others, y - b for numbers. Values are means over the validation rows, or without any over the
    training rows. O(n m C) time beyond one factorization.

    Parameters
    ----------
    estimator : None, estimator or nn.Module, default=None
        As in :class:`LeaveOneOutAttributor`.

    Attributes
    ----------
    values_ : ndarray of shape (n,)
        Positive where a row pulls outputs towards their targets.
    std_error_, estimator_ : object
        As in :class:`LeaveOneOutAttributor`.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sknk import NTKRidgeClassifier
    >>> from sknk.attribution import RepresenterAttributor
    >>> X, y = load_iris(return_X_y=True)
    >>> representer = RepresenterAttributor(NTKRidgeClassifier(alpha=0.1)).fit(X, y)
    >>> int(y[representer.attribute(X[:1], y[:1])[0].argmax()])
    0
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {"estimator": CONSTRAINTS["estimator"]}

    def __init__(self, estimator: Any = None) -> None:
        self.estimator = estimator

    def _named(self) -> Any:
        return "auto"

    def _attribute_machine(self, machine: Machine, X_val: Any, y_val: Any) -> None:
        rows, y = self._judges(machine, X_val, y_val)
        terms = self._attribute_each(machine, rows, y)
        self.values_ = self._every_row(machine, terms.mean(0))
        self.std_error_ = np.zeros_like(self.values_)

    def _attribute_each(self, machine: Machine, rows: np.ndarray, y_test: Any) -> np.ndarray:
        whole, utility, outputs, _ = self._solved(machine, rows, y_test)
        T, C = utility.coded.T, outputs.shape[1]
        t = T - utility.coded.prior
        if machine.head.classifies:
            t = torch.where(T > 0, 1.0, -1.0 / max(C - 1, 1)).to(T)
        terms, start = torch.zeros_like(whole[0].H), 0
        for w in whole:
            c = w.game.Y.shape[1]
            dual = w.coef[:, :-1] - w.mean * w.coef[:, -1:]
            terms += (t[:, start : start + c] @ dual.mT) * w.game.cross.mT
            start += c
        return to_numpy(terms).astype(np.float64)


def pointwise_of(utility: Utility, name: Any) -> Pointwise:
    """Return a utility that is a mean over the rows judged.

    Returns
    -------
    Pointwise

    Raises
    ------
    ValueError
        If it is not.
    """
    if isinstance(utility, Pointwise):
        return utility
    raise ValueError(
        f"`utility` is {name!r}, a function of all rows judged; values for each test row need a "
        "named utility, which is a mean over them."
    )


def _side_by_side(whole: list[Whole], by: Tensor) -> list[tuple[Moves, Tensor]]:
    """Return the weight derivatives of each part with their columns of a gradient."""
    widths = [w.game.Y.shape[1] for w in whole]
    columns = by.split(widths, dim=1)
    return [(w.reweighted(), g) for w, g in zip(whole, columns, strict=True)]
