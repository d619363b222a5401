"""One table with classes, and classifiers for every way to the posterior."""

import numpy as np
import pytest

from sknk import NTKGaussianProcessClassifier
from sknk.kernels import NTK
from tests.cases import rows

KERNEL = NTK(depth=2, bias_var=0.1)
AMPLITUDE = 3.0
WAYS = {
    "dirichlet": {},
    "student": {"prior": "student"},
    "laplace": {"inference": "laplace"},
    "variational": {"inference": "variational", "rank": 15, "max_epochs": 10, "random_state": 0},
}
EXACT = ["dirichlet", "student", "laplace"]
every = pytest.mark.parametrize("way", WAYS)
every_exact = pytest.mark.parametrize("way", EXACT)

N = 24
X, NEW = rows(N, seed=5), rows(9, seed=7)
SIGNAL = X[:, 0] + X[:, 1] ** 2 + 0.5 * rows(N, seed=6)[:, 0]
Y = np.array(["a", "b", "c"])[np.digitize(SIGNAL, [0.2, 1.2])]
TWO = np.array(["no", "yes"])[(SIGNAL > 0.5).astype(int)]
WEIGHTS = np.random.default_rng(9).uniform(0.2, 3.0, N)
REPEATS = np.random.default_rng(8).integers(1, 4, N)


def known(way="dirichlet", kernel=KERNEL, **options):
    """An estimator that searches nothing."""
    numbers = {"optimizer": None, "amplitude": AMPLITUDE, "alpha_eps": 0.03}
    return NTKGaussianProcessClassifier(kernel, **{**numbers, **WAYS[way], **options})


def searching(way="dirichlet", kernel=KERNEL, **options):
    """An estimator that searches for a while."""
    return NTKGaussianProcessClassifier(kernel, **{"max_evaluations": 8, **WAYS[way], **options})


def assert_same(one, other, rtol=1e-12):
    np.testing.assert_allclose(one.predict_proba(NEW), other.predict_proba(NEW), rtol=rtol)
