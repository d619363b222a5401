import numpy as np
import pytest
import torch

from sknk.solvers import DenseGram, FeatureGram, least_variance, variance_reductions
from sknk.solvers._selection import _reduction
from tests.reference import selection as oracle
from tests.solvers.selection.forms import NOISE, NONE, N, rows


@pytest.fixture(params=["all", "some"])
def judged(request):
    """Rows whose variances count: all, or a few, some of them given."""
    if request.param == "all":
        return None
    return torch.from_numpy(np.random.default_rng(1).permutation(N)[2:10])


def plain(judged):
    return None if judged is None else judged.tolist()


@pytest.mark.parametrize("forward", [None, 13])
def test_least_variance_equals_oracle(problem, given, judged, forward):
    options = {"judged": judged, "forward": forward}
    found = least_variance(problem.gram, 7, given=given, noise_variance=NOISE, **options)
    options["judged"] = plain(judged)
    assert found.tolist() == oracle.least_variance(problem.K, 7, given.tolist(), NOISE, **options)


def test_dropping_rows_chosen_too_many_changes_the_batch(problem):
    options = {"given": NONE, "noise_variance": NOISE}
    forward = least_variance(problem.gram, 7, **options)
    both = least_variance(problem.gram, 7, **options, forward=13)
    assert set(both.tolist()) != set(forward.tolist())


def test_reductions_equal_the_drop_of_summed_variance_by_refits(problem, given, judged):
    options = {"noise_variance": NOISE, "judged": judged}
    found = variance_reductions(problem.gram, given=given, **options)
    G = given.tolist()
    left = [oracle.summed_variance(problem.K, [*G, i], NOISE, plain(judged)) for i in range(N)]
    expected = oracle.summed_variance(problem.K, G, NOISE, plain(judged)) - np.array(left)
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-10)


def test_least_variance_takes_the_largest_reduction_of_each_step(problem, judged):
    options = {"noise_variance": NOISE, "judged": judged}
    found = least_variance(problem.gram, 7, given=NONE, **options)
    for k, row in enumerate(found):
        reductions = variance_reductions(problem.gram, given=found[:k], **options)
        reductions[found[:k]] = -torch.inf
        assert reductions.argmax() == row


def test_least_variance_does_not_depend_on_blocks(monkeypatch, problem, judged):
    options = {"given": NONE, "noise_variance": NOISE, "judged": judged}
    whole = variance_reductions(problem.gram, **options)
    monkeypatch.setattr(_reduction, "_NUMBERS", 3 * N)
    np.testing.assert_allclose(variance_reductions(problem.gram, **options), whole, rtol=1e-11)


def test_least_variance_stops_when_no_row_bears_on_those_judged():
    axes = torch.eye(2).double()[torch.tensor([0, 1, 1, 0, 1])]
    for gram in (FeatureGram(axes), DenseGram(axes @ axes.T)):
        options = {"given": torch.tensor([3]), "noise_variance": NOISE}
        found = least_variance(gram, 4, **options, judged=torch.tensor([1, 2]))
        assert found.tolist() == [1, 2, 4]
        assert not len(least_variance(gram, 4, **options, judged=NONE))


def test_least_variance_drops_nothing_when_fewer_rows_are_found():
    axes = torch.eye(2).double()[torch.tensor([0, 1, 1, 0, 1])]
    options = {"given": NONE, "noise_variance": NOISE, "judged": torch.tensor([0])}
    assert least_variance(FeatureGram(axes), 3, **options, forward=5).tolist() == [0, 3]


def test_least_variance_drops_one_of_two_copies():
    Phi = torch.tensor([[3.0, 0.0], [3.0, 0.0], [0.0, 1.0]]).double()
    options = {"given": NONE, "noise_variance": 1e-4, "forward": 3}
    found = least_variance(FeatureGram(Phi), 2, **options).tolist()
    assert found in ([0, 2], [2, 1])


def test_reductions_are_float32_when_features_are():
    Phi = rows(N)
    low, high = (
        variance_reductions(FeatureGram(phi), given=NONE, noise_variance=NOISE)
        for phi in (Phi.float(), Phi)
    )
    assert low.dtype == torch.float32
    np.testing.assert_allclose(low, high, rtol=1e-5)


@pytest.mark.parametrize("scale", [1.0, 8.0])
def test_rows_are_dropped_as_by_solving_anew_at_little_noise(scale):
    """Chosen rows' variances are the noise but for rounding, and say nothing."""
    generator = torch.Generator().manual_seed(0)
    Phi = scale * torch.randn((60, 24), generator=generator, dtype=torch.float64)
    K, s2 = Phi @ Phi.T, 1e-6
    none = torch.zeros(0, dtype=torch.long)
    rows = least_variance(FeatureGram(Phi), 20, given=none, noise_variance=s2)
    expected = rows.tolist()
    while len(expected) > 8:

        def left(kept):
            inner = K[kept][:, kept] + s2 * torch.eye(len(kept), dtype=torch.float64)
            return -float((K[kept] * torch.linalg.solve(inner, K[kept])).sum())

        losses = [left(expected[:i] + expected[i + 1 :]) for i in range(len(expected))]
        del expected[int(np.argmin(losses))]
    found = least_variance(FeatureGram(Phi), 8, given=none, noise_variance=s2, forward=20)
    assert found.tolist() == expected
