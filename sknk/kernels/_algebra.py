"""Kernels made of kernels: Sum, Product, Scale, Constant, Normalized."""

from collections.abc import Iterable
from numbers import Real
from typing import Any

import numpy as np
import torch
from sklearn.gaussian_process import kernels as sk
from sklearn.gaussian_process.kernels import Hyperparameter
from torch import Tensor

from sknk.kernels._base import Kernel, Values
from sknk.kernels._layer import values_of
from sknk.kernels._state import safe_sqrt

__all__ = ["Constant", "Normalized", "Product", "Scale", "Sum"]


class Composite(Kernel):
    """A kernel of kernels: parameters, theta, bounds and values are those of its parts, prefixed.

    scikit-learn's base class gives composites nothing: without these overrides ``theta`` would be
    empty and an optimizer would silently move nothing.
    """

    _children: tuple[str, ...] = ()

    def _parts(self) -> list[tuple[str, Kernel]]:
        return [(name, getattr(self, name)) for name in self._children]

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters, those of the parts as ``part__name``."""
        params = super().get_params(deep=False)
        if deep:
            for name, part in self._parts():
                nested = part.get_params(deep=True)
                params.update((f"{name}__{key}", value) for key, value in nested.items())
        return params

    def _own_hyperparameters(self) -> list[Hyperparameter]:
        return [getattr(self, f"hyperparameter_{name}") for name in self._value_names]

    @property
    def hyperparameters(self) -> list[Hyperparameter]:
        """Hyperparameters of this kernel, then of its parts."""
        nested = [
            Hyperparameter(f"{name}__{h.name}", h.value_type, h.bounds, h.n_elements)
            for name, part in self._parts()
            for h in part.hyperparameters
        ]
        return self._own_hyperparameters() + nested

    @property
    def theta(self) -> np.ndarray:
        """Logarithms of the free hyperparameters, flat."""
        own = [np.log(np.atleast_1d(getattr(self, h.name))) for h in self._own_free()]
        return np.hstack([np.empty(0), *own, *(part.theta for _, part in self._parts())])

    @theta.setter
    def theta(self, theta: np.ndarray) -> None:
        start = 0
        for h in self._own_free():
            setattr(self, h.name, float(np.exp(theta[start])))
            start += h.n_elements
        for _, part in self._parts():
            part.theta = theta[start : start + part.n_dims]
            start += part.n_dims

    @property
    def bounds(self) -> np.ndarray:
        """Bounds of ``theta``, (n_theta, 2)."""
        own = [np.log(np.atleast_2d(h.bounds)) for h in self._own_free()]
        return np.vstack(
            [np.empty((0, 2)), *own, *(part.bounds.reshape(-1, 2) for _, part in self._parts())]
        )

    def _own_free(self) -> Iterable[Hyperparameter]:
        return [h for h in self._own_hyperparameters() if not h.fixed]

    def _check_parameters(self, n_features: int) -> None:
        for name, part in self._parts():
            if not isinstance(part, Kernel):
                raise TypeError(
                    f"`{name}` of {type(self).__name__} is {part!r}; expected an sknk kernel."
                )
            part._check_parameters(n_features)

    def _entries_per_pair(self, n_features: int) -> int:
        return max(part._entries_per_pair(n_features) for _, part in self._parts())

    def _values(self, device: torch.device) -> dict[str, Tensor]:
        values = super()._values(device)
        for name, part in self._parts():
            values.update((f"{name}__{key}", v) for key, v in part._values(device).items())
        return values

    def _prepare(self, x: Tensor, values: Values) -> Any:
        return [part._prepare(x, values_of(name, values)) for name, part in self._parts()]

    def _tiles_of(self, rx: Any, ry: Any, values: Values) -> list[Tensor]:
        return [
            part._tile(x, y, values_of(name, values))
            for (name, part), x, y in zip(self._parts(), rx, ry, strict=True)
        ]

    def _diags_of(self, x: Tensor, values: Values) -> list[Tensor]:
        return [part._diag(x, values_of(name, values)) for name, part in self._parts()]


class _Pair(Composite):
    _children = ("k1", "k2")

    def __init__(self, k1: Kernel, k2: Kernel) -> None:
        self.k1 = k1
        self.k2 = k2


class Sum(_Pair):
    """Sum of two kernels, K = K1 + K2; written ``k1 + k2``.

    Parameters
    ----------
    k1, k2 : Kernel
        The terms; their parameters are ``k1__depth`` and so on.

    Examples
    --------
    >>> from sknk.kernels import NNGP, NTK
    >>> NTK(depth=1) + NNGP(depth=2)
    Sum(k1=NTK(depth=1), k2=NNGP(depth=2))
    """

    def _tile(self, rx: Any, ry: Any, values: Values) -> Tensor:
        K1, K2 = self._tiles_of(rx, ry, values)
        return K1 + K2

    def _diag(self, x: Tensor, values: Values) -> Tensor:
        d1, d2 = self._diags_of(x, values)
        return d1 + d2


class Product(_Pair):
    """Elementwise product of two kernels, K = K1 * K2; written ``k1 * k2``.

    Parameters
    ----------
    k1, k2 : Kernel
        The factors; their parameters are ``k1__depth`` and so on.

    Examples
    --------
    >>> from sknk.kernels import NTK
    >>> (NTK(depth=1) * NTK(depth=2)).get_params()["k2__depth"]
    2
    """

    def _tile(self, rx: Any, ry: Any, values: Values) -> Tensor:
        K1, K2 = self._tiles_of(rx, ry, values)
        return K1 * K2

    def _diag(self, x: Tensor, values: Values) -> Tensor:
        d1, d2 = self._diags_of(x, values)
        return d1 * d2


class Scale(Composite):
    """A kernel times a positive number: the amplitude a Gaussian process needs.

    Parameters
    ----------
    kernel : Kernel
        What is scaled.
    scale : float, default=1.0
        Factor; units of y squared in a Gaussian process.
    scale_bounds : "fixed" or pair of float
        Bounds in scikit-learn's optimizers.

    Examples
    --------
    >>> from sknk.kernels import NTK
    >>> 2.0 * NTK(depth=1)
    Scale(kernel=NTK(depth=1), scale=2.0)
    """

    _children = ("kernel",)
    _value_names = ("scale",)

    def __init__(self, kernel: Kernel, scale: float = 1.0, scale_bounds: Any = (1e-5, 1e5)) -> None:
        self.kernel = kernel
        self.scale = scale
        self.scale_bounds = scale_bounds

    @property
    def hyperparameter_scale(self) -> Hyperparameter:
        """The factor; zero is fixed."""
        return Hyperparameter("scale", "numeric", self.scale_bounds if self.scale else "fixed")

    def _check_parameters(self, n_features: int) -> None:
        super()._check_parameters(n_features)
        _check_not_negative("scale", self.scale)

    def joint(self, X: Any, Y: Any = None) -> tuple[Any, Any]:
        """Return the scaled kernels of the network whose output weights have that variance.

        Parameters
        ----------
        X, Y : array-like of shape (n, d) and (m, d)
            Rows; Y None means X.

        Returns
        -------
        nngp, ntk : ndarray or Tensor of shape (n, m)
        """
        nngp, ntk = self.kernel.joint(X, Y)
        return self.scale * nngp, self.scale * ntk

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
        nngp, ntk = self.kernel.joint_diag(X)
        return self.scale * nngp, self.scale * ntk

    def nngp(self) -> "Scale":
        """Return the scaled NNGP kernel of the network."""
        return Scale(self.kernel.nngp(), self.scale, self.scale_bounds)

    def _tile(self, rx: Any, ry: Any, values: Values) -> Tensor:
        (K,) = self._tiles_of(rx, ry, values)
        return K * values["scale"].to(K.dtype)

    def _diag(self, x: Tensor, values: Values) -> Tensor:
        (d,) = self._diags_of(x, values)
        return d * values["scale"]


class Constant(Kernel):
    """The constant kernel K = value: an intercept with that prior variance.

    Parameters
    ----------
    value : float, default=1.0
        Units of y squared in a Gaussian process.
    value_bounds : "fixed" or pair of float
        Bounds in scikit-learn's optimizers.

    Examples
    --------
    >>> from sknk.kernels import NTK
    >>> NTK(depth=1) + 0.5
    Sum(k1=NTK(depth=1), k2=Constant(value=0.5))
    """

    _value_names = ("value",)

    def __init__(self, value: float = 1.0, value_bounds: Any = (1e-5, 1e5)) -> None:
        self.value = value
        self.value_bounds = value_bounds

    @property
    def hyperparameter_value(self) -> Hyperparameter:
        """The constant; zero is fixed."""
        return Hyperparameter("value", "numeric", self.value_bounds if self.value else "fixed")

    def _check_parameters(self, n_features: int) -> None:
        _check_not_negative("value", self.value)

    def _tile(self, rx: Tensor, ry: Tensor, values: Values) -> Tensor:
        return values["value"].to(self._dtype()).expand(len(rx), len(ry))

    def _diag(self, x: Tensor, values: Values) -> Tensor:
        return values["value"].expand(len(x))


class Normalized(Composite):
    r"""Cosine form of a kernel: K(x, x') / sqrt(K(x, x) K(x', x')), a unit diagonal for every row.

    Not what ``normalize=True`` of NTK does, which divides by one constant. Rows where the kernel
    vanishes (zero rows without biases) stay zero.

    Parameters
    ----------
    kernel : Kernel
        What is normalized.

    Examples
    --------
    >>> from sknk.kernels import NTK, Normalized
    >>> Normalized(NTK(depth=2)).diag([[1.0, 2.0], [0.1, 0.0]]).round(12)
    array([1., 1.])
    """

    _children = ("kernel",)

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel

    def _prepare(self, x: Tensor, values: Values) -> Any:
        return self._prepare_with_diag(x, values)[0]

    def _prepare_with_diag(self, x: Tensor, values: Values) -> tuple[Any, Tensor]:
        state, d = self.kernel._prepare_with_diag(x, values_of("kernel", values))
        gain = safe_sqrt(torch.where(d > 0, 1.0 / torch.where(d > 0, d, 1.0), 0.0))
        return (state, gain), (d > 0).to(d.dtype)

    def _tile(self, rx: Any, ry: Any, values: Values) -> Tensor:
        K = self.kernel._tile(rx[0], ry[0], values_of("kernel", values))
        return K * rx[1].to(K.dtype)[:, None] * ry[1].to(K.dtype)

    def _diag(self, x: Tensor, values: Values) -> Tensor:
        d = self.kernel._diag(x, values_of("kernel", values))
        return (d > 0).to(d.dtype)


def _check_not_negative(name: str, value: Any) -> None:
    if not (isinstance(value, Real) and 0 <= float(value) < np.inf):
        raise ValueError(f"`{name}` is {value!r}; expected a finite number, not negative.")


def add(left: Any, right: Any) -> Any:
    """Return left + right: ours for our kernels and numbers, scikit-learn's Sum otherwise."""
    left, right = (Constant(float(k)) if isinstance(k, Real) else k for k in (left, right))
    if isinstance(left, Kernel) and isinstance(right, Kernel):
        return Sum(left, right)
    return sk.Sum(left, right) if _are_kernels(left, right) else NotImplemented


def multiply(left: Any, right: Any) -> Any:
    """Return left * right: Product, Scale for a number, scikit-learn's Product otherwise."""
    for kernel, factor in ((left, right), (right, left)):
        if isinstance(factor, Real):
            return Scale(kernel, float(factor))
    if isinstance(left, Kernel) and isinstance(right, Kernel):
        return Product(left, right)
    return sk.Product(left, right) if _are_kernels(left, right) else NotImplemented


def _are_kernels(*candidates: Any) -> bool:
    return all(isinstance(k, sk.Kernel) for k in candidates)
