"""
Can a kernel learn which columns matter?
========================================

A kernel sees all columns alike, and every column that has nothing to say makes rows look less like
each other. With ``feature_learning="auto"``, :class:`~sknk.NTKRidgeCV` and
:class:`~sknk.NTKRidgeClassifierCV` learn a map of the columns from the fitted function and keep it
only where it predicts rows better that it has not seen. Here are a function with five columns of
ten, two real tables, and the same two among columns that are nothing but shuffled copies.
"""

from pathlib import Path
from time import perf_counter

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.datasets import load_diabetes, load_wine, make_friedman1
from sklearn.inspection import permutation_importance
from sklearn.model_selection import KFold, StratifiedKFold, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sknk import NTKRidgeClassifierCV, NTKRidgeCV
from sknk.inspection import FeatureImportanceDisplay

# %%
# The tables
# ----------
# A shuffled copy has the values of a real column in another order: it looks like the real ones, one
# by one, and knows nothing.


def with_shuffled(X, copies: int):
    """Return a table with shuffled copies of all its columns."""
    rng = np.random.default_rng(0)
    shuffled = [X.apply(rng.permutation).add_suffix(f" shuffled {k + 1}") for k in range(copies)]
    return X.join(shuffled)


diabetes, progress = load_diabetes(return_X_y=True, as_frame=True)
wine, cultivar = load_wine(return_X_y=True, as_frame=True)
planted, response = make_friedman1(300, noise=1.0, random_state=0)
tables = {
    "Friedman's function": (
        pd.DataFrame(planted, columns=[f"x{j}" for j in range(10)]),
        pd.Series(response),
    ),
    "diabetes": (diabetes, progress),
    "diabetes, shuffled": (with_shuffled(diabetes, 2), progress),
    "wine": (wine, cultivar),
    "wine, shuffled": (with_shuffled(wine, 2), cultivar),
}


def model_of(table: str, feature_learning: str | None):
    """Return a scaler and the model for a table."""
    own = NTKRidgeClassifierCV if table.startswith("wine") else NTKRidgeCV
    return make_pipeline(StandardScaler(), own(feature_learning=feature_learning))


# %%
# Does it help?
# -------------
# Three outer folds judge; the search for features happens inside the training part of each. Errors
# are mean squares, of wine log losses.

fitted, held_out = {}, {}
print(f"{'':22s}{'columns':>8s}{'plain':>9s}{'learned':>9s}{'seconds':>9s}  chosen in each fold")
for table, (X, y) in tables.items():
    classes = table.startswith("wine")
    folds = (StratifiedKFold if classes else KFold)(3, shuffle=True, random_state=0)
    metric = "neg_log_loss" if classes else "neg_mean_squared_error"
    options = {"cv": folds, "scoring": metric, "return_estimator": True, "return_indices": True}
    errors, start = [], perf_counter()
    for feature_learning in (None, "auto"):
        found = cross_validate(model_of(table, feature_learning), X, y, **options)
        errors.append(-found["test_score"].mean())
    seconds = perf_counter() - start
    chosen = ", ".join(model[-1].feature_learning_ for model in found["estimator"])
    print(f"{table:22s}{X.shape[1]:8d}{errors[0]:9.3g}{errors[1]:9.3g}{seconds:9.1f}  {chosen}")
    fitted[table], held_out[table] = found["estimator"][0], found["indices"]["test"][0]

# %%
# Where half of the columns say nothing the error more than halves; among shuffled copies it falls.
# Every column of the real tables was measured because it matters, so there is less to learn, and on
# these rows it does not pay: wine gets worse. Few of its 119 rows are hard, and which map suits
# those is mostly chance.
#
# How it was decided
# ------------------
# Each map is learned without a part of the rows and judged on it. ``feature_path_`` has the mean
# losses, what maps gain over none, and the standard errors of those differences. The map of largest
# gain is taken, if it gains more than 1.5 times its error.

path = fitted["Friedman's function"][-1].feature_path_
print("\nFriedman's function, first fold")
for name, rounds, loss, gain, error, _ in zip(*path.values(), strict=True):
    print(f"{name:10s} round {rounds}   loss {loss:5.2f}   gain {gain:5.2f} +- {error:.2f}")

# %%
# The picture
# -----------
# Left and middle, how steep the fitted function is along each column, beside the permutation
# importances of rows that it has not seen. Both find the same columns: x5 to x9 do not enter
# Friedman's function. They differ in how much: it bends along x0 and is straight along x3, and what
# bends is steep without going far. Right, the gains of all maps on rows not seen, with standard
# errors; a full marker is the map that was taken.

figure, axes = plt.subplots(1, 3, figsize=(14, 4.4), layout="constrained")
for ax, table in zip(axes, ("Friedman's function", "wine, shuffled"), strict=False):
    (X, y), new, model = tables[table], held_out[table], fitted[table]
    permuted = permutation_importance(
        model[-1],
        model[:-1].transform(X.iloc[new]),
        y.iloc[new],
        scoring="neg_log_loss" if table.startswith("wine") else None,
        n_repeats=20,
        random_state=0,
    )
    FeatureImportanceDisplay.from_estimator(
        model, reference=permuted, name="learned", reference_name="permutation", ax=ax, alpha=0.6
    )
    ax.set_title(table)

shifts = np.linspace(-0.3, 0.3, len(fitted))
for shift, (table, model) in zip(shifts, fitted.items(), strict=True):
    path, chosen = model[-1].feature_path_, model[-1].feature_learning_
    gain, error = (100 * path[name] / path["held_out_loss"][0] for name in ("gain", "gain_error"))
    places = np.arange(len(gain)) + shift
    (marks, *_) = axes[2].errorbar(
        gain[1:], places[1:], xerr=error[1:], fmt="o", mfc="white", label=table
    )
    taken = (path["feature_learning"] == chosen) & (path["round"] == model[-1].rounds_)
    axes[2].plot(gain[taken], places[taken], "o", color=marks.get_color(), zorder=3)
axes[2].axvline(0.0, color="0.4", lw=1, ls=":")
steps = zip(path["feature_learning"][1:], path["round"][1:], strict=True)
axes[2].set_yticks(range(1, len(gain)), [f"{name}, round {r}" for name, r in steps])
axes[2].set(
    ylim=(len(gain) - 0.5, 0.5), xlabel="gain, % of the loss without a map", title="all maps"
)
axes[2].legend(fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)

if "__file__" in globals():  # run as a script, not by the gallery
    target = Path(__file__).with_name("learn_features.png")
    figure.savefig(target, dpi=120)
    print(f"figure: {target.name}")
plt.show()
