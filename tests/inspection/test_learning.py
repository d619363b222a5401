import numpy as np
import pytest
from numpy.testing import assert_allclose

from sknk import NTKRidge
from sknk.active_learning import BatchActiveLearner, LearningCurves, run_active_learning
from sknk.inspection import LearningCurveDisplay
from tests.cases import rows

plt = pytest.importorskip("matplotlib.pyplot")

X = rows(40, d=2)
Y = np.sin(X[:, 0])
SIZES = {"n_initial": 6, "n_batches": 2, "n_splits": 3, "random_state": 0}


def learners():
    return {name: BatchActiveLearner(NTKRidge(), name, batch_size=3) for name in ("bait", "random")}


def test_curves_are_means_and_bands_standard_errors():
    scores = np.array([[0.1, 0.5], [0.3, 0.9]])
    curves = LearningCurves(np.array([5, 10]), {"a": scores, "b": scores[:1]}, {})
    display = LearningCurveDisplay.from_predictions(curves, score_name="R2")
    assert_allclose(display.lines_["a"].get_xydata(), [[5, 0.2], [10, 0.7]])
    assert set(display.bands_) == {"a"}
    points = display.bands_["a"].get_paths()[0].vertices
    assert_allclose([points[:, 1].min(), points[:, 1].max()], [0.1, 0.9])
    assert display.ax_.get_ylabel() == "R2"
    assert display.figure_ is display.ax_.figure


def test_estimators_are_run_as_by_hand():
    display = LearningCurveDisplay.from_estimator(learners(), X, Y, scoring="r2", **SIZES)
    curves = run_active_learning(learners(), X, Y, scoring="r2", **SIZES)
    for name, line in display.lines_.items():
        assert_allclose(line.get_ydata(), curves.scores[name].mean(0))
    assert display.ax_.get_ylabel() == "r2"


def test_style_and_axes_are_those_passed():
    _, ax = plt.subplots()
    curves = LearningCurves(np.array([5, 10]), {"a": np.array([[0.1, 0.5]] * 2)}, {})
    display = LearningCurveDisplay.from_predictions(
        curves, ax=ax, color="red", band_kw={"alpha": 0.5}
    )
    assert display.ax_ is ax
    assert display.lines_["a"].get_color() == "red"
    assert display.bands_["a"].get_alpha() == 0.5


def test_other_things_than_curves_are_refused():
    with pytest.raises(TypeError, match=r"`curves` is \[1\]; expected what `run_active_learning`"):
        LearningCurveDisplay.from_predictions([1])
