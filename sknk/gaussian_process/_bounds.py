"""Lower bounds of the evidence for many rows: through inducing rows, and in minibatches."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from sknk._progress import progress
from sknk.gaussian_process._evidence import ExactEvidence, Observations
from sknk.gaussian_process._hyperparameters import Hyperparameters, Score, check_finite
from sknk.solvers import Cholesky, Solver, inducing_bound

__all__ = ["MinibatchEvidence", "SparseEvidence", "ascend"]


class SparseEvidence:
    """Collapsed bound of the evidence by inducing rows (Titsias 2009, eq. 9).

    O(n k^2) time, O(n k) memory for k inducing rows.

    Parameters
    ----------
    observations : Observations
    Z : Tensor of shape (k, d)
        Inducing rows.
    """

    def __init__(self, observations: Observations, Z: Tensor) -> None:
        self.observations, self.Z = observations, Z

    def __call__(self, hyper: Hyperparameters, *, gradient: bool = True) -> Score:
        data, kernel, a = self.observations, hyper.kernel, hyper["amplitude"]
        noise = data.ratio * hyper["noise_variance"]
        K_zz, K_zx = kernel(self.Z).mul_(a), kernel(self.Z, data.X).mul_(a)
        diagonal = a * kernel.diag(data.X)
        bound, (W_zz, W_zx, w, w_noise) = inducing_bound(K_zz, K_zx, diagonal, data.Y, noise)
        t = data.Y.shape[1]
        value = bound - 0.5 * t * _copies(data, hyper["noise_variance"])
        if not gradient:
            return Score(value)
        theta = a * (
            kernel.theta_vjp(self.Z, None, W_zz)
            + kernel.theta_vjp(self.Z, data.X, W_zx)
            + kernel.theta_vjp_diag(data.X, w)
        )
        scaled = (W_zz * K_zz).sum() + (W_zx * K_zx).sum() + (w * diagonal).sum()
        scalars = {
            "amplitude": float(scaled),
            "noise_variance": float((w_noise * noise).sum()) - 0.5 * t * data.repeats[0],
        }
        return Score(value, theta, scalars)


class MinibatchEvidence:
    r"""Lower bound of the evidence that is a sum over batches of rows (Immer et al. 2023, eq. 7).

    At the dual alpha of a trained model, with f = a K alpha and S the noise variances,

    .. math:: \log p(y) \ge \log p(y | f) - \tfrac12 \alpha^\top f
        - \tfrac12 \sum_B \log|I + S_B^{-1/2} a K_{BB} S_B^{-1/2}|

    by Fischer's inequality; one batch, times n/|B|, estimates it without bias over random
    partitions. A batch costs O(n |B| + |B|^3) time and O(n |B|) memory.

    Parameters
    ----------
    observations : Observations
    alpha : Tensor of shape (u, t)
        (a K + S)^-1 Y at the hyperparameters where the bound is to touch the data fit.
    """

    def __init__(self, observations: Observations, alpha: Tensor) -> None:
        self.observations, self.alpha = observations, alpha

    def __call__(self, hyper: Hyperparameters, batch: Tensor) -> Score:
        data, kernel, a = self.observations, hyper.kernel, hyper["amplitude"]
        m, t = len(batch), data.Y.shape[1]
        X, alpha = data.X[batch], self.alpha[batch]
        noise = data.ratio[batch] * hyper["noise_variance"]
        f = a * kernel.matmul(X, data.X, self.alpha)  # (m, t)
        residual = data.Y[batch] - f
        factor = Cholesky().factorize(kernel(X).mul_(a), noise, overwrite=True)
        misfit = float((residual.square() / noise[:, None]).sum())
        # log|I + S^-1 K| + log|S| = log|C|
        value = -0.5 * (
            misfit + float((alpha * f).sum()) + t * (factor.logdet() + m * np.log(2.0 * np.pi))
        )
        share = len(data.X) / m
        inverse = factor.solve(torch.eye(m).to(f))
        W_f = residual / noise[:, None] - 0.5 * alpha
        theta = np.empty(0)
        if kernel.n_dims:
            theta = kernel.theta_vjp(X, data.X, W_f @ self.alpha.mT)
            theta = share * a * (theta - 0.5 * t * kernel.theta_vjp(X, None, inverse))
        noisy = float((inverse.diagonal() * noise).sum())  # <C^-1, S>
        scalars = {
            "amplitude": share * (float((W_f * f).sum()) - 0.5 * t * (m - noisy)),
            "noise_variance": share * 0.5 * (misfit - t * noisy) - 0.5 * t * data.repeats[0],
        }
        constant = 0.5 * t * _copies(data, hyper["noise_variance"])
        return Score(share * value - constant, theta, scalars)


def _copies(data: Observations, noise_variance: float) -> float:
    """Return what copies of rows add to minus twice the log density of one output."""
    more = data.n - len(data.X)
    return data.extra_logdet(noise_variance) + more * float(np.log(2.0 * np.pi))


def ascend(
    observations: Observations,
    start: Hyperparameters,
    solver: Solver,
    *,
    batch_size: int,
    max_epochs: int,
    learning_rate: float,
    generator: torch.Generator,
    patience: int = 5,
    verbose: int = 0,
) -> tuple[Hyperparameters, float]:
    """Climb the minibatch bound by Adam; the dual is solved anew before every epoch.

    Parameters
    ----------
    observations : Observations
    start : Hyperparameters
    solver : Solver
    batch_size, max_epochs : int
    learning_rate : float
        Of the logarithms, dimensionless.
    generator : torch.Generator
        Shuffles rows; on the CPU.
    patience : int
        Epochs without a gain of the evidence that end the climb.
    verbose : int

    Returns
    -------
    best : Hyperparameters
        Those of the largest evidence met at the start of an epoch.
    value : float
        Their evidence, exact.

    Raises
    ------
    ValueError
        If the bound is not finite.
    """
    evidence = ExactEvidence(observations, solver)
    here, bounds = start, start.bounds
    best, highest, stale = start, -np.inf, 0
    adam = _Adam(len(start.theta), learning_rate)
    for _ in progress(range(max_epochs), verbose=verbose, desc="epochs"):
        _, alpha, _, law = evidence.solve(here)
        value = law.value
        stale = 0 if value > highest else stale + 1
        if not stale:
            best, highest = here, value
        if stale == patience or not len(start.theta):
            break
        bound = MinibatchEvidence(observations, alpha)
        for batch in _batches(len(observations.X), batch_size, generator):
            score = bound(here, batch.to(alpha.device))
            gradient = here.flatten(score)
            check_finite(score.value, gradient, here)
            theta = here.theta + adam.step(gradient)
            here = here.at(np.clip(theta, bounds[:, 0], bounds[:, 1]))
    return best, highest


def _batches(n: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Split shuffled rows into batches of nearly equal size."""
    order = torch.randperm(n, generator=generator)
    yield from order.tensor_split(max(1, round(n / size)))


class _Adam:
    """Kingma and Ba 2015, algorithm 1, upwards."""

    def __init__(self, p: int, rate: float) -> None:
        self.rate, self.t = rate, 0
        self.m, self.v = np.zeros(p), np.zeros(p)

    def step(self, gradient: np.ndarray) -> np.ndarray:
        self.t += 1
        self.m = 0.9 * self.m + 0.1 * gradient
        self.v = 0.999 * self.v + 0.001 * gradient**2
        m, v = self.m / (1 - 0.9**self.t), self.v / (1 - 0.999**self.t)
        return self.rate * m / (np.sqrt(v) + 1e-8)
