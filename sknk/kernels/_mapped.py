"""Mapped: a kernel of linearly mapped rows, the form in which learned features enter a kernel."""

from typing import Any

import numpy as np
from sklearn.gaussian_process.kernels import Hyperparameter
from torch import Tensor

from sknk.kernels._algebra import Composite
from sknk.kernels._base import Kernel, Values
from sknk.kernels._layer import values_of

__all__ = ["Mapped", "mapped"]

_SHOWN = 64  # numbers of a map in its repr


class Mapped(Composite):
    r"""A kernel of linearly mapped rows.

    .. math:: K(x, x') = k(A^\top x, A^\top x')

    with one scale for each feature, A = diag(a), or a matrix A (d, r). What feature learning finds
    is such a map, so its kernel serves every other estimator. Mapping costs O(n d r) a call.

    Parameters
    ----------
    kernel : Kernel
        Of the mapped rows; its parameters are ``kernel__depth`` and so on.
    feature_map : float or array-like of shape (), (d,) or (d, r), default=1.0
        Scales or A; dimensionless. Never moved by optimizers of hyperparameters.

    Raises
    ------
    ValueError
        When called, if the map is not finite or does not fit the rows.

    See Also
    --------
    sknk.NTKRidgeCV : Learns such a map with ``feature_learning="auto"``.

    Examples
    --------
    >>> from sknk.kernels import NTK, Mapped
    >>> kernel = Mapped(NTK(depth=1), [1.0, 0.0])
    >>> kernel([[1.0, 5.0]], [[1.0, -5.0]]) == kernel([[1.0, 0.0]])
    array([[ True]])
    """

    _children = ("kernel",)
    _value_names = ("feature_map",)

    def __init__(self, kernel: Kernel, feature_map: Any = 1.0) -> None:
        self.kernel = kernel
        self.feature_map = feature_map

    @property
    def hyperparameter_feature_map(self) -> Hyperparameter:
        """The map, always fixed."""
        return Hyperparameter("feature_map", "numeric", "fixed", np.size(self.feature_map))

    def _check_parameters(self, n_features: int) -> None:
        A = np.asarray(self.feature_map, dtype=np.float64)
        if A.ndim > 2 or (A.ndim and len(A) != n_features):
            raise ValueError(
                f"`feature_map` of Mapped has shape {A.shape}; expected a number, ({n_features},) "
                f"or ({n_features}, r) for {n_features} features."
            )
        if not np.isfinite(A).all():
            raise ValueError("`feature_map` of Mapped is not finite; expected real numbers.")
        super()._check_parameters(A.shape[1] if A.ndim == 2 else n_features)

    def _entries_per_pair(self, n_features: int) -> int:
        shape = np.shape(self.feature_map)
        return super()._entries_per_pair(shape[1] if len(shape) == 2 else n_features)

    def __repr__(self) -> str:
        """Return the constructor form; of a large map its shape."""
        A = np.asarray(self.feature_map)
        if A.size <= _SHOWN:
            return super().__repr__()
        return f"Mapped(kernel={self.kernel!r}, feature_map=<array of shape {A.shape}>)"

    def map_rows(self, X: Any) -> Any:
        """Return the rows that the inner kernel sees.

        Parameters
        ----------
        X : ndarray or Tensor of shape (n, d)
            Rows.

        Returns
        -------
        ndarray or Tensor of shape (n, d) or (n, r)
        """
        x, _ = self._rows(X, None)
        return self._like(mapped(x, self._values(x.device)["feature_map"]), X)

    def joint(self, X: Any, Y: Any = None) -> tuple[Any, Any]:
        """Return (nngp, ntk) of the network that sees mapped rows.

        Parameters
        ----------
        X, Y : array-like of shape (n, d) and (m, d)
            Rows; Y None means X.

        Returns
        -------
        nngp, ntk : ndarray or Tensor of shape (n, m)
        """
        same = Y is None or Y is X
        return self.kernel.joint(self.map_rows(X), None if same else self.map_rows(Y))

    def joint_diag(self, X: Any) -> tuple[Any, Any]:
        """Return the diagonals of :meth:`joint`.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Rows.

        Returns
        -------
        nngp, ntk : ndarray or Tensor of shape (n,)
        """
        return self.kernel.joint_diag(self.map_rows(X))

    def nngp(self) -> "Mapped":
        """Return the NNGP kernel of the network that sees mapped rows."""
        return Mapped(self.kernel.nngp(), self.feature_map)

    def _prepare(self, x: Tensor, values: Values) -> Any:
        return self.kernel._prepare(mapped(x, values["feature_map"]), values_of("kernel", values))

    def _tile(self, rx: Any, ry: Any, values: Values) -> Tensor:
        return self.kernel._tile(rx, ry, values_of("kernel", values))

    def _diag(self, x: Tensor, values: Values) -> Tensor:
        return self.kernel._diag(mapped(x, values["feature_map"]), values_of("kernel", values))


def mapped(x: Any, A: Any) -> Any:
    """Return mapped rows, of arrays or tensors: x A, or x times one scale for each feature."""
    return x @ A if A.ndim == 2 else x * A
