import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from sklearn.base import clone
from torch import nn

from sknk import NTKRidge
from sknk.attribution import InfluenceAttributor, TRAKAttributor
from sknk.attribution._trak import margin_directions
from sknk.features import EmpiricalNTKFeatures
from sknk.kernels import EmpiricalNTK
from sknk.kernels._empirical._gradients import Dense, RowGradients
from sknk.kernels._empirical._sketch import SKETCHES
from tests.cases import rows
from tests.modules import mlp, seeded
from tests.reference import attribution_knn as reference

X, V = rows(14, d=3, seed=1), rows(6, d=3, seed=2)
NAMES = np.array(["no", "so", "yes"])


def net(outputs, seed=0):
    return seeded(lambda: mlp(3, outputs, width=4), seed)


def codes(n, outputs, seed=0):
    return np.random.default_rng(seed).integers(max(outputs, 2), size=n)


def projection(module, k, sketch="rademacher", seed=0):
    """The signs S / sqrt(k) of all parameters, (P, k), from gradients that are unit vectors."""

    shapes = SimpleNamespace(leaves=dict(module.named_parameters()))
    blocks = []
    for name, p in shapes.leaves.items():
        units = Dense(torch.eye(p.numel(), dtype=p.dtype).reshape(1, p.numel(), len(p), -1))
        gradients = RowGradients(((name,),), (units,))
        blocks.append(SKETCHES[sketch](k, seed).gradients(gradients, shapes))
    return torch.cat(blocks).detach().numpy()


def naive(modules, ridges, y, y_val, k, sketch="rademacher"):
    """Return tau (m, n) by autograd, explicit signs and inverses."""
    tests, trains, doubts = [], [], []
    for module in modules:
        S = projection(module, k, sketch)
        G, p = reference.margin_gradients(module, X, y)
        trains.append(G @ S)
        doubts.append(1.0 - p)
        tests.append(reference.margin_gradients(module, V, y_val)[0] @ S)
    return reference.trak(tests, trains, doubts, ridges)


# --- margins -------------------------------------------------------------------------------------


@pytest.mark.parametrize("outputs", [1, 2, 4])
def test_margin_directions_are_derivatives_of_log_odds(outputs):
    f = torch.tensor(3.0 * rows(9, d=outputs), requires_grad=True)
    y = codes(9, outputs)
    logits = torch.cat([torch.zeros_like(f), f], 1) if outputs == 1 else f
    p = logits.softmax(1)[torch.arange(9), torch.as_tensor(y)]
    (wanted,) = torch.autograd.grad(torch.log(p / (1.0 - p)).sum(), f)
    weights, doubt = margin_directions(f.detach().numpy(), y)
    np.testing.assert_allclose(weights, wanted, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(doubt, 1.0 - p.detach(), rtol=1e-9)


def test_margin_directions_hold_where_probabilities_are_rounded_to_one():
    weights, doubt = margin_directions(
        np.array([[60.0, 0.0, 0.0], [0.0, 800.0, 0.0]]), np.arange(2)
    )
    np.testing.assert_allclose(weights, [[1.0, -0.5, -0.5], [-0.5, 1.0, -0.5]])
    assert doubt[0] == pytest.approx(2.0 * np.exp(-60.0), rel=1e-12)
    assert np.isfinite(doubt).all()


# --- against autograd and explicit signs ---------------------------------------------------------


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("k", [5, 40])  # fewer features than rows, and more
@pytest.mark.parametrize("sketch", ["rademacher", "sparse"])
def test_values_are_those_of_explicit_projections(outputs, k, sketch):
    module, y, y_val = net(outputs), codes(14, outputs), codes(6, outputs, seed=1)
    model = TRAKAttributor(module, k, ridge=0.1, sketch=sketch).fit(X, y, V, y_val)
    wanted = naive([module], model.ridges_, y, y_val, k, sketch)
    found = model.attribute(V, y_val)
    np.testing.assert_allclose(found, wanted, rtol=1e-8, atol=1e-10 * np.abs(wanted).max())
    np.testing.assert_allclose(model.values_, found.mean(0), rtol=1e-9, atol=1e-14)


def test_factors_of_checkpoints_are_averaged_apart():
    modules, y, y_val = [net(3, s) for s in range(3)], codes(14, 3), codes(6, 3, seed=1)
    model = TRAKAttributor(modules, 8).fit(X, y)
    wanted = naive(modules, model.ridges_, y, y_val, 8)
    found = model.attribute(V, y_val)
    np.testing.assert_allclose(found, wanted, rtol=1e-8, atol=1e-10 * np.abs(wanted).max())
    each = np.mean([TRAKAttributor(m, 8).fit(X, y).attribute(V, y_val) for m in modules], axis=0)
    assert np.abs(found - each).max() > 1e-3 * np.abs(each).max()  # not the mean of values


def test_ridge_is_relative_to_the_norms_of_features():
    module, y = net(1), X[:, 0]
    model = TRAKAttributor(module, 16, ridge=0.2).fit(X, y)
    Z = EmpiricalNTKFeatures(module, 16, kind="pseudo").fit(X).transform(X)
    np.testing.assert_allclose(model.ridges_, 0.2 * np.square(Z).sum(1).mean(), rtol=1e-12)


def test_values_without_validation_rows_are_means_over_the_training_rows():
    y = codes(14, 3)
    model = TRAKAttributor(net(3), 16).fit(X, y)
    np.testing.assert_allclose(model.values_, model.attribute(X, y).mean(0), rtol=1e-9, atol=1e-14)
    np.testing.assert_array_equal(model.std_error_, np.zeros(14))


def test_values_of_more_signs_approach_those_of_all_gradients():
    module, y, y_val = net(3), codes(14, 3), codes(6, 3, seed=1)
    model = TRAKAttributor(module, 8192, ridge=0.3).fit(X, y)
    (G, p), (H, _) = (reference.margin_gradients(module, *pair) for pair in ((X, y), (V, y_val)))
    wanted = reference.trak([H], [G], [1.0 - p], model.ridges_)
    # 8192 signs: inner products are right to 1/90 of the norms, and the ridge is .3 of them.
    assert np.abs(model.attribute(V, y_val) - wanted).max() < 0.15 * np.abs(wanted).max()


def test_training_on_a_row_moves_margins_as_its_values_say():
    """One step on a row, in the metric of the features, by finite differences."""
    module, y, y_val = net(2), codes(14, 2), codes(6, 2, seed=1)
    S = projection(module, 7)
    model = TRAKAttributor(module, 7, ridge=0.1).fit(X, y)
    G, p = reference.margin_gradients(module, X, y)
    Z = G @ S
    step = S @ np.linalg.solve(Z.T @ Z + model.ridges_[0] * np.eye(7), Z[4] * (1.0 - p[4]))
    moved = clone(model).module
    torch.nn.utils.vector_to_parameters(
        torch.nn.utils.parameters_to_vector(module.parameters()) + 1e-6 * torch.from_numpy(step),
        moved.parameters(),
    )
    with torch.no_grad():
        margins = [
            np.diff(log_softmax(m(torch.as_tensor(V)).numpy(), axis=1))[:, 0] * (2 * y_val - 1)
            for m in (module, moved)
        ]
    found = model.attribute(V, y_val)[:, 4]
    np.testing.assert_allclose((margins[1] - margins[0]) / 1e-6, found, rtol=1e-4, atol=1e-6)


# --- regression ----------------------------------------------------------------------------------


def solved_network(k, ridge):
    """A linear network that ridge regression on its own projected gradients would give."""
    module = seeded(lambda: nn.Linear(3, 1, bias=False))
    S, y = projection(module, k), X[:, 0] + X[:, 1] ** 2
    Z = X @ S
    with torch.no_grad():
        w = S @ np.linalg.solve(Z.T @ Z + ridge * np.eye(k), Z.T @ y)
        module.weight.copy_(torch.from_numpy(w))
    return module, y


@pytest.mark.parametrize("k", [2, 30])
def test_regression_is_the_influence_function_of_ridge_on_the_projected_kernel(k):
    Z = X @ projection(seeded(lambda: nn.Linear(3, 1, bias=False)), k)
    alpha = 0.3 * np.square(Z).sum(1).mean()
    module, y = solved_network(k, alpha)
    y_val = V[:, 0]
    kernel = EmpiricalNTK(module, "pseudo", projection=k)
    ridge = NTKRidge(kernel, alpha=alpha, fit_intercept=False)
    influence = InfluenceAttributor(ridge).fit(X, y, V, y_val)
    model = TRAKAttributor(module, k, ridge=0.3).fit(X, y, V, y_val)
    np.testing.assert_allclose(
        model.attribute(V, y_val), influence.attribute(V, y_val), rtol=1e-8, atol=1e-12
    )
    np.testing.assert_allclose(model.values_, influence.values_, rtol=1e-8, atol=1e-12)


def test_whole_numbers_are_numbers_where_the_task_says_so():
    y = np.arange(14)
    found = TRAKAttributor(net(1), 8, task="regression").fit(X, y)
    np.testing.assert_array_equal(
        found.values_, TRAKAttributor(net(1), 8, task="regression").fit(X, y.astype(float)).values_
    )
    assert not hasattr(found, "classes_")


# --- labels --------------------------------------------------------------------------------------


@pytest.mark.parametrize("outputs", [1, 2, 3])
def test_labels_are_outputs_in_their_order(outputs):
    y, y_val = np.resize(np.arange(max(outputs, 2)), 14), codes(6, outputs)
    numbered = TRAKAttributor(net(outputs), 8).fit(X, y, V, y_val)
    named = TRAKAttributor(net(outputs), 8).fit(X, NAMES[y], V, NAMES[y_val])
    np.testing.assert_array_equal(named.values_, numbered.values_)
    assert named.classes_.tolist() == NAMES[: max(outputs, 2)].tolist()


def test_labels_that_training_lacks_are_outputs_all_the_same():
    model = TRAKAttributor(net(3), 8).fit(X, np.resize([0, 2], 14))
    assert model.attribute(V, np.ones(6)).shape == (6, 14)


def test_removal_curve_refits_a_surrogate():
    y = (X[:, 0] > 0).astype(int)
    model = TRAKAttributor(net(2), 32).fit(X, y)
    curve = model.removal_curve(X, y, fractions=[0.0, 0.5], n_random=1, random_state=0)
    assert curve.scores[0] > 0.9
    assert model.estimator_.kernel_.projection == 32


# --- rows, places, copies ------------------------------------------------------------------------


def test_values_do_not_depend_on_chunks():
    y = codes(14, 3)
    whole = TRAKAttributor(net(3), 8).fit(X, y).values_
    parts = TRAKAttributor(net(3), 8, chunk_size=4).fit(X, y).values_
    np.testing.assert_allclose(parts, whole, rtol=1e-9, atol=1e-14)


def test_rows_are_unpacked_to_inputs():
    images = seeded(
        lambda: nn.Sequential(nn.Conv2d(1, 2, (1, 3)), nn.Tanh(), nn.Flatten(), nn.Linear(2, 2))
    )
    model = TRAKAttributor(images, 8, input_shape=(1, 1, 3)).fit(X, codes(14, 2))
    assert np.isfinite(model.values_).all()


def test_networks_are_copied_with_their_weights_and_never_changed():
    module, y = net(3), codes(14, 3)
    model = TRAKAttributor([module], 8).fit(X, y)
    before = model.attribute(V, y[:6])
    twin = clone(model)
    with torch.no_grad():
        module[0].weight.add_(1.0)
    np.testing.assert_array_equal(model.attribute(V, y[:6]), before)
    np.testing.assert_array_equal(twin.fit(X, y).attribute(V, y[:6]), before)
    loaded = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(loaded.attribute(V, y[:6]), before)


def test_float32_is_near_float64():
    y = codes(14, 3)
    wanted = TRAKAttributor(net(3), 8).fit(X, y).values_
    found = TRAKAttributor(net(3), 8, dtype="float32").fit(X, y).values_
    assert found.dtype == np.float64
    # Condition number n / ridge = 1e4 times the rounding of float32.
    np.testing.assert_allclose(found, wanted, rtol=1e-2, atol=1e-3 * np.abs(wanted).max())


@pytest.mark.gpu
def test_values_are_the_same_on_a_gpu(cuda):
    y = codes(14, 3)
    wanted = TRAKAttributor(net(3), 8).fit(X, y)
    found = TRAKAttributor(net(3), 8, device="cuda").fit(X, y)
    np.testing.assert_allclose(found.values_, wanted.values_, rtol=1e-7, atol=1e-12)
    followed = TRAKAttributor(net(3), 8).fit(torch.as_tensor(X, device=cuda), y)
    np.testing.assert_allclose(followed.values_, wanted.values_, rtol=1e-7, atol=1e-12)


# --- bad input -----------------------------------------------------------------------------------


def test_several_outputs_are_no_regression():
    with pytest.raises(ValueError, match="`module` has 3 outputs and `y` are numbers"):
        TRAKAttributor(net(3), 8).fit(X, X[:, 0])


def test_labels_that_are_no_outputs_are_refused():
    with pytest.raises(ValueError, match=r"has 3 classes, \[5, 6, 7\].*labels 0 to 1, or 2 others"):
        TRAKAttributor(net(2), 8).fit(X, np.resize([5, 6, 7], 14))


def test_unseen_labels_are_refused():
    model = TRAKAttributor(net(3), 8).fit(X, codes(14, 3))
    with pytest.raises(ValueError, match=r"`y_val` has the labels \[7\]"):
        model.attribute(V, np.full(6, 7))


def test_empty_list_is_refused():
    with pytest.raises(ValueError, match="`module` is an empty list"):
        TRAKAttributor([], 8).fit(X, codes(14, 2))


def test_network_without_gradients_is_refused():
    dead = seeded(lambda: nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)))
    with torch.no_grad():
        dead[0].bias.fill_(-100.0)
    with pytest.raises(ValueError, match="gradients of `module` are zero at all 14 training rows"):
        TRAKAttributor(dead, 8, params="0.*").fit(X, codes(14, 2))


def test_rows_without_targets_are_refused():
    with pytest.raises(ValueError, match="`y_val` is None"):
        TRAKAttributor(net(2), 8).fit(X, codes(14, 2), V)
    with pytest.raises(ValueError, match="one finite number a row"):
        TRAKAttributor(net(1), 8).fit(X, X[:, 0]).attribute(V, np.full(6, np.nan))
