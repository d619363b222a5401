"""What does a round cost as rounds come? The user guide's figure, of `bandits_speed.json`."""

import json
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from _common import ROOT

FIGURE = ROOT / "docs" / "_static" / "bandit_rounds.svg"


def draw(found: dict[str, Any]) -> None:
    """Draw seconds of a round by their number, both axes logarithmic."""
    # The same file from the same figures, and words as words.
    plt.rcParams.update({"svg.hashsalt": "sknk", "svg.fonttype": "none"})
    figure, axes = plt.subplots(figsize=(6.4, 3.8), layout="constrained")
    t, seconds = np.array(found["refits"]).T
    axes.plot(t[1:], 1e3 * seconds[1:], "o-", color="0.5", markersize=3, label="fitting anew")
    curves = {
        "milliseconds_a_round": "exact",
        "milliseconds_a_round_with_budget_and_choices": "budget=1000, with choices of dictionaries",
    }
    for key, label in curves.items():
        middle = (np.arange(len(found[key])) + 0.5) * t[-1] / len(found[key])
        axes.plot(middle, found[key], label=label)
    parts = np.array(list(found["milliseconds_of_the_last_round_by_growth"].values()))
    fitted = (middle[:, None] / t[-1]) ** np.arange(3) @ parts
    axes.plot(middle, fitted, "k:", label="$a + bt + ct^2$ of exact rounds")
    axes.set(xscale="log", yscale="log", xlabel="round", ylabel="milliseconds a round")
    axes.legend()
    figure.savefig(FIGURE, metadata={"Date": None})


if __name__ == "__main__":
    path = ROOT / "benchmarks" / "results" / "bandits_speed.json"
    draw(json.loads(path.read_text(encoding="utf-8")))
