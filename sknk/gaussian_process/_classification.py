"""Trained classifiers: what a pickle keeps, and the latent functions it stands for."""

from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sknk._array import as_tensor, compute_device, compute_dtype, row_dtype, to_numpy
from sknk._training import TrainingSet
from sknk._validation import check_memory
from sknk.gaussian_process._dirichlet import DirichletRows, Labelled, leave_one_out
from sknk.gaussian_process._hyperparameters import Hyperparameters
from sknk.gaussian_process._joint import JointLatent, independent
from sknk.gaussian_process._laplace import joint_parts, mode_of
from sknk.gaussian_process._posteriors import SparsePosterior
from sknk.gaussian_process._softmax import log_score
from sknk.solvers import Cholesky, Factorization, InducingPosterior, LaplaceMode
from sknk.solvers._gram import square_bytes
from sknk.solvers._sparse import clip_rounding

__all__ = ["DirichletModel", "LaplaceModel", "Latent", "VariationalModel", "labelled"]


class Latent(NamedTuple):
    """The law of the latent values of new rows.

    Attributes
    ----------
    mean : Tensor of shape (m, C)
    variance : Tensor of shape (m, C)
    covariance : Tensor of shape (m, C, C) or None
        Over the classes; None where they are independent.
    """

    mean: Tensor
    variance: Tensor
    covariance: Tensor | None = None

    @property
    def root(self) -> Tensor:
        """Standard deviations (m, C), or square roots of covariances (m, C, C)."""
        if self.covariance is None:
            return self.variance.clamp(min=0.0).sqrt()
        eigenvalues, V = torch.linalg.eigh(self.covariance)
        return V * eigenvalues.clamp(min=0.0).sqrt()[:, None]


def labelled(training: TrainingSet, n_classes: int) -> Labelled:
    """Return distinct rows and classes on the compute device."""
    device, dtype = compute_device(), compute_dtype()
    return Labelled(
        training.distinct.to(row_dtype(device)),
        torch.from_numpy(training.Y[:, 0].astype(np.int64)).to(device),
        as_tensor(training.copies, device, dtype),
        n_classes,
    )


@dataclass
class _Solved:
    """A model that is solved anew on each device and after unpickling.

    Attributes
    ----------
    hyper : Hyperparameters
    training : TrainingSet
        Its Y has class numbers.
    n_classes : int
    """

    hyper: Hyperparameters
    training: TrainingSet
    n_classes: int
    _cache: tuple[Any, Any] | None = field(default=None, repr=False, kw_only=True)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": None}

    def solved(self) -> Any:
        """Return the solution on the present device."""
        place = (compute_device(), compute_dtype())
        if self._cache is None or self._cache[0] != place:
            with torch.no_grad():
                self._cache = place, self._solve(labelled(self.training, self.n_classes))
        return self._cache[1]

    def _solve(self, data: Labelled) -> Any:
        raise NotImplementedError

    def _gram(self, X: Tensor) -> Tensor:
        return self.hyper.kernel(X).mul_(self.hyper["amplitude"])

    def _cross(self, fitted: Tensor, X: Tensor) -> tuple[Tensor, Tensor]:
        """Return a K(X_fit, X), (n, m), and a K(x, x), (m,)."""
        kernel, a = self.hyper.kernel, self.hyper["amplitude"]
        return kernel(fitted, X).mul_(a), a * kernel.diag(X)

    def _joint_grams(self, fitted: Tensor, X: Tensor) -> tuple[Tensor, Tensor]:
        """Return a K(X_fit, X), (n, m), and a K(X, X), (m, m); or refuse them."""
        (n, m), dtype = (len(fitted), len(X)), row_dtype(X.device)
        # K(X, X), a covariance, and what eigh makes of it; K(X_fit, X) and two solutions.
        check_memory(
            6 * square_bytes(m, dtype) + 3.0 * n * m * dtype.itemsize,
            X.device,
            what=f"The joint law of the latent values of {m} distinct rows",
            instead="Use fewer rows.",
        )
        return self.hyper.kernel(fitted, X).mul_(self.hyper["amplitude"]), self._gram(X)


@dataclass
class DirichletModel(_Solved):
    """One heteroscedastic Gaussian process for every class (Milios et al. 2018)."""

    def _solve(self, data: Labelled) -> tuple[Tensor, list[Factorization], Tensor, Tensor]:
        rows = DirichletRows.of(data, self.hyper["alpha_eps"])
        K = self._gram(data.X)
        factors: list[Factorization] = [Cholesky().factorize(K, s) for s in rows.noise.T]
        duals = [f.solve(y) for f, y in zip(factors, rows.Y.T, strict=True)]
        dual = torch.stack(duals, dim=1)
        return data.X, factors, dual, (dual * rows.Y).sum(0)

    def dual(self) -> np.ndarray:
        """Return the coefficients of the kernel with amplitude, (u, C)."""
        return to_numpy(self.solved()[2]).astype(np.float64)

    def quad(self) -> np.ndarray:
        """Return y' C^-1 y of every class, (C,)."""
        return to_numpy(self.solved()[3]).astype(np.float64)

    def loo_score(self) -> float:
        """Return the leave-one-out log probability of the true classes."""
        data = labelled(self.training, self.n_classes)
        rows = DirichletRows.of(data, self.hyper["alpha_eps"])
        each = zip(self.solved()[1], rows.Y.T, rows.noise.T, strict=True)
        found = [leave_one_out(factor, y, noise) for factor, y, noise in each]
        mean, variance = (torch.stack(parts, dim=1) for parts in zip(*found, strict=True))
        return log_score(mean, variance, data.labels, data.weights)[0]

    def latent(self, X: Tensor) -> Latent:
        """Return the law of the latent values of a block of rows."""
        fitted, factors, dual, _ = self.solved()
        K, prior = self._cross(fitted, X)
        variance = [clip_rounding(prior - f.half_solve(K).square_().sum(0), prior) for f in factors]
        return Latent(K.mT @ dual, torch.stack(variance, dim=1))

    def joint(self, X: Tensor) -> JointLatent:
        """Return the law of the latent values of all rows: a K** - V_c'V_c, V_c = L_c^-1 a K*."""
        fitted, factors, dual, _ = self.solved()
        K, own = self._joint_grams(fitted, X)
        V = (factor.half_solve(K) for factor in factors)
        return JointLatent(K.mT @ dual, independent(torch.addmm(own, v.mT, v, alpha=-1) for v in V))


@dataclass
class LaplaceModel(_Solved):
    """Laplace's approximation around the mode of all classes.

    Attributes
    ----------
    start : ndarray of shape (u, C)
        Coefficients of the mode, where the search for it starts on every device.
    """

    start: np.ndarray

    def _solve(self, data: Labelled) -> tuple[Tensor, LaplaceMode]:
        start = as_tensor(self.start, data.X.device, data.weights.dtype)
        return data.X, mode_of(data, self._gram(data.X), start)

    def dual(self) -> np.ndarray:
        """Return the coefficients of the kernel with amplitude, (u, C)."""
        return to_numpy(self.solved()[1].dual).astype(np.float64)

    def latent(self, X: Tensor) -> Latent:
        """Return the law of the latent values of a block of rows."""
        fitted, mode = self.solved()
        mean, covariance = mode.predict(*self._cross(fitted, X))
        return Latent(mean, covariance.diagonal(dim1=1, dim2=2), covariance)

    def joint(self, X: Tensor) -> JointLatent:
        """Return the law of the latent values of all rows."""
        fitted, mode = self.solved()
        K, own = self._joint_grams(fitted, X)
        return JointLatent(K.mT @ mode.dual, joint_parts(mode, K, own), len(fitted))


@dataclass
class VariationalModel(_Solved):
    """Independent latent functions known through inducing rows.

    Attributes
    ----------
    Z, mean, root, jitter
        As in the variational fit: rows (k, d), and the whitened law (k, C), (C, k, k).
    """

    Z: np.ndarray
    mean: np.ndarray
    root: np.ndarray
    jitter: float

    def _solve(self, data: Labelled) -> SparsePosterior:
        device, dtype = data.X.device, data.weights.dtype
        Z = as_tensor(self.Z, device, data.X.dtype)
        L = Cholesky().factorize(self._gram(Z), self.jitter, overwrite=True).L
        mean, root = (as_tensor(v, device, dtype) for v in (self.mean, self.root))
        law = InducingPosterior(L, mean, root)
        return SparsePosterior(self.hyper.kernel, self.hyper["amplitude"], Z, law)

    def latent(self, X: Tensor) -> Latent:
        """Return the law of the latent values of a block of rows."""
        return Latent(*self.solved().moments(X))

    def joint(self, X: Tensor) -> JointLatent:
        """Return the law of the latent values of all rows."""
        posterior = self.solved()
        K, own = self._joint_grams(posterior.Z, X)
        law = posterior.law
        mean = torch.linalg.solve_triangular(law.L, K, upper=False).mT @ law.mean
        each = (replace(law, root=root).covariance(K, own) for root in law.root)
        return JointLatent(mean, independent(each))
