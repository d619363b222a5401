"""What goes wrong with tangent kernels of torch modules, one trap a test.

Tolerances as in `test_zoo`: 1e-10 of the largest entry, against backward passes one by one.
"""

import copy
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import NotFittedError
from torch import nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import weight_norm
from torch.utils.checkpoint import checkpoint

from sknk import NTKRidge
from sknk._config import config_context
from sknk.exceptions import NonFiniteGradientError
from sknk.kernels import NTK, EmpiricalNTK, Normalized, linearize
from tests.cases import rows
from tests.modules import mlp, seeded
from tests.reference import empirical
from tests.zoo import make

WAYS = ["structured", "jacobian", "vector_products", "loop"]
GENERAL = WAYS[1:]  # serve whatever the parameters belong to
each_way = pytest.mark.parametrize("implementation", WAYS)
each_general_way = pytest.mark.parametrize("implementation", GENERAL)


def assert_close(actual, desired, rtol=1e-10):
    """Compare entries on the scale of the largest."""
    scale = np.abs(desired).max()
    np.testing.assert_allclose(actual, desired, rtol=rtol, atol=rtol * scale)


class Function(nn.Module):
    """A forward pass written as a function of the module's layers and of x."""

    def __init__(self, forward, **layers):
        super().__init__()
        self._forward = forward
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x):
        return self._forward(self, x)


def function(forward, **layers):
    """Make one with random weights in float64; layers are functions that make them."""
    return seeded(lambda: Function(forward, **{name: make() for name, make in layers.items()}))


def linear(*args, **kwargs):
    return lambda: nn.Linear(*args, **kwargs)


def assert_right(module, X, implementation="auto", serves=None, **options):
    """Compare Gram, cross Gram and full kernel with backward passes; check the choice."""
    kernel = EmpiricalNTK(module, implementation=implementation, **options)
    shape = options.get("input_shape")
    dtype = torch.int64 if "input_dtype" in options else torch.float64
    J = empirical.jacobian(module, X, shape, dtype).J
    assert_close(kernel(X), empirical.trace(J))
    assert_close(kernel(X[1:], X), empirical.trace(J[1:], J))
    assert_close(kernel.full(X), empirical.full(J))
    if serves is not None:
        assert kernel.choose_implementation(X).name == serves


def assert_refused(module, X, match, **options):
    with pytest.raises(ValueError, match=match):
        EmpiricalNTK(module, implementation="structured", **options)(X)


# --- parameters --------------------------------------------------------------------------------


@each_general_way
def test_numbers_as_parameters_have_kernels(implementation):
    module, X = make("sau"), rows(4, 16)
    names = [name for name, p in module.named_parameters() if p.ndim == 0]
    kernel = EmpiricalNTK(module, params=names, implementation=implementation)
    jacobian = empirical.jacobian(module, X)
    assert len(names) == 4
    assert_close(kernel(X), empirical.trace(jacobian.only(*names)))
    assert_close(kernel.full(X), empirical.full(jacobian.only(*names)))


@each_general_way
def test_complex_parameters_are_pairs_of_numbers(implementation):
    module, X = make("fno"), rows(4, 16)
    J = empirical.jacobian(module, X).only("R")
    K = EmpiricalNTK(module, params="R", implementation=implementation)(X)
    assert_close(K, empirical.trace(J))
    complex_J = J[..., ::2] + 1j * J[..., 1::2]
    for wrong in (complex_J.conj(), complex_J):  # J J^H and J J^T
        other = np.einsum("nop,mop->nm", complex_J, wrong) / 2
        assert np.abs(other - K).max() > 0.01 * np.abs(K).max()


@each_way
def test_frozen_parameters_are_left_out_unless_asked_for(implementation):
    net, X = seeded(lambda: mlp(3, 2)), rows(4)
    net[2].requires_grad_(False)
    jacobian = empirical.jacobian(net, X)
    free = [name for name in jacobian.slices if not name.startswith("2.")]
    kernel = EmpiricalNTK(net, implementation=implementation)
    assert_close(kernel(X), empirical.trace(jacobian.only(*free)))
    assert_close(kernel.clone_with_params({"params": "*"})(X), empirical.trace(jacobian.J))


SELECTIONS = {
    "name": ("2.weight", ["2.weight"]),
    "pattern": ("*.bias", ["0.bias", "2.bias", "4.bias"]),
    "list": (["0.weight", "4.*"], ["0.weight", "4.weight", "4.bias"]),
    "set": ({"0.bias", "0.weight"}, ["0.weight", "0.bias"]),
    "callable": (lambda name, p: p.ndim == 1 and "2" not in name, ["0.bias", "4.bias"]),
}


@each_way
@pytest.mark.parametrize(("params", "names"), SELECTIONS.values(), ids=SELECTIONS)
def test_params_choose_by_name_pattern_and_function(params, names, implementation):
    net, X = seeded(lambda: mlp(3, 2)), rows(4)
    J = empirical.jacobian(net, X).only(*names)
    kernel = EmpiricalNTK(net, params=params, implementation=implementation)
    assert_close(kernel(X), empirical.trace(J))
    assert_close(kernel.full(X), empirical.full(J))


def test_params_refuse_choices_of_nothing():
    net, X = seeded(lambda: mlp(3, 2)), rows(2)
    frozen = seeded(lambda: mlp(3, 2)).requires_grad_(False)
    with pytest.raises(ValueError, match=r"`params` has '\*\.gain', which no parameter of Seq"):
        EmpiricalNTK(net, params=["*.bias", "*.gain"])(X)
    with pytest.raises(ValueError, match="`params` chooses no parameter of Sequential"):
        EmpiricalNTK(net, params=lambda name, p: False)(X)
    with pytest.raises(ValueError, match="`params` chooses no parameter of Sequential"):
        EmpiricalNTK(net, params=[])(X)
    with pytest.raises(ValueError, match=r"Tanh has no parameters.*expected at least one"):
        EmpiricalNTK(nn.Tanh())(X)
    with pytest.raises(ValueError, match=r"requires a gradient; pass `params='\*'`"):
        EmpiricalNTK(frozen)(X)
    with pytest.raises(TypeError, match=r"`params` is 3; expected None, a name or pattern"):
        EmpiricalNTK(net, params=3)(X)


@each_way
def test_tied_layers_count_their_weight_once(implementation):
    def build():
        net = mlp(3, 2, width=3)
        net[2].weight = net[0].weight
        return net

    assert_right(seeded(build), rows(4), implementation, serves=implementation)


@each_way
def test_layer_that_is_used_twice_adds_up(implementation):
    module = function(
        lambda m, x: m.out(torch.tanh(m.layer(torch.tanh(m.layer(x))))),
        layer=linear(3, 3),
        out=linear(3, 2),
    )
    assert_right(module, rows(4), implementation, serves=implementation)


def test_structured_refuses_weights_of_layers_of_two_kinds():
    def build():
        module = Function(
            lambda m, x: m.out(torch.tanh(m.table(x)).mean(1)),
            table=nn.Embedding(5, 3),
            out=nn.Linear(3, 5),
        )
        module.out.weight = module.table.weight
        return module

    module, X = seeded(build), np.random.default_rng(0).integers(5, size=(4, 6)).astype(float)
    assert_refused(
        module, X, "one parameter belongs to layers of different kinds", input_dtype="int64"
    )
    assert_right(module, X, serves="jacobian", input_dtype="int64")


@each_way
def test_parameter_without_a_use_has_a_kernel_of_zeros(implementation):
    module = function(lambda m, x: m.used(x), used=linear(3, 2), spare=linear(4, 2))
    assert_right(module, rows(4), implementation, serves=implementation)
    spare = EmpiricalNTK(module, params="spare.*", implementation=implementation)
    np.testing.assert_array_equal(spare(rows(4)), np.zeros((4, 4)))


# --- gradients that do not exist ------------------------------------------------------------------


def kinked():
    """sin(z) sqrt|z| of z = W x: its gradient at x = 0 is 0 times infinity."""
    net = nn.Sequential(nn.Linear(2, 3, bias=False), nn.Identity(), nn.Linear(3, 2))
    net[1].forward = lambda z: torch.sin(z) * torch.sqrt(z.abs())
    return net


@each_way
@pytest.mark.parametrize("tile_size", [None, 2])
@pytest.mark.parametrize(
    "call", ["gram", "cross", "diag", "full", "pseudo", "normalized", "matmul"]
)
def test_gradient_that_is_not_finite_is_named(call, tile_size, implementation):
    X = np.vstack([rows(3, 2), np.zeros((1, 2)), rows(1, 2)])
    kernel = EmpiricalNTK(seeded(kinked), implementation=implementation)
    pseudo = EmpiricalNTK(seeded(kinked), kind="pseudo", implementation=implementation)
    run = {
        "gram": lambda: kernel(X),
        "cross": lambda: kernel(X[:2], X),
        "diag": lambda: kernel.diag(X),
        "full": lambda: kernel.full(X),
        "pseudo": lambda: pseudo(X),
        "normalized": lambda: Normalized(kernel)(X),
        "matmul": lambda: kernel.matmul(X[:2], X, np.ones(5)),
    }
    with (
        config_context(tile_size=tile_size),
        pytest.raises(
            NonFiniteGradientError, match=r"row 3 with respect to '0\.weight' is not finite"
        ) as caught,
    ):
        run[call]()
    assert (caught.value.row, caught.value.parameter) == (3, "0.weight")


@pytest.mark.parametrize("tile_size", [None, 2])
@pytest.mark.parametrize("implementation", ["structured", "jacobian", "loop"])
def test_gradient_that_is_not_finite_is_named_in_other_forms(implementation, tile_size):
    X = np.vstack([rows(3, 2), np.zeros((1, 2)), rows(1, 2)])
    kernel = EmpiricalNTK(seeded(kinked), implementation=implementation)
    signs = kernel.clone_with_params({"kind": "sign"})
    sketched = kernel.clone_with_params({"projection": 4})
    y = [0, 1, 0, 1, 0]
    for call in (
        lambda: signs(X),
        lambda: sketched.features(X),
        lambda: kernel.labelled(X, y),
        lambda: kernel.layerwise(X),
        lambda: kernel.per_output(X),
        lambda: kernel.asymmetric_sign(X),
    ):
        with config_context(tile_size=tile_size), pytest.raises(NonFiniteGradientError) as caught:
            call()
        assert (caught.value.row, caught.value.parameter) == (3, "0.weight")


def test_rows_without_a_kink_have_kernels():
    assert_right(seeded(kinked), rows(4, 2), serves="structured")


# --- singular matrices ----------------------------------------------------------------------------


def test_singular_kernel_of_all_outputs_fits_with_a_ridge():
    module, X = make("autoencoder"), rows(8, 16)
    K, y = EmpiricalNTK(module).full(X), rows(128, 1, seed=1)[:, 0]
    assert np.linalg.matrix_rank(K) < len(K)
    model = NTKRidge("precomputed", alpha=1e-2, fit_intercept=False).fit(K, y)
    # 1e-8: a condition of 1e4 to 1e5 times the roundings of 128 terms.
    assert_close(model.predict(K), K @ np.linalg.solve(K + 1e-2 * np.eye(128), y), rtol=1e-8)


def test_copies_of_rows_fit_with_a_ridge():
    module, X = seeded(lambda: mlp(3, 2)), np.repeat(rows(4), 2, axis=0)
    kernel, y = EmpiricalNTK(module), rows(8, 1, seed=1)[:, 0]
    assert np.linalg.matrix_rank(kernel(X)) == 4
    found = NTKRidge(kernel, alpha=1e-3, fit_intercept=False).fit(X, y).predict(X)
    wanted = kernel(X) @ np.linalg.solve(kernel(X) + 1e-3 * np.eye(8), y)
    assert_close(found, wanted, rtol=1e-9)  # a condition of 1e4 times the roundings of 8 terms


# --- inputs ---------------------------------------------------------------------------------------


CODES = np.array([[1, 0, 2], [3, 3, 0], [0, 0, 0], [4, 1, 1]], dtype=float)  # 0 is padding


def embedded(padding_idx=0):
    return function(
        lambda m, x: m.out(torch.tanh(m.table(x)).flatten(1)),
        table=lambda: nn.Embedding(5, 3, padding_idx=padding_idx),
        out=linear(9, 2),
    )


@each_way
@pytest.mark.parametrize("padding_idx", [None, 0])
def test_integer_inputs_look_up_a_table(padding_idx, implementation):
    assert_right(embedded(padding_idx), CODES, implementation, input_dtype="int64")


@each_way
def test_padding_is_left_out_when_rows_outputs_and_codes_are_two_each(implementation):
    module = function(
        lambda m, x: m.out(torch.tanh(m.table(x)).flatten(1)),
        table=lambda: nn.Embedding(5, 3, padding_idx=0),
        out=linear(6, 2),
    )
    X = np.array([[1.0, 2.0], [3.0, 4.0], [0.0, 1.0], [2.0, 0.0]])
    with config_context(tile_size=2):
        assert_right(module, X, implementation, input_dtype="int64")


def test_codes_that_are_no_integers_are_named():
    X = CODES.copy()
    X[1, 2] = 0.5
    with pytest.raises(
        ValueError, match=r"Row 1 of `X` is 0\.5 in column 2; expected integers.*'int64'"
    ):
        EmpiricalNTK(embedded(), input_dtype="int64")(X)
    with pytest.raises(ValueError, match=r"fails on inputs of shape .* in torch\.float64"):
        EmpiricalNTK(embedded())(CODES)


@each_way
def test_rows_are_unpacked_to_images(implementation):
    net = seeded(
        lambda: nn.Sequential(nn.Conv2d(2, 3, 2), nn.Tanh(), nn.Flatten(), nn.Linear(12, 2))
    )
    assert_right(net, rows(4, 18), implementation, input_shape=(2, 3, 3))


@each_way
def test_writing_modules_leave_the_rows_alone(implementation):
    def forward(m, x):
        x += 1.0
        h = m.first(x)
        h += x
        y = m.out(F.relu(h, inplace=True))
        y *= 2.0
        return y

    module, X = function(forward, first=linear(3, 3), out=linear(3, 2)), rows(5)
    given = X.copy()
    assert_right(module, given, implementation, serves=implementation)
    tensor = torch.tensor(X)
    EmpiricalNTK(module, implementation=implementation)(tensor)
    np.testing.assert_array_equal(given, X)
    np.testing.assert_array_equal(tensor.numpy(), X)


@each_way
def test_activation_in_place_gives_the_same_kernel(implementation):
    net = seeded(lambda: nn.Sequential(nn.Linear(3, 8), nn.ReLU(inplace=True), nn.Linear(8, 2)))
    plain = copy.deepcopy(net)
    plain[1].inplace = False
    X = rows(5)
    found = EmpiricalNTK(net, implementation=implementation)(X)
    assert_close(found, EmpiricalNTK(plain, implementation=implementation)(X), rtol=1e-14)
    assert_right(net, X, implementation)


# --- outputs --------------------------------------------------------------------------------------

OUTPUTS = {
    "number": (lambda y: y[:, 0], 1),
    "matrix": (lambda y: y.reshape(-1, 2, 3), 6),
    "complex": (lambda y: torch.complex(y[:, :3], y[:, 3:]), 6),
}


@each_way
@pytest.mark.parametrize(("change", "count"), OUTPUTS.values(), ids=OUTPUTS)
def test_outputs_of_any_shape_are_flattened(change, count, implementation):
    module = function(
        lambda m, x: change(m.out(torch.tanh(m.first(x)))), first=linear(3, 4), out=linear(4, 6)
    )
    assert_right(module, rows(4), implementation)
    assert len(EmpiricalNTK(module).per_output(rows(4))) == count


def test_outputs_that_are_no_rows_are_refused():
    X = rows(4)
    summed = function(lambda m, x: m.layer(x).sum(), layer=linear(3, 2))
    several = function(lambda m, x: (m.layer(x), x), layer=linear(3, 2))
    with pytest.raises(ValueError, match=r"maps 1 rows to an output of shape \(\)"):
        EmpiricalNTK(summed)(X)
    with pytest.raises(TypeError, match="Function returns a tuple; expected one tensor"):
        EmpiricalNTK(several)(X)


# --- rows that see each other ------------------------------------------------------------------


def normalizing():
    """Batch normalization whose statistics are not those of a fresh layer, and dropout."""
    net = nn.Sequential(
        nn.Linear(3, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Dropout(0.5), nn.Linear(6, 2)
    )
    net(3.0 + 2.0 * torch.randn(50, 3))
    return net


@each_way
def test_training_mode_does_not_reach_the_kernel(implementation):
    net = seeded(normalizing).train()
    net[1].eval()
    before = {name: t.clone() for name, t in net.state_dict().items()}
    assert_right(net, rows(4), implementation)
    assert [part.training for part in net] == [True, False, True, True, True]
    assert net.training
    assert all(torch.equal(t, before[name]) for name, t in net.state_dict().items())


@pytest.mark.parametrize(
    ("shape", "match"),
    [
        ((3, 2, 2), "Sequential couples rows: the output of row"),
        ((3, 1, 1), "Sequential fails on a row that is alone"),  # torch refuses one number
        ((3,), "Sequential fails on a row that is alone"),
    ],
)
def test_statistics_of_a_batch_are_refused(shape, match):
    kind = nn.BatchNorm1d if len(shape) == 1 else nn.BatchNorm2d
    net = seeded(lambda: nn.Sequential(kind(3, track_running_stats=False), nn.Flatten()))
    with pytest.raises(ValueError, match=match):
        EmpiricalNTK(net, input_shape=shape)(rows(4, int(np.prod(shape))))


def test_rows_that_see_each_other_are_refused():
    module = function(lambda m, x: m.layer(x - x.mean(0)), layer=linear(3, 2))
    with pytest.raises(ValueError, match=r"Function couples rows: the output of row \d changes by"):
        EmpiricalNTK(module)(rows(4))


def test_random_forward_passes_are_refused():
    module = function(lambda m, x: m.layer(x + torch.randn_like(x)), layer=linear(3, 2))
    state = torch.get_rng_state()
    with pytest.raises(ValueError, match="Function draws random numbers in evaluation mode"):
        EmpiricalNTK(module)(rows(4))
    assert torch.equal(torch.get_rng_state(), state)


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
