"""
When a classifier says 90 %, is it right nine times in ten?
===========================================================

:class:`~sknk.NTKGaussianProcessClassifier` averages the softmax over all latent functions that the
data leave possible. How it approximates their law decides what its probabilities are worth. Here
the Dirichlet and the Laplace form stand beside scikit-learn's Gaussian process classifier, a
support vector machine calibrated by cross-validation, and :class:`~sknk.NTKRidgeClassifierCV`, on
a table with two classes and on images with ten.
"""

from pathlib import Path
from time import perf_counter

import matplotlib.pyplot as plt
import numpy as np
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.gaussian_process.kernels import RBF, ConstantKernel
from sklearn.metrics import accuracy_score, log_loss
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from sknk import NTKGaussianProcessClassifier, NTKRidgeClassifierCV
from sknk.inspection import CalibrationDisplay, expected_calibration_error
from sknk.kernels import NTK

# %%
# The models
# ----------
# Amplitudes and kernels are estimated. "dirichlet" turns labels into targets of a regression and
# maximizes the leave-one-out probability of the true classes; "laplace" maximizes its evidence, as
# scikit-learn's does, class by class.


def models(n_features: int) -> dict:
    """Return the classifiers by name, each behind a scaler."""
    kernel = NTK(depth=1, bias_var=0.1)
    rbf = ConstantKernel(10.0) * RBF(np.sqrt(n_features))
    found = {
        "Dirichlet": NTKGaussianProcessClassifier(kernel),
        "Laplace": NTKGaussianProcessClassifier(kernel, inference="laplace"),
        "scikit-learn's": GaussianProcessClassifier(rbf),
        "SVC, calibrated": CalibratedClassifierCV(SVC(C=10.0)),
        "NTKRidgeClassifierCV": NTKRidgeClassifierCV(),
    }
    return {name: make_pipeline(StandardScaler(), model) for name, model in found.items()}


# %%
# Two tables
# ----------
# Few rows to learn from, many to judge by: calibration is measured in bins, and each needs rows.

tables = {
    "breast cancer, 2 classes": (load_breast_cancer(return_X_y=True), 200),
    "digits, 10 classes": (load_digits(return_X_y=True), 300),
}

results = {}
print(f"{'':26s}{'model':22s}{'accuracy':>9s}{'log loss':>10s}{'ECE':>7s}{'seconds':>9s}")
for table, ((X, y), n_train) in tables.items():
    rows, new = train_test_split(np.arange(len(X)), train_size=n_train, stratify=y, random_state=0)
    for name, model in models(X.shape[1]).items():
        start = perf_counter()
        probabilities = model.fit(X[rows], y[rows]).predict_proba(X[new])
        seconds = perf_counter() - start
        results[table, name] = y[new], probabilities
        accuracy = accuracy_score(y[new], probabilities.argmax(axis=1))
        loss = log_loss(y[new], probabilities)
        error = expected_calibration_error(y[new], probabilities, n_bins=10)
        print(f"{table:26s}{name:22s}{accuracy:9.3f}{loss:10.3f}{error:7.3f}{seconds:9.1f}")

# %%
# Accuracies differ little, probabilities a great deal. Laplace's approximation is centred at the
# mode of the latent functions. Where labels agree with their neighbours the mode is much nearer to
# zero than the mean, so it is timid, the more so the more classes share the probability (Kuss and
# Rasmussen 2005 show it for two). Its evidence still compares kernels. The Dirichlet form chooses
# its hyperparameters by the very probabilities that are asked for. So does the ridge classifier its
# temperature, without a law of the latent functions.
#
# The picture
# -----------
# Above the diagonal a classifier is right more often than it says. The bars, for the Dirichlet form
# only, are where a bin of a calibrated classifier lies by chance. They are long where few rows are:
# nine rows in ten or, of the digits, eight are in its last bin.

figure, axes = plt.subplots(1, 2, figsize=(11.5, 6), layout="constrained")
for ax, table in zip(axes, tables, strict=True):
    for name in models(1):
        CalibrationDisplay.from_predictions(
            *results[table, name],
            n_bins=10,
            name=name,
            ax=ax,
            band_level=0.9 if name == "Dirichlet" else None,
        )
    ax.set_title(table)

if "__file__" in globals():  # run as a script, not by the gallery
    target = Path(__file__).with_name("classifier_calibration.png")
    figure.savefig(target, dpi=120)
    print(f"figure: {target.name}")
plt.show()
