"""Worker: peak memory of one Gram matrix of images, in a process that has done nothing else.

Arguments: file of rows, image shape (c h w), dtype. Prints resident-set growth in bytes.
"""

import sys
from pathlib import Path

import numpy as np
from image_speed import network

from sknk import config_context
from sknk.kernels import NetworkKernel


def resident(field: str) -> int:
    """Return VmRSS or VmHWM of this process in bytes; Linux only."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


X = np.load(sys.argv[1])
shape = tuple(map(int, sys.argv[2:5]))
kernel = NetworkKernel(network(3, "pool"), image_shape=shape)
with config_context(dtype=sys.argv[5]):
    kernel(X[:2])  # thread pools and torch's own tables belong to no matrix
    before = resident("VmRSS:")
    K = kernel(X.reshape(len(X), -1))
    print(resident("VmHWM:") - before)
