"""Softmax Laplace approximation: all classes on one Gram matrix, with its evidence's gradient."""

import math
import warnings
from dataclasses import dataclass, field

import torch
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from sknk._array import as_tensor
from sknk._validation import check_memory
from sknk.exceptions import NotPSDError
from sknk.solvers._checks import check_weights, raise_not_finite
from sknk.solvers._gram import row_blocks, square_bytes
from sknk.solvers._sparse import clip_rounding
from sknk.solvers._triangular import BLOCK

__all__ = ["LaplaceMode", "softmax_mode"]

# An inner iteration costs C n^2, a factorization C n^3: old factors precondition a moving W until
# they need more than this many steps. For n = 300 and 1000 and amplitudes from 1 to 1e4, 2 to 10
# are within 10 % of each other, 20 takes up to twice as long, and new factors each time as well.
_STALE, _MAX_INNER, _FORCING = 4, 20, 0.1


@dataclass(frozen=True, eq=False)
class _Factors:
    """E_c of every class, M M' = sum_c E_c, and 1/2 log det(I + W^1/2 K W^1/2)."""

    E: Tensor  # (C, n, n)
    M: Tensor  # (n, n)
    D: Tensor  # (n, C)
    half_logdet: float

    def solve(self, X: Tensor) -> Tensor:
        """Return (I + W K)^-1 X = X - R K X for X of shape (n, C); O(C n^2)."""
        # As E_c = (K + D_c^-1)^-1 this is Z_c + E_c M^-T M^-1 sum_b (X_b - Z_b) with
        # Z_c = E_c X_c / D_c: no product with K, whose rounding would swamp a small X.
        Z = (self.E @ (X / self.D).mT[:, :, None])[:, :, 0].mT
        shared = torch.cholesky_solve((X - Z).sum(dim=1, keepdim=True), self.M)
        return Z + (self.E.flatten(0, 1) @ shared).view(X.shape[1], -1).mT


@dataclass(frozen=True, eq=False)
class LaplaceMode:
    """The Laplace approximation N(f, (K^-1 + W)^-1) of a softmax posterior.

    With pi = softmax(f) by rows, D_c = w * pi_c, and blocks of n x n matrices over pairs of
    classes::

        W_ab = delta_ab diag(D_a) - diag(D_a D_b / w)
        E_c = D_c^1/2 (I + D_c^1/2 K D_c^1/2)^-1 D_c^1/2        M M' = sum_c E_c
        R = (W^- + K)^-1,        R_ab = delta_ab E_a - E_a M^-T M^-1 E_b

    so that (K^-1 + W)^-1 = K - K R K (Rasmussen and Williams 2006, eqs. 3.46 to 3.48). It holds
    C + 1 matrices n x n, but not K.

    Attributes
    ----------
    f : Tensor of shape (n, C)
        Mode of the latent values; dimensionless.
    dual : Tensor of shape (n, C)
        a with f = K a; at the mode a = w (Y - pi).
    log_evidence : float
        Laplace's approximation of log p(Y); nats.
    n_iter : int
        Newton iterations.
    """

    f: Tensor
    dual: Tensor
    log_evidence: float
    n_iter: int
    _w: Tensor = field(repr=False)
    _factors: _Factors = field(repr=False)

    def gram_gradient(self) -> Tensor:
        """Return the derivative of `log_evidence` by K, which moves the mode as well.

        With P the n blocks (C, C) of K - K R K that belong to one row each::

            G = 1/2 sum_c (a_c a_c' - R_cc) + 1/2 sum_c (u_c a_c' + a_c u_c')
            u = (I + W K)^-1 s = s - R K s
            s_c = -1/2 w (q_c - pi_c sum_b q_b),    q_c = pi_c (P_cc - 2 sum_b P_cb pi_b)

        and d log q = sum(G * dK) for symmetric dK. O(C n^3) time, four n x n temporaries.

        Returns
        -------
        Tensor of shape (n, n)
            Symmetric; nats over units of K.
        """
        E, M, D, w, a = self._factors.E, self._factors.M, self._factors.D, self._w, self.dual
        M_inv = torch.linalg.solve_triangular(M, torch.eye(len(M)).to(M), upper=False)
        total = M_inv * w - M.mT  # sum_c U_c below
        out, q = torch.zeros_like(M), torch.empty_like(D)
        for c in range(D.shape[1]):
            V = torch.linalg.solve_triangular(M, E[c], upper=False)
            _add_lower_gram_(out, V)
            # Columns of D_a^1/2 P_ab D_b^1/2 are delta_ab h_a + U_a . U_b / (D_a D_b)^1/2, as
            # E K = I - E D^-1: nothing is subtracted that is not of the order of the result.
            U = (M_inv * D[:, c]).sub_(V)
            h = 1 - E[c].diagonal() / D[:, c]
            own = h + U.square().sum(dim=0) / D[:, c]  # w pi_c P_cc
            cross = h * D[:, c] + U.mul_(total).sum(dim=0)  # w^2 pi_c sum_b P_cb pi_b
            q[:, c] = own / w - 2 * cross / w.square()
        s = -0.5 * (w[:, None] * q - D * q.sum(dim=1, keepdim=True))
        u = self._factors.solve(s)
        out.sub_(E.sum(dim=0)).mul_(0.5)
        out.addmm_(0.5 * a + u, a.mT, alpha=0.5).addmm_(a, (0.5 * a + u).mT, alpha=0.5)
        return out.tril_() + out.tril(-1).mT

    def predict(self, K_cross: Tensor, diag: Tensor) -> tuple[Tensor, Tensor]:
        """Return the law of the latent values of new rows.

        ::

            mean_c = k*' a_c        cov_ab = delta_ab k** - k*' R_ab k*

        where the part k** - k*' E_c k*, positive but for rounding, is clipped at zero when it is
        above -eps^1/2 k**. O(C n^2 m).

        Parameters
        ----------
        K_cross : Tensor of shape (n, m)
            Kernel of the training rows with the new ones.
        diag : Tensor of shape (m,)
            k** of the new rows.

        Returns
        -------
        mean : Tensor of shape (m, C)
            Dimensionless.
        cov : Tensor of shape (m, C, C)
            Over the classes, for each new row.
        """
        E, M, (n, C) = self._factors.E, self._factors.M, self.f.shape
        cov = K_cross.new_empty(len(diag), C, C)
        for J in row_blocks(len(diag), 512):
            k, V = K_cross[:, J], K_cross.new_empty(J.stop - J.start, C, n)
            apart = K_cross.new_empty(J.stop - J.start, C)
            for c in range(C):
                Ek = E[c] @ k
                apart[:, c] = clip_rounding(diag[J] - (k * Ek).sum(dim=0), diag[J])
                V[:, c] = torch.linalg.solve_triangular(M, Ek, upper=False).mT
            torch.matmul(V, V.mT, out=cov[J])
            cov[J].diagonal(dim1=1, dim2=2).add_(apart)
        return K_cross.mT @ self.dual, cov


def softmax_mode(
    K: Tensor,
    Y: Tensor,
    weights: Tensor | None = None,
    *,
    start: LaplaceMode | Tensor | None = None,
    tol: float = 1e-10,
    max_iter: int = 100,
) -> LaplaceMode:
    """Find the mode of a softmax Gaussian process classifier, and its Laplace evidence.

    The mode maximises psi, concave, and the evidence is its value less a determinant::

        psi(a) = -1/2 sum a f + sum_i w_i (y_i . f_i - log sum_c exp f_ic),        f = K a
        log q = psi - sum log diag L - sum log diag M + 1/2 sum_i log w_i
              = psi - 1/2 log det(I + W^1/2 K W^1/2)

    with L L' = I + D_c^1/2 K D_c^1/2 of every class and M as in :class:`LaplaceMode`. (Rasmussen
    and Williams 2006, algorithm 3.3, leaves M out of its last line.) Newton's step solves::

        (I + W K) delta = r = w (Y - pi) - a

    by generalized conjugate residuals (Eisenstat, Elman and Schultz 1983), preconditioned with
    the factors of an earlier W and K, and is halved while psi decreases. The mode is factorized,
    a start without factors too, rarely anything between: O(C n^3) time each, (C + 3) n^2 numbers.

    K may be singular: the eigenvalues of every L L' are at least 1, and those of M M' at least
    ``min(w) / max |L L'|``. Rounding sets in when max(w) times the largest eigenvalue of K, about n
    times its amplitude, approaches 1 / eps.

    Parameters
    ----------
    K : Tensor of shape (n, n)
        Gram matrix, amplitude included.
    Y : Tensor of shape (n, C)
        One-hot classes; rows sum to one.
    weights : Tensor of shape (n,), optional
        Positive sample weights w; None means ones. An integer counts a row that often.
    start : LaplaceMode or Tensor of shape (n, C), optional
        The mode of a nearby K, whose `dual` and factors are then used first, or a `dual` alone;
        left for zero if that has the larger psi.
    tol : float, default=1e-10
        Stop when r is at most `tol` w in every row, and the last step promised less than
        1e-4 `tol` nats of psi; dimensionless. At least 50 eps.
    max_iter : int, default=100
        Newton iterations.

    Returns
    -------
    LaplaceMode

    Raises
    ------
    NotPSDError
        If K has a negative eigenvalue beyond rounding, or one too large for its dtype.
    ValueError
        If shapes do not fit, a weight is not positive, or K is not finite.
    MemoryBudgetError
        If the factors cannot fit.

    Warns
    -----
    ConvergenceWarning
        If `max_iter` is reached, or rounding leaves r above eps^1/2 w or psi uncertain by more.
    """
    K = K.detach()
    Y, w, a, factors = _check(K, Y, weights, start)
    state = _State(Y, w, torch.zeros_like(Y), torch.zeros_like(Y))
    if a is not None:
        started = _State(Y, w, a, K @ a)
        state = started if started.psi > state.psi else state
    state, n_iter = _newton(K, state, factors, tol, max_iter)
    del factors
    factors = _factorize(K, state.D, w)
    evidence = state.psi - factors.half_logdet
    return LaplaceMode(state.f, state.a, evidence, n_iter, w, factors)


class _State:
    """A point of Newton's path: a, f = K a, and what follows from them."""

    def __init__(self, Y: Tensor, w: Tensor, a: Tensor, f: Tensor) -> None:
        self.Y, self.w, self.a, self.f = Y, w, a, f
        pi = f.softmax(dim=1)
        # A probability below eps^3/2 changes no result, but would divide a zero by a zero.
        self.D = w[:, None] * pi.clamp(min=torch.finfo(pi.dtype).eps ** 1.5)
        self.r = w[:, None] * (Y - pi) - a
        self.norm = self.size(self.r)
        true, partition, prior = (Y * f).sum(dim=1), f.logsumexp(dim=1), 0.5 * (a * f).sum(dim=1)
        self.psi = float((w * (true - partition) - prior).cpu().double().sum())
        self.terms = float((w * (true.abs() + partition.abs()) + prior.abs()).sum())

    def size(self, r: Tensor) -> float:
        """Return the largest entry of |r| / w."""
        return float((r.abs().amax(dim=1) / self.w).max())

    def W(self, F: Tensor) -> Tensor:
        """Return W F, row by row."""
        DF = self.D * F
        return DF - self.D * (DF.sum(dim=1) / self.w)[:, None]


def _newton(
    K: Tensor, state: _State, factors: _Factors | None, tol: float, max_iter: int
) -> tuple[_State, int]:
    """Return the mode and the number of iterations; :func:`softmax_mode` says how."""
    eps = torch.finfo(K.dtype).eps
    tol, size = max(tol, 50 * eps), float(torch.linalg.matrix_norm(K))
    converged, gain, n_iter = False, math.inf, 0
    while not converged and n_iter < max_iter:
        fresh = factors is None
        factors = factors or _factorize(K, state.D, state.w)
        step, K_step, inner = _newton_step(K, state, factors)
        gain, before = float((state.r * K_step).sum()), state
        # What rounding makes of psi: that of its terms, and that of f = K a in them.
        slack = eps * (10 * state.terms + size * float(state.a.square().sum()))
        state = _line_search(state, step, K_step, slack)
        n_iter += 1
        converged = state.norm <= tol and gain <= 1e-4 * tol
        at_floor = max(state.norm, gain) < math.sqrt(eps)
        stalled = state is before or (at_floor and state.norm > 0.5 * before.norm)
        if stalled and fresh:
            converged = at_floor
            break
        if stalled or inner > _STALE:
            factors = None
    if not converged:
        warnings.warn(
            f"The Laplace mode is not reached after {n_iter} Newton iterations: the gradient over "
            f"the weights is {state.norm:.1e}, expected {tol:.1e}. Increase `max_iter`, or reduce "
            "the amplitude of `K`.",
            ConvergenceWarning,
            stacklevel=3,
        )
    return state, n_iter


def _newton_step(K: Tensor, state: _State, factors: _Factors) -> tuple[Tensor, Tensor, int]:
    """Return delta with (I + W K) delta = r, K delta, and the number of iterations it took."""
    # Directions z are preconditioned residuals with orthonormal images (I + W K) z, so the
    # residual never grows. Conjugate gradients would need the inner product of K, and amplify
    # what a singular K maps to zero.
    residual, limit, w = state.r.clone(), _FORCING * state.norm, state.w[:, None]
    x, Kx = torch.zeros_like(residual), torch.zeros_like(residual)
    history: list[tuple[Tensor, Tensor, Tensor]] = []
    while len(history) < _MAX_INNER and state.size(residual) > limit:
        z = factors.solve(residual)
        Kz = K @ z
        image = z + state.W(Kz)
        for old, K_old, image_old in history:
            overlap = (image * image_old / w).sum()
            z, Kz, image = z - overlap * old, Kz - overlap * K_old, image - overlap * image_old
        scale = (image.square() / w).sum().rsqrt()
        z, Kz, image = scale * z, scale * Kz, scale * image
        history.append((z, Kz, image))
        along = (residual * image / w).sum()
        x, Kx, residual = x + along * z, Kx + along * Kz, residual - along * image
    return x, Kx, len(history)


def _line_search(state: _State, step: Tensor, K_step: Tensor, slack: float) -> _State:
    """Halve the step until psi decreases by no more than its rounding; else return `state`."""
    for halvings in range(25):
        t = 0.5**halvings
        new = _State(state.Y, state.w, state.a + t * step, state.f + t * K_step)
        if new.psi >= state.psi - slack:
            return new
    return state


def _factorize(K: Tensor, D: Tensor, w: Tensor) -> _Factors:
    """Form E_c and M; a Cholesky factorization and an inverse for each class, O(C n^3)."""
    n, C = D.shape
    E, half_logdet, half = K.new_empty(C, n, n), 0.0, 0.0
    for c in range(C):
        if c and torch.equal(D[:, c], D[:, c - 1]):  # at zero, where all classes are alike
            E[c] = E[c - 1]
        else:
            root = D[:, c].sqrt()
            B = torch.mul(K, root[:, None], out=E[c]).mul_(root)
            B.diagonal().add_(1.0)
            L = _cholesky(B, "I + D^1/2 K D^1/2")
            half = float(L.diagonal().cpu().double().log().sum())
            torch.cholesky_inverse(L, out=B)
            B.mul_(root[:, None]).mul_(root)
        half_logdet += half
    M = _cholesky(E.sum(dim=0), "The sum of E_c")
    half_logdet += float((M.diagonal().log() - 0.5 * w.log()).cpu().double().sum())
    return _Factors(E, M, D, half_logdet)


def _cholesky(A: Tensor, name: str) -> Tensor:
    L, info = torch.linalg.cholesky_ex(A)
    if int(info):
        dtype = str(A.dtype).removeprefix("torch.")
        advice = " or pass `dtype='float64'`" if A.dtype is torch.float32 else ""
        raise NotPSDError(
            f"{name} is not positive definite (at row {int(info) - 1}, {dtype}); expected a "
            "positive semi-definite Gram matrix whose largest eigenvalue, times the largest "
            f"weight, is below 1 / eps. Reduce its amplitude{advice}."
        )
    return L


def _add_lower_gram_(out: Tensor, V: Tensor) -> None:
    # V' V by panels of its lower triangle: half the multiply-adds.
    for J in row_blocks(len(out), BLOCK):
        out[J, : J.stop].addmm_(V[:, J].mT, V[:, : J.stop])


def _check(
    K: Tensor, Y: Tensor, weights: Tensor | None, start: LaplaceMode | Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None, _Factors | None]:
    """Return Y, weights, and the start's dual and factors, on the device of K; or refuse them."""
    n = len(K)
    Y = as_tensor(Y, K.device, K.dtype)
    if K.shape != (n, n) or Y.ndim != 2 or len(Y) != n or Y.shape[1] < 2:
        raise ValueError(
            f"`K` has shape {tuple(K.shape)} and `Y` {tuple(Y.shape)}; expected (n, n) and "
            "(n, C) with two classes or more."
        )
    sums = Y.sum(dim=1)
    if not bool(((sums - 1).abs() < 1e-5).all()):
        row = int((sums - 1).abs().argmax())
        raise ValueError(f"Row {row} of `Y` sums to {float(sums[row]):.3g}; expected one-hot rows.")
    w = Y.new_ones(n) if weights is None else check_weights(weights, n, K.device, K.dtype)
    if not bool((w > 0).all()):
        raise ValueError(f"`weights` is 0 at row {int(w.argmin())}; leave such rows out of `K`.")
    factors = start._factors if isinstance(start, LaplaceMode) else None
    dual = start.dual if isinstance(start, LaplaceMode) else start
    a = None if dual is None else as_tensor(dual, K.device, K.dtype)
    if factors is not None and (factors.M.dtype, factors.M.device) != (K.dtype, K.device):
        factors = None
    if a is not None and a.shape != Y.shape:
        raise ValueError(f"`start` has shape {tuple(a.shape)}; expected {tuple(Y.shape)}.")
    if not bool(torch.isfinite(K.sum())):
        raise_not_finite(K)
    check_memory(
        (Y.shape[1] + 3) * square_bytes(n, K.dtype),
        K.device,
        what=f"A Laplace approximation of {n} rows and {Y.shape[1]} classes",
        instead="Use fewer rows or `dtype='float32'`.",
    )
    return Y, w, a, factors
