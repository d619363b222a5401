"""Expected class probabilities under Gaussian latent values, by deterministic quadrature."""

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import torch
from scipy import stats
from torch import Tensor

__all__ = ["expected_softmax", "log_score"]

_DRAWS = 512
_ENTRIES = 2**22  # rows times draws times classes of one block: 32 MiB
# The trapezoidal rule on z in [-8, 8] is exact to 1e-10 for slopes up to 10 (the logistic function
# has its poles at i pi / slope).
_NODES = np.linspace(-8.0, 8.0, 257)


@lru_cache(maxsize=32)
def _draws(n_classes: int, df: float) -> Tensor:
    """Return the same low-discrepancy draws of a standard normal, or t, for everyone: (S, C)."""
    dimensions = n_classes + np.isfinite(df)
    sobol = stats.qmc.Sobol(int(dimensions), scramble=True, rng=np.random.default_rng(0))
    uniform = np.clip(sobol.random(_DRAWS), 1e-12, 1.0 - 1e-12)
    z = stats.norm.ppf(uniform[:, :n_classes])
    if np.isfinite(df):
        z *= np.sqrt(df / stats.chi2(df).ppf(uniform[:, n_classes:]))
    return torch.from_numpy(z)


def expected_softmax(mean: Tensor, root: Tensor, df: float = np.inf) -> Tensor:
    """Return E softmax(mean + root z), z standard normal, or t with `df` degrees of freedom.

    Two classes and normal z need the law of the difference only: one-dimensional quadrature.
    Otherwise 512 scrambled Sobol points, the same for every row.

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
    if mean.shape[1] == 2 and np.isinf(df):
        return _logistic(mean, root)
    z = _draws(mean.shape[1], float(df)).to(mean)
    out = torch.empty_like(mean)
    for rows in _blocks(len(mean), mean.shape[1] * len(z)):
        out[rows] = _latent(mean[rows], root[rows], z).softmax(-1).mean(1)
    return out


def _logistic(mean: Tensor, root: Tensor) -> Tensor:
    """Return the probabilities of two classes by the trapezoidal rule."""
    step = root if root.ndim == 2 else root[:, 1] - root[:, 0]
    slope = step.square().sum(1, keepdim=True).sqrt()
    z = torch.from_numpy(_NODES).to(mean)
    weights = torch.from_numpy(stats.norm.pdf(_NODES)).to(mean)
    second = ((mean[:, 1:] - mean[:, :1] + slope * z).sigmoid() * weights).sum(1) / weights.sum()
    return torch.stack([1.0 - second, second], dim=1)


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
    z = _draws(mean.shape[1], np.inf).to(mean)
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
    size = max(1, _ENTRIES // entries)
    for start in range(0, m, size):
        yield slice(start, min(start + size, m))
