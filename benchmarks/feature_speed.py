"""What learning features costs: `feature_learning="auto"` beside the plain search, and 10 000 rows.

n = 2000, d = 30, a smooth function with interactions and noise, and one of noise alone, where the
loss of the scales is flat. At 10 000 rows the search looks at 2000 of them; the time is that of the
whole fit.
"""

from typing import Any

import numpy as np
from _common import bar, interleave, main, ratio, summary, timed
from ridge_cv_speed import problem

from sknk import NTKRidgeCV

D = 30


def measure(quick: bool) -> dict[str, Any]:
    """Time both searches in turn, then one fit of many rows."""
    n, many = (300, 3000) if quick else (2000, 10_000)
    X, y = problem(many, D)
    noise = np.random.RandomState(1).standard_normal(many)
    found = {}
    for name, target in (("a function", y), ("noise", noise)):
        calls = {
            str(kind): timed(lambda kind=kind, t=target: fit(X[:n], t[:n], kind))
            for kind in (None, "auto")
        }
        seconds = interleave(calls, 1 if quick else 3)
        found[name] = {k: summary(v) for k, v in seconds.items()}
        found[name]["ratio"] = ratio(seconds["auto"], seconds["None"])
        print(f"{name:<12}{found[name]['ratio']['of_medians']:.2f} times the plain search")
    large = timed(lambda: fit(X, y, "auto"))()
    print(f"{many} rows: {large:.0f} s")
    bars = [
        bar(f"auto over plain, {name}", line["ratio"]["of_medians"], 4.0, at_least=False)
        for name, line in found.items()
    ]
    bars.append(bar(f"minutes at n = {many}", large / 60.0, 10.0, at_least=False))
    return {"bars": bars, "n": n, "d": D, "many": many, "many_seconds": large, "seconds": found}


def fit(X: np.ndarray, y: np.ndarray, kind: str | None) -> NTKRidgeCV:
    """Fit the estimator with one kind of feature learning."""
    return NTKRidgeCV(feature_learning=kind).fit(X, y)


if __name__ == "__main__":
    main(measure, __file__)
