import matplotlib.pyplot as plt
import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sknk import NTKRidgeClassifier
from sknk.inspection import CalibrationDisplay, expected_calibration_error
from sknk.inspection._plotting import binomial_band
from tests.inspection.test_reliability import forecast

from_estimator = CalibrationDisplay.from_estimator
from_predictions = CalibrationDisplay.from_predictions


@pytest.fixture(scope="module")
def iris():
    """Half of iris fitted, half to judge: model, rows, labels."""
    data = load_iris()
    names = data.target_names[data.target]
    model = make_pipeline(StandardScaler(), NTKRidgeClassifier())
    return model.fit(data.data[::2], names[::2]), data.data[1::2], names[1::2]


def texts(display):
    return [text.get_text() for text in display.ax_.get_legend().get_texts()]


def test_display_is_that_of_the_probabilities(iris):
    model, X, y = iris
    display = from_estimator(model, X, y, n_bins=6)
    other = from_predictions(y, model.predict_proba(X), classes=model.classes_, n_bins=6)
    np.testing.assert_array_equal(
        display.line_.get_xydata(), np.column_stack([display.prob_pred, display.prob_true])
    )
    np.testing.assert_array_equal(display.prob_true, other.prob_true)
    error = expected_calibration_error(y, model.predict_proba(X), n_bins=6)
    assert display.error == error
    assert texts(display) == [
        "calibrated",
        f"NTKRidgeClassifier (ECE {error:.3f})",
        "90 % by chance",
    ]
    assert texts(other)[1] == f"ECE {error:.3f}"


@pytest.mark.parametrize("strategy", ["uniform", "quantile"])
@pytest.mark.parametrize("pos_label", [None, 0, 2])
def test_legend_has_the_error_of_the_function(strategy, pos_label):
    y, prob = forecast()
    weights = np.random.default_rng(0).uniform(0.1, 1.0, len(y))
    options = {"strategy": strategy, "pos_label": pos_label, "sample_weight": weights}
    display = from_predictions(y, prob, **options)
    assert display.error == expected_calibration_error(y, prob, **options)


def test_one_class_names_the_axes(iris):
    display = from_estimator(*iris, pos_label="virginica")
    assert display.ax_.get_xlabel() == "mean predicted probability of class virginica"
    assert display.ax_.get_ylabel() == "observed frequency of class virginica"
    assert display.label == "virginica"


def test_top_label_names_the_axes(iris):
    display = from_estimator(*iris)
    assert display.ax_.get_xlabel() == "mean probability of the top class"
    assert display.ax_.get_ylabel() == "accuracy"


def test_every_class_has_a_curve(iris):
    display = from_estimator(*iris, target="classes", n_bins=5)
    assert display.label == ["setosa", "versicolor", "virginica"]
    assert display.band_ is None
    for label, true, error in zip(display.label, display.prob_true, display.error, strict=True):
        alone = from_estimator(*iris, pos_label=label, n_bins=5)
        np.testing.assert_array_equal(true, alone.prob_true)
        assert error == alone.error
    assert [line.get_label().split()[0] for line in display.line_] == display.label
    assert display.ax_.get_ylabel() == "observed frequency"


def test_every_class_carries_a_given_name(iris):
    display = from_estimator(*iris, target="classes", name="ntk")
    assert display.line_[0].get_label().startswith("ntk, setosa (ECE 0.")


@pytest.mark.parametrize(("c", "beside"), [(3, False), (6, True)])
def test_legend_of_many_classes_stands_beside(c, beside):
    display = from_predictions(*forecast(200, c), target="classes")
    display.figure_.canvas.draw()
    box = display.ax_.get_legend().get_window_extent()
    assert (box.x0 >= display.ax_.get_window_extent().x1) == beside


def test_two_classes_take_the_probability_of_the_second():
    y, prob = forecast(60, 2)
    np.testing.assert_array_equal(
        from_predictions(y, prob[:, 1], pos_label=1).prob_true,
        from_predictions(y, prob, pos_label=1).prob_true,
    )


def test_bars_are_where_calibrated_bins_lie():
    y, prob = forecast()
    display = from_predictions(y, prob, n_bins=5, band_level=0.8)
    bars = np.array(display.band_.get_segments())  # (b, 2, 2)
    lower, upper = binomial_band(display.rows, display.prob_pred, 0.8)
    np.testing.assert_allclose(bars[:, :, 1], np.column_stack([lower, upper]))
    np.testing.assert_allclose(bars[:, 0, 0], display.prob_pred)
    assert display.rows.sum() == pytest.approx(len(y))


def test_bars_hold_the_points_of_a_calibrated_classifier():
    rng = np.random.default_rng(0)
    inside = []
    for _ in range(40):
        chance = rng.uniform(size=300)
        y = rng.uniform(size=300) < chance
        display = from_predictions(y, chance, pos_label=True, n_bins=10)
        lower, upper = binomial_band(display.rows, display.prob_pred, 0.9)
        inside.extend((lower <= display.prob_true) & (display.prob_true <= upper))
        plt.close(display.figure_)
    # 400 bars of at least 90 %: fewer than 86 % has probability below 0.01.
    assert np.mean(inside) > 0.86


def test_bars_can_be_left_out(iris):
    display = from_estimator(*iris, band_level=None)
    assert display.band_ is None
    assert len(texts(display)) == 2


def test_displays_overlay_on_one_diagonal(iris):
    first = from_estimator(*iris)
    second = from_estimator(*iris, name="again", ax=first.ax_, color="red", lw=0.5)
    assert second.figure_ is first.figure_
    assert texts(second).count("calibrated") == 1
    assert texts(second).count("90 % by chance") == 1
    assert (second.line_.get_color(), second.line_.get_linewidth()) == ("red", 0.5)
    assert second.plot(name="third") is second
    assert second.ax_ is not first.ax_


def test_search_is_judged_like_its_winner(iris):
    model, X, y = iris
    search = GridSearchCV(model, {}, cv=2).fit(X, y)
    display = from_estimator(search, X, y)
    assert display.line_.get_label().startswith("NTKRidgeClassifier (ECE")


def test_estimator_raises_when_it_has_no_probabilities(iris):
    _, X, y = iris
    with pytest.raises(TypeError, match=r"RidgeClassifier has no `predict_proba`; .*Calibrated"):
        from_estimator(RidgeClassifier().fit(X, y), X, y)


def test_estimator_raises_when_it_has_several_targets(iris):
    _, X, y = iris
    model = KNeighborsClassifier().fit(X, np.column_stack([y, y]))
    with pytest.raises(TypeError, match=r"predict_proba returned a list of 2 arrays; expected one"):
        from_estimator(model, X, y)


def test_labels_raise_when_the_classifier_has_not_seen_them(iris):
    model, X, y = iris
    with pytest.raises(ValueError, match=r"`y_true` is 'rose' at row 0; expected one of"):
        from_estimator(model, X, np.where(np.arange(len(y)) == 0, "rose", y))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"target": "all"}, ValueError, "`target` is 'all'; expected one of 'top', 'classes'"),
        ({"target": "classes", "pos_label": 1}, ValueError, "`pos_label` is 1 and `target` is 'cl"),
        ({"pos_label": 5}, ValueError, r"`pos_label` is 5; expected one of \[0, 1, 2\]"),
        ({"n_bins": 2.5}, ValueError, r"`n_bins` is 2\.5; expected an integer"),
        ({"strategy": None}, ValueError, "`strategy` is None; expected one of"),
        (
            {"band_level": 90},
            ValueError,
            "`band_level` is 90; expected the probability of the bars",
        ),
        ({"ax": 3}, TypeError, "`ax` is 3; expected matplotlib axes"),
    ],
    ids=str,
)
def test_bad_parameter_raises(change, error, message):
    with pytest.raises(error, match=message):
        from_predictions(*forecast(), **change)
