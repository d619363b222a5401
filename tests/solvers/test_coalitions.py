import numpy as np
import pytest
import torch

from sknk.exceptions import NotPSDError
from sknk.solvers import Coalitions
from tests.reference import attribution as oracle

ATOL = 1e-10  # float64 rounding times condition numbers below 1e2
SHAPES = {
    "centred": {"centred": True},
    "weighted": {"centred": True, "weighted": True},
    "not-centred": {"centred": False, "weighted": True},
    "one-output": {"C": 1, "m": 1},
}


def tensor(x, dtype=torch.float64):
    return None if x is None else torch.tensor(x, dtype=dtype)


def coalitions(game, dtype=torch.float64):
    names = ("K", "cross", "prior_variance", "shift", "Y", "weights")
    return Coalitions(*(tensor(getattr(game, name), dtype) for name in names))


def permutation(n, seed=0):
    return np.random.default_rng(seed).permutation(n)


def together(blocks):
    """Return the outputs and variances of all prefixes of an order, (n, ...)."""
    every = list(blocks)
    assert [J.start for J, _, _ in every][1:] == [J.stop for J, _, _ in every][:-1]
    return np.concatenate([f for _, f, _ in every], -3), np.concatenate([v for *_, v in every], -2)


def naive_prefixes(game, order):
    sizes = range(1, game.n + 1)
    return np.stack([oracle.outputs(game, order[:k]) for k in sizes]), np.stack(
        [oracle.variances(game, order[:k]) for k in sizes]
    )


@pytest.fixture(params=SHAPES)
def game(request):
    return oracle.random_game(23, **SHAPES[request.param])


@pytest.mark.parametrize("numbers", [1, 40, 2**20])
def test_prefix_outputs_equal_a_solve_each(game, numbers):
    order = permutation(game.n)
    found = coalitions(game).ordered(torch.from_numpy(order)).prefix_outputs(numbers)
    for one, expected in zip(together(found), naive_prefixes(game, order), strict=True):
        np.testing.assert_allclose(one, expected, atol=ATOL)


def test_prefix_outputs_equal_a_solve_each_when_there_are_60_rows():
    game, order = oracle.random_game(60, weighted=True, shift=0.05), permutation(60)
    found = together(coalitions(game).ordered(torch.from_numpy(order)).prefix_outputs())
    np.testing.assert_allclose(found[0], naive_prefixes(game, order)[0], atol=ATOL)


def test_batch_of_orders_equals_each_alone(game):
    orders = torch.from_numpy(np.stack([permutation(game.n, seed) for seed in range(6)]))
    orders, T = orders.reshape(2, 3, -1), tensor(oracle.random_game(5).Y[:, : game.Y.shape[1]])
    T = T[: game.cross.shape[1]]
    batch = coalitions(game).ordered(orders)
    f, v = together(batch.prefix_outputs(300))
    for at in np.ndindex(2, 3):
        one = coalitions(game).ordered(orders[at])
        alone = together(one.prefix_outputs())
        np.testing.assert_allclose(f[at], alone[0], atol=ATOL)
        np.testing.assert_allclose(v[at], alone[1], atol=ATOL)
        errors = batch.prefix_square_errors(T)[at]
        np.testing.assert_allclose(errors, one.prefix_square_errors(T), atol=ATOL)
        np.testing.assert_allclose(batch.log_densities()[at], one.log_densities(), atol=ATOL)


@pytest.mark.parametrize("n", [1, 2, 23, 64, 65])
@pytest.mark.parametrize("shape", SHAPES)
def test_prefix_square_errors_equal_those_of_outputs(shape, n):
    game, order = oracle.random_game(n, **SHAPES[shape]), permutation(n)
    T = np.random.default_rng(1).standard_normal(game.cross.shape[1:] + game.Y.shape[1:])
    found = coalitions(game).ordered(torch.from_numpy(order)).prefix_square_errors(tensor(T))
    expected = [np.sum((T - oracle.outputs(game, order[:k])) ** 2) for k in range(n + 1)]
    np.testing.assert_allclose(found, expected, rtol=ATOL)


def test_means_of_prefixes_are_weighted(game):
    order = permutation(game.n)
    found = coalitions(game).means(torch.from_numpy(order))
    expected = [oracle.mean(game, order[:k]) for k in range(game.n + 1)]
    np.testing.assert_allclose(found, expected, atol=ATOL)


def test_log_densities_sum_to_evidence_of_prefixes(game):
    order = permutation(game.n)
    found = coalitions(game).ordered(torch.from_numpy(order)).log_densities().cumsum(0)
    expected = [oracle.evidence(game, order[: k + 1]) for k in range(game.n)]
    np.testing.assert_allclose(found, expected, atol=ATOL)


def test_take_is_a_game_of_those_rows(game):
    rows = np.array([7, 2, 11])
    some = coalitions(game).take(torch.from_numpy(rows)).ordered(torch.arange(3))
    found = together(some.prefix_outputs())[0]
    np.testing.assert_allclose(found[-1], oracle.outputs(game, rows), atol=ATOL)


def test_prefix_outputs_are_sane_when_float32(game):
    order = permutation(game.n)
    ordered = coalitions(game, torch.float32).ordered(torch.from_numpy(order))
    f, _ = together(ordered.prefix_outputs())
    assert f.dtype == np.float32
    np.testing.assert_allclose(f, naive_prefixes(game, order)[0], atol=1e-4)


def test_ordered_error_names_rows_and_dtype_when_not_positive_definite():
    game = oracle.random_game(6, shift=-2.0)
    message = r"K \+ shift of 6 rows is not positive definite in torch\.float64"
    with pytest.raises(NotPSDError, match=message):
        coalitions(game).ordered(torch.arange(6))
