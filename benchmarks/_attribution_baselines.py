"""Shapley values of a kernel machine's rows by growing inverses: as published, and as it could be.

Both walk along one order of the rows and tell the utility of every prefix. Kernels, targets and
ridge are given; neither evaluates a kernel. Written anew from the descriptions of the algorithms.
"""

import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

EXACT = 500  # FreeShap: prefixes below are solved anew, and so are its multiples
TOLERANCE, TWICE = 0.05, 2  # and an order ends after two utilities so close to that of all rows


@dataclass(frozen=True)
class Walk:
    """Utilities along one order.

    Attributes
    ----------
    utilities : ndarray of shape (n + 1,) or (n + 1, 2)
        Of no rows first.
    seconds : ndarray of shape (n,)
        Since the start, after every prefix.
    """

    utilities: np.ndarray
    seconds: np.ndarray

    def marginals(self, order: np.ndarray) -> np.ndarray:
        """Return what every row adds where it comes, in the order of the rows."""
        found = np.empty((len(order), *self.utilities.shape[1:]))
        found[order] = np.diff(self.utilities, axis=0)
        return found


class FreeShap:
    """The algorithm of Wang et al. (2024) as its authors' program runs it on one kernel.

    At every prefix the kernel is indexed anew and copied with its ridge. Up to 500 rows, and at
    multiples of 500, every class solves it by LU; beyond, every class builds the whole inverse
    again from that of the prefix before, by products with its borders and concatenation. Utilities
    are minus the cross entropy of the raw outputs, and accuracy. Numbers are float64 throughout.

    Left out, in its favour: a check that prints, after a second fit, where the loss exceeds 1; of
    ten classes it always does.

    Parameters
    ----------
    K : Tensor of shape (n, n)
    cross : Tensor of shape (m, n)
    labels, judged : ndarray of int of shapes (n,), (m,)
    n_classes : int
    ridge : float
        1e-6 there.
    """

    def __init__(
        self,
        K: Tensor,
        cross: Tensor,
        labels: np.ndarray,
        judged: np.ndarray,
        n_classes: int,
        ridge: float,
    ) -> None:
        self.kernel = torch.cat([K, cross])[None]
        self.labels = torch.from_numpy(labels)
        self.judged = [{"label": label} for label in judged.tolist()]
        self.n_classes, self.ridge = n_classes, ridge
        self.inverse: Tensor | None = None

    def walk(self, order: np.ndarray, *, most: int | None = None) -> Walk:
        """Return the utilities of the prefixes, without truncation; of the first `most` only."""
        self.inverse = None
        utilities = [(float(np.log(1.0 / self.n_classes)), 1.0 / self.n_classes)]
        seconds, chosen = [], []
        start = time.perf_counter()
        for row in order[:most].tolist():
            chosen.append(row)
            utilities.append(self._utilities(np.array(chosen)))
            seconds.append(time.perf_counter() - start)
        return Walk(np.array(utilities), np.array(seconds))

    @staticmethod
    def stop(walk: Walk) -> int:
        """Return after how many rows the published run leaves an order (all of it was walked)."""
        full, nothing = walk.utilities[-1], walk.utilities[0]
        near = (np.abs(walk.utilities[1:] - full) <= TOLERANCE * np.abs(full - nothing)).all(axis=1)
        in_a_row = 0
        for k, close in enumerate(near.tolist()):
            in_a_row = in_a_row + 1 if close else 0
            if in_a_row == TWICE:
                return k + 1
        return len(near)

    def _utilities(self, rows: np.ndarray) -> tuple[float, float]:
        K = self.kernel[:, rows[:, None], rows]
        labels = self.labels[rows]
        cross = self.kernel[:, self.kernel.shape[2] :, :][:, :, rows]
        if len(rows) % EXACT == 0:
            self.inverse = None
        f, inverse = self._outputs(K, cross, labels)
        if len(rows) >= EXACT:
            self.inverse = torch.inverse(K[0] + self._shift(K)) if inverse is None else inverse
        truth = torch.tensor([row["label"] for row in self.judged])
        accuracy = (f.argmax(dim=1) == truth).double().mean()
        return -torch.nn.functional.cross_entropy(f, truth).item(), float(accuracy)

    def _shift(self, K: Tensor) -> Tensor:
        return torch.eye(K.shape[1], dtype=K.dtype) * self.ridge

    def _outputs(self, K: Tensor, cross: Tensor, labels: Tensor) -> tuple[Tensor, Tensor | None]:
        K = K + self._shift(K)[None]
        each, inverse = [], None
        for c in range(self.n_classes):
            target = (labels == c).double()
            if self.inverse is None:
                dual = torch.linalg.solve(K[0], target)
            else:
                inverse = _bordered(self.inverse, K[0])
                dual = inverse @ target
            each.append(cross[0] @ dual)
        return torch.stack(each, dim=1), inverse


def _bordered(A: Tensor, K: Tensor) -> Tensor:
    """Return the inverse of K from that of its leading block, four blocks and two joins."""
    k = len(A)
    B, C, D = K[:k, k:], K[k:, :k], K[k:, k:]
    S = D - C @ (A @ B)
    first = A + (A @ B) @ (torch.inverse(S) @ (C @ A))
    second = -(A @ (B @ torch.inverse(S)))
    third = -((torch.inverse(S) @ C) @ A)
    top, bottom = torch.cat([first, second], 1), torch.cat([third, torch.inverse(S)], 1)
    return torch.cat([top, bottom], 0)


def bordered_walk(
    K: Tensor, cross: Tensor, Y: Tensor, T: Tensor, ridge: float, order: np.ndarray, utility: str
) -> Walk:
    """Return the utilities of the prefixes by one inverse for all classes, grown in place.

    The kernel is permuted once. A row costs a product of the inverse with a vector, an update of
    rank one in place, and one of the predictions; no copies, no new arrays of size k^2.

    Parameters
    ----------
    K : Tensor of shape (n, n)
    cross : Tensor of shape (m, n)
    Y, T : Tensor of shapes (n, C), (m, C)
        Codes -1 and 1 of the classes; C is at least 2.
    ridge : float
    order : ndarray of shape (n,)
    utility : {"brier", "accuracy"}
        Of probabilities (1 + f) / 2.

    Returns
    -------
    Walk
    """
    n, rows = len(K), torch.from_numpy(order)
    K, Z, Y = K[rows][:, rows], cross[:, rows].T.contiguous(), Y[rows]
    G, f = torch.empty_like(K), torch.zeros_like(T)
    truth = T.argmax(1)

    def judged() -> float:
        if utility == "accuracy":
            return float((f.argmax(1) == truth).double().mean())
        return -0.25 * float((T - f).square().sum()) / len(T)

    utilities, seconds = [judged()], []
    start = time.perf_counter()
    for k in range(n):
        A, column = G[:k, :k], K[k, :k]
        b = A @ column
        pivot = float(K[k, k] + ridge - column @ b)
        f.addr_(Z[k] - b @ Z[:k], (Y[k] - b @ Y[:k]) / pivot)
        A.addr_(b, b, alpha=1.0 / pivot)
        torch.mul(b, -1.0 / pivot, out=G[k, :k])
        G[:k, k] = G[k, :k]
        G[k, k] = 1.0 / pivot
        utilities.append(judged())
        seconds.append(time.perf_counter() - start)
    return Walk(np.array(utilities), np.array(seconds))
