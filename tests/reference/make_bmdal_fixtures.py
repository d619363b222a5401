"""Batches that bmdal-reg 3.0.2 selects, for tests/solvers/selection/test_golden.py.

bmdal-reg is the code of Holzmueller, Zaverkin, Kaestner and Steinwart 2023 (Apache 2.0). In an
environment of its own::

    pip install "bmdal-reg==3.0.2" --no-deps
    pip install torch numpy dill
    python make_bmdal_fixtures.py

writes ``bmdal.npz`` beside this file: ``pool`` (300, 24) and ``train`` (40, 24), features in
float32, and under the names of the selectors the rows of the pool that they choose from these in
float64, batches of 40, noise standard deviation 0.1. Modes: "p" has the pool alone, with features
of the posterior covariance given the training rows; "tp" has prior features, and the training rows
are chosen first. "maxdiag_p" is in the package's order, ascending. Its BAIT adds 1e-8 to the
denominator C_ii + s2, which is no less than 1e-2 here: too little to change a choice.
"""

from pathlib import Path

import numpy as np
import torch

POOL, TRAIN, WIDTH, BATCH, SIGMA = 300, 40, 24, 40, 0.1
NOISE = {"noise_sigma": SIGMA}


def draw():
    """Return features of decaying scale around a few centres, numbers that float32 has."""
    rng = np.random.default_rng(0)
    n, scales = POOL + TRAIN, 0.85 ** np.arange(WIDTH)
    centres = rng.standard_normal((12, WIDTH))
    Phi = (centres[rng.integers(12, size=n)] + 0.5 * rng.standard_normal((n, WIDTH))) * scales
    return Phi[:POOL].astype(np.float32), Phi[POOL:].astype(np.float32)


def select(pool_rows, train_rows):
    """Return what every method chooses, by its name."""
    np.Inf = np.inf  # noqa: NPY201 - the package is older than NumPy 2
    from bmdal_reg.bmdal import selection
    from bmdal_reg.bmdal.feature_data import TensorFeatureData
    from bmdal_reg.bmdal.feature_maps import IdentityFeatureMap
    from bmdal_reg.bmdal.features import Features

    def features(Phi):
        data = TensorFeatureData(torch.from_numpy(Phi).double())
        return Features(IdentityFeatureMap(n_features=WIDTH), data).precompute()

    pool, train = features(pool_rows), features(train_rows)
    transform = train.posterior_tfm(sigma=SIGMA)
    pool_p, train_p = transform(pool).precompute(), transform(train).precompute()

    def chosen(method, pool, train, **options):
        selector = method(pool, train_features=train, verbosity=0, **options)
        batch = selector.select(BATCH)
        assert selector.get_status() is None, "the batch was filled up with random rows"
        assert len(set(batch.tolist())) == BATCH
        return batch.numpy()

    max_det, bait = selection.MaxDetSelectionMethod, selection.BaitFeatureSpaceSelectionMethod
    lcmd = selection.LargestClusterMaxDistSelectionMethod
    return {
        "maxdiag_p": chosen(selection.MaxDiagSelectionMethod, pool_p, train_p),
        "maxdet_p": chosen(max_det, pool_p, train_p, sel_with_train=False, **NOISE),
        "maxdet_tp": chosen(max_det, pool, train, sel_with_train=True, **NOISE),
        "bait_f_p": chosen(bait, pool_p, train_p, **NOISE),
        "bait_fb_p": chosen(bait, pool_p, train_p, overselection_factor=2.0, **NOISE),
        "fw_p": chosen(selection.FrankWolfeSelectionMethod, pool_p, train_p),
        "maxdist_tp": chosen(selection.MaxDistSelectionMethod, pool, train, sel_with_train=True),
        "lcmd_tp": chosen(lcmd, pool, train, sel_with_train=True),
    }


if __name__ == "__main__":
    rows = draw()
    path = Path(__file__).with_name("bmdal.npz")
    np.savez_compressed(path, pool=rows[0], train=rows[1], **select(*rows))
