"""Worker: peak memory of Shapley values, in a process that has done nothing else.

Arguments: rows n, rows judged m, classes C, utility, sampler. The model is fitted before; kernels
are those of ten columns. Prints resident-set growth in bytes.
"""

import sys
from pathlib import Path

import numpy as np
from sklearn.frozen import FrozenEstimator

from sknk import NTKRidgeClassifier
from sknk.attribution import ShapleyAttributor
from sknk.kernels import NTK


def resident(field: str) -> int:
    """Return VmRSS or VmHWM of this process in bytes; Linux only."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


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
Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the peak so far, forgotten
before = resident("VmRSS:")
values(n, m, model)
print(resident("VmHWM:") - before)
