"""Regret of bandits on nine tables, beside contextualbandits, mabwiser and NeuralUCB's recipe.

The protocol of Zhou, Li and Gu (2020): rows of norm one in random order, the arm of a row's class
pays 1. digits, wine and breast cancer whole (columns of the last two standardized), 10 orders;
magic, mushroom, shuttle, adult, covertype and MNIST for 10 000 rounds (mushroom has 8124), 3
orders, the same rounds for all. Ours play with default arguments (`bandit_defaults.py` chose them
on other tables); whole grids of the peers are reported, and bars compare with the best of each grid
on each table. A peer that is not through after four minutes is stopped: what it lost until then
stands beside what ours lost in the same rounds, and no other order is tried (mabwiser inverts a
matrix of 784 columns every round, and LinTS of both decomposes one for every arm). NeuralUCB's
recipe is played for 2000 rounds of one order.

A run that is cut goes on where it ended: runs are kept in `results/bandits.jsonl`.
"""

from pathlib import Path
from typing import Any

import numpy as np
from _bandits import of_curve, played, problem_of
from _common import bar, main, rounded
from _neural_ucb import NeuralUCBRecipe
from _peers import Peer
from _store import Store

from sknk.bandits import NTKUCB, NTKEpsilonGreedy, NTKThompsonSampling
from sknk.kernels import NTK, Normalized

SMALL = {"digits": 10, "wine": 10, "breast_cancer": 10}
LARGE = {"mushroom": 3, "magic": 3, "shuttle": 3, "adult": 3, "covertype": 3, "mnist": 3}
T, T_NEURAL = 10_000, 2000
OURS = {"NTK-UCB": NTKUCB()}
BESIDE = {  # on the small tables
    "NTK-UCB, disjoint": NTKUCB(encoding="disjoint"),
    "linear UCB, ours": NTKUCB(Normalized(NTK(depth=0, bias_var=0.0))),
    "NTK-TS": NTKThompsonSampling(),
    "NTK epsilon-greedy": NTKEpsilonGreedy(),
}
RECIPE = [(1e-5, 1e-5), (1e-3, 1e-3), (1e-1, 1e-1)]  # nu and lambda
DIGITS, TO_LINEAR = 225.0, 0.7

Runs = dict[str, list[dict[str, Any]]]


def measure(quick: bool, folder: Path | None) -> dict[str, Any]:
    """Play all tables, small ones first."""
    store = Store(folder, __file__)
    peer = Peer.open("SKNK_PEER_BANDITS", "_worker_bandits.py")
    found: dict[str, Runs] = {}
    for name, n_seeds in ({"wine": 1} if quick else SMALL | LARGE).items():
        print(name, flush=True)
        seeds = range(n_seeds)
        ours = OURS | (BESIDE if name in SMALL else {})
        found[name] = played(store, name, ours, T, seeds)
        if isinstance(peer, Peer):
            found[name] |= of_peers(store, peer, name, seeds)
        found[name] |= of_recipe(store, name, 60 if quick else T_NEURAL)
    lines = {name: summary(runs) for name, runs in found.items()}
    return {
        "bars": bars(found),
        "peer": {"absent": peer} if isinstance(peer, str) else peer.versions,
        "tables": lines,
        "fits": store.counts(),
    }


def of_peers(store: Store, peer: Peer, name: str, seeds: range) -> Runs:
    """Play the peers' grids on the same rounds."""
    problem = problem_of(name, T)
    found: Runs = {label: [] for label in peer.versions["policies"]}
    for seed in seeds:
        for label, runs in found.items():

            def run(label: str = label, seed: int = seed) -> dict[str, Any]:
                rounds = problem(seed)
                arrays = {"X": rounds.X, "reward": rounds.reward}
                left, reply = peer.fit(label, str(seed), **arrays)
                n, place = len(left["played"]), np.zeros(len(rounds), dtype=int)
                place[:n] = left["played"]
                lost = of_curve(rounds.regret(place)[:n].cumsum(), reply["seconds"])
                return lost | ({} if n == len(rounds) else {"stopped_after": n})

            if not any("stopped_after" in one for one in runs):
                runs.append(store.get([name, label, T, seed], peer.versions["numpy"], run))
    return found


def of_recipe(store: Store, name: str, n_rounds: int) -> Runs:
    """Play the recipe's grid on the first rounds of one order."""
    found: Runs = {}
    for nu, decay in RECIPE:

        def run(nu: float = nu, decay: float = decay) -> dict[str, Any]:
            rounds = problem_of(name, n_rounds)(0)
            policy = NeuralUCBRecipe(len(rounds.arms), rounds.X.shape[1], nu, decay, 0)
            place = np.empty(len(rounds), dtype=int)
            for t, x in enumerate(rounds.X):
                place[t] = policy.predict(x)
                policy.learn(x, int(place[t]), float(rounds.reward[t, place[t]]))
            return of_curve(rounds.regret(place).cumsum(), None)

        label = f"NeuralUCB's recipe nu=lambda={nu}, {n_rounds} rounds"
        found[label] = [store.get([name, label, n_rounds, 0], [], run)]
        ours = played(store, name, {"NTK-UCB": NTKUCB()}, n_rounds, range(1))
        found[f"NTK-UCB, {n_rounds} rounds"] = ours["NTK-UCB"]
    return found


def summary(runs: Runs) -> dict[str, Any]:
    """Return mean regret, its standard error and seconds of every policy."""
    lines = {}
    for label, of in runs.items():
        done = [run for run in of if "failed" not in run]
        if not done:
            lines[label] = {"failed": of[0]["failed"]}
            continue
        if "stopped_after" in done[0]:
            lines[label] = stopped(done[0], runs["NTK-UCB"][0])
            continue
        regret = np.array([run["regret"] for run in done])
        error = regret.std(ddof=1) / np.sqrt(len(regret)) if len(regret) > 1 else None
        seconds = [run["run_seconds"] for run in done if run["run_seconds"] is not None]
        lines[label] = {
            "regret": rounded(float(regret.mean())),
            "standard_error": None if error is None else rounded(float(error)),
            "orders": len(regret),
            "seconds": rounded(float(np.median(seconds))) if seconds else None,
        }
    return lines


def stopped(run: dict[str, Any], ours: dict[str, Any]) -> dict[str, Any]:
    """Return what a run lost until it was stopped, and what ours had lost of the same rounds."""
    n, at = run["stopped_after"], np.linspace(0, T, 41)  # only runs of T rounds take so long
    there = float(np.interp(n, at, np.r_[0.0, ours["curve"]]))
    lost = {"regret": run["regret"], "ours": rounded(there), "seconds": rounded(run["run_seconds"])}
    return {"stopped_after": n} | lost


def bars(found: dict[str, Runs]) -> list[dict[str, Any]]:
    """Judge what was asked for."""

    def mean(runs: list[dict[str, Any]]) -> float:
        whole = "stopped_after" not in runs[0]
        return float(np.mean([run.get("regret", np.inf) for run in runs])) if whole else np.inf

    lines, best_of_all, gaps, behind, ahead = [], 0, [], 0, 0
    for runs in found.values():
        linear = {label: of for label, of in runs.items() if "Lin" in label}
        cut = [of[0] for of in linear.values() if "stopped_after" in of[0]]
        behind += sum(stopped(run, runs["NTK-UCB"][0])["ours"] >= run["regret"] for run in cut)
        if not linear or any("failed" in run for run in runs["NTK-UCB"]):
            return []
        label = min(linear, key=lambda one: mean(linear[one]))
        mine, theirs = runs["NTK-UCB"], linear[label]
        best_of_all += mean(mine) < mean(theirs)
        paired = [a["regret"] - b["regret"] for a, b in zip(mine, theirs, strict=True)]
        error = np.std(paired, ddof=1) / np.sqrt(len(paired)) if len(paired) > 1 else np.nan
        short = next(of for name, of in runs.items() if name.endswith("rounds") and "NTK" in name)
        ahead += mean(short) < min(mean(of) for name, of in runs.items() if "recipe" in name)
        gaps.append(float(np.mean(paired) / error) if error > 0 else 0.0)
    if "digits" in found:
        mine = mean(found["digits"]["NTK-UCB"])
        ucb = min(mean(of) for label, of in found["digits"].items() if "LinUCB" in label)
        lines.append(bar("digits, NTK-UCB", mine, DIGITS, at_least=False))
        lines.append(bar("digits, over the best LinUCB", mine / ucb, TO_LINEAR, at_least=False))
    half = len(found) / 2
    lines.append(bar("tables with less regret than all linear", best_of_all, half, at_least=True))
    lines.append(bar("tables with less regret than the recipe", ahead, half, at_least=True))
    lines.append(bar("worst gap, paired standard errors", max(gaps), 2.0, at_least=False))
    lines.append(bar("stopped peers that had lost less", behind, 0, at_least=False))
    return lines


if __name__ == "__main__":
    main(measure, __file__, resumes=True)
