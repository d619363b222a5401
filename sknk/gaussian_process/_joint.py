"""Class probabilities of many rows together, drawn from the joint law of the latent functions."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.utils import check_random_state
from torch import Tensor

from sknk._array import as_tensor, row_dtype

__all__ = ["JointLatent", "draw_probabilities", "independent"]


class JointLatent(NamedTuple):
    r"""The law of the latent values of new rows, all rows together.

    .. math:: f_c = \mu_c + g_c + V_c^\top \xi, \qquad g_c \sim N(0, S_c), \quad
        \xi \sim N(0, I_q)

    with a g_c for each class, independent of the others, and one xi that all of them share.

    Attributes
    ----------
    mean : Tensor of shape (m, C)
        Dimensionless.
    parts : iterator of (Tensor of shape (m, m), Tensor of shape (q, m))
        S_c and V_c, made class by class, so that only one S_c is in memory.
    n_shared : int
        q; 0 where the classes are independent.
    """

    mean: Tensor
    parts: Iterator[tuple[Tensor, Tensor]]
    n_shared: int = 0


def independent(covariances: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the parts of classes that share nothing.

    Parameters
    ----------
    covariances : iterable of Tensor of shape (m, m)
        Of each class.

    Yields
    ------
    tuple of (Tensor of shape (m, m), Tensor of shape (0, m))
        As in :class:`JointLatent`.
    """
    for S in covariances:
        yield S, S.new_empty(0, len(S))


def draw_probabilities(
    law: JointLatent, gain: np.ndarray, df: float, n_samples: int, random_state: Any
) -> Tensor:
    r"""Draw softmax(f) of all rows at once.

    .. math:: f_c = \mu_c + \sqrt{\gamma_c\, \nu / u}\; (g_c + V_c^\top \xi), \qquad
        u \sim \chi^2_\nu

    with one u in each draw: the t of :func:`~sknk.gaussian_process._softmax.expected_softmax`, and
    1 in place of nu / u for infinitely many degrees. Numbers are drawn on the CPU by a private
    generator. O(C m^3 + C m^2 S) time.

    Parameters
    ----------
    law : JointLatent
    gain : ndarray of shape (C,)
        gamma, by how much the data rescale variances.
    df : float
        Degrees of freedom nu.
    n_samples : int
        Draws S.
    random_state : int, RandomState or None
        Seed.

    Returns
    -------
    Tensor of shape (m, C, n_samples)
        Sums over classes are 1.
    """
    seed = None if random_state is None else check_random_state(random_state).randint(2**31 - 1)
    rng = np.random.default_rng(seed)
    exact = row_dtype(law.mean.device)
    mean = law.mean.to(exact)

    def normal(count: int) -> Tensor:
        return as_tensor(rng.standard_normal((count, n_samples)), mean.device, exact)

    mixing = df / rng.chisquare(df, n_samples) if np.isfinite(df) else np.ones(n_samples)
    scale = as_tensor(np.sqrt(gain[:, None] * mixing), mean.device, exact)  # (C, S)
    xi, out = normal(law.n_shared), mean.new_empty(*mean.shape, n_samples)
    for c, (S, V) in enumerate(law.parts):
        spread = torch.addmm(V.to(exact).mT @ xi, _root(S.to(exact)), normal(len(mean)))
        torch.addcmul(mean[:, c, None], spread, scale[c], out=out[:, c])
    return out.softmax(dim=1)


def _root(S: Tensor) -> Tensor:
    """Return R with R R' = S: of L and S^1/2, unlike eigenvectors, there is only one."""
    L, info = torch.linalg.cholesky_ex(S)
    if not int(info):
        return L
    # Singular: rows that almost coincide, kernels of low rank. No jitter, which would part them.
    eigenvalues, V = torch.linalg.eigh(S)
    return (V * eigenvalues.clamp(min=0.0).sqrt()) @ V.mT
