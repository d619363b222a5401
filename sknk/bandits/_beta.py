r"""How far above its mean an arm is judged: schedules of beta in mean + beta std."""

import math
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Confidence", "Schedule", "beta_of", "optimistic_draws"]

Schedule = float | str | Callable[[int, float], float]


@dataclass(frozen=True)
class Confidence:
    """What theory takes as known.

    Attributes
    ----------
    norm_bound : float
        B, of the reward function in the kernel's space.
    noise_scale : float
        R: rewards are R-sub-Gaussian around their mean.
    delta : float
        Probability with which bounds may fail.
    noise_variance : float
        The ridge, lambda.
    """

    norm_bound: float
    noise_scale: float
    delta: float
    noise_variance: float

    def self_normalized(self, information_gain: float) -> float:
        r"""Return B + R (2 (I_t + log 1/delta) / lambda)^1/2, for any lambda > 0.

        With probability 1 - delta it covers the reward function at all contexts and rounds at
        once (Abbasi-Yadkori et al. 2011, theorem 2, in the kernel's space).

        Parameters
        ----------
        information_gain : float
            I_t, of the rounds played.

        Returns
        -------
        float
        """
        spent = 2.0 * (information_gain - math.log(self.delta)) / self.noise_variance
        return self.norm_bound + self.noise_scale * math.sqrt(spent)

    def gp_ucb(self, n_arms: int, t: int) -> float:
        """Return (2 log(K t^2 pi^2 / 6 delta))^1/2 (Srinivas et al. 2012, theorem 1).

        Parameters
        ----------
        n_arms, t : int
            K, and the round that is played, from 1.

        Returns
        -------
        float
        """
        return math.sqrt(2.0 * math.log(n_arms * t**2 * math.pi**2 / (6.0 * self.delta)))


def beta_of(
    beta: Schedule, known: Confidence, n_arms: int, t: int, gain: Callable[[], float]
) -> float:
    """Return the factor of round t.

    Parameters
    ----------
    beta : float, "theory", "gp-ucb" or callable
        As passed.
    known : Confidence
        For the theory.
    n_arms, t : int
        K, and the round, from 1.
    gain : callable
        Returns the information gain so far; called where it is asked for.

    Returns
    -------
    float
        Not negative.

    Raises
    ------
    ValueError
        If a callable returns what is no factor.
    """
    if beta == "theory":
        return known.self_normalized(gain())
    if beta == "gp-ucb":
        return known.gp_ucb(n_arms, t)
    if not callable(beta):
        return float(beta)
    found = float(beta(t, gain()))
    if not 0 <= found < math.inf:
        raise ValueError(
            f"`beta` returned {found} in round {t}; expected a number from 0, of the round and the "
            "information gain."
        )
    return found


def optimistic_draws(k: int) -> int:
    r"""Return how many draws of k arms make their largest optimistic often enough.

    .. math:: M = \lceil 1 - \log k / \log(1 - p) \rceil, \qquad p = 1 / (4 e \sqrt{\pi})

    (Hwang, Chai and Oh 2023): 1, 15, 28 and 41 for sets of 1, 2, 4 and 8 arms.

    Parameters
    ----------
    k : int
        Arms of a set.

    Returns
    -------
    int

    Examples
    --------
    >>> from sknk.bandits import optimistic_draws
    >>> [optimistic_draws(k) for k in (1, 2, 4, 8)]
    [1, 15, 28, 41]
    """
    p = 1.0 / (4.0 * math.e * math.sqrt(math.pi))
    return math.ceil(1.0 - math.log(k) / math.log1p(-p))
