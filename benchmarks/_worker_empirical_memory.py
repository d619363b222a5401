"""Worker: peak memory of one tangent kernel of a module, in a process that has done nothing else.

Arguments: n, d and the dtype. Prints the growth of the resident set in bytes, as JSON: beyond
imports, rows and weights, and beyond a first call on 20 rows.
"""

import json
import sys

from _memory import resident
from empirical_speed import network, rows

from sknk import config_context
from sknk.kernels import EmpiricalNTK

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
