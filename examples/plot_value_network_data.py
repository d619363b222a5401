"""
Which training images does a network live on, and which labels are wrong?
=========================================================================

The Shapley value of a training row for a network would take a training run for every coalition of
rows, thousands of them. Through the network's tangent kernel it takes linear algebra: the network
is replaced by kernel ridge on its gradients, and coalitions by blocks of one factorization (the
approach of FreeShap; Wang et al. 2024). Here a small network reads 500 digits, one label in ten of
which is wrong. Do the values find the wrong labels? And do they hold for the network itself, when
it is trained again?
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split
from threadpoolctl import threadpool_limits
from torch import nn

from sknk.attribution import ShapleyAttributor, find_label_errors

X, y = load_digits(return_X_y=True)
X_train, X_rest, y_true, y_rest = train_test_split(
    X / 16, y, train_size=500, stratify=y, random_state=0
)
X_val, y_val, X_test, y_test = X_rest[:300], y_rest[:300], X_rest[300:], y_rest[300:]

rng = np.random.default_rng(0)
wrong = rng.random(len(y_true)) < 0.1
y_train = np.where(wrong, (y_true + rng.integers(1, 10, len(y_true))) % 10, y_true)

# %%
# The network
# -----------


@threadpool_limits.wrap(limits=1)  # steps as small as these are faster on one thread
def trained(rows: np.ndarray, seed: int = 0, steps: int = 300) -> nn.Module:
    """Return a network trained on some rows; always the same number of steps."""
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    inputs, labels = torch.from_numpy(X_train[rows]).float(), torch.from_numpy(y_train[rows])
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3)
    for _ in range(steps):
        batch = torch.randint(len(rows), (50,))
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(inputs[batch]), labels[batch]).backward()
        optimizer.step()
    return net


@torch.no_grad()
def probabilities(net: nn.Module, rows: np.ndarray) -> np.ndarray:
    """Return class probabilities."""
    return net(torch.from_numpy(rows).float()).double().softmax(1).numpy()


def accuracy(net: nn.Module) -> float:
    """Return the share of test images that are read rightly."""
    return float((probabilities(net, X_test).argmax(1) == y_test).mean())


everything = np.arange(len(y_train))
net = trained(everything)
print(f"test accuracy of the network: {accuracy(net):.3f}")

# %%
# Values
# ------
# A torch module is an estimator like any other here. The validation images have right labels and
# judge by the Brier score. ``std_error_`` tells how far to trust the sampled values.

shapley = ShapleyAttributor(net, n_iter=20, random_state=0)
shapley.fit(X_train, y_train, X_val, y_val)
suspicion = {
    "Shapley values, clean images judge": -shapley.values_,
    "leave one out, no clean images": find_label_errors(net, X_train, y_train).suspicion_,
    "the network's own loss": -np.log(probabilities(net, X_train)[everything, y_train]),
}
for name, found in suspicion.items():
    print(f"{name:36s} AUROC of wrong labels {roc_auc_score(wrong, found):.3f}")
print(f"largest standard error: {shapley.std_error_.max() / shapley.values_.std():.2f} deviations")

# %%
# Do they hold for the network?
# -----------------------------
# The test: train the network again, from two random starts, without the rows of the lowest
# values, without those of the highest, and without as many at random.

FRACTIONS, STARTS = [0.0, 0.1, 0.2, 0.4], 2
order = shapley.values_.argsort()
orders = {
    "lowest values first": [order] * STARTS,
    "highest values first": [order[::-1]] * STARTS,
    "at random": [rng.permutation(len(order)) for _ in range(STARTS)],
}
again = {
    name: np.array(
        [
            [
                accuracy(trained(np.sort(ranked[int(part * len(ranked)) :]), seed))
                for part in FRACTIONS
            ]
            for seed, ranked in enumerate(found)
        ]
    )
    for name, found in orders.items()
}
print(f"{'removed':24s}" + "".join(f"{part:8.0%}" for part in FRACTIONS))
for name, found in again.items():
    print(f"{name:24s}" + "".join(f"{value:8.3f}" for value in found.mean(axis=0)))

# %%
# The picture
# -----------
# Wrong labels have negative values, nearly all of them, and go first. Leave-one-out, in closed form
# and without a clean image, finds them as well; so does the loss of this network, which was stopped
# before it learned wrong labels by heart. On the right the network that is trained again. It never
# took part in the sampling, only its gradients did, and yet the order holds: it misses the rows of
# the highest values most. The lowest tenth, most of it wrong labels, it misses no more than a tenth
# at random; a network stopped this early would not gain much either. Beyond them come unusual
# images with right labels, and those it misses more than random ones. Low values are a reason to
# look at a row, not to delete half of a table.

figure, axes = plt.subplots(1, 3, figsize=(13.0, 4.2), layout="constrained")
values = 1000 * shapley.values_
bins = np.linspace(values.min(), values.max(), 50)
for rows, color, name in ((~wrong, "C0", "right labels"), (wrong, "C3", "wrong labels")):
    axes[0].hist(values[rows], bins, color=color, alpha=0.7, label=name)
axes[0].axvline(0.0, color="0.3", lw=0.8)
axes[0].set(
    xlabel="Shapley value, thousandths of a Brier score", ylabel="rows", title="what rows are worth"
)
axes[0].legend(fontsize="small")

looked = 100 * np.arange(len(wrong) + 1) / len(wrong)
for (name, found), style in zip(suspicion.items(), ("-", "--", ":"), strict=True):
    hits = np.concatenate([[0], wrong[found.argsort()[::-1]].cumsum()]) / wrong.sum()
    label = f"{name}\n(AUROC {roc_auc_score(wrong, found):.3f})"
    axes[1].plot(looked, 100 * hits, style, label=label)
axes[1].plot([0, 100], [0, 100], color="0.7", lw=1)
axes[1].set(xlabel="rows looked at, %", ylabel="wrong labels found, %", xlim=(0, 40))
axes[1].set_title("wrong labels")
axes[1].legend(fontsize="small", loc="lower right")

for (name, found), color in zip(again.items(), ("C0", "C3", "0.4"), strict=True):
    axes[2].plot(100 * np.array(FRACTIONS), 100 * found.mean(axis=0), "o-", color=color, label=name)
    for one in found:
        axes[2].plot(100 * np.array(FRACTIONS), 100 * one, color=color, lw=0.6, alpha=0.5)
axes[2].set(xlabel="rows removed, %", ylabel="test accuracy, %", title="the network, trained again")
axes[2].legend(fontsize="small", loc="lower left")

if "__file__" in globals():  # run as a script, not by the gallery
    target = Path(__file__).with_name("value_network_data.png")
    figure.savefig(target, dpi=120)
    print(f"figure: {target.name}")
plt.show()
