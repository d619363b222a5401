"""NetworkRegressor: a torch network, or several, fitted to numbers."""

from typing import Any, Self

import numpy as np
import torch.nn.functional as F
from sklearn.base import MultiOutputMixin, RegressorMixin
from torch import Tensor

from sknk._array import config_of
from sknk._estimator import unchanged_on_error
from sknk._validation import fit_context, validate_data
from sknk.networks._base import BaseNetwork
from sknk.networks._training import Loss

__all__ = ["NetworkRegressor"]


class NetworkRegressor(MultiOutputMixin, RegressorMixin, BaseNetwork):
    r"""Mean of M torch networks fitted by least squares.

    .. math:: \hat y(x) = \bar y + s_y \frac1M \sum_m f_m(x), \qquad
        f_m \leftarrow \arg\min \sum_i \big(f_m(x_i) - (y_i - \bar y) / s_y\big)^2

    by Adam with a learning rate that falls linearly to zero: the recipe under which Holzmueller,
    Zaverkin, Kaestner and Steinwart (2023, section 6) compare active learners. A plain one, for
    learners and bandits whose kernel is a network's gradient; skorch has all the others.

    Parameters
    ----------
    module : nn.Module, callable or None, default=None
        A module starts from its weights. A class or function is called with the numbers of features
        and outputs for each member. None is :class:`TangentMLP` of two layers of 512.
    n_models : int, default=1
        M; more than one needs other first weights for each.
    learning_rate : float or None, default=None
        Of Adam, in its first step; None is the module's attribute of that name, else 0.001.
    max_epochs : int, default=256
        Passes over the rows.
    batch_size : int, default=256
        Most rows of a step.
    validation_data : tuple of X and y, or None, default=None
        Rows that are not fitted to. After the epoch with the least loss on them training ends,
        looking back; None trains to the last epoch.
    random_state : int, RandomState instance or None, default=None
        Of first weights and the order of rows.
    verbose : int or bool, default=0
        Show a progress bar.
    device : str or None, default=None
        "auto", a torch device, or None for what is configured (the CPU).
    dtype : {"float32", "float64"} or None, default=None
        Of weights; None is float64.

    Attributes
    ----------
    modules_ : list of nn.Module
        Trained, in evaluation mode; from rows as passed to standardized targets.
    y_mean_, y_scale_ : ndarray of shape (n_outputs,)
        Of targets, units of y.
    n_features_in_ : int
        Features seen in ``fit``.
    feature_names_in_ : ndarray of str
        Their names, where the rows had names.

    See Also
    --------
    sknk.active_learning.BatchActiveLearner : Which rows to label next.
    sknk.kernels.EmpiricalNTK : The tangent kernel of a module.

    Examples
    --------
    >>> from functools import partial
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sknk.networks import NetworkRegressor, TangentMLP
    >>> X, y = load_diabetes(return_X_y=True)
    >>> small = partial(TangentMLP, hidden=(32,))
    >>> net = NetworkRegressor(small, max_epochs=40, random_state=0)
    >>> make_pipeline(StandardScaler(), net).fit(X, y).score(X, y) > 0.5
    True
    """

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any) -> Self:
        """Train the networks.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Rows, standardized.
        y : array-like of shape (n,) or (n, n_outputs)
            Targets.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If the module has other outputs, or the loss is not finite in the end.
        """
        with unchanged_on_error(self), config_of(self.device, self.dtype):
            X, y = validate_data(self, X, y, dtype=np.float64, multi_output=True, y_numeric=True)
            Y = np.asarray(y, dtype=np.float64).reshape(len(y), -1)
            self._flat = np.ndim(y) == 1
            spread = Y.std(axis=0)
            self.y_mean_, self.y_scale_ = Y.mean(axis=0), np.where(spread > 0, spread, 1.0)
            held_out = self._held_out(multi_output=True)
            if held_out is not None and np.shape(held_out[1])[1:] != np.shape(y)[1:]:
                raise ValueError(
                    f"`validation_data` has targets of shape {np.shape(held_out[1])} and `y` "
                    f"{np.shape(y)}; expected as many outputs."
                )
            self._train(X, Y, Y.shape[1], held_out)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Return the mean of the networks.

        Parameters
        ----------
        X : array-like of shape (m, d)
            Rows.

        Returns
        -------
        ndarray of shape (m,) or (m, n_outputs)
            Units of y.
        """
        mean = self.members(X).mean(axis=0)
        return mean[:, 0] if self._flat else mean

    def _loss(self) -> Loss:
        return F.mse_loss

    def _targets(self, Y: np.ndarray) -> Tensor:
        Y = np.asarray(Y, dtype=np.float64).reshape(len(Y), -1)
        return self._tensor((Y - self.y_mean_) / self.y_scale_)

    def _in_units(self, outputs: np.ndarray) -> np.ndarray:
        return outputs * self.y_scale_ + self.y_mean_
