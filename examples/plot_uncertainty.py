"""
Are intervals as wide as they should be?
========================================

A Gaussian process predicts a law for every new target. On the diabetes table, 442 patients and a
score of how far the disease went on in a year, :class:`~sknk.NTKGaussianProcessRegressor` is judged
by what such a law has to deliver: intervals that hold as many targets as they promise, and a high
density where the targets turn out to be. Beside it stand scikit-learn's Gaussian process and the
jackknife+ intervals of :class:`~sknk.NTKRidgeCV`, which assume no law at all.
"""

from pathlib import Path
from time import perf_counter

import matplotlib.pyplot as plt
import numpy as np
from scipy import stats
from sklearn.datasets import load_diabetes
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sknk import NTKGaussianProcessRegressor, NTKRidgeCV
from sknk.inspection import CoverageDisplay, GPPredictionDisplay
from sknk.kernels import NTK

X, y = load_diabetes(return_X_y=True, as_frame=True)

# %%
# The models
# ----------
# Nothing is set by hand: amplitude, noise variance and the variance of the biases maximize the
# evidence. ``normalize_y`` makes the mean of the targets the prior mean.


def gp(**options) -> NTKGaussianProcessRegressor:
    """Return a Gaussian process of a network with one hidden layer."""
    return NTKGaussianProcessRegressor(NTK(depth=1, bias_var=0.1), normalize_y=True, **options)


rbf = ConstantKernel(1.0) * RBF(3.0) + WhiteKernel(0.5)
models = {
    "NTK-GP": gp(),
    "NTK-GP, Student prior": gp(prior="student"),
    "NTK-GP, ARD": gp(ard=True),
    "ensemble of networks": gp(posterior="ensemble"),
    "scikit-learn's GP": GaussianProcessRegressor(rbf, normalize_y=True),
    "NTKRidgeCV": NTKRidgeCV(),
}

# %%
# What is asked of them
# ---------------------
# ``predict`` returns the mean and the standard deviation of the *latent function*.
# ``predict_quantiles``, ``predict_interval`` and ``predict_log_density`` are about new *targets*:
# they add the noise. One call of ``predict_quantiles`` has the ends of all intervals. The standard
# deviation of scikit-learn's model has the noise in it, for its ``WhiteKernel`` is part of the
# kernel.

LEVELS = np.arange(1, 20) / 20
TAILS = np.concatenate([(1 - LEVELS) / 2, (1 + LEVELS) / 2])


def predictions(model, rows, target) -> tuple[np.ndarray, np.ndarray]:
    """Return intervals at all levels (l, m, 2), and log densities of the targets (m,)."""
    if isinstance(model, NTKRidgeCV):
        ends = [model.predict_interval(rows, alpha=alpha) for alpha in 1 - LEVELS]
        return np.stack(ends), np.full(len(rows), np.nan)
    if isinstance(model, GaussianProcessRegressor):
        law = stats.norm(*(v[:, None] for v in model.predict(rows, return_std=True)))
        quantiles, density = law.ppf(TAILS), law.logpdf(target[:, None])[:, 0]
    else:
        quantiles = model.predict_quantiles(rows, TAILS)
        density = model.predict_log_density(rows, target)
    return quantiles.reshape(len(rows), 2, len(LEVELS)).transpose(2, 0, 1), density


# %%
# Five folds
# ----------
# Every patient is predicted once, by models that have not seen them.

intervals = {name: np.empty((len(LEVELS), len(y), 2)) for name in models}
found = {name: np.empty(len(y)) for name in models}
latent = np.empty((2, len(y)))
at_90 = np.argmin(np.abs(LEVELS - 0.9))

print(f"{'':26s}{'covered':>9s}{'width':>8s}{'log density':>13s}{'seconds':>9s}")
for name, model in models.items():
    start = perf_counter()
    for rows, new in KFold(5, shuffle=True, random_state=0).split(X):
        scaler = StandardScaler().fit(X.iloc[rows])
        table, fresh = scaler.transform(X.iloc[rows]), scaler.transform(X.iloc[new])
        model.fit(table, y[rows].to_numpy())
        intervals[name][:, new], found[name][new] = predictions(model, fresh, y[new].to_numpy())
        if name == "NTK-GP":
            latent[:, new] = model.predict(fresh, return_std=True)
    seconds = perf_counter() - start
    lower, upper = intervals[name][at_90].T
    covered, width = np.mean((lower <= y) & (y <= upper)), np.mean(upper - lower)
    density = "none" if name == "NTKRidgeCV" else f"{found[name].mean():.3f}"
    print(f"{name:26s}{covered:9.1%}{width:8.0f}{density:>13s}{seconds:9.1f}")

# %%
# All of them are honest, and alike: the table is nearly linear, and noise decides. Two numbers tell
# them apart. ARD has ten hyperparameters more, which 350 rows do not pay for. The spread of an
# ensemble is that of its networks alone, a little less than what a Gaussian process does not know,
# and its intervals are a little narrower.
#
# Leave-one-out
# -------------
# One fit on the whole table also tells, in closed form, what the model without patient i predicts
# for patient i. The evidence, which chose the hyperparameters, can be asked at others.

model = make_pipeline(StandardScaler(), gp()).fit(X, y)
fitted = model[-1]
loo = fitted.loo_predictive()
print(f"\nkernel {fitted.kernel_}, amplitude {fitted.amplitude_:.0f}")
print(
    f"noise: standard deviation {np.sqrt(fitted.noise_variance_):.0f}, of the targets {y.std():.0f}"
)
print(f"leave-one-out log density {loo.log_density.mean():.3f}")
print(f"evidence {fitted.log_marginal_likelihood_value_:.1f} nats")

# %%
# The picture
# -----------
# Top left, coverage of all targets: above the diagonal intervals are too wide, below too narrow.
# Taken for a target's, the standard deviation of the latent function keeps half its promise or
# less. Middle, the evidence as amplitude and noise change, in nats below its maximum. Right, the
# leave-one-out errors in units of their standard deviations, beside the quantiles of a normal law.
# Below, slices through the model at the median patient: the band is the latent function's, the
# dashed lines are intervals of new targets.

figure = plt.figure(figsize=(12, 8), layout="constrained")
above, below = figure.subfigures(2, 1, height_ratios=[1.1, 1])
first, second, third = above.subplots(1, 3, width_ratios=[1.2, 1, 1])

for name in ("NTK-GP", "scikit-learn's GP", "NTKRidgeCV"):
    CoverageDisplay.from_predictions(
        y, intervals[name], levels=LEVELS, name=name, ax=first, markersize=3
    )
CoverageDisplay.from_predictions(
    y, mean=latent[0], std=latent[1], name="without noise", ax=first, markersize=3
)
first.legend(fontsize="x-small", loc="upper left")

names = fitted.hyperparameter_names_
shifts = np.linspace(-2.2, 2.6, 17), np.linspace(-0.75, 0.75, 17)  # of logarithms
evidence = np.empty((17, 17))
for i, shift in enumerate(shifts[0]):
    for j, step in enumerate(shifts[1]):
        theta = fitted.theta_.copy()
        theta[names.index("amplitude")] += shift
        theta[names.index("noise_variance")] += step
        evidence[j, i] = fitted.log_marginal_likelihood(theta)
lines = second.contour(
    fitted.amplitude_ * np.exp(shifts[0]),
    fitted.noise_variance_ * np.exp(shifts[1]),
    evidence - fitted.log_marginal_likelihood_value_,
    levels=[-30, -20, -10, -5, -2],
)
second.clabel(lines, fmt="%d")
second.plot(fitted.amplitude_, fitted.noise_variance_, "o", color="tab:blue")
second.set(
    xscale="log", yscale="log", xlabel="amplitude", ylabel="noise variance", title="log evidence"
)

z = np.sort((y - loo.mean) / loo.std)
normal = stats.norm.ppf((np.arange(len(z)) + 0.5) / len(z))
third.plot(normal, z, "o", markersize=3, alpha=0.5)
third.plot([-3, 3], [-3, 3], color="0.4", lw=1, ls="--")
third.set(xlabel="normal quantile", ylabel="leave-one-out error / std", title="leave-one-out")

features = ["bmi", "bp", "s5"]
slices = below.subplots(1, 3, sharey=True)
display = GPPredictionDisplay.from_estimator(
    model, X, y=y, feature=features, name="mean", ax=slices
)
for feature, ax, x in zip(features, slices, display.x, strict=True):
    rows = X.median().to_frame().T.loc[[0] * len(x)].assign(**{feature: x})
    ends = fitted.predict_interval(model[:-1].transform(rows), alpha=0.1)
    dashed = ax.plot(x, ends, color="tab:blue", lw=1, ls="--")
slices[0].legend(dashed[:1], ["90 % of new targets"], fontsize="small", loc="lower right")

if "__file__" in globals():  # run as a script, not by the gallery
    target_file = Path(__file__).with_name("uncertainty.png")
    figure.savefig(target_file, dpi=120)
    print(f"figure: {target_file.name}")
plt.show()
