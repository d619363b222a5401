import numpy as np
import pytest
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sknk import NTKGaussianProcessRegressor, NTKRidgeClassifier
from sknk.attribution import (
    InfluenceAttributor,
    KNNShapleyAttributor,
    LeaveOneOutAttributor,
    RepresenterAttributor,
    ShapleyAttributor,
    find_label_errors,
)
from sknk.kernels import NTK
from tests.attribution.families import KERNEL, KNOWN

ATOL = 1e-9


def margin(f, own):
    """Return how far the best of the other classes is ahead."""
    return np.delete(f, own).max() - f[own]


def by_refits(model, X, y, judge, copies=None, w=None):
    """Return judgements of every row by a refit without it and its copies, (n,)."""
    out = np.empty(len(X))
    copies = np.arange(len(X)) if copies is None else copies
    for i in range(len(X)):
        rest = np.flatnonzero(copies != copies[i])
        some = () if w is None else (w[rest],)
        out[i] = judge(clone(model).fit(X[rest], y[rest], *some), i)
    return out


def assert_ranked(found, expected, method="loo"):
    np.testing.assert_allclose(found.suspicion_, expected, atol=ATOL)
    np.testing.assert_array_equal(
        found.ranked_indices_, np.argsort(-found.suspicion_, kind="stable")
    )
    assert found.method == method


def test_suspicion_of_classes_is_the_margin_of_refits(data):
    numbers = np.searchsorted(["a", "b", "c"], data.classes)
    expected = by_refits(
        data.classifier,
        data.X,
        data.classes,
        lambda model, i: margin(model.decision_function(data.X[[i]])[0], numbers[i]),
    )
    assert_ranked(find_label_errors(data.classifier, data.X, data.classes), expected)


def test_suspicion_of_two_classes_is_the_margin_of_refits(data):
    y = np.where(data.classes == "a", "a", "b")
    sign = np.where(y == "b", 1.0, -1.0)
    expected = by_refits(
        data.classifier,
        data.X,
        y,
        lambda model, i: -sign[i] * model.decision_function(data.X[[i]])[0],
    )
    assert_ranked(find_label_errors(data.classifier, data.X, y), expected)


@pytest.mark.parametrize("kind", ["mixed", "one-each"])
def test_suspicion_of_labels_is_that_of_the_worst(data, kind):
    labels = (data.Y.mean(axis=0) < data.Y).astype(int)
    if kind == "one-each":  # as if they were classes
        labels[:, 1] = 1 - labels[:, 0]
    signs = 2.0 * labels - 1.0
    expected = by_refits(
        data.classifier,
        data.X,
        labels,
        lambda model, i: (-signs[i] * model.decision_function(data.X[[i]])[0]).max(),
    )
    assert_ranked(find_label_errors(data.classifier, data.X, labels), expected)


@pytest.mark.parametrize("outputs", [1, 2])
def test_suspicion_of_numbers_is_the_standardized_residual(data, outputs):
    y = data.y if outputs == 1 else data.Y
    model = NTKGaussianProcessRegressor(KERNEL, **KNOWN)

    def judge(fitted, i):
        f, std = fitted.predict(data.X[[i]], return_std=True)
        std = np.sqrt(np.asarray(std) ** 2 + 0.3)
        return np.abs((y[i] - f) / std).max()

    expected = by_refits(model, data.X, y, judge)
    assert_ranked(find_label_errors(model, data.X, y), expected)


def test_residual_of_ridge_is_standardized_by_kernel_and_ridge(data):
    found = find_label_errors(data.ridge, data.X, data.y).suspicion_
    G = np.linalg.inv(KERNEL(data.X) + 0.4 * np.eye(16))
    expected = by_refits(
        data.ridge,
        data.X,
        data.y,
        lambda model, i: abs(data.y[i] - model.predict(data.X[[i]])[0]) * np.sqrt(G[i, i]),
    )
    np.testing.assert_allclose(found, expected, atol=ATOL)


@pytest.mark.parametrize("classify", [True, False])
def test_copies_leave_together(data, classify):
    again = np.append(np.arange(16), [3, 3, 5])
    X, numbers = data.X[again], np.searchsorted(["a", "b", "c"], data.classes)[again]
    y = data.classes[again] if classify else data.y[again]
    model = data.classifier if classify else data.ridge

    def judge(fitted, i):
        if classify:
            return margin(fitted.decision_function(X[[i]])[0], numbers[i])
        return abs(y[i] - fitted.predict(X[[i]])[0])

    found = find_label_errors(model, X, y).suspicion_
    expected = by_refits(model, X, y, judge, again)
    if not classify:
        w = np.array([1, 1, 1, 3, 1, 2, *[1] * 10])
        G = np.diag(np.linalg.inv(KERNEL(data.X) + np.diag(0.4 / w)))
        expected = expected * np.sqrt(G)[again]
    np.testing.assert_allclose(found, expected, atol=ATOL)


def test_copies_of_other_classes_stay(data):
    X = np.vstack([data.X, data.X[:1]])
    y = np.append(data.classes, np.setdiff1d(["a", "b"], data.classes[0])[0])
    numbers = np.searchsorted(["a", "b", "c"], y)
    expected = by_refits(
        data.classifier,
        X,
        y,
        lambda model, i: margin(model.decision_function(X[[i]])[0], numbers[i]),
    )
    assert_ranked(find_label_errors(data.classifier, X, y), expected)


def test_rows_of_weight_zero_are_judged_by_the_others(data):
    w = np.where(np.arange(16) % 5 == 1, 0.0, data.weights)
    model = clone(data.classifier).fit(data.X, data.classes, w)
    numbers = np.searchsorted(["a", "b", "c"], data.classes)
    expected = by_refits(
        data.classifier,
        data.X,
        data.classes,
        lambda model, i: margin(model.decision_function(data.X[[i]])[0], numbers[i]),
        w=w,
    )
    found = find_label_errors(FrozenEstimator(model), data.X, data.classes)
    assert_ranked(found, expected)


def test_rows_of_weight_zero_in_a_pipeline_are_judged_by_the_others(data):
    w = np.where(np.arange(16) % 5 == 1, 0.0, 1.0)
    model = make_pipeline(StandardScaler(), clone(data.classifier))
    model.fit(data.X, data.classes, ntkridgeclassifier__sample_weight=w)
    Z = model[0].transform(data.X)
    found = find_label_errors(FrozenEstimator(model), data.X, data.classes)
    other = find_label_errors(FrozenEstimator(model[-1]), Z, data.classes)
    np.testing.assert_allclose(found.suspicion_, other.suspicion_, atol=ATOL)


@pytest.fixture(scope="module")
def flipped():
    """Rows on two sides of a line, eight of them mislabelled, and clean rows; which are wrong."""
    X = np.random.default_rng(0).standard_normal((260, 3))
    y, wrong = (X[:, 0] > 0).astype(int), np.arange(260) < 8
    y[wrong] = 1 - y[wrong]
    return X[:60], y[:60], X[60:], y[60:], wrong[:60]


METHODS = ["loo", "data_oob", "evidence", "influence", "knn_shapley", "leave_one_out",
           "representer", "shapley"]  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
def test_every_method_finds_wrong_labels(flipped, method):
    X, y, X_val, y_val, wrong = flipped
    model = NTKRidgeClassifier(NTK(depth=1), alpha=0.3)
    judged = {} if method in ("loo", "data_oob", "evidence") else {"X_val": X_val, "y_val": y_val}
    if method == "shapley":
        method = ShapleyAttributor(model, sampler="permutation", n_iter=40, random_state=0)
    found = find_label_errors(model, X, y, method=method, **judged)
    assert roc_auc_score(wrong, found.suspicion_) > 0.75


@pytest.mark.parametrize("method", ["influence", "knn_shapley", "leave_one_out", "representer"])
def test_method_of_a_name_is_that_attributor(flipped, method):
    X, y, X_val, y_val, _ = flipped
    model = NTKRidgeClassifier(NTK(depth=1), alpha=0.3)
    attributor = {
        "influence": InfluenceAttributor(model),
        "knn_shapley": KNNShapleyAttributor(),
        "leave_one_out": LeaveOneOutAttributor(model),
        "representer": RepresenterAttributor(model),
    }[method]
    values = attributor.fit(X, y, X_val, y_val).values_
    named = find_label_errors(model, X, y, method=method, X_val=X_val, y_val=y_val)
    assert_ranked(named, -values, method)


def test_attributor_that_is_given_stays_unfitted(data):
    attributor = LeaveOneOutAttributor(data.classifier)
    found = find_label_errors(None, data.X, data.classes, method=attributor)
    assert not hasattr(attributor, "values_")
    expected = -clone(attributor).fit(data.X, data.classes).values_
    assert_ranked(found, expected, "LeaveOneOutAttributor")


def test_to_frame_lists_rows_by_suspicion(data):
    found = find_label_errors(data.classifier, data.X, data.classes)
    frame = found.to_frame()
    assert frame.columns.tolist() == ["row", "suspicion"]
    assert frame["row"].tolist() == found.ranked_indices_.tolist()
    assert frame["suspicion"].is_monotonic_decreasing


def test_estimator_is_not_fitted(data):
    find_label_errors(data.classifier, data.X, data.classes)
    assert not hasattr(data.classifier, "classes_")


@pytest.mark.parametrize(
    "method", ["margin", None, LeaveOneOutAttributor], ids=["margin", "None", "class"]
)
def test_unknown_method_is_refused(data, method):
    with pytest.raises(ValueError, match=r"`method` is .*; expected (a name|'loo')"):
        find_label_errors(data.classifier, data.X, data.classes, method=method)
