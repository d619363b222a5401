import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError

from sknk import NTKRidge, NTKRidgeClassifier
from sknk.attribution import (
    GroupRemoval,
    LeaveOneOutAttributor,
    RepresenterAttributor,
    ShapleyAttributor,
    SurrogateExplainer,
)
from sknk.inspection import AttributionDisplay
from tests.cases import rows

from_estimator = AttributionDisplay.from_estimator
from_predictions = AttributionDisplay.from_predictions

VALUES = [0.2, -0.5, 0.0, 0.9, -0.1, 0.4]
X, X_TEST = rows(30, 3, seed=1), rows(5, 3, seed=2)
Y, Y_TEST = np.arange(30) % 2, np.arange(5) % 2


@pytest.fixture(scope="module")
def representer():
    return RepresenterAttributor(NTKRidgeClassifier(alpha=0.1)).fit(X, Y)


def widths(display, kind):
    return [bar.get_width() for bar in display.bars_[kind]]


def names(display):
    return [label.get_text() for label in display.ax_.get_yticklabels()]


def test_bars_run_from_the_most_helpful_to_the_most_harmful():
    display = from_predictions(VALUES, k=2)
    np.testing.assert_array_equal(display.helpful_, [3, 5])
    np.testing.assert_array_equal(display.harmful_, [1, 4])
    assert widths(display, "helpful") == [0.9, 0.4]
    assert widths(display, "harmful") == [-0.1, -0.5]
    assert names(display) == ["row 3", "row 5", "row 4", "row 1"]
    places = [bar.get_y() for kind in ("helpful", "harmful") for bar in display.bars_[kind]]
    assert places == sorted(places)
    bottom, top = display.ax_.get_ylim()
    assert bottom > places[-1] > top


def test_rows_between_are_told():
    assert from_predictions(VALUES, k=2).text_.get_text() == "2 others, sum 0.2"
    assert from_predictions([1.0, -1.0], k=1).text_ is None


@pytest.mark.parametrize(
    ("values", "helpful", "harmful"),
    [([1.0, 2.0], [1, 0], []), ([-1.0, -2.0], [], [1, 0]), ([0.0, 0.0], [], [])],
)
def test_values_of_one_sign_are_drawn(values, helpful, harmful):
    display = from_predictions(values)
    np.testing.assert_array_equal(display.helpful_, helpful)
    np.testing.assert_array_equal(display.harmful_, harmful)


def test_ties_keep_the_order_of_rows():
    np.testing.assert_array_equal(from_predictions([1, 2, 1, 2]).helpful_, [1, 3, 0, 2])


def test_histogram_holds_all_rows():
    display = from_predictions(np.linspace(-1, 1, 101), histogram_kw={"bins": 7})
    bars = display.histogram_ax_.patches
    assert (sum(bar.get_height() for bar in bars), len(bars)) == (101, 7)
    assert display.histogram_ax_.get_yscale() == "log"


def test_standard_errors_are_drawn():
    display = from_predictions([0.5, -0.25, 0.1], std_error=[0.1, 0.2, 0.3], k=1)
    (segment,) = display.bars_["helpful"].errorbar.lines[2][0].get_segments()
    np.testing.assert_allclose(segment[:, 0], [0.4, 0.6])


def test_style_reaches_the_bars():
    display = from_predictions(VALUES, fc="black", height=0.4)
    bar = display.bars_["harmful"][0]
    assert bar.get_facecolor() == (0.0, 0.0, 0.0, 1.0)
    assert bar.get_height() == pytest.approx(0.4)


def test_axes_are_those_of_the_user():
    figure, axes = plt.subplots(1, 2)
    display = from_predictions(VALUES, ax=axes)
    assert (display.ax_, display.histogram_ax_, display.figure_) == (*axes, figure)
    alone = from_predictions(VALUES, ax=axes[0])
    assert (alone.ax_, alone.histogram_ax_) == (axes[0], None)
    assert plt.get_fignums() == [figure.number]


# --- attributors -------------------------------------------------------------------------------


def test_one_prediction_is_drawn(representer):
    display = from_estimator(representer, X_TEST, Y_TEST, row=3)
    expected = representer.attribute(X_TEST, Y_TEST)[3]
    np.testing.assert_allclose(display.values, expected, rtol=1e-9, atol=1e-12)
    assert display.std_error is None
    assert display.ax_.get_xlabel() == "value by RepresenterAttributor"
    assert from_estimator(representer, X_TEST, Y_TEST, name="mine").ax_.get_xlabel() == "mine"


def test_values_of_the_model_are_drawn_when_there_are_no_test_rows():
    model = LeaveOneOutAttributor(NTKRidge(alpha=0.1)).fit(X, X[:, 0])
    display = from_estimator(model, labels=[f"patient {i}" for i in range(30)], k=2)
    np.testing.assert_array_equal(display.values, model.values_)
    assert names(display)[-1] == f"patient {model.bottom(1)[0]}"


def test_sampled_values_have_errors():
    model = ShapleyAttributor(NTKRidge(alpha=0.1), n_iter=3, random_state=0)
    display = from_estimator(model.fit(X, X[:, 0], X_TEST, X_TEST[:, 0]))
    np.testing.assert_array_equal(display.std_error, model.std_error_)


def test_groups_have_their_names():
    groups = np.array(["north", "south", "east"])[np.arange(30) % 3]
    model = GroupRemoval(NTKRidge(alpha=0.1)).fit(X, X[:, 0], X_TEST, X_TEST[:, 0], groups=groups)
    assert set(names(from_estimator(model))) <= {"north", "south", "east"}


def test_terms_of_a_surrogate_are_drawn():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))
    explainer = SurrogateExplainer(net, alpha=0.1).fit(X, Y)
    for truth in (None, Y_TEST):
        display = from_estimator(explainer, X_TEST, truth, row=1)
        np.testing.assert_allclose(
            display.values, explainer.explain(X_TEST, truth)[1], rtol=1e-9, atol=1e-12
        )


# --- bad input ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"k": 0}, "`k` is 0; expected an integer of at least 1"),
        ({"values": [0.1, np.nan]}, "`values` is nan at row 1"),
        ({"values": [[0.1, 0.9]]}, r"`values` has shape \(1, 2\)"),
        ({"labels": ["a"]}, "`labels` has 1 names; expected 6, one for each value"),
        ({"std_error": [0.1]}, "`std_error` has 1 rows; expected 6"),
        ({"ax": [None] * 3}, "`ax` holds 3 axes; expected one for the bars"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else value[:20],
)
def test_bad_input_raises(given, message):
    with pytest.raises(ValueError, match=message):
        from_predictions(**{"values": VALUES, **given})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"y_test": None}, "`y_test` is None; expected the targets of `X_test`"),
        ({"row": 5}, "`row` is 5; expected a position among 5 test rows"),
        ({"row": -1}, "`row` is -1"),
    ],
    ids=["no-targets", "row-beyond", "row-before"],
)
def test_bad_test_rows_raise(representer, given, message):
    with pytest.raises(ValueError, match=message):
        from_estimator(representer, **{"X_test": X_TEST, "y_test": Y_TEST, **given})


def test_surrogate_raises_when_there_are_no_rows_to_explain():
    net = torch.nn.Linear(3, 2)
    with pytest.raises(ValueError, match=r"`X_test` is None; expected rows, as SurrogateExplainer"):
        from_estimator(SurrogateExplainer(net, alpha=0.1).fit(X, Y))


def test_attributor_raises_when_it_is_not_fitted():
    with pytest.raises(NotFittedError, match=r"is not fitted yet"):
        from_estimator(RepresenterAttributor())


def test_axes_raise_when_they_are_none():
    with pytest.raises(TypeError, match=r"`ax` is 'here'; expected matplotlib axes"):
        from_predictions(VALUES, ax="here")
