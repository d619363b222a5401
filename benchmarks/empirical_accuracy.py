"""Errors of what stands for a tangent kernel: the pseudo-NTK by width, projections by features.

The pseudo-NTK stands for every block of the kernel Theta of all outputs (Mohamadi et al. 2023):
||Theta - pNTK x I||_F / ||Theta||_F of untrained ReLU networks in NTK parametrization, 10 outputs,
on 20 rows of the digits and on normal rows, without biases and with biases that start at zero.
"3-layer" may mean three weight matrices or three hidden layers; all readings stand beside the
published errors, the first of them is judged. Projections: ||Z Z' - K||_F / ||K||_F on 100 rows of
the digits, a 64 -> 32 -> 32 -> 10 network as torch initializes it, also over the error of features
that are normal given the gradients. Float64, one thread: nothing is timed.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from _common import bar, main, rounded
from sklearn.datasets import load_digits
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from sknk.kernels import EmpiricalNTK

OUTPUTS = 10
PUBLISHED = {32: 0.531, 128: 0.296, 512: 0.160, 2048: 0.071}
READINGS = {
    f"{hidden} hidden layers, {kind}, {rows}": (hidden, kind == "biases", rows)
    for hidden in (2, 3)
    for kind in ("no biases", "biases")
    for rows in ("digits", "normal rows")
}
JUDGED = "2 hidden layers, no biases, digits"  # three weight matrices
FEATURES = (64, 256, 1024, 4096)
SLOPE = 0.1  # how far a slope may be from -1/2
NEAR = 0.15  # largest relative difference from the published errors


class Times(nn.Module):
    """Multiplication by a constant, before a layer with standard normal weights."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """Return the product."""
        return self.factor * x


def measure(quick: bool) -> dict[str, Any]:
    """Measure both kinds of errors."""
    torch.set_num_threads(1)
    with threadpool_limits(1):
        return measured(quick)


def measured(quick: bool) -> dict[str, Any]:
    """Measure networks of all widths, then projections."""
    seeds = 2 if quick else 10
    widths = [w for w in PUBLISHED if w < 1000] if quick else list(PUBLISHED)
    features = FEATURES[:3] if quick else FEATURES
    pseudo = {}
    for name, reading in READINGS.items():
        pseudo[name] = by_width(widths, seeds, *reading)
        print(f"{name:<40}{pseudo[name]['errors']}  slope {pseudo[name]['slope']:.3f}", flush=True)
    projected = {}
    for kind in ("trace", "pseudo"):
        for sketch in ("rademacher", "sparse"):
            name = f"{kind}, {sketch}"
            projected[name] = by_features(features, 3 if quick else 32, kind, sketch)
            line = projected[name]
            print(f"{name:<40}{line['errors']}  slope {line['slope']:.3f}", flush=True)
    judged = pseudo[JUDGED]
    bars = [
        bar("pseudo-NTK: slope minus -1/2", abs(judged["slope"] + 0.5), SLOPE, at_least=False),
        bar(
            "pseudo-NTK: largest difference from published errors",
            judged["largest_difference_from_published"],
            NEAR,
            at_least=False,
        ),
    ]
    bars += [
        bar(f"{name}: slope minus -1/2", abs(line["slope"] + 0.5), SLOPE, at_least=False)
        for name, line in projected.items()
    ]
    return {
        "bars": bars,
        "seeds": seeds,
        "published": PUBLISHED,
        "judged_reading": JUDGED,
        "pseudo_by_width": pseudo,
        "projection_by_features": projected,
    }


def by_width(
    widths: Sequence[int], seeds: int, hidden: int, biases: bool, rows: str
) -> dict[str, Any]:
    """Return errors of the pseudo-NTK over widths, means over seeds of weights and rows."""
    table = load_digits().data / 16.0

    def error(width: int, seed: int) -> float:
        draw = np.random.RandomState(seed)
        X = draw.standard_normal((20, 64))
        if rows == "digits":
            X = table[draw.choice(len(table), 20, replace=False)]
        return pseudo_error(ntk_network(64, width, hidden, biases, seed), X)

    found = over_seeds(widths, seeds, error)
    ratios = [found["errors"][str(w)]["mean"] / PUBLISHED[w] - 1.0 for w in widths]
    return found | {"largest_difference_from_published": rounded(max(map(abs, ratios)))}


def over_seeds(at: Sequence[int], seeds: int, error: Callable[[int, int], float]) -> dict[str, Any]:
    """Return means and deviations of errors over seeds, and the slope of their logarithms."""
    errors = np.array([[error(place, seed) for seed in range(seeds)] for place in at])
    means = errors.mean(axis=1)
    return {
        "errors": {
            str(place): {"mean": rounded(m, 3), "std": rounded(s, 2)}
            for place, m, s in zip(at, means.tolist(), errors.std(axis=1).tolist(), strict=True)
        },
        "slope": rounded(float(np.polyfit(np.log(at), np.log(means), 1)[0]), 3),
    }


def ntk_network(d: int, width: int, hidden: int, biases: bool, seed: int) -> nn.Module:
    """Return a ReLU network with standard normal weights, scaled where rows pass."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for fan_in in (d, *[width] * (hidden - 1)):
        layers += [Times((2.0 / fan_in) ** 0.5), normal(fan_in, width, biases), nn.ReLU()]
    return nn.Sequential(*layers, Times(width**-0.5), normal(width, OUTPUTS, biases)).double()


def normal(fan_in: int, fan_out: int, bias: bool) -> nn.Linear:
    """Return a layer with standard normal weights; biases begin at zero."""
    layer = nn.Linear(fan_in, fan_out, bias=bias)
    nn.init.normal_(layer.weight)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


def pseudo_error(module: nn.Module, X: np.ndarray) -> float:
    """Return the relative error of the pseudo-NTK in place of every block."""
    theta = EmpiricalNTK(module).full(X)
    pseudo = EmpiricalNTK(module, kind="pseudo")(X)
    gap = np.linalg.norm(theta - np.kron(pseudo, np.eye(OUTPUTS)))
    return float(gap / np.linalg.norm(theta))


def by_features(widths: Sequence[int], seeds: int, kind: str, sketch: str) -> dict[str, Any]:
    """Return errors of projections over numbers of features, means over seeds of signs."""
    torch.manual_seed(0)
    sizes = (64, 32, 32, OUTPUTS)
    layers = [m for a, b in pairwise(sizes) for m in (nn.Linear(a, b), nn.ReLU())]
    module = nn.Sequential(*layers[:-1]).double()
    X = load_digits().data[:100] / 16.0
    K = EmpiricalNTK(module, kind=kind)(X)
    # All see the same signs; gradients of one output are formed sooner than pushed forward.
    by = "structured" if kind == "pseudo" else "auto"

    def error(k: int, seed: int) -> float:
        settings = {"kind": kind, "projection": k, "sketch": sketch, "implementation": by}
        Z = EmpiricalNTK(module, random_state=seed, **settings).features(X)
        return float(np.linalg.norm(Z @ Z.T - K) / np.linalg.norm(K))

    found = over_seeds(widths, seeds, error)
    # k Var(z z') = K_ii K_jj + K_ij^2 for features that are normal given the gradients.
    normal_features = (np.trace(K) ** 2 + np.square(K).sum()) ** 0.5 / np.linalg.norm(K)
    ratios = [line["mean"] * int(k) ** 0.5 / normal_features for k, line in found["errors"].items()]
    return found | {"mean_over_normal_features": rounded(float(np.mean(ratios)), 3)}


if __name__ == "__main__":
    main(measure, __file__)
