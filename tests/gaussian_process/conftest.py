"""One small table for every test of Gaussian processes."""

from types import SimpleNamespace

import numpy as np
import pytest

from tests.cases import rows


@pytest.fixture
def table():
    """Rows (16, 3), no copies; targets y (16,) and Y (16, 2) of unlike scales; new rows (5, 3).

    `repeats` are weights that count copies, `weights` any weights, `variances` noise of each row.
    """
    X = rows(16, seed=21)
    noise = np.random.default_rng(22).standard_normal((16, 2))
    Y = np.column_stack([X[:, 0] + X[:, 1] ** 2, 4.0 * X[:, 2] - 3.0]) + 0.4 * noise
    return SimpleNamespace(
        X=X,
        y=Y[:, 0],
        Y=Y,
        new=rows(5, seed=23),
        repeats=np.random.default_rng(24).integers(1, 4, 16),
        weights=np.random.default_rng(25).uniform(0.2, 3.0, 16),
        variances=np.random.default_rng(26).uniform(0.05, 0.8, 16),
    )
