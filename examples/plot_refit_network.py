"""
What has a trained network learned, and which training rows does a prediction rest on?
======================================================================================

The tangent kernel of a network says which rows it takes for alike: those whose outputs move
together when its weights move. It can be read layer by layer and row by row, and a kernel machine
can be fitted with it, :class:`~sknk.kernels.EmpiricalNTK` in place of any other kernel. Here
networks are trained on a real table, and on one where five of ten columns are known to say nothing;
then their kernels are taken apart, and fitted again.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_diabetes, make_friedman1
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits
from torch import nn

from sknk import NTKRidgeCV
from sknk.kernels import EmpiricalNTK, Normalized

diabetes = load_diabetes()
tables = {
    "diabetes": (diabetes.data, diabetes.target),
    "Friedman's function": make_friedman1(442, noise=1.0, random_state=0),
}


def split(table: str, seed: int):
    """Return standardized rows and targets to train on and to test on."""
    X, y = tables[table]
    X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=1 / 3, random_state=seed)
    rows, targets = StandardScaler().fit(X_train), StandardScaler().fit(y_train[:, None])
    scaled = (targets.transform(part[:, None])[:, 0] for part in (y_train, y_test))
    return rows.transform(X_train), rows.transform(X_test), *scaled


# %%
# A network
# ---------
# Two hidden layers, trained by torch in any way. A fitted skorch net can be passed to the kernel
# as it is.


def network(seed: int) -> nn.Module:
    """Return a network as it starts."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(10, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1)
    )


@threadpool_limits.wrap(limits=1)  # steps as small as these are faster on one thread
def trained(seed: int, X: np.ndarray, y: np.ndarray) -> nn.Module:
    """Return it after 300 steps down the mean squared error."""
    net, inputs = network(seed), torch.from_numpy(X).float()
    optimizer = torch.optim.AdamW(net.parameters(), lr=5e-3, weight_decay=5.0)
    for _ in range(300):
        optimizer.zero_grad()
        nn.functional.mse_loss(net(inputs)[:, 0], torch.from_numpy(y).float()).backward()
        optimizer.step()
    return net


def predicted(net: nn.Module, X: np.ndarray) -> np.ndarray:
    """Return the network's outputs."""
    with torch.no_grad():
        return net(torch.from_numpy(X).float())[:, 0].numpy()


def error(prediction: np.ndarray, y: np.ndarray) -> float:
    """Return the root mean square error."""
    return float(np.sqrt(np.mean((prediction - y) ** 2)))


# %%
# Layer by layer
# --------------
# The kernel is a sum over parameters, and ``layerwise`` has the terms. Two numbers for each weight
# matrix: its share of the kernel's diagonal, and its alignment with the targets, that is the cosine
# between the term, freed of its mean, and the matrix of products of targets.


def alignment(K: np.ndarray, y: np.ndarray) -> float:
    """Return the cosine between a centred Gram matrix and that of the targets."""
    centred = K - K.mean(0) - K.mean(1)[:, None] + K.mean()
    return float(y @ centred @ y / (np.linalg.norm(centred) * (y @ y)))


LAYERS = {"first layer": "0.weight", "second layer": "2.weight", "last layer": "4.weight"}
shares, aligned, shown = {}, {}, {}
print(f"{'':32s}" + "".join(f"{name:>22s}" for name in LAYERS))
for table in tables:
    X_train, X_test, y_train, y_test = split(table, 0)
    start, net = network(0), trained(0, X_train, y_train)
    for when, module in (("before", start), ("after", net)):
        terms = EmpiricalNTK(module, params="*.weight").layerwise(X_train)
        whole = sum(K.trace() for K in terms.values())
        shares[table, when] = [terms[name].trace() / whole for name in LAYERS.values()]
        aligned[table, when] = [alignment(terms[name], y_train) for name in LAYERS.values()]
        numbers = zip(shares[table, when], aligned[table, when], strict=True)
        print(
            f"{table + ', ' + when:32s}"
            + "".join(f"{share:11.0%}, align {align:4.2f}" for share, align in numbers)
        )
    shown[table] = start, net, X_train, X_test, y_train, y_test

# %%
# Before training all terms know equally little of the targets. Afterwards nearly all of the kernel
# is the first layer's. What was learned shows in the term of the last layer: it is the inner
# product of hidden features, and training has turned those towards the targets.
#
# Row by row
# ----------
# A ridge model with the kernel is a smoother, :math:`f(x) = \sum_i w_i(x)\, y_i`: its prediction
# rests on training targets with known weights. Here are the five heaviest for one patient of the
# diabetes table. The kernel of a trained network comes in units of its own, and its values can be
# large; the path of ridges has to reach as far.


def refitted(net: nn.Module) -> NTKRidgeCV:
    """Return a ridge model with a network's kernel, its ridge to be chosen by leave-one-out."""
    return NTKRidgeCV(EmpiricalNTK(net), param_grid={}, alphas=np.logspace(-4, 4, 17))


start, net, X_train, X_test, y_train, y_test = shown["diabetes"]
ridge, kernel = refitted(net).fit(X_train, y_train), EmpiricalNTK(net)
smoother = np.linalg.inv(kernel(X_train) + ridge.alpha_ * np.eye(len(X_train)))
weights = kernel(X_test, X_train) @ smoother
weights += (1 - weights.sum(1, keepdims=True)) / len(X_train)  # the intercept is the mean
assert np.allclose(weights @ y_train, ridge.predict(X_test))

PATIENT = 0
weight = weights[PATIENT]
similar = Normalized(kernel)(X_test[[PATIENT]], X_train)[0]
heaviest = np.argsort(-np.abs(weight))[:5]
columns = [diabetes.feature_names.index(name) for name in ("bmi", "bp", "s5")]
agreement = np.corrcoef(ridge.predict(X_test), predicted(net, X_test))[0, 1]
print(f"\nkernel and network: correlation of predictions {agreement:.3f}")
shares_of_rows = np.sort(np.abs(weight))[::-1].cumsum() / np.abs(weight).sum()
print(f"half of the weight lies on {1 + (shares_of_rows < 0.5).sum()} of {len(weight)} rows")
print(f"{'':10s}{'weight':>8s}{'cosine':>8s}{'bmi':>7s}{'bp':>7s}{'s5':>7s}{'target':>8s}")
values = "".join(f"{value:7.2f}" for value in X_test[PATIENT, columns])
print(f"{'patient':26s}{values}{y_test[PATIENT]:8.2f}")
for i in heaviest:
    values = "".join(f"{value:7.2f}" for value in X_train[i, columns])
    print(f"row {i:<6d}{weight[i]:8.3f}{similar[i]:8.2f}{values}{y_train[i]:8.2f}")

# %%
# Fitted again
# ------------
# Five splits of each table. The kernel is that of the network before training; after training on
# all training rows, and fitted to the same; and after training on half of them, and fitted to the
# other half. Beside them are the network itself and kernels of infinite width. ``predict_interval``
# is asked for intervals that hold nine new targets of ten.


def compare(table: str, seed: int) -> dict[str, tuple[float, float]]:
    """Return errors and coverages on the test rows."""
    X_train, X_test, y_train, y_test = split(table, seed)
    half = len(X_train) // 2
    found = {}

    def fit(name: str, model: NTKRidgeCV, rows: slice = slice(None)) -> None:
        model.fit(X_train[rows], y_train[rows])
        low, high = model.predict_interval(X_test, alpha=0.1).T
        inside = np.mean((low <= y_test) & (y_test <= high))
        found[name] = error(model.predict(X_test), y_test), float(inside)

    net = trained(seed, X_train, y_train)
    found["the network"] = error(predicted(net, X_test), y_test), np.nan
    fit("its kernel before training", refitted(network(seed)))
    fit("its kernel, same rows", refitted(net))
    of_half = trained(seed, X_train[:half], y_train[:half])
    fit("its kernel, other rows", refitted(of_half), slice(half, None))
    fit("infinite width", NTKRidgeCV())
    return found


SPLITS = 5
results = {table: [compare(table, seed) for seed in range(SPLITS)] for table in tables}
models = list(results["diabetes"][0])
print(f"\n{'':28s}" + "".join(f"{table:>30s}" for table in tables))
for model in models:
    line = f"{model:28s}"
    for table in tables:
        errors, covered = np.array([found[model] for found in results[table]]).T
        line += f"{errors.mean():14.3f} +- {errors.std(ddof=1) / SPLITS**0.5:.3f}"
        line += f"{'':6s}" if np.isnan(covered).all() else f"{covered.mean():5.0%} "
        line += "  "
    print(line)

# %%
# The picture
# -----------
# Left, how training moves the terms of the three layers. In the middle the targets of the training
# rows over their likeness to the patient, as large as their weights. Right, the errors, each split
# and their mean, and what the intervals cover.
#
# Where half of the columns say nothing, the network learns to look past them, and its kernel has
# learned it too: poor before training, it predicts better than the network and than infinite width
# afterwards. On the diabetes table there is little to learn, and training makes the kernel a little
# worse.
#
# A trained kernel has seen the targets. Fitted to the same rows it finds them easier than new ones:
# ridge and intervals, which come from leave-one-out, are then too small, and the intervals hold
# less than they promise. Fitted to rows that the network has not seen, they keep their promise, at
# the price of half the rows.

figure, axes = plt.subplots(
    1, 3, figsize=(15, 4.8), layout="constrained", width_ratios=[1, 1, 1.25]
)
styles = dict(zip(tables, ("-", "--"), strict=True))
for table, style in styles.items():
    for k in range(len(LAYERS)):
        moved = np.array(
            [(shares[table, when][k], aligned[table, when][k]) for when in ("before", "after")]
        )
        axes[0].plot(*moved.T, color=f"C{k}", ls=style, lw=1.2)
        axes[0].plot(*moved[0], "o", color=f"C{k}", mfc="white")
        axes[0].plot(*moved[1], "o", color=f"C{k}")
for k, name in enumerate(LAYERS):
    axes[0].plot([], [], color=f"C{k}", label=name)
for table, style in styles.items():
    axes[0].plot([], [], color="0.4", ls=style, label=table)
axes[0].set(xscale="log", xlabel="share of the kernel", ylabel="alignment with the targets")
axes[0].set_title("terms of the layers\nhollow: before training, full: after")
axes[0].legend(fontsize="small")

signs = np.where(weight > 0, "C0", "C3")
axes[1].scatter(similar, y_train, s=3000 * np.abs(weight), c=signs, alpha=0.5, lw=0)
axes[1].axhline(ridge.predict(X_test)[PATIENT], color="C0", label="prediction")
axes[1].axhline(predicted(net, X_test)[PATIENT], color="k", ls="--", lw=1, label="network")
axes[1].axhline(y_test[PATIENT], color="0.6", lw=1, ls=":", label="target of the patient")
axes[1].set(xlabel="likeness to the patient (cosine kernel)", ylabel="target")
axes[1].set_title("one prediction and its training rows\nblue: positive weight, red: negative")
axes[1].legend(fontsize="small", loc="upper left")

for shift, (table, color) in zip(
    (-0.15, 0.15), zip(tables, ("C4", "C2"), strict=True), strict=True
):
    for place, model in enumerate(models):
        errors, covered = np.array([found[model] for found in results[table]]).T
        axes[2].plot(errors, [place + shift] * SPLITS, "o", ms=3, color=color, alpha=0.6)
        label = table if place == 0 else None
        axes[2].plot(errors.mean(), place + shift, "o", ms=9, color=color, label=label)
        if not np.isnan(covered).all():
            text = f"{covered.mean():.0%}"
            axes[2].text(0.9, place + shift, text, color=color, va="center", ha="center")
axes[2].text(0.9, 0, "coverage\n(aim 90%)", va="center", ha="center", fontsize="small")
axes[2].set(xlim=(None, 0.97), ylim=(len(models) + 0.1, -0.5), title="errors on new rows")
axes[2].set(xlabel="root mean square error, standard deviations of y")
axes[2].set_yticks(range(len(models)), models)
axes[2].grid(axis="y", color="0.9")
axes[2].legend(fontsize="small", loc="lower center")

if "__file__" in globals():  # run as a script, not by the gallery
    target = Path(__file__).with_name("refit_network.png")
    figure.savefig(target, dpi=120)
    print(f"figure: {target.name}")
plt.show()
