"""How networks are trained: Adam, a learning rate that falls to zero, the best epoch kept."""

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sknk._progress import progress

__all__ = ["Recipe", "outputs_of", "seeded", "trained"]

_ROWS = 2**13  # that pass a network at once where nothing is learned

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Recipe:
    """How long and in which steps.

    Attributes
    ----------
    loss : callable
        From outputs (n, O) and targets to a mean over rows.
    learning_rate : float
        Of Adam, in the first step.
    max_epochs : int
        Passes over the rows.
    batch_size : int
        Most rows of a step.
    verbose : int or bool
        Show a progress bar.
    penalty : callable or None
        From the module to what is added to the loss of every step.
    """

    loss: Loss
    learning_rate: float
    max_epochs: int
    batch_size: int
    verbose: int | bool = 0
    penalty: Callable[[nn.Module], Tensor] | None = None

    def cost(self, module: nn.Module, X: Tensor, Y: Tensor) -> Tensor:
        """Return what a step makes smaller."""
        loss = self.loss(_outputs(module, X), Y)
        return loss if self.penalty is None else loss + self.penalty(module)


@contextmanager
def seeded(seed: int, like: Tensor) -> Iterator[None]:
    """Draw by a seed on the CPU and where a tensor is; global generators stay as they were.

    Modules draw weights and dropout from the global generators.

    Parameters
    ----------
    seed : int
    like : Tensor
        Whose device.

    Yields
    ------
    None
    """
    cuda = [like.device] if like.device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        # torch.manual_seed would seed every device, and only those in use are restored.
        torch.default_generator.manual_seed(seed)
        for device in cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield


def trained(
    module: nn.Module,
    X: Tensor,
    Y: Tensor,
    recipe: Recipe,
    validation: tuple[Tensor, Tensor] | None = None,
) -> nn.Module:
    """Return a trained copy of a module, in evaluation mode. Draws from the global generator.

    Parameters
    ----------
    module : nn.Module
        Weights to start from.
    X : Tensor of shape (n, d)
        Rows.
    Y : Tensor of shape (n, ...)
        Their targets.
    recipe : Recipe
    validation : tuple of Tensor or None
        Rows and targets; weights of the epoch with the least loss on them are kept. None keeps the
        last ones.

    Returns
    -------
    nn.Module

    Raises
    ------
    ValueError
        If no parameter requires a gradient, or the loss is no finite number in the end.
    """
    module = copy.deepcopy(module).to(X).train()
    learned = [p for p in module.parameters() if p.requires_grad]
    if not learned:
        raise ValueError("`module` has no parameter that requires a gradient; expected some.")
    steps = -(-len(X) // recipe.batch_size)  # of an epoch, all about as long
    total = max(1, steps * recipe.max_epochs)
    optimizer = torch.optim.Adam(learned, lr=recipe.learning_rate, fused=True)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=total)
    best, least = None, float("inf")
    for _ in progress(range(recipe.max_epochs), verbose=recipe.verbose, unit="epoch"):
        for rows in torch.randperm(len(X)).to(X.device).tensor_split(steps):
            optimizer.zero_grad(set_to_none=True)
            recipe.cost(module, X[rows], Y[rows]).backward()
            optimizer.step()
            schedule.step()
        if validation is not None:
            held_out = float(recipe.loss(outputs_of(module, validation[0]), validation[1]))
            if held_out < least:
                best, least = copy.deepcopy(module.state_dict()), held_out
            module.train()
    if best is not None:
        module.load_state_dict(best)
    found = float(recipe.loss(outputs_of(module, X), Y))
    if not math.isfinite(found):
        raise ValueError(
            f"The loss is {found} after {recipe.max_epochs} epochs with `learning_rate` "
            f"{recipe.learning_rate}; expected a finite number. Lower it, or standardize the rows."
        )
    return module.eval()


def outputs_of(module: nn.Module, X: Tensor) -> Tensor:
    """Return outputs (n, O) of a module in evaluation mode, block of rows by block.

    Parameters
    ----------
    module : nn.Module
    X : Tensor of shape (n, d)
        Rows.

    Returns
    -------
    Tensor of shape (n, O)
    """
    module.eval()
    with torch.no_grad():
        return torch.cat([_outputs(module, block) for block in X.split(_ROWS)])


def _outputs(module: nn.Module, X: Tensor) -> Tensor:
    found = module(X)
    return found[:, None] if found.ndim == 1 else found
