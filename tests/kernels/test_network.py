"""NTK and NNGP against naive oracles, other packages' formulas and their own identities."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.gaussian_process.kernels import RBF

from sknk import _config
from sknk.kernels import NNGP, NTK, Normalized, Rbf
from sknk.kernels._rectifier import Rectifier
from tests.cases import rows
from tests.reference import kernels as oracle

X, Y = rows(8), rows(5, seed=1)
EXACT = {"rtol": 1e-12, "atol": 1e-13}  # a few hundred roundings on entries of order one


@pytest.mark.parametrize("activation", oracle.DUALS)
@pytest.mark.parametrize("depth", [0, 1, 3])
@pytest.mark.parametrize("bias_var", [0.0, 0.3])
def test_kernels_equal_the_explicit_recursion(activation, depth, bias_var):
    duals = oracle.DUALS[activation]
    params = {"depth": depth, "weight_var": 1.7, "bias_var": bias_var}
    sigma, theta = oracle.network(X, Y, duals, **params)
    params |= {"activation": activation, "normalize": False}
    np.testing.assert_allclose(NNGP(**params)(X, Y), sigma, **EXACT)
    np.testing.assert_allclose(NTK(**params)(X, Y), theta, **EXACT)


@pytest.mark.parametrize("activation", ["relu", "erf"])
@pytest.mark.parametrize("fixed_depth", [0, 1, 3])
@pytest.mark.parametrize("bias_var", [0.0, 0.3])
def test_standard_parametrization_equals_the_explicit_recursion(activation, fixed_depth, bias_var):
    params = {"depth": 3, "weight_var": 1.7, "bias_var": bias_var, "fixed_depth": fixed_depth}
    wanted = oracle.network(X, Y, oracle.DUALS[activation], fan_ins=(3, 20), **params)[1]
    kernel = NTK(
        activation=activation, parametrization="standard", width=20, normalize=False, **params
    )
    np.testing.assert_allclose(kernel(X, Y), wanted, rtol=1e-12, atol=1e-11)  # entries up to 60


@pytest.mark.parametrize("activation", ["relu", "gelu", "abs"])
def test_fixed_depth_equals_the_explicit_recursion(activation):
    for fixed_depth in range(4):
        params = {"weight_var": 1.4, "bias_var": 0.2, "fixed_depth": fixed_depth}
        wanted = oracle.network(X, Y, oracle.DUALS[activation], 3, **params)[1]
        found = NTK(activation=activation, normalize=False, **params)(X, Y)
        np.testing.assert_allclose(found, wanted, **EXACT)


def test_fixed_depth_equals_arora_for_every_depth():
    wanted = oracle.leo_yu(X, 4)
    off = ~np.eye(len(X), dtype=bool)
    for depth in range(5):
        for fixed in range(depth + 1):
            kernel = NTK(depth, weight_var=1.0, fixed_depth=fixed, normalize=False)
            found = kernel(X) * X.shape[1]  # ours divides inner products by d
            np.testing.assert_allclose(found[off], wanted[depth][fixed][off], **EXACT)
            # The cosine form loses half the digits at angle zero: sqrt(2 eps) = 2e-8 per layer.
            np.testing.assert_allclose(found, wanted[depth][fixed], rtol=1e-7)


@pytest.mark.parametrize("depth", [0, 1, 2, 5])
def test_scikit_ntk_is_ours_up_to_a_constant(depth):
    wanted = oracle.scikit_ntk(X, Y, depth, beta=0.0)
    ours = NTK(depth, weight_var=2.0, normalize=False)(X, Y)
    np.testing.assert_allclose(ours * X.shape[1] / (2.0 * (depth + 1)), wanted, **EXACT)
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    np.testing.assert_allclose(Normalized(NTK(depth))(unit), NTK(depth)(unit) * 3, **EXACT)


@given(weight_var=st.floats(0.1, 4.0), depth=st.integers(0, 5))
def test_weight_variance_is_a_power_when_relu_has_no_bias(weight_var, depth):
    one = NTK(depth, weight_var=1.0, normalize=False)(X, Y)
    found = NTK(depth, weight_var=weight_var, normalize=False)(X, Y)
    np.testing.assert_allclose(found, weight_var ** (depth + 1) * one, rtol=1e-11, atol=1e-12)


@given(scale=st.floats(0.1, 10.0), bias_var=st.sampled_from([0.0, 0.4]))
def test_input_scale_multiplies_the_features(scale, bias_var):
    scales = np.array([1.0, 0.5, 2.0]) * scale
    ours = NTK(depth=2, bias_var=bias_var, input_scale=scales, normalize=False)(X, Y)
    wanted = NTK(depth=2, bias_var=bias_var, normalize=False)(X * scales, Y * scales)
    np.testing.assert_allclose(ours, wanted, rtol=1e-11, atol=1e-12 * np.abs(wanted).max())


def test_depth_zero_is_the_linear_kernel():
    wanted = 1.5 * X @ Y.T / 3 + 0.2
    for cls in (NTK, NNGP):
        kernel = cls(depth=0, weight_var=1.5, bias_var=0.2, normalize=False)
        np.testing.assert_allclose(kernel(X, Y), wanted, **EXACT)
        assert cls(depth=0).diag(np.ones((1, 7))) == pytest.approx([1.0])


@pytest.mark.parametrize("activation", oracle.DUALS)
def test_training_the_last_layer_only_is_the_nngp(activation):
    params = {"depth": 2, "activation": activation, "bias_var": 0.1}
    np.testing.assert_allclose(NTK(fixed_depth=2, **params)(X), NNGP(**params)(X), **EXACT)


@pytest.mark.parametrize("cls", [NTK, NNGP])
@pytest.mark.parametrize("activation", oracle.DUALS)
@pytest.mark.parametrize("bias_var", [0.0, 0.3])
def test_normalize_gives_one_at_the_row_of_ones(cls, activation, bias_var):
    kernel = cls(depth=3, activation=activation, bias_var=bias_var)
    np.testing.assert_allclose(kernel.diag(np.ones((1, 9))), 1.0, rtol=1e-13)
    ratio = kernel(X) / cls(3, activation, bias_var=bias_var, normalize=False)(X)
    np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-12)  # one constant, no more


def test_normalize_keeps_the_mean_diagonal_near_one_at_every_depth():
    table = rows(400, 10)
    for depth in (0, 1, 3, 8):
        assert NTK(depth, bias_var=0.1).diag(table).mean() == pytest.approx(1.0, abs=0.05)


@given(gamma=st.floats(0.05, 5.0))
def test_rbf_nngp_is_the_gaussian_kernel(gamma):
    kernel = NNGP(depth=1, activation=Rbf(gamma), weight_var=1.0, normalize=False)
    wanted = RBF(length_scale=np.sqrt(3 / (2 * gamma)))(X, Y)  # inputs enter divided by sqrt(d)
    np.testing.assert_allclose(kernel(X, Y), wanted, rtol=1e-11, atol=1e-14)


def test_kernel_is_homogeneous_without_biases():
    found = NTK(depth=3)(2.0 * X, 5.0 * Y)
    np.testing.assert_allclose(found, 10.0 * NTK(depth=3)(X, Y), **EXACT)


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_relu_vanishes_at_antipodal_rows_without_biases(depth):
    nngp = NNGP(depth=1)(X, -X)
    np.testing.assert_allclose(np.diag(nngp), 0.0, atol=1e-14)
    wanted = oracle.network(X, -X, oracle.relu, depth, 2.0)[1]
    found = NTK(depth, normalize=False)(X, -X)
    np.testing.assert_allclose(found, wanted, rtol=1e-7, atol=1e-7)  # the oracle's arccos at -1


@pytest.mark.parametrize("depth", [1, 3])
def test_nngp_of_an_even_activation_is_even(depth):
    kernel = NNGP(depth, "abs")
    np.testing.assert_allclose(kernel(X, -Y), kernel(X, Y), **EXACT)
    np.testing.assert_allclose(kernel(X, -X), kernel(X), **EXACT)


# --- many kernels of one recursion ---------------------------------------------------------------

GRIDS = {
    "depths": {"depth": [0, 1, 2, 5]},
    "all": {
        "depth": [1, 3],
        "bias_var": [0.0, 0.1],
        "fixed_depth": [0, 1],
        "normalize": [True, False],
    },
    "standard": {"depth": [0, 1, 2], "parametrization": ["standard"], "bias_var": [0.0, 0.1]},
    "standard_fixed": {"depth": [1, 2], "parametrization": ["standard"], "fixed_depth": [0, 1]},
    "activations": {"depth": [1, 2], "activation": ["relu", "abs", "erf", "gelu"]},
    "scales": {"depth": [1, 2], "input_scale": [1.0, [1.0, 2.0, 3.0], np.array([1.0, 2.0, 4.0])]},
}


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
@pytest.mark.parametrize("normalize", [True, False])
def test_gram_path_equals_single_kernels(grid, normalize):
    kernel = NTK(normalize=normalize)
    found = list(kernel.gram_path(X, Y, **grid))
    assert len(found) == np.prod([len(values) for values in grid.values()])
    for params, K in found:
        wanted = kernel.clone_with_params(params)(X, Y)
        np.testing.assert_allclose(K, wanted, rtol=1e-11, atol=1e-12 * np.abs(wanted).max())


class Bent(Rectifier):
    """A user's activation whose repr hides its slope."""

    def __init__(self, slope):
        self.slope = slope

    @property
    def slopes(self):
        return self.slope, 1.0

    def __repr__(self):
        return "Bent()"


def test_gram_path_keeps_activations_apart_when_their_reprs_agree():
    slopes = [-1.0, 0.0, 0.5]
    path = NTK(depth=1).gram_path(X, activation=[Bent(slope) for slope in slopes])
    for params, K in path:
        np.testing.assert_allclose(K, NTK(1, Bent(params["activation"].slope))(X), **EXACT)


def test_gram_path_refuses_what_a_single_call_refuses():
    with pytest.raises(ValueError, match=r"`fixed_depth` of NTK is 1; expected 0 to `depth`=0"):
        list(NTK().gram_path(X, depth=[1, 0], fixed_depth=[1]))


def test_gram_path_splits_groups_that_do_not_fit():
    budget = 2 * 8 * 8 * 8 * 2 + 100  # half of it holds two Gram matrices of 8 rows
    with _config.config_context(memory_budget=budget):
        found = [K for _, K in NTK().gram_path(X, depth=[1, 2, 3, 4, 5])]
    for depth, K in enumerate(found, start=1):
        np.testing.assert_allclose(K, NTK(depth)(X), **EXACT)


@pytest.mark.parametrize("normalize", [True, False])
def test_joint_has_the_nngp_on_the_scale_of_the_ntk(normalize):
    kernel = NTK(depth=2, bias_var=0.1, normalize=normalize)
    nngp, ntk = kernel.joint(X, Y)
    np.testing.assert_array_equal(ntk, kernel(X, Y))
    constant = NTK(2, bias_var=0.1, normalize=False)(X, Y) / ntk
    np.testing.assert_allclose(
        nngp * constant, NNGP(2, bias_var=0.1, normalize=False)(X, Y), **EXACT
    )


def test_joint_is_a_positive_difference_when_all_layers_train():
    nngp, ntk = NTK(depth=2, bias_var=0.1).joint(X)
    assert np.linalg.eigvalsh(ntk - nngp)[0] > -1e-13 * np.trace(ntk)


# --- gradients at rows where only the formulas are singular ---------------------------------------


@pytest.mark.parametrize(
    "kernel",
    [
        NTK(depth=0),
        NTK(depth=0, bias_var=0.1),
        NTK(bias_var=0.1),
        NTK(activation="erf"),
        NTK(activation="gelu", bias_var=0.1),
        NTK(activation="sin", bias_var=0.2),
        NNGP(depth=1, activation="rbf"),
    ],
    ids=repr,
)
def test_row_gradient_is_right_at_a_zero_row(kernel):
    zero, step = np.zeros((1, 3)), 1e-5
    found = kernel.vjp(zero, Y, np.ones((1, 5))).X[0]
    shifts = step * np.eye(3)
    wanted = (kernel(shifts, Y).sum(1) - kernel(-shifts, Y).sum(1)) / (2 * step)
    np.testing.assert_allclose(found, wanted, atol=1e-8)  # central differences


@pytest.mark.parametrize("activation", ["erf", "gelu", "sin", "rbf"])
def test_row_gradient_of_smooth_networks_is_right_at_coincident_rows(activation):
    kernel, step = NTK(depth=2, activation=activation, bias_var=0.1, weight_var=1.0), 1e-5
    for sign in (1.0, -1.0):
        found = kernel.vjp(sign * X[:1], X[:1], np.ones((1, 1))).X[0]
        shifts = step * np.eye(3)
        K = [kernel(sign * X[:1] + s * shifts, X[:1])[:, 0] for s in (1.0, -1.0)]
        np.testing.assert_allclose(found, (K[0] - K[1]) / (2 * step), atol=1e-8)


def test_row_gradient_takes_zero_for_the_cusp_at_coincident_rows():
    found = NTK(depth=2).vjp(X[:1], X[:1].copy(), np.ones((1, 1))).X
    # Along the ray K = |x| |x'| k(1) / d is smooth; across it the cusp counts zero.
    wanted = NTK(depth=2).diag(X[:1])[:, None] * X[:1] / (X[:1] ** 2).sum()
    np.testing.assert_allclose(found, wanted, **EXACT)
