"""to_gpytorch: our kernels in models written with gpytorch."""

from collections.abc import Sequence
from typing import Any

import torch

from sknk.gaussian_process._optional import require_gpytorch
from sknk.kernels import Kernel

__all__ = ["to_gpytorch"]


def to_gpytorch(
    kernel: Kernel,
    *,
    batch_shape: Sequence[int] = (),
    active_dims: Sequence[int] | None = None,
    dtype: torch.dtype | None = None,
) -> Any:
    r"""Return the gpytorch kernel k(x, x') = `kernel`\ (x, x').

    Every free hyperparameter becomes a parameter ``raw_<name>``, constrained to its bounds on a
    logarithmic scale, with its value at ``<name>``: ``bias_var``, ``k1__bias_var`` in a sum. Those
    that are fixed, zeros among them, stay constants. The kernel has no lengthscale and no
    amplitude: wrap it in :class:`gpytorch.kernels.ScaleKernel`, or multiply `kernel` by a number.

    Gram matrices are computed as everywhere in sknk: in float64 unless ``set_config(dtype=...)``
    says otherwise, on the device of the inputs, and returned in their dtype. Gradients reach the
    hyperparameters and the rows tile by tile, in O(n m) memory; there are no second derivatives.

    Parameters
    ----------
    kernel : Kernel
        Any sknk kernel; copied.
    batch_shape : sequence of int, default=()
        Independent copies of the hyperparameters, as in gpytorch.
    active_dims : sequence of int, optional
        Columns of the inputs to use; all by default.
    dtype : torch.dtype, optional
        Of the parameters; torch's default dtype if None, as in gpytorch. Tables in float64 need
        ``torch.float64`` here, or ``.double()`` on the whole model.

    Returns
    -------
    gpytorch.kernels.Kernel
        Its method ``sknk_kernel()`` returns the sknk kernel with the trained hyperparameters.

    Raises
    ------
    ImportError
        If gpytorch is not installed.
    TypeError
        If `kernel` is not an sknk kernel.
    ValueError
        If a free hyperparameter lies outside its bounds, or these are not positive and finite.

    Examples
    --------
    >>> import torch
    >>> from sknk.interop import to_gpytorch
    >>> from sknk.kernels import NTK
    >>> kernel = to_gpytorch(NTK(depth=2, bias_var=0.1), dtype=torch.float64)
    >>> round(kernel.bias_var.item(), 12)
    0.1
    >>> kernel.bias_var = 0.5
    >>> kernel(torch.ones(3, 2, dtype=torch.float64)).shape
    torch.Size([3, 3])
    >>> round(kernel.sknk_kernel().bias_var, 12)
    0.5
    """
    if not isinstance(kernel, Kernel):
        raise TypeError(f"`kernel` is {kernel!r}; expected an sknk kernel such as NTK().")
    require_gpytorch("to_gpytorch")
    from sknk.gaussian_process._gpytorch import GPyTorchKernel

    return GPyTorchKernel(kernel, batch_shape, active_dims, dtype)
