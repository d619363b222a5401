"""float32 is trustworthy: close to float64 entry by entry, and positive definite where that is."""

import numpy as np
import pytest

from sknk import _config
from sknk.kernels import NNGP, NTK, ABReLU, Normalized
from tests.cases import rows


def in_float32(kernel, X, Y=None):
    with _config.config_context(dtype="float32"):
        return kernel(X, Y)


def hard_table(d, seed=0):
    """Random, nearly equal, nearly antipodal, antipodal and parallel rows of different norm."""
    x, noise = rows(16, d, seed), rows(16, d, seed + 1)
    near = [sign * x[:8] + step * noise[:8] for sign in (1, -1) for step in (1e-4, 1e-7)]
    return np.vstack([x, *near, -x[:4], 3.0 * x[:4], 1e-3 * x[4:8], -2.0 * x[:4], x[:2]])


@pytest.mark.parametrize("cls", [NTK, NNGP])
@pytest.mark.parametrize("bias_var", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("d", [1, 2, 5, 30])
def test_relu_is_right_to_1e_6_entry_by_entry(cls, bias_var, d):
    X, kernel = hard_table(d), cls(depth=3, bias_var=bias_var)
    np.testing.assert_allclose(in_float32(kernel, X), kernel(X), rtol=1e-6)  # 17 roundings


@pytest.mark.parametrize("depth", [0, 1, 6])
def test_relu_is_right_at_other_depths(depth):
    X, kernel = hard_table(5), NTK(depth, bias_var=0.1)
    scale = np.sqrt(np.outer(kernel.diag(X), kernel.diag(X)))  # shallow kernels pass through zero
    assert (np.abs(in_float32(kernel, X) - kernel(X)) <= 1e-6 * scale).all()


# Relative to sqrt(K_ii K_jj). Rectifiers round as ReLU does. A smooth layer starts from covariances
# and multiplies their rounding, 6e-8, by its steepness w tau'(q) q / K: up to 3 in each of three
# layers for erf and sine at w = 2.
SLACK = {"leaky_relu": 1e-6, "abs": 1e-6, "erf": 5e-6, "gelu": 2e-6, "sin": 2e-5}


@pytest.mark.parametrize("cls", [NTK, NNGP])
@pytest.mark.parametrize("activation", SLACK)
@pytest.mark.parametrize("bias_var", [0.0, 0.1])
def test_other_activations_are_right_relative_to_the_diagonal(cls, activation, bias_var):
    X, kernel = hard_table(5), cls(3, activation, bias_var=bias_var)
    scale = np.sqrt(np.outer(kernel.diag(X), kernel.diag(X)))
    error = np.abs(in_float32(kernel, X) - kernel(X)) / scale
    assert error.max() <= SLACK[activation]


def test_abrelu_is_right_relative_to_the_diagonal():
    X, kernel = hard_table(5), NTK(3, ABReLU(-0.5, 1.0), bias_var=0.1)
    scale = np.sqrt(np.outer(kernel.diag(X), kernel.diag(X)))
    assert (np.abs(in_float32(kernel, X) - kernel(X)) <= 1e-6 * scale).all()


def test_gaussian_layers_are_right_relative_to_their_exponent():
    X, kernel = rows(30, 5), NTK(1, "rbf", weight_var=1.0)
    # exp(gamma (2q - q1 - q2)): an exponent of up to 10 is rounded to 6e-8 of itself.
    np.testing.assert_allclose(in_float32(kernel, X), kernel(X), atol=2e-6)


def near_duplicates(n, d, seed=0):
    x = rows(n, d, seed)
    return np.vstack([x, x + 1e-4 * rows(n, d, seed + 1)])


@pytest.mark.parametrize(("n", "d"), [(20, 5), (60, 8), (100, 10), (200, 30)])
@pytest.mark.parametrize("bias_var", [0.0, 0.1])
@pytest.mark.parametrize("normalized", [False, True])
def test_ntk_stays_positive_definite_with_near_duplicates(n, d, bias_var, normalized):
    X, kernel = near_duplicates(n, d), NTK(depth=3, bias_var=bias_var)
    kernel = Normalized(kernel) if normalized else kernel
    K, K32 = kernel(X), in_float32(kernel, X).astype(np.float64)
    exact, found = np.linalg.eigvalsh(K)[0], np.linalg.eigvalsh(K32)[0]
    assert exact > 1e-5 * np.trace(K) / len(K)  # otherwise this case says nothing
    assert found == pytest.approx(exact, rel=0.02)
    assert found > 0


def test_cosines_in_float32_would_fail_that_test():
    X = near_duplicates(50, 5).astype(np.float32)
    q = (X * X).sum(1) / 5
    c = np.clip(X @ X.T / 5 / np.sqrt(np.outer(q, q)), -1, 1)
    theta = np.arccos(c)
    K = (np.sqrt(1 - c * c) + 2 * (np.pi - theta) * c) * np.sqrt(np.outer(q, q)) / (2 * np.pi)
    assert np.linalg.eigvalsh(K.astype(np.float64))[0] < 0  # so the suite can tell the difference


def test_diag_is_rounded_once():
    X, kernel = hard_table(5), NTK(bias_var=0.1)
    with _config.config_context(dtype="float32"):
        found = kernel.diag(X)
    np.testing.assert_allclose(found, kernel.diag(X), rtol=2.0**-24)


def test_gradients_follow_float64():
    X, kernel, W = rows(12, 5), NTK(bias_var=0.1), rows(12, 12, seed=4)
    wanted = kernel.vjp(X, None, W)
    with _config.config_context(dtype="float32"):
        found = kernel.vjp(X, None, W)
        gradient = kernel(X, eval_gradient=True)[1]
    assert gradient.dtype == np.float32
    np.testing.assert_allclose(gradient, kernel(X, eval_gradient=True)[1], atol=1e-5)
    np.testing.assert_allclose(found.theta, wanted.theta, rtol=1e-4)  # sums of both signs
    np.testing.assert_allclose(found.X, wanted.X, atol=1e-5 * np.abs(wanted.X).max())
