"""What every kernel of tests/cases.py keeps: scikit-learn's own list, then ours.

Unless a test says otherwise its tolerance is 1e-12 of the largest entry: a few hundred roundings of
float64, since equal quantities may be summed in another order.
"""

import copy
import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.gaussian_process.kernels import Hyperparameter
from sklearn.metrics.pairwise import pairwise_kernels

from sknk import _config, kernels
from sknk.kernels import NTK, Mapped, Scale
from tests.cases import KERNELS, degenerate_rows, rows

pytestmark = pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)

X, Y, HARD = rows(9), rows(5, seed=1), degenerate_rows()
for table in (X, Y, HARD):
    table.flags.writeable = False

# What a kernel without a depth can be asked to vary.
OTHERS = {"value": [0.5, 2.0], "normalize": [True, False], "chunk_size": [1, 2]}


def assert_close(actual, desired, rtol=1e-12):
    """Compare entries on the scale of the largest."""
    scale = np.abs(desired).max(initial=0.0)
    np.testing.assert_allclose(actual, desired, rtol=rtol, atol=rtol * scale)


def weights(n, m, seed=7):
    return np.random.default_rng(seed).standard_normal((n, m))


def central_difference(function, x, step=1e-5):
    """Derivative of a function in every entry of x; error O(step^2) + eps/step = 1e-10."""
    columns = []
    for index in np.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[index] += step
        down[index] -= step
        columns.append((function(up) - function(down)) / (2.0 * step))
    return np.stack(columns, axis=-1) if columns else np.empty(0)


def free_sizes(kernel):
    return [h.n_elements for h in kernel.hyperparameters if not h.fixed]


def drops_features(kernel):
    return "Dropout" in repr(kernel)


# --- scikit-learn's list -----------------------------------------------------------------------


def test_gradient_equals_finite_differences(kernel):
    K, gradient = kernel(X, eval_gradient=True)
    assert gradient.shape == (9, 9, len(kernel.theta))
    np.testing.assert_array_equal(K, kernel(X))
    if kernel.n_dims:
        wanted = central_difference(lambda theta: kernel.clone_with_theta(theta)(X), kernel.theta)
        # 1e-8: the error of central differences at this step, on entries of order one.
        assert_close(gradient, wanted, rtol=1e-8)


def test_theta_is_the_logarithm_of_free_parameters(kernel):
    params = kernel.get_params()
    free = [np.ravel(params[h.name]) for h in kernel.hyperparameters if not h.fixed]
    np.testing.assert_array_equal(kernel.theta, np.log(np.hstack([np.empty(0), *free])))
    assert kernel.n_dims == len(kernel.theta) == sum(free_sizes(kernel))


def test_theta_round_trips(kernel):
    kernel = clone(kernel)
    wanted = kernel.theta + np.linspace(0.1, 0.3, kernel.n_dims)
    kernel.theta = wanted
    np.testing.assert_allclose(kernel.theta, wanted, rtol=1e-14)  # exp, then log


def test_theta_moves_the_gram_matrix(kernel):
    for position in range(kernel.n_dims):
        theta = kernel.theta.copy()
        theta[position] += 0.7
        moved = kernel.clone_with_theta(theta)
        assert np.abs(moved(X) - kernel(X)).max() > 1e-3 * np.abs(kernel(X)).max()


def test_bounds_follow_theta(kernel):
    assert kernel.bounds.reshape(-1, 2).shape == (kernel.n_dims, 2)
    wanted = [np.log(h.bounds) for h in kernel.hyperparameters if not h.fixed]
    np.testing.assert_array_equal(
        kernel.bounds.reshape(-1, 2), np.vstack([np.empty((0, 2)), *wanted])
    )


def test_hyperparameter_is_left_out_when_fixed(kernel):
    gradient = kernel(X, eval_gradient=True)[1]
    start = 0
    for h in [h for h in kernel.hyperparameters if not h.fixed]:
        without = clone(kernel).set_params(**{f"{h.name}_bounds": "fixed"})
        keep = np.delete(np.arange(kernel.n_dims), np.s_[start : start + h.n_elements])
        np.testing.assert_array_equal(without.theta, kernel.theta[keep])
        assert_close(without(X, eval_gradient=True)[1], gradient[:, :, keep])
        start += h.n_elements


def test_cross_equals_auto(kernel):
    for table in (X, HARD):
        auto, cross = kernel(table), kernel(table, table.copy())
        if drops_features(kernel):  # a row and its copy lose different features
            assert (np.diag(auto) >= np.diag(cross)).all()
            assert np.diag(auto).sum() > 1.1 * np.diag(cross).sum()
            np.fill_diagonal(auto, np.diag(cross))
        assert_close(cross, auto)


def test_diag_equals_diagonal(kernel):
    assert_close(kernel.diag(X), np.diag(kernel(X)))
    assert_close(kernel.diag(HARD), np.diag(kernel(HARD)))


def test_clone_equals_original(kernel):
    copied = clone(kernel)
    assert copied is not kernel
    assert copied == kernel
    assert copied.hyperparameters == kernel.hyperparameters
    assert repr(copied) == repr(kernel)


def test_clone_with_theta_leaves_the_original(kernel):
    before, K = kernel.theta.copy(), kernel(X)
    kernel.clone_with_theta(before + 1.0)
    np.testing.assert_array_equal(kernel.theta, before)
    np.testing.assert_array_equal(kernel(X), K)


def test_set_params_undoes_get_params(kernel):
    changed = kernel.clone_with_theta(kernel.theta + 0.3)
    changed.set_params(**kernel.get_params(deep=False))
    assert changed == kernel
    np.testing.assert_array_equal(changed(X), kernel(X))


def test_set_params_of_a_free_name_changes_theta(kernel):
    for h in [h for h in kernel.hyperparameters if not h.fixed]:
        value = 1.7 if h.n_elements == 1 else [1.7] * h.n_elements
        changed = clone(kernel).set_params(**{h.name: value})
        assert np.sum(np.isclose(changed.theta, np.log(1.7))) >= h.n_elements
        assert isinstance(h, Hyperparameter)


def test_pairwise_kernels_accept_it(kernel):
    assert_close(pairwise_kernels(X, metric=kernel), kernel(X))
    assert_close(pairwise_kernels(X, Y, metric=kernel), kernel(X, Y))


def test_repr_evaluates_to_itself(kernel):
    if "EmpiricalNTK" in repr(kernel):  # a module has no constructor form
        assert repr(clone(kernel)) == repr(kernel)
        return
    again = eval(repr(kernel), vars(kernels).copy())
    assert again == kernel
    np.testing.assert_array_equal(again(X), kernel(X))


def test_kernel_takes_vectors_and_is_not_stationary(kernel):
    assert kernel.requires_vector_input
    assert not kernel.is_stationary()


# --- values ------------------------------------------------------------------------------------


def test_gram_is_positive_semidefinite(kernel):
    for table in (X, HARD, np.vstack([X, HARD])):
        K = kernel(table)
        # Rounding of n = 21 rows moves eigenvalues by at most n eps times the trace.
        assert np.linalg.eigvalsh(K)[0] >= -1e-14 * np.trace(K)


def test_gram_is_exactly_symmetric(kernel):
    for tile_size in (None, 4):
        with _config.config_context(tile_size=tile_size):
            K = kernel(HARD)
        np.testing.assert_array_equal(K, K.T)


def test_cross_gram_transposes_with_its_arguments(kernel):
    assert_close(kernel(Y, HARD), kernel(HARD, Y).T)


def test_gram_follows_permutations(kernel):
    rng = np.random.default_rng(2)
    p, q = rng.permutation(len(HARD)), rng.permutation(len(X))
    assert_close(kernel(HARD[p]), kernel(HARD)[np.ix_(p, p)])
    assert_close(kernel(HARD[p], X[q]), kernel(HARD, X)[np.ix_(p, q)])


def test_symmetric_call_is_the_same_for_none_and_the_same_object(kernel):
    np.testing.assert_array_equal(kernel(X, X), kernel(X))
    np.testing.assert_array_equal(
        kernel.matmul(X, X, np.ones(9)), kernel.matmul(X, None, np.ones(9))
    )


@pytest.mark.parametrize("tile_size", [1, 4])
def test_results_do_not_depend_on_the_tile_size(kernel, tile_size):
    hard, few, V, W = HARD[4:10], X[:4], weights(6, 2), weights(4, 4)

    def results():
        yield from (kernel(hard), kernel(hard, few), kernel.matmul(hard, None, V))
        yield from (kernel(few[:3], eval_gradient=True)[1], kernel.vjp(few, None, W).theta)

    wanted = list(results())
    with _config.config_context(tile_size=tile_size):
        found = list(results())
    for a, b in zip(found, wanted, strict=True):
        assert_close(a, b)


def test_degenerate_rows_give_finite_values_and_gradients(kernel):
    K, gradient = kernel(HARD, eval_gradient=True)
    found = [
        kernel.vjp(HARD, None, weights(12, 12)),
        kernel.vjp(HARD, HARD.copy(), np.ones((12, 12))),
    ]
    assert np.isfinite(K).all()
    assert np.isfinite(gradient).all()
    assert np.isfinite(kernel.diag(HARD)).all()
    for g in found:
        assert np.isfinite(g.theta).all()
        assert np.isfinite(g.X).all()


def test_degenerate_rows_are_finite_in_float32(kernel):
    with _config.config_context(dtype="float32"):
        K, gradient = kernel(HARD, eval_gradient=True)
        g = kernel.vjp(HARD, None, weights(12, 12))
    assert np.isfinite(K).all()
    assert np.isfinite(gradient).all()
    assert np.isfinite(g.theta).all()
    assert np.isfinite(g.X).all()


def test_copies_of_a_row_have_equal_rows_of_k(kernel):
    K = kernel(HARD)  # row 11 is a copy of row 0 and 5
    columns = [j for j in range(12) if j not in (0, 5, 11) or not drops_features(kernel)]
    assert_close(K[np.ix_([5, 11], columns)], K[np.ix_([0, 0], columns)])


def test_one_row_gives_one_entry(kernel):
    K = kernel(X[:1])
    assert K.shape == (1, 1)
    assert_close(K, kernel(X)[:1, :1])
    assert kernel(X[:1], eval_gradient=True)[1].shape == (1, 1, kernel.n_dims)


def test_no_rows_give_empty_results(kernel):
    none = X[:0]
    assert kernel(none, X).shape == (0, 9)
    assert kernel(X, none).shape == (9, 0)
    assert kernel.diag(none).shape == (0,)
    np.testing.assert_array_equal(kernel.matmul(X, none, np.empty((0, 2))), np.zeros((9, 2)))


def test_float32_is_close_and_kept(kernel):
    wanted = kernel(X), kernel.diag(X)
    with _config.config_context(dtype="float32"):
        found = kernel(X), kernel.diag(X)
    for a, b in zip(found, wanted, strict=True):
        assert a.dtype == np.float32
        # 6e-8 per rounding, amplified up to a hundredfold by deep sines and Gaussians.
        assert_close(a, b, rtol=1e-5)


def test_calls_repeat_bit_for_bit(kernel):
    np.testing.assert_array_equal(kernel(HARD), clone(kernel)(HARD))
    np.testing.assert_array_equal(
        kernel.vjp(HARD, None, np.ones((12, 12))).X, kernel.vjp(HARD, None, np.ones((12, 12))).X
    )


# --- products and gradients --------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(), (1,), (4,)])
def test_matmul_equals_gram_times_v(kernel, shape):
    rng = np.random.default_rng(3)
    auto, cross = rng.standard_normal((9, *shape)), rng.standard_normal((5, *shape))
    assert_close(kernel.matmul(X, None, auto), kernel(X) @ auto)
    assert_close(kernel.matmul(X, Y, cross), kernel(X, Y) @ cross)


def test_vjp_theta_contracts_eval_gradient(kernel):
    W = weights(9, 9)
    gradient = kernel(X, eval_gradient=True)[1]
    assert_close(kernel.vjp(X, None, W).theta, np.einsum("ij,ijk->k", W, gradient), rtol=1e-11)


def test_vjp_rows_equal_finite_differences(kernel):
    x, y, W, V = X[:4], Y[:3], weights(4, 3), weights(4, 4)
    cross, auto = kernel.vjp(x, y, W), kernel.vjp(x, None, V)
    at_x = central_difference(lambda x: (W * kernel(x, y)).sum(), x)
    at_y = central_difference(lambda y: (W * kernel(x, y)).sum(), y)
    both = central_difference(lambda x: (V * kernel(x)).sum(), x)
    for found, wanted in ((cross.X, at_x), (cross.Y, at_y), (auto.X, both)):
        assert_close(found, wanted.reshape(found.shape), rtol=1e-7)  # central differences
    assert auto.Y is None


def test_autograd_equals_vjp(kernel):
    W = weights(9, 5)
    x, y = (torch.tensor(a, requires_grad=True) for a in (X, Y))
    (torch.as_tensor(W) * kernel(x, y)).sum().backward()
    wanted = kernel.vjp(X, Y, W)
    np.testing.assert_array_equal(x.grad.numpy(), wanted.X)
    np.testing.assert_array_equal(y.grad.numpy(), wanted.Y)


def test_autograd_equals_vjp_in_symmetric_calls(kernel):
    V = weights(9, 9)
    x = torch.tensor(X, dtype=torch.float32, requires_grad=True)
    (torch.as_tensor(V) * kernel(x, x)).sum().backward()
    assert x.grad.dtype is torch.float32
    # 2^-24: the leaf's own dtype rounds rows and gradient once each.
    assert_close(x.grad.numpy(), kernel.vjp(x.detach(), None, V).X.numpy(), rtol=2e-7)


def test_tensors_give_tensors(kernel):
    x, y, v = torch.tensor(X), torch.tensor(Y), torch.ones(5, dtype=torch.float64)
    found = kernel(x, y), kernel.diag(x), kernel.matmul(x, y, v), kernel.vjp(x, y, weights(9, 5)).X
    wanted = kernel(X, Y), kernel.diag(X), kernel.matmul(X, Y, v), kernel.vjp(X, Y, weights(9, 5)).X
    for a, b in zip(found, wanted, strict=True):
        assert isinstance(a, torch.Tensor)
        assert isinstance(b, np.ndarray)
        np.testing.assert_array_equal(a.numpy(), b)


def test_gram_path_equals_single_grams(kernel):
    params = kernel.get_params()
    name = next((name for name in sorted(params) if name.endswith("depth")), None)
    others = {n: v for n in sorted(params) for k, v in OTHERS.items() if n.endswith(k)}
    grid = dict([next(iter(others.items()))]) if name is None else {name: [4, 3]}
    found = list(kernel.gram_path(X, Y, **grid))
    assert len(found) == 2
    for params, K in found:
        assert_close(K, kernel.clone_with_params(params)(X, Y))


def test_joint_is_for_tangent_kernels_only(kernel):
    inner = kernel
    while isinstance(inner, Scale | Mapped):
        inner = inner.kernel
    if not (isinstance(inner, NTK) or getattr(inner, "output", None) == "ntk"):
        with pytest.raises(TypeError, match=f"{type(inner).__name__}.*use NTK"):
            kernel.joint(X, Y)
        with pytest.raises(TypeError, match=f"{type(inner).__name__}.*use NTK"):
            kernel.joint_diag(X)
        return
    for diagonal, K in zip(kernel.joint_diag(X), kernel.joint(X), strict=True):
        assert_close(diagonal, np.diag(K))
    for pair in (X, Y), (X, None):
        nngp, ntk = kernel.joint(*pair)
        assert nngp.shape == ntk.shape
        assert_close(ntk, kernel(*pair))


# --- objects -----------------------------------------------------------------------------------


def test_copies_and_pickles_are_equal_kernels(kernel):
    for other in (pickle.loads(pickle.dumps(kernel)), copy.deepcopy(kernel), copy.copy(kernel)):
        assert other == kernel
        np.testing.assert_array_equal(other(X), kernel(X))


def test_equality_compares_types_and_values(kernel):
    assert kernel != 1.0
    assert all((other == kernel) == (other is kernel) for other in KERNELS.values())
    if kernel.n_dims:
        assert kernel.clone_with_theta(kernel.theta + 0.1) != kernel
    with pytest.raises(TypeError, match="unhashable"):
        hash(kernel)


def test_inputs_are_not_written_to(kernel):
    tables = [a.copy() for a in (HARD, Y, weights(12, 5), weights(5, 2))]
    x, y, W, V = (a.copy() for a in tables)
    kernel(x, eval_gradient=True)
    kernel(x, y), kernel.diag(x), kernel.matmul(x, y, V), kernel.vjp(x, y, W)
    for changed, original in zip((x, y, W, V), tables, strict=True):
        np.testing.assert_array_equal(changed, original)


def test_input_layouts_give_the_same_gram(kernel):
    whole = np.round(X * 4)
    wanted, K = kernel(whole, Y), kernel(X, Y)
    for same in (np.asfortranarray(X), X.tolist(), X[::-1][::-1], np.repeat(X, 2, axis=0)[::2]):
        assert_close(kernel(same, Y), K)
    for dtype in (np.float32, np.int64, np.int8):
        found = kernel(whole.astype(dtype), Y)
        assert found.dtype == np.float64
        assert_close(found, wanted)


@pytest.mark.gpu
def test_cuda_gram_equals_cpu_gram(kernel, cuda):
    x = torch.tensor(HARD, device=cuda)
    K = kernel(x)
    assert K.device.type == "cuda"
    assert_close(K.cpu().numpy(), kernel(HARD))
    with _config.config_context(device="cuda"):
        assert_close(kernel.matmul(HARD, Y, np.ones(5)), kernel(HARD, Y) @ np.ones(5))
