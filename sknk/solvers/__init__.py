"""Solvers: a Gram matrix becomes a factorization."""

from sknk.solvers._auto import resolve_solver
from sknk.solvers._base import Factorization, Solver
from sknk.solvers._cholesky import Cholesky, CholeskyFactorization
from sknk.solvers._eigh import Eigh, EighFactorization
from sknk.solvers._gram import DenseGram, GramOperator, KernelGram, MappedGram, as_operator
from sknk.solvers._path import RidgePath, leave_one_out

__all__ = [
    "Cholesky",
    "CholeskyFactorization",
    "DenseGram",
    "Eigh",
    "EighFactorization",
    "Factorization",
    "GramOperator",
    "KernelGram",
    "MappedGram",
    "RidgePath",
    "Solver",
    "as_operator",
    "leave_one_out",
    "resolve_solver",
]
