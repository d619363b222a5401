"""Worker: hyperparameters of scikit-ntk's kernel, estimated by scikit-learn's regressor."""

import time
from importlib.metadata import version
from typing import Any

import numpy as np
from _peers import serve
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, WhiteKernel
from skntk import NeuralTangentKernel

STATE: dict[str, Any] = {}


class Counting(GaussianProcessRegressor):
    """Counts evaluations of the evidence."""

    calls = 0

    def log_marginal_likelihood(self, *args: Any, **options: Any) -> Any:
        """Count, then evaluate."""
        self.calls += 1
        return super().log_marginal_likelihood(*args, **options)


def regressor(start: dict[str, float]) -> Counting:
    """Return the model at the start that the parent's has too."""
    tangents = NeuralTangentKernel(depth=int(start["depth"]), bias=start["bias_var"] ** 0.5)
    kernel = ConstantKernel(start["amplitude"]) * tangents + WhiteKernel(start["noise"])
    return Counting(kernel, normalize_y=True)


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Take rows, fit, or time one gradient at the fitted hyperparameters."""
    if request["case"] == "versions":
        return {name: version(name) for name in ("scikit-ntk", "numpy", "scikit-learn")}
    if request["case"] == "rows":
        X, y = np.array(request["X"]), np.array(request["y"])
        # Its kernel does not divide by the number of columns; rows that do start it at variance 1.
        STATE.update(X=X / np.sqrt(X.shape[1]), y=y, start=request["start"])
        return {}
    if request["case"] == "fit":
        model = regressor(STATE["start"])
        start = time.perf_counter()
        model.fit(STATE["X"], STATE["y"])
        seconds = time.perf_counter() - start
        STATE["model"] = model
        # That of the normalized targets, as a density of y in its own units.
        units = len(STATE["y"]) * np.log(STATE["y"].std())
        return {
            "seconds": seconds,
            "evaluations": model.calls,
            "evidence": round(float(model.log_marginal_likelihood_value_ - units), 4),
            "kernel": repr(model.kernel_),
        }
    model = STATE["model"]
    start = time.perf_counter()
    model.log_marginal_likelihood(model.kernel_.theta, eval_gradient=True, clone_kernel=False)
    return {"seconds": time.perf_counter() - start}


serve(answer)
