"""Worker: peak memory of one Gram matrix, in a process that has done nothing else.

Arguments: n, d and the dtype. Prints resident-set growth over the bytes of the result.
"""

import resource
import sys
from pathlib import Path

import numpy as np

from sknk import config_context
from sknk.kernels import NTK


def resident(peak: bool) -> int:
    """Return the resident set, or its high-water mark, in bytes.

    Linux keeps the mark of ru_maxrss across exec, so a child starts at its parent's; the status
    file counts this process alone. Elsewhere ru_maxrss has to do.
    """
    path = Path("/proc/self/status")
    if path.exists():
        field = "VmHWM:" if peak else "VmRSS:"
        lines = path.read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == "darwin" else 1024
    )


n, d, dtype = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
kernel = NTK(depth=2, bias_var=0.09)
X = np.random.RandomState(0).standard_normal((n, d)).astype(dtype)
with config_context(dtype=dtype):
    kernel(X[:500])  # thread pools and BLAS buffers, about 14 MiB, belong to no matrix
    before = resident(peak=False)
    K = kernel(X)
    growth = resident(peak=True) - before
print(growth / K.nbytes)
