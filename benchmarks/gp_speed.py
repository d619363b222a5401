"""Gaussian processes: seconds to estimate hyperparameters, and what an exact fit costs.

(a) The evidence of a depth 3 NTK with noise, amplitude and bias, n = 1000, maximised by
scikit-learn on scikit-ntk's kernel (`SKNK_PEER_SKNTK`), by scikit-learn on our kernel, and by our
regressor, in turn. All begin at the same hyperparameters. (b) A classifier of three classes,
n = 1000, beside scikit-learn's with an RBF kernel; hyperparameters are estimated. Bars are judged
on ours with the kernel `BARRED`; ours with scikit-learn's kernel and with the default one are
measured too. (c) An exact fit at n = 5000 beside one Gram matrix and one Cholesky factorization.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from _common import bar, interleave, main, ratio, rounded, summary, timed
from _peers import Peer
from sklearn.datasets import make_classification
from sklearn.gaussian_process import GaussianProcessClassifier, GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.metrics import accuracy_score, log_loss
from sklearn.preprocessing import StandardScaler

from sknk import NTKGaussianProcessClassifier, NTKGaussianProcessRegressor
from sknk.gaussian_process._evidence import ExactEvidence
from sknk.kernels import NTK

START = {"depth": 3, "bias_var": 0.1, "amplitude": 1.0, "noise": 0.1}
PEER, OURS, MIXED = "scikit-learn, scikit-ntk's kernel", "sknk", "scikit-learn, our kernel"
GPC = "scikit-learn, RBF"
BARRED = "NTK, depth 1"
CLASSIFIER_BARS = {"dirichlet": 25.0, "laplace": 6.0}
TIMES_FASTER, OVER_FLOOR = 5.0, 1.5


def measure(quick: bool) -> dict[str, Any]:
    """Run the three parts."""
    parts = {
        "regression": regression(250 if quick else 1000, quick),
        "classification": classification(150 if quick else 1000, quick),
        "exact_fit": exact_fit(1000 if quick else 5000, quick),
    }
    bars = [line for part in parts.values() for line in part.pop("bars")]
    return {"bars": bars, **parts}


# --- (a) estimating the hyperparameters of a regressor --------------------------------------------


def regression(n: int, quick: bool) -> dict[str, Any]:
    """Time whole fits and single gradients of the evidence."""
    X, y = regression_problem(n, 10)
    fits: dict[str, Callable[[], float]] = {}
    gradients: dict[str, Callable[[], float]] = {}
    found: dict[str, dict[str, Any]] = {}
    peer = Peer.open("SKNK_PEER_SKNTK", "_worker_gp.py")
    if isinstance(peer, Peer):
        peer.ask(case="rows", X=X.tolist(), y=y.tolist(), start=START)

        def fit_peer() -> float:
            found[PEER] = peer.ask(case="fit")
            return found[PEER].pop("seconds")

        fits[PEER], gradients[PEER] = fit_peer, peer.timed(case="gradient")
    for name, make in ((MIXED, mixed), (OURS, ours)):
        fits[name] = fitting(name, make, X, y, found)
        gradients[name] = gradient_of(found, name)
    fit_seconds = interleave(fits, 1 if quick else 3, warm=0 if quick else 1)
    gradient_seconds = interleave(gradients, 3 if quick else 9)
    for name in fits:
        shown = {k: v for k, v in found[name].items() if k in {"evaluations", "evidence"}}
        print(
            f"{name:<36}{summary(fit_seconds[name])['median']:>8.3f} s, gradient "
            f"{summary(gradient_seconds[name])['median']:.4f} s, {shown}",
            flush=True,
        )
    faster = {
        name: {"fit": ratio(fit_seconds[name], fit_seconds[OURS])}
        | {"gradient": ratio(gradient_seconds[name], gradient_seconds[OURS])}
        for name in fits
        if name != OURS
    }
    bars = [
        bar(
            f"{what}, times faster than scikit-ntk",
            faster[PEER][part]["of_medians"] if PEER in faster else None,
            TIMES_FASTER,
            at_least=True,
        )
        for part, what in (("fit", "estimating hyperparameters"), ("gradient", "one gradient"))
    ]
    described = {"absent": peer} if isinstance(peer, str) else {"versions": peer.versions}
    if isinstance(peer, Peer):
        peer.close()
    contestants = {
        name: {
            "fit_seconds": summary(fit_seconds[name]),
            "gradient_seconds": summary(gradient_seconds[name]),
            **{k: v for k, v in found[name].items() if k != "model"},
        }
        for name in fits
    }
    return {
        "bars": bars,
        "n": n,
        "d": X.shape[1],
        "start": START,
        "evidence_unit": "nats of y",
        "peer": described,
        "contestants": contestants,
        "times_faster": faster,
    }


def regression_problem(n: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw a smooth function with interactions, and as much noise; columns are standardized."""
    draw = np.random.RandomState(0)
    X = StandardScaler().fit_transform(draw.standard_normal((n, d)))
    f = np.sin(X[:, 0]) * X[:, 1] + np.tanh(2.0 * X[:, 2]) + X[:, 3:6].sum(axis=1) / 3.0
    return X, f + draw.standard_normal(n)


def tangents() -> NTK:
    return NTK(depth=int(START["depth"]), bias_var=START["bias_var"])


def ours() -> Any:
    return NTKGaussianProcessRegressor(tangents(), normalize_y=True)


def mixed() -> Any:
    kernel = ConstantKernel(START["amplitude"]) * tangents() + WhiteKernel(START["noise"])
    return GaussianProcessRegressor(kernel, normalize_y=True)


def fitting(
    name: str, make: Callable[[], Any], X: np.ndarray, y: np.ndarray, found: dict[str, Any]
) -> Callable[[], float]:
    """Return a function that fits, notes what came out and returns the seconds."""

    def run() -> float:
        with counted() as calls:
            start = time.perf_counter()
            model = make().fit(X, y)
            seconds = time.perf_counter() - start
        scaled_by = 0.0 if name == OURS else len(y) * np.log(y.std())
        found[name] = {
            "evaluations": dict(sorted((f"of {n} rows", c) for n, c in calls.items())),
            "evidence": round(float(model.log_marginal_likelihood_value_ - scaled_by), 4),
            "kernel": repr(model.kernel_),
            "model": model,
        }
        return seconds

    return run


@contextmanager
def counted() -> Iterator[Counter[int]]:
    """Count evaluations of the evidence by their rows, ours and scikit-learn's."""
    calls: Counter[int] = Counter()
    own, theirs = ExactEvidence.__call__, GaussianProcessRegressor.log_marginal_likelihood

    def own_counted(self: ExactEvidence, *args: Any, **options: Any) -> Any:
        calls[len(self.observations.X)] += 1
        return own(self, *args, **options)

    def theirs_counted(self: GaussianProcessRegressor, *args: Any, **options: Any) -> Any:
        calls[len(self.X_train_)] += 1
        return theirs(self, *args, **options)

    with (
        patch.object(ExactEvidence, "__call__", own_counted),
        patch.object(GaussianProcessRegressor, "log_marginal_likelihood", theirs_counted),
    ):
        yield calls


def gradient_of(found: dict[str, Any], name: str) -> Callable[[], float]:
    """Return the timed gradient of a fitted model, at its hyperparameters."""

    def run() -> Any:
        model = found[name]["model"]
        theta = model.theta_ if name == OURS else model.kernel_.theta
        return model.log_marginal_likelihood(theta, eval_gradient=True, clone_kernel=False)

    return timed(run)


# --- (b) classifiers ------------------------------------------------------------------------------


def classification(n: int, quick: bool) -> dict[str, Any]:
    """Time fits with hyperparameters estimated; compare log losses on 2000 fresh rows."""
    X, y = classification_problem(n + 2000)
    train, test = (X[:n], y[:n]), (X[n:], y[n:])
    found: dict[str, Any] = {}

    def fitting(name: str, make: Callable[[], Any]) -> Callable[[], float]:
        def run() -> float:
            start = time.perf_counter()
            model = make().fit(*train)
            seconds = time.perf_counter() - start
            start = time.perf_counter()
            p = model.predict_proba(test[0])
            found[name] = {
                "predict_seconds": rounded(time.perf_counter() - start),
                "log_loss": rounded(float(log_loss(test[1], p, labels=model.classes_))),
                "accuracy": rounded(float(accuracy_score(test[1], p.argmax(axis=1)))),
                "kernel": repr(model.kernel_),
            }
            return seconds

        return run

    kernels = {BARRED: NTK(depth=1, bias_var=0.1), "RBF": rbf(X), "default kernel": None}
    fits = {
        f"{inference}, {name}": fitting(
            f"{inference}, {name}",
            lambda k=kernel, i=inference: NTKGaussianProcessClassifier(k, inference=i),
        )
        for name, kernel in kernels.items()
        for inference in CLASSIFIER_BARS
    }
    seconds = interleave(fits, 1 if quick else 5)
    slow = fitting(GPC, lambda: GaussianProcessClassifier(1.0 * rbf(X)))
    seconds[GPC] = [slow()]  # the slowest by far: once
    for name, spent in seconds.items():
        line = {k: found[name][k] for k in ("log_loss", "accuracy")}
        print(f"{name:<28}{summary(spent)['median']:>9.3f} s  {line}", flush=True)
    medians = {name: summary(spent)["median"] for name, spent in seconds.items()}
    bars = []
    for inference, limit in CLASSIFIER_BARS.items():
        name = f"{inference}, {BARRED}"
        quicker = medians[GPC] / medians[name]
        bars.append(bar(f"{name}, times faster than GPC", quicker, limit, at_least=True))
        over = found[name]["log_loss"] / found[GPC]["log_loss"]
        bars.append(bar(f"{name}, log loss over that of GPC", over, 1.0, at_least=False))
    return {
        "bars": bars,
        "n": n,
        "d": X.shape[1],
        "classes": 3,
        "test_rows": len(test[1]),
        "contestants": {
            name: {"fit_seconds": summary(seconds[name]), **found[name]} for name in seconds
        },
    }


def rbf(X: np.ndarray) -> RBF:
    """Return a kernel whose length fits standardized columns.

    From a length of 1 scikit-learn's climb can end where all rows are strangers to each other.
    """
    return RBF(X.shape[1] ** 0.5)


def classification_problem(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw three overlapping classes of two clusters each."""
    X, y = make_classification(
        n, 10, n_informative=6, n_redundant=2, n_classes=3, n_clusters_per_class=2, random_state=0
    )
    return StandardScaler().fit_transform(X), y


# --- (c) an exact fit -----------------------------------------------------------------------------


def exact_fit(n: int, quick: bool) -> dict[str, Any]:
    """Compare a fit with one Gram matrix and one Cholesky factorization, in turn."""
    X, y = regression_problem(n, 10)
    kernel, noise = tangents(), START["noise"]
    rows = torch.from_numpy(X)

    def fit() -> Any:
        return NTKGaussianProcessRegressor(
            kernel, noise_variance=noise, amplitude=START["amplitude"], optimizer=None
        ).fit(X, y)

    def floor() -> torch.Tensor:
        K = kernel(rows)
        K.diagonal().add_(noise)
        return torch.linalg.cholesky(K, out=K)

    runs = {"fit": timed(fit), "Gram matrix and Cholesky": timed(floor)}
    runs["Gram matrix"] = timed(lambda: kernel(rows))
    seconds = interleave(runs, 3 if quick else 9)
    over = ratio(seconds["fit"], seconds["Gram matrix and Cholesky"])
    for name, spent in seconds.items():
        print(f"{name:<28}{summary(spent)['median']:>9.4f} s")
    name = f"exact fit of {n} rows over Gram and Cholesky"
    return {
        "bars": [bar(name, over["of_medians"], OVER_FLOOR, at_least=False)],
        "n": n,
        "d": X.shape[1],
        "dtype": "float64",
        "seconds": {k: summary(v) for k, v in seconds.items()},
        "fit_over_gram_and_cholesky": over,
    }


if __name__ == "__main__":
    main(measure, __file__)
