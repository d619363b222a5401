import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.kernel_ridge import KernelRidge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from sknk import (
    NTKGaussianProcessClassifier,
    NTKGaussianProcessRegressor,
    NTKRidge,
    NTKRidgeClassifier,
    NTKRidgeClassifierCV,
    NTKRidgeCV,
)
from sknk.attribution._machine import machine_of
from sknk.kernels import NTK
from sknk.solvers import Cholesky, Whole
from tests.attribution.families import FAMILIES, KERNEL, KNOWN
from tests.cases import SEARCH, rows

FEW = {"max_evaluations": 2}
REGRESSORS = {
    "ridge": NTKRidge(KERNEL, alpha=0.4),
    "ridge_plain": NTKRidge(KERNEL, alpha=0.4, fit_intercept=False, solver="eigh"),
    "ridge_cv": NTKRidgeCV(**SEARCH),
    "ridge_features": NTKRidgeCV(feature_learning="agop", max_rounds=1, **SEARCH),
    "gp": NTKGaussianProcessRegressor(KERNEL, **FEW),
    "gp_normalized": NTKGaussianProcessRegressor(KERNEL, normalize_y=True, **FEW),
    "gp_nngp": NTKGaussianProcessRegressor(KERNEL, posterior="nngp", **FEW),
    "gp_ensemble": NTKGaussianProcessRegressor(KERNEL, posterior="ensemble", **FEW),
    "gp_student": NTKGaussianProcessRegressor(KERNEL, prior="student", **FEW),
    "gp_ard": NTKGaussianProcessRegressor(KERNEL, ard=True, normalize_y=True, **FEW),
    "pipeline": make_pipeline(StandardScaler(), NTKRidge(KERNEL)),
    "nested": make_pipeline(StandardScaler(), make_pipeline("passthrough", NTKRidge(KERNEL))),
    "frozen_step": make_pipeline(StandardScaler(), NTKRidge(KERNEL, alpha=3.0)),
}
CLASSIFIERS = {
    "classifier": NTKRidgeClassifier(KERNEL, alpha=0.4),
    "balanced": NTKRidgeClassifier(KERNEL, alpha=0.4, class_weight="balanced"),
    "classifier_cv": NTKRidgeClassifierCV(**SEARCH),
    "classifier_features": NTKRidgeClassifierCV(
        feature_learning="agop_diag", max_rounds=1, **SEARCH
    ),
    "pipeline": make_pipeline(StandardScaler(), NTKRidgeClassifier(KERNEL)),
}
RTOL = 1e-9


def outputs_of(estimator, X):
    """Return what the machine of a fitted estimator predicts with all rows, prior and all."""
    machine = machine_of(estimator)
    with machine.place():
        games = machine.games(machine.judged(X))
        found = [Whole.of(g, Cholesky().factorize(g.K, g.shift)).outputs for g in games]
    return machine.head.prior + torch.cat(found, dim=1).numpy()


def assert_outputs(estimator, X, expected):
    found = outputs_of(estimator, X)
    np.testing.assert_allclose(found.reshape(expected.shape), expected, rtol=RTOL, atol=RTOL)


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("name", REGRESSORS)
def test_machine_of_regressor_predicts_as_it_does(data, name, outputs):
    y = data.y if outputs == 1 else data.Y
    model = clone(REGRESSORS[name]).fit(data.X, y)
    assert_outputs(model, data.X_val, model.predict(data.X_val))
    assert_outputs(FrozenEstimator(model), data.X_val, model.predict(data.X_val))


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_machine_of_classifier_decides_as_it_does(data, name, n_classes):
    y = data.classes if n_classes == 3 else data.classes == "a"
    model = clone(CLASSIFIERS[name]).fit(data.X, y)
    assert_outputs(model, data.X_val, model.decision_function(data.X_val))
    found = machine_of(model).head.read(outputs_of(model, data.X_val))
    np.testing.assert_array_equal(found, model.predict(data.X_val))


@pytest.mark.parametrize("name", ["ridge", "ridge_plain", "ridge_cv", "gp", "gp_normalized"])
@pytest.mark.parametrize("kind", ["weights", "zeros", "copies", "weighted-copies"])
def test_machine_predicts_with_weights_and_copies(data, name, kind):
    X, y, w = data.X, data.y, data.weights
    w = np.where(np.arange(16) % 4 == 0, 0.0, w) if kind == "zeros" else w
    if "copies" in kind:
        again = np.arange(16).repeat(np.arange(16) % 3 + 1)
        X, y = X[again], y[again]
        w = np.random.default_rng(1).uniform(0.2, 2.0, len(X)) if "weighted" in kind else None
    model = clone(REGRESSORS[name]).fit(X, y, w)
    assert_outputs(model, data.X_val, model.predict(data.X_val))


def test_machine_numbers_distinct_rows(data):
    again = np.array([0, 1, 0, 2, 1, 0])
    machine = machine_of(data.ridge.fit(data.X[again], data.y[again]))
    assert machine.same.tolist() == [0, 1, 0, 2, 1, 0]
    assert machine.copies.tolist() == [1.0] * 6


def test_merged_games_predict_as_the_copies_do(data):
    again = np.arange(16).repeat(np.arange(16) % 3 + 1)
    w = np.random.default_rng(1).uniform(0.2, 2.0, len(again))
    model = data.ridge.fit(data.X[again], data.y[again], w)
    machine = machine_of(model)
    with machine.place():
        games, first, copy_of = machine.merged_games(machine.judged(data.X_val))
        (game,) = games
        found = Whole.of(game, Cholesky().factorize(game.K, game.shift)).outputs
    np.testing.assert_array_equal(data.X[again][first][copy_of], data.X[again])
    np.testing.assert_allclose(model.intercept_ + found[:, 0], model.predict(data.X_val), rtol=RTOL)


def test_machine_predicts_multilabel(data):
    labels = (data.Y.mean(axis=0) < data.Y).astype(int)
    model = data.classifier.fit(data.X, labels)
    assert_outputs(model, data.X_val, model.decision_function(data.X_val))


@pytest.mark.parametrize("model", [NTKRidge, NTKRidgeCV], ids=lambda m: m.__name__)
def test_machine_predicts_when_precomputed(data, model):
    model = model("precomputed").fit(KERNEL(data.X), data.y, data.weights)
    K = KERNEL(data.X_val, data.X)
    assert_outputs(model, K, model.predict(K))


def test_machine_of_dirichlet_classifier_has_its_latent_means(data):
    model = NTKGaussianProcessClassifier(KERNEL, **FEW)
    w = np.where(np.arange(16) % 5 == 0, 0.0, 1.0 + np.arange(16) % 2)
    again = np.append(np.arange(16), [3, 3, 7])
    model.fit(data.X[again], data.classes[again], np.append(w, [1.0, 0.5, 2.0]))
    with torch.no_grad():
        expected = model._model.latent(torch.from_numpy(data.X_val)).mean
    assert_outputs(model, data.X_val, expected.numpy())


def test_machine_of_noise_by_row_predicts_as_it_does(data):
    again = np.append(np.arange(16), [3, 3])
    noise = np.random.default_rng(2).uniform(0.1, 1.0, 18)
    noise[16] = noise[3]
    for normalize in (False, True):
        model = NTKGaussianProcessRegressor(
            KERNEL, noise_variance=noise, normalize_y=normalize, **FEW
        )
        model.fit(data.X[again], data.y[again])
        assert_outputs(model, data.X_val, model.predict(data.X_val))


def test_machine_of_appended_gaussian_process_predicts_as_it_does(data):
    model = NTKGaussianProcessRegressor(KERNEL, **KNOWN)
    model.fit(data.X[:9], data.y[:9])
    model.partial_fit(data.X[6:], data.y[6:])  # some rows twice
    assert_outputs(model, data.X_val, model.predict(data.X_val))


def test_machine_stays_in_float32(data):
    model = NTKRidge(KERNEL, alpha=0.4, dtype="float32").fit(data.X, data.y)
    machine = machine_of(model)
    with machine.place():
        (game,) = machine.games(machine.judged(data.X_val))
    assert {t.dtype for t in (game.K, game.cross, game.shift, game.Y)} == {torch.float32}
    np.testing.assert_allclose(
        outputs_of(model, data.X_val)[:, 0], model.predict(data.X_val), atol=1e-5
    )


@pytest.mark.parametrize("name", FAMILIES)
def test_machine_gives_the_game_of_its_family(name):
    family = FAMILIES[name](7)
    model = family.estimator
    model = model if isinstance(model, FrozenEstimator) else clone(model).fit(family.X, family.y)
    np.testing.assert_allclose(
        outputs_of(model, family.X_val), family.outputs(np.arange(7)), rtol=RTOL, atol=RTOL
    )


UNSUPPORTED = {
    "laplace": NTKGaussianProcessClassifier(
        KERNEL, inference="laplace", amplitude=4.0, optimizer=None
    ),
    "variational": NTKGaussianProcessClassifier(
        KERNEL, inference="variational", amplitude=4.0, optimizer=None, rank=5, max_epochs=1
    ),
    "rank": NTKGaussianProcessRegressor(KERNEL, rank=5, random_state=0, **FEW),
    "training_time": NTKGaussianProcessRegressor(KERNEL, training_time=2.0, **FEW),
    "sklearn": KernelRidge(),
    "pipeline": make_pipeline(StandardScaler(), SVC()),
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_machine_error_names_what_is_supported(data, name):
    estimator = UNSUPPORTED[name]
    classifies = name in ("laplace", "variational", "pipeline")
    model = clone(estimator).fit(data.X, data.classes if classifies else data.y)
    message = "`estimator` is .*; expected NTKRidge, NTKRidgeClassifier, their CV forms"
    with pytest.raises(TypeError, match=message):
        machine_of(model)


@pytest.mark.parametrize("estimator", [3, NTKRidge, "passthrough"], ids=["int", "class", "str"])
def test_machine_error_names_the_type_of_what_is_no_estimator(estimator):
    with pytest.raises(TypeError, match=r"`estimator` is .*; expected NTKRidge"):
        machine_of(estimator)


@pytest.mark.parametrize(
    "estimator",
    [
        NTKRidge(),
        FrozenEstimator(NTKRidge()),
        NTKGaussianProcessRegressor(),
        NTKGaussianProcessClassifier(),
        make_pipeline(StandardScaler(), NTKRidge()),
    ],
    ids=["ridge", "frozen", "gp", "gp-classifier", "pipeline"],
)
def test_machine_of_unfitted_estimator_is_refused(estimator):
    with pytest.raises(NotFittedError, match="not fitted"):
        machine_of(estimator)


def test_machine_judges_only_rows_of_its_width(data):
    machine = machine_of(data.ridge.fit(data.X, data.y))
    with pytest.raises(ValueError, match="3 features"):
        machine.judged(rows(4, 5))


def test_machine_kernel_is_the_fitted_one(data):
    model = NTKRidgeCV(NTK(), param_grid={"depth": [1, 3]}, alphas=[0.1]).fit(data.X, data.y)
    assert machine_of(model).kernel == model.kernel_
