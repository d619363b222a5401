"""Log marginal likelihood and its gradient: no array of n x n x hyperparameters is formed."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sknk._array import as_tensor, compute_device, compute_dtype, row_dtype, to_numpy
from sknk._training import TrainingSet
from sknk.gaussian_process._densities import Gaussian, LogDensity, Student
from sknk.gaussian_process._hyperparameters import Hyperparameters, Score
from sknk.kernels._base import Kernel
from sknk.solvers import Factorization, Solver, evidence_cotangent

__all__ = ["ExactEvidence", "Observations", "density_of"]


@dataclass(frozen=True)
class Observations:
    """Distinct rows with targets, on the compute device.

    Attributes
    ----------
    X : Tensor of shape (u, d)
        Rows.
    Y : Tensor of shape (u, t)
        Targets, centred and scaled.
    ratio : Tensor of shape (u,)
        Noise variance of each row over ``noise_variance``: 1/weight, times the row's own variance
        where variances were given row by row.
    n : float
        Sum of the weights.
    repeats : tuple of float
        Sum of w - 1, and the constant sum of log w + (w - 1) log(own variance): what copies of a
        row add to the log determinant.
    """

    X: Tensor
    Y: Tensor
    ratio: Tensor
    n: float
    repeats: tuple[float, float]

    @classmethod
    def of(cls, training: TrainingSet, Y: np.ndarray, own: np.ndarray | None) -> "Observations":
        """Collect the distinct rows; `own` has their noise variances, or None for one number."""
        device = compute_device()
        dtype = compute_dtype()
        w = training.copies
        variances = np.ones_like(w) if own is None else own
        constant = float(np.log(w).sum() + (w - 1.0) @ np.log(variances))
        return cls(
            training.distinct.to(row_dtype(device)),
            as_tensor(Y, device, dtype),
            as_tensor(variances / w, device, dtype),
            float(w.sum()),
            (float((w - 1.0).sum()), constant),
        )

    def extra_logdet(self, noise_variance: float) -> float:
        """Return log det of the covariance of all copies, less that of the merged rows."""
        count, constant = self.repeats
        return count * np.log(noise_variance) + constant

    def take(self, rows: np.ndarray) -> "Observations":
        """Return some of the rows, as if they were all."""
        index = torch.from_numpy(rows).to(self.X.device)
        share = len(rows) / len(self.X)
        repeats = (share * self.repeats[0], share * self.repeats[1])
        parts = self.X[index], self.Y[index], self.ratio[index]
        return Observations(*parts, share * self.n, repeats)


def density_of(hyper: Hyperparameters) -> Gaussian | Student:
    """Return the law of the targets: Student's where there are degrees of freedom."""
    return Student(hyper["prior_df"]) if "prior_df" in hyper.scalars else Gaussian()


class ExactEvidence:
    r"""log p(y | X) of C = a K + s diag(ratio), and its gradient.

    .. math:: \partial_\theta \log p = \tfrac12 \langle W, \partial_\theta C \rangle, \qquad
        W = g\,\alpha\alpha^\top - C^{-1}, \quad \alpha = C^{-1} y

    summed over outputs, g = 1 for Gaussian targets (Rasmussen and Williams 2006, eq. 5.9). W meets
    the kernel's derivative tile by tile. O(n^3) time, two n x n buffers.

    Parameters
    ----------
    observations : Observations
    solver : Solver
        Its factorization must have ``inv_tiles``.
    """

    def __init__(self, observations: Observations, solver: Solver) -> None:
        self.observations, self.solver = observations, solver
        self._fixed: Tensor | None = None

    def __call__(self, hyper: Hyperparameters, *, gradient: bool = True) -> Score:
        data = self.observations
        noise, a = hyper["noise_variance"], hyper["amplitude"]
        factor, alpha, quad, law = self.solve(hyper)
        if not gradient:
            return Score(law.value)
        t = data.Y.shape[1]
        gain = as_tensor(law.gain, alpha.device, alpha.dtype)
        if hyper.kernel.n_dims:
            W = evidence_cotangent(factor, alpha, gain)
            theta = 0.5 * a * hyper.kernel.theta_vjp(data.X, None, W)
            diagonal = W.diagonal()
        else:
            theta = np.empty(0)
            diagonal = (alpha * alpha) @ gain - t * factor.inv_diag()
        noisy = noise * float((diagonal * data.ratio).sum())  # <W, noise>
        # <W, C> = g quad - t n, and C is noise plus a K.
        scalars = {
            "noise_variance": 0.5 * (noisy - t * data.repeats[0]),
            "amplitude": 0.5 * (float(law.gain @ quad) - t * len(data.X) - noisy),
            "prior_df": law.df,
        }
        return Score(law.value, theta, scalars)

    def solve(self, hyper: Hyperparameters) -> tuple[Factorization, Tensor, np.ndarray, LogDensity]:
        """Return the factorization of C, alpha = C^-1 y, y' alpha and the evidence."""
        data = self.observations
        factor = self.factorize(hyper)
        alpha = factor.solve(data.Y)
        quad = to_numpy((alpha * data.Y).sum(0)).astype(np.float64)
        logdet = factor.logdet() + data.extra_logdet(hyper["noise_variance"])
        return factor, alpha, quad, density_of(hyper).evidence(quad, logdet, data.n)

    def factorize(self, hyper: Hyperparameters) -> Factorization:
        """Return the factorization of C."""
        K = self._gram(hyper.kernel).mul_(hyper["amplitude"])
        shift = self.observations.ratio * hyper["noise_variance"]
        return self.solver.factorize(K, shift, overwrite=True)

    def _gram(self, kernel: Kernel) -> Tensor:
        """Return K, safe to overwrite; without free hyperparameters it is computed once."""
        if kernel.n_dims:
            return kernel(self.observations.X)
        if self._fixed is None:
            self._fixed = kernel(self.observations.X)
        return self._fixed.clone()
