"""The bandit of upper confidence bounds."""

from collections.abc import Callable
from numbers import Real
from typing import Any, ClassVar

from torch import Tensor

from sknk._validation import Interval, StrOptions
from sknk.bandits._base import KernelBandit
from sknk.bandits._beliefs import Look
from sknk.bandits._beta import Confidence, Schedule, beta_of

__all__ = ["NTKUCB", "ConfidentBandit"]


class ConfidentBandit(KernelBandit):
    """A bandit that goes by standard deviations too."""

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **KernelBandit._parameter_constraints,
        "beta": [
            Interval(Real, 0, None, closed="left"),
            StrOptions({"theory", "gp-ucb"}),
            Callable,
        ],
        "norm_bound": [Interval(Real, 0, None, closed="left")],
        "noise_scale": [Interval(Real, 0, None, closed="left")],
        "delta": [Interval(Real, 0, 1, closed="neither")],
    }

    beta: Schedule
    norm_bound: float
    noise_scale: float
    delta: float

    @property
    def beta_(self) -> float:
        """The factor of standard deviations in the round that comes."""
        t = self.n_rounds_ + 1
        scale = self._units[1]  # standard deviations come in units of rewards
        known = Confidence(
            self.norm_bound / scale, self.noise_scale / scale, self.delta, self.noise_variance
        )
        return beta_of(self.beta, known, len(self.arms_), t, lambda: self.information_gain_)


class NTKUCB(ConfidentBandit):
    r"""Contextual bandit that plays the largest upper confidence bound of a Gaussian process.

    .. math::
        a_t = \operatorname{argmax}_a\; \mu(x_t, a) + \beta_t\, \sigma(x_t, a), \qquad
        \mu = k^\top (K + \lambda I)^{-1} r, \quad
        \sigma^2 = k(x, x) - k^\top (K + \lambda I)^{-1} k

    over pairs of a context and an arm (Kassraie and Krause 2022; Srinivas et al. 2012). A round
    costs O(t^2) where it is judged and O(t) where it is learned; arms in blocks of their own
    ("joint" with kernels without biases, "disjoint") keep a factor each, of their own rounds only.

    Parameters
    ----------
    kernel : kernel or None, default=None
        Of contexts; None is ``Normalized(NTK(depth=2, bias_var=0))``, whose unit diagonal makes
        `beta` and `noise_variance` mean the same at every depth. Contexts of unit norm suit it.
    beta : float, "theory", "gp-ucb" or callable, default=1.0
        Factor of standard deviations, dimensionless. "theory" is the self-normalized bound
        B + R (2 (I_t + log 1/delta) / lambda)^1/2, which holds at all contexts and rounds at once
        where rewards are taken as they are (`normalize_reward` False);
        "gp-ucb" is (2 log(K t^2 pi^2 / 6 delta))^1/2 (Srinivas et al. 2012, theorem 1). A callable
        takes the round, from 1, and the information gain.
    noise_variance : float, default=0.01
        lambda, variance of a reward around its mean; units of the kernel, which are the variance of
        rewards if `normalize_reward`.
    encoding : {"joint", "disjoint", "features", "columns"}, default="joint"
        "joint": x in the block of its arm in R^{K d}, zeros elsewhere (never made); arms learn
        from each other what networks would. "disjoint": arms have nothing in common. "features":
        the kernel sees x followed by the features of the arm. "columns": rounds bring features of
        all arms, those of arm a in the a-th block of columns.
    actions : array-like of shape (K,) or None, default=None
        Labels of all arms; None is those that ``fit`` sees.
    arm_features : array-like of shape (K, p) or None, default=None
        For ``encoding="features"``, in the order of ``arms_``.
    normalize_reward : bool, default=True
        Judge rewards in standard deviations around their mean, both of the rounds so far, so that
        `beta` and `noise_variance` suit rewards of any unit. False takes them as they are.
    memory : int, float or None, default=None
        For rewards that drift: the last so many rounds count, or a power of this number between 0
        and 1 to their age weighs them, until they weigh less than 0.001: so many rounds are
        factorized anew in every round, 700 of them for 0.99, 7000 for 0.999. None is all alike.
    budget : int or None, default=None
        For long horizons: rounds that are kept exactly, and pairs in the dictionary that stands
        for more (Calandriello et al. 2019, BKB). A round then costs O(budget^2), and "theory" holds
        no longer: the information gain is the dictionary's. None keeps all.
    norm_bound : float, default=1.0
        B, of the reward function in the kernel's space, for "theory"; units of rewards.
    noise_scale : float, default=0.5
        R, for "theory": rewards are R-sub-Gaussian, 1/2 where they lie in [0, 1].
    delta : float, default=0.1
        Probability with which the bounds of "theory" and "gp-ucb" may fail.
    random_state : int, RandomState instance or None, default=None
        Breaks ties.
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
    NTKThompsonSampling : Plays a draw's best arm.
    NTKEpsilonGreedy : Plays the best mean, and any arm now and then.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.preprocessing import normalize
    >>> from sknk.bandits import NTKUCB, bandit_target
    >>> X, digit = load_digits(return_X_y=True)
    >>> X = normalize(X)
    >>> policy = NTKUCB(actions=range(10), random_state=0).initialize(64)
    >>> for x, label in zip(X[:100, None], digit[:100]):
    ...     arm = policy.predict(x)
    ...     policy = policy.partial_fit(x, bandit_target(arm, arm == label))
    >>> policy.n_rounds_
    100
    """

    def __init__(
        self,
        kernel: Any = None,
        *,
        beta: Schedule = 1.0,
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

    def _index(self, look: Look) -> Tensor:
        return self._mean(look) + self.beta_ * self._std(look)
