r"""Functions of several groups that are independent but for one offset they share.

Rows i and j of groups a and b covary as :math:`\delta_{ab} g(x_i, x_j) + n_i n_j`: with a shared
s ~ N(0, 1), row i has f(x_i) = g_a(x_i) + s n_i. Given s the groups part, and every group keeps a
factor of its own rows:

.. math::
    f_a(x) = v^\top z_a + h_a(x)\, m, \qquad
    \operatorname{cov}(f_a(x), f_b(x)) = \delta_{ab} (g(x, x) - v^\top v) + h_a(x) h_b(x) / p

with v = L_a^-1 g(X_a, x), z_a = L_a^-1 y_a, w_a = L_a^-1 n_a, h_a(x) = n(x) - v' w_a, and the
offset's law of precision p = 1 + sum_a w_a' w_a and mean m = sum_a w_a' z_a / p. A round of K
groups costs the sum of their n_a^2, in place of K t^2 of one factor for all rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor

from sknk.solvers._online import OnlinePosterior

__all__ = ["GroupedPosterior"]


@dataclass(frozen=True)
class GroupedPosterior:
    """Law of the functions of all groups given rows with targets; immutable.

    Attributes
    ----------
    groups : tuple of OnlinePosterior
        Each with the covariance g, and with the targets (y, n): r columns of y, then the offset's.
    """

    groups: tuple[OnlinePosterior, ...]

    @classmethod
    def empty(cls, n_groups: int, like: Tensor) -> "GroupedPosterior":
        """Return the law before any row was seen.

        Parameters
        ----------
        n_groups : int
            A.
        like : Tensor of shape (0, r)
            Targets of no row: their dtype, device and number.

        Returns
        -------
        GroupedPosterior
        """
        none = OnlinePosterior.empty(like.new_empty(0, like.shape[1] + 1))
        return cls((none,) * n_groups)

    def __len__(self) -> int:
        """Return the rows seen, of all groups."""
        return sum(len(group) for group in self.groups)

    def half_solve(self, crosses: Sequence[Tensor]) -> list[Tensor]:
        """Return v of m rows for every group, of g(X_a, Q), (n_a, m) each."""
        return [group.half_solve(g) for group, g in zip(self.groups, crosses, strict=True)]

    def mean(self, V: Sequence[Tensor], offsets: Tensor) -> Tensor:
        """Return means of m rows in every group, (m, A, r).

        Parameters
        ----------
        V : sequence of Tensor of shape (n_a, m)
            :meth:`half_solve`.
        offsets : Tensor of shape (m,)
            n(x); zero where groups have nothing in common.

        Returns
        -------
        Tensor of shape (m, A, r)
        """
        own = self._projected(V)
        h = offsets[:, None] - own[..., -1]
        return own[..., :-1] + h[..., None] * self._shared_mean()

    def variance(self, V: Sequence[Tensor], offsets: Tensor, diag: Tensor) -> Tensor:
        """Return variances of m rows in every group, (m, A); `diag` is g(x, x), (m,)."""
        h = offsets[:, None] - self._projected(V)[..., -1]
        return self._own(V, diag) + h.square() / self._precision()

    def covariance(self, V: Sequence[Tensor], offsets: Tensor, diag: Tensor) -> Tensor:
        """Return covariances among the groups of each of m rows, (m, A, A)."""
        h = offsets[:, None] - self._projected(V)[..., -1]
        shared = h[:, :, None] * h[:, None, :] / self._precision()
        return shared + torch.diag_embed(self._own(V, diag))

    def append(
        self,
        group: int,
        cross: Tensor,
        G_new: Tensor,
        y: Tensor,
        offsets: Tensor,
        noise: Any,
        V: Tensor | None = None,
    ) -> Self:
        """Return the law with m rows more of one group; O(n_a^2 m), O(n_a m) with their `V`.

        Parameters
        ----------
        group : int
            a.
        cross : Tensor of shape (n_a, m)
            g of the group's rows and new ones.
        G_new : Tensor of shape (m, m)
            g of new ones.
        y : Tensor of shape (m, r)
            Targets.
        offsets : Tensor of shape (m,)
            n(x).
        noise : float or Tensor of shape (m,)
            s2 > 0, units of g.
        V : Tensor of shape (n_a, m) or None
            ``half_solve`` of the group.

        Returns
        -------
        GroupedPosterior
        """
        targets = torch.cat([y, offsets[:, None]], dim=1)
        grown = self.groups[group].append(cross, G_new, targets, noise, V)
        return self._with(group, grown)

    def remove(self, group: int, index: Any) -> Self:
        """Return the law without some rows of one group, by their order in it."""
        held = self.groups[group]
        gone = torch.unique(torch.as_tensor(list(index)))
        if len(gone) == len(held):
            return self._with(group, OnlinePosterior.empty(held.y[:0]))
        return self._with(group, held.remove(gone))

    def forked(self) -> Self:
        """Return the same, whose appends leave this one's memory alone."""
        return replace(self, groups=tuple(group.forked() for group in self.groups))

    def with_group(self) -> Self:
        """Return the law with one group more, of which nothing was seen."""
        none = OnlinePosterior.empty(self.groups[0].y[:0])
        return replace(self, groups=(*self.groups, none))

    @property
    def information_gain(self) -> float:
        """What all observations told, in nats: half the log determinant of I + K / s2."""
        # The determinant of a matrix and a product n n' more.
        shared = float(self._precision().double().log())
        return sum(group.information_gain for group in self.groups) + 0.5 * shared

    def _with(self, group: int, law: OnlinePosterior) -> Self:
        groups = self.groups[:group], self.groups[group + 1 :]
        return replace(self, groups=(*groups[0], law, *groups[1]))

    def _projected(self, V: Sequence[Tensor]) -> Tensor:
        """Return v' z and v' w, (m, A, r + 1)."""
        return torch.stack([law.mean(v) for law, v in zip(self.groups, V, strict=True)], dim=1)

    def _own(self, V: Sequence[Tensor], diag: Tensor) -> Tensor:
        return torch.stack([OnlinePosterior.variance(v, diag) for v in V], dim=1)

    def _precision(self) -> Tensor:
        return 1.0 + self._target_gram()[-1, -1]

    def _shared_mean(self) -> Tensor:
        """Return m of every target, (r,)."""
        gram = self._target_gram()
        return gram[-1, :-1] / (1.0 + gram[-1, -1])

    def _target_gram(self) -> Tensor:
        """Return the sum of z_a' z_a, w_a' z_a and w_a' w_a, (r + 1, r + 1)."""
        return torch.stack([law.target_gram for law in self.groups]).sum(0)
