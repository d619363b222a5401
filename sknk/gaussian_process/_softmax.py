"""Expected class probabilities under Gaussian latent values, by deterministic quadrature."""

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from sknk._array import row_dtype
from sknk.solvers._gram import row_blocks

__all__ = ["expected_softmax", "log_score"]

_DRAWS, _SCORE_DRAWS = 4096, 512  # of predictions, and of scores that only compare
_ENTRIES = 2**22  # rows times draws times classes of one block: 32 MiB
# The trapezoidal rule errs by exp(-2 pi p / h) for poles at distance p from the axis: those of the
# logistic function of `slope` z are at pi / slope, those of its density at pi.
_NORMAL_NODES, _LOGISTIC_NODES = np.linspace(-8.5, 8.5, 273), np.linspace(-40.0, 40.0, 401)
_STEEP = 3.0


@lru_cache(maxsize=32)
def _draws(n_classes: int, df: float, count: int) -> Tensor:
    """Return low-discrepancy draws of a standard normal, or t, the same for everyone: (S, C).

    Each comes with its opposite: no class is preferred, and derivatives by small variances exist.

    Returns
    -------
    Tensor of shape (count, n_classes)
    """
    dimensions = n_classes + np.isfinite(df)
    sobol = stats.qmc.Sobol(int(dimensions), scramble=True, rng=np.random.default_rng(0))
    uniform = np.clip(sobol.random(count // 2), 1e-12, 1.0 - 1e-12)
    z = stats.norm.ppf(uniform[:, :n_classes])
    if np.isfinite(df):
        z *= np.sqrt(df / stats.chi2(df).ppf(uniform[:, n_classes:]))
    return torch.from_numpy(np.vstack([z, -z]))


def expected_softmax(mean: Tensor, root: Tensor, df: float = np.inf) -> Tensor:
    """Return E softmax(mean + root z), z standard normal, or t with `df` degrees of freedom.

    Two classes and normal z need the law of the difference only: one-dimensional quadrature.
    Otherwise 4096 scrambled Sobol points, the same for every row.

    Parameters
    ----------
    mean : Tensor of shape (m, C)
        Latent means.
    root : Tensor of shape (m, C) or (m, C, C)
        Standard deviations, or square roots of covariances.
    df : float
        Degrees of freedom.

    Returns
    -------
    Tensor of shape (m, C)
        Rows sum to 1.
    """
    exact = row_dtype(mean.device)  # small probabilities keep their digits
    mean, root = mean.to(exact), root.to(exact)
    out = torch.empty_like(mean)
    if mean.shape[1] == 2 and np.isinf(df):
        for rows in _blocks(len(mean), 2 * len(_LOGISTIC_NODES)):
            out[rows] = _logistic(mean[rows], root[rows])
        return out
    z = _draws(mean.shape[1], float(df), _DRAWS).to(mean)
    for rows in _blocks(len(mean), mean.shape[1] * len(z)):
        out[rows] = _latent(mean[rows], root[rows], z).softmax(-1).mean(1)
    return out


def _logistic(mean: Tensor, root: Tensor) -> Tensor:
    r"""Return the probabilities of two classes, by the law N(d, s^2) of their difference.

    .. math:: E\,\sigma(d + s z) = \int \sigma(d + s z)\,\varphi(z)\,dz
        = \int \Phi((d - t)/s)\,\sigma'(t)\,dt

    the first for small s, the second for large ones.

    Returns
    -------
    Tensor of shape (m, 2)
    """
    step = root if root.ndim == 2 else root[:, 1] - root[:, 0]
    d, s = mean - mean.flip(1), step.square().sum(1).sqrt()[:, None, None]  # (m, 2), (m, 1, 1)
    d = d[:, :, None]
    z, by_z = _rule(_NORMAL_NODES, stats.norm.pdf, mean)
    t, by_t = _rule(_LOGISTIC_NODES, stats.logistic.pdf, mean)
    # Sums, for a matrix product would round a row by the number of rows around it.
    flat = ((d + s.clamp(max=_STEEP) * z).sigmoid() * by_z).sum(-1)
    steep = (torch.special.ndtr((d - t) / s.clamp(min=_STEEP)) * by_t).sum(-1)
    return torch.where(s[:, 0] < _STEEP, flat, steep)


def _rule(nodes: np.ndarray, density: Callable[..., np.ndarray], like: Tensor) -> tuple[Any, Any]:
    """Return nodes and weights of the trapezoidal rule, whose weights sum to 1."""
    weights = density(nodes)
    return torch.from_numpy(nodes).to(like), torch.from_numpy(weights / weights.sum()).to(like)


def log_score(
    mean: Tensor, variance: Tensor, labels: Tensor, weights: Tensor
) -> tuple[float, Tensor, Tensor]:
    """Return sum_i w_i log E softmax(f_i)[y_i] and its derivatives.

    Parameters
    ----------
    mean, variance : Tensor of shape (n, C)
        Of independent Gaussian latent values.
    labels : Tensor of shape (n,)
        Class numbers.
    weights : Tensor of shape (n,)
        Of the rows.

    Returns
    -------
    value : float
    by_mean, by_variance : Tensor of shape (n, C)
    """
    value = 0.0
    by_mean, by_variance = torch.empty_like(mean), torch.empty_like(mean)
    z = _draws(mean.shape[1], np.inf, _SCORE_DRAWS).to(mean)
    std = variance.clamp(min=torch.finfo(mean.dtype).tiny).sqrt()
    for rows in _blocks(len(mean), mean.shape[1] * len(z)):
        p = _latent(mean[rows], std[rows], z).softmax(-1)  # (b, S, C)
        own = p.gather(2, labels[rows, None, None].expand(-1, len(z), 1))  # (b, S, 1)
        total = own.mean(1)  # (b, 1)
        value += float(weights[rows] @ total[:, 0].log())
        slope = -own * p
        slope.scatter_add_(2, labels[rows, None, None].expand_as(own), own)  # own (delta - p)
        gain = weights[rows, None] / total
        by_mean[rows] = gain * slope.mean(1)
        by_variance[rows] = gain * (slope * z).mean(1) / (2.0 * std[rows])
    return value, by_mean, by_variance


def _latent(mean: Tensor, root: Tensor, z: Tensor) -> Tensor:
    """Return draws of the latent values, (b, S, C)."""
    spread = root[:, None] * z if root.ndim == 2 else z @ root.mT
    return mean[:, None] + spread


def _blocks(m: int, entries: int) -> Iterator[slice]:
    """Split rows that need so many entries each."""
    return row_blocks(m, max(1, _ENTRIES // entries))
