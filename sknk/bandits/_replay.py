"""Learning policies judged by logged rounds, and scorers for model selection."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.utils import _safe_indexing, check_consistent_length, check_random_state
from sklearn.utils.validation import _num_samples

from sknk.bandits._base import KernelBandit
from sknk.bandits._choosing import check_started
from sknk.bandits._off_policy import (
    PolicyValue,
    behind,
    check_estimator,
    estimate_of,
    last_of,
    policy_value,
)
from sknk.bandits._problems import classification_problem
from sknk.bandits._simulate import simulate
from sknk.bandits._target import bandit_target, feedback_of

__all__ = [
    "make_ope_scorer",
    "make_regret_scorer",
    "make_replay_scorer",
    "partial_fit_pipeline",
    "progressive_replay",
]

Scorer = Callable[[Any, Any, Any], float]


def partial_fit_pipeline(pipeline: Any, X: Any, y: Any) -> Any:
    """Teach the bandit at the end of a Pipeline, behind the transformers as they are.

    scikit-learn's Pipeline has no ``partial_fit``. Transformers are not fitted again: another scale
    would make stored contexts mean something else.

    Parameters
    ----------
    pipeline : Pipeline or bandit
        Fitted.
    X : array-like of shape (n, d)
        Contexts, as the pipeline takes them.
    y : structured array of shape (n,)
        Of :func:`bandit_target`.

    Returns
    -------
    Pipeline or bandit
        The same object.

    Raises
    ------
    ValueError
        If no bandit is at the end.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import Normalizer
    >>> from sknk.bandits import NTKUCB, bandit_target, partial_fit_pipeline
    >>> pipe = make_pipeline(Normalizer(), NTKUCB())
    >>> pipe = pipe.fit(np.eye(2), bandit_target([0, 1], [1.0, 0.0]))
    >>> partial_fit_pipeline(pipe, np.eye(2), bandit_target([1, 0], [0.0, 1.0]))[-1].n_rounds_
    4
    """
    final = _bandit_of(pipeline)
    final.partial_fit(behind(pipeline, X)[0], y)
    return pipeline


def _bandit_of(policy: Any) -> KernelBandit:
    """Return the bandit that a policy is, or ends in."""
    final = last_of(policy)
    if not isinstance(final, KernelBandit):  # a scaler's partial_fit would scale anew
        raise ValueError(f"The policy is, or ends in, {final!r}; expected a bandit.")
    return final


def progressive_replay(
    policy: Any,
    X: Any,
    y: Any,
    *,
    batch_size: int = 1,
    confidence: float = 0.95,
    random_state: Any = None,
) -> PolicyValue:
    """Let a copy of a policy go through logged rounds, and learn from those it would have played.

    Rounds whose action the policy chooses count and are learned from, others are passed over
    (Li, Chu, Langford and Wang 2011). The mean reward is unbiased where all arms were equally
    likely in the log; where propensities differ, a round that matches is kept with the smallest
    propensity over its own. About n / K rounds match.

    Parameters
    ----------
    policy : fitted bandit, or Pipeline that ends in one
        Is left as it is.
    X : array-like of shape (n, d)
        Contexts, in the order of rounds.
    y : structured array of shape (n,)
        Of :func:`bandit_target`.
    batch_size : int, default=1
        Rounds that are chosen before rewards are learned from.
    confidence : float, default=0.95
        Of the interval.
    random_state : int, RandomState instance or None, default=None
        Of rounds that are kept.

    Returns
    -------
    PolicyValue
        nan if no round matches.
    """
    final = _bandit_of(policy)
    check_started(final)
    told, n = final._arms.named(feedback_of(y)), _num_samples(X)
    check_consistent_length(X, told.reward)
    kept = np.ones(n, dtype=bool)
    if told.propensity is not None:
        chance = told.propensity.min() / told.propensity
        kept = check_random_state(random_state).random_sample(n) < chance
    policy, earned = copy.deepcopy(policy), []
    y = bandit_target(told.action, told.reward, told.propensity)
    for start in range(0, n, batch_size):
        rows = np.arange(start, min(start + batch_size, n))
        played = policy.predict(_safe_indexing(X, rows))
        match = rows[(played == told.action[rows]) & kept[rows]]
        if len(match):
            earned.append(told.reward[match])
            partial_fit_pipeline(policy, _safe_indexing(X, match), y[match])
    if not earned:
        return PolicyValue(np.nan, np.nan, (np.nan, np.nan), 0, 0.0)
    terms = np.concatenate(earned)
    return estimate_of(float(terms.mean()), terms, np.ones(len(terms)), confidence)


def make_ope_scorer(estimator: str = "snips", **options: Any) -> Scorer:
    """Return a scorer of fitted policies, by :func:`policy_value`.

    It ranks kernels, depths and noise variances. It says little of exploration: what is scored has
    learned all it will.

    Parameters
    ----------
    estimator : str, default="snips"
        As of :func:`policy_value`.
    **options
        Its other parameters.

    Returns
    -------
    callable
        (policy, X, y) -> float, for ``scoring`` of ``GridSearchCV``.

    Raises
    ------
    ValueError
        For another estimator.
    """
    check_estimator(estimator)

    def score(policy: Any, X: Any, y: Any) -> float:
        return policy_value(policy, X, y, estimator=estimator, **options).value

    return score


def make_replay_scorer(batch_size: int = 1, random_state: Any = 0) -> Scorer:
    """Return a scorer of policies that learn while they are scored, by progressive replay.

    The one that can choose `beta`. Use it with ``TimeSeriesSplit``.

    Parameters
    ----------
    batch_size : int, default=1
        As of :func:`progressive_replay`.
    random_state : int, RandomState instance or None, default=0
        As of :func:`progressive_replay`.

    Returns
    -------
    callable
        (policy, X, y) -> float, for ``scoring`` of ``GridSearchCV``.
    """

    def score(policy: Any, X: Any, y: Any) -> float:
        options = {"batch_size": batch_size, "random_state": random_state}
        return progressive_replay(policy, X, y, **options).value

    return score


def make_regret_scorer(
    n_rounds: int | None = None, n_runs: int = 1, random_state: Any = 0
) -> Scorer:
    """Return a scorer on classes: minus the regret a round, of a policy that starts from nothing.

    For choices made before there is a log, on tables whose classes are known: the fitted policy is
    cloned, what ``fit`` learned does not count, and `y` is classes, encoded as numbers, which
    ``fit`` takes as rewards of one arm: leave `actions` and `arm_features` out.

    Parameters
    ----------
    n_rounds : int or None, default=None
        As of :func:`classification_problem`; at most the rows of a fold.
    n_runs : int, default=1
        Orders of the rows.
    random_state : int, RandomState instance or None, default=0
        Of orders.

    Returns
    -------
    callable
        (policy, X, y) -> float, for ``scoring`` of ``GridSearchCV``.
    """

    def score(policy: Any, X: Any, y: Any) -> float:
        X, final = behind(policy, X)
        T = len(X) if n_rounds is None else min(n_rounds, len(X))

        def problem(seed: int) -> Any:
            return classification_problem(X, y, n_rounds=T, unit_norm=False, random_state=seed)

        played = simulate(clone(final), problem, n_runs=n_runs, random_state=random_state)
        return -played.final()["policy"] / T

    return score
