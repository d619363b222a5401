"""
Which labels of my table are wrong?
===================================

Labels are made by people, and some are wrong. A model that has not seen a row can contradict its
label, and leave-one-out in closed form has such a model for every row at the price of one. Here a
tenth of the labels of three tables are changed, and five methods look for them. Then the tables
are taken as they come: are there wrong labels among the digits that ship with scikit-learn?
"""

from pathlib import Path
from time import perf_counter

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from sknk import NTKRidgeClassifier, NTKRidgeClassifierCV
from sknk.attribution import DataOOB, find_label_errors
from sknk.kernels import NTK, Normalized

tables = {
    "breast cancer": load_breast_cancer(return_X_y=True),
    "wine": load_wine(return_X_y=True),
    "digits": load_digits(return_X_y=True),
}
SEEDS, MOST = 2, 400


def spoiled(table: str, seed: int):
    """Return rows, labels with a tenth changed, which, and clean rows with their labels."""
    X, y = tables[table]
    X_train, X_clean, y_train, y_clean = train_test_split(
        X, y, test_size=0.3, stratify=y, random_state=seed
    )
    X_train, y_train = X_train[:MOST], y_train[:MOST]
    rng = np.random.default_rng(seed)
    changed = rng.random(len(y_train)) < 0.1
    classes = len(np.unique(y))
    other = (y_train + rng.integers(1, classes, len(y_train))) % classes
    scaler = StandardScaler().fit(X_train)
    rows, clean = scaler.transform(X_train), scaler.transform(X_clean[:150])
    return rows, np.where(changed, other, y_train), changed, clean, y_clean[:150]


# %%
# Five methods
# ------------
# By default :func:`~sknk.attribution.find_label_errors` ranks rows by the margin with which the
# model of all other rows contradicts the label. Every attributor can rank rows too: those of low
# value are suspicious. Some of them need clean rows, which judge. A forest that is there already
# judges each row by its trees that were grown without it.

ridge, forest = NTKRidgeClassifierCV(), DataOOB(RandomForestClassifier(200, random_state=0))
METHODS = {  # the model, a method or an attributor, whether clean rows judge
    "leave one out": (ridge, "loo", False),
    "Data-OOB, random forest": (None, forest, False),
    "KNN-Shapley, clean rows": (None, "knn_shapley", True),
    "influence, clean rows": (ridge, "influence", True),
    "representer, clean rows": (ridge, "representer", True),
}

areas = {name: {table: [] for table in tables} for name in METHODS}
seconds = {name: [] for name in METHODS}
shown = {}
for table in tables:
    for seed in range(SEEDS):
        X, y, changed, X_clean, y_clean = spoiled(table, seed)
        for name, (model, method, needs) in METHODS.items():
            clean = {"X_val": X_clean, "y_val": y_clean} if needs else {}
            began = perf_counter()
            found = find_label_errors(model, X, y, method=method, **clean)
            seconds[name].append(perf_counter() - began)
            areas[name][table].append(roc_auc_score(changed, found.suspicion_))
            if table == "breast cancer" and seed == 0:
                shown[name] = changed[found.ranked_indices_]

print(f"{'AUROC':26s}" + "".join(f"{table:>16s}" for table in tables) + f"{'seconds':>10s}")
for name, of in areas.items():
    means = "".join(f"{np.mean(of[table]):16.3f}" for table in tables)
    print(f"{name:26s}{means}{np.mean(seconds[name]):10.2f}")

# %%
# A table as it is
# ----------------
# Now all 1797 digits with the labels that they came with. The ten most suspicious, with the label
# and what the model of all other digits says.

digits, labels = tables["digits"]
reader = NTKRidgeClassifier(Normalized(NTK(depth=2)), alpha=0.01)
strange = find_label_errors(reader, digits, labels).ranked_indices_[:10]
others = reader.fit(digits, labels).loo_predictions_.argmax(axis=1)
print("\n" + "".join(f"a {labels[i]}, or a {others[i]}?  " for i in strange))

# %%
# The picture
# -----------
# Above on the left, the breast cancer table: who looks at the most suspicious tenth of the rows has
# found most of the changed labels. On the right, three tables, each spoiled twice. Where the
# question is whether a label is wrong, the row's own residual is the answer, and it needs no clean
# rows. Influence and representer values answer other questions, about the predictions of clean
# rows, and a wrong label need not do much to them.
#
# Below, real digits under suspicion. Some are so badly written that nobody can tell; others look
# like what the model says rather than their label.

figure = plt.figure(figsize=(12.0, 6.6), layout="constrained")
above, below = figure.subfigures(2, 1, height_ratios=[2.2, 1.0])
left, right = above.subplots(1, 2)
colors = dict(zip(METHODS, ("C0", "C2", "C1", "0.5", "0.75"), strict=True))
for name, hits in shown.items():
    looked = 100 * np.arange(1, len(hits) + 1) / len(hits)
    left.plot(looked, 100 * hits.cumsum() / hits.sum(), color=colors[name], label=name)
left.plot([0, 100], [0, 100], "k:", lw=1, label="at random")
left.axvline(10, color="0.8", lw=0.8, zorder=0)
left.set(xlim=(0, 50), ylim=(0, 103), title="breast cancer, a tenth of the labels changed")
left.set(xlabel="rows looked at, %", ylabel="changed labels found, %")
left.legend(fontsize="small", loc="lower right")

marks = dict(zip(tables, "os^", strict=True))
for place, (name, of) in enumerate(areas.items()):
    for table, mark in marks.items():
        label = table if place == 0 else None
        heights = place + 0.2 * (list(marks).index(table) - 1) + np.zeros(SEEDS)
        right.plot(of[table], heights, mark, color=colors[name], ms=5, alpha=0.8, label=label)
    mean = np.mean(list(of.values()))
    right.text(1.02, place, f"{mean:.3f}", va="center", color=colors[name])
right.set_yticks(range(len(METHODS)), METHODS)
right.set(xlim=(0.5, 1.01), ylim=(len(METHODS) - 0.5, -0.5), xlabel="AUROC of changed labels")
right.set_title("three tables, two times; means")
right.grid(axis="y", color="0.93")
right.legend(fontsize="small", loc="upper left")

for ax, i in zip(below.subplots(1, len(strange)), strange, strict=True):
    ax.imshow(digits[i].reshape(8, 8), cmap="gray_r")
    ax.set_title(f"label {labels[i]}\nothers say {others[i]}", fontsize="small")
    ax.set_axis_off()

if "__file__" in globals():  # run as a script, not by the gallery
    target = Path(__file__).with_name("find_label_errors.png")
    figure.savefig(target, dpi=120)
    print(f"figure: {target.name}")
plt.show()
