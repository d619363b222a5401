"""Layers side by side: sums (residual blocks), products (gates), concatenations."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add, mul
from typing import Self

import torch
from torch import Tensor, nn

from sknk.kernels._checks import check_named, check_number
from sknk.kernels._layer import Children, Layer, Values, values_of
from sknk.kernels._state import Features, KernelState

__all__ = ["ParallelConcat", "ParallelProduct", "ParallelSum"]


@dataclass(frozen=True, repr=False)
class Parallel(Layer):
    """Branches that read the same input, and one way to put them together.

    Parameters
    ----------
    branches : tuple of (name, Layer)
        Each ends with features of the same kind (rows, or images of one size).
    """

    branches: Children

    def __post_init__(self) -> None:
        """Refuse branches without a name, and names that mean two."""
        check_named(self, "branches", self.branches)

    @property
    def children(self) -> Children:
        """The branches."""
        return self.branches

    def with_children(self, children: Mapping[str, Layer]) -> Self:
        """Return this with other branches under the same names."""
        return replace(self, branches=tuple((name, children[name]) for name, _ in self.branches))

    @abstractmethod
    def _merged_var(self, variances: Sequence[Tensor]) -> Tensor:
        """Return the variance of merged rows."""

    @abstractmethod
    def _merged(self, states: Sequence[KernelState], x: Features, y: Features) -> KernelState:
        """Return the merged state."""

    @abstractmethod
    def _merge(self, outputs: Sequence[Tensor]) -> Tensor:
        """Return the merged features of finite branches (n, channels, ...)."""

    def gaussian(self, before: bool) -> bool:
        """Return whether all branches are."""
        found = [layer.gaussian(before) for _, layer in self.branches]  # each may refuse
        return all(found)

    def _check_independent(self) -> None:
        """Refuse branches whose features correlate: kernels would neither add nor multiply."""
        shared = [name for name, layer in self.branches if not layer.fresh(False)]
        if len(shared) > 1:
            raise ValueError(
                f"The branches {shared} of {type(self).__name__} end without weights of their own, "
                "so their features correlate. End all but one of them with Dense() or Conv2d()."
            )

    def fresh(self, before: bool) -> bool:
        """Return whether all branches are."""
        return all(layer.fresh(before) for _, layer in self.branches)

    def rows(self, itself: KernelState, values: Values) -> Features:
        """Return the merged rows, and those of every branch as parts."""
        parts = tuple(layer.rows(itself, values_of(name, values)) for name, layer in self.branches)
        if len({part.var.shape for part in parts}) > 1:
            raise ValueError(
                f"The branches of {type(self).__name__} end with features of shapes "
                f"{[tuple(part.var.shape) for part in parts]}; expected equal ones. Give them the "
                "same strides, paddings and pooling."
            )
        return Features.of(self._merged_var([part.var for part in parts]))._replace(parts=parts)

    def propagate(
        self, state: KernelState, x: Features, y: Features, values: Values
    ) -> KernelState:
        """Propagate a copy through every branch, then merge."""
        states = [
            layer.propagate(state.copied(), at_x, at_y, values_of(name, values))
            for (name, layer), at_x, at_y in zip(self.branches, x.parts, y.parts, strict=True)
        ]
        return self._merged(states, x, y)

    def finite(self, example: Tensor, width: int, generator: torch.Generator) -> nn.Module:
        """Return the branches and their merger."""
        branches = [layer.finite(example, width, generator) for _, layer in self.branches]
        return _Branches(branches, self._merge)


class ParallelSum(Parallel):
    """Branches that add up, as in residual networks: kernels add.

    Parameters
    ----------
    branches : tuple of (name, Layer)
        :class:`Identity` is the skip connection. All but one must end with weights of their own.

    Examples
    --------
    >>> from sknk.kernels import Dense, Identity, NetworkKernel, ParallelSum, ReLU
    >>> block = ParallelSum((("skip", Identity()), ("branch", ReLU() >> Dense())))
    >>> NetworkKernel(Dense() >> block >> Dense(), normalize=False)([[1.0]])
    array([[20.]])
    """

    def gaussian(self, before: bool) -> bool:
        """Return whether all branches are; they must be independent."""
        self._check_independent()
        return super().gaussian(before)

    def _merged_var(self, variances: Sequence[Tensor]) -> Tensor:
        return reduce(add, variances)

    def _merged(self, states: Sequence[KernelState], x: Features, y: Features) -> KernelState:
        return _weighted_sum(states, [1.0] * len(states), x, y)

    def _merge(self, outputs: Sequence[Tensor]) -> Tensor:
        return reduce(add, outputs)


@dataclass(frozen=True, repr=False)
class ParallelConcat(Parallel):
    """Branches whose features stand side by side: kernels are averaged, weighted by widths.

    Parameters
    ----------
    branches : tuple of (name, Layer)
        What is concatenated.
    widths : tuple of float or None, default=None
        Relative widths, dimensionless; None is equal ones.

    Examples
    --------
    >>> from sknk.kernels import Abs, Dense, NetworkKernel, ParallelConcat, ReLU
    >>> both = ParallelConcat((("relu", ReLU()), ("abs", Abs())), widths=(1.0, 3.0))
    >>> NetworkKernel(Dense() >> both >> Dense(), normalize=False, output="nngp")([[1.0]])
    array([[3.5]])
    """

    widths: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        """Refuse widths that do not fit the branches.

        Raises
        ------
        ValueError
            If there is not one positive width for every branch.
        """
        super().__post_init__()
        if self.widths is None:
            return
        for width in self.widths:
            check_number(self, "widths", width, least=0.0)
        if len(self.widths) != len(self.branches) or not all(self.widths):
            raise ValueError(
                f"`widths` of ParallelConcat is {self.widths!r}; expected {len(self.branches)} "
                "positive numbers, one a branch."
            )

    @property
    def _shares(self) -> list[float]:
        widths = self.widths or (1.0,) * len(self.branches)
        return [width / sum(widths) for width in widths]

    def _merged_var(self, variances: Sequence[Tensor]) -> Tensor:
        return reduce(add, [c * var for c, var in zip(self._shares, variances, strict=True)])

    def _merged(self, states: Sequence[KernelState], x: Features, y: Features) -> KernelState:
        return _weighted_sum(states, self._shares, x, y)

    def _merge(self, outputs: Sequence[Tensor]) -> Tensor:
        """Scale branches to the shares that wide ones would have."""
        total = sum(f.shape[1] for f in outputs)
        gains = [
            (c * total / f.shape[1]) ** 0.5 for c, f in zip(self._shares, outputs, strict=True)
        ]
        return torch.cat([g * f for g, f in zip(gains, outputs, strict=True)], dim=1)


class ParallelProduct(Parallel):
    r"""Branches that multiply, feature by feature (gates).

    .. math::
        \Sigma = \prod_i \Sigma_i, \qquad
        \Theta = \sum_i \Theta_i \prod_{j \neq i} \Sigma_j

    Parameters
    ----------
    branches : tuple of (name, Layer)
        The factors; each must end with a weight layer, so that they are independent.

    Examples
    --------
    >>> from sknk.kernels import Dense, NetworkKernel, ParallelProduct, ReLU
    >>> gate = ParallelProduct((("gate", Dense() >> ReLU() >> Dense()), ("linear", Dense())))
    >>> NetworkKernel(gate >> Dense(), output="nngp", normalize=False)([[1.0], [2.0]]).round(6)
    array([[  8.,  32.],
           [ 32., 128.]])
    """

    def gaussian(self, before: bool) -> bool:
        """Return False: products of Gaussians are none."""
        super().gaussian(before)
        self._check_independent()
        return False

    def _merged_var(self, variances: Sequence[Tensor]) -> Tensor:
        return reduce(mul, variances)

    def _merged(self, states: Sequence[KernelState], x: Features, y: Features) -> KernelState:
        tangents = [
            reduce(mul, [s.nngp for s in states if s is not state], state.ntk)
            for state in states
            if state.ntk is not None
        ]
        ntk = reduce(add, tangents) if tangents else None
        if any(state.sin2 is None for state in states):
            cov = reduce(mul, [state.nngp for state in states])
            return replace(states[0], x=x, y=y, sin2=None, cos2=None, cov=cov, ntk=ntk)
        sin2, cos2 = reduce(_product_of_cosines, map(_halves, states))
        return replace(states[0], x=x, y=y, sin2=sin2, cos2=cos2, ntk=ntk)

    def _merge(self, outputs: Sequence[Tensor]) -> Tensor:
        return reduce(mul, outputs)


class _Branches(nn.Module):
    def __init__(self, branches: Sequence[nn.Module], merge: Callable[..., Tensor]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)
        self._merge = merge

    def forward(self, x: Tensor) -> Tensor:
        return self._merge([branch(x) for branch in self.branches])


def _halves(state: KernelState) -> tuple[Tensor, Tensor]:
    """Return sin^2 and cos^2 of half the angles."""
    assert state.sin2 is not None
    return state.sin2, 1.0 - state.sin2 if state.cos2 is None else state.cos2


def _product_of_cosines(
    a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """Return the half angles whose cosine is the product of two: nothing cancels."""
    return a[0] * b[1] + a[1] * b[0], a[1] * b[1] + a[0] * b[0]


def _weighted_sum(
    states: Sequence[KernelState], shares: Sequence[float], x: Features, y: Features
) -> KernelState:
    """Add kernels: as distances, which do not cancel, where all pairs are held as angles."""
    weighted = list(zip(shares, states, strict=True))
    tangents = [c * state.ntk for c, state in weighted if state.ntk is not None]
    ntk = reduce(add, tangents) if tangents else None
    if any(state.sin2 is None for state in states):
        cov = reduce(add, [c * state.nngp for c, state in weighted])
        return replace(states[0], x=x, y=y, sin2=None, cos2=None, cov=cov, ntk=ntk)
    carried = any(state.cos2 is not None for state in states)
    sin2, cos2 = (
        _side_by_side(states, half, shares, x, y) if half else None
        for half in ([_halves(s)[0] for s in states], carried and [_halves(s)[1] for s in states])
    )
    return replace(states[0], x=x, y=y, sin2=sin2, cos2=cos2, ntk=ntk)


def _side_by_side(
    states: Sequence[KernelState],
    halves: Sequence[Tensor],
    shares: Sequence[float],
    x: Features,
    y: Features,
) -> Tensor:
    """Return half angles of stacked features, as in Conv2d: sum of p q u + (p - q)^2/4."""
    total = torch.zeros_like(halves[0])
    for share, state, half in zip(shares, states, halves, strict=True):
        p, q = (
            share**0.5 * part.norm / torch.where(whole.norm > 0, whole.norm, 1.0)
            for part, whole in ((state.x, x), (state.y, y))
        )
        total = total + p * q * half + (p - q).square() / 4.0
    return total
