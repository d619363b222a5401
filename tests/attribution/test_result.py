import numpy as np
import pytest
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression

from sknk.attribution import AttributionResult, Curve, GroupRemoval, LeaveOneOutAttributor
from tests.attribution.families import FAMILIES
from tests.reference import attribution as oracle


class Given(AttributionResult, BaseEstimator):
    """Values without a rule."""

    fit = None

    def __init__(self, values, estimator=None, data=None):
        self.values_ = np.asarray(values, dtype=float)
        self.std_error_ = np.zeros(len(self.values_))
        self.estimator_, self._data = estimator, data


@pytest.fixture
def result(data):
    model = clone(data.ridge).fit(data.X, data.y)
    return Given(np.sin(np.arange(16)), model, (data.X, data.y))


def test_rank_counts_from_the_most_helpful_row():
    assert Given([0.1, 3.0, -1.0]).rank().tolist() == [1, 0, 2]


def test_ties_rank_in_row_order():
    result = Given([1.0, 2.0, 1.0, 2.0, 1.0])
    assert result.rank().tolist() == [2, 0, 3, 1, 4]
    assert result.top(3).tolist() == [1, 3, 0]
    assert result.bottom(3).tolist() == [4, 2, 0]


@pytest.mark.parametrize("k", [0, 1, 3])
def test_top_and_bottom_have_so_many_rows(k):
    result = Given([0.1, 3.0, -1.0])
    assert result.top(k).tolist() == [1, 0, 2][:k]
    assert result.bottom(k).tolist() == [2, 0, 1][:k]


@pytest.mark.parametrize("k", [-1, 4])
@pytest.mark.parametrize("method", ["top", "bottom"])
def test_top_and_bottom_refuse_other_numbers_of_rows(method, k):
    with pytest.raises(ValueError, match=rf"`k` is {k}; expected 0 to 3"):
        getattr(Given([0.1, 3.0, -1.0]), method)(k)


@pytest.mark.parametrize("method", ["top", "bottom"])
def test_default_number_of_rows_is_at_most_all(method):
    assert len(getattr(Given([0.1, 3.0, -1.0]), method)()) == 3
    assert len(getattr(Given(np.arange(30)), method)()) == 10


def test_to_frame_has_a_line_a_row():
    frame = Given([0.1, 3.0, -1.0]).to_frame()
    assert frame.columns.tolist() == ["value", "std_error", "rank"]
    assert frame.index.tolist() == [0, 1, 2]
    assert frame["rank"].tolist() == [1, 0, 2]


def test_to_frame_has_a_line_a_group(data):
    found = GroupRemoval(data.ridge).fit(data.X, data.y, groups=np.array([*"ab"] * 8))
    assert found.to_frame().index.tolist() == ["a", "b"]


@pytest.mark.parametrize("call", ["rank", "top", "to_frame"])
def test_result_of_unfitted_attributor_is_refused(call):
    with pytest.raises(NotFittedError, match="not fitted"):
        getattr(LeaveOneOutAttributor(), call)()


# --- curves --------------------------------------------------------------------------------------


def scores_by_refits(family, name, orders, counts, action):
    """Return scores of naive refits along orders of rows."""
    metric = family.utility(name)
    kept = [[order[c:] if action == "remove" else order[:c] for c in counts] for order in orders]
    inside = [[np.flatnonzero(np.isin(family.active, rows)) for rows in one] for one in kept]
    return np.array([[metric(rows) for rows in one] for one in inside])


@pytest.mark.parametrize("order", ["lowest", "highest"])
@pytest.mark.parametrize("action", ["remove", "add"])
@pytest.mark.parametrize(
    "name",
    ["ridge", "ridge_outputs", "ridge_weights", "two_classes", "pipeline", "precomputed",
     "gp_normalized", "gp_noise", "dirichlet"],
)  # fmt: skip
def test_curve_equals_refits(name, action, order):
    family = FAMILIES[name](9)
    found = LeaveOneOutAttributor(family.estimator).fit(*family.data)
    n, parts = len(found.values_), np.array([0.12, 0.3, 0.5, 0.85])
    method = found.removal_curve if action == "remove" else found.addition_curve
    curve = method(
        family.X_val, family.y_val, order=order, fractions=parts, n_random=2, random_state=5
    )
    rng = np.random.RandomState(5)
    own = np.argsort(found.rank())
    orders = [own if order == "highest" else own[::-1], *(rng.permutation(n) for _ in range(2))]
    utility = "r2" if "r2" in family.utilities else "accuracy"
    counts = np.rint(parts * n).astype(int)
    expected = scores_by_refits(family, utility, orders, counts, action)
    np.testing.assert_allclose(curve.scores, expected[0], atol=1e-10)
    np.testing.assert_allclose(curve.random_scores, expected[1:], atol=1e-10)
    assert (curve.order, curve.action) == (order, action)


def test_curve_equals_refits_of_the_estimator(result, data):
    curve = result.removal_curve(data.X_val, data.y_val, fractions=[0.0, 0.25, 0.5], n_random=0)
    ranked = np.argsort(result.values_)
    for count, score in zip([0, 4, 8], curve.scores, strict=True):
        rows = ranked[count:]
        model = clone(data.ridge).fit(data.X[rows], data.y[rows])
        assert score == pytest.approx(model.score(data.X_val, data.y_val), abs=1e-10)
    assert curve.random_scores.shape == (0, 3)


def test_default_curves_start_where_they_say(result, data):
    removed = result.removal_curve(data.X_val, data.y_val, n_random=1)
    np.testing.assert_allclose(removed.fractions, np.linspace(0, 0.5, 11))
    added = result.addition_curve(data.X_val, data.y_val, n_random=1)
    np.testing.assert_allclose(added.fractions, np.linspace(0.05, 0.5, 10))
    assert isinstance(added, Curve)
    assert (removed.order, added.order) == ("lowest", "highest")


def test_default_curves_take_few_rows(data):
    found = LeaveOneOutAttributor(data.ridge).fit(data.X[:5], data.y[:5])
    for curve in (found.removal_curve, found.addition_curve):
        assert np.isfinite(curve(data.X_val, data.y_val, n_random=1).scores).all()


@pytest.mark.parametrize("state", [None, 0])
def test_curves_leave_the_global_generator(result, data, state):
    before = np.random.get_state()  # noqa: NPY002
    curve = result.removal_curve(data.X_val, data.y_val, n_random=3, random_state=state)
    after = np.random.get_state()  # noqa: NPY002
    assert all(np.array_equal(a, b) for a, b in zip(after, before, strict=True))
    again = result.removal_curve(data.X_val, data.y_val, n_random=3, random_state=state)
    assert np.array_equal(curve.random_scores, again.random_scores) == (state is not None)


def test_curves_of_other_estimators_fit_them_anew(data):
    y, y_val = data.classes == "a", data.classes_val == "a"
    model = LogisticRegression().fit(data.X, y)
    result = Given(np.where(y, 1.0, 0.0), model, (data.X, y))
    counts = [0, 4, 16 - int(y.sum())]  # the last one leaves a single class
    curve = result.removal_curve(
        data.X_val, y_val, fractions=np.array(counts) / 16, n_random=0, order="lowest"
    )
    ranked = np.argsort(result.rank())[::-1]
    rows = ranked[4:]
    expected = clone(model).fit(data.X[rows], y[rows]).score(data.X_val, y_val)
    assert curve.scores[1] == pytest.approx(expected)
    assert curve.scores[2] == pytest.approx(y_val.mean())


@pytest.mark.parametrize(
    ("action", "fractions"),
    [
        ("removal", [1.0]),
        ("removal", [-0.1]),
        ("removal", [0.2, 1.5]),
        ("removal", []),
        ("removal", [[0.1]]),
        ("removal", [np.nan]),
        ("addition", [0.0]),
        ("addition", [1.1]),
        ("addition", 0.5),
    ],
    ids=str,
)
def test_curve_refuses_other_fractions(result, data, action, fractions):
    with pytest.raises(ValueError, match=r"`fractions` is .*; expected parts of 16 rows"):
        getattr(result, f"{action}_curve")(data.X_val, data.y_val, fractions=fractions)


def test_curve_refuses_other_orders(result, data):
    with pytest.raises(ValueError, match="`order` is 'random'; expected 'lowest' or 'highest'"):
        result.removal_curve(data.X_val, data.y_val, order="random")


def test_curve_refuses_groups(data):
    found = GroupRemoval(data.ridge).fit(data.X, data.y, groups=np.arange(16) % 3)
    with pytest.raises(ValueError, match="Values are of 3 groups; curves are of rows"):
        found.removal_curve(data.X_val, data.y_val)


def test_attribute_of_values_without_a_rule_is_not_implemented(result, data):
    with pytest.raises(NotImplementedError):
        result.attribute(data.X_val, data.y_val)


def test_curve_of_frozen_estimator_keeps_its_weights(data):
    w = np.where(np.arange(16) % 4 == 1, 0.0, data.weights)
    model = clone(data.ridge).fit(data.X, data.y, w)
    result = Given(np.arange(16), FrozenEstimator(model), (data.X, data.y))
    curve = result.removal_curve(data.X_val, data.y_val, fractions=[0.25], n_random=0)
    f = clone(data.ridge).fit(data.X[4:], data.y[4:], w[4:]).predict(data.X_val)
    assert curve.scores[0] == pytest.approx(oracle.r2(data.y_val, f), abs=1e-10)
