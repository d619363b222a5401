"""Worker: contextualbandits' and mabwiser's policies, a round at a time on rounds it is given."""

import json
import time
import warnings
from importlib.metadata import version
from typing import Any

import numpy as np
from _peers import serve
from contextualbandits.online import LinTS, LinUCB
from mabwiser.mab import MAB, LearningPolicy

LIMIT = 240.0  # seconds of a run, of which what was played until then is returned


class OfContextualBandits:
    """A policy of contextualbandits."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def play(self, x: np.ndarray) -> int:
        """Return an arm."""
        return int(np.ravel(self.model.predict(x))[0])

    def learn(self, x: np.ndarray, arm: int, reward: float) -> None:
        """Take a round in."""
        self.model.partial_fit(x, np.array([arm]), np.array([reward]))


class OfMabwiser:
    """A policy of mabwiser, which needs a round to start from."""

    def __init__(self, policy: Any, n_arms: int, seed: int) -> None:
        self.model = MAB(list(range(n_arms)), policy, seed=seed)
        self.begun, self.first = False, seed % n_arms

    def play(self, x: np.ndarray) -> int:
        """Return an arm."""
        return int(self.model.predict(x)) if self.begun else self.first

    def learn(self, x: np.ndarray, arm: int, reward: float) -> None:
        """Take a round in."""
        learn = self.model.partial_fit if self.begun else self.model.fit
        learn([arm], [reward], x)
        self.begun = True


def policies(n_arms: int, seed: int) -> dict[str, Any]:
    """Return what makes every policy of the grids; contextualbandits wants a seed above zero."""
    found: dict[str, Any] = {}
    for alpha in (0.1, 0.5, 1.0, 2.0, 4.0):
        found[f"contextualbandits LinUCB alpha={alpha}"] = lambda a=alpha: OfContextualBandits(
            LinUCB(n_arms, alpha=a, random_state=seed + 1)
        )
    for v_sq in (1e-4, 1e-2):
        found[f"contextualbandits LinTS v_sq={v_sq}"] = lambda v=v_sq: OfContextualBandits(
            LinTS(n_arms, v_sq=v, random_state=seed + 1)
        )
    for alpha in (0.1, 0.5, 1.0, 2.0):
        found[f"mabwiser LinUCB alpha={alpha}"] = lambda a=alpha: OfMabwiser(
            LearningPolicy.LinUCB(alpha=a), n_arms, seed
        )
    for alpha in (0.1, 0.3):
        found[f"mabwiser LinTS alpha={alpha}"] = lambda a=alpha: OfMabwiser(
            LearningPolicy.LinTS(alpha=a), n_arms, seed
        )
    found["mabwiser LinGreedy epsilon=0.05"] = lambda: OfMabwiser(
        LearningPolicy.LinGreedy(epsilon=0.05), n_arms, seed
    )
    return found


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Play the rounds with one policy."""
    if request["case"] == "versions":
        names = ("contextualbandits", "mabwiser", "scikit-learn", "numpy")
        return {name: version(name) for name in names} | {"policies": list(policies(2, 0))}
    with np.load(request["file"]) as arrays:
        X, reward = arrays["X"], arrays["reward"]
    try:
        played, seconds = play(request["model"], json.loads(request["task"]), X, reward)
    except Exception as error:  # of a policy; others go on
        return {"error": f"{type(error).__name__}: {error}"}
    np.savez(request["out"], played=played)
    return {"seconds": seconds}


def play(label: str, seed: int, X: np.ndarray, reward: np.ndarray) -> tuple[np.ndarray, float]:
    """Return what a policy plays until time is up, and how long it takes."""
    policy = policies(reward.shape[1], seed)[label]()
    played = np.empty(len(X), dtype=int)
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of their own making
        for t in range(len(X)):
            played[t] = policy.play(X[t : t + 1])
            policy.learn(X[t : t + 1], int(played[t]), float(reward[t, played[t]]))
            if time.perf_counter() - start > LIMIT:
                break
    return played[: t + 1], time.perf_counter() - start


if __name__ == "__main__":
    serve(answer)
