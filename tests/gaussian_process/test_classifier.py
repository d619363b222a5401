"""NTKGaussianProcessClassifier: labels, latent functions, weights, state, real tables."""

import copy
import io
import pickle

import joblib
import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_iris, load_wine, make_blobs
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.gaussian_process.kernels import RBF
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from sklearn.utils import compute_sample_weight

from sknk import NTKGaussianProcessClassifier
from tests.cases import rows
from tests.gaussian_process.classifiers import (
    NEW,
    REPEATS,
    TWO,
    WAYS,
    WEIGHTS,
    N,
    X,
    Y,
    assert_same,
    every,
    every_exact,
    known,
    searching,
)

# What scikit-learn asks of weights against repetitions.
REPEAT_RTOL = 1e-7


# --- labels ------------------------------------------------------------------------------------


@every
@pytest.mark.parametrize(
    "names", [["x", "y", "z"], [3, 1, 7], [0.0, 2.0, 1.0], [False, True, True]], ids=str
)
def test_classifier_takes_any_names_of_classes(way, names):
    names = np.array(names)
    y = names[np.unique(Y, return_inverse=True)[1]]
    model = known(way).fit(X, y)
    np.testing.assert_array_equal(model.classes_, np.unique(names))
    found = model.predict(NEW)
    assert found.dtype == y.dtype
    assert set(found.tolist()) <= set(names.tolist())
    np.testing.assert_array_equal(model.y_fit_, y)


@every
def test_classifier_columns_follow_sorted_classes(way):
    names = np.array(["z", "m", "a"])[np.unique(Y, return_inverse=True)[1]]
    one, other = known(way).fit(X, Y), known(way).fit(X, names)
    # Class c of the one is class 2 - c of the other; draws of the two differ.
    atol = {"variational": 0.1, "laplace": 2e-3}.get(way, 2e-3)
    np.testing.assert_allclose(other.predict_proba(NEW), one.predict_proba(NEW)[:, ::-1], atol=atol)


@every
def test_classifier_names_of_classes_change_no_probability(way):
    upper = np.char.upper(Y)
    one, other = known(way).fit(X, Y), known(way).fit(X, upper)
    np.testing.assert_array_equal(one.predict_proba(NEW), other.predict_proba(NEW))


@every
def test_classifier_scores_labels_it_has_never_seen_as_wrong(way):
    model = known(way).fit(X, Y)
    right = model.predict(NEW)
    assert model.score(NEW, right) == 1.0
    unseen = np.where(np.arange(9) < 4, "never seen", right)
    assert model.score(NEW, unseen) == pytest.approx(5 / 9)


@every
@pytest.mark.parametrize("n_classes", [2, 3, 6])
def test_classifier_learns_as_many_classes_as_there_are(way, n_classes):
    x, y = make_blobs(20 * n_classes, centers=n_classes, n_features=3, random_state=1)
    x = (x - x.mean(0)) / x.std(0)
    model = known(way, **({"max_epochs": 60} if way == "variational" else {})).fit(x, y)
    p = model.predict_proba(x)
    assert p.shape == (len(x), n_classes)
    np.testing.assert_allclose(p.sum(axis=1), 1.0, rtol=1e-12)
    np.testing.assert_array_equal(model.predict(x), model.classes_[p.argmax(axis=1)])
    assert model.score(x, y) > 0.9  # of blobs that overlap little


# --- latent functions and decisions ------------------------------------------------------------


@every
@pytest.mark.parametrize("labels", [TWO, Y], ids=["two", "three"])
def test_latent_has_a_column_for_every_class(way, labels):
    model = known(way).fit(X, labels)
    mean, std = model.predict_latent(NEW, return_std=True)
    assert mean.shape == std.shape == (9, len(np.unique(labels)))
    assert (std > 0).all()
    np.testing.assert_array_equal(model.predict_latent(NEW), mean)


@every
def test_latent_std_is_below_the_priors(way):
    model = known(way).fit(X, Y)
    _, std = model.predict_latent(NEW, return_std=True)
    gain = model._gain if way == "student" else 1.0
    prior = model.amplitude_ * model.kernel_.diag(NEW)[:, None] * gain
    assert (std**2 < prior * (1 + 1e-9)).all()


@every
def test_decision_of_two_classes_has_the_sign_of_the_class(way):
    model = known(way).fit(X, TWO)
    new = rows(300, seed=11)
    decision, p = model.decision_function(new), model.predict_proba(new)
    assert decision.shape == (300,)
    np.testing.assert_array_equal(decision > 0, p[:, 1] > 0.5)
    np.testing.assert_array_equal(decision > 0, model.predict(new) == "yes")


@every
def test_decision_of_two_classes_ranks_rows_as_probabilities(way):
    model = known(way).fit(X, TWO)
    new = rows(50, seed=11)
    order = np.argsort(model.decision_function(new))
    assert (np.diff(model.predict_proba(new)[order, 1]) > -1e-9).all()


@every
def test_decision_of_many_classes_is_largest_for_the_predicted(way):
    model = known(way).fit(X, Y)
    new = rows(300, seed=11)
    decision = model.decision_function(new)
    assert decision.shape == (300, 3)
    np.testing.assert_array_equal(model.classes_[decision.argmax(axis=1)], model.predict(new))


@every_exact
def test_probabilities_far_away_are_uniform_when_kernel_decays(way):
    far = 100.0 * rows(5, seed=12)
    found = known(way, RBF()).fit(X, Y).predict_proba(far)
    # The quadrature, see test_softmax; a Student prior scales every class by its own data.
    np.testing.assert_allclose(found, 1 / 3, atol=0.02 if way == "student" else 2e-3)
    found = known(way, RBF()).fit(X, TWO).predict_proba(far)
    np.testing.assert_allclose(found, 1 / 2, atol=2e-3)


@every
def test_probabilities_far_away_stay_below_one_when_kernel_grows(way):
    # Mean and standard deviation of a ReLU network both grow with |x| (Hein et al. 2019).
    model = known(way).fit(X, TWO)
    far, farther = (model.predict_proba(s * NEW) for s in (1e2, 1e3))
    np.testing.assert_allclose(far, farther, atol=0.02)
    assert (farther.max(axis=1) < 0.999).all()


@every
def test_probabilities_are_computed_row_by_row(way):
    model = known(way).fit(X, Y)
    some = model.predict_proba(NEW[3:6])
    # Products of matrices of other shapes round differently.
    np.testing.assert_allclose(some, model.predict_proba(NEW)[3:6], rtol=1e-11)


def test_probabilities_do_not_depend_on_blocks(monkeypatch):
    model = known().fit(X, Y)
    whole = model.predict_proba(np.tile(NEW, (20, 1)))
    monkeypatch.setattr("sknk.gaussian_process._predictions._BLOCK_ENTRIES", 1)  # blocks of 64
    np.testing.assert_allclose(model.predict_proba(np.tile(NEW, (20, 1))), whole, rtol=1e-11)


# --- weights and copies ------------------------------------------------------------------------


@every
@pytest.mark.parametrize("build", [known, searching])
def test_weights_equal_repetitions(way, build):
    weighted = build(way).fit(X, Y, REPEATS)
    repeated = build(way).fit(X.repeat(REPEATS, axis=0), Y.repeat(REPEATS))
    assert_same(weighted, repeated, rtol=REPEAT_RTOL)
    one, other = (m.log_marginal_likelihood_value_ for m in (weighted, repeated))
    np.testing.assert_allclose(one, other, rtol=REPEAT_RTOL)


@every
@pytest.mark.parametrize("build", [known, searching])
def test_zero_weights_equal_removal(way, build):
    kept = np.arange(N) % 4 != 0
    weighted = build(way).fit(X, Y, kept * 2.0)
    removed = build(way).fit(X[kept], Y[kept], np.full(kept.sum(), 2.0))
    assert_same(weighted, removed, rtol=REPEAT_RTOL)
    if way != "variational":
        assert not weighted.dual_coef_[~kept].any()


@every_exact
def test_weights_of_any_size_interpolate(way):
    # One copy and two copies of every row bracket a copy and a half.
    p = [known(way).fit(X, TWO, w).predict_proba(X)[:, 1] for w in (1.0, 1.5, 2.0)]
    assert (np.sort(p, axis=0)[1] == p[1]).mean() > 0.9


@every
@pytest.mark.parametrize("class_weight", [{"a": 2.0, "b": 0.5, "c": 3.0}, "balanced"], ids=str)
def test_class_weight_equals_sample_weight(way, class_weight):
    w = compute_sample_weight(class_weight, Y)
    by_class = known(way, class_weight=class_weight).fit(X, Y)
    assert_same(by_class, known(way).fit(X, Y, w))


@every
def test_class_weight_multiplies_sample_weight(way):
    class_weight = {"a": 2.0, "b": 0.5, "c": 3.0}
    w = compute_sample_weight(class_weight, Y) * WEIGHTS
    by_class = known(way, class_weight=class_weight).fit(X, Y, WEIGHTS)
    assert_same(by_class, known(way).fit(X, Y, w))


@every_exact
def test_class_weight_favours_its_class(way):
    plain = known(way).fit(X, TWO).predict_proba(NEW)
    found = known(way, class_weight={"no": 1.0, "yes": 20.0}).fit(X, TWO).predict_proba(NEW)
    assert (found[:, 1] > plain[:, 1]).mean() > 0.7


@every_exact
def test_rows_of_both_classes_leave_the_class_open(way):
    x, y = np.vstack([X, X]), np.r_[np.full(N, "no"), np.full(N, "yes")]
    # By symmetry; student's average over draws is not symmetric to the last digit.
    np.testing.assert_allclose(known(way).fit(x, y).predict_proba(NEW), 0.5, atol=2e-3)
    assert np.isfinite(searching(way).fit(x, y).predict_proba(NEW)).all()


@every_exact
def test_order_of_rows_does_not_matter(way):
    order = np.random.default_rng(10).permutation(N)
    one, other = known(way).fit(X, Y, WEIGHTS), known(way).fit(X[order], Y[order], WEIGHTS[order])
    assert_same(one, other, rtol=1e-9)


# --- state, dtypes, devices --------------------------------------------------------------------


@every
@pytest.mark.parametrize("build", [known, searching])
def test_copies_give_the_same_bits(way, build):
    model = build(way).fit(X, Y, WEIGHTS)
    p, latent = model.predict_proba(NEW), model.predict_latent(NEW, return_std=True)
    buffer = io.BytesIO()
    joblib.dump(model, buffer)
    buffer.seek(0)
    others = [copy.deepcopy(model), pickle.loads(pickle.dumps(model)), joblib.load(buffer)]
    for other in others:
        np.testing.assert_array_equal(other.predict_proba(NEW), p)
        np.testing.assert_array_equal(other.predict_latent(NEW, return_std=True), latent)
        assert other.log_marginal_likelihood() == model.log_marginal_likelihood()


@every
@pytest.mark.parametrize("random_state", [None, 0])
def test_global_generators_are_left_alone(way, random_state):
    before = torch.get_rng_state(), np.random.get_state()  # noqa: NPY002
    model = searching(way, n_restarts_optimizer=1, random_state=random_state)
    model.fit(X, Y).predict_proba(NEW)
    assert torch.equal(before[0], torch.get_rng_state())
    after = np.random.get_state()  # noqa: NPY002
    assert all(np.array_equal(a, b) for a, b in zip(after, before[1], strict=True))


@every
def test_refitting_starts_anew(way):
    fresh = known(way).fit(X, Y)
    again = known(way).fit(X[::-1], TWO).fit(X, Y)
    np.testing.assert_array_equal(again.predict_proba(NEW), fresh.predict_proba(NEW))


@every
@pytest.mark.parametrize(("build", "atol"), [(known, 1e-4), (searching, 1e-2)])
def test_float32_is_close_to_float64(way, build, atol):
    low = build(way, dtype="float32").fit(X, Y)
    # Rounding of 1e-7 times condition numbers of 1e3; searches end a little apart.
    np.testing.assert_allclose(
        low.predict_proba(NEW), build(way).fit(X, Y).predict_proba(NEW), atol=atol
    )
    assert low.predict_proba(NEW).dtype == low.theta_.dtype == np.float64


@every
def test_columns_of_frames_are_remembered(way):
    pandas = pytest.importorskip("pandas")
    frame, new = (pandas.DataFrame(x, columns=["u", "v", "w"]) for x in (X, NEW))
    model = known(way).fit(frame, pandas.Series(Y, name="label", index=frame.index + 3))
    assert model.feature_names_in_.tolist() == ["u", "v", "w"]
    plain = known(way).fit(X, Y)
    np.testing.assert_array_equal(model.predict_proba(new), plain.predict_proba(NEW))
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict_latent(new[["w", "v", "u"]])


@pytest.mark.gpu
@every
def test_fit_on_gpu_agrees_with_cpu(way, cuda):
    model = known(way, device=str(cuda)).fit(X, Y, WEIGHTS)
    wanted = known(way).fit(X, Y, WEIGHTS).predict_proba(NEW)
    # float64 rounding, carried through ten steps of Adam for "variational".
    np.testing.assert_allclose(model.predict_proba(NEW), wanted, atol=1e-7)
    model.device = "cpu"
    np.testing.assert_allclose(
        pickle.loads(pickle.dumps(model)).predict_proba(NEW), wanted, atol=1e-7
    )
    assert np.isfinite(searching(way, device=str(cuda)).fit(X, Y).predict_proba(NEW)).all()


# --- real tables -------------------------------------------------------------------------------


def split(load):
    x, y = load(return_X_y=True)
    x, x_new, y, y_new = train_test_split(x, y, test_size=0.4, stratify=y, random_state=0)
    scaler = StandardScaler().fit(x)
    return scaler.transform(x), scaler.transform(x_new), y, y_new


@pytest.mark.slow
@pytest.mark.parametrize(
    "load", [load_iris, load_wine, load_breast_cancer], ids=lambda f: f.__name__
)
def test_dirichlet_is_as_calibrated_as_sklearn(load):
    x, x_new, y, y_new = split(load)
    wanted = GaussianProcessClassifier(1.0 * RBF(1.0)).fit(x, y).predict_proba(x_new)
    found = NTKGaussianProcessClassifier().fit(x, y).predict_proba(x_new)
    assert log_loss(y_new, found) < 1.1 * log_loss(y_new, wanted)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["dirichlet", "laplace"])
def test_accuracy_on_wine(way):
    x, x_new, y, y_new = split(load_wine)
    assert NTKGaussianProcessClassifier(**WAYS[way]).fit(x, y).score(x_new, y_new) > 0.95
