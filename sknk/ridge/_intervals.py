"""Jackknife+ prediction intervals from closed-form leave-one-out (Barber et al. 2021)."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from sknk._array import to_numpy
from sknk.solvers import Factorization

__all__ = ["JackknifePlus"]

_CHUNK_BYTES = 2**28


class JackknifePlus:
    r"""Predictions of every leave-one-out fit at new rows, without refitting.

    With G = (K + alpha/w)^-1, centred targets y, m_i their mean without row i and e_i the
    leave-one-out residual,

    .. math:: f_{-i}(x) = b + m_i + k(x)^\top G (y - m_i 1) - [G k(x)]_i\, e_i .

    Parameters
    ----------
    factor : Factorization
        Of K + alpha/w, (u, u).
    Y : Tensor of shape (u, t)
        Targets of the rows.
    intercept : Tensor of shape (t,)
        Their weighted mean, or zeros.
    weights : Tensor of shape (u,)
        Row weights, which count as repetitions.
    fit_intercept : bool
        Whether each fit centres its targets.
    """

    def __init__(
        self,
        factor: Factorization,
        Y: Tensor,
        intercept: Tensor,
        weights: Tensor,
        fit_intercept: bool,
    ) -> None:
        self._factor, self._intercept, self._weights = factor, intercept, weights
        y = Y - intercept
        ones = torch.ones_like(y[:, :1])
        solved = factor.solve(torch.cat([y, ones], dim=1))
        self._G_y, self._G_1 = solved[:, :-1], solved[:, -1:]
        w = weights[:, None]
        rest = w.sum() - w
        shift = ((w * y).sum(0) - w * y) / torch.where(rest > 0, rest, 1.0)
        self._m = shift * float(fit_intercept)  # (u, t)
        self.residuals = (self._G_y - self._m * self._G_1) / factor.inv_diag()[:, None]

    def intervals(self, K: Tensor, alpha: float) -> np.ndarray:
        """Return bounds that miss a fraction `alpha` of new targets, (m, 2, t).

        The lower bound is the floor(alpha (n + 1))-th smallest f_{-i}(x) - |e_i|, the upper one
        the ceil((1 - alpha)(n + 1))-th smallest f_{-i}(x) + |e_i|; infinite where n is too small.
        Coverage is at least 1 - 2 alpha for exchangeable rows (theorem 1), in practice 1 - alpha.

        Parameters
        ----------
        K : Tensor of shape (m, u)
            Kernel of new rows against the distinct training rows.
        alpha : float
            Miscoverage in (0, 1).

        Returns
        -------
        ndarray of shape (m, 2, t)
        """
        n = float(self._weights.sum())
        low, high = np.floor(alpha * (n + 1) + 1e-9), np.ceil((1 - alpha) * (n + 1) - 1e-9)
        bounds = []
        for k in self._chunks(K):
            loo, spread = (
                self._leave_one_out(k),
                self.residuals.abs()[:, None],
            )  # (u, m, t), (u, 1, t)
            pair = [self._ranked(loo - spread, low), self._ranked(loo + spread, high)]
            bounds.append(torch.stack(pair, dim=1))
        return to_numpy(torch.cat(bounds)).astype(np.float64, copy=False)

    def _chunks(self, K: Tensor) -> Iterator[Tensor]:
        size = max(1, _CHUNK_BYTES // (4 * self.residuals.numel() * K.element_size()))
        return iter(torch.split(K, size))

    def _leave_one_out(self, k: Tensor) -> Tensor:
        """Return f_{-i}(x) for the rows of k (m, u), as (u, m, t)."""
        H = self._factor.solve(k.mT.contiguous())  # (u, m), G k
        base = k @ self._G_y + self._intercept  # (m, t)
        tilt = 1.0 - k @ self._G_1  # (m, 1)
        return base + self._m[:, None] * tilt - H[..., None] * self.residuals[:, None]

    def _ranked(self, values: Tensor, rank: float) -> Tensor:
        """Return the weighted order statistic along the first axis, (m, t)."""
        n = float(self._weights.sum())
        if rank < 1 or rank > n:
            return torch.full_like(values[0], -np.inf if rank < 1 else np.inf)
        ordered, index = values.sort(dim=0)
        reached = self._weights[index].cumsum(0) >= rank - 1e-9
        position = reached.to(torch.uint8).argmax(dim=0, keepdim=True)
        return ordered.gather(0, position)[0]
