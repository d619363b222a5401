"""
Why does the model say this? Which training rows helped, and which harmed?
==========================================================================

A prediction of a kernel machine is made of training rows. An attributor tells how much each of them
did for one prediction, or against it. Here a digit is read wrongly; the question is which of 600
training images are to blame, and whether the model reads it rightly once they are gone.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from sknk import NTKRidgeClassifier
from sknk.attribution import LeaveOneOutAttributor, RepresenterAttributor, unlearn
from sknk.inspection import AttributionDisplay
from sknk.kernels import NTK, Normalized

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(
    X / 16, y, train_size=600, stratify=y, random_state=0
)

# %%
# Predictions that are wrong
# --------------------------

model = NTKRidgeClassifier(Normalized(NTK(depth=2)), alpha=0.01).fit(X_train, y_train)
predicted = model.predict(X_test)
wrong = np.flatnonzero(predicted != y_test)
print(f"{len(wrong)} of {len(y_test)} test images are read wrongly")

# %%
# Two answers
# -----------
# :class:`~sknk.attribution.RepresenterAttributor` splits the decision as it is: its terms sum to
# what speaks for the true class. :class:`~sknk.attribution.LeaveOneOutAttributor` asks what would
# change: it compares the prediction with that of the model that has never seen the row. Both need
# one factorization; nothing is fitted again.

attributors = {
    "leave one out": LeaveOneOutAttributor(model).fit(X_train, y_train),
    "representer": RepresenterAttributor(model).fit(X_train, y_train),
}
values = {name: one.attribute(X_test[wrong], y_test[wrong]) for name, one in attributors.items()}

# %%
# Is it true?
# -----------
# :func:`~sknk.attribution.unlearn` removes rows exactly. Take the most harmful rows by each answer
# away from the model, and for comparison random rows of the class that was said by mistake. How
# many of the wrong predictions come right?

STEPS = [2, 6, 18]
rng = np.random.default_rng(0)
values["random, of the mistaken class"] = np.array(
    [-rng.random(len(y_train)) * (y_train == predicted[case]) for case in wrong]
)
mended = {
    name: np.array(
        [
            [unlearn(model, v.argsort()[:k]).predict(X_test[[i]])[0] == y_test[i] for k in STEPS]
            for i, v in zip(wrong, found, strict=True)
        ]
    )
    for name, found in values.items()
}
print(f"{'rows removed':32s}" + "".join(f"{k:6d}" for k in STEPS))
for name, right in mended.items():
    print(f"{name:32s}" + "".join(f"{share:6.0%}" for share in right.mean(axis=0)))

# %%
# The picture
# -----------
# Above, a 6 whose bow is so long that it passes for a 0. Two rows are to blame: narrow zeros with a
# dent at the upper right. The most helpful row is the 6 that is most like it. Below, the values of
# these rows and of all others: a handful matter, and hundreds do next to nothing. On the right,
# the test. Removing the rows that leave-one-out calls harmful mends many of the wrong predictions,
# with 18 rows of 600 more than half. Removing those that speak loudest against the truth does
# little: when such a row is gone, its neighbours, which are like it, take over. As little do random
# rows.
#
# So the two answers differ because the questions do. A representer value tells what the model
# leans on; a leave-one-out value what it would do without.

CASE = int(np.argmax(mended["leave one out"][:, 0]))  # the first that two rows mend
i, found = wrong[CASE], values["leave one out"][CASE]
best, worst = found.argsort()[::-1][:6], found.argsort()[:6]

figure = plt.figure(figsize=(12.0, 7.4), layout="constrained")
above, below = figure.subfigures(2, 1, height_ratios=[1.0, 1.6])
images = above.subplots(2, 8, width_ratios=[1.0, 0.8, *[1.0] * 6])
for ax in images.flat:
    ax.set_axis_off()
gray = {"cmap": "gray_r", "vmin": 0, "vmax": 1}
images[0, 0].imshow(X_test[i].reshape(8, 8), **gray)
images[0, 0].set_title(f"a {y_test[i]}, read as {predicted[i]}", fontsize="medium")
kinds = ("helpful rows", best, "C0"), ("harmful rows", worst, "C3")
for line, (name, rows, color) in zip(images, kinds, strict=True):
    line[1].text(1.0, 0.5, name, color=color, ha="right", va="center")
    for ax, row in zip(line[2:], rows, strict=True):
        ax.imshow(X_train[row].reshape(8, 8), **gray)
        ax.set_title(f"{y_train[row]}: {found[row]:+.3f}", color=color, fontsize="medium")

left, middle, right = below.subplots(1, 3, width_ratios=[1.2, 1.0, 1.2])
AttributionDisplay.from_estimator(
    attributors["leave one out"],
    X_test,
    y_test,
    row=i,
    k=6,
    labels=[f"a {label}, row {j}" for j, label in enumerate(y_train)],
    name="what the Brier score loses without the row",
    ax=[left, middle],
)
left.set_title("rows that matter")
middle.set(title="all rows", xlabel="the same")
styles = {"leave one out": "o-", "representer": "s-", "random, of the mistaken class": "k:"}
for name, each in mended.items():
    right.plot([0, *STEPS], [0, *100 * each.mean(axis=0)], styles[name], label=name)
right.set(title=f"{len(wrong)} wrong predictions", ylim=(-3, 103))
right.set(xlabel="most harmful rows removed, of 600", ylabel="come right, %")
right.set_xticks([0, *STEPS])
right.legend(fontsize="small", loc="upper left")

if "__file__" in globals():  # run as a script, not by the gallery
    target = Path(__file__).with_name("explain_prediction.png")
    figure.savefig(target, dpi=120)
    print(f"figure: {target.name}")
plt.show()
