"""Bandits whose rewards a network predicts."""

import copy
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from sknk._estimator import PLACE_CONSTRAINTS
from sknk._validation import Interval, StrOptions
from sknk.bandits._beliefs import Belief, Look
from sknk.bandits._beta import Schedule
from sknk.bandits._encodings import Blocks, Encoding
from sknk.bandits._neural_beliefs import DiagonalWidths, NeuralBelief, Training, Widths
from sknk.bandits._policies import ConfidentBandit
from sknk.bandits._sampling import DrawingMixin
from sknk.bandits._start import encoding_of
from sknk.kernels import NTK
from sknk.networks import PowerMLP
from sknk.networks._training import seeded

__all__ = ["NeuralTS", "NeuralUCB"]

_ADAM = 1e-3


class _NeuralBandit(ConfidentBandit):
    """A bandit of a network's outputs and gradients."""

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "module": "no_validation",
        **{
            name: ConfidentBandit._parameter_constraints[name]
            for name in ("beta", "noise_variance", "norm_bound", "noise_scale", "delta")
        },
        "width": [StrOptions({"exact", "diagonal"})],
        "gradients": [StrOptions({"current", "initial"})],
        "encoding": [StrOptions({"joint", "features", "columns"})],
        "actions": "no_validation",
        "arm_features": "no_validation",
        "normalize_reward": ["boolean"],
        "retrain_every": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [None, Interval(Real, 0, None, closed="neither")],
        "max_epochs": [Interval(Integral, 0, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
        **PLACE_CONSTRAINTS,
    }

    memory = None
    budget = None

    module: Any
    width: str
    gradients: str
    retrain_every: int
    learning_rate: float | None
    max_epochs: int
    batch_size: int

    def __init__(
        self,
        module: Any = None,
        *,
        beta: Schedule = 1.0,
        width: str = "exact",
        gradients: str = "current",
        noise_variance: float = 0.1,
        encoding: str = "joint",
        actions: Any = None,
        arm_features: Any = None,
        normalize_reward: bool = True,
        retrain_every: int = 20,
        learning_rate: float | None = None,
        max_epochs: int = 50,
        batch_size: int = 64,
        norm_bound: float = 1.0,
        noise_scale: float = 0.5,
        delta: float = 0.1,
        random_state: Any = None,
        device: str | None = None,
        dtype: str | None = None,
    ) -> None:
        self.module = module
        self.beta = beta
        self.width = width
        self.gradients = gradients
        self.noise_variance = noise_variance
        self.encoding = encoding
        self.actions = actions
        self.arm_features = arm_features
        self.normalize_reward = normalize_reward
        self.retrain_every = retrain_every
        self.learning_rate = learning_rate
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.norm_bound = norm_bound
        self.noise_scale = noise_scale
        self.delta = delta
        self.random_state = random_state
        self.device = device
        self.dtype = dtype

    @property
    def module_(self) -> nn.Module:
        """The network after its last training."""
        known = self._known
        assert isinstance(known, NeuralBelief)
        return known.module

    def _start(self, X: Tensor, n_arms: int, Z: np.ndarray | None, like: Tensor) -> Belief:
        unused = NTK()  # networks see rows: the kernel is theirs
        if self.encoding == "joint":
            encoding: Encoding = Blocks(unused, n_arms)
        else:
            encoding = encoding_of(self.encoding, unused, X, n_arms, Z)
        none = torch.arange(0, device=X.device)
        n_inputs = encoding.pairs(X[:0], none).rows.shape[1]
        seed = int(self._rng.randint(2**31 - 1))
        module = self._made(n_inputs, seed).to(like)
        kind = DiagonalWidths if self.width == "diagonal" else Widths
        widths = kind(encoding, n_arms, float(self.noise_variance))
        rate = self.learning_rate
        rate = float(getattr(module, "learning_rate", _ADAM)) if rate is None else rate
        sizes = self.max_epochs, self.batch_size
        training = Training(
            self.retrain_every, self.noise_variance, rate, *sizes, seed, self.normalize_reward
        )
        current = self.gradients == "current"
        return NeuralBelief.empty(module, widths, current, training, X[:0], like)

    def _made(self, n_inputs: int, seed: int) -> nn.Module:
        """Return the first weights."""
        if self.module is not None and not callable(self.module):
            raise ValueError(
                f"`module` is {self.module!r}; expected a torch module, or a function that returns "
                "one for numbers of inputs and outputs."
            )
        with seeded(seed, torch.empty(0)):
            if isinstance(self.module, nn.Module):
                made = copy.deepcopy(self.module)
            else:
                made = (PowerMLP if self.module is None else self.module)(n_inputs, 1)
        found = tuple(made.eval()(torch.zeros(1, n_inputs).to(next(made.parameters()))).shape)
        if found not in ((1,), (1, 1)):
            raise ValueError(
                f"`module` has outputs of shape {found} for a row of {n_inputs}; expected one "
                "number, the reward."
            )
        return made


class NeuralUCB(_NeuralBandit):
    r"""Contextual bandit of a network's output and the width of its tangent kernel.

    .. math::
        a_t = \operatorname{argmax}_a\; f(x_t, a; \theta) + \beta_t\, \sigma(x_t, a), \qquad
        \sigma^2 = \lambda\, g^\top (\lambda I + \textstyle\sum_i g_i g_i^\top)^{-1} g

    with gradients g of the output (Zhou, Li and Gu 2020). Widths are exact, in kernel form: t x t
    in place of one row for every weight. With ``gradients="initial"`` it is NN-UCB (Kassraie and
    Krause 2022), whose widths are the Gaussian process's of the network as it began.

    Parameters
    ----------
    module : nn.Module, callable or None, default=None
        A module starts from its weights; a class or function is called with the numbers of inputs
        and outputs. None is :class:`~sknk.networks.PowerMLP`, which starts as zero.
    beta : float, "theory", "gp-ucb" or callable, default=1.0
        Factor of widths, as of :class:`NTKUCB`.
    width : {"exact", "diagonal"}, default="exact"
        "diagonal" keeps the diagonal of the matrix alone, as published code does.
    gradients : {"current", "initial"}, default="current"
        Of the network as it is, after every training judged anew, or as it began.
    noise_variance : float, default=0.1
        lambda: of rewards around their mean, and the pull towards the first weights; in units of
        the variance of rewards if `normalize_reward`.
    encoding : {"joint", "features", "columns"}, default="joint"
        How contexts and arms are put together, as of :class:`NTKUCB`; blocks are made here.
    actions : array-like of shape (K,) or None, default=None
        Labels of all arms; None is those that ``fit`` sees.
    arm_features : array-like of shape (K, p) or None, default=None
        For ``encoding="features"``, in the order of ``arms_``.
    normalize_reward : bool, default=True
        Train on rewards in standard deviations around their mean, both of all rounds so far, so
        that `beta`, `noise_variance` and `learning_rate` suit rewards of any unit. False trains on
        them as they are, as published.
    retrain_every : int, default=20
        Rounds between trainings, each of all rounds so far.
    learning_rate : float or None, default=None
        Of Adam; None is the module's attribute of that name, else 0.001.
    max_epochs : int, default=50
        Passes over the rounds.
    batch_size : int, default=64
        Most rounds of a step.
    norm_bound : float, default=1.0
        B, for "theory", as of :class:`NTKUCB`.
    noise_scale : float, default=0.5
        R, for "theory".
    delta : float, default=0.1
        Probability with which the bounds of "theory" and "gp-ucb" may fail.
    random_state : int, RandomState instance or None, default=None
        Of first weights, training and draws.
    device : str or None, default=None
        "auto", a torch device, or None for what is configured (the CPU).
    dtype : {"float32", "float64"} or None, default=None
        Of weights and kernels; None is float64.

    Attributes
    ----------
    arms_ : ndarray of shape (K,)
        Labels of arms.
    module_ : nn.Module
        After its last training.
    beta_ : float
        Factor in the round that comes.
    information_gain_ : float
        What the rounds told, in nats, by the widths.
    n_rounds_ : int
        Rounds learned from.
    n_features_in_ : int
        Features seen in ``fit``.
    feature_names_in_ : ndarray of str
        Their names, where the rows had names.

    See Also
    --------
    NTKUCB : The infinitely wide network, with nothing to train.

    Examples
    --------
    >>> from sknk.bandits import NeuralUCB, simulate, synthetic_problem
    >>> rounds = synthetic_problem("h2", n_rounds=40, random_state=0)
    >>> simulate(NeuralUCB(max_epochs=10), rounds, random_state=0).regret["policy"].shape
    (1, 40)
    """

    def _index(self, look: Look) -> Tensor:
        return self._mean(look) + self.beta_ * self._std(look)


class NeuralTS(DrawingMixin, _NeuralBandit):
    r"""Contextual bandit that draws rewards around a network's output.

    .. math:: \tilde r_a \sim N(f(x_t, a; \theta), \beta_t^2 \sigma^2(x_t, a))

    with :class:`NeuralUCB`'s widths, every arm by itself (Zhang, Zhou, Li and Gu 2021); for sets
    the largest of several draws counts (Hwang, Chai and Oh 2023, CN-TS).

    Parameters
    ----------
    module : nn.Module, callable or None, default=None
        A module starts from its weights; a class or function is called with the numbers of inputs
        and outputs. None is :class:`~sknk.networks.PowerMLP`, which starts as zero.
    beta : float, "theory", "gp-ucb" or callable, default=1.0
        Factor of widths, as of :class:`NTKUCB`.
    width : {"exact", "diagonal"}, default="exact"
        "diagonal" keeps the diagonal of the matrix alone, as published code does.
    gradients : {"current", "initial"}, default="current"
        Of the network as it is, after every training judged anew, or as it began.
    noise_variance : float, default=0.1
        lambda: of rewards around their mean, and the pull towards the first weights; in units of
        the variance of rewards if `normalize_reward`.
    encoding : {"joint", "features", "columns"}, default="joint"
        How contexts and arms are put together, as of :class:`NTKUCB`; blocks are made here.
    actions : array-like of shape (K,) or None, default=None
        Labels of all arms; None is those that ``fit`` sees.
    arm_features : array-like of shape (K, p) or None, default=None
        For ``encoding="features"``, in the order of ``arms_``.
    normalize_reward : bool, default=True
        Train on rewards in standard deviations around their mean, both of all rounds so far, so
        that `beta`, `noise_variance` and `learning_rate` suit rewards of any unit. False trains on
        them as they are, as published.
    retrain_every : int, default=20
        Rounds between trainings, each of all rounds so far.
    learning_rate : float or None, default=None
        Of Adam; None is the module's attribute of that name, else 0.001.
    max_epochs : int, default=50
        Passes over the rounds.
    batch_size : int, default=64
        Most rounds of a step.
    norm_bound : float, default=1.0
        B, for "theory", as of :class:`NTKUCB`.
    noise_scale : float, default=0.5
        R, for "theory".
    delta : float, default=0.1
        Probability with which the bounds of "theory" and "gp-ucb" may fail.
    random_state : int, RandomState instance or None, default=None
        Of first weights, training and draws.
    device : str or None, default=None
        "auto", a torch device, or None for what is configured (the CPU).
    dtype : {"float32", "float64"} or None, default=None
        Of weights and kernels; None is float64.

    Attributes
    ----------
    arms_ : ndarray of shape (K,)
        Labels of arms.
    module_ : nn.Module
        After its last training.
    beta_ : float
        Factor in the round that comes.
    information_gain_ : float
        What the rounds told, in nats, by the widths.
    n_rounds_ : int
        Rounds learned from.
    n_features_in_ : int
        Features seen in ``fit``.
    feature_names_in_ : ndarray of str
        Their names, where the rows had names.

    See Also
    --------
    NTKThompsonSampling : The infinitely wide network, with nothing to train.

    Examples
    --------
    >>> import numpy as np
    >>> from sknk.bandits import NeuralTS, bandit_target
    >>> y = bandit_target([0, 1, 1], [1.0, 0.0, 1.0])
    >>> NeuralTS(random_state=0).fit(np.eye(3), y).predict_reward(np.eye(3)).shape
    (3, 2)
    """

    draws = "independent"
    optimism = "auto"
