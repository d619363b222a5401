"""Trained models: what a pickle keeps, and the posterior it stands for on the present device."""

from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from sknk._array import as_tensor, compute_device, compute_dtype, row_dtype, to_numpy
from sknk._training import TrainingSet, merge_rows
from sknk.gaussian_process._bounds import SparseEvidence
from sknk.gaussian_process._evidence import Observations, density_of
from sknk.gaussian_process._hyperparameters import Hyperparameters
from sknk.gaussian_process._posteriors import (
    EnsemblePosterior,
    ExactPosterior,
    FlowPosterior,
    Posterior,
    SparsePosterior,
    flow_filter,
)
from sknk.solvers import (
    Cholesky,
    Factorization,
    InducingPosterior,
    Solver,
    inducing_posterior,
    sandwich_diagonal,
)
from sknk.solvers._sparse import clip_rounding

__all__ = ["ExactModel", "LeaveOneOut", "SparseModel"]


class LeaveOneOut(NamedTuple):
    """Predictions of every distinct row by a model that has not seen it.

    Attributes
    ----------
    mean : Tensor of shape (u, t)
        Of the latent function.
    variance : Tensor of shape (u, t)
        Of the latent function.
    """

    mean: Tensor
    variance: Tensor


class _Solved(NamedTuple):
    """An exact model on one device."""

    factor: Factorization
    dual: Tensor
    posterior: Posterior
    nngp: Tensor | None


class _Merging:
    """Copies of a row that came in different calls, as one distinct row."""

    def merged(self: Any) -> Any:
        """Return the model with all copies merged; itself where there are none."""
        training = self.training
        w = training.copies
        each = training.share * np.where(training.group < 0, 0.0, w[training.group])
        again = merge_rows(training.rows, training.Y[training.group], each, precomputed=False)
        if len(again.first) == len(training.first):
            return self
        kept = training.group[again.first]
        own = None if self.own is None else self.own[kept]
        return self._on(training=again, Y=self.Y[kept], own=own)


@dataclass
class ExactModel(_Merging):
    """A Gaussian process, or the law of trained networks, on all rows.

    Attributes
    ----------
    hyper : Hyperparameters
    training : TrainingSet
        Distinct rows and weights.
    Y : ndarray of shape (u, t)
        Targets, centred and scaled.
    own : ndarray of shape (u,) or None
        Noise variances given row by row.
    solver : Solver
    ensemble : bool
        Whether the law is that of trained networks.
    time : float or None
        When gradient flow stops.
    appended : Factorization or None
        A factor that rows were appended to: computed anew it would differ in the last bits.
    """

    hyper: Hyperparameters
    training: TrainingSet
    Y: np.ndarray
    own: np.ndarray | None
    solver: Solver
    ensemble: bool = False
    time: float | None = None
    appended: Factorization | None = None
    _solved: tuple[Any, _Solved] | None = field(default=None, repr=False)

    def _on(self, **rows: Any) -> Self:
        return replace(self, appended=None, _solved=None, **rows)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_solved": None}

    @property
    def observations(self) -> Observations:
        """Rows and targets on the compute device."""
        return Observations.of(self.training, self.Y, self.own)

    def posterior(self) -> Posterior:
        """Return the posterior on the present device, solved once."""
        return self._solve().posterior

    def dual(self) -> np.ndarray:
        """Return the coefficients of the kernel without amplitude, (u, t)."""
        return self.hyper["amplitude"] * to_numpy(self._solve().dual).astype(np.float64)

    def quad(self) -> np.ndarray:
        """Return y' C^-1 y of every output, (t,)."""
        Y, found = self.observations.Y, self._solve()
        alpha = found.dual if self.time is None else found.factor.solve(Y)
        return to_numpy((alpha * Y).sum(0)).astype(np.float64)

    def evidence(self) -> float:
        """Return the log density of the targets, by the factor that predictions use."""
        data = self.observations
        copies = data.extra_logdet(self.hyper["noise_variance"])
        logdet = self._solve().factor.logdet() + copies
        return density_of(self.hyper).evidence(self.quad(), logdet, data.n).value

    def _solve(self) -> _Solved:
        place = (compute_device(), compute_dtype())
        if self._solved is None or self._solved[0] != place:
            with torch.no_grad():
                self._solved = place, self._solve_anew()
        return self._solved[1]

    def _solve_anew(self) -> _Solved:
        data = self.observations
        K, nngp = self._grams(data.X)
        factor = self.appended
        if factor is None or (factor.device, factor.dtype) != (data.X.device, data.Y.dtype):
            factor = self._factorize(K, data)
        respond = factor.solve
        if self.time is not None:
            respond = partial(factor.filter, flow_filter(self.time))
        dual = respond(data.Y)
        common = (self.hyper.kernel, self.hyper["amplitude"], data.X, factor, dual)
        if nngp is not None:
            return _Solved(factor, dual, EnsemblePosterior(*common, nngp, respond), nngp)
        if self.time is not None:
            return _Solved(factor, dual, FlowPosterior(*common, self.time), None)
        return _Solved(factor, dual, ExactPosterior(*common), None)

    def _grams(self, X: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Return a K and, for ensembles, a Sigma; K is not computed where a factor is at hand."""
        kernel, a = self.hyper.kernel, self.hyper["amplitude"]
        if self.ensemble:
            nngp, ntk = kernel.joint(X)
            return ntk.mul_(a), nngp.mul_(a)
        return (None if self.appended is not None else kernel(X).mul_(a)), None

    def _factorize(self, K: Tensor | None, data: Observations) -> Factorization:
        noise = self.hyper["noise_variance"]
        K = self.hyper.kernel(data.X).mul_(self.hyper["amplitude"]) if K is None else K
        if self.time is None:
            return self.solver.factorize(K, data.ratio * noise, overwrite=True)
        # Flow of squared errors weighted by w has the eigenvectors of w^1/2 K w^1/2.
        copies = as_tensor(1.0 / self.training.copies, data.X.device, data.Y.dtype)
        if self.own is None:
            return self.solver.factorize(K, copies, overwrite=True).reshift(copies * noise)
        K.diagonal().add_(data.ratio * noise)  # a ridge of each row's own
        return self.solver.factorize(K, copies, overwrite=True).reshift(torch.zeros_like(copies))

    def append(self, added: TrainingSet, Y: np.ndarray, own: np.ndarray | None) -> Self:
        """Return the model with rows added and the same hyperparameters; O(n^2 m)."""
        X_old = self.observations.X
        new = Observations.of(added, Y, own)
        factor = None
        if self.time is None and isinstance(self.solver, Cholesky):
            kernel, a = self.hyper.kernel, self.hyper["amplitude"]
            shift = new.ratio * self.hyper["noise_variance"]
            K_cross, K_new = kernel(X_old, new.X).mul_(a), kernel(new.X).mul_(a)
            factor = self._solve().factor.append(K_cross, K_new, shift)
        both = None if self.own is None or own is None else np.append(self.own, own)
        return replace(
            self,
            training=self.training.followed_by(added),
            Y=np.vstack([self.Y, Y]),
            own=both,
            appended=factor,
            _solved=None,
        )

    def without(self, training: TrainingSet, gone: np.ndarray) -> Self:
        """Return the model of the rows that are left, with the same hyperparameters.

        Parameters
        ----------
        training : TrainingSet
            What is left.
        gone : ndarray of int
            Distinct rows that are not in it.

        Returns
        -------
        ExactModel
        """
        own = None if self.own is None else np.delete(self.own, gone)
        Y = np.delete(self.Y, gone, axis=0)
        left = replace(self, training=training, Y=Y, own=own, appended=None, _solved=None)
        plain = self.time is None and not self.ensemble and isinstance(self.solver, Cholesky)
        if plain and np.array_equal(training.copies, np.delete(self.training.copies, gone)):
            left.appended = self._solve().factor.remove(gone)
        return left

    def leave_one_out(self) -> LeaveOneOut:
        r"""Predict every distinct row from the others, in closed form.

        With G = C^-1, mean_i = y_i - alpha_i/G_ii; the variance of a Gaussian process is
        1/G_ii - noise_i, that of an ensemble (G Sigma G)_ii / G_ii^2.

        Returns
        -------
        LeaveOneOut

        Raises
        ------
        NotImplementedError
            For gradient flow that stops: every row left out changes all the others' flow.
        """
        if self.time is not None:
            raise NotImplementedError(
                f"`loo_predictive` has no closed form for `training_time`={self.time:g}; use "
                "`training_time=None`, or cross-validation."
            )
        data = self.observations
        factor, dual, _, nngp = self._solve()
        G = factor.inv_diag()
        mean = data.Y - dual / G[:, None]
        if nngp is None:
            noise = data.ratio * self.hyper["noise_variance"]
            variance = clip_rounding(1.0 / G - noise, 1.0 / G)
        else:
            variance = sandwich_diagonal(factor, nngp) / G.square()
        return LeaveOneOut(mean, variance[:, None].expand_as(mean))


@dataclass
class SparseModel(_Merging):
    """A Gaussian process known through inducing rows, all in NumPy.

    Attributes
    ----------
    hyper : Hyperparameters
    training : TrainingSet
    Y : ndarray of shape (u, t)
        Targets, centred and scaled.
    own : ndarray of shape (u,) or None
        Noise variances given row by row.
    Z : ndarray of shape (k, d)
        Inducing rows.
    law : dict of str to ndarray
        The fields of :class:`~sknk.solvers.InducingPosterior`.
    """

    hyper: Hyperparameters
    training: TrainingSet
    Y: np.ndarray
    own: np.ndarray | None
    Z: np.ndarray
    law: dict[str, Any]
    _found: tuple[Any, SparsePosterior] | None = field(default=None, repr=False)

    @classmethod
    def fit(
        cls,
        hyper: Hyperparameters,
        training: TrainingSet,
        Y: np.ndarray,
        own: np.ndarray | None,
        Z: np.ndarray,
    ) -> Self:
        """Condition on all rows; O(n k^2) time."""
        data = Observations.of(training, Y, own)
        kernel, a = hyper.kernel, hyper["amplitude"]
        centres = as_tensor(Z, data.X.device, data.X.dtype)
        noise = data.ratio * hyper["noise_variance"]
        law = inducing_posterior(
            kernel(centres).mul_(a), kernel(centres, data.X).mul_(a), data.Y, noise
        )
        return cls(hyper, training, Y, own, Z, _arrays(law))

    @classmethod
    def variational(
        cls, hyper: Hyperparameters, training: TrainingSet, Y: np.ndarray, fit: Any
    ) -> Self:
        """Take over a variational posterior of whitened inducing values."""
        Z = as_tensor(fit.Z, compute_device(), row_dtype(compute_device()))
        K = hyper.kernel(Z).mul_(hyper["amplitude"])
        L = to_numpy(Cholesky().factorize(K, fit.jitter, overwrite=True).L)
        law = {"L": L, "mean": fit.mean, "root": fit.root, "jitter": fit.jitter}
        return cls(hyper, training, Y, None, fit.Z, law)

    @property
    def observations(self) -> Observations:
        """Rows and targets on the compute device."""
        return Observations.of(self.training, self.Y, self.own)

    def leave_one_out(self) -> LeaveOneOut:
        """Predict every distinct row from the others; the inducing rows stay.

        Returns
        -------
        LeaveOneOut

        Raises
        ------
        NotImplementedError
            For a variational posterior.
        """
        if self.law.get("precision") is None:
            raise NotImplementedError(
                "`loo_predictive` has no closed form for a variational posterior; use "
                "evidence='exact', or cross-validation."
            )
        data, posterior = self.observations, self.posterior()
        noise = data.ratio * self.hyper["noise_variance"]
        prior = self.hyper["amplitude"] * self.hyper.kernel.diag(data.X)
        K_zx = posterior.cross(data.X)
        return LeaveOneOut(*posterior.law.leave_one_out(K_zx, prior, data.Y, noise))

    def _on(self, **rows: Any) -> Self:
        return replace(self, **rows)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_found": None}

    def posterior(self) -> SparsePosterior:
        """Return the posterior on the present device."""
        place = (compute_device(), compute_dtype())
        if self._found is None or self._found[0] != place:
            Z = as_tensor(self.Z, place[0], row_dtype(place[0]))
            amplitude = self.hyper["amplitude"]
            self._found = (
                place,
                SparsePosterior(self.hyper.kernel, amplitude, Z, self._law(*place)),
            )
        return self._found[1]

    def _law(self, device: torch.device, dtype: torch.dtype) -> InducingPosterior:
        tensors: dict[str, Any] = {
            k: as_tensor(v, device, dtype) if isinstance(v, np.ndarray) else v
            for k, v in self.law.items()
        }
        return InducingPosterior(**tensors)

    def evidence(self) -> float:
        """Return the collapsed bound of the evidence at the inducing rows; O(n k^2)."""
        data = self.observations
        Z = as_tensor(self.Z, data.X.device, data.X.dtype)
        return SparseEvidence(data, Z)(self.hyper, gradient=False).value

    def append(self, added: TrainingSet, Y: np.ndarray, own: np.ndarray | None) -> Self:
        """Return the model with rows added and the same hyperparameters; O(m k^2 + k^3)."""
        if self.law.get("precision") is None:
            raise NotImplementedError(
                "`partial_fit` cannot append to a variational posterior; use evidence='exact', or "
                "`fit` on all rows."
            )
        new = Observations.of(added, Y, own)
        posterior = self.posterior()
        noise = new.ratio * self.hyper["noise_variance"]
        law = posterior.law.append(posterior.cross(new.X), new.Y, noise)
        both = None if self.own is None or own is None else np.append(self.own, own)
        return replace(
            self,
            training=self.training.followed_by(added),
            Y=np.vstack([self.Y, Y]),
            own=both,
            law=_arrays(law),
            _found=None,
        )


def _arrays(law: InducingPosterior) -> dict[str, Any]:
    values = ((f.name, getattr(law, f.name)) for f in fields(law))
    return {name: to_numpy(v) if isinstance(v, Tensor) else v for name, v in values}
