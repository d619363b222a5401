"""Selectors that look at class probabilities: margin, entropy, BADGE, BAIT, BatchBALD, KECOR."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from sknk.active_learning._selectors import MaxDet, Selector
from sknk.active_learning._space import Space
from sknk.solvers import (
    GramOperator,
    GroupedGram,
    ProductGram,
    distances_before,
    group_reductions_before,
    information_before,
    k_means_plus_plus,
    largest,
    least_variance_groups,
    most_informative,
)

__all__ = ["BADGE", "KECOR", "BatchBALD", "Entropy", "FisherBAIT", "Margin"]


class Margin(Selector):
    r"""Rows whose two most probable classes are closest: the plain strategy to beat.

    .. math:: \arg\min_x p_{(1)}(x) - p_{(2)}(x)

    It looks at each row by itself, so a batch may hold much the same row many times over. Scores
    are one less the difference.

    Examples
    --------
    >>> from sknk.active_learning import select_batch
    >>> proba = [[0.9, 0.1], [0.4, 0.6], [0.7, 0.3]]
    >>> select_batch([[0.0], [1.0], [2.0]], method="margin", batch_size=2, proba=proba)
    array([1, 2])
    """

    needs: ClassVar[tuple[str, ...]] = ("proba",)
    by_kernel = False

    def _select(self, space: Space, size: int, generator: torch.Generator, mode: str) -> Tensor:
        return largest(self._sameness(space), size)

    def _scores(self, space: Space, chosen: Tensor, mode: str) -> Iterator[Tensor]:
        scores = self._sameness(space)
        return (scores for _ in chosen)

    @staticmethod
    def _sameness(space: Space) -> Tensor:
        first, second = space.classes.topk(2, dim=1).values.unbind(1)
        return 1.0 - (first - second)


class Entropy(Selector):
    r"""Rows whose classes are least certain, one by one.

    .. math:: \arg\max_x -\sum_c p_c(x) \log p_c(x)

    Examples
    --------
    >>> from sknk.active_learning import select_batch
    >>> proba = [[0.9, 0.1], [0.4, 0.6], [0.7, 0.3]]
    >>> select_batch([[0.0], [1.0], [2.0]], method="entropy", batch_size=2, proba=proba)
    array([1, 2])
    """

    needs: ClassVar[tuple[str, ...]] = ("proba",)
    by_kernel = False

    def _select(self, space: Space, size: int, generator: torch.Generator, mode: str) -> Tensor:
        return largest(entropies(space), size)

    def _scores(self, space: Space, chosen: Tensor, mode: str) -> Iterator[Tensor]:
        scores = entropies(space)
        return (scores for _ in chosen)


def entropies(space: Space) -> Tensor:
    """Return the entropies of pool rows' classes in nats, (n,)."""
    return torch.special.entr(space.classes).sum(1)


class BADGE(Selector):
    r"""Rows whose hallucinated gradients are large and unlike each other.

    Draws by k-means++ in the space of gradients of the loss, were the predicted class
    :math:`\hat y` right, whose inner products are

    .. math:: \langle p - e_{\hat y}, p' - e_{\hat y'} \rangle \, k(x, x')

    with the kernel of the last layer in the paper, and any kernel here; these gradients are never
    formed. The first row is that of the largest one (Ash, Zhang, Krishnamurthy, Langford and
    Agarwal 2020). Training rows are not looked at.

    Examples
    --------
    >>> from sknk.active_learning import select_batch
    >>> X, proba = [[0.1], [1.0], [2.0]], [[0.9, 0.1], [0.4, 0.6], [0.7, 0.3]]
    >>> select_batch(X, method="badge", batch_size=1, proba=proba)
    array([2])
    """

    needs: ClassVar[tuple[str, ...]] = ("proba",)

    def _select(self, space: Space, size: int, generator: torch.Generator, mode: str) -> Tensor:
        gram = self._gradients(space)
        first = gram.diag().argmax()[None]
        others = k_means_plus_plus(gram, size - 1, given=first, generator=generator)
        return torch.cat([first, others])

    def _scores(self, space: Space, chosen: Tensor, mode: str) -> Iterator[Tensor]:
        return distances_before(self._gradients(space), chosen, given=chosen[:0])

    @staticmethod
    def _gradients(space: Space) -> GramOperator:
        p, pool = space.classes, slice(0, space.n_pool)
        predicted = torch.nn.functional.one_hot(p.argmax(1), p.shape[1])
        return ProductGram(space.gram.restrict(pool), p - predicted.to(p))


class FisherBAIT(Selector):
    r"""Rows whose labels lower the classifier's expected uncertainty most: multi-class BAIT.

    With the gradients :math:`v_c = \sqrt{p_c}\, (e_c - p) \otimes \phi(x)` of the log
    probabilities, whose outer products sum to a row's Fisher information, and M the inverse
    information of the rows with labels,

    .. math:: \arg\max_x \operatorname{tr}\big[ V_x M F M V_x^\top (s^2 I + V_x M V_x^\top)^{-1}
        \big], \qquad F = \sum_v V_v^\top V_v

    (Ash, Goel, Krishnamurthy and Kakade 2021, algorithm 1, with sums for means: there s2 is lambda
    times the number of rows). Works on the kernel's inner products, so infinite kernels serve; all
    pairs of rows are looked at, O(n^2 C^2) time at first and for each row that is chosen; t rows
    with labels take O(n t^2 C^3) time and n t C^2 numbers.

    Parameters
    ----------
    overselect : float, default=2.0
        Choose so many times the batch, then drop the rows whose loss costs least. Dimensionless, at
        least 1.

    Examples
    --------
    >>> from sknk.active_learning import select_batch
    >>> X, proba = [[0.1], [1.0], [2.0]], [[0.9, 0.1], [0.4, 0.6], [0.7, 0.3]]
    >>> select_batch(X, method="fisher-bait", batch_size=1, proba=proba)
    array([2])
    """

    needs: ClassVar[tuple[str, ...]] = ("proba",)

    def __init__(self, overselect: float = 2.0) -> None:
        self.overselect = overselect

    def _select(self, space: Space, size: int, generator: torch.Generator, mode: str) -> Tensor:
        if not self.overselect >= 1.0:
            raise ValueError(f"`overselect` is {self.overselect!r}; expected at least 1.")
        return least_variance_groups(
            self._observations(space),
            size,
            given=space.train,
            noise_variance=space.noise_variance,
            forward=min(round(self.overselect * size), space.n_pool),
        )

    def _scores(self, space: Space, chosen: Tensor, mode: str) -> Iterator[Tensor]:
        gram, s2 = self._observations(space), space.noise_variance
        return group_reductions_before(gram, chosen, given=space.train, noise_variance=s2)

    @staticmethod
    def _observations(space: Space) -> GroupedGram:
        """Return the inner products of all v_c, a row's side by side."""
        p = space.classes
        if len(space.train):
            if space.proba_train is None:
                raise ValueError(
                    f"`proba_train` is None and there are {len(space.train)} training rows; "
                    "FisherBAIT expected class probabilities for them too."
                )
            p = torch.cat([p, space.proba_train])
        return GroupedGram(space.stored().gram.restrict(slice(0, len(p))), _fisher_roots(p))


def _fisher_roots(p: Tensor) -> Tensor:
    """Return C - 1 lines a row whose outer products sum to diag(p) - p p', (n, C - 1, C)."""
    # The C lines sqrt(p_c) (e_c - p) do too, but weighed by sqrt(p) they sum to zero. The
    # reflection that takes the first axis to -sqrt(p) makes that direction a line of its own.
    root, C = p.sqrt(), p.shape[1]
    eye = torch.eye(C, dtype=p.dtype, device=p.device)
    lines = root[:, :, None] * (eye - p[:, None, :])
    v = root + eye[0]
    reflected = lines - v[:, :, None] * (
        2.0 * (v[:, None, :] @ lines) / v.square().sum(1)[:, None, None]
    )
    return reflected[:, 1:]


class BatchBALD(Selector):
    r"""Rows whose labels together tell most about the classifier.

    .. math:: \arg\max_S I(y_S; f) = H(y_S) - E_f H(y_S \mid f)

    greedily, over draws of the classifier: latent functions of a Gaussian process, or members of a
    forest or of several networks (Kirsch, van Amersfoort and Gal 2019). For a Gaussian process
    *regressor* that is :class:`MaxDet`. The kernel is not looked at.

    Parameters
    ----------
    n_samples : int, default=100
        Draws of a Gaussian process; members are all used.
    n_configurations : int, default=10000
        Configurations of the batch's labels up to which entropies are exact for the draws; beyond,
        so many are drawn, by a fixed seed.

    Examples
    --------
    >>> from sknk.active_learning import select_batch
    >>> X, draws = [[0.0], [1.0]], [[[0.9, 0.1], [0.5, 0.5]], [[0.1, 0.9], [0.5, 0.5]]]
    >>> select_batch(X, method="batchbald", batch_size=1, proba=draws)
    array([0])
    """

    needs: ClassVar[tuple[str, ...]] = ("draws",)
    by_kernel = False

    def __init__(self, n_samples: int = 100, n_configurations: int = 10_000) -> None:
        self.n_samples = n_samples
        self.n_configurations = n_configurations

    def _select(self, space: Space, size: int, generator: torch.Generator, mode: str) -> Tensor:
        assert space.proba is not None
        return most_informative(space.proba, size, **self._settings())

    def _scores(self, space: Space, chosen: Tensor, mode: str) -> Iterator[Tensor]:
        assert space.proba is not None
        return information_before(space.proba, chosen, **self._settings())

    def _settings(self) -> dict[str, Any]:
        if self.n_configurations < 1:
            raise ValueError(
                f"`n_configurations` is {self.n_configurations!r}; expected at least 1."
            )
        # A fixed seed: scores that are asked for later are those of the choice.
        generator = torch.Generator().manual_seed(0)
        return {"generator": generator, "n_configurations": self.n_configurations}


class KECOR(MaxDet):
    r"""Rows of the largest kernel coding rate, and of uncertain classes.

    .. math:: \arg\max_S \log\det(C_{SS} + s^2 I), \qquad
        C_{ii} \leftarrow C_{ii} + w \, H(p(x_i))

    :class:`MaxDet` with the entropy of a row's classes as bonus (Luo, Chen, Fang, Huang and
    Baktashmotlagh 2023). Rescale the kernel first, so that w means the same everywhere.

    Parameters
    ----------
    entropy_weight : float, default=0.1
        w, units of the kernel per nat.

    Examples
    --------
    >>> from sknk.active_learning import select_batch
    >>> X, proba = [[1.0, 0], [0, 1.0], [0.7, 0.7]], [[0.9, 0.1], [0.4, 0.6], [0.8, 0.2]]
    >>> select_batch(X, method="kecor", batch_size=2, proba=proba)
    array([1, 0])
    """

    needs: ClassVar[tuple[str, ...]] = ("proba",)

    def __init__(self, entropy_weight: float = 0.1) -> None:
        self.entropy_weight = entropy_weight

    def _select(self, space: Space, size: int, generator: torch.Generator, mode: str) -> Tensor:
        return super()._select(self._with_bonus(space), size, generator, mode)

    def _scores(self, space: Space, chosen: Tensor, mode: str) -> Iterator[Tensor]:
        return super()._scores(self._with_bonus(space), chosen, mode)

    def _with_bonus(self, space: Space) -> Space:
        bonus = self.entropy_weight * entropies(space)
        return replace(space, bonus=bonus if space.bonus is None else bonus + space.bonus)
