"""
Which kernel for my table?
==========================

A tangent kernel has few choices: the NTK of a trained network or the NNGP of an untrained one, how
many hidden layers, how many of them stay fixed, biases or none, and the ridge. Here they are
cross-validated like any other hyperparameter, inside a ``Pipeline``, on three tables that ship with
scikit-learn. Beside the search stand :class:`~sknk.NTKRidgeClassifierCV` and
:class:`~sknk.NTKRidgeCV`, which need no grid, and three models people reach for. All see the same
folds.
"""

from pathlib import Path
from time import perf_counter

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.model_selection import GridSearchCV, KFold, StratifiedKFold, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, SVR

from sknk import NTKRidge, NTKRidgeClassifier, NTKRidgeClassifierCV, NTKRidgeCV
from sknk.kernels import NNGP, NTK

# %%
# The choices
# -----------
# Parameters of a kernel are reached through its name, as those of a pipeline step are. The kernel
# itself is one of them.


def kernel_grid(step: str) -> list[dict[str, list]]:
    """Return the grid of kernels and ridges for one pipeline step."""
    alphas = [0.01, 0.1, 1.0]
    shared = {f"{step}__kernel__bias_var": [0.0, 0.1], f"{step}__alpha": alphas}
    return [
        {
            f"{step}__kernel": [NTK()],
            f"{step}__kernel__depth": [1, 2, 3],
            f"{step}__kernel__fixed_depth": [0, 1],
            **shared,
        },
        {f"{step}__kernel": [NNGP()], f"{step}__kernel__depth": [1, 2, 3], **shared},
    ]


def searched(estimator, grid):
    """Standardize, then search a grid by three inner folds."""
    return GridSearchCV(make_pipeline(StandardScaler(), estimator), grid, cv=3)


SVM_GRID = {"C": [0.1, 1, 10, 100], "gamma": ["scale", 0.003, 0.01, 0.03, 0.1]}

classifiers = {
    "NTK or NNGP, searched": searched(NTKRidgeClassifier(NTK()), kernel_grid("ntkridgeclassifier")),
    "NTKRidgeClassifierCV()": make_pipeline(StandardScaler(), NTKRidgeClassifierCV()),
    "RBF-SVM, searched": searched(SVC(), {f"svc__{k}": v for k, v in SVM_GRID.items()}),
    "random forest": RandomForestClassifier(n_estimators=300, random_state=0),
    "histogram boosting": HistGradientBoostingClassifier(random_state=0),
}
regressors = {
    "NTK or NNGP, searched": searched(NTKRidge(NTK()), kernel_grid("ntkridge")),
    "NTKRidgeCV()": make_pipeline(StandardScaler(), NTKRidgeCV()),
    "RBF-SVM, searched": searched(
        SVR(), {f"svr__{k}": [100 * c for c in v] if k == "C" else v for k, v in SVM_GRID.items()}
    ),
    "random forest": RandomForestRegressor(n_estimators=300, random_state=0),
    "histogram boosting": HistGradientBoostingRegressor(random_state=0),
}

# %%
# One table of results
# --------------------
# Five outer folds score; whatever a model chooses, it chooses inside the training part of each.

strata = StratifiedKFold(5, shuffle=True, random_state=0)
folds = KFold(5, shuffle=True, random_state=0)
tasks = {
    "breast cancer (accuracy)": (
        load_breast_cancer(return_X_y=True),
        classifiers,
        strata,
        "accuracy",
    ),
    "wine (accuracy)": (load_wine(return_X_y=True), classifiers, strata, "accuracy"),
    "diabetes (R2)": (load_diabetes(return_X_y=True), regressors, folds, "r2"),
}

scores: dict[str, dict[str, np.ndarray]] = {}
print(f"{'table':26s}{'model':26s}{'mean':>8s}{'std':>8s}{'seconds':>9s}")
for table, ((X, y), models, splitter, metric) in tasks.items():
    scores[table] = {}
    for name, model in models.items():
        start = perf_counter()
        found = cross_validate(model, X, y, cv=splitter, scoring=metric)["test_score"]
        seconds = perf_counter() - start
        scores[table][name] = found
        print(f"{table:26s}{name:26s}{found.mean():8.3f}{found.std():8.3f}{seconds:9.1f}")

# %%
# What was chosen
# ---------------
# Fitted on a whole table, the search says which network it believes in.

X, y = load_diabetes(return_X_y=True)
chosen = regressors["NTKRidgeCV()"].fit(X, y)[-1]
print(f"\ndiabetes: {chosen.kernel_}, alpha={chosen.alpha_:.3g}")

# %%
# The picture
# -----------
# A point is one outer fold, a bar their mean.

figure, axes = plt.subplots(1, len(scores), figsize=(13, 3.6), layout="constrained")
for axis, (table, by_model) in zip(axes, scores.items(), strict=True):
    for row, (name, found) in enumerate(reversed(by_model.items())):
        color = "tab:blue" if name.startswith("NTK") else "tab:gray"
        axis.plot(found, np.full(len(found), row), "o", color=color, alpha=0.5)
        axis.plot([found.mean()] * 2, [row - 0.3, row + 0.3], color=color, lw=3)
    labels = list(reversed(by_model)) if axis is axes[0] else []
    axis.set_yticks(range(len(by_model)), labels or [""] * len(by_model))
    axis.set_title(table)
    axis.grid(axis="x", alpha=0.3)

if "__file__" in globals():  # run as a script, not by the gallery
    target = Path(__file__).with_name("quickstart.png")
    figure.savefig(target, dpi=120)
    print(f"figure: {target.name}")
plt.show()
