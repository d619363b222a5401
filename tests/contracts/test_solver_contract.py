"""One suite for every exact solver; a new one joins by adding a line to CASES."""

import copy
import pickle
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from sklearn.base import clone

from sknk.exceptions import NotPSDError
from sknk.solvers import Cholesky, Eigh, Solver
from sknk.solvers._base import VERBS
from tests.reference import linalg

N, SHIFT = 40, 0.3
# Condition numbers here are below 20: errors are n eps times that.
RTOL = {torch.float64: 1e-11, torch.float32: 2e-4}


@dataclass(frozen=True)
class Case:
    solver: Solver
    lacks: tuple[str, ...] = ()


CASES = {
    "Cholesky": Case(Cholesky(), lacks=("apply", "filter")),
    "Cholesky-no-jitter": Case(Cholesky(jitter=0.0), lacks=("apply", "filter")),
    "Eigh": Case(Eigh(), lacks=("log_pivots", "append", "remove")),
}
VECTOR = np.linspace(0.2, 2.0, N)
B = np.random.default_rng(1).standard_normal((N, 3))
CALLS = {
    "solve": (B,),
    "half_solve": (B,),
    "logdet": (),
    "log_pivots": (),
    "inv_diag": (),
    "inv_tiles": (),
    "apply": (torch.sqrt,),
    "filter": (torch.sqrt, B),
    "reshift": (0.5,),
    "append": (0 * B, np.eye(3), 0.1),
    "remove": (0,),
}


def tensor(x, dtype=torch.float64):
    return torch.tensor(x, dtype=dtype)


def assert_close(actual, expected, dtype=torch.float64, scale=1.0):
    actual = actual.numpy() if isinstance(actual, torch.Tensor) else actual
    limit = RTOL[dtype] * scale
    np.testing.assert_allclose(actual, expected, rtol=limit, atol=limit)


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


@pytest.fixture(params=[torch.float64, torch.float32], ids=["float64", "float32"])
def dtype(request):
    return request.param


@pytest.fixture(params=[SHIFT, VECTOR], ids=["scalar", "vector"])
def shift(request):
    return request.param


@pytest.fixture
def K():
    return linalg.random_gram(N)


def having(verb):
    """Parametrize a test over the cases whose solver has a verb."""
    names = [name for name, case in CASES.items() if verb not in case.lacks]
    return pytest.mark.parametrize("case", names, indirect=True)


def test_solver_solve_matches_inverse(case, K, dtype, shift):
    factor = case.solver.factorize(tensor(K, dtype), shift)
    expected = linalg.inverse(K, shift) @ B
    assert_close(factor.solve(tensor(B, dtype)), expected, dtype)
    assert_close(factor.solve(tensor(B[:, 0], dtype)), expected[:, 0], dtype)


def test_solver_half_solve_squares_to_inverse(case, K, dtype, shift):
    half = case.solver.factorize(tensor(K, dtype), shift).half_solve(tensor(B, dtype))
    assert_close(half.mT @ half, B.T @ linalg.inverse(K, shift) @ B, dtype, scale=10)


def test_solver_logdet_matches_numpy(case, K, dtype, shift):
    factor = case.solver.factorize(tensor(K, dtype), shift)
    expected = -np.linalg.slogdet(linalg.inverse(K, shift))[1]
    assert_close(factor.logdet(), expected, dtype)


@having("log_pivots")
def test_solver_log_pivots_are_conditional_variances(case, K, shift):
    factor = case.solver.factorize(tensor(K), shift)
    last = 1 / linalg.inverse(K, shift)[-1, -1]
    assert_close(factor.log_pivots()[-1].exp(), last)
    assert_close(factor.log_pivots().sum(), factor.logdet())


def test_solver_inv_diag_matches_inverse(case, K, dtype, shift):
    factor = case.solver.factorize(tensor(K, dtype), shift)
    assert_close(factor.inv_diag(), np.diag(linalg.inverse(K, shift)), dtype)


@pytest.mark.parametrize("tile", [7, 40, 64])
def test_solver_inv_tiles_cover_lower_triangle(case, K, shift, tile):
    found = np.full((N, N), np.nan)
    for rows, columns, block in case.solver.factorize(tensor(K), shift).inv_tiles(tile=tile):
        assert rows.start >= columns.start
        found[rows, columns] = block.numpy()
    assert_close(np.tril(found), np.tril(linalg.inverse(K, shift)))


@having("apply")
@pytest.mark.parametrize("h", [torch.sqrt, torch.exp, torch.reciprocal])
def test_solver_apply_matches_spectral_function(case, K, h):
    factor = case.solver.factorize(tensor(K), SHIFT)
    expected = linalg.spectral(K, SHIFT, lambda x: h(torch.from_numpy(x)).numpy())
    assert_close(factor.apply(h), expected, scale=100)
    assert_close(factor.apply(h, tensor(B)), expected @ B, scale=100)
    assert_close(factor.apply(h, tensor(B[:, 1])), expected @ B[:, 1], scale=100)


@having("filter")
@pytest.mark.parametrize("h", [torch.sqrt, torch.reciprocal, lambda x: -torch.expm1(-2 * x) / x])
def test_solver_filter_matches_spectral_function_of_rescaled_gram(case, K, dtype, shift, h):
    factor = case.solver.factorize(tensor(K, dtype), shift)
    D, s = (np.ones(N), SHIFT) if np.ndim(shift) == 0 else (VECTOR, 1.0)
    root = np.sqrt(D)
    inner = linalg.spectral(K / np.outer(root, root), s, lambda x: h(torch.from_numpy(x)).numpy())
    expected = inner / np.outer(root, root) @ B
    assert_close(factor.filter(h, tensor(B, dtype)), expected, dtype, scale=100)
    assert_close(factor.filter(h, tensor(B[:, 1], dtype)), expected[:, 1], dtype, scale=100)


@having("filter")
def test_solver_filter_of_reciprocal_is_solve(case, K, shift):
    factor = case.solver.factorize(tensor(K), shift)
    assert_close(factor.filter(torch.reciprocal, tensor(B)), factor.solve(tensor(B)))


@having("filter")
def test_solver_filter_equals_apply_when_shift_is_a_number(case, K):
    factor = case.solver.factorize(tensor(K), SHIFT)
    expected = factor.apply(torch.sqrt, tensor(B))
    assert_close(factor.filter(torch.sqrt, tensor(B)), expected)


@having("filter")
@pytest.mark.parametrize("w", [1 / VECTOR, np.full(N, 2.0)], ids=["weights", "constant"])
def test_solver_filter_follows_reshift(case, K, w):
    rho = 0.3
    factor = case.solver.factorize(tensor(K), 1 / w).reshift(rho / w)
    values, V = np.linalg.eigh(np.sqrt(np.outer(w, w)) * K)
    expected = np.sqrt(w)[:, None] * (
        V @ ((values + rho)[:, None] * (V.T @ (np.sqrt(w)[:, None] * B)))
    )
    assert_close(factor.filter(lambda x: x, tensor(B)), expected, scale=10)


def test_solver_reshift_equals_refit(case, K, shift):
    factor = case.solver.factorize(tensor(K), shift)
    again = factor.reshift(3 * shift)
    assert_close(again.solve(tensor(B)), linalg.inverse(K, 3 * shift) @ B)
    assert_close(factor.solve(tensor(B)), linalg.inverse(K, shift) @ B)


@having("append")
@pytest.mark.parametrize("m", [1, 12])
def test_solver_append_equals_refit(case, K, dtype, shift, m):
    n, shifts = N - m, np.broadcast_to(shift, N)
    k = tensor(K, dtype)
    factor = case.solver.factorize(k[:n, :n], shifts[:n])
    longer = factor.append(k[:n, n:], k[n:, n:], shifts[n:])
    assert_close(longer.solve(tensor(B, dtype)), linalg.inverse(K, shift) @ B, dtype)
    before = linalg.inverse(K[:n, :n], shifts[:n]) @ B[:n]
    assert_close(factor.solve(tensor(B[:n], dtype)), before, dtype)


@having("remove")
@pytest.mark.parametrize("index", [0, -1, [3, 17, 18, 39], np.arange(20)])
def test_solver_remove_equals_refit(case, K, dtype, shift, index):
    factor = case.solver.factorize(tensor(K, dtype), shift)
    kept = np.delete(np.arange(N), index)
    expected = linalg.inverse(K[np.ix_(kept, kept)], np.broadcast_to(shift, N)[kept]) @ B[kept]
    assert_close(factor.remove(index).solve(tensor(B[kept], dtype)), expected, dtype)
    assert_close(factor.solve(tensor(B, dtype)), linalg.inverse(K, shift) @ B, dtype)


def test_solver_keeps_gram_unless_overwrite(case, K):
    k = tensor(K)
    case.solver.factorize(k, VECTOR)
    np.testing.assert_array_equal(k.numpy(), K)


def test_solver_overwrite_gives_same_answer(case, K, shift):
    factor = case.solver.factorize(tensor(K), shift, overwrite=True)
    assert_close(factor.solve(tensor(B)), linalg.inverse(K, shift) @ B)


@pytest.mark.parametrize("n", [1, 2])
def test_solver_solves_tiny_systems(case, n):
    factor = case.solver.factorize(torch.eye(n, dtype=torch.float64), 1.0)
    assert_close(factor.solve(torch.ones(n)), np.full(n, 0.5))


def test_solver_lacks_only_what_its_case_states(case, K):
    factor = case.solver.factorize(tensor(K), SHIFT)
    for verb in case.lacks:
        with pytest.raises(NotImplementedError, match=rf"has no `{verb}`\. Use `\w+`"):
            getattr(factor, verb)(*CALLS[verb])
    for verb in set(VERBS) - set(case.lacks):
        getattr(factor, verb)(*CALLS[verb])


def test_solver_verb_table_is_true():
    for verb, owners in VERBS.items():
        having = {type(c.solver).__name__ for c in CASES.values() if verb not in c.lacks}
        assert set(owners) == having


def tensors_in(state):
    if isinstance(state, torch.Tensor):
        return [state]
    if isinstance(state, dict):
        return [t for value in state.values() for t in tensors_in(value)]
    if isinstance(state, (list, tuple, set)):
        return [t for value in state for t in tensors_in(value)]
    return tensors_in(vars(state)) if hasattr(state, "__dict__") else []


def test_factorization_pickles_without_tensors(case, K, shift):
    factor = case.solver.factorize(tensor(K), shift)
    assert tensors_in(factor.__getstate__()) == []
    loaded = pickle.loads(pickle.dumps(factor))
    assert torch.equal(loaded.solve(tensor(B)), factor.solve(tensor(B)))
    assert_close(loaded.reshift(2 * shift).inv_diag(), np.diag(linalg.inverse(K, 2 * shift)))


def test_factorization_deepcopy_is_independent(case, K):
    factor = case.solver.factorize(tensor(K), SHIFT)
    twin = copy.deepcopy(factor)
    expected = factor.solve(tensor(B))
    for value in vars(factor).values():
        if isinstance(value, torch.Tensor):
            value.zero_()
    assert torch.equal(twin.solve(tensor(B)), expected)


def test_factorization_is_deterministic(case, K, shift):
    first, second = (case.solver.factorize(tensor(K), shift).solve(tensor(B)) for _ in range(2))
    assert torch.equal(first, second)


def test_factorization_states_how_it_solved(case, K):
    factor = case.solver.factorize(tensor(K), SHIFT)
    assert (factor.n, factor.dtype, factor.jitter_) == (N, torch.float64, 0.0)
    assert factor.n_iter_ is None
    assert factor.residual_norm_ is None


def test_solver_is_a_parameter_object(case):
    twin = clone(case.solver)
    assert twin is not case.solver
    assert twin.get_params() == case.solver.get_params()
    assert vars(twin).keys() == twin.get_params().keys()


@pytest.mark.parametrize("weights", [None, VECTOR, np.where(np.arange(N) % 3 == 0, 0.0, 1.5)])
def test_solver_fit_dual_solves_weighted_ridge(case, K, weights):
    centres, coef = case.solver.fit_dual(K, "rows", B, 0.3, sample_weight=weights)
    kept = np.arange(N) if weights is None else np.flatnonzero(weights)
    w = np.ones(N) if weights is None else weights
    expected = np.zeros_like(B)
    expected[kept] = linalg.inverse(K[np.ix_(kept, kept)], 0.3 / w[kept]) @ B[kept]
    assert centres == "rows"
    assert_close(coef, expected)


def test_solver_fit_dual_takes_a_kernel(case, K):
    def kernel(X, Y=None):
        return X @ (X if Y is None else Y).mT

    kernel.diag = lambda X: X.square().sum(1)
    X = tensor(np.linalg.cholesky(K))
    weights = np.where(np.arange(N) < 5, 0.0, 1.0)
    _, expected = case.solver.fit_dual(K, X, B, 0.3, sample_weight=weights)
    _, coef = case.solver.fit_dual(kernel, X, B, 0.3, sample_weight=weights)
    assert_close(coef, expected)


def test_solver_raises_when_not_positive_definite(case, K):
    with pytest.raises(NotPSDError, match=r"K \+ alpha I is not positive definite"):
        case.solver.factorize(tensor(K), -2.0)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_solver_names_row_when_gram_not_finite(case, K, bad):
    K[:, 7] = K[7, :] = bad
    with pytest.raises(ValueError, match="NaN or infinite entry in row 7"):
        case.solver.factorize(tensor(K), SHIFT)


@pytest.mark.parametrize(
    ("shift", "message"),
    [(np.ones(3), r"`shift` has shape \(3,\)"), (np.nan, "`shift` contains nan")],
)
def test_solver_refuses_bad_shift(case, K, shift, message):
    with pytest.raises(ValueError, match=message):
        case.solver.factorize(tensor(K), shift)


@pytest.mark.parametrize("shape", [(N + 1,), (N, 2, 2)])
def test_factorization_refuses_wrong_right_hand_side(case, K, shape):
    factor = case.solver.factorize(tensor(K), SHIFT)
    with pytest.raises(ValueError, match="Right-hand side of shape"):
        factor.solve(torch.zeros(shape))


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (-np.ones(N), "`sample_weight` is -1 at row 0"),
        (np.zeros(N), "zero for every row"),
        (np.ones(2), r"`sample_weight` has shape \(2,\)"),
    ],
)
def test_solver_fit_dual_refuses_bad_weights(case, K, weights, message):
    with pytest.raises(ValueError, match=message):
        case.solver.fit_dual(K, None, B, 0.3, sample_weight=weights)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_solver_agrees_on_gpu(case, K, shift):
    factor = case.solver.factorize(tensor(K).cuda(), shift, overwrite=True)
    assert factor.solve(tensor(B)).device.type == "cuda"
    assert_close(factor.solve(tensor(B)).cpu(), linalg.inverse(K, shift) @ B)
    assert_close(factor.inv_diag().cpu(), np.diag(linalg.inverse(K, shift)))
    assert copy.deepcopy(factor).device.type == "cuda"
    assert pickle.loads(pickle.dumps(factor)).device.type == "cpu"
