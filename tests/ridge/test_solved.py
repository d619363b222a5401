"""One ridge problem: every answer against a refit, every derivative against differences."""

import numpy as np
import pytest
import torch

from sknk import NTKRidge, NTKRidgeCV, config_context
from sknk._training import merge_rows
from sknk.kernels import NTK
from sknk.ridge._solved import solve_ridge
from sknk.solvers import Cholesky, Eigh
from tests.reference import linalg
from tests.reference import ridge as oracle

# Refits and closed form: float64 rounding times condition numbers below 1e4.
RTOL = 1e-8
ALPHA = 0.2


def solved(table, w=None, *, alpha=ALPHA, dK=0.0, fit_intercept=True, **options):
    """Solve for the two targets of the table with its kernel matrix, or one near it."""
    training = merge_rows(table.X, table.Y, w, precomputed=False)
    K = training.gram(table.kernel) + dK
    return solve_ridge(K, training, alpha, fit_intercept=fit_intercept, **options)


@pytest.fixture(params=[None, "weights"], ids=["unweighted", "weighted"])
def w(request, table):
    return None if request.param is None else table.weights


def dense(w):
    return np.ones(20) if w is None else w


@pytest.mark.parametrize("solver", ["auto", "cholesky", "eigh", Cholesky(), Eigh()], ids=repr)
def test_solved_coefficients_equal_naive_ridge(table, w, fit_intercept, solver):
    found = solved(table, w, fit_intercept=fit_intercept, solver=solver)
    K = table.kernel(table.X)
    coef, mean = linalg.ridge_fit(K, table.Y, dense(w), ALPHA, fit_intercept)
    np.testing.assert_allclose(found.coef, coef, rtol=RTOL, atol=RTOL)
    np.testing.assert_allclose(found.intercept, mean, rtol=1e-12, atol=1e-14)


def test_solved_leave_one_out_equals_refits(table, w, fit_intercept):
    found = solved(table, w, fit_intercept=fit_intercept).leave_one_out()
    K = table.kernel(table.X)
    expected = linalg.leave_one_out(K, table.Y, dense(w), ALPHA, fit_intercept)
    np.testing.assert_allclose(found, expected, rtol=RTOL, atol=RTOL)
    assert found.dtype == np.float64


def test_solved_leave_one_out_takes_one_of_equal_rows(table, fit_intercept):
    w = table.repeats + 1.0
    found = solved(table, w, fit_intercept=fit_intercept).leave_one_out(np.ones(20))
    every = np.arange(20)
    expected = oracle.leave_one_out(
        table.kernel(table.X), table.Y, w, every, ALPHA, fit_intercept, counts=True
    )
    np.testing.assert_allclose(found, expected, rtol=RTOL, atol=RTOL)


def along(function, h=1e-3):
    """Return the derivative at 0, to h^4."""
    values = [function(t * h) for t in (-2, -1, 1, 2)]
    return np.dot(values, [1, -8, 8, -1]) / (12 * h)


@pytest.mark.parametrize("solver", [Cholesky(), Eigh()], ids=repr)
def test_solved_gradient_matches_finite_differences(table, w, fit_intercept, solver):
    rng = np.random.default_rng(0)
    by, S = rng.standard_normal((20, 2)), rng.standard_normal((20, 20))
    S = torch.from_numpy(S + S.T) / 20.0

    def score(t):
        found = solved(table, w, dK=t * S, fit_intercept=fit_intercept)
        return (by * found.leave_one_out()).sum()

    W = solved(table, w, fit_intercept=fit_intercept, solver=solver).gradient(by)
    # Differences err by h^4 = 1e-12 times fifth derivatives of order 1e4.
    assert float((W * S).sum()) == pytest.approx(along(score), rel=1e-6)
    torch.testing.assert_close(W, W.T, rtol=0, atol=1e-12)


def test_solved_gradient_gives_the_derivative_by_the_ridge(table, w, fit_intercept):
    by = np.random.default_rng(1).standard_normal((20, 2))

    def score(t):
        found = solved(table, w, alpha=ALPHA + t, fit_intercept=fit_intercept)
        return (by * found.leave_one_out()).sum()

    W = solved(table, w, fit_intercept=fit_intercept).gradient(by).numpy()
    assert (np.diag(W) / dense(w)).sum() == pytest.approx(along(score), rel=1e-6)


def test_solved_merges_copies_as_weights(table):
    repeats = table.repeats + 1
    X, Y = (a.repeat(repeats, axis=0) for a in (table.X, table.Y))
    training = merge_rows(X, Y, None, precomputed=False)
    found = solve_ridge(training.gram(table.kernel), training, ALPHA, fit_intercept=True)
    expected = solved(table, repeats.astype(float))
    torch.testing.assert_close(found.solution, expected.solution, rtol=1e-10, atol=1e-12)


def test_solved_is_what_the_estimator_fits(table, w):
    found = solved(table, w)
    model = NTKRidge(table.kernel, alpha=ALPHA).fit(table.X, table.Y, w)
    np.testing.assert_allclose(found.coef, model.dual_coef_, rtol=1e-10, atol=1e-12)
    model = NTKRidgeCV(table.kernel, param_grid={}, alphas=[ALPHA]).fit(table.X, table.Y, w)
    np.testing.assert_allclose(found.leave_one_out(), model.loo_predictions_, rtol=1e-10)


def test_solved_in_float32_is_close(table):
    with config_context(dtype="float32"):
        low = solved(table)
    assert low.coef.dtype == torch.float32
    assert low.leave_one_out().dtype == np.float64
    # float32's 1e-7 times a condition number of 1e3
    np.testing.assert_allclose(low.leave_one_out(), solved(table).leave_one_out(), atol=1e-4)


def test_solved_refuses_a_solver_it_does_not_know(table):
    with pytest.raises(ValueError, match=r"`solver` is 'qr'; expected one of"):
        solved(table, solver="qr")


def test_solved_ridge_has_the_units_of_the_kernel(table):
    twice = 2.0 * NTK(depth=2, bias_var=0.1)
    training = merge_rows(table.X, table.Y, None, precomputed=False)
    found = solve_ridge(training.gram(twice), training, 2.0 * ALPHA, fit_intercept=True)
    np.testing.assert_allclose(found.leave_one_out(), solved(table).leave_one_out(), rtol=1e-10)


@pytest.mark.gpu
def test_solved_agrees_on_gpu(table, cuda):
    by = np.random.default_rng(2).standard_normal((20, 2))
    expected = solved(table, table.weights)
    with config_context(device=str(cuda)):
        found = solved(table, table.weights)
        np.testing.assert_allclose(found.leave_one_out(), expected.leave_one_out(), rtol=1e-9)
        W = found.gradient(by)
    assert W.device.type == "cuda"
    np.testing.assert_allclose(W.cpu(), expected.gradient(by), rtol=1e-8, atol=1e-9)
