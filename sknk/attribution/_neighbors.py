"""Training rows by their distance: Euclidean, or in the feature space of a kernel."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from scipy.spatial.distance import cdist
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from sknk._validation import validate_data
from sknk.attribution._rows import as_numpy, place_of
from sknk.kernels._adapt import as_kernel, copy_of
from sknk.kernels._base import Kernel

__all__ = ["NeighborVotes", "Neighbors"]

_NUMBERS = 2**20  # distances that are held at once


@dataclass(frozen=True)
class Neighbors:
    r"""Distances to training rows.

    .. math:: d(x, v)^2 = \lVert x - v \rVert^2, \quad \text{or of a kernel}\quad
        k(x, x) + k(v, v) - 2 k(x, v)

    Attributes
    ----------
    X : ndarray of shape (n, d)
        Training rows.
    kernel : Kernel or None
        None for Euclidean distances.
    """

    X: np.ndarray
    kernel: Kernel | None

    @classmethod
    def of(cls, X: np.ndarray, kernel: Any) -> Self:
        """Take a copy of the kernel, whoever's it is."""
        return cls(X, None if kernel is None else copy_of(as_kernel(kernel)))

    def blocks(self, rows: np.ndarray, *, own: bool = False) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield distances (b, n) of blocks of rows; a few MiB at a time.

        Parameters
        ----------
        rows : ndarray of shape (m, d)
            Rows.
        own : bool
            Whether they are the training rows themselves, whose distance to themselves is NaN: it
            sorts last.

        Yields
        ------
        span : slice
            Which rows.
        distances : ndarray of shape (b, n)
        """
        n = len(self.X)
        step = max(1, _NUMBERS // n)
        for start in range(0, len(rows), step):
            span = slice(start, min(start + step, len(rows)))
            D = self._distances(rows[span])
            if own:
                D[np.arange(len(D)), np.arange(span.start, span.stop)] = np.nan
            yield span, D

    def _distances(self, rows: np.ndarray) -> np.ndarray:
        if self.kernel is None:
            # Differences, not inner products: copies of a row stay exactly as far as each other.
            return cdist(rows, self.X)
        K = np.asarray(self.kernel(rows, self.X), dtype=np.float64)
        mine = np.asarray(self.kernel.diag(rows), dtype=np.float64)
        square = mine[:, None] + self._norms - 2.0 * K
        return np.sqrt(np.maximum(square, 0.0))

    @cached_property
    def _norms(self) -> np.ndarray:
        assert self.kernel is not None
        return np.asarray(self.kernel.diag(self.X), dtype=np.float64)


class NeighborVotes(ClassifierMixin, BaseEstimator):
    """Classify by votes of the nearest training rows, at most as many as there are.

    What KNN-Shapley values are values for; scikit-learn's refuses fewer rows than `n_neighbors`.

    Parameters
    ----------
    n_neighbors : int, default=5
        Voters, where there is no radius.
    radius : float or None, default=None
        Rows no farther vote; of none, all training rows do.
    kernel : kernel or None, default=None
        None is the Euclidean distance.
    device, dtype : str or None, default=None
        Where, and in what, kernels are computed.

    Attributes
    ----------
    classes_ : ndarray of shape (C,)
    """

    def __init__(
        self,
        n_neighbors: int = 5,
        *,
        radius: float | None = None,
        kernel: Any = None,
        device: str | None = None,
        dtype: str | None = None,
    ) -> None:
        self.n_neighbors = n_neighbors
        self.radius = radius
        self.kernel = kernel
        self.device = device
        self.dtype = dtype

    def fit(self, X: Any, y: Any) -> Self:
        """Keep the rows."""
        rows, y = validate_data(self, as_numpy(X), as_numpy(y), dtype=np.float64)
        self.classes_, codes = np.unique(y, return_inverse=True)
        self._onehot = np.eye(len(self.classes_))[codes]
        self._neighbors = Neighbors.of(rows, self.kernel)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Return the class of most votes, (m,); of equals the first."""
        check_is_fitted(self)
        rows = validate_data(self, as_numpy(X), reset=False, dtype=np.float64)
        votes = np.empty((len(rows), len(self.classes_)))
        with place_of(self, X):
            for span, D in self._neighbors.blocks(rows):
                votes[span] = self._voters(D) @ self._onehot
        return self.classes_[votes.argmax(axis=1)]

    def _voters(self, D: np.ndarray) -> np.ndarray:
        if self.radius is not None:
            near = self.radius >= D
            return np.where(near.any(axis=1, keepdims=True), near, True)
        near = np.zeros(D.shape, dtype=bool)
        first = D.argsort(axis=1, kind="stable")[:, : self.n_neighbors]
        np.put_along_axis(near, first, True, axis=1)
        return near
