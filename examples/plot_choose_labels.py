"""
Which digits should someone label next?
=======================================

Images are cheap, labels are not: someone has to look. Here 1400 handwritten digits wait, 20 have a
label, and a kernel ridge classifier may ask for 20 more at a time. Which ones? The rows that
would lower its uncertainty about all others most need half the labels that random ones need.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from sknk import NTKRidgeClassifier
from sknk.active_learning import BatchActiveLearner, run_active_learning
from sknk.inspection import BatchDisplay, LearningCurveDisplay
from sknk.kernels import NTK

X, y = load_digits(return_X_y=True)
X = X / 16.0
BATCH = 20


def learner(selector: str) -> BatchActiveLearner:
    """Return a classifier that asks by one selector."""
    model = NTKRidgeClassifier(NTK(depth=2), alpha=0.1)
    return BatchActiveLearner(model, selector, batch_size=BATCH)


# %%
# Learning curves
# ---------------
# :func:`~sknk.active_learning.run_active_learning` plays the game on labels that are known: first
# labels and test rows are drawn, the same for everyone, then query, teach, score. ``"bait"`` asks
# for rows whose labels lower the summed predictive variance most, ``"lcmd"`` for the farthest row
# of the largest cluster of rows without labels. ``"margin"``, what is done most often, looks at
# class probabilities: rows whose two likeliest classes are closest. It catches up once there are
# labels enough to be right about what is unsure. A lesson appends to the factorization; nothing is
# fitted again.

learners = {name: learner(name) for name in ("bait", "lcmd", "margin", "random")}
curves = run_active_learning(learners, X, y, n_initial=20, n_batches=6, n_splits=3, random_state=0)
for name, labels in curves.labels_to_reach(0.9).items():
    print(f"{name:<7} 90 % of digits right with {labels:.0f} labels")

# %%
# One batch, seen
# ---------------
# A learner takes all rows, and nan where there is no label. What it asks for first are rows that
# stand for many others: spread over the clouds of the ten digits, none beside another, none at the
# rim, where outliers are.

rows, _ = train_test_split(np.arange(len(y)), test_size=0.2, stratify=y, random_state=0)
known = np.where(np.isin(np.arange(len(rows)), np.arange(BATCH)), y[rows], np.nan)
first = learner("bait").fit(X[rows], known)

figure, (left, right) = plt.subplots(1, 2, figsize=(10.0, 4.2), layout="constrained")
LearningCurveDisplay.from_predictions(curves, score_name="accuracy on 360 others", ax=left)
BatchDisplay.from_estimator(first, ax=right)

if "__file__" in globals():  # run as a script, not by the gallery
    target = Path(__file__).with_name("choose_labels.png")
    figure.savefig(target, dpi=120)
    print(f"figure: {target.name}")
plt.show()
