"""Solvers: a Gram matrix becomes a factorization."""

from sknk.solvers._asymmetric import AsymmetricSVM, asymmetric_svm
from sknk.solvers._auto import resolve_solver
from sknk.solvers._base import Factorization, Solver
from sknk.solvers._cholesky import Cholesky, CholeskyFactorization
from sknk.solvers._coalition import Coalition
from sknk.solvers._coalitions import Coalitions, OrderedCoalitions
from sknk.solvers._cotangents import (
    evidence_cotangent,
    leave_one_out_cotangent,
    leave_one_out_gradient,
    sandwich_diagonal,
)
from sknk.solvers._eigh import Eigh, EighFactorization
from sknk.solvers._feature_gram import FeatureGram
from sknk.solvers._gram import DenseGram, GramOperator, KernelGram, MappedGram, as_operator
from sknk.solvers._laplace import LaplaceMode, softmax_mode
from sknk.solvers._moves import Moves
from sknk.solvers._path import RidgePath, leave_one_out
from sknk.solvers._pivoting import pivoted_cholesky
from sknk.solvers._removals import Whole
from sknk.solvers._selection._cells import k_means_plus_plus, largest_cells, max_dist
from sknk.solvers._selection._determinant import max_det
from sknk.solvers._selection._frank_wolfe import frank_wolfe
from sknk.solvers._selection._greedy import largest
from sknk.solvers._selection._reduction import least_variance, variance_reductions
from sknk.solvers._selection._replay import (
    distances_before,
    frank_wolfe_before,
    reductions_before,
    variances_before,
)
from sknk.solvers._selection._residual import conditioned, posterior_features, posterior_gram
from sknk.solvers._sparse import InducingPosterior, inducing_bound, inducing_posterior

__all__ = [
    "AsymmetricSVM",
    "Cholesky",
    "CholeskyFactorization",
    "Coalition",
    "Coalitions",
    "DenseGram",
    "Eigh",
    "EighFactorization",
    "Factorization",
    "FeatureGram",
    "GramOperator",
    "InducingPosterior",
    "KernelGram",
    "LaplaceMode",
    "MappedGram",
    "Moves",
    "OrderedCoalitions",
    "RidgePath",
    "Solver",
    "Whole",
    "as_operator",
    "asymmetric_svm",
    "conditioned",
    "distances_before",
    "evidence_cotangent",
    "frank_wolfe",
    "frank_wolfe_before",
    "inducing_bound",
    "inducing_posterior",
    "k_means_plus_plus",
    "largest",
    "largest_cells",
    "least_variance",
    "leave_one_out",
    "leave_one_out_cotangent",
    "leave_one_out_gradient",
    "max_det",
    "max_dist",
    "pivoted_cholesky",
    "posterior_features",
    "posterior_gram",
    "reductions_before",
    "resolve_solver",
    "sandwich_diagonal",
    "softmax_mode",
    "variance_reductions",
    "variances_before",
]
