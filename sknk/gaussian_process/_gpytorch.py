"""An sknk kernel as a gpytorch kernel: free hyperparameters become constrained parameters."""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from sklearn.base import clone
from sklearn.gaussian_process.kernels import Hyperparameter
from torch import Tensor

from sknk import _config
from sknk._array import row_dtype
from sknk.gaussian_process._optional import require_gpytorch
from sknk.kernels import Kernel
from sknk.kernels._tiles import spans

require_gpytorch("A Gaussian process on gpytorch")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import gpytorch
    from linear_operator.utils import errors

__all__ = ["GPyTorchKernel", "LogInterval", "errors", "gpytorch"]

Values = Mapping[str, Tensor]
# Rows of the small Gram matrices whose diagonals are K(x_i, y_i).
_PAIR_ROWS = 32


class LogInterval(gpytorch.constraints.Interval):
    r"""value = lower (upper / lower)^sigmoid(raw): an interval even in the logarithm.

    Bounds of kernel hyperparameters span ten decades. There the plain interval, even in the value
    itself, has raw values of -11 and vanishing gradients wherever kernels are used.

    Parameters
    ----------
    lower_bound, upper_bound : float or Tensor
        Positive and finite.
    initial_value : float or Tensor, optional
        As in :class:`gpytorch.constraints.Interval`.

    Raises
    ------
    ValueError
        For bounds without finite logarithms.
    """

    # A value at a bound has an infinite raw value; it moves inwards by 1e-6 of the logarithms.
    _EDGE = 1e-6

    def __init__(self, lower_bound: Any, upper_bound: Any, initial_value: Any = None) -> None:
        lower, upper = torch.as_tensor(lower_bound), torch.as_tensor(upper_bound)
        if not ((lower > 0).all() and torch.isfinite(upper).all()):
            raise ValueError(
                f"Bounds are {lower.tolist()} and {upper.tolist()}; expected positive, finite ones."
            )
        super().__init__(lower, upper, initial_value=initial_value)

    def transform(self, tensor: Tensor) -> Tensor:
        """Return the value of a raw parameter.

        Parameters
        ----------
        tensor : Tensor
            Raw, any real numbers.

        Returns
        -------
        Tensor
        """
        low, high = self.lower_bound.log(), self.upper_bound.log()
        value = torch.exp(low + self._transform(tensor) * (high - low))
        return value.clamp(self.lower_bound, self.upper_bound)  # exp(log(bound)) may round outwards

    def inverse_transform(self, transformed_tensor: Tensor) -> Tensor:
        """Return the raw parameter of a value.

        Parameters
        ----------
        transformed_tensor : Tensor
            Values; outside the bounds they have no raw parameter.

        Returns
        -------
        Tensor
            NaN for values outside, which gpytorch refuses.
        """
        low, high = self.lower_bound.log(), self.upper_bound.log()
        share = (transformed_tensor.log() - low) / (high - low)
        inside = (share > -self._EDGE) & (share < 1.0 + self._EDGE)
        raw = self._inv_transform(share.clamp(self._EDGE, 1.0 - self._EDGE))
        return torch.where(inside, raw, torch.nan)

    def intersect(self, other: "LogInterval") -> "LogInterval":
        """Return the interval that both allow.

        Parameters
        ----------
        other : LogInterval
            Another one.

        Returns
        -------
        LogInterval
        """
        return LogInterval(
            torch.maximum(self.lower_bound, other.lower_bound),
            torch.minimum(self.upper_bound, other.upper_bound),
        )


class _Gram(torch.autograd.Function):
    """K(X, Y) whose backward pass is :meth:`Kernel.vjp`: O(n m) memory, one tile of graph."""

    @staticmethod
    def forward(ctx: Any, kernel: Kernel, x: Tensor, y: Tensor | None, *values: Tensor) -> Tensor:
        ctx.kernel = kernel
        # The backward pass may run later and, on a GPU, in another thread.
        ctx.config = _config.get_config()
        ctx.save_for_backward(x, y, *values)
        return kernel(x, y)

    @staticmethod
    def backward(ctx: Any, W: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # create_graph=True
            raise NotImplementedError(
                f"{ctx.kernel!r} has no second derivatives here; use `create_graph=False`."
            )
        x, y, *values = ctx.saved_tensors
        with _config.config_context(**ctx.config):
            found = ctx.kernel.vjp(x.detach(), None if y is None else y.detach(), W)
        ends = np.cumsum([value.numel() for value in values])[:-1]
        parts = np.split(found.theta, ends) if values else []
        grad_values = (  # d/dv = (d/d log v) / v
            torch.from_numpy(part).to(value).reshape(value.shape) / value
            for part, value in zip(parts, values, strict=True)
        )
        grad_y = None if y is None else found.Y.to(y.dtype)
        return None, found.X.to(x.dtype), grad_y, *grad_values


class GPyTorchKernel(gpytorch.kernels.Kernel):
    r"""The gpytorch kernel k(x, x') = ``kernel``\ (x, x'); see :func:`sknk.interop.to_gpytorch`.

    Parameters
    ----------
    kernel : Kernel
        Copied; its free hyperparameters become parameters ``raw_<name>``, others stay constants.
    batch_shape : sequence of int, default=()
        Independent copies of the hyperparameters.
    active_dims : sequence of int, optional
        Columns of the inputs to use.
    dtype : torch.dtype, optional
        Of the parameters; torch's default dtype if None.

    Raises
    ------
    ValueError
        If a hyperparameter lies outside its bounds, or these have no finite logarithms.
    """

    def __init__(
        self,
        kernel: Kernel,
        batch_shape: Sequence[int] = (),
        active_dims: Sequence[int] | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(batch_shape=torch.Size(batch_shape), active_dims=active_dims)
        self._kernel = clone(kernel)
        # Follows `.to(...)`, so that a kernel without parameters knows its dtype and device too.
        self.register_buffer("_like", torch.empty(0), persistent=False)
        values = self._kernel._values(torch.device("cpu"))
        free = [h for h in self._kernel.hyperparameters if not h.fixed]
        for hyperparameter in free:
            self._add_parameter(hyperparameter, values[hyperparameter.name])
        self._names = tuple(h.name for h in free)
        if dtype is not None:
            self.to(dtype=dtype)
            for name in self._names:  # unrounded
                setattr(self, name, values[name])

    def _add_parameter(self, hyperparameter: Hyperparameter, value: Tensor) -> None:
        name, raw_name = hyperparameter.name, f"raw_{hyperparameter.name}"
        bounds = torch.from_numpy(np.array(hyperparameter.bounds, dtype=np.float64))
        try:
            constraint = LogInterval(*(bound.reshape(value.shape) for bound in bounds.T))
        except ValueError as error:
            raise ValueError(f"`{name}`: {error} Set `{name}_bounds`.") from error
        raw = constraint.inverse_transform(value.to(torch.get_default_dtype()))
        if not torch.isfinite(raw).all():
            raise ValueError(
                f"`{name}` is {value.tolist()}, outside its bounds {bounds.tolist()}. Widen "
                f"`{name}_bounds`, or fix the hyperparameter with 'fixed'."
            )
        raw = raw.expand(torch.Size([*self.batch_shape, *raw.shape])).clone()
        self.register_parameter(raw_name, torch.nn.Parameter(raw))
        self.register_constraint(raw_name, constraint)

    def __getattr__(self, name: str) -> Any:
        """Return hyperparameters by name, within their bounds."""
        if name in self.__dict__.get("_names", ()):
            constraint = getattr(self, f"raw_{name}_constraint")
            return constraint.transform(getattr(self, f"raw_{name}"))
        return super().__getattr__(name)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set hyperparameters by name; gpytorch refuses values outside their bounds."""
        if name not in self.__dict__.get("_names", ()):
            super().__setattr__(name, value)
            return
        raw = getattr(self, f"raw_{name}")
        constraint = getattr(self, f"raw_{name}_constraint")
        value = torch.as_tensor(value, dtype=raw.dtype, device=raw.device)
        self.initialize(**{f"raw_{name}": constraint.inverse_transform(value)})

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the parameters; a kernel without any follows ``.to(dtype)`` all the same."""
        return super().dtype if self._names else self._like.dtype

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        return super().device if self._names else self._like.device

    def sknk_kernel(self) -> Kernel:
        """Return the sknk kernel with the current hyperparameters.

        Returns
        -------
        Kernel
            A copy, of the type this kernel was made from.

        Raises
        ------
        ValueError
            If there is more than one: index a batch of kernels first.
        """
        if self.batch_shape:
            raise ValueError(
                f"A batch of kernels, batch_shape={tuple(self.batch_shape)}, has no single sknk "
                "kernel; index it first: `kernel[0].sknk_kernel()`."
            )
        return self._kernel_at([getattr(self, name) for name in self._names])

    def _kernel_at(self, values: Sequence[Tensor]) -> Kernel:
        if not values:
            return self._kernel
        arrays = [value.detach().cpu().double().numpy() for value in values]
        params = {
            name: array if array.ndim else float(array)
            for name, array in zip(self._names, arrays, strict=True)
        }
        return self._kernel.clone_with_params(params)

    def forward(
        self,
        x1: Tensor,
        x2: Tensor,
        diag: bool = False,
        last_dim_is_batch: bool = False,
        **params: Any,
    ) -> Tensor:
        """Return the Gram matrices, or the kernel of row i with row i.

        Parameters
        ----------
        x1, x2 : Tensor of shape (..., n, d) and (..., m, d)
            Rows; computed in the dtypes that sknk is configured to.
        diag : bool, default=False
            Only K(x1_i, x2_i), O(n) where the rows are equal.
        last_dim_is_batch : bool, default=False
            Every feature is a table of its own.
        **params : dict
            Ignored.

        Returns
        -------
        Tensor of shape (..., n, m), or (..., n) for `diag`
            In the dtype of `x1`; differentiable once in the rows and the hyperparameters.
        """
        symmetric = x1 is x2 or _equal_constants(x1, x2)
        evaluate: Callable[[Kernel, Values, Tensor, Tensor], Tensor] = _pairs if diag else _gram
        own_batch = self.batch_shape
        if last_dim_is_batch:
            x1, x2 = x1.mT.unsqueeze(-1), x2.mT.unsqueeze(-1)
            own_batch = torch.Size([*own_batch, 1])
        batch = torch.broadcast_shapes(x1.shape[:-2], x2.shape[:-2], own_batch)
        members = self._members()
        owners = torch.arange(len(members)).reshape(own_batch).expand(batch).flatten().tolist()
        xs, ys = (x.expand(*batch, *x.shape[-2:]).reshape(-1, *x.shape[-2:]) for x in (x1, x2))
        found = []
        for owner, x, y in zip(owners, xs, ys, strict=True):
            kernel, values = members[owner]
            found.append(evaluate(kernel, values, x, x if symmetric else y))
        tail = (x1.shape[-2],) if diag else (x1.shape[-2], x2.shape[-2])
        if len(found) == 1:
            return found[0].reshape(*batch, *tail)
        return torch.stack(found).reshape(*batch, *tail) if found else x1.new_empty(*batch, *tail)

    def _members(self) -> list[tuple[Kernel, Values]]:
        """Return (kernel, free values) of every member of the batch, in row-major order."""
        batch_dims = len(self.batch_shape)
        flat = []
        for name in self._names:
            value = getattr(self, name)
            flat.append(value.reshape(-1, *value.shape[batch_dims:]))
        found: list[tuple[Kernel, Values]] = []
        for index in range(math.prod(self.batch_shape)):
            values = [value[index] for value in flat]
            found.append((self._kernel_at(values), dict(zip(self._names, values, strict=True))))
        return found

    def __getitem__(self, index: Any) -> "GPyTorchKernel":
        """Return the members of a batch of kernels that an index selects, as copies."""
        if not self.batch_shape:
            return self
        return self._copies(self._positions()[index])

    def expand_batch(self, *sizes: Any) -> "GPyTorchKernel":
        """Return a copy with a larger batch shape.

        Parameters
        ----------
        *sizes : int or torch.Size
            What the present batch shape broadcasts to.

        Returns
        -------
        GPyTorchKernel
        """
        shape = torch.Size(sizes[0] if len(sizes) == 1 and not isinstance(sizes[0], int) else sizes)
        return self if shape == self.batch_shape else self._copies(self._positions().expand(shape))

    def _positions(self) -> Tensor:
        return torch.arange(math.prod(self.batch_shape)).reshape(self.batch_shape)

    def _copies(self, positions: Tensor) -> "GPyTorchKernel":
        # gpytorch's own code would index and expand the buffer `active_dims` as well.
        new, batch_dims = deepcopy(self), len(self.batch_shape)
        for parameter in new._parameters.values():
            flat = parameter.data.reshape(-1, *parameter.shape[batch_dims:])
            parameter.data = flat[positions.to(flat.device)]
        new.batch_shape = positions.shape
        return new


def _equal_constants(x: Tensor, y: Tensor) -> bool:
    """Whether a symmetric call serves: equal rows, and no gradient to tell x from y."""
    moving = torch.is_grad_enabled() and (x.requires_grad or y.requires_grad)
    return not moving and x.shape == y.shape and torch.equal(x, y)


def _gram(kernel: Kernel, values: Values, x: Tensor, y: Tensor) -> Tensor:
    """Return K(x, y), (n, m); y being x makes a symmetric call."""
    with _config.config_context(device=str(x.device)):
        return _Gram.apply(kernel, x, None if y is x else y, *values.values()).to(x.dtype)


def _pairs(kernel: Kernel, values: Values, x: Tensor, y: Tensor) -> Tensor:
    """Return K(x_i, y_i), (n,): the exact diagonal, or diagonals of small Gram matrices."""
    if not torch.equal(x, y):
        parts = [_gram(kernel, values, x[s], y[s]).diagonal() for s in spans(len(x), _PAIR_ROWS)]
        return torch.cat(parts)
    # By symmetry either argument receives half the derivative of K(x, x).
    rows = ((x + y) / 2).to(row_dtype(x.device))
    known = kernel._values(x.device)
    known.update((name, value.to(known[name])) for name, value in values.items())
    kernel._check_parameters(rows.shape[1])
    return kernel._diag(rows, known).to(x.dtype)
