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
from sknk.solvers._dictionary import DictionarySpan, WeightsPosterior
from sknk.solvers._eigh import Eigh, EighFactorization
from sknk.solvers._feature_gram import FeatureGram
from sknk.solvers._gram import DenseGram, GramOperator, KernelGram, MappedGram, as_operator
from sknk.solvers._grouped import GroupedPosterior
from sknk.solvers._laplace import LaplaceMode, softmax_mode
from sknk.solvers._moves import Moves
from sknk.solvers._online import OnlinePosterior
from sknk.solvers._path import RidgePath, leave_one_out
from sknk.solvers._pivoting import pivoted_cholesky
from sknk.solvers._pool import PoolPosterior
from sknk.solvers._product_gram import GroupedGram, ProductGram
from sknk.solvers._removals import Whole
from sknk.solvers._roots import symmetric_roots
from sknk.solvers._selection._cells import k_means_plus_plus, largest_cells, max_dist
from sknk.solvers._selection._determinant import max_det
from sknk.solvers._selection._farthest import farthest_point_clusters
from sknk.solvers._selection._frank_wolfe import frank_wolfe
from sknk.solvers._selection._greedy import largest
from sknk.solvers._selection._groups import group_reductions_before, least_variance_groups
from sknk.solvers._selection._information import information_before, most_informative
from sknk.solvers._selection._look_ahead import changes_before, largest_changes
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
    "DictionarySpan",
    "Eigh",
    "EighFactorization",
    "Factorization",
    "FeatureGram",
    "GramOperator",
    "GroupedGram",
    "GroupedPosterior",
    "InducingPosterior",
    "KernelGram",
    "LaplaceMode",
    "MappedGram",
    "Moves",
    "OnlinePosterior",
    "OrderedCoalitions",
    "PoolPosterior",
    "ProductGram",
    "RidgePath",
    "Solver",
    "WeightsPosterior",
    "Whole",
    "as_operator",
    "asymmetric_svm",
    "changes_before",
    "conditioned",
    "distances_before",
    "evidence_cotangent",
    "farthest_point_clusters",
    "frank_wolfe",
    "frank_wolfe_before",
    "group_reductions_before",
    "inducing_bound",
    "inducing_posterior",
    "information_before",
    "k_means_plus_plus",
    "largest",
    "largest_cells",
    "largest_changes",
    "least_variance",
    "least_variance_groups",
    "leave_one_out",
    "leave_one_out_cotangent",
    "leave_one_out_gradient",
    "max_det",
    "max_dist",
    "most_informative",
    "pivoted_cholesky",
    "posterior_features",
    "posterior_gram",
    "reductions_before",
    "resolve_solver",
    "sandwich_diagonal",
    "softmax_mode",
    "symmetric_roots",
    "variance_reductions",
    "variances_before",
]
