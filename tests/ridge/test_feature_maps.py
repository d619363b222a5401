"""Gradient outer products: brute force, invariances, planted directions, degenerate cases."""

import numpy as np
import pytest
import torch

from sknk import NTKRidgeClassifierCV, NTKRidgeCV
from sknk._training import merge_rows
from sknk.kernels import NTK, Mapped
from sknk.ridge._feature_maps import (
    NoMapError,
    OuterProduct,
    gradient_outer_product,
    normalized_map,
)
from sknk.ridge._grid import GridSearch
from sknk.ridge._selection import Criterion
from tests.cases import rows

KERNEL = NTK(depth=2, bias_var=0.5)
WHOLE = OuterProduct(power=0.5, shrinkage=0.05, diagonal=False)
DIAGONAL = OuterProduct(power=0.25, shrinkage=0.0, diagonal=True)


def fitted(X, Y, weights=None, feature_map=None, alpha=0.1):
    """A ridge regression with one kernel, and its rows."""
    training = merge_rows(X, Y, weights, precomputed=False)
    grid = GridSearch(KERNEL, [{}], np.array([alpha]), True, None, 0)
    return grid.run(training, Criterion(None, Y, Y, weights, None), feature_map), training


def targets(X):
    return np.column_stack([np.sin(2.0 * X[:, 0]), X[:, 1] * X[:, 2]])


def brute_force(X, Y, fit, weights):
    """Loop over rows, columns and targets with gradients by autograd of single kernel values."""
    M, coef = np.zeros((X.shape[1], X.shape[1])), fit.coef.numpy()
    for x, w in zip(X, weights, strict=True):
        for c in range(Y.shape[1]):
            gradient = np.zeros(X.shape[1])
            for z, a in zip(X, coef[:, c], strict=True):
                one = torch.tensor(x[None], requires_grad=True)
                fit.kernel(one, torch.tensor(z[None])).sum().backward()
                gradient += a * one.grad.numpy()[0]
            M += w * np.outer(gradient, gradient)
    return M / weights.sum()


@pytest.mark.parametrize("feature_map", [None, np.array([[1.0, 0.3, 0], [0.3, 2, 0], [0, 0, 0.1]])])
def test_outer_product_equals_brute_force(feature_map):
    X = rows(12)
    Y, w = targets(X), np.random.default_rng(1).uniform(0.5, 2.0, 12)
    fit, training = fitted(X, Y, w, feature_map)
    M = gradient_outer_product(fit, training)
    np.testing.assert_allclose(M, brute_force(X, Y, fit, w), rtol=1e-10, atol=1e-12)


def test_outer_product_equals_finite_differences_of_predictions():
    X = rows(15)
    fit, training = fitted(X, targets(X))
    h, G = 1e-5, np.empty((2, 15, 3))
    for j in range(3):
        step = h * np.eye(3)[j]
        # The rows' own cusps are symmetric, so that central differences see none of them.
        G[:, :, j] = (
            (fit.predict(X + step, training) - fit.predict(X - step, training)) / (2 * h)
        ).T
    M = np.einsum("cni,cnj->ij", G, G) / 15
    np.testing.assert_allclose(gradient_outer_product(fit, training), M, rtol=1e-4, atol=1e-5)


def test_outer_product_of_repeated_rows_is_that_of_weights():
    X = rows(10)
    counts = np.array([1, 2, 1, 3, 1, 1, 2, 1, 1, 1])
    again = np.repeat(np.arange(10), counts)
    weighted = gradient_outer_product(*fitted(X, targets(X), counts.astype(float)))
    repeated = gradient_outer_product(*fitted(X[again], targets(X)[again]))
    np.testing.assert_allclose(weighted, repeated, rtol=1e-9)


def test_outer_product_of_targets_is_the_sum_of_theirs():
    X = rows(20)
    Y = targets(X)
    both = gradient_outer_product(*fitted(X, Y))
    each = [gradient_outer_product(*fitted(X, Y[:, [c]])) for c in range(2)]
    np.testing.assert_allclose(both, each[0] + each[1], rtol=1e-9)


def test_outer_product_centred_is_a_covariance():
    X = rows(20)
    fit, training = fitted(X, targets(X)[:, :1] + 3.0 * X[:, :1])
    M, C = (gradient_outer_product(fit, training, centred=c) for c in (False, True))
    x = torch.from_numpy(X)
    mean = fit.kernel.row_gradients(x, x, fit.coef[:, 0]).mean(dim=0).numpy()
    np.testing.assert_allclose(M - C, np.outer(mean, mean), rtol=1e-9)


def test_outer_product_turns_with_the_rows():
    X, Q = rows(20), np.linalg.qr(rows(3, seed=5))[0]
    M = gradient_outer_product(*fitted(X, targets(X)))
    turned = gradient_outer_product(*fitted(X @ Q, targets(X)))
    np.testing.assert_allclose(turned, Q.T @ M @ Q, rtol=1e-8, atol=1e-9)


def test_map_turns_with_the_rows_and_leaves_predictions():
    X, Q = rows(20), np.linalg.qr(rows(3, seed=5))[0]
    fit, training = fitted(X, targets(X))
    turned, other = fitted(X @ Q, targets(X))
    A, B = WHOLE.learn(fit, training), WHOLE.learn(turned, other)
    np.testing.assert_allclose(B, Q.T @ A @ Q, rtol=1e-8, atol=1e-9)
    first, second = fitted(X, targets(X), None, A), fitted(X @ Q, targets(X), None, B)
    np.testing.assert_allclose(first[0].loo, second[0].loo, rtol=1e-7)


@pytest.mark.parametrize("learner", [WHOLE, DIAGONAL], ids=["whole", "diagonal"])
def test_map_does_not_depend_on_units_of_the_targets(learner):
    X = rows(20)
    A = learner.learn(*fitted(X, targets(X)))
    np.testing.assert_allclose(learner.learn(*fitted(X, 1e-6 * targets(X))), A, rtol=1e-8)


def test_outer_product_of_rescaled_rows_is_rescaled():
    """Without bias the kernel is homogeneous: f(c x) with ridge c^2 alpha is the same function."""
    X, c = rows(20), 3.0
    kernel = NTK(depth=1, normalize=False)
    Ms = []
    for scale in (1.0, c):
        training = merge_rows(scale * X, targets(X), None, precomputed=False)
        grid = GridSearch(kernel, [{}], np.array([0.1 * scale**2]), True, None, 0)
        criterion = Criterion(None, targets(X), targets(X), None, None)
        Ms.append(gradient_outer_product(grid.run(training, criterion), training))
    np.testing.assert_allclose(Ms[1], Ms[0] / c**2, rtol=1e-8)


def test_copies_of_a_column_share_its_place():
    X = rows(30)
    fit, training = fitted(X[:, [0, 1, 2, 0]], targets(X))
    M = gradient_outer_product(fit, training)
    np.testing.assert_allclose(M[0], M[3], rtol=1e-9)
    np.testing.assert_allclose(M[0, 0], M[0, 3], rtol=1e-9)
    scales = DIAGONAL.learn(fit, training)
    assert scales[0] == pytest.approx(scales[3], rel=1e-9)


def test_normalized_maps_have_singular_values_of_mean_square_one():
    for A in (np.array([3.0, 0.1, 1.0]), rows(3)):
        values = np.linalg.svd(np.diag(A) if A.ndim == 1 else A, compute_uv=False)
        expected = values / np.sqrt(np.mean(values**2))
        B = normalized_map(A)
        found = np.linalg.svd(np.diag(B) if B.ndim == 1 else B, compute_uv=False)
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_map_is_the_shrunk_power_of_the_outer_product():
    fit, training = fitted(rows(20), targets(rows(20)))
    M = gradient_outer_product(fit, training)
    A = WHOLE.learn(fit, training)
    expected = M / (np.trace(M) / 3) + 0.05 * np.eye(3)
    ratio = (A @ A) / expected
    np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-8)
    np.testing.assert_allclose(A, A.T, rtol=1e-12)
    scales = DIAGONAL.learn(fit, training)
    ratio = scales**4 / np.diag(M)
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-9)


@pytest.mark.parametrize("learner", [WHOLE, DIAGONAL], ids=["whole", "diagonal"])
def test_map_is_refused_where_all_targets_are_equal(learner):
    X = rows(15)
    with pytest.raises(NoMapError, match=r"all targets are \[1.0\]"):
        learner.learn(*fitted(X, np.ones((15, 1))))


def test_map_is_refused_where_one_direction_is_all_of_it():
    X = rows(40, d=2)
    learner = OuterProduct(power=2.0, shrinkage=0.0, diagonal=False)
    with pytest.raises(NoMapError, match="one direction alone would hold"):
        learner.learn(*fitted(X, X[:, :1], alpha=1e-3))


def test_features_of_an_index_model_are_its_direction():
    """A function of one direction among 20: the first eigenvector finds it at n = 1000."""
    draw = np.random.default_rng(0)
    X, w = draw.standard_normal((1000, 20)), draw.standard_normal(20)
    w /= np.linalg.norm(w)
    y = np.sin(2.0 * X @ w) + 0.1 * draw.standard_normal(1000)
    grid = {"depth": [1, 2], "bias_var": [1.0]}
    model = NTKRidgeCV(param_grid=grid, feature_learning="agop").fit(X, y)
    direction = np.linalg.eigh(model.feature_matrix_)[1][:, -1]
    assert abs(direction @ w) > 0.95
    strongest = np.linalg.eigh(model.feature_map_)[1][:, -1]
    assert abs(strongest @ w) > 0.95


def test_features_of_classes_are_their_direction():
    draw = np.random.default_rng(1)
    X, w = draw.standard_normal((300, 8)), np.eye(8)[2]
    y = (np.abs(X @ w) > 0.7).astype(int)
    model = NTKRidgeClassifierCV(feature_learning="agop_diag").fit(X, y)
    assert isinstance(model.kernel_, Mapped)
    assert model.feature_importances_.argmax() == model.feature_map_.argmax() == 2


def test_outer_product_of_many_targets_is_close_to_that_of_all(monkeypatch):
    X = rows(60)
    Y = np.sin(X @ rows(40, seed=2).T)  # forty targets
    fit, training = fitted(X, Y)
    few = gradient_outer_product(fit, training)
    monkeypatch.setattr("sknk.ridge._feature_maps._MOST_TARGETS", 40)
    every = gradient_outer_product(*fitted(X, Y))  # a fit remembers its own
    assert np.linalg.norm(few - every) < 0.2 * np.linalg.norm(every)
    assert np.linalg.norm(few - every) > 0.0


@pytest.mark.gpu
def test_outer_product_agrees_on_gpu(cuda):
    from sknk import config_context

    X = rows(20)
    expected = gradient_outer_product(*fitted(X, targets(X)))
    with config_context(device=str(cuda)):
        found = gradient_outer_product(*fitted(X, targets(X)))
    np.testing.assert_allclose(found, expected, rtol=1e-8)
