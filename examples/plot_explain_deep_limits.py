"""
What does an infinitely deep network vote for?
==============================================

A trained network of infinite width interpolates the labels of its training rows. What it says in
between depends on the depth and on two numbers of the activation, its mean A = E[phi(z)] and its
mean slope A' = E[phi'(z)] at a standard normal z. For rows on a sphere Radhakrishnan, Belkin and
Uhler (2023) show that infinitely deep classifiers are of three kinds. This example draws all three,
on labels of which one in five is wrong.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from scipy.linalg import solve
from sklearn.dummy import DummyClassifier
from sklearn.neighbors import KNeighborsClassifier

from sknk.kernels import NTK, OptimalDepthNTK

# %%
# Noisy labels on a sphere
# ------------------------
# Two angles place a row where all coordinates of the sphere are positive. The label is +1 with
# probability 0.8 below a curve and 0.2 above it; 0.8 is the best accuracy there is. There are more
# rows below than above.


def on_sphere(angles):
    """Map two angles (n, 2) to rows of norm sqrt(3): inputs of unit variance."""
    a, b = angles.T
    return np.sqrt(3.0) * np.stack([np.cos(a) * np.cos(b), np.sin(a) * np.cos(b), np.sin(b)], 1)


def below(angles):
    """Whether the likelier label is +1."""
    return angles[:, 1] < 0.8 + 0.25 * np.sin(5.0 * angles[:, 0])


def sample(n, rng):
    """Draw rows and labels."""
    angles = rng.uniform(0.15, 1.4, (n, 2))
    right = rng.random(n) < 0.8
    return angles, np.where(below(angles) == right, 1.0, -1.0)


rng = np.random.default_rng(0)
(angles, y), (new_angles, new_y) = sample(300, rng), sample(2000, rng)
X, new_X = on_sphere(angles), on_sphere(new_angles)

# %%
# Three activations
# -----------------
# * The rectifier is not centred: A > 0. All rows look alike to a deep network, and what is left is
#   a majority vote.
# * The second Hermite polynomial has A = 0 and A' = 0. Every layer squares the cosine of two rows,
#   so the nearest neighbour soon outweighs all others together, right or wrong.
# * The cubic of :class:`~sknk.kernels.OptimalDepthNTK` has A = 0 and an A' that makes weights fall
#   like the distance to the power of minus two, the dimension of the sphere. That is slow enough to
#   average over wrong labels and fast enough to see the curve, whatever the distribution.

families = {
    "rectifier: A > 0": NTK,
    "Hermite: A = A' = 0": lambda depth: NTK(depth, activation="hermite", weight_var=1.0),
    "optimal cubic: A = 0 < A'": lambda depth: OptimalDepthNTK(intrinsic_dim=2, depth=depth),
}
# Beyond 16 layers Hermite's weights of all rows but the nearest are zero in float64.
depths = dict(zip(families, ([1, 4, 16, 64, 256, 1024], [1, 2, 4, 8, 16], [1, 4, 16, 64, 256])))


def decide(kernel, new_rows):
    """Return the sign of the trained network, K(new, X) K(X, X)^-1 y, with a little ridge."""
    return np.sign(kernel(new_rows, X) @ solve(kernel(X) + 1e-4 * np.eye(len(X)), y))


accuracy = {
    name: [np.mean(decide(make(depth), new_X) == new_y) for depth in depths[name]]
    for name, make in families.items()
}
references = {
    "best possible": 0.8,
    "1-nearest neighbour": KNeighborsClassifier(1).fit(X, y).score(new_X, new_y),
    "majority vote": DummyClassifier().fit(X, y).score(new_X, new_y),
}
for name, values in accuracy.items():
    print(f"{name:28s}", *(f"{d}: {v:.3f} " for d, v in zip(depths[name], values, strict=True)))
for name, value in references.items():
    print(f"{name:28s} {value:.3f}")

# %%
# The picture
# -----------
# Above, what the deepest network of each kind decides, the training labels as dots, the curve in
# black. Below, how accuracy on new rows moves from one layer to the limit: to the majority's share,
# to the nearest neighbour's, and close to the best possible.

figure, axes = plt.subplot_mosaic(
    [[*families], ["depth"] * 3], figsize=(11.5, 8), height_ratios=[1.2, 1], layout="constrained"
)
side = np.linspace(0.15, 1.4, 70)
grid = np.stack([c.ravel() for c in np.meshgrid(side, side)], axis=1)
colors = dict(zip(families, ["tab:purple", "tab:green", "tab:orange"], strict=True))
for name, make in families.items():
    ax, deepest = axes[name], depths[name][-1]
    decision = decide(make(deepest), on_sphere(grid)).reshape(70, 70)
    ax.pcolormesh(side, side, decision, cmap="coolwarm", vmin=-2.5, vmax=2.5, rasterized=True)
    ax.scatter(*angles.T, c=y, cmap="coolwarm", s=7, edgecolors="none")
    ax.plot(side, 0.8 + 0.25 * np.sin(5.0 * side), color="black")
    ax.set(title=f"{name}\n{deepest} layers", xticks=[], yticks=[])
    axes["depth"].semilogx(
        depths[name], accuracy[name], "o-", base=2, color=colors[name], label=name
    )
for (name, value), style in zip(references.items(), ["-", "--", ":"], strict=True):
    axes["depth"].axhline(value, color="black", linestyle=style, linewidth=1, label=name)
axes["depth"].set(xlabel="hidden layers", ylabel="accuracy on new rows")
axes["depth"].legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)

if "__file__" in globals():  # run as a script, not by the gallery
    target = Path(__file__).with_name("deep_limits.png")
    figure.savefig(target, dpi=120)
    print(f"figure: {target.name}")
plt.show()
