"""Worker: peak memory of one Gram matrix of images, in a process that has done nothing else.

Arguments: file of rows, image shape (c h w), dtype. Prints resident-set growth in bytes.
"""

import sys

import numpy as np
from _memory import resident
from image_speed import network

from sknk import config_context
from sknk.kernels import NetworkKernel

X = np.load(sys.argv[1])
shape = tuple(map(int, sys.argv[2:5]))
kernel = NetworkKernel(network(3, "pool"), image_shape=shape)
with config_context(dtype=sys.argv[5]):
    kernel(X[:2])  # thread pools and torch's own tables belong to no matrix
    before = resident(peak=False)
    K = kernel(X.reshape(len(X), -1))
    print(resident(peak=True) - before)
