import numpy as np
import pytest
from scipy.special import expit, log_softmax, softmax
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sknk import NTKRidgeClassifier
from sknk.ridge._calibration import fit_temperatures, probabilities, tempered_loss
from tests.reference import ridge as oracle

# A search over a convex function knows its minimum to the square root of eps.
SEARCH_RTOL = 1e-6


def fit_temperature(scores, labels, w):
    """The slope of one candidate."""
    (slope,) = fit_temperatures(scores[None], labels, w)
    return slope


def mixed(p, rows):
    """Probabilities with one row spread over all classes."""
    return (rows * p + 1.0 / p.shape[1]) / (rows + 1.0)


def scores_and_labels(n_classes, n=60, seed=0):
    """Noisy decision values of each class, and the classes."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, n_classes, n)
    return np.eye(n_classes)[labels] + rng.standard_normal((n, n_classes)), labels


@pytest.mark.parametrize("n_classes", [2, 3, 10])
@pytest.mark.parametrize("weighted", [False, True])
def test_temperature_minimises_smoothed_log_loss(n_classes, weighted):
    scores, labels = scores_and_labels(n_classes)
    w = np.random.default_rng(1).uniform(0.1, 3.0, 60) if weighted else None
    expected = oracle.temperature(scores, labels, np.ones(60) if w is None else w)
    assert fit_temperature(scores, labels, w) == pytest.approx(expected, rel=SEARCH_RTOL)


def test_temperature_of_one_column_is_that_of_two():
    scores, labels = scores_and_labels(2)
    one = scores[:, 1] - scores[:, 0]
    two = np.column_stack([-one, one]) / 2
    expected = fit_temperature(two, labels, None)
    assert fit_temperature(one, labels, None) == pytest.approx(expected, rel=1e-12)


def test_temperatures_of_candidates_are_those_of_each():
    scores, labels = scores_and_labels(3)
    noise = np.random.default_rng(1).standard_normal((7, 60, 3))
    scores = (scores + noise) * 10.0 ** np.arange(-3, 4)[:, None, None]
    found = fit_temperatures(scores, labels, None)
    wanted = [oracle.temperature(f, labels, np.ones(60)) for f in scores]
    np.testing.assert_allclose(found, wanted, rtol=10 * SEARCH_RTOL)


def test_temperature_weights_equal_repetitions():
    scores, labels = scores_and_labels(3)
    r = np.random.default_rng(2).integers(0, 4, 60)
    repeated = fit_temperature(scores.repeat(r, axis=0), labels.repeat(r), None)
    weighted = fit_temperature(scores, labels, r.astype(float))
    assert weighted == pytest.approx(repeated, rel=1e-10)


def test_temperature_scales_inversely_with_scores():
    scores, labels = scores_and_labels(3)
    slope = fit_temperature(scores, labels, None)
    assert fit_temperature(4.0 * scores, labels, None) == pytest.approx(slope / 4, rel=1e-10)


def test_temperature_ignores_a_shift_of_all_classes():
    scores, labels = scores_and_labels(3)
    shifted = scores + np.linspace(-5, 5, 60)[:, None]
    expected = fit_temperature(scores, labels, None)
    assert fit_temperature(shifted, labels, None) == pytest.approx(expected, rel=1e-9)


def test_temperature_is_finite_when_scores_separate_classes():
    labels = np.arange(60) % 3
    slope = fit_temperature(np.eye(3)[labels], labels, None)
    # The root by hand: softmax(slope, 0, 0) equals the smoothed target.
    own, other, _ = oracle.smoothed(labels, 3, np.ones(60))[0]
    assert slope == pytest.approx(np.log(own / other), rel=1e-9)


def test_temperature_is_nearly_flat_when_scores_are_wrong():
    labels = np.arange(40) % 2
    assert fit_temperature(-np.eye(2)[labels], labels, None) == pytest.approx(1e-6)


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_temperature_of_constant_scores_is_positive(value):
    labels = np.arange(40) % 2
    assert fit_temperature(np.full(40, value * 0), labels, None) > 0
    assert fit_temperature(np.full((40, 2), value), labels, None) > 0


def test_temperature_stays_positive_when_weights_leave_one_class():
    scores, labels = scores_and_labels(2)
    w = (labels == 1).astype(float)
    slope = fit_temperature(scores[:, 1], labels, w)
    assert np.isfinite(slope)
    assert slope > 0


def test_probabilities_are_softmax_of_scaled_scores():
    scores, _ = scores_and_labels(3)
    found = probabilities(scores, 2.0, 9.0)
    np.testing.assert_allclose(found, mixed(softmax(2.0 * scores, axis=1), 9.0))
    np.testing.assert_array_equal(found.argmax(axis=1), scores.argmax(axis=1))
    two = probabilities(scores[:, 0], 2.0, 4.0)
    np.testing.assert_allclose(two[:, 1], (4.0 * expit(2.0 * scores[:, 0]) + 0.5) / 5.0, rtol=1e-12)
    np.testing.assert_allclose(two.sum(axis=1), 1.0, rtol=1e-15)


def test_probabilities_of_huge_scores_are_finite():
    for scores in (np.array([-1e300, 1e300]), np.array([[1e300, -1e300]])):
        assert np.isfinite(probabilities(scores, 1.0, 10.0)).all()


@pytest.mark.parametrize("target", ["two", "classes"])
def test_classifier_temperature_is_fitted_to_leave_one_out(table, target):
    y = getattr(table, target)
    model = NTKRidgeClassifier(table.kernel, alpha=0.2).fit(table.X, y, table.weights)
    labels = np.searchsorted(model.classes_, y)
    loo = model.loo_predictions_
    scores = np.column_stack([-loo, loo]) / 2 if loo.ndim == 1 else loo
    slope = oracle.temperature(scores, labels, table.weights)
    f = model.decision_function(table.new)
    f = np.column_stack([-f, f]) / 2 if f.ndim == 1 else f
    found = model.predict_proba(table.new)
    wanted = mixed(softmax(slope * f, axis=1), table.weights.sum())
    np.testing.assert_allclose(found, wanted, rtol=10 * SEARCH_RTOL)


# --- the loss at its best temperature ------------------------------------------------------------


def smoothed_loss(scores, labels, w, slopes):
    """Return the smoothed log loss of two or more columns at each slope."""
    T = oracle.smoothed(labels, scores.shape[1], w)
    logs = [log_softmax(s * scores, axis=1) for s in slopes]
    return np.array([-np.average((T * each).sum(axis=1), weights=w) for each in logs])


def scored(n_classes, weighted):
    """Return decision values (one column for two classes), the classes, weights or None."""
    scores, labels = scores_and_labels(n_classes)
    w = np.random.default_rng(1).uniform(0.1, 3.0, 60) if weighted else None
    return scores[:, 1] - scores[:, 0] if n_classes == 2 else scores, labels, w


@pytest.mark.parametrize("n_classes", [2, 3, 10])
@pytest.mark.parametrize("weighted", [False, True])
def test_tempered_loss_is_the_least_of_all_slopes(n_classes, weighted):
    scores, labels, w = scored(n_classes, weighted)
    found, _ = tempered_loss(scores, labels, w)
    f = np.column_stack([-scores, scores]) / 2.0 if scores.ndim == 1 else scores
    slopes = np.geomspace(1e-3, 1e3, 6001)  # 0.23 % apart: the nearest errs by its square
    losses = smoothed_loss(f, labels, np.ones(60) if w is None else w, slopes)
    assert found <= losses.min() * (1.0 + 1e-12)
    assert found == pytest.approx(losses.min(), rel=1e-5)


@pytest.mark.parametrize("n_classes", [2, 3, 10])
@pytest.mark.parametrize("weighted", [False, True])
def test_tempered_loss_gradient_matches_finite_differences(n_classes, weighted):
    scores, labels, w = scored(n_classes, weighted)
    _, gradient = tempered_loss(scores, labels, w)
    assert gradient.shape == scores.shape
    h = 1e-3
    for seed in range(3):
        D = np.random.default_rng(seed).standard_normal(scores.shape)
        values = [tempered_loss(scores + t * h * D, labels, w)[0] for t in (-2, -1, 1, 2)]
        # Five-point differences err by h^4 = 1e-12 and eps / h = 2e-13.
        expected = np.dot(values, [1, -8, 8, -1]) / (12 * h)
        assert (gradient * D).sum() == pytest.approx(expected, rel=1e-8, abs=1e-10)


def test_tempered_loss_of_one_column_is_that_of_two():
    scores, labels, w = scored(2, weighted=True)
    one, by_one = tempered_loss(scores, labels, w)
    two, by_two = tempered_loss(np.column_stack([-scores, scores]) / 2.0, labels, w)
    assert one == pytest.approx(two, rel=1e-12)
    np.testing.assert_allclose(by_one, by_two @ [-0.5, 0.5], rtol=1e-10)


def test_tempered_loss_does_not_depend_on_units_of_scores():
    scores, labels, _ = scored(3, weighted=False)
    loss, gradient = tempered_loss(scores, labels, None)
    other, by_other = tempered_loss(7.0 * scores, labels, None)
    assert other == pytest.approx(loss, rel=1e-12)
    np.testing.assert_allclose(7.0 * by_other, gradient, rtol=1e-9, atol=1e-14)
    assert abs((gradient * scores).sum()) < 1e-12  # Euler's identity of a function of degree zero


def test_tempered_loss_ignores_a_shift_of_all_classes():
    scores, labels, w = scored(3, weighted=True)
    loss, gradient = tempered_loss(scores, labels, w)
    shifted, _ = tempered_loss(scores + np.linspace(-5, 5, 60)[:, None], labels, w)
    assert shifted == pytest.approx(loss, rel=1e-12)
    np.testing.assert_allclose(gradient.sum(axis=1), 0.0, atol=1e-15)


def test_tempered_loss_weights_equal_repetitions():
    scores, labels, _ = scored(3, weighted=False)
    r = np.random.default_rng(2).integers(1, 4, 60)
    loss, gradient = tempered_loss(scores, labels, r.astype(float))
    repeated, by_row = tempered_loss(scores.repeat(r, axis=0), labels.repeat(r), None)
    assert loss == pytest.approx(repeated, rel=1e-12)
    np.testing.assert_allclose(gradient / r[:, None], by_row[np.cumsum(r) - 1], rtol=1e-9)


def test_tempered_loss_of_wrong_scores_is_that_of_no_scores():
    labels = np.arange(40) % 2
    loss, gradient = tempered_loss(-np.eye(2)[labels], labels, None)
    assert loss == pytest.approx(np.log(2.0), rel=1e-6)  # the flattest slope is 1e-6
    assert np.abs(gradient).max() < 1e-6


def digits_subset():
    X, y = load_digits(return_X_y=True)
    return X[:600], y[:600]


TABLES = {
    "wine": lambda: load_wine(return_X_y=True),
    "breast_cancer": lambda: load_breast_cancer(return_X_y=True),
    "digits": digits_subset,
}


def judged(model, X, y):
    """Return log loss and expected calibration error of out-of-fold probabilities."""
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    model = make_pipeline(StandardScaler(), model)
    proba = cross_val_predict(model, X, y, cv=folds, method="predict_proba")
    return log_loss(y, proba), oracle.calibration_error(proba, y)


# Measured 0.6, 1.1 and 0.5 times the loss of the better refit, and errors 0.02 lower to equal. One
# temperature has no intercept, which is what costs breast_cancer its 10 %; 0.01 is the standard
# error of a calibration error on these few hundred rows.
@pytest.mark.parametrize("name", TABLES)
def test_classifier_proba_is_as_good_as_calibration_by_refitting(name):
    X, y = TABLES[name]()
    model = NTKRidgeClassifier(alpha=0.1)
    loss, error = judged(model, X, y)
    refits = [
        judged(CalibratedClassifierCV(model, method="sigmoid", ensemble=ensemble), X, y)
        for ensemble in (False, True)
    ]
    assert loss <= 1.15 * min(other for other, _ in refits)
    assert error <= 0.01 + min(other for _, other in refits)
