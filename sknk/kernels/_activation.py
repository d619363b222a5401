"""What an activation is to a kernel: a pair of dual functions.

For centred Gaussians (u, v) with variances q1, q2 and covariance q, phi has the duals
E[phi(u) phi(v)] and E[phi'(u) phi'(v)] (Cho & Saul 2009; Jacot et al. 2018; Han et al. 2022).
"""

from abc import abstractmethod
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from sknk.kernels._layer import Function, Layer, Values
from sknk.kernels._state import Features, KernelState, reusable

__all__ = ["Activation", "SmoothActivation", "as_activation", "named_activations"]

_NAMED: dict[str, type["Activation"]] = {}


class Activation(Layer):
    """An activation layer: ``nngp <- E[phi phi]``, ``ntk <- E[phi' phi'] ntk``.

    ``class Softsign(Activation, name="softsign")`` makes it ``NTK(activation="softsign")``. Set
    ``compilable = False`` where torch.compile cannot help; such kernels run eagerly. Set
    ``homogeneous = True`` where phi(c x) = c phi(x) for all c > 0; diagonals are then written down.
    """

    compilable: ClassVar[bool] = True
    homogeneous: ClassVar[bool] = False

    def __init_subclass__(cls, *, name: str | None = None, **kwargs: Any) -> None:
        """Enter the class under the name that kernels know it by."""
        super().__init_subclass__(**kwargs)
        if name is not None:
            _NAMED[name] = cls

    @property
    def needs_angles(self) -> bool:
        """Return True, the safe answer."""
        return True

    @abstractmethod
    def __call__(self, x: Tensor) -> Tensor:
        """Return phi(x), elementwise."""

    @abstractmethod
    def second_moment(self, var: Tensor) -> Tensor:
        """Return E[phi(u)^2] for u of these variances."""

    def gaussian(self, before: bool) -> bool:
        """Return False, and refuse features that are not Gaussian.

        Parameters
        ----------
        before : bool
            Whether they are.

        Returns
        -------
        bool

        Raises
        ------
        ValueError
            If no weight layer makes the features Gaussian.
        """
        if not before:
            raise ValueError(
                f"{self!r} follows features that are not Gaussian (inputs, an activation, dropout "
                "or a product), where its duals do not hold. Put Dense() or Conv2d() before it."
            )
        return False

    def fresh(self, before: bool) -> bool:
        """Return False."""
        return False

    def rows(self, itself: KernelState, values: Values) -> Features:
        """Return the variance of every row after this layer."""
        return Features.of(self.second_moment(itself.x.var))

    def finite(self, example: Tensor, width: int, generator: torch.Generator) -> nn.Module:
        """Return phi itself, which has no weights."""
        return Function(self)


class SmoothActivation(Activation):
    """An activation whose duals are formulas in (q1, q, q2)."""

    def dtype(self, wanted: torch.dtype, rows: torch.dtype) -> torch.dtype:
        """Return the rows' dtype: covariances of long rows cancel in these formulas."""
        return rows

    @abstractmethod
    def dual(self, q1: Tensor, q: Tensor, q2: Tensor) -> Tensor:
        """Return E[phi(u) phi(v)], broadcast over the arguments."""

    @abstractmethod
    def dual_dot(self, q1: Tensor, q: Tensor, q2: Tensor) -> Tensor:
        """Return E[phi'(u) phi'(v)], broadcast over the arguments."""

    def second_moment(self, var: Tensor) -> Tensor:
        """Return the dual at coincidence."""
        return self.dual(var, var, var)

    def propagate(
        self, state: KernelState, x: Features, y: Features, values: Values
    ) -> KernelState:
        """Apply the duals to covariances and tangents."""
        state = state.covariance()
        assert state.cov is not None
        q1, q, q2 = state.x.var, state.cov, state.y.var
        ntk = state.ntk
        if ntk is not None:
            ntk = torch.mul(ntk, self.dual_dot(q1, q, q2), out=reusable(ntk))
        return replace(state, x=x, y=y, cov=self.dual(q1, q, q2), ntk=ntk)


def named_activations() -> dict[str, type[Activation]]:
    """Return the classes by the names that kernels know them by."""
    return dict(_NAMED)


def as_activation(activation: str | Activation) -> Activation:
    """Return the activation a parameter names.

    Parameters
    ----------
    activation : str or Activation
        A name stands for the class with its default parameters.

    Returns
    -------
    Activation

    Raises
    ------
    ValueError
        For an unknown name.
    TypeError
        For neither a name nor an activation.
    """
    if isinstance(activation, Activation):
        return activation
    if not isinstance(activation, str):
        raise TypeError(
            f"`activation` is {activation!r}; expected a name or an activation such as ReLU()."
        )
    if activation not in _NAMED:
        raise ValueError(f"`activation` is {activation!r}; expected one of {sorted(_NAMED)}.")
    return _NAMED[activation]()
