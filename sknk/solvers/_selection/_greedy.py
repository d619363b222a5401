"""Greedy maxima of scores that only fall: few rows are looked at in a step."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

__all__ = ["FallingScores", "Round", "largest", "one_by_one"]

_STEPS = 32  # choices after which all scores are brought up to date
_PART = 16  # one row of so many is followed step by step,
_FEWEST = 256  # but no fewer than these


class Round(ABC):
    """A few choices, during which only some rows are followed.

    Attributes
    ----------
    scores : Tensor of shape (h,)
        Of the rows followed, up to date.
    """

    scores: Tensor

    @abstractmethod
    def choose(self, at: Tensor) -> None:
        """Choose the row at this place of those followed."""


class FallingScores(ABC):
    """Scores of n rows that fall, never rise, when rows are chosen.

    Attributes
    ----------
    scores : Tensor of shape (n,)
        After the choices of all rounds that are closed.
    """

    scores: Tensor

    @abstractmethod
    def follow(self, rows: Tensor) -> Round:
        """Open a round that follows these rows."""

    @abstractmethod
    def close(self, chosen: Tensor, round_: Round) -> None:
        """Bring all scores up to date after the choices (k,) of a round."""


def largest(scores: Tensor, size: int) -> Tensor:
    """Return the rows of the largest scores, largest first; of equal ones the first row first.

    Parameters
    ----------
    scores : Tensor of shape (n,)
    size : int
        How many.

    Returns
    -------
    LongTensor of shape (size,)
    """
    return scores.argsort(descending=True, stable=True)[:size]


def one_by_one(problem: FallingScores, size: int, given: Tensor) -> Tensor:
    """Choose the row of the largest score, while that is positive, again and again.

    Scores of earlier steps bound those of now (Minoux 1978). So a round follows a few rows, those
    of the largest scores, as long as their best is above what all others had; then everyone is
    brought up to date by one product of matrices for many steps. Of equal scores the first row is
    taken, as without rounds.

    Parameters
    ----------
    problem : FallingScores
    size : int
        Rows to choose.
    given : LongTensor of shape (t,)
        Rows that are not chosen again.

    Returns
    -------
    LongTensor of shape (k,)
        In the order of choice; k < `size` where no other score was positive.
    """
    open_, chosen = torch.ones_like(problem.scores, dtype=torch.bool), given[:0]
    open_[given] = False
    while len(chosen) < size:
        hot, outside = _hot_rows(torch.where(open_, problem.scores, -torch.inf))
        now = problem.follow(hot)
        places = _places(now, outside, open_[hot], min(_STEPS, size - len(chosen)))
        if not len(places):
            break
        taken = hot[places]
        open_[taken] = False
        chosen = torch.cat([chosen, taken])
        if len(chosen) < size:
            problem.close(taken, now)
    return chosen


def _places(now: Round, outside: float, open_: Tensor, size: int) -> Tensor:
    """Return the places of one round's choices among the rows it follows."""
    places: list[Tensor] = []
    while len(places) < size:
        scores = torch.where(open_, now.scores, -torch.inf)
        at = scores.argmax()
        best = float(scores[at])
        if best <= 0.0 or (places and best <= outside):
            break
        now.choose(at)
        places.append(at)
        open_[at] = False
    return torch.stack(places) if places else open_.nonzero().squeeze(1)[:0]


def _hot_rows(scores: Tensor) -> tuple[Tensor, float]:
    """Return the rows of the largest scores, in order, and the largest score of the others."""
    few = max(_FEWEST, len(scores) // _PART)
    if few >= len(scores):
        return torch.arange(len(scores), device=scores.device), -torch.inf
    hot = scores >= scores.topk(few).values[-1]  # equal ones are all in: the first must be there
    outside = torch.where(hot, -torch.inf, scores).max()
    return hot.nonzero().squeeze(1), float(outside)
