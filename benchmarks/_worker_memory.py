"""Worker: peak memory of one Gram matrix, in a process that has done nothing else.

Arguments: n, d and the dtype. Prints resident-set growth over the bytes of the result.
"""

import sys

import numpy as np
from _memory import resident

from sknk import config_context
from sknk.kernels import NTK

n, d, dtype = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
kernel = NTK(depth=2, bias_var=0.09)
X = np.random.RandomState(0).standard_normal((n, d)).astype(dtype)
with config_context(dtype=dtype):
    kernel(X[:500])  # thread pools and BLAS buffers, about 14 MiB, belong to no matrix
    before = resident(peak=False)
    K = kernel(X)
    growth = resident(peak=True) - before
print(growth / K.nbytes)
