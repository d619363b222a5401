"""The bandit of drawn reward functions."""

from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from sklearn.utils import Tags, _safe_indexing
from sklearn.utils.validation import _num_samples
from torch import Tensor

from sknk._array import as_tensor, to_numpy
from sknk._validation import Interval, StrOptions
from sknk.bandits._beliefs import Look
from sknk.bandits._beta import Schedule, optimistic_draws
from sknk.bandits._choosing import check_started, shares
from sknk.bandits._policies import ConfidentBandit
from sknk.solvers import symmetric_roots

__all__ = ["DrawingMixin", "NTKThompsonSampling"]

_PROBA_DRAWS = 1000
_NUMBERS = 2**22  # of one block of draws


class DrawingMixin:
    """Plays the best of drawn rewards."""

    draws: str
    optimism: int | str

    def predict_proba(self: Any, X: Any, available: Any = None) -> np.ndarray:
        """Return the probability with which each arm would be played, from 1000 draws.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Contexts.
        available : None, list of labels or bool array of shape (n, K), default=None
            As in ``predict``.

        Returns
        -------
        ndarray of shape (n, K)
            Rows sum to one; the draws are the same in every call.
        """
        check_started(self)
        X, rng = to_numpy(X) if isinstance(X, Tensor) else X, np.random.RandomState(0)
        open_, n_times = self._arms.offered(available, _num_samples(X)), self._n_draws(1)
        size = max(1, _NUMBERS // (_PROBA_DRAWS * n_times * open_.shape[1]))
        found = np.empty(open_.shape)
        for start in range(0, len(open_), size):
            J = slice(start, start + size)
            rows = _safe_indexing(X, J)
            drawn = self._by(rows, lambda look: self._drawn(look, rng, _PROBA_DRAWS * n_times))
            best = drawn.reshape(*drawn.shape[:2], _PROBA_DRAWS, n_times).max(axis=3)
            found[J] = shares(np.where(open_[J, :, None], best, -np.inf)).mean(axis=2)
        return found

    def _index(self: Any, look: Look) -> Tensor:
        return self._index_of_sets(look, 1)

    def _index_of_sets(self: Any, look: Look, k: int) -> Tensor:
        return self._drawn(look, self._rng, self._n_draws(k)).amax(dim=2)

    def _n_draws(self, k: int) -> int:
        return optimistic_draws(k) if self.optimism == "auto" else int(self.optimism)

    def _drawn(self: Any, look: Look, rng: np.random.RandomState, n_draws: int) -> Tensor:
        """Return draws of expected rewards, (m, n_codes, n_draws)."""
        mean = self._mean(look)
        noise = as_tensor(rng.standard_normal((*mean.shape, n_draws)), mean.device, mean.dtype)
        if self.draws == "joint":
            noise = symmetric_roots(look.covariance()) @ noise
        else:
            noise = look.variance().sqrt()[:, :, None] * noise
        return mean[:, :, None] + self.beta_ * self._units[1] * noise

    def __sklearn_tags__(self: Any) -> Tags:
        """Choose by chance."""
        tags = super().__sklearn_tags__()  # type: ignore[misc]
        tags.non_deterministic = True
        return tags


class NTKThompsonSampling(DrawingMixin, ConfidentBandit):
    r"""Contextual bandit that draws a reward function and plays its best arm.

    .. math::
        \tilde f \sim N(\mu, \beta_t^2 \Sigma), \qquad
        a_t = \operatorname{argmax}_a \tilde f(x_t, a)

    with mean and covariance of :class:`NTKUCB` (Chowdhury and Gopalan 2017, GP-TS).

    Parameters
    ----------
    kernel : kernel or None, default=None
        As of :class:`NTKUCB`.
    beta : float, "theory", "gp-ucb" or callable, default=0.3
        Factor of standard deviations of draws, as of :class:`NTKUCB`.
    draws : {"joint", "independent"}, default="joint"
        Of all arms together by their covariance, or of each arm by its variance.
    optimism : int or "auto", default="auto"
        How many draws each arm has, of which the largest counts (Hwang, Chai and Oh 2023, CN-TS).
        "auto" is 1 for a single arm, and :func:`optimistic_draws` for a set.
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
    norm_bound : float, default=1.0
        B, of the reward function in the kernel's space, for "theory"; units of rewards.
    noise_scale : float, default=0.5
        R, for "theory": rewards are R-sub-Gaussian, 1/2 where they lie in [0, 1].
    delta : float, default=0.1
        Probability with which the bounds of "theory" and "gp-ucb" may fail.
    random_state : int, RandomState instance or None, default=None
        Of draws, and breaks ties.
    device : str or None, default=None
        "auto", a torch device, or None for what is configured (the CPU).
    dtype : {"float32", "float64"} or None, default=None
        Of kernels; None is float64.

    Attributes
    ----------
    arms_ : ndarray of shape (K,)
        Labels of arms.
    beta_ : float
        Factor in the round that comes.
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
    NTKUCB : Plays the largest upper confidence bound.

    Examples
    --------
    >>> import numpy as np
    >>> from sknk.bandits import NTKThompsonSampling, bandit_target
    >>> X = np.eye(3)
    >>> y = bandit_target([0, 1, 1], [1.0, 0.0, 1.0], propensity=0.5)
    >>> NTKThompsonSampling(random_state=0).fit(X, y).predict_proba(X).shape
    (3, 2)
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **ConfidentBandit._parameter_constraints,
        "draws": [StrOptions({"joint", "independent"})],
        "optimism": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        kernel: Any = None,
        *,
        beta: Schedule = 0.3,
        draws: str = "joint",
        optimism: int | str = "auto",
        noise_variance: float = 0.01,
        encoding: str = "joint",
        actions: Any = None,
        arm_features: Any = None,
        normalize_reward: bool = True,
        memory: int | float | None = None,
        budget: int | None = None,
        norm_bound: float = 1.0,
        noise_scale: float = 0.5,
        delta: float = 0.1,
        random_state: Any = None,
        device: str | None = None,
        dtype: str | None = None,
    ) -> None:
        self.kernel = kernel
        self.beta = beta
        self.draws = draws
        self.optimism = optimism
        self.noise_variance = noise_variance
        self.encoding = encoding
        self.actions = actions
        self.arm_features = arm_features
        self.normalize_reward = normalize_reward
        self.memory = memory
        self.budget = budget
        self.norm_bound = norm_bound
        self.noise_scale = noise_scale
        self.delta = delta
        self.random_state = random_state
        self.device = device
        self.dtype = dtype
