"""to_skactiveml: our selectors in active-learning cycles written with scikit-activeml."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from sknk.active_learning import Transform

__all__ = ["to_skactiveml"]


def to_skactiveml(
    selector: Any,
    *,
    kernel: Any = None,
    transforms: Iterable[Transform] = (),
    mode: str = "auto",
    noise_variance: float | None = None,
    missing_label: Any = np.nan,
    random_state: Any = None,
    device: str | None = None,
    dtype: str | None = None,
) -> Any:
    r"""Return a scikit-activeml query strategy that chooses as `selector`.

    It stands wherever one of scikit-activeml's own for a single annotator does: in its cycles,
    its wrappers and its plots. A query is :func:`~sknk.active_learning.select_batch` on the
    candidates, rows with labels as training rows; its cost is that of the selector, and of fitting
    the estimator where one is passed.

    Parameters
    ----------
    selector : str or Selector
        As `method` of :func:`~sknk.active_learning.select_batch`; "auto" is "bait" for ridges and
        Gaussian processes with their own kernel, "lcmd" otherwise.
    kernel : kernel, str or None, default=None
        Inner product of rows. None is the own kernel of the estimator that ``query`` is given, as
        in :class:`~sknk.active_learning.BatchActiveLearner`; without one, rows are features.
        Names of kernels are those of the learner.
    transforms : iterable of Transform, default=()
        Of the inner products, from left to right.
    mode : {"auto", "P", "TP"}, default="auto"
        What rows with labels are, as in :func:`~sknk.active_learning.select_batch`.
    noise_variance : float or None, default=None
        Noise of labels, units of the kernel. None is a ridge's `alpha`, a Gaussian process's noise
        over its amplitude, 1e-6 for others and without an estimator.
    missing_label : float, str, int or None, default=nan
        What stands for no label.
    random_state : int, RandomState instance or None, default=None
        Of what is drawn. With a number, a query depends on it and on how many rows have no label.
    device : str or None, default=None
        "auto", a torch device, or None for what is configured (the CPU).
    dtype : {"float32", "float64"} or None, default=None
        Of kernels; None is float64. Features keep theirs.

    Returns
    -------
    skactiveml.base.SingleAnnotatorPoolQueryStrategy
        Its ``query(X, y, reg=None, fit_reg=True, clf=None, fit_clf=True, sample_weight=None,
        candidates=None, X_eval=None, batch_size=1, return_utilities=False)`` is scikit-activeml's.
        Candidates are the rows without a label, numbers of rows, or rows; utilities are the
        selector's own measure, nan for rows that were no candidates or chosen before. `reg` or
        `clf` is a regressor or classifier of scikit-activeml: in a ``SklearnRegressor`` or
        ``SklearnClassifier``, rows are compared behind the transformers of a Pipeline. A copy is
        fitted to the rows with labels, unless `fit_reg` or `fit_clf` is False. Selectors by class
        probabilities need `clf`; "vtl" judges predictions at `X_eval`, at `X` if it is None.

    Raises
    ------
    ImportError
        If scikit-activeml is not installed.
    TypeError
        If `selector` is neither a name nor a Selector.
    ValueError
        If it is an unknown name.

    See Also
    --------
    sknk.active_learning.BatchActiveLearner : The cycle with nothing but sknk.

    Examples
    --------
    >>> import numpy as np
    >>> from skactiveml.regressor import SklearnRegressor
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sknk import NTKRidge
    >>> from sknk.interop import to_skactiveml
    >>> X, y = load_diabetes(return_X_y=True)
    >>> known = np.where(np.arange(len(y)) < 20, y, np.nan)
    >>> model = SklearnRegressor(make_pipeline(StandardScaler(), NTKRidge(alpha=0.5)))
    >>> strategy = to_skactiveml("bait", random_state=0)
    >>> rows = strategy.query(X, known, reg=model, batch_size=10)
    >>> known[rows] = y[rows]
    >>> int(np.isfinite(known).sum())
    30
    """
    from sknk.interop._skactiveml_strategy import SelectorStrategy, named_selector

    named_selector(selector)  # a wrong name fails here and not in the first query
    return SelectorStrategy(
        selector,
        kernel=kernel,
        transforms=transforms,
        mode=mode,
        noise_variance=noise_variance,
        missing_label=missing_label,
        random_state=random_state,
        device=device,
        dtype=dtype,
    )
