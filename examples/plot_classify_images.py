"""
Does a convolutional kernel see more in few images?
===================================================

A fully connected network reads an image as a row of numbers: it would learn as well if the pixels
were shuffled. A convolution knows which pixels are neighbors, and averaging over all positions
forgets where things are. All three have kernels in the limit of infinite width. Here they
classify the 8 x 8 digits that ship with scikit-learn, from two images of every digit up to fifteen.
"""

from pathlib import Path
from time import perf_counter

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.svm import SVC

from sknk import NTKRidgeClassifier
from sknk.kernels import Conv2d, Dense, Flatten, GlobalAvgPool2d, NetworkKernel, ReLU, Repeat

# %%
# Images are rows
# ---------------
# Every tool of scikit-learn takes rows, so images stay rows and the kernel is told their shape,
# channels first.

X, y = load_digits(return_X_y=True)
X = X / 16.0
SHAPE = (1, 8, 8)

order = np.random.RandomState(0).permutation(len(X))
pool, test = order[:150], order[150:300]

# %%
# Three networks
# --------------
# Layers are chained by ``>>``. The convolutional networks share their convolutions and differ in
# how pixels end: side by side, or as their mean. Pooling needs the covariances of all 64 x 64 pairs
# of pixels of two images, so it takes some fifty times longer; strides keep that small.

hidden = Conv2d(bias_var=0.1) >> ReLU() >> Conv2d(stride=2, bias_var=0.1) >> ReLU()
networks = {
    "fully connected": Flatten() >> Repeat(Dense(bias_var=0.1) >> ReLU(), times=2) >> Dense(),
    "convolutions, flattened": hidden >> Flatten() >> Dense(),
    "convolutions, averaged": hidden >> GlobalAvgPool2d() >> Dense(),
}
kernels = {name: NetworkKernel(net, image_shape=SHAPE) for name, net in networks.items()}
print(kernels["convolutions, averaged"])

# %%
# Gram matrices once
# ------------------
# One Gram matrix of all images serves every training set drawn from them.

grams, everything = {}, np.concatenate([pool, test])
for name, kernel in kernels.items():
    start = perf_counter()
    grams[name] = kernel(X[everything], X[pool])
    print(f"{name:26s}{perf_counter() - start:6.1f} s")

# %%
# Accuracy against the number of images
# -------------------------------------
# Ten draws of every size, the same for all kernels. The support vector machine has no choice left:
# a large C fits all training images.

SIZES, DRAWS = [20, 40, 80, 150], 10


def training_sets(size):
    """Draw balanced training sets, as positions in the pool."""
    labels = y[pool]
    for seed in range(DRAWS if size < len(pool) else 1):
        rng = np.random.RandomState(seed)
        if size == len(pool):
            yield np.arange(size)
            continue
        chosen = [
            rng.choice(
                np.flatnonzero(labels == digit),
                min(size // 10, (labels == digit).sum()),
                replace=False,
            )
            for digit in range(10)
        ]
        yield np.concatenate(chosen)


accuracy = {name: [] for name in networks}
for size in SIZES:
    for name, K in grams.items():
        scores = []
        for train in training_sets(size):
            model = SVC(kernel="precomputed", C=1e3).fit(K[train][:, train], y[pool[train]])
            scores.append(model.score(K[len(pool) :, train], y[test]))
        accuracy[name].append((np.mean(scores), np.std(scores)))

print(f"\n{'images':26s}" + "".join(f"{size:8d}" for size in SIZES))
for name, found in accuracy.items():
    print(f"{name:26s}" + "".join(f"{mean:8.3f}" for mean, _ in found))

# %%
# Convolutions of digits that all lie in the middle of their image see what a fully connected
# network sees, and a mean over positions forgets what tells a 6 from a 9. Where objects may lie
# anywhere, as in photographs, it is the mean that few images call for.
#
# Layers in a grid search
# -----------------------
# Parameters of layers have nested names, and a whole layer can be exchanged under its own.

search = GridSearchCV(
    NTKRidgeClassifier(kernels["convolutions, flattened"], alpha=0.01),
    {
        "kernel__network__conv2d__size": [1, 3, 5],
        "kernel__network__conv2d_2": [Conv2d(stride=2, bias_var=0.1), Conv2d(bias_var=0.1)],
    },
    cv=StratifiedKFold(3),
).fit(X[pool[:100]], y[pool[:100]])
print("\nfilters of the first layer, second layer: accuracy of three folds of 100 images")
for params, score in zip(
    search.cv_results_["params"], search.cv_results_["mean_test_score"], strict=True
):
    size, second = (params[f"kernel__network__{name}"] for name in ("conv2d__size", "conv2d_2"))
    print(f"  {size}  {second!s:40s}{score:.3f}")

# %%
# The picture
# -----------

figure, (left, right) = plt.subplots(
    1, 2, figsize=(10.5, 4.2), layout="constrained", width_ratios=[3, 1]
)
for (name, found), color, marker in zip(
    accuracy.items(), ("tab:gray", "tab:orange", "tab:blue"), "so^", strict=True
):
    mean, std = np.array(found).T
    left.plot(SIZES, mean, marker=marker, color=color, label=name)
    left.fill_between(SIZES, mean - std, np.minimum(mean + std, 1), color=color, alpha=0.15, lw=0)
left.set(
    xscale="log",
    xticks=SIZES,
    xlabel="training images",
    ylabel="accuracy on 150 others",
    title="Accuracy, mean and standard deviation of ten draws",
)
left.set_xticks(SIZES, [str(size) for size in SIZES])
left.set_xticks([], minor=True)
left.legend()
left.grid(alpha=0.3)

framed = np.pad(X[pool].reshape(-1, 8, 8), [(0, 0), (1, 1), (1, 1)])
sheet = np.vstack([np.hstack(framed[y[pool] == digit][:5]) for digit in range(10)])
right.imshow(sheet, cmap="gray_r", aspect="equal")
right.set(xticks=[], yticks=[], title="Some of the images")

if "__file__" in globals():  # run as a script, not by the gallery
    target = Path(__file__).with_name("classify_images.png")
    figure.savefig(target, dpi=120)
    print(f"figure: {target.name}")
plt.show()
