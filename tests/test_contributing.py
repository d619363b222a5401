"""The activation and the layer that CONTRIBUTING.md adds are what it says they are."""

import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sknk.kernels import NTK, Dense, Hermite, Layer, NetworkKernel, ReLU, _activation
from sknk.kernels._activation import SmoothActivation
from sknk.kernels._layer import Function, Values
from sknk.kernels._state import Features, KernelState
from tests.cases import rows

TEXT = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
NAMES = {
    thing.__name__: thing
    for thing in (dataclass, replace, Layer, SmoothActivation, Function, Features, KernelState)
} | {"torch": torch, "Tensor": Tensor, "nn": nn, "Values": Values, "ReLU": ReLU, "Dense": Dense}


@pytest.fixture
def added():
    """What the blocks of CONTRIBUTING.md define, forgotten afterwards."""
    namespace = dict(NAMES)
    for block in re.findall(r"```python\n(@dataclass.*?)```", TEXT, flags=re.DOTALL):
        exec(block, namespace)
    yield namespace
    _activation._NAMED.pop("quadratic", None)


def test_added_activation_is_known_by_name_and_right(added):
    X = rows(6)
    found = NTK(depth=1, activation="quadratic", weight_var=1.0)(X)
    # At unit variance it is sqrt(2) times the second Hermite polynomial; so are rows of norm d.
    unit = X / np.linalg.norm(X, axis=1, keepdims=True) * X.shape[1] ** 0.5
    wanted = NTK(depth=1, activation=Hermite(2), weight_var=1.0)(unit)
    np.testing.assert_allclose(
        NTK(depth=1, activation=added["Quadratic"](), weight_var=1.0)(unit), wanted, rtol=1e-12
    )
    assert found.shape == (6, 6)


def test_added_layer_scales_kernels_and_finite_networks(added):
    gain, X = added["Gain"](0.5), rows(5)
    kernel = NetworkKernel(Dense(bias_var=0.2) >> gain >> Dense(), normalize=False)
    plain = NetworkKernel(Dense(bias_var=0.2) >> Dense(), normalize=False)
    np.testing.assert_allclose(kernel(X), 0.25 * plain(X), rtol=1e-12)
    x = torch.from_numpy(X)
    np.testing.assert_array_equal(gain.finite(x, 4, torch.Generator())(x), 0.5 * X)
