from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import RandomForestRegressor
from sklearn.exceptions import NotFittedError
from sklearn.inspection import permutation_importance
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.svm import SVC

from sknk import NTKRidgeClassifierCV, NTKRidgeCV
from sknk.inspection import FeatureImportanceDisplay
from sknk.kernels import NTK
from tests.cases import rows

from_estimator = FeatureImportanceDisplay.from_estimator
from_importances = FeatureImportanceDisplay.from_importances

NAMES = ["a", "b", "c", "d"]
KNOWN = [0.1, 0.4, 0.2, 0.3]


def learner(**options):
    return NTKRidgeCV(feature_learning="agop_diag", max_rounds=1, **options)


@pytest.fixture(scope="module")
def learned():
    """A frame whose second column decides, and models fitted to it, with names and without."""
    X = pd.DataFrame(rows(60, 4, seed=3), columns=NAMES)
    y = np.sin(2 * X["b"]) + 0.3 * X["d"]
    return SimpleNamespace(
        X=X,
        y=y,
        model=make_pipeline(StandardScaler(), learner()).fit(X, y),
        unnamed=make_pipeline(StandardScaler(), learner()).fit(X.to_numpy(), y),
    )


def drawn(display):
    """Names and widths of the bars, from the top."""
    names = [label.get_text() for label in display.ax_.get_yticklabels()]
    return names, [bar.get_width() for bar in display.bars_]


def legend(display):
    return [text.get_text() for text in display.ax_.get_legend().get_texts()]


def test_bars_are_sorted_parts_of_the_sum():
    display = from_importances([1.0, 4.0, 2.0, 3.0], NAMES)
    np.testing.assert_allclose(display.importances, KNOWN, rtol=1e-15)
    names, widths = drawn(display)
    assert names == ["b", "d", "c", "a"]
    np.testing.assert_array_equal(widths, display.importances[[1, 3, 2, 0]])
    np.testing.assert_array_equal(display.order_, [1, 3, 2, 0])
    assert display.markers_ is display.text_ is display.ax_.get_legend() is None


def test_first_bar_is_on_top_when_drawn_twice():
    display = from_importances(KNOWN)
    bottom, top = display.plot(display.ax_).ax_.get_ylim()
    assert bottom > 3 > 0 > top


def test_ties_keep_the_order_of_columns():
    np.testing.assert_array_equal(from_importances([1, 2, 1, 2]).order_, [1, 3, 0, 2])


@pytest.mark.parametrize(("n_features", "note"), [(1, "3 more: 60.0 %"), (3, "1 more: 10.0 %")])
def test_rest_is_told(n_features, note):
    display = from_importances(KNOWN, NAMES, n_features=n_features)
    assert display.text_.get_text() == note
    assert len(display.bars_) == n_features
    np.testing.assert_allclose(display.importances, KNOWN)


def test_nothing_learned_is_drawn_as_nothing():
    assert drawn(from_importances([0.0, 0.0])) == (["x0", "x1"], [0.0, 0.0])


def test_importances_below_zero_are_not_part_of_the_sum():
    np.testing.assert_allclose(from_importances([3.0, 1.0, -1.0]).importances, [0.75, 0.25, -0.25])


def test_style_reaches_the_bars_and_the_markers():
    display = from_importances(
        KNOWN, reference=KNOWN, fc="red", reference_kw={"marker": "s", "ms": 9}, height=0.5
    )
    bar, line = display.bars_[0], display.markers_.lines[0]
    assert (bar.get_facecolor(), bar.get_height()) == ((1.0, 0.0, 0.0, 1.0), 0.5)
    assert (line.get_marker(), line.get_markersize()) == ("s", 9)


def test_axes_are_those_of_the_user():
    figure, ax = plt.subplots()
    display = from_importances(KNOWN, ax=ax)
    assert (display.ax_, display.figure_) == (ax, figure)
    assert plt.get_fignums() == [figure.number]


def test_settings_of_matplotlib_stay():
    before = dict(plt.rcParams)
    from_importances(KNOWN, reference=KNOWN)
    assert dict(plt.rcParams) == before


# --- reference ---------------------------------------------------------------------------------


def test_reference_is_drawn_in_the_order_of_the_bars():
    display = from_importances(
        KNOWN, reference=[2, 8, 4, 6], reference_error=[1, 2, 3, 4], n_features=3
    )
    line, _, (bars,) = display.markers_.lines
    np.testing.assert_allclose(line.get_xdata(), [0.4, 0.3, 0.2])
    np.testing.assert_array_equal(line.get_ydata(), [0, 1, 2])
    ends = np.array([segment[:, 0] for segment in bars.get_segments()])
    np.testing.assert_allclose(np.diff(ends)[:, 0] / 2, [0.1, 0.2, 0.15])
    assert legend(display) == ["importance", "reference"]


def test_permutation_tells_the_same_of_linear_models(learned):
    X = StandardScaler().fit_transform(learned.X)
    y = X @ [3.0, 2.0, 1.0, 0.0]
    model = learner(kernel=NTK(depth=0)).fit(X, y)
    found = permutation_importance(model, X, y, n_repeats=100, random_state=0)
    display = from_estimator(model, reference=found, reference_name="permutation")
    # One shuffle of 60 rows is off by 10 %, the mean of 100 by 1 %.
    np.testing.assert_allclose(display.reference, display.importances, atol=0.02)
    ratio = found.importances_std / found.importances_mean.sum()
    np.testing.assert_allclose(display.reference_error, ratio, rtol=1e-6, atol=1e-8)
    assert legend(display)[1] == "permutation"


# --- estimators --------------------------------------------------------------------------------


def test_learned_importances_are_drawn(learned):
    display = from_estimator(learned.model, reference=KNOWN)
    names, widths = drawn(display)
    expected = learned.model[-1].feature_importances_
    assert names[:2] == ["b", "d"]
    np.testing.assert_allclose(widths, np.sort(expected)[::-1], rtol=1e-12)
    assert legend(display) == ["NTKRidgeCV", "reference"]
    assert legend(from_estimator(learned.model, reference=KNOWN, name="mine"))[0] == "mine"


def test_names_are_those_of_the_frame(learned):
    assert from_estimator(learned.model).feature_names == NAMES
    search = GridSearchCV(learned.model, {"ntkridgecv__max_rounds": [1]}, cv=2)
    assert from_estimator(search.fit(learned.X, learned.y)).feature_names == NAMES
    assert from_estimator(learner().fit(learned.X, learned.y)).feature_names == NAMES
    assert from_estimator(learned.unnamed).feature_names == ["x0", "x1", "x2", "x3"]
    assert from_estimator(learned.unnamed, feature_names=NAMES).feature_names == NAMES


def test_importances_of_classifiers_are_drawn(learned):
    model = NTKRidgeClassifierCV(feature_learning="agop_diag").fit(learned.X, learned.y > 0)
    assert drawn(from_estimator(model))[0][0] == "b"


def test_importances_of_other_estimators_are_drawn(learned):
    model = RandomForestRegressor(5, random_state=0).fit(learned.X, learned.y)
    np.testing.assert_allclose(
        from_estimator(model).importances, model.feature_importances_, rtol=1e-12
    )


def test_names_are_those_that_steps_make():
    X = pd.DataFrame({"colour": ["red", "blue", "green"] * 12})
    model = make_pipeline(OneHotEncoder(sparse_output=False), learner())
    display = from_estimator(model.fit(X, np.arange(36.0) % 3))
    assert display.feature_names == ["colour_blue", "colour_green", "colour_red"]


def test_estimator_raises_when_it_learns_no_features(learned):
    for model in (NTKRidgeCV(), SVC()):
        fitted = make_pipeline(StandardScaler(), model).fit(learned.X, learned.y > 0)
        with pytest.raises(TypeError, match=rf"{type(model).__name__} has no `feature_importance"):
            from_estimator(fitted)
    with pytest.raises(TypeError, match=r'`feature_learning="auto"`'):
        from_estimator(fitted)


@pytest.mark.parametrize(
    "model",
    [learner(), make_pipeline(StandardScaler(), learner()), RandomForestRegressor()],
    ids=["learner", "pipeline", "forest"],
)
def test_estimator_raises_when_it_is_not_fitted(model):
    with pytest.raises(NotFittedError, match=r"is not fitted yet"):
        from_estimator(model)


def test_steps_without_names_are_numbered(learned):
    model = make_pipeline(FunctionTransformer(np.tanh), learner()).fit(
        learned.X.to_numpy(), learned.y
    )
    assert from_estimator(model).feature_names == ["x0", "x1", "x2", "x3"]


# --- bad input ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"feature_names": NAMES[:3]}, "`feature_names` has 3 names; expected 4, one for each"),
        ({"n_features": 0}, "`n_features` is 0; expected an integer of at least 1"),
        ({"n_features": 2.5}, r"`n_features` is 2\.5; expected an integer"),
        ({"importances": [[0.1, 0.9]]}, r"`importances` has shape \(1, 2\)"),
        ({"importances": [0.1, np.nan]}, "`importances` is nan at row 1"),
        ({"importances": [-0.1, -2.0]}, r"`importances` is at most -0\.1; expected a value above"),
        ({"reference": [1.0, 2.0]}, "`reference` has 2 rows; expected 4"),
        ({"reference": [-1.0] * 4}, "`reference` is at most -1; expected a value above zero"),
        ({"reference_error": KNOWN}, "`reference` is None; expected what `reference_error` is of"),
        ({"reference": KNOWN, "reference_error": [1.0]}, "`reference_error` has 1 rows"),
        (
            {"reference": KNOWN, "reference_error": [0, 0, -1, 0]},
            "`reference_error` is -1 at feature 2; expected standard errors",
        ),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else value[:20],
)
def test_bad_input_raises(given, message):
    with pytest.raises(ValueError, match=message):
        from_importances(**{"importances": KNOWN, **given})


def test_axes_raise_when_they_are_none():
    with pytest.raises(TypeError, match=r"`ax` is 'here'; expected matplotlib axes"):
        from_importances(KNOWN, ax="here")


@pytest.mark.usefixtures("no_matplotlib")
@pytest.mark.parametrize(
    "call",
    [
        lambda: from_estimator(None),
        lambda: from_importances(KNOWN),
        lambda: FeatureImportanceDisplay(np.array(KNOWN), NAMES).plot(),
    ],
    ids=["estimator", "importances", "plot"],
)
def test_drawing_raises_when_matplotlib_is_missing(call):
    with pytest.raises(ImportError, match=r"Display\.\w+ draws with .*pip install 'sknk\[plot\]'"):
        call()
