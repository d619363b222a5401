"""
Does a network's tangent kernel predict as the network does?
============================================================

A trained network is hard to look into; a kernel machine is a weighted vote of training rows.
:class:`~sknk.kernels.EmpiricalNTK` is the kernel of the gradients of a torch network. A classifier
with that kernel can stand for the network, a *surrogate*, if it does more than guess the same
digits: it should be sure where the network is sure, and wrong where the network is wrong. Here are
networks that learn to read digits from 300 images, and surrogates by several of their kernels.
"""

from pathlib import Path
from time import perf_counter

import matplotlib.pyplot as plt
import numpy as np
import torch
from scipy.stats import kendalltau
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer
from threadpoolctl import threadpool_limits
from torch import nn

from sknk import NTKRidgeClassifierCV
from sknk.features import EmpiricalNTKFeatures
from sknk.kernels import NTK, EmpiricalNTK, Normalized

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(
    X / 16, y, train_size=300, stratify=y, random_state=0
)

# %%
# Three networks
# --------------
# They have two hidden layers of 32 units and differ in where they start. A fitted skorch net would
# do as well: the kernel takes it as it is.

STARTS = 3


def network(seed: int) -> nn.Module:
    """Return a network as it starts."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 10)
    )


@threadpool_limits.wrap(limits=1)  # steps as small as these are faster on one thread
def train(net: nn.Module, epochs: int = 60) -> nn.Module:
    """Minimize the cross-entropy of the training rows."""
    inputs, labels = torch.from_numpy(X_train).float(), torch.from_numpy(y_train)
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3)
    for _ in range(epochs):
        for rows in torch.randperm(len(inputs)).split(50):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(inputs[rows]), labels[rows]).backward()
            optimizer.step()
    return net


def probabilities(net: nn.Module) -> np.ndarray:
    """Return the network's class probabilities of the test rows."""
    with torch.no_grad():
        return net(torch.from_numpy(X_test).float()).double().softmax(1).numpy()


# %%
# Surrogates
# ----------
# Each is one kernel in a ridge classifier, whose ridge and calibration come from leave-one-out. No
# surrogate sees what the network answers: only its gradients, and the labels. Cosines
# (:class:`~sknk.kernels.Normalized`) keep a row with large gradients from having a large say.
#
# The projection is the same kernel as the first, from 256 random features of the gradients. As a
# step of a pipeline it makes a linear model of them, which costs the same for every further row.


def surrogates(net: nn.Module, start: nn.Module) -> dict:
    """Return classifiers by kernels of a network, and two that know nothing of its training."""

    def ridge(kernel) -> NTKRidgeClassifierCV:
        return NTKRidgeClassifierCV(kernel, param_grid={})

    def cosine(module: nn.Module, kind: str = "trace") -> NTKRidgeClassifierCV:
        return ridge(Normalized(EmpiricalNTK(module, kind=kind)))

    features = EmpiricalNTKFeatures(net, n_components=256, dtype="float32")
    return {
        "trace": cosine(net),
        "trace, projected": make_pipeline(features, Normalizer(), ridge(NTK(depth=0))),
        "pseudo": cosine(net, "pseudo"),
        "last layer": cosine(net, "last_layer"),
        "embedding": cosine(net, "embedding"),
        "trace, before training": cosine(start),
        "infinite width": ridge(NTK(depth=2, bias_var=0.1)),
    }


# %%
# Three numbers
# -------------
# Accuracy says how well a surrogate reads digits. Kendall's tau compares the order in which the
# network and the surrogate are sure of the true class. The last number is the share of the
# network's mistakes that the surrogate makes too.


def sure(p: np.ndarray) -> np.ndarray:
    """Return the probability of the true class."""
    return p[np.arange(len(y_test)), y_test]


scores, seconds, shown = {}, {}, {}
for seed in range(STARTS):
    net = train(network(seed))
    own = probabilities(net)
    wrong = own.argmax(1) != y_test
    scores.setdefault("the network", []).append((1 - wrong.mean(), 1.0, 1.0))
    for name, model in surrogates(net, network(seed)).items():
        began = perf_counter()
        p = model.fit(X_train, y_train).predict_proba(X_test)
        missed = p.argmax(1) != y_test
        numbers = 1 - missed.mean(), kendalltau(sure(own), sure(p)).statistic, missed[wrong].mean()
        scores.setdefault(name, []).append(numbers)
        seconds.setdefault(name, []).append(perf_counter() - began)
        shown[name] = sure(own), sure(p)

print(f"{'':24s}{'accuracy':>10s}{'tau':>8s}{'mistakes':>10s}{'seconds':>9s}")
for name, rows in scores.items():
    accuracy, tau, shared = np.mean(rows, axis=0)
    took = np.mean(seconds.get(name, [np.nan]))
    print(f"{name:24s}{accuracy:10.3f}{tau:8.3f}{shared:10.2f}{took:9.2f}")

# %%
# The picture
# -----------
# Above, a small mark for every network and a large one for their mean. Below, the last network and
# three surrogates: each point is a test row, placed by how high it ranks in the probability of its
# true class, crosses are the network's mistakes.
#
# All kernels read digits about as well as the networks do, and the one of infinite width, which
# knows nothing of them, does better. So accuracy does not tell. In the order of the rows and in the
# mistakes the kernels of the trained networks stay closer to them than those of the same networks
# before training or of infinite width: points gather along the diagonal. The sum of outputs, one
# gradient in place of ten, is as faithful as their trace, and so are 256 random features of 3466
# partial derivatives. The last layer's kernel alone costs next to nothing and repeats as many
# mistakes, but knows the order less well.

figure, axes = plt.subplots(2, 3, figsize=(11.5, 7.2), layout="constrained", height_ratios=[1, 1.2])
names = [name for name in scores if name != "the network"]
colors = dict.fromkeys(names, "C0") | {"trace, before training": "C1", "infinite width": "C2"}
titles = "accuracy", "Kendall's tau with the network", "share of its mistakes repeated"
for k, (ax, title) in enumerate(zip(axes[0], titles, strict=True)):
    for place, name in enumerate(names):
        found = np.array(scores[name])[:, k]
        ax.plot(found, [place] * STARTS, "o", ms=3, color=colors[name], alpha=0.6)
        ax.plot(found.mean(), place, "o", ms=9, color=colors[name])
    ax.set(title=title, ylim=(len(names) - 0.5, -0.5))
    ax.set_yticks(range(len(names)), names if k == 0 else [""] * len(names))
    ax.grid(axis="y", color="0.9")
axes[0, 0].axvline(np.mean(scores["the network"], axis=0)[0], color="0.4", lw=1, ls=":")
axes[0, 0].annotate(
    "the networks",
    (np.mean(scores["the network"], axis=0)[0], len(names) - 1),
    xytext=(4, 0),
    textcoords="offset points",
    color="0.4",
    fontsize="small",
)

for ax, name in zip(axes[1], ("trace", "trace, before training", "infinite width"), strict=True):
    mine, theirs = (values.argsort().argsort() / len(values) for values in shown[name])
    ax.plot(mine[~wrong], theirs[~wrong], ".", ms=3, alpha=0.4, color=colors[name])
    ax.plot(mine[wrong], theirs[wrong], "kx", ms=4, mew=0.8)
    ax.axline((0, 0), slope=1, color="0.4", lw=1, ls=":")
    ax.set(title=name, xlabel="rank by the network", aspect="equal")
axes[1, 0].set_ylabel("rank by the surrogate")

if "__file__" in globals():  # run as a script, not by the gallery
    target = Path(__file__).with_name("surrogate_network.png")
    figure.savefig(target, dpi=120)
    print(f"figure: {target.name}")
plt.show()
