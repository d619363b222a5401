"""Small tables of every kind of column, in every library."""

import numpy as np
import pandas as pd
import polars as pl

CATEGORIES = ["color", "flag", "town"]
COLUMNS = ["age", "income", "color", "flag", "town"]


def records(n=40, seed=0):
    """Columns as lists: numbers with gaps and outliers, few levels, booleans, many levels."""
    rng = np.random.default_rng(seed)
    income = np.exp(rng.normal(8, 2, n)).round(2)
    return {
        "age": [None if i % 7 == 0 else float(v) for i, v in enumerate(rng.normal(50, 9, n))],
        "income": income.tolist(),
        "color": [None if i % 9 == 0 else "rgb"[rng.integers(3)] for i in range(n)],
        "flag": [bool(v) for v in rng.random(n) < 0.3],
        "town": [None if i % 8 == 0 else f"t{rng.integers(30):02d}" for i in range(n)],
    }


def target(n=40, seed=0):
    """A number for every row."""
    return np.random.default_rng([seed, 1]).standard_normal(n)


def pandas_frame(**options):
    return pd.DataFrame(records(**options)).astype({"color": "category"})


def pandas_nullable(**options):
    return pd.DataFrame(records(**options)).convert_dtypes()


def pandas_objects(**options):
    frame = pd.DataFrame(records(**options))
    return frame.astype(dict.fromkeys(CATEGORIES, object))


def polars_frame(**options):
    return pl.DataFrame(records(**options), schema_overrides={"color": pl.Categorical})


def polars_enum(**options):
    return pl.DataFrame(records(**options), schema_overrides={"color": pl.Enum(["r", "g", "b"])})


FRAMES = {
    f.__name__: f
    for f in [pandas_frame, pandas_nullable, pandas_objects, polars_frame, polars_enum]
}


def array(**options):
    """The same as an array of objects, columns 2, 3 and 4 categories."""
    columns = list(records(**options).values())
    out = np.empty((len(columns[0]), len(columns)), dtype=object)
    for k, column in enumerate(columns):
        out[:, k] = column
    return out
