import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sknk import NTKRidge
from sknk.active_learning import BatchActiveLearner
from sknk.inspection import BatchDisplay
from tests.cases import rows

plt = pytest.importorskip("matplotlib.pyplot")

X = 2.0 * rows(30, d=2) + 1.0
KNOWN = np.arange(30) < 8


def learner(estimator, X):
    return BatchActiveLearner(estimator, batch_size=4).fit(X, np.where(KNOWN, X[:, 0], np.nan))


def test_points_are_of_three_kinds():
    display = BatchDisplay.from_predictions(X, [10, 20], labelled=[0, 1, 2])
    assert_allclose(display.chosen_.get_offsets(), X[[10, 20]])
    assert_allclose(display.labelled_.get_offsets(), X[:3])
    others = np.setdiff1d(np.arange(3, 30), [10, 20])
    assert_allclose(display.pool_.get_offsets(), X[others])
    assert display.figure_ is display.ax_.figure


def test_learner_is_asked_and_shown():
    model = learner(NTKRidge(), X)
    display = BatchDisplay.from_estimator(model)
    assert_array_equal(display.chosen, model.query())
    assert_array_equal(display.labelled, KNOWN)
    assert len(BatchDisplay.from_estimator(model, batch_size=2).chosen) == 2


def test_rows_of_a_pipeline_are_shown_as_they_are_compared():
    display = BatchDisplay.from_estimator(learner(make_pipeline(StandardScaler(), NTKRidge()), X))
    assert_allclose(display.points, StandardScaler().fit(X[KNOWN]).transform(X))


def test_many_columns_are_shown_by_two_components():
    wide = rows(30, d=5)
    display = BatchDisplay.from_predictions(wide, [1])
    assert_allclose(display.points, PCA(2).fit(wide).transform(wide), atol=1e-12)
    assert display.ax_.get_xlabel().startswith("component 1, ")


def test_one_column_lies_on_a_line():
    display = BatchDisplay.from_predictions(X[:, :1], [1])
    assert_allclose(display.points, np.column_stack([X[:, 0], np.zeros(30)]))


def test_names_of_a_frame_name_the_axes():
    pandas = pytest.importorskip("pandas")
    display = BatchDisplay.from_predictions(pandas.DataFrame(X, columns=["a", "b"]), [1])
    assert (display.ax_.get_xlabel(), display.ax_.get_ylabel()) == ("a", "b")


def test_style_and_axes_are_those_passed():
    _, ax = plt.subplots()
    display = BatchDisplay.from_predictions(X, [1], ax=ax, alpha=0.3, chosen_kw={"marker": "o"})
    assert display.ax_ is ax
    assert display.pool_.get_alpha() == 0.3


@pytest.mark.parametrize("name", ["chosen", "labelled"])
def test_rows_that_are_not_there_are_refused(name):
    options = {"chosen": [1], "labelled": [2], name: [30]}
    with pytest.raises(ValueError, match=f"`{name}` has row 30; expected rows from 0 to 29"):
        BatchDisplay.from_predictions(X, **options)


def test_labelled_rows_may_be_a_mask():
    display = BatchDisplay.from_predictions(X, [10], labelled=KNOWN)
    assert_array_equal(display.labelled, KNOWN)
    with pytest.raises(ValueError, match="`labelled` has dtype float64"):
        BatchDisplay.from_predictions(X, [10], labelled=[0.5])
