"""Selectors that look at what predictions would become: at targets, or of a class."""

from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor

from sknk.active_learning._selectors import Selector
from sknk.active_learning._space import Space
from sknk.solvers import changes_before, largest_changes, least_variance, reductions_before

__all__ = ["VTL", "LookAhead"]


class VTL(Selector):
    r"""Rows whose labels lower the predictive variance at rows of one's own most.

    .. math:: \arg\max_i \frac{\sum_{v \in J} C(v, i)^2}{C(i, i) + s^2}

    with J the rows `X_target`: transductive learning (VTL, Huebotter, Sukhija, Treven, As and
    Krause 2024), and EV-GP for given test rows (Xu et al. 2023). With J all rows it is
    :class:`BAIT`.

    Examples
    --------
    >>> from sknk.active_learning import select_batch
    >>> X = [[1.0, 0], [1.1, 0], [0, 1.2]]
    >>> select_batch(X, method="vtl", batch_size=1, X_target=[[0.0, 1.0]])
    array([2])
    """

    needs: ClassVar[tuple[str, ...]] = ("targets",)

    def _select(self, space: Space, size: int, generator: torch.Generator, mode: str) -> Tensor:
        # Targets were not observed, and are no candidates all the same.
        return least_variance(space.gram, size, n_open=space.n_pool, **self._settings(space))

    def _scores(self, space: Space, chosen: Tensor, mode: str) -> Iterator[Tensor]:
        return reductions_before(space.gram, chosen, **self._settings(space))

    @staticmethod
    def _settings(space: Space) -> dict[str, Any]:
        return {
            "given": space.train,
            "noise_variance": space.noise_variance,
            "judged": space.targets,
        }


class LookAhead(Selector):
    r"""Rows that would change predictions most, if their most probable class were their label.

    .. math:: \arg\max_i \frac{\lVert e_{\hat y_i} - p_i \rVert \sum_v \lvert C(v, i) \rvert}
        {C(i, i) + s^2}

    over all pool rows v (most likely output change; Mohamadi, Bae and Sutherland 2022). A row that
    is chosen counts as labelled so: its variance falls, and class probabilities p move along.
    O(n^2) a step. For regression with labels from the predictive law the expected *squared* change
    is the score of :class:`BAIT`.

    Examples
    --------
    >>> from sknk.active_learning import select_batch
    >>> X, proba = [[1.0], [1.1], [0.1]], [[0.9, 0.1], [0.6, 0.4], [0.5, 0.5]]
    >>> select_batch(X, method="look-ahead", batch_size=1, proba=proba, noise_variance=1.0)
    array([1])
    """

    needs: ClassVar[tuple[str, ...]] = ("proba",)

    def _select(self, space: Space, size: int, generator: torch.Generator, mode: str) -> Tensor:
        return largest_changes(space.stored().gram, size, **self._settings(space))

    def _scores(self, space: Space, chosen: Tensor, mode: str) -> Iterator[Tensor]:
        return changes_before(space.stored().gram, chosen, **self._settings(space))

    @staticmethod
    def _settings(space: Space) -> dict[str, Any]:
        return {
            "P": space.classes,
            "given": space.train,
            "noise_variance": space.noise_variance,
        }
