import pickle

import numpy as np
import pytest
from sklearn.gaussian_process.kernels import RBF

from sknk import NTKRidge, NTKRidgeCV, config_context
from sknk.ridge import _intervals
from tests.reference import ridge as oracle

# Refits and closed form: float64 rounding times condition numbers below 1e4.
RTOL = 1e-8
ALPHA = 0.2  # the ridge; the miscoverage is called `miss` here


def repeated(table):
    """Return rows, targets and copy numbers of the table repeated by its integer weights."""
    X, Y = (a.repeat(table.repeats, axis=0) for a in (table.X, table.Y))
    return X, Y, oracle.copies(X, Y)


@pytest.mark.parametrize("miss", [0.05, 0.1, 0.25, 0.5, 0.9])
def test_intervals_equal_refits(table, miss, fit_intercept):
    model = NTKRidge(table.kernel, alpha=ALPHA, fit_intercept=fit_intercept)
    found = model.fit(table.X, table.Y).predict_interval(table.new, alpha=miss)
    expected = oracle.jackknife_plus(
        table.kernel(table.X),
        table.kernel(table.new, table.X),
        table.Y,
        np.arange(20),
        ALPHA,
        miss,
        fit_intercept,
    )
    assert found.shape == (7, 2, 2)
    np.testing.assert_allclose(found, expected, rtol=RTOL, atol=RTOL)


@pytest.mark.parametrize("miss", [0.1, 0.3])
def test_intervals_of_copies_equal_refits_without_all_of_them(table, miss, fit_intercept):
    X, Y, groups = repeated(table)
    expected = oracle.jackknife_plus(
        table.kernel(X), table.kernel(table.new, X), Y, groups, ALPHA, miss, fit_intercept
    )
    model = NTKRidge(table.kernel, alpha=ALPHA, fit_intercept=fit_intercept)
    found = model.fit(X, Y).predict_interval(table.new, alpha=miss)
    np.testing.assert_allclose(found, expected, rtol=RTOL, atol=RTOL)
    # Integer weights count as repetitions.
    weighted = model.fit(table.X, table.Y, table.repeats).predict_interval(table.new, alpha=miss)
    np.testing.assert_allclose(weighted, expected, rtol=RTOL, atol=RTOL)


def test_intervals_of_one_target_are_flat(table):
    both = NTKRidge(table.kernel).fit(table.X, table.Y).predict_interval(table.new)
    one = NTKRidge(table.kernel).fit(table.X, table.y).predict_interval(table.new)
    assert one.shape == (7, 2)
    np.testing.assert_allclose(one, both[..., 0], rtol=RTOL)


@pytest.mark.parametrize("kernel", ["precomputed", RBF()], ids=str)
def test_intervals_of_gram_equal_intervals_of_kernel(table, kernel):
    k = table.kernel if kernel == "precomputed" else kernel
    X = np.vstack([table.X, table.X[:4]])
    y, w = np.r_[table.y, table.y[:4]], np.r_[table.weights, np.zeros(2), np.ones(2)]
    expected = NTKRidge(k).fit(X, y, w).predict_interval(table.new)
    gram = NTKRidge("precomputed").fit(k(X), y, w)
    np.testing.assert_allclose(gram.predict_interval(k(table.new, X)), expected, rtol=RTOL)


def test_intervals_of_search_equal_those_of_its_choice(table):
    search = NTKRidgeCV(table.kernel, param_grid={"depth": [1, 2]}, alphas=[0.1, 0.3])
    search.fit(table.X, table.y, table.weights)
    model = NTKRidge(search.kernel_, alpha=search.alpha_).fit(table.X, table.y, table.weights)
    found = search.predict_interval(table.new)
    np.testing.assert_allclose(found, model.predict_interval(table.new), rtol=RTOL)


@pytest.mark.parametrize(("n", "finite"), [(8, False), (9, True)])
def test_intervals_are_infinite_for_few_rows(table, n, finite):
    # alpha (n + 1) >= 1 needs n = 9 at a miscoverage of 0.1.
    model = NTKRidge(table.kernel).fit(table.X[:n], table.y[:n])
    found = model.predict_interval(table.new, alpha=0.1)
    assert (np.isfinite(found) == finite).all()
    if not finite:
        np.testing.assert_array_equal(found, np.tile([-np.inf, np.inf], (7, 1)))


def test_intervals_of_one_row_are_infinite(table):
    found = NTKRidge().fit(table.X[:1], table.y[:1]).predict_interval(table.new)
    np.testing.assert_array_equal(found, np.tile([-np.inf, np.inf], (7, 1)))


def test_intervals_shrink_with_miscoverage(table):
    model = NTKRidge(table.kernel).fit(table.X, table.y)
    widths = np.diff([model.predict_interval(table.new, alpha=a) for a in (0.1, 0.2, 0.4)])[..., 0]
    assert (np.diff(widths, axis=0) <= 1e-12).all()


def test_intervals_shift_and_scale_with_targets(table):
    model = NTKRidge(table.kernel)
    one = model.fit(table.X, table.y).predict_interval(table.new)
    two = model.fit(table.X, 5.0 * table.y - 100.0).predict_interval(table.new)
    np.testing.assert_allclose(two, 5.0 * one - 100.0, rtol=RTOL)


def test_intervals_do_not_depend_on_chunks(table, monkeypatch):
    model = NTKRidge(table.kernel).fit(table.X, table.Y, table.weights)
    expected = model.predict_interval(table.new)
    monkeypatch.setattr(_intervals, "_CHUNK_BYTES", 1)
    np.testing.assert_allclose(model.predict_interval(table.new), expected, rtol=1e-12)


def test_intervals_after_pickle_equal_those_before(table):
    model = NTKRidge(table.kernel).fit(table.X, table.Y, table.weights)
    early = pickle.loads(pickle.dumps(model))
    expected = model.predict_interval(table.new)
    late = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(early.predict_interval(table.new), expected)
    np.testing.assert_array_equal(late.predict_interval(table.new), expected)


def test_intervals_after_refit_forget_the_old_fit(table):
    model = NTKRidge(table.kernel).fit(table.X, table.y)
    model.predict_interval(table.new)
    found = model.fit(table.X[:15], table.y[:15]).predict_interval(table.new)
    fresh = NTKRidge(table.kernel).fit(table.X[:15], table.y[:15]).predict_interval(table.new)
    np.testing.assert_array_equal(found, fresh)


def test_intervals_follow_a_changed_configuration(table):
    model = NTKRidge(table.kernel).fit(table.X, table.y)
    expected = model.predict_interval(table.new)
    with config_context(dtype="float32"):
        low = model.predict_interval(table.new)
    # float32's 1e-7 times a condition number of 1e2.
    np.testing.assert_allclose(low, expected, atol=1e-4)
    np.testing.assert_array_equal(model.predict_interval(table.new), expected)


# --- coverage ----------------------------------------------------------------------------------


def coverage(miss, seed, n=60, n_new=200):
    """Return the share of new targets inside their intervals; noise grows with x."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n + n_new, 2))
    y = np.sin(2 * X[:, 0]) + X[:, 1] + (0.1 + 0.3 * np.abs(X[:, 0])) * rng.standard_normal(len(X))
    low, high = NTKRidge(alpha=0.1).fit(X[:n], y[:n]).predict_interval(X[n:], alpha=miss).T
    return np.mean((low <= y[n:]) & (y[n:] <= high))


# A seed's coverage varies by 0.04 (training) and 0.02 (200 new rows); 40 seeds leave 0.007.
@pytest.mark.parametrize("miss", [0.1, 0.2])
def test_intervals_cover_as_promised(miss):
    found = np.mean([coverage(miss, seed) for seed in range(40)])
    assert found >= 1 - 2 * miss  # theorem 1
    assert found == pytest.approx(1 - miss, abs=0.03)  # in practice


def test_intervals_of_copied_rows_cover_as_promised():
    # With every row twice, leaving out one copy would show the model its own answer.
    def one(seed):
        rng = np.random.default_rng(seed)
        X = rng.standard_normal((240, 2))
        y = X[:, 0] + 0.5 * rng.standard_normal(240)
        model = NTKRidge(alpha=0.01).fit(np.tile(X[:40], (2, 1)), np.tile(y[:40], 2))
        low, high = model.predict_interval(X[40:], alpha=0.1).T
        return np.mean((low <= y[40:]) & (y[40:] <= high))

    assert np.mean([one(seed) for seed in range(20)]) == pytest.approx(0.9, abs=0.04)
