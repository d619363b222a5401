"""NeuralUCB by its published recipe (Zhou, Li and Gu 2020, as their code has it), in NumPy.

One hidden layer of 100 ReLUs with torch's default first weights, contexts in the block of their
arm, the diagonal of Z by gradients of the network as it is, and after every round up to 1000 steps
of stochastic gradient descent on single rounds, with weight decay, until the mean loss is 0.001.
Their code loses rounds after the 2000th; this keeps all.
"""

from typing import Any

import numpy as np

__all__ = ["NeuralUCBRecipe"]


class NeuralUCBRecipe:
    """A policy with ``predict`` and ``learn`` of single rounds.

    Parameters
    ----------
    n_arms, n_features : int
        K and d.
    nu, decay : float
        Exploration and lambda.
    seed : int
        Of first weights and the order of rounds.
    """

    def __init__(self, n_arms: int, n_features: int, nu: float, decay: float, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        width, inputs = 100, n_arms * n_features
        a, b = 1 / np.sqrt(inputs), 1 / np.sqrt(width)
        self.W = self.rng.uniform(-a, a, (n_arms, n_features, width))
        self.c, self.v = self.rng.uniform(-a, a, width), self.rng.uniform(-b, b, width)
        self.b = self.rng.uniform(-b, b)
        self.nu, self.decay = nu, decay
        self.U_W = np.full_like(self.W, decay)
        self.U = {name: np.full(width, decay) for name in "cv"} | {"b": np.full(1, decay)}
        self.seen: list[tuple[np.ndarray, int, float]] = []

    def predict(self, x: np.ndarray) -> int:
        """Return the arm of the largest bound."""
        return int(np.argmax([self._bound(x, arm) for arm in range(len(self.W))]))

    def learn(self, x: np.ndarray, arm: int, reward: float) -> None:
        """Take a round in, and train."""
        g = self._gradients(x, arm)
        self.U_W[arm] += np.square(np.outer(x, g["c"]))
        for name in self.U:
            self.U[name] += np.square(g[name])
        self.seen.append((x, arm, reward))
        self._train()

    def _bound(self, x: np.ndarray, arm: int) -> float:
        g = self._gradients(x, arm)
        square = np.sum(np.square(np.outer(x, g["c"])) / self.U_W[arm])
        square += sum(np.sum(np.square(g[name]) / part) for name, part in self.U.items())
        return self._output(x, arm)[0] + float(np.sqrt(self.decay * self.nu * square))

    def _output(self, x: np.ndarray, arm: int) -> tuple[float, np.ndarray]:
        h = np.maximum(x @ self.W[arm] + self.c, 0.0)
        return float(h @ self.v + self.b), h

    def _gradients(self, x: np.ndarray, arm: int) -> dict[str, Any]:
        h = self._output(x, arm)[1]
        return {"c": self.v * (h > 0), "v": h, "b": np.ones(1)}

    def _train(self, rate: float = 0.01, most: int = 1000, enough: float = 1e-3) -> None:
        """Descend; the decay of weights that a step does not touch is one factor for all."""
        steps, scale = 0, 1.0
        while True:
            total = 0.0
            for i in self.rng.permutation(len(self.seen)):
                x, arm, reward = self.seen[i]
                h = np.maximum(scale * (x @ self.W[arm]) + self.c, 0.0)
                error = float(h @ self.v + self.b) - reward
                g_c = 2 * error * self.v * (h > 0)
                keep = 1 - rate * self.decay
                self.v = keep * self.v - rate * 2 * error * h
                self.c = keep * self.c - rate * g_c
                self.b = keep * self.b - rate * 2 * error
                scale *= keep
                self.W[arm] -= (rate / scale) * np.outer(x, g_c)
                total, steps = total + error**2, steps + 1
                if steps == most:
                    break
            if steps == most or total / len(self.seen) <= enough:
                self.W *= scale
                return
