r"""Sparse variational Gaussian processes trained on minibatches (Hensman et al. 2013, 2015).

q(f) = int p(f | u) q(u) du at k inducing rows Z, with u = L v, L L' = a K_ZZ + jitter I, and
v_t ~ N(m_t, R_t R_t') for every output or class t. All latent functions share Z, the kernel and
its amplitude a. Adam maximizes sum_i w_i E_q[log p(y_i | f_i)] - sum_t KL(q(v_t) | N(0, I)).

A prediction needs Phi = L^-1 (a K_Z*) alone: mean Phi' m_t, variance a k** - |Phi|^2 +
|R_t' Phi|^2, column by column.
"""

from typing import Any

import numpy as np
import torch
from sklearn.utils import check_random_state
from torch import Tensor

from sknk._array import as_tensor, compute_device
from sknk.gaussian_process._gpytorch import LogInterval, gpytorch
from sknk.gaussian_process._latent import (
    Bounds,
    Expectation,
    LatentGP,
    Table,
    VariationalFit,
    check_inside,
    maximize,
)
from sknk.kernels import Kernel

__all__ = ["VariationalFit", "fit_classification", "fit_regression", "softmax_expectation"]

_DTYPE = torch.float64
_WIDE = (1e-5, 1e5)


def fit_regression(
    kernel: Kernel,
    X: Any,
    Y: Any,
    weights: Any = None,
    *,
    Z: Any,
    amplitude: float,
    noise_variance: float,
    learn_amplitude: bool = True,
    learn_noise: bool = True,
    learn_kernel: bool = True,
    learn_inducing: bool = False,
    amplitude_bounds: Bounds = _WIDE,
    noise_bounds: Bounds = _WIDE,
    batch_size: int = 256,
    max_epochs: int = 100,
    learning_rate: float = 0.05,
    random_state: Any = None,
    verbose: int = 0,
) -> VariationalFit:
    r"""Fit y_t = f_t(x) + noise; E_q[log p(y | f)] has a closed form (Hensman et al. 2013, eq. 4).

    O(b k (d + k) + k^3) time for a minibatch of b rows and every output.

    Parameters
    ----------
    kernel : Kernel
        Covariance of the latent functions up to the amplitude; not modified.
    X : array-like of shape (n, d)
        Rows.
    Y : array-like of shape (n, t)
        Targets; their prior mean is zero.
    weights : array-like of shape (n,), optional
        Factors of the expected log likelihoods, dimensionless; 2 stands for two copies of a row.
    Z : array-like of shape (k, d)
        Inducing rows, or where they start.
    amplitude, noise_variance : float
        Where they start, or stay; units of y squared.
    learn_amplitude, learn_noise : bool, default=True
        Whether to learn these within their bounds.
    learn_kernel : bool, default=True
        Whether to learn the free hyperparameters of `kernel` within their bounds.
    learn_inducing : bool, default=False
        Whether to learn Z.
    amplitude_bounds, noise_bounds : pair of float, default=(1e-5, 1e5)
        Positive and finite.
    batch_size : int, default=256
        Rows of a minibatch; from n on, every step sees all rows.
    max_epochs : int, default=100
        Passes over the rows.
    learning_rate : float, default=0.05
        Of Adam, at the start; it falls to zero along half a cosine.
    random_state : int, RandomState or None, default=None
        Seeds a private generator of minibatches; the global ones are not touched.
    verbose : int, default=0
        1 shows a progress bar.

    Returns
    -------
    VariationalFit

    Raises
    ------
    ValueError
        If the ELBO stops being finite, or an initial value lies outside its bounds.
    """
    bounds = noise_bounds if learn_noise else (noise_variance / 2, noise_variance * 2)
    check_inside("noise_variance", noise_variance, bounds)
    likelihood = gpytorch.likelihoods.GaussianLikelihood(noise_constraint=LogInterval(*bounds))
    likelihood.to(compute_device(X), _DTYPE).requires_grad_(learn_noise)
    # Of a float gpytorch keeps seven digits.
    likelihood.noise = torch.tensor(noise_variance, dtype=_DTYPE, device=compute_device(X))

    def expectation(q: Any, y: Tensor) -> Tensor:
        return likelihood.expected_log_prob(y.T, q).sum(0)  # (t, b) -> (b,)

    model = LatentGP(
        kernel,
        as_tensor(Z, compute_device(X), _DTYPE),
        np.shape(Y)[1],
        amplitude=amplitude,
        amplitude_bounds=amplitude_bounds if learn_amplitude else None,
        learn_kernel=learn_kernel,
        learn_inducing=learn_inducing,
    )
    table = Table.of(X, Y, _DTYPE, weights, batch_size, _generator(random_state))
    history = maximize(model, likelihood, expectation, table, max_epochs, learning_rate, verbose)
    noise = likelihood.noise.item() if learn_noise else float(noise_variance)
    return model.result(noise, history)


def fit_classification(
    kernel: Kernel,
    X: Any,
    labels: Any,
    n_classes: int,
    weights: Any = None,
    *,
    Z: Any,
    amplitude: float,
    learn_amplitude: bool = True,
    learn_kernel: bool = True,
    learn_inducing: bool = False,
    amplitude_bounds: Bounds = _WIDE,
    batch_size: int = 256,
    max_epochs: int = 100,
    learning_rate: float = 0.05,
    n_samples: int = 16,
    random_state: Any = None,
    verbose: int = 0,
) -> VariationalFit:
    r"""Fit p(y = c | x) = exp(f_c(x)) / sum_j exp(f_j(x)), one latent function for every class.

    E_q[log p(y | f)] = m_y - E_q[log sum_j exp(f_j)]; only the second term is a Monte Carlo
    average (Hensman et al. 2015).

    Parameters
    ----------
    kernel : Kernel
        As in :func:`fit_regression`, like every parameter that is not listed here.
    X : array-like of shape (n, d)
        Rows.
    labels : array-like of shape (n,)
        Integers from 0 to `n_classes` - 1.
    n_classes : int
        Latent functions.
    weights : array-like of shape (n,), optional
        Factors of the expected log likelihoods, dimensionless.
    Z : array-like of shape (k, d)
        Inducing rows, or where they start.
    amplitude : float
        Prior variance of the latent functions where the kernel is 1; dimensionless.
    learn_amplitude, learn_kernel, learn_inducing : bool
        As in :func:`fit_regression`.
    amplitude_bounds : pair of float, default=(1e-5, 1e5)
        Positive and finite.
    batch_size, max_epochs, learning_rate : int, int and float
        As in :func:`fit_regression`.
    n_samples : int, default=16
        Draws of every latent function at every row of a minibatch, in pairs of opposite sign.
    random_state : int, RandomState or None, default=None
        Seeds a private generator of minibatches and draws; the global ones are not touched.
    verbose : int, default=0
        1 shows a progress bar.

    Returns
    -------
    VariationalFit

    Raises
    ------
    ValueError
        If the ELBO stops being finite, or the amplitude lies outside its bounds.
    """
    generator = _generator(random_state)
    model = LatentGP(
        kernel,
        as_tensor(Z, compute_device(X), _DTYPE),
        n_classes,
        amplitude=amplitude,
        amplitude_bounds=amplitude_bounds if learn_amplitude else None,
        learn_kernel=learn_kernel,
        learn_inducing=learn_inducing,
    )
    table = Table.of(X, labels, torch.int64, weights, batch_size, generator)
    history = maximize(
        model,
        None,
        softmax_expectation(n_samples, generator),
        table,
        max_epochs,
        learning_rate,
        verbose,
    )
    return model.result(None, history)


def _generator(random_state: Any) -> torch.Generator:
    generator = torch.Generator()
    if random_state is None:
        generator.seed()  # scikit-learn would draw from NumPy's global state
    else:
        generator.manual_seed(int(check_random_state(random_state).randint(2**31 - 1)))
    return generator


def softmax_expectation(n_samples: int, generator: torch.Generator) -> Expectation:
    """Return the function of q(f), labels -> E_q[log softmax(f)_label] of every row.

    Parameters
    ----------
    n_samples : int
        Draws, in pairs of opposite sign.
    generator : torch.Generator
        On the CPU, so that devices agree.

    Returns
    -------
    callable
    """

    # gpytorch's SoftmaxLikelihood takes a minibatch of as many rows as classes for its transpose.
    def expectation(q: Any, y: Tensor) -> Tensor:
        mean, std = q.mean, q.variance.sqrt()  # (c, b)
        shape = (max(1, n_samples // 2), *mean.shape)
        noise = torch.randn(shape, generator=generator, dtype=mean.dtype).to(mean.device) * std
        partition = torch.cat([mean + noise, mean - noise]).logsumexp(1).mean(0)  # (b,)
        return mean.gather(0, y[None])[0] - partition

    return expectation
