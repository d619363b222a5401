"""Draw what a round costs as rounds come, from `results/bandits_speed.json`, for the user guide."""

import json
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from _common import ROOT

FIGURE = ROOT / "docs" / "_static" / "bandit_rounds.svg"


def draw(found: dict[str, Any]) -> None:
    """Draw seconds of a round by their number, both axes logarithmic."""
    plt.rcParams["svg.hashsalt"] = "sknk"  # the same file from the same figures
    figure, axes = plt.subplots(figsize=(6.4, 3.8), layout="constrained")
    t, seconds = np.array(found["refits"]).T
    axes.plot(t, 1e3 * seconds, "o-", color="0.5", markersize=3, label="fitting anew")
    curves = {"milliseconds_a_round": "exact", "milliseconds_a_round_with_budget": "budget=1000"}
    last = t[-1]
    for key, label in curves.items():
        middle = (np.arange(len(found[key])) + 0.5) * last / len(found[key])
        axes.plot(middle, found[key], label=label)
    axes.set(xscale="log", yscale="log", xlabel="round", ylabel="milliseconds a round")
    axes.legend()
    figure.savefig(FIGURE, metadata={"Date": None})


if __name__ == "__main__":
    path = ROOT / "benchmarks" / "results" / "bandits_speed.json"
    draw(json.loads(path.read_text(encoding="utf-8")))
