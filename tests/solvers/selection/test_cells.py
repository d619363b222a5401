import numpy as np
import pytest
import torch
from scipy import stats

from sknk.solvers import DenseGram, FeatureGram, k_means_plus_plus, largest_cells, max_dist
from sknk.solvers._selection import _cells
from sknk.solvers._selection._cells import Cells
from tests.reference import selection as oracle
from tests.solvers.selection.forms import DISTANCES, NONE, SELECTORS, N, generator
from tests.solvers.test_pivoting import Counted


def clustered(n_clusters=20, per_cluster=30, offset=0.0):
    """Rows close to few centres far apart, in no order."""
    rng = np.random.default_rng(0)
    centres = 10.0 * rng.standard_normal((n_clusters, 3))
    Phi = np.repeat(centres, per_cluster, axis=0)
    Phi += 0.3 * rng.standard_normal(Phi.shape) + offset
    return torch.from_numpy(rng.permutation(Phi))


def test_max_dist_equals_oracle(problem, given):
    found = max_dist(problem.gram, 12, given=given)
    assert found.tolist() == oracle.max_dist(problem.K, 12, given.tolist())


def test_largest_cells_equals_oracle(problem, given):
    found = largest_cells(problem.gram, 12, given=given)
    assert found.tolist() == oracle.largest_cells(problem.K, 12, given.tolist())


def test_max_dist_is_within_twice_the_radius_of_other_centres():
    # Of any 20 centres (Gonzalez 1985), so of other ones that are good too.
    Phi = clustered()
    D = oracle.squared_distances((Phi @ Phi.T).numpy()).clip(min=0.0) ** 0.5
    radius = D[:, max_dist(FeatureGram(Phi), 20, given=NONE)].min(1).max()
    by_cells = D[:, largest_cells(FeatureGram(Phi), 20, given=NONE)].min(1).max()
    assert radius <= 2.0 * by_cells


@pytest.mark.parametrize("name", DISTANCES)
def test_distances_do_not_depend_on_blocks(monkeypatch, problem, name):
    given = torch.arange(3)
    whole = SELECTORS[name](problem.gram, 9, given)
    monkeypatch.setattr(_cells, "_NUMBERS", 7)
    assert torch.equal(SELECTORS[name](problem.gram, 9, given), whole)


@pytest.mark.parametrize("t", [0, 6])
def test_cells_equal_all_distances_and_compute_few(t):
    K = (clustered() @ clustered().T).numpy()
    op, centres = Counted(K), torch.arange(70)
    cells = Cells(op, centres[:t])
    for row in centres[t:]:
        cells.add(row)
    D = oracle.squared_distances(K)[:, :70]
    assert torch.equal(cells.centres, centres)
    np.testing.assert_array_equal(cells.cell, D.argmin(1))
    np.testing.assert_allclose(cells.squared, D.min(1), atol=1e-10)
    np.testing.assert_allclose(
        cells.sizes(), [D.min(1)[D.argmin(1) == c].sum() for c in range(70)], rtol=1e-10, atol=1e-9
    )
    assert op.entries < 0.4 * 70 * len(K)


@pytest.mark.parametrize("name", ["largest_cells", "k_means_plus_plus"])
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_pruning_does_not_change_the_choice(monkeypatch, name, offset):
    Phi = clustered(offset=offset)[torch.arange(700) % 600]  # a hundred rows twice
    gram = DenseGram(Phi @ Phi.T)
    pruned = SELECTORS[name](gram, 80)
    monkeypatch.setattr(Cells, "_reachable", lambda self, row: iter([slice(0, 700)]))
    assert torch.equal(SELECTORS[name](gram, 80), pruned)


def test_cells_give_equally_near_rows_to_the_first_centre():
    line = torch.tensor([[0.0], [4.0], [2.0], [2.0]]).double()
    at_once = Cells(FeatureGram(line), torch.tensor([1, 0]))
    one_by_one = Cells(FeatureGram(line), NONE)
    for row in torch.tensor([1, 0]):
        one_by_one.add(row)
    for cells in (at_once, one_by_one):
        assert cells.cell.tolist() == [1, 0, 0, 0]
        assert cells.squared.tolist() == [0.0, 0.0, 4.0, 4.0]


def test_cells_of_no_centre_are_infinite(problem):
    cells = Cells(problem.gram, NONE)
    assert torch.isinf(cells.squared).all()
    assert cells.squared.shape == (N,)


def test_distances_of_short_rows_are_no_rounding():
    # The squares of the second and third are 1e-12 of that of the first.
    Phi = torch.tensor([[1e6, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    found = largest_cells(FeatureGram(Phi), 4, given=NONE)
    assert sorted(found.tolist()) == [0, 1, 2]


def law(weights):
    """Return the joint law of two draws, (n, n): the first uniform, given rows coming before."""
    return weights / weights.sum(1, keepdims=True) / len(weights)


def test_k_means_plus_plus_draws_by_squared_distances():
    Phi = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 3.0], [-4.0, 1.0], [1.0, 0.0]]).double()
    gram, source, draws = FeatureGram(Phi), generator(0), 2000
    counts = np.zeros((5, 5))
    for _ in range(draws):
        i, j = k_means_plus_plus(gram, 2, given=NONE, generator=source)
        counts[i, j] += 1
    expected = draws * law(oracle.squared_distances((Phi @ Phi.T).numpy()))
    possible = expected > 0
    assert counts[~possible].sum() == 0  # no row twice, no copy of one
    statistic = ((counts - expected)[possible] ** 2 / expected[possible]).sum()
    assert statistic < stats.chi2.ppf(0.999, possible.sum() - 1)


def test_k_means_plus_plus_draws_by_the_nearest_row_that_is_given():
    line = torch.tensor([[0.0], [1.0], [3.0], [7.0], [10.0]]).double()
    source, counts = generator(0), np.zeros(5)
    given = torch.tensor([4, 0])
    for _ in range(1000):
        found = k_means_plus_plus(FeatureGram(line), 1, given=given, generator=source)
        counts[found] += 1
    expected = 1000 * np.array([1, 9, 9]) / 19
    assert counts[[0, 4]].sum() == 0
    assert ((counts[1:4] - expected) ** 2 / expected).sum() < stats.chi2.ppf(0.999, 2)


def test_k_means_plus_plus_depends_on_its_generator_only(problem):
    state = torch.get_rng_state()
    first, second, other = (
        k_means_plus_plus(problem.gram, 9, given=NONE, generator=generator(seed))
        for seed in (0, 0, 1)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


def test_distances_draw_rows_of_zeros_once():
    for name in DISTANCES:
        assert len(SELECTORS[name](FeatureGram(torch.zeros(5, 2)), 3)) == 1


@pytest.mark.parametrize("select", [max_dist, largest_cells], ids=["max_dist", "largest_cells"])
def test_batch_of_no_rows_is_empty(select):
    gram = FeatureGram(torch.eye(3, dtype=torch.float64))
    none = torch.zeros(0, dtype=torch.long)
    assert select(gram, 0, given=none).tolist() == []
