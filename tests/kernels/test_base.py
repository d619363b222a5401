"""Bad rows, parameters and budgets: what the kernels answer."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch

from sknk import _config
from sknk.exceptions import MemoryBudgetError
from sknk.kernels import NNGP, NTK, Constant, Kernel
from tests.cases import rows

X, Y = rows(6), rows(4, seed=1)


@pytest.mark.parametrize("bad", [X[0], X[None], np.float64(1.0)], ids=["1d", "3d", "0d"])
def test_rows_of_wrong_dimension_raise(bad):
    shape = str(np.shape(bad)).replace("(", r"\(").replace(")", r"\)")
    for call in (lambda: NTK()(bad), lambda: NTK().diag(bad), lambda: NTK().matmul(bad, None, bad)):
        with pytest.raises(ValueError, match=rf"`X` has shape {shape}; expected rows \(n, d\)"):
            call()
    with pytest.raises(ValueError, match="`Y` has shape"):
        NTK()(X, bad)


@pytest.mark.parametrize("make", [scipy.sparse.csr_matrix, scipy.sparse.coo_array])
def test_sparse_rows_raise(make):
    with pytest.raises(
        TypeError, match=r"`X` is sparse; kernels need dense rows. Use `X.toarray\(\)`"
    ):
        NTK()(make(X))
    with pytest.raises(TypeError, match="`Y` is sparse"):
        NTK()(X, make(Y))


def test_rows_of_different_width_raise():
    for call in (NTK(), lambda a, b: NTK().matmul(a, b, np.ones(4))):
        with pytest.raises(ValueError, match="`X` has 3 features and `Y` 2; expected equal"):
            call(X, Y[:, :2])


@pytest.mark.parametrize("bad", [np.array([["a", "b"]]), np.array([[1.0, None]], dtype=object)])
def test_rows_that_are_no_numbers_raise(bad):
    with pytest.raises((TypeError, ValueError)):
        NTK()(bad)


def test_complex_rows_raise():
    with pytest.raises((TypeError, ValueError), match="complex"):
        NTK()(X + 1j)


def test_data_frames_are_rows():
    np.testing.assert_array_equal(NTK()(pd.DataFrame(X)), NTK()(X))


def test_vectors_and_weights_of_wrong_shape_raise():
    with pytest.raises(ValueError, match="`V` has 3 rows; expected 4"):
        NTK().matmul(X, Y, np.ones(3))
    with pytest.raises(ValueError, match=r"`W` has shape \(4, 6\); expected \(6, 4\), that of K"):
        NTK().vjp(X, Y, np.ones((4, 6)))


def test_gradient_of_a_cross_gram_raises():
    with pytest.raises(ValueError, match="Gradient can only be evaluated when Y is None"):
        NTK(bias_var=0.1)(X, Y, eval_gradient=True)
    np.testing.assert_array_equal(
        NTK(bias_var=0.1)(X, X, eval_gradient=True)[1], NTK(bias_var=0.1)(X, eval_gradient=True)[1]
    )


IMPOSSIBLE = [
    ({"weight_var": -1.0}, ValueError, "`weight_var` of NTK is -1.0; expected a finite"),
    ({"weight_var": 0.0}, ValueError, "`weight_var` of NTK is 0, which makes every row equal"),
    ({"bias_var": -0.1}, ValueError, "`bias_var` of NTK is -0.1; expected a finite"),
    ({"bias_var": np.nan}, ValueError, "`bias_var` of NTK is nan"),
    ({"bias_var": np.inf}, ValueError, "`bias_var` of NTK is inf"),
    ({"bias_var": [0.1, 0.2]}, TypeError, "`bias_var` of NTK is .* expected a number"),
    ({"depth": 2.0}, TypeError, "`depth` of NTK is 2.0; expected an integer"),
    ({"depth": True}, TypeError, "`depth` of NTK is True; expected an integer"),
    ({"depth": -1}, ValueError, "`depth` of NTK is -1; expected 0 or more hidden layers"),
    ({"fixed_depth": 4}, ValueError, "`fixed_depth` of NTK is 4; expected 0 to `depth`=3"),
    ({"fixed_depth": -1}, ValueError, "`fixed_depth` of NTK is -1"),
    ({"fixed_depth": 1.5}, TypeError, "`fixed_depth` of NTK is 1.5; expected an integer"),
    (
        {"parametrization": "mup"},
        ValueError,
        "`parametrization` of NTK is 'mup'; expected 'ntk' or",
    ),
    ({"width": 0}, ValueError, "`width` of NTK is 0; expected 1 or more"),
    ({"activation": "swish"}, ValueError, "`activation` is 'swish'; expected one of"),
    ({"activation": abs}, TypeError, "`activation` is .*; expected a name or an activation"),
    ({"input_scale": [1.0, 2.0]}, ValueError, r"`input_scale` of NTK has shape \(2,\); expected"),
    ({"input_scale": np.ones((3, 3))}, ValueError, r"`input_scale` of NTK has shape \(3, 3\)"),
    ({"input_scale": -1.0}, ValueError, "`input_scale` of NTK is -1.0; expected >= 0"),
    ({"input_scale": np.nan}, ValueError, "`input_scale` of NTK is nan"),
    ({"weight_var": "big"}, TypeError, "`weight_var` of NTK is 'big'"),
    ({"bias_var": None}, TypeError, "`bias_var` of NTK is None"),
]


@pytest.mark.parametrize(("params", "error", "match"), IMPOSSIBLE, ids=lambda p: str(p)[:30])
def test_impossible_parameters_raise_when_evaluated(params, error, match):
    kernel = NTK(**params)  # constructors only assign, as scikit-learn's do
    for call in (kernel, kernel.diag, lambda x: kernel.matmul(x, None, np.ones(6))):
        with pytest.raises(error, match=match):
            call(X)


def test_messages_name_the_kernel():
    with pytest.raises(ValueError, match="`depth` of NNGP is -1"):
        NNGP(depth=-1)(X)


@pytest.mark.parametrize(
    "call",
    [NTK(), lambda x: NTK()(x, Y), NTK().joint, lambda x: NTK(bias_var=1.0)(x, eval_gradient=True)],
    ids=["gram", "cross", "joint", "gradient"],
)
def test_result_beyond_the_budget_raises_before_it_is_made(call):
    with (
        _config.config_context(memory_budget=100),
        pytest.raises(MemoryBudgetError, match=r"n=6.*needs \d+ bytes but 100 are allowed on cpu"),
    ):
        call(X)


def test_budget_error_says_what_to_use_instead():
    table = rows(400)
    with _config.config_context(memory_budget=1000):
        with pytest.raises(MemoryBudgetError, match=r"1.28e\+06 bytes.*Use `kernel.matmul`"):
            NTK()(table)
        assert NTK().matmul(table, None, np.ones(400)).shape == (400,)
        assert NTK().diag(table).shape == (400,)


def test_missing_device_raises(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for device in ("cuda", "cuda:1"):
        with (
            _config.config_context(device=device),
            pytest.raises(
                ValueError, match=f"`device` is '{device}' but torch finds no CUDA device"
            ),
        ):
            NTK()(X)


def test_configured_device_is_used_for_arrays_and_tensors():
    with _config.config_context(device="cpu"):
        np.testing.assert_array_equal(NTK()(X), NTK()(torch.tensor(X)).numpy())


def test_joint_of_other_kernels_names_them():
    with pytest.raises(TypeError, match=r"NNGP\(\) is no tangent kernel of a network.*use NTK"):
        NNGP().joint(X)


def test_kernel_is_abstract():
    with pytest.raises(TypeError, match="abstract"):
        Kernel()


class Cosine(Kernel):
    """The smallest kernel a user can write: two formulas, and all else is inherited."""

    _value_names = ("power",)

    def __init__(self, power=1.0):
        self.power = power

    def _tile(self, rx, ry, values):
        return (1.0 + rx @ ry.T / (rx.norm(dim=1)[:, None] * ry.norm(dim=1))) ** values["power"]

    def _diag(self, x, values):
        return 2.0 ** values["power"].expand(len(x))


def test_custom_kernel_inherits_everything():
    kernel = Cosine(2.0)
    np.testing.assert_allclose(np.diag(kernel(X)), kernel.diag(X))
    np.testing.assert_allclose(kernel.matmul(X, Y, np.ones(4)), kernel(X, Y).sum(1))
    assert kernel.vjp(X, Y, np.ones((6, 4))).X.shape == X.shape
    assert len(list(kernel.gram_path(X, power=[1.0, 2.0]))) == 2
    assert isinstance(kernel + Constant(1.0), Kernel)
