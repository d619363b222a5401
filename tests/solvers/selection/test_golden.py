"""Batches against bmdal-reg 3.0.2 in float64, row for row.

``reference/make_bmdal_fixtures.py`` says what is in ``reference/bmdal.npz``, and makes it.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from sknk.solvers import (
    DenseGram,
    FeatureGram,
    frank_wolfe,
    largest_cells,
    least_variance,
    max_det,
    max_dist,
    posterior_features,
    posterior_gram,
)
from sknk.solvers._selection._greedy import largest

GOLDEN = dict(np.load(Path(__file__).parents[2] / "reference" / "bmdal.npz"))
POOL, TRAIN = (torch.from_numpy(GOLDEN[name]).double() for name in ("pool", "train"))
N, BATCH, NOISE_VARIANCE = len(POOL), len(GOLDEN["lcmd_tp"]), 0.1**2
GIVEN, NONE = torch.arange(N, N + len(TRAIN)), torch.arange(0)
NOISE = {"noise_variance": NOISE_VARIANCE}


def max_diag_p(every, posterior):
    return largest(posterior_gram(every, GIVEN, NOISE_VARIANCE).diag()[:N], BATCH).flip(0)


# By pool and training rows, or by the covariance of the pool given the training rows.
OURS = {
    "maxdiag_p": max_diag_p,
    "maxdet_p": lambda _, posterior: max_det(posterior, BATCH, given=NONE, **NOISE),
    "maxdet_tp": lambda every, _: max_det(every, BATCH, given=GIVEN, **NOISE),
    "bait_f_p": lambda every, _: least_variance(every, BATCH, given=GIVEN, **NOISE),
    "bait_fb_p": lambda every, _: least_variance(
        every, BATCH, given=GIVEN, forward=2 * BATCH, **NOISE
    ),
    "fw_p": lambda _, posterior: frank_wolfe(posterior, BATCH),
    "maxdist_tp": lambda every, _: max_dist(every, BATCH, given=GIVEN),
    "lcmd_tp": lambda every, _: largest_cells(every, BATCH, given=GIVEN),
}


def test_every_batch_is_compared():
    assert set(OURS) == set(GOLDEN) - {"pool", "train"}


@pytest.mark.parametrize("name", OURS)
def test_batch_equals_bmdal_when_by_features(name):
    every = FeatureGram(torch.cat([POOL, TRAIN]))
    posterior = FeatureGram(posterior_features(TRAIN, NOISE_VARIANCE)(POOL))
    np.testing.assert_array_equal(OURS[name](every, posterior), GOLDEN[name])


@pytest.mark.parametrize("name", OURS)
def test_batch_equals_bmdal_when_by_kernel(name):
    both = torch.cat([POOL, TRAIN])
    every = DenseGram(both @ both.T)
    posterior = posterior_gram(every, GIVEN, NOISE_VARIANCE).restrict(slice(0, N))
    np.testing.assert_array_equal(OURS[name](every, posterior), GOLDEN[name])
