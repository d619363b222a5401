"""Any kernel an estimator accepts, as a :class:`Kernel`."""

from typing import Any

import numpy as np
import torch
from sklearn.base import clone
from sklearn.gaussian_process import kernels as sk
from torch import Tensor

from sknk._array import as_tensor, to_numpy
from sknk._validation import check_memory
from sknk.kernels._base import Kernel, KernelGradient, Values
from sknk.kernels._network import NTK

__all__ = ["Foreign", "as_kernel", "copy_of"]


class Foreign(Kernel):
    """A scikit-learn kernel behind our contract: tiles come from its NumPy code.

    Parameters
    ----------
    kernel : sklearn.gaussian_process.kernels.Kernel
        Evaluated on the CPU in float64; parameters are ``kernel__length_scale`` and so on.
    """

    def __init__(self, kernel: sk.Kernel) -> None:
        self.kernel = kernel

    def __repr__(self) -> str:
        """Show the scikit-learn kernel."""
        return repr(self.kernel)

    def clone_with_params(self, params: Any) -> "Foreign":
        """Return a copy whose scikit-learn kernel has other parameters."""
        return Foreign(clone(self.kernel).set_params(**params))

    @property
    def hyperparameters(self) -> list[sk.Hyperparameter]:
        """Those of the scikit-learn kernel."""
        return self.kernel.hyperparameters

    @property
    def theta(self) -> np.ndarray:
        """Logarithms of the scikit-learn kernel's free hyperparameters."""
        return self.kernel.theta

    @theta.setter
    def theta(self, theta: np.ndarray) -> None:
        self.kernel.theta = theta

    @property
    def bounds(self) -> np.ndarray:
        """Bounds of ``theta``, (n_theta, 2)."""
        return self.kernel.bounds

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

    def row_gradients(self, X: Any, Y: Any, v: Any) -> Any:
        """Refuse, as :meth:`vjp` does.

        Parameters
        ----------
        X, Y, v : object
            Ignored.
        """
        self.vjp(X, Y, v)

    def theta_vjp(self, X: Any, Y: Any, W: Any) -> np.ndarray:
        """Contract scikit-learn's gradient, one (n, n, n_theta) array; symmetric calls only.

        Parameters
        ----------
        X : array-like or Tensor of shape (n, d)
            Rows.
        Y : None
            scikit-learn's kernels have no gradients of cross Gram matrices.
        W : array-like or Tensor of shape (n, n)
            Weights.

        Returns
        -------
        ndarray of shape (n_theta,)

        Raises
        ------
        NotImplementedError
            If Y is not None.
        MemoryBudgetError
            If the array does not fit.
        """
        if self.n_dims == 0:
            return np.empty(0)
        if not (Y is None or Y is X):
            raise NotImplementedError(
                f"{self.kernel} is a scikit-learn kernel without gradients of cross Gram matrices; "
                "use an sknk kernel, or fix its hyperparameters."
            )
        x, n = self._rows(X, None)[0], len(X)
        check_memory(
            8.0 * n * n * (1 + self.n_dims),
            x.device,
            what=f"scikit-learn's gradient of {self.kernel} for n={n} rows",
            instead="Use an sknk kernel, which needs one tile at a time.",
        )
        _, gradient = self.kernel(to_numpy(x), eval_gradient=True)
        weights = as_tensor(W, torch.device("cpu"), torch.float64).numpy()
        return np.einsum("ij,ijk->k", weights, gradient)

    def theta_vjp_diag(self, X: Any, w: Any) -> np.ndarray:
        """Contract the diagonals of scikit-learn's gradient, row by row.

        Parameters
        ----------
        X : array-like or Tensor of shape (n, d)
            Rows.
        w : array-like or Tensor of shape (n,)
            Weights.

        Returns
        -------
        ndarray of shape (n_theta,)
        """
        rows = to_numpy(self._rows(X, None)[0])
        weights = as_tensor(w, torch.device("cpu"), torch.float64).numpy()
        total = np.zeros(self.n_dims)
        for weight, row in zip(weights, rows, strict=True):
            total += weight * self.kernel(row[None], eval_gradient=True)[1][0, 0]
        return total


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


def copy_of(kernel: Kernel) -> Any:
    """Return a copy of a kernel, of scikit-learn's behind its wrapper."""
    return Foreign(clone(kernel.kernel)) if isinstance(kernel, Foreign) else clone(kernel)
