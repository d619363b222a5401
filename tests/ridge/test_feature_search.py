"""Learned features: which map is taken and why, and that it is only a kernel of mapped rows."""

import pickle
from functools import cache

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_diabetes, make_friedman1
from sklearn.gaussian_process.kernels import RBF, WhiteKernel
from sklearn.metrics import log_loss, r2_score
from sklearn.model_selection import KFold
from sklearn.preprocessing import scale
from sklearn.svm import SVR

from sknk import (
    NTKGaussianProcessRegressor,
    NTKRidge,
    NTKRidgeClassifier,
    NTKRidgeClassifierCV,
    NTKRidgeCV,
    NumericalWarning,
)
from sknk._training import merge_rows
from sknk.kernels import NTK, Mapped
from sknk.ridge._feature_search import choose
from sknk.ridge._grid import GridSearch
from sknk.ridge._relevance import Relevance
from sknk.ridge._selection import Criterion
from tests.cases import KNOWN, rows

ALPHAS = [0.01, 0.1, 1.0, 10.0, 100.0]
SMALL = {"param_grid": {"depth": [1, 2], "bias_var": [1.0]}, "alphas": ALPHAS}
KINDS = ["auto", "agop", "agop_diag", "ard"]
# Two ways to the same matrix: float64 rounding times condition numbers below 1e4.
RTOL = 1e-8
# The same, amplified by the few dozen steps of a descent.
SEARCH_RTOL = 1e-6
kinds = pytest.mark.parametrize("kind", KINDS)


@cache
def friedman(n=60, seed=0):
    """Return standardized rows (n, 10), of which five columns matter, and noisy targets."""
    X, y = make_friedman1(n, noise=1.0, random_state=seed)
    return scale(X), y


def classes_of(y):
    return np.array(["low", "mid", "high"])[np.digitize(y, np.quantile(y, [0.3, 0.6]))]


NEW = rows(9, 10, seed=4)


def search(kind, **options):
    return NTKRidgeCV(**(SMALL | {"feature_learning": kind} | options))


def classifier(kind, **options):
    return NTKRidgeClassifierCV(**(SMALL | {"feature_learning": kind} | options))


@cache
def oblique():
    """Return rows (90, 10) and targets that depend on one direction, none of the axes."""
    X = rows(90, 10, seed=1)
    z = X @ np.linspace(-1.0, 1.0, 10)
    return X, z + z**2 + 0.1 * rows(90, 1, seed=2)[:, 0]


def table_of(kind):
    """Return a table on which the search takes a map of this kind."""
    return oblique() if kind == "agop" else friedman()


@cache
def fitted(kind):
    """Return a fitted search; tests leave it alone."""
    return search(kind).fit(*table_of(kind))


def mapped(X, A):
    return X @ A if A.ndim == 2 else X * A


# --- the choice ----------------------------------------------------------------------------------

PLAIN, ONE, TWO = ("none", 0), ("a", 1), ("a", 2)


def chosen(*losses, weights=None):
    losses = np.array(losses, float)
    weights = np.ones(losses.shape[1]) if weights is None else np.array(weights)
    return choose(dict(zip((PLAIN, ONE, TWO), losses, strict=False)), weights)[0]


def test_choose_takes_a_gain_beyond_its_error():
    # Gains 1, 1, 1, 0: mean 0.75, error sqrt(3) / 8 = 0.22.
    assert chosen([2, 2, 2, 2], [1, 1, 1, 2]) == ONE


def test_choose_stays_when_the_gain_is_within_one_and_a_half_errors():
    # Gains 1, 1, 1, -1: mean 0.5, error sqrt(3) / 4 = 0.433; and with x instead of 1 and -x / 4
    # in the end a mean of 0.6875 x of error 0.271 x, beyond 1.5 errors.
    assert chosen([2, 2, 2, 2], [1, 1, 1, 3]) == PLAIN
    assert chosen([2, 2, 2, 2], [1, 1, 1, 2.25]) == ONE
    assert chosen([3, 3, 3, 3], [0, 3, 3, 3]) == PLAIN


def test_choose_takes_the_largest_gain_of_those_beyond_their_errors():
    plain = [3, 3, 3, 3]
    assert chosen(plain, [2, 2, 2, 2], [1, 1, 1, 2]) == TWO
    assert chosen(plain, [1, 1, 1, 2], [2, 2, 2, 2]) == ONE
    # Gains 8, 0, 0, -2: mean 1.5 of error 1.9 counts for nothing beside 1.
    assert chosen(plain, [-5, 3, 3, 5], [2, 2, 2, 2]) == TWO


def test_choose_gives_ties_to_fewer_rounds():
    assert chosen([2, 2], [1, 1], [1, 1]) == ONE
    assert chosen([2, 2], [2, 2], [2, 2]) == PLAIN


def test_choose_stays_when_maps_are_worse():
    assert chosen([1, 1, 1], [2, 2, 2], [1.5, 1.5, 1.5]) == PLAIN


def test_choose_weighs_rows():
    plain, other = [1, 1, 1, 1], [0, 0, 3, 3]
    assert chosen(plain, other) == PLAIN
    assert chosen(plain, other, weights=[9.0, 9.0, 0.1, 0.1]) == ONE
    assert chosen(plain, other, weights=[18.0, 18.0, 0.2, 0.2]) == ONE  # no units


@pytest.mark.parametrize(
    "losses",
    [
        [[np.nan] * 3],
        [[np.nan] * 3, [1, 1, 1]],
        [[1, 1, 1], [np.nan, 0, 0]],
        [[1, 1, 1], [np.nan] * 3, [1, 1, 1]],
    ],
)
def test_choose_stays_when_losses_are_not_known(losses):
    assert chosen(*losses) == PLAIN


def test_choose_goes_on_after_a_loss_that_is_not_known():
    assert chosen([1, 1, 1], [np.nan, 0, 0], [0, 0, 0]) == TWO


def test_choose_tells_losses_gains_and_their_errors():
    rng = np.random.default_rng(0)
    losses, w = rng.uniform(size=(2, 50)), rng.uniform(0.5, 2.0, 50)
    _, path = choose({PLAIN: losses[0], ONE: losses[1]}, w)
    assert path["feature_learning"] == ["none", "a"]
    assert path["round"] == [0, 1]
    np.testing.assert_allclose(path["held_out_loss"], np.average(losses, axis=1, weights=w))
    gains = losses[0] - losses[1]
    gain = np.average(gains, weights=w)
    error = np.sqrt(np.square(w * (gains - gain)).sum()) / w.sum()
    np.testing.assert_allclose(path["gain"], [0.0, gain], rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(path["gain_error"], [0.0, error], rtol=1e-12)
    _, path = choose({PLAIN: losses[0], ONE: losses[1]}, np.ones(50))
    assert path["gain_error"][1] == pytest.approx(gains.std() / np.sqrt(50), rel=1e-12)


def test_best_kernels_are_tried_in_the_order_of_the_grid():
    X, y = friedman()
    candidates = [{"depth": depth} for depth in (5, 1, 4, 2, 3)]
    training = merge_rows(X, y[:, None], None, precomputed=False)
    grid = GridSearch(NTK(bias_var=1.0), candidates, np.array(ALPHAS), True, None, 0)
    fit = grid.run(training, Criterion(None, y, y[:, None], None, None))
    tops = fit.results["mean_test_score"].reshape(5, -1).max(axis=1)
    best = np.sort(np.argsort(-tops)[:3])
    assert grid.best_kernels(fit, 3).candidates == [candidates[i] for i in best]
    fit.results["mean_test_score"].reshape(5, -1)[best[0]] = np.nan
    assert candidates[best[0]] not in grid.best_kernels(fit, 4).candidates


# --- what a search leaves behind -----------------------------------------------------------------


@kinds
def test_features_have_the_shapes_of_their_map(kind):
    model = fitted(kind)
    name, rounds = model.feature_learning_, model.rounds_
    assert name == {"auto": "ard"}.get(kind, kind)
    assert 1 <= rounds <= {"ard": 1}.get(name, 2)
    assert model.feature_map_.shape == ((10, 10) if name == "agop" else (10,))
    assert np.square(model.feature_map_).sum() == pytest.approx(10.0, rel=1e-12)
    assert model.feature_matrix_.shape == (10, 10)
    assert model.feature_importances_.sum() == pytest.approx(1.0, rel=1e-12)


@kinds
def test_features_path_has_one_line_for_every_map(kind):
    path = fitted(kind).feature_path_
    rounds = {"agop": [1, 2], "agop_diag": [1, 2], "ard": [1]}
    names = list(rounds) if kind == "auto" else [kind]
    expected = [("none", 0), *((name, r) for name in names for r in rounds[name])]
    assert list(zip(path["feature_learning"].tolist(), path["round"], strict=True)) == expected
    numbers = ["held_out_loss", "gain", "gain_error"]
    assert set(path) == {"feature_learning", "round", "score", *numbers}
    assert all(np.isfinite(path[name]).all() for name in numbers)
    assert all(isinstance(column, np.ndarray) for column in path.values())


@kinds
def test_features_path_decides(kind):
    model = fitted(kind)
    path = model.feature_path_
    gains = np.where(path["gain"] > 1.5 * path["gain_error"], path["gain"], 0.0)
    best = int(gains.argmax())
    assert path["feature_learning"][best] == model.feature_learning_
    assert path["round"][best] == model.rounds_
    assert path["score"][best] == model.best_score_
    assert path["score"][0] == NTKRidgeCV(**SMALL).fit(*table_of(kind)).best_score_
    fitted_ones = (path["feature_learning"] == model.feature_learning_) | (path["round"] == 0)
    np.testing.assert_array_equal(
        np.isfinite(path["score"]), fitted_ones & (path["round"] <= model.rounds_)
    )


@pytest.mark.parametrize("max_rounds", [1, 4])
def test_features_rounds_are_at_most_those_asked_for(max_rounds):
    model = search("agop_diag", max_rounds=max_rounds).fit(*friedman())
    assert model.feature_path_["round"].tolist() == list(range(max_rounds + 1))
    assert 1 <= model.rounds_ <= max_rounds


@kinds
def test_features_matrix_is_that_of_the_fitted_function(kind):
    model, (X, _) = fitted(kind), table_of(kind)
    G = model.kernel_.row_gradients(X, X, model.dual_coef_)
    M = G.T @ G / len(X)
    np.testing.assert_allclose(model.feature_matrix_, M, rtol=1e-9, atol=1e-12 * np.trace(M))
    expected = np.diag(M) / np.trace(M)
    np.testing.assert_allclose(model.feature_importances_, expected, rtol=1e-9)


@kinds
def test_features_enter_the_kernel_only(kind):
    model, (X, y) = fitted(kind), table_of(kind)
    assert isinstance(model.kernel_, Mapped)
    np.testing.assert_array_equal(model.kernel_.feature_map, model.feature_map_)
    one = NTKRidge(model.kernel_, alpha=model.alpha_).fit(X, y)
    np.testing.assert_allclose(model.predict(NEW), one.predict(NEW), rtol=RTOL)
    A = model.feature_map_
    two = NTKRidgeCV(**SMALL).fit(mapped(X, A), y)  # the whole grid, on mapped rows
    assert model.best_params_ == two.best_params_
    np.testing.assert_allclose(model.predict(NEW), two.predict(mapped(NEW, A)), rtol=RTOL)
    np.testing.assert_allclose(model.loo_predictions_, two.loo_predictions_, rtol=RTOL)
    assert model.best_score_ == pytest.approx(two.best_score_, rel=RTOL)


@pytest.mark.parametrize("kind", ["agop_diag", "ard"])
def test_features_importances_are_those_of_columns_that_count(kind):
    assert set(np.argsort(fitted(kind).feature_importances_)[-4:]) <= set(range(5))


def test_features_map_is_the_direction_that_counts():
    values, V = np.linalg.eigh(fitted("agop").feature_map_)
    direction = np.linspace(-1.0, 1.0, 10)
    cosine = abs(V[:, -1] @ direction) / np.linalg.norm(direction)
    assert cosine > 0.99
    assert values[-1] > 3.0 * values[-2]


def test_features_of_classifier_enter_the_kernel_only():
    X, y = friedman(120)[0], classes_of(friedman(120)[1])
    model = classifier("agop_diag").fit(X, y)
    assert model.rounds_ > 0
    one = NTKRidgeClassifier(model.kernel_, alpha=model.alpha_).fit(X, y)
    np.testing.assert_allclose(model.predict_proba(NEW), one.predict_proba(NEW), rtol=1e-6)
    np.testing.assert_allclose(model.decision_function(NEW), one.decision_function(NEW), rtol=RTOL)


# --- held-out losses by brute force --------------------------------------------------------------


def outer_product_map(model, X, w):
    """Return the map of one round from a fitted search, from its formula."""
    G = model.kernel_.row_gradients(X, X, model._training.distinct.new_tensor(model.dual_coef_))
    M = (G * w[:, None]).T @ G
    values, V = np.linalg.eigh(M / np.trace(M) * len(M))
    A = (V * np.sqrt(values + 0.05)) @ V.T
    return A / np.sqrt(np.square(A).sum() / len(A))


@pytest.mark.parametrize("weighted", [False, True])
def test_features_held_out_losses_equal_refits(weighted):
    X, y = friedman()
    w = np.random.default_rng(0).uniform(0.2, 3.0, 60) if weighted else np.ones(60)
    model = search("agop", max_rounds=1).fit(X, y, w)
    dealt, losses = model._training.deal(3), np.empty((2, 60))
    for fold in range(3):
        fit, out = dealt != fold, dealt == fold
        plain = NTKRidgeCV(**SMALL).fit(X[fit], y[fit], w[fit])
        losses[0, out] = (plain.predict(X[out]) - y[out]) ** 2
        A = outer_product_map(plain, X[fit], w[fit])
        again = NTKRidgeCV(**SMALL).fit(X[fit] @ A, y[fit], w[fit])
        losses[1, out] = (again.predict(X[out] @ A) - y[out]) ** 2
    expected = np.average(losses, axis=1, weights=w)
    np.testing.assert_allclose(model.feature_path_["held_out_loss"], expected, rtol=RTOL)


def test_features_held_out_losses_of_classifier_equal_refits():
    X, y = friedman()[0], classes_of(friedman()[1])
    model = classifier("agop_diag", max_rounds=1).fit(X, y)
    dealt, total = model._training.deal(3), 0.0
    for fold in range(3):
        fit, out = dealt != fold, dealt == fold
        plain = NTKRidgeClassifierCV(**SMALL).fit(X[fit], y[fit])
        proba = plain.predict_proba(X[out])
        total += log_loss(y[out], proba, labels=plain.classes_, normalize=False)
    assert model.feature_path_["held_out_loss"][0] == pytest.approx(total / 60, rel=1e-7)


# --- no map --------------------------------------------------------------------------------------


def assert_plain(model, X, y):
    """Fail unless a search with features is the search without."""
    plain = NTKRidgeCV(**SMALL).fit(X, y)
    assert (model.feature_learning_, model.rounds_) == ("none", 0)
    assert model.kernel_ == plain.kernel_
    np.testing.assert_array_equal(model.feature_map_, np.ones(X.shape[1]))
    np.testing.assert_array_equal(model.dual_coef_, plain.dual_coef_)
    np.testing.assert_array_equal(
        model.cv_results_["mean_test_score"], plain.cv_results_["mean_test_score"]
    )


@kinds
@pytest.mark.parametrize("seed", [0, 1])
def test_features_stay_when_targets_are_noise(kind, seed):
    X, y = rows(60, 4, seed=seed), np.random.default_rng([seed, 1]).standard_normal(60)
    assert_plain(search(kind).fit(X, y), X, y)


@pytest.mark.parametrize("kind", ["auto", "agop_diag"])
def test_features_stay_below_thirty_distinct_rows(kind):
    X, y = (np.tile(a[:29].T, 3).T for a in friedman())  # 87 rows
    model = search(kind).fit(X, y)
    assert_plain(model, X, y)
    assert model.feature_path_["round"].tolist() == [0]
    assert np.isnan(model.feature_path_["held_out_loss"]).all()


def test_features_are_compared_from_thirty_distinct_rows():
    X, y = (a[:30] for a in friedman())
    path = search("agop_diag").fit(X, y).feature_path_
    assert np.isfinite(path["held_out_loss"]).all()
    assert path["round"].max() == 2


@pytest.mark.parametrize("kind", KINDS)
def test_features_of_one_column_are_that_column(kind):
    X = rows(40, 1)
    y = np.sin(2.0 * X[:, 0]) + 0.1 * rows(40, 1, seed=1)[:, 0]
    assert_plain(search(kind).fit(X, y), X, y)


@kinds
@pytest.mark.parametrize("value", [0.0, 0.1, 1e5 + 1 / 3])
def test_features_stay_with_a_warning_when_targets_are_constant(kind, value):
    X, y = rows(40), np.full(40, value)
    with pytest.warns(NumericalWarning, match="found no map: all targets are"):
        model = search(kind).fit(X, y)
    assert (model.feature_learning_, model.rounds_) == ("none", 0)
    np.testing.assert_allclose(model.predict(X), value, rtol=1e-12, atol=1e-12)


def test_features_warn_when_one_column_would_hide_all_others():
    X = rows(150, 2)
    with pytest.warns(NumericalWarning, match=r"one direction alone would hold 0\.99\d+ of the"):
        model = NTKRidgeCV(feature_learning="agop_diag").fit(X, X[:, 0])
    assert model.rounds_ == 0


# --- invariances ---------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [search, classifier])
def test_features_ignore_the_order_of_rows(make):
    X, y = friedman()
    y = classes_of(y) if make is classifier else y
    order = np.random.default_rng(0).permutation(60)
    one, two = make("auto").fit(X, y), make("auto").fit(X[order], y[order])
    assert one.feature_learning_ == two.feature_learning_
    np.testing.assert_allclose(two.feature_map_, one.feature_map_, rtol=SEARCH_RTOL, atol=1e-9)
    name = "predict_proba" if make is classifier else "predict"
    found, expected = (getattr(m, name)(NEW) for m in (two, one))
    np.testing.assert_allclose(found, expected, rtol=SEARCH_RTOL)


def test_features_follow_permuted_columns():
    X, y = friedman()
    order = np.random.default_rng(1).permutation(10)
    model = search("auto").fit(X[:, order], y)
    expected = fitted("auto")
    np.testing.assert_allclose(
        model.feature_map_, expected.feature_map_[order], rtol=SEARCH_RTOL, atol=1e-9
    )
    np.testing.assert_allclose(model.predict(NEW[:, order]), expected.predict(NEW), rtol=1e-6)


@pytest.mark.parametrize("make", [search, classifier])
def test_features_ignore_rows_of_weight_zero(make):
    X, y = friedman(80)
    y = classes_of(y) if make is classifier else y
    w = (np.arange(80) % 4 > 0).astype(float)
    kind = "agop_diag" if make is classifier else "ard"
    one, two = make(kind).fit(X, y, w), make(kind).fit(X[w > 0], y[w > 0])
    np.testing.assert_allclose(one.feature_map_, two.feature_map_, rtol=SEARCH_RTOL, atol=1e-9)
    np.testing.assert_allclose(
        one.feature_path_["held_out_loss"], two.feature_path_["held_out_loss"], rtol=SEARCH_RTOL
    )
    assert one.alpha_ == two.alpha_


@pytest.mark.parametrize("make", [search, classifier])
def test_features_weights_equal_repetitions(make):
    # Copies are merged before anything is learned from them.
    X, y = friedman()
    y = classes_of(y) if make is classifier else y
    r = np.random.default_rng(3).integers(1, 4, 60)
    kind = "agop_diag" if make is classifier else "ard"
    one, two = make(kind).fit(X, y, r), make(kind).fit(X.repeat(r, axis=0), y.repeat(r))
    np.testing.assert_allclose(one.feature_map_, two.feature_map_, rtol=SEARCH_RTOL, atol=1e-9)
    np.testing.assert_allclose(
        one.feature_path_["gain"], two.feature_path_["gain"], rtol=SEARCH_RTOL, atol=1e-9
    )


@pytest.mark.parametrize("kind", ["agop", "agop_diag"])
def test_features_do_not_depend_on_units_of_targets(kind):
    X, y = friedman()
    model, expected = search(kind).fit(X, 1e6 * y - 5e6), search(kind).fit(X, y)
    assert model.rounds_ == expected.rounds_
    np.testing.assert_allclose(model.feature_map_, expected.feature_map_, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(model.predict(NEW), 1e6 * expected.predict(NEW) - 5e6, rtol=1e-6)


def test_features_are_deterministic():
    one, two = search("auto").fit(*friedman()), fitted("auto")
    np.testing.assert_array_equal(one.predict(NEW), two.predict(NEW))
    np.testing.assert_array_equal(one.feature_map_, two.feature_map_)


def test_features_in_float32_are_close_to_float64():
    X, y = friedman()
    low, high = search("agop_diag", dtype="float32").fit(X, y), fitted("agop_diag")
    assert low.feature_map_.dtype == low.feature_matrix_.dtype == np.float64
    # float32's 1e-7 times a condition number of 1e3, twice
    np.testing.assert_allclose(low.feature_map_, high.feature_map_, atol=1e-3)
    np.testing.assert_allclose(low.predict(NEW), high.predict(NEW), rtol=1e-2)


# --- folds, scorers, targets ---------------------------------------------------------------------


def test_features_are_learned_by_leave_one_out_whatever_the_folds():
    X, y = friedman()
    folds = KFold(3, shuffle=True, random_state=0)
    model = search("ard", cv=folds).fit(X, y)
    A = model.feature_map_
    np.testing.assert_array_equal(A, fitted("ard").feature_map_)
    expected = NTKRidgeCV(**SMALL, cv=folds).fit(X * A, y)
    for name in ("mean_test_score", "split2_test_score"):
        found = model.cv_results_[name]
        np.testing.assert_allclose(found, expected.cv_results_[name], rtol=RTOL)
    np.testing.assert_allclose(model.predict(NEW), expected.predict(NEW * A), rtol=RTOL)


def test_features_take_a_number_of_folds():
    X, y = friedman()
    model = search("agop_diag", cv=3).fit(X, y)
    assert model.rounds_ > 0
    assert "split2_test_score" in model.cv_results_
    assert model.predict(NEW).shape == (9,)


def test_features_scorer_chooses_kernels_and_ridges():
    X, y = friedman()
    model = search("agop_diag", scoring="r2").fit(X, y)
    assert model.rounds_ > 0
    assert model.best_score_ == pytest.approx(r2_score(y, model.loo_predictions_), rel=RTOL)
    # R^2 orders leave-one-out predictions as squared errors do, so the choice is the same.
    np.testing.assert_allclose(model.predict(NEW), fitted("agop_diag").predict(NEW), rtol=RTOL)


@pytest.mark.parametrize("kind", ["agop", "ard"])
def test_features_of_two_targets_serve_both(kind):
    X = rows(90, 6)
    Y = np.column_stack([np.abs(X[:, 0]), X[:, 3]]) + 0.1 * rows(90, 2, seed=1)
    model = search(kind).fit(X, Y)
    assert model.rounds_ > 0
    assert model.predict(X[:4]).shape == (4, 2)
    assert model.loo_predictions_.shape == (90, 2)
    A = model.feature_map_
    assert set(np.argsort(np.diag(A) if A.ndim == 2 else A)[-2:]) == {0, 3}


@pytest.mark.parametrize("kind", ["agop_diag", "ard"])
def test_features_of_labels_serve_all(kind):
    X = rows(120, 6, seed=1)
    labels = (np.column_stack([X[:, 0], X[:, 3]]) + 0.1 * rows(120, 2, seed=2) > 0).astype(int)
    model = classifier(kind).fit(X, labels)
    assert model.rounds_ > 0
    assert model.predict(X[:4]).shape == model.predict_proba(X[:4]).shape == (4, 2)
    assert set(np.argsort(model.feature_map_)[-2:]) == {0, 3}
    assert np.mean(model.predict(X) == labels) > 0.9


@pytest.mark.parametrize("two", [False, True])
def test_features_of_classifier_find_the_columns_of_the_classes(two):
    X, y = friedman(120)
    y = y > np.median(y) if two else classes_of(y)
    model = classifier("auto").fit(X, y)
    assert set(np.argsort(model.feature_importances_)[-3:]) <= set(range(5))
    assert model.feature_importances_.sum() == pytest.approx(1.0, rel=1e-12)
    assert model.predict_proba(NEW).shape == (9, 2 if two else 3)


# --- many rows -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [None, "ard"])
def test_search_rows_choose_for_all_rows(kind):
    X, y = friedman(150)
    model = search(kind, search_rows=60).fit(X, y)
    some = model._training.sample(60)
    assert 30 < len(some) < 100
    small = search(kind).fit(X[some], y[some])
    assert small.kernel_ == model.kernel_ if kind is None else small.rounds_ == model.rounds_ > 0
    near = ALPHAS.index(small.alpha_)
    assert abs(ALPHAS.index(model.alpha_) - near) <= 1
    one = NTKRidge(model.kernel_, alpha=model.alpha_).fit(X, y)
    np.testing.assert_allclose(model.predict(NEW), one.predict(NEW), rtol=RTOL)
    assert model.loo_predictions_.shape == (150,)


@pytest.mark.parametrize("make", [search, classifier])
def test_search_rows_end_with_the_best_of_three_ridges(make):
    X, y = friedman(150)
    y = classes_of(y) if make is classifier else y
    model = make(None, search_rows=60).fit(X, y)
    some = model._training.sample(60)
    at = ALPHAS.index(make(None).fit(X[some], y[some]).alpha_)
    near = ALPHAS[max(at - 1, 0) : at + 2]
    best = type(model)(model.kernel_, param_grid={}, alphas=near).fit(X, y)
    assert model.alpha_ == best.alpha_
    np.testing.assert_allclose(model.loo_predictions_, best.loo_predictions_, rtol=RTOL, atol=RTOL)


@pytest.mark.parametrize("search_rows", [None, 60, 1000])
def test_search_rows_change_nothing_when_there_are_no_more(search_rows):
    X, y = friedman()
    model = NTKRidgeCV(**SMALL, search_rows=search_rows).fit(X, y)
    expected = NTKRidgeCV(**SMALL).fit(X, y)
    np.testing.assert_array_equal(model.dual_coef_, expected.dual_coef_)
    assert model.best_params_ == expected.best_params_


def test_search_rows_are_not_used_with_folds():
    X, y = friedman(90)
    model = NTKRidgeCV(**SMALL, cv=3, search_rows=20).fit(X, y)
    expected = NTKRidgeCV(**SMALL, cv=3).fit(X, y)
    np.testing.assert_array_equal(
        model.cv_results_["mean_test_score"], expected.cv_results_["mean_test_score"]
    )


# --- elsewhere -----------------------------------------------------------------------------------


def test_features_serve_gaussian_processes():
    (X, y), model = friedman(), fitted("auto")
    A = model.feature_map_
    gp = NTKGaussianProcessRegressor(model.kernel_, **KNOWN).fit(X, y)
    expected = NTKGaussianProcessRegressor(model.kernel_.kernel, **KNOWN).fit(X * A, y)
    for found, wanted in zip(
        gp.predict(NEW, return_std=True), expected.predict(NEW * A, return_std=True), strict=True
    ):
        np.testing.assert_allclose(found, wanted, rtol=RTOL)


def test_features_serve_support_vector_machines():
    (X, y), model = friedman(), fitted("auto")
    K = model.kernel_
    found = SVR(kernel=K, C=10.0).fit(X, y).predict(NEW)
    expected = SVR(kernel="precomputed", C=10.0).fit(K(X), y).predict(K(NEW, X))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("kind", ["auto", "agop"])
def test_features_survive_pickle(kind):
    model = fitted(kind)
    other = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(other.predict(NEW), model.predict(NEW))
    np.testing.assert_array_equal(other.feature_map_, model.feature_map_)
    assert other.feature_path_.keys() == model.feature_path_.keys()
    np.testing.assert_array_equal(other.predict_interval(NEW), model.predict_interval(NEW))


def test_features_have_intervals():
    (X, y), model = friedman(), fitted("auto")
    one = NTKRidge(model.kernel_, alpha=model.alpha_).fit(X, y)
    found = model.predict_interval(NEW, alpha=0.2)
    np.testing.assert_allclose(found, one.predict_interval(NEW, alpha=0.2), rtol=RTOL)
    assert (found[:, 0] < found[:, 1]).all()


def test_features_progress_is_shown(capsys):
    X, y = friedman()
    search("agop_diag", verbose=1).fit(X, y)
    out, err = capsys.readouterr()
    assert out == ""
    assert "fold" in err


def test_features_failing_search_leaves_the_estimator(monkeypatch):
    X, y = friedman()
    model = search("agop_diag").fit(X, y)
    before = dict(vars(model))

    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(Relevance, "learn", interrupt)
    model.set_params(feature_learning="ard")
    before["feature_learning"] = "ard"
    with pytest.raises(KeyboardInterrupt):
        model.fit(X[:40], y[:40])
    assert vars(model).keys() == before.keys()
    assert all(vars(model)[name] is value for name, value in before.items())


@pytest.mark.parametrize("kernel", ["precomputed", RBF(), NTK() + WhiteKernel(0.1)], ids=repr)
@pytest.mark.parametrize("make", [search, classifier])
def test_features_refuse_kernels_without_gradients(make, kernel):
    X, y = friedman()
    y = classes_of(y) if make is classifier else y
    X = NTK()(X) if isinstance(kernel, str) else X
    model = make("auto", kernel=kernel, param_grid=None)
    with pytest.raises(ValueError, match=r"`feature_learning` is 'auto' and `kernel` .* expected"):
        model.fit(X, y)
    clone(model).set_params(feature_learning=None).fit(X, y)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"feature_learning": "rfm"}, "The 'feature_learning' parameter .* Got 'rfm' instead"),
        ({"feature_learning": True}, "The 'feature_learning' parameter .* Got True instead"),
        ({"max_rounds": 0}, "The 'max_rounds' parameter .* Got 0 instead"),
        ({"search_rows": 9}, "The 'search_rows' parameter .* Got 9 instead"),
    ],
)
@pytest.mark.parametrize("make", [search, classifier])
def test_features_refuse_values(make, options, message):
    X, y = friedman()
    with pytest.raises(ValueError, match=message):
        make("auto").set_params(**options).fit(X, classes_of(y))


def test_search_rows_do_not_depend_on_the_order_of_ridges():
    X, y = friedman(100)
    orders = (ALPHAS, [1.0, 0.01, 100.0, 0.1, 10.0])
    one, two = (NTKRidgeCV(**SMALL | {"alphas": a}, search_rows=40).fit(X, y) for a in orders)
    assert one.alpha_ == two.alpha_


def test_search_without_features_forgets_those_of_an_earlier_fit():
    model = search("agop_diag").fit(*friedman())
    model.set_params(feature_learning=None).fit(*friedman())
    assert not hasattr(model, "feature_map_")


@pytest.mark.parametrize("options", [{}, {"feature_learning": None, "search_rows": 20}])
def test_search_scores_classes_that_parts_do_not_have(options):
    X, y = rows(40), np.where(np.arange(40) == 7, "yes", "no")
    model = classifier("agop_diag", scoring="neg_log_loss", **options).fit(X, y)
    assert model.predict_proba(X).shape == (40, 2)


@pytest.mark.gpu
@kinds
def test_features_agree_on_gpu(kind, cuda):
    model, expected = search(kind, device=str(cuda)).fit(*table_of(kind)), fitted(kind)
    assert (model.feature_learning_, model.rounds_) == (
        expected.feature_learning_,
        expected.rounds_,
    )
    np.testing.assert_allclose(model.feature_map_, expected.feature_map_, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(model.predict(NEW), expected.predict(NEW), rtol=SEARCH_RTOL)


# --- is it any good? -----------------------------------------------------------------------------


def held_out_error(model, X, y):
    """Return the mean squared error of a fit to 150 rows on all others."""
    model.fit(X[:150], y[:150])
    return np.mean((model.predict(X[150:]) - y[150:]) ** 2)


# Measured 0.43, 0.31 and 0.44 of the error with seeds 0, 1 and 2.
@pytest.mark.parametrize("seed", [0, 1])
def test_features_gain_where_half_the_columns_are_noise(seed):
    X, y = friedman(650, seed)
    plain, auto = (held_out_error(NTKRidgeCV(feature_learning=f), X, y) for f in (None, "auto"))
    assert auto < 0.7 * plain


# Measured 0.99, 0.95, 1.01 and 1.02 of the error with seeds 0 to 3.
@pytest.mark.parametrize("seed", [0, 3])
def test_features_do_no_harm_where_all_columns_count(seed):
    X, y = load_diabetes(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(X))
    X, y = scale(X)[order], y[order]
    plain, auto = (held_out_error(NTKRidgeCV(feature_learning=f), X, y) for f in (None, "auto"))
    assert auto < 1.05 * plain


# --- ridges below rounding, folds of one's own ---------------------------------------------------


@pytest.mark.parametrize("feature_learning", [None, "auto"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_default_ridges_leave_out_those_below_rounding(dtype, feature_learning):
    X = rows(100)
    options = {"param_grid": {"depth": [1]}, "dtype": dtype}
    model = NTKRidgeCV(feature_learning=feature_learning, **options)
    model.fit(X, np.sin(X[:, 0]) + X[:, 1])
    scores = model.cv_results_["mean_test_score"]
    assert np.isnan(scores[0]) == (dtype == "float32")
    assert np.isfinite(scores[-1])
    assert np.isfinite(model.predict(X)).all()


def test_default_ridges_serve_columns_far_from_zero():
    years = np.linspace(1950.0, 2019.0, 80)[:, None]
    model = NTKRidgeCV().fit(years, np.sin(years[:, 0] / 10.0))
    assert np.isfinite(model.predict(years)).all()


def test_features_of_targets_that_are_nearly_all_equal_are_none():
    X, y = rows(90), np.ones(90)
    y[0] = 5.0
    model = search("auto", fit_intercept=False).fit(X, y)
    assert np.isfinite(model.predict(X)).all()


def test_features_are_judged_on_the_folds_of_cv():
    X, y = friedman(90)
    folds = [(np.arange(30, 90), np.arange(30)), (np.arange(30), np.arange(30, 60))]
    model = search("agop_diag", cv=folds).fit(X, y)
    plain = [search(None).fit(X[inside], y[inside]) for inside, _ in folds]
    pairs = zip(plain, folds, strict=True)
    squares = [(model.predict(X[out]) - y[out]) ** 2 for model, (_, out) in pairs]
    assert model.feature_path_["held_out_loss"][0] == pytest.approx(np.concatenate(squares).mean())
