"""run_active_learning: learning curves over splits, that survive a kill."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import clone, is_classifier
from sklearn.metrics import check_scoring
from sklearn.model_selection import ShuffleSplit, StratifiedShuffleSplit
from sklearn.utils import _safe_indexing, check_consistent_length, check_random_state

from sknk._fingerprint import fingerprint
from sknk._lines import append_line, lines_of
from sknk._pipelines import split_pipeline
from sknk._progress import progress
from sknk._validation import check_pandas_support
from sknk.active_learning._labels import as_rows
from sknk.active_learning._learner import BatchActiveLearner
from sknk.active_learning._learners import default_for

__all__ = ["LearningCurves", "run_active_learning"]


@dataclass(frozen=True)
class LearningCurves:
    """Scores of learners as labels come.

    Attributes
    ----------
    n_labels : ndarray of shape (s + 1,)
        Labels before the first batch, and after each.
    scores : dict of str to ndarray of shape (r, s + 1)
        Of each learner on the test rows of r splits.
    chosen : dict of str to list of list of ndarray
        Rows of `X` that each learner asked for, by split and step.
    """

    n_labels: np.ndarray
    scores: dict[str, np.ndarray]
    chosen: dict[str, list[list[np.ndarray]]] = field(repr=False)

    def mean(self) -> dict[str, float]:
        """Return the mean score after the first batch and later, over splits.

        Returns
        -------
        dict of str to float
        """
        return {name: float(line[:, 1:].mean()) for name, line in self.scores.items()}

    def labels_to_reach(self, score: float) -> dict[str, float]:
        """Return with how many labels the mean curve first is at a score; nan if never.

        Parameters
        ----------
        score : float

        Returns
        -------
        dict of str to float
        """
        found = {}
        for name, line in self.scores.items():
            there = line.mean(axis=0) >= score
            found[name] = float(self.n_labels[there.argmax()]) if there.any() else float("nan")
        return found

    def to_frame(self) -> Any:
        """Return a DataFrame with columns learner, split, n_labels and score.

        Returns
        -------
        DataFrame
        """
        pandas = check_pandas_support("LearningCurves.to_frame")
        rows = [
            (name, split, int(n), float(score))
            for name, line in self.scores.items()
            for split, curve in enumerate(line)
            for n, score in zip(self.n_labels, curve, strict=True)
        ]
        return pandas.DataFrame(rows, columns=["learner", "split", "n_labels", "score"])


def run_active_learning(
    learners: Any,
    X: Any,
    y: Any,
    *,
    n_initial: int,
    n_batches: int,
    n_splits: int = 5,
    test_size: float | int = 0.2,
    scoring: Any = None,
    random_state: Any = None,
    path: str | Path | None = None,
    verbose: int | bool = 0,
) -> LearningCurves:
    """Let learners ask for labels of a table whose labels are known, and score them.

    Every split draws test rows and first labels, the same for all learners; the other rows are the
    pool. A step is a ``query``, a ``teach``, and the score on the test rows.

    Parameters
    ----------
    learners : BatchActiveLearner, or dict of str to BatchActiveLearner
        Cloned for each split, with a `random_state` of the split's own.
    X : array-like of shape (n, d)
        Rows.
    y : array-like of shape (n,)
        Labels of all.
    n_initial : int
        First labels, drawn at random; of classifiers by class.
    n_batches : int
        Steps.
    n_splits : int, default=5
        Repetitions.
    test_size : float or int, default=0.2
        Part or number of rows that are tested on.
    scoring : str, callable or None, default=None
        As in scikit-learn; None is the estimator's own score.
    random_state : int, RandomState instance or None, default=None
        Of splits and queries.
    path : str, Path or None, default=None
        A file that keeps every step, one line of JSON each. A run of the same rows, labels and seed
        goes on where that file ends: steps of the same learners and sizes count. A file of others
        is refused, and one that two runs wrote at once.
    verbose : int or bool, default=0
        Show a progress bar.

    Returns
    -------
    LearningCurves

    Raises
    ------
    ValueError
        If there are too few rows, or the file is of another run or of two.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.preprocessing import scale
    >>> from sknk import NTKRidge
    >>> from sknk.active_learning import BatchActiveLearner, run_active_learning
    >>> X, y = load_diabetes(return_X_y=True)
    >>> ask = {
    ...     name: BatchActiveLearner(NTKRidge(alpha=0.5), name, batch_size=20)
    ...     for name in ("bait", "random")
    ... }
    >>> curves = run_active_learning(
    ...     ask, scale(X), y, n_initial=20, n_batches=3, n_splits=2, random_state=0
    ... )
    >>> curves.n_labels
    array([20, 40, 60, 80])
    >>> curves.scores["bait"].shape
    (2, 4)
    """
    named = dict(learners) if isinstance(learners, Mapping) else {"learner": learners}
    X, y = as_rows(X), _labels(y)
    check_consistent_length(X, y)
    seed = int(check_random_state(random_state).randint(2**31 - 1))
    n_labels = n_initial + _batch_size(named) * np.arange(n_batches + 1)
    splits = _Splits(y, n_initial, test_size, seed, _classify(named, y))
    splits.check(int(n_labels[-1]))
    diary = _Diary(path, fingerprint(np.asarray(X), y, seed))
    scores = {name: np.empty((n_splits, n_batches + 1)) for name in named}
    chosen: dict[str, list[list[np.ndarray]]] = {name: [] for name in named}
    runs = [(name, number) for number in range(n_splits) for name in named]
    for name, number in progress(runs, verbose=verbose, unit="curve"):
        learner = clone(named[name])
        learner.set_params(random_state=splits.seed_of(number), missing_label=np.nan)
        page = diary.page(name, repr(named[name]), [n_initial, test_size, repr(scoring), number])
        steps = list(_steps(learner, X, y, *splits.of(number), n_batches, scoring, page))
        scores[name][number] = [score for _, score in steps]
        chosen[name].append([rows for rows, _ in steps[1:]])
    return LearningCurves(n_labels, scores, chosen)


def _steps(
    learner: BatchActiveLearner,
    X: Any,
    y: np.ndarray,
    first: np.ndarray,
    pool: np.ndarray,
    test: np.ndarray,
    n_batches: int,
    scoring: Any,
    page: "_Page",
) -> Iterator[tuple[np.ndarray, float]]:
    """Yield what was asked for and the score after it, for the first labels and each batch."""
    rows = np.concatenate([first, pool])
    labels = np.where(np.arange(len(rows)) < len(first), y[rows], np.nan)
    X_fit, X_test, y_test = _safe_indexing(X, rows), _safe_indexing(X, test), y[test]
    done = page.steps[: n_batches + 1]
    yield from done
    if len(done) > n_batches:
        return
    place = np.full(len(y), -1)
    place[rows] = np.arange(len(rows))
    learner.fit(X_fit, labels)
    for asked, _ in done[1:]:  # the lessons of a run that was cut, in their order
        learner.teach(place[asked], y[asked])
    for step in range(len(done), n_batches + 1):
        asked = np.empty(0, dtype=int)
        if step:
            found = learner.query()
            asked = rows[found]
            learner.teach(found, y[asked])
        score = _score(learner, X_test, y_test, scoring)
        page.write(step, asked, score)
        yield asked, score


def _score(learner: BatchActiveLearner, X: Any, y: np.ndarray, scoring: Any) -> float:
    if scoring is None:
        return learner.score(X, y)
    return float(check_scoring(learner.estimator_, scoring)(learner.estimator_, X, y))


def _labels(y: Any) -> np.ndarray:
    """Return labels in a dtype that has nan."""
    y = np.asarray(as_rows(y))
    return y.astype(np.float64 if y.dtype.kind in "biuf" else object)


def _batch_size(named: Mapping[str, BatchActiveLearner]) -> int:
    sizes = {learner.batch_size for learner in named.values()}
    if len(sizes) != 1:
        raise ValueError(
            f"Learners have `batch_size` {sorted(sizes)}; expected one, so that curves compare."
        )
    return sizes.pop()


def _classify(named: Mapping[str, BatchActiveLearner], y: np.ndarray) -> bool:
    every = (split_pipeline(default_for(one.estimator, y))[1] for one in named.values())
    return any(is_classifier(final) for final in every)


@dataclass(frozen=True)
class _Splits:
    """Test rows, first labels and pools, by number."""

    y: np.ndarray
    n_initial: int
    test_size: float | int
    seed: int
    classes: bool

    def check(self, most: int) -> None:
        """Refuse runs that need more rows than there are."""
        first, pool, _ = self.of(0)
        if most > len(first) + len(pool):
            raise ValueError(
                f"The run asks for {most} labels and {len(first) + len(pool)} rows are left beside "
                "the test rows; expected fewer. Lower `n_batches` or `n_initial`."
            )

    def of(self, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return first rows, pool and test rows."""
        rows = np.arange(len(self.y))
        rest, test = self._split(rows, self.test_size, number)
        pool, first = self._split(rest, self.n_initial, number)
        return first, pool, test

    def seed_of(self, number: int) -> int:
        """Return what a split draws by."""
        return int(np.random.SeedSequence([self.seed, number]).generate_state(1)[0] // 2)

    def _split(
        self, rows: np.ndarray, size: float | int, number: int
    ) -> tuple[np.ndarray, np.ndarray]:
        kind = StratifiedShuffleSplit if self.classes else ShuffleSplit
        splitter = kind(1, test_size=size, random_state=self.seed_of(number))
        y = self.y[rows].astype(str) if self.classes else self.y[rows]
        a, b = next(splitter.split(rows, y))
        return rows[a], rows[b]


class _Diary:
    """A file of steps, one line each, that only one run's data may go on with."""

    def __init__(self, path: str | Path | None, data: str) -> None:
        self.path = None if path is None else Path(path)
        lines = lines_of(self.path)
        if lines and lines[0].get("data") != data:
            raise ValueError(
                f"`path` {str(path)!r} is a run on other rows, labels or seed; expected the same. "
                "Pass another path; nothing was overwritten."
            )
        self._steps = lines[1:]
        if self.path is not None and not lines:
            self.path.write_text(json.dumps({"data": data}), encoding="utf-8")

    def page(self, name: str, learner: str, settings: list[Any]) -> "_Page":
        """Return the steps of one learner on one split."""
        key = [name, learner, settings]
        mine = [line for line in self._steps if line["key"] == key]
        if [line["step"] for line in mine] != list(range(len(mine))):
            raise ValueError(
                f"Two runs wrote steps of {name!r} to `path` {str(self.path)!r} at once; expected "
                "one, since steps of two are no curve. Remove the file and run again."
            )
        steps = [(np.asarray(line["asked"], dtype=int), line["score"]) for line in mine]
        return _Page(self.path, key, steps)


@dataclass(frozen=True)
class _Page:
    """Steps of one learner on one split, and where more are written."""

    path: Path | None
    key: list[Any]
    steps: list[tuple[np.ndarray, float]]

    def write(self, step: int, asked: np.ndarray, score: float) -> None:
        """Append a step."""
        line = {"key": self.key, "step": step, "asked": asked.tolist(), "score": score}
        append_line(self.path, line)
