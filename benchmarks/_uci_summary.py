"""Figures over many tables, as Fernandez-Delgado et al. 2014 and Arora et al. 2020 report them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from _common import rounded
from scipy.stats import rankdata, wilcoxon

Scores = dict[str, dict[str, dict[str, Any]]]
"""Table -> method -> numbers."""


def column(scores: Scores, method: str, number: str) -> np.ndarray:
    """Return one number of one method, in the order of the tables."""
    return np.array([found[method][number] for found in scores.values()])


def overall(scores: Scores, methods: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return for every method what the tables say together; accuracies in percent.

    P90 and P95 are the shares of tables on which a method reaches 90 and 95 percent of the best
    accuracy, PMA is the mean of accuracy over best accuracy.
    """
    if not scores:
        return {}
    accuracy = np.array([column(scores, method, "accuracy") for method in methods])  # (k, tables)
    relative = accuracy / accuracy.max(axis=0)
    ranks = rankdata(-accuracy.round(10), axis=0)
    return {
        method: {
            "accuracy": percent(accuracy[i].mean()),
            "accuracy_standard_deviation": percent(
                accuracy[i].std(ddof=1) if len(scores) > 1 else 0
            ),
            "P90": percent((relative[i] >= 0.9).mean()),
            "P95": percent((relative[i] >= 0.95).mean()),
            "PMA": percent(relative[i].mean()),
            "mean_rank": rounded(float(ranks[i].mean())),
            **means(scores, method),
        }
        for i, method in enumerate(methods)
    }


def means(scores: Scores, method: str) -> dict[str, float]:
    """Return the means of what else is known of a method on every table."""
    names = ("log_loss", "fit_predict_seconds", "total_seconds")
    known = [name for name in names if all(name in found[method] for found in scores.values())]
    return {name: rounded(float(column(scores, method, name).mean())) for name in known}


def against(scores: Scores, ours: str, peer: str) -> dict[str, Any]:
    """Compare table by table: mean difference in points, wins, Wilcoxon's p, log losses."""
    if not scores:
        return {}
    a, b = column(scores, ours, "accuracy"), column(scores, peer, "accuracy")
    each = (100.0 * (a - b)).round(8)
    spread = each.std(ddof=1) / len(each) ** 0.5 if len(each) > 1 else None
    return {
        "mean_difference": rounded(float(each.mean())),
        "standard_error": None if spread is None else rounded(float(spread)),
        "wins": int((each > 0).sum()),
        "ties": int((each == 0).sum()),
        "losses": int((each < 0).sum()),
        # Two-sided; equal accuracies are left out (Wilcoxon 1945).
        "wilcoxon_p": rounded(float(wilcoxon(each).pvalue)) if each.any() else 1.0,
        **more_loss(scores, ours, peer),
    }


def more_loss(scores: Scores, ours: str, peer: str) -> dict[str, float]:
    """Return how much larger the peer's mean log loss is, where both have probabilities; nats."""
    if not all("log_loss" in found[method] for found in scores.values() for method in (ours, peer)):
        return {}
    each = column(scores, peer, "log_loss") - column(scores, ours, "log_loss")
    return {"log_loss_difference": rounded(float(each.mean()))}


def percent(share: float) -> float:
    """Return a share in percent, to a hundredth."""
    return round(100.0 * float(share), 2)
