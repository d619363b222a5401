"""Partial Cholesky factorizations that choose their rows, from few columns of a Gram matrix."""

import math
from typing import Any

import torch
from torch import Tensor

from sknk._validation import check_memory
from sknk.solvers._gram import GramOperator, as_operator

__all__ = ["pivoted_cholesky"]


def pivoted_cholesky(
    gram: Any, rank: int, *, generator: torch.Generator | None = None, tol: float = 1e-13
) -> tuple[Tensor, Tensor]:
    """Approximate K by G' G from `rank` of its rows, the pivots; exact on them.

    With d the diagonal of the residual K - G' G, a pivot p adds the row::

        g = (K[p] - G[:, p]' G) / d_p^1/2

    Without generator p is the row of the largest d_p, and pivots that are the largest whatever
    those before change are found together. With one, p is drawn with probability d_p / sum d:
    randomly pivoted Cholesky (Chen, Epperly, Tropp and Webber 2022), in the blocks with rejection
    of Epperly, Tropp and Webber (2024), which draw from the same law. It comes close to the best
    approximation of that rank in expectation; the greedy rule follows outliers. O(n r^2) time,
    8 n r bytes, and r rows of K evaluated (other candidates of a block cost only their entries
    with each other).

    Parameters
    ----------
    gram : Tensor, ndarray, memmap, GramOperator or tuple (kernel, X)
        K, symmetric positive semi-definite, n x n.
    rank : int
        The largest number of pivots r, from 1 to n.
    generator : torch.Generator, optional
        On the CPU, so that devices agree; None chooses greedily.
    tol : float, default=1e-13
        Stop when the trace of the residual is at most this part of that of K; dimensionless. In
        float32 at least 1e-6.

    Returns
    -------
    pivots : LongTensor of shape (r,)
        Distinct rows, in the order of choice.
    G : Tensor of shape (r, n)
        G[:, pivots] is upper triangular; squares have the units of K.

    Raises
    ------
    ValueError
        If `rank` is not in [1, n].
    MemoryBudgetError
        If G cannot fit.
    """
    op = as_operator(gram)
    n = op.shape[0]
    if not 1 <= rank <= n:
        raise ValueError(f"`rank` is {rank}; expected a number from 1 to {n}, the rows of K.")
    check_memory(
        float(n) * rank * op.dtype.itemsize,
        op.device,
        what=f"A factor of rank {rank} for {n} rows",
        instead="Use a smaller `rank`.",
    )
    G = torch.empty((rank, n), device=op.device, dtype=op.dtype)
    pivots = torch.empty(rank, device=op.device, dtype=torch.long)
    d = op.diag().clone()
    floor = max(tol, 8 * torch.finfo(op.dtype).eps) * float(d.sum())
    block, done = math.ceil(rank / 10), 0
    while done < rank and float(d.sum()) > floor:
        if generator is None:
            chosen, L = _largest(op, d, G[:done], min(block, rank - done), floor)
        else:
            chosen, L = _draw(op, d, G[:done], min(block, rank - done), generator)
        end = done + len(chosen)
        rows = op.rows(chosen).addmm(G[:done, chosen].mT, G[:done], alpha=-1)
        G[done:end] = torch.linalg.solve_triangular(L, rows, upper=False)
        pivots[done:end] = chosen
        d.sub_(G[done:end].square().sum(dim=0)).clamp_(min=0)
        d[chosen] = 0.0
        done = end
    return pivots[:done], G[:done]


def _largest(
    op: GramOperator, d: Tensor, G: Tensor, size: int, floor: float
) -> tuple[Tensor, Tensor]:
    """Choose up to `size` pivots, each the largest; return them as :func:`_draw` does."""
    # Residuals only ever fall. So a candidate is the largest of all for as long as it is as large
    # as the others were before the block, and rows of K are evaluated for many pivots at once.
    order = d.sort(descending=True, stable=True).indices
    near, others = order[: 2 * size].sort().values, d[order[2 * size :]]
    bound = max(torch.finfo(d.dtype).tiny, float(others[0]) if len(others) else 0.0)
    H = op.block(near, near).addmm(G[:, near].mT, G[:, near], alpha=-1).cpu()
    left, L = d[near].cpu(), torch.zeros_like(H)
    rest = float(others.sum())  # at most
    accepted: list[int] = []
    for k in range(min(size, len(near))):
        j = int(left.argmax())
        if accepted and (not left[j] >= bound or rest + float(left.sum()) <= floor):
            break
        L[:, k] = H[:, j] / left[j].sqrt()
        L[j, k] = left[j].sqrt()
        H -= torch.outer(L[:, k], L[:, k])
        left.sub_(L[:, k].square()).clamp_(min=0)
        accepted.append(j)
        left[accepted] = 0.0
    J = torch.as_tensor(accepted)
    return near[J.to(near.device)], L[J, : len(J)].tril().to(d.device)


def _draw(
    op: GramOperator, d: Tensor, G: Tensor, size: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw pivots of one block; return them and the Cholesky factor of their residual block."""
    # All candidates are drawn from d. Then j stays with probability H_jj / d_j, H_jj its residual
    # after those accepted before: as often as draws one by one from the residual would take it.
    cumulative = d.cpu().double().cumsum(dim=0)
    uniforms = torch.rand((2, size), generator=generator, dtype=torch.float64)
    drawn = torch.searchsorted(cumulative, uniforms[0] * cumulative[-1], right=True)
    drawn = drawn.clamp_(max=len(d) - 1).to(d.device)
    H = op.block(drawn, drawn).addmm(G[:, drawn].mT, G[:, drawn], alpha=-1).cpu()
    H.diagonal().copy_(d[drawn])  # positive, also where rounding made H_jj negative
    limit = uniforms[1].to(H) * H.diagonal()
    L, rows = torch.zeros_like(H), drawn.tolist()
    accepted: list[int] = []
    for j, row in enumerate(rows):
        # A row's second copy has no residual, whatever rounding says.
        if H[j, j] > limit[j] and row not in [rows[i] for i in accepted]:
            L[j:, j] = H[j:, j] / H[j, j].sqrt()
            H[j + 1 :, j + 1 :] -= torch.outer(L[j + 1 :, j], L[j + 1 :, j])
            accepted.append(j)
    return drawn[accepted], L[accepted][:, accepted].to(d.device)
