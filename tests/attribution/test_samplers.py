from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sknk.attribution._games import Game, Marginals
from sknk.attribution._samplers import (
    Antithetic,
    Permutations,
    Stratified,
    Tally,
    enumerate_game,
    size_weights,
)
from tests.reference import attribution as oracle

SAMPLERS = {"permutation": Permutations, "antithetic": Antithetic, "stratified": Stratified}
SEMIVALUES = ["shapley", "banzhaf", (4, 1), (1, 16)]
USUAL = 3  # of which normal laws are expected: Beta(1, 16) hangs on a few large marginals
BLOCK = 40  # estimates behind each standard error
BLOCKS = {"permutation": 100, "antithetic": 100, "stratified": 15}


class Table(Game):
    """A game of a table of utilities, most of them saturating as coalitions grow."""

    decay = 1.0

    def __init__(self, n, seed=0):
        masks = np.arange(2**n)
        rng = np.random.default_rng(seed)
        strength = (masks[:, None] >> np.arange(n) & 1) @ rng.uniform(0.5, 2.0, n)
        self.utilities = 1.0 - 1.0 / (1.0 + strength) + 0.05 * rng.standard_normal(2**n)
        self.size = n

    n = property(lambda self: self.size)
    device = property(lambda self: torch.device("cpu"))

    def of(self, rows):
        return self.utilities[(2 ** np.asarray(rows, dtype=int)).sum()]

    def prefix_utilities(self, orders):
        sizes = range(self.n + 1)
        return torch.tensor([[self.of(order[:k]) for k in sizes] for order in orders.numpy()])

    def moves(self, inside):
        S, u = (2 ** inside.numpy()).sum(), self.utilities
        players = np.arange(self.n)
        others = players[S >> players & 1 == 0]
        if len(others):
            gains = u[S + 2**others] - u[S]
            yield Marginals(len(inside), torch.from_numpy(others), torch.from_numpy(gains))
        if len(inside):
            losses = u[S] - u[S - 2 ** inside.numpy()]
            yield Marginals(len(inside) - 1, inside, torch.from_numpy(losses))

    def costs(self, sizes):
        return 1.0 + sizes

    def _utilities_of(self, subsets):
        return torch.tensor([self.of(S) for S in subsets.numpy()])


def weights_of(n):
    return np.stack([size_weights(one, n) for one in SEMIVALUES])


@pytest.mark.parametrize("semivalue", SEMIVALUES, ids=str)
@pytest.mark.parametrize("n", [1, 2, 7, 40])
def test_size_weights_count_coalitions_of_each_size(semivalue, n):
    found = size_weights(semivalue, n)
    coalitions = [oracle.comb(n - 1, k) for k in range(n)]
    expected = [oracle.coalition_weight(semivalue, n, k) for k in range(n)] * np.array(coalitions)
    np.testing.assert_allclose(found, expected, atol=1e-9)
    assert found.sum() == pytest.approx(1.0)


def test_beta_one_one_is_shapley():
    np.testing.assert_allclose(size_weights((1, 1), 30), size_weights("shapley", 30), rtol=1e-12)


@pytest.mark.parametrize(
    "bad", ["sharpley", (1,), (1, 2, 3), (0, 1), (-1, 1), 3, None, "12", (np.nan, 1), (np.inf, 1)]
)
def test_size_weights_refuse_other_names(bad):
    with pytest.raises(ValueError, match=r"`semivalues` has .*; expected 'shapley', 'banzhaf'"):
        size_weights(bad, 5)


# --- sampling ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def game():
    return Table(6)


@pytest.fixture(scope="module", params=SAMPLERS)
def sampled(request, game):
    """The exact values (S, n), and many estimates of them (t, S, n)."""
    weights = weights_of(game.n)
    sampler = SAMPLERS[request.param](game, weights, None, 3)
    return enumerate_game(game, weights, None), sampler.estimates(
        range(BLOCK * BLOCKS[request.param])
    )


def test_enumeration_equals_naive_semivalues(game):
    found = enumerate_game(game, weights_of(6), None)
    expected = [oracle.semivalues(game.of, 6, one) for one in SEMIVALUES]
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_sampler_is_unbiased(sampled):
    exact, estimates = sampled
    error = estimates.std(axis=0, ddof=1) / np.sqrt(len(estimates))
    assert (
        np.abs((estimates.mean(axis=0) - exact) / error).max() < 4.0
    )  # 24 normal variables exceed it once in 650 times


def test_standard_errors_cover_the_truth_at_their_rate(sampled):
    exact, estimates = sampled[0][:USUAL], sampled[1][:, :USUAL]
    blocks = estimates.reshape(-1, BLOCK, *exact.shape)
    z = []
    for block in blocks:
        tally = Tally.empty(exact.shape)
        tally.add(block)
        z.append((tally.mean - exact) / tally.std_error)
    # 95 % of Student's t with 39 degrees of freedom, whose rms is 1.03; four binomial deviations,
    # as if players were independent and semivalues one.
    inside, count = np.abs(z) < 2.023, len(blocks) * exact.shape[1]
    assert np.mean(inside) > 0.95 - 4 * np.sqrt(0.95 * 0.05 / count)
    assert np.sqrt(np.mean(np.square(z))) == pytest.approx(1.03, abs=4 / np.sqrt(2 * count))


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("n", [1, 2, 3])
def test_sampler_is_right_when_there_are_few_players(name, n):
    game, weights = Table(n), weights_of(n)
    found = SAMPLERS[name](game, weights, None, 0).estimates(range(200))
    exact = enumerate_game(game, weights, None)
    error = found.std(axis=0) / np.sqrt(200) + 1e-12
    assert np.abs((found.mean(axis=0) - exact) / error).max() < 4.0


def test_stratified_is_far_more_precise_than_permutations():
    game, weights = Table(12), np.full((1, 12), 1 / 12)
    spread = [
        kind(game, weights, None, 0).estimates(range(60)).var(axis=0).mean()
        for kind in (Stratified, Permutations)
    ]
    assert spread[0] < spread[1] / 4.0


@pytest.mark.parametrize("name", SAMPLERS)
def test_estimate_depends_on_seed_and_number_only(name, game):
    weights = weights_of(game.n)
    sampler = SAMPLERS[name](game, weights, None, 3)
    every = sampler.estimates(range(6))
    np.testing.assert_array_equal(sampler.estimates(range(2, 4)), every[2:4])
    other = SAMPLERS[name](game, weights, None, 4).estimates(range(6))
    assert np.abs(every - other).max() > 1e-6


@pytest.mark.parametrize("name", SAMPLERS)
def test_shapley_estimates_are_efficient_each(name, game):
    found = SAMPLERS[name](game, weights_of(6), None, 0).estimates(range(20))[:, 0]
    empty, full = game.ends
    np.testing.assert_allclose(found.sum(axis=1), full - empty, atol=1e-12)


def test_stratified_takes_sizes_of_no_weight():
    # Banzhaf's weights of few, or nearly all, of 1300 rows underflow to zero.
    class Nothing(Table):
        ends = 0.0, 0.0

        def moves(self, inside):
            return iter(())

    nothing = Nothing(1)
    nothing.size = 1300
    sampler = Stratified(nothing, size_weights("banzhaf", 1300)[None], None, 0)
    assert np.isfinite(sampler._coefficients).all()
    np.testing.assert_array_equal(sampler.estimates(range(2)), 0.0)


@pytest.mark.parametrize("kind", [Permutations, Antithetic], ids=["permutation", "antithetic"])
def test_groups_are_players(kind, game):
    groups = [np.array([0, 5]), np.array([1, 2, 4]), np.array([3]), np.array([], dtype=int)]

    def utility(S):
        return game.of([row for g in S for row in groups[g]])

    exact = enumerate_game(game, weights_of(4), groups)
    expected = [oracle.semivalues(utility, 4, one) for one in SEMIVALUES]
    np.testing.assert_allclose(exact, expected, atol=1e-9)
    found = kind(game, weights_of(4), groups, 0).estimates(range(1000))
    error = found.std(axis=0) / np.sqrt(1000) + 1e-12
    assert np.abs((found.mean(axis=0) - exact) / error).max() < 4.0


# --- tallies -------------------------------------------------------------------------------------


def test_tally_equals_mean_and_standard_error():
    x = 1e6 + np.random.default_rng(0).standard_normal((50, 2, 3))
    tally = Tally.empty((2, 3))
    tally.add(x[:20])
    tally.add(x[20:])
    np.testing.assert_allclose(tally.mean, x.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(tally.std_error, x.std(axis=0, ddof=1) / np.sqrt(50), rtol=1e-8)


@pytest.mark.parametrize("count", [0, 1])
def test_tally_has_no_standard_error_when_it_is_short(count):
    tally = Tally.empty((1, 2))
    tally.add(np.ones((count, 1, 2)))
    assert np.isinf(tally.std_error).all()


def test_batches_on_an_accelerator_are_of_estimates(game):
    # What a GPU computes in one batch is what a CPU computes one by one.
    sampler = Permutations(game, weights_of(game.n), None, 1)
    assert sampler.batch == 1
    part = SimpleNamespace(n=1000, cross=np.empty((1000, 200)), Y=np.empty((1000, 10)))
    elsewhere = SimpleNamespace(n=1000, device=torch.device("meta"), parts=[part])
    assert 1 < Permutations(elsewhere, np.ones((1, 1000)), None, 1).batch <= 64
