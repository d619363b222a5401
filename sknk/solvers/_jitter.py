"""Cholesky with as little jitter as it takes, and a warning that states how much."""

import math
import warnings

import torch
from torch import Tensor

from sknk.exceptions import NumericalWarning
from sknk.solvers._checks import raise_not_finite, raise_not_psd
from sknk.solvers._triangular import cholesky_, restore_lower_

__all__ = ["factorize_with_jitter_"]

# The first rung is a few rounding errors of a pivot: n eps for n of a few thousand.
_FIRST = {torch.float64: 1e-10, torch.float32: 1e-6}


def _ladder(dtype: torch.dtype, largest: float) -> list[float]:
    """Return the relative jitters to try, after none: powers of ten up to `largest`."""
    rungs, rung = [], _FIRST[dtype]
    while rung < largest * (1 - 1e-9):
        rungs.append(rung)
        rung *= 10
    return [*rungs, largest] if largest > 0 else []


def factorize_with_jitter_(A: Tensor, diag: Tensor, shift: Tensor, largest: float) -> float:
    """Factorize a packed buffer in place and return the jitter it took, in units of K.

    Parameters
    ----------
    A : Tensor of shape (n, n)
        Holds K, both triangles; afterwards L below and K above.
    diag, shift : Tensor of shape (n,)
        The diagonal of K, and what to add to it.
    largest : float
        Largest jitter, relative to the mean of `diag`; dimensionless.

    Returns
    -------
    float

    Raises
    ------
    NotPSDError
        If the largest jitter does not help.
    ValueError
        If K is not finite.

    Warns
    -----
    NumericalWarning
        If jitter was added.
    """
    A.diagonal().copy_(diag + shift)
    first = cholesky_(A)
    if first is None:
        return 0.0
    if math.isnan(first.pivot):
        raise_not_finite(A.triu(1), otherwise=first.row)
    name = str(A.dtype).removeprefix("torch.")
    found = f"pivot {first.pivot:.1e} at row {first.row}, {name}"
    scale = float(diag.abs().mean())
    for relative in _ladder(A.dtype, largest):
        restore_lower_(A)
        A.diagonal().copy_(diag + shift + relative * scale)
        if cholesky_(A) is None:
            warnings.warn(
                f"K + alpha I is not positive definite ({found}): added jitter "
                f"{relative * scale:.3g} to its diagonal, {relative:.0e} of the mean. Increase "
                "`alpha` to do without.",
                NumericalWarning,
                stacklevel=3,
            )
            return relative * scale
    tried = f"jitter tried up to {largest:.0e}" if largest else "no jitter tried"
    raise_not_psd(f"smallest {found}, {tried}", A.dtype)
