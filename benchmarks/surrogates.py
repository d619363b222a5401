"""Kernels in place of a trained network: do models on its kernels predict what it predicts?

The protocol of Engel et al. (2023) on scikit-learn's digits: 0 against 1, and all ten; ten seeds of
split (70 / 30, stratified), weights and batches. A 64 -> 100 -> 100 -> C ReLU network is trained by
Adam on cross entropy, by one recipe for both; nothing is chosen on test rows. Then, on each of its
kernels in cosine form, surrogates with penalties fixed beforehand: logistic regression on kernel
rows (the paper's kGLM, multinomial and solved exactly), the same by SGD as in the paper, one class
against the others, with both of its published penalties, and kernel ridge classification. SGD ends
where it happens to be: its accuracies are listed, not judged. One thread: nothing is timed.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from _common import bar, main, rounded
from scipy.special import logsumexp
from scipy.stats import kendalltau
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.model_selection import train_test_split
from threadpoolctl import threadpool_limits
from torch import nn

from sknk import NTKRidgeClassifier
from sknk.kernels import EmpiricalNTK, Normalized

WIDTH, EPOCHS, BATCH, RATE, DECAY = 100, 60, 32, 1e-3, 1e-4
PENALTY = 1e-4  # of logistic models, as in the paper
JUDGED = ("logistic", "ridge")
RIDGE = 0.1  # kernels have a unit diagonal
TASKS = {"0 against 1": 2, "ten digits": 10}
KERNELS: dict[str, dict[str, Any]] = {
    "trace": {},
    "pseudo": {"kind": "pseudo"},
    "trace, 1024 features": {"projection": 1024},
    "last_layer": {"kind": "last_layer"},
    "embedding": {"kind": "embedding"},
}
WITHIN = 1.0  # points of accuracy


def measure(quick: bool) -> dict[str, Any]:
    """Train networks, fit surrogates; judge the trace kernel's, list all."""
    torch.set_num_threads(1)
    with threadpool_limits(1):
        return measured(2 if quick else 10)


def measured(seeds: int) -> dict[str, Any]:
    """Run both tasks."""
    found: dict[str, Any] = {}
    bars = []
    for task, classes in TASKS.items():
        runs = [one_seed(classes, seed) for seed in range(seeds)]
        found[task] = over_seeds(runs)
        show(task, found[task])
        for surrogate in JUDGED:
            line = found[task]["surrogates"]["trace"][surrogate]
            name = f"{task}, trace, {surrogate}: points of accuracy"
            bars.append(bar(name, abs(line["tad"]["mean"]), WITHIN, at_least=False))
    return {
        "bars": bars,
        "seeds": seeds,
        "recipe": {
            "width": WIDTH,
            "epochs": EPOCHS,
            "batch": BATCH,
            "learning_rate": RATE,
            "weight_decay": DECAY,
            "logistic_penalty": PENALTY,
            "ridge": RIDGE,
        },
        "within_one_point": {
            f"{task}, {kernel}, {surrogate}": bool(abs(line["tad"]["mean"]) <= WITHIN)
            for task, result in found.items()
            for kernel, lines in result["surrogates"].items()
            for surrogate, line in lines.items()
        },
        "tasks": found,
    }


def one_seed(classes: int, seed: int) -> dict[str, Any]:
    """Train one network and compare all surrogates with it on its test rows."""
    X, y = load_digits(n_class=classes, return_X_y=True)
    X = X / 16.0
    train, test = train_test_split(np.arange(len(X)), test_size=0.3, stratify=y, random_state=seed)
    module = trained(X[train], y[train], classes, seed)
    with torch.no_grad():
        p = torch.softmax(module(torch.from_numpy(X)), 1).numpy()
    right = p.argmax(1) == y
    found: dict[str, Any] = {
        "network": {
            "accuracy": float(np.mean(right[test])),
            "training_accuracy": float(np.mean(right[train])),
        }
    }
    for name, settings in KERNELS.items():
        K = Normalized(EmpiricalNTK(module, **settings, random_state=seed))(X)
        K_train, K_test = K[np.ix_(train, train)], K[np.ix_(test, train)]
        found[name] = {
            surrogate: compared(
                p[test], model.fit(K_train, y[train]).predict_proba(K_test), y[test]
            )
            for surrogate, model in surrogates(len(train), seed).items()
        }
    return found


def trained(X: np.ndarray, y: np.ndarray, classes: int, seed: int) -> nn.Module:
    """Return a network trained by a fixed recipe, in float64."""
    torch.manual_seed(seed)
    sizes = (X.shape[1], WIDTH, WIDTH)
    hidden = [m for a, b in pairwise(sizes) for m in (nn.Linear(a, b), nn.ReLU())]
    module = nn.Sequential(*hidden, nn.Linear(WIDTH, classes)).double()
    x, labels = torch.from_numpy(X), torch.from_numpy(y)
    optimizer = torch.optim.Adam(module.parameters(), lr=RATE, weight_decay=DECAY)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(x)).split(BATCH):
            optimizer.zero_grad()
            nn.functional.cross_entropy(module(x[batch]), labels[batch]).backward()
            optimizer.step()
    return module.eval()


def surrogates(n: int, seed: int) -> dict[str, Any]:
    """Return models of precomputed kernel rows; none has a setting that was tuned here."""
    logistic = LogisticRegression(C=1.0 / (PENALTY * n), class_weight="balanced", max_iter=5000)
    by_descent = {
        f"SGD, penalty {penalty:g}": SGDClassifier(
            loss="log_loss", alpha=penalty, class_weight="balanced", random_state=seed
        )
        for penalty in (PENALTY, 1e-2)
    }
    return {
        "logistic": logistic,
        **by_descent,
        "ridge": NTKRidgeClassifier("precomputed", alpha=RIDGE),
    }


def compared(p: np.ndarray, q: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """Compare the probabilities of a network, p, and of a surrogate, q, on test rows (n, C)."""
    wrong, wrong_too = p.argmax(1) != y, q.argmax(1) != y
    return {
        "accuracy": float(np.mean(~wrong_too)),
        "tad": 100.0 * float(np.mean(wrong) - np.mean(wrong_too)),
        "agreement": float(np.mean(p.argmax(1) == q.argmax(1))),
        "tau": float(kendalltau(log_odds(p, y), log_odds(q, y)).statistic),
        "both_wrong": float(np.sum(wrong & wrong_too)),
        "either_wrong": float(np.sum(wrong | wrong_too)),
    }


def log_odds(p: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return log odds of the true class: its probability's order, without ties near one."""
    with np.errstate(divide="ignore"):
        logs = np.log(p)
    true = np.eye(p.shape[1], dtype=bool)[y]
    return logs[true] - logsumexp(np.where(true, -np.inf, logs), axis=1)


def over_seeds(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return means and deviations; misses are pooled, since one seed has few."""
    result: dict[str, Any] = {
        "network": {
            key: spread([run["network"][key] for run in runs]) for key in runs[0]["network"]
        },
        "surrogates": {},
    }
    for kernel in KERNELS:
        result["surrogates"][kernel] = {}
        for surrogate in runs[0][kernel]:
            lines = [run[kernel][surrogate] for run in runs]
            line: dict[str, Any] = {
                key: spread([one[key] for one in lines])
                for key in ("accuracy", "tad", "agreement", "tau")
            }
            line["mean_absolute_tad"] = rounded(float(np.mean([abs(one["tad"]) for one in lines])))
            both, either = (
                int(sum(one[key] for one in lines)) for key in ("both_wrong", "either_wrong")
            )
            line |= {"both_wrong": both, "either_wrong": either}
            line["r_miss"] = rounded(both / either) if either else None
            result["surrogates"][kernel][surrogate] = line
    return result


def spread(values: list[float]) -> dict[str, float]:
    """Return mean and standard deviation over seeds."""
    return {"mean": rounded(float(np.mean(values))), "std": rounded(float(np.std(values)), 2)}


def show(task: str, result: Mapping[str, Any]) -> None:
    """Print one task."""
    print(f"{task}: network {result['network']}", flush=True)
    for kernel, lines in result["surrogates"].items():
        for surrogate, line in lines.items():
            tad, tau = line["tad"], line["tau"]
            print(
                f"  {kernel:<22}{surrogate:<20}TAD {tad['mean']:+.2f} +- {tad['std']:.2f}"
                f"  tau {tau['mean']:.3f} +- {tau['std']:.3f}  R_miss {line['r_miss']}"
            )


if __name__ == "__main__":
    main(measure, __file__)
