"""select_batch: rows of a pool, a method, and which of them to label."""

import warnings
from collections.abc import Iterable
from numbers import Integral
from typing import Any

import numpy as np
import torch
from sklearn.base import clone
from sklearn.utils import check_random_state

from sknk._array import config_of, to_numpy
from sknk.active_learning._candidates import check_candidates
from sknk.active_learning._registry import NAMED
from sknk.active_learning._selectors import Selector
from sknk.active_learning._space import Space
from sknk.active_learning._spaces import Rows, checked_proba, checked_rows, space_of
from sknk.active_learning._transforms import Transform
from sknk.exceptions import NumericalWarning

__all__ = [
    "choose",
    "generator_of",
    "select_batch",
    "selector_of",
]


def select_batch(
    X_pool: Any,
    *,
    method: Any,
    batch_size: int,
    kernel: Any = None,
    X_train: Any = None,
    X_target: Any = None,
    proba: Any = None,
    proba_train: Any = None,
    mode: str = "auto",
    noise_variance: float = 1e-6,
    bonus: Any = None,
    candidates: Any = None,
    transforms: Iterable[Transform] = (),
    random_state: Any = None,
    device: str | None = None,
    dtype: str | None = None,
) -> np.ndarray:
    r"""Choose the rows of a pool that are best labelled next.

    Selectors see rows by their inner products: :math:`k(x, x')` of a kernel, or
    :math:`\phi(x)^\top \phi(x')` where the rows are features themselves. Features of d columns take
    O(b n d) time, and memory for one copy of them where there are training rows or candidates or a
    method needs their posterior ("P"), else for a few numbers a row. Kernels take
    as many of their columns, one at a time, unless a method says otherwise ("bait" sums over all
    pairs of rows).

    Parameters
    ----------
    X_pool : array-like or Tensor of shape (n, d)
        Rows to choose from; features if `kernel` is None, in float32 or float64 as they are.
    method : str or Selector
        How to choose: "random", "maxdiag", "maxdet", "bait", "bait-fb", "frank-wolfe", "maxdist",
        "kmeans++" or "lcmd"; "vtl" by targets; "margin", "entropy", "badge", "fisher-bait",
        "batchbald", "kecor" or "look-ahead" by class probabilities.
    batch_size : int
        How many; clipped to the candidates, with a warning.
    kernel : sknk or scikit-learn kernel, default=None
        The inner product of rows; None takes them as features. An
        :class:`~sknk.kernels.EmpiricalNTK` with a `projection` makes features of them.
    X_train : array-like or Tensor of shape (t, d), default=None
        Rows with labels.
    X_target : array-like or Tensor of shape (J, d), default=None
        Rows whose predictions are judged; "vtl" only.
    proba : array-like of shape (n, C) or (S, n, C), default=None
        Class probabilities of pool rows, for methods that look at them: of a classifier, or under S
        draws of it ("batchbald").
    proba_train : array-like of shape (t, C), default=None
        Those of the rows with labels, for "fisher-bait".
    mode : {"auto", "P", "TP"}, default="auto"
        What they are: "P" chooses by the covariance given the training rows, "TP" by the prior
        covariance, as if they were chosen first. "auto" is "TP" for methods by distances.
    noise_variance : float, default=1e-6
        Noise of labels, positive, units of the kernel.
    bonus : array-like of shape (n,), default=None
        What pool rows are worth beside their variance, units of the kernel; "maxdet" and
        "kecor" only.
    candidates : int, array-like of int or None, default=None
        Pool rows that may be chosen; a number draws so many at random; None is all.
    transforms : iterable of Transform, default=()
        Of the inner products, from left to right.
    random_state : int, RandomState instance or None, default=None
        Of what is drawn.
    device : str or None, default=None
        "auto", a torch device, or None for what is configured (the CPU).
    dtype : {"float32", "float64"} or None, default=None
        Of kernels; None is float64. Features keep theirs.

    Returns
    -------
    ndarray of shape (b,)
        Rows of the pool, in the order of choice.

    Raises
    ------
    ValueError
        For an unknown method (the message lists them), rows that are no finite table, candidates
        that are no distinct rows, probabilities that do not sum to 1, a mode or a bonus that the
        method does not have, or a method without what it needs.

    Warns
    -----
    UserWarning
        If `batch_size` is larger than the candidates are many.
    NumericalWarning
        If the method finds fewer rows that add anything; random ones fill the batch up.

    Examples
    --------
    >>> import numpy as np
    >>> from sknk.active_learning import select_batch
    >>> from sknk.kernels import NTK
    >>> X = np.random.default_rng(0).normal(size=(50, 3))
    >>> select_batch(X[10:], method="lcmd", batch_size=3, kernel=NTK(), X_train=X[:10]).shape
    (3,)
    """
    selector = selector_of(method)
    if not noise_variance > 0:
        raise ValueError(
            f"`noise_variance` is {noise_variance!r}; expected a positive number, in units of "
            "the kernel."
        )
    rng = check_random_state(random_state)
    with config_of(device, dtype):
        pool = checked_rows(X_pool, "X_pool", kernel)
        among = check_candidates(candidates, len(pool), rng)
        worth = _checked_bonus(bonus, selector, len(pool))
        law = checked_proba(proba, len(pool), "proba")
        if among is not None:
            worth = None if worth is None else worth[among]
            law = None if law is None else law[..., among, :]
        train = None if X_train is None else checked_rows(X_train, "X_train", kernel)
        known = _checked_proba_train(proba_train, train, law)
        targets = None if X_target is None else checked_rows(X_target, "X_target", kernel)
        generator = generator_of(rng)
        rows = Rows(pool, train, targets, among, worth, law, known)
        space = space_of(rows, kernel, noise_variance, transforms, generator)
        found = choose(selector, space, batch_size, generator, mode=mode)
    return found if among is None else among[found]


def choose(
    selector: Selector,
    space: Space,
    batch_size: int,
    generator: torch.Generator,
    *,
    mode: str = "auto",
) -> np.ndarray:
    """Return a full batch: what the selector finds, then rows at random.

    Parameters
    ----------
    selector : Selector
    space : Space
        Pool and training rows.
    batch_size : int
        Clipped to the pool.
    generator : torch.Generator
        On the CPU.
    mode : {"auto", "P", "TP"}, default="auto"
        What training rows are.

    Returns
    -------
    ndarray of shape (b,)

    Raises
    ------
    ValueError
        If `batch_size` is no positive number.

    Warns
    -----
    UserWarning
        If the batch is clipped.
    NumericalWarning
        If rows are drawn at random.
    """
    n = space.n_pool
    if not isinstance(batch_size, Integral) or batch_size < 1:
        raise ValueError(f"`batch_size` is {batch_size!r}; expected a whole number of at least 1.")
    if batch_size > n:
        warnings.warn(
            f"`batch_size` is {batch_size} and there are {n} candidates; all of them are returned.",
            stacklevel=3,
        )
    size = min(batch_size, n)
    found = to_numpy(selector.select(space, size, generator, mode=mode))
    if len(found) == size:
        return found
    warnings.warn(
        f"{type(selector).__name__} found {len(found)} rows that add something to those chosen; "
        f"{size - len(found)} more were drawn at random. The pool may repeat rows, its features "
        "may be fewer than the batch, or float32 features may be far from zero: center them.",
        NumericalWarning,
        stacklevel=3,
    )
    others = np.setdiff1d(np.arange(n), found)
    drawn = torch.randperm(len(others), generator=generator).numpy()[: size - len(found)]
    return np.concatenate([found, others[drawn]])


def selector_of(method: Any) -> Selector:
    """Return the selector of a name, or a copy of the one passed.

    Parameters
    ----------
    method : str or Selector

    Returns
    -------
    Selector

    Raises
    ------
    ValueError
        For another name; the message lists them.
    TypeError
        For anything else.
    """
    if isinstance(method, Selector):
        return clone(method)
    names = ", ".join(repr(name) for name in NAMED)
    if not isinstance(method, str):
        raise TypeError(f"`method` is {method!r}; expected a Selector, or one of {names}.")
    if method not in NAMED:
        raise ValueError(f"`method` is {method!r}; expected one of {names}, or a Selector.")
    return NAMED[method]()


def generator_of(rng: np.random.RandomState) -> torch.Generator:
    """Return a private generator of torch, on the CPU."""
    return torch.Generator().manual_seed(int(rng.randint(2**31 - 1)))


def _checked_proba_train(proba: Any, train: Any, law: np.ndarray | None) -> np.ndarray | None:
    """Return class probabilities of training rows, of as many classes as the pool's."""
    if proba is None:
        return None
    if train is None or law is None:
        absent = "X_train" if train is None else "proba"
        raise ValueError(f"`proba_train` is given and `{absent}` is None; expected both or none.")
    P = checked_proba(proba, len(train), "proba_train")
    assert P is not None
    if P.ndim != 2 or P.shape[1] != law.shape[-1]:
        raise ValueError(
            f"`proba_train` has shape {P.shape}; expected ({len(train)}, {law.shape[-1]}), the "
            "classes of `proba`."
        )
    return P


def _checked_bonus(bonus: Any, selector: Selector, n: int) -> np.ndarray | None:
    """Return a number for each pool row, of selectors that take one."""
    if bonus is None:
        return None
    if not selector.takes_bonus:
        able = ", ".join(sorted(name for name, make in NAMED.items() if make().takes_bonus))
        raise ValueError(
            f"{selector!r} takes no `bonus`; expected None. Selectors with one: {able}."
        )
    values = np.asarray(bonus, dtype=np.float64)
    if values.shape != (n,) or not np.isfinite(values).all():
        raise ValueError(
            f"`bonus` has shape {values.shape}; expected a finite number for each of {n} pool rows."
        )
    return values
