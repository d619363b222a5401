"""A module's first-order model: its outputs, and products with its Jacobian."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from sklearn.base import clone
from torch import Tensor

from sknk._array import as_tensor
from sknk.kernels import _tiles
from sknk.kernels._empirical._network import Network
from sknk.kernels._empirical._products import pull_back, push_forward

__all__ = ["Linearization", "linearize"]


class Linearization:
    """f(x) + J(x) v of a torch module: what it is, and how it moves with its parameters.

    Made by :func:`linearize`. Methods take NumPy arrays and return them, tensors for tensors. The
    weights are those of the moment it was made.

    Parameters
    ----------
    kernel : EmpiricalNTK
        Whose module, parameters and inputs.
    """

    def __init__(self, kernel: Any) -> None:
        self._kernel = clone(kernel)

    def f0(self, X: Any) -> Any:
        """Return the outputs of rows.

        Parameters
        ----------
        X : array-like or Tensor of shape (n, d)
            Rows.

        Returns
        -------
        ndarray or Tensor of shape (n, O)
        """
        return self._map(X, lambda network, x: network(network.leaves, x))

    def jvp(self, X: Any, direction: Mapping[str, Any]) -> Any:
        """Return J(x) v: how outputs move when parameters move along v.

        Parameters
        ----------
        X : array-like or Tensor of shape (n, d)
            Rows.
        direction : mapping of str to array-like
            One array for each parameter, (re, im) pairs in a last axis for a complex one; names
            that are left out do not move.

        Returns
        -------
        ndarray or Tensor of shape (n, O)

        Raises
        ------
        ValueError
            For a name or a shape that no parameter has.
        """

        def moved(network: Network, x: Tensor) -> Tensor:
            return push_forward(network, x, _as_direction(direction, network))

        return self._map(X, moved)

    def vjp(self, X: Any, cotangent: Any) -> dict[str, Any]:
        """Return sum_i J(x_i)^T u_i, one array for each parameter.

        Parameters
        ----------
        X : array-like or Tensor of shape (n, d)
            Rows.
        cotangent : array-like or Tensor of shape (n, O)
            u.

        Returns
        -------
        dict of str to (ndarray or Tensor)

        Raises
        ------
        ValueError
            If the cotangent does not have the shape of the outputs.
        """
        x, network = self._network(X)
        u = self._cotangent(cotangent, network, x)
        total = {name: torch.zeros_like(leaf) for name, leaf in network.leaves.items()}
        with torch.no_grad():
            for s in self._spans(x):  # sums over rows need no more than one chunk's activations
                found = pull_back(network, x[s], u[s])
                total = {name: g + found[name] for name, g in total.items()}
        return {name: self._kernel._like(g, X) for name, g in total.items()}

    def kernel_matmul(self, X: Any, Y: Any, V: Any) -> Any:
        """Return Theta(X, Y) V for the kernel of all outputs, as J(X) (J(Y)^T V).

        Neither the kernel nor a Jacobian is formed: one pass back over Y and one forward over X,
        in memory for the parameters.

        Parameters
        ----------
        X, Y : array-like or Tensor of shape (n, d) and (m, d)
            Rows; Y None means X.
        V : array-like or Tensor of shape (m, O)
            Vectors of outputs.

        Returns
        -------
        ndarray or Tensor of shape (n, O)
        """
        return self.jvp(X, self.vjp(X if Y is None else Y, V))

    def _network(self, X: Any) -> tuple[Tensor, Network]:
        x, _ = self._kernel._rows(X, None)
        if not len(x):
            raise ValueError("`X` has no rows; expected at least one.")
        return x, self._kernel._network(x, self._kernel._values(x.device))

    def _spans(self, x: Tensor) -> list[slice]:
        return _tiles.spans(len(x), self._kernel.chunk_size or self._kernel._tile_rows(x))

    def _map(self, X: Any, function: Callable[[Network, Tensor], Tensor]) -> Any:
        x, network = self._network(X)
        with torch.no_grad():
            out = torch.cat([function(network, x[s]) for s in self._spans(x)])
        return self._kernel._like(out, X)

    def _cotangent(self, cotangent: Any, network: Network, x: Tensor) -> Tensor:
        u = as_tensor(cotangent, x.device, network.dtype)
        expected = (len(x), network.n_outputs)
        if tuple(u.shape) != expected:
            raise ValueError(
                f"`cotangent` has shape {tuple(u.shape)}; expected {expected}, that of the outputs."
            )
        return u


def _as_direction(direction: Mapping[str, Any], network: Network) -> dict[str, Tensor]:
    unknown = [name for name in direction if name not in network.leaves]
    if unknown:
        raise ValueError(
            f"`direction` has {unknown[0]!r}, which is no chosen parameter; expected some of "
            f"{network.names}."
        )
    found = {}
    for name, leaf in network.leaves.items():
        v = as_tensor(direction[name], leaf.device, leaf.dtype) if name in direction else None
        if v is not None and v.shape != leaf.shape:
            raise ValueError(
                f"`direction` has {name!r} of shape {tuple(v.shape)}; expected {tuple(leaf.shape)}."
            )
        found[name] = torch.zeros_like(leaf) if v is None else v
    return found


def linearize(
    module: Any,
    params: Any = None,
    *,
    chunk_size: int | None = None,
    input_shape: tuple[int, ...] | None = None,
    input_dtype: Any = None,
) -> Linearization:
    """Return the first-order model of a torch module in its parameters.

    Parameters
    ----------
    module : nn.Module, or object with a ``module_``
        Copied with its weights, never changed.
    params : None, str, collection of str, or callable, default=None
        Parameters, as in :class:`EmpiricalNTK`.
    chunk_size : int or None, default=None
        Rows of one pass.
    input_shape : tuple of int or None, default=None
        Shape of one input that a row holds.
    input_dtype : str, torch.dtype or None, default=None
        Integer dtype of inputs that are codes.

    Returns
    -------
    Linearization

    Examples
    --------
    >>> import torch
    >>> from sknk.kernels import linearize
    >>> model = linearize(torch.nn.Linear(2, 1))
    >>> model.jvp([[3.0, 4.0]], {"weight": [[1.0, 0.0]]})
    array([[3.]])
    """
    from sknk.kernels._empirical._kernel import EmpiricalNTK

    return EmpiricalNTK(
        module,
        params=params,
        chunk_size=chunk_size,
        input_shape=input_shape,
        input_dtype=input_dtype,
    ).linearize()
