import pytest
import torch
from torch import nn

from sknk.kernels._empirical._module import tensors_of
from sknk.kernels._empirical._network import Network, Packing, Piece, pieces
from sknk.kernels._empirical._verification import run_through
from tests.modules import mlp, seeded

NET = seeded(lambda: mlp(3, 2))
X = torch.linspace(-1.0, 1.0, 12, dtype=torch.float64).reshape(4, 3)
PLAIN = Packing(None, None)


def network(net=NET, packing=PLAIN):
    tensors = tensors_of(net, torch.device("cpu"), torch.float64)
    whole = [Piece(name) for name, _ in net.named_parameters()]
    return Network(net, tensors, whole, packing, torch.float64)


def test_network_computes_the_module_of_its_arguments():
    f = network()
    torch.testing.assert_close(f(f.leaves, X), NET(X), rtol=0.0, atol=0.0)
    doubled = {name: 2.0 * leaf for name, leaf in f.leaves.items()}
    assert not torch.allclose(f(doubled, X), NET(X))
    torch.testing.assert_close(f.row(f.leaves, X[1]), NET(X[1:2])[0], rtol=1e-14, atol=1e-14)


def test_slices_of_parameters_put_together_are_the_parameters():
    f = network()
    g = f.restricted([Piece("0.weight", 2, 5), Piece("4.bias")])
    assert [leaf.shape for leaf in g.leaves.values()] == [(3, 3), (2,)]
    torch.testing.assert_close(g(g.leaves, X), NET(X), rtol=0.0, atol=0.0)


@pytest.mark.parametrize("numbers", [1, 5, 20, 70, 1e6])
def test_pieces_cover_every_parameter_once(numbers):
    f = network()
    groups = pieces(f, numbers)
    covered = {name: torch.zeros(len(leaf)) for name, leaf in f.leaves.items()}
    for group in groups:
        size = 0
        assert len({piece.name for piece in group}) == len(group)
        for piece in group:
            covered[piece.name][piece.start : piece.stop] += 1
            size += f.leaves[piece.name][piece.start : piece.stop].numel()
        longest = max(f.leaves[piece.name][0].numel() for piece in group)
        assert size <= max(numbers, longest)
    assert all(bool((count == 1).all()) for count in covered.values())


def test_packing_reshapes_and_copies_rows():
    x = torch.arange(12.0, dtype=torch.float64).reshape(2, 6)
    inputs = Packing((1, 2, 3), None)(x, torch.float32)
    assert inputs.shape == (2, 1, 2, 3)
    assert inputs.dtype is torch.float32
    PLAIN(x, torch.float64).zero_()
    assert float(x.sum()) == 66.0


def test_packing_refuses_codes_that_are_no_integers():
    packing = Packing(None, torch.int64)
    packing.check(torch.tensor([[1.0, 2.0]]), "X")
    with pytest.raises(
        ValueError, match=r"Row 1 of `X` is 2\.5 in column 0; expected integers.*'int64'"
    ):
        packing.check(torch.tensor([[1.0, 2.0], [2.5, 0.0]]), "X")


class Returns(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.linear = nn.Linear(3, 2).double()
        self.function = function

    def forward(self, x):
        return self.function(self.linear(x))


@pytest.mark.parametrize(
    ("function", "error", "match"),
    [
        (lambda y: (y, y), TypeError, "returns a tuple; expected one tensor"),
        (lambda y: y.sum(), ValueError, r"maps . rows to an output of shape \(\)"),
        (lambda y: y.T[:1], ValueError, r"maps 3 rows to an output of shape \(1, 3\)"),
        (lambda y: y - y.mean(0), ValueError, "couples rows: the output of row 0 changes by"),
        (torch.rand_like, ValueError, "draws random numbers in evaluation mode"),
        (lambda y: y @ torch.ones(2, 2), ValueError, r"fails on inputs of shape \[1, 3\]"),
    ],
)
def test_check_refuses_what_is_no_function_of_single_rows(function, error, match):
    f = network(Returns(function))
    before = torch.get_rng_state()
    with pytest.raises(error, match=match):
        run_through(f, X)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    ("function", "outputs"),
    [
        (lambda y: y[:, 0], 1),
        (lambda y: y[:, :, None].expand(-1, 2, 3), 6),
        (lambda y: torch.complex(y, y), 4),
    ],
)
def test_check_counts_the_outputs_of_a_row(function, outputs):
    assert run_through(network(Returns(function)), X) == (outputs, True)
