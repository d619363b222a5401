"""What all kernel bandits share: rounds that are played, and the law of rewards they give."""

from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.preprocessing import normalize
from sklearn.utils import Tags, check_consistent_length
from torch import Tensor

from sknk._array import as_tensor, compute_device, compute_dtype, config_of, row_dtype, to_numpy
from sknk._estimator import PLACE_CONSTRAINTS, KernelEstimator, unchanged_on_error
from sknk._validation import (
    Interval,
    RealNotInt,
    StrOptions,
    fit_context,
    private_random_state,
    validate_data,
)
from sknk.bandits._arms import Arms
from sknk.bandits._beliefs import Belief, Look, Rounds
from sknk.bandits._budget import BudgetBelief
from sknk.bandits._choosing import ChoosingMixin, check_started
from sknk.bandits._history import History, units_of
from sknk.bandits._start import start_of
from sknk.bandits._target import column, feedback_of
from sknk.kernels import NTK, Normalized
from sknk.kernels._adapt import as_kernel, copy_of

__all__ = ["KernelBandit"]


class KernelBandit(ChoosingMixin, KernelEstimator):
    """A policy by the law of rewards that a kernel and the rounds so far give."""

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "kernel": [None, Callable],
        "noise_variance": [Interval(Real, 0, None, closed="neither")],
        "encoding": [StrOptions({"joint", "disjoint", "features", "columns"})],
        "actions": "no_validation",
        "arm_features": "no_validation",
        "normalize_reward": ["boolean"],
        "memory": [
            None,
            Interval(Integral, 1, None, closed="left"),
            Interval(RealNotInt, 0, 1, closed="neither"),
        ],
        "budget": [None, Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
        **PLACE_CONSTRAINTS,
    }

    _known: Belief
    _empty: Belief
    _pending: list[tuple[np.ndarray, int]]
    noise_variance: float
    encoding: str
    actions: Any
    arm_features: Any
    normalize_reward: bool
    memory: int | float | None
    budget: int | None
    random_state: Any

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any) -> Self:
        """Learn from logged rounds, and forget all that was learned before.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Contexts, in the order of rounds.
        y : structured array of shape (n,)
            Of :func:`bandit_target`; or its columns as numbers, or rewards of a single arm.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For an unknown arm, a reward that is not finite or a propensity outside (0, 1].
        """
        with unchanged_on_error(self):
            X = self._checked_contexts(X, reset=True)
            told = feedback_of(y)
            check_consistent_length(X, told.action)
            self._begin(X, Arms.of(told.action, self.actions))
            self._learn(X, self._arms.codes_of(told), told.reward)
        return self

    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any) -> Self:
        """Learn from rounds more; O(t^2) each, O(t) after a ``predict`` that judged the same row.

        Rounds that were announced by :meth:`add_pending` are answered by a row of the same context,
        to the digits of float32, and action.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Contexts.
        y : structured array of shape (n,)
            As in ``fit``.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            As ``fit``, and for an arm that is not there: see :meth:`add_arm`.
        """
        if not hasattr(self, "arms_"):
            return self.fit(X, y)
        with unchanged_on_error(self):
            X = self._checked_contexts(X, reset=False)
            told = feedback_of(y)
            check_consistent_length(X, told.action)
            self._learn(X, self._arms.codes_of(told), told.reward)
        return self

    @fit_context(prefer_skip_nested_validation=True)
    def initialize(self, n_features: int) -> Self:
        """Start without any round: the arms are `actions`, and all are equally good.

        Parameters
        ----------
        n_features : int
            d, of contexts to come.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            Without `actions`.
        """
        if self.actions is None:
            raise ValueError("`actions` is None; expected the arms, to start without rounds.")
        with unchanged_on_error(self):
            # Rows of nothing known: what kernels are tried on is any rows.
            X = normalize(np.random.RandomState(0).standard_normal((2, n_features)))
            self._checked_contexts(X, reset=True)
            self._begin(X, Arms.of(np.asarray(self.actions), self.actions))
        return self

    def add_pending(self, X: Any, action: Any) -> Self:
        """Announce rounds whose rewards will come later: variances fall, means stay.

        So a batch does not play one promising arm over and over (Desautels, Krause and Burdick
        2014, GP-BUCB). ``n_pending_`` tells how many are still to come; where none will, learn the
        reward that this means.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Contexts.
        action : array-like of shape (n,)
            Arms that were played.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For an unknown arm.
        """
        check_started(self)
        X = self._checked_contexts(X, reset=False)
        action = column(action, "action")
        check_consistent_length(X, action)
        codes = self._arms.codes(action)
        with unchanged_on_error(self):
            self._pending = [*self._pending, *zip(X, codes.tolist(), strict=True)]
            self._judge_anew()
        return self

    def add_arm(self, arm: Any, features: Any = None) -> Self:
        """Offer one arm more, of which nothing is known, or one that was removed again.

        Parameters
        ----------
        arm : label
            Not among ``arms_``.
        features : array-like of shape (p,), default=None
            Its features, where ``encoding="features"``; an arm that was removed has its old ones.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If it is there, if the encoding has no place for it or for features, or if features of
            an arm that was removed are others.
        """
        check_started(self)
        if features is not None and self.encoding != "features":
            raise ValueError(
                f"`features` is given where `encoding` is {self.encoding!r}, which has no use for "
                "them; expected None, or encoding='features' from the start."
            )
        with unchanged_on_error(self):
            arms = self._arms.with_arm(arm, features)
            if arms.n_codes > self._arms.n_codes:
                if self.encoding == "columns":
                    raise ValueError(
                        "`encoding` is 'columns', whose rows have one block for every arm; expected"
                        " another encoding, or a fit to wider rows."
                    )
                row = arms.Z[-1:] if arms.Z is not None else None
                self._known, self._empty = self._known.with_arm(row), self._empty.with_arm(row)
            self._set_arms(arms)
            self._judge_anew()
        return self

    def remove_arm(self, arm: Any) -> Self:
        """Offer an arm no more; what it taught stays, and rewards that are late are still taken.

        Parameters
        ----------
        arm : label
            One of ``arms_``.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If it is not there, or is the last.
        """
        check_started(self)
        self._set_arms(self._arms.without_arm(arm))
        return self

    @property
    def information_gain_(self) -> float:
        """What the rounds told, in nats: half the log determinant of I + K / lambda."""
        check_started(self)
        return self._known.information_gain

    @property
    def n_rounds_(self) -> int:
        """How many rounds were learned from."""
        check_started(self)
        return len(self._history)

    @property
    def n_pending_(self) -> int:
        """How many rounds were announced whose rewards are still to come."""
        check_started(self)
        return len(self._pending)

    # --- what is known ---------------------------------------------------------------------------

    def _begin(self, X: np.ndarray, arms: Arms) -> None:
        """Start from nothing; `X` are rows to try kernels on."""
        if self.budget is not None and self.memory is not None:
            raise ValueError(
                f"`budget` is {self.budget} and `memory` {self.memory}; expected one of them: what "
                "is forgotten bounds the cost by itself."
            )
        self._rng = private_random_state(self.random_state)
        if self.encoding == "features":
            arms = arms.with_features(self.arm_features)
        with config_of(self.device, self.dtype):
            device, dtype = compute_device(), compute_dtype()
            rows = as_tensor(X, device, row_dtype(device))
            like = torch.empty(0, 2, device=device, dtype=dtype)
            self._empty = self._start(rows, arms.n_codes, arms.Z, like)
        memory = self.memory if self.memory is None or self.memory < 1 else int(self.memory)
        self._history = History.empty(rows[:0], like[:, 0], float(self.noise_variance), memory)
        self._known, self._pending = self._empty, []
        self._judge_anew()
        self._set_arms(arms)

    def _start(self, X: Tensor, n_arms: int, Z: np.ndarray | None, like: Tensor) -> Belief:
        """Return the law before any round."""
        exact, pairs = start_of(self.encoding, self._checked_kernel(), X, n_arms, Z, like)
        if self.budget is None:
            return exact
        seed = int(self._rng.randint(2**31 - 1))
        return BudgetBelief.empty(exact, pairs, n_arms, int(self.budget), seed, X[:0], like)

    def _set_arms(self, arms: Arms) -> None:
        self._arms, self.arms_ = arms, arms.labels

    def _learn(self, X: np.ndarray, codes: np.ndarray, reward: np.ndarray) -> None:
        """Take rounds in."""
        with self._place():
            rows, arm = self._tensors(X, codes)
            told = as_tensor(reward, arm.device, self._history.reward.rows.dtype)
            first = not len(self._history)
            history = self._history.append(rows, arm, told)
            if first:
                known = history.law(self._empty)
            else:
                known = history.grown(self._known, self._empty, len(X), self._look_at(X))
        self._history, self._known = history, known
        self._answer(X, codes)
        self._judge_anew()

    def _judge_anew(self) -> None:
        """Drop what followed from what was known before."""
        self._expected: Belief | None = None
        self._looked: tuple[np.ndarray, Look] | None = None
        self._units = self._measured_units()

    @property
    def _belief(self) -> Belief:
        """What choices go by: what is known, and that pending rounds bring what is expected."""
        if not self._pending:
            return self._known
        if self._expected is None:
            X, codes = zip(*self._pending, strict=True)
            with self._place():
                rows, arm = self._tensors(np.stack(X), np.asarray(codes))
                mean = self._known.look(rows).mean()[torch.arange(len(arm)), arm]
                noise = torch.full_like(mean[:, 0], self._history.noise_variance)
                number = len(self._history) + torch.arange(len(arm), device=arm.device)
                self._expected = self._known.expect(Rounds(rows, arm, mean, noise, number))
        return self._expected

    def _answer(self, X: np.ndarray, codes: np.ndarray) -> None:
        """Strike rounds off those whose rewards are still to come."""
        left = list(self._pending)
        for x, code in zip(X, codes.tolist(), strict=True):
            # Contexts that were stored as float32 on their way are the same contexts.
            same = [
                place
                for place, (row, arm) in enumerate(left)
                if arm == code and np.array_equal(np.float32(row), np.float32(x))
            ]
            if same:
                exact = (place for place in same if np.array_equal(left[place][0], x))
                del left[next(exact, same[0])]
        self._pending = left

    def _look(self, X: np.ndarray) -> Look:
        """Judge contexts; of a single one it is kept, for the round that follows."""
        if len(X) > 1:
            return self._belief.look(self._tensors(X, np.zeros(len(X), dtype=int))[0])
        if self._looked is None or not np.array_equal(self._looked[0], X):
            self._looked = X.copy(), self._belief.look(self._tensors(X, np.zeros(1, dtype=int))[0])
        return self._looked[1]

    def _look_at(self, X: np.ndarray) -> Look | None:
        """Return the look at a round that was kept, if it judged by nothing but what is known."""
        if self._pending or self._looked is None or not np.array_equal(self._looked[0], X):
            return None
        return self._looked[1]

    def _place(self) -> Any:
        """Compute where the law lives."""
        return config_of(str(self._history.arm.rows.device), self.dtype)

    def _tensors(self, X: np.ndarray, codes: np.ndarray) -> tuple[Tensor, Tensor]:
        rows = self._history.X.rows
        return as_tensor(X, rows.device, rows.dtype), as_tensor(codes, rows.device, torch.int64)

    def _measured_units(self) -> tuple[float, float]:
        """Return centre and scale of rewards: 0 and 1 unless they are normalized."""
        return units_of(*self._history.kept()) if self.normalize_reward else (0.0, 1.0)

    def _checked_contexts(self, X: Any, *, reset: bool) -> np.ndarray:
        """Validate contexts as float64."""
        X = to_numpy(X) if isinstance(X, Tensor) else X
        return validate_data(self, X, reset=reset, dtype=np.float64)

    def _checked_kernel(self) -> Any:
        """Return a copy of the kernel; the default has a unit diagonal at any depth."""
        default = Normalized(NTK(depth=2, bias_var=0.0))
        return copy_of(as_kernel(default if self.kernel is None else self.kernel))

    def __getstate__(self) -> dict[str, Any]:
        """Drop what only saves the next solve."""
        state = super().__getstate__()
        return {name: None if name == "_looked" else value for name, value in state.items()}

    def __sklearn_tags__(self) -> Tags:
        """Need targets."""
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags
