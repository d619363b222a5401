import numpy as np
import pytest
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator

from sknk import (
    NTKGaussianProcessRegressor,
    NTKRidge,
    NTKRidgeClassifier,
    NTKRidgeClassifierCV,
    NTKRidgeCV,
)
from sknk.attribution import (
    GroupRemoval,
    InfluenceAttributor,
    LeaveOneOutAttributor,
    RepresenterAttributor,
)
from sknk.solvers import _moves
from tests.attribution.families import FAMILIES, GAMES, KERNEL, KNOWN
from tests.reference import attribution as oracle

N, ATOL = 9, 1e-10
JUDGED = [game for game in GAMES if game[1] != "evidence"]
SMOOTH = [game for game in JUDGED if game[1] != "accuracy"]
ATTRIBUTORS = (LeaveOneOutAttributor, InfluenceAttributor, GroupRemoval)


def utility_of_rows(family, utility, v):
    """Return the utility of coalitions for one of the rows judged."""
    judge = family.utilities[utility]
    game = oracle.replace(
        family.game,
        cross=family.game.cross[:, [v]],
        prior_variance=None
        if family.game.prior_variance is None
        else family.game.prior_variance[[v]],
    )
    return lambda S: judge(
        family.y_val[[v]], family.prior + oracle.outputs(game, list(S)), list(S), game
    )


# --- leave-one-out -------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "utility"), JUDGED)
def test_leave_one_out_equals_refits(name, utility):
    family = FAMILIES[name](N)
    found = LeaveOneOutAttributor(family.estimator, utility=utility).fit(*family.data)
    worth = family.utility(utility)
    np.testing.assert_allclose(
        found.values_, family.every(oracle.leave_one_out(worth, N)), atol=ATOL
    )
    assert found.utility_full_ == pytest.approx(worth(range(N)), abs=ATOL)
    assert found.utility_empty_ == pytest.approx(worth([]), abs=ATOL)
    assert not found.std_error_.any()


@pytest.mark.parametrize(("name", "utility"), [game for game in JUDGED if game[1] != "r2"])
def test_leave_one_out_of_a_test_row_equals_refits(name, utility):
    family = FAMILIES[name](N)
    each = (
        LeaveOneOutAttributor(family.estimator, utility=utility)
        .fit(*family.data)
        .attribute(family.X_val[:3], family.y_val[:3])
    )
    for v in range(3):
        expected = oracle.leave_one_out(utility_of_rows(family, utility, v), N)
        np.testing.assert_allclose(each[v], family.every(expected), atol=ATOL)


@pytest.mark.parametrize("kind", ATTRIBUTORS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize(("name", "utility"), JUDGED)
def test_values_of_test_rows_have_values_as_mean(kind, name, utility):
    if (kind, utility) == (InfluenceAttributor, "accuracy"):
        return
    family = FAMILIES[name](N)
    found = kind(family.estimator, utility=utility).fit(*family.data)
    each = found.attribute(family.X_val, family.y_val)
    np.testing.assert_allclose(each.mean(axis=0), found.values_, atol=ATOL)


def test_leave_one_out_takes_functions_of_targets_and_outputs():
    family = FAMILIES["ridge_outputs"](N)

    def worst(y, f):
        return -np.abs(y - f).max()

    found = LeaveOneOutAttributor(family.estimator, utility=worst).fit(*family.data)
    expected = oracle.leave_one_out(lambda S: worst(family.y_val, family.outputs(list(S))), N)
    np.testing.assert_allclose(found.values_, expected, atol=ATOL)


@pytest.mark.parametrize(
    ("name", "utility"),
    [game for game in JUDGED if game[1] not in ("r2",)],
)
def test_leave_one_out_without_validation_rows_judges_by_the_others(name, utility):
    family = FAMILIES[name](N)
    found = LeaveOneOutAttributor(family.estimator, utility=utility).fit(family.X, family.y)
    itself = oracle.judged_on_itself(family.game)
    expected = []
    for i in range(N):
        S = oracle.without(N, [i])
        game = oracle.replace(
            itself, cross=itself.K[:, [i]], prior_variance=itself.prior_variance[[i]]
        )
        f = family.prior + oracle.outputs(game, S)
        expected.append(family.utilities[utility](family.y[family.active][[i]], f, S, game))
    np.testing.assert_allclose(found.values_[family.active], expected, atol=ATOL)
    assert found.utility_full_ == pytest.approx(np.mean(expected))


def test_leave_one_out_equals_refits_of_the_estimator(data):
    # With a constant added to y the prior mean has to move as well.
    y = data.y + 40.0
    found = LeaveOneOutAttributor(data.ridge).fit(data.X, y, data.X_val, data.y_val + 40.0)
    every = []
    for i in range(16):
        rest = oracle.without(16, [i])
        f = clone(data.ridge).fit(data.X[rest], y[rest]).predict(data.X_val)
        every.append(found.utility_full_ - oracle.mse(data.y_val + 40.0, f))
    np.testing.assert_allclose(found.values_, every, atol=ATOL)


def test_leave_one_out_of_copies_leaves_the_others(data):
    again = np.append(np.arange(16), [3, 3])
    X, y = data.X[again], data.y[again]
    found = LeaveOneOutAttributor(data.ridge).fit(X, y, data.X_val, data.y_val)
    rest = oracle.without(18, [3])
    f = clone(data.ridge).fit(X[rest], y[rest]).predict(data.X_val)
    expected = found.utility_full_ - oracle.mse(data.y_val, f)
    np.testing.assert_allclose(found.values_[[3, 16, 17]], expected, atol=ATOL)


@pytest.mark.parametrize("utility", ["log_prob", "brier"])
def test_tiles_do_not_change_leave_one_out(data, monkeypatch, utility):
    model = LeaveOneOutAttributor(data.classifier, utility=utility)
    arguments = data.X, data.classes, data.X_val, data.classes_val
    whole = model.fit(*arguments).values_
    monkeypatch.setattr(_moves.Moves.tiles, "__defaults__", (1,))
    np.testing.assert_allclose(model.fit(*arguments).values_, whole, atol=1e-14)


def test_leave_one_out_refuses_functions_without_validation_rows(data):
    with pytest.raises(ValueError, match="without validation rows; expected a named utility"):
        LeaveOneOutAttributor(data.ridge, utility=lambda y, f: 0.0).fit(data.X, data.y)


@pytest.mark.parametrize("kind", [LeaveOneOutAttributor, GroupRemoval], ids=lambda k: k.__name__)
@pytest.mark.parametrize("broken", ["always", "without-a-row"])
def test_utility_that_is_no_number_is_refused(data, kind, broken):
    full = clone(data.ridge).fit(data.X, data.y).predict(data.X_val)

    def utility(y, f):
        return 1.0 if broken != "always" and np.allclose(f, full, atol=1e-9) else np.nan

    with pytest.raises(ValueError, match=r"utility of all( but .*)? of 16 rows is not"):
        kind(data.ridge, utility=utility).fit(data.X, data.y, data.X_val, data.y_val)


# --- influence -----------------------------------------------------------------------------------


def weighted(game, i, factor):
    """Return the game with the weight of one row times a factor."""
    w = np.where(np.arange(game.n) == i, factor, 1.0)
    means = None if game.weights is None else game.weights * w
    return oracle.replace(game, shift=(game.shift.T / w).T, weights=means)


@pytest.mark.parametrize(("name", "utility"), SMOOTH)
def test_influence_is_the_derivative_of_refits(name, utility):
    family, step = FAMILIES[name](N), 1e-4
    found = InfluenceAttributor(family.estimator, utility=utility).fit(*family.data)
    expected = np.empty(N)
    for i in range(N):
        worth = []
        for factor in (1.0 + step, 1.0 - step):
            game = weighted(family.game, i, factor)
            f = family.prior + oracle.outputs(game, range(N))
            worth.append(family.utilities[utility](family.y_val, f, range(N), game))
        expected[i] = (worth[0] - worth[1]) / (2.0 * step)
    np.testing.assert_allclose(found.values_, family.every(expected), rtol=1e-6, atol=1e-7)


def test_influence_is_the_derivative_by_sample_weight(data):
    found = InfluenceAttributor(data.ridge).fit(data.X, data.y, data.X_val, data.y_val)
    for i in (0, 7):
        worth = []
        for weight in (1.0 + 1e-4, 1.0 - 1e-4):
            w = np.where(np.arange(16) == i, weight, 1.0)
            f = clone(data.ridge).fit(data.X, data.y, w).predict(data.X_val)
            worth.append(oracle.mse(data.y_val, f))
        assert found.values_[i] == pytest.approx((worth[0] - worth[1]) / 2e-4, rel=1e-5)


def test_influence_without_validation_rows_judges_on_the_training_rows(data):
    found = InfluenceAttributor(data.ridge).fit(data.X, data.y)
    other = InfluenceAttributor(data.ridge).fit(data.X, data.y, data.X, data.y)
    np.testing.assert_allclose(found.values_, other.values_, atol=1e-14)


@pytest.mark.parametrize("utility", ["accuracy", lambda y, f: 0.0], ids=["accuracy", "function"])
def test_influence_refuses_utilities_without_derivative(data, utility):
    with pytest.raises(ValueError, match="no derivative by the outputs; expected 'brier'"):
        InfluenceAttributor(data.classifier, utility=utility).fit(
            data.X, data.classes, data.X_val, data.classes_val
        )


# --- representer ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FAMILIES)
def test_representer_sums_to_the_prediction(name):
    family = FAMILIES[name](N)
    found = RepresenterAttributor(family.estimator).fit(*family.data)
    each = found.attribute(family.X_val, family.y_val)
    f = oracle.outputs(family.game, range(N))
    if name.startswith(("ridge", "gp")):
        direction = family.y_val.reshape(len(f), -1) - family.prior
    elif name == "multilabel":
        direction = np.where(family.y_val == 1, 1.0, -1.0)
    elif name == "two_classes":
        direction = np.where(family.y_val == "b", 1.0, -1.0)[:, None]
    else:
        direction = 1.5 * oracle.one_hot(family.y_val, ["a", "b", "c"]) - 0.5
    np.testing.assert_allclose(each.sum(axis=1), (direction * f).sum(axis=1), atol=ATOL)
    np.testing.assert_allclose(each.mean(axis=0), found.values_, atol=ATOL)


def test_representer_terms_are_dual_coefficients_times_kernel(data):
    found = RepresenterAttributor(data.ridge).fit(data.X, data.y)
    model = found.estimator_
    t = data.y_val - model.intercept_
    expected = t[:, None] * KERNEL(data.X_val, data.X) * model.dual_coef_
    np.testing.assert_allclose(found.attribute(data.X_val, data.y_val), expected, atol=ATOL)


def test_representer_without_validation_rows_judges_on_the_training_rows(data):
    found = RepresenterAttributor(data.classifier).fit(data.X, data.classes)
    other = RepresenterAttributor(data.classifier).fit(data.X, data.classes, data.X, data.classes)
    np.testing.assert_allclose(found.values_, other.values_, atol=1e-14)


# --- groups --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "utility"), JUDGED)
def test_group_removal_equals_refits(name, utility):
    family = FAMILIES[name](N)
    groups = np.array([*"xyzzyzyxzyx"])[: len(family.X)]
    found = GroupRemoval(family.estimator, utility=utility).fit(*family.data, groups=groups)
    worth = family.utility(utility)
    own = groups[family.active]
    expected = [worth(range(N)) - worth(np.flatnonzero(own != g)) for g in "xyz"]
    np.testing.assert_allclose(found.values_, expected, atol=ATOL)
    assert found.groups_.tolist() == ["x", "y", "z"]
    each = found.attribute(family.X_val, family.y_val)
    np.testing.assert_allclose(each.mean(axis=0), expected, atol=ATOL)


def test_group_removal_of_rows_is_leave_one_out(data):
    arguments = data.X, data.y, data.X_val, data.y_val
    found = GroupRemoval(data.ridge).fit(*arguments)
    other = LeaveOneOutAttributor(data.ridge).fit(*arguments)
    np.testing.assert_allclose(found.values_, other.values_, atol=ATOL)
    assert not hasattr(found, "groups_")  # so that curves, which are of rows, can be drawn


def test_group_removal_without_validation_rows_judges_on_the_training_rows(data):
    groups = np.arange(16) % 4
    found = GroupRemoval(data.ridge).fit(data.X, data.y, groups=groups)
    other = GroupRemoval(data.ridge).fit(data.X, data.y, data.X, data.y, groups)
    np.testing.assert_allclose(found.values_, other.values_, atol=1e-14)


def test_group_of_all_weight_leaves_the_prior(data):
    groups = np.arange(16) % 2
    model = FrozenEstimator(clone(data.ridge).fit(data.X, data.y, 1.0 - groups))
    found = GroupRemoval(model).fit(data.X, data.y, data.X_val, data.y_val, groups)
    expected = [found.utility_full_ - found.utility_empty_, 0.0]
    np.testing.assert_allclose(found.values_, expected, atol=ATOL)


@pytest.mark.parametrize("groups", [np.zeros(16), np.arange(15)], ids=["one", "short"])
def test_group_removal_refuses_groups_that_do_not_fit(data, groups):
    with pytest.raises(ValueError, match=r"`groups` has (one group|shape)"):
        GroupRemoval(data.ridge).fit(data.X, data.y, groups=groups)


# --- what they share -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [*ATTRIBUTORS, RepresenterAttributor], ids=lambda k: k.__name__)
def test_default_estimator_is_a_tuned_ridge(data, kind):
    assert isinstance(kind().fit(data.X, data.y).estimator_, NTKRidgeCV)
    assert isinstance(kind().fit(data.X, data.classes).estimator_, NTKRidgeClassifierCV)


@pytest.mark.parametrize("kind", [*ATTRIBUTORS, RepresenterAttributor], ids=lambda k: k.__name__)
def test_frozen_estimator_of_other_rows_is_refused(data, kind):
    model = FrozenEstimator(clone(data.ridge).fit(data.X[:9], data.y[:9]))
    with pytest.raises(ValueError, match="was fitted to 9 rows and `X` has 16"):
        kind(model).fit(data.X, data.y)


@pytest.mark.parametrize("kind", ATTRIBUTORS, ids=lambda k: k.__name__)
def test_targets_that_do_not_fit_are_refused(data, kind):
    with pytest.raises(ValueError, match=r"`y_val` has shape .*; expected 1 output"):
        kind(data.ridge).fit(data.X, data.y, data.X_val, data.Y_val)
    with pytest.raises(ValueError, match="`y_val` has values that are not finite"):
        kind(data.ridge).fit(data.X, data.y, data.X_val, np.where(data.y_val > 0, np.nan, 0.0))
    for y_val in (data.y_val[:-1], data.y_val[:1]):  # a single one would broadcast
        with pytest.raises(ValueError, match="inconsistent numbers of samples"):
            kind(data.ridge).fit(data.X, data.y, data.X_val, y_val)


def test_float32_is_near_float64(data):
    arguments = data.X, data.y, data.X_val, data.y_val
    for kind in (*ATTRIBUTORS, RepresenterAttributor):
        low = kind(NTKRidge(KERNEL, alpha=0.4, dtype="float32")).fit(*arguments)
        assert low.values_.dtype == np.float64
        np.testing.assert_allclose(low.values_, kind(data.ridge).fit(*arguments).values_, atol=1e-4)


def test_column_of_targets_is_as_a_flat_one(data):
    found = LeaveOneOutAttributor(data.ridge).fit(data.X, data.y[:, None], data.X_val, data.y_val)
    other = LeaveOneOutAttributor(data.ridge).fit(data.X, data.y, data.X_val, data.y_val)
    np.testing.assert_allclose(found.values_, other.values_, atol=1e-14)


def test_density_needs_a_law_of_noise(data):
    for posterior in ("ntkgp", "ensemble"):
        model = NTKGaussianProcessRegressor(KERNEL, posterior=posterior, **KNOWN)
        attributor = LeaveOneOutAttributor(model, utility="log_prob")
        if posterior == "ntkgp":
            attributor.fit(data.X, data.y, data.X_val, data.y_val)
            continue
        with pytest.raises(ValueError, match="`utility` is 'log_prob' for a regressor"):
            attributor.fit(data.X, data.y, data.X_val, data.y_val)


def test_labels_are_named_as_the_user_names_them(data):
    y, y_val = (np.array([10, 20, 30])[np.unique(one, return_inverse=True)[1]] for one in (
        data.classes, data.classes_val))  # fmt: skip
    found = LeaveOneOutAttributor(NTKRidgeClassifier(KERNEL, alpha=0.4))
    other = found.fit(data.X, data.classes, data.X_val, data.classes_val).values_
    np.testing.assert_array_equal(found.fit(data.X, y, data.X_val, y_val).values_, other)
