"""The rows a ridge model is fitted on: duplicates merged, zero weights left out."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sknk._array import as_tensor, compute_device, compute_dtype
from sknk._validation import check_memory, check_precomputed
from sknk.kernels._base import Kernel

__all__ = ["TrainingSet", "merge_rows"]


@dataclass(frozen=True)
class TrainingSet:
    """Distinct rows with weights, and the way back to the rows as they were passed.

    Only distinct rows make weights and repetitions give the same numbers. All arrays are NumPy, so
    the whole pickles.

    Attributes
    ----------
    first : ndarray of shape (u,)
        Position of each distinct row of positive weight.
    group : ndarray of shape (n,)
        Distinct row of every row; -1 where the weight is zero.
    weights : ndarray of shape (u,) or None
        Summed weights; None where all are one.
    unit : ndarray of shape (u,) or None
        Weight of one repetition of each; None where copies are one observation.
    share : ndarray of shape (n,)
        Part of its distinct row's weight that each row carries.
    Y : ndarray of shape (u, t)
        Targets of the distinct rows.
    rows : ndarray of shape (n, d)
        Rows as passed; for a precomputed kernel the Gram matrix (n, n).
    precomputed : bool
        What `rows` are.
    """

    first: np.ndarray
    group: np.ndarray
    weights: np.ndarray | None
    unit: np.ndarray | None
    share: np.ndarray
    Y: np.ndarray
    rows: np.ndarray
    precomputed: bool

    @property
    def distinct(self) -> Tensor:
        """Distinct rows as a tensor on the compute device, for kernels."""
        # A row of which a later copy is left keeps its place among the distinct rows.
        whole = np.array_equal(self.first, np.arange(len(self.rows)))
        rows = self.rows if whole else self.rows[self.first]
        return as_tensor(rows, compute_device(), torch.float64)

    @property
    def copies(self) -> np.ndarray:
        """Weights of the distinct rows, ones where there are none, (u,)."""
        return np.ones(len(self.first)) if self.weights is None else self.weights

    def left_out(self, weights: np.ndarray | None = None) -> np.ndarray | None:
        """Return the weight that leave-one-out takes from each distinct row; None is all of it.

        Copies of a row with a real target are one observation, and are left out together. Rows that
        share a label coincide by chance: of a whole number of repetitions one is left out. Other
        weights say how much a row matters; it is left out whole, so that no part judges itself.

        Parameters
        ----------
        weights : ndarray of shape (u,) or None
            Weights of the distinct rows; None means those of all rows.

        Returns
        -------
        ndarray of shape (u,) or None
        """
        weights = self.weights if weights is None else weights
        if weights is None or self.unit is None:
            return None
        counts = weights / self.unit
        if not np.allclose(counts, counts.round(), rtol=1e-9, atol=0.0):
            return None
        return np.minimum(self.unit, weights)

    def gram(self, kernel: Kernel | None) -> Tensor:
        """Return the Gram matrix of the distinct rows, (u, u), safe to overwrite."""
        if self.precomputed:
            u, dtype = len(self.first), compute_dtype()
            check_memory(
                u * u * dtype.itemsize,
                compute_device(),
                what=f"A copy of the Gram matrix of n={u} rows in {dtype}",
                instead="Use fewer rows or `dtype='float32'`.",
            )
            K = self.rows[np.ix_(self.first, self.first)]
            return as_tensor(K, compute_device(), compute_dtype())
        assert kernel is not None
        return kernel(self.distinct)

    def part(self, index: np.ndarray) -> "TrainingSet":
        """Return some of the distinct rows as a table of their own."""
        every, own = np.arange(len(index)), self.first[index]
        return TrainingSet(
            every,
            every,
            None if self.weights is None else self.weights[index],
            None if self.unit is None else self.unit[index],
            np.ones(len(index)),
            self.Y[index],
            self.rows[np.ix_(own, own)] if self.precomputed else self.rows[own],
            self.precomputed,
        )

    def sample(self, most: int, *, classes: bool = False) -> np.ndarray:
        """Return so many of the distinct rows, of the same spread of targets.

        Whatever the order of the rows: they are sorted by target, and one of every few neighbours
        is drawn with a fixed seed.

        Parameters
        ----------
        most : int
            Rows; of fewer all are returned.
        classes : bool, default=False
            Add a row of every target that would be missing.

        Returns
        -------
        ndarray of int
            Sorted positions among the distinct rows.
        """
        u = len(self.first)
        if u <= most:
            return np.arange(u)
        order, draw = self._by_target(), np.random.default_rng(0)
        edges = np.linspace(0, u, most + 1).astype(int)
        drawn = order[draw.integers(edges[:-1], edges[1:])]
        if classes:
            _, every = np.unique(self.Y[order], axis=0, return_index=True)
            present = {tuple(y) for y in self.Y[drawn].tolist()}
            absent = [i for i in order[every] if tuple(self.Y[i].tolist()) not in present]
            drawn = np.append(drawn, np.array(absent, dtype=int))
        return np.sort(drawn)

    def _by_target(self) -> np.ndarray:
        """Return the distinct rows in an order of targets, then columns."""
        rows = self.rows[self.first]
        return np.lexsort([*rows.T[::-1], *self.Y.T[::-1]])

    def deal(self, count: int) -> np.ndarray:
        """Deal the distinct rows into parts of equal spread of targets; return their part, (u,).

        Whatever the order of the rows: they are sorted by target, and every `count` in a row go to
        different parts, drawn with a fixed seed.

        Parameters
        ----------
        count : int
            Parts.

        Returns
        -------
        ndarray of shape (u,)
        """
        order = self._by_target()
        draw = np.random.default_rng(0)
        hands = -(-len(order) // count)
        parts = np.concatenate([draw.permutation(count) for _ in range(hands)])[: len(order)]
        dealt = np.empty(len(order), dtype=int)
        dealt[order] = parts
        return dealt

    def followed_by(self, other: "TrainingSet") -> "TrainingSet":
        """Return both tables as one; rows of one are not merged with those of the other."""
        n, u = len(self.rows), len(self.first)
        weights = None
        if self.weights is not None or other.weights is not None:
            weights = np.append(self.copies, other.copies)
        unit = None
        if self.unit is not None and other.unit is not None:
            unit = np.append(self.unit, other.unit)
        return TrainingSet(
            np.append(self.first, other.first + n),
            np.append(self.group, np.where(other.group < 0, -1, other.group + u)),
            weights,
            unit,
            np.append(self.share, other.share),
            np.vstack([self.Y, other.Y]),
            np.vstack([self.rows, other.rows]),
            self.precomputed,
        )

    def without(self, rows: np.ndarray) -> tuple["TrainingSet", np.ndarray]:
        """Return the table without some of its rows, distinct rows in the order they had.

        Parameters
        ----------
        rows : ndarray of int
            Positions of rows as passed.

        Returns
        -------
        training : TrainingSet
        gone : ndarray of int
            Distinct rows of which no copy is left.
        """
        kept = np.setdiff1d(np.arange(len(self.rows)), rows)
        group = self.group[kept]
        own = np.where(group < 0, 0.0, self.share[kept] * self.copies[group])
        u = len(self.first)
        totals = np.bincount(group[group >= 0], own[group >= 0], minlength=u)
        stays = np.bincount(group[group >= 0], minlength=u) > 0
        number = np.cumsum(stays) - 1
        renumbered = np.where(group < 0, -1, number[group])
        first = np.full(int(stays.sum()), len(kept))
        np.minimum.at(first, renumbered[group >= 0], np.flatnonzero(group >= 0))
        merged = totals[stays]
        training = TrainingSet(
            first,
            renumbered,
            None if bool((merged == 1.0).all()) else merged,
            None if self.unit is None else self.unit[stays],
            np.where(group < 0, 0.0, own / merged[renumbered]),
            self.Y[stays],
            self.rows[np.ix_(kept, kept)] if self.precomputed else self.rows[kept],
            self.precomputed,
        )
        return training, np.flatnonzero(~stays)

    def mean(self, fit_intercept: bool) -> np.ndarray:
        """Return the weighted mean target (t,), or zeros without intercept."""
        if not fit_intercept:
            return np.zeros(self.Y.shape[1])
        return np.average(self.Y, axis=0, weights=self.weights)

    def fold_weights(self, train: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
        """Return the weights (u,) of distinct rows when only the rows `train` count."""
        inside = train[self.group[train] >= 0]
        w = None if weights is None else weights[inside]
        return np.bincount(self.group[inside], weights=w, minlength=len(self.first)).astype(float)

    def spread(self, coef: np.ndarray) -> np.ndarray:
        """Give every row its share of its distinct row's dual coefficients, (n, t)."""
        return self.share[:, None] * coef[self.group]

    def every_row(self, values: np.ndarray, elsewhere: Any) -> np.ndarray:
        """Repeat values of distinct rows (u, t) on every row; `elsewhere()` for zero weights."""
        full = values[self.group]
        left = self.group < 0
        if left.any():
            full[left] = elsewhere(left)
        return full


def merge_rows(
    rows: np.ndarray,
    Y: np.ndarray,
    weights: np.ndarray | None,
    *,
    precomputed: bool,
    unit: np.ndarray | None = None,
) -> TrainingSet:
    """Merge rows equal in x and y: O(n d log n).

    Parameters
    ----------
    rows : ndarray of shape (n, d) or, precomputed, (n, n)
        Rows or Gram matrix.
    Y : ndarray of shape (n, t)
        Targets.
    weights : ndarray of shape (n,) or None
        Not negative, not all zero.
    precomputed : bool
        What `rows` are.
    unit : ndarray of shape (n,) or None
        Weight of one repetition of each row, equal for equal rows; None if copies are one.

    Returns
    -------
    TrainingSet
    """
    if precomputed:
        check_precomputed(rows)
    n = len(rows)
    active = np.arange(n) if weights is None else np.flatnonzero(weights)
    w = np.ones(n) if weights is None else weights
    points = _gram_copies(rows)[:, None] if precomputed else rows
    keys = np.hstack([points[active], Y[active]]) + 0.0  # -0.0 equals 0.0
    _, first, inverse = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)  # keep the order in which rows were passed
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    group = np.full(n, -1)
    group[active] = rank[inverse.ravel()]
    first = active[first[order]]
    merged = np.bincount(group[active], weights=w[active], minlength=len(first))
    share = np.where(group < 0, 0.0, w / merged[group])
    trivial = bool((merged == 1.0).all())
    return TrainingSet(
        first,
        group,
        None if trivial else merged,
        None if unit is None else unit[first],
        share,
        Y[first],
        rows,
        precomputed,
    )


def _gram_copies(K: np.ndarray) -> np.ndarray:
    """Return the first row at distance zero of every row of a Gram matrix, (n,)."""
    d = np.diag(K)
    # Rounding tells the rows of copies apart, so zero is 1e-12 of the two squared norms.
    return np.array(
        [np.argmax(d + d[i] - 2.0 * row <= 1e-12 * (d + d[i])) for i, row in enumerate(K)]
    )
