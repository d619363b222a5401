"""What networks for numbers and for classes share: modules, members, places."""

import copy
from abc import abstractmethod
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from sknk._array import as_tensor, compute_device, compute_dtype, config_of
from sknk._estimator import PLACE_CONSTRAINTS
from sknk._validation import Interval, private_random_state, validate_data
from sknk.networks._modules import TangentMLP
from sknk.networks._training import Loss, Recipe, outputs_of, seeded, trained

__all__ = ["BaseNetwork"]

_ADAM = 1e-3  # learning rate where a module names none


class BaseNetwork(BaseEstimator):
    """Networks of one shape, trained alike from their own first weights."""

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "module": "no_validation",
        "n_models": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [None, Interval(Real, 0, None, closed="neither")],
        "max_epochs": [Interval(Integral, 0, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "validation_data": [None, tuple, list],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
        **PLACE_CONSTRAINTS,
    }

    def __init__(
        self,
        module: Any = None,
        *,
        n_models: int = 1,
        learning_rate: float | None = None,
        max_epochs: int = 256,
        batch_size: int = 256,
        validation_data: tuple[Any, Any] | None = None,
        random_state: Any = None,
        verbose: int | bool = 0,
        device: str | None = None,
        dtype: str | None = None,
    ) -> None:
        self.module = module
        self.n_models = n_models
        self.learning_rate = learning_rate
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.validation_data = validation_data
        self.random_state = random_state
        self.verbose = verbose
        self.device = device
        self.dtype = dtype

    def _train(self, X: np.ndarray, Y: np.ndarray, n_outputs: int, held_out: Any) -> None:
        """Train all members; `held_out` are rows and targets, or None."""
        seeds = private_random_state(self.random_state).randint(2**31 - 1, size=self.n_models)
        rows, targets = self._tensor(X), self._targets(Y)
        validation = None
        if held_out is not None:
            validation = self._tensor(held_out[0]), self._targets(held_out[1])
        make = self._maker(X.shape[1], n_outputs)
        members = []
        for seed in seeds:
            with seeded(int(seed), rows):
                start = copy.deepcopy(make()).to(rows)  # what a function returns may be shared
                self._check_outputs(start, rows[:1], n_outputs)
                done = trained(start, rows, targets, self._recipe(start), validation)
                members.append(done.cpu())  # a pickle is read where there is no such device too
        self.modules_ = members

    def _held_out(self, **options: Any) -> tuple[np.ndarray, np.ndarray] | None:
        """Return rows and targets that are not fitted to."""
        if self.validation_data is None:
            return None
        if len(self.validation_data) != 2:
            raise ValueError(
                f"`validation_data` has {len(self.validation_data)} parts; expected (X, y)."
            )
        X, y = self.validation_data
        return validate_data(self, X, y, reset=False, dtype=np.float64, **options)

    def _maker(self, n_features: int, n_outputs: int) -> Callable[[], nn.Module]:
        """Return what makes the first weights of a member."""
        module = TangentMLP if self.module is None else self.module
        if not isinstance(module, nn.Module):
            return lambda: module(n_features, n_outputs)
        if self.n_models > 1:
            raise ValueError(
                f"`n_models` is {self.n_models} and `module` has its first weights; expected other "
                "ones for each member. Pass the module's class, or a function of the numbers of "
                "features and outputs, such as TangentMLP."
            )
        return lambda: module

    def _recipe(self, module: nn.Module) -> Recipe:
        rate = self.learning_rate
        if rate is None:
            rate = float(getattr(module, "learning_rate", _ADAM))
        return Recipe(self._loss(), rate, self.max_epochs, self.batch_size, self.verbose)

    @staticmethod
    def _check_outputs(module: nn.Module, row: Tensor, n_outputs: int) -> None:
        found = outputs_of(module, row).shape[1:]
        if tuple(found) != (n_outputs,):
            raise ValueError(
                f"`module` has outputs of shape {tuple(found)} for a row; expected ({n_outputs},)."
            )

    def members(self, X: Any) -> np.ndarray:
        """Return what each network computes, in its own units.

        Parameters
        ----------
        X : array-like of shape (m, d)
            Rows.

        Returns
        -------
        ndarray of shape (n_models, m, n_outputs)
            Numbers in units of y, or logits of classes.
        """
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=np.float64)
        with config_of(self.device, self.dtype):
            rows = self._tensor(X)
            found = [outputs_of(_beside(module, rows), rows) for module in self.modules_]
        return self._in_units(torch.stack(found).double().cpu().numpy())

    def _tensor(self, X: np.ndarray) -> Tensor:
        return as_tensor(X, compute_device(), compute_dtype())

    @abstractmethod
    def _loss(self) -> Loss:
        """Return what is made small."""

    @abstractmethod
    def _targets(self, Y: np.ndarray) -> Tensor:
        """Return targets as the loss takes them."""

    @abstractmethod
    def _in_units(self, outputs: np.ndarray) -> np.ndarray:
        """Return outputs in units of the targets."""


def _beside(module: nn.Module, rows: Tensor) -> nn.Module:
    """Return a module where rows are, in their dtype; a copy unless it is there."""
    first = next(module.parameters(), rows)
    same = first.device == rows.device and first.dtype == rows.dtype
    return module if same else copy.deepcopy(module).to(rows)
