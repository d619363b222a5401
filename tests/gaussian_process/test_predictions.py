"""What is predicted from a posterior: blocks, threads, memory, quantiles, densities, samples."""

import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.base import clone
from torch.utils._python_dispatch import TorchDispatchMode

from sknk import NumericalWarning, config_context
from sknk.gaussian_process import _predictions
from sknk.gaussian_process._predictions import blocks
from tests.cases import rows
from tests.gaussian_process.problems import AMPLITUDE, KERNEL, NOISE, free, known
from tests.reference import gaussian_process as oracle

RTOL = 1e-9
MODELS = {
    "exact": {},
    "nngp": {"posterior": "nngp"},
    "ensemble": {"posterior": "ensemble"},
    "flow": {"training_time": 0.5},
    "flow-ensemble": {"training_time": 0.5, "posterior": "ensemble"},
    "student": {"prior": "student", "prior_df": 4.0},
    "rank": {"rank": 6, "random_state": 0},
}
every = pytest.mark.parametrize("options", MODELS.values(), ids=MODELS)


# --- blocks, threads, memory ---------------------------------------------------------------------


@every
def test_predictions_do_not_depend_on_blocks(table, options, monkeypatch):
    model, new = known(**options).fit(table.X, table.Y), rows(150, seed=3)
    whole = model.predict(new, return_std=True)
    monkeypatch.setattr(_predictions, "_BLOCK_ENTRIES", 1)
    assert len(list(blocks(new, 16))) == 3  # of 64 rows
    for a, b in zip(model.predict(new, return_std=True), whole, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12)
    for row in (0, 63, 64, 149):
        for a, b in zip(model.predict(new[row, None], return_std=True), whole, strict=True):
            np.testing.assert_allclose(a[0], b[row], rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(model.predict(new), whole[0], rtol=1e-11, atol=1e-12)


@every
def test_std_is_the_root_of_the_covariances_diagonal(table, options):
    model = known(**options).fit(table.X, table.Y, table.weights)
    mean, std = model.predict(table.new, return_std=True)
    other, cov = model.predict(table.new, return_cov=True)
    np.testing.assert_allclose(other, mean, rtol=RTOL)
    np.testing.assert_allclose(std**2, np.diagonal(cov).T, rtol=1e-8)
    for k in range(2):
        np.testing.assert_allclose(cov[..., k], cov[..., k].T, rtol=1e-12, atol=1e-13)
        assert np.linalg.eigvalsh(cov[..., k])[0] > -1e-12 * np.trace(cov[..., k])


@every
def test_threads_predict_what_one_does(table, options):
    model = known(**options).fit(table.X, table.Y)
    tables = [rows(7, seed=seed) for seed in range(12)]
    with ThreadPoolExecutor(4) as pool:  # the first calls race to solve
        found = list(pool.map(lambda new: model.predict(new, return_std=True), tables))
    alone = known(**options).fit(table.X, table.Y)
    for new, pair in zip(tables, found, strict=True):
        for a, b in zip(pair, alone.predict(new, return_std=True), strict=True):
            np.testing.assert_array_equal(a, b)


class LargestTensor(TorchDispatchMode):
    """Notes the bytes of the largest tensor that any operation returns."""

    def __init__(self):
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        for x in found if isinstance(found, tuple | list) else [found]:
            if isinstance(x, torch.Tensor):
                self.bytes = max(self.bytes, x.numel() * x.element_size())
        return found


@every
def test_std_of_many_rows_needs_no_square_of_them(table, options):
    m = 20_000
    model, new = known(**options).fit(table.X, table.y), rows(m, seed=3)
    with LargestTensor() as largest:
        model.predict(new[:2], return_std=True)  # imports what the first call needs
        tracemalloc.start()
        _, std = model.predict(new, return_std=True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert std.shape == (m,)
    # A covariance has 3.2e9 bytes, a block of cross kernels 2.6e6, the allocator's lesson 3.4e7.
    assert largest.bytes < 1e8
    assert peak < 1e8


def test_blocks_hold_few_entries():
    for n_fit in (1, 20, 2**20):
        for part, tensor in blocks(rows(1000), n_fit):
            assert len(tensor) == part.stop - part.start
            assert len(tensor) * n_fit <= max(2**24, 64 * n_fit)


# --- intervals, quantiles, densities -------------------------------------------------------------


@every
@pytest.mark.parametrize("target", ["y", "Y"])
def test_quantiles_are_those_of_the_predictive_law(table, options, target):
    model = known(**options).fit(table.X, getattr(table, target))
    mean, std, df = model.predict(table.new, return_std=True, return_df=True)
    law = stats.t(df) if np.isfinite(df) else stats.norm()
    gain = model._gain if getattr(table, target).ndim == 2 else model._gain[0]
    # std holds the inflation of a t; scale does not.
    scale = np.sqrt(std**2 / law.var() + NOISE * gain)
    levels = np.array([0.01, 0.2, 0.5, 0.9])
    found = model.predict_quantiles(table.new, levels)
    for k, level in enumerate(levels):
        np.testing.assert_allclose(found[:, k], mean + law.ppf(level) * scale, rtol=RTOL)
    assert (np.diff(found, axis=1) > 0).all()


@every
def test_interval_is_the_outer_pair_of_quantiles(table, options):
    model = known(**options).fit(table.X, table.Y)
    for alpha in (0.1, 0.4):
        found = model.predict_interval(table.new, alpha)
        assert found.shape == (5, 2, 2)
        expected = model.predict_quantiles(table.new, [alpha / 2, 1 - alpha / 2])
        np.testing.assert_array_equal(found, expected)
    widths = [np.ptp(model.predict_interval(table.new, alpha), axis=1) for alpha in (0.1, 0.4)]
    assert (widths[0] > widths[1]).all()


@every
def test_log_density_equals_scipy(table, options):
    model, targets = known(**options).fit(table.X, table.Y), rows(5, 2, seed=9)
    mean, std, df = model.predict(table.new, return_std=True, return_df=True)
    law = stats.t(df) if np.isfinite(df) else stats.norm()
    scale = np.sqrt(std**2 / law.var() + NOISE * model._gain)
    expected = law.logpdf((targets - mean) / scale) - np.log(scale)
    found = model.predict_log_density(table.new, targets)
    np.testing.assert_allclose(found, expected.sum(axis=1), rtol=RTOL)
    by_tensor = model.predict_log_density(torch.from_numpy(table.new), torch.from_numpy(targets))
    np.testing.assert_array_equal(by_tensor, found)


def test_log_density_integrates_to_one(table):
    model = known(prior="student", prior_df=3.0).fit(table.X[:4], table.y[:4])
    grid = np.linspace(-400, 400, 20_001)
    x = np.repeat(table.new[:1], len(grid), axis=0)
    total = np.trapezoid(np.exp(model.predict_log_density(x, grid)), grid)
    assert total == pytest.approx(1.0, abs=1e-6)  # the tails of a t with 7 degrees


@pytest.mark.parametrize(
    "noise", [0.0, 0.7, np.linspace(0.1, 2.0, 5)], ids=["zero", "number", "rows"]
)
def test_noise_of_new_rows_can_be_given(table, noise):
    for model in (known(), known(noise_variance=table.variances)):
        mean, std = model.fit(table.X, table.y).predict(table.new, return_std=True)
        law = stats.norm(mean, np.sqrt(std**2 + noise))
        found = model.predict_quantiles(table.new, [0.3], noise_variance=noise)[:, 0]
        np.testing.assert_allclose(found, law.ppf(0.3), rtol=RTOL)
        density = model.predict_log_density(table.new, np.zeros(5), noise_variance=noise)
        np.testing.assert_allclose(density, law.logpdf(0.0), rtol=RTOL)
        interval = model.predict_interval(table.new, noise_variance=noise)
        np.testing.assert_allclose(interval[:, 1], law.ppf(0.95), rtol=RTOL)


def test_normalized_targets_give_quantiles_in_units_of_y(table):
    scale = table.Y.std(axis=0)
    one = free(normalize_y=True).fit(table.X, table.Y)
    two = free(normalize_y=True).fit(table.X, 7.0 * table.Y + 100.0)
    np.testing.assert_allclose(
        two.predict_quantiles(table.new), 7.0 * one.predict_quantiles(table.new) + 100.0, rtol=1e-7
    )
    assert one.noise_variance_.shape == (2,)
    np.testing.assert_allclose(
        np.divide(*one.noise_variance_), (scale[0] / scale[1]) ** 2, rtol=RTOL
    )


def test_negative_variances_warn_and_become_zero(table, monkeypatch):
    model = known().fit(table.X, table.y)
    diag = type(KERNEL).diag
    monkeypatch.setattr(type(KERNEL), "diag", lambda self, X: 0.1 * diag(self, X))
    with pytest.warns(NumericalWarning, match=r"predictive variances are negative .* set to zero"):
        _, std = model.predict(table.new, return_std=True)
    assert (std >= 0).all()
    assert std.min() == 0.0


# --- samples -------------------------------------------------------------------------------------


@every
def test_samples_have_the_moments_of_the_posterior(table, options):
    model = known(**options).fit(table.X, table.Y)
    mean, cov = model.predict(table.new, return_cov=True)
    draws = model.sample_y(table.new, 20_000, random_state=1)
    assert draws.shape == (5, 2, 20_000)
    for k in range(2):
        # Five standard errors: sd/sqrt(n) of means, var sqrt(2/n) of variances, more for a t of 20.
        sd = np.sqrt(np.diag(cov[..., k]))
        assert (np.abs(draws[:, k].mean(axis=1) - mean[:, k]) < 5 * sd / np.sqrt(20_000)).all()
        gap = np.abs(np.cov(draws[:, k]) - cov[..., k]) / np.outer(sd, sd)
        assert gap.max() < 6 * np.sqrt(2 / 20_000)


def test_samples_of_a_student_have_its_tails(table):
    model = known(prior="student", prior_df=2.0).fit(table.X[:2], table.y[:2])
    mean, std, df = model.predict(table.new[:1], return_std=True, return_df=True)
    draws = model.sample_y(table.new[:1], 50_000, random_state=0)[0]
    law = stats.t(df, loc=mean[0], scale=std[0] / stats.t(df).std())
    assert stats.kstest(draws, law.cdf).pvalue > 1e-3  # a normal has one below 1e-80


def test_samples_follow_their_seed_and_are_smooth(table):
    model = known().fit(table.X, table.y)
    one, two, other = (model.sample_y(table.new, 2, random_state=s) for s in (0, 0, 1))
    np.testing.assert_array_equal(one, two)
    assert (one != other).any()
    assert model.sample_y(table.new).shape == (5, 1)
    twice = model.sample_y(np.vstack([table.new[:1]] * 2), 50)
    np.testing.assert_allclose(twice[0], twice[1], atol=1e-5)  # the root of rounding


# --- coverage ------------------------------------------------------------------------------------


def drawn(seed, n, m, df=None):
    """Rows, and targets drawn from the model at its numbers."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n + m, 3))
    C = oracle.covariance(AMPLITUDE * KERNEL(X), NOISE)
    scale = 1.0 if df is None else np.sqrt(df / rng.chisquare(df))
    return X, scale * np.linalg.cholesky(C) @ rng.standard_normal(n + m)


def coverage(model, seed, n, m, df=None):
    X, y = drawn(seed, n, m, df)
    low, high = clone(model).fit(X[:n], y[:n]).predict_interval(X[n:], alpha=0.1).T
    return np.mean((low <= y[n:]) & (y[n:] <= high))


def test_intervals_cover_as_promised_when_the_model_is_true():
    found = np.mean([coverage(known(), seed, n=30, m=60) for seed in range(40)])
    assert 0.87 <= found <= 0.93  # 2400 targets that share 40 functions leave 0.01


def test_student_intervals_cover_as_promised_when_the_model_is_true():
    # Few rows and degrees: a normal law of the same variance covers 0.94.
    model = known(prior="student", prior_df=3.0)
    found = np.mean([coverage(model, seed, n=4, m=10, df=3.0) for seed in range(120)])
    assert 0.87 <= found <= 0.93


def test_leave_one_out_covers_as_promised_when_the_model_is_true():
    inside = []
    for seed in range(30):
        X, y = drawn(seed, 40, 0)
        found = known().fit(X, y).loo_predictive()
        inside.append(np.abs(y - found.mean) <= stats.norm.ppf(0.95) * found.std)
    assert 0.87 <= np.mean(inside) <= 0.93


@pytest.mark.slow
def test_estimated_models_cover_nearly_as_promised():
    found = np.mean([coverage(free(max_evaluations=30), seed, n=60, m=60) for seed in range(10)])
    assert 0.85 <= found <= 0.95  # hyperparameters of 60 rows are not the true ones


# --- places --------------------------------------------------------------------------------------


@every
def test_float32_is_close_to_float64(table, options):
    high = known(**options).fit(table.X, table.Y).predict(table.new, return_std=True)
    model = known(dtype="float32", **options).fit(table.X, table.Y)
    for a, b in zip(model.predict(table.new, return_std=True), high, strict=True):
        assert a.dtype == np.float64
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)  # 1e-7 times a condition of 1e3


def test_predictions_follow_a_changed_configuration(table):
    model = known().fit(table.X, table.y)
    expected = model.predict(table.new, return_std=True)
    with config_context(dtype="float32"):
        low = model.predict(table.new, return_std=True)
    assert any((a != b).any() for a, b in zip(low, expected, strict=True))
    for a, b in zip(model.predict(table.new, return_std=True), expected, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.gpu
@every
def test_gpu_agrees_with_cpu(table, options, cuda):
    expected = known(**options).fit(table.X, table.Y)
    model = known(device=str(cuda), **options).fit(table.X, table.Y)
    for a, b in zip(
        model.predict(table.new, return_std=True),
        expected.predict(table.new, return_std=True),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(
        model.log_marginal_likelihood_value_, expected.log_marginal_likelihood_value_, rtol=1e-8
    )
    if "time" not in str(options):
        for a, b in zip(model.loo_predictive(), expected.loo_predictive(), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-8)
    appended = model.partial_fit(table.new, table.Y[:5]).predict(table.X, return_std=True)
    wanted = expected.partial_fit(table.new, table.Y[:5]).predict(table.X, return_std=True)
    for a, b in zip(appended, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-9)


@pytest.mark.gpu
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"rank": 6},
        {"evidence": "stochastic"},
        {"rank": 6, "evidence": "stochastic"},
        {"ard": True},
    ],
    ids=str,
)
def test_gpu_searches(table, options, cuda):
    model = free(device=str(cuda), max_epochs=2, random_state=0, **options).fit(table.X, table.y)
    assert np.isfinite(model.predict(table.new, return_std=True)).all()
    expected = free(max_epochs=2, random_state=0, **options).fit(table.X, table.y)
    np.testing.assert_allclose(model.theta_, expected.theta_, rtol=1e-5, atol=1e-6)
