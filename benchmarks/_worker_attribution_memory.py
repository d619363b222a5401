"""Worker: peak memory of Shapley values, in a process that has done nothing else.

Arguments: rows n, rows judged m, classes C, utility, sampler. The model is fitted before; kernels
are those of ten columns. Prints resident-set growth in bytes.
"""

import sys

import numpy as np
from _memory import forget_peak, resident
from sklearn.frozen import FrozenEstimator

from sknk import NTKRidgeClassifier
from sknk.attribution import ShapleyAttributor
from sknk.kernels import NTK

n, m, C = map(int, sys.argv[1:4])
rng = np.random.default_rng(0)
y = np.arange(n + m) % C
X = rng.standard_normal((C, 10))[y] + rng.standard_normal((n + m, 10))


def values(n: int, m: int, model: FrozenEstimator) -> None:
    """Take two estimates of n rows, judged on m others."""
    attributor = ShapleyAttributor(
        model, utility=sys.argv[4], sampler=sys.argv[5], n_iter=2, tol=0, random_state=0
    )
    attributor.fit(X[:n], y[:n], X[-m:], y[-m:])


def fitted(n: int) -> FrozenEstimator:
    """Return a model of the first n rows."""
    return FrozenEstimator(NTKRidgeClassifier(NTK(depth=2), alpha=0.1).fit(X[:n], y[:n]))


values(2 * C, C, fitted(2 * C))  # thread pools and BLAS buffers belong to no values
model = fitted(n)
forget_peak()
before = resident(peak=False)
values(n, m, model)
print(resident(peak=True) - before)
