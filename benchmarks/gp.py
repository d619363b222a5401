"""Gaussian process regression on the nine UCI tables: errors, log densities, coverage.

Five of the tables' own splits, at most 1000 training and 2000 test rows, the same for all; columns
and targets are standardized on the training rows. Ours is the kernel of `CANDIDATES` with the
largest evidence on the training rows, one input scale for every column. Beside it scikit-learn's
and gpytorch's exact processes with RBF kernels, one length for every column, and a random forest.
All processes begin at noise 0.1 with lengths that fit d columns, and may go down to noise 1e-6.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _common import bar, installed, main, rounded, timed
from _store import Store, package_sources
from _tables import UCI9, stored
from sklearn.ensemble import RandomForestRegressor
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.preprocessing import StandardScaler

from sknk import NTKGaussianProcessRegressor
from sknk.kernels import NNGP, NTK

SOURCES = package_sources()
CANDIDATES = {
    "NTK": NTK(depth=1, bias_var=0.1),
    "erf NNGP": NNGP(depth=1, activation="erf", bias_var=0.1),
    "NTK + RBF": 1.0 * NTK(depth=1, bias_var=0.1)
    + 1.0 * NNGP(depth=1, activation="rbf", weight_var=1.0),
}
SPLITS, MOST, MOST_TEST = 5, 1000, 2000
QUICK = {"splits": 1, "most": 120, "trees": 20, "steps": 20}
FULL = {"splits": SPLITS, "most": MOST, "trees": 300, "steps": 100}
OURS, SKLEARN, GPYTORCH, FOREST = "sknk", "scikit-learn", "gpytorch", "random forest"
PROCESSES = (SKLEARN, GPYTORCH)
NOISE, NOISE_BOUNDS = 0.1, (1e-6, 1e1)
COVERAGE, Z = 0.9, 1.6448536269514722
NUMBERS = ("log_density", "rmse", "coverage", "fit_seconds")

Rows = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
Result = dict[str, Any]


def measure(quick: bool, folder: Path | None) -> dict[str, Any]:
    """Score every table, print a line for each; judge all of them."""
    sizes = QUICK if quick else FULL
    found, absent = stored(UCI9[1::3] if quick else UCI9)
    store = Store(folder, __file__)
    results = {}
    for name, table in found.items():
        results[name] = one_table(name, table, sizes, store)
        for who, line in results[name]["contestants"].items():
            values = "  ".join(f"{k} {line[k]:.4g}" for k in NUMBERS if line[k] is not None)
            print(f"{name:<10}{who:<22}{values}", flush=True)
    gained = {
        f"{number} beside {peer}": gains(results, peer, number)
        for number, peers in (("log_density", PROCESSES), ("rmse", (*PROCESSES, FOREST)))
        for peer in peers
    }
    better = {
        name: sum(g["gain"] > 0 for g in sets.values() if g) if any(sets.values()) else None
        for name, sets in gained.items()
    }
    for name, count in better.items():
        print(f"{name:<36} better on {count} of {len(results)} sets")
    covered = [r["contestants"][OURS]["coverage"] for r in results.values()]
    coverage = None if not covered or None in covered else float(np.mean(covered))
    majority = len(results) // 2 + 1
    bars = [
        bar(
            f"sets of {len(results)} with better log density than {peer}'s",
            better[f"log_density beside {peer}"],
            majority,
            at_least=True,
        )
        for peer in PROCESSES
    ]
    for limit, at_least in ((0.85, True), (0.95, False)):
        bars.append(bar("mean coverage of 90 % intervals", coverage, limit, at_least=at_least))
    return {
        "bars": bars,
        **sizes,
        "units": "standard deviations of the training targets; log density in nats, noise included",
        "candidates": {name: repr(kernel) for name, kernel in CANDIDATES.items()},
        "peers": {name: installed(name) for name in PROCESSES},
        "fits": store.counts(),
        "sets_where_ours_is_better": better,
        "gains": gained,
        "absent_tables": absent,
        "tables": results,
    }


# --- one table ------------------------------------------------------------------------------------


def one_table(name: str, table: dict[str, np.ndarray], sizes: Any, store: Store) -> dict[str, Any]:
    """Fit everyone on every split; ours is chosen by its evidence."""
    by_split = []
    for k in range(sizes["splits"]):
        rows = split(table, k, sizes["most"])
        fits = {
            who: store.get([name, k, who], settings, lambda fit=fit, rows=rows: fit(rows))
            for who, (settings, fit) in contestants(sizes).items()
        }
        by_split.append({OURS: chosen(fits), **fits})
    found = {who: over_splits([fits[who] for fits in by_split]) for who in by_split[0]}
    found[OURS]["chosen"] = [fits[OURS].get("chosen") for fits in by_split]
    counts = {"train_rows": len(rows[1]), "test_rows": len(rows[3]), "d": rows[0].shape[1]}
    return {**counts, "contestants": found}


def contestants(sizes: Any) -> dict[str, tuple[dict[str, Any], Callable[[Rows], Result]]]:
    """Return every contestant's fit, and the settings that its results depend on."""
    shared = {"most": sizes["most"], "most_test": MOST_TEST}
    own = {**shared, "sources": SOURCES}
    steps, trees = {"steps": sizes["steps"]}, {"trees": sizes["trees"]}
    found: dict[str, Any] = {
        f"{OURS}, {name}": ({**own, "kernel": repr(kernel)}, partial(ours, kernel))
        for name, kernel in CANDIDATES.items()
    }
    for who, package, fit, options in (
        (SKLEARN, "scikit-learn", sklearn_process, {}),
        (GPYTORCH, "gpytorch", gpytorch_process, steps),
        (FOREST, "scikit-learn", forest, trees),
    ):
        settings = {**shared, **options, "version": installed(package)}
        found[who] = (settings, partial(fit, **options))
    return found


def split(table: dict[str, np.ndarray], k: int, most: int) -> Rows:
    """Return standardized training rows and targets, test rows and targets."""
    X, y = np.asarray(table["X"], dtype=np.float64), np.asarray(table["y"], dtype=np.float64)
    draw = np.random.RandomState(k)
    test = table[f"split_{k}_test"]
    train = draw.permutation(np.setdiff1d(np.arange(len(X)), test))[:most]
    test = draw.permutation(test)[:MOST_TEST]
    scaler = StandardScaler().fit(X[train])
    y = (y - y[train].mean()) / y[train].std()
    return scaler.transform(X[train]), y[train], scaler.transform(X[test]), y[test]


def chosen(fits: dict[str, Result]) -> Result:
    """Return the candidate with the largest evidence, with the seconds of all."""
    candidates = {name: fits[f"{OURS}, {name}"] for name in CANDIDATES}
    fine = {name: fit for name, fit in candidates.items() if "failed" not in fit}
    if not fine:
        return {"failed": "; ".join(sorted({fit["failed"] for fit in candidates.values()}))}
    best = max(fine, key=lambda name: fine[name]["evidence"])
    seconds = sum(fit["fit_seconds"] for fit in fine.values())
    return {**fine[best], "chosen": best, "fit_seconds": rounded(seconds)}


def over_splits(runs: list[Result]) -> dict[str, Any]:
    """Return means over the splits that have not failed, and every split's scores."""
    line: dict[str, Any] = {}
    for number in NUMBERS:
        values = [run[number] for run in runs if run.get(number) is not None]
        line[number] = rounded(float(np.mean(values))) if values else None
    for number in ("log_density", "rmse"):
        line[f"{number}_by_split"] = [run.get(number) for run in runs]
    if any("evidence" in run for run in runs):
        line["evidence_by_split"] = [run.get("evidence") for run in runs]
    line["warnings"] = sorted({kind for run in runs for kind in run.get("warnings", {})})
    failed = {str(k): run["failed"] for k, run in enumerate(runs) if "failed" in run}
    return line | ({"failed": failed} if failed else {})


# --- contestants ----------------------------------------------------------------------------------


def ours(kernel: Any, rows: Rows) -> Result:
    """Fit ours with one kernel."""
    X, y, X_test, y_test = rows
    model = NTKGaussianProcessRegressor(
        kernel, ard=True, normalize_y=True, noise_variance_bounds=NOISE_BOUNDS
    )
    seconds = rounded(timed(lambda: model.fit(X, y))())
    low, high = model.predict_interval(X_test, alpha=1.0 - COVERAGE).T
    return {
        **errors(model.predict(X_test), y_test),
        "log_density": rounded(float(model.predict_log_density(X_test, y_test).mean())),
        "coverage": rounded(float(((low <= y_test) & (y_test <= high)).mean())),
        "fit_seconds": seconds,
        "evidence": round(float(model.log_marginal_likelihood_value_), 4),
        "noise_variance": rounded(model.noise_variance_),
    }


def sklearn_process(rows: Rows) -> Result:
    """Fit scikit-learn's process."""
    X, y, X_test, y_test = rows
    lengths = np.full(X.shape[1], X.shape[1] ** 0.5)
    kernel = ConstantKernel(1.0) * RBF(lengths) + WhiteKernel(NOISE, NOISE_BOUNDS)
    model = GaussianProcessRegressor(kernel, normalize_y=True)
    seconds = rounded(timed(lambda: model.fit(X, y))())
    mean, std = model.predict(X_test, return_std=True)  # WhiteKernel's diagonal is in it
    noise = {"noise_variance": rounded(float(model.kernel_.k2.noise_level))}
    return {**gaussian(mean, std, y_test), "fit_seconds": seconds, **noise}


def gpytorch_process(rows: Rows, steps: int) -> Result:
    """Fit gpytorch's process by Cholesky factorizations, as its documentation's first example."""
    import gpytorch

    X, y, X_test, y_test = (torch.from_numpy(part) for part in rows)
    d = X.shape[1]

    class Process(gpytorch.models.ExactGP):
        def __init__(self, likelihood: Any) -> None:
            super().__init__(X, y, likelihood)
            self.mean_module = gpytorch.means.ConstantMean()
            self.covar_module = gpytorch.kernels.ScaleKernel(
                gpytorch.kernels.RBFKernel(ard_num_dims=d)
            )

        def forward(self, x: torch.Tensor) -> Any:
            moments = self.mean_module(x), self.covar_module(x)
            return gpytorch.distributions.MultivariateNormal(*moments)

    floor = gpytorch.constraints.GreaterThan(NOISE_BOUNDS[0])
    likelihood = gpytorch.likelihoods.GaussianLikelihood(noise_constraint=floor)
    model = Process(likelihood).double()
    model.covar_module.base_kernel.lengthscale = d**0.5
    model.covar_module.outputscale = 1.0
    likelihood.noise = NOISE
    objective = gpytorch.mlls.ExactMarginalLogLikelihood(likelihood, model)

    def fit() -> None:
        model.train()
        adam = torch.optim.Adam(model.parameters(), lr=0.1)
        for _ in range(steps):
            adam.zero_grad()
            (-objective(model(X), y)).backward()
            adam.step()

    with (
        gpytorch.settings.fast_computations(False, False, False),
        gpytorch.settings.max_cholesky_size(10**6),
    ):
        seconds = rounded(timed(fit)())
        model.eval()
        with torch.no_grad():
            found = likelihood(model(X_test))
            mean, std = found.mean.numpy(), found.variance.sqrt().numpy()
    noise = {"noise_variance": rounded(float(likelihood.noise))}
    return {**gaussian(mean, std, y_test.numpy()), "fit_seconds": seconds, **noise}


def forest(rows: Rows, trees: int) -> Result:
    """Fit a random forest, which has no density."""
    X, y, X_test, y_test = rows
    model = RandomForestRegressor(trees, random_state=0)
    seconds = rounded(timed(lambda: model.fit(X, y))())
    return {**errors(model.predict(X_test), y_test), "fit_seconds": seconds}


def errors(mean: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """Return the root mean square error, in deviations of the training targets."""
    return {"rmse": rounded(float(np.sqrt(np.mean((mean - y) ** 2))))}


def gaussian(mean: np.ndarray, std: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """Score Gaussian predictions of new targets, noise included."""
    z = (y - mean) / std
    density = -0.5 * z**2 - np.log(std) - 0.5 * np.log(2.0 * np.pi)
    return {
        **errors(mean, y),
        "log_density": rounded(float(density.mean())),
        "coverage": rounded(float((np.abs(z) <= Z).mean())),
    }


# --- all tables -----------------------------------------------------------------------------------


def gains(results: dict[str, Any], peer: str, number: str) -> dict[str, dict[str, float] | None]:
    """Return by how much ours is better on each set, over splits where neither has failed.

    None where the peer has failed on all splits, or ours on any: that set counts as not better.
    """
    found: dict[str, dict[str, float] | None] = {}
    for name, result in results.items():
        mine, theirs = (result["contestants"][who] for who in (OURS, peer))
        pairs = zip(mine[f"{number}_by_split"], theirs[f"{number}_by_split"], strict=True)
        sign = 1.0 if number == "log_density" else -1.0
        each = np.array([sign * (a - b) for a, b in pairs if a is not None and b is not None])
        if "failed" in mine or not len(each):
            found[name] = None
            continue
        error = float(each.std(ddof=1) / len(each) ** 0.5) if len(each) > 1 else None
        found[name] = {
            "gain": rounded(float(each.mean())),
            "standard_error": None if error is None else rounded(error),
        }
    return found


if __name__ == "__main__":
    main(measure, __file__, resumes=True)
