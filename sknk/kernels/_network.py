"""NTK and NNGP of fully connected networks: the flat kernels for tables."""

import inspect
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Self

import torch
from sklearn.base import clone
from torch import Tensor

from sknk.kernels._activation import Activation
from sknk.kernels._flat import Flat, check_integer
from sknk.kernels._recursion import Output, Rows

__all__ = ["NNGP", "NTK"]


class NTK(Flat):
    r"""Neural tangent kernel of a fully connected network of infinite width.

    With w = `weight_var`, b = `bias_var`, L = `depth` and (tau, tau') the activation's duals,

    .. math::
        \Sigma^0 = w\,x^\top x'/d + b, \quad
        \Sigma^{l} = w\,\tau(\Sigma^{l-1}) + b, \quad
        \Theta^0 = \Sigma^0, \quad
        \Theta^{l} = \Sigma^{l} + w\,\tau'(\Sigma^{l-1})\,\Theta^{l-1}

    and K = Theta^L (Jacot et al. 2018, theorem 1; Lee et al. 2019). Entries cost O(d + L) each; a
    Gram matrix 8 n^2 bytes and one triangle of tiles.

    Parameters
    ----------
    depth : int, default=3
        Hidden layers; 0 is the linear kernel.
    activation : str or Activation, default="relu"
        Any activation: its class in small letters with underscores, such as "leaky_relu", or an
        instance such as ``LeakyReLU(0.3)``.
    weight_var : float, default=2.0
        Weight variance (neural-tangents' ``W_std`` squared), dimensionless.
    bias_var : float, default=0.0
        Bias variance (``b_std`` squared), dimensionless; 0 means no biases.
    fixed_depth : int, default=0
        The first `fixed_depth` weight layers stay at their initial values; `depth` trains the last
        layer only, which is the NNGP kernel in the NTK parametrization (Arora et al. 2020).
    parametrization : {"ntk", "standard"}, default="ntk"
        Of the trained layers.
    width : int, default=512
        Hidden width in the standard parametrization; the NTK one has none.
    normalize : bool, default=True
        Divide by the kernel's value at the row of ones (squared norm d), so that standardized
        features give a mean diagonal near 1 at every depth.
    input_scale : float or array-like of shape (d,), default=1.0
        Factor of the features, in inverse units of x; one per feature for ARD.
    weight_var_bounds, bias_var_bounds, input_scale_bounds : "fixed" or pair of float
        Bounds of the hyperparameters in scikit-learn's optimizers; a zero value is fixed.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.svm import SVC
    >>> from sknk.kernels import NTK
    >>> X, y = load_iris(return_X_y=True)
    >>> SVC(kernel=NTK(depth=2)).fit(X, y).score(X, y) > 0.95
    True
    """

    _kind = "ntk"

    def __init__(
        self,
        depth: int = 3,
        activation: str | Activation = "relu",
        weight_var: float = 2.0,
        bias_var: float = 0.0,
        fixed_depth: int = 0,
        parametrization: str = "ntk",
        width: int = 512,
        normalize: bool = True,
        input_scale: Any = 1.0,
        weight_var_bounds: Any = "fixed",
        bias_var_bounds: Any = (1e-5, 1e5),
        input_scale_bounds: Any = "fixed",
    ) -> None:
        self.depth = depth
        self.activation = activation
        self.weight_var = weight_var
        self.bias_var = bias_var
        self.fixed_depth = fixed_depth
        self.parametrization = parametrization
        self.width = width
        self.normalize = normalize
        self.input_scale = input_scale
        self.weight_var_bounds = weight_var_bounds
        self.bias_var_bounds = bias_var_bounds
        self.input_scale_bounds = input_scale_bounds

    def joint(self, X: Any, Y: Any = None) -> tuple[Any, Any]:
        """Return the NNGP and NTK Gram matrices of one network, on one scale.

        Both are divided by this kernel's own normalizing constant, as the posterior of an infinite
        ensemble needs them (Lee et al. 2019, eq. 16).

        Parameters
        ----------
        X, Y : array-like of shape (n, d) and (m, d)
            Rows; Y None means X.

        Returns
        -------
        nngp, ntk : ndarray or Tensor of shape (n, m)
            Tensors for tensors.

        Examples
        --------
        >>> from sknk.kernels import NTK
        >>> nngp, ntk = NTK(depth=1, normalize=False).joint([[1.0]])
        >>> round(nngp.item(), 12), round(ntk.item(), 12)
        (2.0, 4.0)
        """
        outputs: tuple[Output, ...] = ((self.depth, "nngp"), (self.depth, "ntk"))

        def prepare(x: Tensor, values: Mapping[str, Tensor]) -> Rows:
            rows = self._prepared(x, values, *outputs)
            shared = None if rows.gains is None else rows.gains[1:].expand(2)
            return replace(rows, gains=shared)

        nngp, ntk = self._grams(X, Y, self._outputs, prepare=prepare, n_outputs=2)
        return nngp, ntk

    def joint_diag(self, X: Any) -> tuple[Any, Any]:
        """Return the diagonals of :meth:`joint` in O(n).

        Parameters
        ----------
        X : array-like of shape (n, d)
            Rows.

        Returns
        -------
        nngp, ntk : ndarray or Tensor of shape (n,)
        """
        x, _ = self._rows(X, None)
        outputs: tuple[Output, ...] = ((self.depth, "nngp"), (self.depth, "ntk"))
        with torch.no_grad():
            values = self._values(x.device)
            constant = self._constants(x.shape[1], values, *outputs)[1]
            found = self._diagonals(x, values, *outputs)
        nngp, ntk = (self._like((K / constant).to(self._dtype()), X) for K in found)
        return nngp, ntk

    def nngp(self) -> "NNGP":
        """Return the NNGP kernel of the same network, normalized by its own constant.

        Returns
        -------
        NNGP

        Examples
        --------
        >>> from sknk.kernels import NTK
        >>> NTK(depth=2, bias_var=0.1).nngp()
        NNGP(depth=2, bias_var=0.1)
        """
        shared = inspect.signature(NNGP).parameters
        own = self.get_params(deep=False)
        return NNGP(**{name: own[name] for name in shared})

    def _fixed_depth(self) -> int:
        return int(self.fixed_depth)

    def _is_nngp(self) -> bool:
        # In the standard parametrization the last layer's own tangents are not the covariance.
        return self.fixed_depth >= self.depth and self.parametrization == "ntk"

    def _fan_ins(self, n_features: int) -> tuple[int, int] | None:
        return (n_features, int(self.width)) if self.parametrization == "standard" else None

    def _check_parameters(self, n_features: int) -> None:
        super()._check_parameters(n_features)
        check_integer("NTK", "fixed_depth", self.fixed_depth, 0, "untrained weight layers")
        check_integer("NTK", "width", self.width, 1, "hidden units")
        if self.fixed_depth > self.depth:
            raise ValueError(
                f"`fixed_depth` of NTK is {self.fixed_depth!r}; expected 0 to `depth`={self.depth} "
                "(one weight layer must stay trained)."
            )
        if self.parametrization not in ("ntk", "standard"):
            raise ValueError(
                f"`parametrization` of NTK is {self.parametrization!r}; expected 'ntk' or "
                "'standard'."
            )


class NNGP(Flat):
    r"""Covariance of an untrained fully connected network of infinite width (Lee et al. 2018).

    The recursion of :class:`NTK` without tangents: K = Sigma^L.

    Parameters
    ----------
    depth : int, default=3
        Hidden layers; 0 is the linear kernel.
    activation : str or Activation, default="relu"
        As in :class:`NTK`.
    weight_var : float, default=2.0
        Weight variance, dimensionless.
    bias_var : float, default=0.0
        Bias variance, dimensionless; 0 means no biases.
    normalize : bool, default=True
        Divide by the kernel's value at the row of ones.
    input_scale : float or array-like of shape (d,), default=1.0
        Factor of the features, in inverse units of x; one per feature for ARD.
    weight_var_bounds, bias_var_bounds, input_scale_bounds : "fixed" or pair of float
        Bounds of the hyperparameters in scikit-learn's optimizers; a zero value is fixed.

    Examples
    --------
    >>> from sknk.kernels import NNGP, NTK
    >>> X = [[0.0, 1.0], [2.0, -1.0]]
    >>> (abs(NNGP(depth=2)(X) - NTK(depth=2, fixed_depth=2)(X)) < 1e-15).all().item()
    True
    """

    _kind = "nngp"

    def nngp(self) -> Self:
        """Return a copy: an untrained network has no other kernel."""
        return clone(self)

    def __init__(
        self,
        depth: int = 3,
        activation: str | Activation = "relu",
        weight_var: float = 2.0,
        bias_var: float = 0.0,
        normalize: bool = True,
        input_scale: Any = 1.0,
        weight_var_bounds: Any = "fixed",
        bias_var_bounds: Any = (1e-5, 1e5),
        input_scale_bounds: Any = "fixed",
    ) -> None:
        self.depth = depth
        self.activation = activation
        self.weight_var = weight_var
        self.bias_var = bias_var
        self.normalize = normalize
        self.input_scale = input_scale
        self.weight_var_bounds = weight_var_bounds
        self.bias_var_bounds = bias_var_bounds
        self.input_scale_bounds = input_scale_bounds

    def _fixed_depth(self) -> int:
        return self.depth + 1
