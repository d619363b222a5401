"""Worker: influence of training rows by pyinfluence, quality of labels by cleanlab.

pyinfluence takes ridges of one output: classes one after another, coded -1 and 1, their losses
added. cleanlab, if it is there, ranks out-of-sample probabilities, passed in or those of a forest.
"""

import time
import warnings
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from _peers import serve
from pyinfluence import InfluenceFunctions, LOOInfluence
from sklearn.ensemble import RandomForestClassifier
from sklearn.kernel_ridge import KernelRidge
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from threadpoolctl import threadpool_limits

Arrays = dict[str, np.ndarray]
TREES, FOLDS = 500, 5


def ridges(table: Arrays) -> Iterator[tuple[Any, np.ndarray, np.ndarray]]:
    """Yield the ridge of each output with its targets, and those of the rows judged."""
    classes = range(1, int(table["n_classes"])) if int(table["n_classes"]) == 2 else None
    for c in classes or range(int(table["n_classes"])):
        y, y_val = (np.where(table[key] == c, 1.0, -1.0) for key in ("y", "y_val"))
        model = KernelRidge(alpha=float(table["ridge"]), kernel="precomputed")
        yield model.fit(table["K"], y), y, y_val


def influence(table: Arrays) -> np.ndarray:
    """Return mean influence on the loss of the rows judged; positive helps."""
    found = 0.0
    for model, y, y_val in ridges(table):
        explainer = InfluenceFunctions(mode="loss").fit(model, table["K"], y)
        found = found + explainer.explain(table["cross"], y_val).mean(axis=0)
    return np.asarray(found)


def leave_one_out(table: Arrays) -> np.ndarray:
    """Return the same by refits without each row."""
    found = 0.0
    for model, y, y_val in ridges(table):
        explainer = LOOInfluence(mode="loss", verbose=0).fit(model, table["K"], y)
        found = found + explainer.explain(table["cross"], y_val).mean(axis=0)
    return np.asarray(found)


def quality(table: Arrays) -> np.ndarray:
    """Return cleanlab's quality of labels from probabilities."""
    from cleanlab.rank import get_label_quality_scores

    return get_label_quality_scores(table["y"], table["proba"])


def quality_by_forest(table: Arrays) -> np.ndarray:
    """Return the same from a forest's probabilities in five folds."""
    forest = RandomForestClassifier(TREES, random_state=0)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    proba = cross_val_predict(forest, table["X"], table["y"], cv=folds, method="predict_proba")
    return quality({"y": table["y"], "proba": proba})


MODELS = {
    "influence": influence,
    "leave_one_out": leave_one_out,
    "quality": quality,
    "quality_by_forest": quality_by_forest,
}


def installed(name: str) -> str | None:
    """Return a version, None where there is none."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Tell the versions, or value rows and leave the values in a file."""
    if request["case"] == "versions":
        return {name: installed(name) for name in ("pyinfluence", "cleanlab", "scikit-learn")}
    with np.load(request["file"], allow_pickle=False) as stored:
        table = dict(stored)
    with threadpool_limits(int(table["threads"])), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        start = time.perf_counter()
        try:
            values = MODELS[request["model"]](table)
        except Exception as error:  # any failure of a peer is its result, not the end of the run
            return {"error": f"{type(error).__name__}: {error}"[:300]}
        seconds = time.perf_counter() - start
    np.savez(request["out"], values=np.asarray(values, dtype=np.float64))
    return {"seconds": seconds}


serve(answer)
