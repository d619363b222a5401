"""What the kernels of fully connected networks share: parameters in, one recursion out."""

from collections.abc import Iterator, Mapping, Sequence
from numbers import Integral, Real
from typing import Any, Literal

import numpy as np
import torch
from sklearn.gaussian_process.kernels import Hyperparameter
from torch import Tensor

from sknk.kernels._activation import Activation, as_activation
from sknk.kernels._base import Candidate, Kernel
from sknk.kernels._recursion import Output, Recursion, Rows, diagonals, known_constants, run

__all__ = ["Flat", "check_integer"]


class Flat(Kernel):
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
        check_integer(name, "depth", self.depth, 0, "hidden layers")
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
        scale2 = values["input_scale"].square().mean()
        w, b, s = (float(v) for v in (like, values["bias_var"], scale2))
        return like.new_tensor(known_constants(recursion, w, b, s))

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
        (K,) = self._diagonals(x, values, output)
        return K / self._constants(x.shape[1], values, output)[0]

    def _diagonals(self, x: Tensor, values: Mapping[str, Tensor], *outputs: Output) -> list[Tensor]:
        var = (x * values["input_scale"]).square().sum(1, keepdim=True) / x.shape[1]
        return [K[:, 0] for K in diagonals(self._recursion(x.shape[1], *outputs), var, values)]

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


def check_integer(kernel: str, name: str, value: Any, least: int, unit: str) -> None:
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"`{name}` of {kernel} is {value!r}; expected an integer.")
    if int(value) < least:
        raise ValueError(f"`{name}` of {kernel} is {value}; expected {least} or more {unit}.")


def _same_but_depth(
    kernel: Flat, candidates: Sequence[Candidate]
) -> list[list[tuple[int, Flat, Output]]]:
    """Group candidates that one recursion serves: equal but for depth, tangents or none."""
    groups: dict[Any, list[tuple[int, Flat, Output]]] = {}
    for index, params in enumerate(candidates):
        member = kernel.clone_with_params(params)
        kind: Literal["nngp", "ntk"] = "nngp" if member._is_nngp() else "ntk"
        # A network whose tangents nobody reads may share any other's recursion.
        fixed = 0 if kind == "nngp" else member._fixed_depth()
        rest = {**member.get_params(deep=False), "depth": None, "fixed_depth": fixed}
        key = as_activation(rest.pop("activation")), repr(rest)
        groups.setdefault(key, []).append((index, member, (member.depth, kind)))
    return list(groups.values())
