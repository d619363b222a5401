"""Groups of rows as players, and what the model loses without each."""

from collections.abc import Callable
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from sknk._array import to_numpy
from sknk._estimator import unchanged_on_error
from sknk._validation import fit_context
from sknk.attribution._closed import ClosedForm, pointwise_of
from sknk.attribution._machine import Machine
from sknk.solvers import Whole

__all__ = ["GroupRemoval", "rows_of_groups"]


def rows_of_groups(groups: Any, n: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return the groups, sorted, and the rows of each.

    Parameters
    ----------
    groups : array-like of shape (n,) or None
        The group of each row; None makes every row its own.
    n : int
        Rows.

    Returns
    -------
    names : ndarray of shape (g,)
    members : list of ndarray

    Raises
    ------
    ValueError
        For another number of rows, or a single group.
    """
    found = np.arange(n) if groups is None else np.asarray(groups)
    if found.shape != (n,):
        raise ValueError(
            f"`groups` has shape {found.shape}; expected ({n},), the group of each training row."
        )
    missing = np.array(
        [g is None or (isinstance(g, float) and np.isnan(g)) for g in found.tolist()]
    )
    if missing.any():
        raise ValueError(
            f"`groups` has no value at row {int(missing.argmax())}; expected the group of each "
            "row. Name a group for rows without one."
        )
    names, inverse = np.unique(found, return_inverse=True)
    if len(names) < 2:
        raise ValueError(
            f"`groups` has one group ({names.tolist()[:1]}) of n_samples={n} rows; expected at "
            "least two, so that one can be missed."
        )
    order = np.argsort(inverse, kind="stable")
    return names, np.split(order, np.cumsum(np.bincount(inverse))[:-1])


class GroupRemoval(ClosedForm):
    r"""What the model loses without each group of rows, exactly, from one factorization.

    .. math:: f - f_{-R} = H_{\cdot R}\,(G_{RR})^{-1} \alpha_R

    for rows grouped by customer, file, source or label. O(n^3) time and 8 n^2 bytes for the
    inverse, then O(r^3 + m r C) a group of r rows. Without validation rows the model is judged on
    its training rows.

    Parameters
    ----------
    estimator : None, estimator or nn.Module, default=None
        As in :class:`LeaveOneOutAttributor`.
    utility : str or callable, default="auto"
        As in :class:`LeaveOneOutAttributor`.

    Attributes
    ----------
    values_ : ndarray of shape (g,)
        One for every group, U(all rows) - U(rows without it).
    groups_ : ndarray of shape (g,)
        The groups, sorted, where any were given.
    std_error_, utility_full_, utility_empty_, estimator_ : object
        As in :class:`LeaveOneOutAttributor`.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from sknk import NTKRidgeClassifier
    >>> from sknk.attribution import GroupRemoval
    >>> X, y = load_iris(return_X_y=True)
    >>> removal = GroupRemoval(NTKRidgeClassifier(alpha=0.1))
    >>> removal.fit(X, y, groups=np.arange(150) // 50).values_.shape
    (3,)
    """

    @fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: Any, X_val: Any = None, y_val: Any = None, groups: Any = None) -> Self:
        """Value groups of training rows.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Training rows.
        y : array-like of shape (n,)
            Their targets.
        X_val : array-like of shape (m, d) or None, default=None
            Rows the model is judged on; None judges it on the training rows.
        y_val : array-like of shape (m,) or None, default=None
            Their targets.
        groups : array-like of shape (n,) or None, default=None
            The group of each row; None makes every row its own.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For rows, targets or groups that are not valid.
        TypeError
            For an estimator that is not supported.
        """
        with unchanged_on_error(self):
            self._fit_estimator(X, y, X_val, y_val)
            names, self._members = rows_of_groups(groups, len(self._data[1]))
            self.__dict__.pop("groups_", None)
            if groups is not None:
                self.groups_ = names
            self._attribute_rows(X, self._data[1], X_val, y_val)
        return self

    def _attribute_machine(self, machine: Machine, X_val: Any, y_val: Any) -> None:
        found = self._solved(machine, *self._judges(machine, X_val, y_val))
        whole, utility, outputs, variance = found
        full = utility.of(outputs, variance)
        losses = [full - u for u in self._without(machine, whole, utility.of)]
        values = torch.stack(losses)
        self._refuse_infinite(values, "all but a group")
        self._set(machine, values, full, utility, whole[0].game.prior_variance)

    def _without(self, machine: Machine, whole: list[Whole], judge: Callable[..., Tensor]) -> Any:
        """Yield judgements of the models without each group."""
        device = whole[0].H.device
        members = [torch.from_numpy(machine.positions(rows)).to(device) for rows in self._members]
        for each in zip(*(w.without_groups(members) for w in whole), strict=True):
            yield judge(torch.cat([f for f, _ in each], dim=-1), each[0][1])

    def _every_row(self, machine: Machine, values: np.ndarray) -> np.ndarray:
        return values  # of groups

    def _attribute_each(self, machine: Machine, rows: np.ndarray, y_test: Any) -> np.ndarray:
        whole, utility, outputs, variance = self._solved(machine, rows, y_test)
        pointwise = pointwise_of(utility, self.utility)
        full = pointwise.each(outputs, variance)
        losses = [full - u for u in self._without(machine, whole, pointwise.each)]
        return to_numpy(torch.stack(losses, dim=1)).astype(np.float64)
