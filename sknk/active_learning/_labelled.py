"""LabelledNTKSelector: which rows with labels a network can do without, and which contradict."""

from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from sknk._array import as_tensor, compute_device, config_of, row_dtype, to_numpy
from sknk._estimator import PLACE_CONSTRAINTS, unchanged_on_error
from sknk._progress import progress
from sknk._validation import Interval, StrOptions, fit_context, validate_data
from sknk.active_learning._base_kernels import networks_of
from sknk.exceptions import NonFiniteGradientError
from sknk.kernels import EmpiricalNTK
from sknk.kernels._empirical._choice import IMPLEMENTATIONS
from sknk.kernels._empirical._module import duplicate, unwrap
from sknk.networks._base import BaseNetwork
from sknk.solvers import farthest_point_clusters

__all__ = ["LabelledNTKSelector"]


class LabelledNTKSelector(BaseEstimator):
    r"""Keep the rows of each class that teach a network different things; drop what is repeated.

    .. math:: \mathrm{lpNTK}((x, y), (x', y')) = \frac{1}{O^2}\, s(y)^\top \Theta(x, x')\, s(y'),
        \qquad s_k(y) = \begin{cases} 1 & k = y \\ -1 & k \ne y \end{cases}

    with the tangent kernel Theta, (O, O), of a network of O outputs (Guo, Ren, Albrecht and Smith
    2024, equation 5). Large entries mean rows that teach the same, those near zero rows that have
    nothing to do with each other, negative ones rows that contradict. The N_c rows of each class
    are clustered around round(`keep` N_c) of them by farthest points
    (:func:`sknk.solvers.farthest_point_clusters`), and those are kept: the rows that are dropped
    are the most interchangeable ones.

    Wrong labels are unlike their class, so they are kept, and among the last in `mean_similarity_`:
    look at these first. Within a class the part of the last layer, the inner product of its inputs
    over O, is positive behind a ReLU, so that hardly any mean is negative there: order rows by it.

    Parameters
    ----------
    module : nn.Module, object with a ``module_``, or NetworkClassifier
        A trained network with an output for each class, such as a fitted skorch net; of several
        networks the first. Never changed; ``fit`` trains nothing.
    keep : float, default=0.9
        Part of each class that is kept, 0 to 1, at least one row. Dimensionless.
    params : None, str, collection of str, or callable, default=None
        The parameters that are differentiated, as in :class:`sknk.kernels.EmpiricalNTK`.
    implementation : str, default="auto"
        As in :class:`sknk.kernels.EmpiricalNTK`.
    chunk_size : int or None, default=None
        Rows of one pass.
    input_shape : tuple of int or None, default=None
        Shape of one input that a row holds.
    input_dtype : str, torch.dtype or None, default=None
        Integer dtype of inputs that are codes.
    verbose : int or bool, default=0
        Show a progress bar of classes.
    device : str or None, default=None
        "auto", a torch device, or None for what is configured (the CPU).
    dtype : {"float32", "float64"} or None, default=None
        None computes in float64 whatever the input.

    Attributes
    ----------
    support_ : ndarray of bool of shape (n,)
        Which rows are kept.
    heads_ : ndarray of int of shape (n_clusters,)
        These rows, by cluster, in the order of choice within a class.
    labels_ : ndarray of int of shape (n,)
        Cluster of each row, no two classes in one: row i can be replaced by
        ``heads_[labels_[i]]``.
    mean_similarity_ : ndarray of shape (n,)
        Mean lpNTK of each row and the others of its class; 0 for the only row of one. Units of
        the outputs squared.
    classes_ : ndarray of shape (C,)
        Labels in the order of the outputs: those of a fitted classifier; else 0 to O - 1 where all
        labels are among them, else O others, sorted.
    n_features_in_ : int
        Columns seen in ``fit``.
    feature_names_in_ : ndarray of str
        Their names, where the rows had names.

    See Also
    --------
    sknk.kernels.EmpiricalNTK.labelled : The kernel itself, also between classes.
    sknk.attribution.find_label_errors : Wrong labels by attribution.

    Notes
    -----
    One backward pass for each row, then O(N_c^2 width) time and 8 N_c^2 bytes for each class, one
    after another: no similarity of rows of different classes is computed.

    References
    ----------
    .. [1] S. Guo, Y. Ren, S. V. Albrecht and K. Smith, "lpNTK: better generalisation with less data
       via sample interaction during learning", ICLR 2024.

    Examples
    --------
    >>> from functools import partial
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.preprocessing import scale
    >>> from sknk.active_learning import LabelledNTKSelector
    >>> from sknk.networks import NetworkClassifier, TangentMLP
    >>> X, y = load_iris(return_X_y=True)
    >>> X = scale(X)
    >>> small = partial(TangentMLP, hidden=(32,))
    >>> net = NetworkClassifier(small, max_epochs=40, random_state=0).fit(X, y)
    >>> selector = LabelledNTKSelector(net, keep=0.8).fit(X, y)
    >>> X[selector.support_].shape
    (120, 4)
    >>> suspects = selector.mean_similarity_.argsort()[:10]
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "module": "no_validation",
        "keep": [Interval(Real, 0, 1, closed="right")],
        "params": "no_validation",
        "implementation": [StrOptions({"auto", *IMPLEMENTATIONS})],
        "chunk_size": [None, Interval(Integral, 1, None, closed="left")],
        "input_shape": [None, tuple, list],
        "input_dtype": "no_validation",
        "verbose": ["verbose"],
        **PLACE_CONSTRAINTS,
    }

    def __init__(
        self,
        module: Any,
        *,
        keep: float = 0.9,
        params: Any = None,
        implementation: str = "auto",
        chunk_size: int | None = None,
        input_shape: tuple[int, ...] | None = None,
        input_dtype: Any = None,
        verbose: int | bool = 0,
        device: str | None = None,
        dtype: str | None = None,
    ) -> None:
        self.module = module
        self.keep = keep
        self.params = params
        self.implementation = implementation
        self.chunk_size = chunk_size
        self.input_shape = input_shape
        self.input_dtype = input_dtype
        self.verbose = verbose
        self.device = device
        self.dtype = dtype

    def __sklearn_clone__(self) -> Self:
        """Copy the network as it is; scikit-learn would undo its training."""
        params = self.get_params(deep=False)
        return type(self)(**{**params, "module": duplicate(self.module)})

    def __sklearn_tags__(self) -> Any:
        """Say that labels are needed."""
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any) -> Self:
        """Cluster the rows of each class.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Rows, as the network takes them.
        y : array-like of shape (n,)
            Their labels.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For labels that are no outputs of the network, or rows that it does not take.
        NonFiniteGradientError
            For a row where a gradient is not finite.
        MemoryBudgetError
            If the similarities of a class do not fit.
        """
        follow = X.device.type if isinstance(X, Tensor) and X.device.type != "cpu" else None
        with unchanged_on_error(self), config_of(self.device or follow, self.dtype):
            X, y = (to_numpy(part) if isinstance(part, Tensor) else part for part in (X, y))
            X, y = validate_data(self, X, y, dtype=np.float64)
            check_classification_targets(y)
            kernel = self._kernel()
            outputs = kernel._rows_and_outputs(X[:1], None)[2]
            known = getattr(self.module, "classes_", None)
            self.classes_, codes = _outputs_of(y, outputs, known)
            self._cluster(kernel, X, codes)
        return self

    def get_support(self, indices: bool = False) -> np.ndarray:
        """Return which rows are kept: ``X[selector.get_support()]``.

        Parameters
        ----------
        indices : bool, default=False
            Return their numbers, in order, instead of a mask.

        Returns
        -------
        ndarray of bool of shape (n,), or of int
        """
        check_is_fitted(self)
        return np.flatnonzero(self.support_) if indices else self.support_

    def _kernel(self) -> EmpiricalNTK:
        return EmpiricalNTK(
            self._network(),
            kind="pseudo",  # one combination of outputs: one backward pass
            params=self.params,
            implementation=self.implementation,
            chunk_size=self.chunk_size,
            input_shape=self.input_shape,
            input_dtype=self.input_dtype,
        )

    def _network(self) -> nn.Module:
        if isinstance(self.module, BaseNetwork):
            check_is_fitted(self.module)
        return unwrap(next(iter(networks_of(self.module)), self.module))

    def _cluster(self, kernel: EmpiricalNTK, X: np.ndarray, codes: np.ndarray) -> None:
        """Set what is known of the rows, class after class."""
        device = compute_device()
        x = as_tensor(X, device, row_dtype(device))
        self.labels_, self.mean_similarity_ = np.zeros(len(X), dtype=int), np.zeros(len(X))
        heads: list[int] = []
        for code in progress(np.unique(codes), verbose=self.verbose, unit="class"):
            rows = np.flatnonzero(codes == code)
            K = _similarities(kernel, x, rows, codes)
            n_clusters = max(1, round(self.keep * len(rows)))
            chosen, clusters = (to_numpy(t) for t in farthest_point_clusters(K, n_clusters))
            self.labels_[rows] = clusters + len(heads)
            self.mean_similarity_[rows] = to_numpy(_mean_of_others(K))
            heads += rows[chosen].tolist()
        self.heads_ = np.array(heads)
        self.support_ = np.zeros(len(X), dtype=bool)
        self.support_[self.heads_] = True


def _similarities(kernel: EmpiricalNTK, x: Tensor, rows: np.ndarray, codes: np.ndarray) -> Tensor:
    """Return lpNTK of some rows, (m, m)."""
    try:
        return kernel.labelled(x[torch.from_numpy(rows).to(x.device)], codes[rows])
    except NonFiniteGradientError as error:  # which counts from the first row of the class
        raise NonFiniteGradientError(int(rows[error.row]), error.parameter) from error


def _mean_of_others(K: Tensor) -> Tensor:
    """Return the means of rows without the diagonal, (m,)."""
    return (K.sum(1, dtype=torch.float64) - K.diagonal()) / max(1, len(K) - 1)


def _outputs_of(y: np.ndarray, outputs: int, known: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the classes, in the order of the network's outputs, and the output of each label.

    Parameters
    ----------
    y : ndarray of shape (n,)
        Labels.
    outputs : int
        O.
    known : ndarray of shape (C,) or None
        Classes of a classifier that was fitted.

    Returns
    -------
    classes : ndarray of shape (C,)
    codes : ndarray of int of shape (n,)

    Raises
    ------
    ValueError
        If labels are no outputs.
    """
    seen, index = np.unique(y, return_inverse=True)
    classes = seen if known is None else np.asarray(known)
    if len(classes) > outputs:
        raise ValueError(
            f"There are {len(classes)} classes, {classes.tolist()[:5]}, and `module` has {outputs} "
            "output(s); expected an output for each class. Train a network of one logit a class."
        )
    if known is None and set(seen.tolist()) <= set(range(outputs)):
        classes = np.arange(outputs)
    elif known is None and len(seen) < outputs:
        raise ValueError(
            f"`y` has {len(seen)} classes, {seen.tolist()[:5]}, and `module` {outputs} outputs; "
            f"expected labels 0 to {outputs - 1}, or {outputs} others. Pass the numbers of outputs "
            "as labels, or a fitted classifier, which knows them."
        )
    numbers = {label: code for code, label in enumerate(classes.tolist())}
    foreign = [label for label in seen.tolist() if label not in numbers]
    if foreign:
        raise ValueError(
            f"`y` has the label {foreign[0]!r}; expected one of the classes that `module` was "
            f"fitted to, {classes.tolist()[:5]}."
        )
    return classes, np.array([numbers[label] for label in seen.tolist()])[index]
