"""Any kernel an estimator accepts, as a :class:`Kernel`."""

from typing import Any

import numpy as np
import torch
from sklearn.base import clone
from sklearn.gaussian_process import kernels as sk
from torch import Tensor

from sknk._array import to_numpy
from sknk.kernels._base import Kernel, KernelGradient, Values
from sknk.kernels._network import NTK

__all__ = ["Foreign", "as_kernel"]


class Foreign(Kernel):
    """A scikit-learn kernel behind our contract: tiles come from its NumPy code.

    Parameters
    ----------
    kernel : sklearn.gaussian_process.kernels.Kernel
        Evaluated on the CPU in float64; parameters are ``kernel__length_scale`` and so on.
    """

    def __init__(self, kernel: sk.Kernel) -> None:
        self.kernel = kernel

    def clone_with_params(self, params: Any) -> "Foreign":
        """Return a copy whose scikit-learn kernel has other parameters."""
        return Foreign(clone(self.kernel).set_params(**params))

    def _tile(self, rx: Tensor, ry: Tensor, values: Values) -> Tensor:
        # WhiteKernel adds its noise only where Y is None.
        K = self.kernel(to_numpy(rx)) if rx is ry else self.kernel(to_numpy(rx), to_numpy(ry))
        return torch.from_numpy(np.ascontiguousarray(K)).to(rx.device, self._dtype())

    def _diag(self, x: Tensor, values: Values) -> Tensor:
        return torch.from_numpy(self.kernel.diag(to_numpy(x))).to(x.device)

    def vjp(self, X: Any, Y: Any, W: Any) -> KernelGradient:
        """Refuse: scikit-learn's kernels have no gradient with respect to rows.

        Parameters
        ----------
        X, Y, W : object
            Ignored.

        Raises
        ------
        NotImplementedError
            Always.
        """
        raise NotImplementedError(
            f"{self.kernel} is a scikit-learn kernel without row gradients; use an sknk kernel."
        )


def as_kernel(kernel: Any) -> Kernel:
    """Return the kernel an estimator's `kernel` parameter means.

    Parameters
    ----------
    kernel : None, Kernel or scikit-learn kernel
        None is ``NTK()``.

    Returns
    -------
    Kernel
        The object itself where it is one of ours.

    Raises
    ------
    TypeError
        For anything else.
    """
    if kernel is None:
        return NTK()
    if isinstance(kernel, Kernel):
        return kernel
    if isinstance(kernel, sk.Kernel):
        return Foreign(kernel)
    raise TypeError(
        f"`kernel` is {kernel!r}; expected None, an sknk kernel such as NTK(), a kernel of "
        "sklearn.gaussian_process.kernels, or 'precomputed'."
    )
