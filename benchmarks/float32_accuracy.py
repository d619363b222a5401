"""Float32 Gram matrices against float64 ones: entries, and the smallest eigenvalue.

Every activation at depth 3, on real tables and on rows that are nearly equal or nearly opposite.
Entries are judged relative to sqrt(K_ii K_jj); relative to themselves too, where kernels that cross
zero (erf, sin, gelu) cannot be accurate in any precision.
"""

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
from _common import bar, main, rounded
from _tables import BUNDLED, bundled, standardized, stored

from sknk import config_context
from sknk.kernels import NNGP, NTK

ACTIVATIONS = ("relu", "leaky_relu", "abrelu", "abs", "erf", "gelu", "sin", "rbf")
TABLES = (
    "uci121/monks-1",
    "uci121/magic",
    "uci121/letter",
    "uci121/wall-following",
    "uci121/spectf",
    "uci121/optical",
    "uci121/hill-valley",
    "concrete",
    "protein",
    "clean2",
    "arrhythmia_raw",
    "khan_srbct",
)
APART = 1e-4
ZERO = 1e-300


def measure(quick: bool) -> dict[str, Any]:
    """Compare both precisions on every table with every activation."""
    most = 300 if quick else 1500
    cases, absent = [], {}
    for name, X in tables(most, absent):
        for activation in ACTIVATIONS:
            for kind, kernel in kernels(activation).items():
                cases.append(
                    {"table": name, "n": X.shape[0], "d": X.shape[1], "activation": activation}
                    | {"kernel": kind}
                    | errors(kernel, X)
                )
    spectra = list(near_duplicates(100 if quick else 400))
    judged = [line for line in spectra if line["float64"] > 1e-5]
    worst = {a: worst_of(cases, a) for a in ACTIVATIONS}
    print(f"{'activation':<12}{'to sqrt(K_ii K_jj)':>20}{'to the entry':>16}")
    for activation, found in worst.items():
        print(
            f"{activation:<12}{found['relative_to_diagonal']:>20.1e}{found['elementwise']:>16.1e}"
        )
    print(f"smallest eigenvalue above 1e-5 in float64: {len(judged)} of {len(spectra)} cases")
    bars = [
        bar(f"{label}, {a}", worst[a][key], 1e-6, at_least=False)
        for key, label in (
            ("relative_to_diagonal", "error relative to sqrt(K_ii K_jj)"),
            ("elementwise", "error relative to the entry"),
        )
        for a in ACTIVATIONS
    ]
    lost = sum(line["float32"] <= 0 for line in judged) if judged else None
    bars.append(bar("spectra that float32 makes indefinite", lost, 0, at_least=False))
    return {
        "bars": bars,
        "worst": worst,
        "absent_tables": absent,
        "cases": cases,
        "smallest_eigenvalues": spectra,
    }


def kernels(activation: str) -> dict[str, Any]:
    """Return the kernels of one activation: with tangents, without and with bias, and NNGP."""
    return {
        "NTK": NTK(depth=3, activation=activation),
        "NTK, bias": NTK(depth=3, activation=activation, bias_var=0.1),
        "NNGP": NNGP(depth=3, activation=activation),
    }


def tables(most: int, absent: dict[str, str]) -> Iterator[tuple[str, np.ndarray]]:
    """Yield standardized rows by name; fill `absent`."""
    found, missing = stored(TABLES)
    absent.update(missing)
    for name, table in [*((n, bundled(n)) for n in BUNDLED), *found.items()]:
        X = np.asarray(table["X"], dtype=np.float64)
        X = X[np.random.RandomState(0).permutation(len(X))[:most]]
        X = np.where(np.isnan(X), 0.0, X)
        yield name, standardized(X)
    for d in (2, 10, 30):
        draw = np.random.RandomState(d)
        base = draw.standard_normal((most // 10, d))
        step = draw.standard_normal(base.shape) / np.sqrt(d)
        near = [sign * base + h * step for h in (1e-2, 1e-4, 1e-6, 1e-8) for sign in (1, -1)]
        yield f"near-duplicate and antipodal rows, d={d}", np.vstack([base, -base, *near])


def grams(kernel: Any, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the float32 Gram matrix, widened, and the float64 one."""
    with config_context(dtype="float32"):
        K32 = kernel(X)
    assert K32.dtype == np.float32
    return K32.astype(np.float64), kernel(X)


def errors(kernel: Any, X: np.ndarray) -> dict[str, float]:
    """Return the largest errors, and how large entries are beside their diagonals at the least."""
    K32, K64 = grams(kernel, X)
    gap = np.abs(K32 - K64)
    root = np.sqrt(np.diag(K64))
    scale = np.outer(root, root)
    return {
        "elementwise": rounded(float((gap / np.maximum(np.abs(K64), ZERO)).max()), 2),
        "relative_to_diagonal": rounded(float((gap / np.maximum(scale, ZERO)).max()), 2),
        "smallest_entry": rounded(float((np.abs(K64) / np.maximum(scale, ZERO)).min()), 2),
    }


def worst_of(cases: list[dict[str, Any]], activation: str) -> dict[str, float]:
    """Return an activation's largest errors over tables and kernels."""
    mine = [case for case in cases if case["activation"] == activation]
    return {key: max(c[key] for c in mine) for key in ("elementwise", "relative_to_diagonal")}


def near_duplicates(n: int) -> Iterator[dict[str, Any]]:
    """Yield smallest eigenvalues over the mean diagonal, with pairs of rows 1e-4 apart."""
    for d, unit, depth in product((2, 5, 10, 30, 100), (False, True), (1, 3, 5)):
        draw = np.random.RandomState(d)
        X, step = draw.standard_normal((2, n // 2, d))
        if unit:
            X /= np.linalg.norm(X, axis=1, keepdims=True)
        X = np.vstack([X, X + APART * step / np.linalg.norm(step, axis=1, keepdims=True)])
        for activation in ACTIVATIONS:
            K32, K64 = grams(NTK(depth=depth, activation=activation, bias_var=0.1), X)
            mean = np.trace(K64) / len(K64)
            # Both spectra in float64: what is measured is the matrix, not the eigensolver.
            low = [np.linalg.eigvalsh(K)[0] / mean for K in (K32, K64)]
            yield {
                "d": d,
                "unit_rows": unit,
                "depth": depth,
                "activation": activation,
                "float32": rounded(low[0]),
                "float64": rounded(low[1]),
            }


if __name__ == "__main__":
    main(measure, __file__)
