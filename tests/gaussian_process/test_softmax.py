"""Expected class probabilities against quadrature, an exact race, Monte Carlo and limits."""

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from scipy.special import expit, softmax

from sknk.gaussian_process import _softmax
from tests.reference import classification as oracle

RNG = np.random.default_rng(0)
MEAN, STD = RNG.standard_normal((9, 3)), RNG.uniform(0.2, 2.0, (9, 3))
LABELS, WEIGHTS = RNG.integers(3, size=9), RNG.uniform(0.2, 3.0, 9)
# 512 points for a function of three normal variables: 1e-3 and less for stds below 2.
SOBOL = 2e-3


def tensor(x):
    return torch.tensor(x, dtype=torch.float64)


def expected(mean, root, df=np.inf):
    return _softmax.expected_softmax(tensor(mean), tensor(root), df).numpy()


def logistic(mean, std):
    """Return E sigmoid(mean + std z); the logistic function is the integral of its density."""

    def density(t):
        return stats.norm.cdf((mean - t) / std) * stats.logistic.pdf(t)

    points = np.clip([mean - 6 * std, mean, mean + 6 * std], -39, 39)
    return integrate.quad(density, -40, 40, points=points, limit=500, epsabs=1e-12)[0]


def test_logistic_oracle_is_the_expected_sigmoid():
    for m, s in [(0.4, 0.7), (-2.0, 3.0)]:
        z = np.linspace(-9, 9, 4001)
        weight = stats.norm.pdf(z) / stats.norm.pdf(z).sum()
        np.testing.assert_allclose(logistic(m, s), expit(m + s * z) @ weight, atol=1e-11)


# --- two classes -------------------------------------------------------------------------------


@pytest.mark.parametrize("gap", [-60.0, -7.0, -0.3, 0.0, 2.0, 20.0])
@pytest.mark.parametrize("std", [0.05, 1.0, 3.0, 8.0, 14.0, 50.0, 140.0])
def test_expected_softmax_of_two_classes_matches_quadrature(gap, std):
    # Amplitudes up to 1e4 are within the estimators' bounds: standard deviations of 140.
    spread = std * np.array([[0.6, 0.8]])
    found = expected([[0.5, 0.5 + gap]], spread)[0, 1]
    np.testing.assert_allclose(found, logistic(gap, std), rtol=0, atol=1e-9)


def test_expected_softmax_of_two_classes_with_covariance_matches_quadrature():
    A = np.array([[1.0, 0.3], [-0.5, 2.0]])
    std = np.linalg.norm(A[1] - A[0])
    np.testing.assert_allclose(expected([[0.2, 1.0]], A[None])[0, 1], logistic(0.8, std), atol=1e-9)


def test_expected_softmax_of_two_classes_exchanges_with_them():
    mean, std = MEAN[:, :2], STD[:, :2]
    turned = expected(mean[:, [1, 0]], std[:, [1, 0]])
    np.testing.assert_allclose(turned[:, [1, 0]], expected(mean, std), rtol=1e-13)


@pytest.mark.parametrize("std", [0.1, 1.0, 10.0, 1e3])
def test_expected_softmax_of_two_classes_alike_is_a_half(std):
    np.testing.assert_allclose(expected([[2.0, 2.0]], [[std, 3 * std]]), 0.5, rtol=1e-12)


# --- more classes ------------------------------------------------------------------------------


def test_reference_race_is_exact():
    # Against adaptive quadrature over two normal variables, and plain Monte Carlo.
    mean, std = np.array([0.0, 0.7]), np.array([1.0, 2.0])
    second = logistic(0.7, np.hypot(1, 2))
    np.testing.assert_allclose(oracle.expected_softmax(mean, std), [1 - second, second], atol=1e-10)
    z = np.random.default_rng(1).standard_normal((200_000, 3))
    p = softmax(MEAN[0] + STD[0] * z, axis=1)
    error = p.std(axis=0) / np.sqrt(len(z))
    assert (np.abs(oracle.expected_softmax(MEAN[0], STD[0]) - p.mean(axis=0)) < 5 * error).all()


def test_expected_softmax_matches_race():
    wanted = [oracle.expected_softmax(m, s) for m, s in zip(MEAN, STD, strict=True)]
    np.testing.assert_allclose(expected(MEAN, STD), wanted, rtol=0, atol=SOBOL)


@pytest.mark.parametrize("scale", [4.0, 8.0])
@pytest.mark.parametrize(("n_classes", "atol"), [(3, SOBOL), (6, 5e-3)])
def test_expected_softmax_matches_race_when_spread_is_wide(scale, n_classes, atol):
    # Searches find amplitudes of 100: standard deviations of 10 away from the data.
    rng = np.random.default_rng(2)
    mean = scale * rng.standard_normal((8, n_classes))
    std = scale * rng.uniform(0.5, 1.5, (8, n_classes))
    wanted = [oracle.expected_softmax(m, s) for m, s in zip(mean, std, strict=True)]
    np.testing.assert_allclose(expected(mean, std), wanted, rtol=0, atol=atol)


def test_expected_softmax_with_covariance_matches_monte_carlo():
    roots = RNG.standard_normal((4, 3, 3))
    z = np.random.default_rng(3).standard_normal((100_000, 3))
    for m, A, found in zip(MEAN, roots, expected(MEAN[:4], roots), strict=False):
        p = softmax(m + z @ A.T, axis=1)
        error = 5 * p.std(axis=0) / np.sqrt(len(z))
        assert (np.abs(found - p.mean(axis=0)) < error + SOBOL).all()


def test_expected_softmax_of_diagonal_root_equals_stds():
    roots = STD[:, :, None] * np.eye(3)
    np.testing.assert_allclose(expected(MEAN, roots), expected(MEAN, STD), rtol=1e-12)


@pytest.mark.parametrize("n_classes", [2, 3, 7])
@pytest.mark.parametrize("df", [4.0, np.inf])
def test_expected_softmax_sums_to_one(n_classes, df):
    rng = np.random.default_rng(n_classes)
    p = expected(
        30 * rng.standard_normal((20, n_classes)), rng.exponential(9.0, (20, n_classes)), df
    )
    assert ((p >= 0) & (p <= 1)).all()
    np.testing.assert_allclose(p.sum(axis=1), 1.0, rtol=1e-12)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("df", [4.0, np.inf])
def test_expected_softmax_does_not_see_a_constant(n_classes, df):
    mean, std = MEAN[:, :n_classes], STD[:, :n_classes]
    # Softmax subtracts the largest entry, of 500: 1e-13 of rounding in the exponents.
    np.testing.assert_allclose(
        expected(mean + 500.0, std, df), expected(mean, std, df), rtol=1e-11, atol=1e-13
    )


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("df", [4.0, np.inf])
def test_expected_softmax_is_softmax_when_certain(n_classes, df):
    mean = 5 * MEAN[:, :n_classes]
    found = expected(mean, np.zeros_like(mean), df)
    np.testing.assert_allclose(found, softmax(mean, axis=1), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("std", [1e2, 1e4])
def test_expected_softmax_of_classes_alike_is_uniform_when_uncertain(std):
    # A vote of 512 draws that cover all directions evenly.
    np.testing.assert_allclose(expected(np.zeros((1, 3)), [[std] * 3]), 1 / 3, atol=0.01)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_expected_softmax_falls_with_uncertainty(n_classes):
    mean = np.zeros((5, n_classes))
    mean[:, 0] = 2.0
    std = np.array([0.0, 0.5, 1.0, 2.0, 4.0])[:, None] * np.ones(n_classes)
    assert (np.diff(expected(mean, std)[:, 0]) < 0).all()


# --- Student's t -------------------------------------------------------------------------------


@pytest.mark.parametrize("n_classes", [2, 3])
def test_expected_softmax_of_many_degrees_of_freedom_is_that_of_a_normal(n_classes):
    mean, std = MEAN[:, :n_classes], STD[:, :n_classes]
    np.testing.assert_allclose(expected(mean, std, 1e6), expected(mean, std), atol=SOBOL)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("df", [3.0, 20.0])
def test_expected_softmax_of_student_matches_monte_carlo(n_classes, df):
    rng = np.random.default_rng(4)
    z = rng.standard_normal((200_000, n_classes)) / np.sqrt(rng.chisquare(df, (200_000, 1)) / df)
    found = expected(MEAN[:, :n_classes], STD[:, :n_classes], df)
    for m, s, one in zip(MEAN[:, :n_classes], STD[:, :n_classes], found, strict=True):
        p = softmax(m + s * z, axis=1)
        error = 5 * p.std(axis=0) / np.sqrt(len(z))
        assert (np.abs(one - p.mean(axis=0)) < error + SOBOL).all()


def test_expected_softmax_of_two_student_classes_favours_the_larger_mean():
    # The law of the difference is symmetric around the difference of means.
    gap = np.array([-0.01, -1e-4, 1e-4, 0.01])
    p = expected(np.stack([0 * gap, gap], axis=1), np.full((4, 2), 1.5), 6.0)
    np.testing.assert_array_equal(p[:, 1] > 0.5, gap > 0)


# --- the rows of a block -----------------------------------------------------------------------


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("df", [4.0, np.inf])
def test_expected_softmax_is_rowwise_and_deterministic(n_classes, df, monkeypatch):
    mean, std = MEAN[:, :n_classes], STD[:, :n_classes]
    p = expected(mean, std, df)
    _softmax._draws.cache_clear()
    np.testing.assert_array_equal(expected(mean, std, df), p)
    np.testing.assert_array_equal(expected(mean[4:7], std[4:7], df), p[4:7])
    monkeypatch.setattr(_softmax, "_ENTRIES", 2 * 512 * n_classes)  # blocks of two rows
    np.testing.assert_array_equal(expected(mean, std, df), p)


def test_expected_softmax_leaves_global_generators():
    before = torch.get_rng_state(), np.random.get_state()  # noqa: NPY002
    _softmax._draws.cache_clear()
    expected(MEAN, STD)
    assert torch.equal(before[0], torch.get_rng_state())
    after = np.random.get_state()  # noqa: NPY002
    assert all(np.array_equal(a, b) for a, b in zip(after, before[1], strict=True))


@pytest.mark.parametrize("n_classes", [2, 3])
def test_expected_softmax_of_no_rows_is_empty(n_classes):
    assert expected(np.empty((0, n_classes)), np.empty((0, n_classes))).shape == (0, n_classes)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("df", [4.0, np.inf])
def test_expected_softmax_in_float32_is_close(n_classes, df):
    mean, std = MEAN[:, :n_classes], STD[:, :n_classes]
    found = _softmax.expected_softmax(tensor(mean).float(), tensor(std).float(), df)
    assert found.dtype is torch.float64  # small probabilities keep their digits
    # Only the arguments are rounded, to 1e-7.
    np.testing.assert_allclose(found, expected(mean, std, df), atol=1e-6)


# --- scores ------------------------------------------------------------------------------------


def score(mean, variance, labels=LABELS, w=WEIGHTS):
    arguments = tensor(mean), tensor(variance), torch.from_numpy(labels), tensor(w)
    value, *slopes = _softmax.log_score(*arguments)
    return value, *(slope.numpy() for slope in slopes)


def test_log_score_is_the_log_of_average_probabilities(monkeypatch):
    z = np.random.default_rng(5).standard_normal((50, 3))
    monkeypatch.setattr(_softmax, "_draws", lambda *_: tensor(z))
    wanted = oracle.log_score(MEAN, STD**2, LABELS, WEIGHTS, z)
    np.testing.assert_allclose(score(MEAN, STD**2)[0], wanted, rtol=1e-12)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_log_score_is_that_of_expected_softmax(n_classes):
    mean, std, labels = MEAN[:, :n_classes], STD[:, :n_classes], LABELS % n_classes
    own = expected(mean, std)[np.arange(9), labels]
    # Relative errors of probabilities above 0.05 from SOBOL.
    found = score(mean, std**2, labels)[0]
    np.testing.assert_allclose(found, WEIGHTS @ np.log(own), rtol=0.01)


@pytest.mark.parametrize("part", ["mean", "variance"])
def test_log_score_gradient_matches_finite_differences(part):
    variance = STD**2

    def of(x):
        one = x.reshape(9, 3)
        return score(one, variance)[0] if part == "mean" else score(MEAN, one)[0]

    x = MEAN if part == "mean" else variance
    found = score(MEAN, variance)[1 if part == "mean" else 2]
    wanted = oracle.differences(of, x.ravel(), h=1e-3).reshape(9, 3)
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-8)


def test_log_score_counts_weights_and_skips_blocks(monkeypatch):
    value, *slopes = score(MEAN, STD**2)
    twice = score(MEAN, STD**2, w=2 * WEIGHTS)
    np.testing.assert_allclose(twice[0], 2 * value, rtol=1e-14)
    monkeypatch.setattr(_softmax, "_ENTRIES", 2 * 512 * 3)
    for found, wanted in zip(score(MEAN, STD**2)[1:], slopes, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-13)


def test_log_score_of_certain_rows_is_that_of_softmax():
    value, by_mean, by_variance = score(MEAN, np.zeros((9, 3)))
    p = softmax(MEAN, axis=1)
    np.testing.assert_allclose(value, WEIGHTS @ np.log(p[np.arange(9), LABELS]), rtol=1e-12)
    np.testing.assert_allclose(by_mean, WEIGHTS[:, None] * (np.eye(3)[LABELS] - p), atol=1e-12)
    assert np.isfinite(by_variance).all()


def test_log_score_gradient_by_a_small_variance_is_half_the_curvature():
    # E p(m + s z) = p + s^2 p'' / 2; rows that stand for thousands of copies have such variances.
    _, _, by_variance = score(MEAN, np.full((9, 3), 1e-4), w=np.ones(9))
    p, own = softmax(MEAN, axis=1), np.eye(3)[LABELS]
    curvature = (own - p) ** 2 - p * (1 - p)  # p'' / p: of log p, plus the square of its slope
    np.testing.assert_allclose(by_variance, curvature / 2, atol=0.02)


@pytest.mark.gpu
def test_expected_softmax_agrees_on_gpu(cuda):
    for n_classes in (2, 3):
        mean, std = MEAN[:, :n_classes], STD[:, :n_classes]
        found = _softmax.expected_softmax(tensor(mean).to(cuda), tensor(std).to(cuda)).cpu()
        np.testing.assert_allclose(found, expected(mean, std), rtol=1e-11)
