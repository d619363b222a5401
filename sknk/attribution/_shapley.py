"""Shapley values and other semivalues of training rows."""

from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np

from sknk._array import to_numpy
from sknk._estimator import unchanged_on_error
from sknk._fingerprint import described, fingerprint
from sknk._validation import Interval, StrOptions, fit_context, validate_data
from sknk.attribution._base import MachineAttributor
from sknk.attribution._closed import CONSTRAINTS, judged_games, named_utility, pointwise_of
from sknk.attribution._folds import fold_game, folds
from sknk.attribution._games import EvidenceGame, Game, ValidationGame
from sknk.attribution._groups import rows_of_groups
from sknk.attribution._machine import Machine
from sknk.attribution._runs import Run, drawn_seed
from sknk.attribution._samplers import (
    Antithetic,
    Permutations,
    Sampler,
    Stratified,
    Tally,
    enumerate_game,
    enumerate_points,
    size_weights,
)

__all__ = ["ShapleyAttributor"]

_SAMPLERS: dict[str, type[Sampler]] = {
    "stratified": Stratified,
    "permutation": Permutations,
    "antithetic": Antithetic,
}
_MOST_PLAYERS = 16  # 65536 coalitions


class ShapleyAttributor(MachineAttributor):
    r"""Shapley values of training rows, by linear algebra in place of a refit a coalition.

    .. math:: \phi_i = \sum_{s=0}^{n-1} w_s\; E_{|S| = s,\ S \not\ni i}
        \left[ U(f_{S \cup i}) - U(f_S) \right], \qquad w_s = 1/n

    (Shapley 1953; Ghorbani and Zou 2019 for data), where f_S is the model fitted to the rows S with
    the kernel, ridge and classes of the whole. "permutation" reads every row's marginal where it
    comes in a random order: the factor of a permuted Gram matrix contains those of all its
    prefixes, O(n^3 / 3 + n^2 m) an order. "stratified" draws 24 coalitions, most of them small,
    where marginals are large and work is little, and reads every row's marginal at each,
    O(k^2 n + k n m) for k rows.

    Parameters
    ----------
    estimator : None, estimator or nn.Module, default=None
        A ridge, a Gaussian process, a Pipeline that ends in one (its transformations stay as they
        are), or a torch network, which becomes ridge classification on its pseudo-NTK with the
        ridge chosen by leave-one-out (FreeShap; Wang et al. 2024). Cloned and fitted; a
        ``FrozenEstimator`` is used as it is. None is a tuned kernel ridge.
    utility : str or callable, default="auto"
        "brier", "log_prob" or "accuracy" of classes (probabilities of a Gaussian process are the
        softmax of its latent means); "mse", "r2" or, of a Gaussian process, "log_prob" of numbers;
        "evidence", the log density of the coalition's own targets under the
        Gaussian process of the kernel, which needs no validation rows; or ``f(y, outputs) ->
        float``. "auto" is "brier" or "mse" with validation rows and "evidence" without. Other
        utilities without validation rows judge on five folds of the training rows: each fold
        judges the rest, and values are means over the four folds that do not hold the row.
    sampler : {"auto", "stratified", "permutation", "antithetic", "exact"}, default="auto"
        "antithetic" pairs each order with its reverse; "exact" takes all coalitions of at most 16
        players. "auto" is "stratified", or "antithetic" for groups.
    semivalues : tuple, default=("shapley",)
        What is estimated from the same coalitions: "shapley", "banzhaf" (Wang and Jia 2023), or a
        pair (a, b) for Beta(a, b) (Kwon and Zou 2022). The first gives ``values_``.
    n_iter : int, default=1000
        Most estimates: orders, or pairs of them.
    tol : float, default=0.05
        Stop when the largest standard error is below this part of the values' standard deviation;
        0 never does.
    max_time : float or None, default=None
        Stop after so many seconds.
    warm_start : bool, default=False
        ``fit`` on the same data continues the run, up to `n_iter` estimates in all.
    checkpoint : str, path or None, default=None
        A file that is written every half minute and at the end, and taken up when it is there.
    n_jobs : int or None, default=None
        Threads that sample at a time; None is one, with all of torch's threads to itself.
    random_state : int, RandomState or None, default=None
        Seed; results do not depend on `n_jobs`.
    verbose : int, default=0
        1 shows progress on stderr.

    Attributes
    ----------
    values_ : ndarray of shape (n,) or (g,)
        Positive is helpful; they sum to ``utility_full_ - utility_empty_`` and
        ``efficiency_gap_``.
    std_error_ : ndarray of shape (n,) or (g,)
        Standard errors over independent estimates.
    semivalues_, semivalue_std_errors_ : ndarray of shape (s, n) or (s, g)
        One line for each of `semivalues`.
    groups_ : ndarray of shape (g,)
        The groups, sorted, where any were given.
    utility_full_, utility_empty_ : float
        Utility of all rows, and of none.
    efficiency_gap_ : float
        Sum of the values, less ``utility_full_ - utility_empty_``: rounding for orders; of folds,
        where each row plays in four of five, a quarter of it more.
    n_iter_ : int
        Estimates taken.
    stopped_ : {"n_iter", "tol", "max_time", "exact"}
        What ended the run.
    estimator_ : estimator
        The fitted model.

    References
    ----------
    .. [1] A. Ghorbani and J. Zou, "Data Shapley: equitable valuation of data for machine
       learning", 2019, equation 1.
    .. [2] J. Wang, X. Lin, R. Qiao, C.-S. Foo and B. K. H. Low, "Helpful or harmful data?
       Fine-tuning-free Shapley attribution for explaining language model predictions", 2024.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sknk import NTKRidgeClassifier
    >>> from sknk.attribution import ShapleyAttributor
    >>> X, y = load_iris(return_X_y=True)
    >>> shapley = ShapleyAttributor(NTKRidgeClassifier(alpha=0.1), n_iter=50, random_state=0)
    >>> shapley.fit(X[::2], y[::2], X[1::2], y[1::2]).values_.shape
    (75,)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **CONSTRAINTS,
        "sampler": [StrOptions({"auto", "exact", *_SAMPLERS})],
        "semivalues": [tuple, list],
        "n_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "max_time": [None, Interval(Real, 0, None, closed="neither")],
        "warm_start": ["boolean"],
        "checkpoint": "no_validation",  # type: ignore[dict-item]
        "n_jobs": [None, Integral],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        estimator: Any = None,
        *,
        utility: Any = "auto",
        sampler: str = "auto",
        semivalues: Any = ("shapley",),
        n_iter: int = 1000,
        tol: float = 0.05,
        max_time: float | None = None,
        warm_start: bool = False,
        checkpoint: Any = None,
        n_jobs: int | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.estimator = estimator
        self.utility = utility
        self.sampler = sampler
        self.semivalues = semivalues
        self.n_iter = n_iter
        self.tol = tol
        self.max_time = max_time
        self.warm_start = warm_start
        self.checkpoint = checkpoint
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    @fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: Any, X_val: Any = None, y_val: Any = None, groups: Any = None) -> Self:
        """Value the training rows, or groups of them.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Training rows.
        y : array-like of shape (n,)
            Their targets.
        X_val : array-like of shape (m, d) or None, default=None
            Rows the model is judged on.
        y_val : array-like of shape (m,) or None, default=None
            Their targets.
        groups : array-like of shape (n,) or None, default=None
            The group of each row: players are then groups, and values are theirs.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For rows, targets or groups that are not valid, a utility that is not a number, or a
            checkpoint of other data.
        TypeError
            For an estimator that is not supported.
        MemoryBudgetError
            If the Gram matrix does not fit.
        """
        with unchanged_on_error(self):
            before = vars(self).get("_runs", {}) if self.warm_start else {}
            self._go((X, y, X_val, y_val), groups, before, self.n_iter)
        return self

    @fit_context(prefer_skip_nested_validation=False)
    def partial_fit(
        self, X: Any, y: Any, X_val: Any = None, y_val: Any = None, groups: Any = None
    ) -> Self:
        """Take up to `n_iter` more estimates on the same data.

        Parameters
        ----------
        X, y, X_val, y_val, groups : object
            As in :meth:`fit`; other rows of the same features start a new run.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            As in :meth:`fit`, and for other features.
        """
        if hasattr(self, "n_features_in_"):
            validate_data(self, X, reset=False, skip_check_array=True)
        with unchanged_on_error(self):
            before = vars(self).get("_runs", {})
            self._go((X, y, X_val, y_val), groups, before, None)
        return self

    def _go(
        self, data: tuple[Any, ...], groups: Any, before: dict[str, Tally], until: int | None
    ) -> None:
        X, _, X_val, y_val = data
        self._fit_estimator(*data)
        n = len(self._data[1])
        self.__dict__.pop("groups_", None)
        self._members = None
        if groups is not None:
            self.groups_, self._members = rows_of_groups(groups, n)
        self._before, self._until = before, until
        self._runs: dict[str, Tally] = {}
        self._seed: int = drawn_seed(self.random_state, self._seed if before else None)
        try:
            self._attribute_rows(X, self._data[1], X_val, y_val)
        finally:
            del self._before, self._until

    def _attribute_machine(self, machine: Machine, X_val: Any, y_val: Any) -> None:
        evidence = self._is_evidence(X_val)
        if evidence or X_val is not None:
            game = self._game(machine, X_val, y_val, evidence=evidence)
            found, errors = self._values_of(game, self._players(machine), "run", self.max_time)
            self.utility_empty_, self.utility_full_ = game.ends
        else:
            found, errors = self._by_folds(machine)
        self._keep(machine, found, errors)

    def _keep(self, machine: Machine, found: np.ndarray, errors: np.ndarray) -> None:
        self.semivalues_ = self._every_row(machine, found)
        self.semivalue_std_errors_ = self._every_row(machine, errors)
        self.values_, self.std_error_ = self.semivalues_[0], self.semivalue_std_errors_[0]
        gain = self.utility_full_ - self.utility_empty_
        self.efficiency_gap_ = float(self.values_.sum() - gain)

    def _is_evidence(self, X_val: Any) -> bool:
        name = self.utility if isinstance(self.utility, str) else None
        return name == "evidence" or (X_val is None and name == "auto")

    def _game(self, machine: Machine, X_val: Any, y_val: Any, *, evidence: bool) -> Game:
        if evidence:
            found: Game = EvidenceGame(machine.evidence_games())
            found.sources = (machine.rows,)
            return found
        rows = machine.judged(X_val)
        found = ValidationGame(*judged_games(machine, self.utility, rows, y_val))
        found.sources = (machine.rows, rows)
        return found

    def _players(self, machine: Machine) -> list[np.ndarray] | None:
        """Return the positions, among active rows, of each group."""
        if self._members is None:
            return None
        return [machine.positions(rows) for rows in self._members]

    def _values_of(
        self, game: Game, groups: list[np.ndarray] | None, name: str, max_time: float | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return values (S, players) and their standard errors."""
        weights = self._weights(game, groups)
        if self.sampler == "exact":
            n = weights.shape[1]
            if n > _MOST_PLAYERS:
                raise ValueError(
                    f"`sampler` is 'exact' for {n} players, 2^{n} coalitions; expected at most "
                    f"{_MOST_PLAYERS} players. Use 'stratified', or group the rows."
                )
            self.n_iter_, self.stopped_ = 0, "exact"
            values = enumerate_game(game, weights, groups)
            return values, np.zeros_like(values)
        sampler = self._sampler(game, weights, groups)
        run = Run(sampler, *self._identity(game, weights, groups, name))
        until = self.n_iter if self._until is not None else run.tally.count + self.n_iter
        limits: dict[str, Any] = {"tol": self.tol, "max_time": max_time}
        self.stopped_ = run.go(until, **limits, n_jobs=self.n_jobs, verbose=self.verbose)
        self._runs[run.key], self._seed = run.tally, sampler.seed
        self.n_iter_ = run.tally.count
        return run.tally.mean, run.tally.std_error

    def _weights(self, game: Game, groups: list[np.ndarray] | None) -> np.ndarray:
        """Return the size weights of each semivalue, (S, players)."""
        if not len(self.semivalues):
            raise ValueError("`semivalues` is empty; expected at least one, as ('shapley',).")
        n = game.n if groups is None else len(groups)
        return np.stack([size_weights(s, n) for s in self.semivalues])

    def _sampler(self, game: Game, weights: np.ndarray, groups: list[np.ndarray] | None) -> Sampler:
        name = self.sampler
        if name == "auto":
            name = "stratified" if groups is None else "antithetic"
        if name == "stratified" and groups is not None:
            raise ValueError(
                "`sampler` is 'stratified' and `groups` are given; it moves single rows. Use "
                "'antithetic', 'permutation' or 'exact' for groups."
            )
        return _SAMPLERS[name](game, weights, groups, self._seed)

    def _identity(
        self, game: Game, weights: np.ndarray, groups: list[np.ndarray] | None, name: str
    ) -> tuple[str, Any, Tally | None]:
        """Return the fingerprint of a run, its file, and what there is of it."""
        utility = described(self.utility), game.ends if callable(self.utility) else None
        seed = self._seed if isinstance(self.random_state, Integral) else "drawn"
        players = None if groups is None else [rows.tolist() for rows in groups]
        key = fingerprint(name, self.sampler, utility, seed, weights, players, *game.arrays())
        path = self.checkpoint
        if path is not None and name != "run":
            path = f"{path}.{name}"
        return key, path, self._before.get(key)

    def _by_folds(self, machine: Machine) -> tuple[np.ndarray, np.ndarray]:
        """Return means over folds that judge the other rows, and their standard errors."""
        if self._members is not None:
            raise ValueError(
                "`groups` are given without validation rows; expected `X_val` and `y_val`, or "
                "utility='evidence'."
            )
        y = self._data[1][machine.active]
        a = len(machine.active)
        values, variances = np.zeros((2, len(self.semivalues), a))
        name, games, parts = named_utility(self.utility, machine), machine.games(None), []
        splits = list(folds(machine, y))
        for number, (train, test) in enumerate(splits):
            game = fold_game(machine, games, name, train, test, y)
            share = None if self.max_time is None else self.max_time / len(splits)
            found, errors = self._values_of(game, None, f"fold{number}", share)
            values[:, train] += found
            variances[:, train] += errors**2
            parts.append((*game.ends, self.n_iter_, self.stopped_))
        empty, full, counts, reasons = zip(*parts, strict=True)
        self.utility_empty_, self.utility_full_ = float(np.mean(empty)), float(np.mean(full))
        self.n_iter_ = min(counts)
        self.stopped_ = next((r for r in ("max_time", "n_iter") if r in reasons), reasons[0])
        return values / (len(splits) - 1), np.sqrt(variances) / (len(splits) - 1)

    def _attribute_each(self, machine: Machine, rows: np.ndarray, y_test: Any) -> np.ndarray:
        """Return values of the players for each test row, from as many estimates as in `fit`."""
        if isinstance(self.utility, str) and self.utility == "evidence":
            raise ValueError(
                "`utility` is 'evidence', which judges no test rows; expected another, as 'brier' "
                "or 'mse'."
            )
        games, utility = judged_games(machine, self.utility, rows, y_test)
        pointwise_of(utility, self.utility)
        game = ValidationGame(games, utility)
        players = self._players(machine)
        weights = self._weights(game, players)
        if self.sampler == "exact":
            return enumerate_points(game, weights, players)
        sampler = self._sampler(game, weights, players)
        count = max(1, self.n_iter_ or self.n_iter)
        total = sampler.points(0)
        for t in range(1, count):
            total += sampler.points(t)
        return to_numpy(total).astype(np.float64) / count

    def _every_row(self, machine: Machine, values: np.ndarray) -> np.ndarray:
        return values if self._members is not None else super()._every_row(machine, values)
