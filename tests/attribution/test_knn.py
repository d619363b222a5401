import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.gaussian_process.kernels import RBF
from sklearn.neighbors import KNeighborsClassifier

from sknk.attribution import KNNShapleyAttributor, _neighbors
from sknk.attribution._knn import hard_values, soft_values, threshold_values
from sknk.attribution._neighbors import NeighborVotes
from sknk.kernels import NTK, EmpiricalNTK
from tests.cases import rows
from tests.modules import mlp, seeded
from tests.reference import attribution_knn as reference

RTOL = {"rtol": 1e-12, "atol": 1e-12}
VARIANTS = ["hard", "soft", "threshold"]
RADIUS = 1.3


def labels(n, classes=3, seed=0):
    return np.random.default_rng(seed).integers(classes, size=n)


def distances(X, V):
    return np.sqrt(((V[:, None] - X[None]) ** 2).sum(-1))


def enumerated(variant, D, match, k, C, radius=RADIUS):
    """Values (m, n) by all coalitions."""

    def utility(S, d, c):
        if variant == "hard":
            return reference.hard(S, d, c, k)
        if variant == "soft":
            return reference.soft(S, d, c, k, C)
        return reference.threshold(S, d, c, radius, C)

    return np.stack(
        [
            reference.shapley(len(d), lambda S, d=d, c=c: utility(S, d, c))
            for d, c in zip(D, match, strict=True)
        ]
    )


def problem(n=7, m=5, ties=False):
    X, V = rows(n, d=2, seed=1), rows(m, d=2, seed=2)
    if ties:
        X, V = X.round(), V.round()
        X[-1] = X[0]
    return X, labels(n), V, labels(m, seed=3)


# --- against all coalitions ----------------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("n", [1, 2, 3, 7])
@pytest.mark.parametrize("k", [1, 2, 3, 7, 10])
def test_values_are_those_of_all_coalitions(variant, ties, n, k):
    X, _, V, y_val = problem(n, 4, ties)
    y = np.resize([0, 2, 1, 0], n)
    y_val = np.where(np.isin(y_val, y), y_val, 0)
    model = KNNShapleyAttributor(k, variant=variant, threshold=RADIUS).fit(X, y, V, y_val)
    D, match = distances(X, V), y == y_val[:, None]
    wanted = enumerated(variant, D, match, k, len(np.unique(y)))
    np.testing.assert_allclose(model.attribute(V, y_val), wanted, **RTOL)
    np.testing.assert_allclose(model.values_, wanted.mean(0), **RTOL)
    assert abs(model.efficiency_gap_) < 1e-12


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("k", [1, 3, 9])
def test_rows_judged_by_all_others_have_values_of_that_game(variant, k):
    X, y = rows(6, d=2, seed=4), labels(6)
    D, match = distances(X, X), y == y[:, None]
    games = np.zeros((6, 6))
    for v in range(6):
        rest = np.delete(np.arange(6), v)
        games[v, rest] = enumerated(variant, D[v : v + 1, rest], match[v : v + 1, rest], k, 3)[0]
    model = KNNShapleyAttributor(k, variant=variant, threshold=RADIUS).fit(X, y)
    np.testing.assert_allclose(model.values_, games.mean(0), **RTOL)
    assert abs(model.efficiency_gap_) < 1e-12


@pytest.mark.parametrize("variant", VARIANTS)
def test_values_of_one_class(variant):
    X, _, V, _ = problem()
    y, y_val = np.full(7, "a"), np.full(5, "a")
    model = KNNShapleyAttributor(3, variant=variant, threshold=RADIUS).fit(X, y, V, y_val)
    wanted = enumerated(variant, distances(X, V), np.ones((5, 7), dtype=bool), 3, 1)
    np.testing.assert_allclose(model.values_, wanted.mean(0), **RTOL)


def test_utilities_of_all_rows_and_of_none():
    X, y, V, y_val = problem(7, 5)
    ends = {}
    for variant in VARIANTS:
        model = KNNShapleyAttributor(3, variant=variant, threshold=RADIUS).fit(X, y, V, y_val)
        ends[variant] = model.utility_full_, model.utility_empty_
    judges = list(zip(distances(X, V), y == y_val[:, None], strict=True))
    every = range(7)
    hard = np.mean([reference.hard(every, d, c, 3) for d, c in judges])
    ball = np.mean([reference.threshold(every, d, c, RADIUS, 3) for d, c in judges])
    np.testing.assert_allclose(ends["hard"], (hard, 0.0), **RTOL)
    np.testing.assert_allclose(ends["soft"], (hard, 1 / 3), **RTOL)
    np.testing.assert_allclose(ends["threshold"], (ball, 1 / 3), **RTOL)


# --- identities ----------------------------------------------------------------------------------


def test_soft_values_of_all_neighbours_are_threshold_values_of_a_ball_of_all():
    c = labels(60, 2).reshape(3, 20).astype(bool)
    soft, balls = soft_values(c, 20, 4), threshold_values(c, np.ones_like(c), 4)
    np.testing.assert_allclose(soft[0], balls[0], **RTOL)
    np.testing.assert_allclose(soft[1], balls[1], **RTOL)


def test_hard_and_soft_values_of_one_neighbour_differ_by_the_guess():
    c = labels(60, 2).reshape(3, 20).astype(bool)
    # The utility of no rows, 1/4 instead of 0, is shared by all.
    hard, soft = hard_values(c, 1)[0], soft_values(c, 1, 4)[0]
    np.testing.assert_allclose(hard - soft, 0.25 / 20, **RTOL)


def test_row_outside_every_ball_has_no_value():
    X, y, V, y_val = problem()
    X = np.vstack([X, [[100.0, 100.0]]])
    model = KNNShapleyAttributor(variant="threshold", threshold=RADIUS)
    assert model.fit(X, np.append(y, 0), V, y_val).values_[-1] == 0.0


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("own", [False, True])
def test_values_do_not_depend_on_blocks(variant, own, monkeypatch):
    X, y, V, y_val = problem(40, 23)
    judges = () if own else (V, y_val)
    whole = KNNShapleyAttributor(variant=variant).fit(X, y, *judges)
    each = whole.attribute(V, y_val)
    monkeypatch.setattr(_neighbors, "_NUMBERS", 200)  # five rows
    parts = KNNShapleyAttributor(variant=variant).fit(X, y, *judges)
    np.testing.assert_allclose(parts.values_, whole.values_, rtol=1e-12, atol=1e-15)
    np.testing.assert_array_equal(parts.attribute(V, y_val), each)


@pytest.mark.parametrize("variant", VARIANTS)
def test_values_move_with_the_rows(variant):
    X, y, V, y_val = problem(30, 9)
    order = np.random.default_rng(0).permutation(30)
    values = KNNShapleyAttributor(variant=variant).fit(X, y, V, y_val).values_
    moved = KNNShapleyAttributor(variant=variant).fit(X[order], y[order], V, y_val).values_
    np.testing.assert_allclose(moved, values[order], **RTOL)


def test_default_radius_is_the_median_distance_to_the_last_neighbour():
    X, y, V, y_val = problem(30, 9)
    model = KNNShapleyAttributor(4, variant="threshold").fit(X, y, V, y_val)
    wanted = np.median(np.sort(distances(X, V), axis=1)[:, 3])
    assert model.threshold_ == pytest.approx(wanted, rel=1e-12)
    model = KNNShapleyAttributor(40, variant="threshold").fit(X, y)
    assert model.threshold_ == pytest.approx(np.median(distances(X, X).max(1)), rel=1e-12)


# --- metrics -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kernel", [NTK(depth=2), RBF(0.7), EmpiricalNTK(seeded(lambda: mlp(2, 3)))], ids=str
)
def test_kernel_is_a_metric(kernel):
    X, y, V, y_val = problem()
    # Entry by entry, for the same rounding everywhere.
    square = kernel.diag(V)[:, None] + kernel.diag(X) - 2.0 * kernel(V, X)
    wanted = enumerated("soft", np.sqrt(square), y == y_val[:, None], 3, 3)
    model = KNNShapleyAttributor(3, variant="soft", kernel=kernel).fit(X, y, V, y_val)
    np.testing.assert_allclose(model.attribute(V, y_val), wanted, **RTOL)


def test_kernel_of_the_user_is_left_alone():
    X, y, V, y_val = problem()
    kernel = NTK(depth=2)
    model = KNNShapleyAttributor(kernel=kernel).fit(X, y)
    before = model.attribute(V, y_val)
    kernel.set_params(depth=1)
    np.testing.assert_array_equal(model.attribute(V, y_val), before)


@pytest.mark.gpu
def test_kernel_computes_on_a_gpu(cuda):
    X, y, V, y_val = problem(30, 9)
    here = KNNShapleyAttributor(kernel=NTK()).fit(X, y, V, y_val)
    there = KNNShapleyAttributor(kernel=NTK(), device="cuda").fit(X, y, V, y_val)
    np.testing.assert_allclose(there.values_, here.values_, **RTOL)
    followed = KNNShapleyAttributor(kernel=NTK()).fit(torch.as_tensor(X, device=cuda), y, V, y_val)
    np.testing.assert_allclose(followed.values_, here.values_, **RTOL)


def test_tensors_are_rows():
    X, y, V, y_val = problem()
    wanted = KNNShapleyAttributor().fit(X, y, V, y_val).values_
    found = KNNShapleyAttributor().fit(*map(torch.as_tensor, (X, y, V, y_val)))
    np.testing.assert_array_equal(found.values_, wanted)


def test_float32_of_the_kernel_keeps_the_order_of_distances():
    X, y, V, y_val = problem()
    wanted = KNNShapleyAttributor(kernel=NTK()).fit(X, y, V, y_val).values_
    found = KNNShapleyAttributor(kernel=NTK(), dtype="float32").fit(X, y, V, y_val).values_
    np.testing.assert_array_equal(found, wanted)


# --- as an estimator -----------------------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("kernel", [None, NTK()])
def test_removal_curve_refits_the_votes(variant, kernel):
    X = np.vstack([rows(20, d=2, seed=5) + 3.0, rows(20, d=2, seed=6) - 3.0])
    y = np.repeat(["a", "b"], 20)
    model = KNNShapleyAttributor(3, variant=variant, kernel=kernel).fit(X, y)
    curve = model.removal_curve(X, y, fractions=[0.0, 0.5, 0.975], n_random=2, random_state=0)
    assert curve.scores[0] > 0.9
    assert curve.scores[-1] == 0.5  # one row is left
    assert curve.random_scores.shape == (2, 3)


@pytest.mark.parametrize("k", [1, 4])
def test_votes_are_those_of_sklearn(k):
    X, y, V, _ = problem(40, 30)
    wanted = KNeighborsClassifier(k).fit(X, y).predict(V)
    np.testing.assert_array_equal(NeighborVotes(k).fit(X, y).predict(V), wanted)


def test_rows_without_neighbours_in_the_radius_get_the_votes_of_all():
    model = NeighborVotes(radius=1.0).fit([[0.0], [0.1], [9.0]], ["b", "b", "a"])
    assert model.predict([[9.5], [50.0]]).tolist() == ["a", "b"]


def test_wrong_label_has_the_lowest_value():
    X = np.vstack([rows(20, d=2, seed=5) + 3.0, rows(20, d=2, seed=6) - 3.0])
    y = np.repeat([0, 1], 20)
    y[7] = 1
    for variant in VARIANTS:
        assert KNNShapleyAttributor(variant=variant).fit(X, y).bottom(1).tolist() == [7]


def test_pickle_and_clone_have_the_same_values():
    X, y, V, y_val = problem(20, 5)
    model = KNNShapleyAttributor(3, kernel=NTK()).fit(X, y)
    loaded = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(loaded.attribute(V, y_val), model.attribute(V, y_val))
    np.testing.assert_array_equal(clone(model).fit(X, y).values_, model.values_)


# --- bad input -----------------------------------------------------------------------------------


def test_numbers_as_targets_are_refused():
    X = rows(10)
    with pytest.raises(ValueError, match=r"`y` is continuous .*Use ShapleyAttributor"):
        KNNShapleyAttributor().fit(X, X[:, 0])


def test_unseen_labels_are_refused():
    X, y, V, _ = problem()
    with pytest.raises(ValueError, match=r"`y_val` has the labels \[7\]"):
        KNNShapleyAttributor().fit(X, y, V, np.full(5, 7))
    with pytest.raises(ValueError, match=r"`y_val` has the labels \[7\]"):
        KNNShapleyAttributor().fit(X, y).attribute(V, np.full(5, 7))


def test_rows_without_targets_are_refused():
    X, y, V, _ = problem()
    with pytest.raises(ValueError, match="`y_val` is None"):
        KNNShapleyAttributor().fit(X, y, V)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        KNNShapleyAttributor().fit(X, y, V, y)


def test_one_row_needs_others_to_judge_it():
    with pytest.raises(ValueError, match=r"n_samples=1 row.*Pass `X_val`"):
        KNNShapleyAttributor().fit([[1.0]], [0])


def test_failed_fit_leaves_the_attributor_as_it_was():
    X, y, V, y_val = problem()
    model = KNNShapleyAttributor().fit(X, y)
    before = model.attribute(V, y_val)
    with pytest.raises(ValueError, match="continuous"):
        model.fit(X[:4], X[:4, 0])
    np.testing.assert_array_equal(model.attribute(V, y_val), before)
