"""Networks as estimators: scikit-learn's checks, the recipe, what they keep and refuse."""

import copy
import pickle
from functools import partial

import numpy as np
import pytest
import torch
from scipy.special import softmax
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_iris
from sklearn.metrics import log_loss
from sklearn.preprocessing import scale
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch import nn

from sknk.kernels import EmpiricalNTK
from sknk.networks import NetworkClassifier, NetworkRegressor, TangentMLP
from sknk.networks._training import Recipe, trained

SMALL = partial(TangentMLP, hidden=(16,))
REGRESSOR = NetworkRegressor(SMALL, max_epochs=30, random_state=0)
CLASSIFIER = NetworkClassifier(SMALL, max_epochs=30, random_state=0)


@pytest.fixture(scope="module")
def diabetes():
    X, y = load_diabetes(return_X_y=True)
    return scale(X), y


@pytest.fixture(scope="module")
def iris():
    X, y = load_iris(return_X_y=True)
    return scale(X), np.array(["a", "b", "c"])[y]


@parametrize_with_checks([REGRESSOR, CLASSIFIER, clone(REGRESSOR).set_params(n_models=2)])
def test_scikit_learn_s_checks(estimator, check):
    check(estimator)


# --- the module -----------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["relu", "silu"])
def test_tangent_mlp_is_its_formula(activation):
    torch.manual_seed(0)
    net = TangentMLP(3, 2, hidden=(5, 4), activation=activation).double()
    weight, bias = {"relu": (0.2, 0.2), "silu": (0.5, 1.0)}[activation]
    weights = [p.detach().clone() for p in net.parameters()]
    assert all((W[:, -1] == 0).all() for W in weights)
    for p in net.parameters():
        p.data[:, -1] = torch.randn(len(p), dtype=torch.float64)
    x = torch.randn(7, 3, dtype=torch.float64)
    h, phi = x, getattr(torch.nn.functional, activation)
    for W in net.parameters():
        h = phi(h) if h is not x else h
        h = weight / h.shape[1] ** 0.5 * h @ W[:, :-1].T + bias * W[:, -1]
    torch.testing.assert_close(net(x), h)


def test_tangent_mlp_is_served_by_structured_gradients():
    net, X = TangentMLP(4, 1, hidden=(8, 8)), np.random.default_rng(0).normal(size=(9, 4))
    assert EmpiricalNTK(net).choose_implementation(X).name == "structured"


def test_tangent_mlp_names_its_activations():
    with pytest.raises(ValueError, match="`activation` is 'tanh'; expected one of relu, silu"):
        TangentMLP(2, 1, activation="tanh")


# --- the recipe -----------------------------------------------------------------------------------


def test_training_is_adam_with_a_falling_rate():
    torch.manual_seed(1)
    start, X, Y = nn.Linear(3, 1).double(), torch.randn(10, 3).double(), torch.randn(10, 1).double()
    recipe = Recipe(nn.functional.mse_loss, 0.1, max_epochs=4, batch_size=5)
    torch.manual_seed(2)
    found = trained(start, X, Y, recipe)
    torch.manual_seed(2)
    by_hand, moments = copy.deepcopy(start), {}
    for step, rows in enumerate(r for _ in range(4) for r in torch.randperm(10).tensor_split(2)):
        by_hand.zero_grad()
        nn.functional.mse_loss(by_hand(X[rows]), Y[rows]).backward()
        for p in by_hand.parameters():
            m, v = moments.get(p, (0.0, 0.0))
            m, v = 0.9 * m + 0.1 * p.grad, 0.999 * v + 0.001 * p.grad.square()
            moments[p] = m, v
            t, rate = step + 1, 0.1 * (1 - step / 8)
            p.data -= rate * (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)).sqrt() + 1e-8)
    for a, b in zip(found.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-8)


def test_the_best_epoch_on_validation_rows_is_kept(diabetes):
    X, y = diabetes
    held_out = X[300:], y[300:]
    over = {"max_epochs": 300, "random_state": 0}
    kept = NetworkRegressor(SMALL, validation_data=held_out, **over).fit(X[:60], y[:60])
    last = NetworkRegressor(SMALL, **over).fit(X[:60], y[:60])
    assert kept.score(*held_out) > last.score(*held_out) + 0.05


def test_frozen_weights_stay(iris):
    X, y = iris
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    net[0].requires_grad_(False)
    found = NetworkClassifier(net, max_epochs=20, random_state=0).fit(X, y).modules_[0]
    torch.testing.assert_close(found[0].weight, net[0].weight.double(), rtol=0, atol=0)
    assert not torch.equal(found[2].weight, net[2].weight.double())


# --- members --------------------------------------------------------------------------------------


def test_predictions_are_means_of_members(diabetes, iris):
    X, y = diabetes
    several = clone(REGRESSOR).set_params(n_models=3).fit(X, y)
    parts = several.members(X)
    assert parts.shape == (3, len(X), 1)
    assert np.ptp(parts, axis=0).max() > 1.0
    np.testing.assert_allclose(several.predict(X), parts.mean(axis=0)[:, 0])
    X, y = iris
    several = clone(CLASSIFIER).set_params(n_models=3).fit(X, y)
    expected = softmax(several.members(X), axis=2).mean(axis=0)
    np.testing.assert_allclose(several.predict_proba(X), expected)
    assert log_loss(y, several.predict_proba(X)) < 0.35  # chance: 1.1


def test_several_outputs(diabetes):
    X, y = diabetes
    both = NetworkRegressor(SMALL, max_epochs=30, random_state=0).fit(X, np.stack([y, -y], axis=1))
    found = both.predict(X)
    assert found.shape == (len(X), 2)
    assert np.corrcoef(found[:, 0], y)[0, 1] > 0.7
    assert np.corrcoef(found[:, 1], y)[0, 1] < -0.7


def test_a_module_starts_from_its_weights_and_is_not_changed(iris):
    X, y = iris
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    before = copy.deepcopy(net.state_dict())
    frozen = NetworkClassifier(net, max_epochs=0).fit(X, y)
    with torch.no_grad():
        logits = net(torch.from_numpy(X).float()).numpy()
    np.testing.assert_allclose(frozen.members(X)[0], logits, rtol=1e-5, atol=1e-6)
    NetworkClassifier(net, max_epochs=3).fit(X, y)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


# --- what holds for every estimator ---------------------------------------------------------------


@pytest.mark.parametrize("dropout", [False, True])
def test_fits_depend_on_the_seed_only_and_leave_global_generators(iris, dropout):
    X, y = iris
    layers = [nn.Linear(4, 8), nn.ReLU(), *([nn.Dropout()] if dropout else []), nn.Linear(8, 3)]
    model = NetworkClassifier(nn.Sequential(*layers), max_epochs=5, random_state=3)
    state, numpys = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    first = clone(model).fit(X, y).predict_proba(X)
    assert torch.equal(state, torch.get_rng_state())
    np.testing.assert_array_equal(numpys, np.random.get_state()[1])  # noqa: NPY002
    torch.manual_seed(99)
    np.testing.assert_array_equal(first, clone(model).fit(X, y).predict_proba(X))


def test_without_a_seed_global_generators_stay_too(iris):
    X, y = iris
    state, numpys = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    NetworkClassifier(SMALL, max_epochs=1).fit(X, y)
    assert torch.equal(state, torch.get_rng_state())
    np.testing.assert_array_equal(numpys, np.random.get_state()[1])  # noqa: NPY002


def test_a_module_that_a_function_shares_is_not_changed(iris):
    X, y = iris
    shared = nn.Linear(4, 3)
    NetworkClassifier(lambda d, o: shared, max_epochs=2).fit(X, y)
    assert shared.weight.dtype == torch.float32
    assert shared.training


@pytest.mark.parametrize("model", [REGRESSOR, CLASSIFIER], ids=["regressor", "classifier"])
def test_pickles_predict_the_same(model, diabetes, iris):
    X, y = diabetes if model is REGRESSOR else iris
    fitted = clone(model).fit(X, y)
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.predict(X), fitted.predict(X))


def test_float32_is_near_float64(diabetes):
    X, y = diabetes
    short = clone(REGRESSOR).set_params(max_epochs=3)
    narrow = clone(short).set_params(dtype="float32").fit(X, y)
    assert next(narrow.modules_[0].parameters()).dtype == torch.float32
    wide = short.fit(X, y)
    np.testing.assert_allclose(narrow.predict(X), wide.predict(X), rtol=0.01)


def test_a_failed_fit_leaves_the_estimator(iris):
    X, y = iris
    model = clone(CLASSIFIER).fit(X, y)
    before = model.predict_proba(X)
    model.learning_rate = 1e300
    with pytest.raises(ValueError, match=r"The loss is nan after 30 epochs with `learning_rate`"):
        model.fit(X, y)
    with pytest.raises(ValueError, match="after 1 epochs"):  # the last step counts too
        clone(model).set_params(max_epochs=1, learning_rate=1e200).fit(X, y)
    model.learning_rate = None
    np.testing.assert_array_equal(before, model.predict_proba(X))


def test_refusals(iris, diabetes):
    X, y = iris
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    with pytest.raises(ValueError, match=r"outputs of shape \(2,\) for a row; expected \(3,\)"):
        NetworkClassifier(net).fit(X, y)
    with pytest.raises(ValueError, match="no parameter that requires a gradient"):
        NetworkClassifier(nn.Flatten()).fit(X[:, :3], y)
    with pytest.raises(ValueError, match=r"`validation_data` has 1 parts; expected \(X, y\)"):
        NetworkClassifier(SMALL, validation_data=(X,)).fit(X, y)
    with pytest.raises(ValueError, match="`validation_data` has targets of shape"):
        NetworkRegressor(SMALL, validation_data=(X, X[:, :2])).fit(X, X[:, 0])
    with pytest.raises(ValueError, match="`n_models` is 2 and `module` has its first weights"):
        NetworkClassifier(net, n_models=2).fit(X, y)
    with pytest.raises(ValueError, match=r"`y` has one class \('a'\)"):
        CLASSIFIER.fit(X[:5], y[:5])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device")
@pytest.mark.parametrize("model", [REGRESSOR, CLASSIFIER], ids=["regressor", "classifier"])
def test_networks_train_on_a_gpu(model, diabetes, iris):
    X, y = diabetes if model is REGRESSOR else iris
    fitted = clone(model).set_params(device="cuda").fit(X, y)
    assert fitted.score(X, y) > 0.4
    assert next(fitted.modules_[0].parameters()).device.type == "cpu"
