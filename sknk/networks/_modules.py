"""Multilayer perceptrons in the parametrization of tangent kernels."""

import copy
import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

__all__ = ["PowerMLP", "TangentMLP"]

_ACTIVATIONS: dict[str, tuple[type[nn.Module], float, float, float]] = {
    # module, sigma_w, sigma_b and Adam's learning rate (Holzmueller et al. 2023, section 6)
    "relu": (nn.ReLU, 0.2, 0.2, 0.375),
    "silu": (nn.SiLU, 0.5, 1.0, 0.15),
}


class _Lifted(nn.Module):
    """x -> (weight x, bias), so that a weight matrix has the layer's bias as its last column."""

    def __init__(self, weight: float, bias: float) -> None:
        super().__init__()
        self.weight, self.bias = weight, bias

    def forward(self, x: Tensor) -> Tensor:
        one = torch.full_like(x[..., :1], self.bias)
        return torch.cat([x * self.weight, one], dim=-1)


class TangentMLP(nn.Module):
    r"""Dense layers whose weights are all N(0, 1), with the scale of a layer outside of them.

    .. math:: h_{l+1} = \phi\Big(\frac{\sigma_w}{\sqrt{d_l}} W_l h_l + \sigma_b b_l\Big),
        \qquad W_{ij} \sim N(0, 1), \quad b = 0

    so that one learning rate suits all layers, and the tangent kernel has a limit of infinite
    width (Jacot et al. 2018). Scales and learning rate are those that Holzmueller, Zaverkin,
    Kaestner and Steinwart (2023, section 6) chose for active learning on tables.

    Parameters
    ----------
    n_features : int
        d_0.
    n_outputs : int
        Of the last layer, which has no activation.
    hidden : sequence of int, default=(512, 512)
        Widths of hidden layers.
    activation : {"relu", "silu"}, default="relu"
        phi; sigma_w and sigma_b are 0.2 and 0.2, or 0.5 and 1.

    Attributes
    ----------
    learning_rate : float
        Of Adam, 0.375 or 0.15: what network estimators take for it.

    Raises
    ------
    ValueError
        For another activation.

    Examples
    --------
    >>> import torch
    >>> from sknk.networks import TangentMLP
    >>> TangentMLP(3, 1)(torch.zeros(5, 3)).shape
    torch.Size([5, 1])
    """

    def __init__(
        self,
        n_features: int,
        n_outputs: int,
        hidden: Sequence[int] = (512, 512),
        activation: str = "relu",
    ) -> None:
        if activation not in _ACTIVATIONS:
            raise ValueError(
                f"`activation` is {activation!r}; expected one of {', '.join(_ACTIVATIONS)}."
            )
        kind, sigma_w, sigma_b, learning_rate = _ACTIVATIONS[activation]
        layers: list[nn.Module] = []
        before = n_features
        for width in (*hidden, n_outputs):
            weight = nn.Linear(before + 1, width, bias=False)
            nn.init.normal_(weight.weight)
            nn.init.zeros_(weight.weight[:, -1].detach())
            layers += [_Lifted(sigma_w / before**0.5, sigma_b), weight, kind()]
            before = width
        super().__init__()
        self.layers = nn.Sequential(*layers[:-1])
        self.learning_rate = learning_rate

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs, (n, n_outputs)."""
        return self.layers(x)


class PowerMLP(nn.Module):
    r"""Dense layers with rectified powers, for rows of norm one, that start as the zero function.

    .. math:: h_{l+1} = \sqrt{\tfrac{2}{(2s - 1)!!}}\, \max(0, W_l h_l / \sqrt{d_l})^s, \qquad
        f(x) = \frac{a^\top h_L - a_0^\top h_L^{(0)}}{\sqrt{c\, d_L}}

    with weights N(0, 1), no division in the first layer, and the first weights' output
    :math:`a_0^\top h_L^{(0)}` taken off, and :math:`c = \sum_{l \le L} (s^2 / (2 s - 1))^l`, with
    which tangent kernels of unit rows are one in the limit of infinite width. s > 1 makes the
    function smooth, which theory of neural bandits asks for (Salgia 2023); of many layers, or few
    units, it has heavy tails.

    Parameters
    ----------
    n_features : int
        d_0.
    n_outputs : int, default=1
        Of the last layer.
    hidden : sequence of int, default=(100,)
        Widths d_1 to d_L.
    power : int, default=1
        s; 1 is the ReLU.

    Raises
    ------
    ValueError
        If the power is below one.

    Examples
    --------
    >>> import torch
    >>> from sknk.networks import PowerMLP
    >>> PowerMLP(3)(torch.ones(2, 3)).abs().max().item()
    0.0
    """

    learning_rate = 0.01

    def __init__(
        self, n_features: int, n_outputs: int = 1, hidden: Sequence[int] = (100,), power: int = 1
    ) -> None:
        if power < 1:
            raise ValueError(f"`power` is {power}; expected 1, the ReLU, or more.")
        super().__init__()
        self.power = power
        sizes = [n_features, *hidden, n_outputs]
        layers = [nn.Linear(a, b, bias=False) for a, b in pairwise(sizes)]
        for layer in layers:
            nn.init.normal_(layer.weight)
        self.layers = nn.ModuleList(layers)
        self.start = copy.deepcopy(self.layers).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs, (n, n_outputs)."""
        return self._outputs(self.layers, x) - self._outputs(self.start, x)

    def _outputs(self, layers: nn.ModuleList, x: Tensor) -> Tensor:
        s, depth = self.power, len(layers) - 1
        gain = math.sqrt(2.0 / math.prod(range(2 * s - 1, 0, -2)))
        limit = sum((s**2 / (2 * s - 1)) ** number for number in range(depth + 1))
        for number, layer in enumerate(layers):
            last = number == len(layers) - 1
            fan = (x.shape[-1] if number else 1) * (limit if last else 1.0)
            x = layer(x) / math.sqrt(fan)
            if not last:
                x = gain * x.clamp(min=0.0) ** self.power
        return x
