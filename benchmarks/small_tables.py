"""Small tables: fit and predict on 150 rows, in milliseconds, beside scikit-learn's estimators.

Iris for classifiers; for regressors iris with the last column as target. Timed twice: in turn,
where every round runs every estimator once and none finds its code in the cache, and back to back.
Bars are judged on both. The profile of ours comes from runs of its own.
"""

import cProfile
import pstats
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from _common import bar, interleave, main, rounded, summary, timed
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.kernel_ridge import KernelRidge
from sklearn.preprocessing import scale
from sklearn.svm import SVC, SVR

from sknk import NTKRidge, NTKRidgeClassifier, NTKRidgeClassifierCV, NTKRidgeCV
from sknk.kernels import NTK

REGRESSORS = {
    "NTKRidge": NTKRidge(),
    "NTKRidgeCV": NTKRidgeCV(),
    "KernelRidge, rbf": KernelRidge(kernel="rbf", alpha=0.1),
    "KernelRidge, NTK": KernelRidge(kernel=NTK(), alpha=0.1),
    "SVR": SVR(),
    "RandomForestRegressor": RandomForestRegressor(random_state=0),
}
CLASSIFIERS = {
    "NTKRidgeClassifier": NTKRidgeClassifier(),
    "NTKRidgeClassifierCV": NTKRidgeClassifierCV(),
    "SVC": SVC(),
    "RandomForestClassifier": RandomForestClassifier(random_state=0),
}
BARS = {"NTKRidge": 0.005, "NTKRidgeClassifierCV": 0.060}


def measure(quick: bool) -> dict[str, Any]:
    """Time everything round by round, then profile ours."""
    X, y = load_iris(return_X_y=True)
    Z = scale(X)
    jobs: dict[str, Callable[[], Any]] = {
        name: partial(fit_predict, model, Z[:, :3], Z[:, 3]) for name, model in REGRESSORS.items()
    }
    jobs |= {name: partial(fit_predict, model, Z, y) for name, model in CLASSIFIERS.items()}
    runs = {name: timed(job) for name, job in jobs.items()}
    rounds = 10 if quick else 50
    turns = interleave(runs, rounds, warm=3)
    alone = {
        name: interleave({name: run}, rounds, pause=0.0, warm=3)[name] for name, run in runs.items()
    }
    seconds = {
        name: {"in_turn": summary(turns[name]), "back_to_back": summary(alone[name])}
        for name in runs
    }
    for name, found in seconds.items():
        values = [
            f"{1e3 * line['median']:8.2f} (least {1e3 * line['min']:6.2f})"
            for line in found.values()
        ]
        print(f"{name:<24}", *values, "ms in turn, back to back")
    bars = [
        bar(f"{name}, seconds {way.replace('_', ' ')}", line["median"], limit, at_least=False)
        for name, limit in BARS.items()
        for way, line in seconds[name].items()
    ]
    return {
        "bars": bars,
        "n": len(X),
        "seconds": seconds,
        "profile": {name: profile(jobs[name], 5 if quick else 20) for name in BARS},
    }


def fit_predict(model: Any, X: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Fit a fresh copy and predict the rows it has seen."""
    return clone(model).fit(X, y).predict(X)


def profile(job: Callable[[], Any], repeats: int) -> list[dict[str, Any]]:
    """Return where the time goes: the functions with the most time of their own."""
    profiler = cProfile.Profile()
    profiler.enable()
    for _ in range(repeats):
        job()
    profiler.disable()
    stats = pstats.Stats(profiler)
    total = stats.total_tt  # type: ignore[attr-defined] - set by pstats, absent from its stubs
    entries = stats.stats.items()  # type: ignore[attr-defined]
    top = sorted(entries, key=lambda entry: -entry[1][2])[:12]
    return [
        {
            "function": where(function),
            "calls": calls // repeats,
            "own_share": rounded(own / total, 2),
            "share_with_callees": rounded(cumulative / total, 2),
        }
        for function, (_, calls, own, cumulative, _) in top
    ]


def where(function: tuple[str, int, str]) -> str:
    """Name a function by module and name, without the path."""
    file, _, name = function
    return name if file == "~" else f"{Path(file).parent.name}/{Path(file).name}:{name}"


if __name__ == "__main__":
    main(measure, __file__)
