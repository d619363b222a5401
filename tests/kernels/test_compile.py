"""`config_context(compile=True)`: the same Gram, or the same Gram with a warning."""

import shutil

import numpy as np
import pytest

from sknk import _config
from sknk.exceptions import DeviceWarning
from sknk.kernels import NTK, Polynomial
from tests.cases import degenerate_rows, rows

COMPILER = any(map(shutil.which, ("g++", "clang++", "c++")))


@pytest.mark.slow
@pytest.mark.skipif(not COMPILER, reason="torch.compile needs a C++ compiler on the CPU")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's own compiler stack
def test_compiled_gram_is_the_gram():
    X, Y, kernel = degenerate_rows(), rows(7, seed=1), NTK(depth=2, bias_var=0.1)
    exact = kernel(X), kernel(X, Y)
    with _config.config_context(dtype="float32", tile_size=5, compile=True):
        compiled = kernel(X), kernel(X, Y)
        vjp = kernel.vjp(X, None, np.ones((12, 12)))  # runs eagerly: it needs autograd
    for a, b in zip(compiled, exact, strict=True):
        assert a.dtype == np.float32
        # Against float64: fused operations round in another order than eager ones, not worse.
        np.testing.assert_allclose(a, b, rtol=1e-6)
    assert np.isfinite(vjp.X).all()


@pytest.mark.parametrize("activation", ["tanh", "elu", Polynomial((0.3, 1.0, -0.5))], ids=repr)
def test_activations_that_cannot_be_compiled_run_eagerly(activation):
    X, kernel = rows(6), NTK(depth=1, activation=activation)
    with _config.config_context(compile=True):
        compiled = kernel(X)
    np.testing.assert_array_equal(compiled, kernel(X))


def test_missing_compiler_warns_and_runs_eagerly(monkeypatch):
    X, kernel = rows(6), NTK(bias_var=0.1)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with (
        _config.config_context(compile=True),
        pytest.warns(DeviceWarning, match=r"`compile=True` but no C\+\+ compiler was found"),
    ):
        K = kernel(X)
    np.testing.assert_array_equal(K, kernel(X))


def test_compile_is_off_by_default():
    assert _config.get_config()["compile"] is False
