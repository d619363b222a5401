"""Worker: batches selected by bmdal-reg, from features; transforms included."""

import time
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from _peers import serve

np.Inf = np.inf  # noqa: NPY201 - the package is older than NumPy 2

from bmdal_reg.bmdal import selection  # noqa: E402
from bmdal_reg.bmdal.feature_data import TensorFeatureData  # noqa: E402
from bmdal_reg.bmdal.feature_maps import IdentityFeatureMap  # noqa: E402
from bmdal_reg.bmdal.features import Features  # noqa: E402

METHODS = {  # class, mode, further options
    "maxdiag": (selection.MaxDiagSelectionMethod, "P", {}),
    "maxdet-P": (selection.MaxDetSelectionMethod, "P", {}),
    "maxdet-TP": (selection.MaxDetSelectionMethod, "TP", {}),
    "bait": (selection.BaitFeatureSpaceSelectionMethod, "P", {}),
    "bait-fb": (selection.BaitFeatureSpaceSelectionMethod, "P", {"overselection_factor": 2.0}),
    "frank-wolfe": (selection.FrankWolfeSelectionMethod, "P", {}),
    "maxdist": (selection.MaxDistSelectionMethod, "TP", {}),
    "kmeans++": (selection.KmeansppSelectionMethod, "TP", {}),
    "lcmd": (selection.LargestClusterMaxDistSelectionMethod, "TP", {}),
}


def features(Phi: np.ndarray) -> Features:
    """Return rows as the package holds features that are there."""
    data = TensorFeatureData(torch.from_numpy(Phi))
    return Features(IdentityFeatureMap(n_features=Phi.shape[1]), data).precompute()


def selected(method: str, table: dict[str, Any]) -> np.ndarray:
    """Return a batch."""
    kind, mode, options = METHODS[method]
    pool, train = features(table["pool"]), features(table["train"])
    sigma = float(table["noise_variance"]) ** 0.5
    if mode == "P":
        transform = train.posterior_tfm(sigma)
        pool, train = transform(pool).precompute(), transform(train).precompute()
    settings = {"noise_sigma": sigma, "verbosity": 0, **options}
    selector = kind(pool, train_features=train, sel_with_train=mode == "TP", **settings)
    return selector.select(int(table["batch"])).numpy()


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Time one batch."""
    if request["case"] == "versions":
        names = ("bmdal-reg", "torch", "numpy")
        return {name: version(name) for name in names}
    torch.set_num_threads(int(request["task"]))
    with np.load(request["file"]) as file:
        table = dict(file)
    start = time.perf_counter()
    rows = selected(request["model"], table)
    seconds = time.perf_counter() - start
    np.savez(request["out"], rows=rows)
    return {"seconds": seconds}


if __name__ == "__main__":
    serve(answer)
