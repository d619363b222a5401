"""Feature learning for ridge estimators: which map, and after how many rounds."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sknk._progress import progress
from sknk._training import TrainingSet
from sknk.exceptions import NotPSDError
from sknk.ridge._feature_maps import NoMapError, OuterProduct
from sknk.ridge._grid import Fit, GridSearch
from sknk.ridge._relevance import Relevance
from sknk.ridge._selection import Criterion

__all__ = ["LEARNERS", "FeatureSearch", "Learned"]

Learner = OuterProduct | Relevance
Step = tuple[str, int]  # a learner's name, and its rounds

LEARNERS: Mapping[str, Learner] = {
    "agop": OuterProduct(power=0.5, shrinkage=0.05, diagonal=False),
    "agop_diag": OuterProduct(power=0.25, shrinkage=0.0, diagonal=True),
    "ard": Relevance(),
}
_PLAIN: Step = ("none", 0)
_FOLDS = 3
_KERNELS, _LAST = 3, 6  # of the grid that maps are tried with, and those of the last round
_ERRORS = 1.5
_FEWEST, _MOST = 10, 1500  # rows of a fold, and of all folds


@dataclass(frozen=True)
class Learned:
    """What a search for features found.

    Attributes
    ----------
    fit : Fit
        On all rows, with the chosen map.
    chosen : (str, int)
        The learner's name and its rounds; ("none", 0) if no map was better.
    path : dict of str to list
        One line for every map that was compared.
    reasons : list of str
        Why no learner had a map, where that is so.
    """

    fit: Fit
    chosen: Step
    path: dict[str, list[Any]]
    reasons: list[str]


@dataclass(frozen=True)
class FeatureSearch:
    """Maps of several learners, compared with none on rows that neither they nor the fit have seen.

    Leave-one-out cannot judge a map: all rows have had a part in it. So the rows are dealt into
    three folds of equal spread of targets (1500 of more rows); every map is learned without a fold
    and judged on it. A map is taken where it is better by more than 1.5 standard errors of the
    difference, row by row: the best of five maps is often better by one.

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
        able, reasons = self._able(plain, training)
        part, own = training, replace(criterion, scorer=None)
        if self.grid.folds is None:
            judged = training.sample(_MOST)
            part, own = training.part(judged), own.on(training, judged)
        losses = able._held_out(few, part, own)
        chosen, path = choose(losses, part.copies)
        (name, rounds), fits = chosen, [plain]
        last = self.grid.best_kernels(plain, _LAST)
        grids = [few] * (rounds - 1) + [last] * (rounds > 0)
        try:
            fits += able._rounds(name, grids, plain, training, criterion)
        except NoMapError as reason:
            chosen = (name, len(fits) - 1) if fits[1:] else _PLAIN
            reasons = [] if fits[1:] else [str(reason)]
        scores = {(chosen[0] if r else "none", r): fit.score for r, fit in enumerate(fits)}
        path["score"] = [scores.get(step, np.nan) for step in losses]
        return Learned(fits[-1], chosen, path, reasons)

    def _able(self, plain: Fit, training: TrainingSet) -> tuple["FeatureSearch", list[str]]:
        """Return the search among learners that have a map, and why if none has."""
        if training.rows.shape[1] == 1:  # every map of one column is the same
            return replace(self, learners={}), []
        able, reasons = {}, []
        for name, learner in self.learners.items():
            try:
                learner.check(plain, training)
                able[name] = learner
            except NoMapError as reason:
                reasons.append(str(reason))
        return replace(self, learners=able), [] if able else reasons

    def _rounds(
        self,
        name: str,
        grids: Sequence[GridSearch],
        plain: Fit,
        training: TrainingSet,
        criterion: Criterion,
    ) -> Iterator[Fit]:
        """Yield the fit after every round, by the search of that round."""
        fit = plain
        for grid in grids:
            A = self.learners[name].learn(fit, training, criterion)
            try:
                fit = grid.run(training, criterion, A)
            except NotPSDError as error:
                raise NoMapError(str(error)) from error
            yield fit

    def _held_out(
        self, few: GridSearch, training: TrainingSet, criterion: Criterion
    ) -> dict[Step, np.ndarray]:
        """Return the loss of every distinct row, under fits without its fold, (u,) each."""
        u = len(training.first)
        losses = {_PLAIN: np.full(u, np.nan)}
        if u < _FOLDS * _FEWEST:
            return losses
        few = replace(few, folds=None)
        for inside, outside in progress(self._folds(training), verbose=self.verbose, unit="fold"):
            part, rest = training.part(inside), training.part(outside)
            own = criterion.on(training, inside)
            for step, fit in self._fold_fits(few, part, own):
                losses.setdefault(step, np.full(u, np.nan))[outside] = held_out_losses(
                    fit, part, rest, own
                )
        return losses

    def _folds(self, training: TrainingSet) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return distinct rows inside and outside every fold: those of the grid, or three."""
        if self.grid.folds is None:
            dealt = training.deal(_FOLDS)
            return [(np.flatnonzero(dealt != k), np.flatnonzero(dealt == k)) for k in range(_FOLDS)]
        pairs = [[np.unique(training.group[rows]) for rows in fold] for fold in self.grid.folds]
        known = [[rows[rows >= 0] for rows in pair] for pair in pairs]
        return [(inside, np.setdiff1d(outside, inside)) for inside, outside in known]

    def _fold_fits(
        self, few: GridSearch, part: TrainingSet, criterion: Criterion
    ) -> Iterator[tuple[Step, Fit]]:
        """Yield every learner's fit after every round; without a map that of the round before."""
        plain = few.run(part, criterion)
        yield _PLAIN, plain
        for name in self.learners:
            most, fit = int(min(self.max_rounds, self.learners[name].most_rounds)), plain
            fits = self._rounds(name, [few] * most, plain, part, criterion)
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
    """Return the step of least loss that beats no map by 1.5 standard errors, and the comparison.

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
    seen = ~np.isnan(losses[_PLAIN])
    if seen.any():  # folds need not hold all rows
        losses = {step: loss[seen] for step, loss in losses.items()}
        weights = weights[seen]
    share = weights / weights.sum()
    path: dict[str, list[Any]] = {
        name: [] for name in ("feature_learning", "round", "held_out_loss", "gain", "gain_error")
    }
    best, most = _PLAIN, 0.0
    for step, loss in losses.items():
        difference = losses[_PLAIN] - loss
        gain = float(share @ difference)
        error = float(np.sqrt((share**2) @ (difference - gain) ** 2))
        if gain > max(_ERRORS * error, most):
            best, most = step, gain
        line = (*step, float(share @ loss), gain, error)
        for column, value in zip(path.values(), line, strict=True):
            column.append(value)
    return best, path
