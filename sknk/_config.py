"""Thread-local configuration: device, dtype, memory budget, compilation, tile size."""

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from numbers import Integral, Real
from typing import Any

from joblib import delayed as joblib_delayed

__all__ = ["config_context", "get_config", "set_config"]

DTYPES = (None, "float32", "float64")


@dataclass(frozen=True)
class Config:
    """One immutable set of options; see :func:`set_config` for their meaning."""

    device: str | None = None
    dtype: str | None = None
    memory_budget: float | None = None
    compile: bool = False
    tile_size: int | None = None

    def __post_init__(self) -> None:
        """Refuse values that no later code could act on.

        Raises
        ------
        ValueError
            For an unknown dtype or a non-positive size.
        TypeError
            If `device` is not a string or `compile` not a boolean.
        """
        if self.dtype not in DTYPES:
            raise ValueError(f"`dtype` is {self.dtype!r}; expected one of {DTYPES}.")
        if self.device is not None and not isinstance(self.device, str):
            raise TypeError(
                f"`device` is {self.device!r}; expected None, 'auto' or a torch device string."
            )
        if not isinstance(self.compile, bool):
            raise TypeError(f"`compile` is {self.compile!r}; expected True or False.")
        _check_positive("memory_budget", self.memory_budget, Real, "number")
        _check_positive("tile_size", self.tile_size, Integral, "integer")


def _check_positive(name: str, value: Any, kind: type, word: str) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, kind):
        raise TypeError(f"`{name}` is {value!r}; expected None or a positive {word}.")
    if not value > 0:  # type: ignore[operator]
        raise ValueError(f"`{name}` is {value!r}; expected None or a positive {word}.")


class _State(threading.local):
    def __init__(self) -> None:
        self.config = _process_default


_process_default = Config()
_state = _State()


def current() -> Config:
    """Return this thread's configuration."""
    return _state.config


def get_config() -> dict[str, Any]:
    """Return this thread's configuration as a dictionary.

    Returns
    -------
    dict
        The options of :func:`set_config` by name.

    Examples
    --------
    >>> from sknk import get_config
    >>> get_config()["compile"]
    False
    """
    return asdict(current())


def _updated(options: dict[str, Any]) -> Config:
    known = {field.name for field in fields(Config)}
    unknown = sorted(set(options) - known)
    if unknown:
        raise TypeError(f"Unknown options {unknown}; expected some of {sorted(known)}.")
    return replace(current(), **options)


def set_config(**options: Any) -> None:
    """Set options for this thread and as the default of threads started later.

    Parameters
    ----------
    **options : dict
        Any of

        * ``device``: None (follow a tensor input, else the CPU), ``"auto"`` (CUDA where there is
          one, else the CPU) or a torch device string. A GPU is never taken silently.
        * ``dtype``: None (compute in float64 whatever the input), ``"float64"`` or ``"float32"``.
        * ``memory_budget``: bytes that one result may take; None means the free memory.
        * ``compile``: run kernel recursions through ``torch.compile``.
        * ``tile_size``: rows of a Gram tile; None chooses by dtype and device. Results do not
          depend on it.

    Raises
    ------
    TypeError
        For an option that does not exist or has the wrong type.
    ValueError
        For a value outside its range.

    Examples
    --------
    >>> from sknk import get_config, set_config
    >>> set_config(dtype="float32")
    >>> get_config()["dtype"]
    'float32'
    >>> set_config(dtype=None)
    """
    global _process_default  # noqa: PLW0603 - the one process-wide default, as in scikit-learn
    _state.config = _process_default = _updated(options)


@contextmanager
def config_context(**options: Any) -> Iterator[None]:
    """Set options inside a ``with`` block, in this thread only.

    Parameters
    ----------
    **options : dict
        As in :func:`set_config`.

    Yields
    ------
    None

    Examples
    --------
    >>> from sknk import config_context, get_config
    >>> with config_context(dtype="float32"):
    ...     get_config()["dtype"]
    'float32'
    """
    before = current()
    _state.config = _updated(options)
    try:
        yield
    finally:
        _state.config = before


def delayed(func: Callable[..., Any]) -> Callable[..., Any]:
    """Return joblib's ``delayed(func)``, carrying this thread's configuration to the worker."""
    # scikit-learn's own ``delayed`` forwards scikit-learn's configuration only.
    return joblib_delayed(functools.partial(_call_with, current(), func))


def _call_with(config: Config, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    with config_context(**asdict(config)):
        return func(*args, **kwargs)
