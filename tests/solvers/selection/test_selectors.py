"""What all selectors promise."""

import numpy as np
import pytest
import torch

from sknk.solvers import DenseGram, FeatureGram
from tests.solvers.selection.forms import DISTANCES, NONE, SELECTORS, N, rows

DRAWS, DROPS = "k_means_plus_plus", "least_variance_backward"
# Duplicates of multiples of the axes: all that is compared is exact.
AXES = torch.tensor([[2, 0, 0], [0, 4, 0], [0, 4, 0], [2, 0, 0], [0, 0, 4], [0, 0, 4]]).double()
TIES = {
    "max_det": [1, 4, 0, 2, 5, 3],
    "max_dist": [1, 4, 0],
    "largest_cells": [1, 4, 0],
    "least_variance": [1, 4, 0, 2, 5, 3],
    "frank_wolfe": [1, 4, 0, 2, 5, 3],
}


def named(*without):
    """Parametrize over selectors."""
    return pytest.mark.parametrize("name", [name for name in SELECTORS if name not in without])


@named()
def test_selectors_return_distinct_rows_that_are_not_given(problem, given, name):
    found = SELECTORS[name](problem.gram, 7, given)
    assert found.dtype == torch.long
    assert found.shape == (7,)
    assert len(set(found.tolist()) | set(given.tolist())) == 7 + len(given)


@named()
def test_selectors_return_all_rows_when_asked_for_them(problem, name):
    found = SELECTORS[name](problem.gram, N - 3, torch.tensor([7, 0, 30]))
    assert sorted([*found.tolist(), 7, 0, 30]) == list(range(N))


@named(DROPS)
def test_selectors_start_larger_batches_with_smaller_ones(problem, name):
    small, large = (SELECTORS[name](problem.gram, size) for size in (4, 9))
    assert torch.equal(small, large[:4])


@named(DRAWS)
def test_selectors_follow_rows_that_are_permuted(given, name):
    order = torch.from_numpy(np.random.default_rng(2).permutation(N))
    found = SELECTORS[name](FeatureGram(rows(N)[order]), 9, order.argsort()[given])
    assert torch.equal(order[found], SELECTORS[name](FeatureGram(rows(N)), 9, given))


@named()
@pytest.mark.parametrize("given", [NONE, torch.arange(380, 400)], ids=["none", "given"])
def test_selectors_choose_the_same_by_features_and_by_kernel(name, given):
    Phi = rows(400, width=30)  # more rows than a round follows
    by_features = SELECTORS[name](FeatureGram(Phi), 50, given)
    assert torch.equal(by_features, SELECTORS[name](DenseGram(Phi @ Phi.T), 50, given))


@pytest.mark.parametrize("name", TIES)
@pytest.mark.parametrize("form", ["features", "dense"])
def test_selectors_take_the_first_row_when_equal(name, form):
    gram = FeatureGram(AXES) if form == "features" else DenseGram(AXES @ AXES.T)
    assert SELECTORS[name](gram, 6).tolist() == TIES[name]


@pytest.mark.parametrize("name", DISTANCES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_distances_stop_when_all_rows_coincide_with_centres(name, dtype):
    Phi = rows(5, width=50)[torch.arange(60) % 5].to(dtype)
    for gram in (FeatureGram(Phi), DenseGram(Phi @ Phi.T)):
        found = SELECTORS[name](gram, 20, torch.tensor([7, 3]))  # copies of rows 2 and 3
        assert sorted((found % 5).tolist()) == [0, 1, 4]


@named()
@pytest.mark.parametrize("form", ["features", "dense"])
def test_selectors_choose_the_same_when_float32(name, form):
    Phi = rows(N)
    make = FeatureGram if form == "features" else (lambda phi: DenseGram(phi @ phi.T))
    low, high = (SELECTORS[name](make(phi), 9, torch.arange(3)) for phi in (Phi.float(), Phi))
    assert low.dtype == torch.long
    assert torch.equal(low, high)


@named()
def test_selectors_leave_their_input_alone(given, name):
    Phi = rows(N)
    K, rows_given = Phi @ Phi.T, given.clone()
    for gram in (FeatureGram(Phi), DenseGram(K)):
        SELECTORS[name](gram, 9, given)
    assert torch.equal(Phi, rows(N))
    assert torch.equal(K, rows(N) @ rows(N).T)
    assert torch.equal(given, rows_given)


@pytest.mark.gpu
@named()
def test_selectors_choose_the_same_on_a_gpu(cuda, name):
    Phi, given = rows(400), torch.arange(380, 400)
    for make in (FeatureGram, lambda phi: DenseGram(phi @ phi.T)):
        found = SELECTORS[name](make(Phi.to(cuda)), 40, given.to(cuda))
        assert found.device.type == "cuda"
        assert torch.equal(found.cpu(), SELECTORS[name](make(Phi), 40, given))
