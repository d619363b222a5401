import numpy as np
import pytest
import torch

from sknk.exceptions import NotPSDError
from sknk.solvers import Cholesky, RidgePath, leave_one_out
from tests.reference import linalg

ALPHAS = [1e-3, 0.1, 10.0]
N = 25
# Condition numbers reach 1e4 at the smallest ridge.
RTOL = 1e-9
WEIGHTS = {"ones": None, "weights": np.linspace(0.2, 3.0, N)}


@pytest.fixture
def K():
    return linalg.random_gram(N)


@pytest.fixture
def Y():
    return np.random.default_rng(1).normal([5.0, -3.0], 1.0, (N, 2))


@pytest.fixture(params=WEIGHTS)
def weights(request):
    return WEIGHTS[request.param]


@pytest.fixture(params=[True, False], ids=["intercept", "no-intercept"])
def fit_intercept(request):
    return request.param


def filled(weights):
    return np.ones(N) if weights is None else weights


def test_path_coefficients_match_direct_solve(K, Y, weights, fit_intercept):
    path = RidgePath(K, Y, weights, alphas=ALPHAS, fit_intercept=fit_intercept)
    for a, alpha in enumerate(ALPHAS):
        C, mean = linalg.ridge_fit(K, Y, filled(weights), alpha, fit_intercept)
        np.testing.assert_allclose(path.dual_coef[a], C, rtol=RTOL, atol=RTOL)
        np.testing.assert_allclose(path.intercept, mean, rtol=RTOL)


def test_path_inv_diag_matches_inverse(K, Y, weights):
    path = RidgePath(K, Y, weights, alphas=ALPHAS)
    expected = [np.diag(linalg.inverse(K, alpha / filled(weights))) for alpha in ALPHAS]
    np.testing.assert_allclose(path.inv_diag, expected, rtol=RTOL)


def test_path_leave_one_out_equals_refits(K, Y, weights, fit_intercept):
    path = RidgePath(K, Y, weights, alphas=ALPHAS, fit_intercept=fit_intercept)
    args = (filled(weights),)
    expected = [linalg.leave_one_out(K, Y, *args, alpha, fit_intercept) for alpha in ALPHAS]
    np.testing.assert_allclose(path.loo_predictions, expected, rtol=RTOL, atol=RTOL)


def test_path_gcv_matches_hat_matrix(K, Y, weights, fit_intercept):
    path = RidgePath(K, Y, weights, alphas=ALPHAS, fit_intercept=fit_intercept)
    expected = [linalg.gcv(K, Y, filled(weights), alpha, fit_intercept) for alpha in ALPHAS]
    np.testing.assert_allclose(path.gcv, expected, rtol=RTOL)


def test_path_excludes_rows_of_zero_weight(K, Y, fit_intercept):
    w = np.where(np.arange(N) % 4 == 0, 0.0, 1.3)
    kept, left = np.flatnonzero(w), np.flatnonzero(w == 0)
    path = RidgePath(K, Y, w, alphas=ALPHAS, fit_intercept=fit_intercept)
    part = RidgePath(
        K[np.ix_(kept, kept)], Y[kept], w[kept], alphas=ALPHAS, fit_intercept=fit_intercept
    )
    fitted = K[np.ix_(left, kept)] @ part.dual_coef.numpy() + part.intercept.numpy()
    np.testing.assert_allclose(path.dual_coef[:, kept], part.dual_coef, rtol=RTOL)
    assert not path.dual_coef[:, left].any()
    assert not path.inv_diag[:, left].any()
    np.testing.assert_allclose(path.loo_predictions[:, kept], part.loo_predictions, rtol=RTOL)
    np.testing.assert_allclose(path.loo_predictions[:, left], fitted, rtol=RTOL)
    np.testing.assert_allclose(path.gcv, part.gcv, rtol=RTOL)


def test_path_keeps_gram(K, Y, weights):
    before = K.copy()
    RidgePath(K, Y, weights, alphas=ALPHAS)
    np.testing.assert_array_equal(K, before)


def test_path_overwrite_gives_same_answer(K, Y, weights):
    expected = RidgePath(K, Y, weights, alphas=ALPHAS).loo_predictions
    path = RidgePath(K.copy(), Y, weights, alphas=ALPHAS, overwrite=True)
    assert torch.equal(path.loo_predictions, expected)


def test_path_accepts_one_target_as_vector(K, Y):
    path = RidgePath(K, Y[:, 0], alphas=ALPHAS)
    assert path.dual_coef.shape == path.loo_predictions.shape == (3, N, 1)
    assert path.gcv.shape == (3, 1)
    assert path.inv_diag.shape == (3, N)


def test_path_float32_agrees_with_float64(K, Y, weights):
    low, high = (
        RidgePath(K.astype(d), Y, weights, alphas=ALPHAS[1:]) for d in (np.float32, np.float64)
    )
    assert low.loo_predictions.dtype == torch.float32
    # eps times a condition number of 1e2, times targets of 5.
    np.testing.assert_allclose(low.loo_predictions, high.loo_predictions, atol=3e-4)
    np.testing.assert_allclose(low.gcv, high.gcv, rtol=1e-3)


def test_path_of_one_row_predicts_zero_when_left_out():
    path = RidgePath(np.ones((1, 1)), np.array([3.0]), alphas=[1.0])
    assert float(path.loo_predictions) == pytest.approx(0.0)
    assert float(path.intercept) == 3.0


def test_leave_one_out_from_cholesky_equals_refits(K, Y, weights, fit_intercept):
    w = torch.from_numpy(filled(weights))
    factor = Cholesky().factorize(K, 0.1 / w)
    solve_1 = factor.solve(torch.ones(N)) if fit_intercept else None
    y = torch.from_numpy(Y)
    found = leave_one_out(
        factor.solve(y),
        solve_1,
        factor.inv_diag(),
        y,
        None if weights is None else w,
        fit_intercept,
    )
    expected = linalg.leave_one_out(K, Y, w.numpy(), 0.1, fit_intercept)
    np.testing.assert_allclose(found, expected, rtol=RTOL, atol=RTOL)


def test_leave_one_out_asks_for_solve_of_ones():
    ones = torch.ones(2, 1)
    with pytest.raises(ValueError, match="`solve_1` is None"):
        leave_one_out(ones, None, ones[:, 0], ones)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"alphas": [-1.0]}, "`alphas` contains -1"),
        ({"alphas": [np.inf]}, "`alphas` contains inf"),
        ({"alphas": []}, r"`alphas` has shape \(0,\)"),
        ({"alphas": 1.0}, r"`alphas` has shape \(\)"),
        ({"Y": np.ones(3)}, r"`Y` has shape \(3,\)"),
        ({"weights": -np.ones(N)}, "`sample_weight` is -1 at row 0"),
        ({"weights": np.zeros(N)}, "zero for every row"),
        ({"K": np.ones((N, 2))}, r"Gram matrix of shape \(25, 2\)"),
    ],
)
def test_path_refuses_bad_input(K, Y, change, message):
    arguments = {"K": K, "Y": Y, "weights": None, "alphas": ALPHAS} | change
    with pytest.raises(ValueError, match=message):
        RidgePath(**arguments)


def test_path_raises_when_not_positive_definite(Y):
    with pytest.raises(NotPSDError, match="smallest eigenvalue"):
        RidgePath(-np.eye(N), Y, alphas=ALPHAS)
