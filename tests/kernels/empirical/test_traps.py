"""What goes wrong with tangent kernels of torch modules, one trap a test.

Tolerances as in `test_zoo`: 1e-10 of the largest entry, against backward passes one by one.
"""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sknk import NTKRidge
from sknk._config import config_context
from sknk.exceptions import NonFiniteGradientError
from sknk.kernels import EmpiricalNTK, Normalized
from tests.cases import rows
from tests.kernels.empirical.trying import (
    Function,
    assert_close,
    assert_refused,
    assert_right,
    each_general_way,
    each_way,
    function,
    linear,
)
from tests.modules import mlp, seeded
from tests.reference import empirical
from tests.zoo import make

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
