"""Scales by leave-one-out: the objective against refits, the search against planted columns."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.special import log_softmax

from sknk import config_context
from sknk._training import merge_rows
from sknk.exceptions import NotPSDError
from sknk.kernels import NTK
from sknk.ridge import _relevance
from sknk.ridge._classes import LabelCoder
from sknk.ridge._feature_maps import NoMapError
from sknk.ridge._grid import GridSearch
from sknk.ridge._relevance import Relevance, _Objective, univariate_relevance
from sknk.ridge._selection import Criterion
from tests.reference import linalg
from tests.reference import ridge as oracle

KERNEL = NTK(depth=1, bias_var=0.3)
PRIOR, ALPHA = 3.0, 0.2
# Refits and closed form: float64 rounding times condition numbers below 1e4.
RTOL = 1e-8
# Five-point differences: h^4 = 1e-12 times fifth derivatives, and eps / h = 2e-13 of rounding.
STEP, GRADIENT_TOLERANCE = 1e-3, 1e-8
THETA = np.array([0.4, -0.7, 0.2, np.log(0.3)])  # three log scales, log ridge


def problem(X, y, w=None, *, kernel=KERNEL, alphas=(ALPHA,), fit_intercept=True):
    """Return a first fit, its rows and what judges it; labels are no floats."""
    y = np.asarray(y)
    coder = None if y.dtype.kind == "f" else LabelCoder(y)
    Y = y.reshape(len(y), -1) if coder is None else coder.Y
    training = merge_rows(X, Y, w, precomputed=False)
    criterion = Criterion(None, y, Y, w, coder)
    search = GridSearch(kernel, [{}], np.array(alphas), fit_intercept, None, 0)
    fit = search.run(training, criterion)
    return SimpleNamespace(fit=fit, training=training, criterion=criterion, X=X, Y=Y, w=w)


def objective_of(p):
    return _Objective(p.fit, p.training, p.criterion, PRIOR)


def learned(X, y, relevance=None, **options):
    p = problem(X, y, alphas=np.logspace(-4, 2, 13), **options)
    return (relevance or Relevance()).learn(p.fit, p.training, p.criterion)


def log_loss(f, labels, w):
    """Return the smoothed log loss at the temperature found by direct search."""
    f = np.hstack([-f, f]) / 2.0 if f.shape[1] == 1 else f
    logs = log_softmax(oracle.temperature(f, labels, w) * f, axis=1)
    return -np.average((oracle.smoothed(labels, f.shape[1], w) * logs).sum(axis=1), weights=w)


def naive_loss(p, loo, w):
    """Return the smooth loss of leave-one-out predictions, from its definition."""
    if p.criterion.coder is None:
        variance = np.square(p.Y - np.average(p.Y, axis=0, weights=w)).mean(axis=1)
        squares = np.square(loo - p.Y).mean(axis=1)
        return 0.5 * np.log(np.average(squares, weights=w) / np.average(variance, weights=w))
    if p.criterion.coder.multilabel:
        pairs = zip(loo.T, (p.Y.T > 0) * 1, strict=True)
        return np.mean([log_loss(f[:, None], labels, w) for f, labels in pairs])
    labels = (p.Y[:, 0] > 0) * 1 if p.Y.shape[1] == 1 else p.Y.argmax(axis=1)
    return log_loss(loo, labels, w)


def naive(p, theta, fit_intercept):
    """Return the objective by refitting without every row."""
    scales, alpha = np.exp(theta[:-1]), np.exp(theta[-1])
    w = np.ones(len(p.X)) if p.w is None else p.w
    loo = linalg.leave_one_out(KERNEL(p.X * scales), p.Y, w, alpha, fit_intercept)
    return naive_loss(p, loo, w) + PRIOR / (2 * len(p.X)) * np.square(theta[:-1]).sum()


TARGETS = ["y", "Y", "two", "classes", "labels"]


# --- the objective -------------------------------------------------------------------------------


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("weighted", [False, True])
def test_relevance_objective_equals_refits(table, target, weighted, fit_intercept):
    w = table.weights if weighted else None
    p = problem(table.X, getattr(table, target), w, fit_intercept=fit_intercept)
    found, _ = objective_of(p)(THETA)
    # A log loss at its minimum errs by the square of the search's 1e-10 in the temperature.
    assert found == pytest.approx(naive(p, THETA, fit_intercept), rel=RTOL)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("weighted", [False, True])
def test_relevance_gradient_matches_finite_differences(table, target, weighted, fit_intercept):
    w = table.weights if weighted else None
    p = problem(table.X, getattr(table, target), w, fit_intercept=fit_intercept)
    objective = objective_of(p)
    _, gradient = objective(THETA)
    for j in range(4):
        values = [objective(THETA + t * STEP * np.eye(4)[j])[0] for t in (-2, -1, 1, 2)]
        expected = np.dot(values, [1, -8, 8, -1]) / (12 * STEP)
        assert gradient[j] == pytest.approx(expected, rel=1e-6, abs=GRADIENT_TOLERANCE)
    assert np.abs(gradient).min() > 1e-6  # else a missing term would pass


def test_relevance_objective_counts_copies_as_weights(table):
    repeats = table.repeats + 1
    one = problem(table.X, table.y, repeats.astype(float))
    two = problem(table.X.repeat(repeats, axis=0), table.y.repeat(repeats))
    (a, by_a), (b, by_b) = (objective_of(p)(THETA) for p in (one, two))
    assert a == pytest.approx(b, rel=1e-12)
    np.testing.assert_allclose(by_a, by_b, rtol=1e-10)


def test_relevance_objective_is_infinite_when_not_positive_definite(table, monkeypatch):
    def fail(*args, **options):
        raise NotPSDError("K + alpha I has a negative eigenvalue")

    objective = objective_of(problem(table.X, table.y))
    monkeypatch.setattr(_relevance, "solve_ridge", fail)
    value, gradient = objective(THETA)
    assert value == np.inf
    np.testing.assert_array_equal(gradient, np.zeros(4))


def test_relevance_search_stays_between_bounds_and_descends(table):
    objective = objective_of(problem(table.X, table.y))
    start = np.array([-50.0, 0.0, 50.0])
    found = objective.minimize(start, -100.0, 5)
    low, high = _relevance._LOG_SCALES
    assert ((found.x[:-1] >= low) & (found.x[:-1] <= high)).all()
    assert found.x[-1] >= np.log(1e-8) - 1e-12
    first = objective(np.append(np.clip(start, low, high), np.log(1e-6)))[0]
    assert found.fun < first


# --- the search ----------------------------------------------------------------------------------


def wide(n=150, d=20, seed=1):
    """Return standard normal rows and small noise."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)), 0.1 * rng.standard_normal(n)


@pytest.mark.parametrize("seed", [1, 2])
def test_relevance_finds_a_column_that_the_first_fit_does_not_see(seed):
    X, noise = wide(seed=seed)
    y = np.cos(3.0 * X[:, 0]) + noise
    p = problem(X, y, alphas=np.logspace(-4, 2, 13))
    assert np.mean((p.fit.loo[:, 0] - y) ** 2) > 0.99 * y.var()  # no signal
    scales = Relevance().learn(p.fit, p.training, p.criterion)
    assert scales[0] ** 2 > 0.8 * np.square(scales).sum()


@pytest.mark.parametrize("seed", [1, 2])
def test_relevance_finds_both_columns_of_a_product(seed):
    X, noise = wide(n=200, seed=seed)  # each column alone explains nothing
    scales = learned(X, X[:, 0] * X[:, 1] + noise)
    assert set(np.argsort(scales)[-2:]) == {0, 1}
    # 0.1 of the squares without learning; measured 0.38 to 0.74 over eight seeds.
    assert np.square(scales[:2]).sum() > 0.3 * np.square(scales).sum()


def test_relevance_finds_columns_that_tell_classes_apart():
    X, noise = wide(n=120, d=8)
    scales = learned(X, np.digitize(np.abs(X[:, 3]) + noise, [0.5, 1.2]))
    assert scales.argmax() == 3
    assert scales[3] > 2.0 * np.delete(scales, 3).max()


def test_relevance_map_has_mean_square_one():
    X, noise = wide(n=50, d=4)
    scales = learned(X, X[:, 0] + noise)
    assert np.square(scales).mean() == pytest.approx(1.0, rel=1e-12)
    assert (scales > 0).all()


def test_relevance_is_deterministic():
    X, noise = wide(n=50, d=4)
    y = np.abs(X[:, 0]) + noise
    np.testing.assert_array_equal(learned(X, y), learned(X, y))


# L-BFGS repeats its steps up to rounding, which a few dozen of them amplify to 1e-13 or so.
def test_relevance_follows_permuted_columns():
    X, noise = wide(n=60, d=5)
    y, order = np.abs(X[:, 0]) + X[:, 1] + noise, np.array([3, 1, 4, 0, 2])
    np.testing.assert_allclose(learned(X[:, order], y), learned(X, y)[order], rtol=1e-8)


def test_relevance_ignores_the_order_of_rows():
    X, noise = wide(n=60, d=5)
    y, order = np.abs(X[:, 0]) + noise, np.random.default_rng(0).permutation(60)
    np.testing.assert_allclose(learned(X[order], y[order]), learned(X, y), rtol=1e-8)


def test_relevance_solves_at_most_its_rows(monkeypatch):
    sizes = []

    def counting(K, *args, **options):
        sizes.append(len(K))
        return solve(K, *args, **options)

    solve = _relevance.solve_ridge
    monkeypatch.setattr(_relevance, "solve_ridge", counting)
    X, noise = wide(n=120, d=4)
    scales = learned(X, np.abs(X[:, 2]) + noise, Relevance(rows=50))
    assert max(sizes) <= 50
    assert scales.argmax() == 2


def test_relevance_prior_pulls_scales_together():
    X, noise = wide(n=60, d=4)
    y = X[:, 0] + noise
    loose, tight = (learned(X, y, Relevance(prior=c)) for c in (0.1, 1e4))
    assert np.ptp(np.log(tight)) < 0.1 * np.ptp(np.log(loose))


def test_relevance_raises_when_the_first_fit_fails(table, monkeypatch):
    def fail(*args, **options):
        raise NotPSDError("K + alpha I has a negative eigenvalue")

    monkeypatch.setattr(_relevance, "solve_ridge", fail)
    with pytest.raises(NoMapError, match="has a negative eigenvalue"):
        learned(table.X, table.y)


def test_relevance_raises_when_no_start_is_finite(table, monkeypatch):
    def fail(*args, **options):
        return np.inf, np.zeros(table.X.shape[1] + 1)

    monkeypatch.setattr(_Objective, "__call__", fail)
    with pytest.raises(NoMapError, match="no start of the search has a finite leave-one-out loss"):
        learned(table.X, table.y)


def test_relevance_ignores_units_of_targets():
    X, noise = wide(n=60, d=5)
    y = np.abs(X[:, 0]) + X[:, 1] + noise
    np.testing.assert_allclose(learned(X, 1e6 * y), learned(X, y), rtol=1e-6)


@pytest.mark.gpu
def test_relevance_agrees_on_gpu(table, cuda):
    expected = objective_of(problem(table.X, table.Y))(THETA)
    with config_context(device=str(cuda)), torch.no_grad():
        found = objective_of(problem(table.X, table.Y))(THETA)
    assert found[0] == pytest.approx(expected[0], rel=1e-9)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-7, atol=1e-9)


# --- one column at a time ------------------------------------------------------------------------


def univariate(X, Y, w=None):
    Y = np.asarray(Y, float).reshape(len(X), -1)
    return univariate_relevance(merge_rows(X, Y, w, precomputed=False))


@pytest.mark.parametrize("function", [np.abs, np.square, lambda x: np.cos(3.0 * x)])
@pytest.mark.parametrize("column", [0, 7])
def test_univariate_relevance_puts_the_planted_column_first(function, column):
    X, noise = wide(d=8)
    scales = univariate(X, function(X[:, column]) + noise)
    assert scales.argmax() == column
    assert np.square(scales).mean() == pytest.approx(1.0, rel=1e-12)


def test_univariate_relevance_is_the_adjusted_share_of_binned_variance():
    X, noise = wide(n=83, d=3)
    y = np.abs(X[:, 0]) + X[:, 1] + noise
    gains = []
    for x in X.T:
        bins = np.digitize(x, np.quantile(x, np.arange(1, 10) / 10))
        means = np.array([y[bins == b].mean() for b in range(10)])
        explained = np.square(means[bins] - y.mean()).sum() / np.square(y - y.mean()).sum()
        gains.append(max(explained - 9 / 82, 0.0))
    expected = np.sqrt(np.array(gains) + 0.01 * max(gains))
    expected *= np.sqrt(3.0 / np.square(expected).sum())
    np.testing.assert_allclose(univariate(X, y), expected, rtol=1e-10)


def test_univariate_relevance_knows_columns_by_their_ranks_only():
    X, noise = wide(n=98, d=4)  # 97 is no multiple of 10: no bin ends at a row
    y = np.abs(X[:, 0]) + X[:, 1] + noise
    np.testing.assert_allclose(univariate(np.exp(X), y), univariate(X, y), rtol=1e-12)


def test_univariate_relevance_ignores_units_and_origin_of_targets():
    X, noise = wide(n=60, d=4)
    y = X[:, 0] + noise
    np.testing.assert_allclose(univariate(X, 1e3 * y - 7.0), univariate(X, y), rtol=1e-9)


def test_univariate_relevance_gives_a_constant_column_least():
    X, noise = wide(n=60, d=3)
    X[:, 1] = 4.0
    scales = univariate(X, X[:, 0] + noise)
    assert scales[1] == scales.min()
    assert scales[1] == pytest.approx(scales[0] * np.sqrt(0.01 / 1.01), rel=1e-9)


def test_univariate_relevance_is_one_when_no_column_explains_anything():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((50, 3))
    X[:, 0] = 1.0
    y = rng.standard_normal(50)
    np.testing.assert_array_equal(univariate(X, y), np.ones(3))


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_univariate_relevance_is_one_when_targets_when_targets_are_constant(value):
    X, _ = wide(n=40, d=3)
    np.testing.assert_array_equal(univariate(X, np.full(40, value)), np.ones(3))


def test_univariate_relevance_leaves_rows_of_little_weight_aside():
    X, noise = wide(n=100, d=3)
    y = np.where(np.arange(100) < 50, X[:, 0], 5.0 * X[:, 1]) + noise
    w = np.where(np.arange(100) < 50, 1.0, 1e-6)
    assert univariate(X, y, w).argmax() == 0
    assert univariate(X, y).argmax() == 1


def test_univariate_relevance_of_two_targets_sees_both():
    X, noise = wide(n=100, d=5)
    scales = univariate(X, np.column_stack([X[:, 1], X[:, 3]]) + noise[:, None])
    assert set(np.argsort(scales)[-2:]) == {1, 3}
