import copy
import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_checks as checks

from sknk import (
    NTKGaussianProcessRegressor,
    NTKRidge,
    NTKRidgeClassifier,
    NTKRidgeCV,
)
from sknk.active_learning import BAIT, BatchActiveLearner, Posterior, select_batch
from sknk.active_learning._registry import SELECTORS
from sknk.kernels import NTK, EmpiricalNTK
from tests.cases import rows
from tests.contracts.test_estimator_contract import tensors_in
from tests.modules import AnyWidth, seeded

X = 3.0 * rows(40, d=3) + 1.0
NUMBERS = np.sin(X[:, 0]) + 0.3 * X[:, 1]
CLASSES = np.array(["a", "b", "c"])[np.digitize(NUMBERS, [-0.4, 0.6])]
KNOWN = np.arange(40) % 3 == 0
KERNEL = NTK(depth=1, bias_var=0.1)
GP = {"optimizer": None, "noise_variance": 0.1, "amplitude": 2.0}
LEARNERS = {
    "ridge": NTKRidge(KERNEL, alpha=0.1),
    "cv": NTKRidgeCV(KERNEL, alphas=[0.01, 0.1, 1.0], param_grid={}),
    "gp": NTKGaussianProcessRegressor(KERNEL, **GP),
    "pipeline": make_pipeline(StandardScaler(), NTKRidge(KERNEL, alpha=0.1)),
    "classes": NTKRidgeClassifier(KERNEL, alpha=0.1),
}
EVERY = pytest.mark.parametrize("name", LEARNERS)


def labels(name):
    return CLASSES.astype(object) if name == "classes" else NUMBERS


def partly(name, known=KNOWN):
    """Labels of some rows, nan elsewhere."""
    y = labels(name).copy()
    y[~known] = np.nan
    return y


def learner(name, **options):
    options = {"batch_size": 5, "random_state": 0} | options
    return BatchActiveLearner(LEARNERS[name], **options).fit(X, partly(name))


# --- scikit-learn's checks -----------------------------------------------------------------------


@checks.parametrize_with_checks(
    [
        BatchActiveLearner(NTKRidge()),
        BatchActiveLearner(make_pipeline(StandardScaler(), NTKRidge())),
    ]
)
def test_learner_passes_sklearn_check(estimator, check):
    check(estimator)


@pytest.mark.parametrize(
    "check", [checks.check_dataframe_column_names_consistency, checks.check_param_validation]
)
def test_learner_passes_sklearn_check_for_third_parties(check):
    check("BatchActiveLearner", BatchActiveLearner(NTKRidge()))


# --- queries -------------------------------------------------------------------------------------


@EVERY
def test_query_is_of_rows_without_labels(name):
    found = learner(name).query()
    assert len(np.unique(found)) == 5
    assert not KNOWN[found].any()


def test_query_of_a_ridge_is_bait_on_its_kernel():
    expected = select_batch(
        X[~KNOWN], method="bait", batch_size=5, kernel=KERNEL, X_train=X[KNOWN], noise_variance=0.1
    )
    np.testing.assert_array_equal(learner("ridge").query(), np.flatnonzero(~KNOWN)[expected])


def test_query_of_a_process_has_its_noise_over_its_amplitude():
    expected = select_batch(
        X[~KNOWN], method="bait", batch_size=5, kernel=KERNEL, X_train=X[KNOWN], noise_variance=0.05
    )
    np.testing.assert_array_equal(learner("gp").query(), np.flatnonzero(~KNOWN)[expected])


def test_query_of_a_pipeline_compares_transformed_rows():
    Z = StandardScaler().fit(X[KNOWN]).transform(X)
    expected = select_batch(
        Z[~KNOWN], method="bait", batch_size=5, kernel=KERNEL, X_train=Z[KNOWN], noise_variance=0.1
    )
    np.testing.assert_array_equal(learner("pipeline").query(), np.flatnonzero(~KNOWN)[expected])


def test_query_of_other_rows_counts_those():
    pool = 3.0 * rows(20, d=3, seed=5)
    expected = select_batch(
        pool, method="bait", batch_size=5, kernel=KERNEL, X_train=X[KNOWN], noise_variance=0.1
    )
    np.testing.assert_array_equal(learner("ridge").query(pool), expected)
    few = learner("ridge").query(pool, candidates=[3, 7, 9, 1], batch_size=2)
    assert set(few) <= {3, 7, 9, 1}


class Net:
    """Stands for a skorch net: regressor, module in ``module_``."""

    def __init__(self, module=None):
        self.module = module

    def get_params(self, deep=True):
        return {"module": self.module}

    def set_params(self, **params):
        self.module = params["module"]
        return self

    def fit(self, X, y):
        self.module_ = seeded(lambda: AnyWidth(16, 1))
        return self

    def predict(self, X):
        return np.zeros(len(X))


def test_query_of_a_network_is_lcmd_on_its_sketched_gradients():
    found = BatchActiveLearner(Net(), batch_size=5, random_state=3).fit(X, partly("ridge")).query()
    kernel = EmpiricalNTK(
        seeded(lambda: AnyWidth(16, 1)), projection=512, sketch="gaussian", random_state=3
    )
    expected = select_batch(X[~KNOWN], method="lcmd", batch_size=5, kernel=kernel, X_train=X[KNOWN])
    np.testing.assert_array_equal(found, np.flatnonzero(~KNOWN)[expected])


def test_query_of_another_estimator_needs_a_kernel():
    model = BatchActiveLearner(Ridge(), kernel=KERNEL, batch_size=5).fit(X, partly("ridge"))
    expected = select_batch(X[~KNOWN], method="lcmd", batch_size=5, kernel=KERNEL, X_train=X[KNOWN])
    np.testing.assert_array_equal(model.query(), np.flatnonzero(~KNOWN)[expected])
    model = BatchActiveLearner(Ridge()).fit(X, partly("ridge"))
    with pytest.raises(TypeError, match="`estimator` is Ridge, which has no kernel"):
        model.query()


@pytest.mark.parametrize("selector", SELECTORS)
def test_utilities_are_largest_where_chosen(selector):
    model = learner("ridge", selector=selector)
    found, utilities = model.query(return_utilities=True)
    assert utilities.shape == (5, 40)
    assert np.isnan(utilities[:, KNOWN]).all()
    for step, (row, line) in enumerate(zip(found, utilities, strict=True)):
        assert np.isnan(line[found[:step]]).all()
        assert np.isfinite(line[row])
        if selector in ("maxdiag", "maxdet", "bait", "frank-wolfe", "maxdist"):
            assert line[row] == pytest.approx(np.nanmax(line), rel=1e-9)
    np.testing.assert_array_equal(found, model.query())


def test_query_follows_the_seed_and_the_number_of_labels():
    model = learner("ridge", selector="random")
    first = model.query()
    np.testing.assert_array_equal(model.query(), first)
    assert (learner("ridge", selector="random", random_state=1).query() != first).any()
    model.teach(first, NUMBERS[first])
    assert not set(model.query()) & set(first)


def test_query_applies_transforms():
    plain = learner("ridge", selector="lcmd").query()
    given = learner("ridge", selector="lcmd", transforms=[Posterior()])
    np.testing.assert_array_equal(
        given.query(), learner("ridge", selector="lcmd", mode="P").query()
    )
    assert (given.query() != plain).any()


@EVERY
def test_cold_start_chooses_without_any_label(name):
    model = clone(learner(name)).fit(X, partly(name, np.zeros(40, dtype=bool)))
    assert model.estimator_ is None
    found = model.query(batch_size=12)
    assert len(np.unique(found)) == 12
    with pytest.raises(ValueError, match="No row has a label yet"):
        model.predict(X)
    model.teach(found, labels(name)[found])
    assert model.predict(X).shape == (40,)


# --- lessons -------------------------------------------------------------------------------------


@EVERY
def test_teaching_equals_fitting_to_all_labels(name):
    model = learner(name)
    # A tuned ridge is kept; a pipeline keeps what it learned of the rows it was fitted to.
    frozen = {"cv": NTKRidge(KERNEL, alpha=getattr(model.estimator_, "alpha_", 1.0))}
    if name == "pipeline":
        scaler = FrozenEstimator(StandardScaler().fit(X[KNOWN]))
        frozen = {name: make_pipeline(scaler, NTKRidge(KERNEL, alpha=0.1))}
    for _ in range(2):
        found = model.query()
        model.teach(found, labels(name)[found])
    taught = model.is_labelled_
    assert taught.sum() == KNOWN.sum() + 10
    refit = clone(frozen.get(name, LEARNERS[name])).fit(X[taught], labels(name)[taught])
    if name == "classes":
        np.testing.assert_allclose(
            model.estimator_.predict_proba(X), refit.predict_proba(X), atol=1e-9
        )
    else:
        np.testing.assert_allclose(model.predict(X), refit.predict(X), atol=1e-9)
        assert model.score(X, NUMBERS) == pytest.approx(refit.score(X, NUMBERS))


def test_teaching_appends_and_does_not_fit_again(monkeypatch):
    model = learner("ridge")
    monkeypatch.setattr(NTKRidge, "fit", None)
    model.teach([1, 2], NUMBERS[[1, 2]])
    assert len(model.estimator_.dual_coef_) == KNOWN.sum() + 2


def test_a_class_that_comes_late_is_learned():
    late = np.flatnonzero(CLASSES == "c")[0]
    known = KNOWN & (CLASSES != "c")
    model = clone(learner("classes")).fit(X, partly("classes", known))
    assert model.estimator_.classes_.tolist() == ["a", "b"]
    assert model.teach([late], ["c"]).estimator_.classes_.tolist() == ["a", "b", "c"]


def test_estimators_without_a_factor_are_fitted_again():
    y = np.where(KNOWN, (NUMBERS > 0).astype(float), np.nan)
    model = BatchActiveLearner(LogisticRegression(), kernel=KERNEL, missing_label=np.nan).fit(X, y)
    found = model.query(batch_size=4)
    model.teach(found, (NUMBERS[found] > 0).astype(float))
    assert model.is_labelled_.sum() == KNOWN.sum() + 4
    assert model.score(X, NUMBERS > 0) > 0.6


@pytest.mark.parametrize("missing", [None, "?", -1], ids=["none", "text", "number"])
def test_missing_label_is_any_value(missing):
    y = CLASSES.astype(object) if missing != -1 else (NUMBERS > 0).astype(int)
    y = np.where(KNOWN, y, missing)
    model = BatchActiveLearner(LEARNERS["classes"], missing_label=missing).fit(X, y)
    np.testing.assert_array_equal(model.is_labelled_, KNOWN)


# --- state ---------------------------------------------------------------------------------------


@EVERY
def test_learner_survives_copies_without_tensors(name):
    model = learner(name)
    found = model.query()
    model.teach(found, labels(name)[found])
    assert not list(tensors_in(model.__getstate__()))
    for other in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        np.testing.assert_array_equal(other.query(), model.query())
    with pytest.raises(NotFittedError):
        clone(model).query()


def test_failing_lesson_changes_nothing():
    model = learner("ridge")
    before = dict(vars(model))
    with pytest.raises(ValueError, match=r"`y` has no label for row 2"):
        model.teach([1, 2], [0.0, np.nan])
    with pytest.raises(ValueError, match="row 0, which has a label"):
        model.teach([1, 0], [0.0, 1.0])
    with pytest.raises(ValueError, match="expected distinct numbers of rows"):
        model.teach([1, 1], [0.0, 1.0])
    with pytest.raises(ValueError, match="has row 40"):
        model.teach([40], [0.0])
    with pytest.raises(ValueError, match="`y` is inf for a row"):
        model.teach([1], [np.inf])
    assert vars(model).keys() == before.keys()
    assert all(vars(model)[key] is value for key, value in before.items())


def test_global_generators_are_left_alone():
    torch_before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    learner("ridge", selector="kmeans++", random_state=None).query()
    assert torch.equal(torch.get_rng_state(), torch_before)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_before)  # noqa: NPY002


# --- hard input ----------------------------------------------------------------------------------


def test_learner_of_all_labels_has_nothing_to_query():
    model = learner("ridge").fit(X, NUMBERS)
    with pytest.raises(ValueError, match="All 40 rows have labels"):
        model.query()
    assert len(model.query(X[:10] + 1.0, batch_size=2)) == 2


def test_candidates_with_labels_are_refused():
    with pytest.raises(ValueError, match="`candidates` has row 3, which has a label"):
        learner("ridge").query(candidates=[1, 2, 3])


def test_batch_is_clipped():
    with pytest.warns(UserWarning, match="`batch_size` is 9 and there are 3 candidates"):
        assert sorted(learner("ridge").query(candidates=[1, 2, 4], batch_size=9)) == [1, 2, 4]


def test_unknown_selector_is_refused_in_fit():
    with pytest.raises(ValueError, match="`method` is 'best'; expected one of 'random'"):
        learner("ridge", selector="best")
    assert len(learner("ridge", selector=BAIT(overselect=2.0)).query()) == 5


def test_rows_that_are_not_finite_are_refused():
    broken = X.copy()
    broken[1, 1] = np.nan
    model = learner("ridge").fit(broken, partly("ridge"))
    with pytest.raises(ValueError, match="NaN"):
        model.query()


@pytest.mark.gpu
@EVERY
def test_learner_on_gpu_agrees_with_cpu(name, cuda):
    expected = learner(name).query()
    np.testing.assert_array_equal(learner(name, device=str(cuda)).query(), expected)


# --- what a review found -------------------------------------------------------------------------


def test_default_estimator_follows_the_dtype_of_labels():
    whole = np.where(KNOWN, np.round(10.0 * NUMBERS), np.nan)
    model = BatchActiveLearner().fit(X, whole)
    assert type(model.estimator_) is NTKRidge
    classes = np.where(KNOWN, (NUMBERS > 0).astype(int), -1)
    model = BatchActiveLearner(missing_label=-1).fit(X, classes)
    assert type(model.estimator_) is NTKRidgeClassifier
    mixed = np.where(KNOWN, NUMBERS, None)
    assert type(BatchActiveLearner(missing_label=None).fit(X, mixed).estimator_) is NTKRidge


def test_teaching_repeated_rows_calibrates_as_a_refit():
    grid = np.round(X / 2.0)
    classes = (grid[:, 0] > grid[:, 1]).astype(float)
    first = np.arange(40) < 20
    model = BatchActiveLearner(NTKRidgeClassifier(KERNEL, alpha=0.1))
    model.fit(grid, np.where(first, classes, np.nan)).teach(np.flatnonzero(~first), classes[~first])
    refit = NTKRidgeClassifier(KERNEL, alpha=0.1).fit(grid, classes)
    found = model.estimator_.decision_function(grid)
    np.testing.assert_allclose(found, refit.decision_function(grid), atol=1e-9)
    assert model.estimator_._training.unit is not None


@pytest.mark.parametrize("batch_size", [-1, 0, 2.5])
def test_batch_that_is_no_number_of_rows_is_refused(batch_size):
    with pytest.raises(ValueError, match=r"`batch_size` is .*expected a whole number"):
        learner("ridge").query(batch_size=batch_size)


def test_other_rows_have_the_columns_of_fit():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=list("abc"))
    model = BatchActiveLearner(LEARNERS["ridge"], batch_size=3).fit(frame, partly("ridge"))
    with pytest.raises(ValueError, match="feature names"):
        model.query(frame[["c", "b", "a"]])
    with pytest.raises(ValueError, match="2 features"):
        learner("ridge").query(X[:, :2])


def test_cold_start_of_a_pipeline_of_one_step():
    model = BatchActiveLearner(make_pipeline(NTKRidge(KERNEL)), batch_size=3)
    assert len(model.fit(X, np.full(40, np.nan)).query()) == 3


def test_labels_of_text_keep_numbers_that_are_missing():
    model = BatchActiveLearner(LEARNERS["classes"], batch_size=4).fit(X, np.full(40, np.nan))
    model.teach([1, 2, 3], ["cat", "dog", "cat"])
    assert np.isnan(model.y_fit_[0])
    np.testing.assert_array_equal(model.estimator_.classes_, ["cat", "dog"])
