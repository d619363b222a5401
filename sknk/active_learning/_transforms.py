"""Transforms: one inner-product space of rows into another."""

from abc import abstractmethod
from dataclasses import replace

import torch
from sklearn.base import BaseEstimator
from torch import Tensor

from sknk.active_learning._space import Space
from sknk.kernels._algebra import Scale
from sknk.solvers import (
    Cholesky,
    FeatureGram,
    GramOperator,
    KernelGram,
    conditioned,
)

__all__ = ["ACSFeatures", "Posterior", "Rescale", "Sketch", "Transform"]


class Transform(BaseEstimator):
    """Changes the inner products of pool and training rows; applied from left to right."""

    @abstractmethod
    def apply(self, space: Space, generator: torch.Generator) -> Space:
        """Return the rows in another space.

        Parameters
        ----------
        space : Space
            Pool and training rows.
        generator : torch.Generator
            On the CPU, for what is drawn.

        Returns
        -------
        Space
        """


class Rescale(Transform):
    r"""Multiply features by a number, so that a noise variance means the same everywhere.

    .. math:: K \leftarrow f^2 K, \qquad f = \Big(\frac1t \sum_{x \in T} K(x, x)\Big)^{-1/2}

    Parameters
    ----------
    factor : float or None, default=None
        f, dimensionless; None makes the mean over the training rows (over the pool, without any)
        of K(x, x) one.

    Examples
    --------
    >>> from sknk.active_learning import Rescale, select_batch
    >>> select_batch([[3.0], [1.0]], method="maxdiag", batch_size=1, transforms=[Rescale()])
    array([0])
    """

    def __init__(self, factor: float | None = None) -> None:
        self.factor = factor

    def apply(self, space: Space, generator: torch.Generator) -> Space:
        """Return the rows scaled."""
        factor = self.factor
        if factor is None:
            diag = space.gram.diag()
            known = diag[space.train] if len(space.train) else diag[: space.n_pool]
            mean = float(known.mean())
            if not mean > 0:
                raise ValueError(
                    f"The mean of K(x, x) is {mean} over {len(known)} rows; expected a positive "
                    "number. Pass a `factor`."
                )
            factor = mean**-0.5
        gram = space.gram
        if isinstance(gram, FeatureGram):
            return replace(space, gram=gram.mapped(lambda phi: phi * factor, width=gram.width))
        if isinstance(gram, KernelGram):
            return replace(space, gram=KernelGram(Scale(gram.kernel, factor**2), gram.X))
        raise TypeError(
            _refusal(self, gram, "features or a kernel of rows; rescale before the posterior")
        )


class Sketch(Transform):
    r"""Project features at random onto fewer: inner products keep their mean.

    .. math:: z(x) = A^\top \phi(x) / \sqrt p, \qquad A_{ij} \sim N(0, 1)

    Gradients of networks are sketched where they are made:
    ``EmpiricalNTK(net, projection=512, sketch="gaussian")``.

    Parameters
    ----------
    n_components : int, default=512
        p.

    Examples
    --------
    >>> from sknk.active_learning import Sketch, select_batch
    >>> X = [[3.0, 0, 0], [0, 1.0, 0], [2.9, 0, 0]]
    >>> sketch = Sketch(n_components=200)
    >>> select_batch(X, method="maxdet", batch_size=2, transforms=[sketch], random_state=0)
    array([0, 1])
    """

    def __init__(self, n_components: int = 512) -> None:
        self.n_components = n_components

    def apply(self, space: Space, generator: torch.Generator) -> Space:
        """Return the rows with projected features."""
        gram, p = features_of(self, space.gram), self.n_components
        A = _normal((gram.width, p), generator, gram).mul_(p**-0.5)
        return replace(space, gram=gram.mapped(lambda phi: phi @ A, width=p))


class Posterior(Transform):
    r"""Replace the kernel by the covariance given rows that were observed with noise.

    .. math:: C = K - K_{:,G} (K_{GG} + s^2 I)^{-1} K_{G,:}

    Mode "P" of a selector does so with the training rows by itself; this is for other rows, or
    before another transform.

    Parameters
    ----------
    given : {"train", "pool"}, default="train"
        G.
    noise_variance : float or None, default=None
        s2, units of the kernel; None is that of the selection.

    Examples
    --------
    >>> from sknk.active_learning import Posterior, select_batch
    >>> X = [[3.0, 0], [0, 1.0]]
    >>> given = Posterior(noise_variance=0.1)
    >>> select_batch(X, method="maxdiag", batch_size=1, X_train=[[2.0, 0]], transforms=[given])
    array([1])
    """

    def __init__(self, given: str = "train", noise_variance: float | None = None) -> None:
        self.given = given
        self.noise_variance = noise_variance

    def apply(self, space: Space, generator: torch.Generator) -> Space:
        """Return the pool given those rows; training rows are no longer among them."""
        if self.given not in ("train", "pool"):
            raise ValueError(f"`given` of Posterior is {self.given!r}; expected 'train' or 'pool'.")
        noise = space.noise_variance if self.noise_variance is None else self.noise_variance
        if self.given == "train":
            observed = replace(space, noise_variance=noise)
            return replace(space, gram=observed.posterior(targets=True))
        pool = torch.arange(space.n_pool, device=space.gram.device)
        return replace(space, gram=conditioned(space.gram, pool, noise))


class ACSFeatures(Transform):
    r"""Random features of what labels of a row would tell: those of ACS-FW.

    With draws theta_j of the weights of a linear model given the training rows, and v(x) their
    variance of predictions,

    .. math:: \frac{1}{\sqrt p}\Big[\tfrac12 \log\Big(1 + \frac{v}{s^2}\Big)
        - \frac{(\theta_j^\top \phi)^2 + v}{2 s^2}\Big]

    (Pinsler, Gordon, Nalisnick and Hernandez-Lobato 2019, section 4.2, as coded by Holzmueller et
    al. 2023.)

    Parameters
    ----------
    n_components : int, default=512
        p.
    noise_variance : float or None, default=None
        s2, units of the kernel; None is that of the selection.

    Examples
    --------
    >>> from sknk.active_learning import ACSFeatures, select_batch
    >>> X = [[3.0, 0], [0, 1.0], [2.9, 0]]
    >>> acs = ACSFeatures(64, noise_variance=1.0)
    >>> select_batch(X, method="frank-wolfe", batch_size=1, transforms=[acs], random_state=0)
    array([0])
    """

    def __init__(self, n_components: int = 512, noise_variance: float | None = None) -> None:
        self.n_components = n_components
        self.noise_variance = noise_variance

    def apply(self, space: Space, generator: torch.Generator) -> Space:
        """Return the pool with those features; training rows are no longer among them."""
        if space.n_targets:
            raise TypeError(f"{self!r} was given targets; expected none. Drop `X_target`.")
        gram, p = features_of(self, space.gram), self.n_components
        s2 = space.noise_variance if self.noise_variance is None else self.noise_variance
        known = gram.features(space.train)
        L = Cholesky().factorize(known.mT @ known, s2).L
        drawn = _normal((gram.width, p), generator, gram)
        theta = torch.linalg.solve_triangular(L.mT, drawn, upper=True)

        def gains(phi: Tensor) -> Tensor:
            v = torch.linalg.solve_triangular(L, phi.mT, upper=False).square().sum(0)[:, None]
            squares = (phi @ theta).square_().add_(v)
            return (0.5 * torch.log1p(v / s2) - squares.div_(2.0 * s2)).mul_(p**-0.5)

        return replace(space, gram=gram.mapped(gains, width=p, n=space.n_pool))


def _normal(shape: tuple[int, int], generator: torch.Generator, gram: GramOperator) -> Tensor:
    """Draw standard normal numbers on the CPU, so that devices and dtypes agree."""
    drawn = torch.randn(shape, generator=generator, dtype=torch.float64)
    return drawn.to(device=gram.device, dtype=gram.dtype)


def features_of(transform: Transform, gram: GramOperator) -> FeatureGram:
    """Return the operator of rows that have features.

    Parameters
    ----------
    transform : Transform
        That asks.
    gram : GramOperator

    Returns
    -------
    FeatureGram

    Raises
    ------
    TypeError
        If there are no finite ones.
    """
    if isinstance(gram, FeatureGram):
        return gram
    raise TypeError(
        _refusal(transform, gram, "finite features: kernel=None, or one with `projection`")
    )


def _refusal(transform: Transform, gram: GramOperator, expected: str) -> str:
    shown = repr(gram.kernel) if isinstance(gram, KernelGram) else type(gram).__name__
    return f"{transform!r} was given {shown}; expected {expected}."
