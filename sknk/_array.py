"""The one boundary between NumPy and torch: devices, dtypes, tile sizes."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sknk import _config

__all__ = [
    "as_tensor",
    "compute_device",
    "compute_dtype",
    "config_of",
    "keep_heap",
    "row_dtype",
    "to_numpy",
]

# Below 32 MiB, the largest block that glibc's adaptive threshold still learns from.
_HEAP_BYTES = 2**25 - 2**16


def compute_dtype() -> torch.dtype:
    """Return the dtype of Gram matrices: float64 unless float32 is configured."""
    return torch.float32 if _config.current().dtype == "float32" else torch.float64


def compute_device(like: Any = None) -> torch.device:
    """Return where to compute: the configured device, else the tensor's own, else the CPU.

    Parameters
    ----------
    like : object
        A tensor is followed to its device when none is configured.

    Returns
    -------
    torch.device

    Raises
    ------
    ValueError
        If the configured device does not exist on this machine.
    """
    name = _config.current().device
    if name is None:
        return like.device if isinstance(like, Tensor) else torch.device("cpu")
    if name == "auto":
        return _best_device()
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"`device` is {name!r}; expected 'auto' or a torch device.") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"`device` is {name!r} but torch finds no CUDA device; use 'auto'.")
    if device.type == "mps" and compute_dtype() is torch.float64:
        raise ValueError("`device` is 'mps', which has no float64; set `dtype='float32'`.")
    return device


def _best_device() -> torch.device:
    if torch.cuda.is_available():
        return torch.device("cuda")
    if compute_dtype() is torch.float32 and torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def row_dtype(device: torch.device) -> torch.dtype:
    """Return the dtype of per-row quantities: float64 wherever the device has it."""
    # Rows cost O(n), pairs O(n m): rows are exact even when Gram matrices are float32.
    return torch.float32 if device.type == "mps" else torch.float64


def as_tensor(x: Any, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Move an array or tensor to a device and dtype, sharing memory where it can.

    Parameters
    ----------
    x : array-like or Tensor
        The values; NumPy arrays with negative strides are copied.
    device : torch.device
        Where to.
    dtype : torch.dtype
        What to.

    Returns
    -------
    Tensor
    """
    if isinstance(x, Tensor):
        return x.to(device=device, dtype=dtype)
    x = np.asarray(x)
    if not x.dtype.isnative:
        x = x.astype(x.dtype.newbyteorder("="))
    if not x.flags.writeable or any(stride < 0 for stride in x.strides):
        x = x.copy()  # torch warns about the first and refuses the second
    return torch.from_numpy(x).to(device=device, dtype=dtype)


def to_numpy(x: Tensor) -> np.ndarray:
    """Return a tensor's values as a NumPy array, sharing memory on the CPU."""
    return x.detach().cpu().numpy()


def keep_heap(device: torch.device) -> None:
    """Teach the C allocator to keep tile temporaries instead of returning them to the kernel.

    glibc raises its mmap and trim thresholds when a large block is freed. Without this, every
    tile pays the page faults of its temporaries again: a third of a Gram's time.
    """
    if device.type == "cpu":
        torch.empty(_HEAP_BYTES, dtype=torch.uint8)


@contextmanager
def config_of(device: str | None, dtype: str | None) -> Iterator[None]:
    """Apply an estimator's `device` and `dtype`; None leaves what is configured.

    TF32 stays off inside: it has three decimal digits, a Gram matrix needs seven.
    """
    options = {"device": device, "dtype": dtype}
    matmul, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, convolutions.allow_tf32
    matmul.allow_tf32 = convolutions.allow_tf32 = False
    try:
        with _config.config_context(**{k: v for k, v in options.items() if v is not None}):
            yield
    finally:
        matmul.allow_tf32, convolutions.allow_tf32 = before
