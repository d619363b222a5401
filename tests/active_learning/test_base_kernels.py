"""Base kernels of fitted estimators: gradients, last layers, ensembles of networks, members."""

from functools import partial

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_diabetes, load_iris
from sklearn.ensemble import (
    BaggingClassifier,
    BaggingRegressor,
    ExtraTreesRegressor,
    GradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.linear_model import Ridge, RidgeClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler, scale
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier
from torch import nn

from sknk import NTKRidge
from sknk.active_learning import BatchActiveLearner, ensemble_features, select_batch
from sknk.active_learning._base_kernels import features_under, member_probabilities
from sknk.kernels import NTK, EmpiricalNTK
from sknk.networks import NetworkClassifier, NetworkRegressor, TangentMLP

SMALL = partial(TangentMLP, hidden=(16,))
NETWORK = NetworkRegressor(SMALL, max_epochs=10, random_state=0)


@pytest.fixture(scope="module")
def diabetes():
    X, y = load_diabetes(return_X_y=True)
    X, y = scale(X)[:120], scale(y)[:120]
    return X, y, np.where(np.arange(120) < 40, y, np.nan)


def layers(seed, outputs=1):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(10, 6), nn.Tanh(), nn.Linear(6, outputs)).double()


# --- kernels of networks --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gradient", "last_layer"])
def test_a_network_is_asked_by_its_own_kernel(diabetes, name):
    X, _, known = diabetes
    learner = BatchActiveLearner(NETWORK, "lcmd", kernel=name, batch_size=5, random_state=0)
    rows = learner.fit(X, known).query()
    module = learner.estimator_.modules_[0]
    kernel = EmpiricalNTK(module, kind="last_layer")
    if name == "gradient":
        kernel = EmpiricalNTK(module, projection=512, sketch="gaussian", random_state=0)
    expected = select_batch(X[40:], method="lcmd", batch_size=5, kernel=kernel, X_train=X[:40])
    np.testing.assert_array_equal(rows, 40 + expected)


def test_gradients_are_what_networks_have_by_default(diabetes):
    X, _, known = diabetes
    auto = BatchActiveLearner(NETWORK, batch_size=5, random_state=0).fit(X, known).query()
    named = BatchActiveLearner(NETWORK, "lcmd", kernel="gradient", batch_size=5, random_state=0)
    np.testing.assert_array_equal(auto, named.fit(X, known).query())


def test_last_layers_are_features(diabetes):
    X = torch.from_numpy(diabetes[0])
    net = layers(0)
    kernel = EmpiricalNTK(net, kind="last_layer")
    Phi = features_under(kernel, X)
    with torch.no_grad():
        torch.testing.assert_close(Phi, net[:2](X))
    torch.testing.assert_close(Phi @ Phi.T, kernel(X))


def test_sums_of_sketches_are_added_and_sums_of_embeddings_stand_side_by_side(diabetes):
    X = torch.from_numpy(diabetes[0])
    a, b = (
        EmpiricalNTK(layers(s), projection=8, sketch="gaussian", random_state=s) for s in (1, 2)
    )
    torch.testing.assert_close(features_under(a + b, X), a.features(X) + b.features(X))
    same = EmpiricalNTK(layers(2), projection=8, sketch="gaussian", random_state=1)
    Phi = features_under(a + same, X)  # one sketch for both would see their difference
    torch.testing.assert_close(Phi @ Phi.T, a(X) + same(X))
    left, right = (EmpiricalNTK(layers(s), kind="last_layer") for s in (1, 2))
    Phi = features_under(left + right, X)
    torch.testing.assert_close(Phi @ Phi.T, left(X) + right(X))
    assert features_under(a + NTK(), X) is None
    assert features_under(EmpiricalNTK(layers(1)), X) is None


def test_added_sketches_have_the_summed_kernel_as_mean(diabetes):
    X, nets = torch.from_numpy(diabetes[0][:12]), (layers(1), layers(2))
    exact = sum(EmpiricalNTK(net)(X) for net in nets)
    wide = [
        EmpiricalNTK(net, projection=20_000, sketch="gaussian", random_state=i)
        for i, net in enumerate(nets)
    ]
    Phi = features_under(wide[0] + wide[1], X)
    assert float((Phi @ Phi.T - exact).norm() / exact.norm()) < 0.05


def test_ensembles_of_networks_are_asked_by_the_sum(diabetes):
    X, _, known = diabetes
    learner = BatchActiveLearner(
        clone(NETWORK).set_params(n_models=2), batch_size=5, random_state=3
    ).fit(X, known)
    kernels = [
        EmpiricalNTK(module, projection=512, sketch="gaussian", random_state=3 + i)
        for i, module in enumerate(learner.estimator_.modules_)
    ]
    expected = select_batch(
        X[40:], method="lcmd", batch_size=5, kernel=kernels[0] + kernels[1], X_train=X[:40]
    )
    np.testing.assert_array_equal(learner.query(), 40 + expected)


@pytest.mark.parametrize("classes", [False, True])
def test_a_plain_module_is_a_learner(diabetes, classes):
    X, y, known = diabetes
    if classes:
        known = np.where(np.isnan(known), None, np.where(y > 0, "high", "low"))
        y = np.where(y > 0, "high", "low")
    learner = BatchActiveLearner(
        layers(0, 2 if classes else 1), batch_size=6, missing_label=None if classes else np.nan
    ).fit(X, known)
    assert isinstance(learner.estimator_, NetworkClassifier if classes else NetworkRegressor)
    rows = learner.query()
    assert len(set(rows)) == 6
    assert rows.min() >= 40
    assert learner.teach(rows, y[rows]).is_labelled_.sum() == 46


def test_a_module_s_learner_follows_its_seed(diabetes):
    X, y, _ = diabetes
    net = nn.Sequential(nn.Linear(10, 8), nn.Dropout(), nn.ReLU(), nn.Linear(8, 1))
    known = np.where(np.arange(120) < 100, y, np.nan)
    asked = [
        BatchActiveLearner(net, batch_size=5, random_state=0).fit(X, known).query()
        for _ in range(2)
    ]
    np.testing.assert_array_equal(*asked)


def test_networks_behind_transformers(diabetes):
    X, _, known = diabetes
    model = make_pipeline(StandardScaler(), NETWORK)
    learner = BatchActiveLearner(model, batch_size=4, random_state=0).fit(3.0 * X + 1.0, known)
    assert len(set(learner.query())) == 4


# --- members --------------------------------------------------------------------------------------

ENSEMBLES = [
    RandomForestRegressor(8, random_state=0),
    ExtraTreesRegressor(8, random_state=0),
    BaggingRegressor(Ridge(), 8, max_features=0.5, random_state=0),
    VotingRegressor([("a", Ridge()), ("b", RandomForestRegressor(5, random_state=0))]),
    NetworkRegressor(SMALL, n_models=3, max_epochs=10, random_state=0),
]


@pytest.mark.parametrize("ensemble", ENSEMBLES, ids=lambda e: type(e).__name__)
def test_inner_products_are_covariances_of_members(diabetes, ensemble):
    X, y, _ = diabetes
    fitted = clone(ensemble).fit(X[:60], y[:60])
    Phi = ensemble_features(fitted, X)
    if isinstance(ensemble, NetworkRegressor):
        members = fitted.members(X)[:, :, 0]
    else:
        columns = getattr(fitted, "estimators_features_", [slice(None)] * len(fitted.estimators_))
        parts = zip(fitted.estimators_, columns, strict=True)
        members = np.stack([member.predict(X[:, own]) for member, own in parts])
    np.testing.assert_allclose(Phi @ Phi.T, np.cov(members.T, bias=True), atol=1e-10)
    np.testing.assert_allclose(members.mean(axis=0), fitted.predict(X), rtol=1e-6)


CLASSIFIERS = [
    RandomForestClassifier(6, random_state=0),
    BaggingClassifier(DecisionTreeClassifier(max_depth=2), 6, random_state=0),
    # Members that take no weights see tables of rows, in which a class may be missing.
    BaggingClassifier(KNeighborsClassifier(1), 10, random_state=0),
    VotingClassifier([("a", KNeighborsClassifier(3)), ("b", GaussianNB())], voting="soft"),
    NetworkClassifier(SMALL, n_models=2, max_epochs=10, random_state=0),
]


@pytest.mark.parametrize("ensemble", CLASSIFIERS, ids=lambda e: type(e).__name__)
def test_members_of_classifiers_are_probabilities_of_classes(ensemble):
    X, y = load_iris(return_X_y=True)
    names = np.array(["c", "a", "b"])[y]
    rows = np.r_[0:40, 50:90, 100:101]
    fitted = clone(ensemble).fit(X[rows], names[rows])
    laws = member_probabilities(fitted, X)
    assert laws.shape[1:] == (150, 3)
    np.testing.assert_allclose(laws.sum(axis=2), 1.0)
    np.testing.assert_allclose(laws.mean(axis=0), fitted.predict_proba(X), atol=1e-12)
    deviations = (laws - laws.mean(axis=0)).transpose(1, 0, 2).reshape(150, -1)
    Phi = ensemble_features(fitted, X)
    np.testing.assert_allclose(Phi, deviations / len(laws) ** 0.5, atol=1e-12)


def test_votes_are_sure_of_one_class():
    X, y = load_iris(return_X_y=True)
    voters = VotingClassifier([("a", LinearSVC()), ("b", RidgeClassifier())]).fit(X, y)
    laws = member_probabilities(voters, X)
    expected = np.stack([np.eye(3)[member.predict(X)] for member in voters.estimators_])
    np.testing.assert_array_equal(laws, expected)


def test_members_see_named_columns():
    pandas = pytest.importorskip("pandas")
    X, y = load_iris(return_X_y=True)
    frame = pandas.DataFrame(X, columns=list("abcd"))
    by_name = make_pipeline(ColumnTransformer([("keep", "passthrough", ["a", "c"])]), GaussianNB())
    voters = VotingClassifier([("x", by_name), ("y", GaussianNB())], voting="soft").fit(frame, y)
    assert ensemble_features(voters, frame).shape == (150, 6)
    bags = BaggingClassifier(GaussianNB(), 5, max_features=2, random_state=0).fit(frame, y)
    assert ensemble_features(bags, frame).shape == (150, 15)


@pytest.mark.parametrize("kernel", [None, "members"])
def test_a_forest_is_a_learner_without_a_kernel(diabetes, kernel):
    X, y, known = diabetes
    learner = BatchActiveLearner(
        RandomForestRegressor(10, random_state=0), kernel=kernel, batch_size=5
    ).fit(X, known)
    forest = learner.estimator_
    expected = select_batch(
        ensemble_features(forest, X[40:]),
        method="lcmd",
        batch_size=5,
        X_train=ensemble_features(forest, X[:40]),
    )
    np.testing.assert_array_equal(learner.query(), 40 + expected)
    learner.teach(40 + expected, y[40 + expected])


# --- refusals -------------------------------------------------------------------------------------


def test_stages_of_boosting_are_no_members(diabetes):
    X, y, known = diabetes
    with pytest.raises(TypeError, match="GradientBoostingRegressor, no mean of several"):
        ensemble_features(GradientBoostingRegressor().fit(X, y), X)
    with pytest.raises(TypeError, match="which has no kernel of its own"):
        BatchActiveLearner(GradientBoostingRegressor()).fit(X, known).query()


@pytest.mark.parametrize(
    ("estimator", "kernel", "message"),
    [
        (NTKRidge(), "gradient", "and `estimator` NTKRidge; expected a torch network"),
        (NTKRidge(), "members", "expected a forest, bagging, voting, or networks"),
        (NETWORK, "members", "expected a forest, bagging, voting, or networks"),
        (NETWORK, "ntk", "`kernel` is 'ntk'; expected a kernel, None, or one of gradient"),
    ],
)
def test_names_of_kernels_that_an_estimator_lacks(diabetes, estimator, kernel, message):
    X, _, known = diabetes
    with pytest.raises(ValueError, match=message):
        BatchActiveLearner(estimator, kernel=kernel).fit(X, known).query()
