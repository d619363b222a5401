"""Feature learning for ridge estimators: which map, and after how many rounds."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sknk._progress import progress
from sknk._training import TrainingSet
from sknk.ridge._feature_maps import NoMapError, OuterProduct
from sknk.ridge._grid import Fit, GridSearch
from sknk.ridge._relevance import Relevance
from sknk.ridge._selection import Criterion

__all__ = ["LEARNERS", "FeatureSearch", "Learned"]

Learner = OuterProduct | Relevance
Step = tuple[str, int]  # a learner's name, and rounds

LEARNERS: Mapping[str, Learner] = {
    "agop": OuterProduct(power=0.5, shrinkage=0.05, diagonal=False),
    "agop_diag": OuterProduct(power=0.25, shrinkage=0.0, diagonal=True),
    "ard": Relevance(),
}
_PLAIN: Step = ("none", 0)
_FOLDS = 3
_KERNELS = 3  # of the grid that maps are tried with
_FEWEST = 10  # rows of a fold


@dataclass(frozen=True)
class Learned:
    """What a search for features found.

    Attributes
    ----------
    fit : Fit
        On all rows, with the chosen map.
    plain : Fit
        Without a map.
    rounds : int
        Of the chosen learner; 0 if no map was better.
    chosen : str
        The learner's name, or "none".
    path : dict of str to list
        One line for every map that was compared.
    trouble : dict of str to str
        Why learners had no map.
    """

    fit: Fit
    plain: Fit
    rounds: int
    chosen: str
    path: dict[str, list[Any]]
    trouble: dict[str, str]


@dataclass(frozen=True)
class FeatureSearch:
    """Maps of several learners, compared with none on rows that neither they nor the fit have seen.

    Leave-one-out cannot judge a map: all rows have had a part in it. So the rows are dealt into
    three folds of equal spread of targets; every map is learned without a fold and judged on it. A
    map is taken where it is better by more than a standard error of the difference, row by row.

    Attributes
    ----------
    grid : GridSearch
        Kernels and ridges; maps are tried with the few kernels that do best without one.
    learners : mapping of str to learner
        What may be chosen.
    max_rounds : int
        Of gradient outer products; scales are learned once.
    verbose : int
        1 shows progress.
    """

    grid: GridSearch
    learners: Mapping[str, Learner]
    max_rounds: int
    verbose: int

    def run(self, training: TrainingSet, criterion: Criterion) -> Learned:
        """Search, and fit the choice to all rows.

        Parameters
        ----------
        training : TrainingSet
            At least two distinct rows.
        criterion : Criterion
            What judges predictions.

        Returns
        -------
        Learned
        """
        plain = self.grid.run(training, criterion)
        few = self.grid.best_kernels(plain, _KERNELS)
        trouble = self._trouble(plain, training)
        able = replace(self, learners={k: v for k, v in self.learners.items() if k not in trouble})
        losses = able._held_out(few, training, criterion)
        (name, rounds), path = choose(losses, training.copies)
        fits = [plain]
        if rounds:
            try:
                fits += self._rounds(name, few, plain, training, criterion, rounds)
            except NoMapError as reason:
                trouble[name] = str(reason)
        reached = len(fits) - 1
        scores = {_PLAIN: plain.score} | {(name, r): fits[r].score for r in range(1, reached + 1)}
        path["score"] = [scores.get(step, np.nan) for step in losses]
        return Learned(fits[-1], plain, reached, name if reached else "none", path, trouble)

    def _trouble(self, plain: Fit, training: TrainingSet) -> dict[str, str]:
        """Return why some learners would have no map: what they see is the first fit."""
        trouble = {}
        for name, learner in self.learners.items():
            if isinstance(learner, OuterProduct):
                try:
                    learner.learn(plain, training)
                except NoMapError as reason:
                    trouble[name] = str(reason)
        return trouble

    def _rounds(
        self,
        name: str,
        few: GridSearch,
        plain: Fit,
        training: TrainingSet,
        criterion: Criterion,
        rounds: int,
    ) -> Iterator[Fit]:
        """Yield the fit after every round."""
        learner, fit = self.learners[name], plain
        for _ in range(rounds):
            A = learner.learn(fit, training, criterion)
            fit = few.run(training, criterion, A)
            yield fit

    def _most_rounds(self, name: str) -> int:
        return 1 if isinstance(self.learners[name], Relevance) else self.max_rounds

    def _held_out(
        self, few: GridSearch, training: TrainingSet, criterion: Criterion
    ) -> dict[Step, np.ndarray]:
        """Return the loss of every distinct row, under fits without its fold, (u,) each."""
        u = len(training.first)
        losses = {_PLAIN: np.full(u, np.nan)}
        if u < _FOLDS * _FEWEST:
            return losses
        dealt = training.deal(_FOLDS)
        for fold in progress(range(_FOLDS), verbose=self.verbose, unit="fold"):
            inside, outside = np.flatnonzero(dealt != fold), np.flatnonzero(dealt == fold)
            part, rest = training.part(inside), training.part(outside)
            own = criterion.on(training, inside)
            for step, fit in self._fold_fits(few, part, own):
                losses.setdefault(step, np.full(u, np.nan))[outside] = held_out_losses(
                    fit, part, rest, own
                )
        return losses

    def _fold_fits(
        self, few: GridSearch, part: TrainingSet, criterion: Criterion
    ) -> Iterator[tuple[Step, Fit]]:
        """Yield every learner's fit after every round; without a map that of the round before."""
        plain = few.run(part, criterion)
        yield _PLAIN, plain
        for name in self.learners:
            most, fit = self._most_rounds(name), plain
            fits = self._rounds(name, few, plain, part, criterion, most)
            for r in range(1, most + 1):
                with suppress(NoMapError, StopIteration):
                    fit = next(fits)
                yield (name, r), fit


def held_out_losses(
    fit: Fit, training: TrainingSet, rest: TrainingSet, criterion: Criterion
) -> np.ndarray:
    """Return the losses of rows that a fit has not seen, (m,)."""
    calibration = None
    if criterion.coder is not None:
        (calibration,) = criterion.coder.calibrate(fit.loo[None], training.Y, training.weights)
    return criterion.row_losses(fit.predict(rest.rows, training), calibration, rest.Y)


def choose(
    losses: Mapping[Step, np.ndarray], weights: np.ndarray
) -> tuple[Step, dict[str, list[Any]]]:
    """Return the step of least loss that beats no map by a standard error, and the comparison.

    The error is that of the weighted mean of differences, row by row; ties go to fewer rounds.

    Parameters
    ----------
    losses : mapping of (name, rounds) to ndarray of shape (u,)
        Of rows not seen; first those without a map.
    weights : ndarray of shape (u,)
        Of the rows.

    Returns
    -------
    step : (str, int)
        The choice.
    path : dict of str to list
        One line for every step.
    """
    share = weights / weights.sum()
    path: dict[str, list[Any]] = {
        name: [] for name in ("feature_learning", "round", "held_out_loss", "gain", "gain_error")
    }
    best, most = _PLAIN, 0.0
    for step, loss in losses.items():
        difference = losses[_PLAIN] - loss
        gain = float(share @ difference)
        error = float(np.sqrt((share**2) @ (difference - gain) ** 2))
        if gain > max(error, most):
            best, most = step, gain
        line = (*step, float(share @ loss), gain, error)
        for column, value in zip(path.values(), line, strict=True):
            column.append(value)
    return best, path
