"""Naive values of rows: every coalition, every bag, every gradient, one at a time."""

import math
from itertools import combinations

import numpy as np
import torch


def shapley(n, utility):
    """Return the Shapley values of n players by their definition."""
    values = np.zeros(n)
    for i in range(n):
        others = [j for j in range(n) if j != i]
        for size in range(n):
            weight = 1.0 / (n * math.comb(n - 1, size))
            for S in combinations(others, size):
                values[i] += weight * (utility((*S, i)) - utility(S))
    return values


def hard(S, distances, match, k):
    """Return the part of K that the matches among the K nearest of S are."""
    nearest = sorted(S, key=lambda j: (distances[j], j))[:k]
    return sum(float(match[j]) for j in nearest) / k


def soft(S, distances, match, k, n_classes):
    """Return the part of matches among the K nearest of S; a guess of none."""
    nearest = sorted(S, key=lambda j: (distances[j], j))[:k]
    return np.mean([match[j] for j in nearest]) if nearest else 1.0 / n_classes


def threshold(S, distances, match, radius, n_classes):
    """Return the part of matches among the rows of S in the ball; a guess of none."""
    inside = [j for j in S if distances[j] <= radius]
    return np.mean([match[j] for j in inside]) if inside else 1.0 / n_classes


def data_oob(ensemble, X, y):
    """Return what is seen of each row out of its bags, a list for each."""
    seen = [[] for _ in y]
    for b, member in enumerate(ensemble.estimators_):
        bag = set(np.asarray(ensemble.estimators_samples_[b]).tolist())
        columns = getattr(ensemble, "estimators_features_", [np.arange(X.shape[1])] * (b + 1))[b]
        for i in range(len(y)):
            if i in bag:
                continue
            predicted = member.predict(X[i : i + 1, columns])[0]
            if hasattr(ensemble, "classes_"):
                seen[i].append(float(ensemble.classes_[int(predicted)] == y[i]))
            else:
                seen[i].append(-((y[i] - predicted) ** 2))
    return seen


def margin_gradients(module, X, codes):
    """Return gradients (n, P) of log(p / (1 - p)) of true classes by autograd, and p."""
    found, probabilities = [], []
    for x, c in zip(torch.as_tensor(X), codes, strict=True):
        f = module(x[None])[0]
        p = torch.sigmoid(f if c == 1 else -f)[0] if len(f) == 1 else torch.softmax(f, 0)[c]
        gradients = torch.autograd.grad(torch.log(p / (1.0 - p)), list(module.parameters()))
        found.append(torch.cat([g.reshape(-1) for g in gradients]).numpy())
        probabilities.append(p.item())
    return np.stack(found), np.array(probabilities)


def trak(tests, trains, doubts, ridges):
    """Return tau (m, n) of features of several checkpoints: factors are averaged apart."""
    products = [
        V @ np.linalg.inv(Z.T @ Z + r * np.eye(Z.shape[1])) @ Z.T
        for V, Z, r in zip(tests, trains, ridges, strict=True)
    ]
    return np.mean(products, axis=0) * np.mean(doubts, axis=0)
