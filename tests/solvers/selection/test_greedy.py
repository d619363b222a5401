import numpy as np
import pytest
import torch

from sknk.solvers import DenseGram, FeatureGram
from sknk.solvers._selection import _greedy
from sknk.solvers._selection._greedy import FallingScores, Round, largest, one_by_one
from tests.solvers.selection.forms import NONE, SELECTORS, rows


class Cover(FallingScores, Round):
    """How many elements of each set are in none of those chosen: whole numbers, many of them equal.

    Both the problem and one of its rounds.
    """

    def __init__(self, sets):
        self.sets = sets
        self.scores = sets.sum(1).double()

    def follow(self, rows):
        return Cover(self.sets[rows])

    def choose(self, at):
        self.__init__(self.sets & ~self.sets[at])

    def close(self, chosen, round_):
        self.__init__(self.sets & ~self.sets[chosen].any(0))


def naive_cover(sets, size, given):
    """Return the first set that adds most, one by one, until none adds anything."""
    chosen, open_ = [], [i for i in range(len(sets)) if i not in given]
    for _ in range(size):
        left = sets & ~sets[chosen].any(0)
        best = max(open_, key=lambda i: left[i].sum())
        if not left[best].any():
            break
        chosen.append(best)
        open_.remove(best)
    return chosen


def few(monkeypatch, steps, fewest, part=10**9):
    """Make rounds short, and let them follow few rows."""
    monkeypatch.setattr(_greedy, "_STEPS", steps)
    monkeypatch.setattr(_greedy, "_FEWEST", fewest)
    monkeypatch.setattr(_greedy, "_PART", part)


@pytest.fixture
def followed(monkeypatch):
    """How many rows each round follows."""
    counts, hot_rows = [], _greedy._hot_rows

    def counted(scores):
        hot, outside = hot_rows(scores)
        counts.append(len(hot))
        return hot, outside

    monkeypatch.setattr(_greedy, "_hot_rows", counted)
    return counts


@pytest.mark.parametrize("steps", [1, 3, 100])
@pytest.mark.parametrize("fewest", [1, 5, 100])
@pytest.mark.parametrize("given", [[], [4, 0, 17]], ids=["none", "given"])
def test_rounds_choose_the_first_of_equal_rows(monkeypatch, steps, fewest, given):
    few(monkeypatch, steps, fewest)
    for seed in range(10):
        sets = np.random.default_rng(seed).random((60, 40)) < 0.15
        found = one_by_one(Cover(torch.from_numpy(sets)), 60, torch.tensor(given).long())
        assert found.tolist() == naive_cover(sets, 60, given)
        assert 0 < len(found) < 40  # few sets cover all that there is


@pytest.mark.parametrize("name", ["max_det", "max_dist"])
@pytest.mark.parametrize("form", ["features", "dense"])
@pytest.mark.parametrize("t", [0, 15])
@pytest.mark.parametrize(("steps", "fewest"), [(1, 1), (3, 8), (7, 40), (1000, 8)])
def test_rounds_do_not_change_the_choice(monkeypatch, followed, name, form, t, steps, fewest):
    Phi, given = rows(300, width=12), torch.arange(300 - t, 300)
    gram = FeatureGram(Phi) if form == "features" else DenseGram(Phi @ Phi.T)
    few(monkeypatch, 1000, 1000)
    whole = SELECTORS[name](gram, 50, given)
    assert followed == [300]  # one round of everyone
    followed.clear()
    few(monkeypatch, steps, fewest)
    assert torch.equal(SELECTORS[name](gram, 50, given), whole)
    assert set(followed) == {fewest}
    assert len(followed) >= (50 - 1) / min(steps, fewest)


def test_rounds_follow_a_part_of_many_rows(monkeypatch, followed):
    few(monkeypatch, steps=4, fewest=2, part=10)
    SELECTORS["max_det"](FeatureGram(rows(300)), 5)
    assert set(followed) == {30}


def test_rounds_stop_when_no_score_is_positive(monkeypatch):
    few(monkeypatch, 2, 2)
    assert not len(one_by_one(Cover(torch.zeros(9, 3).bool()), 4, NONE))
    sets = torch.eye(3).bool()[torch.tensor([0, 0, 1, 1, 2, 2])]
    assert one_by_one(Cover(sets), 6, NONE).tolist() == [0, 2, 4]
    assert one_by_one(Cover(sets), 6, torch.arange(6)).tolist() == []


def test_largest_takes_the_first_of_equal_rows():
    scores = torch.tensor([1.0, 3.0, 2.0, 3.0, 1.0, 1.0])
    assert largest(scores, 5).tolist() == [1, 3, 2, 0, 4]
