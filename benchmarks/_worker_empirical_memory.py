"""Worker: peak memory of one tangent kernel of a module, in a process that has done nothing else.

Arguments: n, d and the dtype. Prints the growth of the resident set in bytes, as JSON: beyond
imports, rows and weights, and beyond a first call on 20 rows.
"""

import json
import resource
import sys
from pathlib import Path

from empirical_speed import network, rows

from sknk import config_context
from sknk.kernels import EmpiricalNTK


def resident(peak: bool) -> int:
    """Return the resident set, or its high-water mark, in bytes; see `_worker_memory.py`."""
    path = Path("/proc/self/status")
    if path.exists():
        field = "VmHWM:" if peak else "VmRSS:"
        lines = path.read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == "darwin" else 1024
    )


n, d, dtype = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
kernel = EmpiricalNTK(network(d), implementation="structured")
X = rows(n, d, dtype)
with config_context(dtype=dtype):
    imported = resident(peak=False)
    kernel(X[:20])  # thread pools and torch's own tables belong to no matrix
    called = resident(peak=False)
    K = kernel(X)
    peak = resident(peak=True)
print(json.dumps({"beyond_imports": peak - imported, "beyond_first_call": peak - called}))
