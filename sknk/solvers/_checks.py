"""Checks of shifts, weights and Gram matrices, shared by the solvers."""

from typing import Any, NoReturn

import torch
from torch import Tensor

from sknk._array import as_tensor
from sknk.exceptions import NotPSDError

__all__ = ["check_shift", "check_weights", "raise_not_finite", "raise_not_psd"]


def check_shift(shift: Any, n: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return `shift` as a finite tensor of shape () or (n,).

    Parameters
    ----------
    shift : float, array-like or Tensor
        What is added to the diagonal of K; units of K.
    n : int
        Rows of K.
    device, dtype : torch.device, torch.dtype
        Of K.

    Returns
    -------
    Tensor of shape () or (n,)

    Raises
    ------
    ValueError
        If it has another shape or is not finite.
    """
    values = as_tensor(shift, device, dtype)
    if values.shape not in ((), (n,)):
        raise ValueError(
            f"`shift` has shape {tuple(values.shape)}; expected a number or shape ({n},), one "
            "value per row."
        )
    finite = torch.isfinite(values)
    if not bool(finite.all()):
        bad = values[~finite].flatten()[0].item() if values.ndim else values.item()
        raise ValueError(f"`shift` contains {bad}; expected finite numbers.")
    return values


def check_weights(weights: Any, n: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return weights as a tensor of shape (n,), not negative and not all zero.

    Parameters
    ----------
    weights : array-like or Tensor of shape (n,)
        Sample weights; dimensionless.
    n : int
        Rows of K.
    device, dtype : torch.device, torch.dtype
        Of K.

    Returns
    -------
    Tensor of shape (n,)

    Raises
    ------
    ValueError
        For another shape, a negative or non-finite weight, or nothing but zeros.
    """
    w = as_tensor(weights, device, dtype)
    if w.shape != (n,):
        raise ValueError(f"`sample_weight` has shape {tuple(w.shape)}; expected ({n},).")
    bad = ~(torch.isfinite(w) & (w >= 0))
    if bool(bad.any()):
        row = int(bad.int().argmax())
        raise ValueError(
            f"`sample_weight` is {w[row].item():.3g} at row {row}; expected finite weights that "
            "are not negative. Use zero to leave a row out."
        )
    if not bool((w > 0).any()):
        raise ValueError("`sample_weight` is zero for every row; at least one must be positive.")
    return w


def raise_not_finite(upper: Tensor, otherwise: int = 0) -> NoReturn:
    """Refuse a Gram matrix with entries that are not finite.

    Parameters
    ----------
    upper : Tensor of shape (n, n)
        K, or its strict upper triangle. A bad sample spoils its row and column, so the row
        with most bad entries is the sample to look at.
    otherwise : int
        The row to name if `upper` is finite.

    Raises
    ------
    ValueError
        Always.
    """
    bad = ~torch.isfinite(upper)
    count = bad.sum(dim=0) + bad.sum(dim=1)
    row = int(count.argmax()) if bool(count.any()) else otherwise
    raise ValueError(
        f"The Gram matrix has a NaN or infinite entry in row {row}; expected finite values. "
        "Look for missing or huge values in that row of the data."
    )


def raise_not_psd(found: str, dtype: torch.dtype) -> NoReturn:
    """Refuse a K + alpha I that is not positive definite.

    Parameters
    ----------
    found : str
        The evidence, with its value.
    dtype : torch.dtype
        Of K; float32 is advised against only where it was used.

    Raises
    ------
    NotPSDError
        Always.
    """
    advice = " or pass `dtype='float64'`" if dtype is torch.float32 else ""
    raise NotPSDError(f"K + alpha I is not positive definite ({found}). Increase `alpha`{advice}.")
