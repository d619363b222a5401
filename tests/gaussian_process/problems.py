"""Models whose hyperparameters are known, and models whose evidence can be asked anywhere."""

from sknk import NTKGaussianProcessRegressor
from sknk.kernels import NTK

KERNEL = NTK(depth=2, bias_var=0.1)
AMPLITUDE, NOISE = 2.0, 0.3


def known(**options):
    """An estimator with the kernel and the numbers above, and no search."""
    numbers = {"amplitude": AMPLITUDE, "noise_variance": NOISE, "optimizer": None}
    return NTKGaussianProcessRegressor(**{"kernel": KERNEL, **numbers, **options})


def free(**options):
    """An estimator that searches no further than its first step."""
    return NTKGaussianProcessRegressor(**{"kernel": KERNEL, "max_evaluations": 1, **options})


def repeated(repeats, *arrays):
    """Repeat the rows of every array."""
    return tuple(a.repeat(repeats, axis=0) for a in arrays)
