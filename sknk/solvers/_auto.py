"""Which solver for which problem: one table."""

import torch

from sknk.solvers._base import Solver
from sknk.solvers._cholesky import Cholesky
from sknk.solvers._eigh import Eigh

__all__ = ["resolve_solver"]

_NAMES: dict[str, type[Solver]] = {"cholesky": Cholesky, "eigh": Eigh}


def resolve_solver(
    solver: str | Solver, n: int, n_targets: int, dtype: torch.dtype, *, path: bool = False
) -> Solver:
    """Return the solver that a `solver` parameter stands for.

    ``"auto"`` is this table and nothing else; it never depends on the values of K, and a matrix
    that does not fit raises :class:`~sknk.exceptions.MemoryBudgetError` instead of switching.

    ==================================  ==================  ===================================
    problem                             ``"auto"``          why
    ==================================  ==================  ===================================
    one ridge, any n, targets, dtype    :class:`Cholesky`   n^3 / 3 and one buffer
    several ridges (``path=True``)      :class:`Eigh`       9 n^3 once, then n^2 for each ridge
    ==================================  ==================  ===================================

    Parameters
    ----------
    solver : {"auto", "cholesky", "eigh"} or Solver
        A name, or a solver, which is returned as it is.
    n : int
        Training rows.
    n_targets : int
        Columns of the right-hand side.
    dtype : torch.dtype
        Of the Gram matrix.
    path : bool, default=False
        Whether many shifts of one Gram matrix are wanted.

    Returns
    -------
    Solver

    Raises
    ------
    ValueError
        For an unknown name.
    TypeError
        For anything that is neither a name nor a Solver.
    """
    if isinstance(solver, Solver):
        return solver
    if not isinstance(solver, str):
        raise TypeError(
            f"`solver` is a {type(solver).__name__}; expected a Solver or one of "
            f"{['auto', *_NAMES]}."
        )
    if solver == "auto":
        return Eigh() if path else Cholesky()
    if solver not in _NAMES:
        raise ValueError(
            f"`solver` is {solver!r}; expected one of {['auto', *_NAMES]} or a Solver."
        )
    return _NAMES[solver]()
