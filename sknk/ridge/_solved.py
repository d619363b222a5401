"""One ridge problem, solved: coefficients, leave-one-out and what it depends on."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor, cat, ones_like

from sknk._array import as_tensor, to_numpy
from sknk._training import TrainingSet
from sknk.solvers import (
    Cholesky,
    Factorization,
    Solver,
    leave_one_out,
    leave_one_out_gradient,
    resolve_solver,
)

__all__ = ["Solved", "solve_ridge", "solved_by"]


@dataclass(frozen=True)
class Solved:
    """Ridge regression with one Gram matrix and one ridge.

    Attributes
    ----------
    training : TrainingSet
        Its rows.
    alpha : float
        Its ridge.
    fit_intercept : bool
        Whether targets are centred.
    solver : Solver
        What `solver` stood for.
    factor : Factorization
        Of C = K + alpha/w.
    Y : Tensor of shape (u, t)
        Centred targets.
    intercept : Tensor of shape (t,)
        What they were centred by.
    solution : Tensor of shape (u, t + 1)
        C^-1 [Y, 1].
    """

    training: TrainingSet
    alpha: float
    fit_intercept: bool
    solver: Solver
    factor: Factorization
    Y: Tensor
    intercept: Tensor
    solution: Tensor

    @property
    def coef(self) -> Tensor:
        """Dual coefficients, (u, t)."""
        return self.solution[:, :-1]

    def _like(self, values: np.ndarray | None) -> Tensor | None:
        return None if values is None else as_tensor(values, self.Y.device, self.Y.dtype)

    def leave_one_out(self, left_out: np.ndarray | None = None) -> np.ndarray:
        """Return exact leave-one-out predictions (u, t); `left_out` as in TrainingSet."""
        found = leave_one_out(
            self.coef,
            self.solution[:, -1],
            self.factor.inv_diag(),
            self.Y,
            self._like(self.training.weights),
            self.fit_intercept,
            alpha=self.alpha,
            left_out=self._like(left_out),
        )
        return to_numpy(found + self.intercept).astype(np.float64)

    def gradient(self, by_predictions: np.ndarray) -> Tensor:
        """Return dF / dC (u, u) of a function F of leave-one-out predictions, from dF / df."""
        by = as_tensor(by_predictions, self.Y.device, self.Y.dtype)
        weights = self._like(self.training.weights)
        return leave_one_out_gradient(
            self.factor, self.solution, self.Y, by, weights, self.fit_intercept
        )


def solve_ridge(
    K: Tensor,
    training: TrainingSet,
    alpha: float,
    *,
    fit_intercept: bool,
    solver: str | Solver = "auto",
) -> Solved:
    """Solve the ridge problem of the distinct rows: O(u^3 / 3) time with the default solver.

    Parameters
    ----------
    K : Tensor of shape (u, u)
        Overwritten.
    training : TrainingSet
        Targets and weights.
    alpha : float
        Ridge, units of K.
    fit_intercept : bool
        Whether targets are centred.
    solver : str or Solver, default="auto"
        See :func:`resolve_solver`.

    Returns
    -------
    Solved
    """
    chosen = resolve_solver(solver, len(K), training.Y.shape[1], K.dtype)
    w = training.weights
    shift = alpha if w is None else as_tensor(alpha / w, K.device, K.dtype)
    factor = chosen.factorize(K, shift, overwrite=True)
    return solved_by(factor, training, alpha, fit_intercept, chosen)


def solved_by(
    factor: Factorization,
    training: TrainingSet,
    alpha: float,
    fit_intercept: bool,
    solver: Solver | None = None,
) -> Solved:
    """Solve the ridge problem with a factor of K + alpha/w that is at hand; O(u^2 t).

    Parameters
    ----------
    factor : Factorization
        Of u rows.
    training : TrainingSet
        Targets and weights.
    alpha : float
        Ridge, units of K.
    fit_intercept : bool
        Whether targets are centred.
    solver : Solver or None, default=None
        What made the factor; None is Cholesky's.

    Returns
    -------
    Solved
    """
    Y = as_tensor(training.Y, factor.device, factor.dtype)
    intercept = as_tensor(training.mean(fit_intercept), factor.device, factor.dtype)
    Y = Y - intercept
    solution = factor.solve(cat([Y, ones_like(Y[:, :1])], dim=1))
    made_by = Cholesky() if solver is None else solver
    return Solved(training, alpha, fit_intercept, made_by, factor, Y, intercept, solution)
