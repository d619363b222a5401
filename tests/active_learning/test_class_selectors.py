"""Selectors by class probabilities and by targets, against plain formulas."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from sknk import NTKGaussianProcessClassifier, NTKRidge, NTKRidgeClassifier
from sknk.active_learning import (
    BADGE,
    BAIT,
    KECOR,
    VTL,
    BatchActiveLearner,
    BatchBALD,
    Entropy,
    FisherBAIT,
    LookAhead,
    Margin,
    MaxDet,
    Posterior,
    Rescale,
    select_batch,
)
from sknk.active_learning._registry import NAMED
from sknk.exceptions import NumericalWarning
from sknk.kernels import NTK

N, D, C, S2 = 40, 4, 3, 0.2
CLASSIFYING = [Margin(), Entropy(), BADGE(), FisherBAIT(), KECOR(), LookAhead()]


def table(seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(N, D)), rng.dirichlet(np.ones(C), size=N)


def covariance(X, train, s2=S2):
    """Return the linear kernel's covariance given training rows."""
    K, B = X @ X.T, X @ train.T
    return K - B @ np.linalg.solve(train @ train.T + s2 * np.eye(len(train)), B.T)


# --- formulas -------------------------------------------------------------------------------------


def test_margin_and_entropy_are_orders_of_probabilities():
    X, p = table()
    first, second = np.sort(p, axis=1)[:, ::-1][:, :2].T
    found = select_batch(X, method="margin", batch_size=7, proba=p)
    np.testing.assert_array_equal(found, np.argsort(first - second, kind="stable")[:7])
    found = select_batch(X, method="entropy", batch_size=7, proba=p)
    np.testing.assert_array_equal(found, np.argsort((p * np.log(p)).sum(1), kind="stable")[:7])


def test_draws_are_averaged_where_one_law_is_enough():
    X, p = table()
    draws = np.stack([p, np.roll(p, 1, axis=1)])
    by_draws = select_batch(X, method="entropy", batch_size=5, proba=draws)
    by_mean = select_batch(X, method="entropy", batch_size=5, proba=draws.mean(axis=0))
    np.testing.assert_array_equal(by_draws, by_mean)


def test_badge_is_k_means_plus_plus_of_explicit_gradients():
    X, p = table()
    g = p - np.eye(C)[p.argmax(axis=1)]
    explicit = np.einsum("nc,nd->ncd", g, X).reshape(N, -1)
    found = select_batch(X, method="badge", batch_size=6, proba=p, random_state=3)
    assert found[0] == np.square(explicit).sum(axis=1).argmax()
    # Same draws on the explicit features, from the same first row.
    others = select_batch(
        explicit,
        method="kmeans++",
        batch_size=5,
        X_train=explicit[found[:1]],
        random_state=3,
    )
    np.testing.assert_array_equal(found[1:], others)


def test_badge_by_features_is_badge_by_kernel():
    X, p = table()
    options = {"method": "badge", "batch_size": 6, "proba": p, "random_state": 0}
    linear = NTK(depth=0, bias_var=0.0, normalize=False)
    scale = np.sqrt(linear(X[:1])[0, 0] / (X[0] @ X[0]))
    by_kernel = select_batch(X, kernel=linear, **options)
    np.testing.assert_array_equal(by_kernel, select_batch(X * scale, **options))


def test_fisher_bait_lowers_the_trace_that_the_paper_writes():
    X, p = table()
    train, q = X[:6], p[:6]
    A = lambda p: np.sqrt(p)[:, :, None] * (np.eye(C) - p[:, None, :])  # noqa: E731
    V = np.einsum("ncb,nd->ncbd", A(p), X).reshape(N, C, -1)
    V_train = np.einsum("ncb,nd->ncbd", A(q), train).reshape(6 * C, -1)
    every = np.vstack([V.reshape(N * C, -1), V_train])
    M = S2 * np.linalg.inv(V_train.T @ V_train + S2 * np.eye(C * D))
    F = every.T @ every
    scores = []
    for v in V:
        G = np.linalg.inv(v @ M @ v.T + S2 * np.eye(C))
        scores.append(np.trace(v @ M @ F @ M @ v.T @ G))
    found = select_batch(
        X,
        method=FisherBAIT(overselect=1.0),
        batch_size=1,
        X_train=train,
        proba=p,
        proba_train=q,
        noise_variance=S2,
    )
    assert found[0] == np.argmax(scores)


def test_fisher_bait_without_training_rows_and_with_its_backward_pass():
    X, p = table(3)
    A = np.sqrt(p)[:, :, None] * (np.eye(C) - p[:, None, :])
    V = np.einsum("ncb,nd->ncbd", A, X).reshape(N * C, -1)

    def left(groups):
        rows = (np.asarray(groups)[:, None] * C + np.arange(C)).ravel()
        B = V[rows]
        return np.trace(V @ np.linalg.inv(np.eye(C * D) + B.T @ B / S2) @ V.T)

    forward = []
    for _ in range(4):
        costs = [np.inf if i in forward else left([*forward, i]) for i in range(N)]
        forward.append(int(np.argmin(costs)))
    while len(forward) > 2:
        forward.pop(int(np.argmin([left([h for h in forward if h != g]) for g in forward])))
    found = select_batch(X, method=FisherBAIT(2.0), batch_size=2, proba=p, noise_variance=S2)
    assert found.tolist() == forward


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_fisher_bait_at_a_tiny_noise_and_sure_classes(dtype, classes):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(150, 6)).astype(dtype)
    p = rng.dirichlet(np.ones(classes), size=150)
    p[:20] = np.eye(classes)[rng.integers(classes, size=20)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NumericalWarning)
        found = select_batch(X, method="fisher-bait", batch_size=8, proba=p)
    assert len(set(found)) == 8
    assert found.min() >= 20  # rows whose class is sure tell nothing


@pytest.mark.parametrize("method", ["bait-fb", "fisher-bait"])
def test_noise_below_rounding_is_said(method):
    # At a single scale all that is left of variances may round to nothing, and no row is chosen
    # by rounding: then there is nothing to say.
    X, p = table()

    def choose():
        return [
            select_batch(scale * X, method=method, batch_size=3, proba=p)
            for scale in range(250, 360, 10)
        ]

    with pytest.warns(NumericalWarning, match=r"`noise_variance` is 1e-06 and variances go from"):
        choose()


def test_batchbald_stops_where_labels_tell_nothing():
    draws = np.full((4, 6, 2), 0.5)
    with pytest.warns(NumericalWarning, match="BatchBALD found 0 rows"):
        found = select_batch(np.zeros((6, 1)), method="batchbald", batch_size=3, proba=draws)
    assert len(set(found)) == 3


def test_utilities_of_drawn_configurations_are_those_of_the_choice():
    X, _, known = iris()
    learner = BatchActiveLearner(
        RandomForestClassifier(15, max_depth=3, random_state=0),
        BatchBALD(n_configurations=9),
        batch_size=6,
    ).fit(X, known)
    rows, utilities = learner.query(return_utilities=True)
    np.testing.assert_array_equal(np.nanargmax(utilities, axis=1), rows)


def test_vtl_after_the_posterior_given_training_rows():
    X, _ = table()
    train, targets = X[:4] * 0.5, X[30:] * 2.0
    options = {"method": "vtl", "batch_size": 4, "X_target": targets, "noise_variance": S2}
    found = select_batch(X[:30], X_train=train, transforms=[Posterior()], **options)
    np.testing.assert_array_equal(found, select_batch(X[:30], X_train=train, **options))


def test_vtl_at_many_targets_is_vtl_at_few():
    X, _ = table()
    many = np.repeat(X[5:9], 30, axis=0)  # as many as columns are no longer kept for
    options = {"method": "vtl", "batch_size": 4, "kernel": NTK(), "noise_variance": S2}
    found = select_batch(X, X_target=many, **options)
    np.testing.assert_array_equal(found, select_batch(X, X_target=X[5:9], **options))


def test_rescaling_looks_at_the_pool_and_not_at_targets():
    X, _ = table()
    options = {"method": "vtl", "batch_size": 3, "transforms": [Rescale()], "noise_variance": S2}
    found = select_batch(X, X_target=10.0 * X[:5], **options)
    factor = np.square(X).sum(axis=1).mean() ** -0.5
    by_hand = {"method": "vtl", "batch_size": 3, "noise_variance": S2}
    expected = select_batch(factor * X, X_target=10.0 * factor * X[:5], **by_hand)
    np.testing.assert_array_equal(found, expected)


def test_kecor_is_maxdet_with_entropies_for_bonus():
    X, p = table()
    bonus = 0.5 * -(p * np.log(p)).sum(axis=1)
    found = select_batch(X, method=KECOR(0.5), batch_size=4, proba=p, noise_variance=S2)
    plain = select_batch(X, method=MaxDet(), batch_size=4, bonus=bonus, noise_variance=S2)
    np.testing.assert_array_equal(found, plain)


def test_look_ahead_is_the_plain_loop():
    X, p = table()
    train = X[:5] + 0.1
    K = np.vstack([X, train]) @ np.vstack([X, train]).T
    known, F, found = list(range(N, N + 5)), p.copy(), []
    for _ in range(4):
        G = np.linalg.inv(K[np.ix_(known, known)] + S2 * np.eye(len(known)))
        Cov = (K - K[:, known] @ G @ K[known])[:N, :N]
        step = np.eye(C)[F.argmax(axis=1)] - F
        scores = np.linalg.norm(step, axis=1) * np.abs(Cov).sum(axis=0) / (np.diag(Cov) + S2)
        scores[found] = -np.inf
        i = int(scores.argmax())
        F = F + np.outer(Cov[:, i] / (Cov[i, i] + S2), step[i])
        found.append(i)
        known.append(i)
    ours = select_batch(
        X, method="look-ahead", batch_size=4, X_train=train, proba=p, noise_variance=S2
    )
    assert ours.tolist() == found


def test_vtl_lowers_the_variance_at_targets_most():
    X, _ = table()
    train, targets = X[:3] * 0.5, np.random.default_rng(1).normal(size=(7, D))
    found = select_batch(
        X, method="vtl", batch_size=3, X_train=train, X_target=targets, noise_variance=S2
    )
    known = train
    for row in found:
        sums = [np.trace(covariance(targets, np.vstack([known, X[i : i + 1]]))) for i in range(N)]
        sums = np.array(sums)
        sums[[i for i in range(N) if any(np.array_equal(X[i], k) for k in known)]] = np.inf
        assert row == sums.argmin()
        known = np.vstack([known, X[row : row + 1]])


def test_vtl_at_pool_and_training_rows_is_bait():
    X, _ = table()
    train = X[:3] * 0.5
    options = {"X_train": train, "batch_size": 5, "noise_variance": S2}
    found = select_batch(X, method="vtl", X_target=np.vstack([X, train]), **options)
    np.testing.assert_array_equal(found, select_batch(X, method=BAIT(), **options))


@pytest.mark.parametrize("kernel", [None, NTK(depth=1)])
def test_vtl_never_returns_a_target(kernel):
    X, _ = table()
    found = select_batch(X[:5], method="vtl", batch_size=5, X_target=X[5:] * 3.0, kernel=kernel)
    assert sorted(found) == list(range(5))


def test_batchbald_prefers_rows_on_which_draws_disagree():
    sure, split = [[0.5, 0.5]] * 4, np.array([[1.0, 0], [0, 1.0], [1.0, 0], [0, 1.0]])
    other = np.array([[1.0, 0], [1.0, 0], [0, 1.0], [0, 1.0]])
    draws = np.stack([np.array(sure), split, split, other], axis=1)  # (4, rows, 2)
    found = select_batch(np.zeros((4, 1)), method="batchbald", batch_size=2, proba=draws)
    assert found.tolist() == [1, 3]  # row 2 is row 1 again


# --- what they need -------------------------------------------------------------------------------


@pytest.mark.parametrize("selector", CLASSIFYING, ids=lambda s: type(s).__name__)
def test_without_probabilities_they_say_what_is_missing(selector):
    with pytest.raises(ValueError, match=r"was given no class probabilities; expected `proba`"):
        select_batch(table()[0], method=selector, batch_size=2)


def test_batchbald_needs_draws_and_vtl_targets():
    X, p = table()
    with pytest.raises(ValueError, match="was given no draws of class probabilities"):
        select_batch(X, method="batchbald", batch_size=2, proba=p)
    with pytest.raises(ValueError, match="was given no rows to judge; expected `X_target`"):
        select_batch(X, method="vtl", batch_size=2)


@pytest.mark.parametrize("method", [n for n in NAMED if n != "vtl"])
def test_targets_are_refused_by_those_who_judge_none(method):
    X, p = table()
    options = {"proba": np.stack([p, p]), "proba_train": p[:3], "X_train": X[:3] + 0.1}
    with pytest.raises(ValueError, match=r"`X_target` has 5 rows and \w+ judges none"):
        select_batch(X, method=method, batch_size=2, X_target=X[:5], **options)
    learner = BatchActiveLearner(NTKRidge()).fit(X, np.where(np.arange(N) < 9, X[:, 0], np.nan))
    with pytest.raises(ValueError, match="BAIT judges none"):
        learner.query(X_target=X[:5])


def test_training_probabilities_are_of_the_pool_s_classes():
    X, p = table()
    options = {"method": "fisher-bait", "batch_size": 2, "proba": p}
    with pytest.raises(ValueError, match=r"`proba_train` has shape \(3, 2\); expected \(3, 3\)"):
        select_batch(X, X_train=X[:3], proba_train=np.full((3, 2), 0.5), **options)
    with pytest.raises(ValueError, match="`proba_train` is given and `X_train` is None"):
        select_batch(X, proba_train=p[:3], **options)


@pytest.mark.parametrize(
    ("selector", "message"),
    [
        (BatchBALD(n_configurations=0), "`n_configurations` is 0"),
        (FisherBAIT(overselect=0.5), "`overselect` is 0.5"),
    ],
)
def test_parameters_are_checked(selector, message):
    X, p = table()
    with pytest.raises(ValueError, match=message):
        select_batch(X, method=selector, batch_size=2, proba=np.stack([p, p]))


def test_fisher_bait_needs_probabilities_of_training_rows():
    X, p = table()
    with pytest.raises(ValueError, match="`proba_train` is None and there are 3 training rows"):
        select_batch(X, method="fisher-bait", batch_size=2, X_train=X[:3], proba=p)


@pytest.mark.parametrize(
    ("proba", "message"),
    [
        (np.r_[[[1.0, 0.5]], np.full((N - 1, 2), 0.5)], r"\[1.0, 0.5\] for a row; expected rows"),
        (np.full((N - 1, 2), 0.5), r"expected \(40, C\) or \(S, 40, C\)"),
        (np.full((N, 1), 1.0), "at least two classes"),
        (np.full((N, 2), np.nan), "rows that sum to 1"),
    ],
)
def test_probabilities_are_checked(proba, message):
    with pytest.raises(ValueError, match=message):
        select_batch(table()[0], method="margin", batch_size=2, proba=proba)


def test_candidates_keep_their_probabilities():
    X, p = table()
    rows = np.array([30, 3, 11, 19])
    found = select_batch(X, method="entropy", batch_size=2, proba=p, candidates=rows)
    whole = select_batch(X, method="entropy", batch_size=N, proba=p)
    assert found.tolist() == [i for i in whole if i in rows][:2]


def test_targets_have_the_pool_s_features():
    X, _ = table()
    with pytest.raises(ValueError, match="`X_target` has 2 features and `X_pool` 4"):
        select_batch(X, method="vtl", batch_size=1, X_target=[[0.0, 1.0]])


# --- with a learner -------------------------------------------------------------------------------


def iris():
    X, y = load_iris(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(X))
    X, y = X[order], y[order].astype(float)
    return X, y, np.where(np.arange(len(y)) < 15, y, np.nan)


MODELS = {
    "ridge": NTKRidgeClassifier(alpha=0.1),
    "process": NTKGaussianProcessClassifier(optimizer=None, amplitude=4.0, alpha_eps=0.01),
}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("selector", CLASSIFYING, ids=lambda s: type(s).__name__)
def test_a_classifier_brings_its_probabilities(selector, model):
    X, y, known = iris()
    pipeline = make_pipeline(StandardScaler(), clone(MODELS[model]))
    learner = BatchActiveLearner(pipeline, selector, batch_size=5, random_state=0).fit(X, known)
    rows, utilities = learner.query(return_utilities=True)
    assert len(set(rows)) == 5
    assert np.isnan(known[rows]).all()
    open_ = np.isnan(known)
    assert np.isfinite(utilities[0, open_]).all()
    assert np.isnan(utilities[0, ~open_]).all()
    if not isinstance(selector, BADGE) and getattr(selector, "overselect", 1.0) == 1.0:
        assert np.nanargmax(utilities[0]) == rows[0]
    assert learner.teach(rows, y[rows]).score(X, y) > 0.8
    p = learner.estimator_.predict_proba(X[learner.is_labelled_])
    assert p.shape == (20, 3)


@pytest.mark.parametrize(
    "model",
    [MODELS["process"], RandomForestClassifier(10, random_state=0)],
    ids=["process", "forest"],
)
def test_batchbald_asks_draws_of_the_model(model):
    X, _, known = iris()
    pipeline = make_pipeline(StandardScaler(), clone(model))
    learner = BatchActiveLearner(
        pipeline, BatchBALD(n_samples=20, n_configurations=100), batch_size=4, random_state=0
    ).fit(X, known)
    rows = learner.query()
    assert len(set(rows)) == 4
    np.testing.assert_array_equal(rows, learner.query())


def test_batchbald_of_one_model_says_what_has_draws():
    X, _, known = iris()
    learner = BatchActiveLearner(NTKRidgeClassifier(), "batchbald", batch_size=2).fit(X, known)
    with pytest.raises(ValueError, match="was given no draws of class probabilities"):
        learner.query()


def test_before_labels_there_are_no_probabilities():
    X, _, known = iris()
    learner = BatchActiveLearner(NTKRidgeClassifier(), "margin")
    with pytest.raises(ValueError, match="`predict_proba` and some labels"):
        learner.fit(X, np.full_like(known, np.nan)).query()


@pytest.mark.parametrize("selector", ["margin", "entropy", "random"])
def test_selectors_that_look_at_no_kernel_need_none(selector):
    X, _, known = iris()
    learner = BatchActiveLearner(LogisticRegression(), selector, batch_size=3, random_state=0)
    rows = learner.fit(X, known).query()
    assert len(set(rows)) == 3
    by_kernel = clone(learner).set_params(kernel=NTK()).fit(X, known)
    np.testing.assert_array_equal(rows, by_kernel.query())


def test_probabilities_of_a_learner_are_checked():
    class Broken(LogisticRegression):
        def predict_proba(self, X):
            return np.full((len(X), 3), np.nan)

    X, _, known = iris()
    learner = BatchActiveLearner(Broken(), "margin").fit(X, known)
    with pytest.raises(ValueError, match=r"`predict_proba of Broken` has \[nan, nan, nan\]"):
        learner.query()


def test_the_pool_s_and_the_training_rows_probabilities_reach_fisher_bait():
    X, _, known = iris()
    pipeline = make_pipeline(StandardScaler(), NTKRidgeClassifier(alpha=0.1))
    learner = BatchActiveLearner(pipeline, "fisher-bait", batch_size=4).fit(X, known)
    model, open_ = learner.estimator_, np.isnan(known)
    rows = select_batch(
        model[:-1].transform(X[open_]),
        method="fisher-bait",
        batch_size=4,
        kernel=model[-1].kernel_,
        X_train=model[:-1].transform(X[~open_]),
        proba=model.predict_proba(X[open_]),
        proba_train=model.predict_proba(X[~open_]),
        noise_variance=0.1,
    )
    np.testing.assert_array_equal(learner.query(), np.flatnonzero(open_)[rows])


def test_draws_are_of_rows_as_the_model_sees_them():
    X, _, known = iris()
    forest = RandomForestClassifier(12, random_state=0)
    mirrored = make_pipeline(FunctionTransformer(np.negative), forest)
    options = {"selector": "batchbald", "batch_size": 5}
    plain = BatchActiveLearner(forest, **options).fit(X, known).query()
    mirror = BatchActiveLearner(mirrored, **options).fit(-X, known).query()
    np.testing.assert_array_equal(plain, mirror)


def test_any_classifier_serves_with_a_kernel():
    X, _, known = iris()
    learner = BatchActiveLearner(LogisticRegression(), "badge", kernel=NTK(), batch_size=3)
    assert len(set(learner.fit(X, known).query())) == 3


def test_a_learner_s_targets_are_rows_as_passed():
    X, _, known = iris()
    learner = BatchActiveLearner(
        make_pipeline(StandardScaler(), NTKRidgeClassifier(alpha=0.1)), VTL(), batch_size=3
    ).fit(X, known)
    target = X[np.isnan(known)][-1:]
    rows = learner.query(X_target=target)
    by_hand = make_pipeline(StandardScaler()).fit(X[~np.isnan(known)])
    open_ = np.flatnonzero(np.isnan(known))
    expected = select_batch(
        by_hand.transform(X[open_]),
        method="vtl",
        batch_size=3,
        kernel=learner.estimator_[-1].kernel_,
        X_train=by_hand.transform(X[~np.isnan(known)]),
        X_target=by_hand.transform(target),
        noise_variance=0.1,
    )
    np.testing.assert_array_equal(rows, open_[expected])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device")
@pytest.mark.parametrize("selector", [*CLASSIFYING, BatchBALD()], ids=lambda s: type(s).__name__)
def test_class_selectors_run_on_a_gpu(selector):
    X, p = table()
    draws = np.stack([p, np.roll(p, 1, axis=0)])
    options = {"method": selector, "batch_size": 4, "proba": draws, "random_state": 0}
    np.testing.assert_array_equal(
        select_batch(X, device="cuda", **options), select_batch(X, device="cpu", **options)
    )
