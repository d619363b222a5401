from dataclasses import replace

import numpy as np
import pytest
import torch

from sknk.exceptions import NotPSDError
from tests.reference import attribution as oracle
from tests.solvers.test_coalitions import ATOL, SHAPES, coalitions, permutation, tensor

N = 9


@pytest.fixture(params=SHAPES)
def game(request):
    return oracle.random_game(N, **SHAPES[request.param])


def moved(moves, numbers=2**17):
    """Return the outputs and variances of every move, (q, ...)."""
    every = list(moves.tiles(numbers))
    return torch.cat([f for _, f, _ in every]), torch.cat([v for *_, v in every])


def solved(game, k, dtype=torch.float64):
    """Return k of the rows, and their coalition."""
    inside = permutation(game.n)[:k]
    return inside, coalitions(game, dtype).coalition(torch.from_numpy(inside))


def expect_outputs(game, moves, without, coming):
    """Check rows, outputs and variances of moves from a coalition, against a solve each."""
    after = [[*without, i] if coming else [j for j in without if j != i] for i in moves.rows]
    f, v = moved(moves)
    np.testing.assert_allclose(f, [oracle.outputs(game, S) for S in after], atol=ATOL)
    np.testing.assert_allclose(v, [oracle.variances(game, S) for S in after], atol=ATOL)


@pytest.mark.parametrize("k", range(N + 1))
def test_additions_equal_a_solve_each(game, k):
    inside, coalition = solved(game, k)
    moves = coalition.additions()
    assert moves.rows.tolist() == oracle.without(N, inside).tolist()
    np.testing.assert_allclose(moves.outputs, oracle.outputs(game, inside), atol=ATOL)
    if k < N:
        expect_outputs(game, moves, inside.tolist(), coming=True)


@pytest.mark.parametrize("k", range(1, N + 1))
def test_removals_equal_a_solve_each(game, k):
    inside, coalition = solved(game, k)
    moves = coalition.removals()
    assert moves.rows.tolist() == inside.tolist()
    np.testing.assert_allclose(moves.outputs, oracle.outputs(game, inside), atol=ATOL)
    expect_outputs(game, moves, inside.tolist(), coming=False)


@pytest.mark.parametrize("k", [0, 1, 4, N - 1, N])
def test_square_gains_equal_those_of_outputs(game, k):
    _, coalition = solved(game, k)
    T = tensor(np.random.default_rng(1).standard_normal(game.cross.shape[1:] + game.Y.shape[1:]))
    every = [coalition.additions()] if k < N else []
    every += [coalition.removals()] if k else []
    for moves in every:
        before = (T - moves.outputs).square().sum()
        expected = before - (T - moved(moves)[0]).square().sum((1, 2))
        np.testing.assert_allclose(moves.square_gains(T), expected, atol=ATOL)


@pytest.mark.parametrize("k", [0, 1, 5, N - 1])
def test_addition_densities_are_steps_of_evidence(game, k):
    inside, coalition = solved(game, k)
    before = oracle.evidence(game, inside)
    expected = [oracle.evidence(game, [*inside, i]) - before for i in oracle.without(N, inside)]
    np.testing.assert_allclose(coalition.addition_densities(), expected, atol=ATOL)


@pytest.mark.parametrize("k", [1, 5, N])
def test_removal_densities_are_steps_of_evidence(game, k):
    inside, coalition = solved(game, k)
    after = oracle.evidence(game, inside)
    expected = [after - oracle.evidence(game, np.delete(inside, j)) for j in range(k)]
    np.testing.assert_allclose(coalition.removal_densities(), expected, atol=ATOL)


@pytest.mark.parametrize("numbers", [1, 25, 10**6])
def test_tiles_of_any_size_give_the_same_outputs(game, numbers):
    moves = solved(game, 4)[1].additions()
    for one, other in zip(moved(moves, numbers), moved(moves), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-14)


def test_slopes_are_derivatives_along_moves(game):
    moves = solved(game, 3)[1].additions()
    rng = np.random.default_rng(2)
    by = torch.from_numpy(rng.standard_normal(moves.outputs.shape))
    by_variance = torch.from_numpy(rng.standard_normal(moves.variance.shape))
    f, v = moved(moves)
    expected = ((f - moves.outputs) * by).sum((1, 2))
    np.testing.assert_allclose(moves.slopes(by), expected, atol=ATOL)
    expected += (v - moves.variance) @ by_variance
    np.testing.assert_allclose(moves.slopes(by, by_variance), expected, atol=ATOL)


@pytest.mark.parametrize("method", ["additions", "removals"])
def test_moves_are_sane_when_float32(game, method):
    low, high = (
        getattr(solved(game, 4, dtype)[1], method)() for dtype in (torch.float32, torch.float64)
    )
    assert moved(low)[0].dtype == torch.float32
    np.testing.assert_allclose(moved(low)[0], moved(high)[0], atol=1e-4)


def test_additions_stay_finite_when_a_row_adds_nothing_new():
    # Rows in copies: given one, a copy has no variance left but its noise.
    game = oracle.random_game(4, shift=1e-12)
    again = [0, 1, 2, 3, 0, 1, 2, 3]
    both = replace(
        game,
        K=game.K[np.ix_(again, again)],
        cross=game.cross[again],
        shift=game.shift[again],
        Y=game.Y[again],
        weights=None,
    )
    moves = coalitions(both).coalition(torch.arange(4)).additions()
    f, v = moved(moves)
    np.testing.assert_allclose(f, moves.outputs[None].expand_as(f), atol=1e-2)
    np.testing.assert_allclose(v, moves.variance[None].expand_as(v), atol=1e-2)


def test_coalition_error_names_rows_when_not_positive_definite():
    game = oracle.random_game(6, shift=-2.0)
    with pytest.raises(NotPSDError, match=r"K \+ shift of 4 rows is not positive definite"):
        coalitions(game).coalition(torch.arange(4))
