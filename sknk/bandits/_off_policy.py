r"""What a policy would have earned, from rounds that another one played.

With weights :math:`w_i = \pi(a_i \mid x_i) / p_i` and a model q of rewards, every estimator is a
mean of one number for each round, or a ratio of two such means.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.stats import t as student
from sklearn.base import clone
from sklearn.model_selection import KFold
from sklearn.utils import check_consistent_length

from sknk.bandits._arms import positions
from sknk.bandits._choosing import check_started
from sknk.bandits._target import Feedback, feedback_of
from sknk.ridge import NTKRidgeCV

__all__ = [
    "PolicyValue",
    "behind",
    "check_estimator",
    "cross_fitted_rewards",
    "estimate_of",
    "last_of",
    "policy_value",
]


@dataclass(frozen=True)
class PolicyValue:
    """An estimate of a policy's mean reward.

    Attributes
    ----------
    value : float
        In units of rewards.
    std_error : float
        Of the value.
    interval : tuple of float
        Student's, of the confidence asked for.
    n_matched : int
        Rounds whose action the policy plays too, with any probability.
    n_effective : float
        (sum w)^2 / sum w^2: so many rounds of the policy's own would tell as much.
    """

    value: float
    std_error: float
    interval: tuple[float, float]
    n_matched: int
    n_effective: float


@dataclass(frozen=True)
class _Log:
    """Logged rounds beside what a policy would have done."""

    w: np.ndarray
    r: np.ndarray
    share: np.ndarray
    place: np.ndarray
    q: np.ndarray | None

    @property
    def q_played(self) -> np.ndarray:
        assert self.q is not None
        return self.q[np.arange(len(self.r)), self.place]

    @property
    def direct(self) -> np.ndarray:
        """What the model expects of the policy in every round."""
        return (self.share * self.q).sum(axis=1)


def _mean(terms: np.ndarray) -> tuple[float, np.ndarray]:
    return float(terms.mean()), terms


def _ratio(terms: np.ndarray, w: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the ratio of two means, and terms whose mean varies as it does (delta method)."""
    if not w.any():
        return np.nan, np.full(len(w), np.nan)
    value = terms.sum() / w.sum()
    return float(value), value + (terms - value * w) / w.mean()


def _sndr(log: _Log, limit: float) -> tuple[float, np.ndarray]:
    value, terms = _ratio(log.w * (log.r - log.q_played), log.w)
    return float(log.direct.mean() + value), log.direct + terms


_Estimator = Callable[[_Log, float], tuple[float, np.ndarray]]
_ESTIMATORS: dict[str, _Estimator] = {
    "ips": lambda log, limit: _mean(np.minimum(log.w, limit) * log.r),
    "snips": lambda log, limit: _ratio(np.minimum(log.w, limit) * log.r, np.minimum(log.w, limit)),
    "dm": lambda log, limit: _mean(log.direct),
    "dr": lambda log, limit: _mean(log.direct + np.minimum(log.w, limit) * (log.r - log.q_played)),
    "sndr": _sndr,
    "switch": lambda log, limit: _mean(
        log.direct + log.w * (log.w <= limit) * (log.r - log.q_played)
    ),
    "dros": lambda log, limit: _mean(log.direct + _shrunk(log.w, limit) * (log.r - log.q_played)),
}
_BY_MODEL = {"dm", "dr", "sndr", "switch", "dros"}


def _shrunk(w: np.ndarray, limit: float) -> np.ndarray:
    """Return lambda w / (w^2 + lambda), with lambda the square of the limit."""
    if np.isinf(limit):
        return w
    return limit**2 * w / (w**2 + limit**2)


def policy_value(
    policy: Any,
    X: Any,
    y: Any,
    *,
    estimator: str = "snips",
    limit: float = np.inf,
    q: Any = None,
    arms: Any = None,
    confidence: float = 0.95,
) -> PolicyValue:
    r"""Estimate what a policy earns a round, from logged rounds.

    ========  ==============================================================
    "ips"     :math:`\overline{w r}` (Horvitz and Thompson 1952)
    "snips"   :math:`\overline{w r} / \overline w` (Swaminathan, Joachims 2015)
    "dm"      mean of the model's rewards under the policy
    "dr"      "dm" + :math:`\overline{w (r - q)}` (Dudik et al. 2014)
    "sndr"    "dm" + :math:`\overline{w (r - q)} / \overline w`
    "switch"  "dr" with w = 0 above `limit` (Wang et al. 2017)
    "dros"    "dr" with w limit^2 / (w^2 + limit^2) (Su et al. 2020)
    ========  ==============================================================

    Parameters
    ----------
    policy : fitted bandit, or array-like of shape (n, K)
        Its ``predict_proba`` is evaluated, exploration and all; an array is those probabilities,
        columns as `arms` says.
    X : array-like of shape (n, d)
        Contexts of logged rounds that the policy did not learn from.
    y : structured array of shape (n,)
        Of :func:`bandit_target`; without propensities all arms were equally likely.
    estimator : {"ips", "snips", "dm", "dr", "sndr", "switch", "dros"}, default="snips"
        See above.
    limit : float, default=inf
        Largest weight: above it "ips", "snips" and "dr" clip, "switch" switches, "dros" shrinks.
    q : array-like of shape (n, K), estimator or None, default=None
        Rewards a model expects of every arm, columns as of the probabilities; or a regressor,
        fitted crosswise by :func:`cross_fitted_rewards`; None is :class:`~sknk.NTKRidgeCV`.
    arms : array-like of shape (K,), default=None
        Labels of the columns of an array of probabilities; None is the logged actions, sorted. Of
        ``predict_proba``'s they are the policy's ``arms_``, in whatever order these were declared.
    confidence : float, default=0.95
        Of the interval.

    Returns
    -------
    PolicyValue
        Without an interval where no round matches, but for "dm". Intervals are of the rounds that
        happened to be logged; by how much the model of "dm" is wrong is not in them.

    Raises
    ------
    ValueError
        For another estimator, or arrays that do not fit together.

    Examples
    --------
    >>> import numpy as np
    >>> from sknk.bandits import bandit_target, policy_value
    >>> y = bandit_target([0, 1, 0, 1], [1.0, 0.0, 1.0, 1.0], propensity=0.5)
    >>> always_first = np.array([[1.0, 0.0]] * 4)
    >>> policy_value(always_first, np.zeros((4, 1)), y).value
    1.0
    """
    check_estimator(estimator)
    if not limit > 0 or not 0 < confidence < 1:
        raise ValueError(
            f"`limit` is {limit} and `confidence` {confidence}; expected a positive weight, and a "
            "probability between 0 and 1."
        )
    told = feedback_of(y)
    check_consistent_length(X, told.reward)
    share, arms, told = _shares_of(policy, X, told, arms)
    if share.shape != (len(told.reward), len(arms)):
        raise ValueError(
            f"`policy` gives probabilities of shape {share.shape}; expected one for each of "
            f"{len(told.reward)} rounds and {len(arms)} arms."
        )
    if (share < 0).any() or not np.allclose(share.sum(axis=1), 1.0):
        raise ValueError("`policy` gives rows that are no probabilities; expected sums of one.")
    log = _log_of(share, arms, told)
    if estimator in _BY_MODEL:
        log = replace(log, q=_expected(q, X, told, arms, policy))
    value, terms = _ESTIMATORS[estimator](log, limit)
    return estimate_of(value, terms, log.w, confidence, matters=estimator != "dm")


def check_estimator(estimator: str) -> None:
    """Refuse a name that is none of :func:`policy_value`'s.

    Parameters
    ----------
    estimator : str
        As passed.

    Raises
    ------
    ValueError
        If it is none.
    """
    if estimator not in _ESTIMATORS:
        raise ValueError(f"`estimator` is {estimator!r}; expected one of {', '.join(_ESTIMATORS)}.")


def behind(policy: Any, X: Any) -> tuple[Any, Any]:
    """Return contexts as the bandit at the end of a Pipeline sees them, and that bandit.

    Parameters
    ----------
    policy : bandit or Pipeline
        Fitted.
    X : array-like of shape (n, d)
        Contexts.

    Returns
    -------
    X : array-like
    policy : bandit
    """
    several = hasattr(policy, "steps") and len(policy) > 1
    return policy[:-1].transform(X) if several else X, last_of(policy)


def last_of(policy: Any) -> Any:
    """Return the bandit that a policy is, or a Pipeline ends in.

    Parameters
    ----------
    policy : bandit or Pipeline

    Returns
    -------
    bandit
    """
    return policy[-1] if hasattr(policy, "steps") else policy


def _shares_of(
    policy: Any, X: Any, told: Feedback, arms: Any
) -> tuple[np.ndarray, np.ndarray, Feedback]:
    """Return probabilities (n, K) of a policy's arms, their labels, and the log by these."""
    if not hasattr(policy, "predict_proba"):
        try:
            share = np.asarray(policy, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"`policy` is a {type(policy).__name__} that holds no numbers; expected a fitted "
                "bandit, or probabilities of all rounds and arms: (action[:, None] == arms) where "
                "it plays `action`."
            ) from error
        return share, np.unique(told.action) if arms is None else np.asarray(arms), told
    Z, final = behind(policy, X)
    check_started(final)
    share, offered = final.predict_proba(Z), final.arms_
    told = final._arms.named(told)
    # What was offered once and is no more is never played: its rounds weigh nothing.
    gone = np.setdiff1d(np.intersect1d(final._arms.every, told.action), offered)
    never = np.zeros((len(share), len(gone)))
    return np.hstack([share, never]), np.concatenate([offered, gone]), told


def _log_of(share: np.ndarray, arms: np.ndarray, told: Feedback) -> _Log:
    whose = f"which the policy does not know; expected one of {arms.tolist()}."
    place = positions(arms, told.action, whose)
    p = 1.0 / len(arms) if told.propensity is None else told.propensity
    return _Log(share[np.arange(len(place)), place] / p, told.reward, share, place, None)


def _expected(q: Any, X: Any, told: Feedback, arms: np.ndarray, policy: Any) -> np.ndarray:
    """Return what a model expects of every arm, (n, K)."""
    if q is None or hasattr(q, "fit"):
        return cross_fitted_rewards(X, told, model=q, arms=arms)
    offered = last_of(policy).arms_ if hasattr(policy, "predict_proba") else arms
    found, wanted = np.asarray(q, dtype=np.float64), (len(told.reward), len(offered))
    if found.shape != wanted:
        raise ValueError(
            f"`q` has shape {found.shape}; expected {wanted}, a reward of every round and arm, "
            f"columns {offered.tolist()}."
        )
    # Arms that are offered no more come last, and have no weight anywhere.
    return np.pad(found, ((0, 0), (0, len(arms) - len(offered))))


def estimate_of(
    value: float, terms: np.ndarray, w: np.ndarray, confidence: float, *, matters: bool = True
) -> PolicyValue:
    """Return a value with its error, from terms whose mean varies as it does.

    Parameters
    ----------
    value : float
        The estimate.
    terms, w : ndarray of shape (n,)
        One of each round, and weights.
    confidence : float
        Of the interval.
    matters : bool, default=True
        Whether there is no interval where no round matches.

    Returns
    -------
    PolicyValue
    """
    n, matched = len(terms), int((w > 0).sum())
    error = float(terms.std(ddof=1) / np.sqrt(n)) if n > 1 else np.nan
    half = float(student.ppf(0.5 + confidence / 2, max(1, n - 1))) * error
    effective = float(w.sum() ** 2 / np.square(w).sum()) if matched else 0.0
    if matters and not matched:
        error = half = np.nan
    return PolicyValue(value, error, (value - half, value + half), matched, effective)


def cross_fitted_rewards(
    X: Any, y: Any, *, model: Any = None, arms: Any = None, n_splits: int = 5
) -> np.ndarray:
    """Return expected rewards of every round and arm, by models that did not see the round.

    A model's rows are contexts followed by one column for each arm, one for the arm that was
    played.

    Parameters
    ----------
    X : array-like of shape (n, d)
        Contexts.
    y : structured array of shape (n,)
        Of :func:`bandit_target`.
    model : regressor or None, default=None
        Cloned for each fold; None is :class:`~sknk.NTKRidgeCV`, O(n^3), which finds how far to
        trust so few rounds of every arm: one ridge for all logs shrinks small ones to nothing.
    arms : array-like of shape (K,) or None, default=None
        Labels of columns; None is the arms that were played, sorted.
    n_splits : int, default=5
        Folds, at most n.

    Returns
    -------
    ndarray of shape (n, K)
        In units of rewards.
    """
    told = y if isinstance(y, Feedback) else feedback_of(y)
    X = np.asarray(X, dtype=np.float64)
    labels = np.unique(told.action) if arms is None else np.asarray(arms)
    positions(labels, told.action, f"which is not in `arms`, {labels.tolist()}.")
    rows = np.hstack([X, (told.action[:, None] == labels).astype(np.float64)])
    model = NTKRidgeCV() if model is None else model
    found = np.empty((len(X), len(labels)))
    for seen, held in KFold(min(n_splits, len(X)), shuffle=True, random_state=0).split(X):
        fitted = clone(model).fit(rows[seen], told.reward[seen])
        for arm, one in enumerate(np.eye(len(labels))):
            asked = np.hstack([X[held], np.tile(one, (len(held), 1))])
            found[held, arm] = fitted.predict(asked)
    return found
