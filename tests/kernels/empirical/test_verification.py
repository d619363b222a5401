"""What is tried before a module or an implementation is trusted, and what is not remembered."""

import copy

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import nn
from torch.nn import functional

from sknk import config_context
from sknk.kernels import EmpiricalNTK
from tests.cases import rows
from tests.modules import mlp, seeded
from tests.reference import empirical

X = rows(5, d=6)


def assert_right(kernel, module, X=X, L=None):
    J = empirical.jacobian(module, X).J
    # Rounding of sums over a few hundred parameters.
    np.testing.assert_allclose(kernel(X), empirical.trace(J), rtol=1e-10, atol=1e-12)


class Block(nn.Module):
    """Two layers with a computation between them."""

    def __init__(self, between, hidden=4, outputs=2):
        super().__init__()
        self.a, self.b = nn.Linear(6, hidden), nn.Linear(hidden, outputs)
        self.between = between

    def forward(self, x):
        return self.b(self.between(self, torch.tanh(self.a(x))))


class Tied(nn.Module):
    """Reads its first layer's weight again, outside of that layer."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(6, 4)
        nn.init.zeros_(self.encoder.bias)

    def forward(self, x):
        return functional.linear(torch.tanh(self.encoder(x)), self.encoder.weight.T)


class MergesWhenEvaluated(nn.Linear):
    """Writes into its weight in ``train``, as low-rank adapters do."""

    def train(self, mode=True):
        if not mode:
            self.weight.data += 1.0
        return super().train(mode)


def test_weights_are_not_merged_by_classes_that_do_so_in_train():
    net = nn.Sequential(MergesWhenEvaluated(6, 3), nn.Linear(3, 2)).double()
    before, K = net[0].weight.detach().clone(), EmpiricalNTK(net)(X)
    assert torch.equal(net[0].weight, before)
    np.testing.assert_array_equal(EmpiricalNTK(net)(X), K)


@pytest.mark.parametrize("bad", [np.nan, 0.0])
def test_rows_without_a_gradient_prove_nothing(bad):
    net, first = seeded(Tied), X.copy()
    first[0] = bad
    kernel = EmpiricalNTK(net)
    if np.isnan(bad):
        with pytest.raises(ValueError, match="row 0"):
            kernel(first)
    else:
        assert_right(kernel, net, first)
    assert_right(kernel, net)


def test_hooks_added_later_are_seen():
    net = seeded(lambda: nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 2)))
    kernel = EmpiricalNTK(net)
    assert_right(kernel, net)
    net[0].register_forward_hook(lambda module, args, out: out * torch.tensor([1.0, 0, 1, 0]))
    assert_right(kernel, net)


def test_settings_changed_later_are_seen():
    def between(module, h):
        return module.a(functional.linear(h, module.a.weight.T)) if module.config["twice"] else h

    net = seeded(lambda: Block(between))
    net.config = {"twice": False}
    kernel = EmpiricalNTK(net)
    assert_right(kernel, net)
    net.config["twice"] = True
    assert_right(kernel, net)


@pytest.mark.parametrize("rows_seen", [1, 5])
@pytest.mark.parametrize("scale", [1.0, 1e-10])
def test_coupled_rows_are_seen_with_one_row_and_with_small_outputs(rows_seen, scale):
    net = seeded(lambda: Block(lambda module, h: h - h.mean(0)))
    with torch.no_grad():
        net.b.weight.mul_(scale)
        net.b.bias.zero_()
    for method in ("full", "per_output", "asymmetric_sign", "__call__"):
        with pytest.raises(ValueError, match="couples rows"):
            getattr(EmpiricalNTK(net), method)(X[:rows_seen])


def test_layers_that_see_some_tokens_only_are_refused():
    class Packed(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(2, 4), nn.Linear(4, 2)

        def forward(self, x):
            tokens, out = x.reshape(-1, 3, 2), x.new_zeros(len(x), 3, 4)
            mask = tokens[..., 0] > -0.5
            out[mask] = self.a(tokens[mask])
            return self.b(out.sum(1))

    net = seeded(Packed)
    found = EmpiricalNTK(net, implementation="loop")
    assert_right(found, net)
    with pytest.raises(ValueError, match="layer 'a' sees other rows"):
        EmpiricalNTK(net, implementation="structured")(X)


def test_closures_over_the_module_are_refused():
    net = seeded(lambda: nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 2)))
    net.forward = lambda x: net[2](net[1](net[0](x)))
    with pytest.raises(ValueError, match=r"reads '0\.weight' through a function that belongs"):
        EmpiricalNTK(net)(X)


def test_forward_mode_is_refused_when_it_ignores_no_grad():
    def between(module, h):
        with torch.no_grad():
            frozen = torch.tanh(h)
        return h * frozen

    net = seeded(lambda: Block(between))
    kernel = EmpiricalNTK(net, projection=8)
    assert "forward and reverse mode" in kernel.choose_implementation(X).refusals["vector_products"]
    J = EmpiricalNTK(net, projection=8, implementation="loop").features(X)
    np.testing.assert_allclose(kernel.features(X), J, rtol=1e-11, atol=1e-13)
    with pytest.raises(ValueError, match="forward and reverse mode disagree"):
        EmpiricalNTK(net, implementation="vector_products")(X)


def test_batched_derivatives_are_refused_when_torch_has_them_wrong():
    parts = nn.Unflatten(1, (1, 6)), nn.ConvTranspose1d(1, 4, 3), nn.PReLU(4), nn.Flatten()
    net = seeded(lambda: nn.Sequential(*parts, nn.Linear(32, 3)))
    for n in (3, 5):
        assert_right(EmpiricalNTK(net), net, X[:n])


def test_what_a_module_caches_while_it_is_tried_does_not_count():
    class Caching(nn.Module):
        def __init__(self):
            super().__init__()
            self.v, self.cached = nn.Parameter(torch.ones(2, 6)), None

        def forward(self, x):
            if self.cached is None:
                self.cached = functional.normalize(self.v)
            return x @ self.cached.T

    net = Caching().double()
    for _ in range(2):
        assert_right(EmpiricalNTK(net), net)
    assert net.cached is None


def test_gradients_inside_forward_are_differentiated():
    class Energy(nn.Module):
        """A Hamiltonian network: outputs are derivatives of another one's output."""

        def __init__(self):
            super().__init__()
            self.energy = mlp(6, 1)

        def forward(self, x):
            with torch.enable_grad():
                x = x.requires_grad_()
                return torch.autograd.grad(self.energy(x).sum(), x, create_graph=True)[0]

    net = seeded(Energy)
    assert_right(EmpiricalNTK(net), net)


def test_embeddings_that_mix_rows_are_refused():
    net = seeded(lambda: Block(lambda module, h: h.transpose(0, 1).reshape(-1, 4)))
    for kind in ("last_layer", "embedding"):
        with pytest.raises(ValueError, match="rows"):
            EmpiricalNTK(net, kind)(X)


def test_modules_with_a_part_called_module_are_themselves():
    class Wrapper(nn.Module):
        def __init__(self):
            super().__init__()
            self.module_ = mlp(6, 2)

        def forward(self, x):
            return 3.0 * self.module_(x)

    net = seeded(Wrapper)
    assert_right(EmpiricalNTK(net), net)


def test_old_reparametrizations_are_copied():
    with pytest.warns(FutureWarning, match="weight_norm"):
        net = nn.utils.weight_norm(nn.Linear(6, 2).double())
    net(torch.from_numpy(X))
    kernel = EmpiricalNTK(net)
    np.testing.assert_array_equal(clone(kernel)(X), kernel(X))


def test_what_cannot_be_copied_is_named():
    net = seeded(lambda: mlp(6, 2))
    net.rows = (row for row in X)
    with pytest.raises(TypeError, match="Sequential cannot be copied"):
        clone(EmpiricalNTK(net))


@pytest.mark.parametrize("codes", [1, 3])
@pytest.mark.parametrize("n", [3, 7])
def test_padding_has_no_gradient_with_any_number_of_codes(codes, n):
    net = seeded(
        lambda: nn.Sequential(
            nn.Embedding(10, 4, padding_idx=0), nn.Tanh(), nn.Flatten(), nn.Linear(4 * codes, 2)
        )
    )
    X = np.random.default_rng(0).integers(3, size=(n, codes))
    kernel = EmpiricalNTK(net, input_dtype="int64")
    assert kernel.choose_implementation(X).name == "structured"
    J = empirical.jacobian(net, X, dtype=torch.int64).J
    np.testing.assert_allclose(kernel(X), empirical.trace(J), rtol=1e-11, atol=1e-13)


def test_answers_for_one_module_do_not_pile_up():
    from sknk.kernels._empirical import _verification

    net = seeded(lambda: mlp(6, 2))
    for net.step in range(100):
        EmpiricalNTK(net)(X)
    assert len(_verification._known[net]) <= _verification._KEPT


def test_unused_layers_have_no_gradient_and_hinder_nothing():
    net = seeded(lambda: Block(lambda module, h: h))
    net.unused = nn.Linear(3, 4).double()
    kernel = EmpiricalNTK(net)
    assert kernel.choose_implementation(X).name == "structured"
    assert_right(kernel, net)
    assert not kernel.layerwise(X)["unused.weight"].any()


def test_labels_of_the_same_rows_may_differ():
    net = seeded(lambda: mlp(6, 3))
    y, z = np.array([0, 1, 2, 0, 1]), np.array([1, 1, 0, 2, 2])
    kernel = EmpiricalNTK(net)
    np.testing.assert_allclose(
        kernel.labelled(X, y, X, z), kernel.labelled(X, y, X.copy(), z), rtol=1e-12
    )
    assert not np.allclose(kernel.labelled(X, y, X, z), kernel.labelled(X, y))


@pytest.mark.parametrize("V", [np.ones(5), torch.ones(5, dtype=torch.float64), np.ones((5, 2))])
def test_matmul_without_structured_gradients_takes_products(V):
    parts = nn.Unflatten(1, (1, 6)), nn.ConvTranspose1d(1, 2, 3), nn.Tanh(), nn.Flatten()
    net = seeded(lambda: nn.Sequential(*parts, nn.Linear(16, 2)))
    kernel = EmpiricalNTK(net)
    assert kernel._prefers_products(torch.from_numpy(X), torch.as_tensor(V))
    np.testing.assert_allclose(kernel.matmul(X, None, V), kernel(X) @ np.asarray(V), rtol=1e-11)
    twin = copy.deepcopy(kernel)
    np.testing.assert_allclose(
        twin.matmul(X[:2], X, V), kernel(X[:2], X) @ np.asarray(V), rtol=1e-11
    )


def test_rows_that_cannot_be_alone_are_named_as_coupled():
    net = seeded(
        lambda: nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4, track_running_stats=False))
    )
    with pytest.raises(ValueError, match=r"fails on a row that is alone\. Expected a function of"):
        EmpiricalNTK(net)(X)


def test_products_do_not_part_by_parameter():
    kernel = EmpiricalNTK(seeded(lambda: mlp(6, 2)), implementation="vector_products")
    with pytest.raises(ValueError, match="no 'vector_products': others do not part by parameter"):
        kernel.layerwise(X)


class Routed(nn.Module):
    """Rows take one of two layers, which nobody enters without a row for it."""

    def __init__(self, bias=False):
        super().__init__()
        self.a, self.b = (nn.Linear(6, 6, bias=bias) for _ in range(2))
        self.readout = nn.Linear(6, 2)

    def forward(self, x):
        first, h = x[:, :1] > 0, x
        if bool(first.any()):
            h = torch.where(first, torch.tanh(self.a(h)), h)
        if not bool(first.all()):
            h = torch.where(first, h, torch.tanh(self.b(h)))
        return self.readout(h)


class Adaptive(nn.Module):
    """Rows go through one layer as often as the largest of their batch asks for."""

    def __init__(self):
        super().__init__()
        self.layer, self.readout = nn.Linear(6, 6), nn.Linear(6, 2)

    def forward(self, x):
        h = x
        for step in range(3):
            on = x[:, :1] > step - 1.0
            if bool(on.any()):
                h = torch.where(on, torch.tanh(self.layer(h)), h)
        return self.readout(h)


@pytest.mark.parametrize("make", [Routed, Adaptive])
@pytest.mark.parametrize("tile_size", [1, 2, 3, 8])
def test_blocks_of_rows_may_take_different_layers(make, tile_size):
    net, x = seeded(make), rows(8, d=6, seed=2)
    x = x[np.argsort(x[:, 0])]
    with config_context(tile_size=tile_size):
        kernel = EmpiricalNTK(net, implementation="structured")
        assert_right(kernel, net, x)
        np.testing.assert_allclose(sum(kernel.layerwise(x).values()), kernel(x), rtol=1e-11)


def test_blocks_that_share_no_layer_have_products_of_zero():
    net, x = seeded(lambda: Routed(bias=True)), rows(8, d=6, seed=2)
    x = x[np.argsort(x[:, 0])]
    J = empirical.jacobian(net, x)
    with config_context(tile_size=1):
        kernel = EmpiricalNTK(net, params="a.*", implementation="structured")
        found = kernel(x), kernel.full(x)
    own = J.only("a.weight", "a.bias")
    np.testing.assert_allclose(found[0], empirical.trace(own), rtol=1e-11, atol=1e-14)
    np.testing.assert_allclose(found[1], empirical.full(own), rtol=1e-11, atol=1e-14)


def test_chunks_of_rows_must_take_the_same_layers():
    x = rows(8, d=6, seed=2)
    x = x[np.argsort(x[:, 0])]
    kernel = EmpiricalNTK(seeded(Routed), implementation="structured", chunk_size=2)
    with pytest.raises(ValueError, match="Chunks of rows take different layers"):
        kernel(x)
