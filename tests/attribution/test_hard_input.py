"""What users pass that is plausible and easily got wrong."""

import numpy as np
import pytest
import torch
from sklearn.frozen import FrozenEstimator
from sklearn.gaussian_process.kernels import RBF, WhiteKernel
from sklearn.metrics import mean_squared_error

from sknk import NTKRidge, NTKRidgeClassifier, NTKRidgeCV
from sknk.attribution import (
    DataOOB,
    GroupRemoval,
    LeaveOneOutAttributor,
    ShapleyAttributor,
    find_label_errors,
)
from sknk.attribution._base import fitted_estimator
from sknk.attribution._rows import are_numbers
from tests.cases import rows

X, X_VAL = rows(20, seed=1), rows(15, seed=2)
Y, Y_VAL = X[:, 0] ** 2, X_VAL[:, 0] ** 2


def exact(**options):
    return ShapleyAttributor(NTKRidge(alpha=0.1), sampler="exact", **options)


def test_copies_share_the_white_noise_of_the_kernel_as_in_the_fit():
    twice, y = np.vstack([X, X[:9]]), np.append(Y, Y[:9])
    model = NTKRidge(RBF() + WhiteKernel(0.5), alpha=0.1).fit(twice, y)
    loo = LeaveOneOutAttributor(FrozenEstimator(model)).fit(twice, y, X_VAL, Y_VAL)
    error = mean_squared_error(Y_VAL, model.predict(X_VAL))
    np.testing.assert_allclose(loo.utility_full_, -error, rtol=1e-10)


@pytest.mark.parametrize(
    ("y", "numbers"),
    [
        (np.arange(60.0), True),
        (np.arange(60), False),
        (np.repeat([0.0, 1.0, 2.0], 20), False),
        (np.linspace(0, 1, 5), True),
        (np.repeat(["a", "b"], 5), False),
    ],
    ids=["whole_floats", "integers", "few_floats", "fractions", "strings"],
)
def test_whole_floating_targets_are_numbers_when_there_are_many(y, numbers):
    assert are_numbers(y) is numbers


def test_default_estimator_regresses_whole_floating_targets():
    table = rows(60, seed=3)
    assert isinstance(fitted_estimator(None, table, np.round(100 * table[:, 0])), NTKRidgeCV)


@pytest.mark.parametrize("what", ["rows", "targets", "classes"])
def test_frozen_estimator_of_other_data_is_refused(what):
    y = np.median(Y) < Y if what == "classes" else Y
    model = NTKRidgeClassifier() if what == "classes" else NTKRidge()
    order = np.roll(np.arange(len(X)), 1)
    other = (X[order], y[order]) if what == "rows" else (X, y[order])
    loo = LeaveOneOutAttributor(FrozenEstimator(model.fit(X, y)))
    with pytest.raises(ValueError, match="fitted to other data than the 20 rows"):
        loo.fit(*other)


def test_frozen_estimators_nest():
    model = NTKRidge().fit(X, Y)
    once = LeaveOneOutAttributor(FrozenEstimator(model)).fit(X, Y)
    twice = LeaveOneOutAttributor(FrozenEstimator(FrozenEstimator(model))).fit(X, Y)
    np.testing.assert_array_equal(once.values_, twice.values_)


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e8 + 0.1])
def test_evidence_of_constant_targets_does_not_see_rounding(constant):
    y = np.full(len(X), constant)
    shapley = ShapleyAttributor(NTKRidge(alpha=0.1), utility="evidence", n_iter=2, random_state=0)
    reference = ShapleyAttributor(
        NTKRidge(alpha=0.1), utility="evidence", n_iter=2, random_state=0
    ).fit(X, np.zeros(len(X)))
    np.testing.assert_allclose(shapley.fit(X, y).values_, reference.values_, rtol=1e-6)


def test_callable_utility_sees_a_column_of_targets_flat():
    def utility(y, f):
        return -np.mean((y - f) ** 2)

    few = X[:6], Y[:6, None], X_VAL, Y_VAL[:, None]
    np.testing.assert_allclose(
        exact(utility=utility).fit(*few).values_, exact(utility="mse").fit(*few).values_, rtol=1e-9
    )


def test_callable_utility_must_return_one_number():
    with pytest.raises(ValueError, match=r"returned an array of shape \(15,\)"):
        exact(utility=lambda y, f: (y - f) ** 2).fit(X[:5], Y[:5], X_VAL, Y_VAL)


def test_validation_targets_keep_their_digits_in_float32():
    y, y_val = Y + 1e7, Y_VAL + 1e7
    low = LeaveOneOutAttributor(NTKRidge(alpha=0.1, dtype="float32")).fit(X, y, X_VAL, y_val)
    high = LeaveOneOutAttributor(NTKRidge(alpha=0.1)).fit(X, y, X_VAL, y_val)
    np.testing.assert_allclose(low.utility_full_, high.utility_full_, rtol=1e-3)


def test_leaving_a_heavy_row_out_loses_no_digits():
    weights = np.ones(len(X))
    weights[0] = 1e17
    model = NTKRidge(alpha=0.1).fit(X, Y, weights)
    refit = NTKRidge(alpha=0.1).fit(X[1:], Y[1:])
    loo = LeaveOneOutAttributor(FrozenEstimator(model)).fit(X, Y, X_VAL, Y_VAL)
    without = -mean_squared_error(Y_VAL, refit.predict(X_VAL))
    np.testing.assert_allclose(loo.utility_full_ - loo.values_[0], without, rtol=1e-6)


def test_run_of_another_function_is_not_continued():
    def judge(power):
        return lambda y, f: -float(np.abs(y - f).mean() ** power * 0.0 + power)

    shapley = exact(utility=judge(1)).set_params(
        sampler="permutation", warm_start=True, n_iter=3, tol=0.0, random_state=0
    )
    key = next(iter(shapley.fit(X, Y, X_VAL, Y_VAL)._runs))
    shapley.set_params(utility=judge(2)).fit(X, Y, X_VAL, Y_VAL)
    assert key not in shapley._runs


def test_checkpoint_is_taken_up_with_another_number_of_threads(tmp_path):
    table = rows(120, seed=4)
    y = table[:, 0]
    options = {"checkpoint": tmp_path / "run.npz", "n_iter": 2, "tol": 0.0, "random_state": 0}
    threads = torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            shapley = ShapleyAttributor(NTKRidge(alpha=0.1), **options)
            assert shapley.fit(table, y, X_VAL, Y_VAL).n_iter_ == 2
    finally:
        torch.set_num_threads(threads)


def test_run_that_was_precise_enough_takes_no_more_estimates():
    shapley = ShapleyAttributor(NTKRidge(alpha=0.1), tol=10.0, warm_start=True, random_state=0)
    first = shapley.fit(X, Y, X_VAL, Y_VAL).n_iter_
    assert shapley.fit(X, Y, X_VAL, Y_VAL).n_iter_ == first


def test_exact_values_of_groups_for_test_rows_sum_to_those_of_groups():
    shapley = exact().fit(X, Y, X_VAL, Y_VAL, groups=np.arange(20) % 4)
    found = shapley.attribute(X_VAL, Y_VAL)
    np.testing.assert_allclose(found.mean(axis=0), shapley.values_, atol=1e-12)


@pytest.mark.parametrize("missing", [None, np.nan])
def test_groups_with_a_missing_one_are_refused(missing):
    groups = np.array(["a", "b"] * 10, dtype=object)
    groups[3] = missing
    with pytest.raises(ValueError, match="`groups` has no value at row 3"):
        GroupRemoval(NTKRidge()).fit(X, Y, X_VAL, Y_VAL, groups=groups)


def test_targets_may_be_tensors_that_require_a_gradient():
    y = torch.tensor(Y, requires_grad=True)
    loo = LeaveOneOutAttributor(NTKRidge()).fit(X, y)
    curve = loo.removal_curve(X_VAL, torch.tensor(Y_VAL), fractions=[0.0, 0.2], n_random=1)
    assert np.isfinite(curve.scores).all()


def test_leave_one_out_suspicion_refuses_validation_rows():
    with pytest.raises(ValueError, match="`method` is 'loo', which judges rows by each other"):
        find_label_errors(NTKRidge(), X, Y, X_val=X_VAL, y_val=Y_VAL)


def test_columns_of_an_earlier_frame_are_forgotten():
    import pandas as pd
    from sklearn.ensemble import BaggingRegressor

    bags = DataOOB(BaggingRegressor(n_estimators=30, random_state=0))
    bags.fit(pd.DataFrame(X, columns=["a", "b", "c"]), Y)
    assert not hasattr(bags.fit(X[:, :2], Y), "feature_names_in_")


def test_time_is_shared_by_folds():
    shapley = ShapleyAttributor(
        NTKRidge(alpha=0.1), utility="mse", tol=0.0, max_time=1e-9, random_state=0
    )
    assert shapley.fit(X, Y).stopped_ == "max_time"
    assert shapley.n_iter_ == 1
