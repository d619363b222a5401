"""NTK and NNGP of fully connected networks: the flat kernels for tables."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from numbers import Integral, Real
from typing import Any, Literal

import numpy as np
import torch
from sklearn.gaussian_process.kernels import Hyperparameter
from torch import Tensor

from sknk.kernels._activation import Activation
from sknk.kernels._base import Candidate, Kernel
from sknk.kernels._dual import as_activation
from sknk.kernels._recursion import Output, Recursion, Rows, diagonals, known_constants, run

__all__ = ["NNGP", "NTK"]


class _Flat(Kernel):
    """What NTK and NNGP share: their parameters reach one :class:`Recursion`."""

    _value_names = ("weight_var", "bias_var", "input_scale")
    _kind: Literal["nngp", "ntk"]

    depth: int
    activation: str | Activation
    weight_var: float
    bias_var: float
    normalize: bool
    input_scale: Any
    weight_var_bounds: Any
    bias_var_bounds: Any
    input_scale_bounds: Any

    @property
    def hyperparameter_weight_var(self) -> Hyperparameter:
        """Weight variance; a zero has no logarithm and is fixed."""
        return self._hyperparameter("weight_var")

    @property
    def hyperparameter_bias_var(self) -> Hyperparameter:
        """Bias variance; a zero has no logarithm and is fixed."""
        return self._hyperparameter("bias_var")

    @property
    def hyperparameter_input_scale(self) -> Hyperparameter:
        """Input scale, one number or one per feature; with a zero it is fixed."""
        return self._hyperparameter("input_scale")

    def _hyperparameter(self, name: str) -> Hyperparameter:
        value = np.asarray(getattr(self, name), dtype=np.float64)
        bounds = getattr(self, f"{name}_bounds") if value.all() else "fixed"
        return Hyperparameter(name, "numeric", bounds, max(value.size, 1) if value.ndim else 1)

    def _fixed_depth(self) -> int:
        return 0

    def _is_nngp(self) -> bool:
        return True

    def _fan_ins(self, n_features: int) -> tuple[int, int] | None:
        return None

    def _check_parameters(self, n_features: int) -> None:
        name = type(self).__name__
        _check_integer(name, "depth", self.depth, 0, "hidden layers")
        for parameter in ("weight_var", "bias_var"):
            value = getattr(self, parameter)
            if not isinstance(value, Real):
                raise TypeError(f"`{parameter}` of {name} is {value!r}; expected a number.")
            if not 0 <= float(value) < np.inf:
                raise ValueError(
                    f"`{parameter}` of {name} is {value!r}; expected a finite, non-negative number."
                )
        if self.weight_var == 0:
            raise ValueError(f"`weight_var` of {name} is 0, which makes every row equal; raise it.")
        scale = np.asarray(self.input_scale, dtype=np.float64)
        if scale.ndim > 1 or (scale.ndim == 1 and scale.size != n_features):
            raise ValueError(
                f"`input_scale` of {name} has shape {scale.shape}; expected a number or "
                f"({n_features},), one per feature."
            )
        if not (np.isfinite(scale).all() and (scale >= 0).all()):
            raise ValueError(f"`input_scale` of {name} is {self.input_scale!r}; expected >= 0.")

    def _recursion(self, n_features: int, *outputs: Output) -> Recursion:
        return Recursion(
            as_activation(self.activation),
            bool(self.bias_var),
            self._fixed_depth(),
            self._fan_ins(n_features),
            outputs,
        )

    def _constants(self, n_features: int, values: Mapping[str, Tensor], *outputs: Output) -> Tensor:
        """Return the kernels' values at the row of ones, whose squared norm is d, (outputs,)."""
        like = values["weight_var"]
        if not self.normalize:
            return like.new_ones(len(outputs))
        recursion = self._recursion(n_features, *outputs)
        if torch.is_grad_enabled():
            var = values["input_scale"].square().mean().reshape(1, 1)
            return torch.cat([K.reshape(1) for K in diagonals(recursion, var, values)])
        scale2 = float(np.mean(np.square(self.input_scale)))
        return like.new_tensor(
            known_constants(recursion, float(self.weight_var), float(self.bias_var), scale2)
        )

    def _prepare(self, x: Tensor, values: Mapping[str, Tensor]) -> Rows:
        return self._prepared(x, values, (self.depth, self._kind))

    def _prepared(self, x: Tensor, values: Mapping[str, Tensor], *outputs: Output) -> Rows:
        recursion = self._recursion(x.shape[1], *outputs)
        constants = self._constants(x.shape[1], values, *outputs) if self.normalize else None
        dtype = recursion.activation.dtype(self._dtype(), x.dtype)
        return Rows.of(x * values["input_scale"], recursion, values, constants, dtype)

    def _tile(self, rx: Rows, ry: Rows, values: Mapping[str, Tensor]) -> Tensor:
        (K,) = self._outputs(rx, ry, values)
        return K

    def _outputs(self, rx: Rows, ry: Rows, values: Mapping[str, Tensor]) -> list[Tensor]:
        return [K.to(self._dtype()) for K in run(rx, ry, values)]

    def _diag(self, x: Tensor, values: Mapping[str, Tensor]) -> Tensor:
        output = (self.depth, self._kind)
        scaled = x * values["input_scale"]
        var = scaled.square().sum(1, keepdim=True) / x.shape[1]
        (K,) = diagonals(self._recursion(x.shape[1], output), var, values)
        return K[:, 0] / self._constants(x.shape[1], values, output)[0]

    def _gram_path(
        self, X: Any, Y: Any, candidates: Sequence[Candidate]
    ) -> Iterator[tuple[int, Any]]:
        x, _ = self._rows(X, Y)
        for group in _same_but_depth(self, candidates):
            for _, member, _ in group:
                member._check_parameters(x.shape[1])
            size = self._grams_at_once(X, Y)
            for start in range(0, len(group), size):
                part = group[start : start + size]
                outputs = tuple(output for _, _, output in part)
                # Whoever wants tangents says which layers are trained.
                lead = next((m for _, m, (_, kind) in part if kind == "ntk"), part[0][1])
                for (index, _, _), K in zip(part, lead._multiple(X, Y, *outputs), strict=True):
                    yield index, K

    def _multiple(self, X: Any, Y: Any, *outputs: Output) -> list[Any]:
        """Return several kernels of one recursion, each divided by its own constant."""
        return self._grams(
            X,
            Y,
            self._outputs,
            prepare=lambda x, values: self._prepared(x, values, *outputs),
            n_outputs=len(outputs),
        )


def _check_integer(kernel: str, name: str, value: Any, least: int, unit: str) -> None:
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"`{name}` of {kernel} is {value!r}; expected an integer.")
    if int(value) < least:
        raise ValueError(f"`{name}` of {kernel} is {value}; expected {least} or more {unit}.")


def _same_but_depth(
    kernel: _Flat, candidates: Sequence[Candidate]
) -> list[list[tuple[int, _Flat, Output]]]:
    """Group candidates that one recursion serves: equal but for depth, tangents or none."""
    groups: dict[Any, list[tuple[int, _Flat, Output]]] = {}
    for index, params in enumerate(candidates):
        member = kernel.clone_with_params(params)
        kind: Literal["nngp", "ntk"] = "nngp" if member._is_nngp() else "ntk"
        # A network whose tangents nobody reads may share any other's recursion.
        fixed = 0 if kind == "nngp" else member._fixed_depth()
        rest = {**member.get_params(deep=False), "depth": None, "fixed_depth": fixed}
        key = as_activation(rest.pop("activation")), repr(rest)
        groups.setdefault(key, []).append((index, member, (member.depth, kind)))
    return list(groups.values())


class NTK(_Flat):
    r"""Neural tangent kernel of a fully connected network of infinite width.

    With w = `weight_var`, b = `bias_var`, L = `depth` and (tau, tau') the activation's duals,

    .. math::
        \Sigma^0 = w\,x^\top x'/d + b, \quad
        \Sigma^{l} = w\,\tau(\Sigma^{l-1}) + b, \quad
        \Theta^0 = \Sigma^0, \quad
        \Theta^{l} = \Sigma^{l} + w\,\tau'(\Sigma^{l-1})\,\Theta^{l-1}

    and K = Theta^L (Jacot et al. 2018, theorem 1; Lee et al. 2019). Entries cost O(d + L) each; a
    Gram matrix 8 n^2 bytes and one triangle of tiles.

    Parameters
    ----------
    depth : int, default=3
        Hidden layers; 0 is the linear kernel.
    activation : str or Activation, default="relu"
        "relu", "leaky_relu", "abrelu", "abs", "erf", "gelu", "sin", "rbf", or an instance such as
        ``LeakyReLU(0.3)``.
    weight_var : float, default=2.0
        Weight variance (neural-tangents' ``W_std`` squared), dimensionless.
    bias_var : float, default=0.0
        Bias variance (``b_std`` squared), dimensionless; 0 means no biases.
    fixed_depth : int, default=0
        The first `fixed_depth` weight layers stay at their initial values; `depth` trains the last
        layer only, which is the NNGP kernel in the NTK parametrization (Arora et al. 2020).
    parametrization : {"ntk", "standard"}, default="ntk"
        Of the trained layers.
    width : int, default=512
        Hidden width in the standard parametrization; the NTK one has none.
    normalize : bool, default=True
        Divide by the kernel's value at the row of ones (squared norm d), so that standardized
        features give a mean diagonal near 1 at every depth.
    input_scale : float or array-like of shape (d,), default=1.0
        Factor of the features, in inverse units of x; one per feature for ARD.
    weight_var_bounds, bias_var_bounds, input_scale_bounds : "fixed" or pair of float
        Bounds of the hyperparameters in scikit-learn's optimizers; a zero value is fixed.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.svm import SVC
    >>> from sknk.kernels import NTK
    >>> X, y = load_iris(return_X_y=True)
    >>> SVC(kernel=NTK(depth=2)).fit(X, y).score(X, y) > 0.95
    True
    """

    _kind = "ntk"

    def __init__(
        self,
        depth: int = 3,
        activation: str | Activation = "relu",
        weight_var: float = 2.0,
        bias_var: float = 0.0,
        fixed_depth: int = 0,
        parametrization: str = "ntk",
        width: int = 512,
        normalize: bool = True,
        input_scale: Any = 1.0,
        weight_var_bounds: Any = "fixed",
        bias_var_bounds: Any = (1e-5, 1e5),
        input_scale_bounds: Any = "fixed",
    ) -> None:
        self.depth = depth
        self.activation = activation
        self.weight_var = weight_var
        self.bias_var = bias_var
        self.fixed_depth = fixed_depth
        self.parametrization = parametrization
        self.width = width
        self.normalize = normalize
        self.input_scale = input_scale
        self.weight_var_bounds = weight_var_bounds
        self.bias_var_bounds = bias_var_bounds
        self.input_scale_bounds = input_scale_bounds

    def joint(self, X: Any, Y: Any = None) -> tuple[Any, Any]:
        """Return the NNGP and NTK Gram matrices of one network, on one scale.

        Both are divided by this kernel's own normalizing constant, as the posterior of an infinite
        ensemble needs them (Lee et al. 2019, eq. 16).

        Parameters
        ----------
        X, Y : array-like of shape (n, d) and (m, d)
            Rows; Y None means X.

        Returns
        -------
        nngp, ntk : ndarray or Tensor of shape (n, m)
            Tensors for tensors.

        Examples
        --------
        >>> from sknk.kernels import NTK
        >>> nngp, ntk = NTK(depth=1, normalize=False).joint([[1.0]])
        >>> round(nngp.item(), 12), round(ntk.item(), 12)
        (2.0, 4.0)
        """
        outputs: tuple[Output, ...] = ((self.depth, "nngp"), (self.depth, "ntk"))

        def prepare(x: Tensor, values: Mapping[str, Tensor]) -> Rows:
            rows = self._prepared(x, values, *outputs)
            shared = None if rows.gains is None else rows.gains[1:].expand(2)
            return replace(rows, gains=shared)

        nngp, ntk = self._grams(X, Y, self._outputs, prepare=prepare, n_outputs=2)
        return nngp, ntk

    def _fixed_depth(self) -> int:
        return int(self.fixed_depth)

    def _is_nngp(self) -> bool:
        # In the standard parametrization the last layer's own tangents are not the covariance.
        return self.fixed_depth >= self.depth and self.parametrization == "ntk"

    def _fan_ins(self, n_features: int) -> tuple[int, int] | None:
        return (n_features, int(self.width)) if self.parametrization == "standard" else None

    def _check_parameters(self, n_features: int) -> None:
        super()._check_parameters(n_features)
        _check_integer("NTK", "fixed_depth", self.fixed_depth, 0, "untrained weight layers")
        _check_integer("NTK", "width", self.width, 1, "hidden units")
        if self.fixed_depth > self.depth:
            raise ValueError(
                f"`fixed_depth` of NTK is {self.fixed_depth!r}; expected 0 to `depth`={self.depth} "
                "(one weight layer must stay trained)."
            )
        if self.parametrization not in ("ntk", "standard"):
            raise ValueError(
                f"`parametrization` of NTK is {self.parametrization!r}; expected 'ntk' or "
                "'standard'."
            )


class NNGP(_Flat):
    r"""Covariance of an untrained fully connected network of infinite width (Lee et al. 2018).

    The recursion of :class:`NTK` without tangents: K = Sigma^L.

    Parameters
    ----------
    depth : int, default=3
        Hidden layers; 0 is the linear kernel.
    activation : str or Activation, default="relu"
        As in :class:`NTK`.
    weight_var : float, default=2.0
        Weight variance, dimensionless.
    bias_var : float, default=0.0
        Bias variance, dimensionless; 0 means no biases.
    normalize : bool, default=True
        Divide by the kernel's value at the row of ones.
    input_scale : float or array-like of shape (d,), default=1.0
        Factor of the features, in inverse units of x; one per feature for ARD.
    weight_var_bounds, bias_var_bounds, input_scale_bounds : "fixed" or pair of float
        Bounds of the hyperparameters in scikit-learn's optimizers; a zero value is fixed.

    Examples
    --------
    >>> from sknk.kernels import NNGP, NTK
    >>> X = [[0.0, 1.0], [2.0, -1.0]]
    >>> (abs(NNGP(depth=2)(X) - NTK(depth=2, fixed_depth=2)(X)) < 1e-15).all().item()
    True
    """

    _kind = "nngp"

    def __init__(
        self,
        depth: int = 3,
        activation: str | Activation = "relu",
        weight_var: float = 2.0,
        bias_var: float = 0.0,
        normalize: bool = True,
        input_scale: Any = 1.0,
        weight_var_bounds: Any = "fixed",
        bias_var_bounds: Any = (1e-5, 1e5),
        input_scale_bounds: Any = "fixed",
    ) -> None:
        self.depth = depth
        self.activation = activation
        self.weight_var = weight_var
        self.bias_var = bias_var
        self.normalize = normalize
        self.input_scale = input_scale
        self.weight_var_bounds = weight_var_bounds
        self.bias_var_bounds = bias_var_bounds
        self.input_scale_bounds = input_scale_bounds

    def _fixed_depth(self) -> int:
        return self.depth + 1
