"""Random projections of a torch module's gradients, as a transformer."""

from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from sknk._array import to_numpy
from sknk._estimator import PLACE_CONSTRAINTS, KernelEstimator, unchanged_on_error
from sknk._validation import Interval, StrOptions, fit_context, validate_data
from sknk.kernels import EmpiricalNTK
from sknk.kernels._empirical._choice import IMPLEMENTATIONS
from sknk.kernels._empirical._module import duplicate, inner

__all__ = ["EmpiricalNTKFeatures"]


class EmpiricalNTKFeatures(ClassNamePrefixFeaturesOutMixin, TransformerMixin, KernelEstimator):
    r"""Project the gradients of a torch module to features, whose inner products are its NTK.

    .. math:: z(x) = S^\top \operatorname{vec} J(x) / \sqrt{O}, \qquad
              \mathbb{E}\, z(x)^\top z(x') = K(x, x')

    with S of `n_components` columns of random signs over sqrt(n_components) (Johnson and
    Lindenstrauss 1984; for tangent kernels Engel et al. 2024). Errors fall as n_components^-1/2. A
    linear model on these features is one on the gradients, at a cost linear in rows; the Jacobian
    is never whole.

    Parameters
    ----------
    module : nn.Module, or object with a ``module_``
        As in :class:`sknk.kernels.EmpiricalNTK`; never changed. ``fit`` keeps a copy.
    n_components : int, default=1024
        Features.
    kind : {"trace", "pseudo", "sign"}, default="trace"
        Which tangent kernel they stand for.
    params : None, str, collection of str, or callable, default=None
        The parameters that are differentiated.
    sketch : {"rademacher", "sparse", "gaussian"}, default="rademacher"
        Signs everywhere, four for every parameter, or products of Gaussian sketches of a weight's
        two axes: by far the cheapest, and a little less precise.
    implementation : str, default="auto"
        As in :class:`sknk.kernels.EmpiricalNTK`.
    chunk_size : int or None, default=None
        Rows of one pass.
    input_shape : tuple of int or None, default=None
        Shape of one input that a row holds.
    input_dtype : str, torch.dtype or None, default=None
        Integer dtype of inputs that are codes.
    random_state : int, default=0
        Seed of the signs.
    device : str or None, default=None
        "auto", a torch device, or None for what is configured (the CPU).
    dtype : {"float32", "float64"} or None, default=None
        None computes in float64 whatever the input.

    Attributes
    ----------
    kernel_ : EmpiricalNTK
        The kernel that makes the features, with a copy of the module.
    n_features_in_ : int
        Features seen in ``fit``.
    feature_names_in_ : ndarray of str
        Their names, where the rows had names.

    Raises
    ------
    ValueError
        In ``fit`` and ``transform``, for rows that the module does not take.

    See Also
    --------
    sknk.kernels.EmpiricalNTK : The kernel itself.

    Examples
    --------
    >>> import torch
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import RidgeClassifier
    >>> from sklearn.pipeline import make_pipeline
    >>> from sknk.features import EmpiricalNTKFeatures
    >>> X, y = load_iris(return_X_y=True)
    >>> _ = torch.manual_seed(0)
    >>> net = torch.nn.Sequential(torch.nn.Linear(4, 32), torch.nn.Tanh(), torch.nn.Linear(32, 3))
    >>> model = make_pipeline(EmpiricalNTKFeatures(net, n_components=128), RidgeClassifier())
    >>> model.fit(X, y).score(X, y) > 0.9
    True
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "module": "no_validation",
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "kind": [StrOptions({"trace", "pseudo", "sign"})],
        "params": "no_validation",
        "sketch": [StrOptions({"rademacher", "sparse", "gaussian"})],
        "implementation": [StrOptions({"auto", *IMPLEMENTATIONS})],
        "chunk_size": [None, Interval(Integral, 1, None, closed="left")],
        "input_shape": [None, tuple, list],
        "input_dtype": "no_validation",
        "random_state": [Integral],
        **PLACE_CONSTRAINTS,
    }

    def __init__(
        self,
        module: Any,
        n_components: int = 1024,
        *,
        kind: str = "trace",
        params: Any = None,
        sketch: str = "rademacher",
        implementation: str = "auto",
        chunk_size: int | None = None,
        input_shape: tuple[int, ...] | None = None,
        input_dtype: Any = None,
        random_state: int = 0,
        device: str | None = None,
        dtype: str | None = None,
    ) -> None:
        self.module = module
        self.n_components = n_components
        self.kind = kind
        self.params = params
        self.sketch = sketch
        self.implementation = implementation
        self.chunk_size = chunk_size
        self.input_shape = input_shape
        self.input_dtype = input_dtype
        self.random_state = random_state
        self.device = device
        self.dtype = dtype

    def __sklearn_clone__(self) -> Self:
        """Copy the module with its weights; scikit-learn would reset a skorch net."""
        params = self.get_params(deep=False)
        return type(self)(**{**params, "module": duplicate(inner(self.module))})

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None) -> Self:
        """Copy the module and see that it takes these rows; nothing is learned from them.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Rows.
        y : None
            Ignored.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If the module does not take them.
        """
        with unchanged_on_error(self), self._context(X):
            X = to_numpy(X) if isinstance(X, Tensor) else X
            X = validate_data(self, X, dtype=np.float64)
            kernel = self._kernel()
            kernel.choose_implementation(X)
            self.kernel_ = kernel
            self._n_features_out = self.n_components
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Return the features of rows; O(n n_components P) for P parameters.

        Parameters
        ----------
        X : array-like of shape (m, d)
            Rows.

        Returns
        -------
        ndarray of shape (m, n_components)
        """
        check_is_fitted(self)
        with self._context(X):
            return self.kernel_.features(self._checked_rows(X, reset=False))

    def _kernel(self) -> EmpiricalNTK:
        return EmpiricalNTK(
            duplicate(inner(self.module)),
            kind=self.kind,
            params=self.params,
            projection=self.n_components,
            sketch=self.sketch,
            implementation=self.implementation,
            chunk_size=self.chunk_size,
            input_shape=self.input_shape,
            input_dtype=self.input_dtype,
            random_state=self.random_state,
        )
