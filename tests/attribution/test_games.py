import numpy as np
import pytest
import torch

from sknk.attribution._games import EvidenceGame, ValidationGame
from sknk.attribution._machine import machine_of
from tests.attribution.families import FAMILIES
from tests.reference import attribution as oracle

N, ATOL = 7, 1e-9
# Every path of the code: squares, outputs, variances, labels apart, several parts, functions.
PATHS = [
    ("ridge_outputs", "r2"),
    ("ridge_weights", "mse"),
    ("three_classes", "brier"),
    ("three_classes", "accuracy"),
    ("two_classes", "log_prob"),
    ("multilabel", "log_prob"),
    ("gp_outputs", "log_prob"),
    ("gp_noise", "mse"),
    ("dirichlet", "brier"),
    ("ridge", "evidence"),
    ("dirichlet", "evidence"),
    ("two_classes", "custom"),
]


def own_utility(y, f):
    return float(np.tanh(f * (y == "b")).sum())


def game_of(name, utility):
    """Return the game, and the utility of coalitions by naive refits."""
    family = FAMILIES[name](N)
    model = family.estimator
    model = model if hasattr(model, "estimator") else model.fit(family.X, family.y)
    machine = machine_of(model)
    with machine.place():
        if utility == "evidence":
            return EvidenceGame(machine.evidence_games()), family.utility(utility)
        games = machine.games(
            machine.judged(family.X_val), variance=machine.head.needs_variance(utility)
        )
        judge = own_utility if utility == "custom" else utility
        game = ValidationGame(games, machine.head.utility(judge, family.y_val, games[0].K))
    if utility == "custom":
        return game, lambda S: own_utility(family.y_val, family.outputs(list(S))[:, 0])
    return game, family.utility(utility)


@pytest.fixture(scope="module", params=PATHS, ids="-".join)
def both(request):
    return game_of(*request.param)


def test_prefix_utilities_equal_refits(both):
    game, utility = both
    orders = np.stack([np.random.default_rng(seed).permutation(N) for seed in range(3)])
    found = game.prefix_utilities(torch.from_numpy(orders))
    expected = [[utility(order[:k]) for k in range(N + 1)] for order in orders]
    np.testing.assert_allclose(found, expected, atol=ATOL)
    np.testing.assert_allclose(game.ends, [utility([]), utility(range(N))], atol=ATOL)


@pytest.mark.parametrize("k", range(N + 1))
def test_moves_are_marginals_of_every_row(both, k):
    game, utility = both
    inside = np.random.default_rng(k).permutation(N)[:k]
    seen = []
    for found in game.moves(torch.from_numpy(inside)):
        for row, value in zip(found.rows.tolist(), found.values.tolist(), strict=True):
            rest = [i for i in inside if i != row]
            assert found.size == len(rest)
            assert value == pytest.approx(utility([*rest, row]) - utility(rest), abs=ATOL)
            seen.append(row)
    assert sorted(seen) == [*range(N)]


def test_subsets_are_all_coalitions_with_their_utilities(both):
    game, utility = both
    seen = 0
    for subsets, utilities in game.subsets():
        for subset, found in zip(subsets.tolist()[:3], utilities.tolist(), strict=False):
            assert found == pytest.approx(utility(subset), abs=ATOL)
        seen += len(subsets)
    assert seen == 2**N


def test_costs_are_positive_and_grow(both):
    costs = both[0].costs(np.arange(1, 500))
    assert costs[0] > 0
    assert (np.diff(costs) >= 0).all()


@pytest.mark.parametrize("path", PATHS[:9], ids="-".join)
def test_parts_of_rows_judged_have_the_utility_as_mean(path):
    game, utility = game_of(*path)
    order = np.random.default_rng(0).permutation(N)
    sizes = 0
    for block, parts in game.each_prefix(torch.from_numpy(order)):
        for k, part in zip(range(block.start, block.stop), parts, strict=True):
            assert float(part.mean()) == pytest.approx(utility(order[:k]), abs=ATOL)
            sizes += 1
    assert sizes == N + 1


def broken_at(size, value):
    """Return a game whose utility is `value` where `size` rows are in."""
    family = FAMILIES["ridge"](N)
    known = family.outputs(range(size)).ravel()

    def utility(y, f):
        return value if np.allclose(f, known, atol=1e-9) else 0.0

    machine = machine_of(family.estimator.fit(family.X, family.y))
    with machine.place():
        games = machine.games(machine.judged(family.X_val))
    return ValidationGame(games, machine.head.utility(utility, family.y_val, games[0].K))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("size", [0, 1, 4, N])
def test_utility_that_is_no_number_names_the_size_of_the_coalition(size, value):
    game, every = broken_at(size, value), torch.arange(N)
    message = f"The utility of a coalition of {size} rows is .*; expected a finite one"
    with pytest.raises(ValueError, match=message):
        game.prefix_utilities(every[None])
    with pytest.raises(ValueError, match=message):
        list(game.subsets())
    with pytest.raises(ValueError, match=message):
        list(game.moves(every[:size]))
    if size:
        with pytest.raises(ValueError, match=message):
            list(game.moves(every[: size - 1]))
    if size < N:
        with pytest.raises(ValueError, match=message):
            list(game.moves(every[: size + 1]))


def test_evidence_needs_no_rows_to_judge():
    game, utility = game_of("gp", "evidence")
    assert game.parts[0].cross.shape == (N, 0)
    assert oracle.evidence(FAMILIES["gp"](N).own, range(N)) == pytest.approx(game.ends[1])
    assert utility([]) == 0.0
