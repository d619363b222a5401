"""Gradients of Gram matrices: with respect to rows and hyperparameters, tile by tile."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import forward_ad

from sknk._array import as_tensor, to_numpy
from sknk._config import config_context, get_config
from sknk._validation import check_memory
from sknk.kernels import _tiles

__all__ = ["Gradients", "Gram", "KernelGradient"]

Values = Mapping[str, Tensor]


@dataclass(frozen=True)
class KernelGradient:
    """Gradient of sum(W * K(X, Y)).

    Attributes
    ----------
    theta : ndarray of shape (n_theta,)
        With respect to log hyperparameters, in the order of ``kernel.theta``.
    X : ndarray or Tensor of shape (n, d)
        With respect to the rows; in symmetric calls through both arguments.
    Y : ndarray or Tensor of shape (m, d) or None
        None in symmetric calls.
    """

    theta: np.ndarray
    X: Any
    Y: Any


class Gram(torch.autograd.Function):
    """A Gram matrix whose backward pass is :meth:`Kernel.vjp`: O(n m) memory at any depth."""

    @staticmethod
    def forward(ctx: Any, kernel: Any, X: Tensor, Y: Tensor | None) -> Tensor:
        ctx.kernel, ctx.options = kernel, get_config()
        ctx.save_for_backward(X, Y)
        return kernel(X, Y)

    @staticmethod
    def backward(ctx: Any, W: Tensor) -> tuple[None, Tensor, Tensor | None]:
        X, Y = ctx.saved_tensors
        with config_context(**ctx.options):  # backward passes run in threads of their own
            found = ctx.kernel.vjp(X.detach(), None if Y is None else Y.detach(), W)
        return None, found.X.to(X.dtype), None if Y is None else found.Y.to(Y.dtype)


class Gradients:
    """What every kernel knows of its derivatives."""

    def vjp(self: Any, X: Any, Y: Any, W: Any) -> KernelGradient:
        """Return the gradient of sum(W * K(X, Y)) tile by tile: no (n, m, n_theta) array.

        At coincident rows K has a cusp; its gradient there is 0 by convention.

        Parameters
        ----------
        X, Y : array-like or Tensor of shape (n, d) and (m, d)
            Rows; Y None means X, and then W weighs a symmetric matrix.
        W : array-like or Tensor of shape (n, m)
            Weights; need not be symmetric.

        Returns
        -------
        KernelGradient

        Raises
        ------
        ValueError
            If W does not have the shape of K.
        """
        x, y = self._rows(X, Y)
        x, y = x.detach().requires_grad_(), None if y is None else y.detach().requires_grad_()
        found, theta = self._vjp(x, y, W)
        grad_y = None if found.Y is None else self._like(found.Y, X)
        return KernelGradient(theta, self._like(found.X, X), grad_y)

    def row_gradients(self: Any, X: Any, Y: Any, v: Any) -> Any:
        r"""Return the gradients of f(x) = sum_j v_j K(x, y_j) at the rows of X, tile by tile.

        What :meth:`vjp` finds for cotangents that are equal in every row, without the gradients of
        Y: O(n m d) time, memory for one tile. A row's cusp at itself counts as 0.

        Parameters
        ----------
        X, Y : array-like or Tensor of shape (n, d) and (m, d)
            Rows; Y may be X.
        v : array-like or Tensor of shape (m,)
            Coefficients.

        Returns
        -------
        ndarray or Tensor of shape (n, d)

        Raises
        ------
        ValueError
            If v does not have an entry for every row of Y.
        """
        x, y = self._rows(X, Y)
        columns = (x if y is None else y).detach()
        coef = as_tensor(v, x.device, self._dtype())
        if tuple(coef.shape) != (len(columns),):
            raise ValueError(f"`v` has shape {tuple(coef.shape)}; expected ({len(columns)},).")
        found = _tiles.vjp(
            self._prepare,
            self._tile,
            x.detach().requires_grad_(),
            columns,
            coef.expand(len(x), -1),
            self._values(x.device),
            self._tile_rows(x),
        )
        return self._like(found.X, X)

    def theta_vjp(self: Any, X: Any, Y: Any, W: Any) -> np.ndarray:
        """Return the gradient of sum(W * K(X, Y)) with respect to ``theta`` only.

        What :meth:`vjp` finds, without the gradients of rows; kernels that have none of those
        (scikit-learn's) have this one.

        Parameters
        ----------
        X, Y : array-like or Tensor of shape (n, d) and (m, d)
            Rows; Y None means X.
        W : array-like or Tensor of shape (n, m)
            Weights; need not be symmetric.

        Returns
        -------
        ndarray of shape (n_theta,)

        Raises
        ------
        ValueError
            If W does not have the shape of K.
        """
        x, y = self._rows(X, Y)
        return self._vjp(x.detach(), None if y is None else y.detach(), W)[1]

    def theta_vjp_diag(self: Any, X: Any, w: Any) -> np.ndarray:
        """Return the gradient of sum(w * diag(X)) with respect to ``theta``; O(n).

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
        x, _ = self._rows(X, None)
        values = self._free_values(x.device)
        with torch.enable_grad():
            total = (as_tensor(w, x.device, x.dtype) * self._diag(x.detach(), values)).sum()
        free = [values[name] for name in self._free_names()]
        if not free or not total.requires_grad:
            return np.zeros(sum(value.numel() for value in free))
        grads = torch.autograd.grad(total, free, allow_unused=True, materialize_grads=True)
        return _log_gradient(free, grads)

    def _free_values(self: Any, device: torch.device) -> dict[str, Tensor]:
        """Return the numeric parameters, the free ones as leaves that require gradients."""
        values, free = self._values(device), self._free_names()
        return {k: v.requires_grad_() if k in free else v for k, v in values.items()}

    def _vjp(self: Any, x: Tensor, y: Tensor | None, W: Any) -> tuple[_tiles.Gradients, np.ndarray]:
        shape = (len(x), len(x if y is None else y))
        w = as_tensor(W, x.device, self._dtype())
        if tuple(w.shape) != shape:
            raise ValueError(f"`W` has shape {tuple(w.shape)}; expected {shape}, that of K.")
        values = self._free_values(x.device)
        found = _tiles.vjp(self._prepare, self._tile, x, y, w, values, self._tile_rows(x))
        names = self._free_names()
        free, grads = [values[name] for name in names], [found.values[name] for name in names]
        return found, _log_gradient(free, grads)

    def _gram_and_gradient(self: Any, X: Any, Y: Any) -> tuple[Any, np.ndarray]:
        if not (Y is None or Y is X):
            raise ValueError("Gradient can only be evaluated when Y is None; use `kernel.vjp`.")
        x, _ = self._rows(X, None)
        n, p = len(x), self.n_dims
        check_memory(
            (1 + p) * self._gram_bytes(n, n),
            x.device,
            what=f"A Gram matrix of n={n} rows and its gradient in {p} hyperparameters",
            instead="Use `kernel.vjp`, which forms neither.",
        )
        gradient = torch.empty((n, n, p), device=x.device, dtype=self._dtype())
        column = 0
        for name in self._free_names():
            for element in range(self._values(x.device)[name].numel()):
                self._fill_tangent(gradient[:, :, column], x, name, element)
                column += 1
        return self(X), to_numpy(gradient)

    def _fill_tangent(self: Any, out: Tensor, x: Tensor, name: str, element: int) -> None:
        """Write dK / d log(value) of one hyperparameter element by forward differentiation."""
        plain = self._values(x.device)
        direction = torch.zeros_like(plain[name]).reshape(-1)
        direction[element] = plain[name].reshape(-1)[element]
        with torch.enable_grad(), forward_ad.dual_level():
            with warnings.catch_warnings():  # torch imports its own deprecated torch.jit here
                warnings.simplefilter("ignore", DeprecationWarning)
                dual = forward_ad.make_dual(plain[name], direction.reshape(plain[name].shape))
            values = {**plain, name: dual}

            def tangent(rx: Any, ry: Any) -> list[Tensor]:
                K, dK = forward_ad.unpack_dual(self._tile(rx, ry, values))
                return [torch.zeros_like(K) if dK is None else dK]

            _tiles.fill([out], tangent, self._blocks(x, values))


def _log_gradient(values: Sequence[Tensor], grads: Sequence[Tensor]) -> np.ndarray:
    """Return gradients with respect to logarithms, flat: d/d log v = v d/dv."""
    flat = [(grad * value).reshape(-1) for value, grad in zip(values, grads, strict=True)]
    return to_numpy(torch.cat(flat)) if flat else np.empty(0)
