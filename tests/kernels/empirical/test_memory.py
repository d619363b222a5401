"""What tangent kernels hold in memory: factors of gradients, or Jacobians in passes."""

import math
import subprocess
import sys
from dataclasses import fields

import numpy as np
import pytest
import torch
from torch import nn

from sknk._config import config_context
from sknk.exceptions import MemoryBudgetError
from sknk.kernels import EmpiricalNTK
from sknk.kernels._empirical._choice import IMPLEMENTATIONS
from sknk.kernels._empirical._gradients import Dense
from tests.cases import rows
from tests.modules import mlp, seeded
from tests.reference import empirical

# Prints the growth of a fresh process's peak, in bytes, beyond a first call on a few rows.
WORKER = """
import numpy as np
from torch import nn
from sknk import config_context
from sknk.kernels import EmpiricalNTK

def resident(field):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))

net = nn.Sequential(
    nn.Linear(16, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10)
)
X = np.random.default_rng(0).standard_normal((2000, 16))
with config_context(dtype="float32"):
    pseudo, trace = (EmpiricalNTK(net, kind, implementation="structured")
                     for kind in ("pseudo", "trace"))
    pseudo(X[:20]), trace(X[:20])
    before = resident("VmRSS:")
    for kernel in (pseudo, trace):  # the larger one last: a peak never falls
        kernel(X)
        print(resident("VmHWM:") - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_structured_gram_takes_memory_for_activations_only():
    done = subprocess.run([sys.executable, "-c", WORKER], capture_output=True, check=True)
    n, widths, numbers = 2000, (512, 512, 10), 16 * 512 + 512 + 512 * 512 + 512 + 512 * 10 + 10
    for found, combinations in zip(done.stdout.split(), (1, 10), strict=True):
        # K; activations and cotangents twice, autograd's and ours; 50 MB for tiles.
        allowed = 4 * (n * n + 2 * n * (combinations + 1) * sum(widths)) + 50e6
        assert int(found) < allowed
        assert allowed < 4 * n * numbers / 5  # one gradient a row would be five times as much


# --- passes over parameters -----------------------------------------------------------------------


def wide():
    """71 thousand parameters, 11 MB of gradients of one output of 20 rows."""
    return nn.Sequential(
        nn.Linear(4, 256), nn.Tanh(), nn.Linear(256, 256), nn.Tanh(), nn.Linear(256, 3)
    )


X, Y, LABELS = rows(20, 4), rows(6, 4, seed=1), np.arange(20) % 3
FORMS = {
    "gram": lambda kernel: kernel(X),
    "cross": lambda kernel: kernel(X, Y),
    "matmul": lambda kernel: kernel.matmul(X, Y, np.ones(6)),
    "full": lambda kernel: kernel.full(X),
    "per_output": lambda kernel: kernel.per_output(X, Y),
    "labelled": lambda kernel: kernel.labelled(X, LABELS),
    "asymmetric_sign": lambda kernel: kernel.asymmetric_sign(X, Y),
    "layerwise": lambda kernel: np.stack(list(kernel.layerwise(X).values())),
    "sign": lambda kernel: kernel.clone_with_params({"kind": "sign"})(X),
    "pseudo": lambda kernel: kernel.clone_with_params({"kind": "pseudo"})(X),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_passes_over_parameters_equal_one_pass(form):
    kernel = EmpiricalNTK(seeded(wide), implementation="jacobian")
    assert len(kernel._passes(X, None)) == 1
    wanted = form(kernel)
    with config_context(memory_budget=4e6):
        assert len(kernel._passes(X, None)) > 10
        found = form(kernel)
    # 2e-11: 70 thousand roundings of one sign, where every sign counts the same.
    np.testing.assert_allclose(found, wanted, rtol=2e-11, atol=2e-11 * np.abs(wanted).max())


def test_passes_are_no_larger_than_half_the_budget():
    net = seeded(wide)
    kernel = EmpiricalNTK(net, implementation="jacobian")
    for budget in (4e6, 1e6):
        with config_context(memory_budget=budget):
            parts = kernel._passes(X, Y)
            networks = [part._network(torch.tensor(X[:1]), part._values("cpu")) for part in parts]
        sizes = [sum(leaf.numel() for leaf in network.leaves.values()) for network in networks]
        assert sum(sizes) == sum(p.numel() for p in net.parameters())
        assert 8 * (len(X) + len(Y)) * 3 * max(sizes) <= budget / 2


def test_passes_serve_the_loop():
    kernel = EmpiricalNTK(seeded(wide), implementation="loop")
    few = X[:10]
    wanted = kernel(few)
    with config_context(memory_budget=4e6):
        assert len(kernel._passes(few, None)) > 1
        np.testing.assert_allclose(kernel(few), wanted, rtol=1e-12, atol=1e-12 * wanted.max())


def test_diag_fits_where_the_gram_matrix_does():
    kernel = EmpiricalNTK(seeded(wide), implementation="jacobian")
    wanted = kernel.diag(X)
    with config_context(memory_budget=4e6):
        np.testing.assert_allclose(np.diag(kernel(X)), wanted, rtol=1e-12)
        np.testing.assert_allclose(kernel.diag(X), wanted, rtol=1e-12)


@pytest.mark.parametrize("implementation", ["structured", "vector_products"])
def test_implementations_without_jacobians_need_one_pass(implementation):
    kernel = EmpiricalNTK(seeded(wide), implementation=implementation)
    wanted = empirical.trace(empirical.jacobian(seeded(wide), X[:4]).J)
    with config_context(memory_budget=4e6):
        assert len(kernel._passes(X, None)) == 1
        np.testing.assert_allclose(kernel(X[:4]), wanted, rtol=1e-10)


def test_results_that_cannot_fit_are_refused():
    kernel = EmpiricalNTK(seeded(lambda: nn.Linear(4, 3)))
    with config_context(memory_budget=1000.0):  # more than gradients of 15 numbers take
        with pytest.raises(MemoryBudgetError, match=r"n=20 by 20 rows.*needs 3\.2e\+03 bytes"):
            kernel(X)
        with pytest.raises(MemoryBudgetError, match=r"20 rows and 3 outputs needs 2\.88e\+04"):
            kernel.full(X)
        with pytest.raises(MemoryBudgetError, match=r"n=20 by 20 rows"):
            kernel.labelled(X, LABELS)
        assert kernel.diag(X).shape == (20,)


def test_jacobians_that_cannot_fit_are_refused_or_right():
    kernel, few = EmpiricalNTK(seeded(wide), implementation="jacobian"), X[:10]
    wanted = kernel(few)
    for budget in (3e5, 1e5, 3e4):
        with config_context(memory_budget=budget):
            try:
                found = EmpiricalNTK(seeded(wide), implementation="jacobian")(few)
            except MemoryBudgetError as error:
                assert "Jacobian of n=" in str(error)  # noqa: PT017
            else:
                np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12 * wanted.max())


# --- factors --------------------------------------------------------------------------------------

LAYERS = {
    "linear": ((16,), lambda: nn.Linear(16, 64)),
    "places": ((6, 16), lambda: nn.Linear(16, 64)),
    "many_places": ((64, 4), lambda: nn.Linear(4, 4)),
    "convolution": ((3, 8, 8), lambda: nn.Conv2d(3, 4, 3)),
    "one_place": ((16, 3, 3), lambda: nn.Conv2d(16, 32, 3)),
    "few_places": ((16, 3, 4), lambda: nn.Conv2d(16, 32, 3)),
    "groups": ((16, 8, 8), lambda: nn.Conv2d(16, 16, 3, groups=2)),
}


@pytest.mark.parametrize(("shape", "layer"), LAYERS.values(), ids=LAYERS)
def test_structured_gradients_are_at_most_four_times_their_factors(shape, layer):
    net = seeded(lambda: nn.Sequential(layer(), nn.Tanh(), nn.Flatten(), nn.LazyLinear(2)))
    out = net[0](torch.zeros(1, *shape, dtype=torch.float64))
    net(torch.zeros(1, *shape, dtype=torch.float64))
    kernel = EmpiricalNTK(net, params="0.weight", input_shape=shape)
    x = torch.tensor(rows(3, math.prod(shape)))
    network = kernel._network(x, kernel._values(x.device))
    W = torch.ones((2, 3, 2), dtype=torch.float64)
    (part,) = IMPLEMENTATIONS["structured"].prepare(network, x, W, together=False).parts
    held = sum(getattr(part, f.name).numel() for f in fields(part))
    places = out.numel() // net[0].weight.shape[0]
    right = net[0].weight[0].numel() * getattr(net[0], "groups", 1)  # what a place sees
    assert held <= 4 * 3 * places * (2 * net[0].weight.shape[0] + right)


def test_small_gradients_are_formed_and_large_ones_are_not():
    forms = {}
    for name in ("linear", "places", "many_places", "convolution", "one_place"):
        shape, layer = LAYERS[name]
        net = seeded(lambda layer=layer: nn.Sequential(layer(), nn.Flatten()))
        x = torch.tensor(rows(3, math.prod(shape)))
        kernel = EmpiricalNTK(net, params="0.weight", input_shape=shape)
        network = kernel._network(x, kernel._values(x.device))
        W = torch.ones((1, 3, network.n_outputs), dtype=torch.float64)
        (part,) = IMPLEMENTATIONS["structured"].prepare(network, x, W, together=False).parts
        forms[name] = isinstance(part, Dense)
    assert forms == {
        "linear": False,
        "places": True,  # 1024 numbers for 6 places of 80
        "many_places": True,
        "convolution": True,
        "one_place": False,
    }


def test_gradients_of_tables_are_never_formed():
    net = seeded(lambda: nn.Sequential(nn.Embedding(1000, 4), nn.Flatten(), nn.Linear(20, 2)))
    codes = np.random.default_rng(0).integers(1000, size=(6, 5)).astype(float)
    codes[1, 2] = codes[0, 0]
    kernel = EmpiricalNTK(net, params="0.*", input_dtype="int64", implementation="structured")
    jacobian = empirical.jacobian(net, codes, dtype=torch.int64)
    np.testing.assert_allclose(
        kernel(codes), empirical.trace(jacobian.only("0.weight")), rtol=1e-12
    )
    x = torch.tensor(codes)
    network = kernel._network(x, kernel._values(x.device))
    W = torch.ones((2, 6, 2), dtype=torch.float64)
    (part,) = IMPLEMENTATIONS["structured"].prepare(network, x, W, together=False).parts
    assert sum(getattr(part, f.name).numel() for f in fields(part)) == 6 * 5 * (2 * 4 + 1)


def test_layerwise_of_the_pseudo_kernel_counts_its_own_passes():
    net = seeded(lambda: mlp(16, 30, width=200))
    x = rows(20, 16)
    kernel = EmpiricalNTK(net, "pseudo", implementation="jacobian")
    wanted = kernel(x)
    # Room for the gradients of one combination of outputs, not for those of thirty.
    with config_context(memory_budget=3.4e7):
        assert len(kernel._passes(x, None)) == 1 < len(kernel._passes(x, None, plain=True))
        found = sum(kernel.layerwise(x).values())
    np.testing.assert_allclose(found, wanted, rtol=1e-12)
