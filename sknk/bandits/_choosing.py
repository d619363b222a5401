"""From the law of rewards to an arm: predict, rank, sets, and the law of what is played."""

from abc import abstractmethod
from collections.abc import Callable
from numbers import Integral
from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import _num_samples, check_is_fitted
from torch import Tensor

from sknk._array import to_numpy
from sknk.bandits._arms import Arms
from sknk.bandits._beliefs import Look
from sknk.bandits._target import Feedback, feedback_of

__all__ = ["ChoosingMixin", "check_started", "shares"]

_NUMBERS = 2**24  # of one block of rounds that are judged at once

Oracle = Callable[[np.ndarray, int], Any]


class ChoosingMixin:
    """Choices among the arms of a fitted bandit."""

    arms_: np.ndarray
    _arms: Arms
    _rng: np.random.RandomState

    @abstractmethod
    def _index(self, look: Look) -> Tensor:
        """Return what is largest at the arm to play, (m, n_codes); may draw."""

    def predict(self: Any, X: Any, exploit: bool = False, available: Any = None) -> np.ndarray:
        """Return the arm to play in every round.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Contexts, each judged by what is known now.
        exploit : bool, default=False
            Play the best mean instead of exploring.
        available : None, list of labels or bool array of shape (n, K), default=None
            Arms that may be played, in all rounds or in each; None is all.

        Returns
        -------
        ndarray of shape (n,)
            Labels of ``arms_``; ties are broken at random.

        Raises
        ------
        ValueError
            If no arm is available in a round.
        """
        index = self._by(X, self._mean if exploit else self._index)
        return self.arms_[_largest(self._open(index, available), self._rng)]

    def decision_function(self: Any, X: Any) -> np.ndarray:
        """Return what arms are compared by: bounds, draws or means.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Contexts.

        Returns
        -------
        ndarray of shape (n, K)
            In units of rewards.
        """
        return self._by(X, self._index)

    def predict_reward(self: Any, X: Any, return_std: bool = False) -> Any:
        """Return the expected reward of every arm.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Contexts.
        return_std : bool, default=False
            Also return the standard deviation of the expected reward.

        Returns
        -------
        mean : ndarray of shape (n, K)
            In units of rewards.
        std : ndarray of shape (n, K)
            If `return_std`; noise is not in it.
        """
        if return_std:
            both = self._by(X, lambda look: _stacked(self._mean(look), self._std(look)))
            return both[..., 0], both[..., 1]
        return self._by(X, self._mean)

    def predict_proba(self: Any, X: Any, available: Any = None) -> np.ndarray:
        """Return the probability with which each arm would be played.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Contexts.
        available : None, list of labels or bool array of shape (n, K), default=None
            As in ``predict``.

        Returns
        -------
        ndarray of shape (n, K)
            Rows sum to one.
        """
        return shares(self._open(self._by(X, self._index), available))

    def rank(
        self: Any, X: Any, k: int | None = None, available: Any = None, exploit: bool = False
    ) -> np.ndarray:
        """Return the k arms of the largest scores in every round, the largest first.

        Scores are those of :meth:`decision_function`, which explore; with `exploit`, the means.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Contexts.
        k : int or None, default=None
            How many; None is as many as are available in every round.
        available : None, list of labels or bool array of shape (n, K), default=None
            As in ``predict``.
        exploit : bool, default=False
            As in ``predict``.

        Returns
        -------
        ndarray of shape (n, k)
            Labels.

        Raises
        ------
        ValueError
            If fewer than k arms are available.
        """
        index = self._open(self._by(X, self._mean if exploit else self._index), available)
        k = _fewest(index) if k is None else k
        _check_size(k, index)
        return self.arms_[_ordered(index, self._rng)[:, :k]]

    def select_set(
        self: Any, X: Any, k: int, oracle: Oracle | None = None, available: Any = None
    ) -> np.ndarray:
        """Return the set of k arms to play together in every round (semi-bandit).

        The oracle sees what arms are compared by, bounds (CN-UCB) or draws (CN-TS, Hwang, Chai and
        Oh 2023); every arm of the set is then a row of ``partial_fit``.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Contexts.
        k : int
            Size of sets.
        oracle : callable or None, default=None
            (scores of shape (K,), k) -> k positions in ``arms_``; -inf is the score of an arm that
            is not available. None is the k largest.
        available : None, list of labels or bool array of shape (n, K), default=None
            As in ``predict``.

        Returns
        -------
        ndarray of shape (n, k)
            Labels.

        Raises
        ------
        ValueError
            If fewer than k arms are available, or the oracle returns no such set.
        """
        check_started(self)
        offered = self._arms.offered(available, _num_samples(X))
        _check_size(k, np.where(offered, 0.0, -np.inf))
        index = self._open(self._by(X, lambda look: self._index_of_sets(look, k)), available)
        if oracle is None:
            return self.arms_[_ordered(index, self._rng)[:, :k]]
        return self.arms_[np.stack([_asked(oracle, scores, k) for scores in index])]

    def score(self: Any, X: Any, y: Any) -> float:
        r"""Return the value of the best means' policy, by self-normalized importance weights.

        .. math:: \sum_i w_i r_i / \sum_i w_i, \qquad w_i = \pi(a_i \mid x_i) / p_i

        It says nothing about exploration: see the user guide for what can be tuned by what.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Contexts of logged rounds.
        y : structured array of shape (n,)
            As in ``fit``; without propensities all arms were equally likely.

        Returns
        -------
        float
            In units of rewards; nan if no round played what the policy would.
        """
        told = feedback_of(y)
        share = shares(self._by(X, self._mean))
        place = _places(self._arms, told)
        weight = np.where(place < 0, 0.0, share[np.arange(len(place)), place])
        if told.propensity is not None:
            weight = weight / told.propensity
        return float(np.average(told.reward, weights=weight)) if weight.any() else np.nan

    # --- laws at arms ----------------------------------------------------------------------------

    def _index_of_sets(self, look: Look, k: int) -> Tensor:
        """Return what sets of k arms are chosen by."""
        return self._index(look)

    def _mean(self: Any, look: Look) -> Tensor:
        """Return expected rewards, (m, n_codes), in their units."""
        both, (centre, _) = look.mean(), self._units
        return both[..., 0] + centre * (1.0 - both[..., 1])

    def _std(self: Any, look: Look) -> Tensor:
        return look.variance().sqrt() * self._units[1]

    def _by(self: Any, X: Any, rule: Callable[[Look], Tensor]) -> np.ndarray:
        """Return what a rule says of every round and arm that is offered, (n, K, ...)."""
        check_started(self)
        X = self._checked_contexts(X, reset=False)
        size = max(1, _NUMBERS // (self._arms.n_codes * (1 + self._belief.n_rows)))
        with self._place():
            found = [
                to_numpy(rule(self._look(X[start : start + size])))
                for start in range(0, len(X), size)
            ]
        return np.concatenate(found)[:, self._arms.code].astype(np.float64)

    def _open(self: Any, index: np.ndarray, available: Any) -> np.ndarray:
        """Return scores, -inf where an arm is not available."""
        return np.where(self._arms.offered(available, len(index)), index, -np.inf)


def _stacked(mean: Tensor, std: Tensor) -> Tensor:
    return torch.stack([mean, std], dim=-1)


def _ordered(index: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
    """Return positions from the largest down, equal ones in random order."""
    return np.lexsort((rng.random_sample(index.shape), -index), axis=-1)


def _largest(index: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
    """Return the position of the largest, of equal ones one at random."""
    tied = index == index.max(axis=1, keepdims=True)
    return np.where(tied, rng.random_sample(index.shape), -1.0).argmax(axis=1)


def check_started(policy: Any) -> None:
    """Refuse a policy that knows neither its arms nor how many features contexts have.

    Parameters
    ----------
    policy : bandit
        As passed.

    Raises
    ------
    NotFittedError
        If it was neither fitted nor initialized.
    """
    what = (
        "This %(name)s has not begun; call `fit` with logged rounds, or `initialize` without any."
    )
    check_is_fitted(policy, "arms_", msg=what)


def shares(index: np.ndarray) -> np.ndarray:
    """Return one for the largest of each row, shared among equal ones.

    Parameters
    ----------
    index : ndarray of shape (n, K, ...)
        What arms are compared by.

    Returns
    -------
    ndarray of the shape of `index`
        Sums over K are one.
    """
    tied = index == index.max(axis=1, keepdims=True)
    return tied / tied.sum(axis=1, keepdims=True)


def _fewest(index: np.ndarray) -> int:
    """Return how many arms are available in the round that has the fewest."""
    return int((~np.isneginf(index)).sum(axis=1).min())


def _check_size(k: int, index: np.ndarray) -> None:
    fewest = _fewest(index)
    if not isinstance(k, Integral) or not 1 <= k <= fewest:
        raise ValueError(
            f"`k` is {k!r}; expected a whole number, 1 to {fewest}, the arms that are available."
        )


def _asked(oracle: Oracle, scores: np.ndarray, k: int) -> np.ndarray:
    """Return what an oracle chooses."""
    found = np.asarray(oracle(scores, k))
    good = found.shape == (k,) and found.dtype.kind in "iu" and len(np.unique(found)) == k
    if (
        not good
        or found.min() < 0
        or found.max() >= len(scores)
        or np.isneginf(scores[found]).any()
    ):
        raise ValueError(
            f"`oracle` returned {found.tolist()}; expected {k} different positions of available "
            f"arms, from 0 to {len(scores) - 1}."
        )
    return found


def _places(arms: Arms, told: Feedback) -> np.ndarray:
    """Return positions of what was played among the arms that are offered; -1 of those removed."""
    place = np.full(arms.n_codes, -1)
    place[arms.code] = np.arange(len(arms.code))
    return place[arms.codes_of(told)]
