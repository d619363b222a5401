"""Selectors: which rows of a pool to label next, from inner products."""

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.base import BaseEstimator
from torch import Tensor

from sknk.active_learning._space import Space
from sknk.solvers import (
    GramOperator,
    distances_before,
    frank_wolfe,
    frank_wolfe_before,
    k_means_plus_plus,
    largest,
    largest_cells,
    least_variance,
    max_det,
    max_dist,
    reductions_before,
    variances_before,
)

__all__ = [
    "BAIT",
    "LCMD",
    "FrankWolfe",
    "KMeansPlusPlus",
    "MaxDet",
    "MaxDiag",
    "MaxDist",
    "Random",
    "Selector",
]


_NEEDED = {
    "proba": "class probabilities; expected `proba` (n, C), or a classifier with "
    "`predict_proba` and some labels",
    "draws": "draws of class probabilities; expected `proba` (S, n, C), or some labels and a "
    "Gaussian process classifier, a forest or several networks",
    "targets": "rows to judge; expected `X_target`",
}


class Selector(BaseEstimator):
    """Chooses rows of a pool; a small parameter holder, so that grids can search over it.

    Mode "P" looks at the pool only, by the covariance given the training rows. Mode "TP" starts
    from the training rows as if they were chosen first, by the prior covariance. "auto" is the mode
    of the paper for each selector.
    """

    modes: ClassVar[tuple[str, ...]] = ("P",)  # the first one is "auto"
    takes_bonus: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ()  # of "proba", "draws", "targets"
    by_kernel: ClassVar[bool] = True  # whether it looks at inner products at all

    def select(
        self, space: Space, size: int, generator: torch.Generator, *, mode: str = "auto"
    ) -> Tensor:
        """Return rows of the pool in the order of choice.

        Parameters
        ----------
        space : Space
            Pool and training rows.
        size : int
            How many; fewer are returned where the others would add nothing.
        generator : torch.Generator
            On the CPU.
        mode : {"auto", "P", "TP"}, default="auto"
            What training rows are.

        Returns
        -------
        LongTensor of shape (k,)

        Raises
        ------
        ValueError
            For a mode that this selector does not have, or a space without what it needs.
        """
        self._check(space)
        return self._select(space, size, generator, self._mode(mode))

    def scores_before(
        self, space: Space, chosen: np.ndarray, *, mode: str = "auto"
    ) -> Iterator[Tensor]:
        """Yield how all pool rows (n,) were judged before each choice.

        Parameters
        ----------
        space : Space
            Pool and training rows.
        chosen : ndarray of shape (b,)
            Rows of the pool in the order of choice.
        mode : {"auto", "P", "TP"}, default="auto"
            What training rows are.

        Yields
        ------
        Tensor of shape (n,)
        """
        self._check(space)
        rows = torch.from_numpy(np.asarray(chosen)).to(space.gram.device)
        for scores in self._scores(space, rows, self._mode(mode)):
            yield scores[: space.n_pool]

    def _mode(self, mode: str) -> str:
        if mode == "auto":
            return self.modes[0]
        if mode in self.modes:
            return mode
        raise ValueError(
            f"`mode` is {mode!r}; {type(self).__name__} has {', '.join(self.modes)}. Pass 'auto'."
        )

    def _check(self, space: Space) -> None:
        """Refuse a space that lacks what is needed."""
        proba = space.proba
        there = {
            "proba": proba is not None,
            "draws": proba is not None and proba.ndim == 3,
            "targets": space.n_targets > 0,
        }
        if space.n_targets and "targets" not in self.needs:
            raise ValueError(
                f"`X_target` has {space.n_targets} rows and {type(self).__name__} judges none; "
                "expected None, or selector 'vtl'."
            )
        for name in self.needs:
            if not there[name]:
                raise ValueError(f"{type(self).__name__} was given no {_NEEDED[name]}.")

    @abstractmethod
    def _select(self, space: Space, size: int, generator: torch.Generator, mode: str) -> Tensor:
        """Return rows of the pool."""

    @abstractmethod
    def _scores(self, space: Space, chosen: Tensor, mode: str) -> Iterator[Tensor]:
        """Yield scores of the pool's rows, and of others after them, before each choice."""


class Random(Selector):
    """Rows at random, all equally likely: what every other selector has to beat.

    Examples
    --------
    >>> from sknk.active_learning import Random, select_batch
    >>> select_batch([[1.0], [2.0], [3.0]], method=Random(), batch_size=3, random_state=0).shape
    (3,)
    """

    by_kernel = False

    def _select(self, space: Space, size: int, generator: torch.Generator, mode: str) -> Tensor:
        order = torch.randperm(space.n_pool, generator=generator)
        return order[:size].to(space.gram.device)

    def _scores(self, space: Space, chosen: Tensor, mode: str) -> Iterator[Tensor]:
        n = space.n_pool
        return (torch.full((n,), 1.0 / n, dtype=torch.float64) for _ in chosen)


class MaxDiag(Selector):
    r"""Rows of the largest predictive variances: BALD of a Gaussian process.

    .. math:: \arg\max_x C(x, x)

    It looks at each row by itself, so a batch may hold the same row many times over. It can lose to
    random rows (Holzmueller et al. 2023, table 4: mean log RMSE -1.285 to -1.401).

    Examples
    --------
    >>> from sknk.active_learning import select_batch
    >>> select_batch([[1.0], [2.0], [3.0]], method="maxdiag", batch_size=2)
    array([2, 1])
    """

    def _select(self, space: Space, size: int, generator: torch.Generator, mode: str) -> Tensor:
        return largest(space.posterior().diag(), size)

    def _scores(self, space: Space, chosen: Tensor, mode: str) -> Iterator[Tensor]:
        variances = space.posterior().diag()
        return (variances for _ in chosen)


class MaxDet(Selector):
    r"""Rows of the largest determinant, greedily: BatchBALD of a Gaussian process.

    .. math:: \arg\max_S \log\det(C_{SS} + s^2 I)

    As pivoted Cholesky. The covariance given the training rows (mode "P") and the prior one after
    the training rows were chosen (mode "TP") choose the same. It follows outliers, and can lose to
    random rows with kernel ridge as learner. Optional per-row bonuses make it KECOR (Luo et al.
    2023), whose bonus is the entropy of the predicted classes.

    Examples
    --------
    >>> from sknk.active_learning import select_batch
    >>> select_batch([[3.0, 0], [2.9, 0], [0, 1.0]], method="maxdet", batch_size=2)
    array([0, 2])
    """

    modes = ("P", "TP")
    takes_bonus = True

    def _select(self, space: Space, size: int, generator: torch.Generator, mode: str) -> Tensor:
        return max_det(space.gram, size, **self._settings(space))

    def _scores(self, space: Space, chosen: Tensor, mode: str) -> Iterator[Tensor]:
        return variances_before(space.gram, chosen, **self._settings(space))

    @staticmethod
    def _settings(space: Space) -> dict[str, Any]:
        bonus = space.bonus
        if bonus is not None:
            bonus = torch.cat([bonus, bonus.new_zeros(len(space.train))])
        return {"given": space.train, "noise_variance": space.noise_variance, "bonus": bonus}


class BAIT(Selector):
    r"""Rows whose labels lower the summed predictive variance most: the default of kernel machines.

    .. math:: \arg\max_i \frac{\sum_v C(v, i)^2}{C(i, i) + s^2}

    with v over pool and training rows: greedy integrated variance reduction, which for regression
    is forward BAIT (Ash et al. 2021), EV-GP (Xu et al. 2023), undirected VTL (Huebotter et al.
    2024), and the expected squared change of predictions by a look-ahead.

    Parameters
    ----------
    overselect : float, default=1.0
        Choose so many times the batch, then drop the rows whose loss costs least; 2 is BAIT's
        forward-backward form. Dimensionless, at least 1.
    n_judged : int or None, default=None
        Rows v that the sum is over, drawn by a fixed seed; None is all of them. For large pools
        under a kernel, where all pairs of rows are too many: O(n n_judged) in place of O(n^2).

    Examples
    --------
    >>> from sknk.active_learning import select_batch
    >>> X = [[1.0, 0], [1.1, 0], [0.9, 0], [0, 1.2]]
    >>> select_batch(X, method="bait", batch_size=2)
    array([1, 3])
    """

    def __init__(self, overselect: float = 1.0, n_judged: int | None = None) -> None:
        self.overselect = overselect
        self.n_judged = n_judged

    def _select(self, space: Space, size: int, generator: torch.Generator, mode: str) -> Tensor:
        gram, judged = self._judged(space)
        return least_variance(
            gram,
            size,
            given=space.train,
            noise_variance=space.noise_variance,
            judged=judged,
            forward=min(round(self.overselect * size), space.n_pool),
        )

    def _scores(self, space: Space, chosen: Tensor, mode: str) -> Iterator[Tensor]:
        s2 = space.noise_variance
        gram, judged = self._judged(space)
        return reductions_before(gram, chosen, given=space.train, noise_variance=s2, judged=judged)

    def _judged(self, space: Space) -> tuple[GramOperator, Tensor | None]:
        """Return inner products, stored if all pairs are looked at, and the rows that count."""
        n = space.gram.shape[0]
        if self.n_judged is None or self.n_judged >= n:
            return space.stored().gram, None
        if self.n_judged < 1:
            raise ValueError(f"`n_judged` is {self.n_judged!r}; expected at least 1.")
        # A fixed seed: scores that are asked for later are those of the choice.
        drawn = torch.randperm(n, generator=torch.Generator().manual_seed(0))[: self.n_judged]
        return space.gram, drawn.to(space.gram.device)


class FrankWolfe(Selector):
    """Rows whose weighted sum stands for the whole pool: ACS-FW (Pinsler et al. 2019).

    On the covariance given the training rows; the published method uses the random features of
    :class:`ACSFeatures`.

    Examples
    --------
    >>> from sknk.active_learning import select_batch
    >>> select_batch([[1.0, 0], [0, 3.0], [1.1, 0]], method="frank-wolfe", batch_size=2)
    array([1, 0])
    """

    def _select(self, space: Space, size: int, generator: torch.Generator, mode: str) -> Tensor:
        return frank_wolfe(space.posterior(), size)

    def _scores(self, space: Space, chosen: Tensor, mode: str) -> Iterator[Tensor]:
        return frank_wolfe_before(space.posterior(), chosen)


class _Distances(Selector):
    """Selectors by distances to centres: training rows and those chosen, or those chosen only."""

    modes = ("TP", "P")

    def _select(self, space: Space, size: int, generator: torch.Generator, mode: str) -> Tensor:
        gram, given = self._centres(space, mode)
        return self._among(gram, size, given, generator)

    def _scores(self, space: Space, chosen: Tensor, mode: str) -> Iterator[Tensor]:
        gram, given = self._centres(space, mode)
        return distances_before(gram, chosen, given=given)

    @staticmethod
    def _centres(space: Space, mode: str) -> tuple[GramOperator, Tensor]:
        if mode == "TP":
            return space.gram, space.train
        return space.posterior(), space.train[:0]

    @abstractmethod
    def _among(
        self, gram: GramOperator, size: int, given: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Return rows of the space."""


class MaxDist(_Distances):
    r"""The row farthest from all others with a label, again and again: Core-Set, k-center.

    .. math:: \arg\max_x \min_{c \in T \cup S} \lVert \phi(x) - \phi(c) \rVert

    (Sener and Savarese 2018; Geifman and El-Yaniv 2017.)

    Examples
    --------
    >>> from sknk.active_learning import select_batch
    >>> X = [[0.0], [1.0], [5.0], [2.9]]
    >>> select_batch(X, method="maxdist", batch_size=2, X_train=[[0.0]])
    array([2, 3])
    """

    def _among(
        self, gram: GramOperator, size: int, given: Tensor, generator: torch.Generator
    ) -> Tensor:
        return max_dist(gram, size, given=given)


class KMeansPlusPlus(_Distances):
    r"""Rows at random, in proportion to their squared distance to all others with a label.

    .. math:: p(x) \propto \min_{c \in T \cup S} \lVert \phi(x) - \phi(c) \rVert^2

    The seeding of k-means++, and the step of BADGE (Ash et al. 2020).

    Examples
    --------
    >>> from sknk.active_learning import select_batch
    >>> X = [[0.0], [1.0], [5.0], [2.9]]
    >>> len(select_batch(X, method="kmeans++", batch_size=2, X_train=[[0.0]], random_state=0))
    2
    """

    def _among(
        self, gram: GramOperator, size: int, given: Tensor, generator: torch.Generator
    ) -> Tensor:
        return k_means_plus_plus(gram, size, given=given, generator=generator)


class LCMD(_Distances):
    """The farthest row of the largest cluster, again and again: best for networks.

    Every row belongs to its nearest centre, a cluster is as large as the sum of its squared
    distances (Holzmueller, Zaverkin, Kaestner and Steinwart 2023).

    Examples
    --------
    >>> from sknk.active_learning import select_batch
    >>> X = [[1.0], [1.1], [1.2], [9.0]]
    >>> select_batch(X, method="lcmd", batch_size=2, X_train=[[0.0], [8.5]])
    array([2, 3])
    """

    def _among(
        self, gram: GramOperator, size: int, given: Tensor, generator: torch.Generator
    ) -> Tensor:
        return largest_cells(gram, size, given=given)
