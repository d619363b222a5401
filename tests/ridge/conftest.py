"""One table with copies, weights and two targets for every test of ridge."""

from types import SimpleNamespace

import numpy as np
import pytest

from sknk.kernels import NTK
from tests.cases import rows


@pytest.fixture
def table():
    """Rows (20, 3), no copies; targets y (20,) and Y (20, 2), classes; new rows; a kernel."""
    X = rows(20, seed=5)
    noise = np.random.default_rng(6).standard_normal((20, 2))
    Y = np.column_stack([X[:, 0] + X[:, 1] ** 2, X[:, 2] - 3.0]) + 0.3 * noise
    return SimpleNamespace(
        X=X,
        y=Y[:, 0],
        Y=Y,
        classes=np.array(["a", "b", "c"])[np.digitize(Y[:, 0], [0.2, 1.2])],
        two=np.array(["no", "yes"])[(Y[:, 0] > 0.5).astype(int)],
        labels=(Y.mean(axis=0) < Y).astype(int),
        new=rows(7, seed=7),
        repeats=np.random.default_rng(8).integers(0, 4, 20),
        weights=np.random.default_rng(9).uniform(0.2, 3.0, 20),
        kernel=NTK(depth=2, bias_var=0.1),
    )


@pytest.fixture(params=[True, False], ids=["intercept", "no-intercept"])
def fit_intercept(request):
    return request.param
