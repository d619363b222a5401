"""Choosing depth and ridge: `NTKRidgeCV` beside `GridSearchCV(KernelRidge)` on the same kernels.

Five depths, thirteen ridges, n = 2000, d = 20. The peer gets its Gram matrices for nothing, once
with one process and two BLAS threads, once with two processes. The five eigendecompositions that
our time is compared with are plain ``torch.linalg.eigh`` of the same matrices.
"""

from typing import Any

import numpy as np
import torch
from _common import bar, interleave, main, ratio, summary, timed
from sklearn.kernel_ridge import KernelRidge
from sklearn.model_selection import GridSearchCV

from sknk import NTKRidgeCV
from sknk.kernels import NTK

DEPTHS = [1, 2, 3, 4, 5]
ALPHAS = np.logspace(-4, 2, 13)


def measure(quick: bool) -> dict[str, Any]:
    """Time all in turn; compare what they choose on fresh rows."""
    n, d = 600 if quick else 2000, 20
    X, y = problem(2 * n, d)
    train, rest = slice(0, n), slice(n, None)
    grams = [K for _, K in NTK().gram_path(X[train], depth=DEPTHS)]
    tensors = [torch.from_numpy(K) for K in grams]
    found: dict[str, Any] = {}

    def ours() -> None:
        model = NTKRidgeCV(NTK(), param_grid={"depth": DEPTHS}, alphas=ALPHAS)
        found["sknk"] = model.fit(X[train], y[train])

    def eigh() -> None:
        for K in tensors:
            torch.linalg.eigh(K)

    def peer(processes: int) -> None:
        searches = [
            GridSearchCV(
                KernelRidge(kernel="precomputed"), {"alpha": ALPHAS}, cv=5, n_jobs=processes
            ).fit(K, y[train])
            for K in grams
        ]
        found["peer"] = max(
            zip(DEPTHS, searches, strict=True), key=lambda pair: pair[1].best_score_
        )

    quick_ones = {"NTKRidgeCV": timed(ours), "five eigh": timed(eigh)}
    seconds = interleave(quick_ones, 3 if quick else 9)
    ours_again = {"NTKRidgeCV": quick_ones["NTKRidgeCV"]}
    peers = {f"GridSearchCV, {p} process(es)": timed(lambda p=p: peer(p)) for p in (1, 2)}
    slow = interleave(ours_again | peers, 1 if quick else 3, warm=0)
    faster = {name: ratio(slow[name], slow["NTKRidgeCV"]) for name in peers}
    over_eigh = ratio(seconds["NTKRidgeCV"], seconds["five eigh"])
    chosen = choices(found, (X[train], y[train]), (X[rest], y[rest]))
    for name, value in {**seconds, **{k: slow[k] for k in peers}}.items():
        print(f"{name:<28}{summary(value)['median']:>9.3f} s")
    for name, choice in chosen.items():
        print(f"{name:<8}{choice}")
    bars = [
        bar(f"times faster than {name}", value["of_medians"], 8.0, at_least=True)
        for name, value in faster.items()
    ]
    bars.append(bar("time over five eigh", over_eigh["of_medians"], 1.5, at_least=False))
    return {
        "bars": bars,
        "n": n,
        "d": d,
        "seconds_beside_eigh": {k: summary(v) for k, v in seconds.items()},
        "seconds_beside_peers": {k: summary(v) for k, v in slow.items()},
        "times_faster": faster,
        "time_over_five_eigh": over_eigh,
        "chosen": chosen,
    }


def problem(n: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw a smooth function with interactions and noise."""
    draw = np.random.RandomState(0)
    X = draw.standard_normal((n, d))
    f = np.sin(X[:, 0]) * X[:, 1] + np.tanh(2.0 * X[:, 2]) + X[:, 3:6].sum(axis=1) / 3.0
    return X, f + 0.3 * draw.standard_normal(n)


def choices(
    found: dict[str, Any], train: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray]
) -> dict[str, dict[str, float]]:
    """Return what each chose, and R squared on rows that neither has seen."""
    model = found["sknk"]
    depth, search = found["peer"]
    refit = KernelRidge(kernel=NTK(depth=depth), alpha=search.best_params_["alpha"]).fit(*train)
    return {
        "sknk": {
            "depth": model.best_params_["depth"],
            "alpha": float(model.alpha_),
            "test_r2": round(float(model.score(*test)), 4),
        },
        "peer": {
            "depth": depth,
            "alpha": float(search.best_params_["alpha"]),
            "test_r2": round(float(refit.score(*test)), 4),
        },
    }


if __name__ == "__main__":
    main(measure, __file__)
