import copy
import threading

import pytest
import torch
from sklearn.exceptions import NotFittedError
from torch import nn
from torch.nn.utils import weight_norm

from sknk.kernels._empirical._module import (
    duplicate,
    equal_modules,
    inner,
    mirror,
    tensors_of,
    unwrap,
)
from tests.modules import AnyWidth, mlp, seeded

NET = seeded(lambda: mlp(3, 2))


class Fitted:
    module_ = NET

    def initialize(self):
        return self


class Unfitted:
    def initialize(self):
        return self


class Stateful(nn.Module):
    """Counts its calls in a list, a tensor and a buffer, and keeps a child in a dictionary."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.calls, self.seen, self.parts = [], torch.zeros(1), {"linear": self.linear}
        self.register_buffer("count", torch.zeros(1))

    def forward(self, x):
        self.calls.append(1)
        self.seen += 1
        self.count += 1
        return self.parts["linear"](x)


def test_unwrap_finds_the_module():
    assert unwrap(NET) is NET
    assert unwrap(Fitted()) is NET
    compiled = nn.Module()
    compiled._orig_mod = NET
    assert unwrap(compiled) is NET


def test_unwrap_refuses_what_has_no_module():
    with pytest.raises(TypeError, match=r"`module` is 3; expected a torch\.nn\.Module"):
        unwrap(3)
    with pytest.raises(NotFittedError, match="Unfitted without `module_`"):
        unwrap(Unfitted())
    with pytest.raises(ValueError, match="Parameter 'weight' of LazyLinear is lazy"):
        unwrap(nn.LazyLinear(2))
    assert inner(3) == 3
    assert inner(Fitted()) is NET


def test_mirror_shares_tensors_and_nothing_else():
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5)).train()
    twin = mirror(net)
    assert not any(part.training for part in twin.modules())
    assert all(part.training for part in net.modules())
    for (name, p), (other, q) in zip(net.named_parameters(), twin.named_parameters(), strict=True):
        assert name == other
        assert p is q
    twin[0].register_forward_hook(lambda *_: None)
    twin[0].weight = nn.Parameter(torch.zeros(4, 3))
    twin[0].register_buffer("extra", torch.zeros(1))
    assert not net[0]._forward_hooks
    assert bool(net[0].weight.any())
    assert not hasattr(net[0], "extra")


def test_mirror_keeps_what_a_forward_pass_writes_to_itself():
    net = Stateful()
    twin = mirror(net)
    twin(torch.ones(1, 3))
    assert net.calls == []
    assert float(net.seen) == 0.0
    assert twin.parts["linear"] is twin.linear


def test_mirror_copies_results_of_old_reparametrizations():
    with pytest.warns(FutureWarning, match="weight_norm"):
        net = weight_norm(nn.Linear(3, 2))
    net(torch.ones(1, 3))
    with pytest.raises(RuntimeError, match="deepcopy"):
        copy.deepcopy(net)
    x = torch.ones(2, 3)
    torch.testing.assert_close(mirror(net)(x), net(x), rtol=0.0, atol=0.0)


@pytest.mark.parametrize("make", [lambda: nn.LSTM(3, 4), lambda: nn.Conv2d(1, 2, 3), Stateful])
def test_mirror_computes_what_the_module_computes(make):
    net = make()
    x = torch.ones(2, 1, 5, 5) if isinstance(net, nn.Conv2d) else torch.ones(2, 3)
    found, wanted = mirror(net)(x), net.eval()(x)
    first = found[0] if isinstance(found, tuple) else found
    torch.testing.assert_close(first, wanted[0] if isinstance(wanted, tuple) else wanted)


def test_mirror_is_out_of_reach_of_training_in_another_thread():
    net = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5)).train()
    stop = threading.Event()

    def flip():
        while not stop.is_set():
            net.train(not net.training)

    thread = threading.Thread(target=flip)
    thread.start()
    twins = [mirror(net) for _ in range(50)]
    stop.set()
    thread.join()
    assert not any(part.training for twin in twins for part in twin.modules())


def test_tensors_are_copies_in_the_dtype_of_the_computation():
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    net.register_parameter("phase", nn.Parameter(torch.ones(2, dtype=torch.complex64)))
    found = tensors_of(net, torch.device("cpu"), torch.float64)
    assert found["0.weight"].dtype is torch.float64
    assert found["phase"].dtype is torch.complex128
    assert found["1.num_batches_tracked"].dtype is torch.int64
    assert not any(t.requires_grad for t in found.values())
    same = tensors_of(net, torch.device("cpu"), torch.float32)["0.weight"]
    assert same.data_ptr() != net[0].weight.data_ptr()


def test_tied_parameters_are_read_once():
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    net[1].weight = net[0].weight
    assert list(tensors_of(net, torch.device("cpu"), torch.float64)) == [
        "0.weight",
        "0.bias",
        "1.bias",
    ]


def test_equal_modules_compares_structure_and_weights():
    assert equal_modules(NET, copy.deepcopy(NET))
    other = copy.deepcopy(NET)
    with torch.no_grad():
        other[0].weight[0, 0] += 1e-9
    assert not equal_modules(NET, other)
    assert not equal_modules(NET, seeded(lambda: mlp(3, 2, width=9)))
    assert not equal_modules(NET, copy.deepcopy(NET).requires_grad_(False))
    assert not equal_modules(NET, nn.Linear(3, 2))


@pytest.mark.parametrize("copied", [mirror, duplicate])
def test_copies_of_classes_that_call_their_constructor_leave_the_random_state(copied):
    net, before = seeded(AnyWidth), torch.get_rng_state()
    copied(net)
    assert torch.equal(torch.get_rng_state(), before)
