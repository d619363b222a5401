import matplotlib.pyplot as plt
import numpy as np
import polars as pl
import pytest
from scipy.stats import norm
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV

from sknk.inspection import GPPredictionDisplay
from sknk.inspection._bands import half_width
from sknk.kernels import NTK
from tests.inspection.conftest import process

from_estimator = GPPredictionDisplay.from_estimator
from_predictions = GPPredictionDisplay.from_predictions


def edges(band):
    """Lower and upper edge of a filled band, from its polygon."""
    (path,) = band.get_paths()
    x, y = path.vertices.T
    places = np.unique(x)
    return np.array([[y[x == place].min(), y[x == place].max()] for place in places]).T


# --- one feature -------------------------------------------------------------------------------


def test_display_draws_what_the_process_predicts(line):
    display = from_estimator(line.model, line.X, y=line.y, grid_resolution=9)
    grid = np.linspace(line.X.min(), line.X.max(), 9)
    mean, std = line.model.predict(grid[:, None], return_std=True)
    np.testing.assert_array_equal(display.line_.get_xydata(), np.column_stack([grid, mean]))
    z = norm.ppf(0.95)
    np.testing.assert_allclose(edges(display.band_), [mean - z * std, mean + z * std], rtol=1e-12)
    np.testing.assert_array_equal(
        display.scatter_.get_offsets(), np.column_stack([line.X[:, 0], line.y])
    )


def test_display_labels_what_it_draws(line):
    display = from_estimator(line.model, line.X, y=line.y)
    texts = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert texts == ["GaussianProcessRegressor", "90 % band", "data"]
    assert (display.ax_.get_xlabel(), display.ax_.get_ylabel()) == ("x", "y")
    assert display.figure_ is display.ax_.figure


def test_points_are_left_out_when_there_are_no_targets(line):
    display = from_estimator(line.model, line.X, name="gp")
    assert display.scatter_ is None
    assert display.line_.get_label() == "gp"


def test_range_reaches_beyond_the_data(line):
    display = from_estimator(line.model, line.X, x_range=(-5, 7))
    assert (display.x[0], display.x[-1]) == (-5.0, 7.0)


def test_prior_is_drawn_when_the_process_is_not_fitted(line):
    model = GaussianProcessRegressor(NTK(depth=1, bias_var=0.1))
    display = from_estimator(model, line.X)
    np.testing.assert_array_equal(display.mean, 0.0)
    np.testing.assert_allclose(display.std**2, model.kernel.diag(display.x[:, None]), rtol=1e-12)


@pytest.mark.parametrize(
    ("level", "n_std", "z", "label"),
    [
        (0.9, None, 1.6448536269514722, "90 % band"),
        (0.95, None, 1.959963984540054, "95 % band"),
        (0.9, 2, 2.0, "± 2 std"),
        (0.9, 1.5, 1.5, "± 1.5 std"),
    ],
)
def test_band_is_as_wide_as_its_level(level, n_std, z, label):
    display = from_predictions([0, 1], [1, 2], [0.5, 2.0], level=level, n_std=n_std)
    mean, half = np.array([1.0, 2.0]), z * np.array([0.5, 2.0])
    np.testing.assert_allclose(edges(display.band_), [mean - half, mean + half], rtol=1e-12)
    assert display.band_.get_label() == label


def test_bars_replace_the_band():
    display = from_predictions([0, 1, 2], [1, 2, 0], [1, 1, 3], kind="errorbar", n_std=1)
    bars = np.array(display.band_.get_segments())
    np.testing.assert_array_equal(bars[:, :, 0], [[0, 0], [1, 1], [2, 2]])
    np.testing.assert_array_equal(bars[:, :, 1], [[0, 2], [1, 3], [-3, 3]])
    assert display.line_.get_linestyle() == "None"


def test_predictions_are_sorted():
    display = from_predictions([[2.0], [0.0], [1.0]], [5, 3, 4], [0.5, 0.3, 0.4])
    np.testing.assert_array_equal(display.x, [0, 1, 2])
    np.testing.assert_array_equal(display.mean, [3, 4, 5])
    np.testing.assert_array_equal(display.std, [0.3, 0.4, 0.5])


def test_styles_reach_the_artists(line):
    display = from_estimator(
        line.model,
        line.X,
        y=line.y,
        lw=3.0,
        c="red",
        label="mine",
        band_kw={"alpha": 0.5},
        scatter_kw={"s": 4, "color": "green"},
    )
    assert (display.line_.get_linewidth(), display.line_.get_label()) == (3.0, "mine")
    assert display.line_.get_color() == "red"
    np.testing.assert_allclose(display.band_.get_facecolor(), [[1, 0, 0, 0.5]])
    np.testing.assert_array_equal(display.scatter_.get_sizes(), [4])


def test_displays_overlay_with_one_entry_for_the_data(line):
    first = from_estimator(line.model, line.X, y=line.y)
    other = process().set_params(kernel__depth=0).fit(line.X, line.y)
    second = from_estimator(other, line.X, y=line.y, name="linear", ax=first.ax_)
    assert second.ax_ is first.ax_
    assert second.line_.get_color() != first.line_.get_color()
    texts = [text.get_text() for text in first.ax_.get_legend().get_texts()]
    assert texts.count("data") == 1


def test_plot_draws_again(line):
    display = from_estimator(line.model, line.X, y=line.y)
    first = display.ax_
    assert display.plot(name="again") is display
    assert display.ax_ is not first
    assert display.line_.get_label() == "again"


# --- several features --------------------------------------------------------------------------


def test_slice_holds_the_others_at_their_medians(table):
    display = from_estimator(table.model, table.X, feature="b", grid_resolution=7)
    rows = table.X.iloc[:7].copy()
    rows["a"], rows["c"] = table.X["a"].median(), table.X["c"].median()
    rows["b"] = np.linspace(table.X["b"].min(), table.X["b"].max(), 7)
    mean, std = table.model.predict(rows, return_std=True)
    np.testing.assert_allclose(display.mean, mean, rtol=1e-12)
    np.testing.assert_allclose(display.std, std, rtol=1e-12)
    assert (display.ax_.get_xlabel(), display.ax_.get_ylabel()) == ("b", "y")


def test_slice_through_a_row_meets_its_prediction(table):
    row = table.X.iloc[3]
    for feature in table.X.columns:
        ends = (row[feature], row[feature] + 1.0)
        display = from_estimator(table.model, table.X, feature=feature, at=row, x_range=ends)
        expected = table.model.predict(table.X.iloc[[3]], return_std=True)
        np.testing.assert_allclose([display.mean[0], display.std[0]], np.ravel(expected), rtol=1e-9)


def test_slices_stand_side_by_side(table):
    display = from_estimator(table.model, table.X, y=table.y, feature=["c", 0])
    alone = from_estimator(table.model, table.X, feature="a")
    assert [ax.get_xlabel() for ax in display.ax_] == ["c", "a"]
    assert [ax.get_ylabel() for ax in display.ax_] == ["yield", ""]
    np.testing.assert_array_equal(display.mean[1], alone.mean)
    lists = (display.x, display.std, display.line_, display.band_, display.scatter_)
    assert [len(values) for values in lists] == [2] * 5
    np.testing.assert_array_equal(display.scatter_[0].get_offsets()[:, 0], table.X["c"])
    assert len(display.figure_.legends) == 1


def test_slices_are_all_features_by_default(table):
    display = from_estimator(table.model, table.X, grid_resolution=5)
    assert display.feature_name == ["a", "b", "c"]
    assert display.scatter_ is None


def test_a_list_of_one_feature_stays_a_list(table):
    display = from_estimator(table.model, table.X, feature=["a"])
    assert [len(values) for values in (display.ax_, display.line_, display.mean)] == [1, 1, 1]


def test_ranges_are_given_by_column(table):
    display = from_estimator(table.model, table.X, x_range={"b": (0, 1)}, percentiles=(0.1, 0.9))
    assert (display.x[1][0], display.x[1][-1]) == (0.0, 1.0)
    assert display.x[0][-1] == np.quantile(table.X["a"], 0.9)


def test_slices_on_given_axes(table):
    _, axes = plt.subplots(1, 2)
    display = from_estimator(table.model, table.X, feature=["a", "b"], ax=axes)
    assert display.ax_ == list(axes)
    # These do not share their vertical axes, so both are labelled.
    assert [ax.get_ylabel() for ax in axes] == ["y", "y"]
    with pytest.raises(ValueError, match=r"`ax` holds 1 axes; expected 2, one for each feature"):
        from_estimator(table.model, table.X, feature=["a", "b"], ax=axes[0])


def test_arrays_and_polars_frames_give_the_same_slices(table):
    expected = from_estimator(table.model, table.X, feature="c").mean
    frame = from_estimator(table.model, pl.from_pandas(table.X), feature="c").mean
    array = clone(table.model).fit(table.X.to_numpy(), table.y)
    found = from_estimator(array, table.X.to_numpy(), feature=2)
    np.testing.assert_allclose(frame, expected, rtol=1e-12)
    np.testing.assert_allclose(found.mean, expected, rtol=1e-12)
    assert found.ax_.get_xlabel() == "feature 2"


def test_search_is_drawn_like_its_winner(table):
    search = GridSearchCV(table.model, {"gaussianprocessregressor__kernel__depth": [1, 2]}, cv=2)
    search.fit(table.X, table.y)
    display = from_estimator(search, table.X, feature="a")
    expected = from_estimator(search.best_estimator_, table.X, feature="a")
    np.testing.assert_array_equal(display.mean, expected.mean)
    assert display.line_.get_label() == "GaussianProcessRegressor"


def test_target_is_one_of_several(line):
    Y = np.column_stack([line.y, -line.y])
    model = process().fit(line.X, Y)
    display = from_estimator(model, line.X, y=Y, target=1)
    np.testing.assert_allclose(display.mean, -from_estimator(line.model, line.X).mean, atol=1e-12)
    np.testing.assert_array_equal(display.y_train, -line.y)
    with pytest.raises(ValueError, match=r"`target` is None but `mean` has 2 columns"):
        from_estimator(model, line.X)


# --- bad input ---------------------------------------------------------------------------------


def test_estimator_raises_when_it_has_no_std(line):
    with pytest.raises(TypeError, match=r"Ridge.predict takes no `return_std`; expected a regres"):
        from_estimator(Ridge().fit(line.X, line.y), line.X)


def test_estimator_raises_when_it_is_not_fitted(table):
    with pytest.raises(NotFittedError):
        from_estimator(clone(table.model), table.X, feature="a")


def test_targets_raise_when_they_are_of_other_rows(line):
    with pytest.raises(ValueError, match="`y` has 14 rows; expected 15"):
        from_estimator(line.model, line.X, y=line.y[:-1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mean": [1.0]}, "`mean` has 1 rows; expected 2"),
        ({"std": [1.0]}, "`std` has 1 rows; expected 2"),
        ({"std": [1.0, -1.0]}, r"`std` is -1 at row 1; expected standard deviations"),
        ({"mean": [1.0, np.nan]}, "`mean` is nan at row 1"),
        ({"x": np.ones((2, 2))}, r"`x` has shape \(2, 2\); expected one number a row"),
        ({"x_train": [1.0]}, "`y_train` is None; expected both"),
        ({"y_train": [1.0]}, "`x_train` is None; expected both"),
        ({"x_train": [1.0], "y_train": [1.0, 2.0]}, "`y_train` has 2 rows; expected 1"),
        ({"level": 95}, r"`level` is 95; expected the probability inside the band between 0 and"),
        ({"kind": "violin"}, r"`kind` is 'violin'; expected one of 'band', 'errorbar'"),
    ],
    ids=str,
)
def test_bad_predictions_raise(change, message):
    with pytest.raises(ValueError, match=message):
        from_predictions(**{"x": [0.0, 1.0], "mean": [1.0, 2.0], "std": [1.0, 1.0], **change})


@pytest.mark.parametrize("n_std", [0, -1, np.nan, np.inf, "2"])
def test_bad_width_raises(n_std):
    with pytest.raises(ValueError, match=r"`n_std` is .*; expected a positive number of standard"):
        half_width(0.9, n_std)
