"""Classification as regression of log Dirichlet parameters (Milios et al. 2018)."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sknk._array import to_numpy
from sknk.exceptions import NotPSDError
from sknk.gaussian_process._hyperparameters import Hyperparameters, Score
from sknk.gaussian_process._softmax import log_score
from sknk.solvers import (
    Cholesky,
    Factorization,
    evidence_cotangent,
    leave_one_out_cotangent,
)
from sknk.solvers._sparse import clip_rounding

__all__ = ["DirichletRows", "Labelled", "evidence_score", "leave_one_out", "leave_one_out_score"]


@dataclass(frozen=True)
class Labelled:
    """Distinct rows with their classes, on the compute device.

    Attributes
    ----------
    X : Tensor of shape (u, d)
    labels : Tensor of shape (u,)
        Class numbers.
    weights : Tensor of shape (u,)
        Copies of each row.
    n_classes : int
    """

    X: Tensor
    labels: Tensor
    weights: Tensor
    n_classes: int

    @property
    def one_hot(self) -> Tensor:
        """Indicators of the classes, (u, C)."""
        hot = torch.nn.functional.one_hot(self.labels, self.n_classes)
        return hot.to(self.weights)

    def take(self, rows: np.ndarray) -> "Labelled":
        """Return some of the rows."""
        index = torch.from_numpy(rows).to(self.X.device)
        return Labelled(self.X[index], self.labels[index], self.weights[index], self.n_classes)


@dataclass(frozen=True)
class DirichletRows:
    r"""Targets and noise variances that stand for class labels.

    With :math:`\alpha_{ic} = \alpha_\epsilon + 1[y_i = c]`,

    .. math:: \sigma^2_{ic} = \log(1/\alpha_{ic} + 1), \qquad
        \tilde y_{ic} = \log \alpha_{ic} - \sigma^2_{ic}/2

    less the mean of all of them, which softmax does not see. Copies of a row share one target and
    divide its noise.

    Attributes
    ----------
    Y, noise : Tensor of shape (u, C)
    by_eps_Y, by_eps_noise : Tensor of shape (u, C)
        Derivatives by log alpha_eps.
    shift : float
        The mean taken off.
    """

    Y: Tensor
    noise: Tensor
    by_eps_Y: Tensor
    by_eps_noise: Tensor
    shift: float

    @classmethod
    def of(cls, data: Labelled, alpha_eps: float) -> "DirichletRows":
        """Transform labels."""
        alpha = data.one_hot + alpha_eps
        slope = -1.0 / (alpha * (alpha + 1.0))  # of sigma^2
        noise = torch.log1p(1.0 / alpha)
        Y = alpha.log() - 0.5 * noise
        by_Y = alpha_eps * (1.0 / alpha - 0.5 * slope)
        w = data.weights[:, None]
        share = w / (w.sum() * data.n_classes)
        shift = float((share * Y).sum())
        return cls(
            Y - shift,
            noise / w,
            by_Y - (share * by_Y).sum(),
            alpha_eps * slope / w,
            shift,
        )


def leave_one_out(factor: Factorization, y: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Return means and latent variances of every row by the others, for one class.

    Parameters
    ----------
    factor : Factorization
        Of C = a K + noise.
    y, noise : Tensor of shape (n,)
        Targets and noise variances.

    Returns
    -------
    mean, variance : Tensor of shape (n,)
    """
    G = factor.inv_diag()
    return y - factor.solve(y) / G, clip_rounding(1.0 / G - noise, 1.0 / G)


def leave_one_out_score(
    data: Labelled, hyper: Hyperparameters, K: Tensor, *, gradient: bool = True
) -> Score:
    """Return the leave-one-out log probability of the true classes, and its gradient.

    The densities of targets transformed by different `alpha_eps` cannot be compared; these can.
    O(C n^3) time.

    Parameters
    ----------
    data : Labelled
    hyper : Hyperparameters
        With ``amplitude`` and ``alpha_eps``.
    K : Tensor of shape (n, n)
        Gram matrix, without amplitude.
    gradient : bool, default=True
        Whether to find the gradient too.

    Returns
    -------
    Score

    Raises
    ------
    NotPSDError
        If a variance is negative beyond rounding.
    """
    rows = DirichletRows.of(data, hyper["alpha_eps"])
    factors = _factorize(K, hyper["amplitude"], rows.noise)
    alpha = torch.stack([f.solve(y) for f, y in zip(factors, rows.Y.T, strict=True)], dim=1)
    G = torch.stack([f.inv_diag() for f in factors], dim=1)
    mean = rows.Y - alpha / G
    variance = clip_rounding(1.0 / G - rows.noise, 1.0 / G)
    if bool((variance < 0).any()):
        raise NotPSDError("A leave-one-out variance is negative: K is not positive definite.")
    value, a, b = log_score(mean, variance, data.labels, data.weights)
    if not gradient:
        return Score(value)
    by_alpha, by_G = -a / G, a * alpha / G.square() - b / G.square()
    total, by_eps, diagonal = torch.zeros_like(K), 0.0, torch.empty_like(G)
    for c, factor in enumerate(factors):
        W, v = leave_one_out_cotangent(factor, alpha[:, c], by_alpha[:, c], by_G[:, c])
        total += W
        diagonal[:, c] = W.diagonal()
        by_eps += float((a[:, c] + v) @ rows.by_eps_Y[:, c])
    by_eps += float(((diagonal - b) * rows.by_eps_noise).sum())
    return _score(value, hyper, data, K, total, by_eps)


def evidence_score(
    data: Labelled, hyper: Hyperparameters, K: Tensor, *, gradient: bool = True
) -> Score:
    """Return the log density of the transformed targets, and its gradient.

    Parameters
    ----------
    data, hyper, K, gradient
        As in :func:`leave_one_out_score`.

    Returns
    -------
    Score
    """
    rows = DirichletRows.of(data, hyper["alpha_eps"])
    gain = K.new_ones(1)
    value, by_eps, total = 0.0, 0.0, torch.zeros_like(K)
    w = data.weights
    for c, factor in enumerate(_factorize(K, hyper["amplitude"], rows.noise)):
        alpha = factor.solve(rows.Y[:, c])
        own = rows.noise[:, c] * w  # of single copies
        copies = float(w.log().sum() + (w - 1.0) @ own.log())
        n = float(w.sum())
        value -= 0.5 * (
            float(alpha @ rows.Y[:, c]) + factor.logdet() + copies + n * np.log(2.0 * np.pi)
        )
        if not gradient:
            continue
        W = 0.5 * evidence_cotangent(factor, alpha[:, None], gain)
        total += W
        by_noise = W.diagonal() - 0.5 * (w - 1.0) / rows.noise[:, c]
        by_eps += float(by_noise @ rows.by_eps_noise[:, c] - alpha @ rows.by_eps_Y[:, c])
    return _score(value, hyper, data, K, total, by_eps) if gradient else Score(value)


def _factorize(K: Tensor, amplitude: float, noise: Tensor) -> list[Factorization]:
    return [Cholesky().factorize(amplitude * K, s, overwrite=True) for s in noise.T]


def _score(
    value: float,
    hyper: Hyperparameters,
    data: Labelled,
    K: Tensor,
    W: Tensor,
    by_eps: float,
) -> Score:
    a = hyper["amplitude"]
    theta = a * hyper.kernel.theta_vjp(data.X, None, W) if hyper.kernel.n_dims else np.empty(0)
    amplitude = a * float(to_numpy((W * K).sum()))
    return Score(value, theta, {"amplitude": amplitude, "alpha_eps": by_eps})
