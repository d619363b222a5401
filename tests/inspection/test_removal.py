from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

from sknk import NTKRidge, NTKRidgeClassifier
from sknk.attribution import Curve, LeaveOneOutAttributor
from sknk.inspection import RemovalCurveDisplay
from tests.cases import rows

from_estimator = RemovalCurveDisplay.from_estimator
from_predictions = RemovalCurveDisplay.from_predictions

PARTS = np.array([0.0, 0.25, 0.5])
CURVE = Curve(
    PARTS,
    np.array([0.9, 0.8, 0.5]),
    np.array([[0.9, 0.85, 0.8], [0.9, 0.9, 0.7]]),
    "highest",
    "remove",
)
X, X_TEST = rows(24, 3, seed=1), rows(20, 3, seed=2)


@pytest.fixture(scope="module")
def attributor():
    return LeaveOneOutAttributor(NTKRidge(alpha=0.1)).fit(X, X[:, 0])


def texts(display):
    return [text.get_text() for text in display.ax_.get_legend().get_texts()]


def test_curve_is_drawn_in_percent():
    display = from_predictions(CURVE)
    (line,) = display.lines_
    np.testing.assert_array_equal(line.get_xdata(), [0, 25, 50])
    np.testing.assert_array_equal(line.get_ydata(), CURVE.scores)
    assert display.ax_.get_xlabel() == "training rows removed, %"
    assert texts(display) == ["2 random orders", "highest first"]
    added = from_predictions(replace(CURVE, action="add"), score_name="accuracy")
    assert added.ax_.get_xlabel() == "training rows kept, %"
    assert added.ax_.get_ylabel() == "accuracy"


def test_band_is_the_range_of_random_orders():
    display = from_predictions(CURVE)
    (path,) = display.band_.get_paths()
    at_half = path.vertices[path.vertices[:, 0] == 50, 1]
    assert (at_half.min(), at_half.max()) == (0.7, 0.8)
    np.testing.assert_allclose(display.random_line_.get_ydata(), [0.9, 0.875, 0.75])


def test_band_is_left_out_when_there_are_no_random_orders():
    display = from_predictions(replace(CURVE, random_scores=np.empty((0, 3))))
    assert display.band_ is display.random_line_ is None


def test_curves_share_a_band():
    other = replace(CURVE, order="lowest", random_scores=CURVE.random_scores + 0.01)
    display = from_predictions([CURVE, other, CURVE], names=["a", "b", "c"])
    assert texts(display) == ["4 random orders", "a", "b", "c"]
    elsewhere = replace(other, fractions=PARTS + 0.1)
    assert texts(from_predictions([CURVE, elsewhere]))[0] == "2 random orders"


def test_style_reaches_lines_and_band():
    display = from_predictions(CURVE, lw=4, random_kw={"alpha": 0.5})
    assert (display.lines_[0].get_linewidth(), display.band_.get_alpha()) == (4, 0.5)


def test_axes_are_those_of_the_user():
    figure, ax = plt.subplots()
    display = from_predictions(CURVE, ax=ax)
    assert (display.ax_, display.figure_) == (ax, figure)
    assert plt.get_fignums() == [figure.number]


# --- attributors -------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["lowest", "highest"])
@pytest.mark.parametrize("action", ["remove", "add"])
def test_curves_are_those_of_the_attributor(attributor, order, action):
    follow = attributor.removal_curve if action == "remove" else attributor.addition_curve
    given = {"fractions": [0.25, 0.5], "n_random": 3, "random_state": 0}
    expected = follow(X_TEST, X_TEST[:, 0], order=order, **given)
    display = from_estimator(attributor, X_TEST, X_TEST[:, 0], order=order, action=action, **given)
    (curve,) = display.curves
    np.testing.assert_array_equal(curve.scores, expected.scores)
    np.testing.assert_array_equal(curve.random_scores, expected.random_scores)
    assert display.ax_.get_ylabel() == "$R^2$"


def test_both_orders_are_drawn(attributor):
    display = from_estimator(attributor, X_TEST, X_TEST[:, 0], name="loo", n_random=2)
    assert texts(display) == ["2 random orders", "loo, highest first", "loo, lowest first"]
    assert [line.get_ydata()[0] for line in display.lines_] == pytest.approx(
        [display.curves[0].scores[0]] * 2
    )


def test_scores_of_classes_are_accuracies():
    model = LeaveOneOutAttributor(NTKRidgeClassifier(alpha=0.1)).fit(X, X[:, 0] > 0)
    display = from_estimator(model, X_TEST, X_TEST[:, 0] > 0, fractions=[0.0, 0.2], n_random=0)
    assert display.ax_.get_ylabel() == "accuracy"


# --- bad input ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"curves": []}, ValueError, "`curves` is empty; expected at least one Curve"),
        ({"curves": [1.0]}, TypeError, r"`curves` holds 1\.0; expected what `removal_curve`"),
        ({"names": ["a", "b"]}, ValueError, "`names` has 2 names; expected 1, one for each"),
        (
            {"curves": [CURVE, replace(CURVE, action="add")]},
            ValueError,
            r"`curves` have the actions \['add', 'remove'\]; expected one",
        ),
        ({"ax": "here"}, TypeError, "`ax` is 'here'; expected matplotlib axes"),
    ],
    ids=["none", "strange", "names", "actions", "axes"],
)
def test_bad_input_raises(given, error, message):
    with pytest.raises(error, match=message):
        from_predictions(**{"curves": CURVE, **given})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"order": "best"}, "`order` is 'best'; expected one of 'both', 'lowest', 'highest'"),
        ({"action": "keep"}, "`action` is 'keep'; expected one of 'remove', 'add'"),
    ],
    ids=["order", "action"],
)
def test_bad_choices_raise(attributor, given, message):
    with pytest.raises(ValueError, match=message):
        from_estimator(attributor, X_TEST, X_TEST[:, 0], **given)


def test_attributor_raises_when_it_is_not_fitted():
    with pytest.raises(NotFittedError, match=r"is not fitted yet"):
        from_estimator(LeaveOneOutAttributor(), X_TEST, X_TEST[:, 0])
