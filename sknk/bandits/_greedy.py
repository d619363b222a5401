"""The bandit of best means and chance."""

from collections.abc import Callable
from numbers import Real
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.utils import Tags
from torch import Tensor

from sknk._array import as_tensor
from sknk._validation import Interval
from sknk.bandits._base import KernelBandit
from sknk.bandits._beliefs import Look
from sknk.bandits._choosing import shares

__all__ = ["NTKEpsilonGreedy"]


class NTKEpsilonGreedy(KernelBandit):
    r"""Contextual bandit that plays the best mean, and with probability epsilon any arm.

    The mean is kernel ridge regression's, of :class:`NTKUCB`.

    Parameters
    ----------
    kernel : kernel or None, default=None
        As of :class:`NTKUCB`.
    epsilon : float or callable, default=0.05
        Probability of an arm at random; a callable takes the round, from 1.
    noise_variance : float, default=0.01
        lambda, variance of a reward around its mean; as of :class:`NTKUCB`.
    encoding : {"joint", "disjoint", "features", "columns"}, default="joint"
        How contexts and arms are put together, as of :class:`NTKUCB`.
    actions : array-like of shape (K,) or None, default=None
        Labels of all arms; None is those that ``fit`` sees.
    arm_features : array-like of shape (K, p) or None, default=None
        For ``encoding="features"``, in the order of ``arms_``.
    normalize_reward : bool, default=True
        Judge rewards in standard deviations around their mean, as :class:`NTKUCB` does.
    memory : int, float or None, default=None
        How old rounds fade, as of :class:`NTKUCB`.
    budget : int or None, default=None
        Rounds that are kept exactly, as of :class:`NTKUCB`.
    random_state : int, RandomState instance or None, default=None
        Of exploration, and breaks ties.
    device : str or None, default=None
        "auto", a torch device, or None for what is configured (the CPU).
    dtype : {"float32", "float64"} or None, default=None
        Of kernels; None is float64.

    Attributes
    ----------
    epsilon_ : float
        Probability in the round that comes.
    arms_ : ndarray of shape (K,)
        Labels of arms.
    information_gain_ : float
        What the rounds told, in nats.
    n_rounds_ : int
        Rounds learned from.
    n_features_in_ : int
        Features seen in ``fit``.
    feature_names_in_ : ndarray of str
        Their names, where the rows had names.

    See Also
    --------
    NTKUCB : Explores where it knows little.

    Examples
    --------
    >>> import numpy as np
    >>> from sknk.bandits import NTKEpsilonGreedy, bandit_target
    >>> policy = NTKEpsilonGreedy(epsilon=0.2, random_state=0)
    >>> policy = policy.fit(np.eye(2), bandit_target(["a", "b"], [1.0, 0.0]))
    >>> policy.predict_proba([[1.0, 0.0]])
    array([[0.9, 0.1]])
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **KernelBandit._parameter_constraints,
        "epsilon": [Interval(Real, 0, 1, closed="both"), Callable],
    }

    def __init__(
        self,
        kernel: Any = None,
        *,
        epsilon: float | Callable[[int], float] = 0.05,
        noise_variance: float = 0.01,
        encoding: str = "joint",
        actions: Any = None,
        arm_features: Any = None,
        normalize_reward: bool = True,
        memory: int | float | None = None,
        budget: int | None = None,
        random_state: Any = None,
        device: str | None = None,
        dtype: str | None = None,
    ) -> None:
        self.kernel = kernel
        self.epsilon = epsilon
        self.noise_variance = noise_variance
        self.encoding = encoding
        self.actions = actions
        self.arm_features = arm_features
        self.normalize_reward = normalize_reward
        self.memory = memory
        self.budget = budget
        self.random_state = random_state
        self.device = device
        self.dtype = dtype

    @property
    def epsilon_(self) -> float:
        """The probability of an arm at random in the round that comes."""
        t = self.n_rounds_ + 1
        found = float(self.epsilon(t)) if callable(self.epsilon) else float(self.epsilon)
        if not 0 <= found <= 1:
            raise ValueError(f"`epsilon` returned {found} in round {t}; expected a probability.")
        return found

    def decision_function(self, X: Any) -> np.ndarray:
        """Return the means that arms are compared by.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Contexts.

        Returns
        -------
        ndarray of shape (n, K)
            In units of rewards.
        """
        return self._by(X, self._mean)

    def predict_proba(self, X: Any, available: Any = None) -> np.ndarray:
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
        mean = self._open(self._by(X, self._mean), available)
        epsilon, open_ = self.epsilon_, np.isfinite(mean)
        return (1 - epsilon) * shares(mean) + epsilon * open_ / open_.sum(axis=1, keepdims=True)

    def _index(self, look: Look) -> Tensor:
        mean = self._mean(look)
        explores = self._rng.random_sample(len(mean)) < self.epsilon_
        chance = as_tensor(self._rng.random_sample(tuple(mean.shape)), mean.device, mean.dtype)
        return torch.where(torch.as_tensor(explores, device=mean.device)[:, None], chance, mean)

    def __sklearn_tags__(self) -> Tags:
        """Choose by chance."""
        tags = super().__sklearn_tags__()
        tags.non_deterministic = True
        return tags
