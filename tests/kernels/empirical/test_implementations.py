"""Which implementation serves what, and in which precision."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import weight_norm
from torch.utils.checkpoint import checkpoint

from sknk._config import config_context
from sknk.kernels import EmpiricalNTK
from tests.cases import rows
from tests.kernels.empirical.trying import (
    GENERAL,
    Function,
    assert_close,
    assert_refused,
    assert_right,
    each_way,
    function,
    linear,
)
from tests.modules import mlp, seeded
from tests.reference import empirical
from tests.zoo import make

# --- implementations ------------------------------------------------------------------------------


class _Cube(torch.autograd.Function):
    """Without a rule for vmap."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, g):
        return 3.0 * g * ctx.saved_tensors[0] ** 2


def custom():
    """A parameter of its own keeps the structured implementation away."""
    module = Function(
        lambda m, x: m.out(_Cube.apply(m.first(x)) * m.gain),
        first=nn.Linear(3, 4),
        out=nn.Linear(4, 2),
    )
    module.gain = nn.Parameter(torch.randn(4))
    return module


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_loop_serves_recurrent_layers(kind):
    module = function(
        lambda m, x: m.out(m.cell(x.reshape(len(x), 3, 2))[0][:, -1]),
        cell=lambda: kind(2, 3, batch_first=True),
        out=linear(3, 2),
    )
    X = rows(4, 6)
    assert_refused(module, X, f"{kind.__name__} 'cell' owns 'cell.weight_ih_l0'")
    assert_right(module, X, serves="loop")


def test_loop_serves_functions_without_a_rule_for_vmap():
    module, X = seeded(custom), rows(4)
    chosen = EmpiricalNTK(module).choose_implementation(X)
    assert chosen.name == "loop"
    assert chosen.refusals.keys() == {"structured", "jacobian"}
    assert "autograd.Function" in chosen.refusals["jacobian"]
    assert_right(module, X)
    with pytest.raises(ValueError, match=r"jacobian: .*autograd\.Function with functorch"):
        EmpiricalNTK(module, implementation="jacobian")(X)


def test_structured_serves_functions_without_a_rule_for_vmap():
    module = function(
        lambda m, x: m.out(_Cube.apply(m.first(x))), first=linear(3, 4), out=linear(4, 2)
    )
    assert_right(module, rows(4), serves="structured")


@pytest.mark.parametrize("length", [1, 2, 3])
def test_structured_refuses_rows_along_another_axis(length):
    module = function(
        lambda m, x: m.out(
            torch.tanh(m.layer(x.reshape(len(x), length, 2).transpose(0, 1))).sum(0)
        ),
        layer=linear(2, 4),
        out=linear(4, 2),
    )
    for n in (2, 4):
        X = rows(n, 2 * length)
        assert_refused(
            module, X, "rows along the first axis|'layer' sees other rows than the module"
        )
        assert_right(module, X, serves="jacobian")


OUTSIDE = {
    "instead": lambda m, x: m.out(torch.tanh(F.linear(x, m.layer.weight, m.layer.bias))),
    "beside": lambda m, x: m.out(torch.tanh(m.layer(x)) + 0.1 * x @ m.layer.weight.T),
    "penalty": lambda m, x: m.out(torch.tanh(m.layer(x))) * m.layer.weight.norm(),
}


@pytest.mark.parametrize("forward", OUTSIDE.values(), ids=OUTSIDE)
def test_structured_refuses_weights_used_outside_their_layer(forward):
    module, X = function(forward, layer=linear(3, 4), out=linear(4, 2)), rows(4)
    assert_refused(module, X, "'layer.weight' has another gradient by ordinary backward passes")
    assert_right(module, X, serves="jacobian")


def test_factors_of_several_places_equal_backward_passes():
    module = function(
        lambda m, x: m.out(torch.tanh(m.layer(x.reshape(len(x), 2, 40))).sum(1)),
        layer=linear(40, 40),  # too large a weight to form gradients for two places
        out=linear(40, 2),
    )
    X, Y, y = rows(4, 80), rows(3, 80, seed=1), [0, 1, 1, 0]
    jacobian, kernel = empirical.jacobian(module, X), EmpiricalNTK(module)
    J, L = jacobian.J, empirical.jacobian(module, Y).J
    assert_right(module, X, serves="structured")
    assert_close(kernel.diag(X), np.diag(empirical.trace(J)))
    assert_close(EmpiricalNTK(module, kind="sign")(X, Y), empirical.sign(J, L))
    assert_close(kernel.asymmetric_sign(X, Y), empirical.asymmetric_sign(J, L))
    assert_close(kernel.labelled(X, y), empirical.labelled(J, y))
    for name, K in empirical.layerwise(jacobian).items():
        assert_close(kernel.layerwise(X)[name], K)


MERGED = {
    "heads last": lambda m, x: m.layer(x.reshape(-1, 2)).reshape(len(x), -1),
    "heads first": lambda m, x: (
        m.layer(x.reshape(len(x), 3, 2).transpose(0, 1).reshape(-1, 2))
        .reshape(3, len(x), 3)
        .transpose(0, 1)
        .flatten(1)
    ),
}


@pytest.mark.parametrize("merge", MERGED.values(), ids=MERGED)
def test_rows_merged_with_heads_are_told_apart(merge):
    module = function(
        lambda m, x: m.out(torch.tanh(merge(m, x))), layer=linear(2, 3), out=linear(9, 2)
    )
    X = rows(4, 6)
    assert_refused(module, X, "layer 'layer' sees other rows than the module")
    for implementation in GENERAL:
        assert_right(module, X, implementation, serves=implementation)
    assert_right(module, X, serves="jacobian")


def test_structured_refuses_multihead_attention_by_name():
    module = function(
        lambda m, x: m.out(m.heads(*[m.lift(x.reshape(len(x), 3, 2))] * 3)[0].flatten(1)),
        lift=linear(2, 4),
        heads=lambda: nn.MultiheadAttention(4, 2, batch_first=True),
        out=linear(12, 2),
    )
    X = rows(4, 6)
    assert_refused(module, X, "MultiheadAttention 'heads' owns 'heads.in_proj_weight'")
    assert_right(module, X, serves="jacobian")


def test_transformer_layer_is_right_by_automatic_choice():
    module = function(
        lambda m, x: m.out(m.layer(x.reshape(len(x), 3, 4)).flatten(1)),
        layer=lambda: nn.TransformerEncoderLayer(4, 2, 8, batch_first=True),
        out=linear(12, 2),
    )
    assert_right(module.train(), rows(4, 12))


def tanh_weight():
    layer = nn.Linear(3, 4)
    parametrize.register_parametrization(layer, "weight", nn.Tanh())
    return layer


# By what layer, how it is called, and what serves.
UNUSUAL = {
    "parametrized": (tanh_weight, lambda m, x: m.layer(x), "jacobian"),
    "weight_norm": (lambda: weight_norm(nn.Linear(3, 4)), lambda m, x: m.layer(x), "jacobian"),
    "complex": (
        lambda: nn.Linear(3, 4, dtype=torch.complex64),
        lambda m, x: m.layer(x.to(torch.complex128)).abs(),
        "jacobian",
    ),
    "checkpoint": (
        linear(3, 4),
        lambda m, x: checkpoint(m.layer, x, use_reentrant=False),
        "structured",
    ),
    "by_name": (linear(3, 4), lambda m, x: m.layer(input=x), "structured"),
    "detached": (linear(3, 4), lambda m, x: m.layer(x).detach(), "structured"),
}


@pytest.mark.parametrize(("layer", "call", "serves"), UNUSUAL.values(), ids=UNUSUAL)
def test_unusual_layers_are_right_by_automatic_choice(layer, call, serves):
    module = function(lambda m, x: m.out(torch.tanh(call(m, x))), layer=layer, out=linear(4, 2))
    assert_right(module, rows(4), serves=serves)


CONVOLUTIONS = {
    "plain": ((2, 4, 4), lambda: nn.Conv2d(2, 3, 3)),
    "no_bias": ((2, 4, 4), lambda: nn.Conv2d(2, 3, 3, bias=False)),
    "groups": ((4, 4, 4), lambda: nn.Conv2d(4, 6, 3, groups=2, padding=1)),
    "depthwise": ((4, 4, 4), lambda: nn.Conv2d(4, 8, 3, groups=4)),
    "stride": ((2, 5, 4), lambda: nn.Conv2d(2, 3, (3, 2), stride=(2, 1), padding=(1, 0))),
    "dilation": ((2, 5, 5), lambda: nn.Conv2d(2, 3, 2, dilation=(2, 3))),
    "reflect": ((2, 4, 4), lambda: nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect")),
    "circular": ((2, 4, 4), lambda: nn.Conv2d(2, 3, 3, padding=(1, 2), padding_mode="circular")),
    "same": ((2, 4, 4), lambda: nn.Conv2d(2, 3, (1, 3), padding="same")),
    "one": ((4, 8), lambda: nn.Conv1d(4, 3, 3, stride=2, dilation=2, padding=3, groups=1)),
    "three": ((2, 3, 3, 2), lambda: nn.Conv3d(2, 2, 2, padding=(1, 0, 0))),
}


@pytest.mark.parametrize(("shape", "layer"), CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_convolution_rule_equals_backward_passes(shape, layer):
    net = seeded(lambda: nn.Sequential(layer(), nn.Tanh(), nn.Flatten(), nn.LazyLinear(2)))
    # LazyLinear takes its size from the first row.
    net(torch.zeros(1, *shape, dtype=torch.float64))
    assert_right(net, rows(4, int(np.prod(shape))), serves="structured", input_shape=shape)


def drawn(layer):
    """Give weights, biases and running statistics values that are not those of a fresh layer."""
    for name, t in layer.state_dict().items():
        if t.is_floating_point():
            t.copy_(torch.rand_like(t) + 0.5 if "var" in name else torch.randn_like(t))
    return layer


SCALES = {
    "layer_norm": ((6,), lambda: nn.LayerNorm(6)),
    "layer_norm_axes": ((2, 3, 4), lambda: nn.LayerNorm((3, 4))),
    "layer_norm_places": ((3, 4), lambda: nn.LayerNorm(4)),
    "group_norm": ((4, 3), lambda: nn.GroupNorm(2, 4)),
    "batch_norm_1d": ((5,), lambda: nn.BatchNorm1d(5)),
    "batch_norm_2d": ((3, 2, 2), lambda: nn.BatchNorm2d(3)),
    "instance_norm": ((3, 2, 2), lambda: nn.InstanceNorm2d(3, affine=True)),
    "instance_norm_running": (
        (3, 4),
        lambda: nn.InstanceNorm1d(3, affine=True, track_running_stats=True),
    ),
    "rms_norm": ((3, 4), lambda: nn.RMSNorm(4)),
    "rms_norm_eps": ((4,), lambda: nn.RMSNorm(4, eps=0.1)),
    "prelu": ((3, 4), lambda: nn.PReLU()),
    "prelu_channels": ((3, 4), lambda: nn.PReLU(3)),
    "prelu_row": ((5,), lambda: nn.PReLU(5)),
}


@pytest.mark.parametrize(("shape", "layer"), SCALES.values(), ids=SCALES)
def test_rule_of_scales_equals_backward_passes(shape, layer):
    size = int(np.prod(shape))
    net = seeded(
        lambda: nn.Sequential(
            nn.Linear(3, size), nn.Unflatten(1, shape), drawn(layer()), nn.Tanh(), nn.Flatten(),
            nn.Linear(size, 2),
        )
    )  # fmt: skip
    assert_right(net, rows(4), serves="structured")
    found = EmpiricalNTK(net, implementation="structured").layerwise(rows(4))
    for name, K in empirical.layerwise(empirical.jacobian(net, rows(4))).items():
        assert_close(found[name], K)


def test_choice_follows_a_layer_that_is_replaced():
    net, X = seeded(lambda: mlp(3, 2)), rows(4)
    kernel = EmpiricalNTK(net)
    assert kernel.choose_implementation(X).name == "structured"
    net[1] = seeded(custom)
    net[1].first, net[1].out = (seeded(linear(*shape)) for shape in ((8, 4), (4, 8)))
    assert kernel.choose_implementation(X).name == "loop"
    assert_right(net, X)


# --- precision ------------------------------------------------------------------------------------


@each_way
def test_weights_in_float32_are_differentiated_in_float64(implementation):
    net = seeded(lambda: mlp(3, 2)).float()
    assert EmpiricalNTK(net)(rows(2)).dtype == np.float64
    assert_right(net, rows(4), implementation)
    assert next(net.parameters()).dtype is torch.float32


@each_way
def test_float32_is_close_and_kept(implementation):
    net, X = seeded(lambda: mlp(3, 2)), rows(5)
    kernel = EmpiricalNTK(net, implementation=implementation)
    wanted = kernel(X), kernel.full(X), kernel.diag(X)
    with config_context(dtype="float32"):
        found = kernel(X), kernel.full(X), kernel.diag(X)
    for a, b in zip(found, wanted, strict=True):
        assert a.dtype == np.float32
        assert_close(a, b, rtol=1e-5)  # 6e-8 per rounding, a hundred products in sequence
    assert not np.array_equal(found[0], wanted[0])


@pytest.mark.parametrize("name", ["sau", "fno", "soft", "siren", "replknet", "delta_rule"])
def test_float32_is_close_on_harder_modules(name):
    X, kernel = rows(4, 16), EmpiricalNTK(make(name))
    wanted = kernel(X)
    with config_context(dtype="float32"):
        # 1e-4: sines of 30 z and inverses lose up to three of float32's seven digits.
        assert_close(kernel(X), wanted, rtol=1e-4)
