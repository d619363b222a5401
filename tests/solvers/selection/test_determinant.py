import numpy as np
import pytest
import torch

from sknk.solvers import DenseGram, FeatureGram, max_det, posterior_features
from tests.reference import selection as oracle
from tests.solvers.selection.forms import NOISE, NONE, N, rows


def test_max_det_equals_oracle(problem, given):
    found = max_det(problem.gram, 10, given=given, noise_variance=NOISE)
    assert found.tolist() == oracle.max_det(problem.K, 10, given.tolist(), NOISE)


def test_max_det_takes_the_largest_gain_of_log_determinants(problem, given):
    found = max_det(problem.gram, 10, given=given, noise_variance=NOISE).tolist()
    for k, row in enumerate(found):
        before = [*given.tolist(), *found[:k]]
        gains = {
            i: oracle.log_det(problem.K, [*before, i], NOISE) for i in range(N) if i not in before
        }
        assert max(gains, key=gains.get) == row


def test_max_det_adds_a_bonus_once(problem, given):
    bonus = torch.from_numpy(np.random.default_rng(3).uniform(0.0, 0.5, N))
    options = {"given": given, "noise_variance": NOISE}
    found = max_det(problem.gram, 10, **options, bonus=bonus)
    expected = oracle.max_det(problem.K, 10, given.tolist(), NOISE, bonus.numpy())
    assert found.tolist() == expected
    assert not torch.equal(found, max_det(problem.gram, 10, **options))


@pytest.mark.parametrize("t", [3, 12])
def test_max_det_given_rows_is_that_of_their_posterior_features(t):
    Phi, given = rows(N), torch.arange(N - t, N)
    found = max_det(FeatureGram(Phi), 15, given=given, noise_variance=NOISE)
    pool = FeatureGram(posterior_features(Phi[given], NOISE)(Phi[: N - t]))
    assert torch.equal(found, max_det(pool, 15, given=NONE, noise_variance=NOISE))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("form", ["features", "dense"])
@pytest.mark.parametrize("t", [0, 5])
def test_max_det_stops_at_the_rank_when_there_is_no_noise(form, dtype, t):
    Phi = rows(300, width=20).to(dtype)
    gram = FeatureGram(Phi) if form == "features" else DenseGram(Phi @ Phi.T)
    found = max_det(gram, 60, given=torch.arange(t), noise_variance=0.0)
    assert len(found) == 20 - t
    assert np.linalg.matrix_rank(Phi[[*range(t), *found.tolist()]].double()) == 20


@pytest.mark.parametrize("noise", [1.0, 1e-5])
def test_max_det_goes_on_with_copies_when_there_is_noise(noise):
    Phi = rows(3)[torch.arange(12) % 3].float()
    found = max_det(FeatureGram(Phi), 12, given=NONE, noise_variance=noise)
    assert sorted(found[:3].tolist()) == [0, 1, 2]
    assert sorted(found.tolist()) == list(range(12))
