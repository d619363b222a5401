"""Kernels of modules as objects: copies, settings, first-order models, sums, derivatives."""

import copy
import pickle

import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import NotFittedError

from sknk import NTKRidge
from sknk._config import config_context
from sknk.kernels import NTK, EmpiricalNTK, Normalized, linearize
from tests.cases import rows
from tests.kernels.empirical.trying import (
    WAYS,
    assert_close,
    assert_right,
    each_way,
    linear,
)
from tests.modules import mlp, seeded
from tests.reference import empirical

# --- objects --------------------------------------------------------------------------------------


class Net(BaseEstimator):
    """Stands for a skorch net: `module` makes it, `initialize` keeps it in `module_`."""

    def __init__(self, module=None):
        self.module = module

    def initialize(self):
        self.module_ = self.module()
        return self


def test_net_stands_for_its_module():
    net, X = Net(lambda: seeded(lambda: mlp(3, 2))).initialize(), rows(4)
    assert_close(EmpiricalNTK(net)(X), EmpiricalNTK(net.module_)(X), rtol=1e-15)
    with torch.no_grad():
        net.module_[0].weight.mul_(2.0)  # as training would
    copied = clone(EmpiricalNTK(net))
    np.testing.assert_array_equal(copied(X), EmpiricalNTK(net)(X))
    assert copied == EmpiricalNTK(net)
    fitted = NTKRidge(EmpiricalNTK(net)).fit(X, [0.0, 1.0, 2.0, 3.0])
    np.testing.assert_array_equal(fitted.kernel_(X), EmpiricalNTK(net)(X))


def test_net_without_a_module_is_not_fitted():
    with pytest.raises(NotFittedError, match="`module` is a Net without `module_`"):
        EmpiricalNTK(Net(lambda: seeded(lambda: mlp(3, 2))))(rows(2))
    with pytest.raises(TypeError, match=r"`module` is None; expected a torch\.nn\.Module"):
        EmpiricalNTK(None)(rows(2))


@each_way
def test_copies_and_pickles_are_equal_kernels(implementation):
    kernel, X = EmpiricalNTK(seeded(lambda: mlp(3, 2)), implementation=implementation), rows(4)
    K = kernel(X)
    others = clone(kernel), pickle.loads(pickle.dumps(kernel)), copy.deepcopy(kernel)
    for other in others:
        assert other == kernel
        assert other.module is not kernel.module
        np.testing.assert_array_equal(other(X), K)
    with torch.no_grad():
        kernel.module[0].bias.add_(0.1)
    assert all(other != kernel for other in others)


def test_equality_sees_settings():
    net = seeded(lambda: mlp(3, 2))
    kernel = EmpiricalNTK(net)
    for change in ({"kind": "pseudo"}, {"params": "*.bias"}, {"projection": 3}, {"chunk_size": 2}):
        assert kernel.clone_with_params(change) != kernel
    assert kernel != NTK()


def test_fitted_model_pickles_rows_and_weights_only():
    net = seeded(lambda: mlp(3, 2, width=64))
    X, numbers = rows(200), sum(p.numel() for p in net.parameters())
    model = NTKRidge(EmpiricalNTK(net)).fit(X, X[:, 0])
    # Rows, dual coefficients and the factor of K, weights as parameter and fitted; 20 kB of names.
    allowed = 8 * (200 * 3 + 2 * 200 + 200 * 200 + 2 * numbers) + 20_000
    assert 8 * 200 * numbers > 10 * allowed  # a Jacobian would be seen
    assert len(pickle.dumps(model)) < allowed


def test_training_changes_the_kernel_and_not_a_fitted_model():
    net, X = seeded(lambda: mlp(3, 2)), rows(6)
    kernel, optimizer = EmpiricalNTK(net), torch.optim.SGD(net.parameters(), lr=0.1)
    K, model = kernel(X), NTKRidge(kernel, alpha=0.1).fit(X, X[:, 0])
    before = model.predict(X)
    net(torch.tensor(X)).square().sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    assert np.abs(kernel(X) - K).max() > 1e-3 * np.abs(K).max()
    assert_right(net, X)
    np.testing.assert_array_equal(model.predict(X), before)
    assert np.abs(clone(model).fit(X, X[:, 0]).predict(X) - before).max() > 1e-6


WRONG = {
    "kind": ({"kind": "mean"}, ValueError, "`kind` of EmpiricalNTK is 'mean'; expected one of"),
    "implementation": ({"implementation": "fast"}, ValueError, "`implementation` .* 'fast'"),
    "sketch": ({"sketch": "gauss"}, ValueError, "`sketch` of EmpiricalNTK is 'gauss'"),
    "projection": ({"projection": 0}, ValueError, "`projection` .* is 0; expected 1 or more"),
    "projection_type": ({"projection": 1.5}, TypeError, "`projection` .* is 1.5; expected None"),
    "projection_bool": ({"projection": True}, TypeError, "`projection` .* is True"),
    "chunk_size": ({"chunk_size": -1}, ValueError, "`chunk_size` .* is -1; expected 1 or more"),
    "chunk_size_type": ({"chunk_size": "2"}, TypeError, "`chunk_size` .* is '2'"),
    "random_state": ({"random_state": None}, TypeError, "`random_state` .* is None"),
    "input_shape": ({"input_shape": (2, 2)}, ValueError, r"`input_shape` is \(2, 2\), 4 numbers"),
    "input_dtype": ({"input_dtype": "float32"}, ValueError, "`input_dtype` is 'float32'"),
    "input_dtype_name": ({"input_dtype": "codes"}, ValueError, "`input_dtype` is 'codes'"),
    "params": ({"kind": "embedding", "params": "*"}, ValueError, r"`params` is '\*' with kind"),
    "embedding": (
        {"kind": "last_layer", "projection": 3},
        ValueError,
        "`projection` is 3 with kind='last_layer', which differentiates nothing",
    ),
}


@pytest.mark.parametrize(("options", "error", "match"), WRONG.values(), ids=WRONG)
def test_wrong_parameters_are_refused(options, error, match):
    kernel = EmpiricalNTK(seeded(lambda: mlp(3, 2)), **options)
    for call in (kernel, kernel.diag):
        with pytest.raises(error, match=match):
            call(rows(2))


def test_wrong_labels_are_refused():
    kernel, X = EmpiricalNTK(seeded(lambda: mlp(3, 2))), rows(3)
    with pytest.raises(ValueError, match=r"`y` has shape \(2,\); expected \(3,\)"):
        kernel.labelled(X, [0, 1])
    with pytest.raises(ValueError, match=r"`y` has the label .*2.*; expected 0 to 1"):
        kernel.labelled(X, [0, 1, 2])
    with pytest.raises(ValueError, match="`Y` is given and `y2` is missing"):
        kernel.labelled(X, [0, 1, 1], X)
    with pytest.raises(ValueError, match=r"`y2` has the label .*-1.*; expected 0 to 1"):
        kernel.labelled(X, [0, 1, 1], X[:1], [-1])


def test_forms_that_do_not_exist_are_refused():
    net, X = seeded(lambda: mlp(3, 2)), rows(3)
    with pytest.raises(ValueError, match="layerwise has kind='embedding', projection=None"):
        EmpiricalNTK(net, kind="embedding").layerwise(X)
    with pytest.raises(ValueError, match="layerwise has kind='trace', projection=3"):
        EmpiricalNTK(net, projection=3).layerwise(X)
    with pytest.raises(ValueError, match="`projection` is None; expected the number of features"):
        EmpiricalNTK(net).features(X)
    with pytest.raises(ValueError, match="kind='last_layer' differentiates nothing"):
        EmpiricalNTK(net, kind="last_layer").choose_implementation(X)
    with pytest.raises(ValueError, match="implementation='vector_products'; expected"):
        EmpiricalNTK(net, implementation="vector_products").layerwise(X)


# --- the first-order model ------------------------------------------------------------------------


def test_linearization_keeps_the_weights_it_was_made_with():
    net, X = seeded(lambda: mlp(3, 2)), rows(4)
    model, u = linearize(net), rows(4, 2, seed=1)
    before = model.f0(X), model.kernel_matmul(X, None, u)
    with torch.no_grad():
        net[0].weight.mul_(2.0)
    np.testing.assert_array_equal(model.f0(X), before[0])
    np.testing.assert_array_equal(model.kernel_matmul(X, None, u), before[1])
    assert np.abs(linearize(net).f0(X) - before[0]).max() > 1e-3


def test_linearization_moves_chosen_parameters_only():
    net, X = seeded(lambda: mlp(3, 2)), rows(4)
    J = empirical.jacobian(net, X).only("4.weight", "4.bias")
    model, v = linearize(net, params="4.*"), rows(1, 18, seed=1)[0]
    direction = {"4.weight": v[:16].reshape(2, 8), "4.bias": v[16:]}
    assert_close(model.jvp(X, direction), J @ v)
    assert_close(model.jvp(X, {"4.bias": v[16:]}), J[..., 16:] @ v[16:])
    assert list(model.vjp(X, np.ones((4, 2)))) == ["4.weight", "4.bias"]


def test_linearization_refuses_wrong_directions():
    model, X = linearize(seeded(lambda: mlp(3, 2)), params="4.*"), rows(4)
    with pytest.raises(
        ValueError, match=r"`direction` has '0\.bias', which is no chosen parameter"
    ):
        model.jvp(X, {"0.bias": np.ones(8)})
    with pytest.raises(ValueError, match=r"'4\.bias' of shape \(3,\); expected \(2,\)"):
        model.jvp(X, {"4.bias": np.ones(3)})
    with pytest.raises(ValueError, match=r"`cotangent` has shape \(4, 3\); expected \(4, 2\)"):
        model.vjp(X, np.ones((4, 3)))
    with pytest.raises(ValueError, match="`X` has no rows; expected at least one"):
        model.f0(X[:0])


# --- embeddings -----------------------------------------------------------------------------------


def test_embeddings_equal_the_inputs_of_layers():
    net, X, Y = seeded(lambda: mlp(3, 2)), rows(5), rows(3, seed=1)
    last, every = (EmpiricalNTK(net, kind=kind) for kind in ("last_layer", "embedding"))
    assert_close(last(X, Y), empirical.last_layer(net, X, Y))
    assert_close(every(X, Y), empirical.embedding(net, X, Y))
    assert_close(every.diag(X), np.diag(empirical.embedding(net, X)))
    with config_context(tile_size=2):
        assert_close(last(X), empirical.last_layer(net, X))
        assert_close(every(X), empirical.embedding(net, X))


def test_embedding_of_one_layer_is_refused():
    for kind in ("last_layer", "embedding"):
        with pytest.raises(ValueError, match=r"Linear has no layer with a hidden input"):
            EmpiricalNTK(seeded(linear(3, 2)), kind=kind)(rows(2))


# --- algebra and gradients ------------------------------------------------------------------------


@each_way
@pytest.mark.parametrize("kind", ["trace", "pseudo"])
def test_normalized_is_the_cosine_form(kind, implementation):
    net, X, Y = seeded(lambda: mlp(3, 2)), rows(4), rows(3, seed=1)
    J, L = (empirical.jacobian(net, table).J for table in (X, Y))
    form = getattr(empirical, kind)
    scale = np.sqrt(np.outer(np.diag(form(J)), np.diag(form(L))))
    kernel = Normalized(EmpiricalNTK(net, kind=kind, implementation=implementation))
    assert_close(kernel(X, Y), form(J, L) / scale)
    np.testing.assert_array_equal(kernel.diag(X), np.ones(4))


def test_sums_and_products_with_other_kernels():
    net, X, Y, other = seeded(lambda: mlp(3, 2)), rows(4), rows(3, seed=1), NTK(bias_var=0.1)
    kernel = EmpiricalNTK(net)
    K, L = kernel(X, Y), other(X, Y)
    assert_close((2.0 * kernel + other)(X, Y), 2.0 * K + L, rtol=1e-14)
    assert_close((kernel * other + 0.5)(X, Y), K * L + 0.5, rtol=1e-14)
    assert_close((kernel * other).matmul(X, Y, np.ones(3)), (K * L).sum(axis=1), rtol=1e-13)
    model = NTKRidge(kernel + other, alpha=0.1, fit_intercept=False).fit(X, X[:, 0])
    total = kernel(X) + other(X)
    assert_close(model.predict(X), total @ np.linalg.solve(total + 0.1 * np.eye(4), X[:, 0]))


def central_difference(f, x, step=1e-5):
    """Derivative of a number in every entry of x; error O(step^2) + eps/step = 1e-10."""
    found = np.empty(x.shape)
    for index in np.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[index] += step
        down[index] -= step
        found[index] = (f(up) - f(down)) / (2.0 * step)
    return found


KERNELS = {way: {"implementation": way} for way in WAYS}
KERNELS |= {kind: {"kind": kind} for kind in ("pseudo", "last_layer", "embedding")}


@pytest.mark.parametrize("options", KERNELS.values(), ids=KERNELS)
def test_gradients_of_rows_equal_finite_differences(options):
    kernel, X, Y = EmpiricalNTK(seeded(lambda: mlp(3, 2)), **options), rows(3), rows(2, seed=1)
    W, V = rows(3, 2, seed=2), rows(3, 3, seed=3)
    with config_context(tile_size=2):
        cross, auto = kernel.vjp(X, Y, W), kernel.vjp(X, None, V)
    # 1e-8: the error of central differences at this step, on entries of order one.
    assert_close(cross.X, central_difference(lambda x: (W * kernel(x, Y)).sum(), X), rtol=1e-8)
    assert_close(cross.Y, central_difference(lambda y: (W * kernel(X, y)).sum(), Y), rtol=1e-8)
    assert_close(auto.X, central_difference(lambda x: (V * kernel(x)).sum(), X), rtol=1e-8)


@each_way
def test_autograd_equals_vjp(implementation):
    kernel = EmpiricalNTK(seeded(lambda: mlp(3, 2)), implementation=implementation)
    x, W = torch.tensor(rows(3), requires_grad=True), rows(3, 3, seed=2)
    (torch.tensor(W) * kernel(x)).sum().backward()
    assert_close(x.grad.numpy(), kernel.vjp(rows(3), None, W).X, rtol=1e-14)
