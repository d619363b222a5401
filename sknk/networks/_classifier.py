"""NetworkClassifier: a torch network, or several, fitted to classes."""

from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from scipy.special import softmax
from sklearn.base import ClassifierMixin
from sklearn.preprocessing import LabelEncoder
from sklearn.utils.multiclass import check_classification_targets
from torch import Tensor

from sknk._array import config_of
from sknk._estimator import unchanged_on_error
from sknk._validation import fit_context, validate_data
from sknk.networks._base import BaseNetwork
from sknk.networks._training import Loss

__all__ = ["NetworkClassifier"]


class NetworkClassifier(ClassifierMixin, BaseNetwork):
    r"""Mean class probabilities of M torch networks fitted by cross-entropy.

    .. math:: p(c \mid x) = \frac1M \sum_m \operatorname{softmax}_c f_m(x)

    by Adam with a learning rate that falls linearly to zero. Probabilities of a network trained to
    the last epoch are too sure of themselves: pass `validation_data`, several members, or calibrate
    them with :class:`~sklearn.calibration.CalibratedClassifierCV`.

    Parameters
    ----------
    module : nn.Module, callable or None, default=None
        A module starts from its weights. A class or function is called with the numbers of features
        and classes for each member. None is :class:`TangentMLP` of two layers of 512.
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
        Trained, in evaluation mode; from rows as passed to logits.
    classes_ : ndarray of shape (n_classes,)
        Labels.
    n_features_in_ : int
        Features seen in ``fit``.
    feature_names_in_ : ndarray of str
        Their names, where the rows had names.

    See Also
    --------
    sknk.active_learning.BatchActiveLearner : Which rows to label next.

    Examples
    --------
    >>> from functools import partial
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.preprocessing import scale
    >>> from sknk.networks import NetworkClassifier, TangentMLP
    >>> X, y = load_iris(return_X_y=True)
    >>> small = partial(TangentMLP, hidden=(32,))
    >>> net = NetworkClassifier(small, max_epochs=40, random_state=0).fit(scale(X), y)
    >>> net.score(scale(X), y) > 0.9
    True
    """

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any) -> Self:
        """Train the networks.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Rows, standardized.
        y : array-like of shape (n,)
            Classes.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If there is one class only, the module has other outputs, or the loss is not finite in
            the end.
        """
        with unchanged_on_error(self), config_of(self.device, self.dtype):
            X, y = validate_data(self, X, y, dtype=np.float64)
            check_classification_targets(y)
            self._encoder = LabelEncoder().fit(y)
            self.classes_ = self._encoder.classes_
            if len(self.classes_) < 2:
                raise ValueError(
                    f"`y` has one class ({self.classes_.tolist()[0]!r}); a classifier needs at "
                    "least two. Add rows of another class."
                )
            self._train(X, y, len(self.classes_), self._held_out())
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the mean of the networks' class probabilities.

        Parameters
        ----------
        X : array-like of shape (m, d)
            Rows.

        Returns
        -------
        ndarray of shape (m, n_classes)
        """
        return softmax(self.members(X), axis=-1).mean(axis=0)

    def predict(self, X: Any) -> np.ndarray:
        """Return the most probable classes.

        Parameters
        ----------
        X : array-like of shape (m, d)
            Rows.

        Returns
        -------
        ndarray of shape (m,)
        """
        proba = self.predict_proba(X)
        return self.classes_[proba.argmax(axis=1)]

    def _loss(self) -> Loss:
        return F.cross_entropy

    def _targets(self, Y: np.ndarray) -> Tensor:
        return torch.from_numpy(self._encoder.transform(Y)).to(self._tensor(np.empty(0)).device)

    def _in_units(self, outputs: np.ndarray) -> np.ndarray:
        return outputs
