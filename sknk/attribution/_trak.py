"""TRAK: which training rows a network's predictions go back to, by projected gradients."""

from functools import cached_property
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import torch
from scipy.special import expit, logsumexp, softmax
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from sknk._array import as_tensor, compute_device, compute_dtype, to_numpy
from sknk._estimator import PLACE_CONSTRAINTS
from sknk._validation import Interval, StrOptions, check_memory, validate_data
from sknk.attribution._base import BaseAttributor, network_alphas
from sknk.attribution._heads import class_numbers
from sknk.attribution._rows import as_numpy, check_pair, judged_rows, place_of
from sknk.kernels import EmpiricalNTK
from sknk.kernels._empirical._choice import IMPLEMENTATIONS
from sknk.kernels._empirical._module import duplicate, inner
from sknk.ridge import NTKRidgeClassifierCV, NTKRidgeCV
from sknk.solvers import Cholesky

__all__ = ["TRAKAttributor", "margin_directions"]


def margin_directions(outputs: np.ndarray, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    r"""Return the derivative of the true class's log-odds by the outputs, and 1 - p.

    .. math:: g_y(f) = \log\frac{p_y}{1 - p_y} = f_y - \log \sum_{c \ne y} e^{f_c}

    (Park et al. 2023, equation 11), whose gradient weighs the true class by 1 and the others by
    minus their softmax without it.

    Parameters
    ----------
    outputs : ndarray of shape (n, O)
        Logits; one is the logit of the second of two classes.
    codes : ndarray of int of shape (n,)
        True classes, 0 to O - 1; 0 or 1 of one output.

    Returns
    -------
    weights : ndarray of shape (n, O)
    doubt : ndarray of shape (n,)
        1 - p of the true class.
    """
    if outputs.shape[1] == 1:
        signs = np.where(codes == 1, 1.0, -1.0)
        return signs[:, None], expit(-signs * outputs[:, 0])
    own = codes[:, None] == np.arange(outputs.shape[1])
    others = np.where(own, -np.inf, outputs)
    margin = outputs[own] - logsumexp(others, axis=1)
    return np.where(own, 1.0, -softmax(others, axis=1)), expit(-margin)


class TRAKAttributor(BaseAttributor):
    r"""Attribution of a trained network's predictions by its projected tangent features.

    .. math:: \tau(v)_i = \frac1M \sum_c \phi_c(v)^\top
        \left( \Phi_c^\top \Phi_c + r_c I \right)^{-1} \phi_c(x_i) \cdot
        \frac1M \sum_c (1 - p_c(x_i))

    (Park et al. 2023, equation 17, with a ridge) over M checkpoints c, with features phi(x) = S'
    grad g(x) of `n_components` random signs, g the log-odds of the true class, and p its
    probability. tau is the first-order effect of training on row i on the log-odds of v: positive
    where it helps. Linear in the rows: O(M n k (P + k)) time for k components and P parameters,
    8 M n k bytes.

    Of numbers, g is the network's one output, 1 - p becomes the residual y_i - f(x_i), and tau is
    the effect on minus the squared error of v: influence functions of ridge regression on the
    projected tangent kernel, where the network solves it.

    Parameters
    ----------
    module : nn.Module, object with a ``module_``, or list of them
        The trained network, or several checkpoints of it, or networks trained alike. Outputs are
        logits, or log probabilities. Never changed; ``fit`` trains nothing.
    n_components : int, default=1024
        Random features, k. Errors of inner products fall as k^-1/2.
    ridge : float, default=1e-3
        r in units of the mean squared norm of the training rows' features.
    task : {"auto", "classification", "regression"}, default="auto"
        What targets are; "auto" takes numbers with a fractional part for numbers, others for
        labels.
    params : None, str, collection of str, or callable, default=None
        The parameters that are differentiated, as in :class:`sknk.kernels.EmpiricalNTK`.
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
    values_ : ndarray of shape (n,)
        Means over the validation rows, without any over the training rows; units of log-odds, or
        of y squared.
    std_error_ : ndarray of shape (n,)
        Zeros: the same signs give the same values.
    ridges_ : ndarray of shape (M,)
        r of each checkpoint.
    classes_ : ndarray of shape (C,)
        Labels in the order of the outputs, of classes only: 0 to O - 1 where labels are among
        them, else the labels of training, sorted.
    estimator_ : estimator
        A surrogate for ``removal_curve``: kernel ridge on the first network's projected
        pseudo-NTK, fitted when it is first asked for.
    n_features_in_ : int
        Columns seen in ``fit``.
    feature_names_in_ : ndarray of str
        Their names, where the rows had names.

    See Also
    --------
    InfluenceAttributor : Influence functions of kernel machines.
    sknk.features.EmpiricalNTKFeatures : The projection of outputs, as a transformer.

    References
    ----------
    .. [1] S. M. Park, K. Georgiev, A. Ilyas, G. Leclerc and A. Madry, "TRAK: attributing model
       behavior at scale", 2023.

    Examples
    --------
    >>> import torch
    >>> from sklearn.datasets import load_iris
    >>> from sknk.attribution import TRAKAttributor
    >>> X, y = load_iris(return_X_y=True)
    >>> _ = torch.manual_seed(0)
    >>> net = torch.nn.Sequential(torch.nn.Linear(4, 32), torch.nn.Tanh(), torch.nn.Linear(32, 3))
    >>> trak = TRAKAttributor(net, n_components=128).fit(X[::2], y[::2])
    >>> trak.attribute(X[1::2], y[1::2]).shape
    (75, 75)
    """

    estimator: Any = None  # the networks are trained already

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "module": "no_validation",  # type: ignore[dict-item]
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "ridge": [Interval(Real, 0, None, closed="neither")],
        "task": [StrOptions({"auto", "classification", "regression"})],
        "params": "no_validation",  # type: ignore[dict-item]
        "sketch": [StrOptions({"rademacher", "sparse", "gaussian"})],
        "implementation": [StrOptions({"auto", *IMPLEMENTATIONS})],
        "chunk_size": [None, Interval(Integral, 1, None, closed="left")],
        "input_shape": [None, tuple, list],
        "input_dtype": "no_validation",  # type: ignore[dict-item]
        "random_state": [Interval(Integral, 0, None, closed="left")],
        **PLACE_CONSTRAINTS,
    }

    def __init__(
        self,
        module: Any,
        n_components: int = 1024,
        *,
        ridge: float = 1e-3,
        task: str = "auto",
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
        self.ridge = ridge
        self.task = task
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
        """Copy modules with their weights; scikit-learn would reset skorch nets."""
        params = self.get_params(deep=False)
        if isinstance(self.module, list | tuple):
            copies: Any = type(self.module)(duplicate(inner(m)) for m in self.module)
        else:
            copies = duplicate(inner(self.module))
        return type(self)(**{**params, "module": copies})

    def _fit_estimator(self, X: Any, y: Any, X_val: Any, y_val: Any) -> None:
        check_pair(X_val, y_val)
        X, y = as_numpy(X), as_numpy(y)
        self._rows, y = validate_data(self, X, y, dtype=np.float64)
        modules = self.module if isinstance(self.module, list | tuple) else [self.module]
        if not modules:
            raise ValueError("`module` is an empty list; expected at least one network.")
        self._kernels = [self._kernel(m) for m in modules]
        kind = type_of_target(y) if self.task == "auto" else self.task
        self._classifies = not kind.startswith(("continuous", "regression"))
        self.__dict__.pop("classes_", None)
        self.__dict__.pop("estimator_", None)
        self._data = (X, y)

    def _kernel(self, module: Any) -> EmpiricalNTK:
        return EmpiricalNTK(
            duplicate(inner(module)),
            kind="pseudo",  # one combination of outputs: one backward pass
            params=self.params,
            projection=self.n_components,
            sketch=self.sketch,
            implementation=self.implementation,
            chunk_size=self.chunk_size,
            input_shape=self.input_shape,
            input_dtype=self.input_dtype,
            random_state=self.random_state,
        )

    def _attribute_rows(self, X: Any, y: np.ndarray, X_val: Any, y_val: Any) -> None:
        with place_of(self, X), torch.no_grad():
            targets = self._coded_targets(y)
            steps, found, ridges = np.zeros(len(y)), [], []
            for kernel in self._kernels:
                Z, outputs = self._features(kernel, self._rows, targets)
                steps += self._steps(outputs, targets) / len(self._kernels)
                solved, r = self._solved(Z)
                found.append(solved)
                ridges.append(r)
            self._maps, self._scale = found, steps
            self.ridges_ = np.array(ridges)
            rows, targets = (self._rows, targets) if X_val is None else self._judges(X_val, y_val)
            self.values_ = self._products(rows, targets, mean=True)[0]
        self.std_error_ = np.zeros(len(y))

    def attribute(self, X_test: Any, y_test: Any) -> np.ndarray:
        """Return what each training row adds to the log-odds of each test row's target.

        Parameters
        ----------
        X_test : array-like of shape (m, d)
            Test rows.
        y_test : array-like of shape (m,)
            Their targets.

        Returns
        -------
        ndarray of shape (m, n)
            Positive where the training row helps; of numbers, what it takes off the squared error.
        """
        check_is_fitted(self)
        with place_of(self, X_test), torch.no_grad():
            rows, targets = self._judges(X_test, y_test)
            m, n = len(rows), len(self._scale)
            what, instead = f"Values of n={n} rows for m={m} others", "Use fewer test rows."
            check_memory(8.0 * m * n, torch.device("cpu"), what=what, instead=instead)
            return self._products(rows, targets, mean=False)

    def _judges(self, X: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
        rows, y = judged_rows(self, X, y)
        return rows, class_numbers(y, self.classes_) if self._classifies else _numbers(y)

    def _coded_targets(self, y: np.ndarray) -> np.ndarray:
        """Return targets as numbers: of labels the outputs they belong to."""
        outputs = self._kernels[0].linearize().f0(self._rows[:1]).shape[1]
        if not self._classifies:
            if outputs != 1:
                raise ValueError(
                    f"`module` has {outputs} outputs and `y` are numbers; expected one output. "
                    "Wrap it in a module that returns the output that is meant."
                )
            return _numbers(y)
        seen, C = np.unique(y), max(outputs, 2)
        if set(seen.tolist()) <= set(range(C)):
            self.classes_ = np.arange(C)
        elif len(seen) == C:
            self.classes_ = seen
        else:
            raise ValueError(
                f"`y` has {len(seen)} classes, {seen.tolist()[:5]}, and `module` {outputs} "
                f"output(s); expected labels 0 to {C - 1}, or {C} others. Pass task='regression' "
                "for numbers."
            )
        return class_numbers(y, self.classes_)

    def _features(
        self, kernel: EmpiricalNTK, rows: np.ndarray, targets: np.ndarray
    ) -> tuple[Tensor, np.ndarray]:
        """Return projected gradients (n, k) of margins, or of the output, and outputs (n, O)."""
        outputs = np.asarray(kernel.linearize().f0(rows), dtype=np.float64)
        weights = np.ones_like(outputs)
        if self._classifies:
            weights = margin_directions(outputs, targets)[0]
        Z = kernel._weighed_features(rows, weights)
        return as_tensor(Z, compute_device(), compute_dtype()), outputs

    def _steps(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Return minus the derivative of each row's loss by its margin, (n,)."""
        if self._classifies:
            return margin_directions(outputs, targets)[1]
        return targets - outputs[:, 0]

    def _solved(self, Z: Tensor) -> tuple[np.ndarray, float]:
        """Return (Z'Z + r)^-1 Z', (k, n), by the smaller of two systems, and r."""
        n, k = Z.shape
        r = self.ridge * float(Z.square().sum(1).mean())
        if r == 0.0:
            raise ValueError(
                f"The gradients of `module` are zero at all {n} training rows; expected some that "
                "depend on `params`. See whether its last layer or its activations are dead."
            )
        if k <= n:
            found = Cholesky().factorize(Z.mT @ Z, r, overwrite=True).solve(Z.mT)
        else:
            found = Cholesky().factorize(Z @ Z.mT, r, overwrite=True).solve(Z).mT
        return to_numpy(found), r

    def _products(self, rows: np.ndarray, targets: np.ndarray, *, mean: bool) -> np.ndarray:
        """Return values (m, n) for rows, or (1, n) for their mean."""
        total = None
        for kernel, solved in zip(self._kernels, self._maps, strict=True):
            Z, outputs = self._features(kernel, rows, targets)
            if not self._classifies:  # of minus the squared error
                Z = Z * as_tensor(2.0 * (targets - outputs[:, 0]), Z.device, Z.dtype)[:, None]
            Z = Z.mean(0, keepdim=True) if mean else Z
            found = to_numpy(Z @ as_tensor(solved, Z.device, Z.dtype)).astype(np.float64)
            total = found if total is None else total + found
        assert total is not None
        return total * (self._scale / len(self._kernels))

    @cached_property
    def estimator_(self) -> Any:
        """Kernel ridge on the first network's projected pseudo-NTK; O(n^3), once."""
        check_is_fitted(self, "values_")
        kernel = self._kernels[0]
        with place_of(self, None):
            alphas = network_alphas(kernel, self._rows)
        search = NTKRidgeClassifierCV if self._classifies else NTKRidgeCV
        ridge = search(kernel, alphas=alphas, device=self.device, dtype=self.dtype)
        return ridge.fit(*self._data)


def _numbers(y: Any) -> np.ndarray:
    """Return targets as float64, (m,)."""
    found = np.asarray(y, dtype=np.float64)
    if found.ndim == 2 and found.shape[1] == 1:
        found = found[:, 0]
    if found.ndim != 1 or not np.isfinite(found).all():
        raise ValueError(
            f"Targets have shape {found.shape}; expected (m,), one finite number a row."
        )
    return found
