"""
What does an infinitely deep network vote for?
==============================================

A trained network of infinite width interpolates the labels of its training rows. What it says in
between depends on the depth and on two numbers of the activation, its mean A = E[phi(z)] and its
mean slope A' = E[phi'(z)] at a standard normal z. For rows on a sphere Radhakrishnan, Belkin and
Uhler (2023) show that infinitely deep classifiers are of three kinds. This example draws all three,
on labels of which one in five is wrong.
"""

from functools import partial
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from scipy.linalg import solve
from sklearn.metrics.pairwise import euclidean_distances

from sknk.kernels import NTK, OptimalDepthNTK, Polynomial

# %%
# Noisy labels on a sphere
# ------------------------
# Two angles place a row where all coordinates of the sphere are positive. The right label is +1
# below a curve and -1 above it; one in five is wrong. What counts is how often a classifier finds
# the right one at new rows.

N_ROWS, N_NEW, N_DRAWS = 200, 400, 5


def on_sphere(angles):
    """Map two angles (n, 2) to rows of norm sqrt(3): inputs of unit variance."""
    a, b = angles.T
    return np.sqrt(3.0) * np.stack([np.cos(a) * np.cos(b), np.sin(a) * np.cos(b), np.sin(b)], 1)


def right_label(angles):
    """Return +1 below the curve and -1 above it."""
    return np.where(angles[:, 1] < curve(angles[:, 0]), 1.0, -1.0)


def curve(a):
    """Return where the right label changes."""
    return 0.8 + 0.25 * np.sin(5.0 * a)


def draw(seed):
    """Return training angles with labels, some of them wrong, and new angles."""
    rng = np.random.default_rng(seed)
    angles, new = rng.uniform(0.15, 1.4, (N_ROWS, 2)), rng.uniform(0.15, 1.4, (N_NEW, 2))
    return angles, right_label(angles) * np.where(rng.random(N_ROWS) < 0.8, 1.0, -1.0), new


# %%
# Three activations
# -----------------
# * A Hermite polynomial plus a constant is not centred, A > 0. Nor is a rectifier, which only takes
#   thousands of layers to show it. All rows look equally alike to a deep network, and a majority
#   vote is left.
# * The second Hermite polynomial has A = 0 and A' = 0. Every layer squares the cosine of two rows,
#   so the nearest neighbour soon outweighs all others together, right or wrong.
# * The cubic of :class:`~sknk.kernels.OptimalDepthNTK` has A = 0 and an A' that makes the weight of
#   a label fall like the distance to the power of minus two, two being the dimension of the sphere:
#   slow enough to average over wrong labels, fast enough to see the curve, whatever the data.

NOT_CENTRED = Polynomial((0.5, -3.0 / 8.0**0.5, 0.0, 1.0 / 8.0**0.5))  # 1/2 + 3^(1/2)/2 h_3
FAMILIES = {
    "not centred: A > 0": lambda depth: NTK(depth, activation=NOT_CENTRED, weight_var=1.0),
    "Hermite: A = A' = 0": lambda depth: NTK(depth, activation="hermite", weight_var=1.0),
    "optimal cubic: A = 0 < A'": lambda depth: OptimalDepthNTK(intrinsic_dim=2, depth=depth),
}
# As deep as float64 carries each of them.
DEPTHS = dict(
    zip(FAMILIES, ([1, 2, 4, 8, 16, 24], [1, 2, 4, 8, 12], [4, 16, 64, 256, 500]), strict=True)
)


def decide(kernel, angles, labels, new):
    """Return the sign of the trained network, K(new, X) K(X, X)^-1 y, with a little ridge."""
    X = on_sphere(angles)
    return np.sign(kernel(on_sphere(new), X) @ solve(kernel(X) + 1e-4 * np.eye(len(X)), labels))


def decide_by_distance(order):
    """Return the classifier whose votes have weight |x - x_i|^-order."""

    def decision(angles, labels, new):
        distances = euclidean_distances(on_sphere(new), on_sphere(angles))
        # Relative to the nearest, so that high orders do not overflow.
        return np.sign((distances.min(axis=1, keepdims=True) / distances) ** order @ labels)

    return decision


LIMITS = {
    "votes of weight 1/distance²": decide_by_distance(2),
    "nearest neighbour": decide_by_distance(1000),
    "majority vote": decide_by_distance(0),
}


def share_right(decision):
    """Return the share of right labels at new rows, averaged over draws."""
    draws = map(draw, range(N_DRAWS))
    return np.mean([decision(*d) == right_label(d[-1]) for d in draws])


def share_right_by_depth(make, depths):
    """Return that of kernels of several depths."""
    return [share_right(partial(decide, make(depth))) for depth in depths]


accuracy = {name: share_right_by_depth(make, DEPTHS[name]) for name, make in FAMILIES.items()}
limits = {name: share_right(decision) for name, decision in LIMITS.items()}
for name, values in accuracy.items():
    print(f"{name:28s}", *(f"{d}: {v:.3f} " for d, v in zip(DEPTHS[name], values, strict=True)))
for name, value in limits.items():
    print(f"{name:28s} {value:.3f}")

# %%
# The picture
# -----------
# Above, what the deepest network of each kind decides (color), given the labels (dots); black is
# the curve. Below, the way there. Two kinds arrive, at the majority and at the nearest neighbour.
# The optimal one is on its way: at depth L its weights are distance^-2 (L + const distance^-2), so
# that the limit takes over at distances beyond L^(-1/2). All three show why nobody would train such
# networks for this curve: a few layers, far from the limit, do better. What the limit has is a
# guarantee for any data, with nothing to choose but the dimension.

figure, axes = plt.subplot_mosaic(
    [[*FAMILIES], ["depth"] * 3], figsize=(11.5, 8), height_ratios=[1.2, 1], layout="constrained"
)
side = np.linspace(0.15, 1.4, 60)
grid = np.stack([c.ravel() for c in np.meshgrid(side, side)], axis=1)
angles, labels, _ = draw(0)
for (name, make), color in zip(FAMILIES.items(), ["C4", "C2", "C1"], strict=True):
    ax, deepest = axes[name], DEPTHS[name][-1]
    decision = decide(make(deepest), angles, labels, grid).reshape(60, 60)
    ax.pcolormesh(side, side, decision, cmap="coolwarm", vmin=-2.5, vmax=2.5, rasterized=True)
    ax.scatter(*angles.T, c=labels, cmap="coolwarm", s=10, edgecolors="none")
    ax.plot(side, curve(side), color="black")
    ax.set(title=f"{name}\n{deepest} layers", xticks=[], yticks=[])
    axes["depth"].semilogx(DEPTHS[name], accuracy[name], "o-", base=2, color=color, label=name)
for (name, value), color in zip(limits.items(), ["C1", "C2", "C4"], strict=True):
    axes["depth"].axhline(value, color=color, linestyle="--", linewidth=1, label=f"limit: {name}")
axes["depth"].set(xlabel="hidden layers", ylabel="share of right labels")
axes["depth"].legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)

if "__file__" in globals():  # run as a script, not by the gallery
    target = Path(__file__).with_name("explain_deep_limits.png")
    figure.savefig(target, dpi=120)
    print(f"figure: {target.name}")
plt.show()
