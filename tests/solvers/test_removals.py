from dataclasses import replace

import numpy as np
import pytest
import torch

from sknk import _config
from sknk.exceptions import MemoryBudgetError
from sknk.solvers import Cholesky, Whole
from tests.reference import attribution as oracle
from tests.solvers.test_coalitions import ATOL, SHAPES, coalitions
from tests.solvers.test_moves import expect_outputs

N = 12
GROUPS = {"one": [3], "some": [0, 5, 11], "none": [], "all-but-one": [*range(1, N)]}


@pytest.fixture(params=SHAPES)
def game(request):
    return oracle.random_game(N, **SHAPES[request.param])


def whole(game):
    parts = coalitions(game)
    return Whole.of(parts, Cholesky().factorize(parts.K, parts.shift))


def test_outputs_and_variances_are_those_of_all_rows(game):
    np.testing.assert_allclose(whole(game).outputs, oracle.outputs(game, range(N)), atol=ATOL)
    np.testing.assert_allclose(whole(game).variance, oracle.variances(game, range(N)), atol=ATOL)


def test_without_each_equals_refits(game):
    moves = whole(game).without_each()
    assert moves.rows.tolist() == [*range(N)]
    expect_outputs(game, moves, [*range(N)], coming=False)


def test_own_without_each_equals_refits(game):
    f, v = whole(game).own_without_each()
    itself = oracle.judged_on_itself(game)
    for i in range(N):
        rest = oracle.without(N, [i])
        np.testing.assert_allclose(f[i], oracle.outputs(itself, rest)[i], atol=ATOL)
        expected = oracle.variances(itself, rest)[i] + game.shift[i]
        np.testing.assert_allclose(v[i], expected, atol=ATOL)


def test_without_groups_equals_refits(game):
    groups = [torch.tensor(rows, dtype=torch.long) for rows in GROUPS.values()]
    for rows, (f, v) in zip(GROUPS.values(), whole(game).without_groups(groups), strict=True):
        rest = oracle.without(N, rows)
        np.testing.assert_allclose(f, oracle.outputs(game, rest), atol=ATOL)
        np.testing.assert_allclose(v, oracle.variances(game, rest), atol=ATOL)


def test_without_groups_predicts_the_prior_when_no_row_is_left(game):
    ((f, v),) = whole(game).without_groups([torch.arange(N)])
    np.testing.assert_allclose(f, 0.0, atol=ATOL)
    np.testing.assert_allclose(v, game.prior_variance, atol=ATOL)


def test_reweighted_is_the_derivative_by_relative_weights(game):
    moves, step = whole(game).reweighted(), 1e-5
    by_outputs = moves.G[:, :, None] * moves.r[:, None] + moves.delta[:, None] * moves.h[:, None]
    by_variance = -moves.gain[:, None] * moves.G.square()
    for i in range(N):

        def weighted(factor, i=i):
            w = np.where(np.arange(N) == i, factor, 1.0)
            means = None if game.weights is None else game.weights * w
            return replace(game, shift=game.shift / w, weights=means)

        both = [weighted(1.0 + step), weighted(1.0 - step)]
        f = [oracle.outputs(one, range(N)) for one in both]
        v = [oracle.variances(one, range(N)) for one in both]
        np.testing.assert_allclose(by_outputs[i], (f[0] - f[1]) / (2 * step), atol=1e-8)
        np.testing.assert_allclose(by_variance[i], (v[0] - v[1]) / (2 * step), atol=1e-8)


def test_without_groups_checks_memory_before_it_allocates():
    found = whole(oracle.random_game(30))
    with (
        _config.config_context(memory_budget=1000),
        pytest.raises(MemoryBudgetError, match="n=30 rows"),
    ):
        next(found.without_groups([torch.tensor([0])]))
