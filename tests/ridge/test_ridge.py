import numpy as np
import pytest
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, DotProduct, WhiteKernel
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import RidgeClassifier

from sknk import NTKRidge, NTKRidgeClassifier, NumericalWarning
from sknk.kernels import NTK
from sknk.solvers import Cholesky, Eigh
from tests.cases import rows
from tests.reference import ridge as oracle

# Two routes to one answer: float64 rounding times condition numbers below 1e4.
RTOL = 1e-9
# What scikit-learn asks of weights against repetitions.
REPEAT_RTOL = 1e-7


def assert_close(found, expected, rtol=RTOL):
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=rtol)


# --- regression --------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["auto", "cholesky", "eigh", Cholesky(), Eigh()], ids=repr)
@pytest.mark.parametrize("weighted", [False, True])
def test_ridge_equals_kernel_ridge_of_centred_targets(table, solver, weighted):
    w = table.weights if weighted else None
    mean = np.average(table.Y, axis=0, weights=w)
    other = KernelRidge(kernel="precomputed", alpha=0.3)
    other.fit(table.kernel(table.X), table.Y - mean, sample_weight=w)
    model = NTKRidge(table.kernel, alpha=0.3, solver=solver).fit(table.X, table.Y, w)
    assert_close(model.intercept_, mean)
    assert_close(model.dual_coef_, other.dual_coef_)
    assert_close(model.predict(table.new), other.predict(table.kernel(table.new, table.X)) + mean)


def test_ridge_without_intercept_equals_kernel_ridge(table):
    other = KernelRidge(kernel=table.kernel, alpha=0.3).fit(table.X, table.y)
    model = NTKRidge(table.kernel, alpha=0.3, fit_intercept=False).fit(table.X, table.y)
    assert model.intercept_ == 0.0
    assert_close(model.predict(table.new), other.predict(table.new))


def test_ridge_default_kernel_is_ntk(table):
    model = NTKRidge().fit(table.X, table.y)
    assert model.kernel_ == NTK()
    assert_close(model.predict(table.new), NTKRidge(NTK()).fit(table.X, table.y).predict(table.new))


def test_ridge_weights_equal_repetitions(table, fit_intercept):
    r = table.repeats
    model = NTKRidge(table.kernel, alpha=0.1, fit_intercept=fit_intercept)
    weighted = model.fit(table.X, table.Y, r).predict(table.new)
    repeated = model.fit(table.X.repeat(r, axis=0), table.Y.repeat(r, axis=0)).predict(table.new)
    assert_close(weighted, repeated, rtol=REPEAT_RTOL)


def test_ridge_of_repeated_rows_equals_naive_solve(table, fit_intercept):
    X, Y = table.X.repeat(table.repeats, axis=0), table.Y.repeat(table.repeats, axis=0)
    C, mean = oracle.fit(table.kernel(X), Y, np.ones(len(X)), 0.1, fit_intercept)
    model = NTKRidge(table.kernel, alpha=0.1, fit_intercept=fit_intercept).fit(X, Y)
    # Copies share their row's coefficient equally, as the naive solution does.
    assert_close(model.dual_coef_, C, rtol=REPEAT_RTOL)
    assert_close(model.intercept_, mean)


def test_ridge_zero_weight_equals_removal(table, fit_intercept):
    kept = np.arange(20) % 4 != 0
    model = NTKRidge(table.kernel, fit_intercept=fit_intercept)
    weighted = model.fit(table.X, table.y, kept * 2.5)
    assert not weighted.dual_coef_[~kept].any()
    found = weighted.predict(table.new)
    removed = model.fit(table.X[kept], table.y[kept], np.full(kept.sum(), 2.5))
    assert_close(found, removed.predict(table.new))


def test_ridge_scalar_weight_scales_alpha(table):
    model = NTKRidge(table.kernel, alpha=1.0).fit(table.X, table.y, 4.0)
    other = NTKRidge(table.kernel, alpha=0.25).fit(table.X, table.y)
    assert_close(model.predict(table.new), other.predict(table.new))


def test_ridge_outputs_equal_one_by_one(table):
    both = NTKRidge(table.kernel).fit(table.X, table.Y)
    assert both.dual_coef_.shape == (20, 2)
    for k in range(2):
        one = NTKRidge(table.kernel).fit(table.X, table.Y[:, k])
        assert one.dual_coef_.shape == (20,)
        assert isinstance(one.intercept_, float)
        assert_close(one.predict(table.new), both.predict(table.new)[:, k])


def test_ridge_column_target_keeps_its_shape(table):
    model = NTKRidge(table.kernel).fit(table.X, table.y[:, None])
    assert model.predict(table.new).shape == (7, 1)
    assert_close(
        model.predict(table.new)[:, 0],
        NTKRidge(table.kernel).fit(table.X, table.y).predict(table.new),
    )


@pytest.mark.parametrize("cls", [NTKRidge, NTKRidgeClassifier])
def test_ridge_precomputed_equals_kernel_object(table, cls):
    y = table.y if cls is NTKRidge else table.classes
    K, K_new = table.kernel(table.X), table.kernel(table.new, table.X)
    for w in (None, table.weights, table.repeats):
        gram = cls("precomputed", alpha=0.2).fit(K, y, w)
        model = cls(table.kernel, alpha=0.2).fit(table.X, y, w)
        assert_close(gram.dual_coef_, model.dual_coef_)
        name = "predict" if cls is NTKRidge else "predict_proba"
        assert_close(getattr(gram, name)(K_new), getattr(model, name)(table.new))
    assert gram.kernel_ == "precomputed"
    assert gram.X_fit_ is None


def test_ridge_precomputed_merges_copies_of_rows(table):
    X, y = np.vstack([table.X, table.X[:6]]), np.r_[table.y, table.y[:6]]
    w = np.linspace(0.5, 2.0, 26)
    gram = NTKRidge("precomputed", alpha=0.2).fit(table.kernel(X), y, w)
    model = NTKRidge(table.kernel, alpha=0.2).fit(X, y, w)
    found = gram.predict(table.kernel(table.new, X))
    assert_close(found, model.predict(table.new), rtol=REPEAT_RTOL)


@pytest.mark.parametrize(
    "kernel",
    [RBF(1.5), ConstantKernel(2.0) * RBF() + WhiteKernel(0.3), NTK(depth=1) + WhiteKernel(0.3)],
    ids=repr,
)
def test_ridge_takes_sklearn_kernels(table, kernel):
    model = NTKRidge(kernel, alpha=0.2).fit(table.X, table.y)
    gram = NTKRidge("precomputed", alpha=0.2).fit(kernel(table.X), table.y)
    assert_close(model.predict(table.new), gram.predict(kernel(table.new, table.X)))
    assert model.kernel_ == kernel
    assert model.kernel_ is not kernel


def test_ridge_predicts_its_training_rows_without_white_noise(table):
    # K(X_new, X) has no white noise even if the rows are the training rows.
    kernel = RBF() + WhiteKernel(0.5)
    model = NTKRidge(kernel, alpha=1e-6).fit(table.X, table.y)
    expected = RBF()(table.X, table.X) @ model.dual_coef_ + model.intercept_
    assert_close(model.predict(table.X), expected)


def test_ridge_alpha_zero_interpolates(table):
    model = NTKRidge(table.kernel, alpha=0.0).fit(table.X, table.Y)
    assert_close(model.predict(table.X), table.Y, rtol=1e-7)


def test_ridge_alpha_zero_warns_when_rows_contradict(table):
    X, y = np.vstack([table.X, table.X]), np.r_[table.y, table.y + 1]
    with pytest.warns(NumericalWarning, match=r"added jitter .* Increase `alpha`"):
        model = NTKRidge(table.kernel, alpha=0.0).fit(X, y)
    # The two targets of a row are averaged, to the jitter of 1e-10 over the smallest pivot.
    assert_close(model.predict(table.X), table.y + 0.5, rtol=1e-5)


def test_ridge_large_alpha_predicts_weighted_mean(table):
    model = NTKRidge(table.kernel, alpha=1e12).fit(table.X, table.y, table.weights)
    mean = np.average(table.y, weights=table.weights)
    assert_close(model.predict(table.new), np.full(7, mean))


def test_ridge_of_one_row_predicts_its_target():
    model = NTKRidge().fit([[1.0, 2.0]], [3.0])
    assert_close(model.predict([[0.5, 0.5], [1.0, 2.0]]), [3.0, 3.0])


def test_ridge_constant_columns_change_nothing_of_zero(table):
    padded = np.hstack([table.X, np.zeros((20, 3))])
    kernel = NTK(normalize=False, weight_var=2.0)
    model = NTKRidge(kernel).fit(padded * np.sqrt(2.0), table.y)  # x'x / d is kept
    new = np.hstack([table.new, np.zeros((7, 3))]) * np.sqrt(2.0)
    assert_close(model.predict(new), NTKRidge(kernel).fit(table.X, table.y).predict(table.new))


# --- classification ----------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["two", "classes", "labels"])
def test_classifier_equals_ridge_classifier_of_centred_rows(table, target):
    # RidgeClassifier centres rows as well: with centred rows both solve the same problem.
    X, y = table.X - table.X.mean(axis=0), getattr(table, target)
    ours = NTKRidgeClassifier(DotProduct(0.0), alpha=0.5).fit(X, y)
    other = RidgeClassifier(alpha=0.5).fit(X, y)
    assert_close(ours.decision_function(table.new), other.decision_function(table.new))
    np.testing.assert_array_equal(ours.predict(table.new), other.predict(table.new))


def test_classifier_scores_equal_regression_of_signs(table):
    model = NTKRidgeClassifier(table.kernel, alpha=0.2).fit(table.X, table.classes)
    signs = np.where(table.classes[:, None] == model.classes_, 1.0, -1.0)
    regression = NTKRidge(table.kernel, alpha=0.2).fit(table.X, signs)
    assert_close(model.decision_function(table.new), regression.predict(table.new))
    assert model.dual_coef_.shape == (20, 3)


def test_classifier_two_classes_are_one_column(table):
    model = NTKRidgeClassifier(table.kernel).fit(table.X, table.two)
    assert model.decision_function(table.new).shape == (7,)
    assert model.dual_coef_.shape == model.loo_predictions_.shape == (20,)
    assert model.predict_proba(table.new).shape == (7, 2)


@pytest.mark.parametrize("target", ["two", "classes", "labels"])
def test_classifier_weights_equal_repetitions(table, target, fit_intercept):
    r, y = table.repeats, getattr(table, target)
    model = NTKRidgeClassifier(table.kernel, alpha=0.1, fit_intercept=fit_intercept)
    model.fit(table.X, y, r)
    scores, proba = model.decision_function(table.new), model.predict_proba(table.new)
    loo = model.loo_predictions_.repeat(r, axis=0)
    model.fit(table.X.repeat(r, axis=0), y.repeat(r, axis=0))
    assert_close(model.decision_function(table.new), scores, rtol=REPEAT_RTOL)
    assert_close(model.predict_proba(table.new), proba, rtol=REPEAT_RTOL)
    assert_close(model.loo_predictions_, loo, rtol=REPEAT_RTOL)


@pytest.mark.parametrize("weights", ["ones", "weights", "repeats"])
@pytest.mark.parametrize("solver", ["cholesky", "eigh"])
def test_classifier_leave_one_out_equals_refits(table, weights, solver, fit_intercept):
    # Six copies: counts lose one repetition, other weights all.
    X, y = np.vstack([table.X, table.X[:6]]), np.r_[table.classes, table.classes[:6]]
    w = np.ones(26) if weights == "ones" else np.r_[getattr(table, weights), np.full(6, 2.0)]
    model = NTKRidgeClassifier(
        table.kernel, alpha=0.2, solver=solver, fit_intercept=fit_intercept
    ).fit(X, y, w)
    signs = np.where(y[:, None] == model.classes_, 1.0, -1.0)
    expected = oracle.leave_one_out(
        table.kernel(X), signs, w, oracle.copies(X, signs), 0.2, fit_intercept, counts=True
    )
    # Rows of weight zero were never in: their prediction is the model's.
    expected[w == 0] = model.decision_function(X)[w == 0]
    assert_close(model.loo_predictions_, expected, rtol=1e-8)


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_rows_appended_equal_a_refit(fit_intercept):
    X, Y = rows(30), rows(30, d=2, seed=3)
    options = {"alpha": 0.3, "fit_intercept": fit_intercept}
    model = NTKRidge(NTK(depth=1), **options).fit(X[:22], Y[:22])
    before = model.dual_coef_.copy()
    longer = model._with(X[22:26], Y[22:26])._with(X[26:], Y[26:])
    refit = NTKRidge(NTK(depth=1), **options).fit(X, Y)
    np.testing.assert_allclose(longer.dual_coef_, refit.dual_coef_, atol=1e-11)
    np.testing.assert_allclose(longer.predict_interval(X), refit.predict_interval(X), atol=1e-10)
    np.testing.assert_array_equal(model.dual_coef_, before)
