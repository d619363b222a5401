import subprocess
import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.collections import PathCollection
from matplotlib.lines import Line2D
from scipy.stats import binom

from sknk.attribution import Curve
from sknk.inspection import (
    AttributionDisplay,
    CalibrationDisplay,
    CoverageDisplay,
    GPPredictionDisplay,
    RemovalCurveDisplay,
)
from sknk.inspection._plotting import axes_for, axes_on, binomial_band, legend_over, percent, style

CURVE = Curve(np.array([0.5]), np.array([0.9]), np.empty((0, 1)), "lowest", "remove")
CALLS = [
    lambda: GPPredictionDisplay.from_estimator(None, [[0.0]]),
    lambda: GPPredictionDisplay.from_predictions([0.0], [0.0], [1.0]),
    lambda: GPPredictionDisplay(np.zeros(1), np.zeros(1), np.ones(1)).plot(),
    lambda: CalibrationDisplay.from_estimator(None, [[0.0]], [0]),
    lambda: CalibrationDisplay.from_predictions([0, 1], [0.1, 0.9]),
    lambda: CalibrationDisplay(np.zeros(1), np.zeros(1), np.ones(1), 0.0).plot(),
    lambda: CoverageDisplay.from_estimator(None, [[0.0]], [0.0]),
    lambda: CoverageDisplay.from_predictions([0.0], mean=[0.0], std=[1.0]),
    lambda: CoverageDisplay(np.array([0.5]), np.array([0.5]), 3.0).plot(),
    lambda: AttributionDisplay.from_estimator(None),
    lambda: AttributionDisplay.from_predictions([0.5]),
    lambda: AttributionDisplay(np.array([0.5]), ["row 0"]).plot(),
    lambda: RemovalCurveDisplay.from_estimator(None, [[0.0]], [0.0]),
    lambda: RemovalCurveDisplay.from_predictions(CURVE),
    lambda: RemovalCurveDisplay([CURVE], ["lowest first"]).plot(),
]


@pytest.mark.usefixtures("no_matplotlib")
@pytest.mark.parametrize("call", CALLS)
def test_drawing_raises_when_matplotlib_is_missing(call):
    with pytest.raises(ImportError, match=r"Display\.\w+ draws with .*pip install 'sknk\[plot\]'"):
        call()


def test_import_leaves_matplotlib_out():
    code = "import sys, sknk.inspection; assert 'matplotlib' not in sys.modules"
    assert subprocess.run([sys.executable, "-W", "error", "-c", code], check=False).returncode == 0


def test_number_needs_no_matplotlib():
    code = """
import sys
sys.modules["matplotlib"] = None
from sknk.inspection import expected_calibration_error
assert expected_calibration_error([0, 1], [0.0, 1.0]) == 0.0
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("rows", [1, 7, 40, 333])
@pytest.mark.parametrize("level", [0.5, 0.9, 0.99])
def test_binomial_band_holds_at_least_its_level(rows, level):
    chance = np.linspace(0.0, 1.0, 21)
    lower, upper = binomial_band(rows, chance, level)
    first, last = np.rint(lower * rows), np.rint(upper * rows)
    inside = binom.cdf(last, rows, chance) - binom.cdf(first - 1, rows, chance)
    assert (inside >= level - 1e-12).all()
    # Each tail that is cut off is smaller than (1 - level) / 2, and could not be larger.
    assert (binom.cdf(first, rows, chance) >= (1 - level) / 2 - 1e-12).all()
    assert (binom.cdf(last - 1, rows, chance) <= (1 + level) / 2 + 1e-12)[chance > 0].all()


def test_binomial_band_is_a_point_when_nothing_is_left_to_chance():
    lower, upper = binomial_band(10, [0.0, 1.0], 0.9)
    np.testing.assert_array_equal([lower, upper], [[0.0, 1.0], [0.0, 1.0]])


def test_binomial_band_rounds_effective_rows():
    for found, expected in zip(
        binomial_band([9.6, 0.2], 0.4, 0.8), binomial_band([10, 1], 0.4, 0.8), strict=True
    ):
        np.testing.assert_array_equal(found, expected)


def test_style_of_the_user_wins_under_any_alias():
    default = {"linewidth": 2.0, "color": "red", "label": "ours"}
    found = style(Line2D, default, {"lw": 1.0}, {"c": "blue", "label": "theirs"})
    assert found == {"linewidth": 1.0, "color": "blue", "label": "theirs"}


def test_style_of_points_takes_one_colour_each():
    found = style(PathCollection, {"color": "red", "s": 3}, {"c": [1, 2]}, None)
    assert found == {"c": [1, 2], "s": 3}


def test_style_raises_when_two_aliases_are_given():
    with pytest.raises(TypeError, match="aliases of one another"):
        style(Line2D, {}, {"lw": 1.0, "linewidth": 2.0})


def test_axes_raise_when_they_are_none():
    with pytest.raises(TypeError, match=r"`ax` is 'here'; expected matplotlib axes"):
        axes_on("here", "test")


@pytest.mark.parametrize(("count", "shape"), [(2, (1, 2)), (3, (1, 3)), (4, (2, 2)), (7, (3, 3))])
def test_panels_share_a_grid(count, shape):
    found = axes_for(None, count, "test")
    grid = found[0].get_subplotspec().get_gridspec()
    assert (grid.nrows, grid.ncols) == shape
    assert len(found) == len(found[0].figure.axes) == count


def test_panels_raise_when_axes_are_missing():
    _, grid = plt.subplots(1, 2)
    with pytest.raises(ValueError, match=r"`ax` holds 2 axes; expected 3, one for each feature"):
        axes_for(grid, 3, "test")
    assert axes_for(grid, 2, "test") == list(grid)


@pytest.mark.parametrize("layout", ["constrained", None])
def test_legend_of_panels_is_one(layout):
    figure, axes = plt.subplots(1, 2, layout=layout)
    for name in ("first", "second"):
        axes[0].plot([0, 1], label=name)
        legend_over(list(axes))
    above = layout == "constrained"
    legends = figure.legends if above else [axes[0].get_legend()]
    assert [[text.get_text() for text in one.get_texts()] for one in legends] == [
        ["first", "second"]
    ]
    assert (axes[0].get_legend() is None) == above


@pytest.mark.parametrize(("value", "text"), [(0.9, "90 %"), (0.55, "55 %"), (0.975, "97.5 %")])
def test_percent_is_short(value, text):
    assert percent(value) == text
