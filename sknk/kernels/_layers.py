"""Layers that treat every row, or every pixel, on its own: Dense, LayerNorm, Dropout, Identity."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from sknk.kernels._affine import Affine
from sknk.kernels._checks import check_number, check_variances
from sknk.kernels._layer import Function, Layer, Values
from sknk.kernels._state import Features, KernelState, reusable

__all__ = ["Dense", "Dropout", "Identity", "LayerNorm"]


@dataclass(frozen=True, repr=False)
class Dense(Layer):
    r"""Fully connected layer; on images the same one at every pixel.

    .. math::
        \Sigma \leftarrow w\,\Sigma + b, \qquad \Theta \leftarrow \Sigma_{\text{new}} + w\,\Theta

    (Jacot et al. 2018; Lee et al. 2019). O(1) a pair.

    Parameters
    ----------
    weight_var : float, default=2.0
        w, dimensionless: weights are drawn from N(0, w / fan-in).
    bias_var : float, default=0.0
        b, dimensionless; 0 means no biases.
    trained : bool, default=True
        Whether the layer's parameters contribute tangents.
    fan_in : int or None, default=None
        Width of the layer before: chooses the standard parametrization, where a trained layer
        adds ``fan_in Sigma_old + [1 if b > 0]`` instead of ``Sigma_new`` (Sohl-Dickstein et al.
        2020); None is the NTK parametrization.
    weight_var_bounds, bias_var_bounds : "fixed" or pair of float
        Bounds in scikit-learn's optimizers; a zero is fixed.

    Raises
    ------
    ValueError
        For variances that are negative, infinite or, of weights, zero.

    Examples
    --------
    >>> from sknk.kernels import NTK, Dense, NetworkKernel, ReLU
    >>> kernel = NetworkKernel(Dense() >> ReLU() >> Dense())
    >>> (kernel([[0.0, 1.0], [2.0, 1.0]]) == NTK(depth=1)([[0.0, 1.0], [2.0, 1.0]])).all().item()
    True
    """

    weight_var: float = 2.0
    bias_var: float = 0.0
    trained: bool = True
    fan_in: int | None = None
    weight_var_bounds: Any = "fixed"
    bias_var_bounds: Any = (1e-5, 1e5)

    _value_names: ClassVar[tuple[str, ...]] = ("weight_var", "bias_var")

    def __post_init__(self) -> None:
        """Refuse variances that no layer has."""
        check_variances(self)

    @property
    def _affine(self) -> Affine:
        return Affine(bool(self.bias_var), self.trained, self.fan_in)

    def gaussian(self, before: bool) -> bool:
        """Return True: sums of many independent terms."""
        return True

    def fresh(self, before: bool) -> bool:
        """Return True: weights of its own."""
        return True

    def rows(self, itself: KernelState, values: Values) -> Features:
        """Return w var + b."""
        return self._affine.rows(itself.x, values)

    def propagate(
        self, state: KernelState, x: Features, y: Features, values: Values
    ) -> KernelState:
        """Scale and shift covariances, add the layer's own tangents."""
        return self._affine.propagate(state, x, y, values)

    def untrained(self) -> Self:
        """Return the layer with its weights kept."""
        return replace(self, trained=False)

    def finite(self, example: Tensor, width: int, generator: torch.Generator) -> nn.Module:
        """Return sqrt(w / fan-in) W x + sqrt(b) beta."""
        channels = example.shape[1]
        weights = normal((width, channels), example, generator)
        biases = normal((width,), example, generator)
        w, b = math.sqrt(self.weight_var / channels), math.sqrt(self.bias_var)

        def forward(x: Tensor, weights: Tensor, biases: Tensor) -> Tensor:
            shift = b * biases.reshape(-1, *[1] * (x.ndim - 2))
            return w * torch.einsum("oc,nc...->no...", weights, x) + shift

        return trainable(self, forward, weights, biases)


@dataclass(frozen=True, repr=False)
class LayerNorm(Layer):
    r"""Layer normalization: every row, or every pixel, is divided by the norm of its features.

    .. math::
        \Sigma \leftarrow \Sigma / \sqrt{(q_1 + \epsilon)(q_2 + \epsilon)}, \qquad
        \Theta \leftarrow \Theta / \sqrt{(q_1 + \epsilon)(q_2 + \epsilon)}

    Subtracting the mean changes nothing in the limit where features are centred, as after a weight
    layer; elsewhere this is root mean square normalization. There are no gains and shifts.

    Parameters
    ----------
    epsilon : float, default=1e-12
        Added to variances, in their units.

    Examples
    --------
    >>> from sknk.kernels import Dense, LayerNorm, NetworkKernel, ReLU
    >>> network = Dense() >> LayerNorm() >> ReLU() >> Dense()
    >>> NetworkKernel(network, output="nngp").diag([[0.1], [5.0]]).round(6)
    array([1., 1.])
    """

    epsilon: float = 1e-12

    def __post_init__(self) -> None:
        """Refuse a negative epsilon."""
        check_number(self, "epsilon", self.epsilon, least=0.0)

    def rows(self, itself: KernelState, values: Values) -> Features:
        """Return q / (q + epsilon): one, but for zero rows."""
        return Features.of(itself.x.var * self._gain(itself.x) ** 2)

    def propagate(
        self, state: KernelState, x: Features, y: Features, values: Values
    ) -> KernelState:
        """Divide by the norms; angles stay."""
        gains = self._gain(state.x), self._gain(state.y)

        def scaled(pairs: Tensor | None) -> Tensor | None:
            if pairs is None:
                return None
            pairs = torch.mul(pairs, gains[0], out=reusable(pairs))
            return torch.mul(pairs, gains[1], out=reusable(pairs))

        return replace(state, x=x, y=y, cov=scaled(state.cov), ntk=scaled(state.ntk))

    def _gain(self, features: Features) -> Tensor:
        var = features.var + self.epsilon
        return torch.where(var > 0, torch.where(var > 0, var, 1.0).rsqrt(), 0.0)

    def finite(self, example: Tensor, width: int, generator: torch.Generator) -> nn.Module:
        """Return x / sqrt(mean x^2 + epsilon)."""
        return Function(lambda x: x / (x.square().mean(1, keepdim=True) + self.epsilon).sqrt())


@dataclass(frozen=True, repr=False)
class Dropout(Layer):
    r"""Dropout: a feature is dropped with probability p, the others grow by 1 / (1 - p).

    Different rows, and copies of a row, are dropped independently: their covariances stay, while
    those of a row with itself are divided by the keep probability. So this is the one layer for
    which K(X) differs from K(X, X.copy()): it adds a ridge. What it leaves is not Gaussian, so a
    weight layer comes next, not an activation.

    Parameters
    ----------
    p : float, default=0.5
        Probability of dropping, as in torch (neural-tangents' `rate` is 1 - p); dimensionless.

    Examples
    --------
    >>> from sknk.kernels import Dense, Dropout, NetworkKernel, ReLU
    >>> network = Dense() >> ReLU() >> Dropout(0.2) >> Dense()
    >>> NetworkKernel(network, output="nngp", normalize=False)([[1.0], [1.0]]).round(6)
    array([[2.5, 2. ],
           [2. , 2.5]])
    """

    p: float = 0.5

    def __post_init__(self) -> None:
        """Refuse what is no probability, and dropping everything.

        Raises
        ------
        ValueError
            Outside [0, 1).
        """
        check_number(self, "p", self.p, least=0.0)
        if self.p >= 1:
            raise ValueError(f"`p` of Dropout is {self.p!r}; expected a probability below 1.")

    def gaussian(self, before: bool) -> bool:
        """Return False: a mixture of what is kept and what is dropped."""
        return False

    def rows(self, itself: KernelState, values: Values) -> Features:
        """Return var / (1 - p)."""
        return Features.of(itself.x.var / (1.0 - self.p))

    def propagate(
        self, state: KernelState, x: Features, y: Features, values: Values
    ) -> KernelState:
        """Shrink the cosine of every pair but those of rows with themselves."""
        keep, mask = 1.0 - self.p, state.coincident()
        cov = None if state.cov is None else torch.where(mask, state.cov / keep, state.cov)
        ntk = None if state.ntk is None else torch.where(mask, state.ntk / keep, state.ntk)
        if state.sin2 is None:
            return replace(state, x=x, y=y, cov=cov, ntk=ntk)
        # cos <- keep cos, on half angles: a step towards the right angle, where both are 1/2.
        sin2 = torch.where(mask, state.sin2, keep * state.sin2 + self.p / 2.0)
        cos2 = state.cos2
        if cos2 is not None:
            cos2 = torch.where(mask, cos2, keep * cos2 + self.p / 2.0)
        return replace(state, x=x, y=y, sin2=sin2, cos2=cos2, ntk=ntk)

    def finite(self, example: Tensor, width: int, generator: torch.Generator) -> nn.Module:
        """Return x times a mask drawn anew at every call."""

        def forward(x: Tensor) -> Tensor:
            drawn = torch.rand(x.shape, generator=generator, dtype=x.dtype)
            return x * (drawn >= self.p).to(x) / (1.0 - self.p)

        return Function(forward)


@dataclass(frozen=True, repr=False)
class Identity(Layer):
    """The layer that changes nothing: the skip connection of a residual block.

    Examples
    --------
    >>> from sknk.kernels import Dense, Identity, ParallelSum, ReLU
    >>> ParallelSum((("skip", Identity()), ("branch", Dense() >> ReLU() >> Dense()))).children[0]
    ('skip', Identity())
    """

    def rows(self, itself: KernelState, values: Values) -> Features:
        """Return the rows as they are."""
        return itself.x

    def propagate(
        self, state: KernelState, x: Features, y: Features, values: Values
    ) -> KernelState:
        """Return the state as it is."""
        return state

    def finite(self, example: Tensor, width: int, generator: torch.Generator) -> nn.Module:
        """Return x."""
        return nn.Identity()


def normal(shape: tuple[int, ...], like: Tensor, generator: torch.Generator) -> Tensor:
    """Draw standard normal weights on the CPU, so that devices agree."""
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(like)


def trainable(layer: Any, forward: Callable[..., Tensor], *weights: Tensor) -> nn.Module:
    """Return a finite layer whose parameters require gradients where `layer` is trained."""
    return Function(forward, *weights).requires_grad_(layer.trained)
