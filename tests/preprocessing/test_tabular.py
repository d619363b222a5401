import pickle

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from sknk import NTKRidge, NTKRidgeClassifierCV, NTKRidgeCV
from sknk.kernels import NTK
from sknk.preprocessing import SmoothClip, tabular_pipeline
from tests.preprocessing.tables import CATEGORIES, FRAMES, array, pandas_frame, polars_frame, target

NAMES = [
    "number__age",
    "number__income",
    "number__missingindicator_age",
    "one_hot__color_b",
    "one_hot__color_g",
    "one_hot__color_r",
    "one_hot__color_nan",
    "one_hot__flag_False",
    "one_hot__flag_True",
    "ordinal__town",
]


def prepared(X, new=None, **options):
    """Rows (new ones, where given) as they reach the estimator."""
    pipe = tabular_pipeline(Ridge(), **options).fit(X, np.arange(len(X)))
    return pipe[:-1].transform(X if new is None else new)


def column(X, name, **options):
    """One column by name, as it reaches the estimator."""
    pipe = tabular_pipeline(Ridge(), **options).fit(X, np.arange(len(X)))
    return pipe[:-1].transform(X)[:, pipe[:-1].get_feature_names_out().tolist().index(name)]


# --- what comes in -------------------------------------------------------------------------------


@pytest.mark.parametrize("make", FRAMES.values(), ids=FRAMES)
def test_frames_of_every_library_give_equal_rows(make):
    pipe = tabular_pipeline(Ridge()).fit(make(), target())
    assert pipe[:-1].get_feature_names_out().tolist() == NAMES
    np.testing.assert_array_equal(pipe[:-1].transform(make()), prepared(pandas_frame()))
    assert np.isfinite(pipe.predict(make(n=7, seed=5))).all()


@pytest.mark.parametrize(
    "features", [[2, 3, 4], [False, False, True, True, True]], ids=["indices", "mask"]
)
@pytest.mark.parametrize("as_list", [False, True])
def test_arrays_with_indices_give_the_rows_of_frames(features, as_list):
    X = array().tolist() if as_list else array()
    found = prepared(X, categorical_features=features)
    np.testing.assert_array_equal(found, prepared(pandas_frame()))


@pytest.mark.parametrize("make", [pandas_frame, polars_frame])
def test_listed_names_give_the_rows_of_dtypes(make):
    found = prepared(make(), categorical_features=CATEGORIES)
    np.testing.assert_array_equal(found, prepared(make()))


def test_codes_of_an_array_give_the_rows_of_levels():
    codes = np.array([[0.0, 1.5], [1.0, 2.5], [np.nan, 0.5], [1.0, 7.0]])
    levels = pd.DataFrame({"a": ["u", "v", None, "v"], "b": codes[:, 1]})
    found = prepared(codes, categorical_features=[0])
    np.testing.assert_array_equal(found, prepared(levels))


def test_number_array_is_only_scaled_and_clipped():
    X = np.random.default_rng(0).normal(5, 3, (30, 2))
    scaled = StandardScaler().fit_transform(X)
    np.testing.assert_allclose(prepared(X, scaling="standard", clip=None), scaled, atol=1e-12)
    np.testing.assert_allclose(
        prepared(X, scaling="standard", clip=2.0), 2 * np.tanh(scaled / 2), atol=1e-12
    )


@pytest.mark.parametrize("convert", [torch.from_numpy, csr_array, np.ndarray.tolist])
def test_other_containers_of_numbers_give_the_rows_of_arrays(convert):
    X = np.random.default_rng(0).normal(5, 3, (12, 2))
    found = tabular_pipeline(Ridge()).fit(convert(X), np.arange(12)).predict(convert(X))
    np.testing.assert_allclose(found, tabular_pipeline(Ridge()).fit(X, np.arange(12)).predict(X))


# --- categories ----------------------------------------------------------------------------------


def test_levels_become_zeros_and_ones():
    X = pd.DataFrame({"c": ["a", "b", None, "a"]})
    one = 5 * np.tanh(1 / 5)
    np.testing.assert_allclose(
        prepared(X), one * np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0]]), rtol=1e-12
    )


def test_unseen_levels_become_zeros_or_minus_one():
    X = pd.DataFrame({"few": list("aabb"), "many": list("uvwx")})
    new = pd.DataFrame({"few": ["z", None], "many": ["z", None]})
    pipe = tabular_pipeline(Ridge(), max_one_hot=2).fit(X, np.arange(4))
    np.testing.assert_array_equal(pipe["columns"].transform(new), [[0, 0, -1]] * 2)
    assert np.isfinite(pipe.predict(new)).all()


def test_levels_are_counted_in_the_training_fold():
    X = pd.DataFrame({"c": [f"l{i}" for i in range(12)]})
    assert prepared(X[:10]).shape == (10, 10)
    assert prepared(X).shape == (12, 1)


def test_max_one_hot_zero_codes_every_category():
    assert prepared(pandas_frame(), max_one_hot=0).shape == (40, 6)


# --- missing values ------------------------------------------------------------------------------


def test_missing_numbers_become_medians_with_indicator():
    X = pd.DataFrame({"x": [1.0, np.nan, 3.0, 11.0, np.nan]})
    pipe = tabular_pipeline(Ridge()).fit(X, np.arange(5))
    expected = [[1, 0], [3, 1], [3, 0], [11, 0], [3, 1]]
    np.testing.assert_array_equal(pipe["columns"].transform(X), expected)
    assert prepared(X, missing_indicators=False).shape == (5, 1)


def test_missing_in_new_rows_only_is_the_median():
    X = pd.DataFrame({"x": [1.0, 2.0, 3.0, 40.0], "c": list("abab")})
    new = pd.DataFrame({"x": [np.nan, 2.5], "c": [None, "a"]})
    found = prepared(X, new)
    assert found.shape == (2, 3)
    np.testing.assert_array_equal(found, prepared(X, new.assign(x=2.5, c=["q", "a"])))


@pytest.mark.parametrize("library", [pd, pl])
def test_all_missing_column_is_zero(library):
    X = library.DataFrame({"gone": [None] * 4, "x": [1.0, 2.0, 3.0, 4.0]})
    X = X.astype({"gone": float}) if library is pd else X
    pipe = tabular_pipeline(Ridge()).fit(X, np.arange(4))
    assert pipe[:-1].get_feature_names_out().tolist() == [
        "number__gone",
        "number__x",
        "number__missingindicator_gone",
    ]
    np.testing.assert_array_equal(pipe[:-1].transform(X)[:, [0, 2]], np.zeros((4, 2)))
    back = library.DataFrame({"gone": [7.0], "x": [1.0]})
    np.testing.assert_array_equal(pipe[:-1].transform(back)[:, [0, 2]], [[0, 0]])


# --- scales --------------------------------------------------------------------------------------


@pytest.mark.parametrize("scaling", ["robust", "standard", "quantile"])
def test_constant_column_is_zero(scaling):
    X = pd.DataFrame({"same": [0.1] * 5, "c": ["a"] * 5, "x": np.arange(5.0)})
    new = pd.DataFrame({"same": [1e9], "c": ["a"], "x": [1.0]})
    for found in (prepared(X, scaling=scaling), prepared(X, new, scaling=scaling)):
        np.testing.assert_array_equal(found[:, [0, 2]], np.zeros((len(found), 2)))


@pytest.mark.parametrize("scaling", ["robust", "standard", "quantile"])
def test_rare_huge_values_are_bounded(scaling):
    values = np.r_[np.zeros(90), np.linspace(1, 1000, 10)]
    X = pd.DataFrame({"x": values, "y": np.random.default_rng(0).standard_cauchy(100)})
    found = prepared(X, scaling=scaling)
    assert np.abs(found).max() <= 5.0
    assert 0.2 < found.std(axis=0).min() <= found.std(axis=0).max() < 2.5
    assert (np.diff(found[90:, 0]) > 0).all()


def test_scaling_of_numbers_does_not_depend_on_units():
    X = pandas_frame()
    other = X.assign(income=1e6 * X["income"] + 3e8)
    np.testing.assert_allclose(prepared(other), prepared(X), atol=1e-9)


def test_quantiles_of_numbers_do_not_depend_on_monotone_maps():
    X = pandas_frame()
    other = X.assign(income=np.log(X["income"]))
    np.testing.assert_array_equal(
        prepared(other, scaling="quantile"), prepared(X, scaling="quantile")
    )
    assert not np.array_equal(prepared(other), prepared(X))


# --- an ordinary pipeline ------------------------------------------------------------------------


def test_steps_have_the_documented_names():
    pipe = tabular_pipeline(Ridge(), clip=3.0)
    assert type(pipe) is Pipeline
    assert list(pipe.named_steps) == ["columns", "scale", "clip", "estimator"]
    assert pipe["clip"].limit == 3.0
    assert tabular_pipeline(Ridge(), clip=None)["clip"] == "passthrough"


def test_single_row_is_transformed_alone():
    X = pandas_frame()
    pipe = tabular_pipeline(Ridge()).fit(X, target())
    rows = np.vstack([pipe[:-1].transform(X.iloc[[i]]) for i in range(len(X))])
    np.testing.assert_array_equal(rows, pipe[:-1].transform(X))


def test_clones_pickles_and_dumps_predict_the_same(tmp_path):
    X, y = pandas_frame(), target()
    pipe = tabular_pipeline(NTKRidge(), target_transform="yeo-johnson").fit(X, y)
    joblib.dump(pipe, tmp_path / "pipe")
    others = [
        clone(pipe).fit(X, y),
        pickle.loads(pickle.dumps(pipe)),
        joblib.load(tmp_path / "pipe"),
    ]
    for other in others:
        np.testing.assert_array_equal(other.predict(X), pipe.predict(X))


def test_clones_of_options_are_independent():
    one, other = (tabular_pipeline(Ridge()) for _ in range(2))
    one.set_params(scale__robust=False)
    assert other["scale"].robust


def test_grid_search_reaches_every_step():
    X, y = pandas_frame(), target() + np.where(pandas_frame()["color"] == "r", 9.0, 0.0)
    grid = {
        "columns__one_hot": ["drop", tabular_pipeline(Ridge())["columns"].transformers[1][1]],
        "columns__number__strategy": ["mean", "median"],
        "clip": [SmoothClip(2.0), "passthrough"],
        "estimator__alpha": [0.1, 1.0],
    }
    search = GridSearchCV(tabular_pipeline(Ridge()), grid, cv=3, error_score="raise").fit(X, y)
    assert search.best_params_["columns__one_hot"] != "drop"
    assert len(search.cv_results_["params"]) == 16


@pytest.mark.parametrize("make", [pandas_frame, polars_frame])
@pytest.mark.parametrize(
    "estimator", [NTKRidgeCV(alphas=[0.1]), NTKRidge(), Ridge()], ids=lambda e: type(e).__name__
)
def test_regressors_run_in_folds(make, estimator):
    scores = cross_val_score(
        tabular_pipeline(estimator), make(), target(), cv=3, error_score="raise"
    )
    assert np.isfinite(scores).all()


@pytest.mark.parametrize(
    "estimator",
    [NTKRidgeClassifierCV(alphas=[0.1]), SVC(kernel=NTK(), C=100.0), LogisticRegression()],
    ids=lambda e: type(e).__name__,
)
def test_classifiers_learn_a_level(estimator):
    X = pandas_frame(n=60)
    y = np.where(X["color"].isna(), "missing", np.where(X["flag"], "yes", "no"))
    found = cross_val_predict(tabular_pipeline(estimator), X, y, cv=3)
    assert (found == y).mean() > 0.8


def test_preprocessing_sees_training_folds_only():
    X, y = pandas_frame(), target()
    pipe = tabular_pipeline(NTKRidge())
    train, test = np.arange(30), np.arange(30, 40)
    expected = clone(pipe).fit(X.iloc[train], y[train]).predict(X.iloc[test])
    found = cross_val_predict(pipe, X, y, cv=[(train, test), (test, train)])
    np.testing.assert_array_equal(found[test], expected)


def test_sample_weight_reaches_the_estimator():
    X, y = pandas_frame(), target()
    w = np.random.default_rng(0).uniform(0.1, 3.0, 40)
    pipe = tabular_pipeline(Ridge())
    found = clone(pipe).fit(X, y, estimator__sample_weight=w)
    expected = Ridge().fit(prepared(X), y, sample_weight=w)
    np.testing.assert_allclose(found["estimator"].coef_, expected.coef_, rtol=1e-12)
    assert not np.allclose(found["estimator"].coef_, pipe.fit(X, y)["estimator"].coef_)


@pytest.mark.parametrize(("library", "frame"), [("pandas", pd.DataFrame), ("polars", pl.DataFrame)])
@pytest.mark.parametrize("make", [*FRAMES.values(), array], ids=[*FRAMES, "array"])
def test_set_output_names_the_columns(library, frame, make):
    options = {"categorical_features": [2, 3, 4]} if make is array else {}
    pipe = tabular_pipeline(Ridge(), **options).set_output(transform=library)
    found = pipe.fit(make(), target())[:-1].transform(make())
    assert isinstance(found, frame)
    assert list(found.columns) == pipe[:-1].get_feature_names_out().tolist()
    np.testing.assert_array_equal(found.to_numpy(), prepared(make(), **options))


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_global_output_does_not_change_predictions(library):
    X, y = pandas_frame(), target()
    pipe = tabular_pipeline(Ridge(), target_transform="yeo-johnson")
    expected = clone(pipe).fit(X, y).predict(X)
    with sklearn.config_context(transform_output=library):
        np.testing.assert_allclose(pipe.fit(X, y).predict(X), expected, rtol=1e-9)


# --- drawn tables --------------------------------------------------------------------------------

numbers = st.none() | st.floats(-1e100, 1e100, width=64) | st.integers(-3, 3).map(float)
levels = st.none() | st.text(max_size=3)


@st.composite
def tables(draw):
    n = draw(st.integers(2, 8))
    columns = draw(
        st.lists(st.sampled_from([numbers, levels, st.booleans()]), min_size=1, max_size=4)
    )
    kinds = {id(numbers): float, id(levels): object}
    return pd.DataFrame(
        {
            f"c{k}": pd.Series(
                draw(st.lists(one, min_size=n, max_size=n)), dtype=kinds.get(id(one))
            )
            for k, one in enumerate(columns)
        }
    )


@settings(max_examples=40)
@given(tables(), st.sampled_from(["robust", "standard", "quantile"]), st.integers(0, 3))
def test_drawn_tables_become_finite_rows(X, scaling, max_one_hot):
    options = {"scaling": scaling, "max_one_hot": max_one_hot}
    half = X.iloc[: (len(X) + 1) // 2]
    for found in (prepared(X, **options), prepared(half, X, **options)):
        assert found.dtype == np.float64
        assert np.isfinite(found).all()
        assert np.abs(found).max(initial=0.0) <= 5.0


# --- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("estimator", "options", "error", "message"),
    [
        (Ridge, {}, TypeError, "`estimator` is <class .*Ridge'>; .* Pass an instance, not a class"),
        ("ridge", {}, TypeError, "`estimator` is 'ridge'; expected an estimator with `fit`"),
        (Ridge(), {"scaling": "minmax"}, ValueError, r"`scaling` is 'minmax'; expected .*'robust'"),
        (Ridge(), {"scaling": None}, ValueError, "`scaling` is None"),
        (Ridge(), {"clip": 0}, ValueError, "`clip` is 0; expected a positive bound. Pass None"),
        (Ridge(), {"clip": np.inf}, ValueError, "`clip` is inf"),
        (Ridge(), {"clip": True}, ValueError, "`clip` is True"),
        (
            Ridge(),
            {"max_one_hot": -1},
            ValueError,
            "`max_one_hot` is -1; expected a number of levels",
        ),
        (Ridge(), {"max_one_hot": 2.5}, ValueError, "`max_one_hot` is 2.5"),
        (
            Ridge(),
            {"missing_indicators": 1},
            ValueError,
            "`missing_indicators` is 1; expected True",
        ),
        (Ridge(), {"categorical_features": "c"}, ValueError, "`categorical_features` is 'c'"),
        (Ridge(), {"target_transform": "log"}, ValueError, "`target_transform` is 'log'; .*'auto'"),
        (Ridge(), {"target_transform": Ridge()}, ValueError, r"is Ridge\(\); .*inverse_transform"),
        (SVC(), {"target_transform": "auto"}, ValueError, "is 'auto', but SVC is no regressor"),
    ],
)
def test_bad_parameters_raise(estimator, options, error, message):
    with pytest.raises(error, match=message):
        tabular_pipeline(estimator, **options)


def test_columns_that_do_not_exist_raise_in_fit():
    pipe = tabular_pipeline(Ridge(), categorical_features=["colour"])
    with pytest.raises(ValueError, match=r"names \['colour'\]; expected columns of X"):
        pipe.fit(pandas_frame(), target())


def test_infinite_numbers_raise_in_fit():
    with pytest.raises(ValueError, match="Input X contains infinity"):
        tabular_pipeline(Ridge()).fit([[1.0], [np.inf]], [0, 1])
