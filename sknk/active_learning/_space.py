"""Pool and training rows in one inner-product space: what selectors see."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sknk._validation import memory_budget
from sknk.solvers import DenseGram, GramOperator, KernelGram, conditioned

__all__ = ["Space"]


@dataclass(frozen=True)
class Space:
    """Rows to choose from, rows with labels and rows that are judged, by their inner products.

    Attributes
    ----------
    gram : GramOperator
        K of n pool rows, t training rows after them, and targets after those; features where there
        are some.
    n_pool : int
        n.
    noise_variance : float
        Of labels, units of K; of what is known once a row has one.
    bonus : Tensor of shape (n,) or None
        What pool rows are worth beside their variance, units of K.
    n_targets : int
        Rows at the end whose predictions matter.
    proba : Tensor of shape (n, C) or (S, n, C), or None
        Class probabilities of pool rows, of one model or of S draws.
    proba_train : Tensor of shape (t, C) or None
        Those of training rows.
    """

    gram: GramOperator
    n_pool: int
    noise_variance: float
    bonus: Tensor | None = None
    n_targets: int = 0
    proba: Tensor | None = None
    proba_train: Tensor | None = None

    @property
    def train(self) -> Tensor:
        """The training rows, (t,)."""
        stop = self.gram.shape[0] - self.n_targets
        return torch.arange(self.n_pool, stop, device=self.gram.device)

    @property
    def targets(self) -> Tensor:
        """The rows that are judged."""
        n = self.gram.shape[0]
        return torch.arange(n - self.n_targets, n, device=self.gram.device)

    @property
    def classes(self) -> Tensor:
        """Class probabilities of pool rows, the mean over draws, (n, C)."""
        assert self.proba is not None
        return self.proba if self.proba.ndim == 2 else self.proba.mean(0)

    def stored(self) -> "Space":
        """Return the same space, a kernel's matrix stored where it fits into half the budget.

        For selectors that need all pairs of rows again and again; the numbers are the same.

        Returns
        -------
        Space
        """
        gram, n = self.gram, self.gram.shape[0]
        if not isinstance(gram, KernelGram):
            return self
        if 2.0 * n * n * gram.dtype.itemsize > memory_budget(gram.device):
            return self
        return replace(self, gram=DenseGram(gram.dense()))

    def posterior(self, *, targets: bool = False) -> GramOperator:
        """Return the covariance of pool rows, and of targets if asked, given the training rows."""
        every = conditioned(self.gram, self.train, self.noise_variance)
        if self.n_pool == every.shape[0]:
            return every
        if not (targets and self.n_targets):
            return every.restrict(slice(0, self.n_pool))
        pool = torch.arange(self.n_pool, device=self.gram.device)
        return every.restrict(torch.cat([pool, self.targets]))
