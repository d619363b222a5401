"""Sampling until it is precise enough, with runs that stop, resume, and survive a kill."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from numbers import Integral
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from joblib import Parallel, delayed, effective_n_jobs
from sklearn.utils import check_random_state

from sknk._progress import progress
from sknk.attribution._samplers import Sampler, Tally

__all__ = ["Run", "drawn_seed"]

_LEAST = 8  # estimates before standard errors are believed
_SAVE_SECONDS = 30.0


def drawn_seed(random_state: Any, before: int | None) -> int:
    """Return the seed of a run.

    Parameters
    ----------
    random_state : int, RandomState or None
        As an estimator's.
    before : int or None
        What was drawn for the run that goes on, if one does.

    Returns
    -------
    int
    """
    if isinstance(random_state, Integral):
        return int(random_state)
    if before is not None:
        return before
    if random_state is None:  # leaves NumPy's global generator alone
        return int(np.random.default_rng().integers(2**31))
    return int(check_random_state(random_state).randint(2**31))


class Run:
    """Estimates of one sampler, counted.

    Parameters
    ----------
    sampler : Sampler
    key : str
        Fingerprint of the data and settings.
    checkpoint : path or None
        Where the tally is kept; a file that is there is taken up.
    """

    def __init__(self, sampler: Sampler, key: str, checkpoint: Any, tally: Tally | None) -> None:
        self.sampler, self.key = sampler, key
        self.path = None if checkpoint is None else Path(checkpoint)
        shape = (len(sampler.weights), sampler.n_players)
        # A copy: what a fit that fails had added is dropped.
        self.tally = Tally.empty(shape) if tally is None else replace(tally)
        if self.path is not None and self.path.exists():
            self.tally = self._loaded(self.path)
        elif self.path is not None and not self.path.parent.is_dir():
            raise ValueError(
                f"`checkpoint` is {str(self.path)!r} in a folder that does not exist; expected a "
                "file that can be written. Make the folder first."
            )

    def go(
        self, until: int, *, tol: float, max_time: float | None, n_jobs: Any, verbose: int
    ) -> str:
        """Sample until `until` estimates, the tolerance or the time; return which it was.

        Parameters
        ----------
        until : int
            Estimates in all.
        tol : float
            Largest standard error over the standard deviation of the values; 0 is never reached.
        max_time : float or None
            Seconds.
        n_jobs : int or None
            Threads.
        verbose : int
            1 shows progress.

        Returns
        -------
        {"n_iter", "tol", "max_time"}
        """
        reason = self._reached(tol)
        if reason:
            return reason
        start = saved = time.monotonic()
        jobs = effective_n_jobs(n_jobs)
        each = max(1, self.sampler.batch)
        first = self.tally.count
        bar = progress(range(first, until), verbose=verbose, desc="estimates")
        with _threads(jobs), Parallel(jobs, backend="threading") as parallel:
            for _ in _in_steps(bar, jobs * each):
                stop = min(self.tally.count + jobs * each, until)
                chunks = [
                    range(a, min(a + each, stop)) for a in range(self.tally.count, stop, each)
                ]
                found = parallel(delayed(_estimates)(self.sampler, chunk) for chunk in chunks)
                reason = self._take(np.concatenate(found), tol)
                now = time.monotonic()
                if self.path is not None and now - saved > _SAVE_SECONDS:
                    self.save()
                    saved = now
                if not reason and max_time is not None and now - start >= max_time:
                    reason = "max_time"
                if reason:
                    break
            else:
                reason = "n_iter"
        self.save()
        return reason

    def _take(self, estimates: np.ndarray, tol: float) -> str:
        """Add estimates up to the one that is enough, the same one however many come at a time."""
        for one in estimates:
            self.tally.add(one[None])
            reason = self._reached(tol)
            if reason:
                return reason
        return ""

    def _reached(self, tol: float) -> str:
        if tol > 0 and self.tally.count >= _LEAST:
            spread = float(self.tally.mean[0].std())
            if float(self.tally.std_error[0].max()) <= tol * spread:
                return "tol"
        return ""

    def save(self) -> None:
        """Write the checkpoint, whole or not at all."""
        if self.path is None:
            return
        partial = self.path.with_name(self.path.name + ".part")
        with partial.open("wb") as file:
            np.savez(
                file,
                key=np.array(self.key),
                count=np.array(self.tally.count),
                seed=np.array(self.sampler.seed),
                mean=self.tally.mean,
                deviations=self.tally.deviations,
            )
        os.replace(partial, self.path)

    def _loaded(self, path: Path) -> Tally:
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                key = str(stored["key"])
                tally = Tally(int(stored["count"]), stored["mean"], stored["deviations"])
                seed = int(stored["seed"])
        except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile) as error:
            raise ValueError(
                f"`checkpoint` is {str(path)!r}, which is no checkpoint of a run ({error}); it is "
                "left as it is. Name another file."
            ) from error
        if key != self.key:
            raise ValueError(
                f"`checkpoint` is {str(path)!r}, a run of other data or settings (fingerprint "
                f"{key[:12]}, expected {self.key[:12]}); it is left as it is. Name another file, "
                "or remove this one."
            )
        self.sampler.seed = seed  # of a run that drew its own
        return tally


def _estimates(sampler: Sampler, numbers: range) -> np.ndarray:
    with torch.no_grad():
        return sampler.estimates(numbers)


def _in_steps(bar: Any, step: int) -> Iterator[int]:
    """Yield once every `step` items."""
    for i, item in enumerate(bar):
        if i % step == 0:
            yield item


@contextmanager
def _threads(jobs: int) -> Iterator[None]:
    """Give every worker one thread of torch's; a single worker keeps them all."""
    before = torch.get_num_threads()
    if jobs > 1:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
