"""
What is each source of data worth?
==================================

Rows rarely come alone. They come from clinics, customers, machines or files, and the question is
about the whole source: pay for it again, mend it, or drop it. Here eight clinics send rows of the
breast cancer table. Clinic F sends the same rows as clinic E, and clinic H has two labels in five
wrong. Two attributors value the sources, and answer two different questions.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sknk import NTKRidgeClassifierCV
from sknk.attribution import GroupRemoval, ShapleyAttributor

X, y = load_breast_cancer(return_X_y=True)
CLINICS = np.array(list("ABCDEFGH"))
SPLITS = 3


def table(seed: int):
    """Return rows, labels and clinics to train on, rows and labels to be judged on."""
    X_train, X_val, y_train, y_val = train_test_split(
        X, y, train_size=344, stratify=y, random_state=seed
    )
    clinic = np.random.default_rng(seed).permutation(np.repeat(CLINICS, len(y_train) // 8))
    X_train[clinic == "F"], y_train[clinic == "F"] = X_train[clinic == "E"], y_train[clinic == "E"]
    wrong = np.flatnonzero(clinic == "H")[: int(0.4 * len(y_train) / 8)]
    y_train[wrong] = 1 - y_train[wrong]
    return X_train, y_train, clinic, X_val, y_val


# %%
# Two questions
# -------------
# :class:`~sknk.attribution.GroupRemoval` tells what the model would lose without a source, all
# others staying. :class:`~sknk.attribution.ShapleyAttributor` with ``groups`` shares out what all
# sources have achieved together: a source's value is what it adds on average to a coalition of
# others that came before it. Eight sources have 256 coalitions, and all are taken
# (``sampler="exact"``); beyond 16 sources orders are drawn. The utility is minus the Brier score of
# the rest of the table.

model = make_pipeline(StandardScaler(), NTKRidgeClassifierCV())
removal, shapley, shared = [], [], []
for seed in range(SPLITS):
    X_train, y_train, clinic, X_val, y_val = table(seed)
    one = GroupRemoval(model).fit(X_train, y_train, X_val, y_val, groups=clinic)
    other = ShapleyAttributor(model, sampler="exact")
    other.fit(X_train, y_train, X_val, y_val, groups=clinic)
    removal.append(one.values_)
    shapley.append(other.values_)
    shared.append((other.utility_full_ - other.utility_empty_, other.values_.sum()))

print(f"{'clinic':10s}" + "".join(f"{name:>8s}" for name in CLINICS))
for name, values in (("removal", removal), ("Shapley", shapley)):
    print(f"{name:10s}" + "".join(f"{value:8.4f}" for value in np.mean(values, axis=0)))
print("all sources together gain", np.round(shared, 4)[:, 0], "Shapley values sum to the same")

# %%
# What should be done?
# --------------------
# The score decides. Without H it should be better, without E or F nearly the same, without both of
# them worse.

LEFT_OUT = {"none": "", "E": "E", "F": "F", "E and F": "EF", "H": "H"}
scores = {name: [] for name in LEFT_OUT}
for seed in range(SPLITS):
    X_train, y_train, clinic, X_val, y_val = table(seed)
    for name, gone in LEFT_OUT.items():
        kept = ~np.isin(clinic, list(gone))
        fitted = model.fit(X_train[kept], y_train[kept])
        p = fitted.predict_proba(X_val)[:, 1]
        scores[name].append(np.mean((p - y_val) ** 2))
for name, found in scores.items():
    print(f"without {name:8s} Brier score of probabilities {np.mean(found):.4f}")

# %%
# The picture
# -----------
# On the left, what the model loses without one source. E and F are worth nothing there: neither is
# missed while the other stays. In the middle, the shares. Those of E and F are equal, and nearly as
# large as the others', for each adds much wherever the other has not come yet. The shares sum to
# what all rows achieve; what is lost without single sources sums to nothing in particular. So
# removal says what can go next: H first, then E or F, never both. Shapley values say how to divide
# what was earned. Both find the wrong labels of H. On the right, models that were fitted again
# agree.

figure, axes = plt.subplots(1, 3, figsize=(12.5, 4.2), layout="constrained")
colors = ["C3" if c == "H" else "C1" if c in "EF" else "C0" for c in CLINICS]
titles = "what is lost without it", "its share of what all achieve"
for ax, values, title in zip(axes[:2], (removal, shapley), titles, strict=True):
    ax.bar(CLINICS, np.mean(values, axis=0), color=colors, alpha=0.7)
    for found in values:
        ax.plot(CLINICS, found, "k.", ms=4)
    ax.axhline(0.0, color="0.3", lw=0.8)
    ax.set(title=title, xlabel="clinic", ylabel="Brier score of decision values")
axes[0].text(4.5, -0.001, "copies of\neach other", color="C1", ha="center", va="top")
axes[1].text(6.4, -0.02, "40 % of labels wrong", color="C3", ha="right")

means = [np.mean(found) for found in scores.values()]
colors = ["0.6", "C1", "C1", "C1", "C3"]
axes[2].barh(list(scores), means, color=colors, alpha=0.7)
for k, found in enumerate(scores.values()):
    axes[2].plot(found, [k] * SPLITS, "k.", ms=4)
axes[2].axvline(means[0], color="0.3", lw=0.8, ls=":")
axes[2].set(title="fitted again without", xlabel="Brier score of probabilities, lower is better")
axes[2].invert_yaxis()

if "__file__" in globals():  # run as a script, not by the gallery
    target = Path(__file__).with_name("value_groups.png")
    figure.savefig(target, dpi=120)
    print(f"figure: {target.name}")
plt.show()
