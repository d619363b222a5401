"""Inducing points: the collapsed bound of a Gaussian process, and its posterior."""

import math
import warnings
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from sknk.exceptions import NumericalWarning
from sknk.solvers._checks import raise_not_finite, raise_not_psd
from sknk.solvers._gram import row_blocks
from sknk.solvers._jitter import _ladder

__all__ = ["InducingPosterior", "clip_rounding", "inducing_bound", "inducing_posterior"]

_LARGEST_JITTER = 1e-4
# Columns of K_ZX whitened at once: past a few hundred, products no longer gain.
_COLUMNS = 4096


@dataclass(frozen=True, eq=False)
class InducingPosterior:
    """A Gaussian law of the process at k points Z, and with it everywhere.

    With K_ZZ = L L', u the values at Z and v = L^-1 u ~ N(m, S S'), a new row x has::

        phi = L^-1 k(Z, x)
        E f(x) = phi' m        var f(x) = k(x, x) - |phi|^2 + |S' phi|^2

    Attributes
    ----------
    L : Tensor of shape (k, k)
        Cholesky factor of K_ZZ, jitter included; its square has the units of K.
    mean : Tensor of shape (k, T)
        m; units of y over those of L.
    root : Tensor of shape (k, k) or (T, k, k)
        S, shared by the outputs or one for each; dimensionless.
    precision : Tensor of shape (k, k), optional
        I + A N^-1 A' with A = L^-1 K_ZX and N the diagonal of noise variances; what
        :meth:`append` adds to.
    moment : Tensor of shape (k, T), optional
        A N^-1 Y; the same.
    jitter : float
        Added to the diagonal of K_ZZ; units of K.
    """

    L: Tensor
    mean: Tensor
    root: Tensor
    precision: Tensor | None = None
    moment: Tensor | None = None
    jitter: float = 0.0

    def predict(self, K_cross: Tensor, diag: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and variance of new rows; O(k^2 m).

        Parameters
        ----------
        K_cross : Tensor of shape (k, m)
            Kernel of the inducing points with the new rows.
        diag : Tensor of shape (m,)
            k(x, x) of the new rows.

        Returns
        -------
        mean : Tensor of shape (m, T)
            Units of y.
        variance : Tensor of shape (m, T)
            Without noise; units of y squared. The part ``k(x, x) - |phi|^2`` is clipped at zero
            when it is above -eps^1/2 k(x, x).
        """
        phi = torch.linalg.solve_triangular(self.L, K_cross, upper=False)  # (k, m)
        prior = clip_rounding(diag - phi.square().sum(dim=0), diag)
        variance = prior + (self.root.mT @ phi).square().sum(dim=-2)  # (m,) or (T, m)
        mean = phi.mT @ self.mean
        return mean, variance.expand(mean.shape[1], -1).mT

    def covariance(self, K_cross: Tensor, K_new: Tensor) -> Tensor:
        """Return the covariance of new rows; O(k^2 m + k m^2).

        Parameters
        ----------
        K_cross : Tensor of shape (k, m)
            Kernel of the inducing points with the new rows.
        K_new : Tensor of shape (m, m)
            Kernel of the new rows.

        Returns
        -------
        Tensor of shape (m, m), or (T, m, m) where each output has its own `root`
            Without noise; units of y squared.
        """
        phi = torch.linalg.solve_triangular(self.L, K_cross, upper=False)
        spread = self.root.mT @ phi  # (k, m) or (T, k, m)
        return K_new - phi.mT @ phi + spread.mT @ spread

    def leave_one_out(
        self, K_zx: Tensor, diag: Tensor, Y: Tensor, noise: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return mean and variance of every row by the others, the inducing points kept.

        The rows of this posterior are y = A' v + noise, so with G the inverse of A' A + N::

            G_ii = 1/noise_i - |S' a_i|^2/noise_i^2
            mean_i = y_i - (y_i - a_i' m)/(noise_i G_ii)
            var_i = 1/G_ii - noise_i + k_ii - |a_i|^2

        O(n k^2).

        Parameters
        ----------
        K_zx : Tensor of shape (k, n)
            Kernel of the inducing points with the rows it was made from.
        diag : Tensor of shape (n,)
            k(x, x) of the rows.
        Y : Tensor of shape (n, T)
            Their targets.
        noise : Tensor of shape (n,)
            Their noise variances.

        Returns
        -------
        mean, variance : Tensor of shape (n, T)
            Of the latent function.
        """
        A = torch.linalg.solve_triangular(self.L, K_zx, upper=False)  # (k, n)
        spread = (self.root.mT @ A).square().sum(dim=0)
        # noise G = 1 - h, h < 1 the leverage of the row.
        free = 1.0 - spread / noise
        mean = Y - (Y - A.mT @ self.mean) / free[:, None]
        explained = spread / free  # 1/G - noise, without cancellation
        variance = explained + clip_rounding(diag - A.square().sum(dim=0), diag)
        return mean, variance[:, None].expand_as(mean)

    def append(self, K_zx: Tensor, Y: Tensor, noise: Tensor) -> Self:
        """Return the posterior with rows added, equal to that of all rows at once.

        O(k^2 m + k^3) time for m new rows; nothing of the earlier ones is needed.

        Parameters
        ----------
        K_zx : Tensor of shape (k, m)
            Kernel of the inducing points with the new rows.
        Y : Tensor of shape (m, T) or (m,)
            Their targets.
        noise : Tensor of shape (m,)
            Their noise variances; units of y squared.

        Returns
        -------
        InducingPosterior

        Raises
        ------
        ValueError
            If this posterior holds no `precision` and `moment`, or shapes do not fit.
        """
        if self.precision is None or self.moment is None:
            raise ValueError(
                "`precision` and `moment` are None, so there is nothing to add to. Use a "
                "posterior made by `inducing_posterior`."
            )
        Y = _check_rows(K_zx, Y, noise)
        precision, moment = self.precision.clone(), self.moment.clone()
        for J in row_blocks(len(Y), _COLUMNS):
            A = torch.linalg.solve_triangular(self.L, K_zx[:, J], upper=False)
            scaled = A / noise[J]
            precision.addmm_(scaled, A.mT)
            moment.addmm_(scaled, Y[J])
        L_B = torch.linalg.cholesky(precision)
        root = torch.linalg.solve_triangular(L_B.mT, torch.eye(len(L_B)).to(L_B), upper=True)
        mean = torch.cholesky_solve(moment, L_B)
        return type(self)(self.L, mean, root, precision, moment, self.jitter)


def inducing_posterior(K_zz: Tensor, K_zx: Tensor, Y: Tensor, noise: Tensor) -> InducingPosterior:
    """Return the optimal Gaussian law of the inducing values (Titsias 2009, eq. 10).

    With A = L^-1 K_ZX, L L' = K_ZZ, N = diag(noise) and B = I + A N^-1 A'::

        v = L^-1 u ~ N(B^-1 A N^-1 Y, B^-1)

    It is the exact posterior of y = A' v + noise. O(n k^2) time; beyond K_ZX, O(k^2) memory.

    Parameters
    ----------
    K_zz : Tensor of shape (k, k)
        Gram matrix of the inducing points.
    K_zx : Tensor of shape (k, n)
        Kernel of the inducing points with the rows.
    Y : Tensor of shape (n, T) or (n,)
        Targets, centred by the caller.
    noise : Tensor of shape (n,)
        Noise variance of each row, sigma^2 / w for sample weights w; units of y squared.

    Returns
    -------
    InducingPosterior

    Raises
    ------
    NotPSDError
        If K_ZZ is not positive definite even with the largest jitter, 1e-4 of its mean diagonal.
    ValueError
        If shapes do not fit, or a noise variance is not positive.

    Warns
    -----
    NumericalWarning
        If jitter was added to K_ZZ.
    """
    Y = _check_rows(K_zx, Y, noise)
    L, jitter = _cholesky_with_jitter(K_zz)
    identity = torch.eye(len(L)).to(L)
    zero = Y.new_zeros(len(L), Y.shape[1])
    prior = InducingPosterior(L, zero, identity, identity, zero, jitter)
    return prior.append(K_zx, Y, noise)


def inducing_bound(
    K_zz: Tensor, K_zx: Tensor, diag: Tensor, Y: Tensor, noise: Tensor
) -> tuple[float, tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Return the collapsed lower bound of the log evidence, and its gradient.

    With A, N and B as in :func:`inducing_posterior`, q = A' A and c = L_B^-1 A N^-1 Y::

        T (-1/2 log det B - 1/2 sum_i log noise_i - n/2 log 2 pi)
            - 1/2 sum(Y^2 / noise) + 1/2 sum c^2 - T/2 sum_i (diag_i - q_ii) / noise_i

    that is log N(Y; 0, A' A + N) less the trace term (Titsias 2009, eq. 9), summed over the
    outputs. It never exceeds the evidence and equals it for Z = X. O(n k^2) time, O(n k) memory.

    Parameters
    ----------
    K_zz : Tensor of shape (k, k)
        Gram matrix of the inducing points.
    K_zx : Tensor of shape (k, n)
        Kernel of the inducing points with the rows.
    diag : Tensor of shape (n,)
        k(x, x) of the rows.
    Y : Tensor of shape (n, T) or (n,)
        Targets, centred by the caller.
    noise : Tensor of shape (n,)
        Noise variance of each row; units of y squared.

    Returns
    -------
    value : float
        Nats, to be maximised.
    cotangents : tuple of four Tensor
        Its derivatives by `K_zz` (symmetric), `K_zx`, `diag` and `noise`, of their shapes. The
        jitter counts as a constant.

    Raises
    ------
    NotPSDError
        If K_ZZ is not positive definite even with the largest jitter, 1e-4 of its mean diagonal.
    ValueError
        If shapes do not fit, or a noise variance is not positive.

    Warns
    -----
    NumericalWarning
        If jitter was added to K_ZZ.
    """
    Y = _check_rows(K_zx, Y, noise)
    n, T = Y.shape
    if diag.shape != (n,):
        raise ValueError(f"`diag` has shape {tuple(diag.shape)}; expected ({n},).")
    jitter = _cholesky_with_jitter(K_zz)[1]
    leaves = [x.detach().clone().requires_grad_() for x in (K_zz, K_zx, diag, noise)]
    with torch.enable_grad():
        K_zz, K_zx, diag, noise = leaves
        identity = torch.eye(len(K_zz)).to(K_zz)
        L = torch.linalg.cholesky(K_zz + jitter * identity)
        scaled = torch.linalg.solve_triangular(L, K_zx / noise.sqrt(), upper=False)  # (k, n)
        white = Y / noise.sqrt()[:, None]
        L_B = torch.linalg.cholesky(identity + scaled @ scaled.mT)
        c = torch.linalg.solve_triangular(L_B, scaled @ white, upper=False)
        trace = (diag / noise).sum() - scaled.square().sum()
        determinant = 2 * L_B.diagonal().log().sum() + noise.log().sum()
        value = -0.5 * (
            T * (determinant + n * math.log(2 * math.pi) + trace)
            + white.square().sum()
            - c.square().sum()
        )
        gradients = torch.autograd.grad(value, leaves)
    return float(value.detach()), gradients  # type: ignore[return-value]


def clip_rounding(variance: Tensor, prior: Tensor) -> Tensor:
    """Return variances with those in (-eps^1/2 prior, 0) set to zero.

    More negative ones stay as they are: they are no rounding, but tell of a cross kernel or a
    diagonal that does not belong to the Gram matrix.

    Parameters
    ----------
    variance : Tensor of shape (m,)
        What is left of `prior` after a subtraction.
    prior : Tensor of shape (m,)
        Before it.

    Returns
    -------
    Tensor of shape (m,)
    """
    limit = -math.sqrt(torch.finfo(variance.dtype).eps) * prior
    return torch.where(variance > limit, variance.clamp(min=0), variance)


def _cholesky_with_jitter(K_zz: Tensor) -> tuple[Tensor, float]:
    """Factorize K_ZZ with as little jitter as it takes; return what that was, in units of K."""
    K, info = K_zz.detach(), 1
    if not bool(torch.isfinite(K.sum())):
        raise_not_finite(K)
    scale = float(K.diagonal().abs().mean())
    for relative in [0.0, *_ladder(K.dtype, _LARGEST_JITTER)]:
        shifted = K.clone()
        shifted.diagonal().add_(relative * scale)
        L, info = torch.linalg.cholesky_ex(shifted)
        if int(info):
            continue
        if relative:
            warnings.warn(
                f"The Gram matrix of the inducing points is not positive definite: added jitter "
                f"{relative * scale:.3g} to its diagonal, {relative:.0e} of the mean. Use fewer "
                "points, or points that lie farther apart.",
                NumericalWarning,
                stacklevel=3,
            )
        return L, relative * scale
    raise_not_psd(f"inducing points, jitter tried up to {_LARGEST_JITTER:.0e}", K.dtype)


def _check_rows(K_zx: Tensor, Y: Tensor, noise: Tensor) -> Tensor:
    """Return Y as (n, T); refuse shapes and noise variances that do not fit."""
    n = K_zx.shape[1]
    if Y.ndim not in (1, 2) or len(Y) != n or noise.shape != (n,):
        raise ValueError(
            f"`Y` has shape {tuple(Y.shape)} and `noise` {tuple(noise.shape)}; expected "
            f"({n}, T) and ({n},), as `K_zx` has {n} columns."
        )
    if not bool((noise > 0).all()):
        row = int((~(noise > 0)).int().argmax())
        raise ValueError(
            f"`noise` is {float(noise[row]):.3g} at row {row}; expected positive ones."
        )
    return Y[:, None] if Y.ndim == 1 else Y
