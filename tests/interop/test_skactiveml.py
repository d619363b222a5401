"""to_skactiveml: choices of select_batch, conventions of scikit-activeml, and its cycle."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.ensemble import RandomForestRegressor
from sklearn.exceptions import NotFittedError
from sklearn.gaussian_process.kernels import RBF
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sknk import NTKGaussianProcessClassifier, NTKRidge, NTKRidgeClassifier
from sknk.active_learning import BAIT, BatchActiveLearner, Posterior, Rescale, select_batch
from sknk.active_learning._registry import NAMED, SELECTORS
from sknk.interop import to_skactiveml
from sknk.kernels import NTK
from tests.cases import rows

pytest.importorskip("skactiveml", reason="needs the extra `activeml`")
from skactiveml.base import SingleAnnotatorPoolQueryStrategy
from skactiveml.classifier import ParzenWindowClassifier, SklearnClassifier
from skactiveml.pool import CoreSet, GreedySamplingX, SubSamplingWrapper
from skactiveml.regressor import NICKernelRegressor, SklearnRegressor
from skactiveml.utils import call_func, check_random_state

X = rows(50, d=4)
NUMBERS = np.sin(2.0 * X[:, 0]) + 0.5 * X[:, 1]
KNOWN = np.arange(0, 50, 5)
OPEN = np.setdiff1d(np.arange(50), KNOWN)
Y = np.where(np.isin(np.arange(50), KNOWN), NUMBERS, np.nan)
NONE = np.full(50, np.nan)
REG = SklearnRegressor(NTKRidge(NTK(depth=1, bias_var=0.1), alpha=0.2))
BEHIND = SklearnRegressor(make_pipeline(StandardScaler(), NTKRidge(alpha=0.2)))
LARGEST = ("maxdiag", "maxdet", "bait", "frank-wolfe", "maxdist")  # choose the largest utility
SIZE = 6


def seeded(n_open, seed=0):
    """What scikit-activeml draws from: of a number the same for as many rows without a label."""
    return check_random_state(seed, n_open + 1)


def asked(strategy, y=Y, **options):
    return strategy.query(X, y, **{"batch_size": SIZE} | options)


# --- the choice of select_batch ----------------------------------------------------------------


@pytest.mark.parametrize("kernel", [None, NTK(depth=1)], ids=["features", "ntk"])
@pytest.mark.parametrize("name", SELECTORS)
def test_query_chooses_as_select_batch(name, kernel):
    settings = {"kernel": kernel, "noise_variance": 0.1}
    found = asked(to_skactiveml(name, random_state=0, **settings))
    wanted = select_batch(
        X[OPEN],
        method=name,
        batch_size=SIZE,
        X_train=X[KNOWN],
        random_state=seeded(len(OPEN)),
        **settings,
    )
    np.testing.assert_array_equal(found, OPEN[wanted])


@pytest.mark.parametrize("name", SELECTORS)
def test_query_without_labels_chooses_as_select_batch(name):
    found = asked(to_skactiveml(name, random_state=0), NONE)
    wanted = select_batch(X, method=name, batch_size=SIZE, random_state=seeded(50))
    np.testing.assert_array_equal(found, wanted)


def test_query_passes_mode_transforms_and_dtype():
    settings = {"mode": "P", "transforms": (Rescale(), Posterior()), "noise_variance": 0.1}
    settings |= {"dtype": "float32", "kernel": NTK()}
    found = asked(to_skactiveml("lcmd", **settings))
    settings |= {"method": "lcmd", "X_train": X[KNOWN]}
    np.testing.assert_array_equal(found, OPEN[select_batch(X[OPEN], batch_size=SIZE, **settings)])


@pytest.mark.parametrize("peer", [CoreSet, GreedySamplingX])
def test_maxdist_of_features_is_their_core_set(peer):
    theirs, lines = asked(peer(random_state=0), return_utilities=True)
    found, squares = asked(to_skactiveml("maxdist"), return_utilities=True)
    np.testing.assert_array_equal(found, theirs)
    np.testing.assert_allclose(np.sqrt(squares), lines, rtol=1e-7, atol=1e-12)


def test_small_numbers_stay_in_single_precision():
    found = to_skactiveml("maxdet").query(X.astype(np.float32), Y, batch_size=SIZE)
    np.testing.assert_array_equal(found, asked(to_skactiveml("maxdet")))


# --- candidates, utilities, sizes --------------------------------------------------------------


@pytest.mark.parametrize("name", SELECTORS)
def test_candidates_may_be_numbers_or_rows(name):
    strategy, some = to_skactiveml(name, random_state=0), OPEN[3:25]
    numbered, lines = asked(strategy, candidates=some, return_utilities=True)
    assert np.isin(numbered, some).all()
    assert lines.shape == (SIZE, 50)
    assert np.isnan(np.delete(lines, some, axis=1)).all()
    given, short = asked(strategy, candidates=X[some], return_utilities=True)
    np.testing.assert_array_equal(some[given], numbered)
    np.testing.assert_array_equal(lines[:, some], short)


def test_candidates_may_be_rows_of_another_table():
    others = rows(9, d=4, seed=3)
    found, lines = asked(
        to_skactiveml("bait"), reg=BEHIND, candidates=others, return_utilities=True
    )
    assert lines.shape == (SIZE, 9)
    assert set(found) < set(range(9))


def test_candidates_may_have_labels():
    found = asked(to_skactiveml("maxdet"), candidates=np.arange(50), batch_size=2)
    np.testing.assert_array_equal(found, asked(to_skactiveml("maxdet"), batch_size=2))


@pytest.mark.parametrize("options", [{}, {"reg": REG}], ids=["features", "ridge"])
@pytest.mark.parametrize("name", SELECTORS)
def test_utilities_are_nan_where_no_choice_is_left(name, options):
    strategy = to_skactiveml(name, random_state=0)
    found, lines = asked(strategy, return_utilities=True, **options)
    assert lines.shape == (SIZE, 50)
    for step, line in enumerate(lines):
        gone = np.concatenate([KNOWN, found[:step]])
        np.testing.assert_array_equal(np.flatnonzero(np.isnan(line)), np.sort(gone))
    np.testing.assert_array_equal(asked(strategy, **options), found)
    if name in LARGEST:
        np.testing.assert_array_equal(np.nanargmax(lines, axis=1), found)


def test_batch_is_clipped_to_the_candidates_with_a_warning():
    with pytest.warns(UserWarning, match="larger than number of candidates") as seen:
        found = asked(to_skactiveml("maxdist"), candidates=OPEN[:3])
    assert len(seen) == 1
    assert sorted(found) == OPEN[:3].tolist()


def test_query_follows_the_seed_and_the_number_of_labels():
    strategy = to_skactiveml("random", random_state=0)
    first = asked(strategy)
    np.testing.assert_array_equal(asked(strategy), first)
    assert (asked(to_skactiveml("random", random_state=1)) != first).any()
    one_more = Y.copy()
    one_more[first[-1]] = 0.0
    assert (asked(strategy, one_more) != first).any()


def test_missing_labels_may_be_text():
    y = np.full(50, "nothing")
    y[KNOWN] = np.where(NUMBERS[KNOWN] > 0, "up", "down")
    clf = SklearnClassifier(NTKRidgeClassifier(), classes=["down", "up"], missing_label="nothing")
    strategy = to_skactiveml("bait", missing_label="nothing")
    found, lines = asked(strategy, y, clf=clf, return_utilities=True)
    assert np.isin(found, OPEN).all()
    assert np.isnan(lines[:, KNOWN]).all()


# --- the estimator's kernel --------------------------------------------------------------------


@pytest.mark.parametrize("selector", ["auto", "bait", "lcmd", "maxdet"])
@pytest.mark.parametrize("reg", [REG, BEHIND], ids=["ridge", "pipeline"])
@pytest.mark.parametrize("y", [Y, NONE], ids=["labels", "none"])
def test_rows_are_compared_as_by_the_learner(reg, selector, y):
    found = asked(to_skactiveml(selector), y, reg=reg)
    learner = BatchActiveLearner(clone(reg.estimator), selector, batch_size=SIZE).fit(X, y)
    np.testing.assert_array_equal(found, learner.query())


@pytest.mark.parametrize("name", NAMED)
def test_classifiers_choose_as_the_learner(name):
    y, clf = np.where(np.isnan(Y), np.nan, Y > 0), NTKRidgeClassifier(NTK(depth=1))
    if "draws" in NAMED[name]().needs:
        clf = NTKGaussianProcessClassifier(NTK(depth=1))
    strategy = to_skactiveml(name, random_state=0)
    found, lines = asked(
        strategy, y, clf=SklearnClassifier(clf, classes=[0, 1]), return_utilities=True
    )
    learner = BatchActiveLearner(clf, name, batch_size=SIZE, random_state=seeded(len(OPEN)))
    wanted, theirs = learner.fit(X, y).query(
        X_target=X if name == "vtl" else None, return_utilities=True
    )
    np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(lines, theirs)


def test_classes_without_a_row_are_known():
    y = np.where(np.isnan(Y), np.nan, Y > 0)
    clf = SklearnClassifier(NTKRidgeClassifier(), classes=[0, 1, 2])
    found = asked(to_skactiveml("entropy"), y, clf=clf)
    two = SklearnClassifier(NTKRidgeClassifier(), classes=[0, 1])
    np.testing.assert_array_equal(found, asked(to_skactiveml("entropy"), y, clf=two))


def test_their_own_classifiers_have_probabilities():
    y = np.where(np.isnan(Y), np.nan, Y > 0)
    clf = ParzenWindowClassifier(classes=[0, 1])
    found, lines = asked(to_skactiveml("margin", kernel=NTK()), y, clf=clf, return_utilities=True)
    p = np.sort(clf.fit(X, y).predict_proba(X), axis=1)
    np.testing.assert_allclose(lines[0, OPEN], (1.0 - p[:, 1] + p[:, 0])[OPEN], rtol=1e-12)
    np.testing.assert_array_equal(found, asked(to_skactiveml("margin", kernel=RBF()), y, clf=clf))


def test_predictions_are_judged_at_rows_of_ones_own():
    new = rows(7, d=4, seed=9)
    settings = {"kernel": NTK(), "noise_variance": 0.1}
    found = asked(to_skactiveml("vtl", **settings), X_eval=new)
    settings |= {"method": "vtl", "X_target": new, "X_train": X[KNOWN]}
    np.testing.assert_array_equal(found, OPEN[select_batch(X[OPEN], batch_size=SIZE, **settings)])


def test_kernel_stands_before_the_estimator_and_any_estimator_goes_with_one():
    strategy = to_skactiveml("lcmd", kernel=NTK(depth=2))
    forest, nic = SklearnRegressor(RandomForestRegressor(5)), NICKernelRegressor()
    wanted = asked(strategy)
    for reg in (REG, forest, nic):
        np.testing.assert_array_equal(asked(strategy, reg=reg), wanted)
    np.testing.assert_array_equal(asked(to_skactiveml("auto", kernel=NTK(depth=2))), wanted)


def test_members_of_a_forest_are_a_kernel():
    forest = RandomForestRegressor(20, random_state=0)
    found = asked(to_skactiveml("lcmd", kernel="members"), reg=SklearnRegressor(forest))
    learner = BatchActiveLearner(forest, "lcmd", kernel="members", batch_size=SIZE).fit(X, Y)
    np.testing.assert_array_equal(found, learner.query())


def test_estimator_is_fitted_on_a_copy_or_taken_as_it_is():
    reg, strategy = clone(REG), to_skactiveml("bait")
    wanted = asked(strategy, reg=reg)
    assert not hasattr(reg, "estimator_")
    with pytest.raises(NotFittedError):
        asked(strategy, reg=reg, fit_reg=False)
    reg.fit(X, Y)
    np.testing.assert_array_equal(asked(strategy, reg=reg, fit_reg=False), wanted)
    held = SklearnRegressor(clone(REG.estimator).fit(X[KNOWN], NUMBERS[KNOWN]))
    np.testing.assert_array_equal(asked(strategy, reg=held, fit_reg=False), wanted)


def test_weights_of_rows_reach_the_fit():
    seen = []

    class Spy(NTKRidge):
        """Looks at the weights it is fitted with."""

        def fit(self, X, y, sample_weight=None):
            seen.append(sample_weight)
            return super().fit(X, y, sample_weight)

    weights = np.linspace(1.0, 2.0, 50)
    asked(to_skactiveml("bait"), reg=SklearnRegressor(Spy()), sample_weight=weights)
    np.testing.assert_array_equal(seen, [weights[KNOWN]])


# --- scikit-learn's and scikit-activeml's tools ------------------------------------------------


def test_strategy_clones_pickles_and_has_parameters():
    kernel = NTK(depth=2)
    strategy = to_skactiveml(BAIT(), kernel=kernel, transforms=(Rescale(),), random_state=3)
    assert isinstance(strategy, SingleAnnotatorPoolQueryStrategy)
    assert strategy.get_params()["selector__overselect"] == 1.0
    names = "selector kernel transforms mode noise_variance device dtype missing_label random_state"
    assert set(strategy.get_params(deep=False)) == set(names.split())
    wanted = asked(strategy, reg=REG)
    for copy in (clone(strategy), pickle.loads(pickle.dumps(strategy))):
        np.testing.assert_array_equal(asked(copy, reg=REG), wanted)
    assert clone(strategy).set_params(selector__overselect=2.0).selector.overselect == 2.0
    assert "BAIT()" in repr(strategy)


def test_call_func_passes_the_estimator():
    options = {"X": X, "y": Y, "batch_size": SIZE, "reg": REG, "ensemble": None}
    found = call_func(to_skactiveml("bait").query, **options)
    np.testing.assert_array_equal(found, asked(to_skactiveml("bait"), reg=REG))


def test_strategy_stands_in_a_wrapper():
    wrapper = SubSamplingWrapper(to_skactiveml("lcmd"), max_candidates=20, random_state=0)
    found, lines = asked(wrapper, reg=REG, return_utilities=True)
    assert np.isin(found, OPEN).all()
    assert np.isfinite(lines).sum(axis=1).tolist() == [20 - step for step in range(SIZE)]


@pytest.mark.parametrize("name", ["bait", "lcmd", "random"])
def test_cycle_lowers_the_error(name):
    table, new = rows(150, d=3, seed=5), rows(200, d=3, seed=6)
    truth, wanted = (np.abs(x[:, 0]) + x[:, 1] for x in (table, new))
    reg = SklearnRegressor(NTKRidge(NTK(depth=1, bias_var=0.1), alpha=0.01))
    y, strategy, errors = np.full(150, np.nan), to_skactiveml(name, random_state=0), []
    for _ in range(3):
        found = strategy.query(table, y, reg=reg, batch_size=5)
        y[found] = truth[found]
        errors.append(np.mean((reg.fit(table, y).predict(new) - wanted) ** 2))
    assert np.isfinite(y).sum() == 15
    assert errors[2] < errors[1] < errors[0]


# --- errors ------------------------------------------------------------------------------------


def test_unknown_selectors_fail_at_once():
    with pytest.raises(ValueError, match=r"`method` is 'core-set'; expected one of 'random'"):
        to_skactiveml("core-set")
    with pytest.raises(TypeError, match="expected a Selector"):
        to_skactiveml(3)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"reg": NTKRidge()}, TypeError, r"`reg` is NTKRidge\(\); .*SklearnRegressor"),
        ({"clf": NTKRidgeClassifier()}, TypeError, "`clf` is NTKRidgeClassifier"),
        ({"reg": REG, "clf": ParzenWindowClassifier()}, ValueError, "expected one of the two"),
        ({"reg": NICKernelRegressor()}, TypeError, "no kernel of its own"),
        ({"reg": REG, "fit_reg": "yes"}, TypeError, "fit_reg"),
        ({"reg": SklearnRegressor(NTKRidge(), missing_label=-1)}, ValueError, "must be equal"),
        ({"batch_size": 0}, ValueError, "batch_size"),
        ({"candidates": [0, 99]}, ValueError, "indices"),
    ],
    ids=["ridge", "classifier", "both", "no-kernel", "fit", "missing", "size", "candidates"],
)
def test_wrong_queries_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        asked(to_skactiveml("bait"), **options)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"noise_variance": 0.0}, "'noise_variance' parameter"),
        ({"mode": "T"}, "'mode' parameter"),
        ({"kernel": "members"}, "there is no estimator"),
        ({"mode": "TP"}, "BAIT has P"),
        ({"selector": "margin"}, "Margin was given no class probabilities"),
    ],
    ids=["noise", "mode", "kernel", "mode-of-selector", "no-classifier"],
)
def test_wrong_parameters_are_refused(parameters, message):
    with pytest.raises(ValueError, match=message):
        asked(to_skactiveml(**{"selector": "bait"} | parameters))


def test_table_without_candidates_is_refused():
    with (
        pytest.warns(UserWarning, match="larger than number of candidates"),
        pytest.raises(ValueError, match="All 50 rows have labels"),
    ):
        asked(to_skactiveml("bait"), NUMBERS)


# --- an optional package -----------------------------------------------------------------------


def run(code):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_missing_package_is_named():
    run("""
import sys
sys.modules["skactiveml"] = None
from sknk.interop import to_skactiveml
try:
    to_skactiveml("bait")
except ImportError as error:
    assert "pip install 'sknk[activeml]'" in str(error), error
else:
    raise AssertionError("no error")
""")


def test_package_is_imported_when_used_and_without_warnings():
    run("""
import sys
import sknk.interop
assert "skactiveml" not in sys.modules
sknk.interop.to_skactiveml("bait")
assert "skactiveml" in sys.modules
""")
