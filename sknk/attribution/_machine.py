"""What attribution needs of a fitted estimator: a kernel machine whose rows may come and go."""

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from sknk._array import as_tensor, compute_device, compute_dtype, config_of
from sknk._pipelines import split_pipeline, unwrap_frozen
from sknk._training import TrainingSet
from sknk._validation import check_memory
from sknk.attribution._heads import ClassHead, Head, LatentHead, RegressionHead
from sknk.gaussian_process import NTKGaussianProcessClassifier, NTKGaussianProcessRegressor
from sknk.gaussian_process._classification import DirichletModel
from sknk.gaussian_process._classifying import labelled
from sknk.gaussian_process._dirichlet import DirichletRows
from sknk.gaussian_process._model import ExactModel
from sknk.kernels._adapt import as_kernel
from sknk.kernels._base import Kernel
from sknk.ridge._base import BaseRidge
from sknk.ridge._classes import RidgeClassifierMixin
from sknk.solvers import Cholesky, Coalitions

__all__ = ["Machine", "machine_of", "split_pipeline", "unwrap_frozen"]

_SUPPORTED = (
    "NTKRidge, NTKRidgeClassifier, their CV forms, NTKGaussianProcessRegressor (without `rank` and "
    "`training_time`), NTKGaussianProcessClassifier with inference='dirichlet', or a Pipeline that "
    "ends in one"
)


@dataclass(frozen=True)
class Outputs:
    """Some outputs with one ridge.

    Attributes
    ----------
    Y : ndarray of shape (n, c)
        Targets relative to the prior.
    shift : ndarray of shape (n,)
        Ridge or noise variances; units of the kernel.
    """

    Y: np.ndarray
    shift: np.ndarray


@dataclass(frozen=True)
class Machine:
    """A fitted kernel machine, apart from its rows.

    Attributes
    ----------
    final : estimator
        The fitted estimator, without a pipeline around it.
    before : callable
        From rows as the user has them to rows of the final estimator.
    kernel : Kernel or None
        None for precomputed Gram matrices.
    amplitude : float
        Factor of the kernel.
    rows : ndarray of shape (n, d) or (n, n)
        Training rows, or their Gram matrix; all of them.
    active : ndarray of shape (a,)
        Rows of positive weight: those that can be missed.
    outputs : tuple of Outputs
        Their targets and ridges, (a, c) and (a,).
    weights : ndarray of shape (a,) or None
        Of the mean target; None where targets are not centred.
    copies : ndarray of shape (a,)
        Weights of the rows.
    same : ndarray of shape (a,)
        Number of the distinct row (equal in x and y) that each is a copy of.
    head : Head
        What outputs mean.
    """

    final: Any
    before: Callable[[Any], Any]
    kernel: Kernel | None
    amplitude: float
    rows: np.ndarray
    active: np.ndarray
    outputs: tuple[Outputs, ...]
    weights: np.ndarray | None
    copies: np.ndarray
    same: np.ndarray
    head: Head

    @contextmanager
    def place(self) -> Any:
        """Compute where, and in what, the estimator computes."""
        with config_of(self.final.device, self.final.dtype), torch.no_grad():
            yield

    def check_rows(self, X: Any, y: np.ndarray) -> None:
        """Refuse rows and targets other than those the estimator was fitted to.

        Raises
        ------
        ValueError
            If they differ by more than rounding.
        """
        rows = self.judged(X)
        same = rows.shape == self.rows.shape and np.allclose(rows, self.rows, rtol=1e-9, atol=0.0)
        if same and not isinstance(self.head, LatentHead):
            known = np.hstack([part.Y for part in self.outputs]) + self.head.prior
            same = np.allclose(self.head.code(y)[self.active], known, rtol=1e-6, atol=1e-9)
        if not same:
            raise ValueError(
                f"The FrozenEstimator was fitted to other data than the {len(rows)} rows of `X` "
                "and `y`, or in another order; expected the data it was fitted to. Pass them, or "
                "the estimator itself, which is then fitted to `X`."
            )

    @property
    def n(self) -> int:
        """Training rows, also those of weight zero."""
        return len(self.rows)

    def positions(self, rows: np.ndarray) -> np.ndarray:
        """Return where training rows stand among the active ones; those of weight zero drop out."""
        kept = rows[np.isin(rows, self.active)]
        return np.searchsorted(self.active, kept)

    def judged(self, X: Any) -> np.ndarray:
        """Return rows to predict as the final estimator takes them, validated."""
        return self.final._checked_rows(self.before(X))

    def gram(self) -> Tensor:
        """Return the Gram matrix of the active rows, (a, a)."""
        a, dtype = len(self.active), compute_dtype()
        check_memory(
            3.0 * a * a * dtype.itemsize,
            compute_device(),
            what=f"A Gram matrix of n={a} rows and its factor",
            instead="Use fewer rows or `dtype='float32'`.",
        )
        if self.kernel is None:
            return as_tensor(self.rows[np.ix_(self.active, self.active)], compute_device(), dtype)
        _, first, copy_of = np.unique(self.same, return_index=True, return_inverse=True)
        if len(first) == a:
            return self.kernel(self._active_rows()).mul_(self.amplitude)
        # Copies share what white noise the kernel has, as in the fit, where they are one row.
        rows = as_tensor(self.rows[self.active[first]], compute_device(), torch.float64)
        index = torch.from_numpy(copy_of).to(rows.device)
        return self.kernel(rows).mul_(self.amplitude)[index][:, index]

    def cross(self, rows: np.ndarray) -> Tensor:
        """Return the kernel of the active rows with others, (a, m)."""
        a, m = len(self.active), len(rows)
        check_memory(
            3.0 * a * m * compute_dtype().itemsize,
            compute_device(),
            what=f"A Gram matrix of n={a} by m={m} rows and its solves",
            instead="Judge on fewer rows, or `dtype='float32'`.",
        )
        if self.kernel is None:
            return as_tensor(rows[:, self.active].T, compute_device(), compute_dtype())
        others = as_tensor(rows, compute_device(), torch.float64)
        return self.kernel(self._active_rows(), others).mul_(self.amplitude)

    def diag(self, rows: np.ndarray) -> Tensor:
        """Return the kernel of rows with themselves, (m,)."""
        assert self.kernel is not None
        others = as_tensor(rows, compute_device(), torch.float64)
        return self.amplitude * self.kernel.diag(others).to(compute_dtype())

    def games(self, rows: np.ndarray | None, *, variance: bool = False) -> list[Coalitions]:
        """Return the coalitions of each group of outputs, judged on rows as of :meth:`judged`."""
        K = self.gram()
        place: dict[str, Any] = {"device": K.device, "dtype": K.dtype}
        cross = K[:, :0] if rows is None else self.cross(rows)
        prior = self.diag(rows) if variance and rows is not None else None
        weights = None if self.weights is None else as_tensor(self.weights, **place)
        found = []
        for part in self.outputs:
            shift = as_tensor(part.shift, **place)
            # Where the whole needs jitter to be positive definite, every part gets it.
            shift = shift + Cholesky().factorize(K, shift).jitter_
            found.append(Coalitions(K, cross, prior, shift, as_tensor(part.Y, **place), weights))
        return found

    def merged_games(
        self, rows: np.ndarray | None
    ) -> tuple[list[Coalitions], np.ndarray, np.ndarray]:
        """Return coalitions in which copies of a row, equal in x and y, are one.

        Parameters
        ----------
        rows : ndarray or None
            Rows judged, as of :meth:`judged`.

        Returns
        -------
        games : list of Coalitions
        first : ndarray of shape (u,)
            The training row that stands for each.
        copy_of : ndarray of shape (a,)
            Which of them each active row is.
        """
        _, first, copy_of = np.unique(self.same, return_index=True, return_inverse=True)
        totals = None if self.weights is None else np.bincount(copy_of, self.weights)
        outputs = [
            Outputs(part.Y[first], 1.0 / np.bincount(copy_of, 1.0 / part.shift))
            for part in self.outputs
        ]
        merged = replace(self, active=self.active[first], outputs=tuple(outputs), weights=totals)
        return merged.games(rows), self.active[first], copy_of

    def evidence_games(self) -> list[Coalitions]:
        """Return the coalitions with targets in units of the prior's standard deviation.

        A ridge has no prior of its own; its scale maximises the evidence of all rows:
        s^2 = y' (K + shift)^-1 y / n.

        Returns
        -------
        list of Coalitions
        """
        games = self.games(None)
        if isinstance(self.head, LatentHead):
            return games
        (game,) = games
        if isinstance(self.final, BaseRidge):
            prior = as_tensor(self.head.prior, game.K.device, game.K.dtype)
            largest = game.Y.abs().amax(0)
            # Rounding of a constant is no scale.
            varies = largest > 1e-12 * (game.Y + prior).abs().amax(0)
            unit = torch.where(varies, largest, torch.ones_like(largest))
            fit = Cholesky().factorize(game.K, game.shift).half_solve(game.Y / unit)
            scale = torch.where(varies, unit * fit.square().mean(0).sqrt(), torch.ones_like(unit))
        else:
            assert isinstance(self.head, RegressionHead)
            scale = as_tensor(self.head.scale, game.K.device, game.K.dtype)
        Y = game.Y / torch.where(scale > 0, scale, torch.ones_like(scale))
        return [replace(game, Y=Y, weights=None)]

    def _active_rows(self) -> Tensor:
        return as_tensor(self.rows[self.active], compute_device(), torch.float64)


def machine_of(estimator: Any) -> Machine:
    """Read the kernel machine out of a fitted estimator.

    Parameters
    ----------
    estimator : estimator
        Ridge, Gaussian process, or a Pipeline that ends in one.

    Returns
    -------
    Machine

    Raises
    ------
    NotFittedError
        If it is not fitted.
    TypeError
        If it is not a kernel machine that can lose rows in closed form.
    """
    before, final = split_pipeline(estimator)
    if isinstance(final, BaseRidge):
        check_is_fitted(final)
        return _ridge(before, final)
    if isinstance(final, NTKGaussianProcessRegressor):
        check_is_fitted(final)
        if isinstance(final._model, ExactModel) and final._model.time is None:
            return _regressor(before, final)
    if isinstance(final, NTKGaussianProcessClassifier):
        check_is_fitted(final)
        if isinstance(final._model, DirichletModel):
            return _classifier(before, final)
    name = type(final).__name__
    if isinstance(final, BaseEstimator):
        name = " ".join(repr(final).split())  # on one line
    raise TypeError(f"`estimator` is {name}; expected {_SUPPORTED}.")


def _rows_of(training: TrainingSet) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return active rows, their distinct rows and their weights, (a,) each."""
    active = np.flatnonzero(training.group >= 0)
    group = training.group[active]
    return active, group, training.share[active] * training.copies[group]


def _ridge(before: Callable[[Any], Any], final: BaseRidge) -> Machine:
    training = final._training
    active, group, w = _rows_of(training)
    C = training.Y.shape[1]
    prior = np.broadcast_to(np.asarray(final.intercept_, dtype=np.float64), (C,)).copy()
    if isinstance(final, RidgeClassifierMixin):
        head: Head = ClassHead(prior, final._coder, final._calibration)
    else:
        head = RegressionHead(prior, final.dual_coef_.ndim == 1, np.ones(C), None)
    return Machine(
        final,
        before,
        None if training.precomputed else as_kernel(final.kernel_),
        1.0,
        training.rows,
        active,
        (Outputs(training.Y[group] - prior, final._ridge() / w),),
        w if final.fit_intercept else None,
        w,
        group,
        head,
    )


def _regressor(before: Callable[[Any], Any], final: NTKGaussianProcessRegressor) -> Machine:
    model = final._model
    assert isinstance(model, ExactModel)
    training = model.training
    active, group, w = _rows_of(training)
    noise = model.hyper["noise_variance"]
    own = np.ones(len(active)) if model.own is None else model.own[group]
    known = model.own is None and not model.ensemble  # else variances have another law
    head = RegressionHead(
        final._y_mean,
        final.y_fit_.ndim == 1,
        final._y_scale,
        noise if known and final.prior == "gaussian" else None,
    )
    Y = model.Y[group] * final._y_scale
    outputs = (Outputs(Y, own * noise / w),)
    return Machine(
        final,
        before,
        model.hyper.kernel,
        float(model.hyper["amplitude"]),
        training.rows,
        active,
        outputs,
        None,
        w,
        group,
        head,
    )


def _classifier(before: Callable[[Any], Any], final: NTKGaussianProcessClassifier) -> Machine:
    model = final._model
    training = model.training
    active, group, w = _rows_of(training)
    rows = DirichletRows.of(labelled(training, model.n_classes), model.hyper["alpha_eps"])
    Y = rows.Y.cpu().numpy()[group]
    # Noise of one copy is that of the distinct row times its weight, over the copy's own.
    noise = rows.noise.cpu().numpy()[group] * (training.copies[group] / w)[:, None]
    outputs = tuple(Outputs(Y[:, c : c + 1], noise[:, c]) for c in range(Y.shape[1]))
    return Machine(
        final,
        before,
        model.hyper.kernel,
        float(model.hyper["amplitude"]),
        training.rows,
        active,
        outputs,
        None,
        w,
        group,
        LatentHead(np.zeros(Y.shape[1]), final.classes_),
    )
