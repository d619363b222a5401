"""Latent functions with a sparse variational posterior, and the loop that trains them."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.base import clone
from torch import Tensor

from sknk._array import as_tensor, compute_device, compute_dtype, to_numpy
from sknk._progress import progress
from sknk.gaussian_process._gpytorch import GPyTorchKernel, errors, gpytorch
from sknk.kernels import Kernel, Scale

__all__ = [
    "Bounds",
    "Expectation",
    "LatentGP",
    "Table",
    "VariationalFit",
    "check_inside",
    "maximize",
]

Bounds = tuple[float, float]
# q(f) of a minibatch and its targets -> expected log likelihood of every row, (b,)
Expectation = Callable[[Any, Tensor], Tensor]

# Relative to the mean diagonal of a K_ZZ: above the rounding of Gram matrices, below any noise.
_JITTER = {torch.float64: 1e-8, torch.float32: 1e-5}
_DTYPE = torch.float64


@dataclass(frozen=True)
class VariationalFit:
    """A trained sparse Gaussian process of t latent functions, in NumPy.

    Attributes
    ----------
    kernel : Kernel
        With the trained hyperparameters; without the amplitude.
    amplitude : float
        Factor a of the kernel; units of y squared.
    noise_variance : float or None
        Units of y squared; None in classification.
    Z : ndarray of shape (k, d)
        Inducing rows.
    mean : ndarray of shape (k, t)
        Means of the whitened v.
    root : ndarray of shape (t, k, k)
        Lower triangular; v_t has covariance ``root[t] @ root[t].T``.
    jitter : float
        Added to the diagonal of a K_ZZ before its Cholesky factor is taken; units of y squared.
    history : list of float
        ELBO of every epoch, the average of its minibatches' estimates.
    """

    kernel: Kernel
    amplitude: float
    noise_variance: float | None
    Z: np.ndarray
    mean: np.ndarray
    root: np.ndarray
    jitter: float
    history: list[float]


class LatentGP(gpytorch.models.ApproximateGP):
    """Latent functions that share kernel and inducing rows; q(v) starts at the prior.

    Parameters
    ----------
    kernel : Kernel
        Without the amplitude.
    Z : Tensor of shape (k, d)
        Inducing rows.
    n_latents : int
        Latent functions t.
    amplitude : float
        Factor of the kernel.
    amplitude_bounds : pair of float or None
        None fixes the amplitude.
    learn_kernel, learn_inducing : bool
        Whether hyperparameters and Z are learned.
    """

    def __init__(
        self,
        kernel: Kernel,
        Z: Tensor,
        n_latents: int,
        *,
        amplitude: float,
        amplitude_bounds: Bounds | None,
        learn_kernel: bool,
        learn_inducing: bool,
    ) -> None:
        if amplitude_bounds is not None:
            check_inside("amplitude", amplitude, amplitude_bounds)
        q = gpytorch.variational.CholeskyVariationalDistribution(
            len(Z), batch_shape=torch.Size([n_latents])
        )
        strategy = gpytorch.variational.VariationalStrategy(
            self, Z, q, learn_inducing_locations=learn_inducing
        )
        # Zeros and identities are the prior already; gpytorch would add noise to them.
        strategy.variational_params_initialized.fill_(1)
        super().__init__(strategy)
        bounds = amplitude_bounds or "fixed"
        scaled = Scale(kernel, float(amplitude), bounds)
        self.covar_module = GPyTorchKernel(scaled, dtype=_DTYPE)
        for name, parameter in self.covar_module.named_parameters():
            parameter.requires_grad_(learn_kernel or name == "raw_scale")
        self.fixed_kernel = None if learn_kernel else clone(kernel)
        self.to(Z.device, _DTYPE)

    def forward(self, x: Tensor) -> Any:
        """Return the prior of one latent function at rows.

        Parameters
        ----------
        x : Tensor of shape (n, d)
            Rows.

        Returns
        -------
        gpytorch.distributions.MultivariateNormal
        """
        mean = x.new_zeros(x.shape[:-1])
        return gpytorch.distributions.MultivariateNormal(mean, self.covar_module(x))

    def update_jitter(self) -> float:
        """Make the jitter follow the kernel's scale, and return it; units of y squared."""
        strategy = self.variational_strategy
        with torch.no_grad():
            diagonal = self.covar_module(strategy.inducing_points, diag=True)
        strategy.jitter_val = _JITTER[compute_dtype()] * diagonal.mean().item()
        return strategy.jitter_val

    def elbo(
        self, expectation: Expectation, x: Tensor, y: Tensor, weights: Tensor | None, n_total: int
    ) -> Tensor:
        """Return a minibatch's estimate of the ELBO of all rows.

        Parameters
        ----------
        expectation : callable
            Expected log likelihoods of rows.
        x, y : Tensor of shape (b, d) and (b, ...)
            Rows and targets of the minibatch.
        weights : Tensor of shape (b,) or None
            Factors of the expected log likelihoods.
        n_total : int
            Rows of the table.

        Returns
        -------
        Tensor of shape ()
        """
        terms = expectation(self(x), y)
        likelihood = terms.sum() if weights is None else weights @ terms
        return likelihood * (n_total / len(x)) - self.variational_strategy.kl_divergence().sum()

    def result(self, noise_variance: float | None, history: list[float]) -> VariationalFit:
        """Return what was learned, in NumPy.

        Parameters
        ----------
        noise_variance : float or None
            Of the likelihood.
        history : list of float
            ELBO of every epoch.

        Returns
        -------
        VariationalFit
        """
        scaled = self.covar_module.sknk_kernel()
        strategy = self.variational_strategy
        q = strategy._variational_distribution
        return VariationalFit(
            kernel=self.fixed_kernel or scaled.kernel,
            amplitude=float(scaled.scale),
            noise_variance=noise_variance,
            Z=to_numpy(strategy.inducing_points).copy(),
            mean=to_numpy(q.variational_mean).T.copy(),
            root=np.tril(to_numpy(q.chol_variational_covar)),
            jitter=self.update_jitter(),
            history=history,
        )


@dataclass(frozen=True)
class Table:
    """Rows and targets on the device, dealt in shuffled minibatches."""

    x: Tensor
    y: Tensor
    weights: Tensor | None
    batch_size: int
    generator: torch.Generator

    @classmethod
    def of(
        cls,
        X: Any,
        Y: Any,
        dtype: torch.dtype,
        weights: Any,
        batch_size: int,
        generator: torch.Generator,
    ) -> "Table":
        device = compute_device(X)
        w = None if weights is None else as_tensor(weights, device, _DTYPE)
        y = as_tensor(Y, device, dtype)
        return cls(as_tensor(X, device, _DTYPE), y, w, batch_size, generator)

    def batches(self) -> list[tuple[Tensor, Tensor, Tensor | None]]:
        """Return one epoch; the last minibatch may be smaller."""
        n = len(self.x)
        if self.batch_size >= n:
            return [(self.x, self.y, self.weights)]
        order = torch.randperm(n, generator=self.generator).to(self.x.device)
        return [
            (self.x[rows], self.y[rows], None if self.weights is None else self.weights[rows])
            for rows in order.split(self.batch_size)
        ]


def maximize(
    model: LatentGP,
    likelihood: Any,
    expectation: Expectation,
    table: Table,
    max_epochs: int,
    learning_rate: float,
    verbose: int,
) -> list[float]:
    """Train in place by Adam; return the ELBO of every epoch."""
    modules = [model] if likelihood is None else [model, likelihood]
    parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=learning_rate)
    n_total, history = len(table.x), []
    for epoch in progress(range(max_epochs), verbose=verbose, desc="ELBO", unit="epoch"):
        total = 0.0
        model.update_jitter()
        for x, y, weights in table.batches():
            optimizer.zero_grad()
            try:
                elbo = model.elbo(expectation, x, y, weights, n_total)
            except (errors.NanError, errors.NotPSDError) as error:
                raise ValueError(_diverged(model, likelihood, epoch, str(error))) from error
            if not torch.isfinite(elbo):
                raise ValueError(_diverged(model, likelihood, epoch, f"it is {elbo.item()}"))
            (-elbo / n_total).backward()
            optimizer.step()
            total += elbo.item() * len(x) / n_total
        history.append(total)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * (1 + math.cos(math.pi * (epoch + 1) / max_epochs)) / 2
    return history


def _diverged(model: LatentGP, likelihood: Any, epoch: int, why: str) -> str:
    scaled = model.covar_module.sknk_kernel()
    noise = "" if likelihood is None else f", noise_variance={likelihood.noise.item():.3g}"
    return (
        f"The ELBO is not finite in epoch {epoch} ({why}), with amplitude={scaled.scale:.3g}"
        f"{noise} and kernel={scaled.kernel!r}. Lower `learning_rate`, or narrow the bounds of "
        "the hyperparameters; check that rows and targets are finite and standardized."
    )


def check_inside(name: str, value: float, bounds: Bounds) -> None:
    """Refuse an initial value outside its bounds.

    Parameters
    ----------
    name : str
        Of the parameter, for the message.
    value : float
        Where it starts.
    bounds : pair of float
        Positive and finite.

    Raises
    ------
    ValueError
        If they do not contain it, or have no logarithms.
    """
    if not 0 < bounds[0] <= value <= bounds[1] < np.inf:
        raise ValueError(
            f"`{name}` is {value!r} with bounds {tuple(bounds)}; expected positive, finite bounds "
            "that contain it."
        )
