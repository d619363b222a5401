"""
Does the formula predict what trained networks do?
==================================================

Fifty networks with one hidden layer of 256 units start at random and are trained by gradient
descent on ten points. :class:`~sknk.NTKGaussianProcessRegressor` with ``posterior="ensemble"`` has
a formula for what such networks do when they are infinitely wide: the mean and the spread of their
outputs, after any time of training. Here the formula stands beside the networks.
"""

from pathlib import Path
from time import perf_counter

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch.func import grad, vmap

from sknk import NTKGaussianProcessRegressor
from sknk.inspection import GPPredictionDisplay
from sknk.kernels import NTK

# %%
# Ten points
# ----------
# There is a gap between them, and room outside.

X = np.array([-3.0, -2.6, -2.1, -1.7, -1.2, 0.5, 0.9, 1.4, 2.2, 2.7])[:, None]
y = np.sin(1.5 * X[:, 0]) + 0.3 * X[:, 0]
grid = np.linspace(-4.0, 4.0, 161)[:, None]

# %%
# Fifty networks
# --------------
# In the NTK parametrization width and variances stand in front of standard normal parameters,
#
# .. math::
#
#    f(x) = \frac{\sigma_w}{\sqrt{256}}\, v^\top \operatorname{erf}(\sigma_w W x + \sigma_b b)
#        + \sigma_b c .
#
# The loss is half the sum of squared errors.

WIDTH, NETWORKS, WEIGHT_VAR, BIAS_VAR = 256, 50, 4.0, 2.0


def network(p: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """Return the outputs (n,) of one network."""
    h = torch.erf(WEIGHT_VAR**0.5 * x @ p["W"].T + BIAS_VAR**0.5 * p["b"])
    return (WEIGHT_VAR / WIDTH) ** 0.5 * h @ p["v"] + BIAS_VAR**0.5 * p["c"]


def loss(p, x, target):
    return 0.5 * (network(p, x) - target).square().sum()


generator = torch.Generator().manual_seed(0)
shapes = {"W": (WIDTH, 1), "b": (WIDTH,), "v": (WIDTH,), "c": ()}
start = {k: torch.randn(NETWORKS, *shape, generator=generator) for k, shape in shapes.items()}

slopes = vmap(grad(loss), in_dims=(0, None, None))
outputs = vmap(network, in_dims=(0, None))


def train(x, target, rate: float, stops: list[int]) -> dict[int, np.ndarray]:
    """Descend; return the networks' outputs on the grid after some numbers of steps."""
    p, found = dict(start), {}
    for step in range(1, max(stops) + 1):
        slope = slopes(p, x, target)
        p = {k: p[k] - rate * slope[k] for k in p}
        if step in stops:
            found[step] = outputs(p, torch.from_numpy(grid).float()).numpy()
    return found


# %%
# Steps of gradient descent must be shorter than 2 over the largest eigenvalue of the tangent
# kernel. A quarter of that is close enough to the flow of the formula. ``training_time`` is the
# step times their number.

kernel = NTK(depth=1, activation="erf", weight_var=WEIGHT_VAR, bias_var=BIAS_VAR, normalize=False)
rate = 0.5 / np.linalg.eigvalsh(kernel(X))[-1]
STOPS = {"early": 10, "late": 2000}

began = perf_counter()
trained = train(
    torch.from_numpy(X).float(), torch.from_numpy(y).float(), rate, list(STOPS.values())
)
print(f"{NETWORKS} networks, {max(STOPS.values())} steps: {perf_counter() - began:.1f} s")

# %%
# One formula
# -----------
# Nothing is estimated: the kernel is that of the network, and its amplitude 1. There is no noise;
# a trace of it only helps to factorize the Gram matrix.


def law(steps: int) -> NTKGaussianProcessRegressor:
    """Return the law of the networks after so many steps."""
    model = NTKGaussianProcessRegressor(
        kernel,
        posterior="ensemble",
        training_time=rate * steps,
        amplitude=1.0,
        noise_variance=1e-8,
        optimizer=None,
    )
    return model.fit(X, y)


# %%
# The picture
# -----------
# The band is the formula's. Thin lines are twelve of the networks, dashed ones the mean of all
# fifty and two standard deviations of theirs. Below is the standard deviation alone: the grey strip
# is where that of fifty draws from the formula's law falls in nine cases of ten.
#
# The two agree, early and late. Only beyond the data do the late means differ by more than chance,
# by about a tenth: so far are 256 units from infinity. With ``WIDTH = 1024`` nothing of it is seen.

ERROR_OF_STD = 1 / np.sqrt(2 * (NETWORKS - 1))  # relative standard error of a standard deviation


def rms(values):
    """Return the root of the mean square along the grid."""
    return np.sqrt(np.mean(values**2))


figure, axes = plt.subplots(
    2, 2, figsize=(10, 6.2), layout="constrained", sharex=True, sharey="row", height_ratios=[2, 1]
)
print(f"\n{'':8s}{'time':>8s}{'gap of means':>14s}{'by chance':>14s}{'ratio of stds':>14s}")
for (top, bottom), (name, steps) in zip(axes.T, STOPS.items(), strict=True):
    model = law(steps)
    mean, std = model.predict(grid, return_std=True)
    seen = trained[steps]
    seen_mean, seen_std = seen.mean(0), seen.std(0, ddof=1)

    top.plot(grid, seen[:12].T, color="0.6", lw=0.6, zorder=1)
    GPPredictionDisplay.from_estimator(
        model, X, y=y, x_range=(-4, 4), n_std=2, name="formula", ax=top
    )
    for shift, label in ((0, "networks, mean and ± 2 std"), (-2, None), (2, None)):
        top.plot(grid, seen_mean + shift * seen_std, "k--", lw=1.2, label=label)
    top.legend(fontsize="small", loc="upper right")
    top.set(title=f"{name}: {steps} steps, time {rate * steps:.2g}", xlabel="", ylabel="")

    ends = std * (1 - 1.645 * ERROR_OF_STD), std * (1 + 1.645 * ERROR_OF_STD)
    bottom.fill_between(grid[:, 0], *ends, color="0.5", alpha=0.25, lw=0, label="90 % by chance")
    bottom.plot(grid, std, label="formula")
    bottom.plot(grid, seen_std, "k--", lw=1.2, label="networks")
    bottom.set(xlabel="x")

    numbers = rms(seen_mean - mean), rms(std) / np.sqrt(NETWORKS), rms(seen_std) / rms(std)
    print(f"{name:8s}{rate * steps:8.2f}" + "".join(f"{value:14.3f}" for value in numbers))
axes[0, 0].set_ylabel("y")
axes[1, 0].set_ylabel("standard deviation")
axes[0, 0].get_legend().remove()
axes[1, 1].legend(fontsize="small")

if "__file__" in globals():  # run as a script, not by the gallery
    target = Path(__file__).with_name("infinite_ensemble.png")
    figure.savefig(target, dpi=120)
    print(f"figure: {target.name}")
plt.show()
