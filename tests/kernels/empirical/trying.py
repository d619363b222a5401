"""How the tests hold a module against the kernels of its Jacobian."""

import numpy as np
import pytest
import torch
from torch import nn

from sknk.kernels import EmpiricalNTK
from tests.modules import seeded
from tests.reference import empirical

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
