import numpy as np
import pytest
from scipy.stats import norm
from sklearn.linear_model import BayesianRidge, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sknk import NTKRidge
from sknk.inspection import CoverageDisplay
from sknk.inspection._plotting import binomial_band

from_estimator = CoverageDisplay.from_estimator
from_predictions = CoverageDisplay.from_predictions

LEVELS = [0.5, 0.8, 0.95]


def drawn(n=200, seed=0):
    """Means, standard deviations, and targets drawn from those laws."""
    rng = np.random.default_rng(seed)
    mean, std = rng.standard_normal(n), rng.uniform(0.5, 2.0, n)
    return mean, std, mean + std * rng.standard_normal(n)


def intervals(mean, std, levels):
    """Central intervals by scipy, (l, m, 2)."""
    return np.stack([np.column_stack(norm.interval(p, mean, std)) for p in levels])


def texts(display):
    return [text.get_text() for text in display.ax_.get_legend().get_texts()]


def test_gaussian_laws_are_their_intervals():
    mean, std, y = drawn()
    first = from_predictions(y, mean=mean, std=std, levels=LEVELS)
    second = from_predictions(y, intervals(mean, std, LEVELS), LEVELS)
    np.testing.assert_array_equal(first.observed, second.observed)
    expected = [np.mean(np.abs(y - mean) <= norm.ppf(0.5 + p / 2) * std) for p in LEVELS]
    np.testing.assert_allclose(first.observed, expected, rtol=1e-12)


def test_honest_laws_are_on_the_diagonal():
    mean, std, y = drawn(20_000)
    display = from_predictions(y, mean=mean, std=std)
    np.testing.assert_allclose(display.levels, np.arange(0.05, 0.96, 0.05))
    # A frequency over 20000 rows has a standard deviation of at most 0.0036.
    np.testing.assert_allclose(display.observed, display.levels, atol=0.015)
    assert display.coverage_error < 0.006


@pytest.mark.parametrize(("factor", "sign"), [(2.0, 1.0), (0.5, -1.0)])
def test_wide_intervals_are_above_and_narrow_ones_below(factor, sign):
    mean, std, y = drawn(2000)
    display = from_predictions(y, mean=mean, std=factor * std)
    assert (sign * (display.observed - display.levels) > 0).all()


def test_curve_is_drawn():
    mean, std, y = drawn()
    display = from_predictions(y, mean=mean, std=std, levels=LEVELS, name="gp", lw=3, label="mine")
    np.testing.assert_array_equal(
        display.line_.get_xydata(), np.column_stack([LEVELS, display.observed])
    )
    assert (display.line_.get_linewidth(), display.line_.get_label()) == (3, "mine")
    assert texts(display.plot()) == [
        "as promised",
        "90 % by chance, 200 rows",
        f"gp (mean gap {display.coverage_error:.3f})",
    ]
    assert texts(display.plot(name="other"))[2].startswith("other (mean gap")
    assert display.coverage_error == np.abs(display.observed - LEVELS).mean()


def test_bounds_count_as_inside():
    found = from_predictions([0.0, 1.0, 2.0, 3.0], [[0, 1], [0, 1], [0, 1], [-np.inf, np.inf]], 0.5)
    np.testing.assert_array_equal(found.observed, [0.75])
    assert from_predictions([1.0], mean=[1.0], std=[0.0]).observed.min() == 1.0


def test_levels_are_sorted():
    mean, std, y = drawn()
    levels = [0.9, 0.1, 0.5]
    found = from_predictions(y, intervals(mean, std, levels), levels)
    np.testing.assert_array_equal(found.levels, [0.1, 0.5, 0.9])
    np.testing.assert_array_equal(
        found.observed, from_predictions(y, mean=mean, std=std, levels=[0.1, 0.5, 0.9]).observed
    )


def test_weights_are_repeats():
    mean, std, y = drawn(50)
    repeats = np.random.default_rng(1).integers(0, 4, 50)
    weighted = from_predictions(y, mean=mean, std=std, sample_weight=repeats)
    copies = [values.repeat(repeats) for values in (y, mean, std)]
    repeated = from_predictions(copies[0], mean=copies[1], std=copies[2])
    np.testing.assert_allclose(weighted.observed, repeated.observed, rtol=1e-12)
    # Copies of a row are no further evidence: the band knows fewer rows.
    assert weighted.n_rows == pytest.approx(repeats.sum() ** 2 / (repeats**2).sum())
    assert weighted.n_rows < repeats.sum()


def test_band_is_binomial():
    mean, std, y = drawn(80)
    display = from_predictions(y, mean=mean, std=std, band_level=0.8)
    lower, upper = binomial_band(80, np.linspace(0, 1, 201), 0.8)
    (path,) = display.band_.get_paths()
    assert path.vertices[:, 1].min() == lower.min() == 0.0
    found = set(np.round(path.vertices[:, 1], 12))
    assert set(np.round(np.concatenate([lower, upper]), 12)) <= found


def test_band_holds_the_points_of_an_honest_model():
    inside = []
    for seed in range(300):
        mean, std, y = drawn(60, seed)
        observed = np.mean(
            np.abs(y - mean) <= norm.ppf(0.5 + np.array(LEVELS) / 2)[:, None] * std, 1
        )
        lower, upper = binomial_band(60, LEVELS, 0.9)
        inside.append((lower <= observed) & (observed <= upper))
    # 300 independent draws a level, each inside with at least 90 %.
    assert (np.mean(inside, axis=0) > 0.85).all()


def test_displays_overlay_on_one_band():
    mean, std, y = drawn()
    first = from_predictions(y, mean=mean, std=std)
    second = from_predictions(y, mean=mean, std=2 * std, ax=first.ax_)
    third = from_predictions(y[:50], mean=mean[:50], std=std[:50], ax=first.ax_)
    fourth = from_predictions(y, mean=mean, std=std, ax=first.ax_, band_level=None)
    assert second.band_ is fourth.band_ is None
    assert third.band_ is not None
    assert texts(fourth).count("as promised") == 1


# --- estimators --------------------------------------------------------------------------------


def test_own_intervals_are_asked_first(table):
    model = make_pipeline(StandardScaler(), NTKRidge(alpha=0.1)).fit(table.X[:14], table.y[:14])
    display = from_estimator(model, table.X[14:], table.y[14:], levels=LEVELS)
    seen = model[:-1].transform(table.X[14:])
    bounds = [model[-1].predict_interval(seen, alpha=alpha) for alpha in (0.5, 0.2, 0.05)]
    expected = from_predictions(table.y[14:], bounds, LEVELS)
    np.testing.assert_array_equal(display.observed, expected.observed)
    assert display.line_.get_label().startswith("NTKRidge (mean gap")


@pytest.mark.parametrize("name", [None, "mine"])
def test_gaussian_laws_are_asked_else(table, name):
    weights = np.arange(1.0, 21.0)
    display = from_estimator(table.model, table.X, table.y, sample_weight=weights, name=name)
    mean, std = table.model.predict(table.X, return_std=True)
    expected = from_predictions(table.y, mean=mean, std=std, sample_weight=weights)
    np.testing.assert_array_equal(display.observed, expected.observed)
    assert display.line_.get_label().split()[0] == (name or "GaussianProcessRegressor")


def test_other_regressors_with_std_are_judged(line):
    model = BayesianRidge().fit(line.X, line.y)
    assert from_estimator(model, line.X, line.y, levels=0.9).observed.shape == (1,)


def test_estimator_raises_when_it_is_certain(line):
    with pytest.raises(TypeError, match=r"Ridge.predict takes no `return_std`"):
        from_estimator(Ridge().fit(line.X, line.y), line.X, line.y)


# --- bad input ---------------------------------------------------------------------------------

Y = [0.0, 1.0, 2.0]
BOUNDS = np.tile([0.0, 1.0], (2, 3, 1))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, r"Of the predictions \[\] are given; expected either `intervals`, or `mean` and `std"),
        ({"mean": Y}, r"Of the predictions \['mean'\] are given"),
        ({"std": Y}, r"Of the predictions \['std'\] are given"),
        ({"intervals": BOUNDS, "mean": Y, "std": Y}, r"\['intervals', 'mean', 'std'\] are given"),
        ({"intervals": BOUNDS, "std": Y}, r"\['intervals', 'std'\] are given"),
        ({"intervals": BOUNDS}, "`levels` is None; expected the nominal coverage of each interval"),
        (
            {"intervals": BOUNDS, "levels": 0.5},
            r"`intervals` has shape \(2, 3, 2\); expected \(1, 3",
        ),
        ({"intervals": BOUNDS[:, :2], "levels": [0.5, 0.6]}, r"`intervals` has shape \(2, 2, 2\)"),
        ({"intervals": -BOUNDS, "levels": [0.5, 0.6]}, r"holds \[-0\.0, -1\.0\] at level 0, row 0"),
        ({"intervals": BOUNDS * np.nan, "levels": [0.5, 0.6]}, r"holds \[nan, nan\] at level 0"),
        ({"mean": Y, "std": Y, "levels": [0.5, 1.0]}, r"`levels` holds 1\.0; expected coverages"),
        ({"mean": Y, "std": Y, "levels": 90}, r"`levels` holds 90\.0; expected coverages between"),
        ({"mean": Y, "std": Y, "levels": []}, r"`levels` has shape \(0,\)"),
        ({"mean": Y, "std": [1.0, -1.0, 1.0]}, "`std` is -1 at row 1"),
        ({"mean": Y[:2], "std": Y}, "`mean` has 2 rows; expected 3"),
        ({"mean": Y, "std": Y, "sample_weight": [1, -1, 1]}, "`sample_weight` is -1 at row 1"),
        ({"mean": Y, "std": Y, "band_level": 2}, "`band_level` is 2; expected the probability of"),
    ],
    ids=lambda value: str(list(value)) if isinstance(value, dict) else value[:20],
)
def test_bad_predictions_raise(given, message):
    with pytest.raises(ValueError, match=message):
        from_predictions(Y, **given)


def test_several_targets_raise(line):
    model = NTKRidge().fit(line.X, np.column_stack([line.y, line.y]))
    with pytest.raises(ValueError, match=r"`y` has shape \(15, 2\); expected one number a row"):
        from_estimator(model, line.X, np.column_stack([line.y, line.y]))
