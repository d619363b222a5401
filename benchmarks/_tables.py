"""Real tables: those that ship with scikit-learn, and those in the folder `SKNK_DATA`.

The folder holds MANIFEST.csv (a line for each table: name, file, ...) and the files it names, each
with arrays X and y; see README.md.
"""

import csv
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from sklearn import datasets

# The regression tables of the UCI repository that papers on Gaussian processes score.
UCI9 = (
    "boston",
    "concrete",
    "energy",
    "kin8nm",
    "naval",
    "power",
    "protein",
    "wine_red",
    "yacht",
)
BUNDLED: dict[str, Callable[..., Any]] = {
    "iris": datasets.load_iris,
    "wine": datasets.load_wine,
    "breast_cancer": datasets.load_breast_cancer,
    "digits": datasets.load_digits,
    "diabetes": datasets.load_diabetes,
}


def bundled(name: str) -> dict[str, np.ndarray]:
    """Return a table that ships with scikit-learn."""
    X, y = BUNDLED[name](return_X_y=True)
    return {"X": X, "y": y}


def stored(names: Iterable[str]) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, str]]:
    """Return the tables that exist by name, and why the others do not."""
    names = list(names)
    folder = os.environ.get("SKNK_DATA")
    if not folder:
        return {}, dict.fromkeys(names, "SKNK_DATA is not set")
    manifest = Path(folder) / "MANIFEST.csv"
    if not manifest.exists():
        return {}, dict.fromkeys(names, "SKNK_DATA has no MANIFEST.csv")
    with manifest.open(encoding="utf-8", newline="") as lines:
        files = {line["name"]: line["file"] for line in csv.DictReader(lines)}
    absent = {name: "not in MANIFEST.csv" for name in names if name not in files}
    tables = {}
    for name in names:
        if name in files:
            with np.load(Path(folder) / files[name], allow_pickle=False) as z:
                tables[name] = {key: z[key] for key in z.files if key != "meta"}
    return tables, absent


def standardized(X: np.ndarray) -> np.ndarray:
    """Return columns of mean 0 and deviation 1, in float64; constant columns become 0."""
    X = np.asarray(X, dtype=np.float64)
    spread = X.std(axis=0)
    return (X - X.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
