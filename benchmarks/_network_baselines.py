"""Values of a network's training rows as others have them: TracInCP, influence of the last layer.

Losses are cross entropies; values are positive where a row helps, as everywhere here.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp, vmap

State = dict[str, Tensor]
BLOCK = 64  # rows whose gradients are held at once
DAMPING = 0.01  # over the mean diagonal of the Hessian

cross_entropy = nn.functional.cross_entropy


def trac_in(
    module: nn.Module,
    checkpoints: Sequence[State],
    rate: float,
    train: tuple[Tensor, Tensor],
    judged: tuple[Tensor, Tensor],
) -> Tensor:
    r"""Return sum_t eta <grad l(z_i), mean_v grad l(z_v)> over checkpoints (Pruthi et al. 2020).

    Each inner product is a derivative of the training losses along the validation gradient, so
    that no gradient of a single row is formed.
    """
    total = torch.zeros(len(train[1]), dtype=torch.float64)
    for state in checkpoints:
        along = grad(lambda p: cross_entropy(functional_call(module, p, judged[0]), judged[1]))

        def losses(p: State) -> Tensor:
            outputs = functional_call(module, p, train[0])
            return cross_entropy(outputs, train[1], reduction="none")

        total += rate * jvp(losses, (state,), (along(state),))[1].double()
    return total


def trac_in_self(
    module: nn.Module, checkpoints: Sequence[State], rate: float, train: tuple[Tensor, Tensor]
) -> Tensor:
    """Return minus the influence of rows on themselves, sum_t eta |grad l(z_i)|^2."""

    def loss(p: State, x: Tensor, label: Tensor) -> Tensor:
        return cross_entropy(functional_call(module, p, x[None]), label[None])

    each = vmap(grad(loss), (None, 0, 0))
    total = torch.zeros(len(train[1]), dtype=torch.float64)
    for state in checkpoints:
        for rows in torch.arange(len(total)).split(BLOCK):
            found = each(state, train[0][rows], train[1][rows])
            total[rows] += rate * sum(g.flatten(1).double().square().sum(1) for g in found.values())
    return -total


def last_layer_influence(
    features: Tensor, outputs: Tensor, y: Tensor, judged: tuple[Tensor, Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    r"""Return influence on the mean validation loss, and minus that of rows on themselves.

    .. math:: g_v^\top (H + \lambda I)^{-1} g_i, \qquad
        H = \frac1n \sum_i (\mathrm{diag}(p_i) - p_i p_i^\top) \otimes h_i h_i^\top

    Koh and Liang (2017), for the weights and bias of the last layer alone, where H is exact.

    Parameters
    ----------
    features : Tensor of shape (n, d)
        What the last layer sees.
    outputs : Tensor of shape (n, C)
        Logits.
    y : Tensor of shape (n,)
    judged : tuple
        Features, logits and labels of validation rows.

    Returns
    -------
    values, own : Tensor of shape (n,)
    """

    def gradients(h: Tensor, f: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h = torch.cat([h, torch.ones_like(h[:, :1])], dim=1).double()
        p = torch.softmax(f.double(), dim=1)
        error = p - nn.functional.one_hot(y, p.shape[1])
        return h, p, (error[:, :, None] * h[:, None]).flatten(1)

    h, p, g = gradients(features, outputs, y)
    H = torch.zeros(g.shape[1], g.shape[1], dtype=torch.float64)
    C, d = p.shape[1], h.shape[1]
    for a in range(C):
        for b in range(C):
            weights = p[:, a] * (float(a == b) - p[:, b])
            H[a * d : (a + 1) * d, b * d : (b + 1) * d] = h.T @ (weights[:, None] * h) / len(h)
    H.diagonal().add_(DAMPING * H.diagonal().mean())
    solved = torch.cholesky_solve(g.T, torch.linalg.cholesky(H))  # (P, n)
    by = gradients(*judged)[2].mean(0)
    return by @ solved, -(g.T * solved).sum(0)
