import pickle
from itertools import combinations

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator

from sknk import NTKGaussianProcessRegressor, NTKRidge, NTKRidgeClassifier
from sknk.attribution import ShapleyAttributor, _runs, _samplers
from tests.attribution.families import FAMILIES, GAMES, KERNEL
from tests.reference import attribution as oracle

SEMIVALUES = ("shapley", "banzhaf", (4, 1))
N, ATOL = 5, 1e-9
QUICK = {"sampler": "permutation", "tol": 0, "random_state": 0}


def fitted(data, *, groups=None, classify=True, **params):
    """Return a fitted attributor of 16 rows and 10 to judge on; 12 orders, no tolerance."""
    model = data.classifier if classify else data.ridge
    params = {**QUICK, "n_iter": 12, **params}
    return ShapleyAttributor(model, **params).fit(*of(data, classify), groups=groups)


def of(data, classify=True):
    if classify:
        return data.X, data.classes, data.X_val, data.classes_val
    return data.X, data.y, data.X_val, data.y_val


def assert_same(one, other):
    for name in ("values_", "std_error_", "n_iter_", "semivalues_"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


# --- exact values --------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "utility"), GAMES)
def test_exact_values_equal_enumerated_refits(name, utility):
    family = FAMILIES[name](N)
    worth = {}
    for k in range(N + 1):
        worth |= {S: family.utility(utility)(S) for S in combinations(range(N), k)}
    shapley = ShapleyAttributor(
        family.estimator, utility=utility, sampler="exact", semivalues=SEMIVALUES
    ).fit(*family.data)
    expected = [oracle.semivalues(worth.__getitem__, N, one) for one in SEMIVALUES]
    np.testing.assert_allclose(shapley.semivalues_, family.every(np.array(expected)), atol=ATOL)
    assert not shapley.std_error_.any()
    assert shapley.stopped_ == "exact"
    assert shapley.utility_empty_ == pytest.approx(worth[()], abs=ATOL)
    assert shapley.utility_full_ == pytest.approx(worth[tuple(range(N))], abs=ATOL)
    assert shapley.efficiency_gap_ == pytest.approx(0.0, abs=ATOL)


def test_exact_values_are_of_a_function_of_targets_and_outputs():
    family = FAMILIES["ridge_outputs"](N)

    def worst(y, f):
        return -np.abs(y - f).max()

    shapley = ShapleyAttributor(family.estimator, utility=worst, sampler="exact")
    expected = oracle.semivalues(lambda S: worst(family.y_val, family.outputs(list(S))), N)
    np.testing.assert_allclose(shapley.fit(*family.data).values_, expected, atol=ATOL)


def test_exact_values_of_groups_equal_enumerated_refits(data):
    groups = np.array([*"zyxwzyxwzyxwzyxw"])
    shapley = fitted(data, groups=groups, sampler="exact")
    model = FAMILIES["three_classes"](16)
    assert shapley.groups_.tolist() == ["w", "x", "y", "z"]

    def utility(S):
        rows = np.flatnonzero(np.isin(groups, shapley.groups_[list(S)]))
        outputs = model.outputs(rows)  # at the first 6 rows judged
        return oracle.brier(oracle.one_hot(model.y_val, ["a", "b", "c"]), (1 + outputs) / 2)

    shapley.fit(model.X, model.y, model.X_val, model.y_val, groups)
    np.testing.assert_allclose(shapley.values_, oracle.semivalues(utility, 4), atol=ATOL)


@pytest.mark.parametrize("how", ["rows", "groups"])
def test_exact_refuses_many_players(data, how):
    X, y = np.tile(data.X, (3, 1)), np.tile(data.y, 3)
    groups = None if how == "rows" else np.arange(48) % 17
    shapley = ShapleyAttributor(data.ridge, sampler="exact")
    with pytest.raises(ValueError, match=r"'exact' for (48|17) players, .* at most 16 players"):
        shapley.fit(X, y, data.X_val, data.y_val, groups)


def test_evidence_of_all_rows_is_the_log_marginal_likelihood(data):
    model = NTKGaussianProcessRegressor(KERNEL, max_evaluations=2)
    shapley = ShapleyAttributor(model, n_iter=10).fit(data.X, data.y)
    found = shapley.estimator_.log_marginal_likelihood_value_
    assert shapley.utility_full_ == pytest.approx(found, rel=1e-9)
    assert shapley.utility_empty_ == 0.0


# --- sampled values ------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", ["permutation", "antithetic", "stratified"])
@pytest.mark.parametrize("utility", ["brier", "accuracy", "evidence"])
def test_sampled_values_are_near_exact_ones(sampler, utility):
    family = FAMILIES["three_classes"](N)
    values = [
        ShapleyAttributor(
            family.estimator, utility=utility, sampler=kind, n_iter=25, tol=0, random_state=1
        ).fit(*family.data)
        for kind in (sampler, "exact")
    ]
    error = np.abs(values[0].values_ - values[1].values_)
    assert (error < 4.5 * values[0].std_error_ + 1e-12).all()
    assert values[0].efficiency_gap_ == pytest.approx(0.0, abs=1e-12)


def test_default_without_validation_rows_is_evidence(data):
    shapley = ShapleyAttributor(data.ridge, n_iter=5, random_state=0).fit(data.X, data.y)
    other = clone(shapley).set_params(utility="evidence").fit(*of(data, classify=False))
    np.testing.assert_array_equal(shapley.values_, other.values_)


@pytest.mark.parametrize("classify", [True, False])
def test_default_with_validation_rows_is_quadratic(data, classify):
    name = "brier" if classify else "mse"
    found = fitted(data, classify=classify)
    other = fitted(data, classify=classify, utility=name)
    np.testing.assert_array_equal(found.values_, other.values_)


def test_rows_of_weight_zero_are_worth_nothing(data):
    w = np.where(np.arange(16) % 4 == 1, 0.0, data.weights)
    model = FrozenEstimator(data.ridge.fit(data.X, data.y, w))
    shapley = ShapleyAttributor(model, n_iter=5).fit(*of(data, classify=False))
    assert (shapley.values_ == 0).tolist() == (w == 0).tolist()


def test_folds_judge_the_rows_outside_them(data):
    shapley = ShapleyAttributor(data.classifier, utility="accuracy", n_iter=20, **QUICK).fit(
        data.X, data.classes
    )
    assert np.isfinite(shapley.values_).all()
    assert (shapley.std_error_ > 0).all()
    # Every row plays in four of five folds.
    gain = shapley.utility_full_ - shapley.utility_empty_
    assert shapley.values_.sum() == pytest.approx(1.25 * gain, abs=0.1)


def test_folds_of_two_rows_are_two(data):
    shapley = ShapleyAttributor(data.ridge, utility="mse", n_iter=3)
    assert shapley.fit(data.X[:2], data.y[:2]).values_.shape == (2,)
    with pytest.raises(ValueError, match=r"n_samples=1 row; values without .* need at least 2"):
        shapley.fit(data.X[:1], data.y[:1])


@pytest.mark.parametrize("sampler", ["permutation", "antithetic", "stratified", "exact"])
@pytest.mark.parametrize("first", ["shapley", "banzhaf"])
def test_values_of_test_rows_have_values_as_mean(data, sampler, first):
    X, y = data.X[:9], data.y[:9]
    shapley = ShapleyAttributor(
        data.ridge, sampler=sampler, semivalues=(first,), n_iter=5, tol=0, random_state=0
    ).fit(X, y, data.X_val, data.y_val)
    each = shapley.attribute(data.X_val, data.y_val)
    assert each.shape == (10, 9)
    np.testing.assert_allclose(each.mean(axis=0), shapley.values_, atol=1e-10)
    if sampler != "stratified":  # where sizes are drawn by what rows to judge cost
        some = shapley.attribute(data.X_val[3:5], data.y_val[3:5])
        np.testing.assert_allclose(some, each[3:5], atol=1e-10)


def test_values_of_test_rows_by_groups_have_values_as_mean(data):
    for sampler in ("auto", "permutation"):
        shapley = fitted(data, groups=np.arange(16) % 3, sampler=sampler)
        each = shapley.attribute(data.X_val, data.classes_val)
        np.testing.assert_allclose(each.mean(axis=0), shapley.values_, atol=1e-10)


# --- seeds, threads, stopping --------------------------------------------------------------------


@pytest.mark.parametrize("sampler", ["permutation", "antithetic", "stratified"])
@pytest.mark.parametrize("tol", [0, 0.6])
def test_values_do_not_depend_on_jobs(data, sampler, tol):
    one, three = (
        fitted(data, sampler=sampler, n_jobs=jobs, tol=tol, n_iter=300 if tol else 5)
        for jobs in (None, 3)
    )
    assert_same(one, three)
    assert one.stopped_ == three.stopped_ == ("tol" if tol else "n_iter")


def test_values_depend_on_random_state(data):
    assert_same(fitted(data), fitted(data))
    assert_same(fitted(data), fitted(data, random_state=np.int64(0)))
    assert np.abs(fitted(data).values_ - fitted(data, random_state=1).values_).max() > 0


def test_random_state_object_advances(data):
    one, two = (np.random.RandomState(3) for _ in range(2))
    first, second = (fitted(data, random_state=one) for _ in range(2))
    assert_same(first, fitted(data, random_state=two))
    assert np.abs(first.values_ - second.values_).max() > 0


@pytest.mark.parametrize("state", [None, 0])
def test_fit_leaves_global_generators(data, state):
    torch_before, numpy_before = torch.get_rng_state(), np.random.get_state()  # noqa: NPY002
    fitted(data, random_state=state).attribute(data.X_val, data.classes_val)
    assert torch.equal(torch.get_rng_state(), torch_before)
    after = np.random.get_state()  # noqa: NPY002
    assert all(np.array_equal(a, b) for a, b in zip(after, numpy_before, strict=True))


def test_tolerance_stops_at_the_first_estimate_that_is_enough(data):
    shapley = fitted(data, tol=0.6, n_iter=500)
    assert shapley.stopped_ == "tol"
    assert shapley.std_error_.max() <= 0.6 * shapley.values_.std()
    before = fitted(data, tol=0, n_iter=shapley.n_iter_ - 1)
    assert shapley.n_iter_ == 8 or before.std_error_.max() > 0.6 * before.values_.std()


def test_time_stops_a_run(data):
    shapley = fitted(data, max_time=1e-9, n_iter=10**6)
    assert (shapley.stopped_, shapley.n_iter_) == ("max_time", 1)
    assert np.isinf(shapley.std_error_).all()


def test_progress_goes_to_stderr(data, capsys):
    fitted(data)
    assert capsys.readouterr() == ("", "")
    fitted(data, verbose=1)
    out, err = capsys.readouterr()
    assert out == ""
    assert "estimates" in err


# --- runs that go on -----------------------------------------------------------------------------


@pytest.mark.parametrize("state", [0, None], ids=["seed", "drawn"])
@pytest.mark.parametrize("sampler", ["permutation", "stratified"])
def test_warm_start_continues_as_one_run(data, sampler, state):
    shapley = fitted(data, sampler=sampler, warm_start=True, n_iter=5, random_state=state)
    seed = shapley._seed
    shapley.set_params(n_iter=12).fit(*of(data))
    assert_same(shapley, fitted(data, sampler=sampler, random_state=seed))


def test_warm_start_takes_no_more_than_n_iter(data):
    shapley = fitted(data, warm_start=True)
    before = shapley.values_.copy()
    assert shapley.fit(*of(data)).n_iter_ == 12
    np.testing.assert_array_equal(shapley.values_, before)


def test_fit_starts_anew_without_warm_start(data):
    shapley = fitted(data)
    shapley.fit(*of(data))
    assert_same(shapley, fitted(data))


def test_partial_fit_continues_as_one_run(data):
    shapley = ShapleyAttributor(data.classifier, n_iter=4, **QUICK)
    for _ in range(3):
        shapley.partial_fit(*of(data))
    assert_same(shapley, fitted(data))


def test_partial_fit_continues_after_a_pickle(data):
    shapley = pickle.loads(pickle.dumps(fitted(data, n_iter=5)))
    shapley.set_params(n_iter=7).partial_fit(*of(data))
    assert_same(shapley, fitted(data))


def test_partial_fit_continues_folds(data):
    params = {"utility": "accuracy", **QUICK}
    shapley = ShapleyAttributor(data.classifier, n_iter=3, **params)
    for _ in range(2):
        shapley.partial_fit(data.X, data.classes)
    whole = ShapleyAttributor(data.classifier, n_iter=6, **params).fit(data.X, data.classes)
    assert_same(shapley, whole)


CHANGES = {
    "random_state": {"random_state": 7},
    "sampler": {"sampler": "antithetic"},
    "utility": {"utility": "accuracy"},
    "semivalues": {"semivalues": ("banzhaf",)},
    "estimator": {"estimator": NTKRidgeClassifier(KERNEL, alpha=3.0)},
    "intercept": {"estimator": NTKRidgeClassifier(KERNEL, alpha=0.4, fit_intercept=False)},
}


@pytest.mark.parametrize("change", CHANGES)
def test_run_starts_anew_when_settings_change(data, change):
    shapley = fitted(data, warm_start=True).set_params(**CHANGES[change]).fit(*of(data))
    params = {**CHANGES[change]}
    other = ShapleyAttributor(
        params.pop("estimator", data.classifier),
        **{**QUICK, "n_iter": 12, **params},
    )
    assert_same(shapley, other.fit(*of(data)))


def test_run_starts_anew_when_the_intercept_of_centred_targets_goes(data):
    X, y = np.vstack([data.X, data.X[:, ::-1]]), np.array([1.0, -1.0]).repeat(16)
    shapley = ShapleyAttributor(NTKRidge(KERNEL), n_iter=5, warm_start=True, **QUICK).fit(
        X, y, data.X_val, data.y_val
    )
    shapley.set_params(estimator__fit_intercept=False).fit(X, y, data.X_val, data.y_val)
    other = clone(shapley).fit(X, y, data.X_val, data.y_val)
    assert_same(shapley, other)


@pytest.mark.parametrize("part", ["X", "y", "X_val", "y_val", "shifted"])
def test_run_starts_anew_when_data_change(data, part):
    X, y, X_val, y_val = of(data, classify=False)
    y = np.round(y)
    shapley = ShapleyAttributor(data.ridge, n_iter=5, warm_start=True, **QUICK)
    shapley.fit(X, y, X_val, y_val)
    changed = {
        "X": (X[::-1], y, X_val, y_val),
        "y": (X, y[::-1], X_val, y_val),
        "X_val": (X, y, X_val[::-1], y_val),
        "y_val": (X, y, X_val, y_val[::-1]),
        "shifted": (X, y + 16.0, X_val, y_val),  # the same targets relative to their mean
    }[part]
    assert_same(shapley.fit(*changed), clone(shapley).fit(*changed))


def test_run_starts_anew_when_groups_change(data):
    # The same rows in the same order, cut elsewhere.
    one, two = (np.repeat([0, 1, 2], counts) for counts in ([4, 4, 8], [8, 4, 4]))
    shapley = fitted(data, groups=one, warm_start=True)
    assert_same(shapley.fit(*of(data), groups=two), fitted(data, groups=two))


def test_run_starts_anew_when_the_function_changes(data):
    def one(y, f):
        return float(f[y == "a"].sum())

    def two(y, f):
        return float(f[y == "b"].sum())

    two.__qualname__ = one.__qualname__
    shapley = fitted(data, utility=one, warm_start=True).set_params(utility=two).fit(*of(data))
    assert_same(shapley, fitted(data, utility=two))


# --- checkpoints ---------------------------------------------------------------------------------


def test_checkpoint_continues_as_one_run(data, tmp_path):
    file = tmp_path / "run.npz"
    fitted(data, n_iter=5, checkpoint=str(file))
    assert_same(fitted(data, checkpoint=file), fitted(data))
    assert [path.name for path in tmp_path.iterdir()] == ["run.npz"]


def test_checkpoint_survives_a_kill(data, tmp_path, monkeypatch):
    file, estimates, taken = tmp_path / "run.npz", _samplers.Permutations.estimates, []

    def killed(self, numbers):
        taken.append(1)
        if len(taken) > 7:
            raise KeyboardInterrupt
        return estimates(self, numbers)

    with monkeypatch.context() as patch:
        patch.setattr(_runs, "_SAVE_SECONDS", 0.0)
        patch.setattr(_samplers.Permutations, "estimates", killed)
        with pytest.raises(KeyboardInterrupt):
            fitted(data, checkpoint=file)
    with np.load(file) as stored:
        assert int(stored["count"]) == 7
    assert_same(fitted(data, checkpoint=file), fitted(data))


def test_checkpoints_of_folds_continue_as_one_run(data, tmp_path):
    params = {"utility": "brier", **QUICK}
    file = tmp_path / "run.npz"
    for n_iter in (3, 6):
        shapley = ShapleyAttributor(data.classifier, n_iter=n_iter, checkpoint=file, **params)
        shapley.fit(data.X, data.classes)
    whole = ShapleyAttributor(data.classifier, n_iter=6, **params).fit(data.X, data.classes)
    assert_same(shapley, whole)
    assert len(list(tmp_path.iterdir())) == 5


@pytest.mark.parametrize("change", ["data", "seed", "groups"])
def test_checkpoint_of_another_run_is_refused_and_left(data, tmp_path, change):
    file = tmp_path / "run.npz"
    fitted(data, checkpoint=file)
    before = file.read_bytes()
    params = {"seed": {"random_state": 1}, "groups": {"groups": np.arange(16) % 4}}.get(change, {})
    if change == "data":
        data.X = data.X[::-1]
    with pytest.raises(ValueError, match="a run of other data or settings"):
        fitted(data, checkpoint=file, **params)
    assert file.read_bytes() == before


GARBAGE = {
    "text": b"no checkpoint",
    "empty": b"",
    "cut": b"PK\x03\x04 and nothing more",
    "pickle": pickle.dumps({"key": 1}),
}


@pytest.mark.parametrize("kind", [*GARBAGE, "array", "other"])
def test_checkpoint_that_is_none_is_refused_and_left(data, tmp_path, kind):
    file = tmp_path / "run.npz"
    if kind == "array":
        with file.open("wb") as stream:
            np.save(stream, np.ones(3))
    elif kind == "other":
        np.savez(file, weights=np.ones(3))
    else:
        file.write_bytes(GARBAGE[kind])
    before = file.read_bytes()
    with pytest.raises(ValueError, match="which is no checkpoint of a run"):
        fitted(data, checkpoint=file)
    assert file.read_bytes() == before


def test_checkpoint_in_no_folder_is_refused_before_the_run(data, tmp_path, monkeypatch):
    monkeypatch.setattr(_samplers.Permutations, "estimates", None)  # never reached
    with pytest.raises(ValueError, match="in a folder that does not exist"):
        fitted(data, checkpoint=tmp_path / "none" / "run.npz")


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", ["permutation", "stratified", "exact"])
def test_utility_that_is_no_number_names_the_size_of_the_coalition(data, sampler):
    def broken(y, f):
        return float("nan") if np.allclose(f, f[0]) else 1.0  # of no rows

    with pytest.raises(ValueError, match="utility of a coalition of 0 rows is not a finite number"):
        fitted(data, sampler=sampler, utility=broken, groups=np.arange(16) % 5 if
               sampler == "exact" else None)  # fmt: skip


def test_unseen_labels_are_refused(data):
    X, y, X_val, y_val = of(data)
    with pytest.raises(ValueError, match=r"labels \['q'\], which are not in training"):
        ShapleyAttributor(data.classifier).fit(X, y, X_val, np.where(y_val == "a", "q", y_val))


@pytest.mark.parametrize(
    "groups", [np.zeros(16), np.arange(15), np.ones((16, 2))], ids=["one", "short", "columns"]
)
def test_groups_that_do_not_fit_are_refused(data, groups):
    with pytest.raises(ValueError, match=r"`groups` has (one group|shape)"):
        fitted(data, groups=groups)


def test_stratified_groups_are_refused(data):
    with pytest.raises(ValueError, match="'stratified' and `groups` are given"):
        fitted(data, groups=np.arange(16) % 3, sampler="stratified")


def test_groups_without_validation_rows_are_refused(data):
    with pytest.raises(ValueError, match="`groups` are given without validation rows"):
        ShapleyAttributor(data.classifier, utility="brier").fit(
            data.X, data.classes, groups=np.arange(16) % 3
        )


@pytest.mark.parametrize("utility", ["mse", "unknown"])
def test_unknown_utility_is_refused(data, utility):
    with pytest.raises(ValueError, match=f"`utility` is {utility!r} for a classifier; expected"):
        fitted(data, utility=utility)


@pytest.mark.parametrize("semivalues", [("sharpley",), (4, 1), ()], ids=str)
def test_unknown_semivalues_are_refused(data, semivalues):
    with pytest.raises(ValueError, match=r"`semivalues` (has|is empty)"):
        fitted(data, semivalues=semivalues)


def test_one_of_validation_rows_and_targets_is_refused(data):
    X, y, X_val, y_val = of(data)
    with pytest.raises(ValueError, match="`y_val` is None and the other is not"):
        ShapleyAttributor(data.classifier).fit(X, y, X_val)
    with pytest.raises(ValueError, match="`X_val` is None and the other is not"):
        ShapleyAttributor(data.classifier).fit(X, y, None, y_val)


@pytest.mark.parametrize("utility", ["evidence", lambda y, f: 1.0], ids=["evidence", "function"])
def test_values_of_test_rows_need_a_mean_over_them(data, utility):
    shapley = fitted(data, utility=utility)
    with pytest.raises(ValueError, match=r"`utility` is .*"):
        shapley.attribute(data.X_val, data.classes_val)


def test_failing_fit_leaves_the_run_as_it_was(data, monkeypatch):
    shapley = fitted(data, warm_start=True, n_iter=5)
    estimates, taken = _samplers.Permutations.estimates, []

    def killed(self, numbers):
        taken.append(1)
        if len(taken) > 3:
            raise KeyboardInterrupt
        return estimates(self, numbers)

    with monkeypatch.context() as patch:
        patch.setattr(_samplers.Permutations, "estimates", killed)
        with pytest.raises(KeyboardInterrupt):
            shapley.set_params(n_iter=12).fit(*of(data))
    (tally,) = shapley._runs.values()
    assert tally.count == shapley.n_iter_ == 5
    assert_same(shapley.fit(*of(data)), fitted(data))
